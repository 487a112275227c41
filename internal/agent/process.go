package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"time"
)

const (
	// killGrace is how long a process that is asked to end has until it is killed.
	killGrace = 5 * time.Second
	// outputGrace is how long output is read after a process has ended, while
	// something that it left behind keeps the output open.
	outputGrace = 2 * time.Second
)

// A process is a flow's process with everything that it starts.
type process struct {
	Command        []string
	Dir            string
	Env            []string
	Files          []*os.File // descriptors from 3 on; run closes them
	Account        account
	Stdin          io.Reader // nil is none
	Stdout, Stderr io.Writer
	Mark           string      // of the environment, by which strays are found
	Alone          func() bool // whether the agent runs no other flow, so that every stray is this one's
}

// run starts the process, calls started, waits for its end, and returns the exit
// code. When ctx ends, the whole tree of processes is ended. Nothing of it is
// left when run returns.
func (p *process) run(ctx context.Context, started func()) (code int, err error) {
	// The process is killed when the thread that started it ends (Linux), so
	// that thread is kept until the process is gone.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd := exec.Command(p.Command[0], p.Command[1:]...)
	cmd.Dir, cmd.Env, cmd.Stdin, cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = p.Dir, p.Env, p.Stdin, p.Stdout, p.Stderr, p.Files
	cmd.WaitDelay = outputGrace
	prepare(cmd, p.Account)
	err = cmd.Start()
	for _, f := range p.Files {
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		if cmd.Process != nil {
			p.endTree(cmd.Process.Pid, 0)
			_ = cmd.Wait()
		}
		return 0, fmt.Errorf("start %s: %w", p.Command[0], err)
	}
	children.add(cmd.Process.Pid)
	defer children.remove(cmd.Process.Pid)
	started()
	ended := make(chan struct{})
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		select {
		case <-ended:
		case <-ctx.Done():
			p.endTree(cmd.Process.Pid, killGrace)
		}
	}()
	err = cmd.Wait()
	close(ended)
	<-watched
	p.endTree(cmd.Process.Pid, 0) // what outlived it
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return exitCode(exit), nil
	}
	if errors.Is(err, exec.ErrWaitDelay) {
		err = nil // something kept its output open; it is ended now
	}
	return cmd.ProcessState.ExitCode(), err
}

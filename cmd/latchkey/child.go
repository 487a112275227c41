package main

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"
)

// childStop is how long a child may take to end after it was asked to.
const childStop = 5 * time.Second

// A child is another process of ours, which ends with this one.
type child struct {
	process *os.Process
	ended   chan struct{} // closed when it has ended
	err     error         // how it ended; read it after ended
}

// startChild starts a process. It ends when this process ends, even if this one
// is killed, where the system can do that.
func startChild(cmd *exec.Cmd) (*child, error) {
	endWithParent(cmd)
	c := &child{ended: make(chan struct{})}
	started := make(chan error, 1)
	go func() {
		// Linux ends the child with the thread that started it.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		c.process = cmd.Process
		started <- err
		if err == nil {
			c.err = cmd.Wait()
		}
		close(c.ended)
	}()
	return c, <-started
}

// stop asks the process to end, then makes it end, and waits for that.
func (c *child) stop() {
	if err := c.process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		_ = c.process.Kill() // a system without that signal
	}
	select {
	case <-c.ended:
	case <-time.After(childStop):
		_ = c.process.Kill() // it may just have ended
		<-c.ended
	}
}

// keepRunning starts a process again whenever it ends, after a growing pause,
// until ctx ends; then it stops it.
func keepRunning(ctx context.Context, first *child, start func() (*child, error)) {
	const shortest, longest = time.Second, 30 * time.Second
	pause := shortest
	for c := first; ; {
		began := time.Now()
		select {
		case <-ctx.Done():
			c.stop()
			return
		case <-c.ended:
		}
		if time.Since(began) > longest {
			pause = shortest
		}
		for {
			select {
			case <-ctx.Done():
				return
			case <-time.After(pause):
			}
			pause = min(2*pause, longest)
			next, err := start()
			if err == nil {
				c = next
				break
			}
		}
	}
}

package tied

import (
	"os/exec"
	"runtime"
	"syscall"
)

// A Starter starts processes that the kernel kills when this process ends, even
// by SIGKILL. Close releases it.
type Starter struct {
	starts chan start
	done   chan struct{}
}

type start struct {
	cmd *exec.Cmd
	err chan error
}

// New returns a Starter.
func New() *Starter {
	s := &Starter{starts: make(chan start), done: make(chan struct{})}
	go func() {
		defer close(s.done)
		// A parent-death signal comes when the thread ends that started the child
		// (prctl(2)), so one thread starts them all. It is never unlocked: it ends
		// with this goroutine.
		runtime.LockOSThread()
		for c := range s.starts {
			c.err <- c.cmd.Start()
		}
	}()
	return s
}

// Start is cmd.Start. A program that changes its user by the set-user-ID bit
// escapes.
func (s *Starter) Start(cmd *exec.Cmd) error {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	c := start{cmd, make(chan error)}
	s.starts <- c
	return <-c.err
}

// Close is called when what was started has ended. Start must not be called any
// more.
func (s *Starter) Close() {
	close(s.starts)
	<-s.done
}

//go:build unix

package agent

import (
	"os"
	"os/exec"
	"syscall"
	"time"
)

const (
	canPassDescriptors = true
	// openNoFollow is for opening what may have been replaced by a link or a pipe.
	openNoFollow = syscall.O_NOFOLLOW | syscall.O_NONBLOCK
)

func canSwitchUser() bool { return os.Geteuid() == 0 }

// prepare gives a process a group of its own, so that it can be ended with what
// it starts, and the account that it runs as.
func prepare(cmd *exec.Cmd, a account) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if a.other {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: a.uid, Gid: a.gid, Groups: a.groups}
	}
	dieWithAgent(cmd.SysProcAttr)
}

// exitCode returns the exit code as shells show it: 128 and the signal's number
// for a process that a signal ended.
func exitCode(e *exec.ExitError) int {
	if status, ok := e.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return 128 + int(status.Signal())
	}
	return e.ExitCode()
}

// endTree ends a process, its group and its strays: first kindly, if there is a
// grace, and then for good.
func (p *process) endTree(pid int, grace time.Duration) {
	if grace > 0 {
		for _, victim := range append(p.strays(pid), -pid) {
			_ = syscall.Kill(victim, syscall.SIGTERM) // it may have ended
		}
		for deadline := time.Now().Add(grace); time.Now().Before(deadline); {
			// Strays that have ended belong to the group until they are reaped.
			strays := p.strays(pid)
			reap(strays)
			if len(strays) == 0 && syscall.Kill(-pid, 0) != nil {
				break
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
	// Killing may race with starting: look again until nothing is left.
	for range 50 {
		strays := p.strays(pid)
		for _, victim := range append(strays, -pid) {
			_ = syscall.Kill(victim, syscall.SIGKILL)
		}
		reap(strays)
		if len(strays) == 0 {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}

package main

import (
	"os/exec"
	"syscall"
)

// endWithParent makes the child end when the thread that starts it does. An
// interrupt at the terminal is for the parent alone to act on.
func endWithParent(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
}

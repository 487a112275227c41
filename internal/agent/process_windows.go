package agent

import (
	"os/exec"
	"strconv"
	"time"
)

const (
	canPassDescriptors = false
	openNoFollow       = 0
)

func canSwitchUser() bool { return false }

func prepare(*exec.Cmd, account) {}

func exitCode(e *exec.ExitError) int { return e.ExitCode() }

// endTree ends a process and what descends from it, by the system's own tool.
func (p *process) endTree(pid int, _ time.Duration) {
	_ = exec.Command("taskkill", "/T", "/F", "/PID", strconv.Itoa(pid)).Run() // it may have ended
}

//go:build unix && !linux

package agent

import "syscall"

func dieWithAgent(*syscall.SysProcAttr) {}

// strays returns none: on this system only the process group is known.
func (p *process) strays(int) []int { return nil }

func reap([]int) {}

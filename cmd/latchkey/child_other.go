//go:build !linux

package main

import "os/exec"

// endWithParent can do nothing here: a parent that is killed leaves its child.
func endWithParent(*exec.Cmd) {}

//go:build !linux

package agent

import (
	"context"
	"errors"
)

// children does nothing where strays are not looked for.
var children = noPids{}

type noPids struct{}

func (noPids) add(int)    {}
func (noPids) remove(int) {}

func adoptOrphans() error                     { return nil }
func (a *Agent) endLeftovers(context.Context) {}

// memoryDir returns an error: only on Linux is a folder known to be in memory.
func memoryDir(bool) (string, error) {
	return "", errors.New("only Linux has a folder in memory (tmpfs)")
}

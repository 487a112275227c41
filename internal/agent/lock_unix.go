//go:build unix

package agent

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// lock takes a lock file, which the system releases when the process ends.
func lock(path string) (unlock func() error, err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("%w (%s is locked)", errInUse, path), f.Close())
	}
	return f.Close, nil
}

//go:build linux || darwin

package main

import "syscall"

// diskSpace returns how many bytes of the disk with a path are free for us, and
// how many it has.
func diskSpace(path string) (free, total uint64, err error) {
	var s syscall.Statfs_t
	if err := syscall.Statfs(path, &s); err != nil {
		return 0, 0, err
	}
	return s.Bavail * uint64(s.Bsize), s.Blocks * uint64(s.Bsize), nil
}

//go:build unix && !linux

package db

import (
	"os"
	"syscall"
)

// identify returns what an open file is, without its time of birth, which
// programs can set on some of these systems.
func identify(f *os.File) (id fileID, err error) {
	info, err := f.Stat()
	if err != nil {
		return id, err
	}
	if s, ok := info.Sys().(*syscall.Stat_t); ok {
		id.Inode = uint64(s.Ino)
	}
	return id, nil
}

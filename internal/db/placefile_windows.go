package db

import (
	"os"
	"syscall"
)

// identify returns what an open file is, without its time of birth, which Windows
// gives to a file that soon takes the name of another.
func identify(f *os.File) (id fileID, err error) {
	var d syscall.ByHandleFileInformation
	if err := syscall.GetFileInformationByHandle(syscall.Handle(f.Fd()), &d); err != nil {
		return id, os.NewSyscallError("GetFileInformationByHandle", err)
	}
	id.Inode = uint64(d.FileIndexHigh)<<32 | uint64(d.FileIndexLow)
	return id, nil
}

// Package fsync makes changes of folders durable.
package fsync

import (
	"errors"
	"os"
	"runtime"
)

// Dir has the operating system write a folder to the disk: files that were made,
// renamed or removed in it are so after a crash too. On Windows, where folders
// cannot be synchronised, it does nothing.
func Dir(path string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

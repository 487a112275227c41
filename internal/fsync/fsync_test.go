package fsync_test

import (
	"errors"
	"io/fs"
	"path/filepath"
	"runtime"
	"testing"

	"latchkey.dev/internal/fsync"
)

func TestDir(t *testing.T) {
	dir := t.TempDir()
	if err := fsync.Dir(dir); err != nil {
		t.Error(err)
	}
	if err := fsync.Dir(filepath.Join(dir, "missing")); !errors.Is(err, fs.ErrNotExist) && runtime.GOOS != "windows" {
		t.Errorf("Dir of a folder that is missing: %v; want it to say so", err)
	}
}

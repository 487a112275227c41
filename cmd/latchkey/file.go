package main

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"latchkey.dev/internal/fsync"
)

// writeFile replaces a file durably: after a crash it is the old or the new one.
func writeFile(path string, b []byte, mode fs.FileMode) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	if err := errors.Join(f.Chmod(mode), writeSync(f, b)); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	return fsync.Dir(filepath.Dir(path))
}

func writeSync(f *os.File, b []byte) error {
	_, err := f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// copyFile puts a durable copy of a program at a path, unless it is there
// already.
func copyFile(to, from string) error {
	same, err := sameContent(to, from)
	if err != nil || same {
		return err
	}
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.CreateTemp(filepath.Dir(to), ".copy-*")
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	if err == nil {
		err = errors.Join(out.Chmod(0o755), out.Sync())
	}
	if err = errors.Join(err, out.Close()); err == nil {
		err = os.Rename(out.Name(), to)
	}
	if err != nil {
		return errors.Join(err, os.Remove(out.Name()))
	}
	return fsync.Dir(filepath.Dir(to))
}

// sameContent reports whether two files hold the same; a first one that does
// not exist differs.
func sameContent(a, b string) (bool, error) {
	sums := make([][]byte, 0, 2)
	for _, path := range []string{a, b} {
		f, err := os.Open(path)
		if errors.Is(err, fs.ErrNotExist) && path == a {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		h := sha256.New()
		_, err = io.Copy(h, f)
		if err := errors.Join(err, f.Close()); err != nil {
			return false, err
		}
		sums = append(sums, h.Sum(nil))
	}
	return bytes.Equal(sums[0], sums[1]), nil
}

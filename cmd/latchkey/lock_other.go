//go:build !unix

package main

import (
	"fmt"
	"os"
	"path/filepath"
)

// lockData opens the lock's file only: here the database's own locks are what
// keeps two servers apart.
func lockData(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock data folder: %w", err)
	}
	return f, nil
}

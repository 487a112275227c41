//go:build !unix

package main

import "os"

// lockFolder does nothing where folders cannot be locked: the last of several
// commands at the same time wins.
func lockFolder(string) (unlock func() error, err error) { return func() error { return nil }, nil }

// lockFile does nothing where files cannot be locked.
func lockFile(*os.File) error { return nil }

package broker_test

import (
	"os"
	"path/filepath"
	"testing"

	"latchkey.dev/internal/latchkeytest/pg"
)

// newCluster returns the address of an empty database in a PostgreSQL cluster of
// the test's own.
func newCluster(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "copy") // short enough for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	if err := os.Chmod(dir, 0o755); err != nil { // PostgreSQL runs as another account
		t.Fatal(err)
	}
	return pg.NewCluster(t, filepath.Join(dir, "c")).URL()
}

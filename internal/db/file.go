package db

import (
	"context"
	"errors"
	"io/fs"
	"os"
)

// copyTo writes a consistent copy of a SQLite database to a new file. A copy
// that a crash left unfinished is replaced.
func (d *DB) copyTo(ctx context.Context, path string) error {
	partial := path + ".partial"
	if err := os.Remove(partial); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if _, err := d.write.ExecContext(ctx, "VACUUM INTO $1", partial); err != nil {
		return err
	}
	if err := os.Chmod(partial, 0o600); err != nil {
		return err
	}
	return os.Rename(partial, path)
}

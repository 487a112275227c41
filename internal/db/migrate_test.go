package db

import (
	"io/fs"
	"log/slog"
	"path/filepath"
	"testing"
	"testing/fstest"
)

// next returns the program's migrations and one more.
func next(t *testing.T, sql string) fs.FS {
	t.Helper()
	first, err := migrationFiles.ReadFile("migrations/0001_init.sql")
	if err != nil {
		t.Fatal(err)
	}
	return fstest.MapFS{
		"0001_init.sql": {Data: first},
		"0002_next.sql": {Data: []byte(sql)},
	}
}

// TestMigrateCopies tests that a SQLite database is copied as it was before its
// schema changes, and that what is in it survives on both engines.
func TestMigrateCopies(t *testing.T) {
	eachURL(t, func(t *testing.T, url string) {
		c := Config{URL: url, Log: slog.New(slog.DiscardHandler)}
		d := open(t, c)
		update(t, d, func(tx *Tx) error { return tx.SetSetting("a", "kept") })
		if err := d.migrateTo(t.Context(), c, next(t, "ALTER TABLE settings ADD COLUMN note TEXT;")); err != nil {
			t.Fatal(err)
		}
		update(t, d, func(tx *Tx) error {
			_, err := tx.exec(`UPDATE settings SET note = 'new' WHERE name = 'a' AND value = 'kept'`)
			return err
		})
		copies, err := filepath.Glob(url + ".before-*")
		if err != nil {
			t.Fatal(err)
		}
		if IsPostgres(url) {
			return
		}
		if len(copies) != 1 || copies[0] != url+".before-1" {
			t.Fatalf("copies = %q; want one of version 1", copies)
		}
		old := open(t, Config{URL: copies[0]})
		if err := old.View(t.Context(), func(tx *Tx) error {
			v, err := tx.Setting("a")
			if err == nil && v != "kept" {
				t.Errorf("the copy has %q; want kept", v)
			}
			return err
		}); err != nil {
			t.Errorf("read the copy with the program of its version: %v", err)
		}
	})
}

// TestMigrateFails tests that a migration that fails changes nothing.
func TestMigrateFails(t *testing.T) {
	eachURL(t, func(t *testing.T, url string) {
		c := Config{URL: url, Log: slog.New(slog.DiscardHandler)}
		d := open(t, c)
		if err := d.migrateTo(t.Context(), c, next(t, "ALTER TABLE settings ADD COLUMN note TEXT;\nINSERT INTO nowhere (a) VALUES (1);")); err == nil {
			t.Fatal("a faulty migration succeeded")
		}
		if err := d.View(t.Context(), func(tx *Tx) error {
			_, err := tx.Setting("nothing")
			return err
		}); err != ErrNotFound {
			t.Errorf("after a faulty migration the database answers %v; want ErrNotFound", err)
		}
		if err := d.migrate(t.Context(), c); err != nil {
			t.Errorf("open after a faulty migration: %v", err)
		}
	})
}

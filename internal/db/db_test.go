package db

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"latchkey.dev/internal/latchkeytest/pg"
	"latchkey.dev/latchkey"
)

func TestMain(m *testing.M) { os.Exit(pg.Main(m)) }

// eachURL runs f with the address of an empty database of each engine.
func eachURL(t *testing.T, f func(t *testing.T, url string)) {
	t.Run("SQLite", func(t *testing.T) { f(t, filepath.Join(t.TempDir(), "latchkey.db")) })
	t.Run("PostgreSQL", func(t *testing.T) { f(t, pg.New(t)) })
}

// eachDB runs f with a database of each engine that has the schema and no rows.
func eachDB(t *testing.T, f func(*testing.T, *DB)) {
	eachURL(t, func(t *testing.T, url string) { f(t, open(t, Config{URL: url})) })
}

// open opens a database that is closed when the test ends.
func open(t *testing.T, c Config) *DB {
	t.Helper()
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	d, err := Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Errorf("close database: %v", err)
		}
	})
	return d
}

// update runs f in a transaction that must succeed.
func update(t *testing.T, d *DB, f func(*Tx) error) {
	t.Helper()
	if err := d.Update(t.Context(), f); err != nil {
		t.Fatal(err)
	}
}

// view runs f in a transaction that only reads and must succeed.
func view(t *testing.T, d *DB, f func(*Tx) error) {
	t.Helper()
	if err := d.View(t.Context(), f); err != nil {
		t.Fatal(err)
	}
}

func TestOpenTwice(t *testing.T) {
	eachURL(t, func(t *testing.T, url string) {
		var log bytes.Buffer
		logger := slog.New(slog.NewTextHandler(&log, nil))
		first := open(t, Config{URL: url, Log: logger})
		if got := log.String(); !strings.Contains(got, "version=1") {
			t.Errorf("log of the first start = %q; want the migration to version 1", got)
		}
		update(t, first, func(tx *Tx) error { return tx.SetSetting("name", "value") })

		log.Reset()
		second := open(t, Config{URL: url, Log: logger})
		if got := log.String(); got != "" {
			t.Errorf("log of the second start = %q; want none", got)
		}
		view(t, second, func(tx *Tx) error {
			got, err := tx.Setting("name")
			if got != "value" {
				t.Errorf("setting after the second start = %q; want %q", got, "value")
			}
			return err
		})
	})
}

func TestOpenTogether(t *testing.T) {
	eachURL(t, func(t *testing.T, url string) {
		if !IsPostgres(url) {
			t.Skip("one program at a time opens a SQLite file")
		}
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				d, err := Open(t.Context(), Config{URL: url, Log: slog.New(slog.DiscardHandler)})
				if err != nil {
					t.Error(err)
					return
				}
				if err := d.Close(); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
	})
}

func TestOpenNewer(t *testing.T) {
	eachURL(t, func(t *testing.T, url string) {
		d := open(t, Config{URL: url})
		update(t, d, func(tx *Tx) error {
			_, err := tx.exec(`INSERT INTO goose_db_version (version_id, is_applied) VALUES ($1, $2)`, 9999, true)
			return err
		})
		again, err := Open(t.Context(), Config{URL: url, Log: slog.New(slog.DiscardHandler)})
		if err == nil {
			again.Close()
			t.Fatal("a database newer than the program was opened")
		}
		if !strings.Contains(err.Error(), "9999") || !strings.Contains(err.Error(), "newer than this program") {
			t.Errorf("error = %q; want one that says that the database is newer", err)
		}
	})
}

func TestOpenFaults(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	tests := []struct {
		name    string
		config  Config
		want    string
		without string
	}{
		{"no log", Config{URL: "x.db"}, "Config.Log", ""},
		{"no folder", Config{URL: filepath.Join(t.TempDir(), "missing", "x.db"), Log: log}, "open database", ""},
		{"address", Config{URL: "postgres://u:hunter2@[/x", Log: log}, "", "hunter2"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			d, err := Open(t.Context(), test.config)
			if err == nil {
				d.Close()
				t.Fatal("no error")
			}
			if got := err.Error(); !strings.Contains(got, test.want) || test.without != "" && strings.Contains(got, test.without) {
				t.Errorf("error = %q; want it with %q and without %q", got, test.want, test.without)
			}
		})
	}
}

func TestFileMode(t *testing.T) {
	path := filepath.Join(t.TempDir(), "latchkey.db")
	d := open(t, Config{URL: path})
	update(t, d, func(tx *Tx) error { return tx.SetSetting("name", "value") })
	files, err := filepath.Glob(path + "*")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		info, err := os.Stat(file)
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Mode().Perm(); got != 0o600 {
			t.Errorf("mode of %s = %o; want 600", filepath.Base(file), got)
		}
	}
}

func TestCopy(t *testing.T) {
	dir := t.TempDir()
	d := open(t, Config{URL: filepath.Join(dir, "latchkey.db")})
	update(t, d, func(tx *Tx) error { return tx.SetSetting("name", "value") })
	path := filepath.Join(dir, "copy.db")
	// What a crash left of an earlier copy must not be in the way.
	if err := os.WriteFile(path+".partial", []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := d.copyTo(t.Context(), path); err != nil {
		t.Fatal(err)
	}
	view(t, open(t, Config{URL: path}), func(tx *Tx) error {
		got, err := tx.Setting("name")
		if got != "value" {
			t.Errorf("setting in the copy = %q; want %q", got, "value")
		}
		return err
	})
}

// TestUpdateCollisions adds to one row from many goroutines: no addition is
// lost on either engine.
func TestUpdateCollisions(t *testing.T) {
	const goroutines, rounds = 20, 20
	eachDB(t, func(t *testing.T, d *DB) {
		update(t, d, func(tx *Tx) error { return tx.SetSetting("n", "0") })
		var wg sync.WaitGroup
		for range goroutines {
			wg.Go(func() {
				for range rounds {
					if err := d.Update(t.Context(), increment); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		wg.Wait()
		view(t, d, func(tx *Tx) error {
			got, err := tx.Setting("n")
			if want := strconv.Itoa(goroutines * rounds); got != want {
				t.Errorf("n = %s; want %s", got, want)
			}
			return err
		})
	})
}

func increment(tx *Tx) error {
	v, err := tx.Setting("n")
	if err != nil {
		return err
	}
	n, err := strconv.Atoi(v)
	if err != nil {
		return err
	}
	return tx.SetSetting("n", strconv.Itoa(n+1))
}

func TestUpdateUndoes(t *testing.T) {
	eachDB(t, func(t *testing.T, d *DB) {
		fault := errors.New("fault")
		err := d.Update(t.Context(), func(tx *Tx) error {
			if err := tx.SetSetting("name", "value"); err != nil {
				return err
			}
			return fault
		})
		if !errors.Is(err, fault) {
			t.Errorf("Update = %v; want %v", err, fault)
		}
		func() {
			defer func() {
				if recover() == nil {
					t.Error("the panic did not pass")
				}
			}()
			d.Update(t.Context(), func(tx *Tx) error {
				if err := tx.SetSetting("name", "value"); err != nil {
					t.Error(err)
				}
				panic("fault")
			})
		}()
		view(t, d, func(tx *Tx) error {
			if _, err := tx.Setting("name"); !errors.Is(err, ErrNotFound) {
				t.Errorf("Setting after undoing = %v; want ErrNotFound", err)
			}
			return nil
		})
	})
}

func TestUpdateEnds(t *testing.T) {
	eachDB(t, func(t *testing.T, d *DB) {
		ctx, cancel := context.WithCancel(t.Context())
		err := d.Update(ctx, func(tx *Tx) error {
			cancel()
			return tx.SetSetting("name", "value")
		})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("Update = %v; want context.Canceled", err)
		}
	})
}

func TestViewCannotWrite(t *testing.T) {
	eachDB(t, func(t *testing.T, d *DB) {
		err := d.View(t.Context(), func(tx *Tx) error { return tx.SetSetting("name", "value") })
		if err == nil || !strings.Contains(strings.ReplaceAll(err.Error(), "read-only", "readonly"), "readonly") {
			t.Errorf("writing in View = %v; want the database to refuse", err)
		}
		view(t, d, func(tx *Tx) error {
			if _, err := tx.Setting("name"); !errors.Is(err, ErrNotFound) {
				t.Errorf("Setting = %v; want ErrNotFound", err)
			}
			return nil
		})
	})
}

// TestViewOneState reads twice in one View around a change.
func TestViewOneState(t *testing.T) {
	eachDB(t, func(t *testing.T, d *DB) {
		update(t, d, func(tx *Tx) error { return tx.SetSetting("name", "before") })
		view(t, d, func(tx *Tx) error {
			if _, err := tx.Setting("name"); err != nil {
				return err
			}
			update(t, d, func(tx *Tx) error { return tx.SetSetting("name", "after") })
			got, err := tx.Setting("name")
			if got != "before" {
				t.Errorf("second read in one View = %q; want %q", got, "before")
			}
			return err
		})
	})
}

func TestTime(t *testing.T) {
	now := time.Date(2026, 11, 23, 12, 0, 0, 123456789, time.FixedZone("", 3600))
	eachURL(t, func(t *testing.T, url string) {
		d := open(t, Config{URL: url, Now: func() time.Time { return now }})
		view(t, d, func(tx *Tx) error {
			if want := time.Date(2026, 11, 23, 11, 0, 0, 123000000, time.UTC); tx.Now != want {
				t.Errorf("Now = %v; want %v", tx.Now, want)
			}
			return nil
		})
	})
}

func TestMappedErrors(t *testing.T) {
	eachDB(t, func(t *testing.T, d *DB) {
		update(t, d, func(tx *Tx) error { return tx.CreateSealedSetting("name", []byte{1}) })
		tests := []struct {
			name string
			f    func(*Tx) error
			want error
		}{
			{"no row", func(tx *Tx) error { _, err := tx.Setting("none"); return err }, ErrNotFound},
			{"no row changed", func(tx *Tx) error { return tx.bumpEpoch("env_none") }, ErrNotFound},
			{"primary key", func(tx *Tx) error { return tx.CreateSealedSetting("name", []byte{2}) }, ErrExists},
			{"unique index", func(tx *Tx) error {
				if err := tx.CreateUser(latchkey.User{ID: "user_1", Login: "ada"}, ""); err != nil {
					return err
				}
				return tx.CreateUser(latchkey.User{ID: "user_2", Login: "ada"}, "")
			}, ErrExists},
		}
		for _, test := range tests {
			if err := d.Update(t.Context(), test.f); !errors.Is(err, test.want) {
				t.Errorf("%s: %v; want %v", test.name, err, test.want)
			}
		}
		err := d.Update(t.Context(), func(tx *Tx) error { return tx.EnsurePrincipal("x", "nothing known", "x") })
		if err == nil || errors.Is(err, ErrExists) || errors.Is(err, ErrNotFound) {
			t.Errorf("a violated check: %v; want another error", err)
		}
	})
}

func TestPlaceholders(t *testing.T) {
	eachDB(t, func(t *testing.T, d *DB) {
		view(t, d, func(tx *Tx) error {
			got, err := one(tx, func(s scanner) (v [3]string, err error) { return v, s.Scan(&v[0], &v[1], &v[2]) },
				`SELECT $2, $1, $2`, "one", "two")
			if want := [3]string{"two", "one", "two"}; got != want {
				t.Errorf("SELECT $2, $1, $2 = %v; want %v", got, want)
			}
			return err
		})
	})
}

func TestWhere(t *testing.T) {
	var w where
	if got := w.String(); got != "" {
		t.Errorf("no conditions: %q; want none", got)
	}
	w.add("a = ?", 1)
	w.add("(b, c) > (?, ?)", 2, 3)
	w.add("d IS NULL")
	if got, want := w.String(), " WHERE a = $1 AND (b, c) > ($2, $3) AND d IS NULL"; got != want {
		t.Errorf("String() = %q; want %q", got, want)
	}
	if diff := cmp.Diff([]any{1, 2, 3}, w.args); diff != "" {
		t.Errorf("arguments (-want +got):\n%s", diff)
	}
	if got, want := w.last(), "$3"; got != want {
		t.Errorf("last() = %q; want %q", got, want)
	}
}

func FuzzCursor(f *testing.F) {
	for _, seed := range []string{"", "W10", "WyJhIiwiYiJd", "!", "bnVsbA", "WyJcdTAwMDAiLCIiXQ"} {
		f.Add(seed, seed)
	}
	f.Fuzz(func(t *testing.T, key, id string) {
		// What a client sends never fails, and what was sent to it comes back.
		parseCursor(key)
		key, id = strings.ToValidUTF8(key, ""), strings.ToValidUTF8(id, "")
		gotKey, gotID := parseCursor(cursor(key, id))
		if gotKey != key || gotID != id {
			t.Errorf("parseCursor(cursor(%q, %q)) = %q, %q", key, id, gotKey, gotID)
		}
	})
}

// TestForeignCursor uses cursors that this program never made.
func TestForeignCursor(t *testing.T) {
	eachDB(t, func(t *testing.T, d *DB) {
		for _, after := range []string{"no cursor", cursor("'; --", "$1"), cursor("zzzz", "")} {
			view(t, d, func(tx *Tx) error {
				_, err := tx.Users("", latchkey.PageOptions{After: after})
				if err != nil {
					t.Errorf("cursor %q: %v", after, err)
				}
				return nil
			})
		}
	})
}

package broker_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"latchkey.dev/internal/broker"
	"latchkey.dev/internal/db"
	"latchkey.dev/internal/latchkeytest"
	"latchkey.dev/internal/latchkeytest/pg"
	"latchkey.dev/internal/seal"
)

// leftBehind says what a restore has left in a database. An empty schema that
// is not marked, on which a server would start a new installation, is a failure.
func leftBehind(t *testing.T, url string) string {
	t.Helper()
	if !db.IsPostgres(url) {
		// Opening a database may change it.
		from := url
		url = filepath.Join(t.TempDir(), "latchkey.db")
		for _, end := range []string{"", "-wal"} {
			text, err := os.ReadFile(from + end)
			if errors.Is(err, os.ErrNotExist) {
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(url+end, text, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := os.Stat(url); err != nil {
			return "nothing"
		}
	}
	d, err := db.OpenExisting(t.Context(), db.Config{URL: url})
	switch {
	case errors.Is(err, db.ErrRestoring):
		if _, err := db.Open(t.Context(), db.Config{URL: url, Log: slog.New(slog.DiscardHandler)}); !errors.Is(err, db.ErrRestoring) {
			t.Errorf("Open of what an interrupted restore left: %v; want %v", err, db.ErrRestoring)
		}
		return "an interrupted restore"
	case err != nil && strings.Contains(err.Error(), "the database is empty"):
		return "nothing"
	case err != nil:
		t.Errorf("OpenExisting of what a restore left: %v", err)
		return "a fault"
	}
	defer d.Close()
	if sealed, err := broker.HasMasterKey(t.Context(), d); err != nil || !sealed {
		t.Errorf("a restore left a schema that is not marked and empty: %v, %v", sealed, err)
	}
	return "an installation"
}

// chainBackup returns a backup of a small installation, and its key file.
func chainBackup(t *testing.T) (text []byte, keyFile string) {
	t.Helper()
	keyFile = filepath.Join(t.TempDir(), "master.key")
	key, err := seal.CreateKey(keyFile)
	if err != nil {
		t.Fatal(err)
	}
	s := latchkeytest.New(t, latchkeytest.Options{Key: key})
	s.Chain(t)
	return takeBackup(t, s), keyFile
}

// TestRestoreProgram is no test but the program that TestKilledRestore kills.
func TestRestoreProgram(t *testing.T) {
	url := os.Getenv("LATCHKEY_TEST_RESTORE_TO")
	if url == "" {
		t.Skip("run by TestKilledRestore")
	}
	text, err := os.ReadFile(os.Getenv("LATCHKEY_TEST_RESTORE_FROM"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stdout.WriteString("begun\n"); err != nil {
		t.Fatal(err)
	}
	if _, err := broker.Restore(t.Context(), restoreConfig(url, text, load(t, os.Getenv("LATCHKEY_TEST_RESTORE_KEY")))); err != nil {
		t.Fatal(err)
	}
}

// TestKilledRestore kills restores at moments from their begin to their end. A
// server starts on none of what they leave but the last, and each can be
// repeated.
func TestKilledRestore(t *testing.T) {
	if testing.Short() {
		t.Skip("runs programs")
	}
	text, keyFile := chainBackup(t)
	from := filepath.Join(t.TempDir(), "backup")
	if err := os.WriteFile(from, text, 0o600); err != nil {
		t.Fatal(err)
	}
	run := func(url string, life time.Duration) (took time.Duration) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestRestoreProgram$")
		// A program built with -race otherwise waits for a second when it ends.
		cmd.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0", "LATCHKEY_TEST_RESTORE_TO="+url, "LATCHKEY_TEST_RESTORE_FROM="+from, "LATCHKEY_TEST_RESTORE_KEY="+keyFile)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(out, make([]byte, len("begun\n"))); err != nil {
			t.Errorf("the restore did not begin: %v", err)
		}
		begun := time.Now()
		if life > 0 {
			time.AfterFunc(life, func() { _ = cmd.Process.Kill() }) // it may have ended
		}
		rest, _ := io.ReadAll(out)
		if err := cmd.Wait(); err != nil && life == 0 {
			t.Fatalf("restore: %v\n%s", err, rest)
		}
		return time.Since(begun)
	}
	whole := run(filepath.Join(t.TempDir(), "latchkey.db"), 0)

	// On a busy machine a restore takes now this long, now that: the moments come
	// again until one was in the middle.
	const moments, most = 8, 64
	seen := map[string]int{}
	for i := 0; i < moments || i < most && seen["an interrupted restore"] == 0; i++ {
		url := filepath.Join(t.TempDir(), "latchkey.db")
		run(url, whole*time.Duration(i%moments+1)/moments)
		holds := leftBehind(t, url)
		seen[holds]++
		if holds == "an installation" {
			continue
		}
		if _, err := broker.Restore(t.Context(), restoreConfig(url, text, load(t, keyFile))); err != nil {
			t.Errorf("Restore over %s: %v", holds, err)
		} else if holds := leftBehind(t, url); holds != "an installation" {
			t.Errorf("Restore over what a killed one left: %s", holds)
		}
	}
	if seen["an interrupted restore"] == 0 {
		t.Errorf("killed restores left %v; want some in the middle", seen)
	}
	t.Logf("killed restores left %v", seen)
}

// TestCancelledRestore is TestKilledRestore for PostgreSQL, whose transactions
// end with the connection: they end after longer and longer times, each over
// what the one before has left.
func TestCancelledRestore(t *testing.T) {
	text, keyFile := chainBackup(t)
	url, key := pg.New(t), load(t, keyFile)
	seen := map[string]int{}
	for life := time.Millisecond; ; life += life / 2 {
		ctx, cancel := context.WithTimeout(t.Context(), life)
		_, err := broker.Restore(ctx, restoreConfig(url, text, key))
		cancel()
		holds := leftBehind(t, url)
		seen[holds]++
		if err == nil && holds != "an installation" {
			t.Errorf("Restore succeeded and left %s", holds)
		}
		if err == nil || holds == "an installation" { // the time may have been up just after
			break
		}
		if life > time.Minute {
			t.Fatalf("Restore does not come to its end: %v", err)
		}
	}
	// In the middle of its rows.
	url = pg.New(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	c, opened := restoreConfig(url, text, key), 0
	c.Open = func() (io.ReadCloser, error) {
		if opened++; opened == 3 {
			cancel()
		}
		return io.NopCloser(bytes.NewReader(text)), nil
	}
	if _, err := broker.Restore(ctx, c); !errors.Is(err, context.Canceled) {
		t.Errorf("Restore: %v; want %v", err, context.Canceled)
	}
	if holds := leftBehind(t, url); holds != "an interrupted restore" {
		t.Errorf("a cancelled restore left %s", holds)
	}
	if _, err := broker.Restore(t.Context(), restoreConfig(url, text, key)); err != nil {
		t.Errorf("Restore over what a cancelled one left: %v", err)
	}
	t.Logf("cancelled restores left %v", seen)
}

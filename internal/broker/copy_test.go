package broker_test

import (
	"database/sql"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"latchkey.dev/internal/broker"
	"latchkey.dev/internal/db"
	"latchkey.dev/internal/latchkeytest"
	"latchkey.dev/internal/latchkeytest/pg"
	"latchkey.dev/latchkey"
)

// copyDatabase copies a database with the tools of its engine, beside the server
// that uses it, and returns the address of the copy.
func copyDatabase(t *testing.T, url string) string {
	t.Helper()
	if !db.IsPostgres(url) {
		to := filepath.Join(t.TempDir(), "copy.db")
		d, err := sql.Open("sqlite", url)
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		if _, err := d.ExecContext(t.Context(), `VACUUM INTO $1`, to); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(to, 0o600); err != nil {
			t.Fatal(err)
		}
		return to
	}
	to, dump := pg.New(t), filepath.Join(t.TempDir(), "dump")
	for _, args := range [][]string{
		{"pg_dump", "--format=custom", "--file=" + dump, "--dbname=" + url},
		{"pg_restore", "--exit-on-error", "--no-owner", "--dbname=" + to, dump},
	} {
		if out, err := exec.CommandContext(t.Context(), postgresTool(t, args[0]), args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", args[0], err, out)
		}
	}
	return to
}

// postgresTool returns the path of one of PostgreSQL's programs, where Debian
// has them or in PATH.
func postgresTool(t *testing.T, name string) string {
	t.Helper()
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/" + name)
	if err != nil {
		t.Fatal(err)
	}
	if len(found) > 0 {
		return slices.Max(found)
	}
	path, err := exec.LookPath(name)
	if err != nil {
		if os.Getenv("LATCHKEY_TEST_POSTGRES") == "required" {
			t.Fatalf("%s is not installed", name)
		}
		t.Skipf("%s is not installed", name)
	}
	return path
}

// TestCopyByOtherTools puts a copy that the engine's own tools made in place, as
// docs/operations.md says: EndRestored does to it what a restore does.
func TestCopyByOtherTools(t *testing.T) {
	latchkeytest.EachDB(t, func(t *testing.T, url string) {
		s := latchkeytest.New(t, latchkeytest.Options{DatabaseURL: url})
		c := s.Chain(t)
		c.Start(t)
		c.Start(t)
		run := c.Machine.Claim(t)
		at := copyDatabase(t, s.URL)
		before := c.Machine.Session()

		d, err := db.OpenExisting(t.Context(), db.Config{URL: at})
		if err != nil {
			t.Fatal(err)
		}
		ended, err := broker.EndRestored(t.Context(), d, "tester", false)
		if err != nil || ended.Runs != 2 || ended.MachineSessions != 1 {
			t.Errorf("EndRestored = %+v, %v; want two runs and one session", ended, err)
		}
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
		copied := latchkeytest.New(t, latchkeytest.Options{DatabaseURL: at, Key: s.Key})
		m := c.Machine.At(copied)
		_, err = copied.Broker.Release(t.Context(), before, run.Run, latchkey.ReleaseRequest{Claim: run.Claim, Credential: c.Credential.ID, Counter: 1})
		wantErrCode(t, "a release in the old session", err, "session-expired")
		if err := m.Open(t, false); err != nil {
			t.Fatal(err)
		}
		_, _, err = m.Get(t, run, c.Credential.ID)
		wantErrCode(t, "a release for a run that was claimed before the copy", err, "claim-lost")
		if again := m.Claim(t); again != nil {
			t.Errorf("the copy gave out run %s", again.Run)
		}
		// Since the copy the audit log goes on, in its order.
		if events := auditOf(t, copied); !slices.ContainsFunc(events, func(e latchkey.AuditEvent) bool { return e.Action == latchkey.ActBackupRestore }) {
			t.Error("the audit log of the copy does not say so")
		}
	})
}

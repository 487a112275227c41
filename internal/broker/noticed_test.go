package broker_test

import (
	"context"
	"database/sql"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	_ "github.com/jackc/pgx/v5/stdlib" // driver "pgx"

	"latchkey.dev/internal/broker"
	"latchkey.dev/internal/db"
	"latchkey.dev/internal/latchkeytest"
	"latchkey.dev/internal/latchkeytest/pg"
	"latchkey.dev/internal/seal"
	"latchkey.dev/latchkey"
)

// A copying is a way in which a database comes to be a copy.
type copying struct {
	name string

	// take takes a copy beside the server that uses the database at url. What it
	// returns puts the copy in place once that server has stopped, and returns
	// its address.
	take func(t *testing.T, url string) (put func(t *testing.T) string)

	noticed string // how it is noticed
}

var sqliteCopyings = []copying{
	{"alone in another folder", func(t *testing.T, url string) func(*testing.T) string {
		at := copyDatabase(t, url)
		return func(*testing.T) string { return at }
	}, "is missing"},
	{"the folder elsewhere", func(t *testing.T, url string) func(*testing.T) string {
		at := copyFiles(t, url, t.TempDir())
		return func(*testing.T) string { return at }
	}, "the file beside the database is a copy"},
	{"moved over the file", func(t *testing.T, url string) func(*testing.T) string {
		at := copyDatabase(t, url)
		return func(t *testing.T) string {
			if err := os.Rename(at, url); err != nil {
				t.Fatal(err)
			}
			return url
		}
	}, "older than the file beside it"},
	{"copied over the file", func(t *testing.T, url string) func(*testing.T) string {
		at := copyDatabase(t, url)
		return func(t *testing.T) string {
			overwrite(t, url, at)
			return url
		}
	}, "older than the file beside it"},
	{"the folder over the folder", func(t *testing.T, url string) func(*testing.T) string {
		at := copyFiles(t, url, t.TempDir())
		return func(t *testing.T) string { return copyFiles(t, at, filepath.Dir(url)) }
	}, "the file beside the database is a copy"},
}

var postgresCopyings = []copying{
	{"a dump in another database", func(t *testing.T, url string) func(*testing.T) string {
		at := copyDatabase(t, url)
		return func(*testing.T) string { return at }
	}, "the database in the PostgreSQL cluster is another one"},
	{"a dump over the database", func(t *testing.T, url string) func(*testing.T) string {
		dump := filepath.Join(t.TempDir(), "dump")
		postgresRun(t, "pg_dump", "--format=custom", "--file="+dump, "--dbname="+url)
		return func(t *testing.T) string {
			postgresRun(t, "pg_restore", "--clean", "--exit-on-error", "--no-owner", "--dbname="+url, dump)
			return url
		}
	}, "the tables were filled anew"},
	{"a dump in another cluster", func(t *testing.T, url string) func(*testing.T) string {
		dump := filepath.Join(t.TempDir(), "dump")
		postgresRun(t, "pg_dump", "--format=custom", "--file="+dump, "--dbname="+url)
		return func(t *testing.T) string {
			at := newCluster(t)
			postgresRun(t, "pg_restore", "--exit-on-error", "--no-owner", "--dbname="+at, dump)
			return at
		}
	}, "the PostgreSQL cluster is another one"},
	{"the database as a template", func(t *testing.T, from string) func(*testing.T) string {
		return func(t *testing.T) string {
			u, err := url.Parse(from)
			if err != nil {
				t.Fatal(err)
			}
			name := strings.TrimPrefix(u.Path, "/")
			u.Path = "/postgres"
			admin, err := sql.Open("pgx", u.String())
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				_, err := admin.Exec(`DROP DATABASE IF EXISTS ` + name + `_copy WITH (FORCE)`)
				if err != nil {
					t.Error(err)
				}
				admin.Close()
			})
			if _, err := admin.ExecContext(t.Context(), `CREATE DATABASE `+name+`_copy TEMPLATE `+name); err != nil {
				t.Fatal(err)
			}
			u.Path = "/" + name + "_copy"
			return u.String()
		}
	}, "the database in the PostgreSQL cluster is another one"},
}

func postgresRun(t *testing.T, program string, args ...string) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), postgresTool(t, program), args...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", program, err, out)
	}
}

// copyFiles copies a SQLite database with what is beside it over what is in
// another folder, and returns the address of the copy.
func copyFiles(t *testing.T, database, to string) string {
	t.Helper()
	at := filepath.Join(to, filepath.Base(database))
	copied := copyDatabase(t, database) // whole while a server writes
	overwrite(t, at, copied)
	overwrite(t, at+".place", database+".place")
	return at
}

// overwrite writes a file over another one, as cp does, and removes the logs of
// a database that was there.
func overwrite(t *testing.T, to, from string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, b, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, log := range []string{"-wal", "-shm"} {
		if err := os.Remove(to + log); err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
	}
}

// restores returns the entries of the audit log that say that a copy was put in
// place.
func restores(t *testing.T, s *latchkeytest.Service) (found []latchkey.AuditEvent) {
	t.Helper()
	for _, e := range auditOf(t, s) {
		if e.Action == latchkey.ActBackupRestore {
			found = append(found, e)
		}
	}
	return found
}

// server runs f with a service that has stopped when server returns.
func server(t *testing.T, name string, o latchkeytest.Options, f func(t *testing.T, s *latchkeytest.Service)) {
	t.Helper()
	if !t.Run(name, func(t *testing.T) { f(t, latchkeytest.New(t, o)) }) {
		t.FailNow()
	}
}

// TestCopyIsNoticed starts a server on a copy that nobody declared, which was
// taken while one run was claimed and one waited: it releases to neither and
// executes neither, says so, and after that is a database like any other.
func TestCopyIsNoticed(t *testing.T) {
	latchkeytest.EachDB(t, func(t *testing.T, url string) {
		ways := postgresCopyings
		if url == "" {
			ways = sqliteCopyings
		}
		for _, way := range ways {
			t.Run(way.name, func(t *testing.T) {
				if url == "" {
					testCopyIsNoticed(t, way, filepath.Join(t.TempDir(), "latchkey.db"))
				} else {
					testCopyIsNoticed(t, way, latchkeytest.Postgres(t))
				}
			})
		}
	})
}

func testCopyIsNoticed(t *testing.T, way copying, url string) {
	key := seal.NewKey()
	var c *latchkeytest.Chain
	var run *latchkey.ClaimedRun
	var m *latchkeytest.Machine
	template := way.name == "the database as a template" // which is taken of a server that has stopped
	take := way.take
	var put func(*testing.T) string
	server(t, "original", latchkeytest.Options{DatabaseURL: url, Key: key}, func(t *testing.T, s *latchkeytest.Service) {
		c = s.Chain(t)
		c.Start(t)
		c.Start(t)
		run = c.Machine.Claim(t)
		if _, _, err := c.Machine.Get(t, run, c.Credential.ID); err != nil {
			t.Fatal(err)
		}
	})
	// The folder of the test, not of the part that takes the copy.
	server(t, "original again", latchkeytest.Options{DatabaseURL: url, Key: key}, func(_ *testing.T, s *latchkeytest.Service) {
		put = take(t, url)
		m = c.Machine.At(s)
		// The original goes on as if it had not been restarted.
		if _, _, err := m.Get(t, run, c.Credential.ID); err != nil {
			t.Fatalf("a release from the original: %v", err)
		}
		if got := restores(t, s); len(got) != 0 {
			t.Errorf("the original was taken for a copy: %+v", got)
		}
		if !template {
			m.Finish(t, run)
			if waiting := m.Claim(t); waiting == nil {
				t.Error("the original does not give out what waits")
			} else {
				m.Finish(t, waiting)
			}
		}
	})
	at := put(t)

	server(t, "copy", latchkeytest.Options{DatabaseURL: at, Key: key}, func(t *testing.T, s *latchkeytest.Service) {
		m = m.At(s)
		_, _, err := m.Get(t, run, c.Credential.ID)
		wantErrCode(t, "a release in the old session", err, "session-expired")
		if err := m.Open(t, false); err != nil {
			t.Fatal(err)
		}
		_, _, err = m.Get(t, run, c.Credential.ID)
		wantErrCode(t, "a release for a run that was claimed before the copy", err, "claim-lost")
		if again := m.Claim(t); again != nil {
			t.Errorf("the copy gave out run %s", again.Run)
		}
		got := restores(t, s)
		if len(got) != 1 {
			t.Fatalf("the audit log of the copy has %+v; want one entry that says what was ended", got)
		}
		if d := got[0].Details; !strings.Contains(d["noticed"], way.noticed) || d["was"] == d["is"] || d["runs"] != "2" || d["machineSessions"] != "1" {
			t.Errorf("details = %v; want that it was noticed by %q, both places, two runs and one session", d, way.noticed)
		}
		if log := s.Log.String(); !strings.Contains(log, "level=WARN") || !strings.Contains(log, "the database is a copy") || !strings.Contains(log, "runs=2") {
			t.Errorf("log = %s; want a warning with what was ended", log)
		}
		startsAndReleases(t, s, c, m)
		if _, err := s.Broker.StartRun(t.Context(), s.Admin, c.Env, latchkey.RunCreate{Flow: c.Flow.ID, Connection: c.Connection.ID}); err != nil {
			t.Fatal(err)
		}
		run = m.Claim(t)
	})
	server(t, "copy again", latchkeytest.Options{DatabaseURL: at, Key: key}, func(t *testing.T, s *latchkeytest.Service) {
		m = m.At(s)
		if _, _, err := m.Get(t, run, c.Credential.ID); err != nil {
			t.Errorf("a release for a run that was claimed since the copy: %v", err)
		}
		if got := restores(t, s); len(got) != 1 {
			t.Errorf("after another start the audit log has %+v; want the one entry of the first", got)
		}
	})
}

// startsAndReleases executes a run to its end.
func startsAndReleases(t *testing.T, s *latchkeytest.Service, c *latchkeytest.Chain, m *latchkeytest.Machine) {
	t.Helper()
	if _, err := s.Broker.StartRun(t.Context(), s.Admin, c.Env, latchkey.RunCreate{Flow: c.Flow.ID, Connection: c.Connection.ID}); err != nil {
		t.Fatal(err)
	}
	run := m.Claim(t)
	if run == nil {
		t.Fatal("nothing was given out")
	}
	if v, _, err := m.Get(t, run, c.Credential.ID); err != nil || v.Password.Reveal() != latchkeytest.ChainPassword {
		t.Errorf("release: %v", err)
	}
	m.Finish(t, run)
}

// TestMovedFolderIsNoCopy moves a data folder within its file system, and
// changes what belongs to no identity.
func TestMovedFolderIsNoCopy(t *testing.T) {
	key, parent := seal.NewKey(), t.TempDir()
	before, after := filepath.Join(parent, "before"), filepath.Join(parent, "after")
	if err := os.Mkdir(before, 0o700); err != nil {
		t.Fatal(err)
	}
	var c *latchkeytest.Chain
	var run *latchkey.ClaimedRun
	server(t, "before", latchkeytest.Options{DatabaseURL: filepath.Join(before, "latchkey.db"), Key: key}, func(t *testing.T, s *latchkeytest.Service) {
		c = s.Chain(t)
		c.Start(t)
		run = c.Machine.Claim(t)
	})
	if err := os.Rename(before, after); err != nil {
		t.Fatal(err)
	}
	err := fs.WalkDir(os.DirFS(after), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name = filepath.Join(after, name)
		linked := name + ".linked" // as some programs for backups do; it sets the time of the last change
		if err := os.Link(name, linked); err != nil {
			return err
		}
		return os.Remove(linked)
	})
	if err != nil {
		t.Fatal(err)
	}
	server(t, "after", latchkeytest.Options{DatabaseURL: filepath.Join(after, "latchkey.db"), Key: key}, func(t *testing.T, s *latchkeytest.Service) {
		m := c.Machine.At(s)
		if _, _, err := m.Get(t, run, c.Credential.ID); err != nil {
			t.Errorf("a release for a run of before the move: %v", err)
		}
		if got := restores(t, s); len(got) != 0 {
			t.Errorf("the moved folder was taken for a copy: %+v", got)
		}
	})
}

// TestDeclaredCopyIsNotNoticed starts servers on what a restore and EndRestored
// have made, over what an earlier database left there.
func TestDeclaredCopyIsNotNoticed(t *testing.T) {
	for name, declare := range map[string]func(t *testing.T, s *latchkeytest.Service) string{
		"restore": func(t *testing.T, s *latchkeytest.Service) string {
			text, to := takeBackup(t, s), filepath.Join(t.TempDir(), "latchkey.db")
			if db.IsPostgres(s.URL) {
				to = pg.New(t)
			} else {
				overwrite(t, to+".place", s.URL+".place")
			}
			if _, err := broker.Restore(t.Context(), restoreConfig(to, text, s.Key)); err != nil {
				t.Fatal(err)
			}
			return to
		},
		"admin restored": func(t *testing.T, s *latchkeytest.Service) string {
			to := copyDatabase(t, s.URL)
			d, err := db.OpenExisting(t.Context(), db.Config{URL: to})
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close()
			if _, err := broker.EndRestored(t.Context(), d, "tester", false); err != nil {
				t.Fatal(err)
			}
			return to
		},
	} {
		t.Run(name, func(t *testing.T) {
			latchkeytest.EachDB(t, func(t *testing.T, url string) {
				s := latchkeytest.New(t, latchkeytest.Options{DatabaseURL: url})
				s.Chain(t)
				at := declare(t, s)
				for _, start := range []string{"first start", "second start"} {
					server(t, start, latchkeytest.Options{DatabaseURL: at, Key: s.Key}, func(t *testing.T, s *latchkeytest.Service) {
						if got := restores(t, s); len(got) != 1 || got[0].Details["noticed"] != "" {
							t.Errorf("the audit log has %+v; want the one entry of what declared it", got)
						}
					})
				}
			})
		})
	}
}

// TestServersStartOnCopy starts several servers on a copy at the same time: one
// ends what was under way.
func TestServersStartOnCopy(t *testing.T) {
	const servers = 5
	s := latchkeytest.New(t, latchkeytest.Options{DatabaseURL: latchkeytest.Postgres(t)})
	c := s.Chain(t)
	c.Start(t)
	c.Start(t)
	c.Machine.Claim(t)
	at := copyDatabase(t, s.URL)

	var wg sync.WaitGroup
	var logs [servers]latchkeytest.Log
	for i := range servers {
		wg.Go(func() {
			if err := startBroker(t.Context(), at, s.Key, slog.New(slog.NewTextHandler(&logs[i], nil))); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	warned := 0
	for i := range logs {
		warned += strings.Count(logs[i].String(), "the database is a copy")
	}
	copied := latchkeytest.New(t, latchkeytest.Options{DatabaseURL: at, Key: s.Key})
	if got := restores(t, copied); len(got) != 1 || got[0].Details["runs"] != "2" || warned != 1 {
		t.Errorf("%d warnings, and in the audit log %+v; want one each", warned, got)
	}
}

// startBroker makes a broker, as a server does at its start.
func startBroker(ctx context.Context, url string, key *seal.Key, log *slog.Logger) error {
	d, err := db.Open(ctx, db.Config{URL: url, Log: log})
	if err != nil {
		return err
	}
	defer d.Close()
	_, err = broker.New(ctx, broker.Config{DB: d, Key: key, Log: log, OpenVault: noVault, Inspect: noInspection, VaultURL: func(string) string { return "" }})
	return err
}

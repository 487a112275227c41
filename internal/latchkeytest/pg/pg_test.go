package pg

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
)

// connect opens a database until the test ends.
func connect(t *testing.T, dsn string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatalf("connect to %s: %v", dsn, err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

func TestNewGivesEachTestItsOwnDatabase(t *testing.T) {
	first, second := connect(t, New(t)), connect(t, New(t))
	if _, err := first.Exec(t.Context(), "create table one (a text)"); err != nil {
		t.Fatal(err)
	}
	const tables = "select count(*) from pg_tables where schemaname = 'public'"
	for _, c := range []struct {
		conn *pgx.Conn
		want int
	}{{first, 1}, {second, 0}} {
		var got int
		if err := c.conn.QueryRow(t.Context(), tables).Scan(&got); err != nil {
			t.Fatal(err)
		}
		if got != c.want {
			t.Errorf("tables in %s = %d; want %d", c.conn.Config().Database, got, c.want)
		}
	}
}

func TestNewIgnoresTheEnvironment(t *testing.T) {
	for _, name := range []string{"PGHOST", "PGDATABASE", "PGUSER", "PGSSLMODE"} {
		t.Setenv(name, "require")
	}
	t.Setenv("PGPORT", "1")
	var encoding string
	if err := connect(t, New(t)).QueryRow(t.Context(), "show server_encoding").Scan(&encoding); err != nil {
		t.Fatal(err)
	}
	if encoding != "UTF8" {
		t.Errorf("server_encoding = %s; want UTF8", encoding)
	}
}

func TestDatabaseIsDroppedWithItsConnections(t *testing.T) {
	var dsn string
	t.Run("user", func(t *testing.T) {
		dsn = New(t)
		if _, err := pgx.Connect(t.Context(), dsn); err != nil {
			t.Fatal(err)
		}
	})
	if dsn == "" {
		t.Skip("no server")
	}
	conn, err := pgx.Connect(t.Context(), dsn)
	if err == nil {
		conn.Close(t.Context())
		t.Fatalf("database %s is still there after its test", dsn)
	}
	if !strings.Contains(err.Error(), "3D000") {
		t.Errorf("connect after the test: %v; want error 3D000, no such database", err)
	}
}

func TestNewInParallel(t *testing.T) {
	for i := range 8 {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			if err := connect(t, New(t)).Ping(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestTemplate tests that every test has a copy of its own, and that the template
// is filled once.
func TestTemplate(t *testing.T) {
	fills := 0
	template := &Template{Fill: func(url string) error {
		fills++
		conn, err := pgx.Connect(t.Context(), url)
		if err != nil {
			return err
		}
		_, err = conn.Exec(t.Context(), "create table one (a text)")
		return errors.Join(err, conn.Close(t.Context()))
	}}
	for range 2 {
		c := connect(t, template.New(t))
		var rows int
		if err := c.QueryRow(t.Context(), "select count(*) from one").Scan(&rows); err != nil || rows != 0 {
			t.Errorf("rows of a copy = %d, %v; want none", rows, err)
		}
		if _, err := c.Exec(t.Context(), "insert into one values ('first')"); err != nil {
			t.Fatal(err)
		}
		var above bool
		if err := c.QueryRow(t.Context(), "select 'Z' > 'a'").Scan(&above); err != nil || !above {
			t.Errorf("'Z' > 'a' in a copy: %t, %v; want the order of dictionaries", above, err)
		}
	}
	if fills != 1 {
		t.Errorf("the template was filled %d times; want once", fills)
	}
	broken := &Template{Fill: func(string) error { return errors.New("no schema") }}
	v, done := &verdict{}, make(chan struct{})
	go func() {
		defer close(done)
		broken.New(v)
	}()
	<-done
	if v.got != "fail" {
		t.Errorf("a template that cannot be filled: %q; want fail", v.got)
	}
}

// verdict is a test that remembers how it was ended.
type verdict struct {
	testing.TB
	got string
}

func (v *verdict) Helper()               {}
func (v *verdict) Skip(...any)           { v.got = "skip"; runtime.Goexit() }
func (v *verdict) Fatalf(string, ...any) { v.got = "fail"; runtime.Goexit() }

func TestWithoutServer(t *testing.T) {
	tests := []struct {
		name, env string
		err       error
		want      string
	}{
		{"not installed", "", errNotInstalled, "skip"},
		{"not installed but required", "required", errNotInstalled, "fail"},
		{"broken", "", errors.New("no space left"), "fail"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv(required, tt.env)
			v, done := &verdict{}, make(chan struct{})
			go func() {
				defer close(done)
				(&process{started: true, err: tt.err}).database(v, (*server).create)
			}()
			<-done
			if v.got != tt.want {
				t.Errorf("outcome = %q; want %q", v.got, tt.want)
			}
		})
	}
}

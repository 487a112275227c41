//go:build linux || darwin

package pg

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	startLimit = 60 * time.Second // initdb and start take 0.7 s on an idle machine
	stopLimit  = 20 * time.Second // the server kills its own stragglers after 5 s
	queryLimit = 60 * time.Second
)

// watch is the shell script that makes a server, guards it and removes it.
//
//go:embed watch.sh
var watch string

// A server is one running PostgreSQL and the shell that guards it.
type server struct {
	dir   string
	life  io.Closer     // closing it ends the server; so does the end of this process
	ended chan struct{} // closed when the shell and with it the server are gone
	fault error         // how the shell ended; set before ended is closed
	log   *os.File      // what initdb and the server print; readable after dir is gone

	mu        sync.Mutex // makes what follows queue
	databases int        // how many were created; guarded by mu
	admin     *pgx.Conn  // creates and drops them; nil before the first; guarded by mu
}

// start makes a cluster in a new folder and returns when it takes connections.
func start() (*server, error) {
	s, err := launch()
	if err != nil {
		return nil, err
	}
	if err := s.ready(); err != nil {
		return nil, errors.Join(fmt.Errorf("%w\n%s", err, s.tail()), s.stop())
	}
	return s, nil
}

// launch starts the shell that makes the cluster, and does not wait for it.
func launch() (*server, error) {
	bin, err := binaries()
	if err != nil {
		return nil, err
	}
	owner, err := account()
	if err != nil {
		return nil, err
	}
	dir, err := folder(owner)
	if err != nil {
		return nil, err
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	durability := "off"
	if os.Getenv(durable) == "on" {
		durability = "on"
	}
	cmd := exec.Command("/bin/sh", "-c", watch, "watch", bin, dir, durability)
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=/usr/bin:/bin", "LC_ALL=C"}
	cmd.Stdout, cmd.Stderr = log, log
	// A session of its own keeps the guard alive when the tests' whole process
	// group is killed. The pipe tells it of our end. A parent-death signal would
	// not do: it follows the thread that started the child, not the process.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Credential: owner}
	life, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return nil, errors.Join(err, log.Close(), os.RemoveAll(dir))
	}
	s := &server{dir: dir, life: life, log: log, ended: make(chan struct{})}
	go func() {
		s.fault = cmd.Wait()
		close(s.ended)
	}()
	return s, nil
}

// ready returns when the server answers, or says why it does not.
func (s *server) ready() error {
	ctx, cancel := context.WithTimeout(context.Background(), startLimit)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		err := s.answers(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-s.ended:
			return fmt.Errorf("the server ended: %v", s.fault)
		case <-ctx.Done():
			return fmt.Errorf("no answer within %v: %w", startLimit, err)
		case <-tick.C:
		}
	}
}

// stop ends the server and waits until it and its folder are gone.
func (s *server) stop() error {
	s.mu.Lock()
	if s.admin != nil {
		ctx, cancel := context.WithTimeout(context.Background(), queryLimit)
		_ = s.admin.Close(ctx) // the server ends anyway
		cancel()
		s.admin = nil
	}
	s.mu.Unlock()
	err := s.life.Close()
	if errors.Is(err, os.ErrClosed) {
		err = nil // the server ended by itself
	}
	select {
	case <-s.ended:
		return errors.Join(err, s.log.Close())
	case <-time.After(stopLimit):
		return fmt.Errorf("the server in %s did not end within %v", s.dir, stopLimit)
	}
}

// create makes an empty database and returns its name. Texts compare in it as
// dictionaries have it, as in most databases that people have: what relies on
// the order of bytes fails.
func (s *server) create() (string, error) {
	return s.createFrom("template0 locale_provider icu icu_locale 'en-US'")
}

// copyOf makes a copy of a database that nobody is connected to, and returns its
// name.
func (s *server) copyOf(template string) (string, error) { return s.createFrom(template) }

// createFrom makes a database from a template with options. Its files are copied,
// which is quicker than writing each block to the log too, as is the default
// since PostgreSQL 15; before, there is nothing else.
func (s *server) createFrom(template string) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.databases++
	name := fmt.Sprintf("test%d", s.databases)
	sql := "create database " + name + " template " + template
	err := s.administer(func(ctx context.Context) error {
		if version, _, _ := strings.Cut(s.admin.PgConn().ParameterStatus("server_version"), "."); len(version) == 2 && version >= "15" {
			sql += " strategy file_copy"
		}
		_, err := s.admin.Exec(ctx, sql)
		return err
	})
	return name, err
}

// drop removes a database that create made.
func (s *server) drop(name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.administer(func(ctx context.Context) error {
		_, err := s.admin.Exec(ctx, "drop database if exists "+name+" with (force)")
		return err
	})
}

// administer calls f with s.admin connected. The caller holds mu.
func (s *server) administer(f func(context.Context) error) (err error) {
	ctx, cancel := context.WithTimeout(context.Background(), queryLimit)
	defer cancel()
	if s.admin != nil && s.admin.IsClosed() {
		s.admin = nil // it broke, which some call before this has reported
	}
	if s.admin == nil {
		if s.admin, err = pgx.Connect(ctx, s.url("postgres")); err != nil {
			return err
		}
	}
	return f(ctx)
}

// answers returns nil when the server takes connections.
func (s *server) answers(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, s.url("postgres"))
	if err != nil {
		return err
	}
	return conn.Close(ctx)
}

// url returns the address of a database. It names everything that a PG…
// variable of the environment could otherwise change.
func (s *server) url(database string) string {
	q := url.Values{"host": {s.dir}, "port": {"5432"}, "sslmode": {"disable"}}
	u := url.URL{Scheme: "postgres", User: url.User("postgres"), Path: "/" + database, RawQuery: q.Encode()}
	return u.String()
}

// tail returns the last lines of the server's log.
func (s *server) tail() string {
	const most = 4096
	end, err := s.log.Seek(0, io.SeekEnd)
	if err != nil {
		return err.Error()
	}
	b, err := io.ReadAll(io.NewSectionReader(s.log, max(0, end-most), most))
	if err != nil {
		return err.Error()
	}
	return string(b)
}

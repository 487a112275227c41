package pg

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"
)

// required names the environment variable that turns a missing PostgreSQL from
// a skipped test into a failed one, when it is "required".
const required = "LATCHKEY_TEST_POSTGRES"

// durable names the environment variable that makes the server keep what was
// committed through a loss of power, when it is "on".
const durable = "LATCHKEY_TEST_POSTGRES_DURABLE"

// errNotInstalled says that no PostgreSQL was found, and what to install.
var errNotInstalled = errors.New("PostgreSQL is not installed; it is in Debian's package postgresql")

// shared is the server of this process.
var shared process

// A process starts at most one server and remembers how that went.
type process struct {
	mu      sync.Mutex // guards what follows
	started bool
	server  *server
	err     error
}

// get returns the server, which the first call starts.
func (p *process) get() (*server, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.started {
		p.started = true
		p.server, p.err = start()
	}
	return p.server, p.err
}

// stop ends the server if there is one and waits until its folder is gone.
func (p *process) stop() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.server
	p.server, p.err = nil, errors.New("the PostgreSQL server was stopped")
	if s == nil {
		return nil
	}
	return s.stop()
}

// Main runs the tests, stops the server if one of them started it, and returns
// the exit code. Without Main the server still ends with the process, a moment
// later. Anything that runs tests will do for m, so that a wrapper of
// testing.M, as other test packages want one, can be wrapped again.
func Main(m interface{ Run() int }) int {
	code := m.Run()
	if err := shared.stop(); err != nil {
		fmt.Fprintln(os.Stderr, "pg:", err)
		code = max(code, 1)
	}
	return code
}

// New creates an empty database for one test and returns its address, a URL of
// the form postgres://…. The database is dropped when the test ends, with
// whatever is still connected to it.
//
// Where PostgreSQL is not installed, the test is skipped, or fails if the
// environment says LATCHKEY_TEST_POSTGRES=required.
func New(tb testing.TB) string {
	tb.Helper()
	return shared.database(tb, (*server).create)
}

// A Template is a database that others are made as copies of.
type Template struct {
	// Fill puts into the empty database url what each copy has. It leaves no
	// connection open.
	Fill func(url string) error

	once sync.Once
	name string // set once, as err
	err  error
}

// New creates a copy of the template, as [New] does an empty database. The first
// call fills the template.
func (t *Template) New(tb testing.TB) string {
	tb.Helper()
	return shared.database(tb, func(s *server) (string, error) {
		t.once.Do(func() {
			if t.name, t.err = s.create(); t.err == nil {
				t.err = t.Fill(s.url(t.name))
			}
		})
		if t.err != nil {
			return "", fmt.Errorf("fill the template: %w", t.err)
		}
		return s.copyOf(t.name)
	})
}

// database creates a database for one test.
func (p *process) database(tb testing.TB, create func(*server) (name string, err error)) string {
	tb.Helper()
	s, err := p.get()
	if errors.Is(err, errNotInstalled) && os.Getenv(required) != "required" {
		tb.Skip(err)
	}
	if err != nil {
		tb.Fatalf("start PostgreSQL: %v", err)
	}
	name, err := create(s)
	if err != nil {
		tb.Fatalf("create a database: %v", err)
	}
	tb.Cleanup(func() {
		if err := s.drop(name); err != nil {
			tb.Errorf("drop database %s: %v", name, err)
		}
	})
	return s.url(name)
}

package pg

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"latchkey.dev/internal/latchkeytest/tied"
)

// A Cluster is a PostgreSQL of a test's own that can be killed and started
// again on the same data. Its methods but Start, Kill and Stop may be called
// concurrently.
//
// It runs without fsync: what a killed process has written is kept by the
// kernel. It says nothing about a loss of power.
type Cluster struct {
	dir     string
	bin     string
	owner   *syscall.Credential
	starter *tied.Starter
	log     *os.File

	mu    sync.Mutex
	main  int           // process id of the server, or 0; guarded by mu
	ended chan struct{} // closed when it has ended; guarded by mu
}

// database is the one database of a Cluster.
const database = "latchkey"

// NewCluster makes a cluster with an empty database in a new folder dir, whose
// path must be short enough for a socket and open to the account postgres, and
// starts it. It ends with the test or the process; its folder stays.
//
// Where PostgreSQL is not installed, the test is skipped, or fails if the
// environment says LATCHKEY_TEST_POSTGRES=required.
func NewCluster(tb testing.TB, dir string) *Cluster {
	tb.Helper()
	c, err := newCluster(dir)
	if errors.Is(err, errNotInstalled) && os.Getenv(required) != "required" {
		tb.Skip(err)
	}
	if err != nil {
		tb.Fatalf("start PostgreSQL: %v", err)
	}
	tb.Cleanup(func() {
		if err := c.Stop(); err != nil {
			tb.Errorf("stop PostgreSQL: %v", err)
		}
		c.starter.Close()
		if err := c.log.Close(); err != nil {
			tb.Error(err)
		}
	})
	return c
}

func newCluster(dir string) (*Cluster, error) {
	c := &Cluster{dir: dir, starter: tied.New()}
	err := c.create()
	if err != nil {
		c.starter.Close()
		return nil, err
	}
	return c, nil
}

func (c *Cluster) create() (err error) {
	if c.bin, err = binaries(); err != nil {
		return err
	}
	if c.owner, err = account(); err != nil {
		return err
	}
	if err := os.Mkdir(c.dir, 0o700); err != nil {
		return err
	}
	if c.owner != nil {
		if err := os.Chown(c.dir, int(c.owner.Uid), int(c.owner.Gid)); err != nil {
			return err
		}
	}
	if c.log, err = os.Create(filepath.Join(c.dir, "log")); err != nil {
		return err
	}
	init := c.command("initdb", "-D", "data", "-U", "postgres", "-A", "trust", "--no-sync", "--locale=C", "-E", "UTF8")
	if err = c.starter.Start(init); err == nil {
		err = init.Wait()
	}
	if err == nil {
		err = c.Start()
	}
	if err == nil {
		err = c.exec("postgres", "create database "+database+" template template0 locale_provider icu icu_locale 'en-US'")
	}
	if err != nil {
		return errors.Join(fmt.Errorf("make a cluster, see %s: %w", c.log.Name(), err), c.Stop(), c.log.Close())
	}
	return nil
}

func (c *Cluster) command(program string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(c.bin, program), args...)
	cmd.Dir = c.dir
	cmd.Env = []string{"PATH=/usr/bin:/bin", "LC_ALL=C"}
	cmd.Stdout, cmd.Stderr = c.log, c.log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Credential: c.owner}
	return cmd
}

// URL returns the address of the database.
func (c *Cluster) URL() string { return c.url(database) }

func (c *Cluster) url(name string) string {
	q := url.Values{"host": {c.dir}, "port": {"5432"}, "sslmode": {"disable"}}
	u := url.URL{Scheme: "postgres", User: url.User("postgres"), Path: "/" + name, RawQuery: q.Encode()}
	return u.String()
}

// Start starts the server and returns when it answers.
func (c *Cluster) Start() error {
	cmd := c.command("postgres", "-D", "data", "-k", c.dir,
		"-c", "listen_addresses=", "-c", "port=5432", "-c", "unix_socket_permissions=0700",
		"-c", "max_connections=100", "-c", "shared_buffers=32MB", "-c", "dynamic_shared_memory_type=mmap",
		"-c", "fsync=off", "-c", "max_wal_size=256MB")
	if err := c.starter.Start(cmd); err != nil {
		return err
	}
	ended := make(chan struct{})
	c.mu.Lock()
	c.main, c.ended = cmd.Process.Pid, ended
	c.mu.Unlock()
	go func() {
		_ = cmd.Wait() // its log says why
		c.mu.Lock()
		c.main = 0
		c.mu.Unlock()
		close(ended)
	}()
	return c.Ready(ended)
}

// Ready returns when the server answers. It returns an error when that takes
// too long, or when stop is closed.
func (c *Cluster) Ready(stop <-chan struct{}) error {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(startLimit); ; {
		err := c.exec("postgres", "select 1")
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("no answer within %v: %w", startLimit, err)
		}
		select {
		case <-stop:
			return fmt.Errorf("the server ended: %w", err)
		case <-tick.C:
		}
	}
}

func (c *Cluster) exec(name, sql string) error {
	ctx, cancel := context.WithTimeout(context.Background(), queryLimit)
	defer cancel()
	conn, err := pgx.Connect(ctx, c.url(name))
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, sql)
	return errors.Join(err, conn.Close(ctx))
}

// Kill kills every process of the server by SIGKILL and returns when they are
// gone.
func (c *Cluster) Kill() error {
	c.mu.Lock()
	pid, ended := c.main, c.ended
	c.mu.Unlock()
	if pid == 0 {
		return errors.New("the server does not run")
	}
	// Stopped first, so that it starts nothing while its children are listed.
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		return err
	}
	victims := append(childrenOf(pid), pid)
	for _, v := range victims {
		_ = syscall.Kill(v, syscall.SIGKILL) // it may have ended
	}
	<-ended
	for deadline := time.Now().Add(stopLimit); slices.ContainsFunc(victims, alive); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			return fmt.Errorf("the server's processes %v did not end within %v", victims, stopLimit)
		}
	}
	return nil
}

// KillBackend kills one process that serves a connection by SIGKILL; which one,
// n says. The server then ends all others and recovers. It reports false when
// there is none.
func (c *Cluster) KillBackend(n int) bool {
	c.mu.Lock()
	pid := c.main
	c.mu.Unlock()
	if pid == 0 {
		return false
	}
	backends := slices.DeleteFunc(childrenOf(pid), func(child int) bool {
		title, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", child))
		return err != nil || !bytes.Contains(title, []byte(" "+database+" "))
	})
	return len(backends) > 0 && syscall.Kill(backends[n%len(backends)], syscall.SIGKILL) == nil
}

// Stop ends the server, if it runs.
func (c *Cluster) Stop() error {
	c.mu.Lock()
	pid, ended := c.main, c.ended
	c.mu.Unlock()
	if pid == 0 {
		return nil
	}
	if err := syscall.Kill(pid, syscall.SIGQUIT); err != nil {
		return err
	}
	select {
	case <-ended:
		return nil
	case <-time.After(stopLimit):
		return errors.Join(fmt.Errorf("the server did not end within %v", stopLimit), c.Kill())
	}
}

// childrenOf returns the processes whose parent is pid.
func childrenOf(pid int) (children []int) {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat") // the pattern is well formed
	for _, path := range stats {
		state, parent := stat(path)
		if parent == pid && state != "Z" {
			if child, err := strconv.Atoi(filepath.Base(filepath.Dir(path))); err == nil {
				children = append(children, child)
			}
		}
	}
	return children
}

// alive reports whether a process has not ended, waited for or not.
func alive(pid int) bool {
	state, _ := stat(fmt.Sprintf("/proc/%d/stat", pid))
	return state != "" && state != "Z" && state != "X"
}

// stat returns a process's state and parent (proc(5)), or "" when it is gone.
func stat(path string) (state string, parent int) {
	b, err := os.ReadFile(path)
	if err != nil {
		return "", 0
	}
	// The name of the program, in brackets, may hold anything.
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	if len(fields) < 2 {
		return "", 0
	}
	parent, _ = strconv.Atoi(fields[1])
	return fields[0], parent
}

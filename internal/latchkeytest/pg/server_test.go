//go:build linux || darwin

package pg

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// childMode names the environment variable that makes this test program start
// a server and hang: "launched" without waiting for it, or "ready".
const childMode = "LATCHKEY_PG_TEST_CHILD"

func TestMain(m *testing.M) {
	if mode := os.Getenv(childMode); mode != "" {
		child(mode)
	}
	os.Exit(Main(m))
}

// child prints the folder of a new server and waits to be killed.
func child(mode string) {
	start := map[string]func() (*server, error){"launched": launch, "ready": start}[mode]
	s, err := start()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(s.dir)
	io.Copy(io.Discard, os.Stdin)
	os.Exit(1)
}

// eventually waits until the condition holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	deadline := time.After(stopLimit + startLimit)
	for !holds() {
		select {
		case <-deadline:
			t.Fatalf("not in time: %s", what)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func gone(path string) bool {
	_, err := os.Lstat(path)
	return errors.Is(err, fs.ErrNotExist)
}

// serverPID reads the process id of the server from its folder.
func serverPID(dir string) (int, error) {
	b, err := os.ReadFile(filepath.Join(dir, "data", "postmaster.pid"))
	if err != nil {
		return 0, err
	}
	line, _, _ := strings.Cut(string(b), "\n")
	return strconv.Atoi(line)
}

func TestKilledProcessLeavesNothingBehind(t *testing.T) {
	New(t) // skips where there is no PostgreSQL
	for _, mode := range []string{"launched", "ready"} {
		t.Run(mode, func(t *testing.T) {
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), childMode+"="+mode)
			cmd.Stderr = os.Stderr
			cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
			in, err := cmd.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			defer in.Close()
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			line, err := bufio.NewReader(out).ReadString('\n')
			dir := strings.TrimSpace(line)
			pid := 0
			if err == nil && mode == "ready" {
				pid, err = serverPID(dir)
			}
			// The whole group, as a terminal or a build machine would.
			kill := syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
			cmd.Wait()
			if err := errors.Join(err, kill); err != nil {
				t.Fatal(err)
			}
			eventually(t, "the server's folder is gone", func() bool { return gone(dir) })
			if pid != 0 && !errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
				t.Errorf("server process %d is still there", pid)
			}
		})
	}
}

func TestStop(t *testing.T) {
	New(t)
	p := new(process)
	s, err := p.get()
	if err != nil {
		t.Fatal(err)
	}
	pid, err := serverPID(s.dir)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := p.get(); again != s || err != nil {
		t.Errorf("second get = %p, %v; want the first server, %p", again, err, s)
	}
	for range 2 { // a second stop does nothing
		if err := p.stop(); err != nil {
			t.Fatal(err)
		}
	}
	if !gone(s.dir) {
		t.Errorf("folder %s is still there", s.dir)
	}
	if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("server process %d: %v; want it gone", pid, err)
	}
	if s, err := p.get(); err == nil {
		t.Errorf("get after stop = %p; want an error", s)
	}
}

func TestServerThatEndsByItself(t *testing.T) {
	New(t)
	s, err := start()
	if err != nil {
		t.Fatal(err)
	}
	pid, err := serverPID(s.dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGQUIT); err != nil {
		t.Fatal(err)
	}
	<-s.ended
	if err := s.ready(); err == nil || !strings.Contains(err.Error(), "ended") {
		t.Errorf("ready = %v; want that the server ended", err)
	}
	if err := s.stop(); err != nil {
		t.Errorf("stop: %v", err)
	}
	if !gone(s.dir) {
		t.Errorf("folder %s is still there", s.dir)
	}
}

func TestNewest(t *testing.T) {
	tests := []struct {
		name  string
		paths []string
		want  string
	}{
		{"none", nil, ""},
		{"numbers, not text", []string{"/p/15/bin/postgres", "/p/9.6/bin/postgres"}, "/p/15/bin"},
		{"last", []string{"/p/15/bin/postgres", "/p/17/bin/postgres"}, "/p/17/bin"},
		{"not a version", []string{"/p/share/bin/postgres"}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := newest(tt.paths); got != tt.want {
				t.Errorf("newest(%q) = %q; want %q", tt.paths, got, tt.want)
			}
		})
	}
}

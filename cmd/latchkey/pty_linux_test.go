package main

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"

	"latchkey.dev/internal/cli"
	"latchkey.dev/latchkey"
)

// A person sits at a terminal of 60 columns and 12 lines.
type person struct {
	*app
	keyboard *os.File
	screen   chan string // pieces of what the terminal gets
	seen     strings.Builder
}

func newPerson(t *testing.T, environ ...string) *person {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	fd := int(master.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	terminal, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: 12, Col: 60}); err != nil {
		t.Fatal(err)
	}
	a, _, _ := testApp(t, "", append([]string{"TERM=xterm"}, environ...)...)
	a.In, a.Out, a.Err = terminal, terminal, terminal
	p := &person{app: a, keyboard: master, screen: make(chan string, 1000)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		b := make([]byte, 4096)
		for {
			n, err := master.Read(b)
			if n > 0 {
				p.screen <- string(b[:n])
			}
			if err != nil {
				return // the terminal is closed
			}
		}
	}()
	t.Cleanup(func() {
		if _, err := io.WriteString(master, "\n"); err != nil { // ends what still reads
			t.Error(err)
		}
		if err := terminal.Close(); err != nil {
			t.Error(err)
		}
		<-done
		if err := master.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

// sees waits until the terminal shows a text, and returns all that it has got.
func (p *person) sees(t *testing.T, text string) string {
	t.Helper()
	for end := time.After(patience); !strings.Contains(p.seen.String(), text); {
		select {
		case s := <-p.screen:
			p.seen.WriteString(s)
		case <-end:
			t.Fatalf("the terminal shows %q; want %q", p.seen.String(), text)
		}
	}
	return p.seen.String()
}

func TestTableOnTerminal(t *testing.T) {
	p := newPerson(t)
	rows := []string{strings.Repeat("n", 90), "name"}
	if err := cli.PrintList(&p.Console, cli.WithoutErrors(rows), []string{"NAME", "STATE"}, func(s string) []string { return []string{s, "failed"} }); err != nil {
		t.Fatal(err)
	}
	p.Say("end")
	got := p.sees(t, "latchkey: end")
	if !strings.Contains(got, "…") || !strings.Contains(got, "\033[31mfailed\033[0m") || strings.Contains(got, strings.Repeat("n", 60)) {
		t.Errorf("the terminal shows %q; want it cut to its width, and a failure in red", got)
	}
}

func TestTerminalWithoutColors(t *testing.T) {
	for _, variable := range []string{"NO_COLOR=1", "TERM=dumb"} {
		p := newPerson(t, variable)
		stop := p.spin("waiting")
		stop()
		p.Report(t.Context(), errors.New("it broke"))
		if got := p.sees(t, "it broke"); variable == "TERM=dumb" && strings.Contains(got, "\033") || strings.Contains(got, "\033[3") {
			t.Errorf("with %s the terminal shows %q; want no colours", variable, got)
		}
	}
}

func TestConfirm(t *testing.T) {
	for answer, want := range map[string]bool{"yes\n": true, "y\n": false, "\n": false} {
		p := newPerson(t)
		done := make(chan error, 1)
		go func() { done <- p.Confirm(t.Context(), false, "delete \x1b[2Jit") }()
		if got := p.sees(t, "Type yes: "); strings.Contains(got, "\x1b[2J") {
			t.Errorf("the question is %q; want nothing that a terminal acts on", got)
		}
		if _, err := io.WriteString(p.keyboard, answer); err != nil {
			t.Fatal(err)
		}
		if err := <-done; (err == nil) != want {
			t.Errorf("the answer %q: %v; want it done: %v", answer, err, want)
		}
	}
	p := newPerson(t)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- p.Confirm(ctx, false, "delete it") }()
	p.sees(t, "Type yes: ")
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("an interrupt: %v; want it cancelled", err)
	}
}

func TestWatchOnTerminal(t *testing.T) {
	p := newPerson(t)
	ctx, cancel := context.WithCancel(t.Context())
	list := func() iter.Seq2[latchkey.Run, error] {
		runs := make([]latchkey.Run, 50)
		for i := range runs {
			runs[i] = latchkey.Run{ID: latchkey.RunID(fmt.Sprintf("run_%026d", i)), FlowName: "f\x1b[2J", State: latchkey.RunRunning}
		}
		return cli.WithoutErrors(runs)
	}
	done := make(chan error, 1)
	go func() { done <- p.watchRuns(ctx, list, nil) }()
	p.sees(t, "an interrupt ends it")
	got := p.sees(t, "\033[J")
	cancel()
	if err := <-done; err != nil {
		t.Errorf("watchRuns = %v; want none when it is interrupted", err)
	}
	_, frame, _ := strings.Cut(got, "\033[H")
	frame, _, _ = strings.Cut(frame, "\033[J") // it may have been drawn again since
	if lines := strings.Count(frame, "run_"); lines != 9 || strings.Contains(got, "\x1b[2J") {
		t.Errorf("the terminal shows %d runs, %q; want 9 that fit it", lines, got)
	}
	p.sees(t, "\033[?1049l")
}

func TestStatusLine(t *testing.T) {
	p := newPerson(t)
	s := p.newStatus(io.Discard)
	s.set("%s", strings.Repeat("x", 100)+"\n")
	p.sees(t, "…")
	s.clear()
	s.clear()
	p.Say("end")
	if got := p.sees(t, "latchkey: end\r\n"); strings.Count(got, "\n") != 1 || strings.Contains(got, strings.Repeat("x", 60)) {
		t.Errorf("the terminal shows %q; want a line that fits, and is taken away", got)
	}
	p.Quiet = true
	if s := p.newStatus(io.Discard); s.out != nil {
		t.Error("--quiet shows a status line")
	}
	if s := (&app{Console: cli.Console{Color: cli.ColorAuto, Err: p.Err}}).newStatus(p.Out); s.out != nil {
		t.Error("a status line is shown among results")
	}
}

// TestConfirmHostKey adds an SSH server to the agent's policy at a terminal.
func TestConfirmHostKey(t *testing.T) {
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	config := &ssh.ServerConfig{NoClientAuth: true}
	config.AddHostKey(signer)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			_, _, _, err = ssh.NewServerConn(conn, config)
			if err == nil {
				t.Error("somebody has signed in; want the host key asked for only")
			}
			conn.Close()
		}
	}()
	defer func() {
		listener.Close()
		<-served
	}()
	for answer, want := range map[string]int{"yes\n": 0, "no\n": 1} {
		dir := t.TempDir()
		policy := filepath.Join(dir, "policy.toml")
		if err := os.WriteFile(policy, []byte("drivers = [\"none\"]\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		p := newPerson(t)
		code := make(chan int, 1)
		go func() {
			code <- run([]string{"agent", "ssh", "add", "erp", listener.Addr().String(), "--dir", dir}, stdio{p.In, p.Out, p.Err}, p.Environ)
		}()
		p.sees(t, ssh.FingerprintSHA256(signer.PublicKey())+" (ssh-ed25519). Is that the right one? Type yes: ")
		if _, err := io.WriteString(p.keyboard, answer); err != nil {
			t.Fatal(err)
		}
		got := <-code
		text, err := os.ReadFile(policy)
		if got != want || err != nil || strings.Contains(string(text), "[[ssh]]") != (want == 0) {
			t.Errorf("the answer %q: %d, %v, %q; want %d", answer, got, err, text, want)
		}
	}
}

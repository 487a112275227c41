package agent

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"latchkey.dev/internal/latchkeytest/sshd"
	"latchkey.dev/latchkey"
)

const sshPassword = `c'est "la" $vie; été \ 1`

// configured returns a server as the machine's configuration has it.
func configured(t *testing.T, s *sshd.Server) *sshServer {
	t.Helper()
	c := &sshServer{Name: "erp", Address: s.Address, HostKeys: []string{s.HostKey}, Commands: []string{"/*"}}
	if err := c.check(); err != nil {
		t.Fatal(err)
	}
	return c
}

// enter signs in, and tries a session, as a connection test does.
func enter(t *testing.T, s *sshServer, user, password string) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	conn, err := s.dial(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	client, err := s.signIn(ctx, conn, latchkey.CredentialValues{Username: user, Password: latchkey.NewSecret(password)})
	if err != nil {
		return err
	}
	defer client.Close()
	session := &sshSession{task: &task{}, server: s, client: client, user: user, password: latchkey.NewSecret(password)}
	if r := session.try(ctx); r.Error != nil {
		return &runError{r.Error.Code, r.Error.Message}
	}
	return nil
}

// wantRunError checks the code of a failure, and that it does not tell the
// password.
func wantRunError(t *testing.T, err error, code string) {
	t.Helper()
	got := ""
	if e, ok := errors.AsType[*runError](err); ok {
		got = e.code
	}
	if got != code || err == nil != (code == "") {
		t.Errorf("%v (code %q); want code %q", err, got, code)
	}
	if err != nil && (strings.Contains(err.Error(), sshPassword) || strings.Contains(err.Error(), "wrong-one")) {
		t.Errorf("the failure tells the password: %v", err)
	}
}

// TestSignInAtOpenSSH signs in at real servers: one that takes passwords in
// both ways, and one for each of them.
func TestSignInAtOpenSSH(t *testing.T) {
	t.Parallel()
	users := []sshd.User{
		{Name: "bot", Password: sshPassword},
		{Name: `CONTOSO\bot`, Password: sshPassword},
		{Name: "bot@contoso.example", Password: sshPassword},
		{Name: "locked", Password: sshPassword, Locked: true},
		{Name: "expired", Password: sshPassword, PasswordExpired: true},
		{Name: "left", Password: sshPassword, AccountExpired: true},
		{Name: "noshell", Password: sshPassword, Shell: "/usr/sbin/nologin"},
	}
	servers := []struct {
		name   string
		config []string
	}{
		{"both", nil},
		{"password", []string{"KbdInteractiveAuthentication no"}},
		{"keyboard-interactive", []string{"PasswordAuthentication no"}},
		{"one attempt", []string{"MaxAuthTries 1"}},
	}
	tests := []struct {
		user, password string
		code           string
		attempts       int // that the server counts as failed
	}{
		{"bot", sshPassword, "", 0},
		{`CONTOSO\bot`, sshPassword, "", 0},
		{"bot@contoso.example", sshPassword, "", 0},
		{"bot", "wrong-one", latchkey.RunErrSignIn, 1},
		{"nobody-there", sshPassword, latchkey.RunErrSignIn, 1},
		{"locked", sshPassword, latchkey.RunErrSignIn, 1},
		{"expired", sshPassword, latchkey.RunErrExpired, 0},
		{"expired", "wrong-one", latchkey.RunErrSignIn, 1},
		{"left", sshPassword, latchkey.RunErrAccount, 1},
		{"noshell", sshPassword, latchkey.RunErrAccount, 0},
	}
	for _, s := range servers {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			server := sshd.New(t, sshd.Options{Users: users, Config: s.config})
			c := configured(t, server)
			want := 0
			for _, tt := range tests {
				t.Run(tt.user+" "+tt.code, func(t *testing.T) { wantRunError(t, enter(t, c, tt.user, tt.password), tt.code) })
				want += tt.attempts
			}
			server.Kill()
			if n := server.Attempts(); n != want || t.Failed() {
				t.Errorf("the server counted %d failed attempts; want %d: %s", n, want, server.Log())
			}
		})
	}
}

// TestLockout signs in where the second wrong password in a row locks the account:
// a sign-in is one attempt for the server too.
func TestLockout(t *testing.T) {
	t.Parallel()
	for _, config := range [][]string{nil, {"PasswordAuthentication no"}} {
		t.Run(strings.Join(config, ""), func(t *testing.T) {
			t.Parallel()
			server := sshd.New(t, sshd.Options{Users: []sshd.User{{Name: "bot", Password: sshPassword}}, Config: config, LockAfter: 2})
			c := configured(t, server)
			for _, step := range []struct{ password, code string }{
				{"wrong-one", latchkey.RunErrSignIn}, {sshPassword, ""}, // not locked, and counted anew from here
				{"wrong-one", latchkey.RunErrSignIn}, {"wrong-one", latchkey.RunErrSignIn}, {sshPassword, latchkey.RunErrSignIn},
			} {
				err := enter(t, c, "bot", step.password)
				wantRunError(t, err, step.code)
				if err != nil {
					t.Log(err)
				}
			}
			if t.Failed() {
				t.Log(server.Log())
			}
		})
	}
}

// TestHostKey has the server change its host key.
func TestHostKey(t *testing.T) {
	t.Parallel()
	server := sshd.New(t, sshd.Options{Users: []sshd.User{{Name: "bot", Password: sshPassword}}})
	c := configured(t, server)
	wantRunError(t, enter(t, c, "bot", sshPassword), "")
	server.Kill()
	wantRunError(t, enter(t, c, "bot", sshPassword), latchkey.RunErrUnreachable)
	server.NewHostKey(t)
	server.Restart(t)
	err := enter(t, c, "bot", sshPassword)
	wantRunError(t, err, latchkey.RunErrHostKey)
	if !strings.Contains(err.Error(), "SHA256:") {
		t.Errorf("%v; want the fingerprint of the new key", err)
	}
	if n := strings.Count(server.Log(), "Accepted "); n != 1 {
		t.Errorf("the server accepted %d passwords; want 1", n)
	}
	wantRunError(t, enter(t, configured(t, server), "bot", sshPassword), "")
	// A server that has only keys of another kind than the one that is known.
	c.HostKeys = []string{"ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBEmKSENjQEezOmxkZMy7opKgwFB9nkt5YRrYMjNuG5N87uRgg6CLrbo5wAdT/y6v0mKV0U2w0WZ2YB/++Tpockg="}
	c.keys = nil
	if err := c.check(); err != nil {
		t.Fatal(err)
	}
	wantRunError(t, enter(t, c, "bot", sshPassword), latchkey.RunErrHostKey)
}

// TestRemote runs programs on a real server, by accounts with different shells.
func TestRemote(t *testing.T) {
	t.Parallel()
	server := sshd.New(t, sshd.Options{Users: []sshd.User{
		{Name: "dash", Password: sshPassword}, {Name: "bash", Password: sshPassword, Shell: "/bin/bash"},
	}})
	c := configured(t, server)
	input := "line 1\nline '2' \"$n\" \\ `id` $(id) !x é\r\n\n"
	for _, user := range []string{"dash", "bash"} {
		tests := []struct {
			name           string
			command        []string
			code           int
			stdout, stderr string
		}{
			{"arguments", []string{"/usr/bin/printf", "%s|", "", "a b", "it's", `"$HOME"`, "a\nb", `\n`, "*", "é"}, 0, "|a b|it's|\"$HOME\"|a\nb|\\n|*|é|", ""},
			{"inputs", []string{"/usr/bin/printenv", "LATCHKEY_INPUT_X"}, 0, input + "\n", ""},
			{"exit code", []string{"/bin/sh", "-c", "echo out; echo err >&2; exit 42"}, 42, "out\n", "err\n"},
			{"signal", []string{"/bin/sh", "-c", "kill -TERM $$"}, 128 + 15, "", ""},
			{"user", []string{"/usr/bin/id", "-un"}, 0, user + "\n", ""},
			{"standard input", []string{"/bin/cat"}, 0, "", ""},
			{"binary", []string{"/usr/bin/printf", `\000\377\001`}, 0, "\x00\xff\x01", ""},
		}
		for _, tt := range tests {
			t.Run(user+" "+tt.name, func(t *testing.T) {
				var stdout, stderr bytes.Buffer
				code, err := remotely(t, c, user, remote{
					life: usualSigns, run: "run_x", command: tt.command, env: []string{"LATCHKEY_RUN=run_x", "LATCHKEY_INPUT_X=" + input}, stdout: &stdout, stderr: &stderr,
				})
				if err != nil || code != tt.code || stdout.String() != tt.stdout || stderr.String() != tt.stderr {
					t.Errorf("exit code %d, %v, stdout %q, stderr %q; want %d, %q, %q", code, err, stdout.String(), stderr.String(), tt.code, tt.stdout, tt.stderr)
				}
			})
		}
	}
	t.Run("missing", func(t *testing.T) {
		_, err := remotely(t, c, "dash", remote{life: usualSigns, run: "run_x", command: []string{"/nonexistent"}, env: []string{"A=b"}, stdout: new(bytes.Buffer), stderr: new(bytes.Buffer)})
		if n, ok := errors.AsType[*notBegun](err); !ok || n.step != "missing" {
			t.Errorf("a program that is not there: %v", err)
		}
	})
	awaitNone(t, server)
}

// remotely signs in and runs a program.
func remotely(t *testing.T, s *sshServer, user string, r remote) (int, error) {
	t.Helper()
	ctx := t.Context()
	conn, err := s.dial(ctx)
	if err != nil {
		t.Fatal(err)
	}
	client, err := s.signIn(ctx, conn, latchkey.CredentialValues{Username: user, Password: latchkey.NewSecret(sshPassword)})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	return runRemote(ctx, client, r)
}

// awaitNone waits until no process of the server's users is left.
func awaitNone(t *testing.T, s *sshd.Server) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		left := s.Processes()
		if len(left) == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("left on the server: %v", left)
		}
	}
}

package agent

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"
	"unicode"

	"golang.org/x/crypto/ssh"

	"latchkey.dev/latchkey"
)

// trySignIn signs in, and closes the connection again.
func trySignIn(t *testing.T, s *sshServer, password string) error {
	t.Helper()
	conn, err := s.dial(t.Context())
	if err != nil {
		return err
	}
	client, err := s.signIn(t.Context(), conn, latchkey.CredentialValues{Username: "bot", Password: latchkey.NewSecret(password)})
	if err != nil {
		return err
	}
	return client.Close()
}

func codeOf(err error) string {
	if e, ok := errors.AsType[*runError](err); ok {
		return e.code
	}
	return ""
}

// TestSignInOnce signs in at servers that would take more than one attempt: the
// password is sent at most once, whatever they ask.
func TestSignInOnce(t *testing.T) {
	both := func(f *fakeServer, c *ssh.ServerConfig) {
		byPassword(f, c)
		asking([]string{"Password: "}, false)(f, c)
	}
	partial := func(f *fakeServer, c *ssh.ServerConfig) {
		c.PasswordCallback = func(_ ssh.ConnMetadata, p []byte) (*ssh.Permissions, error) {
			var next ssh.ServerConfig
			asking([]string{"Code: "}, false)(f, &next)
			if err := f.give(string(p)); err != nil {
				return nil, err
			}
			return nil, &ssh.PartialSuccessError{Next: ssh.ServerAuthCallbacks{KeyboardInteractiveCallback: next.KeyboardInteractiveCallback}}
		}
	}
	keys := func(_ *fakeServer, c *ssh.ServerConfig) {
		c.PublicKeyCallback = func(ssh.ConnMetadata, ssh.PublicKey) (*ssh.Permissions, error) { return nil, errors.New("no") }
	}
	tests := []struct {
		name      string
		configure func(*fakeServer, *ssh.ServerConfig)
		password  string
		code      string
		given     int
		says      string // part of the message
	}{
		{"password", byPassword, fakePassword, "", 1, ""},
		{"wrong password", byPassword, "wrong-one", latchkey.RunErrSignIn, 1, "refused bot"},
		{"asked", asking([]string{"Password: "}, false), fakePassword, "", 1, ""},
		{"asked, wrong", asking([]string{"Password: "}, false), "wrong-one", latchkey.RunErrSignIn, 1, ""},
		{"both, wrong", both, "wrong-one", latchkey.RunErrSignIn, 1, ""},
		{"asked again", asking([]string{"Password: ", "Password: "}, false), "wrong-one", latchkey.RunErrAccount, 1, "Password:"},
		{"asked for a new one", asking([]string{"Password: ", "New password: "}, false), fakePassword, latchkey.RunErrExpired, 1, "has expired"},
		{"asked for a code", asking([]string{"Password: ", "Verification code: "}, false), fakePassword, latchkey.RunErrAccount, 1, "Verification code"},
		{"asked for something that shows", asking([]string{"Name: "}, true), fakePassword, latchkey.RunErrAccount, 0, "Name:"},
		{"two steps", partial, fakePassword, latchkey.RunErrAccount, 1, "more than a password"},
		{"no passwords", keys, fakePassword, latchkey.RunErrAccount, 0, "takes no password"},
		{"more than once is too many", func(f *fakeServer, c *ssh.ServerConfig) {
			byPassword(f, c)
			c.MaxAuthTries = 1
		}, "wrong-one", latchkey.RunErrSignIn, 1, ""},
		{"speaks first", func(f *fakeServer, c *ssh.ServerConfig) {
			byPassword(f, c)
			c.BannerCallback = func(ssh.ConnMetadata) string { return "Welcome to\nthe machine" }
		}, "wrong-one", latchkey.RunErrSignIn, 1, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := newFake(t, tt.configure, nil)
			err := trySignIn(t, f.sshServer, tt.password)
			if codeOf(err) != tt.code || (err == nil) != (tt.code == "") {
				t.Errorf("sign-in: %v; want code %q", err, tt.code)
			}
			if err != nil && (!strings.Contains(err.Error(), tt.says) || strings.Contains(err.Error(), tt.password) || strings.Contains(err.Error(), "\n")) {
				t.Errorf("sign-in: %q; want %q in it, on one line, and not the password", err, tt.says)
			}
			if n := f.count(); n != tt.given {
				t.Errorf("the server was given %d passwords; want %d", n, tt.given)
			}
		})
	}
}

// TestSignInAtStrangers signs in at what is not the server that is known.
func TestSignInAtStrangers(t *testing.T) {
	f := newFake(t, byPassword, nil)
	f.keys = [][]byte{newHostKey(t).PublicKey().Marshal()}
	if err := trySignIn(t, f.sshServer, fakePassword); codeOf(err) != latchkey.RunErrHostKey || !strings.Contains(err.Error(), "SHA256:") {
		t.Errorf("another host key: %v; want %s and its fingerprint", err, latchkey.RunErrHostKey)
	}
	if n := f.count(); n != 0 {
		t.Errorf("a stranger was given %d passwords", n)
	}
	gone := *f.sshServer
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone.Address = listener.Addr().String()
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	if err := trySignIn(t, &gone, fakePassword); codeOf(err) != latchkey.RunErrUnreachable {
		t.Errorf("nobody: %v; want %s", err, latchkey.RunErrUnreachable)
	}

	// Something that does not speak SSH, and something that says nothing until the
	// run is cancelled.
	mute, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	accepted := make(chan net.Conn, 2)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := mute.Accept()
			if err != nil {
				return
			}
			accepted <- c
		}
	}()
	defer func() {
		_ = mute.Close()
		<-done
	}()
	gone.Address = mute.Addr().String()
	ctx, cancel := context.WithCancel(t.Context())
	for _, web := range []bool{true, false} {
		conn, err := gone.dial(ctx)
		if err != nil {
			t.Fatal(err)
		}
		c := <-accepted
		defer c.Close()
		if web {
			if _, err := c.Write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n")); err != nil {
				t.Fatal(err)
			}
			_ = c.Close()
		} else {
			cancel()
		}
		_, err = gone.signIn(ctx, conn, latchkey.CredentialValues{Username: "bot", Password: latchkey.NewSecret(fakePassword)})
		if codeOf(err) != latchkey.RunErrUnreachable {
			t.Errorf("no SSH server (web %v): %v; want %s", web, err, latchkey.RunErrUnreachable)
		}
	}
	cancel()
}

// TestSignInIsCut ends the connection after the password: whether it was wrong is
// not known, so that it does not count.
func TestSignInIsCut(t *testing.T) {
	f := newFake(t, func(f *fakeServer, c *ssh.ServerConfig) {
		c.PasswordCallback = func(m ssh.ConnMetadata, p []byte) (*ssh.Permissions, error) {
			_ = f.give(string(p))
			f.mu.Lock()
			defer f.mu.Unlock()
			for _, c := range f.conns {
				_ = c.Close()
			}
			return nil, errors.New("gone")
		}
	}, nil)
	if err := trySignIn(t, f.sshServer, fakePassword); codeOf(err) != latchkey.RunErrLost {
		t.Errorf("sign-in: %v; want %s", err, latchkey.RunErrLost)
	}
}

// TestSilentServer runs a command on a server that says nothing any more: the
// agent notices, or gives up some time after the run was cancelled.
func TestSilentServer(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		life   signs
		cancel bool
		want   error
	}{
		{"noticed", signs{every: 20 * time.Millisecond, patience: 200 * time.Millisecond}, false, errRemoteLost},
		{"cancelled", usualSigns, true, errRemoteTime},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			release := make(chan struct{})
			f := newFake(t, byPassword, func(_ *ssh.ServerConn, channels <-chan ssh.NewChannel) {
				for c := range channels {
					_, requests, err := c.Accept()
					if err != nil {
						return
					}
					for r := range requests {
						if r.Type == "exec" {
							_ = r.Reply(true, nil)
							<-release
						}
					}
				}
			})
			defer close(release)
			conn, err := f.dial(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			client, err := f.signIn(t.Context(), conn, latchkey.CredentialValues{Username: "bot", Password: latchkey.NewSecret(fakePassword)})
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if tt.cancel {
				cancel()
			}
			_, err = runRemote(ctx, client, remote{
				life: tt.life, run: "run_x", command: []string{"/bin/true"}, env: []string{"A=b"}, stdout: &head{limit: 10}, stderr: &head{limit: 10},
			})
			if !errors.Is(err, tt.want) {
				t.Errorf("a silent server: %v; want %v", err, tt.want)
			}
		})
	}
}

// TestServersTexts: what an SSH server says is shown without the password, and
// without characters that steer a terminal.
func TestServersTexts(t *testing.T) {
	near, far := net.Pipe()
	defer near.Close()
	defer far.Close()
	a := &signIn{
		server: &sshServer{Name: "fake"}, conn: &watchedConn{Conn: near}, user: "bot\x1b]0;x\a", password: latchkey.NewSecret(fakePassword), known: true, sent: true,
	}
	r := failed(latchkey.RunErrLost, a.failure(errors.New("ssh: disconnect, reason 2: not "+fakePassword+" \x1b[2J\u009b1m\u202e")))
	if m := r.Error.Message; strings.Contains(m, fakePassword) || strings.ContainsFunc(m, func(r rune) bool { return unicode.IsControl(r) || r == '\u202e' }) || !strings.Contains(m, "reason 2: not "+mask) {
		t.Errorf("the server's text is shown as %q; want it without the password and control characters", m)
	}
	a.conn.err = errors.New("read " + fakePassword)
	if m := a.failure(errors.New("x")).Error(); strings.Contains(m, fakePassword) {
		t.Errorf("the error of reading is shown as %q; want it without the password", m)
	}
}

// TestCancelledSignIn cancels a run while it signs in: the refusal is reported all
// the same, or attempts could be made that count for nothing.
func TestCancelledSignIn(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	f := newFake(t, func(f *fakeServer, c *ssh.ServerConfig) {
		c.PasswordCallback = func(_ ssh.ConnMetadata, p []byte) (*ssh.Permissions, error) {
			cancel(errCancelled)
			return nil, f.give(string(p))
		}
	}, nil)
	conn, err := f.dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.signIn(ctx, conn, latchkey.CredentialValues{Username: "bot", Password: latchkey.NewSecret("wrong-one")}); codeOf(err) != latchkey.RunErrSignIn {
		t.Errorf("sign-in of a cancelled run: %v; want %s", err, latchkey.RunErrSignIn)
	}
}

// TestRemoteEndsEarly runs a flow at a server that ends every command before it
// has read the script: what the server says counts, not that it does not read.
func TestRemoteEndsEarly(t *testing.T) {
	const warning = "WARNING: Your password has expired.\n"
	f := newFake(t, byPassword, func(_ *ssh.ServerConn, channels <-chan ssh.NewChannel) {
		for c := range channels {
			ch, requests, err := c.Accept()
			if err != nil {
				return
			}
			if r, ok := <-requests; ok {
				_ = r.Reply(true, nil) // without these, the run ends otherwise than expected
				_, _ = ch.Stderr().Write([]byte(warning))
				_, _ = ch.SendRequest("exit-status", false, ssh.Marshal(struct{ Status uint32 }{1}))
			}
			_ = ch.Close()
			ssh.DiscardRequests(requests)
		}
	})
	conn, err := f.dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	client, err := f.signIn(t.Context(), conn, latchkey.CredentialValues{Username: "bot", Password: latchkey.NewSecret(fakePassword)})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	// More than the window of a channel, so that the agent still writes when the end comes.
	large := "LARGE=" + strings.Repeat("x", 8<<20)
	code, err := runRemote(t.Context(), client, remote{life: usualSigns, run: "run_x", command: []string{"/bin/true"}, env: []string{large}, stdout: io.Discard, stderr: io.Discard})
	if n, ok := errors.AsType[*notBegun](err); !ok || code != 1 || n.complaint != warning {
		t.Errorf("runRemote = %d, %+v; want 1, that the flow did not begin, and the server's warning", code, err)
	}
}

package agent

import (
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"

	"golang.org/x/crypto/ssh"
)

const fakePassword = "correct horse"

// A fakeServer is an SSH server in this process, for what OpenSSH does not do.
// It says no after how many passwords it was given.
type fakeServer struct {
	*sshServer
	listener net.Listener
	work     sync.WaitGroup

	mu    sync.Mutex
	given []string // passwords, in every way; guarded by mu
	conns []net.Conn
}

func newHostKey(t testing.TB) ssh.Signer {
	t.Helper()
	_, priv, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(priv)
	if err != nil {
		t.Fatal(err)
	}
	return signer
}

// newFake starts a server. configure says how it authenticates; session, which
// may be nil, serves an authenticated connection.
func newFake(t *testing.T, configure func(*fakeServer, *ssh.ServerConfig), session func(*ssh.ServerConn, <-chan ssh.NewChannel)) *fakeServer {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	key := newHostKey(t)
	f := &fakeServer{listener: listener, sshServer: &sshServer{
		Name: "fake", Address: listener.Addr().String(), HostKeys: []string{string(ssh.MarshalAuthorizedKey(key.PublicKey()))}, Commands: []string{"/*"},
	}}
	f.HostKeys[0] = strings.TrimSpace(f.HostKeys[0])
	if err := f.check(); err != nil {
		t.Fatal(err)
	}
	config := &ssh.ServerConfig{MaxAuthTries: 10}
	config.AddHostKey(key)
	configure(f, config)
	f.work.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			f.mu.Lock()
			f.conns = append(f.conns, conn)
			f.mu.Unlock()
			f.work.Go(func() {
				defer conn.Close()
				c, channels, requests, err := ssh.NewServerConn(conn, config)
				if err != nil {
					return
				}
				f.work.Go(func() { ssh.DiscardRequests(requests) })
				if session != nil {
					session(c, channels)
				}
				_ = c.Wait() // how it ends does not matter
			})
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		f.mu.Lock()
		for _, c := range f.conns {
			_ = c.Close()
		}
		f.mu.Unlock()
		f.work.Wait()
	})
	return f
}

// give notes a password and says whether it is the right one.
func (f *fakeServer) give(password string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.given = append(f.given, password)
	if password != fakePassword {
		return errors.New("wrong")
	}
	return nil
}

func (f *fakeServer) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.given)
}

// byPassword lets clients in with the password.
func byPassword(f *fakeServer, c *ssh.ServerConfig) {
	c.PasswordCallback = func(_ ssh.ConnMetadata, p []byte) (*ssh.Permissions, error) { return nil, f.give(string(p)) }
}

// asking asks for one thing after the other; the first is the password.
func asking(questions []string, echo bool) func(*fakeServer, *ssh.ServerConfig) {
	return func(f *fakeServer, c *ssh.ServerConfig) {
		c.KeyboardInteractiveCallback = func(_ ssh.ConnMetadata, ask ssh.KeyboardInteractiveChallenge) (*ssh.Permissions, error) {
			for _, q := range questions {
				answers, err := ask("", "", []string{q}, []bool{echo})
				if err != nil {
					return nil, err
				}
				if err := f.give(answers[0]); err != nil && len(questions) == 1 {
					return nil, err
				}
			}
			return nil, nil
		}
	}
}

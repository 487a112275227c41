package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"latchkey.dev/latchkey"
)

const (
	sshDialTime   = 15 * time.Second
	sshSignInTime = 45 * time.Second // servers wait a while before they say that a password is wrong
	maxServerText = 500              // bytes of what an SSH server says that are shown
)

// A runError is why a run failed, with the code that its report has.
type runError struct {
	code string
	msg  string
}

func (e *runError) Error() string { return e.msg }

func failure(code, format string, args ...any) *runError {
	return &runError{code, fmt.Sprintf(format, args...)}
}

// dial connects to the server, before anything is released for it.
func (s *sshServer) dial(ctx context.Context) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, sshDialTime)
	defer cancel()
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", s.Address)
	if err != nil {
		return nil, failure(latchkey.RunErrUnreachable, "the SSH server %s was not reached: %v; see that it runs, and the address in the machine's policy file", s.Name, err)
	}
	return conn, nil
}

// A signIn is one attempt to sign in. The library calls its methods one after
// the other, but for banner.
type signIn struct {
	server   *sshServer
	conn     *watchedConn
	user     string
	password latchkey.Secret

	known    bool // the host key is the server's
	stranger ssh.PublicKey
	sent     bool   // the password has been sent
	refused  bool   // the server has said no to it
	more     bool   // the server wants something else as well
	question string // that it asked in place of the password or after it

	mu    sync.Mutex
	texts []string // what the server has said to people; guarded by mu
	after int      // how many of them it had said when the password was sent; guarded by mu
}

// A watchedConn remembers that nothing more can be read from it: the library
// takes that for a refusal.
type watchedConn struct {
	net.Conn

	mu  sync.Mutex
	err error // guarded by mu
}

// Read implements [io.Reader].
func (c *watchedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if err != nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.err = errors.Join(c.err, err)
	}
	return n, err
}

// failure returns why nothing more can be read, or nil.
func (c *watchedConn) failure() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Reasons by which an attempt ends itself.
var (
	errHostKey  = errors.New("another host key")
	errNoMethod = errors.New("no method")
	errOnce     = errors.New("the password is sent once")
)

// signIn signs in on a connection, which it closes if that fails. The password
// is sent at most once, by one method: each attempt counts at the server, and
// some lock the account after a few.
func (s *sshServer) signIn(ctx context.Context, conn net.Conn, v latchkey.CredentialValues) (*ssh.Client, error) {
	algorithms, err := s.algorithms()
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	watched := &watchedConn{Conn: conn}
	a := &signIn{server: s, conn: watched, user: v.Username, password: v.Password}
	defer context.AfterFunc(ctx, func() {
		// Who cancels a run must not hide how its attempt ends: it counts.
		if !errors.Is(context.Cause(ctx), errCancelled) {
			_ = conn.Close()
		}
	})()
	if err := conn.SetDeadline(time.Now().Add(sshSignInTime)); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	c, channels, requests, err := ssh.NewClientConn(watched, s.Address, &ssh.ClientConfig{
		User: v.Username, ClientVersion: "SSH-2.0-Latchkey", HostKeyAlgorithms: algorithms,
		HostKeyCallback: a.hostKey, AuthCallback: a.method, BannerCallback: a.banner,
	})
	if err == nil {
		err = conn.SetDeadline(time.Time{})
	}
	if err != nil {
		_ = conn.Close() // the failure is err
		return nil, a.failure(err)
	}
	return ssh.NewClient(c, channels, requests), nil
}

func (a *signIn) hostKey(_ string, _ net.Addr, key ssh.PublicKey) error {
	if !a.server.knows(key) {
		a.stranger = key
		return errHostKey
	}
	a.known = true
	return nil
}

// method chooses the one method by which the password is sent.
func (a *signIn) method(c *ssh.ClientAuthContext) (ssh.AuthMethod, error) {
	if len(c.PartialSuccessMethods) > 0 {
		a.more = true
		return nil, errOnce
	}
	if len(c.TriedMethods) > 1 { // the first is "none", which every client tries
		a.refused = a.sent && a.conn.failure() == nil
		return nil, errOnce
	}
	for _, m := range c.AllowedMethods {
		if m == "password" {
			return ssh.PasswordCallback(a.give), nil
		}
	}
	for _, m := range c.AllowedMethods {
		if m == "keyboard-interactive" {
			return ssh.KeyboardInteractive(a.answer), nil
		}
	}
	return nil, errNoMethod
}

// give returns the password, once.
func (a *signIn) give() (string, error) {
	if a.sent {
		return "", errOnce
	}
	a.sent = true
	a.mu.Lock()
	a.after = len(a.texts)
	a.mu.Unlock()
	return a.password.Reveal(), nil
}

// answer answers the server's question for the password, and no other one.
func (a *signIn) answer(name, instruction string, questions []string, echos []bool) ([]string, error) {
	for _, text := range []string{name, instruction} {
		_ = a.banner(text) // never fails
	}
	switch {
	case len(questions) == 0:
		return nil, nil
	case a.sent || len(questions) != 1 || echos[0]:
		a.question = strings.Join(questions, " ")
		return nil, errOnce
	}
	p, err := a.give()
	return []string{p}, err
}

// banner keeps what the server says to people.
func (a *signIn) banner(text string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if text = strings.TrimSpace(text); text != "" && len(a.texts) < 10 {
		a.texts = append(a.texts, text)
	}
	return nil
}

// said returns what the server has said, as the end of a sentence. all is what it
// said before the password was sent, too.
func (a *signIn) said(all bool) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	texts := a.texts
	if !all {
		texts = texts[min(a.after, len(texts)):]
	}
	if len(texts) == 0 {
		return ""
	}
	return "; it says: " + serverText(strings.Join(texts, " "), a.password)
}

// serverText returns what an SSH server has said on one line, without the
// password.
func serverText(text string, password latchkey.Secret) string {
	m := newMasker(maskPatterns(password.Reveal()))
	masked := string(m.write([]byte(text))) // the result is good until the next call
	text = strings.Join(strings.Fields(masked+string(m.flush())), " ")
	if len(text) > maxServerText {
		text = text[:maxServerText] + "…"
	}
	return clip(text)
}

// failure says why the attempt failed. What is told apart is what a server tells:
// it keeps to itself whether a password is wrong, an account does not exist, or
// is locked.
func (a *signIn) failure(err error) error {
	name := a.server.Name
	var other *ssh.AlgorithmNegotiationError
	switch {
	case a.stranger != nil:
		return failure(latchkey.RunErrHostKey, "the SSH server %s has the host key %s, which the machine's policy file does not name; no password was sent. "+
			"If the server was set up anew, its administrator can confirm the key, and the machine's administrator replaces host_keys; if not, something stands in its place",
			name, ssh.FingerprintSHA256(a.stranger))
	case !a.known && errors.As(err, &other) && other.What == "host key":
		return failure(latchkey.RunErrHostKey, "the SSH server %s has no host key of the kinds that the machine's policy file names; no password was sent. "+
			"If the server was set up anew, its administrator can confirm its key, and the machine's administrator replaces host_keys", name)
	case !a.known:
		return failure(latchkey.RunErrUnreachable, "the SSH server %s was reached, but does not speak SSH with the agent: %s", name, serverText(err.Error(), a.password))
	case asksForChange(a.question), a.sent && strings.Contains(err.Error(), "unexpected message type 60"): // SSH_MSG_USERAUTH_PASSWD_CHANGEREQ, RFC 4252, section 8
		return a.expired()
	case a.more || a.question != "":
		what := ""
		if a.question != "" {
			what = ": " + serverText(a.question, a.password)
		}
		return failure(latchkey.RunErrAccount, "the SSH server %s wants more than a password of %s%s; nothing else can be given to it", name, a.user, what)
	case !a.sent && errors.Is(err, errNoMethod):
		return failure(latchkey.RunErrAccount, "the SSH server %s takes no password from %s; its administrator can allow PasswordAuthentication", name, a.user)
	case a.sent && strings.Contains(a.said(false), "account has expired"): // pam_unix(8)
		return a.notLetIn()
	case a.refused, a.sent && tooMany(err):
		return failure(latchkey.RunErrSignIn, "the SSH server %s refused %s with the password from the vault%s. Either the password is wrong, or there is no such account, or it is locked, which the server does not tell; "+
			"set the right password in the vault, or have the account unlocked. It is not tried again by itself", name, a.user, a.said(false))
	case a.sent && a.said(false) != "":
		return a.notLetIn()
	}
	if gone := a.conn.failure(); gone != nil {
		err = gone
	}
	return failure(latchkey.RunErrLost, "the SSH server %s ended the connection while %s signed in (%s); it may be overloaded, or not let this account in%s", name, a.user, serverText(err.Error(), a.password), a.said(true))
}

// notLetIn is for an account that the server does not let in, whatever the
// password.
func (a *signIn) notLetIn() error {
	return failure(latchkey.RunErrAccount, "the SSH server %s does not let the account %s in, though it did not say that the password is wrong%s", a.server.Name, a.user, a.said(false))
}

func (a *signIn) expired() error { return passwordExpired(a.server.Name, a.user) }

func passwordExpired(server, user string) error {
	return failure(latchkey.RunErrExpired, "the password of %s on the SSH server %s has expired; set a new one there and in the vault", user, server)
}

// tooMany reports whether a server has ended the connection after the password
// since that was one attempt too many: it was wrong.
func tooMany(err error) bool {
	return strings.Contains(err.Error(), "disconnect") && strings.Contains(strings.ToLower(err.Error()), "authentication failures")
}

// asksForChange reports whether a question of a server is for a new password, as
// PAM modules ask it.
func asksForChange(question string) bool {
	q := strings.ToLower(question)
	for _, part := range []string{"new password", "new unix password", "current password", "old password", "expired", "change your password"} {
		if strings.Contains(q, part) {
			return true
		}
	}
	return false
}

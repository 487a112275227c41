package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"latchkey.dev/latchkey"
)

// runOverSSH signs in to the run's SSH server, runs the flow there, and returns
// what to report. A connection test ends after the sign-in.
func (t *task) runOverSSH(ctx context.Context) latchkey.FinishRequest {
	server := t.a.policy.server(t.run.SSHServer) // there, since the policy allows it
	fail := func(err error) latchkey.FinishRequest { return t.notSignedIn(ctx, err) }
	conn, v, err := t.connect(ctx, server)
	if err != nil {
		return fail(err)
	}
	defer conn.Close()
	if err = context.Cause(ctx); err == nil && (handout{connection: v}).expired() {
		err = errors.New("the released credential expired before the agent could sign in")
	}
	if err == nil && v.pair != nil {
		err = errors.New("the driver ssh signs in with a password, and the credential has a certificate")
	}
	if err != nil {
		return fail(err)
	}
	client, err := server.signIn(ctx, conn, v.CredentialValues)
	if err != nil {
		return fail(err)
	}
	defer client.Close()
	t.signedIn <- struct{}{}
	t.log.LogAttrs(ctx, slog.LevelInfo, "signed in", slog.String("sshServer", server.Name))
	s := &sshSession{task: t, server: server, client: client, user: v.Username, password: v.Password}
	r := s.run
	if t.run.Kind == latchkey.RunTest {
		r = s.try
	}
	result := r(ctx)
	result.SignedIn = true
	return result
}

const (
	signInPatience = 30 * time.Second // for other runs that sign in with the same credential
	signInAsks     = 3                // after so many requests the pauses do not grow any more
)

// connect connects to a server and has the credential released.
func (t *task) connect(ctx context.Context, server *sshServer) (conn net.Conn, v named, err error) {
	v, err = t.awaitRelease(ctx, func() (io.Closer, error) {
		conn, err = server.dial(ctx)
		return conn, err
	})
	return conn, v, err
}

// awaitRelease has the connection's credential released for a sign-in, after the
// target was reached, if that can be told. While too many others are signing in
// there with it, it lets go, waits and tries again.
func (t *task) awaitRelease(ctx context.Context, reach func() (io.Closer, error)) (named, error) {
	for begun, attempt := time.Now(), 1; ; attempt++ {
		conn, err := reach()
		if err != nil {
			return named{}, err
		}
		v, err := t.releaseOne(ctx, t.run.Credential)
		if err == nil {
			return v, nil
		}
		_ = conn.Close() // the failure is err
		if !pending(err) || time.Since(begun) > signInPatience || !backoff(ctx, min(attempt, signInAsks)) {
			return named{}, err
		}
	}
}

// pending reports whether a release was refused until others have signed in.
func pending(err error) bool {
	e, ok := errors.AsType[*latchkey.Error](err)
	return ok && e.Code == latchkey.RunErrPending
}

// An sshSession is a run that has signed in to its SSH server.
type sshSession struct {
	*task
	server   *sshServer
	client   *ssh.Client
	user     string
	password latchkey.Secret
}

// run runs the flow.
func (s *sshSession) run(ctx context.Context) latchkey.FinishRequest {
	run := s.task.run
	patterns := maskPatterns(s.password.Reveal())
	stdout, stderr := s.out.writer("stdout", patterns), s.out.writer("stderr", patterns)
	limited, stop := context.WithTimeoutCause(ctx, time.Duration(run.Timeout), errTimedOut)
	defer stop()
	code, err := runRemote(limited, s.client, remote{life: usualSigns, run: run.Run, command: run.Command, env: s.remoteEnv(), stdout: stdout, stderr: stderr})
	s.endOutput(ctx, stdout, stderr)
	if cause := context.Cause(limited); cause != nil {
		r := s.endedBy(cause)
		if err != nil {
			r.Error.Message += "; the SSH server was lost meanwhile, and ends the flow by itself"
		}
		return r
	}
	if err != nil {
		return s.failed(err)
	}
	return exited(code)
}

// try opens a session that does nothing.
func (s *sshSession) try(ctx context.Context) latchkey.FinishRequest {
	limited, stop := context.WithTimeout(ctx, sshSignInTime)
	defer stop()
	code, complaint, err := tryRemote(limited, s.client)
	switch cause := context.Cause(ctx); {
	case cause != nil:
		return s.endedBy(cause)
	case err == nil && code != 0:
		err = &notBegun{complaint: complaint}
	case err == nil:
		return latchkey.FinishRequest{State: latchkey.RunSucceeded}
	}
	return s.failed(err)
}

// failed says why the account's session did not do what it was asked for.
func (s *sshSession) failed(err error) latchkey.FinishRequest {
	if e, ok := errors.AsType[*runError](err); ok {
		return failed(e.code, e)
	}
	n, begun := errors.AsType[*notBegun](err)
	if !begun {
		return failed(latchkey.RunErrLost, fmt.Errorf("the connection to the SSH server %s was lost; what the flow has done till then stays done, and the server ends the rest of it", s.server.Name))
	}
	if complaint := strings.ToLower(n.complaint); strings.Contains(complaint, "password has expired") || strings.Contains(complaint, "password change required") {
		return failed(latchkey.RunErrExpired, passwordExpired(s.server.Name, s.user))
	}
	switch n.step {
	case "missing":
		return failed(latchkey.RunErrStart, fmt.Errorf("there is no program %s on the SSH server %s that %s may run", s.task.run.Command[0], s.server.Name, s.user))
	case "no-folder":
		return failed(latchkey.RunErrStart, fmt.Errorf("%s could not make a folder for the flow on the SSH server %s", s.user, s.server.Name))
	}
	said := ""
	if text := serverText(n.complaint, s.password); text != "" {
		said = "; it says: " + text
	}
	return failed(latchkey.RunErrAccount, fmt.Errorf("%s signed in to the SSH server %s, but cannot run anything there: it needs a shell like sh%s", s.user, s.server.Name, said))
}

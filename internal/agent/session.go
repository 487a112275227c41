package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"latchkey.dev/client"
	"latchkey.dev/latchkey"
)

const (
	renewBefore = 2 * time.Minute  // of a session's end
	maxBackoff  = 30 * time.Second // between attempts to reach the server
	maxAttempts = 3                // to use a session, each with a new one
	maxSkew     = time.Minute      // of the machine's clock before it is complained about
)

// sessions keeps the one live session of the agent. A request holds the lock
// for reading; a new session is opened only when none is under way, since the
// server takes the use of a replaced session for a copy of the machine.
type sessions struct {
	a *Agent

	mu      sync.RWMutex
	current *client.MachineSession // guarded by mu

	polling struct {
		sync.Mutex
		stop    context.CancelFunc // ends the long poll that is under way; guarded by Mutex
		waiting int                // how many wait for its end; guarded by Mutex
	}
}

// use calls f with the live session, and again with a new one when the server
// has ended it, at most maxAttempts times in all.
func (s *sessions) use(ctx context.Context, f func(*client.MachineSession) error) error {
	for attempt := 1; ; attempt++ {
		session, live, err := s.try(f)
		if live && !ended(err) || err != nil && attempt == maxAttempts {
			return err
		}
		if attempt == maxAttempts {
			return &latchkey.Error{Kind: latchkey.ErrUnavailable, Code: "session-short", Msg: "the server opens sessions that end at once"}
		}
		if err := s.renew(ctx, session); err != nil {
			return err
		}
	}
}

// try calls f with the session, if it is live.
func (s *sessions) try(f func(*client.MachineSession) error) (session *client.MachineSession, live bool, err error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	session = s.current
	if live = session != nil && session.Remaining() > renewBefore; live {
		err = f(session)
	}
	return session, live, err
}

// errSessionOver has use open a new session.
var errSessionOver = &latchkey.Error{Kind: latchkey.ErrUnauthenticated, Code: "session-expired", Msg: "the session is not used any more"}

// unanswered reports whether it is not known if the server has got a request.
func unanswered(err error) bool {
	e, ok := errors.AsType[*latchkey.Error](err)
	return ok && (e.Code == client.CodeUnreachable || e.Code == client.CodeUnproven)
}

// forget has the next request open a new session in place of one.
func (s *sessions) forget(session *client.MachineSession) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current == session {
		s.current = nil
	}
}

// ended reports whether the server has ended the session.
func ended(err error) bool {
	e, ok := errors.AsType[*latchkey.Error](err)
	return ok && errors.Is(err, latchkey.ErrUnauthenticated) && (e.Code == "session-expired" || e.Code == "mac-invalid")
}

// renew opens a session in place of old, unless somebody else has.
func (s *sessions) renew(ctx context.Context, old *client.MachineSession) error {
	s.stopPolling(1)
	s.mu.Lock()
	s.stopPolling(-1)
	defer s.mu.Unlock()
	if s.current != old {
		return nil
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	a := s.a
	a.state.Counter++
	if err := a.state.save(a.dir); err != nil {
		return fmt.Errorf("store the session's counter: %w", err)
	}
	// Whether the server has opened a session is not known when its answer is lost:
	// the old one, which it may have replaced, is not used from here on.
	s.current = nil
	session, err := a.server.OpenSession(ctx, a.keys, a.state.ServerKey, &latchkey.SessionRequest{
		Machine: a.state.Machine, Counter: a.state.Counter, OS: platform(), Version: Version(), SharedUID: a.sharedUID, Policy: a.policy.Policy,
	})
	if err != nil {
		return err
	}
	s.current = session
	if skew := session.Skew().Round(time.Second); skew.Abs() > maxSkew {
		a.log.LogAttrs(ctx, slog.LevelWarn, "this machine's clock differs from the server's; set it right. The agent goes by the server's", slog.Duration("ahead", skew))
	}
	a.log.LogAttrs(ctx, slog.LevelInfo, "session opened", slog.String("session", string(session.ID())), slog.Int64("counter", a.state.Counter))
	return nil
}

// poll is use for a request that waits: it is given up when a new session is
// needed.
func (s *sessions) poll(ctx context.Context, f func(context.Context, *client.MachineSession) error) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	return s.use(ctx, func(session *client.MachineSession) error {
		pollCtx, stop := context.WithCancel(ctx)
		defer stop()
		s.polling.Lock()
		s.polling.stop = stop
		if s.polling.waiting > 0 { // since before there was something to stop
			stop()
		}
		s.polling.Unlock()
		return f(pollCtx, session)
	})
}

// stopPolling ends the long poll on behalf of one more, or has one less wait for
// its end.
func (s *sessions) stopPolling(more int) {
	s.polling.Lock()
	defer s.polling.Unlock()
	s.polling.waiting += more
	if more > 0 && s.polling.stop != nil {
		s.polling.stop()
	}
}

// fatal reports whether trying again is of no use: the machine has to be
// enrolled anew.
func fatal(err error) bool {
	e, ok := errors.AsType[*latchkey.Error](err)
	return ok && (e.Code == "quarantined" || e.Code == "machine-unknown" || e.Code == "session-signature")
}

// storageFull reports whether the server says that it cannot record anything.
func storageFull(err error) bool {
	e, ok := errors.AsType[*latchkey.Error](err)
	return ok && e.Code == latchkey.CodeStorageFull
}

// retryable reports whether the server may answer otherwise a little later. That
// the session has ended may be said by anybody between, time and again: it is no
// reason to give up a run.
func retryable(err error) bool {
	return ended(err) || errors.Is(err, latchkey.ErrUnavailable) || errors.Is(err, context.DeadlineExceeded)
}

// backoff waits before the next attempt, longer each time, and returns false
// when ctx ends.
func backoff(ctx context.Context, attempt int) bool {
	wait := min(time.Second<<min(attempt-1, 10), maxBackoff)
	wait = wait/2 + rand.N(wait/2+1)
	select {
	case <-ctx.Done():
		return false
	case <-time.After(wait):
		return true
	}
}

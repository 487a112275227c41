package broker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"latchkey.dev/internal/db"
	"latchkey.dev/internal/seal"
	"latchkey.dev/latchkey"
)

// Times of agents' sessions.
const (
	sessionTTL  = 30 * time.Minute
	sessionSkew = 10 * time.Minute // how far the machine's clock may be off
	// A request of a replaced session may have been under way when it was
	// replaced; one that was made later means that two agents hold the keys.
	sessionGrace = time.Minute
	// requestAge is how old a request may be. Agents date theirs by the server's
	// clock, which they learn when the session opens.
	requestAge   = 2 * time.Minute
	seenInterval = 15 * time.Second // how often it is noted that a machine was heard of
)

// Codes of agents' failures that agents act on.
const (
	codeSessionExpired = "session-expired"
	codeQuarantined    = "quarantined"
)

// An AgentSession is a live session with a machine's agent. Its keys prove the
// requests of the agent and the answers to them; whoever takes requests checks
// the former before it calls an operation with the session.
type AgentSession struct {
	ID      latchkey.SessionID
	Machine latchkey.MachineID
	Keys    *seal.Session
	Expires time.Time

	// Of the request that is made with it.
	Address string    // network address, for the audit log
	At      time.Time // when the agent made it, by the server's clock
	Nonce   []byte
}

// OpenSession opens a session with a machine's agent, and ends the one before.
// The counter of sessions must have grown: otherwise two agents hold the
// machine's keys, and the machine is quarantined.
func (b *Broker) OpenSession(ctx context.Context, req latchkey.SessionRequest, address string) (resp latchkey.SessionResponse, err error) {
	if req.Suite != latchkey.AgentSuite {
		return resp, latchkey.Invalid("suite", "must be %s: the agent and the server are of different versions", latchkey.AgentSuite)
	}
	if err := latchkey.CheckAgent(req.OS, req.Version, req.Policy); err != nil {
		return resp, err
	}
	var m db.Machine
	err = b.db.View(ctx, func(tx *db.Tx) (err error) {
		m, err = tx.Machine(req.Machine)
		return err
	})
	if errors.Is(err, db.ErrNotFound) {
		return resp, machineUnknown()
	}
	if err != nil {
		return resp, err
	}
	now := b.now().UTC().Truncate(time.Millisecond)
	resp = latchkey.SessionResponse{
		Suite: latchkey.AgentSuite, Session: latchkey.SessionID(latchkey.NewID("sess", now)), At: now, ExpiresAt: now.Add(sessionTTL),
	}
	secret, err := seal.AcceptSession(b.serverKey, m.SignKey, m.SealKey, &req, &resp)
	if err != nil {
		return resp, &latchkey.Error{Kind: latchkey.ErrUnauthenticated, Code: "session-signature", Msg: "the machine could not prove its key; enrol it anew", Err: err}
	}
	// An old request that somebody recorded must not quarantine the machine.
	if skew := now.Sub(req.At); skew > sessionSkew || skew < -sessionSkew {
		return resp, &latchkey.Error{Kind: latchkey.ErrConflict, Code: latchkey.CodeClock,
			Msg: fmt.Sprintf("the machine's clock is %s off the server's; set it right", skew.Abs().Round(time.Second))}
	}
	var reason string
	err = b.db.Update(ctx, func(tx *db.Tx) (err error) {
		if m, err = tx.Machine(req.Machine); err != nil {
			return err
		}
		if m.Quarantined {
			return quarantined(m)
		}
		if reason = ""; req.Counter <= m.SessionCounter {
			reason = fmt.Sprintf("its agent opened session %d, but session %d had been opened before: two agents hold its keys, or its state was restored from a copy", req.Counter, m.SessionCounter)
			return nil
		}
		box, err := b.seal(tx, secret, "machine_sessions", "secret", string(resp.Session))
		if err != nil {
			return err
		}
		m.SessionCounter, m.OS, m.AgentVersion, m.SharedUID, m.Policy = req.Counter, req.OS, req.Version, req.SharedUID, req.Policy
		if err := tx.CreateMachineSession(db.MachineSession{ID: resp.Session, Machine: m.ID, Secret: box, ExpiresAt: resp.ExpiresAt}, m); err != nil {
			return err
		}
		o := &op{tx, machineCaller(m, address)}
		return o.record(latchkey.ActMachineSession, machineThing(m), map[string]string{
			"session": string(resp.Session), "counter": fmt.Sprint(req.Counter), "sharedUid": fmt.Sprint(req.SharedUID), "version": req.Version,
		})
	})
	if errors.Is(err, db.ErrNotFound) {
		return resp, machineUnknown()
	}
	if err == nil && reason != "" {
		err = b.quarantine(ctx, m, reason, address)
	}
	if err != nil {
		return latchkey.SessionResponse{}, err
	}
	return resp, nil
}

func machineUnknown() error {
	return &latchkey.Error{Kind: latchkey.ErrUnauthenticated, Code: "machine-unknown", Msg: "the server does not know this machine, or it was removed; enrol it anew"}
}

func quarantined(m db.Machine) error {
	return latchkey.Conflict(codeQuarantined, "the machine %q is quarantined: %s; an environment admin must have it enrolled anew, with new keys", m.Name, m.QuarantineReason)
}

// quarantine keeps a machine from everything until it is enrolled anew, and
// returns the error that its agent sees.
func (b *Broker) quarantine(ctx context.Context, m db.Machine, reason, address string) error {
	m.QuarantineReason = reason
	ctx, cancel := afterwards(ctx)
	defer cancel()
	err := b.db.Update(ctx, func(tx *db.Tx) error {
		if err := tx.QuarantineMachine(m.ID, reason); err != nil {
			return err
		}
		o := &op{tx, machineCaller(m, address)}
		e := o.event(latchkey.ActMachineQuarantine, machineThing(m))
		e.Outcome, e.Code, e.Reason = latchkey.OutcomeFailed, codeQuarantined, reason
		return o.Record(e)
	})
	if err != nil {
		return err
	}
	b.log.LogAttrs(ctx, slog.LevelError, "machine quarantined", slog.String("machine", string(m.ID)), slog.String("reason", reason))
	return quarantined(m)
}

func machineCaller(m db.Machine, address string) latchkey.Caller {
	return latchkey.Caller{ID: latchkey.PrincipalID(m.ID), Kind: latchkey.PrincipalMachine, Name: m.Name, Address: address}
}

// AgentSession returns the keys of a session, so that a request can be checked.
// The session may have ended meanwhile: operations look at that.
func (b *Broker) AgentSession(ctx context.Context, id latchkey.SessionID, address string) (AgentSession, error) {
	if known, ok := b.standing.sessions.Get(id); ok {
		known.Address = address
		return known, nil
	}
	var s db.MachineSession
	err := b.db.View(ctx, func(tx *db.Tx) (err error) {
		s, err = tx.MachineSession(id)
		return err
	})
	if errors.Is(err, db.ErrNotFound) {
		return AgentSession{}, sessionExpired()
	}
	if err != nil {
		return AgentSession{}, err
	}
	secret, err := b.key.Open(s.Secret, "machine_sessions", "secret", string(s.ID))
	if err != nil {
		return AgentSession{}, fmt.Errorf("open session %s: %w", s.ID, err)
	}
	known := AgentSession{ID: s.ID, Machine: s.Machine, Keys: seal.NewSession(secret), Expires: s.ExpiresAt, Address: address}
	b.standing.sessions.Add(id, known)
	return known, nil
}

func sessionExpired() error {
	return &latchkey.Error{Kind: latchkey.ErrUnauthenticated, Code: codeSessionExpired, Msg: "the session has ended; the agent opens a new one by itself"}
}

// errTwoAgents is what newAgentOp returns for a request that was made in a session
// more than sessionGrace after that was replaced.
var errTwoAgents = errors.New("two live sessions")

// An agentOp is an operation of a machine's agent inside its transaction.
type agentOp struct {
	op
	m       db.Machine
	session db.MachineSession
}

// newAgentOp returns the operation of a session's machine, if the session is live.
func newAgentOp(tx *db.Tx, s AgentSession) (*agentOp, error) {
	m, err := tx.Machine(s.Machine)
	if errors.Is(err, db.ErrNotFound) {
		return nil, machineUnknown()
	}
	if err != nil {
		return nil, err
	}
	o := &agentOp{op: op{tx, machineCaller(m, s.Address)}, m: m}
	if m.Quarantined {
		return o, quarantined(m)
	}
	if o.session, err = tx.MachineSession(s.ID); err != nil {
		if errors.Is(err, db.ErrNotFound) {
			err = sessionExpired()
		}
		return o, err
	}
	age := tx.Now.Sub(s.At)
	switch at := o.session.ReplacedAt; {
	case !o.session.ExpiresAt.After(tx.Now), age > requestAge, age < -requestAge:
		// It may be a request that somebody recorded: the agent, if it is the
		// agent's, opens a new session.
		return o, sessionExpired()
	case at != nil && s.At.Sub(*at) > sessionGrace:
		return o, errTwoAgents
	case at != nil:
		return o, sessionExpired()
	}
	return o, nil
}

// agent runs an operation of a session's machine in a transaction.
func (b *Broker) agent(ctx context.Context, s AgentSession, run func(context.Context, func(*db.Tx) error) error, f func(*agentOp) error) error {
	var m db.Machine
	err := run(ctx, func(tx *db.Tx) error {
		o, err := newAgentOp(tx, s)
		if o != nil {
			m = o.m
		}
		if err != nil {
			return err
		}
		return f(o)
	})
	if errors.Is(err, errTwoAgents) {
		return b.quarantine(ctx, m, "a session that had been replaced was used again: two agents hold its keys", s.Address)
	}
	return b.recordRefusal(ctx, err)
}

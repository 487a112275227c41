package broker

import (
	"context"
	"errors"
	"slices"
	"time"

	"latchkey.dev/internal/db"
	"latchkey.dev/latchkey"
)

// claimPoll is how late a run that was queued on another server may be seen.
const claimPoll = 2 * time.Second

// Claim gives the agent of a machine the run that has waited longest for it, or for
// its group as far as the machine may execute it, and waits for one. A run is given out once; a claim whose answer was lost is
// given to the same machine again, as long as it has not been started.
func (b *Broker) Claim(ctx context.Context, s AgentSession, req latchkey.ClaimRequest) (resp latchkey.ClaimResponse, err error) {
	if len(req.Holding) > latchkey.MaxHolding {
		return resp, latchkey.Invalid("holding", "must be at most %d", latchkey.MaxHolding)
	}
	deadline := b.now().Add(min(time.Duration(req.Wait), latchkey.MaxClaimWait))
	news, stop := b.waiting.subscribe(string(s.Machine))
	defer stop()
	for {
		resp, err = b.claimOnce(ctx, s, req)
		left := deadline.Sub(b.now())
		if err != nil || resp.Run != nil || left <= 0 {
			return resp, err
		}
		select {
		case <-ctx.Done():
			return resp, nil // the server stops, or nobody listens: nothing was claimed
		case <-news:
		case <-time.After(min(left, claimPoll)):
		}
	}
}

// claimTries is how often in a row a machine tries to claim a run that another of its
// group has claimed meanwhile, before it waits again.
const claimTries = 10

// claimOnce claims a run if there is one.
func (b *Broker) claimOnce(ctx context.Context, s AgentSession, req latchkey.ClaimRequest) (resp latchkey.ClaimResponse, err error) {
	for range claimTries {
		var lost bool
		if resp, lost, err = b.tryClaim(ctx, s, req); err != nil || !lost {
			return resp, err
		}
	}
	b.waiting.wake(string(s.Machine)) // there may be more
	return resp, nil
}

// tryClaim claims a run if there is one, and reports whether it was lost to another
// machine. What to claim is looked for without writing, so that the machines of a group
// do not wait for each other. It writes only when there is something, or when the
// machine has not been noted as seen for a while.
func (b *Broker) tryClaim(ctx context.Context, s AgentSession, req latchkey.ClaimRequest) (resp latchkey.ClaimResponse, lost bool, err error) {
	idle := false
	var next latchkey.RunID
	err = b.agent(ctx, s, b.db.View, func(o *agentOp) error {
		next = ""
		again, err := o.again(req)
		if err != nil {
			return err
		}
		if again == nil && !o.m.Disabled {
			if next, err = o.nextRun(); err != nil {
				return err
			}
		}
		seen := o.m.LastSeenAt != nil && o.Now.Sub(*o.m.LastSeenAt) < seenInterval
		idle = again == nil && seen && next == ""
		return nil
	})
	if err != nil || idle {
		return resp, false, err
	}
	var ended []latchkey.RunID
	err = b.agent(ctx, s, b.db.Update, func(o *agentOp) error {
		resp, ended, lost = latchkey.ClaimResponse{}, nil, false
		if err := o.MachineSeen(o.m.ID); err != nil {
			return err
		}
		again, err := o.again(req)
		if err != nil {
			return err
		}
		if again != nil {
			resp.Run, err = o.claimed(*again)
			return err
		}
		if o.m.Disabled || next == "" {
			return nil
		}
		r, err := o.Run(next)
		if err != nil {
			return err
		}
		if lost = r.State != latchkey.RunQueued; lost {
			return nil
		}
		skip, d, err := o.judge(r)
		if lost = skip; err != nil || skip {
			return err
		}
		if d.code != "" {
			ended = append(ended, r.ID)
			return o.endRefused(r, d)
		}
		r.Claim = latchkey.ClaimID(latchkey.NewID("claim", o.Now))
		if err := o.ClaimRun(r.ID, o.m.ID, r.Claim); err != nil {
			return err
		}
		r.Machine, r.MachineName, r.SharedUID = o.m.ID, o.m.Name, o.m.SharedUID
		e := o.event(latchkey.ActRunClaim, runThing(r))
		e.Claim, e.Machine = r.Claim, o.m.ID
		if err := o.Record(e); err != nil {
			return err
		}
		resp.Run, err = o.claimed(r)
		return err
	})
	for _, id := range ended {
		b.counts.RunsFinished.Add(1)
		b.waiting.wake(string(id))
		b.waiting.wake(string(s.Machine)) // look for the next run at once
	}
	if resp.Run != nil {
		b.waiting.wake(string(resp.Run.Run))
	}
	return resp, lost, err
}

// again returns a run that the machine has claimed and not started, and that
// the agent does not know of: the answer to its claim was lost.
func (o *agentOp) again(req latchkey.ClaimRequest) (*db.Run, error) {
	runs, err := o.UnstartedClaims(o.m.ID)
	if err != nil {
		return nil, err
	}
	for _, r := range runs {
		if !slices.Contains(req.Holding, r.ID) {
			return &r, nil
		}
	}
	return nil, nil
}

// endRefused fails a run whose owner may no longer do what it does.
func (o *agentOp) endRefused(r db.Run, d denial) error {
	message := d.reason
	if d.remedy != "" {
		message += "; " + d.remedy
	}
	if err := o.FinishRun(r.ID, latchkey.RunFailed, nil, &latchkey.RunError{Code: latchkey.RunErrRefused, Message: message}); err != nil {
		return err
	}
	e := o.event(latchkey.ActRunClaim, runThing(r))
	e.Outcome, e.Code, e.Reason, e.Machine = latchkey.OutcomeDenied, d.code, message, o.m.ID
	return o.Record(e)
}

// claimed returns what the agent is told of a run.
func (o *agentOp) claimed(r db.Run) (*latchkey.ClaimedRun, error) {
	c, err := o.Connection(r.Environment, r.Connection)
	if err != nil {
		return nil, err
	}
	f, err := flowOf(o.Tx, r, c, o.m)
	if err != nil {
		return nil, err
	}
	return &latchkey.ClaimedRun{
		Run: r.ID, Kind: r.Kind, Claim: r.Claim, Environment: r.Environment, FlowName: r.FlowName, Revision: r.Revision, Command: f.Command, Timeout: f.Timeout,
		Driver: c.Driver, SSHServer: c.SSHServer, Handover: f.Handover, Inputs: r.Inputs, Credential: c.Credential, Credentials: f.Credentials,
	}, nil
}

// flowOf returns the revision that a run executes on a machine. A connection test
// executes none: its flow has no command, and asks for the connection's credential
// in the way that a flow without a sign-in could be handed it.
func flowOf(tx *db.Tx, r db.Run, c latchkey.Connection, m db.Machine) (f latchkey.Flow, err error) {
	if r.Kind != latchkey.RunTest {
		return tx.FlowRevision(r.Environment, r.Flow, r.Revision)
	}
	f.Handover = latchkey.HandoverNone
	if c.Driver != latchkey.DriverNone {
		return f, nil
	}
	credential, err := tx.Credential(r.Environment, c.Credential)
	if errors.Is(err, db.ErrNotFound) {
		return f, nil // said by deny
	}
	f.Handover, _ = handoverOf(credential, m.Policy)
	return f, err
}

// claimLost is the answer to a request about a run that is no longer the
// agent's: the agent drops the run.
func claimLost(format string, args ...any) error {
	return latchkey.Conflict("claim-lost", format, args...)
}

// running returns the run of a claim while it is the machine's. It is until it was
// ended, also after its lease: only the server's background work gives runs up.
func (o *agentOp) running(id latchkey.RunID, claim latchkey.ClaimID) (db.Run, error) {
	r, err := o.Run(id)
	switch {
	case errors.Is(err, db.ErrNotFound), err == nil && (r.Machine != o.m.ID || claim == "" || r.Claim != claim):
		return r, claimLost("the run is not claimed by this machine with this claim")
	case err != nil:
		return r, err
	case r.State != latchkey.RunRunning:
		return r, claimLost("the run has ended: %s", r.State)
	}
	return r, nil
}

func status(r db.Run, now time.Time) latchkey.RunStatus {
	return latchkey.RunStatus{Cancel: r.CancelAsked, LeaseExpires: now.Add(latchkey.RunLease)}
}

// StartClaimed notes that the agent is about to start a claimed run. It succeeds
// for one attempt: the agent executes the run only if it does.
func (b *Broker) StartClaimed(ctx context.Context, s AgentSession, id latchkey.RunID, req latchkey.RunRequest) (st latchkey.RunStatus, err error) {
	if len(req.Attempt) > latchkey.MaxAttempt || !db.Storable(req.Attempt) {
		return st, latchkey.Invalid("attempt", "must be at most %d bytes of UTF-8 without NUL", latchkey.MaxAttempt)
	}
	var stopped *latchkey.RunError
	var r db.Run
	err = b.agent(ctx, s, b.db.Update, func(o *agentOp) error {
		var err error
		if r, err = o.running(id, req.Claim); err != nil {
			return err
		}
		if stopped, err = o.stopBeforeStart(r); err != nil || stopped != nil {
			return err
		}
		if err := o.MarkRunStarted(id, req.Attempt); err != nil {
			if errors.Is(err, db.ErrNotFound) {
				err = claimLost("the run has been started before")
			}
			return err
		}
		st = status(r, o.Now)
		return o.ExtendLease(id)
	})
	if err == nil {
		b.waiting.wake(string(id))
		if stopped != nil {
			b.counts.RunsFinished.Add(1)
			return st, claimLost("the run has ended: %s", stopped.Message)
		}
		b.standing.putRun(r)
	}
	return st, err
}

// stopBeforeStart ends a claimed run that was cancelled, or whose machine was
// disabled, before it began, and returns why.
func (o *agentOp) stopBeforeStart(r db.Run) (*latchkey.RunError, error) {
	state, e := latchkey.RunCancelled, &latchkey.RunError{Code: latchkey.RunErrCancelled, Message: "cancelled before it began"}
	switch {
	case r.StartedAt != nil, !r.CancelAsked && !o.m.Disabled:
		return nil, nil
	case !r.CancelAsked:
		state, e = latchkey.RunFailed, &latchkey.RunError{Code: latchkey.RunErrRefused, Message: "the machine was disabled before the run began"}
	}
	if err := o.FinishRun(r.ID, state, nil, e); err != nil {
		return nil, err
	}
	event := o.event(latchkey.ActRunFinish, runThing(r))
	event.Claim, event.Machine, event.Outcome, event.Code, event.Reason = r.Claim, o.m.ID, latchkey.OutcomeFailed, e.Code, e.Message
	return e, o.Record(event)
}

// Heartbeat keeps a claimed run alive and tells the agent whether to cancel it. It
// also notes that the agent has signed in, so that others may.
func (b *Broker) Heartbeat(ctx context.Context, s AgentSession, id latchkey.RunID, req latchkey.RunRequest) (st latchkey.RunStatus, err error) {
	fresh := false
	err = b.agent(ctx, s, b.db.View, func(o *agentOp) error {
		r, err := o.running(id, req.Claim)
		if err != nil {
			return err
		}
		st = latchkey.RunStatus{Cancel: r.CancelAsked, LeaseExpires: *r.LeaseExpires}
		fresh = r.LeaseExpires.Sub(o.Now) > latchkey.RunLease-seenInterval && !req.SignedIn
		return nil
	})
	if err != nil || fresh {
		return st, err
	}
	err = b.agent(ctx, s, b.db.Update, func(o *agentOp) error {
		r, err := o.running(id, req.Claim)
		if err != nil {
			return err
		}
		st = status(r, o.Now)
		if err := o.MachineSeen(o.m.ID); err != nil {
			return err
		}
		if req.SignedIn {
			if err := o.endSignIn(id, true, false); err != nil {
				return err
			}
		}
		return o.ExtendLease(id)
	})
	return st, err
}

// AppendLog adds output to a run's log. Output at an offset that the log has
// passed is known already and is dropped, so that a request can be repeated.
func (b *Broker) AppendLog(ctx context.Context, s AgentSession, id latchkey.RunID, req latchkey.LogRequest) (st latchkey.RunStatus, err error) {
	switch {
	case req.Offset < 0:
		return st, latchkey.Invalid("offset", "must be 0 or more")
	case req.Stream != "stdout" && req.Stream != "stderr":
		return st, latchkey.Invalid("stream", "must be stdout or stderr")
	case len(req.Text) > latchkey.MaxLogChunk:
		return st, latchkey.Invalid("text", "must be at most %d bytes", latchkey.MaxLogChunk)
	case !db.Storable(req.Text):
		return st, latchkey.Invalid("text", "must be valid UTF-8 without NUL")
	}
	err = b.agent(ctx, s, b.db.Update, func(o *agentOp) error {
		r, err := o.running(id, req.Claim)
		if err != nil {
			return err
		}
		st = status(r, o.Now)
		if r.LogTruncated {
			return o.ExtendLease(id) // what comes now is dropped
		}
		if req.Offset > r.LogBytes {
			return latchkey.Conflict("log-gap", "the log ends at offset %d", r.LogBytes)
		}
		if req.Offset < r.LogBytes {
			return o.ExtendLease(id)
		}
		truncated := r.LogBytes+int64(len(req.Text)) > latchkey.MaxLogBytes || r.LogChunks >= latchkey.MaxLogChunks
		text := req.Text
		if truncated {
			text = ""
		}
		return o.AppendLog(r, req.Stream, text, truncated)
	})
	if err == nil {
		b.waiting.wake(string(id))
	}
	return st, err
}

// Finish ends a run. The same claim may say so again.
func (b *Broker) Finish(ctx context.Context, s AgentSession, id latchkey.RunID, req latchkey.FinishRequest) (st latchkey.RunStatus, err error) {
	if err := checkFinish(req); err != nil {
		return st, err
	}
	repeated := false
	err = b.agent(ctx, s, b.db.Update, func(o *agentOp) error {
		r, err := o.running(id, req.Claim)
		if repeated = r.Claim == req.Claim && r.Machine == o.m.ID && r.State == req.State; repeated {
			return nil
		}
		if err != nil {
			return err
		}
		if err := o.FinishRun(id, req.State, req.ExitCode, req.Error); err != nil {
			return err
		}
		if err := o.endSignIn(id, req.SignedIn, refusedAtTarget(req)); err != nil {
			return err
		}
		e := o.event(latchkey.ActRunFinish, runThing(r))
		e.Claim, e.Machine = r.Claim, o.m.ID
		e.Details = map[string]string{"state": string(req.State)}
		if req.State != latchkey.RunSucceeded {
			e.Outcome = latchkey.OutcomeFailed
		}
		if req.Error != nil {
			e.Code, e.Reason = req.Error.Code, req.Error.Message
		}
		return o.Record(e)
	})
	if err == nil && !repeated {
		b.standing.runs.Remove(id)
		b.counts.RunsFinished.Add(1)
		switch {
		case req.SignedIn:
			b.counts.TargetSignIns.Add(1)
		case refusedAtTarget(req):
			b.counts.TargetSignInsRefused.Add(1)
		}
		b.waiting.wake(string(id))
	}
	return st, err
}

func checkFinish(req latchkey.FinishRequest) error {
	if !slices.Contains([]latchkey.RunState{latchkey.RunSucceeded, latchkey.RunFailed, latchkey.RunCancelled, latchkey.RunTimedOut}, req.State) {
		return latchkey.Invalid("state", "must be succeeded, failed, cancelled or timed-out")
	}
	if (req.Error == nil) != (req.State == latchkey.RunSucceeded) {
		return latchkey.Invalid("error", "must be given unless the run succeeded")
	}
	if req.Error != nil && (len(req.Error.Code) > latchkey.MaxName || len(req.Error.Message) > latchkey.MaxRunErrText || !db.Storable(req.Error.Code+req.Error.Message)) {
		return latchkey.Invalid("error", "must have a code of at most %d and a message of at most %d bytes", latchkey.MaxName, latchkey.MaxRunErrText)
	}
	return nil
}

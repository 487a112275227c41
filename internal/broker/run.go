package broker

import (
	"context"
	"fmt"
	"slices"
	"time"

	"latchkey.dev/internal/db"
	"latchkey.dev/latchkey"
)

func runThing(r db.Run) thing {
	if r.Kind == latchkey.RunTest {
		return thing{latchkey.KindRun, r.Environment, string(r.ID), "connection test", latchkey.ActRunRead}
	}
	return thing{latchkey.KindRun, r.Environment, string(r.ID), r.FlowName, latchkey.ActRunRead}
}

// runAccess returns what a principal holds with regard to a run: who owns it and
// who started it have the role owner on it, as long as they have one in its
// environment.
func (o *op) runAccess(p latchkey.PrincipalID, r db.Run) (latchkey.Access, error) {
	access, err := o.Access(p, r.Environment, string(r.ID))
	if (r.Owner == p || r.StartedBy == p) && len(access.Environment) > 0 {
		access.Role = latchkey.RoleOwner
	}
	return access, err
}

// run returns a run if the caller may do action on it.
func (o *op) run(envRef string, id latchkey.RunID, action latchkey.Action) (db.Run, error) {
	e, err := o.environment(envRef)
	if err != nil {
		return db.Run{}, err
	}
	r, err := o.Run(id)
	if err == nil && r.Environment != e.ID {
		err = db.ErrNotFound
	}
	if err != nil {
		return r, o.unseen(err, latchkey.KindRun, e.ID)
	}
	access, err := o.runAccess(o.who.ID, r)
	if err != nil {
		return r, err
	}
	return r, o.decide(access, action, runThing(r))
}

// Run returns a run.
func (b *Broker) Run(ctx context.Context, who latchkey.Caller, env string, id latchkey.RunID) (r latchkey.Run, err error) {
	err = b.view(ctx, who, func(o *op) error {
		d, err := o.run(env, id, latchkey.ActRunRead)
		r = d.Run
		return err
	})
	return r, err
}

// A RunFilter chooses runs of a list; zero fields choose all, but for Kind:
// without one, connection tests are left out.
type RunFilter = db.RunFilter

// Runs lists the runs that the caller may see, newest first.
func (b *Broker) Runs(ctx context.Context, who latchkey.Caller, env string, f RunFilter, page latchkey.PageOptions) (latchkey.Page[latchkey.Run], error) {
	if f.Kind == "" {
		f.Kind = latchkey.RunFlow
	}
	return list(ctx, b, who, env, latchkey.ActRunRead, func(o *op, id latchkey.EnvironmentID, visible db.Visible) (latchkey.Page[latchkey.Run], error) {
		return o.Runs(id, visible, f, page)
	})
}

// StartRun queues a run of a flow's newest revision through a connection. What
// can be known before its machine claims it is refused here already.
func (b *Broker) StartRun(ctx context.Context, who latchkey.Caller, env string, n latchkey.RunCreate) (r latchkey.Run, err error) {
	if err := n.Validate(); err != nil {
		return r, err
	}
	if n.Inputs == nil {
		n.Inputs = map[string]string{}
	}
	queued, err := b.queued(ctx, n.Connection)
	if err != nil {
		return r, err
	}
	var wake target
	err = b.update(ctx, who, func(o *op) error {
		e, flow, err := o.flow(env, n.Flow, latchkey.ActFlowRun)
		if err != nil {
			return asField(err, "flow", "there is no such flow in this environment, or you may not see it")
		}
		_, conn, err := o.connection(string(e.ID), n.Connection, latchkey.ActConnectionUse)
		if err != nil {
			return asField(err, "connection", "there is no such connection in this environment, or you may not see it")
		}
		t, err := o.target(conn.Target)
		if err != nil {
			return err
		}
		run := db.Run{
			Run: latchkey.Run{
				ID: latchkey.RunID(latchkey.NewID("run", o.Now)), Kind: latchkey.RunFlow, Flow: flow.ID, FlowName: flow.Name, Revision: flow.Revision,
				Connection: conn.ID, State: latchkey.RunQueued, Inputs: n.Inputs,
				Owner: conn.Owner, StartedBy: who.ID, QueuedAt: o.Now,
			},
			Environment: e.ID,
		}
		t.place(&run)
		d, err := o.denyStart(run, t)
		if err != nil {
			return err
		}
		if d.code != "" {
			return o.refuseFor(latchkey.ActRunStart, runThing(run), d)
		}
		if queued >= latchkey.MaxQueued {
			return latchkey.Conflict("queue-full", "%d runs wait for the %s already, the most that may; start it when some have ended, see whether it is online, or cancel some", queued, t)
		}
		if err := o.CreateRun(run); err != nil {
			return err
		}
		r, wake = run.Run, t
		return o.record(latchkey.ActRunStart, runThing(run), t.details(map[string]string{
			"flow": string(flow.ID), "revision": fmt.Sprint(flow.Revision), "connection": string(conn.ID),
		}))
	})
	if err == nil {
		b.counts.RunsStarted.Add(1)
		b.wakeAll(wake)
	}
	return r, err
}

// queued returns how many runs wait for the target of a connection. It is asked in
// a transaction of its own: within the one that adds a run, runs that are started
// at the same time would collide. The limit may be passed by as many.
func (b *Broker) queued(ctx context.Context, c latchkey.ConnectionID) (n int, err error) {
	err = b.db.View(ctx, func(tx *db.Tx) (err error) {
		n, err = tx.Queued(c, latchkey.MaxQueued)
		return err
	})
	return n, err
}

// refuseFor is refuse for a denial that was worked out for a run.
func (o *op) refuseFor(action latchkey.Action, t thing, d denial) *refusal {
	err := &latchkey.Error{
		Kind: latchkey.ErrDenied, Code: d.code, Msg: d.reason, Identity: string(d.identity), Check: string(d.check), Remedy: d.remedy,
	}
	if d.remedy != "" {
		err.Msg += "; " + d.remedy
	}
	return o.refuseWith(action, t, err)
}

// CancelRun ends a queued run, or asks the agent of a running one to end it.
func (b *Broker) CancelRun(ctx context.Context, who latchkey.Caller, env string, id latchkey.RunID) (r latchkey.Run, err error) {
	err = b.update(ctx, who, func(o *op) error {
		d, err := o.run(env, id, latchkey.ActRunCancel)
		if err != nil {
			return err
		}
		switch {
		case d.State.Done():
			return latchkey.Conflict("ended", "the run has ended already")
		case d.State == latchkey.RunQueued:
			err = o.FinishRun(id, latchkey.RunCancelled, nil, &latchkey.RunError{Code: latchkey.RunErrCancelled, Message: "cancelled by " + who.Name + " before it began"})
		case !d.CancelAsked:
			err = o.AskCancel(id)
		}
		if err != nil {
			return err
		}
		if d, err = o.Run(id); err != nil {
			return err
		}
		r = d.Run
		return o.record(latchkey.ActRunCancel, runThing(d), nil)
	})
	if err == nil {
		if r.State.Done() {
			b.counts.RunsFinished.Add(1)
		}
		b.waiting.wake(string(id))
	}
	return r, err
}

const (
	logPage  = 200             // chunks of one answer
	logBytes = 256 << 10       // of output in one answer, about: who reads slowly makes the server keep them
	logPoll  = 2 * time.Second // how late output that another server took may be seen
)

// firstBytes returns the first chunks, at least one if there is any, that have
// together about limit bytes.
func firstBytes(chunks []latchkey.LogChunk, limit int) []latchkey.LogChunk {
	total := 0
	for i, c := range chunks {
		if total += len(c.Text); total > limit && i > 0 {
			return slices.Clone(chunks[:i]) // the texts of the others are not kept
		}
	}
	return chunks
}

// RunLog returns a run's output from an offset on. When there is none yet it
// waits for some, for the end of the run, or for the given time.
func (b *Broker) RunLog(ctx context.Context, who latchkey.Caller, env string, id latchkey.RunID, offset int64, wait time.Duration) (l latchkey.RunLog, err error) {
	deadline := b.now().Add(min(wait, latchkey.MaxClaimWait))
	news, stop := b.waiting.subscribe(string(id))
	defer stop()
	for {
		err = b.view(ctx, who, func(o *op) error {
			r, err := o.run(env, id, latchkey.ActRunRead)
			if err != nil {
				return err
			}
			chunks, err := o.Log(id, offset, logPage)
			if err != nil {
				return err
			}
			chunks = firstBytes(chunks, logBytes)
			l = latchkey.RunLog{Chunks: chunks, Next: offset, State: r.State, Truncated: r.LogTruncated}
			if n := len(chunks); n > 0 {
				l.Next = chunks[n-1].Offset + int64(len(chunks[n-1].Text))
			}
			return nil
		})
		left := deadline.Sub(b.now())
		if err != nil || len(l.Chunks) > 0 || l.State.Done() || left <= 0 {
			return l, err
		}
		select {
		case <-ctx.Done():
			return l, nil // the server stops, or nobody listens: there was no news
		case <-news:
		case <-time.After(min(left, logPoll)):
		}
	}
}

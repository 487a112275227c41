package broker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"latchkey.dev/internal/db"
	"latchkey.dev/latchkey"
)

// maxPause is how far apart two rounds may be, by either clock, before agents are
// given time to come back.
const maxPause = 15 * time.Second

// A leaseWatch ends runs whose agents vanished. That an agent was not heard of
// means nothing when it is the server that was away: stopped, suspended, without its
// database or room in it; nor when its clock was set. Then every running run gets a
// new lease first.
type leaseWatch struct {
	b         *Broker
	monotonic func() time.Time // a clock that cannot be set

	wall time.Time // of the round before, by the service's clock
	mono time.Time // and by one that cannot be set; zero unless the round succeeded
}

// round ends the runs that are lost now.
func (w *leaseWatch) round(ctx context.Context) error {
	wall, mono := w.b.now().Round(0), w.monotonic()
	last := *w
	w.mono = time.Time{} // until this round has succeeded
	if w.b.db.Full() {
		return nil // agents are heard of, but it cannot be noted
	}
	step := wall.Sub(last.wall) - mono.Sub(last.mono)
	if last.mono.IsZero() || mono.Sub(last.mono) > maxPause || step.Abs() > maxPause {
		if err := w.b.renewLeases(ctx); err != nil {
			return err
		}
	}
	for range maxBatches {
		more, err := w.b.endLostRuns(ctx)
		if err != nil {
			return err
		}
		if !more {
			break
		}
	}
	w.wall, w.mono = wall, mono
	return nil
}

// renewLeases gives every running run a new lease.
func (b *Broker) renewLeases(ctx context.Context) error {
	var n int64
	err := b.db.Update(ctx, func(tx *db.Tx) (err error) {
		n, err = tx.RenewLeases()
		return err
	})
	if err == nil && n > 0 {
		b.log.LogAttrs(ctx, slog.LevelWarn, "the server was away or its clock was set: agents get time to come back before their runs are given up",
			slog.Int64("runs", n), slog.Duration("lease", latchkey.RunLease))
	}
	return err
}

const (
	lostBatch  = 100 // runs that are ended in one transaction
	maxBatches = 10  // of one round
)

// endLostRuns fails runs whose agent vanished and runs that no machine claimed
// in time, a batch of each, and reports whether there may be more.
func (b *Broker) endLostRuns(ctx context.Context) (more bool, err error) {
	var lost []db.Run
	find := func(tx *db.Tx) (err error) {
		lost, err = tx.LostRuns(tx.Now.Add(-latchkey.QueueLimit), tx.Now.Add(-latchkey.TestQueueLimit), lostBatch)
		return err
	}
	if err := b.db.View(ctx, find); err != nil || len(lost) == 0 {
		return false, err
	}
	err = b.db.Update(ctx, func(tx *db.Tx) error {
		if err := find(tx); err != nil {
			return err
		}
		for _, r := range lost {
			e := latchkey.RunError{Code: latchkey.RunErrAgentLost, Message: "the machine's agent was not heard of for too long; the run may have done part of its work and is not repeated"}
			if r.State == latchkey.RunQueued {
				limit := latchkey.QueueLimit
				if r.Kind == latchkey.RunTest {
					limit = latchkey.TestQueueLimit
				}
				e = latchkey.RunError{Code: latchkey.RunErrQueueTimeout, Message: fmt.Sprintf("no agent claimed the run within %s; see whether the machine is online and free", limit)}
				if r.MachineGroup != "" {
					e.Message = fmt.Sprintf("no machine of the group %q that may execute the run claimed it within %s; see whether they are online and free", r.MachineGroupName, limit)
				}
			}
			if err := tx.FinishRun(r.ID, latchkey.RunFailed, nil, &e); err != nil {
				return err
			}
			if err := tx.EndSignIn(r.ID); err != nil {
				return err
			}
			o := &op{tx, serviceCaller}
			event := o.event(latchkey.ActRunFinish, runThing(r))
			event.Outcome, event.Code, event.Reason, event.Machine = latchkey.OutcomeFailed, e.Code, e.Message, r.Machine
			if err := o.Record(event); err != nil {
				return err
			}
		}
		return nil
	})
	if errors.Is(err, db.ErrNotFound) {
		return true, nil // a run ended meanwhile
	}
	if err != nil {
		return false, err
	}
	for _, r := range lost {
		b.counts.RunsFinished.Add(1)
		if r.State == latchkey.RunQueued {
			b.counts.RunsQueueTimeout.Add(1)
		} else {
			b.counts.RunsAgentLost.Add(1)
		}
		b.waiting.wake(string(r.ID))
	}
	return len(lost) >= lostBatch, nil
}

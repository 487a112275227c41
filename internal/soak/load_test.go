//go:build linux

package soak

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"

	"latchkey.dev/client"
	"latchkey.dev/latchkey"
)

const (
	requestLimit = 10 * time.Second
	followLimit  = 5 * time.Second // how long a client follows its run while things are killed
)

// A shape is what a run does.
type shape struct {
	name   string
	flow   string
	lines  int  // of output, at most
	pause  int  // milliseconds, at most
	code   int  // exit code
	tree   bool // leaves processes behind
	cancel bool // is to be cancelled
	want   latchkey.RunState
}

var shapes = []shape{
	{name: "quick", flow: "none", want: latchkey.RunSucceeded},
	{name: "print", flow: "none", lines: 400, pause: 2000, want: latchkey.RunSucceeded},
	{name: "fail", flow: "none", code: 3, want: latchkey.RunFailed},
	{name: "tree", flow: "none", pause: 2000, tree: true, want: latchkey.RunSucceeded},
	{name: "descriptor", flow: "descriptor", pause: 300, want: latchkey.RunSucceeded},
	{name: "file", flow: "file", pause: 300, tree: true, want: latchkey.RunSucceeded},
	{name: "environment", flow: "environment", pause: 300, lines: 20, want: latchkey.RunSucceeded},
	{name: "quick secret", flow: "file", want: latchkey.RunSucceeded},
	{name: "cancel", flow: "file", pause: 30000, tree: true, cancel: true, want: latchkey.RunCancelled},
	{name: "limit", flow: "limit", pause: 30000, tree: true, want: latchkey.RunTimedOut},
}

// proof is a run that must succeed whatever was before.
var proof = shape{name: "proof", flow: "file", want: latchkey.RunSucceeded}

// A started is a run that a client was told has been queued.
type started struct {
	shape
	run     latchkey.RunID
	machine latchkey.MachineID
	asked   time.Time
	ticket  string
	lines   int

	// What clients were told of it, guarded by world.mu.
	cancelled *latchkey.Run // the answer to cancelling it
	claimed   bool          // it was seen running
	end       *latchkey.Run
}

// anyServer returns the API of a random server.
func (w *world) anyServer() *client.Client { return w.api[rand.IntN(len(w.api))] }

// client starts runs and follows them until stop is closed.
func (w *world) client(stop <-chan struct{}) {
	for {
		select {
		case <-stop:
			return
		case <-time.After(rand.N(60 * time.Millisecond)):
		}
		if s := w.startRun(w.machines[rand.IntN(len(w.machines))], shapes[rand.IntN(len(shapes))]); s != nil {
			w.follow(s)
		}
	}
}

// startRun asks once for a run. It returns nil when that was not acknowledged:
// then the run may exist or not.
func (w *world) startRun(m machine, what shape) *started {
	if m.ssh && what.flow != "limit" {
		what.flow = "none" // nothing is handed to a flow there
	}
	w.mu.Lock()
	w.tickets++
	s := &started{shape: what, machine: m.id, asked: time.Now(), ticket: fmt.Sprintf("%s-%d", w.id, w.tickets)}
	w.mu.Unlock()
	s.lines = rand.IntN(s.shape.lines + 1)
	pause := rand.IntN(s.pause + 1)
	if s.want != latchkey.RunSucceeded {
		pause = s.pause
	}
	inputs := map[string]string{
		"SOAK": w.id, "TICKET": s.ticket, "LINES": strconv.Itoa(s.lines), "PAUSE": strconv.Itoa(pause), "CODE": strconv.Itoa(s.code),
	}
	if s.tree {
		inputs["CHILDREN"] = "1"
	}
	var r latchkey.Run
	err := w.try(func(ctx context.Context) (err error) {
		r, err = w.anyServer().StartRun(ctx, envName, latchkey.RunCreate{Flow: w.flows[s.flow], Connection: m.connection, Inputs: inputs})
		return err
	})
	if err != nil {
		return nil
	}
	s.run = r.ID
	w.mu.Lock()
	defer w.mu.Unlock()
	w.runs[r.ID] = s
	return s
}

// try makes one request. An error that has no excuse is a fault.
func (w *world) try(f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(w.t.Context(), requestLimit)
	defer cancel()
	from := time.Now()
	err := f(ctx)
	if err != nil && !w.excusable(from, err) && !isEnded(err) {
		w.fault("a request failed: %v", err)
	}
	return err
}

// isEnded reports whether a run cannot be cancelled because it has ended.
func isEnded(err error) bool {
	e, ok := errors.AsType[*latchkey.Error](err)
	return ok && e.Code == "ended"
}

// follow looks at a run until it has ended, but not for long while things are
// killed: a run whose agent was killed ends a minute later. Before that there are
// no more runs than clients, however slow the machine is.
func (w *world) follow(s *started) {
	began := time.Now()
	given := func() bool {
		took := time.Since(began)
		return took > patience || took > followLimit && w.killing.Load()
	}
	cancel := time.Now().Add(rand.N(1500 * time.Millisecond))
	wish := s.cancel || rand.IntN(12) == 0
	for ; !given(); time.Sleep(50*time.Millisecond + rand.N(100*time.Millisecond)) {
		if wish && time.Now().After(cancel) {
			wish = w.cancel(s) != nil
		}
		var r latchkey.Run
		err := w.try(func(ctx context.Context) (err error) {
			r, err = w.anyServer().Run(ctx, envName, s.run)
			return err
		})
		if errors.Is(err, latchkey.ErrNotFound) {
			return // a fault by now
		}
		if err == nil {
			w.told(s, r)
			if r.State.Done() {
				return
			}
		}
	}
	if s.cancel && wish {
		_ = w.cancel(s) // else its time limit ends it
	}
}

func (w *world) cancel(s *started) error {
	var r latchkey.Run
	err := w.try(func(ctx context.Context) (err error) {
		r, err = w.anyServer().CancelRun(ctx, envName, s.run)
		return err
	})
	if isEnded(err) {
		return nil
	}
	if err == nil {
		w.mu.Lock()
		s.cancelled = &r
		w.mu.Unlock()
		w.told(s, r)
	}
	return err
}

// told compares what a client was told of a run with what it was told before.
func (w *world) told(s *started, r latchkey.Run) {
	var wrong string
	w.mu.Lock()
	switch {
	case s.end != nil && (r.State != s.end.State || code(r) != code(*s.end)):
		wrong = fmt.Sprintf("was %s and is %s", s.end.State, r.State)
	case s.claimed && r.State == latchkey.RunQueued:
		wrong = "was running and is queued"
	case s.cancelled != nil && !r.CancelAsked && !r.State.Done():
		wrong = "was cancelled and does not say so"
	}
	s.claimed = s.claimed || r.State == latchkey.RunRunning
	if s.end == nil && r.State.Done() {
		s.end = &r
	}
	w.mu.Unlock()
	if wrong != "" {
		w.fault("run %s (%s) %s", s.run, s.name, wrong)
	}
}

// code returns why a run ended.
func code(r latchkey.Run) string {
	if r.Error == nil {
		return ""
	}
	return r.Error.Code
}

// working reports whether every machine has executed a run that was asked for after
// a time, and for which a secret was released.
func (w *world) working(since time.Time) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	done := map[latchkey.MachineID]bool{}
	for _, s := range w.runs {
		if s.asked.After(since) && s.end != nil && s.end.State == latchkey.RunSucceeded && s.end.Releases > 0 {
			done[s.machine] = true
		}
	}
	return len(done) == len(w.machines)
}

// prove has every machine execute a run when nothing is killed any more.
func (w *world) prove() {
	w.t.Helper()
	var runs []*started
	for _, m := range w.machines {
		s := w.startRun(m, proof)
		if s == nil {
			w.t.Fatalf("no run can be started on %s, and everything is up", m.id)
		}
		runs = append(runs, s)
	}
	for _, s := range runs {
		w.eventually("run "+string(s.run)+" has ended", patience, func() bool {
			r, err := w.api[0].Run(w.t.Context(), envName, s.run)
			if err == nil {
				w.told(s, r)
			}
			return err == nil && r.State.Done()
		})
	}
}

// drain waits until every run has ended. One whose agent or server was killed at
// the wrong moment does when its lease has.
func (w *world) drain() {
	w.t.Helper()
	w.eventually("every run has ended", latchkey.RunLease+patience, func() bool {
		time.Sleep(200 * time.Millisecond)
		for _, state := range []latchkey.RunState{latchkey.RunQueued, latchkey.RunRunning} {
			for range w.api[0].Runs(w.t.Context(), envName, client.RunFilter{State: state}) {
				return false // there is one, or the list cannot be had
			}
		}
		return true
	})
}

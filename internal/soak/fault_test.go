//go:build linux

package soak

import (
	"errors"
	"slices"
	"strings"
	"time"

	"latchkey.dev/client"
	"latchkey.dev/latchkey"
)

// maxFaults bounds how many faults of a kind are printed of one world.
const maxFaults = 5

// fault reports a broken promise. Those of one format are of one kind.
func (w *world) fault(format string, args ...any) {
	w.t.Helper()
	w.mu.Lock()
	w.faults[format]++
	n := w.faults[format]
	w.mu.Unlock()
	switch {
	case n <= maxFaults:
		w.t.Errorf(format, args...)
	case n == maxFaults+1:
		w.t.Errorf("and more like that: "+format, args...)
	}
}

// outageGrace is how long after the database came back a connection that broke
// may still be found out.
const outageGrace = 5 * time.Second

// An outage is a time in which requests to the database may fail.
type outage struct{ from, to time.Time } // to is zero while it lasts

// beginOutage notes that the database fails from now on, until the returned
// function is called.
func (w *world) beginOutage() (end func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	i := len(w.outages)
	w.outages = append(w.outages, outage{from: time.Now()})
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.outages[i].to = time.Now().Add(outageGrace)
	}
}

// excused reports whether the database failed at some time between two.
func (w *world) excused(from, to time.Time) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, o := range w.outages {
		if !to.Before(o.from) && (o.to.IsZero() || from.Before(o.to)) {
			return true
		}
	}
	return false
}

// claimGrace is how long after its agent was killed a claim may still be made
// that the agent had asked for.
const claimGrace = 5 * time.Second

// excusedLoss reports whether a run may have ended as it did since its agent was
// killed while it had the run. Nothing else loses one: agents ask again.
func (w *world) excusedLoss(r latchkey.Run) bool {
	i := slices.IndexFunc(w.machines, func(m machine) bool { return m.id == r.Machine })
	if i < 0 || r.ClaimedAt == nil || r.FinishedAt == nil {
		return false
	}
	from := r.ClaimedAt.Add(-claimGrace)
	if code(r) == latchkey.RunErrPending { // others of the agent were signing in, and count until they are lost
		from = from.Add(-latchkey.RunLease - patience)
	}
	return w.agents[i].killedWithin(from, *r.FinishedAt)
}

// A complaint is an error that a program has logged.
type complaint struct {
	who  *process
	at   time.Time
	line string
}

func (w *world) complain(p *process, at time.Time, line string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.complaints = append(w.complaints, complaint{p, at, line})
}

// exited judges the end of a process that nobody killed: only a server may end,
// when it finds no database at its start.
func (w *world) exited(p *process, began time.Time, how string) {
	if strings.HasPrefix(p.name, "server") && w.excused(began, time.Now()) {
		w.counts.add("server found no database")
		return
	}
	w.fault("%s ended by itself: %s; see %s", p.name, how, p.log.Name())
}

// excusable reports whether a request that took from some time until now may
// have failed with err: the server was not there, or it says that the database
// was not.
func (w *world) excusable(from time.Time, err error) bool {
	e, ok := errors.AsType[*latchkey.Error](err)
	if !ok || !errors.Is(err, latchkey.ErrUnavailable) {
		return false
	}
	return e.Code == client.CodeUnreachable || w.excused(from, time.Now())
}

// checkComplaints judges what was logged as an error.
func (w *world) checkComplaints() {
	w.mu.Lock()
	complaints := w.complaints
	w.complaints = nil
	w.mu.Unlock()
	for _, c := range complaints {
		if !w.excused(c.at.Add(-time.Second), c.at) {
			w.fault("%s logged %s", c.who.name, c.line)
		}
	}
}

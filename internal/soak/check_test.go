//go:build linux

package soak

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"latchkey.dev/client"
	"latchkey.dev/latchkey"
)

// An execution is what a run's flow has witnessed.
type execution struct {
	begins, ends int
	ticket       string
	secrets      map[string]string // credential → digest
}

// witnessed returns what the flows have witnessed.
func (w *world) witnessed() map[latchkey.RunID]*execution {
	w.t.Helper()
	b, err := os.ReadFile(w.path("witness"))
	w.must(err)
	all := map[latchkey.RunID]*execution{}
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) < 2 {
			w.fault("a witness that makes no sense: %q", line)
			continue
		}
		run := latchkey.RunID(f[1])
		x := all[run]
		if x == nil {
			x = &execution{secrets: map[string]string{}}
			all[run] = x
		}
		switch {
		case f[0] == "begin" && len(f) == 4:
			x.begins++
			x.ticket = f[2]
		case f[0] == "secret" && len(f) == 4:
			x.secrets[f[2]] = f[3]
		case f[0] == "end" && len(f) == 2:
			x.ends++
		default:
			w.fault("a witness that makes no sense: %q", line)
		}
	}
	return all
}

// A history is what the audit log says of a run.
type history struct {
	started, claimed, finished, cancelled []latchkey.AuditEvent
	releases                              map[latchkey.ReleaseID]*release
}

type release struct{ granted, delivered, failed []latchkey.AuditEvent }

func histories(events []latchkey.AuditEvent) map[latchkey.RunID]*history {
	all := map[latchkey.RunID]*history{}
	for _, e := range events {
		if e.Run == "" || e.Outcome == latchkey.OutcomeDenied {
			continue
		}
		h := all[e.Run]
		if h == nil {
			h = &history{releases: map[latchkey.ReleaseID]*release{}}
			all[e.Run] = h
		}
		r := h.releases[e.Release]
		if r == nil && e.Release != "" {
			r = &release{}
			h.releases[e.Release] = r
		}
		switch e.Action {
		case latchkey.ActRunStart:
			h.started = append(h.started, e)
		case latchkey.ActRunClaim:
			h.claimed = append(h.claimed, e)
		case latchkey.ActRunFinish:
			h.finished = append(h.finished, e)
		case latchkey.ActRunCancel:
			h.cancelled = append(h.cancelled, e)
		case latchkey.ActReleaseGranted:
			r.granted = append(r.granted, e)
		case latchkey.ActReleaseDelivered:
			r.delivered = append(r.delivered, e)
		case latchkey.ActReleaseFailed:
			r.failed = append(r.failed, e)
		}
	}
	return all
}

// check looks whether every promise was kept. Everything is up and no run is
// under way.
func (w *world) check() {
	w.t.Helper()
	ctx, api := w.t.Context(), w.api[0]
	runs := map[latchkey.RunID]latchkey.Run{}
	for r, err := range api.Runs(ctx, envName, client.RunFilter{}) {
		w.must(err)
		runs[r.ID] = r
	}
	var events []latchkey.AuditEvent
	for e, err := range api.Audit(ctx, client.AuditFilter{Oldest: true}) {
		w.must(err)
		events = append(events, e)
	}
	executions, audit := w.witnessed(), histories(events)
	tickets := map[string]latchkey.RunID{}
	for id, r := range runs {
		h := audit[id]
		if h == nil {
			h = &history{}
		}
		w.checkRun(r, executions[id], h)
		if t := r.Inputs["TICKET"]; tickets[t] != "" {
			w.fault("the runs %s and %s were made of one request", id, tickets[t])
		} else {
			tickets[t] = id
		}
	}
	for id, x := range executions {
		if r, ok := runs[id]; !ok {
			w.fault("run %s was executed %d times and does not exist", id, x.begins)
		} else if r.Inputs["TICKET"] != x.ticket {
			w.fault("run %s was executed with the inputs of another: %s", id, x.ticket)
		}
	}
	w.mu.Lock()
	acknowledged := slices.Collect(maps.Values(w.runs))
	w.mu.Unlock()
	for _, s := range acknowledged {
		r, ok := runs[s.run]
		if !ok {
			w.fault("run %s (%s) was acknowledged and does not exist", s.run, s.name)
			continue
		}
		w.told(s, r)
		w.checkStarted(s, r, executions[s.run], audit[s.run])
	}
	for _, m := range w.machines {
		if got, err := api.Machine(ctx, envName, m.id); err != nil || got.Status != latchkey.MachineOnline || got.Running+got.Queued != 0 {
			w.fault("machine %s: %+v, %v; want it online with nothing to do", m.id, got, err)
		}
	}
	w.checkBooks(events)
	w.checkVault()
	w.checkUpkeep()
	w.checkComplaints()
	w.checkMachine()
	w.count(runs, executions, audit)
}

// checkRun compares a run with what its flow has witnessed and with the audit
// log.
func (w *world) checkRun(r latchkey.Run, x *execution, h *history) {
	if x == nil {
		x = &execution{}
	}
	if !r.State.Done() {
		w.fault("run %s is %s", r.ID, r.State)
	}
	if x.begins > 1 {
		w.fault("run %s, %s, was executed %d times", r.ID, r.State, x.begins)
	}
	if r.State == latchkey.RunSucceeded && (x.begins != 1 || x.ends != 1 || r.ExitCode == nil || *r.ExitCode != 0) {
		w.fault("run %s is reported as succeeded, and its flow began %d and ended %d times", r.ID, x.begins, x.ends)
	}
	if x.begins > 0 && r.StartedAt == nil {
		w.fault("run %s was executed and is not on record as begun", r.ID)
	}
	if len(h.started) != 1 || len(h.claimed) > 1 || len(h.finished) > 1 || x.begins > 0 && len(h.claimed) != 1 {
		w.fault("run %s, executed %d times, has %d entries run.start, %d run.claim, %d run.finish in the audit log; want one each at most",
			r.ID, x.begins, len(h.started), len(h.claimed), len(h.finished))
		return
	}
	if len(h.finished) == 0 && r.State != latchkey.RunCancelled {
		w.fault("run %s is %s, and the audit log has no run.finish", r.ID, r.State)
	}
	w.checkReleases(r, x, h)
}

// checkReleases compares what a flow was handed with the releases on record.
func (w *world) checkReleases(r latchkey.Run, x *execution, h *history) {
	granted := map[latchkey.CredentialID]time.Time{} // by delivered releases: the last
	for id, l := range h.releases {
		if len(l.granted) != 1 || len(l.delivered)+len(l.failed) > 1 {
			w.fault("release %s of run %s: %d granted, %d delivered, %d failed", id, r.ID, len(l.granted), len(l.delivered), len(l.failed))
			continue
		}
		g := l.granted[0]
		if len(h.claimed) == 0 || g.Claim == "" || g.Claim != h.claimed[0].Claim || g.Machine != r.Machine {
			w.fault("release %s of run %s was granted for another claim or machine: %+v", id, r.ID, g)
		} else if g.At.Before(h.claimed[0].At) {
			w.fault("release %s of run %s was granted before the claim", id, r.ID)
		}
		if len(h.finished) > 0 && g.At.After(h.finished[0].At) {
			w.fault("release %s of run %s was granted after its end", id, r.ID)
		}
		for _, d := range l.delivered {
			if d.At.Before(g.At) || d.Credential != g.Credential || d.Details["version"] == "" {
				w.fault("release %s of run %s: %+v does not follow from %+v", id, r.ID, d, g)
			}
			if granted[g.Credential].Before(g.At) {
				granted[g.Credential] = g.At
			}
		}
	}
	if r.Releases != len(h.releases) {
		w.fault("run %s has %d releases, and %d are on record", r.ID, r.Releases, len(h.releases))
	}
	for name, digest := range x.secrets {
		s := w.secret(name)
		at, ok := granted[s.credential]
		if !ok {
			w.fault("the flow of run %s had the secret %s, and no release of it is on record", r.ID, name)
			continue
		}
		got := s.index(digest)
		if want := s.newest(at); got < want {
			w.fault("run %s was handed value %d of %s in a release granted at %s, when value %d was current", r.ID, got, name, at.Format(time.RFC3339Nano), want)
		}
	}
	if flow := r.FlowName; r.State == latchkey.RunSucceeded && len(x.secrets) != map[bool]int{true: 0, false: 2}[flow == "none"] {
		w.fault("the flow of run %s, %s, was handed %d secrets", r.ID, flow, len(x.secrets))
	}
}

// checkStarted compares a run with what was asked for.
func (w *world) checkStarted(s *started, r latchkey.Run, x *execution, h *history) {
	w.mu.Lock()
	cancelled := s.cancelled
	w.mu.Unlock()
	if cancelled != nil {
		if !r.CancelAsked && cancelled.State != latchkey.RunCancelled || h == nil || len(h.cancelled) == 0 {
			w.fault("run %s (%s) was cancelled, which is not on record", s.run, s.name)
		}
		if cancelled.State == latchkey.RunCancelled && x != nil {
			w.fault("run %s (%s) was cancelled before it began, and was executed", s.run, s.name)
		}
	}
	switch code := code(r); {
	case r.State == s.want && (code == "" || code != latchkey.RunErrExit || r.ExitCode != nil && *r.ExitCode == s.code):
	case (code == latchkey.RunErrAgentLost || code == latchkey.RunErrPending) && w.excusedLoss(r):
	case code == latchkey.RunErrRelease && w.excused(r.QueuedAt, *r.FinishedAt):
	case r.State == latchkey.RunCancelled && r.CancelAsked, r.State == latchkey.RunCancelled && cancelled != nil:
	case s.cancel && r.State == latchkey.RunTimedOut: // the client gave up cancelling
	case s.cancel && r.State == latchkey.RunSucceeded: // and its pause was over
	default:
		w.fault("run %s (%s) is %s, %+v; want %s", s.run, s.name, r.State, r.Error, s.want)
	}
	if s.lines > 0 && r.State == latchkey.RunSucceeded {
		w.checkOutput(s)
	}
}

// checkOutput compares a run's log with what its flow has printed.
func (w *world) checkOutput(s *started) {
	var got, want strings.Builder
	for offset := int64(0); ; {
		l, err := w.api[0].RunLog(w.t.Context(), envName, s.run, offset, 0)
		if err != nil {
			w.fault("log of run %s: %v", s.run, err)
			return
		}
		for _, c := range l.Chunks {
			got.WriteString(c.Text)
		}
		if len(l.Chunks) == 0 {
			break
		}
		offset = l.Next
	}
	for i := range s.lines {
		fmt.Fprintf(&want, "%s line %d\n", s.ticket, i)
	}
	if got.String() != want.String() {
		w.fault("run %s printed %d bytes, and its log has %d others", s.run, want.Len(), got.Len())
	}
}

// count counts for the summary.
func (w *world) count(runs map[latchkey.RunID]latchkey.Run, executions map[latchkey.RunID]*execution, audit map[latchkey.RunID]*history) {
	n := map[string]int{"runs": len(runs), "executions": len(executions)}
	w.mu.Lock()
	n["acknowledged"] = len(w.runs)
	w.mu.Unlock()
	for _, r := range runs {
		state := string(r.State)
		if code(r) == latchkey.RunErrAgentLost {
			state = "lost"
		}
		n[state]++
		if executions[r.ID] != nil && w.ssh != nil && r.Machine == w.machines[len(w.machines)-1].id {
			n["over SSH"]++
		}
	}
	for _, h := range audit {
		for _, l := range h.releases {
			n["granted"] += len(l.granted)
			n["delivered"] += len(l.delivered)
		}
	}
	n["backups"], n["master keys"] = w.upkeep.taken, w.upkeep.keys
	n["variables and credentials"] = len(w.books.variables) + len(w.books.credentials) + len(w.books.deleted)
	for _, s := range w.secrets {
		n["versions"] += len(s.values)
	}
	w.tally = n
}

// done returns what was counted so far.
func (w *world) done() map[string]int {
	w.counts.Lock()
	defer w.counts.Unlock()
	all := map[string]int{}
	maps.Copy(all, w.tally)
	for kind, n := range w.counts.kills {
		all["killed: "+kind] = n
	}
	return all
}

// checkWork looks whether the round that began with some counts has tested anything:
// where nothing is done no promise is broken.
func (w *world) checkWork(before map[string]int) {
	w.t.Helper()
	least := map[string]int{"backups": 2, "master keys": 1}
	for _, what := range []string{"acknowledged", "executions", "delivered"} {
		least[what] = len(w.machines) + 1 // each has proved in the end that it works
	}
	if w.ssh != nil {
		least["over SSH"] = 2
	}
	for _, kind := range w.kinds() {
		least["killed: "+kind] = 1
	}
	for _, m := range missing(least, before, w.done()) {
		w.fault("the round tests too little: %s", m)
	}
}

// missing says of what there is less than at least so much between two counts.
func missing(least, before, after map[string]int) (all []string) {
	for what, n := range least {
		if got := after[what] - before[what]; got < n {
			all = append(all, fmt.Sprintf("%s %d; want %d at least", what, got, n))
		}
	}
	return all
}

// summary says in a line what was done.
func (w *world) summary() string {
	w.counts.Lock()
	defer w.counts.Unlock()
	var b strings.Builder
	fmt.Fprintf(&b, "%s:", w.name)
	for i, m := range []map[string]int{w.tally, w.counts.kills} {
		fmt.Fprint(&b, []string{"", "; killed or ended:"}[i])
		for j, k := range slices.Sorted(maps.Keys(m)) {
			fmt.Fprint(&b, map[bool]string{true: "", false: ","}[j == 0], " ", k, " ", m[k])
		}
	}
	return b.String()
}

package web

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"latchkey.dev/internal/broker"
	"latchkey.dev/latchkey"
)

const (
	choices  = 200             // of a filter
	logTail  = 64 << 10        // bytes of a run's output that its page begins with
	logWait  = 3 * time.Second // how long the page waits for more, and how late it tells of a new state
	maxParts = 64              // of a log that are read for one answer
)

func (p *Pages) runRoutes() {
	p.inEnvironment("GET /e/{env}/runs", p.runsPage)
	p.inEnvironment("GET /e/{env}/runs/{id}", p.runPage)
	p.inEnvironment("GET /e/{env}/runs/{id}/log", p.runLogPage)
	p.inEnvironment("GET /e/{env}/runs/{id}/output", p.runOutput)
	p.inEnvironment("GET /e/{env}/runs/{id}/cancel", p.cancelPage)
	p.inEnvironment("POST /e/{env}/runs/{id}/cancel", p.cancelRun)
	p.inEnvironment("GET /e/{env}/chosen/{plural}/to/{do}", p.chosenPage)
}

// mayCancel reports whether the person may cancel a run, if it has not ended.
func (v *view) mayCancel(r latchkey.Run) bool {
	role := latchkey.RoleNone
	if (r.Owner == v.who.ID || r.StartedBy == v.who.ID) && v.env.MyRole != "" {
		role = latchkey.RoleOwner
	}
	return !r.State.Done() && v.mayOn(role, latchkey.ActRunCancel)
}

type runsPage struct {
	shell
	List    *list
	Rows    []latchkey.Run
	Filter  form
	Choices runChoices
	May     struct{ Start bool }
}

// runChoices are what runs can be filtered by.
type runChoices struct{ States, Flows, Machines, Connections, Kinds []option }

// runsPage lists runs, newest first, and follows what happens.
func (p *Pages) runsPage(v *view) error {
	page := runsPage{shell: v.shell(v.t("runs.title"), "runs")}
	page.List = v.list("runs", []column{
		{Key: "flow"}, {Key: "state"}, {Key: "machine"}, {Key: "connection", Hidden: true}, {Key: "releases", Number: true},
		{Key: "queued"}, {Key: "took", Number: true}, {Key: "result"},
	}, "state", "flow", "machine", "connection", "kind")
	page.Filter = v.filled()
	f := broker.RunFilter{
		Kind: latchkey.RunKind(v.value("kind")), State: latchkey.RunState(v.value("state")), Flow: latchkey.FlowID(v.value("flow")),
		Connection: latchkey.ConnectionID(v.value("connection")), Machine: latchkey.MachineID(v.value("machine")),
	}
	if f.Kind != latchkey.RunTest {
		f.Kind = latchkey.RunFlow
	}
	rows, err := p.b.Runs(v.r.Context(), v.who, string(v.env.ID), f, page.List.options())
	if err != nil {
		return err
	}
	page.Rows = rows.Items
	page.List.more(rows.Next)
	if v.part() == "" {
		if page.Choices, err = v.runChoices(); err != nil {
			return err
		}
	}
	page.May.Start = len(page.Choices.Flows) > 1
	return v.show("runs", page)
}

// runChoices returns what one may filter runs by. Of very many the first are
// offered; links on their own pages lead to the runs of the others.
func (v *view) runChoices() (c runChoices, err error) {
	ctx, b, env, some := v.r.Context(), v.p.b, string(v.env.ID), latchkey.PageOptions{Limit: choices}
	c.States = []option{{"", v.t("runs.any-state")}}
	for _, s := range []latchkey.RunState{latchkey.RunQueued, latchkey.RunRunning, latchkey.RunSucceeded, latchkey.RunFailed, latchkey.RunTimedOut, latchkey.RunCancelled} {
		c.States = append(c.States, option{string(s), v.t("state." + string(s))})
	}
	c.Kinds = options("", v.t("runs.kind-flow"), "test", v.t("runs.kind-test"))
	c.Flows, c.Machines, c.Connections = options("", v.t("runs.any-flow")), options("", v.t("runs.any-machine")), options("", v.t("runs.any-connection"))
	flows, err := b.Flows(ctx, v.who, env, some)
	if err != nil {
		return c, err
	}
	for _, f := range flows.Items {
		c.Flows = append(c.Flows, option{string(f.ID), f.Name})
	}
	machines, err := b.Machines(ctx, v.who, env, some)
	if err != nil {
		return c, err
	}
	for _, m := range machines.Items {
		c.Machines = append(c.Machines, option{string(m.ID), m.Name})
	}
	connections, err := b.Connections(ctx, v.who, env, some)
	for _, n := range connections.Items {
		c.Connections = append(c.Connections, option{string(n.ID), n.Name})
	}
	return c, err
}

type runPage struct {
	shell
	Run        latchkey.Run
	Connection *latchkey.Connection // nil if one may not see it
	Flow       *latchkey.Flow       // likewise
	Steps      []runStep
	Inputs     []runInput
	Releases   []latchkey.AuditEvent
	Log        runLog
	Remedy     string
	StartedBy  string
	May        struct{ Cancel, Again, Audit bool }
}

// A runStep is one of the states that a run goes through.
type runStep struct {
	Key   string
	State string // done, now, next, failed or skipped
	At    *time.Time
	Count int // of releases
}

type runInput struct{ Name, Value string }

// A runLog is a part of a run's output, and where it goes on.
type runLog struct {
	Path      string // of the run
	Chunks    []latchkey.LogChunk
	Next      int64
	Begin     int64 // offset of the first byte that is shown
	State     string
	Done      bool
	Truncated bool
}

// Skipped reports whether output before what is shown was left out.
func (l runLog) Skipped() bool { return l.Begin > 0 }

// runPage shows a run, and follows it.
func (p *Pages) runPage(v *view) error {
	page, err := v.runDetail()
	if err != nil {
		return err
	}
	r := page.Run
	page.Log = runLog{Path: v.path("runs", string(r.ID)), Begin: max(0, r.LogBytes-logTail), State: phase(r)}
	if err := v.readLog(&page.Log, r.ID, page.Log.Begin, 0, 2*logTail); err != nil {
		return err
	}
	return v.show("run", page)
}

// runDetail returns everything about a run but its output.
func (v *view) runDetail() (page runPage, err error) {
	ctx, b, env := v.r.Context(), v.p.b, string(v.env.ID)
	r, err := b.Run(ctx, v.who, env, latchkey.RunID(v.r.PathValue("id")))
	if err != nil {
		return page, err
	}
	names, err := v.memberNames()
	if err != nil {
		return page, err
	}
	page = runPage{Run: r, Steps: runSteps(r), StartedBy: nameOf(names, r.StartedBy)}
	for name, value := range r.Inputs {
		page.Inputs = append(page.Inputs, runInput{name, value})
	}
	slices.SortFunc(page.Inputs, func(a, b runInput) int { return strings.Compare(a.Name, b.Name) })
	if c, err := b.Connection(ctx, v.who, env, r.Connection); err == nil {
		page.Connection = &c
	}
	if r.Flow != "" {
		if f, err := b.Flow(ctx, v.who, env, r.Flow); err == nil {
			page.Flow = &f
		}
	}
	title := v.t("runs.of-test")
	if r.FlowName != "" {
		title = r.FlowName
	}
	page.shell = v.shell(title, "runs")
	page.May.Cancel = v.mayCancel(r) && !r.CancelAsked
	page.May.Again = r.State.Done() && page.Flow != nil && page.Connection != nil && v.mayOn(page.Flow.MyRole, latchkey.ActFlowRun)
	if page.May.Audit = v.may(latchkey.ActAuditRead); page.May.Audit && r.Releases > 0 {
		events, err := b.Audit(ctx, v.who, broker.AuditFilter{Environment: env, Action: "release.", Run: r.ID}, latchkey.PageOptions{Limit: rowsOfPage})
		if err != nil {
			return page, err
		}
		page.Releases = events.Items
	}
	if r.Error != nil {
		if key := "runs.remedy-" + r.Error.Code; v.locale.has(key) {
			page.Remedy = v.t(key)
		}
	}
	return page, nil
}

// phase names the state of a run in more detail: it changes when something is to be
// shown anew.
func phase(r latchkey.Run) string {
	state := string(r.State)
	switch {
	case r.State != latchkey.RunRunning:
	case r.StartedAt == nil:
		state = "claimed"
	}
	if r.CancelAsked && !r.State.Done() {
		state += "-cancel"
	}
	return state + "-" + strconv.Itoa(r.Releases)
}

// runSteps returns the timeline of a run.
func runSteps(r latchkey.Run) []runStep {
	ended := r.State.Done()
	steps := []runStep{{Key: "queued", State: "done", At: &r.QueuedAt}, {Key: "claimed", At: r.ClaimedAt}, {Key: "released", Count: r.Releases}, {Key: "started", At: r.StartedAt}, {Key: "ended", At: r.FinishedAt}}
	reached := func(done bool) string {
		switch {
		case done:
			return "done"
		case ended:
			return "skipped"
		}
		return "next"
	}
	steps[1].State, steps[2].State, steps[3].State = reached(r.ClaimedAt != nil), reached(r.Releases > 0), reached(r.StartedAt != nil)
	if r.Kind == latchkey.RunTest {
		steps[3].Key = "signed-in"
	}
	last := &steps[4]
	last.State = "next"
	if ended {
		last.Key, last.State = string(r.State), "failed"
		switch r.State {
		case latchkey.RunSucceeded:
			last.State = "done"
		case latchkey.RunCancelled:
			last.State = "skipped"
		}
		return steps
	}
	for i := len(steps) - 1; i >= 0; i-- { // the last that was reached goes on
		if steps[i].State == "done" {
			steps[i].State = "now"
			break
		}
	}
	return steps
}

// readLog adds output to a log from an offset on, about limit bytes at most, after
// waiting for some.
func (v *view) readLog(l *runLog, id latchkey.RunID, offset int64, wait time.Duration, limit int) error {
	l.Next = offset
	total := 0
	for range maxParts {
		part, err := v.p.b.RunLog(v.r.Context(), v.who, string(v.env.ID), id, l.Next, wait)
		if err != nil {
			return err
		}
		if len(l.Chunks) == 0 && len(part.Chunks) > 0 && l.Begin > 0 {
			l.Begin = part.Chunks[0].Offset // of a whole piece
		}
		l.Chunks, l.Truncated, wait = append(l.Chunks, part.Chunks...), part.Truncated, 0
		for _, c := range part.Chunks {
			total += len(c.Text)
		}
		more := part.Next > l.Next
		l.Next = part.Next
		if l.Done = part.State.Done() && !more; !more || total >= limit {
			return nil
		}
	}
	return nil
}

// runLogPage answers the page of a run, which asks again and again, with the output
// that came since, and with what else has changed.
func (p *Pages) runLogPage(v *view) error {
	if err := v.runLogPage(); err != nil {
		// The page asks again, and would show anything else as output.
		p.Fault(v.r.Context(), err)
		v.w.WriteHeader(http.StatusNoContent)
	}
	return nil
}

func (v *view) runLogPage() error {
	id := latchkey.RunID(v.r.PathValue("id"))
	offset, err := strconv.ParseInt(v.value("offset"), 10, 64)
	if err != nil || offset < 0 {
		return latchkey.Invalid("offset", "must be a number of bytes")
	}
	l := runLog{Path: v.path("runs", string(id))}
	if err := v.readLog(&l, id, offset, logWait, logTail); err != nil {
		return err
	}
	page, err := v.runDetail()
	if err != nil {
		return err
	}
	page.Log = l
	page.Log.State = phase(page.Run)
	block := "log-more"
	if page.Log.State != v.value("state") {
		block = "log-more-and-state"
	}
	return v.showPart(http.StatusOK, "run", block, page)
}

// runOutput answers with all of a run's output, as text.
func (p *Pages) runOutput(v *view) error {
	id := latchkey.RunID(v.r.PathValue("id"))
	first, err := p.b.RunLog(v.r.Context(), v.who, string(v.env.ID), id, 0, 0)
	if err != nil {
		return err
	}
	h := v.w.Header()
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("Content-Disposition", `inline; filename="`+url.PathEscape(string(id))+`.log"`)
	var offset int64 = -1
	for part := first; part.Next > offset; { // MaxLogBytes bounds it
		for _, c := range part.Chunks {
			if _, err := v.w.Write([]byte(c.Text)); err != nil {
				return nil // the client is gone
			}
		}
		offset = part.Next
		if part, err = p.b.RunLog(v.r.Context(), v.who, string(v.env.ID), id, offset, 0); err != nil {
			p.Log.WarnContext(v.r.Context(), "a run's output was cut off", "run", id, "err", err)
			return nil // too late for another answer
		}
	}
	return nil
}

type cancelPage struct {
	shell
	Run  latchkey.Run
	Form form
}

// cancelPage asks whether a run is to be cancelled.
func (p *Pages) cancelPage(v *view) error {
	r, err := p.b.Run(v.r.Context(), v.who, string(v.env.ID), latchkey.RunID(v.r.PathValue("id")))
	if err != nil {
		return err
	}
	if !v.mayCancel(r) {
		return v.redirect(v.path("runs", string(r.ID)), "")
	}
	return v.show("run-cancel", cancelPage{shell: v.shell(v.t("runs.cancel-title"), "runs"), Run: r})
}

func (p *Pages) cancelRun(v *view) error {
	id := latchkey.RunID(v.r.PathValue("id"))
	_, err := p.b.CancelRun(v.r.Context(), v.who, string(v.env.ID), id)
	if err == nil {
		return v.redirect(v.path("runs", string(id)), "runs.said-cancelled")
	}
	page := cancelPage{shell: v.shell(v.t("runs.cancel-title"), "runs"), Form: v.filled()}
	status, err := v.refused(&page.Form, err)
	if err != nil {
		return err
	}
	if page.Run, err = p.b.Run(v.r.Context(), v.who, string(v.env.ID), id); err != nil {
		return err
	}
	return v.showWith(status, "run-cancel", page)
}

// commandWords are the pages of a thing that chosenPage leads to.
var commandWords = []string{"edit", "run", "test", "state", "enrol", "share", "dependencies", "delete", "access"}

// chosenPage leads from a command of a list to the page of the one thing that was
// chosen there, and says so when that was none, or several.
func (p *Pages) chosenPage(v *view) error {
	plural, do := v.r.PathValue("plural"), v.r.PathValue("do")
	if !slices.ContainsFunc(sharedKinds, func(k sharedKind) bool { return k.plural == plural }) || !slices.Contains(commandWords, do) {
		return &latchkey.Error{Kind: latchkey.ErrNotFound, Code: "no-such-address", Msg: "there is no such page"}
	}
	if ids := v.r.Form["id"]; len(ids) == 1 && ids[0] != "" {
		http.Redirect(v.w, v.r, v.path(plural, ids[0], do), http.StatusSeeOther)
		return nil
	}
	return v.choose(plural, false)
}

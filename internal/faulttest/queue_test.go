package faulttest

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"latchkey.dev/internal/db"
	"latchkey.dev/internal/latchkeytest"
	"latchkey.dev/latchkey"
)

// open opens the database beside the service.
func (w *world) open(t *testing.T, address string) *sql.DB {
	t.Helper()
	driver := "sqlite"
	if db.IsPostgres(address) {
		driver = "pgx"
	}
	d, err := sql.Open(driver, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return d
}

// copyRuns adds copies of a queued run: n for its machine.
func copyRuns(t *testing.T, d *sql.DB, run latchkey.RunID, from, n int) {
	t.Helper()
	_, err := d.ExecContext(t.Context(), fmt.Sprintf(`WITH RECURSIVE many(n) AS (SELECT %d UNION ALL SELECT n + 1 FROM many WHERE n < %d)
		INSERT INTO runs (id, environment_id, kind, flow_id, revision, connection_id, machine_id, owner_id, started_by, inputs, state, queued_at)
		SELECT r.id || '-' || CAST(100000 + n AS TEXT), environment_id, kind, flow_id, revision, connection_id, machine_id, owner_id, started_by, inputs, state, queued_at
		FROM runs r, many WHERE r.id = '%s'`, from, from+n-1, run))
	if err != nil {
		t.Fatal(err)
	}
}

// TestLongQueue has 10,000 runs wait for a machine.
func TestLongQueue(t *testing.T) {
	latchkeytest.EachDB(t, func(t *testing.T, address string) {
		clock := new(latchkeytest.Clock)
		if address == "" {
			address = t.TempDir() + "/latchkey.db"
		}
		w := newWorld(t, latchkeytest.Options{DatabaseURL: address, Now: clock.Now})
		d := w.open(t, address)
		first := w.Start(t)
		copyRuns(t, d, first.ID, 1, latchkey.MaxQueued-2)

		if _, a := w.startOverHTTP(t); a.status != http.StatusCreated {
			t.Fatalf("starting run %d: %d %s", latchkey.MaxQueued, a.status, a.body)
		}
		_, a := w.startOverHTTP(t)
		wantProblem(t, "starting one more", a, http.StatusConflict, "queue-full", `10000 runs wait for the machine "bot1" already`)

		// Each claim is one of a few rows, in order.
		for i, want := range []string{string(first.ID), string(first.ID) + "-100001", string(first.ID) + "-100002"} {
			run := w.Machine.Claim(t)
			if run == nil || string(run.Run) != want {
				t.Fatalf("claim %d = %+v; want %s", i, run, want)
			}
			w.Machine.Finish(t, run)
		}
		if _, a := w.startOverHTTP(t); a.status != http.StatusCreated {
			t.Errorf("starting a run when some have ended: %d %s", a.status, a.body)
		}

		// Every page of the list comes, and no run twice.
		seen := make(map[latchkey.RunID]bool)
		for after := ""; ; {
			var p latchkey.Page[latchkey.Run]
			a := w.ask(t, "GET", env+"/runs?state=queued&limit=500&after="+after, "")
			if a.status != http.StatusOK || json.Unmarshal(a.body, &p) != nil {
				t.Fatalf("list: %d %.200s", a.status, a.body)
			}
			for _, r := range p.Items {
				if seen[r.ID] {
					t.Fatalf("run %s is on two pages", r.ID)
				}
				seen[r.ID] = true
			}
			if after = p.Next; after == "" {
				break
			}
		}
		if len(seen) != latchkey.MaxQueued-2 {
			t.Errorf("%d queued runs listed; want %d", len(seen), latchkey.MaxQueued-2)
		}
		var m latchkey.Machine
		if a := w.ask(t, "GET", env+"/machines/"+string(w.Machine.ID), ""); json.Unmarshal(a.body, &m) != nil || m.Queued != latchkey.MaxQueued-2 {
			t.Errorf("machine = %s; want %d queued", a.body, latchkey.MaxQueued-2)
		}

		// They end in batches while the service is in use: as many as make a few
		// rounds.
		const rest = 2500
		if _, err := d.ExecContext(t.Context(), `DELETE FROM runs WHERE id > $1`, fmt.Sprintf("%s-%d", first.ID, 100000+rest)); err != nil {
			t.Fatal(err)
		}
		clock.Step(latchkey.QueueLimit + time.Minute)
		deadline := time.Now().Add(latchkeytest.Patience)
		for left := latchkey.MaxQueued; left > 0; {
			if a := w.ask(t, "GET", env+"/machines/"+string(w.Machine.ID), ""); json.Unmarshal(a.body, &m) != nil || a.status != http.StatusOK {
				t.Fatalf("machine while runs end: %d %s", a.status, a.body)
			}
			switch {
			case m.Queued < left:
				left, deadline = m.Queued, time.Now().Add(latchkeytest.Patience)
			case time.Now().After(deadline):
				t.Fatalf("%d runs still wait, and none ended within %v", left, latchkeytest.Patience)
			}
			time.Sleep(50 * time.Millisecond)
		}
		var r latchkey.Run
		a = w.ask(t, "GET", env+"/runs/"+string(first.ID)+"-100500", "")
		if json.Unmarshal(a.body, &r) != nil || r.State != latchkey.RunFailed || r.Error.Code != latchkey.RunErrQueueTimeout || !strings.Contains(r.Error.Message, "no agent claimed the run within 12h0m0s") {
			t.Errorf("run = %s; want failed, queue-timeout", a.body)
		}
	})
}

// A planCase is what the service does with runs, and how the databases may find
// them.
type planCase struct {
	name   string
	do     func(ctx context.Context) error
	sqlite []string // the ways in which SQLite finds runs, but for those by id
	reads  int      // most runs that one statement may have PostgreSQL look at, those that it skips included
}

// TestQueuePlans looks at how the databases carry out the statements that the
// service makes about runs when 9,000 wait for a machine and 20,000 have ended: by
// an index, whose entries they want.
func TestQueuePlans(t *testing.T) {
	latchkeytest.EachDB(t, func(t *testing.T, address string) {
		if address == "" {
			address = t.TempDir() + "/latchkey.db"
		}
		w := newWorld(t, latchkeytest.Options{DatabaseURL: address})
		d := w.open(t, address)
		few := w.fewRuns(t, d)
		first := w.Start(t)
		copyRuns(t, d, first.ID, 1, 10000)
		if _, err := d.ExecContext(t.Context(), `UPDATE runs SET state = 'succeeded' WHERE flow_id = $1`, string(first.Flow)); err != nil {
			t.Fatal(err)
		}
		copyRuns(t, d, first.ID, 20001, 19000)
		if _, err := d.ExecContext(t.Context(), `UPDATE runs SET state = 'queued' WHERE id > $1`, string(first.ID)+"-130000"); err != nil {
			t.Fatal(err)
		}
		e := explainer{d: d, postgres: db.IsPostgres(address)}
		if e.postgres {
			if _, err := d.ExecContext(t.Context(), "VACUUM ANALYZE"); err != nil { // as PostgreSQL does by itself
				t.Fatal(err)
			}
		}
		for _, c := range w.planCases(t, few) {
			t.Run(c.name, func(t *testing.T) {
				found := []string{}
				statements := 0
				// Explained one by one as they come: what they find changes.
				ctx := db.WithTrace(t.Context(), func(query string, args []any) {
					if !ofRuns.MatchString(query) {
						return
					}
					statements++
					if !e.postgres {
						found = append(found, e.sqlite(t, query, args)...)
					} else if n := e.reads(t, query, args); n > c.reads {
						t.Errorf("PostgreSQL looks at %d runs; want at most %d: %s", n, c.reads, query)
					}
				})
				if err := c.do(ctx); err != nil {
					t.Fatal(err)
				}
				if statements == 0 {
					t.Fatal("no statement is about runs")
				}
				slices.Sort(found)
				if diff := cmp.Diff(c.sqlite, slices.Compact(found)); diff != "" && !e.postgres {
					t.Errorf("how SQLite finds runs (-want +got):\n%s", diff)
				}
			})
		}
	})
}

// A rarity is somebody and something that few runs are of, the oldest: a list of
// these that reads others first reads all.
type rarity struct {
	maya       latchkey.Caller
	machine    latchkey.MachineID
	flow       latchkey.FlowID
	connection latchkey.ConnectionID
}

// fewRuns makes two runs that have failed: one of a flow, and a connection test.
func (w *world) fewRuns(t *testing.T, d *sql.DB) (r rarity) {
	t.Helper()
	r.maya, r.machine = w.User(t, "maya", w.Env, latchkey.EnvMaker), w.Service.Machine(t, w.Env, "bot2").ID
	f, err := w.Broker.CreateFlow(t.Context(), w.Admin, w.Env, latchkey.FlowCreate{Name: "rare", Command: []string{latchkeytest.Program}})
	if err != nil {
		t.Fatal(err)
	}
	c, err := w.Broker.CreateConnection(t.Context(), w.Admin, w.Env, latchkey.ConnectionCreate{
		Name: "rare", Target: latchkey.Target{Machine: r.machine}, Driver: latchkey.DriverNone, Credential: w.Credential.ID,
	})
	if err != nil {
		t.Fatal(err)
	}
	r.flow, r.connection = f.ID, c.ID
	if _, err := w.Broker.StartRun(t.Context(), w.Admin, w.Env, latchkey.RunCreate{Flow: f.ID, Connection: c.ID}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Broker.TestConnection(t.Context(), w.Admin, w.Env, c.ID, false, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := d.ExecContext(t.Context(), `UPDATE runs SET state = 'failed', owner_id = $1, started_by = $1`, string(r.maya.ID)); err != nil {
		t.Fatal(err)
	}
	return r
}

// lifeOfRun does with a run what may be done with one.
func (w *world) lifeOfRun(ctx context.Context) error {
	if _, err := w.Broker.StartRun(ctx, w.Admin, w.Env, latchkey.RunCreate{Flow: w.Flow.ID, Connection: w.Connection.ID}); err != nil {
		return err
	}
	resp, err := w.Broker.Claim(ctx, w.Machine.Session(), latchkey.ClaimRequest{})
	if err != nil {
		return err
	}
	run, req := resp.Run, latchkey.RunRequest{Claim: resp.Run.Claim, SignedIn: true}
	release := func(counter int64) error {
		_, err := w.Broker.Release(ctx, w.Machine.Session(), run.Run, latchkey.ReleaseRequest{Claim: run.Claim, Credential: run.Credential, Counter: counter})
		return err
	}
	for _, step := range []func() error{
		func() error { _, err := w.Broker.StartClaimed(ctx, w.Machine.Session(), run.Run, req); return err },
		func() error { return release(1) },
		func() error { return release(2) }, // from memory
		func() error { _, err := w.Broker.Heartbeat(ctx, w.Machine.Session(), run.Run, req); return err },
		func() error {
			_, err := w.Broker.AppendLog(ctx, w.Machine.Session(), run.Run, latchkey.LogRequest{Claim: run.Claim, Stream: "stdout", Text: "x"})
			return err
		},
		func() error { _, err := w.Broker.CancelRun(ctx, w.Admin, w.Env, run.Run); return err },
		func() error {
			_, err := w.Broker.Finish(ctx, w.Machine.Session(), run.Run, latchkey.FinishRequest{Claim: run.Claim, State: latchkey.RunSucceeded})
			return err
		},
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// planCases are what is done with runs again and again, and the lists of them.
func (w *world) planCases(t *testing.T, few rarity) []planCase {
	t.Helper()
	const (
		queue   = "runs_queue (machine_id=?)"
		groups  = "runs_group_queue (group_id=?)"
		running = "runs_running (machine_id=?)"
		leases  = "SCAN runs_leases"  // all that are running
		waiting = "SCAN runs_waiting" // all that are queued
		some    = 200                 // a page of a list
		queued  = latchkey.MaxQueued  // all that wait for a machine
	)
	view := func(f func(tx *db.Tx) error) func(ctx context.Context) error {
		return func(ctx context.Context) error { return w.DB.View(ctx, f) }
	}
	open := func(connections, flows []string) func(ctx context.Context) error {
		return view(func(tx *db.Tx) error {
			_, err := tx.OpenRunsThrough(connections, flows)
			return err
		})
	}
	openOn := view(func(tx *db.Tx) error {
		_, err := tx.OpenRunsOn(w.Machine.ID)
		return err
	})
	list := func(who latchkey.Caller, f db.RunFilter, rest bool) func(ctx context.Context) error {
		return func(ctx context.Context) error {
			var o latchkey.PageOptions
			if rest {
				p, err := w.Broker.Runs(t.Context(), w.Admin, w.Env, db.RunFilter{}, latchkey.PageOptions{Limit: 1})
				if err != nil {
					return err
				}
				o.After = p.Next
			}
			p, err := w.Broker.Runs(ctx, who, w.Env, f, o)
			if err == nil && len(p.Items) == 0 {
				err = errors.New("the list is empty")
			}
			return err
		}
	}
	cases := []planCase{
		{"a run from its start to its end", w.lifeOfRun, []string{groups, queue, running}, queued},
		{"runs that are lost", view(func(tx *db.Tx) error {
			lost, err := tx.LostRuns(tx.Now, tx.Now, 100)
			if err == nil && len(lost) != 100 {
				err = fmt.Errorf("%d runs are lost; want 100", len(lost))
			}
			return err
		}), []string{"runs_leases (lease_expires_at<?)", "runs_waiting (kind=? AND queued_at<?)"}, some},
		{"new leases", func(ctx context.Context) error {
			return w.DB.Update(ctx, func(tx *db.Tx) error {
				_, err := tx.RenewLeases()
				return err
			})
		}, []string{leases}, some},
		{"metrics", view(func(tx *db.Tx) error {
			_, err := tx.Stats()
			return err
		}), []string{leases, waiting}, queued},
		{"load of a machine", func(ctx context.Context) error {
			_, err := w.Broker.Machine(ctx, w.Admin, w.Env, w.Machine.ID)
			return err
		}, []string{queue, running}, queued},
		{"open of a machine", openOn, []string{queue, running}, queued},
		{"open of a connection", open([]string{string(w.Connection.ID)}, nil), []string{leases, waiting}, queued},
		{"open of a flow", open(nil, []string{string(w.Flow.ID)}), []string{leases, waiting}, queued},
		{"open of both", open([]string{string(w.Connection.ID)}, []string{string(w.Flow.ID)}), []string{leases, waiting}, queued},
		{"newest test", func(ctx context.Context) error {
			_, err := w.Broker.ConnectionTest(ctx, w.Admin, w.Env, few.connection, "", 0)
			return err
		}, []string{"runs_tests (connection_id=?)"}, some},
		{"no test", func(ctx context.Context) error {
			if _, err := w.Broker.ConnectionTest(ctx, w.Admin, w.Env, w.Connection.ID, "", 0); !errors.Is(err, latchkey.ErrNotFound) {
				return fmt.Errorf("test of a connection without one: %v; want %w", err, latchkey.ErrNotFound)
			}
			return nil
		}, []string{"runs_tests (connection_id=?)"}, some},
	}
	const (
		failed     = latchkey.RunFailed
		all        = "runs_list (environment_id=? AND kind=?)"
		state      = "runs_state (environment_id=? AND kind=? AND state=?)"
		machine    = "runs_machine (machine_id=? AND environment_id=? AND kind=?)"
		flow       = "runs_flow (flow_id=? AND environment_id=? AND kind=?)"
		connection = "runs_connection (connection_id=? AND environment_id=? AND kind=?)"
		owner      = "runs_owner (owner_id=? AND environment_id=? AND kind=?)"
		starter    = "runs_starter (started_by=? AND environment_id=? AND kind=?)"
	)
	for _, l := range []struct {
		name   string
		who    latchkey.Caller
		filter db.RunFilter
		sqlite []string
	}{
		{"all", w.Admin, db.RunFilter{}, []string{all}},
		{"tests", w.Admin, db.RunFilter{Kind: latchkey.RunTest}, []string{all}},
		{"state", w.Admin, db.RunFilter{State: failed}, []string{state}},
		{"tests by state", w.Admin, db.RunFilter{Kind: latchkey.RunTest, State: failed}, []string{state}},
		{"machine", w.Admin, db.RunFilter{Machine: few.machine}, []string{machine}},
		{"machine and state", w.Admin, db.RunFilter{Machine: few.machine, State: failed}, []string{machine}},
		{"flow", w.Admin, db.RunFilter{Flow: few.flow}, []string{flow}},
		{"flow and state", w.Admin, db.RunFilter{Flow: few.flow, State: failed}, []string{flow}},
		{"connection", w.Admin, db.RunFilter{Connection: few.connection}, []string{connection}},
		{"connection and state", w.Admin, db.RunFilter{Connection: few.connection, State: failed}, []string{connection}},
		{"own", few.maya, db.RunFilter{}, []string{owner, starter}},
		{"own tests", few.maya, db.RunFilter{Kind: latchkey.RunTest}, []string{owner, starter}},
		{"own by state", few.maya, db.RunFilter{State: failed}, []string{owner, starter}},
	} {
		var rest []string
		for _, way := range l.sqlite {
			rest = append(rest, strings.TrimSuffix(way, ")")+" AND id<?)")
		}
		cases = append(cases, planCase{"list/" + l.name, list(l.who, l.filter, false), l.sqlite, some}, planCase{"list/" + l.name + "/rest", list(l.who, l.filter, true), rest, some})
	}
	return cases
}

// ofRuns matches statements about runs.
var ofRuns = regexp.MustCompile(`(?i)\b(FROM|JOIN|UPDATE|INTO) runs\b`)

// An explainer asks a database how it carries out a statement.
type explainer struct {
	d        *sql.DB
	postgres bool
}

// byRun matches the lines of SQLite's plans that are about runs, or about a sort.
var byRun = regexp.MustCompile(`^(SCAN|SEARCH) (r|runs)\b|TEMP B-TREE FOR.* ORDER BY`)

// plainPlan takes from a line of SQLite's plans what does not matter.
var plainPlan = strings.NewReplacer("SEARCH r ", "", "SEARCH runs ", "", "SCAN r ", "SCAN ", "SCAN runs ", "SCAN ", "USING INDEX ", "", "USING COVERING INDEX ", "")

// sqlite returns the ways in which SQLite finds runs, but for those by id.
func (e explainer) sqlite(t *testing.T, query string, args []any) (found []string) {
	t.Helper()
	for _, line := range e.ask(t, "EXPLAIN QUERY PLAN "+query, args) {
		if byRun.MatchString(line) && !strings.HasSuffix(line, "(id=?)") {
			found = append(found, plainPlan.Replace(line))
		}
	}
	return found
}

// A planNode is a part of a plan of PostgreSQL.
type planNode struct {
	Type      string     `json:"Node Type"`
	Relation  string     `json:"Relation Name"`
	Index     string     `json:"Index Name"`
	Rows      float64    `json:"Actual Rows"`
	Filtered  float64    `json:"Rows Removed by Filter"`
	Rechecked float64    `json:"Rows Removed by Index Recheck"`
	Loops     float64    `json:"Actual Loops"`
	Plans     []planNode `json:"Plans"`
}

// reads returns how many runs PostgreSQL looks at for a query, and fails when it
// reads the whole table for it or for a change.
func (e explainer) reads(t *testing.T, query string, args []any) int {
	t.Helper()
	explain := "EXPLAIN (FORMAT JSON) "
	if strings.HasPrefix(query, "SELECT") {
		explain = "EXPLAIN (ANALYZE, FORMAT JSON) " // which carries it out
	}
	text := strings.Join(e.ask(t, explain+query, args), "\n")
	var plans []struct{ Plan planNode }
	if err := json.Unmarshal([]byte(text), &plans); err != nil || len(plans) != 1 {
		t.Fatalf("plan %s: %v", text, err)
	}
	var sum func(n planNode) float64
	sum = func(n planNode) (rows float64) {
		if n.Relation == "runs" && n.Type == "Seq Scan" {
			t.Errorf("PostgreSQL reads all runs: %s", query)
		}
		if n.Relation == "runs" && n.Type != "Bitmap Heap Scan" || n.Type == "Bitmap Index Scan" && strings.HasPrefix(n.Index, "runs_") {
			rows = (n.Rows + n.Filtered + n.Rechecked) * n.Loops
		}
		for _, p := range n.Plans {
			rows += sum(p)
		}
		return rows
	}
	return int(sum(plans[0].Plan))
}

// ask returns the last column of each row of an answer.
func (e explainer) ask(t *testing.T, query string, args []any) []string {
	t.Helper()
	rows, err := e.d.QueryContext(context.WithoutCancel(t.Context()), query, args...)
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for rows.Next() {
		values := make([]any, len(columns))
		var last string
		for i := range values {
			values[i] = new(any)
		}
		values[len(values)-1] = &last
		if err := rows.Scan(values...); err != nil {
			t.Fatal(err)
		}
		all = append(all, last)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return all
}

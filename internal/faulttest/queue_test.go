package faulttest

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

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

		// They end in batches while the service is in use.
		clock.Step(latchkey.QueueLimit + time.Minute)
		deadline := time.Now().Add(2 * time.Minute)
		for left, slowest := -1, time.Duration(0); left != 0; {
			begin := time.Now()
			if a := w.ask(t, "GET", env+"/machines/"+string(w.Machine.ID), ""); json.Unmarshal(a.body, &m) != nil || a.status != http.StatusOK {
				t.Fatalf("machine while runs end: %d %s", a.status, a.body)
			}
			slowest = max(slowest, time.Since(begin))
			if left = m.Queued; time.Now().After(deadline) {
				t.Fatalf("%d runs still wait two minutes after their time; slowest answer %s", left, slowest)
			}
			select {
			case <-t.Context().Done():
			case <-time.After(50 * time.Millisecond):
			}
		}
		var r latchkey.Run
		a = w.ask(t, "GET", env+"/runs/"+string(first.ID)+"-100500", "")
		if json.Unmarshal(a.body, &r) != nil || r.State != latchkey.RunFailed || r.Error.Code != latchkey.RunErrQueueTimeout || !strings.Contains(r.Error.Message, "no agent claimed the run within 12h0m0s") {
			t.Errorf("run = %s; want failed, queue-timeout", a.body)
		}
	})
}

// TestQueuePlans looks at how the databases find the next run of a machine, the
// runs that are lost, and a page of the list, among 10,000 of them: by an index.
func TestQueuePlans(t *testing.T) {
	latchkeytest.EachDB(t, func(t *testing.T, address string) {
		if address == "" {
			address = t.TempDir() + "/latchkey.db"
		}
		w := newWorld(t, latchkeytest.Options{DatabaseURL: address})
		d := w.open(t, address)
		first := w.Start(t)
		copyRuns(t, d, first.ID, 1, 10000)
		// And 30,000 that have ended, as after a while of use.
		if _, err := d.ExecContext(t.Context(), `UPDATE runs SET state = 'succeeded'`); err != nil {
			t.Fatal(err)
		}
		copyRuns(t, d, first.ID, 20001, 20000)
		if _, err := d.ExecContext(t.Context(), `UPDATE runs SET state = 'queued' WHERE id > $1`, string(first.ID)+"-130000"); err != nil {
			t.Fatal(err)
		}
		explain := "EXPLAIN QUERY PLAN "
		if db.IsPostgres(address) {
			explain = "EXPLAIN "
			if _, err := d.ExecContext(t.Context(), "ANALYZE"); err != nil { // as PostgreSQL does by itself
				t.Fatal(err)
			}
		}
		const from = `SELECT r.id, f.name, m.name FROM runs r LEFT JOIN flows f ON f.id = r.flow_id JOIN machines m ON m.id = r.machine_id WHERE `
		machine := "'" + string(w.Machine.ID) + "'"
		for name, query := range map[string]string{
			"next queued":  from + `r.machine_id = ` + machine + ` AND r.state = 'queued' ORDER BY r.id LIMIT 1`,
			"has queued":   `SELECT 1 FROM runs WHERE machine_id = ` + machine + ` AND state = 'queued' ORDER BY id LIMIT 1`,
			"claims":       from + `r.machine_id = ` + machine + ` AND r.state = 'running' AND r.started_at IS NULL ORDER BY r.id`,
			"lost leases":  from + `r.state = 'running' AND r.lease_expires_at < 1 ORDER BY r.lease_expires_at LIMIT 100`,
			"waited long":  from + `r.state = 'queued' AND r.queued_at < 1 ORDER BY r.queued_at LIMIT 100`,
			"newest":       from + `r.environment_id = '` + string(run(t, w, first.ID)) + `' ORDER BY r.id DESC LIMIT 101`,
			"how many":     `SELECT count(*) FROM (SELECT 1 FROM runs WHERE machine_id = ` + machine + ` AND state = 'queued' LIMIT 10000) AS q`,
			"open of flow": `SELECT count(*) FROM runs WHERE flow_id = '` + string(first.Flow) + `' AND state = 'running'`,
		} {
			plan := strings.Join(lines(t, d, explain+query), "\n")
			// SQLite says SEARCH where it goes by the beginning of an index.
			if scansRuns.MatchString(plan) || !strings.Contains(plan, "runs_") && !db.IsPostgres(address) {
				t.Errorf("%s: the plan reads all runs:\n%s", name, plan)
			}
		}
	})
}

// scansRuns matches the line of a plan that reads every run, or every entry of
// an index of them.
var scansRuns = regexp.MustCompile(`(?m)\bSCAN (r|runs)\b|Seq Scan on runs\b`)

// run returns the environment of a run.
func run(t *testing.T, w *world, id latchkey.RunID) (env latchkey.EnvironmentID) {
	t.Helper()
	err := w.DB.View(t.Context(), func(tx *db.Tx) error {
		r, err := tx.Run(id)
		env = r.Environment
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return env
}

// lines returns the last column of each row of a query.
func lines(t *testing.T, d *sql.DB, query string) (all []string) {
	t.Helper()
	rows, err := d.QueryContext(context.WithoutCancel(t.Context()), query)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		t.Fatal(err)
	}
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

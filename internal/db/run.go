package db

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"latchkey.dev/latchkey"
)

// A Run is a run with what only the service needs.
type Run struct {
	latchkey.Run
	Environment  latchkey.EnvironmentID
	Claim        latchkey.ClaimID // "" while queued
	LeaseExpires *time.Time
	Forced       bool // a test that may try once more what its target has refused
	LogChunks    int  // pieces of output that are kept
}

const runCols = `r.id, r.environment_id, r.kind, COALESCE(r.flow_id, ''), COALESCE(f.name, ''), COALESCE(r.revision, 0), r.connection_id, COALESCE(r.machine_id, ''), COALESCE(m.name, ''), COALESCE(m.shared_uid, FALSE),
	COALESCE(r.group_id, ''), COALESCE(mg.name, ''), r.state, r.error_code, r.error_message,
	r.exit_code, r.inputs, r.owner_id, r.started_by, r.releases, r.queued_at, r.claimed_at, r.started_at, r.finished_at, r.cancel_asked_at IS NOT NULL,
	r.log_bytes, r.log_truncated, r.log_chunks, r.claim_id, r.lease_expires_at, r.forced`

const runFrom = ` FROM runs r LEFT JOIN flows f ON f.id = r.flow_id LEFT JOIN machines m ON m.id = r.machine_id LEFT JOIN machine_groups mg ON mg.id = r.group_id`

func scanRun(s scanner) (r Run, err error) {
	var e latchkey.RunError
	err = s.Scan(&r.ID, &r.Environment, &r.Kind, &r.Flow, &r.FlowName, &r.Revision, &r.Connection, &r.Machine, &r.MachineName, &r.SharedUID,
		&r.MachineGroup, &r.MachineGroupName, &r.State, &e.Code, &e.Message,
		&r.ExitCode, jsonText{&r.Inputs}, &r.Owner, &r.StartedBy, &r.Releases, timestamp{&r.QueuedAt}, nullTime{&r.ClaimedAt}, nullTime{&r.StartedAt},
		nullTime{&r.FinishedAt}, &r.CancelAsked, &r.LogBytes, &r.LogTruncated, &r.LogChunks, &r.Claim, nullTime{&r.LeaseExpires}, &r.Forced)
	if e.Code != "" {
		r.Error = &e
	}
	return r, err
}

// Run returns the run with an id, or ErrNotFound.
func (tx *Tx) Run(id latchkey.RunID) (Run, error) {
	return one(tx, scanRun, `SELECT `+runCols+runFrom+` WHERE r.id = $1`, id)
}

// A RunFilter chooses runs; zero fields choose all.
type RunFilter struct {
	Kind       latchkey.RunKind // without one a list has no index that is in its order
	State      latchkey.RunState
	Flow       latchkey.FlowID
	Connection latchkey.ConnectionID
	Machine    latchkey.MachineID

	MachineGroup latchkey.MachineGroupID
}

// Runs lists an environment's runs, newest first. Unless everything is set
// only those that who owns or has started are listed.
func (tx *Tx) Runs(env latchkey.EnvironmentID, visible Visible, f RunFilter, o latchkey.PageOptions) (latchkey.Page[latchkey.Run], error) {
	list := func(column string) ([]latchkey.Run, error) {
		var w where
		w.add("r.environment_id = ?", env)
		if column != "" {
			w.add(column+" = ?", visible.Who)
		}
		for _, c := range []struct{ column, value string }{
			{"r.kind", string(f.Kind)}, {"r.state", string(f.State)}, {"r.flow_id", string(f.Flow)}, {"r.connection_id", string(f.Connection)}, {"r.machine_id", string(f.Machine)},
			{"r.group_id", string(f.MachineGroup)},
		} {
			if c.value != "" {
				w.add(c.column+" = ?", c.value)
			}
		}
		if o.After != "" {
			_, id := parseCursor(o.After)
			w.add("r.id < ?", id)
		}
		w.args = append(w.args, o.Size()+1)
		return all(tx, func(s scanner) (latchkey.Run, error) {
			r, err := scanRun(s)
			return r.Run, err
		}, `SELECT `+runCols+runFrom+w.String()+` ORDER BY r.id DESC LIMIT `+w.last(), w.args...)
	}
	key := func(r latchkey.Run) (string, string) { return "", string(r.ID) }
	if visible.Everything {
		items, err := list("")
		return page(items, o, key), err
	}
	// One query for each, so that each has its index.
	owned, err := list("r.owner_id")
	if err != nil {
		return page(owned, o, key), err
	}
	started, err := list("r.started_by")
	items := append(owned, started...)
	slices.SortFunc(items, func(a, b latchkey.Run) int { return cmp.Compare(b.ID, a.ID) })
	items = slices.CompactFunc(items, func(a, b latchkey.Run) bool { return a.ID == b.ID })
	return page(items[:min(len(items), o.Size()+1)], o, key), err
}

// CreateRun stores a new queued run.
func (tx *Tx) CreateRun(r Run) error {
	inputs, err := toJSON(r.Inputs)
	if err != nil {
		return err
	}
	var flow, revision any // none of a test
	if r.Kind == latchkey.RunFlow {
		flow, revision = r.Flow, r.Revision
	}
	var machine, group any // one of them
	if r.Machine != "" {
		machine = r.Machine
	}
	if r.MachineGroup != "" {
		group = r.MachineGroup
	}
	_, err = tx.exec(`INSERT INTO runs (id, environment_id, kind, flow_id, revision, connection_id, machine_id, group_id, owner_id, started_by, inputs, forced, state, queued_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, 'queued', $13)`,
		r.ID, r.Environment, r.Kind, flow, revision, r.Connection, machine, group, r.Owner, r.StartedBy, inputs, r.Forced, ms(tx.Now))
	return err
}

// LatestTest returns the newest test of a connection, or ErrNotFound.
func (tx *Tx) LatestTest(id latchkey.ConnectionID) (Run, error) {
	return one(tx, scanRun, `SELECT `+runCols+runFrom+` WHERE r.connection_id = $1 AND r.kind = 'test' ORDER BY r.id DESC LIMIT 1`, id)
}

// NextQueued returns the queued run of a machine alone, not of its group, that has
// waited longest, or ErrNotFound. The order, which is that of the index, has PostgreSQL
// use it also when many runs are queued.
func (tx *Tx) NextQueued(m latchkey.MachineID) (Run, error) {
	return one(tx, scanRun, `SELECT `+runCols+runFrom+` WHERE r.machine_id = $1 AND r.state = 'queued' ORDER BY r.queued_at, r.id LIMIT 1`, m)
}

// GroupQueued returns queued runs of a machine group, those first that have waited
// longest: at most limit of those after one, or from the first on if after is nil.
func (tx *Tx) GroupQueued(g latchkey.MachineGroupID, after *Run, limit int) ([]Run, error) {
	var w where
	w.add("r.group_id = ?", g)
	w.add("r.state = 'queued'")
	if after != nil {
		w.add("(r.queued_at, r.id) > (?, ?)", ms(after.QueuedAt), after.ID)
	}
	w.args = append(w.args, limit)
	return all(tx, scanRun, `SELECT `+runCols+runFrom+w.String()+` ORDER BY r.queued_at, r.id LIMIT `+w.last(), w.args...)
}

// Queued returns how many runs wait for the target of a connection, a machine or a
// group, at most limit.
func (tx *Tx) Queued(c latchkey.ConnectionID, limit int) (int, error) {
	const target = ` = (SELECT target_id FROM connections WHERE id = $1) AND state = 'queued' ORDER BY queued_at, id LIMIT $2) AS q)`
	return one(tx, scanInt, `SELECT (SELECT count(*) FROM (SELECT 1 FROM runs WHERE machine_id`+target+` + (SELECT count(*) FROM (SELECT 1 FROM runs WHERE group_id`+target, c, limit)
}

// UnstartedClaims returns the runs that a machine has claimed but not started.
func (tx *Tx) UnstartedClaims(m latchkey.MachineID) ([]Run, error) {
	return all(tx, scanRun, `SELECT `+runCols+runFrom+` WHERE r.machine_id = $1 AND r.state = 'running' AND r.started_at IS NULL ORDER BY r.id`, m)
}

// ClaimRun gives a queued run to a machine: its own, or one of its group. It returns
// ErrNotFound when the run is queued no longer.
func (tx *Tx) ClaimRun(id latchkey.RunID, m latchkey.MachineID, claim latchkey.ClaimID) error {
	return tx.execOne(`UPDATE runs SET state = 'running', machine_id = $2, claim_id = $3, claimed_at = $4, lease_expires_at = $5 WHERE id = $1 AND state = 'queued'`,
		id, m, claim, ms(tx.Now), ms(tx.Now.Add(latchkey.RunLease)))
}

// MarkRunStarted notes that the agent is about to start a claimed run. It
// returns ErrNotFound when it has been started before by another attempt; "" is
// never the same attempt.
func (tx *Tx) MarkRunStarted(id latchkey.RunID, attempt string) error {
	return tx.execOne(`UPDATE runs SET started_at = COALESCE(started_at, $2), start_attempt = $3
		WHERE id = $1 AND state = 'running' AND (started_at IS NULL OR start_attempt = $3 AND start_attempt <> '')`, id, ms(tx.Now), attempt)
}

// ExtendLease notes that the agent of a run was heard of.
func (tx *Tx) ExtendLease(id latchkey.RunID) error {
	return tx.execOne(`UPDATE runs SET lease_expires_at = $2 WHERE id = $1 AND state = 'running'`, id, ms(tx.Now.Add(latchkey.RunLease)))
}

// RenewLeases gives every running run a new lease, and returns how many there are.
func (tx *Tx) RenewLeases() (int64, error) {
	return tx.exec(`UPDATE runs SET lease_expires_at = $1 WHERE state = 'running'`, ms(tx.Now.Add(latchkey.RunLease)))
}

// AskCancel notes that somebody asked to cancel a run.
func (tx *Tx) AskCancel(id latchkey.RunID) error {
	return tx.execOne(`UPDATE runs SET cancel_asked_at = $2 WHERE id = $1`, id, ms(tx.Now))
}

// FinishRun ends a run that has not ended. It returns ErrNotFound when it has.
func (tx *Tx) FinishRun(id latchkey.RunID, state latchkey.RunState, exitCode *int, e *latchkey.RunError) error {
	if e == nil {
		e = &latchkey.RunError{}
	}
	return tx.execOne(`UPDATE runs SET state = $2, exit_code = $3, error_code = $4, error_message = $5, finished_at = $6, lease_expires_at = NULL
		WHERE id = $1 AND state IN ('queued', 'running')`, id, state, exitCode, e.Code, e.Message, ms(tx.Now))
}

// LostRuns returns running runs whose lease has expired, and queued flows and
// tests that were queued before the given times, at most limit of each.
func (tx *Tx) LostRuns(flowsBefore, testsBefore time.Time, limit int) ([]Run, error) {
	lost, err := all(tx, scanRun, `SELECT `+runCols+runFrom+` WHERE r.state = 'running' AND r.lease_expires_at < $1 ORDER BY r.lease_expires_at LIMIT $2`, ms(tx.Now), limit)
	if err != nil {
		return nil, err
	}
	waited := `SELECT ` + runCols + runFrom + ` WHERE r.state = 'queued' AND r.kind = $1 AND r.queued_at < $2 ORDER BY r.queued_at LIMIT $3`
	flows, err := all(tx, scanRun, waited, latchkey.RunFlow, ms(flowsBefore), limit)
	if err != nil {
		return nil, err
	}
	tests, err := all(tx, scanRun, waited, latchkey.RunTest, ms(testsBefore), limit)
	return slices.Concat(lost, flows, tests), err
}

// OpenRunsThrough returns how many runs have not ended that go through one of some
// connections, or are of one of some flows; each counts once.
func (tx *Tx) OpenRunsThrough(connections, flows []string) (int, error) {
	var either []string
	var args []any
	for _, one := range []struct {
		column string
		ids    []string
	}{{"connection_id", connections}, {"flow_id", flows}} {
		// The indexes of queued and of running runs serve, and not those of all runs of a
		// connection or a flow, most of which have ended.
		if len(one.ids) > 0 {
			either = append(either, "COALESCE("+one.column+", '') IN ("+placeholders(len(args)+1, len(one.ids))+")")
			args = in(one.ids, args...)
		}
	}
	if len(either) == 0 {
		return 0, nil
	}
	of := "(" + strings.Join(either, " OR ") + ")"
	return one(tx, scanInt, `SELECT
		(SELECT count(*) FROM runs WHERE `+of+` AND state = 'queued') +
		(SELECT count(*) FROM runs WHERE `+of+` AND state = 'running')`, args...)
}

// OpenRunsOn returns how many runs of a machine have not ended.
func (tx *Tx) OpenRunsOn(m latchkey.MachineID) (int, error) {
	return one(tx, scanInt, `SELECT
		(SELECT count(*) FROM runs WHERE machine_id = $1 AND state = 'queued') +
		(SELECT count(*) FROM runs WHERE machine_id = $1 AND state = 'running')`, m)
}

// OpenRunsFor returns how many runs of a machine group have not ended.
func (tx *Tx) OpenRunsFor(g latchkey.MachineGroupID) (int, error) {
	return one(tx, scanInt, `SELECT
		(SELECT count(*) FROM runs WHERE group_id = $1 AND state = 'queued') +
		(SELECT count(*) FROM runs WHERE group_id = $1 AND state = 'running')`, g)
}

// AppendLog adds output to a run's log at the log's end, and notes whether
// output had to be dropped.
func (tx *Tx) AppendLog(r Run, stream, text string, truncated bool) error {
	if text != "" {
		if _, err := tx.exec(`INSERT INTO run_logs (run_id, log_offset, stream, body, at) VALUES ($1, $2, $3, $4, $5)`,
			r.ID, r.LogBytes, stream, text, ms(tx.Now)); err != nil {
			return err
		}
	}
	return tx.execOne(`UPDATE runs SET log_bytes = $2, log_truncated = $3, lease_expires_at = $4, log_chunks = log_chunks + 1 WHERE id = $1 AND state = 'running'`,
		r.ID, r.LogBytes+int64(len(text)), truncated, ms(tx.Now.Add(latchkey.RunLease)))
}

// Log returns up to limit chunks of a run's output from the chunk on that
// begins at or after an offset.
func (tx *Tx) Log(id latchkey.RunID, offset int64, limit int) ([]latchkey.LogChunk, error) {
	return all(tx, func(s scanner) (c latchkey.LogChunk, err error) {
		return c, s.Scan(&c.Offset, &c.Stream, &c.Text, timestamp{&c.At})
	}, `SELECT log_offset, stream, body, at FROM run_logs WHERE run_id = $1 AND log_offset >= $2 ORDER BY log_offset LIMIT $3`, id, offset, limit)
}

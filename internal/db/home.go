package db

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"latchkey.dev/latchkey"
)

// newsEntries is how many of the newest entries of an environment's audit log News
// looks at. Those of servers whose clocks differ are not quite in the order in which
// they were written.
const newsEntries = 20

// News returns texts that are others when something of an environment has changed: the
// newest entries of its audit log, and how many of its machines are online.
func (tx *Tx) News(env latchkey.EnvironmentID) ([]string, error) {
	return all(tx, scanString, fmt.Sprintf(`SELECT id FROM (SELECT id FROM audit WHERE environment_id = $1 ORDER BY id DESC LIMIT %d) AS a
		UNION ALL SELECT CAST(count(*) AS TEXT) FROM machines WHERE environment_id = $1 AND deleted_at IS NULL AND last_seen_at > $2`, newsEntries),
		env, ms(tx.Now.Add(-latchkey.OnlineWindow)))
}

// seen restricts a query that begins with mine to what of a table may be seen.
func (w *where) seen(visible Visible, id string) {
	if !visible.Everything {
		w.conds = append(w.conds, "EXISTS (SELECT 1 FROM grants g WHERE g.subject_id = "+id+" AND g.principal_id IN (SELECT id FROM mine))")
	}
}

// A Trouble is something that wants attention.
type Trouble struct {
	Kind   latchkey.Kind
	ID     string
	Name   string
	State  string // what is wrong, in the words of its kind
	Text   string // more of it
	Remedy string
	At     *time.Time // since when, or until
	Number int        // how often
	Total  int        // how many such rows there are
}

func scanTrouble(kind latchkey.Kind) func(scanner) (Trouble, error) {
	return func(s scanner) (Trouble, error) {
		t := Trouble{Kind: kind, Number: 1}
		return t, s.Scan(&t.ID, &t.Name, &t.State, &t.Text, &t.Remedy, nullTime{&t.At}, &t.Total)
	}
}

// Joins are written as CROSS JOIN where troubles are few: SQLite, which has no
// statistics, would otherwise go through all that is in the environment.

// troubles returns at most limit rows of a query and how many there are; w has the
// principal as its first argument.
func (tx *Tx) troubles(kind latchkey.Kind, cols, from string, w where, order string, limit int) ([]Trouble, error) {
	w.args = append(w.args, limit)
	return all(tx, scanTrouble(kind), mine+`SELECT `+cols+`, count(*) OVER () FROM `+from+w.String()+` ORDER BY `+order+` LIMIT `+w.last(), w.args...)
}

// FailedReferences returns variables whose newest reference has failed its check, or
// could not be checked, the longest known first.
func (tx *Tx) FailedReferences(env latchkey.EnvironmentID, visible Visible, limit int) ([]Trouble, error) {
	w := where{args: []any{visible.Who}}
	w.add("v.environment_id = ?", env)
	w.add("v.deleted_at IS NULL AND v.id = r.variable_id AND r.newest AND r.check_state IN ('failed', 'unknown') AND r.overridden_at IS NULL")
	w.seen(visible, "v.id")
	return tx.troubles(latchkey.KindVariable, `v.id, v.display_name, r.check_state, r.check_message, r.check_remedy, r.checked_at`,
		`secret_references r CROSS JOIN variables v`, w, `r.check_state, r.checked_at, v.id`, limit)
}

// EndingCertificates returns credentials whose certificate failed its check or expires
// before a time, the first to expire first.
func (tx *Tx) EndingCertificates(env latchkey.EnvironmentID, visible Visible, before time.Time, limit int) ([]Trouble, error) {
	w := where{args: []any{visible.Who}}
	w.add("c.environment_id = ?", env)
	w.add("c.id = k.credential_id AND c.deleted_at IS NULL AND (k.expires_at < ? OR k.state = 'failed')", ms(before))
	w.seen(visible, "c.id")
	return tx.troubles(latchkey.KindCredential, `c.id, c.name, k.state, '', '', k.expires_at`,
		`certificate_checks k CROSS JOIN credentials c`, w, `k.expires_at, c.id`, limit)
}

// EndingSecrets returns variables whose reference in force names a secret of an
// embedded vault whose newest version expires before a time, the first to expire first.
// Secrets of certificates are left out.
func (tx *Tx) EndingSecrets(env latchkey.EnvironmentID, visible Visible, before time.Time, limit int) ([]Trouble, error) {
	w := where{args: []any{visible.Who}}
	w.add("v.environment_id = ?", env)
	w.add("n.expires_at < ? AND n.expires_at IS NOT NULL", ms(before))
	w.conds = append(w.conds, "k.vault_id = n.vault_id AND k.name_key = n.name_key AND e.id = n.vault_id",
		"r.reference_key = e.reference_key || '/secrets/' || n.name_key AND v.id = r.variable_id", "v.deleted_at IS NULL", "r.in_force", "e.deleted_at IS NULL", "k.deleted_at IS NULL", "NOT k.managed",
		"n.number = (SELECT max(x.number) FROM vault_secret_versions x WHERE x.vault_id = n.vault_id AND x.name_key = n.name_key)")
	w.seen(visible, "v.id")
	return tx.troubles(latchkey.KindVariable, `v.id, v.display_name, 'expires', k.name, '', n.expires_at`,
		`vault_secret_versions n CROSS JOIN vault_secrets k CROSS JOIN vaults e CROSS JOIN secret_references r CROSS JOIN variables v`, w, `n.expires_at, v.id`, limit)
}

// TroubledMachines returns machines that run nothing now: quarantined, offline and
// disabled ones, in this order.
func (tx *Tx) TroubledMachines(env latchkey.EnvironmentID, visible Visible, limit int) ([]Trouble, error) {
	w := where{args: []any{visible.Who}}
	w.add("m.environment_id = ?", env)
	w.add("m.deleted_at IS NULL AND (m.quarantined_at IS NOT NULL OR m.disabled_at IS NOT NULL OR m.last_seen_at IS NULL OR m.last_seen_at <= ?)", ms(tx.Now.Add(-latchkey.OnlineWindow)))
	w.seen(visible, "m.id")
	const state = `CASE WHEN m.quarantined_at IS NOT NULL THEN 'quarantined' WHEN m.disabled_at IS NOT NULL THEN 'disabled' ELSE 'offline' END`
	return tx.troubles(latchkey.KindMachine, `m.id, m.name, `+state+`, m.quarantine_reason, '',
		CASE WHEN m.quarantined_at IS NOT NULL THEN m.quarantined_at WHEN m.disabled_at IS NOT NULL THEN m.disabled_at ELSE m.last_seen_at END`,
		`machines m`, w, `CASE WHEN m.quarantined_at IS NOT NULL THEN 0 WHEN m.disabled_at IS NOT NULL THEN 2 ELSE 1 END, m.sort_key, m.id`, limit)
}

// DeniedReleases returns the credentials of which releases were denied since a time,
// with the reason and the time of the last one and how many of the newest limit
// denials are theirs.
func (tx *Tx) DeniedReleases(env latchkey.EnvironmentID, visible Visible, since time.Time, limit int) ([]Trouble, error) {
	w := where{args: []any{visible.Who}}
	w.add("a.environment_id || '' = ?", env) // by the index of outcomes
	w.add("c.id = a.credential_id AND c.deleted_at IS NULL AND a.outcome = 'denied' AND a.outcome <> 'ok' AND a.id >= ? AND a.action = 'release.denied'", latchkey.FirstID("aud", since))
	w.seen(visible, "c.id")
	w.args = append(w.args, limit)
	type row struct {
		Trouble
		entry auditEntry
	}
	rows, err := all(tx, func(s scanner) (r row, err error) {
		return r, s.Scan(&r.ID, &r.Name, jsonText{&r.entry}, nullTime{&r.At})
	}, mine+`SELECT c.id, c.name, a.entry, a.at FROM audit a CROSS JOIN credentials c`+w.String()+` ORDER BY a.id DESC LIMIT `+w.last(), w.args...)
	var found []Trouble
	index := make(map[string]int)
	for _, r := range rows {
		i, ok := index[r.ID]
		if !ok {
			i = len(found)
			index[r.ID] = i
			r.Kind, r.State, r.Text = latchkey.KindCredential, r.entry.Code, r.entry.Reason
			found = append(found, r.Trouble)
		}
		found[i].Number++
	}
	for i := range found {
		found[i].Total = len(found)
	}
	return found, err
}

// FailedFlows returns the flows of which runs failed or ran out of time since a time
// and whose last run has not succeeded, with the error of the newest failure and how
// many of the newest limit failures are theirs.
func (tx *Tx) FailedFlows(env latchkey.EnvironmentID, visible Visible, since time.Time, limit int) ([]Trouble, error) {
	type row struct {
		Trouble
		run latchkey.RunID
	}
	var rows []row
	for _, state := range []latchkey.RunState{latchkey.RunFailed, latchkey.RunTimedOut} {
		var w where
		w.add("r.environment_id = ? AND r.kind = 'flow'", env)
		w.add("r.state = ?", state)
		w.add("r.id >= ?", latchkey.FirstID("run", since))
		if !visible.Everything {
			w.add("(r.owner_id = ? OR r.started_by = ?)", visible.Who, visible.Who)
		}
		w.args = append(w.args, limit)
		some, err := all(tx, func(s scanner) (r row, err error) {
			return r, s.Scan(&r.run, &r.ID, &r.Name, &r.State, &r.Text, nullTime{&r.At})
		}, `SELECT r.id, f.id, f.name, r.error_code, r.error_message, COALESCE(r.finished_at, r.queued_at) FROM runs r JOIN flows f ON f.id = r.flow_id AND f.deleted_at IS NULL`+
			w.String()+` ORDER BY r.id DESC LIMIT `+w.last(), w.args...)
		if err != nil {
			return nil, err
		}
		rows = append(rows, some...)
	}
	slices.SortFunc(rows, func(a, b row) int { return cmp.Compare(b.run, a.run) })
	var found []Trouble
	index := make(map[string]int)
	var ids []string
	for _, r := range rows {
		i, ok := index[r.ID]
		if !ok {
			i = len(found)
			index[r.ID] = i
			r.Kind = latchkey.KindFlow
			found, ids = append(found, r.Trouble), append(ids, r.ID)
		}
		found[i].Number++
	}
	last, err := tx.LastRuns(latchkey.KindFlow, visible, ids)
	found = slices.DeleteFunc(found, func(t Trouble) bool { r := last[t.ID]; return r != nil && r.State == latchkey.RunSucceeded })
	for i := range found {
		found[i].Total = len(found)
	}
	return found, err
}

// day is a day in Unix milliseconds.
const day = int64(24 * time.Hour / time.Millisecond)

// A DayCount is how often something ended in one way on a day.
type DayCount struct {
	Day  time.Time // its beginning, UTC
	What string
	N    int
}

func scanDayCount(s scanner) (c DayCount, err error) {
	var d int64
	err = s.Scan(&d, &c.What, &c.N)
	c.Day = time.UnixMilli(d * day).UTC()
	return c, err
}

// RunsByDay counts the runs of flows that were queued since a time by day and state,
// of the newest limit; of who does not see everything those that it owns or started.
func (tx *Tx) RunsByDay(env latchkey.EnvironmentID, visible Visible, since time.Time, limit int) ([]DayCount, error) {
	runs, args := runsSince(env, visible, since, limit, "id, queued_at, state")
	return all(tx, scanDayCount, fmt.Sprintf(`SELECT r.queued_at / %d, r.state, count(*) FROM (%s) AS r GROUP BY 1, 2`, day, runs), args...)
}

// runsSince selects columns, one of which must be id, of the newest runs since a time
// that somebody may see.
func runsSince(env latchkey.EnvironmentID, visible Visible, since time.Time, limit int, cols string) (query string, args []any) {
	part := func(cond string) string {
		return `SELECT ` + cols + ` FROM (SELECT ` + cols + ` FROM runs WHERE environment_id = $1 AND kind = 'flow' AND id >= $2` + cond + ` ORDER BY id DESC LIMIT $3) AS x`
	}
	args = []any{env, latchkey.FirstID("run", since), limit}
	if visible.Everything {
		return part(""), args
	}
	return part(" AND owner_id = $4") + ` UNION ` + part(" AND started_by = $4"), append(args, visible.Who)
}

// ReleasesByDay counts the releases that were granted and denied since a time by day,
// of the newest limit entries of the audit log; of who does not see everything those of
// its runs.
func (tx *Tx) ReleasesByDay(env latchkey.EnvironmentID, visible Visible, since time.Time, limit int) ([]DayCount, error) {
	from, args := `(SELECT at, action FROM audit WHERE environment_id = $1 AND id >= $2 ORDER BY id DESC LIMIT $3) AS a`, []any{env, latchkey.FirstID("aud", since), limit}
	if !visible.Everything {
		from, args = runsSince(env, visible, since, limit, "id")
		from = `(` + from + `) AS r JOIN audit a ON a.run_id = r.id AND a.run_id <> ''`
	}
	return all(tx, scanDayCount, fmt.Sprintf(`SELECT a.at / %d, a.action, count(*) FROM %s WHERE a.action IN ('release.granted', 'release.denied') GROUP BY 1, 2`, day, from), args...)
}

// Find returns the things of a kind whose name has a text in it, those that begin with
// it first, then by name: at most limit. Of variables the unique name counts too.
func (tx *Tx) Find(kind latchkey.Kind, env latchkey.EnvironmentID, visible Visible, text string, limit int) ([]latchkey.Found, error) {
	w := where{args: []any{visible.Who}}
	w.add("t.environment_id = ?", env)
	w.conds = append(w.conds, "t.deleted_at IS NULL")
	name, names, unique := "t.name", "length(t.name)", "''"
	if kind == latchkey.KindVariable {
		name, names, unique = "t.display_name", "length(t.display_name) + 1 + length(t.name)", "t.name"
	}
	// Names come first in what a search looks at.
	w.contains("substr(t.search_key, 1, "+names+")", text)
	w.seen(visible, "t.id")
	w.args = append(w.args, likeText.Replace(latchkey.SearchKey(text))+"%")
	prefix := w.last()
	w.args = append(w.args, limit)
	return all(tx, func(s scanner) (f latchkey.Found, err error) {
		f.Kind = kind
		return f, s.Scan(&f.ID, &f.Name, &f.Unique)
	}, mine+`SELECT t.id, `+name+`, `+unique+` FROM `+tables[kind]+` t`+w.String()+
		` ORDER BY CASE WHEN t.search_key LIKE `+prefix+` ESCAPE '\' THEN 0 ELSE 1 END, t.sort_key, t.id LIMIT `+w.last(), w.args...)
}

package db

import (
	"fmt"
	"time"

	"latchkey.dev/latchkey"
)

// What rows of lists show besides the things themselves. Each is one query for all
// rows of a page.

// OwnersOf returns who owns each of several things. What nobody owns is not in the
// result.
func (tx *Tx) OwnersOf(ids []string) (map[string]*latchkey.Owner, error) {
	owners := make(map[string]*latchkey.Owner, len(ids))
	type row struct {
		id string
		latchkey.Owner
	}
	rows, err := allOf(tx, func(s scanner) (r row, err error) { return r, s.Scan(&r.id, &r.ID, &r.Name, &r.Disabled) }, ids, func(list string) string {
		return `SELECT g.subject_id, p.id, p.name, p.disabled_at IS NOT NULL OR p.deleted_at IS NOT NULL
			FROM grants g JOIN principals p ON p.id = g.principal_id WHERE g.role = 'owner' AND g.subject_id IN (` + list + `)`
	})
	for _, r := range rows {
		owners[r.id] = &r.Owner
	}
	return owners, err
}

// A Username is the user name of a credential: the variable with it, and its value
// in force.
type Username struct {
	Variable latchkey.VariableID
	Value    string
}

// Usernames returns the user names of credentials. Those without a value are not in
// the result.
func (tx *Tx) Usernames(ids []latchkey.CredentialID) (map[latchkey.CredentialID]Username, error) {
	names := make(map[latchkey.CredentialID]Username, len(ids))
	type row struct {
		id latchkey.CredentialID
		Username
	}
	rows, err := allOf(tx, func(s scanner) (r row, err error) { return r, s.Scan(&r.id, &r.Variable, &r.Value) }, ids, func(list string) string {
		return `SELECT s.credential_id, v.id, COALESCE(v.current_value, v.default_value) FROM credential_slots s
			JOIN variables v ON v.id = s.variable_id AND v.deleted_at IS NULL
			WHERE s.slot = 'username' AND COALESCE(v.current_value, v.default_value) IS NOT NULL AND s.credential_id IN (` + list + `)`
	})
	for _, r := range rows {
		names[r.id] = r.Username
	}
	return names, err
}

// A SecretStanding is how a reference to the secret of a credential stands.
type SecretStanding struct {
	Credential latchkey.CredentialID
	Newest     bool
	InForce    bool
	State      latchkey.CheckState
	Overridden bool
	ExpiresAt  *time.Time // of the secret's newest version, in an embedded vault
}

// SecretStandings returns how the newest references of credentials and those in force
// stand.
func (tx *Tx) SecretStandings(ids []latchkey.CredentialID) ([]SecretStanding, error) {
	return allOf(tx, func(s scanner) (r SecretStanding, err error) {
		return r, s.Scan(&r.Credential, &r.Newest, &r.InForce, &r.State, &r.Overridden, nullTime{&r.ExpiresAt})
	}, ids, func(list string) string {
		return `SELECT s.credential_id, r.newest, r.in_force, r.check_state, r.overridden_at IS NOT NULL, ` + secretExpiry + `
			FROM credential_slots s JOIN variables v ON v.id = s.variable_id AND v.deleted_at IS NULL
			JOIN secret_references r ON r.variable_id = v.id AND (r.newest OR r.in_force)
			WHERE s.slot <> 'username' AND s.credential_id IN (` + list + `)`
	})
}

// secretExpiry is when the newest version expires of the secret that a reference r
// names, in an embedded vault.
const secretExpiry = `(SELECT n.expires_at FROM vaults e
	JOIN vault_secrets k ON k.vault_id = e.id AND k.name_key = lower(r.secret) AND k.deleted_at IS NULL
	JOIN vault_secret_versions n ON n.vault_id = k.vault_id AND n.name_key = k.name_key
	WHERE e.deleted_at IS NULL AND e.reference_key = substr(r.reference_key, 1, length(r.reference_key) - length('/secrets/') - length(r.secret))
	ORDER BY n.number DESC LIMIT 1)`

// LastReleases returns when credentials were last released. Those that never were are
// not in the result.
func (tx *Tx) LastReleases(ids []latchkey.CredentialID) (map[latchkey.CredentialID]*time.Time, error) {
	last := make(map[latchkey.CredentialID]*time.Time, len(ids))
	type row struct {
		id latchkey.CredentialID
		at *time.Time
	}
	rows, err := allOf(tx, func(s scanner) (r row, err error) { return r, s.Scan(&r.id, nullTime{&r.at}) }, ids, func(list string) string {
		return `SELECT c.id, (SELECT a.at FROM audit a WHERE a.credential_id = c.id AND a.credential_id <> '' AND a.action = 'release.granted' ORDER BY a.id DESC LIMIT 1)
			FROM credentials c WHERE c.id IN (` + list + `)`
	})
	for _, r := range rows {
		if r.at != nil {
			last[r.id] = r.at
		}
	}
	return last, err
}

// VariableUses returns how many credentials are bound to each of several variables,
// up to limit.
func (tx *Tx) VariableUses(ids []latchkey.VariableID, limit int) (map[latchkey.VariableID]int, error) {
	uses := make(map[latchkey.VariableID]int, len(ids))
	type row struct {
		id latchkey.VariableID
		n  int
	}
	rows, err := allOf(tx, func(s scanner) (r row, err error) { return r, s.Scan(&r.id, &r.n) }, ids, func(list string) string {
		return `SELECT v.id, (SELECT count(*) FROM (SELECT 1 FROM credential_slots s JOIN credentials c ON c.id = s.credential_id AND c.deleted_at IS NULL
			WHERE s.variable_id = v.id LIMIT $1) AS u) FROM variables v WHERE v.id IN (` + list + `)`
	}, limit)
	for _, r := range rows {
		uses[r.id] = r.n
	}
	return uses, err
}

// lastRunsOf is how many of the newest runs of a flow or a connection are looked at
// for one that somebody may see.
const lastRunsOf = 100

// LastRuns returns the newest run of each of several connections or flows, as column
// says: of who does not see everything the newest that it owns or has started, if that
// is among the last ones.
func (tx *Tx) LastRuns(kind latchkey.Kind, visible Visible, ids []string) (map[string]*latchkey.LastRun, error) {
	column := "connection_id"
	if kind == latchkey.KindFlow {
		column = "flow_id"
	}
	// In two steps, so that each has its index.
	type newest struct {
		of  string
		run latchkey.RunID
	}
	var runs []latchkey.RunID
	of := make(map[latchkey.RunID]string, len(ids))
	newestRun := `SELECT x.id FROM runs x WHERE x.` + column + ` = t.id AND x.environment_id = t.environment_id AND x.kind = 'flow' ORDER BY x.id DESC LIMIT 1`
	var before []any
	if !visible.Everything {
		newestRun = fmt.Sprintf(`SELECT y.id FROM (SELECT x.id, x.owner_id, x.started_by FROM runs x
			WHERE x.%s = t.id AND x.environment_id = t.environment_id AND x.kind = 'flow' ORDER BY x.id DESC LIMIT %d) AS y
			WHERE y.owner_id = $1 OR y.started_by = $1 ORDER BY y.id DESC LIMIT 1`, column, lastRunsOf)
		before = []any{visible.Who}
	}
	found, err := allOf(tx, func(s scanner) (n newest, err error) { return n, s.Scan(&n.of, &n.run) }, ids, func(list string) string {
		return `SELECT t.id, COALESCE((` + newestRun + `), '') FROM ` + tables[kind] + ` t WHERE t.id IN (` + list + `)`
	}, before...)
	if err != nil {
		return nil, err
	}
	for _, n := range found {
		if n.run != "" {
			runs = append(runs, n.run)
			of[n.run] = n.of
		}
	}
	rows, err := allOf(tx, func(s scanner) (r latchkey.LastRun, err error) {
		return r, s.Scan(&r.Run, &r.State, timestamp{&r.QueuedAt}, nullTime{&r.FinishedAt})
	}, runs, func(list string) string {
		return `SELECT r.id, r.state, r.queued_at, r.finished_at FROM runs r WHERE r.id IN (` + list + `)`
	})
	last := make(map[string]*latchkey.LastRun, len(rows))
	for _, r := range rows {
		last[of[r.Run]] = &r
	}
	return last, err
}

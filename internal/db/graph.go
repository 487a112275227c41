package db

import (
	"strings"
	"time"

	"latchkey.dev/latchkey"
)

// maxObserved bounds the runs, or the releases, of one component that are looked at
// for what uses it.
const maxObserved = 10_000

// An Edge is that the component From uses To.
type Edge struct {
	FromKind latchkey.Kind
	From     string
	ToKind   latchkey.Kind
	To       string
	As       string
	Observed bool
	Runs     int        // of what is observed
	LastAt   *time.Time // of what is observed
}

// scanEdge returns a scanner of the two ends, and what as, of edges.
func scanEdge(from, to latchkey.Kind) func(scanner) (Edge, error) {
	return func(s scanner) (Edge, error) {
		e := Edge{FromKind: from, ToKind: to}
		return e, s.Scan(&e.From, &e.To, &e.As)
	}
}

// An edgeQuery finds edges by the ids of one of their ends.
type edgeQuery struct {
	from, to latchkey.Kind
	query    func(ids string) string
}

func fixed(before, after string) func(string) string {
	return func(ids string) string { return before + `(` + ids + `)` + after }
}

// uses are the edges from components of each kind to what they use.
var uses = map[latchkey.Kind][]edgeQuery{
	latchkey.KindCredential: {{latchkey.KindCredential, latchkey.KindVariable,
		fixed(`SELECT credential_id, variable_id, slot FROM credential_slots WHERE credential_id IN `, ``)}},
	latchkey.KindConnection: {
		{latchkey.KindConnection, latchkey.KindCredential, fixed(`SELECT id, credential_id, 'credential' FROM connections WHERE id IN `, ``)},
		{latchkey.KindConnection, latchkey.KindMachine, fixed(`SELECT id, target_id, 'target' FROM connections WHERE target_kind = 'machine' AND id IN `, ``)},
		{latchkey.KindConnection, latchkey.KindMachineGroup, fixed(`SELECT id, target_id, 'target' FROM connections WHERE target_kind = 'group' AND id IN `, ``)},
	},
	latchkey.KindMachineGroup: {{latchkey.KindMachineGroup, latchkey.KindMachine, fixed(`SELECT group_id, id, 'member' FROM machines WHERE deleted_at IS NULL AND group_id IN `, ``)}},
	latchkey.KindFlow:         {{latchkey.KindFlow, latchkey.KindCredential, fixed(`SELECT flow_id, credential_id, 'credential' FROM flow_credentials WHERE flow_id IN `, ``)}},
}

// usedBy are the edges to components of each kind from what uses them and is not
// deleted.
var usedBy = map[latchkey.Kind][]edgeQuery{
	latchkey.KindVariable: {{latchkey.KindCredential, latchkey.KindVariable,
		fixed(`SELECT s.credential_id, s.variable_id, s.slot FROM credential_slots s JOIN credentials c ON c.id = s.credential_id AND c.deleted_at IS NULL WHERE s.variable_id IN `, ``)}},
	latchkey.KindCredential: {
		{latchkey.KindConnection, latchkey.KindCredential, fixed(`SELECT id, credential_id, 'credential' FROM connections WHERE deleted_at IS NULL AND credential_id IN `, ``)},
		{latchkey.KindFlow, latchkey.KindCredential,
			fixed(`SELECT f.id, l.credential_id, 'credential' FROM flow_credentials l JOIN flows f ON f.id = l.flow_id AND f.deleted_at IS NULL WHERE l.credential_id IN `, ``)},
	},
	latchkey.KindMachine: {
		{latchkey.KindConnection, latchkey.KindMachine, fixed(`SELECT id, target_id, 'target' FROM connections WHERE target_kind = 'machine' AND deleted_at IS NULL AND target_id IN `, ``)},
		{latchkey.KindMachineGroup, latchkey.KindMachine,
			fixed(`SELECT g.id, m.id, 'member' FROM machines m JOIN machine_groups g ON g.id = m.group_id AND g.deleted_at IS NULL WHERE m.id IN `, ``)},
	},
	latchkey.KindMachineGroup: {{latchkey.KindConnection, latchkey.KindMachineGroup,
		fixed(`SELECT id, target_id, 'target' FROM connections WHERE target_kind = 'group' AND deleted_at IS NULL AND target_id IN `, ``)}},
}

// Uses returns what components of a kind use, and which edge it is. That a flow runs
// through connections is observed only.
func (tx *Tx) Uses(kind latchkey.Kind, ids []string) ([]Edge, error) {
	edges, err := tx.edges(uses[kind], ids)
	if err != nil {
		return nil, err
	}
	var more []Edge
	switch kind {
	case latchkey.KindVariable:
		more, err = tx.referenceEdges(ids)
	case latchkey.KindFlow:
		more, err = tx.Observed("flow_id", ids)
	}
	return append(edges, more...), err
}

// UsedBy returns what uses components of a kind, and is not deleted.
func (tx *Tx) UsedBy(kind latchkey.Kind, ids []string) ([]Edge, error) {
	edges, err := tx.edges(usedBy[kind], ids)
	if err != nil {
		return nil, err
	}
	var more []Edge
	if kind == latchkey.KindConnection {
		more, err = tx.Observed("connection_id", ids)
	}
	return append(edges, more...), err
}

func (tx *Tx) edges(queries []edgeQuery, ids []string) (edges []Edge, err error) {
	for _, q := range queries {
		more, err := allOf(tx, scanEdge(q.from, q.to), ids, q.query)
		if err != nil {
			return nil, err
		}
		edges = append(edges, more...)
	}
	return edges, nil
}

// referenceEdges returns the edges from variables to the references that they have
// now.
func (tx *Tx) referenceEdges(ids []string) ([]Edge, error) {
	return allOf(tx, func(s scanner) (Edge, error) {
		e := Edge{FromKind: latchkey.KindVariable, ToKind: latchkey.KindReference}
		var r latchkey.SecretReference
		var inForce bool
		err := s.Scan(&e.From, &r.SubscriptionID, &r.ResourceGroup, &r.Vault, &r.Secret, &inForce)
		e.To, e.As = r.String(), "reference"
		if !inForce {
			e.As = "reference that waits for its check"
		}
		return e, err
	}, ids, func(list string) string {
		return `SELECT r.variable_id, r.subscription_id, r.resource_group, r.vault, r.secret, r.in_force FROM secret_references r
			JOIN variables v ON v.id = r.variable_id AND v.deleted_at IS NULL WHERE (r.newest OR r.in_force) AND r.variable_id IN (` + list + `)`
	})
}

// Observed returns which flows ran through which connections lately: of the
// components whose ids a column of runs has. Deleted flows and connections are left
// out.
func (tx *Tx) Observed(column string, ids []string) (edges []Edge, err error) {
	since := latchkey.FirstID("run", tx.Now.Add(-latchkey.ObservedFor))
	for _, id := range ids {
		more, err := all(tx, func(s scanner) (Edge, error) {
			e := Edge{FromKind: latchkey.KindFlow, ToKind: latchkey.KindConnection, As: "ran-through", Observed: true, LastAt: new(time.Time)}
			return e, s.Scan(&e.From, &e.To, &e.Runs, timestamp{e.LastAt})
		}, `SELECT r.flow_id, r.connection_id, count(*), max(r.queued_at) FROM (
				SELECT flow_id, connection_id, environment_id, queued_at FROM runs WHERE `+column+` = $1
				AND environment_id = (SELECT environment_id FROM `+observedIn[column]+` WHERE id = $1) AND kind = 'flow' AND id >= $2 ORDER BY id DESC LIMIT $3) r
			JOIN flows f ON f.id = r.flow_id AND f.deleted_at IS NULL
			JOIN connections c ON c.id = r.connection_id AND c.deleted_at IS NULL
			GROUP BY r.flow_id, r.connection_id`, id, since, maxObserved)
		if err != nil {
			return nil, err
		}
		edges = append(edges, more...)
	}
	return edges, nil
}

// observedIn are the tables of what columns of runs name.
var observedIn = map[string]string{"flow_id": "flows", "connection_id": "connections", "machine_id": "machines"}

// A ComponentRow is a component with its environment.
type ComponentRow struct {
	latchkey.Component
	Owner string // name, of a connection
}

// Components returns components of a kind that are not deleted, by their ids.
func (tx *Tx) Components(kind latchkey.Kind, ids []string) (map[string]ComponentRow, error) {
	found := make(map[string]ComponentRow, len(ids))
	owner, join := `''`, ``
	if kind == latchkey.KindConnection {
		owner, join = `p.name`, ` JOIN principals p ON p.id = t.owner_id`
	}
	rows, err := allOf(tx, func(s scanner) (ComponentRow, error) {
		c := ComponentRow{Component: latchkey.Component{Kind: kind}}
		return c, s.Scan(&c.ID, &c.Name, &c.Environment, &c.Owner)
	}, ids, func(list string) string {
		return `SELECT t.id, t.name, t.environment_id, ` + owner + ` FROM ` + tables[kind] + ` t` + join + ` WHERE t.deleted_at IS NULL AND t.id IN (` + list + `)`
	})
	for _, c := range rows {
		found[c.ID] = c
	}
	return found, err
}

// LastUsed returns when components of a kind were last used: credentials released
// within the time that counts as use, connections and flows run. Those that never
// were, and of other kinds all, are not in the result.
func (tx *Tx) LastUsed(kind latchkey.Kind, ids []string) (map[string]time.Time, error) {
	var last string
	var args []any
	switch kind {
	case latchkey.KindCredential:
		// What is asked of credential_id besides is the condition of its index.
		last = `SELECT a.at FROM audit a WHERE a.credential_id = t.id AND a.credential_id <> '' AND a.id >= $1 AND a.action = $2 ORDER BY a.id DESC LIMIT 1`
		args = []any{latchkey.FirstID("aud", tx.Now.Add(-latchkey.ObservedFor)), latchkey.ActReleaseGranted}
	case latchkey.KindConnection:
		last = `SELECT r.queued_at FROM runs r WHERE r.connection_id = t.id AND r.environment_id = t.environment_id AND r.kind = 'flow' ORDER BY r.id DESC LIMIT 1`
	case latchkey.KindFlow:
		last = `SELECT r.queued_at FROM runs r WHERE r.flow_id = t.id AND r.environment_id = t.environment_id AND r.kind = 'flow' ORDER BY r.id DESC LIMIT 1`
	default:
		return nil, nil
	}
	type row struct {
		id string
		at *time.Time
	}
	rows, err := allOf(tx, func(s scanner) (r row, err error) { return r, s.Scan(&r.id, nullTime{&r.at}) }, ids, func(list string) string {
		return `SELECT t.id, (` + last + `) FROM ` + tables[kind] + ` t WHERE t.id IN (` + list + `)`
	}, args...)
	at := make(map[string]time.Time, len(rows))
	for _, r := range rows {
		if r.at != nil {
			at[r.id] = *r.at
		}
	}
	return at, err
}

// SecretUses returns the variables that who sees, in every environment, and that
// refer to a secret of a vault, or to any when secret is "": at most limit. They are
// in the order of their ids. everything are the roles that show every variable of an
// environment; others show those that are granted.
func (tx *Tx) SecretUses(who latchkey.PrincipalID, everything []latchkey.EnvironmentRole, vault, secret string, limit int) ([]latchkey.SecretUse, error) {
	w := where{args: []any{who}}
	w.add("(r.newest OR r.in_force)")
	w.add("lower(r.vault) = lower(?)", vault)
	if secret != "" {
		w.add("lower(r.secret) = lower(?)", secret)
	}
	const roleOf = `EXISTS (SELECT 1 FROM environment_members m WHERE m.environment_id = v.environment_id AND m.principal_id IN (SELECT id FROM mine)`
	w.add(`(`+roleOf+` AND m.role IN (`+strings.TrimSuffix(strings.Repeat("?, ", len(everything)), ", ")+`)) OR `+
		roleOf+`) AND EXISTS (SELECT 1 FROM grants g WHERE g.subject_id = v.id AND g.environment_id = v.environment_id AND g.principal_id IN (SELECT id FROM mine)))`, in(everything)...)
	w.args = append(w.args, limit)
	return all(tx, func(s scanner) (u latchkey.SecretUse, err error) {
		return u, s.Scan(&u.Reference.SubscriptionID, &u.Reference.ResourceGroup, &u.Reference.Vault, &u.Reference.Secret, &u.InForce,
			&u.Environment, &u.EnvironmentName, &u.Variable, &u.VariableName, &u.Credentials, &u.Connections)
	}, mine+`SELECT r.subscription_id, r.resource_group, r.vault, r.secret, r.in_force, e.id, e.name, v.id, v.name,
		(SELECT count(DISTINCT s.credential_id) FROM credential_slots s JOIN credentials c ON c.id = s.credential_id AND c.deleted_at IS NULL WHERE s.variable_id = v.id),
		(SELECT count(DISTINCT n.id) FROM credential_slots s JOIN connections n ON n.credential_id = s.credential_id AND n.deleted_at IS NULL WHERE s.variable_id = v.id)
		FROM secret_references r JOIN variables v ON v.id = r.variable_id AND v.deleted_at IS NULL
		JOIN environments e ON e.id = v.environment_id AND e.deleted_at IS NULL`+w.String()+` ORDER BY v.id, r.id LIMIT `+w.last(), w.args...)
}

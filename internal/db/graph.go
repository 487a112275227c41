package db

import (
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
	},
	latchkey.KindFlow: {{latchkey.KindFlow, latchkey.KindCredential, fixed(`SELECT flow_id, credential_id, 'credential' FROM flow_credentials WHERE flow_id IN `, ``)}},
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
	latchkey.KindMachine: {{latchkey.KindConnection, latchkey.KindMachine,
		fixed(`SELECT id, target_id, 'target' FROM connections WHERE target_kind = 'machine' AND deleted_at IS NULL AND target_id IN `, ``)}},
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

// LastReleased returns when a credential was last released within the time that
// counts as use, and how often, up to maxObserved; nil for never.
func (tx *Tx) LastReleased(id latchkey.CredentialID) (last *time.Time, n int, err error) {
	type row struct {
		last *time.Time
		n    int
	}
	r, err := one(tx, func(s scanner) (r row, err error) { return r, s.Scan(nullTime{&r.last}, &r.n) },
		`SELECT max(a.at), count(*) FROM (SELECT at FROM audit WHERE credential_id = $1 AND id >= $2 AND action = $3 ORDER BY id DESC LIMIT $4) a`,
		id, latchkey.FirstID("aud", tx.Now.Add(-latchkey.ObservedFor)), latchkey.ActReleaseGranted, maxObserved)
	return r.last, r.n, err
}

// LastRan returns when a run of the connection or the flow with an id was last
// queued; nil for never.
func (tx *Tx) LastRan(kind latchkey.Kind, id string) (*time.Time, error) {
	column := "connection_id"
	if kind == latchkey.KindFlow {
		column = "flow_id"
	}
	return one(tx, func(s scanner) (t *time.Time, err error) { return t, s.Scan(nullTime{&t}) },
		`SELECT max(r.queued_at) FROM (SELECT queued_at FROM runs WHERE `+column+` = $1
			AND environment_id = (SELECT environment_id FROM `+observedIn[column]+` WHERE id = $1) AND kind = 'flow' ORDER BY id DESC LIMIT 1) r`, id)
}

// SecretUses returns the variables that refer to a secret of a vault, or to any
// when secret is "": at most limit of those whose ids come after one. They are in
// the order of the variables' ids.
func (tx *Tx) SecretUses(vault, secret string, after latchkey.VariableID, limit int) ([]latchkey.SecretUse, error) {
	var w where
	w.add("(r.newest OR r.in_force)")
	w.add("lower(r.vault) = lower(?)", vault)
	if secret != "" {
		w.add("lower(r.secret) = lower(?)", secret)
	}
	w.add("v.id > ?", after)
	w.args = append(w.args, limit)
	return all(tx, func(s scanner) (u latchkey.SecretUse, err error) {
		return u, s.Scan(&u.Reference.SubscriptionID, &u.Reference.ResourceGroup, &u.Reference.Vault, &u.Reference.Secret, &u.InForce,
			&u.Environment, &u.EnvironmentName, &u.Variable, &u.VariableName, &u.Credentials, &u.Connections)
	}, `SELECT r.subscription_id, r.resource_group, r.vault, r.secret, r.in_force, e.id, e.name, v.id, v.name,
		(SELECT count(DISTINCT s.credential_id) FROM credential_slots s JOIN credentials c ON c.id = s.credential_id AND c.deleted_at IS NULL WHERE s.variable_id = v.id),
		(SELECT count(DISTINCT n.id) FROM credential_slots s JOIN connections n ON n.credential_id = s.credential_id AND n.deleted_at IS NULL WHERE s.variable_id = v.id)
		FROM secret_references r JOIN variables v ON v.id = r.variable_id AND v.deleted_at IS NULL
		JOIN environments e ON e.id = v.environment_id AND e.deleted_at IS NULL`+w.String()+` ORDER BY v.id, r.id LIMIT `+w.last(), w.args...)
}

package db

import (
	"time"

	"latchkey.dev/latchkey"
)

const auditCols = `id, at, environment_id, action, outcome, code, reason, actor_id, actor_kind, actor_name, token_id, address, request_id,
	subject_id, subject_kind, subject_name, run_id, claim_id, release_id, machine_id, credential_id, details`

func scanAudit(s scanner) (e latchkey.AuditEvent, err error) {
	return e, s.Scan(&e.ID, timestamp{&e.At}, &e.Environment, &e.Action, &e.Outcome, &e.Code, &e.Reason,
		&e.Actor, &e.ActorKind, &e.ActorName, &e.Token, &e.Address, &e.RequestID,
		&e.Subject, &e.SubjectKind, &e.SubjectName, &e.Run, &e.Claim, &e.Release, &e.Machine, &e.Credential, jsonText{&e.Details})
}

// Record adds an entry to the audit log. It sets the entry's id, its time and
// its place in the committed order. Ids of one server keep the order in which
// entries were added; of those of several servers the clocks decide.
func (tx *Tx) Record(e latchkey.AuditEvent) error {
	details, err := toJSON(e.Details)
	if err != nil {
		return err
	}
	_, err = tx.exec(`INSERT INTO audit (`+auditCols+`, position)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, `+tx.engine.newPosition()+`)`,
		latchkey.NewOrderedID("aud", tx.Now, tx.records.Add(1)), ms(tx.Now), e.Environment, e.Action, e.Outcome, e.Code, e.Reason,
		e.Actor, e.ActorKind, e.ActorName, e.Token, e.Address, e.RequestID,
		e.Subject, e.SubjectKind, e.SubjectName, e.Run, e.Claim, e.Release, e.Machine, e.Credential, details)
	return err
}

// An AuditFilter chooses entries of the audit log; zero fields choose all.
type AuditFilter struct {
	Environment latchkey.EnvironmentID
	Action      latchkey.Action // or a prefix that ends with a dot: "release."
	Outcome     latchkey.Outcome
	Actor       latchkey.PrincipalID
	Subject     string
	Run         latchkey.RunID
	Machine     latchkey.MachineID
	Credential  latchkey.CredentialID
	Since       time.Time
	Until       time.Time
	Newest      bool // newest first

	// Committed lists in the committed order, and only entries that no later one
	// can precede. PageOptions.After may then be the id of an entry. Newest is not
	// for it.
	Committed bool
}

// Audit lists entries of the audit log by their ids, or in the committed order.
// In the latter it returns [ErrNotFound] if the entry to go on after is not in
// the log, or not in the environment that f chooses.
func (tx *Tx) Audit(f AuditFilter, o latchkey.PageOptions) (latchkey.Page[latchkey.AuditEvent], error) {
	var w where
	equal := func(column, value string) {
		if value != "" {
			w.add(column+" = ?", value)
		}
	}
	equal("environment_id", string(f.Environment))
	equal("outcome", string(f.Outcome))
	equal("actor_id", string(f.Actor))
	equal("subject_id", f.Subject)
	// The indexes of runs and of credentials leave out entries without one.
	if f.Run != "" {
		w.add("run_id = ? AND run_id <> ''", f.Run)
	}
	equal("machine_id", string(f.Machine))
	if f.Credential != "" {
		w.add("credential_id = ? AND credential_id <> ''", f.Credential)
	}
	if a := string(f.Action); a != "" && a[len(a)-1] == '.' {
		w.add("substr(action, 1, ?) = ?", len(a), a)
	} else {
		equal("action", a)
	}
	if !f.Since.IsZero() {
		w.add("at >= ?", ms(f.Since))
	}
	if !f.Until.IsZero() {
		w.add("at < ?", ms(f.Until))
	}
	order := "id"
	switch {
	case f.Committed:
		order = "position, id"
		if err := tx.committedAfter(&w, f.Environment, o.After); err != nil {
			return latchkey.Page[latchkey.AuditEvent]{}, err
		}
	case f.Newest:
		order = "id DESC"
		if o.After != "" {
			_, id := parseCursor(o.After)
			w.add("id < ?", id)
		}
	case o.After != "":
		_, id := parseCursor(o.After)
		w.add("id > ?", id)
	}
	w.args = append(w.args, o.Size()+1)
	items, err := all(tx, scanAudit, `SELECT `+auditCols+` FROM audit`+w.String()+` ORDER BY `+order+` LIMIT `+w.last(), w.args...)
	return page(items, o, func(e latchkey.AuditEvent) (string, string) { return "", string(e.ID) }), err
}

package db

import (
	"fmt"
	"strings"
	"time"

	"latchkey.dev/latchkey"
)

const auditCols = `id, at, environment_id, action, outcome, actor_id, subject_id, run_id, machine_id, credential_id, entry`

// AuditVersion is the detail of a delivered release that says which version of
// the vault's secret was delivered.
const AuditVersion = "version"

// An auditEntry is the part of an audit event that no column holds.
type auditEntry struct {
	Code        string                 `json:"code,omitempty"`
	Reason      string                 `json:"reason,omitempty"`
	ActorKind   latchkey.PrincipalKind `json:"actorKind,omitempty"`
	ActorName   string                 `json:"actorName,omitempty"`
	Token       latchkey.TokenID       `json:"token,omitempty"`
	Address     string                 `json:"address,omitempty"`
	RequestID   string                 `json:"requestId,omitempty"`
	SubjectKind latchkey.Kind          `json:"subjectKind,omitempty"`
	SubjectName string                 `json:"subjectName,omitempty"`
	Claim       latchkey.ClaimID       `json:"claim,omitempty"`
	Release     latchkey.ReleaseID     `json:"release,omitempty"`
	Details     map[string]string      `json:"details,omitempty"`
}

func scanAudit(s scanner) (e latchkey.AuditEvent, err error) {
	var rest auditEntry
	err = s.Scan(&e.ID, timestamp{&e.At}, &e.Environment, &e.Action, &e.Outcome, &e.Actor, &e.Subject, &e.Run, &e.Machine, &e.Credential, jsonText{&rest})
	e.Code, e.Reason = rest.Code, rest.Reason
	e.ActorKind, e.ActorName, e.Token, e.Address, e.RequestID = rest.ActorKind, rest.ActorName, rest.Token, rest.Address, rest.RequestID
	e.SubjectKind, e.SubjectName, e.Claim, e.Release, e.Details = rest.SubjectKind, rest.SubjectName, rest.Claim, rest.Release, rest.Details
	return e, err
}

// Record adds entries to the audit log. It sets their ids, their time and their
// place in the committed order. Ids of one server keep the order in which entries
// were added; of those of several servers the clocks decide.
func (tx *Tx) Record(events ...latchkey.AuditEvent) error {
	p := tx.pipeline()
	if err := p.record(events); err != nil {
		return err
	}
	return p.run()
}

// record adds the statements of [Tx.Record].
func (p *pipeline) record(events []latchkey.AuditEvent) error {
	position, last, err := p.tx.newPosition(12)
	if err != nil {
		return err
	}
	query := `INSERT INTO audit (` + auditCols + `, position) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, ` + position + `)`
	for _, e := range events {
		if e.Credential != "" && e.Subject != string(e.Credential) {
			return fmt.Errorf("the audit entry of %s names a credential that is not its subject: no filter would find it", e.Action)
		}
		rest, err := toJSON(auditEntry{
			e.Code, e.Reason, e.ActorKind, e.ActorName, e.Token, e.Address, e.RequestID, e.SubjectKind, e.SubjectName, e.Claim, e.Release, e.Details,
		})
		if err != nil {
			return err
		}
		p.exec(nil, query, append([]any{
			latchkey.NewOrderedID("aud", p.tx.Now, p.tx.records.Add(1)), ms(p.tx.Now), e.Environment, e.Action, e.Outcome, e.Actor, e.Subject,
			e.Run, e.Machine, e.Credential, rest,
		}, last...)...)
	}
	return nil
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

// noRelease is the condition of the indexes that releases are not in, of which
// there are more than of anything else.
const noRelease = "substr(action, 1, 8) <> 'release.'"

// where returns the conditions that have an index, each with the index's own.
func (f AuditFilter) where() (w where) {
	switch {
	case latchkey.HasPrefix(f.Subject, "cred"):
		w.add("subject_id = ? AND credential_id = ? AND credential_id <> ''", f.Subject, f.Subject)
	case f.Subject != "":
		w.add("subject_id = ? AND credential_id = ''", f.Subject)
	}
	if f.Run != "" {
		w.add("run_id = ? AND run_id <> ''", f.Run)
	}
	if f.Credential != "" {
		w.add("credential_id = ? AND credential_id <> ''", f.Credential)
	}
	if f.Outcome != "" {
		w.add("outcome = ?", f.Outcome)
		if f.Outcome != latchkey.OutcomeOK {
			w.conds = append(w.conds, "outcome <> 'ok'")
		}
	}
	if f.Actor != "" {
		w.add("actor_id = ?", f.Actor)
		if !latchkey.HasPrefix(string(f.Actor), "mach") {
			w.conds = append(w.conds, noRelease) // only machines get releases
		}
	}
	if a := string(f.Action); a != "" {
		if strings.HasSuffix(a, ".") {
			// Not a range: what is between two texts depends on the collation.
			w.add("substr(action, 1, ?) = ?", len(a), a)
		} else {
			w.add("action = ?", a)
		}
		if !strings.HasPrefix(a, "release.") {
			w.conds = append(w.conds, noRelease)
		}
	}
	return w
}

// Audit lists entries of the audit log by their ids, or in the committed order.
// In the latter it returns [ErrNotFound] if the entry to go on after is not in
// the log, or not in the environment that f chooses.
func (tx *Tx) Audit(f AuditFilter, o latchkey.PageOptions) (latchkey.Page[latchkey.AuditEvent], error) {
	w := f.where()
	environment := "environment_id"
	if f.Committed || len(w.conds) > 0 {
		// Not by the index of environments, which hardly tells entries apart: by the
		// one of positions or of what the filter asks for.
		environment += " || ''"
	}
	if f.Environment != "" {
		w.add(environment+" = ?", f.Environment)
	}
	if f.Machine != "" {
		w.add("machine_id = ?", f.Machine)
	}
	// Ids begin with the time of their entry, so that no index of times is needed.
	if !f.Since.IsZero() {
		w.add("at >= ? AND id >= ?", ms(f.Since), latchkey.FirstID("aud", f.Since))
	}
	if !f.Until.IsZero() {
		w.add("at < ? AND id < ?", ms(f.Until), latchkey.FirstID("aud", f.Until.Add(time.Millisecond)))
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

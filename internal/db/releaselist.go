package db

import "latchkey.dev/latchkey"

// Releases lists the entries of the audit log by which releases of a credential were
// granted or denied, newest first.
func (tx *Tx) Releases(id latchkey.CredentialID, o latchkey.PageOptions) (latchkey.Page[latchkey.AuditEvent], error) {
	var w where
	w.add("credential_id = ? AND credential_id <> ''", id)
	w.add("action IN (?, ?)", latchkey.ActReleaseGranted, latchkey.ActReleaseDenied)
	if o.After != "" {
		_, after := parseCursor(o.After)
		w.add("id < ?", after)
	}
	w.args = append(w.args, o.Size()+1)
	items, err := all(tx, scanAudit, `SELECT `+auditCols+` FROM audit`+w.String()+` ORDER BY id DESC LIMIT `+w.last(), w.args...)
	return page(items, o, func(e latchkey.AuditEvent) (string, string) { return "", string(e.ID) }), err
}

// ReleaseEnds returns the entries that say what came of the releases of runs.
func (tx *Tx) ReleaseEnds(runs []latchkey.RunID) (map[latchkey.ReleaseID]latchkey.AuditEvent, error) {
	rows, err := allOf(tx, scanAudit, runs, func(list string) string {
		return `SELECT ` + auditCols + ` FROM audit WHERE run_id IN (` + list + `) AND run_id <> '' AND action IN ($1, $2)`
	}, latchkey.ActReleaseDelivered, latchkey.ActReleaseFailed)
	ends := make(map[latchkey.ReleaseID]latchkey.AuditEvent, len(rows))
	for _, e := range rows {
		ends[e.Release] = e
	}
	return ends, err
}

// A RunPlace is what a run is of and where it was.
type RunPlace struct {
	Run         latchkey.RunID
	Kind        latchkey.RunKind
	Flow        latchkey.FlowID
	FlowName    string
	MachineName string
}

// RunPlaces returns what runs are of and where they were.
func (tx *Tx) RunPlaces(runs []latchkey.RunID) (map[latchkey.RunID]RunPlace, error) {
	rows, err := allOf(tx, func(s scanner) (r RunPlace, err error) {
		return r, s.Scan(&r.Run, &r.Kind, &r.Flow, &r.FlowName, &r.MachineName)
	}, runs, func(list string) string {
		return `SELECT r.id, r.kind, COALESCE(r.flow_id, ''), COALESCE(f.name, ''), m.name FROM runs r
			LEFT JOIN flows f ON f.id = r.flow_id JOIN machines m ON m.id = r.machine_id WHERE r.id IN (` + list + `)`
	})
	places := make(map[latchkey.RunID]RunPlace, len(rows))
	for _, r := range rows {
		places[r.Run] = r
	}
	return places, err
}

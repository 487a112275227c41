package db

import (
	"time"

	"latchkey.dev/latchkey"
)

const flowCols = `f.id, f.name, f.description, r.revision, r.command, r.timeout_ms, r.handover, r.credentials, f.created_by, f.created_at, r.created_at`

func scanFlow(s scanner) (f latchkey.Flow, err error) {
	var timeout int64
	err = s.Scan(&f.ID, &f.Name, &f.Description, &f.Revision, jsonText{&f.Command}, &timeout, &f.Handover, jsonText{&f.Credentials},
		&f.CreatedBy, timestamp{&f.CreatedAt}, timestamp{&f.UpdatedAt})
	f.Timeout = latchkey.Duration(time.Duration(timeout) * time.Millisecond)
	return f, err
}

// Flow returns the flow of an environment with an id in its newest revision,
// or ErrNotFound.
func (tx *Tx) Flow(env latchkey.EnvironmentID, id latchkey.FlowID) (latchkey.Flow, error) {
	return one(tx, scanFlow, `SELECT `+flowCols+` FROM flows f JOIN flow_revisions r ON r.flow_id = f.id AND r.revision = f.revision
		WHERE f.environment_id = $1 AND f.id = $2 AND f.deleted_at IS NULL`, env, id)
}

// FlowRevision returns one revision of a flow, also of one that is deleted, or
// ErrNotFound.
func (tx *Tx) FlowRevision(env latchkey.EnvironmentID, id latchkey.FlowID, revision int) (latchkey.Flow, error) {
	return one(tx, scanFlow, `SELECT `+flowCols+` FROM flows f JOIN flow_revisions r ON r.flow_id = f.id
		WHERE f.environment_id = $1 AND f.id = $2 AND r.revision = $3`, env, id, revision)
}

// Flows lists an environment's flows.
func (tx *Tx) Flows(env latchkey.EnvironmentID, visible Visible, o latchkey.PageOptions) (latchkey.Page[latchkey.Flow], error) {
	l := listing[latchkey.Flow]{
		kind: latchkey.KindFlow, cols: flowCols, table: "flows f", alias: "f", joins: ` JOIN flow_revisions r ON r.flow_id = f.id AND r.revision = f.revision`,
		scan: scanFlow, name: func(f *latchkey.Flow) (string, string) { return f.Name, string(f.ID) },
		modified: func(f *latchkey.Flow) time.Time { return f.UpdatedAt },
	}
	return l.page(tx, env, visible, o, nil)
}

// CreateFlow stores a new flow with its first revision. It returns ErrExists
// when its creator has one with the same name.
func (tx *Tx) CreateFlow(env latchkey.EnvironmentID, f latchkey.Flow) error {
	if _, err := tx.exec(`INSERT INTO flows (id, environment_id, name, sort_key, search_key, description, revision, created_by, created_at, updated_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $9)`,
		f.ID, env, f.Name, latchkey.SortKey(f.Name), latchkey.SearchKey(f.Name, f.Description), f.Description, f.Revision, f.CreatedBy, ms(tx.Now)); err != nil {
		return err
	}
	return tx.createRevision(f, f.CreatedBy)
}

// ReviseFlow stores a flow's name, description and next revision.
func (tx *Tx) ReviseFlow(f latchkey.Flow, by latchkey.PrincipalID) error {
	if err := tx.execOne(`UPDATE flows SET name = $2, sort_key = $3, description = $4, revision = $5, updated_at = $6, search_key = $7 WHERE id = $1`,
		f.ID, f.Name, latchkey.SortKey(f.Name), f.Description, f.Revision, ms(tx.Now), latchkey.SearchKey(f.Name, f.Description)); err != nil {
		return err
	}
	if err := tx.sortGrants(string(f.ID), f.Name); err != nil {
		return err
	}
	if err := tx.bumpEpochOf("flows", string(f.ID)); err != nil {
		return err
	}
	return tx.createRevision(f, by)
}

func (tx *Tx) createRevision(f latchkey.Flow, by latchkey.PrincipalID) error {
	command, err := toJSON(f.Command)
	if err != nil {
		return err
	}
	credentials, err := toJSON(f.Credentials)
	if err != nil {
		return err
	}
	_, err = tx.exec(`INSERT INTO flow_revisions (flow_id, revision, command, timeout_ms, handover, credentials, created_by, created_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`,
		f.ID, f.Revision, command, time.Duration(f.Timeout).Milliseconds(), f.Handover, credentials, by, ms(tx.Now))
	if err != nil {
		return err
	}
	if _, err := tx.exec(`DELETE FROM flow_credentials WHERE flow_id = $1`, f.ID); err != nil {
		return err
	}
	for _, c := range f.Credentials {
		if _, err := tx.exec(`INSERT INTO flow_credentials (flow_id, credential_id) VALUES ($1, $2) ON CONFLICT DO NOTHING`, f.ID, c); err != nil {
			return err
		}
	}
	return nil
}

// DeleteFlow marks a flow as deleted.
func (tx *Tx) DeleteFlow(id latchkey.FlowID, by latchkey.PrincipalID) error {
	if err := tx.execOne(`UPDATE flows SET deleted_at = $2, deleted_by = $3 WHERE id = $1`, id, ms(tx.Now), by); err != nil {
		return err
	}
	return tx.bumpEpochOf("flows", string(id))
}

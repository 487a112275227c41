package db

import (
	"time"

	"latchkey.dev/latchkey"
)

const credentialCols = `c.id, c.name, c.description, c.store, c.usages, c.authentication, c.exposure, c.allow_shared_uid, c.machines, c.machine_groups,
	c.created_by, c.created_at, c.updated_at`

func scanCredential(s scanner) (c latchkey.Credential, err error) {
	return c, s.Scan(&c.ID, &c.Name, &c.Description, &c.Store, jsonText{&c.Usages}, &c.Authentication, &c.Exposure, &c.AllowSharedUID, jsonText{&c.Machines}, jsonText{&c.MachineGroups},
		&c.CreatedBy, timestamp{&c.CreatedAt}, timestamp{&c.UpdatedAt})
}

// Credential returns the credential of an environment with an id, with its
// slots, or ErrNotFound.
func (tx *Tx) Credential(env latchkey.EnvironmentID, id latchkey.CredentialID) (latchkey.Credential, error) {
	c, err := one(tx, scanCredential, `SELECT `+credentialCols+` FROM credentials c WHERE c.environment_id = $1 AND c.id = $2 AND c.deleted_at IS NULL`, env, id)
	if err != nil {
		return c, err
	}
	return c, tx.addSlots(&c)
}

// addSlots fills in the names of the variables that credentials are bound to.
func (tx *Tx) addSlots(credentials ...*latchkey.Credential) error {
	byID := make(map[latchkey.CredentialID]*latchkey.Credential, len(credentials))
	ids := make([]latchkey.CredentialID, len(credentials))
	for i, c := range credentials {
		c.Slots = make(map[latchkey.Slot]string)
		byID[c.ID], ids[i] = c, c.ID
	}
	type row struct {
		id   latchkey.CredentialID
		slot latchkey.Slot
		name string
	}
	rows, err := allOf(tx, func(s scanner) (r row, err error) { return r, s.Scan(&r.id, &r.slot, &r.name) }, ids, func(list string) string {
		return `SELECT s.credential_id, s.slot, v.name FROM credential_slots s JOIN variables v ON v.id = s.variable_id WHERE s.credential_id IN (` + list + `)`
	})
	for _, r := range rows {
		byID[r.id].Slots[r.slot] = r.name
	}
	return err
}

// SlotVariable returns the variable that a slot of a credential is bound to,
// also one that is deleted, or ErrNotFound.
func (tx *Tx) SlotVariable(id latchkey.CredentialID, slot latchkey.Slot) (v latchkey.Variable, deleted bool, err error) {
	type row struct {
		v       latchkey.Variable
		deleted bool
	}
	r, err := one(tx, func(s scanner) (r row, err error) {
		return r, s.Scan(&r.v.ID, &r.v.Name, &r.v.DisplayName, &r.v.Type, &r.v.DefaultValue, &r.v.Value, &r.deleted)
	}, `SELECT v.id, v.name, v.display_name, v.type, v.default_value, v.current_value, v.deleted_at IS NOT NULL
		FROM credential_slots s JOIN variables v ON v.id = s.variable_id WHERE s.credential_id = $1 AND s.slot = $2`, id, slot)
	return r.v, r.deleted, err
}

// A CredentialFilter chooses credentials of a list; zero fields choose all.
type CredentialFilter struct {
	Authentication latchkey.Authentication
	Usage          latchkey.Usage
	Owner          latchkey.PrincipalID
}

// Credentials lists an environment's credentials.
func (tx *Tx) Credentials(env latchkey.EnvironmentID, visible Visible, f CredentialFilter, o latchkey.PageOptions) (latchkey.Page[latchkey.Credential], error) {
	l := listing[latchkey.Credential]{
		kind: latchkey.KindCredential, cols: credentialCols, table: "credentials c", alias: "c", scan: scanCredential,
		name:     func(c *latchkey.Credential) (string, string) { return c.Name, string(c.ID) },
		modified: func(c *latchkey.Credential) time.Time { return c.UpdatedAt },
	}
	p, err := l.page(tx, env, visible, o, func(w *where) {
		if f.Authentication != "" {
			w.add("c.authentication = ?", f.Authentication)
		}
		if f.Usage != "" {
			w.add("c.usages LIKE ?", `%"`+string(f.Usage)+`"%`) // they are a list in JSON
		}
		if f.Owner != "" {
			w.add("EXISTS (SELECT 1 FROM grants g WHERE g.subject_id = c.id AND g.role = 'owner' AND g.principal_id = ?)", f.Owner)
		}
	})
	if err != nil {
		return p, err
	}
	credentials := make([]*latchkey.Credential, len(p.Items))
	for i := range p.Items {
		credentials[i] = &p.Items[i]
	}
	return p, tx.addSlots(credentials...)
}

// CreateCredential stores a new credential and binds its slots. It returns
// ErrExists when its creator has one with the same name.
func (tx *Tx) CreateCredential(env latchkey.EnvironmentID, c latchkey.Credential, slots map[latchkey.Slot]latchkey.VariableID) error {
	usages, err := toJSON(c.Usages)
	if err != nil {
		return err
	}
	machines, err := toJSON(c.Machines)
	if err != nil {
		return err
	}
	groups, err := toJSON(c.MachineGroups)
	if err != nil {
		return err
	}
	if _, err := tx.exec(`INSERT INTO credentials (id, environment_id, name, sort_key, search_key, description, store, usages, authentication, exposure,
		allow_shared_uid, machines, machine_groups, created_by, created_at, updated_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $15)`,
		c.ID, env, c.Name, latchkey.SortKey(c.Name), latchkey.SearchKey(c.Name, c.Description), c.Description, c.Store, usages, c.Authentication, c.Exposure,
		c.AllowSharedUID, machines, groups, c.CreatedBy, ms(tx.Now)); err != nil {
		return err
	}
	for slot, variable := range slots {
		if _, err := tx.exec(`INSERT INTO credential_slots (credential_id, slot, variable_id) VALUES ($1, $2, $3)`, c.ID, slot, variable); err != nil {
			return err
		}
	}
	return nil
}

// UpdateCredential stores what may change of a credential. It returns ErrExists
// when its creator has another one with the same name.
func (tx *Tx) UpdateCredential(c latchkey.Credential) error {
	machines, err := toJSON(c.Machines)
	if err != nil {
		return err
	}
	groups, err := toJSON(c.MachineGroups)
	if err != nil {
		return err
	}
	if err := tx.execOne(`UPDATE credentials SET name = $2, sort_key = $3, description = $4, exposure = $5, allow_shared_uid = $6, machines = $7, updated_at = $8, search_key = $9, machine_groups = $10
		WHERE id = $1`, c.ID, c.Name, latchkey.SortKey(c.Name), c.Description, c.Exposure, c.AllowSharedUID, machines, ms(tx.Now), latchkey.SearchKey(c.Name, c.Description), groups); err != nil {
		return err
	}
	if err := tx.sortGrants(string(c.ID), c.Name); err != nil {
		return err
	}
	return tx.bumpEpochOf("credentials", string(c.ID))
}

// DeleteCredential marks a credential as deleted.
func (tx *Tx) DeleteCredential(id latchkey.CredentialID, by latchkey.PrincipalID) error {
	if err := tx.execOne(`UPDATE credentials SET deleted_at = $2, deleted_by = $3 WHERE id = $1`, id, ms(tx.Now), by); err != nil {
		return err
	}
	if _, err := tx.exec(`DELETE FROM certificate_checks WHERE credential_id = $1`, id); err != nil {
		return err
	}
	return tx.bumpEpochOf("credentials", string(id))
}

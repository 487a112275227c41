package db

import "latchkey.dev/latchkey"

func scanAzureTenant(s scanner) (t latchkey.AzureTenant, err error) {
	return t, s.Scan(&t.ID, &t.LinkedBy, timestamp{&t.LinkedAt})
}

// AzureTenants lists the tenants of Azure that are linked, by id.
func (tx *Tx) AzureTenants(o latchkey.PageOptions) (latchkey.Page[latchkey.AzureTenant], error) {
	var w where
	if o.After != "" {
		_, after := parseCursor(o.After)
		w.add("id > ?", after)
	}
	w.args = append(w.args, o.Size()+1)
	items, err := all(tx, scanAzureTenant, `SELECT id, linked_by, linked_at FROM azure_tenants`+w.String()+` ORDER BY id LIMIT `+w.last(), w.args...)
	return page(items, o, func(t latchkey.AzureTenant) (string, string) { return "", t.ID }), err
}

// LinkedAzureTenants returns the ids of all tenants of Azure that are linked.
func (tx *Tx) LinkedAzureTenants() ([]string, error) {
	return all(tx, func(s scanner) (id string, err error) { return id, s.Scan(&id) }, `SELECT id FROM azure_tenants ORDER BY id`)
}

// LinkAzureTenant stores that a tenant of Azure is linked. It returns ErrExists when
// it is already.
func (tx *Tx) LinkAzureTenant(t latchkey.AzureTenant) error {
	_, err := tx.exec(`INSERT INTO azure_tenants (id, linked_by, linked_at) VALUES ($1, $2, $3)`, t.ID, t.LinkedBy, ms(tx.Now))
	return err
}

// UnlinkAzureTenant removes the link of a tenant of Azure. It returns ErrNotFound
// when it is not linked.
func (tx *Tx) UnlinkAzureTenant(id string) error {
	return tx.execOne(`DELETE FROM azure_tenants WHERE id = $1`, id)
}

// AddExternalIdentity stores one more identity of a principal in another directory.
// It returns ErrExists when the identity is somebody's.
func (tx *Tx) AddExternalIdentity(id latchkey.PrincipalID, e latchkey.ExternalIdentity) error {
	_, err := tx.exec(`INSERT INTO external_identities (issuer, tenant, object_id, principal_id) VALUES ($1, $2, $3, $4)`, e.Issuer, e.Tenant, e.ObjectID, id)
	return err
}

// RemoveExternalIdentity takes an identity of a principal away. It returns
// ErrNotFound when the principal has it not.
func (tx *Tx) RemoveExternalIdentity(id latchkey.PrincipalID, e latchkey.ExternalIdentity) error {
	return tx.execOne(`DELETE FROM external_identities WHERE issuer = $1 AND tenant = $2 AND object_id = $3 AND principal_id = $4`, e.Issuer, e.Tenant, e.ObjectID, id)
}

package db

import (
	"strings"
	"time"
	"unicode/utf8"

	"latchkey.dev/latchkey"
)

const vaultCols = `v.id, v.name, v.subscription_id, v.resource_group, v.retention_days, v.created_by, v.created_at`

func scanVault(s scanner) (v latchkey.EmbeddedVault, err error) {
	err = s.Scan(&v.ID, &v.Name, &v.SubscriptionID, &v.ResourceGroup, &v.RetentionDays, &v.CreatedBy, timestamp{&v.CreatedAt})
	v.ARMID = v.Reference().String()
	return v, err
}

// Vault returns the embedded vault with a name, or ErrNotFound. Names of vaults
// do not depend on case.
func (tx *Tx) Vault(name string) (latchkey.EmbeddedVault, error) {
	return one(tx, scanVault, `SELECT `+vaultCols+` FROM vaults v WHERE v.name_key = $1 AND v.deleted_at IS NULL`, strings.ToLower(name))
}

// VaultByReference returns the embedded vault whose whole ARM id is the
// reference's, or ErrNotFound.
func (tx *Tx) VaultByReference(ref latchkey.VaultReference) (latchkey.EmbeddedVault, error) {
	return one(tx, scanVault, `SELECT `+vaultCols+` FROM vaults v WHERE v.reference_key = $1 AND v.deleted_at IS NULL`, ref.Key())
}

// Vaults lists the embedded vaults in which a principal has a role, or all.
func (tx *Tx) Vaults(who latchkey.PrincipalID, everything bool, o latchkey.PageOptions) (latchkey.Page[latchkey.EmbeddedVault], error) {
	w := where{args: []any{who}}
	w.add("v.deleted_at IS NULL")
	w.add("(? OR EXISTS (SELECT 1 FROM vault_role_assignments a JOIN mine ON a.principal_id = mine.id WHERE a.vault_id = v.id))", everything)
	w.contains("v.name_key", o.Search)
	w.after(o, "v.name_key", "v.id")
	w.args = append(w.args, o.Size()+1)
	items, err := all(tx, scanVault, mine+`SELECT `+vaultCols+` FROM vaults v`+w.String()+` ORDER BY v.name_key, v.id LIMIT `+w.last(), w.args...)
	return page(items, o, func(v latchkey.EmbeddedVault) (string, string) { return strings.ToLower(v.Name), string(v.ID) }), err
}

// SubscriptionUsed reports whether an embedded vault is in a subscription: any, or
// one in which a principal has a role.
func (tx *Tx) SubscriptionUsed(who latchkey.PrincipalID, everything bool, subscription string) (bool, error) {
	n, err := one(tx, scanInt, mine+`SELECT count(*) FROM vaults v WHERE v.deleted_at IS NULL AND lower(v.subscription_id) = $2
		AND ($3 OR EXISTS (SELECT 1 FROM vault_role_assignments a JOIN mine ON a.principal_id = mine.id WHERE a.vault_id = v.id))`,
		who, strings.ToLower(subscription), everything)
	return n > 0, err
}

// CreateVault stores a new embedded vault. It returns ErrExists when the name
// is taken.
func (tx *Tx) CreateVault(v latchkey.EmbeddedVault) error {
	_, err := tx.exec(`INSERT INTO vaults (id, name, name_key, subscription_id, resource_group, reference_key, retention_days, created_by, created_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)`,
		v.ID, v.Name, strings.ToLower(v.Name), v.SubscriptionID, v.ResourceGroup, v.Reference().Key(), v.RetentionDays, v.CreatedBy, ms(tx.Now))
	if err != nil {
		return err
	}
	return tx.bumpEpochs() // references that named a vault of Azure's name this one now
}

// DeleteVault marks an embedded vault as deleted.
func (tx *Tx) DeleteVault(id latchkey.VaultID) error {
	if err := tx.execOne(`UPDATE vaults SET deleted_at = $2 WHERE id = $1`, id, ms(tx.Now)); err != nil {
		return err
	}
	return tx.bumpEpochs()
}

// VaultUse returns how many secrets and certificates an embedded vault has,
// deleted ones included, and how many variables refer to them.
func (tx *Tx) VaultUse(v latchkey.EmbeddedVault) (secrets, certificates, variables int, err error) {
	if secrets, err = one(tx, scanInt, `SELECT count(*) FROM vault_secrets WHERE vault_id = $1 AND NOT managed`, v.ID); err != nil {
		return 0, 0, 0, err
	}
	if certificates, err = one(tx, scanInt, `SELECT count(*) FROM vault_certificates WHERE vault_id = $1`, v.ID); err != nil {
		return 0, 0, 0, err
	}
	variables, err = one(tx, scanInt, `SELECT count(*) FROM secret_references WHERE (newest OR in_force) AND `+inVault, secretPrefix(v.Reference())...)
	return secrets, certificates, variables, err
}

// VaultInForce reports whether releases read secrets of a vault, embedded or
// not.
func (tx *Tx) VaultInForce(ref latchkey.VaultReference) (bool, error) {
	n, err := one(tx, scanInt, `SELECT count(*) FROM secret_references WHERE in_force AND `+inVault, secretPrefix(ref)...)
	return n > 0, err
}

// inVault is the condition that a reference is to a secret of a vault; its
// arguments are secretPrefix's. It does not rely on the order of texts, which
// depends on the database's collation.
const inVault = `substr(reference_key, 1, $1) = $2`

func secretPrefix(v latchkey.VaultReference) []any {
	prefix := v.Key() + "/secrets/"
	return []any{utf8.RuneCountInString(prefix), prefix}
}

// VaultRoles returns the roles that a principal holds in a vault: those at the
// vault's scope and those on an object in it.
func (tx *Tx) VaultRoles(who latchkey.PrincipalID, id latchkey.VaultID, object latchkey.VaultObject) ([]latchkey.VaultRole, error) {
	return all(tx, scanVaultRole, mine+`SELECT role FROM vault_role_assignments
		WHERE vault_id = $2 AND (object_key = '' OR collection = $3 AND object_key = $4) AND principal_id IN (SELECT id FROM mine)`,
		who, id, object.In, strings.ToLower(object.Name))
}

// AnyVaultRoles returns the roles that a principal holds in a vault at any
// scope.
func (tx *Tx) AnyVaultRoles(who latchkey.PrincipalID, id latchkey.VaultID) ([]latchkey.VaultRole, error) {
	return all(tx, scanVaultRole, mine+`SELECT role FROM vault_role_assignments WHERE vault_id = $2 AND principal_id IN (SELECT id FROM mine)`, who, id)
}

func scanVaultRole(s scanner) (r latchkey.VaultRole, err error) { return r, s.Scan(&r) }

const assignmentCols = `a.id, a.principal_id, p.name, p.kind, COALESCE(s.client_id, ''), a.role, a.collection, a.object, a.created_by, a.created_at`

// assignments are the role assignments that count: those of principals that are
// not deleted.
const assignments = ` FROM vault_role_assignments a JOIN principals p ON p.id = a.principal_id AND p.deleted_at IS NULL
	LEFT JOIN service_principals s ON s.id = p.id`

func scanAssignment(s scanner) (a latchkey.RoleAssignment, err error) {
	var o latchkey.VaultObject
	err = s.Scan(&a.ID, &a.Principal, &a.PrincipalName, &a.PrincipalKind, &a.ClientID, &a.Role, &o.In, &o.Name, &a.CreatedBy, timestamp{&a.CreatedAt})
	a.LimitTo(o)
	return a, err
}

// RoleAssignments lists the role assignments of a vault, oldest first.
func (tx *Tx) RoleAssignments(id latchkey.VaultID, o latchkey.PageOptions) (latchkey.Page[latchkey.RoleAssignment], error) {
	var w where
	w.add("a.vault_id = ?", id)
	if o.After != "" {
		_, after := parseCursor(o.After)
		w.add("a.id > ?", after)
	}
	w.args = append(w.args, o.Size()+1)
	items, err := all(tx, scanAssignment, `SELECT `+assignmentCols+assignments+w.String()+
		` ORDER BY a.id LIMIT `+w.last(), w.args...)
	return page(items, o, func(a latchkey.RoleAssignment) (string, string) { return "", string(a.ID) }), err
}

// RoleAssignment returns a role assignment of a vault, or ErrNotFound.
func (tx *Tx) RoleAssignment(vault latchkey.VaultID, id latchkey.RoleAssignmentID) (latchkey.RoleAssignment, error) {
	return one(tx, scanAssignment, `SELECT `+assignmentCols+assignments+`
		WHERE a.vault_id = $1 AND a.id = $2`, vault, id)
}

// AssignmentsOf returns the role assignments that hold for an object in a vault, or
// for the vault itself: those of a principal and its groups, or all if who is "".
func (tx *Tx) AssignmentsOf(vault latchkey.VaultID, object latchkey.VaultObject, who latchkey.PrincipalID) ([]latchkey.RoleAssignment, error) {
	return all(tx, scanAssignment, mine+`SELECT `+assignmentCols+assignments+`
		WHERE a.vault_id = $2 AND (a.object_key = '' OR a.collection = $3 AND a.object_key = $4) AND ($1 = '' OR a.principal_id IN (SELECT id FROM mine)) ORDER BY a.id`,
		who, vault, object.In, strings.ToLower(object.Name))
}

// OwnAssignments returns the role assignments in a vault, at any scope, of a
// principal and its groups.
func (tx *Tx) OwnAssignments(vault latchkey.VaultID, who latchkey.PrincipalID) ([]latchkey.RoleAssignment, error) {
	return all(tx, scanAssignment, mine+`SELECT `+assignmentCols+assignments+`
		WHERE a.vault_id = $2 AND a.principal_id IN (SELECT id FROM mine) ORDER BY a.id`, who, vault)
}

// CreateRoleAssignment stores a role assignment. It returns ErrExists when
// there is the same one.
func (tx *Tx) CreateRoleAssignment(vault latchkey.VaultID, a latchkey.RoleAssignment) error {
	o := a.Object()
	_, err := tx.exec(`INSERT INTO vault_role_assignments (id, vault_id, collection, object_key, object, principal_id, role, created_by, created_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)`,
		a.ID, vault, o.In, strings.ToLower(o.Name), o.Name, a.Principal, a.Role, a.CreatedBy, ms(tx.Now))
	if err != nil {
		return err
	}
	return tx.bumpAccess(vault)
}

// DeleteRoleAssignment removes a role assignment of a vault.
func (tx *Tx) DeleteRoleAssignment(vault latchkey.VaultID, id latchkey.RoleAssignmentID) error {
	if err := tx.execOne(`DELETE FROM vault_role_assignments WHERE id = $1 AND vault_id = $2`, id, vault); err != nil {
		return err
	}
	return tx.bumpAccess(vault)
}

// A StoredSecret is one version of a secret of an embedded vault with its
// sealed value.
type StoredSecret struct {
	latchkey.VaultSecret
	Number int    // of the version, from 1
	Value  []byte // sealed
}

const secretCols = `s.name, s.managed, n.number, n.version, n.value, n.content_type, n.enabled, n.not_before, n.expires_at, n.tags, n.created_at, n.updated_at, s.deleted_at, s.purge_at`

func scanSecret(s scanner) (v StoredSecret, err error) {
	return v, s.Scan(&v.Name, &v.Managed, &v.Number, &v.Version, &v.Value, &v.ContentType, &v.Enabled, nullTime{&v.NotBefore}, nullTime{&v.Expires}, jsonText{&v.Tags},
		timestamp{&v.CreatedAt}, timestamp{&v.UpdatedAt}, nullTime{&v.DeletedAt}, nullTime{&v.PurgeAt})
}

const secretFrom = ` FROM vault_secrets s JOIN vault_secret_versions n ON n.vault_id = s.vault_id AND n.name_key = s.name_key`

const newestVersion = ` AND n.number = (SELECT max(m.number) FROM vault_secret_versions m WHERE m.vault_id = s.vault_id AND m.name_key = s.name_key)`

// VaultSecret returns a version of a secret, or its newest when version is "",
// also of a deleted secret, or ErrNotFound.
func (tx *Tx) VaultSecret(vault latchkey.VaultID, name, version string) (StoredSecret, error) {
	query := `SELECT ` + secretCols + secretFrom + ` WHERE s.vault_id = $1 AND s.name_key = $2`
	if version == "" {
		return one(tx, scanSecret, query+newestVersion, vault, strings.ToLower(name))
	}
	return one(tx, scanSecret, query+` AND n.version = $3`, vault, strings.ToLower(name), strings.ToLower(version))
}

// PreviousVersion returns the version of a secret before the one with a number,
// or "".
func (tx *Tx) PreviousVersion(vault latchkey.VaultID, name string, number int) (string, error) {
	versions, err := all(tx, func(s scanner) (v string, err error) { return v, s.Scan(&v) },
		`SELECT version FROM vault_secret_versions WHERE vault_id = $1 AND name_key = $2 AND number = $3`, vault, strings.ToLower(name), number-1)
	if err != nil || len(versions) == 0 {
		return "", err
	}
	return versions[0], nil
}

// VaultSecrets lists the newest versions of a vault's secrets in the order of
// their names: those that are deleted, or those that are not.
func (tx *Tx) VaultSecrets(vault latchkey.VaultID, deleted bool, o latchkey.PageOptions) (latchkey.Page[latchkey.VaultSecret], error) {
	var w where
	w.add("s.vault_id = ?", vault)
	w.conds = append(w.conds, "s.deleted_at IS NULL")
	if deleted {
		w.conds[1] = "s.deleted_at IS NOT NULL"
	}
	if o.After != "" {
		key, _ := parseCursor(o.After)
		w.add("s.name_key > ?", key)
	}
	w.args = append(w.args, o.Size()+1)
	return secretPage(tx, o, `SELECT `+secretCols+secretFrom+w.String()+newestVersion+` ORDER BY s.name_key LIMIT `+w.last(), w.args)
}

// AllSecretVersions returns at most limit versions of a secret, oldest first.
func (tx *Tx) AllSecretVersions(vault latchkey.VaultID, name string, limit int) ([]StoredSecret, error) {
	return all(tx, scanSecret, `SELECT `+secretCols+secretFrom+` WHERE s.vault_id = $1 AND s.name_key = $2 ORDER BY n.number LIMIT $3`,
		vault, strings.ToLower(name), limit)
}

// VaultSecretVersions lists the versions of a secret, oldest first.
func (tx *Tx) VaultSecretVersions(vault latchkey.VaultID, name string, o latchkey.PageOptions) (latchkey.Page[latchkey.VaultSecret], error) {
	var w where
	w.add("s.vault_id = ?", vault)
	w.add("s.name_key = ?", strings.ToLower(name))
	w.add("s.deleted_at IS NULL")
	if o.After != "" {
		_, version := parseCursor(o.After)
		w.add("n.number > (SELECT m.number FROM vault_secret_versions m WHERE m.vault_id = s.vault_id AND m.name_key = s.name_key AND m.version = ?)", version)
	}
	w.args = append(w.args, o.Size()+1)
	return secretPage(tx, o, `SELECT `+secretCols+secretFrom+w.String()+` ORDER BY n.number LIMIT `+w.last(), w.args)
}

func secretPage(tx *Tx, o latchkey.PageOptions, query string, args []any) (latchkey.Page[latchkey.VaultSecret], error) {
	items, err := all(tx, func(s scanner) (latchkey.VaultSecret, error) {
		v, err := scanSecret(s)
		return v.VaultSecret, err
	}, query, args...)
	return page(items, o, func(v latchkey.VaultSecret) (string, string) { return strings.ToLower(v.Name), v.Version }), err
}

// AddSecretVersion stores the next version of a secret, which it makes when it
// is the first.
func (tx *Tx) AddSecretVersion(vault latchkey.VaultID, v StoredSecret) error {
	key := strings.ToLower(v.Name)
	if v.Number == 1 {
		if _, err := tx.exec(`INSERT INTO vault_secrets (vault_id, name_key, name, managed, created_at) VALUES ($1, $2, $3, $4, $5)`,
			vault, key, v.Name, v.Managed, ms(tx.Now)); err != nil {
			return err
		}
	}
	tags, err := toJSON(v.Tags)
	if err != nil {
		return err
	}
	_, err = tx.exec(`INSERT INTO vault_secret_versions (vault_id, name_key, number, version, value, content_type, enabled, not_before, expires_at, tags, created_at, updated_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)`,
		vault, key, v.Number, v.Version, v.Value, v.ContentType, v.Enabled, msOrNull(v.NotBefore), msOrNull(v.Expires), tags, ms(v.CreatedAt), ms(v.UpdatedAt))
	if err != nil {
		return err
	}
	return tx.bumpRevision(vault)
}

// UpdateSecretVersion stores what may change of a version: its attributes.
func (tx *Tx) UpdateSecretVersion(vault latchkey.VaultID, v StoredSecret) error {
	tags, err := toJSON(v.Tags)
	if err != nil {
		return err
	}
	if err := tx.execOne(`UPDATE vault_secret_versions SET content_type = $4, enabled = $5, not_before = $6, expires_at = $7, tags = $8, updated_at = $9
		WHERE vault_id = $1 AND name_key = $2 AND number = $3`,
		vault, strings.ToLower(v.Name), v.Number, v.ContentType, v.Enabled, msOrNull(v.NotBefore), msOrNull(v.Expires), tags, ms(tx.Now)); err != nil {
		return err
	}
	return tx.bumpRevision(vault)
}

// SetSecretDeleted marks a secret as deleted until it is purged at a time, or,
// when purgeAt is nil, as not deleted.
func (tx *Tx) SetSecretDeleted(vault latchkey.VaultID, name string, purgeAt *time.Time) error {
	if err := tx.setVaultObjectDeleted("vault_secrets", vault, name, purgeAt); err != nil {
		return err
	}
	return tx.bumpRevision(vault)
}

// setVaultObjectDeleted does that to a row of a table of what a vault holds.
func (tx *Tx) setVaultObjectDeleted(table string, vault latchkey.VaultID, name string, purgeAt *time.Time) error {
	var deletedAt *time.Time
	if purgeAt != nil {
		deletedAt = &tx.Now
	}
	return tx.execOne(`UPDATE `+table+` SET deleted_at = $3, purge_at = $4 WHERE vault_id = $1 AND name_key = $2`,
		vault, strings.ToLower(name), msOrNull(deletedAt), msOrNull(purgeAt))
}

// PurgeSecret removes a secret with all its versions.
func (tx *Tx) PurgeSecret(vault latchkey.VaultID, name string) error {
	key := strings.ToLower(name)
	if _, err := tx.exec(`DELETE FROM vault_secret_versions WHERE vault_id = $1 AND name_key = $2`, vault, key); err != nil {
		return err
	}
	if err := tx.execOne(`DELETE FROM vault_secrets WHERE vault_id = $1 AND name_key = $2`, vault, key); err != nil {
		return err
	}
	return tx.bumpRevision(vault)
}

// A DueSecret is a deleted secret whose retention has ended.
type DueSecret struct {
	Vault latchkey.VaultID
	Name  string
}

// DueSecrets returns at most limit deleted secrets whose retention has ended,
// without those that go with a certificate.
func (tx *Tx) DueSecrets(limit int) ([]DueSecret, error) {
	return all(tx, func(s scanner) (d DueSecret, err error) { return d, s.Scan(&d.Vault, &d.Name) },
		`SELECT vault_id, name FROM vault_secrets WHERE purge_at <= $1 AND NOT managed ORDER BY purge_at LIMIT $2`, ms(tx.Now), limit)
}

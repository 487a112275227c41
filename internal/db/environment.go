package db

import (
	"strings"

	"latchkey.dev/latchkey"
)

const environmentCols = `e.id, e.name, e.display_name, e.prefix, e.vaults, e.remove_variable_grants, e.created_at, e.updated_at`

func scanEnvironment(s scanner) (e latchkey.Environment, err error) {
	return e, s.Scan(&e.ID, &e.Name, &e.DisplayName, &e.Prefix, jsonText{&e.Vaults}, &e.RemoveVariableGrants, timestamp{&e.CreatedAt}, timestamp{&e.UpdatedAt})
}

// Environment returns the environment with an id or a name, or ErrNotFound.
func (tx *Tx) Environment(ref string) (latchkey.Environment, error) {
	column := "name"
	if latchkey.HasPrefix(ref, "env") {
		column = "id"
	}
	return one(tx, scanEnvironment, `SELECT `+environmentCols+` FROM environments e WHERE e.`+column+` = $1 AND e.deleted_at IS NULL`, strings.ToLower(ref))
}

// Environments lists the environments in which a principal has a role, or all.
func (tx *Tx) Environments(who latchkey.PrincipalID, everything bool, o latchkey.PageOptions) (latchkey.Page[latchkey.Environment], error) {
	w := where{args: []any{who}}
	w.add("e.deleted_at IS NULL")
	w.add("(? OR EXISTS (SELECT 1 FROM environment_members m JOIN mine ON m.principal_id = mine.id WHERE m.environment_id = e.id))", everything)
	w.contains("e.search_key", o.Search)
	w.after(o, "e.name", "e.id")
	w.args = append(w.args, o.Size()+1)
	items, err := all(tx, scanEnvironment, mine+`SELECT `+environmentCols+` FROM environments e`+w.String()+
		` ORDER BY e.name, e.id LIMIT `+w.last(), w.args...)
	return page(items, o, func(e latchkey.Environment) (string, string) { return e.Name, string(e.ID) }), err
}

// CreateEnvironment stores a new environment. It returns ErrExists when the
// name is taken.
func (tx *Tx) CreateEnvironment(e latchkey.Environment, by latchkey.PrincipalID) error {
	vaults, err := toJSON(e.Vaults)
	if err != nil {
		return err
	}
	_, err = tx.exec(`INSERT INTO environments (id, name, display_name, search_key, prefix, vaults, created_by, created_at, updated_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $8)`,
		e.ID, e.Name, e.DisplayName, latchkey.SearchKey(e.Name, e.DisplayName), e.Prefix, vaults, by, ms(tx.Now))
	return err
}

// UpdateEnvironment stores what may change of an environment.
func (tx *Tx) UpdateEnvironment(e latchkey.Environment) error {
	vaults, err := toJSON(e.Vaults)
	if err != nil {
		return err
	}
	return tx.execOne(`UPDATE environments SET display_name = $2, vaults = $3, remove_variable_grants = $4, updated_at = $5, search_key = $6, authz_epoch = authz_epoch + 1 WHERE id = $1`,
		e.ID, e.DisplayName, vaults, e.RemoveVariableGrants, ms(tx.Now), latchkey.SearchKey(e.Name, e.DisplayName))
}

// DeleteEnvironment marks an environment as deleted.
func (tx *Tx) DeleteEnvironment(id latchkey.EnvironmentID) error {
	return tx.execOne(`UPDATE environments SET deleted_at = $2, authz_epoch = authz_epoch + 1 WHERE id = $1`, id, ms(tx.Now))
}

// EnvironmentUse returns how many components an environment has that are not
// deleted.
func (tx *Tx) EnvironmentUse(id latchkey.EnvironmentID) (n int, err error) {
	return one(tx, scanInt, `SELECT
		(SELECT count(*) FROM variables WHERE environment_id = $1 AND deleted_at IS NULL) +
		(SELECT count(*) FROM credentials WHERE environment_id = $1 AND deleted_at IS NULL) +
		(SELECT count(*) FROM machines WHERE environment_id = $1 AND deleted_at IS NULL) +
		(SELECT count(*) FROM machine_groups WHERE environment_id = $1 AND deleted_at IS NULL) +
		(SELECT count(*) FROM connections WHERE environment_id = $1 AND deleted_at IS NULL) +
		(SELECT count(*) FROM flows WHERE environment_id = $1 AND deleted_at IS NULL)`, id)
}

// Members lists who has a role in an environment.
func (tx *Tx) Members(env latchkey.EnvironmentID, o latchkey.PageOptions) (latchkey.Page[latchkey.Member], error) {
	var w where
	w.add("m.environment_id = ?", env)
	w.add("p.deleted_at IS NULL")
	w.after(o, "p.sort_key", "p.id")
	w.args = append(w.args, o.Size()+1)
	items, err := all(tx, func(s scanner) (m latchkey.Member, err error) {
		return m, s.Scan(&m.Principal, &m.Kind, &m.Name, &m.ClientID, &m.Role, &m.Disabled, &m.CreatedBy, timestamp{&m.CreatedAt})
	}, `SELECT m.principal_id, p.kind, p.name, COALESCE(s.client_id, ''), m.role, p.disabled_at IS NOT NULL, m.created_by, m.created_at
		FROM environment_members m JOIN principals p ON p.id = m.principal_id AND p.deleted_at IS NULL LEFT JOIN service_principals s ON s.id = p.id`+w.String()+
		` ORDER BY p.sort_key, p.id LIMIT `+w.last(), w.args...)
	return page(items, o, func(m latchkey.Member) (string, string) { return latchkey.SortKey(m.Name), string(m.Principal) }), err
}

// SetMember gives a principal a role in an environment, in place of the one it
// had; role "" takes it away. It bumps the authorization epoch.
func (tx *Tx) SetMember(env latchkey.EnvironmentID, who latchkey.PrincipalID, role latchkey.EnvironmentRole, by latchkey.PrincipalID) error {
	var err error
	if role == "" {
		err = tx.execOne(`DELETE FROM environment_members WHERE environment_id = $1 AND principal_id = $2`, env, who)
	} else {
		_, err = tx.exec(`INSERT INTO environment_members (environment_id, principal_id, role, created_by, created_at)
			VALUES ($1, $2, $3, $4, $5)
			ON CONFLICT (environment_id, principal_id) DO UPDATE SET role = excluded.role, created_by = excluded.created_by, created_at = excluded.created_at`,
			env, who, role, by, ms(tx.Now))
	}
	if err != nil {
		return err
	}
	return tx.bumpEpoch(env)
}

// WithoutAdmin returns the names of the environments in which no user or service
// principal that is enabled is admin, by itself or by groups.
func (tx *Tx) WithoutAdmin() ([]string, error) {
	return all(tx, func(s scanner) (name string, err error) { return name, s.Scan(&name) }, `WITH RECURSIVE admins (env, id, kind) AS (
		SELECT m.environment_id, p.id, p.kind FROM environment_members m JOIN principals p ON p.id = m.principal_id AND p.disabled_at IS NULL AND p.deleted_at IS NULL
		WHERE m.role = 'admin'
		UNION
		SELECT admins.env, p.id, p.kind FROM admins JOIN group_members m ON m.group_id = admins.id
		JOIN principals p ON p.id = m.member_id AND p.disabled_at IS NULL AND p.deleted_at IS NULL
	) SELECT e.name FROM environments e WHERE e.deleted_at IS NULL
		AND NOT EXISTS (SELECT 1 FROM admins a WHERE a.env = e.id AND a.kind <> 'group') ORDER BY e.name`)
}

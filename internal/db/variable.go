package db

import (
	"strings"
	"time"

	"latchkey.dev/latchkey"
)

const variableCols = `v.id, v.name, v.display_name, v.description, v.type, v.default_value, v.current_value, v.created_by, v.created_at, v.updated_at`

func scanVariable(s scanner) (v latchkey.Variable, err error) {
	return v, s.Scan(&v.ID, &v.Name, &v.DisplayName, &v.Description, &v.Type, &v.DefaultValue, &v.Value,
		&v.CreatedBy, timestamp{&v.CreatedAt}, timestamp{&v.UpdatedAt})
}

// Variable returns the variable of an environment with an id or a unique name,
// without what belongs to its references, or ErrNotFound.
func (tx *Tx) Variable(env latchkey.EnvironmentID, ref string) (latchkey.Variable, error) {
	column := "name_key"
	if latchkey.HasPrefix(ref, "var") {
		column = "id"
	}
	return one(tx, scanVariable, `SELECT `+variableCols+` FROM variables v
		WHERE v.environment_id = $1 AND v.`+column+` = $2 AND v.deleted_at IS NULL`, env, strings.ToLower(ref))
}

// VariableByID returns a variable and its environment by the variable's id, or
// ErrNotFound.
func (tx *Tx) VariableByID(id latchkey.VariableID) (e latchkey.Environment, v latchkey.Variable, err error) {
	env, err := one(tx, func(s scanner) (env string, err error) { return env, s.Scan(&env) },
		`SELECT environment_id FROM variables WHERE id = $1 AND deleted_at IS NULL`, id)
	if err != nil {
		return e, v, err
	}
	if e, err = tx.Environment(env); err != nil {
		return e, v, err
	}
	v, err = tx.Variable(e.ID, string(id))
	return e, v, err
}

// A VariableFilter chooses variables; zero fields choose all.
type VariableFilter struct {
	Type latchkey.VariableType
}

// Variables lists an environment's variables; their name is the display name.
func (tx *Tx) Variables(env latchkey.EnvironmentID, visible Visible, f VariableFilter, o latchkey.PageOptions) (latchkey.Page[latchkey.Variable], error) {
	l := listing[latchkey.Variable]{
		kind: latchkey.KindVariable, cols: variableCols, table: "variables v", alias: "v", scan: scanVariable,
		name:     func(v *latchkey.Variable) (string, string) { return v.DisplayName, string(v.ID) },
		modified: func(v *latchkey.Variable) time.Time { return v.UpdatedAt },
	}
	return l.page(tx, env, visible, o, func(w *where) {
		if f.Type != "" {
			w.add("v.type = ?", f.Type)
		}
	})
}

// variableSearch returns what a search for a variable looks at.
func variableSearch(v latchkey.Variable) string {
	return latchkey.SearchKey(v.DisplayName, v.Name, v.Description)
}

// CreateVariable stores a new variable. It returns ErrExists when the unique
// name is taken.
func (tx *Tx) CreateVariable(env latchkey.EnvironmentID, v latchkey.Variable) error {
	_, err := tx.exec(`INSERT INTO variables (id, environment_id, name, name_key, display_name, sort_key, search_key, description, type,
		default_value, current_value, created_by, created_at, updated_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $13)`,
		v.ID, env, v.Name, strings.ToLower(v.Name), v.DisplayName, latchkey.SortKey(v.DisplayName), variableSearch(v), v.Description, v.Type,
		v.DefaultValue, v.Value, v.CreatedBy, ms(tx.Now))
	return err
}

// UpdateVariable stores what may change of a variable.
func (tx *Tx) UpdateVariable(v latchkey.Variable) error {
	if err := tx.execOne(`UPDATE variables SET display_name = $2, sort_key = $3, description = $4, default_value = $5, current_value = $6, updated_at = $7, search_key = $8
		WHERE id = $1`, v.ID, v.DisplayName, latchkey.SortKey(v.DisplayName), v.Description, v.DefaultValue, v.Value, ms(tx.Now), variableSearch(v)); err != nil {
		return err
	}
	if err := tx.sortGrants(string(v.ID), v.DisplayName); err != nil {
		return err
	}
	if err := tx.recheckCertificates(v.ID); err != nil {
		return err
	}
	return tx.bumpEpochOf("variables", string(v.ID))
}

// DeleteVariable marks a variable as deleted.
func (tx *Tx) DeleteVariable(id latchkey.VariableID, by latchkey.PrincipalID) error {
	if err := tx.execOne(`UPDATE variables SET deleted_at = $2, deleted_by = $3 WHERE id = $1`, id, ms(tx.Now), by); err != nil {
		return err
	}
	return tx.bumpEpochOf("variables", string(id))
}

func scanInt(s scanner) (n int, err error) { return n, s.Scan(&n) }

package db

import (
	"errors"
	"strings"

	"latchkey.dev/latchkey"
)

// mine is the set of a principal and the groups that it is in, directly or by
// other groups. A disabled or deleted principal is in no set. $1 is the
// principal.
const mine = `WITH RECURSIVE mine (id) AS (
	SELECT id FROM principals WHERE id = $1 AND disabled_at IS NULL AND deleted_at IS NULL` + mineGroups

// mineOnceEnabled is mine as if the principal were not disabled.
const mineOnceEnabled = `WITH RECURSIVE mine (id) AS (
	SELECT id FROM principals WHERE id = $1 AND deleted_at IS NULL` + mineGroups

const mineGroups = `
	UNION
	SELECT m.group_id FROM group_members m
	JOIN mine ON m.member_id = mine.id
	JOIN principals p ON p.id = m.group_id AND p.disabled_at IS NULL AND p.deleted_at IS NULL
) `

// Access returns what a principal holds with regard to a thing in an
// environment. Both may be "". A disabled principal holds nothing, and who has no
// role in the environment none on its things.
//
// Memberships and grants are looked up for each of mine: PostgreSQL, which cannot
// know that these are few, would rather read all members of the environment, and
// have the transaction collide with every change of one.
func (tx *Tx) Access(who latchkey.PrincipalID, env latchkey.EnvironmentID, subject string) (latchkey.Access, error) {
	type row struct {
		tenant        bool
		members, role string
	}
	r, err := one(tx, func(s scanner) (r row, err error) { return r, s.Scan(&r.tenant, &r.members, &r.role) }, mine+`
		SELECT EXISTS (SELECT 1 FROM principals WHERE id = $1 AND tenant_admin AND disabled_at IS NULL AND deleted_at IS NULL),
			COALESCE(string_agg((SELECT e.role FROM environment_members e WHERE e.environment_id = $2 AND e.principal_id = mine.id), ' '), ''),
			COALESCE(string_agg((SELECT string_agg(g.role, ' ') FROM grants g WHERE g.subject_id = $3 AND g.environment_id = $2 AND g.principal_id = mine.id), ' '), '')
		FROM mine`, who, env, subject)
	if errors.Is(err, ErrNotFound) {
		return latchkey.Access{}, nil // of a text that no database can hold
	}
	if err != nil {
		return latchkey.Access{}, err
	}
	a := latchkey.Access{Tenant: r.tenant}
	for role := range strings.FieldsSeq(r.members) {
		a.Environment = append(a.Environment, latchkey.EnvironmentRole(role))
	}
	for text := range strings.FieldsSeq(r.role) {
		if role := latchkey.Role(text); role.Includes(a.Role) {
			a.Role = role
		}
	}
	if env != "" && len(a.Environment) == 0 {
		a.Role = latchkey.RoleNone
	}
	return a, nil
}

// Roles returns the highest role that a principal has on each of several things.
// A thing on which it has none is not in the result.
func (tx *Tx) Roles(who latchkey.PrincipalID, subjects []string) (map[string]latchkey.Role, error) {
	found := make(map[string]latchkey.Role, len(subjects))
	type row struct {
		subject string
		role    latchkey.Role
	}
	rows, err := allOf(tx, func(s scanner) (r row, err error) { return r, s.Scan(&r.subject, &r.role) }, subjects, func(list string) string {
		return mine + `SELECT subject_id, role FROM grants WHERE principal_id IN (SELECT id FROM mine) AND subject_id IN (` + list + `)`
	}, who)
	for _, r := range rows {
		if r.role.Includes(found[r.subject]) {
			found[r.subject] = r.role
		}
	}
	return found, err
}

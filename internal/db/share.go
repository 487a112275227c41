package db

import (
	"errors"

	"latchkey.dev/latchkey"
)

// A Grant is a share as it is stored.
type Grant struct {
	latchkey.Share
	ID string
}

const shareCols = `g.id, g.principal_id, p.kind, p.name, g.role, p.disabled_at IS NOT NULL, g.via, COALESCE(c.name, ''),
	` + leftOver + `, g.created_by, g.created_at`

// leftOver is the condition that a grant g on a variable came with a share of the
// credential c that is not there any more, or that means nothing since c is deleted.
const leftOver = `g.via <> '' AND (c.deleted_at IS NOT NULL OR NOT EXISTS (SELECT 1 FROM grants s WHERE s.subject_id = g.via AND s.principal_id = g.principal_id AND s.via = ''))`

const shareFrom = ` FROM grants g JOIN principals p ON p.id = g.principal_id AND p.deleted_at IS NULL
	LEFT JOIN credentials c ON c.id = g.via`

func scanGrant(s scanner) (g Grant, err error) {
	return g, s.Scan(&g.ID, &g.Principal, &g.Kind, &g.Name, &g.Role, &g.Disabled, &g.Via, &g.ViaName, &g.Left, &g.CreatedBy, timestamp{&g.CreatedAt})
}

// Shares lists who has a role on a thing, by name. Somebody who has several is
// listed with each.
func (tx *Tx) Shares(subject string, o latchkey.PageOptions) (latchkey.Page[latchkey.Share], error) {
	var w where
	w.add("g.subject_id = ?", subject)
	w.after(o, "p.sort_key", "g.id")
	w.args = append(w.args, o.Size()+1)
	grants, err := all(tx, scanGrant, `SELECT `+shareCols+shareFrom+w.String()+` ORDER BY p.sort_key, g.id LIMIT `+w.last(), w.args...)
	p := page(grants, o, func(g Grant) (string, string) { return latchkey.SortKey(g.Name), g.ID })
	shares := latchkey.Page[latchkey.Share]{Items: make([]latchkey.Share, len(p.Items)), Next: p.Next}
	for i, g := range p.Items {
		shares.Items[i] = g.Share
	}
	return shares, err
}

// GrantTo returns the share of a thing that a principal was given by itself, or
// ErrNotFound. It is another than those by groups, and those that went along with
// a credential's.
func (tx *Tx) GrantTo(subject string, to latchkey.PrincipalID) (Grant, error) {
	return one(tx, scanGrant, `SELECT `+shareCols+shareFrom+` WHERE g.subject_id = $1 AND g.principal_id = $2 AND g.via = ''`, subject, to)
}

// GrantsWith returns the grants on a thing, a variable, that a principal was given
// along with shares of credentials.
func (tx *Tx) GrantsWith(subject string, to latchkey.PrincipalID) ([]Grant, error) {
	return all(tx, scanGrant, `SELECT `+shareCols+shareFrom+` WHERE g.subject_id = $1 AND g.principal_id = $2 AND g.via <> '' ORDER BY g.id`, subject, to)
}

// OwnerOf returns the owner's grant on a thing, or ErrNotFound: also when its
// principal is deleted.
func (tx *Tx) OwnerOf(subject string) (Grant, error) {
	return one(tx, scanGrant, `SELECT `+shareCols+shareFrom+` WHERE g.subject_id = $1 AND g.role = 'owner'`, subject)
}

// GrantsReaching returns the grants on a thing that a principal has, or has again
// once it is enabled: its own, and those of the groups that it is in.
func (tx *Tx) GrantsReaching(who latchkey.PrincipalID, subject string) ([]Grant, error) {
	return all(tx, scanGrant, mineOnceEnabled+`SELECT `+shareCols+shareFrom+` WHERE g.subject_id = $2 AND g.principal_id IN (SELECT id FROM mine) ORDER BY g.id`, who, subject)
}

// RolesReaching returns the roles in an environment that a principal has, or has
// again once it is enabled, by itself and by groups.
func (tx *Tx) RolesReaching(who latchkey.PrincipalID, env latchkey.EnvironmentID) ([]latchkey.EnvironmentRole, error) {
	return all(tx, func(s scanner) (r latchkey.EnvironmentRole, err error) { return r, s.Scan(&r) },
		mineOnceEnabled+`SELECT role FROM environment_members WHERE environment_id = $2 AND principal_id IN (SELECT id FROM mine)`, who, env)
}

// SetGrant gives a principal a role on a thing, in place of the one that it had by
// the same way: via is the credential that the thing, a variable, is shared with, or
// "". It bumps the environment's authorization epoch.
func (tx *Tx) SetGrant(env latchkey.EnvironmentID, kind latchkey.Kind, subject string, to latchkey.PrincipalID, role latchkey.Role, via latchkey.CredentialID, by latchkey.PrincipalID) error {
	if err := tx.execOne(`INSERT INTO grants (id, environment_id, subject_kind, subject_id, sort_key, principal_id, role, via, created_by, created_at)
		SELECT $1, $2, $3, id, sort_key, $5, $6, $7, $8, $9 FROM `+tables[kind]+` WHERE id = $4
		ON CONFLICT (subject_id, principal_id, via) DO UPDATE SET role = excluded.role, created_by = excluded.created_by, created_at = excluded.created_at`,
		latchkey.NewID("grant", tx.Now), env, kind, subject, to, role, via, by, ms(tx.Now)); err != nil {
		return err
	}
	return tx.bumpEpoch(env)
}

// RemoveGrant takes the role on a thing away that a principal has by the same way
// as in SetGrant, or returns ErrNotFound.
func (tx *Tx) RemoveGrant(env latchkey.EnvironmentID, subject string, from latchkey.PrincipalID, via latchkey.CredentialID) error {
	if err := tx.execOne(`DELETE FROM grants WHERE subject_id = $1 AND principal_id = $2 AND via = $3`, subject, from, via); err != nil {
		return err
	}
	return tx.bumpEpoch(env)
}

// SetOwner makes a principal the owner of a thing, and leaves the owner before
// with the role keep, or none.
func (tx *Tx) SetOwner(env latchkey.EnvironmentID, kind latchkey.Kind, subject string, to latchkey.PrincipalID, keep latchkey.Role, by latchkey.PrincipalID) error {
	before, err := tx.OwnerOf(subject)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	if err == nil {
		if keep == latchkey.RoleNone {
			err = tx.RemoveGrant(env, subject, before.Principal, "")
		} else {
			err = tx.SetGrant(env, kind, subject, before.Principal, keep, "", by)
		}
		if err != nil {
			return err
		}
	}
	// The owner before may be a principal that was deleted meanwhile.
	if _, err := tx.exec(`DELETE FROM grants WHERE subject_id = $1 AND role = 'owner'`, subject); err != nil {
		return err
	}
	if kind == latchkey.KindConnection {
		if err := tx.execOne(`UPDATE connections SET owner_id = $2, updated_at = $3 WHERE id = $1`, subject, to, ms(tx.Now)); err != nil {
			return err
		}
	}
	return tx.SetGrant(env, kind, subject, to, latchkey.RoleOwner, "", by)
}

// SlotVariables returns the variables that a credential is bound to, without what
// belongs to their references, also those that are deleted.
func (tx *Tx) SlotVariables(id latchkey.CredentialID) ([]latchkey.Variable, error) {
	return all(tx, scanVariable, `SELECT `+variableCols+` FROM credential_slots s JOIN variables v ON v.id = s.variable_id
		WHERE s.credential_id = $1 ORDER BY v.id`, id)
}

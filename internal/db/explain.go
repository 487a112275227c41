package db

import (
	"slices"
	"time"

	"latchkey.dev/latchkey"
)

// held is the set of a principal and the groups that it is in as in mine, but also
// of a principal that is disabled: what it would have. $1 is the principal.
const held = `WITH RECURSIVE held (id) AS (
	SELECT id FROM principals WHERE id = $1 AND deleted_at IS NULL
	UNION
	SELECT m.group_id FROM group_members m
	JOIN held ON m.member_id = held.id
	JOIN principals p ON p.id = m.group_id AND p.disabled_at IS NULL AND p.deleted_at IS NULL
) `

// AccessSources returns each thing that Access takes together, with who was given
// it, by whom and when, and by which groups it comes to a principal. Unlike Access
// it returns what a disabled principal would have, and the grants of who has no role
// in the environment. Counts and Permits are not filled in.
func (tx *Tx) AccessSources(who latchkey.PrincipalID, env latchkey.EnvironmentID, subject string) ([]latchkey.AccessSource, error) {
	p, err := tx.Principal(string(who))
	if err != nil {
		return nil, err
	}
	sources := []latchkey.AccessSource{}
	if p.TenantAdmin {
		sources = append(sources, latchkey.AccessSource{Way: latchkey.WayTenantAdmin, To: p.ID, ToName: p.Name})
	}
	scan := func(s scanner) (a latchkey.AccessSource, err error) {
		var at time.Time
		err = s.Scan(&a.Way, &a.EnvironmentRole, &a.Role, &a.To, &a.ToName, &a.Via, &a.ViaName, &a.Left, &a.By, &a.ByName, timestamp{&at})
		a.At, a.With = &at, a.Via != ""
		return a, err
	}
	members, err := all(tx, scan, held+`SELECT 'environment-role', m.role, '', p.id, p.name, '', '', FALSE, m.created_by, COALESCE(b.name, ''), m.created_at
		FROM environment_members m JOIN principals p ON p.id = m.principal_id LEFT JOIN principals b ON b.id = m.created_by
		WHERE m.environment_id = $2 AND m.principal_id IN (SELECT id FROM held) ORDER BY p.sort_key, p.id`, who, env)
	if err != nil {
		return nil, err
	}
	grants, err := all(tx, scan, held+`SELECT 'share', '', g.role, p.id, p.name, g.via, COALESCE(c.name, ''),
		`+leftOver+`,
		g.created_by, COALESCE(b.name, ''), g.created_at
		FROM grants g JOIN principals p ON p.id = g.principal_id LEFT JOIN principals b ON b.id = g.created_by LEFT JOIN credentials c ON c.id = g.via
		WHERE g.subject_id = $3 AND g.environment_id = $2 AND g.principal_id IN (SELECT id FROM held) ORDER BY p.sort_key, p.id, g.id`, who, env, subject)
	if err != nil {
		return nil, err
	}
	sources = append(append(sources, members...), grants...)
	chains, err := tx.groupChains(who)
	if err != nil {
		return nil, err
	}
	for i := range sources {
		sources[i].Groups = chains[sources[i].To]
	}
	return sources, nil
}

// groupChains returns, for each group that a principal is in, the names of the
// groups from the one that the principal is in by itself to that group: one of the
// shortest ways.
func (tx *Tx) groupChains(who latchkey.PrincipalID) (map[latchkey.PrincipalID][]string, error) {
	type edge struct {
		member, group latchkey.PrincipalID
		name          string
	}
	edges, err := all(tx, func(s scanner) (e edge, err error) { return e, s.Scan(&e.member, &e.group, &e.name) },
		held+`SELECT m.member_id, m.group_id, p.name FROM group_members m JOIN principals p ON p.id = m.group_id
			WHERE m.member_id IN (SELECT id FROM held) AND m.group_id IN (SELECT id FROM held) ORDER BY p.sort_key, p.id`, who)
	if err != nil {
		return nil, err
	}
	chains := map[latchkey.PrincipalID][]string{}
	seen := map[latchkey.PrincipalID]bool{who: true}
	for from := []latchkey.PrincipalID{who}; len(from) > 0; {
		var next []latchkey.PrincipalID
		for _, e := range edges {
			if !seen[e.group] && slices.Contains(from, e.member) {
				seen[e.group] = true
				chains[e.group] = append(slices.Clone(chains[e.member]), e.name)
				next = append(next, e.group)
			}
		}
		from = next
	}
	return chains, nil
}

func scanDirectoryEntry(s scanner) (e latchkey.DirectoryEntry, err error) {
	return e, s.Scan(&e.ID, &e.Kind, &e.Name, &e.Login, &e.ClientID, &e.Disabled)
}

const directoryCols = `p.id, p.kind, p.name, COALESCE(u.login, ''), COALESCE(s.client_id, ''), p.disabled_at IS NOT NULL`

// DirectoryEntry returns a principal as lists of principals show it.
func (tx *Tx) DirectoryEntry(id latchkey.PrincipalID) (latchkey.DirectoryEntry, error) {
	return one(tx, scanDirectoryEntry, `SELECT `+directoryCols+` FROM principals p LEFT JOIN users u ON u.id = p.id LEFT JOIN service_principals s ON s.id = p.id WHERE p.id = $1 AND p.deleted_at IS NULL`, id)
}

// EnvironmentAdmins returns the first principals, by name, that have the role admin
// in an environment and are not disabled.
func (tx *Tx) EnvironmentAdmins(env latchkey.EnvironmentID, limit int) ([]latchkey.DirectoryEntry, error) {
	return all(tx, scanDirectoryEntry, `SELECT `+directoryCols+` FROM environment_members m JOIN principals p ON p.id = m.principal_id LEFT JOIN users u ON u.id = p.id LEFT JOIN service_principals s ON s.id = p.id
		WHERE m.environment_id = $1 AND m.role = 'admin' AND p.disabled_at IS NULL AND p.deleted_at IS NULL ORDER BY p.sort_key, p.id LIMIT $2`, env, limit)
}

// Holders returns the first principals, by name, that were given at least a role on
// a thing by itself, or own it, and are not disabled.
func (tx *Tx) Holders(subject string, role latchkey.Role, limit int) ([]latchkey.DirectoryEntry, error) {
	roles := []latchkey.Role{latchkey.RoleOwner}
	for _, r := range []latchkey.Role{latchkey.RoleCoOwner, latchkey.RoleUserShare, latchkey.RoleUser} {
		if r.Includes(role) {
			roles = append(roles, r)
		}
	}
	return all(tx, scanDirectoryEntry, `SELECT `+directoryCols+` FROM grants g JOIN principals p ON p.id = g.principal_id LEFT JOIN users u ON u.id = p.id LEFT JOIN service_principals s ON s.id = p.id
		WHERE g.subject_id = $1 AND g.via = '' AND p.disabled_at IS NULL AND p.deleted_at IS NULL AND g.role IN (`+placeholders(3, len(roles))+`)
		ORDER BY p.sort_key, p.id LIMIT $2`, in(roles, subject, limit)...)
}

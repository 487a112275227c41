package db

import (
	"cmp"
	"slices"
	"strings"

	"latchkey.dev/latchkey"
)

const groupCols = `p.id, p.name, i.description, (SELECT count(*) FROM group_members m JOIN principals q ON q.id = m.member_id AND q.deleted_at IS NULL WHERE m.group_id = p.id),
	COALESCE(i.issuer, ''), COALESCE(i.external_id, ''), p.created_at, p.updated_at`

const groupFrom = ` FROM principals p JOIN principal_groups i ON i.id = p.id`

func scanGroup(s scanner) (g latchkey.Group, err error) {
	var e latchkey.ExternalGroup
	err = s.Scan(&g.ID, &g.Name, &g.Description, &g.Members, &e.Issuer, &e.ID, timestamp{&g.CreatedAt}, timestamp{&g.UpdatedAt})
	if e.ID != "" {
		g.External = &e
	}
	return g, err
}

// Group returns the group with an id or a name, or ErrNotFound.
func (tx *Tx) Group(ref string) (latchkey.Group, error) {
	if latchkey.HasPrefix(ref, "grp") {
		return one(tx, scanGroup, `SELECT `+groupCols+groupFrom+` WHERE p.id = $1 AND p.deleted_at IS NULL`, ref)
	}
	return one(tx, scanGroup, `SELECT `+groupCols+groupFrom+` WHERE p.kind = 'group' AND p.sort_key = $1 AND p.deleted_at IS NULL`, latchkey.SortKey(ref))
}

// Groups lists the groups by name: all, or those that a principal is in.
func (tx *Tx) Groups(only latchkey.PrincipalID, o latchkey.PageOptions) (latchkey.Page[latchkey.Group], error) {
	w := where{args: []any{only}}
	w.add("p.deleted_at IS NULL")
	if only != "" {
		w.add("p.id IN (SELECT id FROM mine)")
	}
	w.contains("p.search_key", o.Search)
	w.after(o, "p.sort_key", "p.id")
	w.args = append(w.args, o.Size()+1)
	items, err := all(tx, scanGroup, mine+`SELECT `+groupCols+groupFrom+w.String()+` ORDER BY p.sort_key, p.id LIMIT `+w.last(), w.args...)
	return page(items, o, func(g latchkey.Group) (string, string) { return latchkey.SortKey(g.Name), string(g.ID) }), err
}

// CreateGroup stores a new group. It returns ErrExists when the name is taken.
func (tx *Tx) CreateGroup(g latchkey.Group) error {
	if _, err := tx.exec(`INSERT INTO principals (id, kind, name, sort_key, search_key, created_at, updated_at) VALUES ($1, $2, $3, $4, $5, $6, $6)`,
		g.ID, latchkey.PrincipalGroup, g.Name, latchkey.SortKey(g.Name), latchkey.SearchKey(g.Name, g.Description), ms(tx.Now)); err != nil {
		return err
	}
	issuer, id := linkOf(g)
	_, err := tx.exec(`INSERT INTO principal_groups (id, description, issuer, external_id) VALUES ($1, $2, $3, $4)`, g.ID, g.Description, issuer, id)
	return err
}

// linkOf returns the group of a provider that a group is linked to, for storing.
func linkOf(g latchkey.Group) (issuer, id any) {
	if g.External == nil {
		return nil, nil
	}
	return g.External.Issuer, g.External.ID
}

// LinkedGroup returns the group that is linked to one of a provider, or ErrNotFound.
func (tx *Tx) LinkedGroup(e latchkey.ExternalGroup) (latchkey.Group, error) {
	return one(tx, scanGroup, `SELECT `+groupCols+groupFrom+` WHERE i.issuer = $1 AND i.external_id = $2 AND p.deleted_at IS NULL`, e.Issuer, e.ID)
}

// LinkedGroups returns the groups that are linked to those of a provider, by name,
// and whether a principal is in each by itself.
func (tx *Tx) LinkedGroups(issuer string, of latchkey.PrincipalID) (groups []latchkey.Group, in map[latchkey.PrincipalID]bool, err error) {
	if groups, err = all(tx, scanGroup, `SELECT `+groupCols+groupFrom+` WHERE i.issuer = $1 AND p.deleted_at IS NULL ORDER BY p.sort_key, p.id`, issuer); err != nil {
		return nil, nil, err
	}
	ids, err := all(tx, scanPrincipalID, `SELECT m.group_id FROM group_members m JOIN principal_groups i ON i.id = m.group_id WHERE m.member_id = $1 AND i.issuer = $2`, of, issuer)
	in = map[latchkey.PrincipalID]bool{}
	for _, id := range ids {
		in[id] = true
	}
	return groups, in, err
}

// UpdateGroup stores a group's name, description and link. It returns ErrExists when
// the name is taken.
func (tx *Tx) UpdateGroup(g latchkey.Group) error {
	if err := tx.execOne(`UPDATE principals SET name = $2, sort_key = $3, updated_at = $4, search_key = $5 WHERE id = $1`,
		g.ID, g.Name, latchkey.SortKey(g.Name), ms(tx.Now), latchkey.SearchKey(g.Name, g.Description)); err != nil {
		return err
	}
	issuer, id := linkOf(g)
	return tx.execOne(`UPDATE principal_groups SET description = $2, issuer = $3, external_id = $4 WHERE id = $1`, g.ID, g.Description, issuer, id)
}

// DeleteGroup marks a group as deleted: nobody has anything by it any more.
func (tx *Tx) DeleteGroup(id latchkey.PrincipalID) error {
	if err := tx.execOne(`UPDATE principals SET deleted_at = $2 WHERE id = $1`, id, ms(tx.Now)); err != nil {
		return err
	}
	if err := tx.execOne(`UPDATE principal_groups SET issuer = NULL, external_id = NULL WHERE id = $1`, id); err != nil {
		return err
	}
	return tx.bumpEpochs()
}

// GroupMembers lists who is in a group by itself, by name.
func (tx *Tx) GroupMembers(id latchkey.PrincipalID, o latchkey.PageOptions) (latchkey.Page[latchkey.DirectoryEntry], error) {
	var w where
	w.add("m.group_id = ?", id)
	return tx.directory(` JOIN group_members m ON m.member_id = p.id`, w, o)
}

// SetGroupMember puts a principal into a group. That it is in already is no error.
func (tx *Tx) SetGroupMember(group, member latchkey.PrincipalID) error {
	if _, err := tx.exec(`INSERT INTO group_members (group_id, member_id) VALUES ($1, $2) ON CONFLICT DO NOTHING`, group, member); err != nil {
		return err
	}
	return tx.bumpEpochs()
}

// RemoveGroupMember takes a principal out of a group, or returns ErrNotFound.
func (tx *Tx) RemoveGroupMember(group, member latchkey.PrincipalID) error {
	if err := tx.execOne(`DELETE FROM group_members WHERE group_id = $1 AND member_id = $2`, group, member); err != nil {
		return err
	}
	return tx.bumpEpochs()
}

// GroupsOf returns the groups that a principal is in, directly or by other groups.
func (tx *Tx) GroupsOf(id latchkey.PrincipalID) ([]latchkey.PrincipalID, error) {
	return all(tx, scanPrincipalID, mine+`SELECT id FROM mine WHERE id <> $1`, id)
}

func scanPrincipalID(s scanner) (id latchkey.PrincipalID, err error) { return id, s.Scan(&id) }

// GroupDepth returns how many levels of groups a group is the top of, and how many
// it is at the bottom of; itself counts in both. It stops at one more than limit.
func (tx *Tx) GroupDepth(id latchkey.PrincipalID, limit int) (below, above int, err error) {
	depth := func(next, from string) (int, error) {
		return one(tx, scanInt, `WITH RECURSIVE chain (id, depth) AS (
			SELECT id, 1 FROM principals WHERE id = $1
			UNION
			SELECT m.`+next+`, chain.depth + 1 FROM chain JOIN group_members m ON m.`+from+` = chain.id
			JOIN principals p ON p.id = m.`+next+` AND p.kind = 'group' AND p.deleted_at IS NULL
			WHERE chain.depth <= $2
		) SELECT max(depth) FROM chain`, id, limit)
	}
	if below, err = depth("member_id", "group_id"); err != nil {
		return 0, 0, err
	}
	above, err = depth("group_id", "member_id")
	return below, above, err
}

// Directory lists the principals that roles and shares are given to, by name: those
// whose name or login begins with a text, or all. Those that are deactivated are not
// listed, nor is the service itself.
func (tx *Tx) Directory(prefix string, o latchkey.PageOptions) (latchkey.Page[latchkey.DirectoryEntry], error) {
	list := func(column, from string) ([]latchkey.DirectoryEntry, error) {
		var w where
		w.add("p.kind IN ('user', 'group', 'service-principal')")
		w.add("p.disabled_at IS NULL")
		w.add("p.id <> ?", latchkey.ServiceIdentity)
		if from != "" {
			w.begins(column, from)
		}
		return tx.entries("", w, o)
	}
	key := latchkey.SortKey(prefix)
	items, err := list("p.sort_key", key)
	if err != nil || key == "" {
		return entryPage(items, o), err
	}
	// Two queries, so that each has its index.
	byLogin, err := list("u.login_key", key)
	items = append(items, byLogin...)
	slices.SortFunc(items, func(a, b latchkey.DirectoryEntry) int {
		return cmp.Or(strings.Compare(latchkey.SortKey(a.Name), latchkey.SortKey(b.Name)), strings.Compare(string(a.ID), string(b.ID)))
	})
	items = slices.CompactFunc(items, func(a, b latchkey.DirectoryEntry) bool { return a.ID == b.ID })
	return entryPage(items[:min(len(items), o.Size()+1)], o), err
}

func (tx *Tx) directory(join string, w where, o latchkey.PageOptions) (latchkey.Page[latchkey.DirectoryEntry], error) {
	items, err := tx.entries(join, w, o)
	return entryPage(items, o), err
}

func entryPage(items []latchkey.DirectoryEntry, o latchkey.PageOptions) latchkey.Page[latchkey.DirectoryEntry] {
	return page(items, o, func(e latchkey.DirectoryEntry) (string, string) { return latchkey.SortKey(e.Name), string(e.ID) })
}

// entries returns one principal more than a page has.
func (tx *Tx) entries(join string, w where, o latchkey.PageOptions) ([]latchkey.DirectoryEntry, error) {
	w.add("p.deleted_at IS NULL")
	w.after(o, "p.sort_key", "p.id")
	w.args = append(w.args, o.Size()+1)
	return all(tx, scanDirectoryEntry, `SELECT `+directoryCols+`
		FROM principals p`+join+` LEFT JOIN users u ON u.id = p.id LEFT JOIN service_principals s ON s.id = p.id`+w.String()+` ORDER BY p.sort_key, p.id LIMIT `+w.last(), w.args...)
}

package db

import (
	"fmt"
	"strings"

	"latchkey.dev/latchkey"
)

// OwnsIn returns the names of the environments in which a principal owns something
// that is not deleted.
func (tx *Tx) OwnsIn(who latchkey.PrincipalID) ([]string, error) {
	live := make([]string, len(latchkey.OwnedKinds))
	for i, kind := range latchkey.OwnedKinds {
		live[i] = "EXISTS (SELECT 1 FROM " + tables[kind] + " t WHERE t.id = g.subject_id AND t.deleted_at IS NULL)"
	}
	return all(tx, func(s scanner) (name string, err error) { return name, s.Scan(&name) },
		`SELECT DISTINCT e.name FROM grants g JOIN environments e ON e.id = g.environment_id
			WHERE g.principal_id = $1 AND g.role = 'owner' AND (`+strings.Join(live, " OR ")+`) ORDER BY e.name`, who)
}

// Owned lists what a principal owns in an environment, in the order of kinds, each
// by name; only things of these kinds, which must be some of latchkey.OwnedKinds.
func (tx *Tx) Owned(env latchkey.EnvironmentID, who latchkey.PrincipalID, kinds []latchkey.Kind, o latchkey.PageOptions) (latchkey.Page[latchkey.OwnedThing], error) {
	// The first character of the key is the place of the kind.
	order, names, live, joins := "CASE g.subject_kind", "COALESCE(", []string{}, ""
	for i, kind := range latchkey.OwnedKinds {
		order += fmt.Sprintf(" WHEN '%s' THEN '%d'", kind, i)
		alias := fmt.Sprintf("t%d", i)
		joins += fmt.Sprintf(" LEFT JOIN %s %s ON %s.id = g.subject_id AND %s.deleted_at IS NULL", tables[kind], alias, alias, alias)
		names += alias + ".name, "
		live = append(live, alias+".id IS NOT NULL")
	}
	key := "(" + order + " END || g.sort_key)"
	var w where
	w.add("g.environment_id = ?", env)
	w.add("g.principal_id = ?", who)
	w.add("g.role = 'owner'")
	w.add("(" + strings.Join(live, " OR ") + ")")
	w.add("g.subject_kind IN ("+strings.TrimSuffix(strings.Repeat("?, ", len(kinds)), ", ")+")", in(kinds)...)
	w.after(o, key, "g.subject_id")
	w.args = append(w.args, o.Size()+1)
	type row struct {
		latchkey.OwnedThing
		key string
	}
	rows, err := all(tx, func(s scanner) (r row, err error) { return r, s.Scan(&r.Kind, &r.ID, &r.Name, &r.key) },
		`SELECT g.subject_kind, g.subject_id, `+names+`''), `+key+` FROM grants g`+joins+w.String()+` ORDER BY `+key+`, g.subject_id LIMIT `+w.last(), w.args...)
	p := page(rows, o, func(r row) (string, string) { return r.key, r.ID })
	things := latchkey.Page[latchkey.OwnedThing]{Items: make([]latchkey.OwnedThing, len(p.Items)), Next: p.Next}
	for i, r := range p.Items {
		things.Items[i] = r.OwnedThing
	}
	return things, err
}

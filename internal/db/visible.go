package db

import (
	"cmp"
	"slices"

	"latchkey.dev/latchkey"
)

// Visible restricts a list to the things that a principal may see. Everything
// is set when the principal's role in the environment shows it all.
type Visible struct {
	Who        latchkey.PrincipalID
	Everything bool
}

// A listing is how the things of one kind are listed: by sort key and id.
type listing[T any] struct {
	kind  latchkey.Kind
	cols  string // selected
	table string // with its alias
	alias string
	joins string // after the table
	scan  func(scanner) (T, error)
	name  func(*T) (name, id string) // what the thing is ordered by
}

// page returns a page of an environment's things that are not deleted and that
// the filter lets through.
//
// Who sees everything reads the index of names. Who does not reads that of each
// grantee's grants, which has the names too, so that it does not matter how many
// things there are that one may not see.
func (l listing[T]) page(tx *Tx, env latchkey.EnvironmentID, visible Visible, o latchkey.PageOptions, filter func(*where)) (latchkey.Page[T], error) {
	key := func(item T) (string, string) {
		name, id := l.name(&item)
		return latchkey.SortKey(name), id
	}
	if visible.Everything {
		var w where
		w.add(l.alias+".environment_id = ?", env)
		items, err := l.query(tx, ` FROM `+l.table+l.joins, w, filter, l.alias+".sort_key", l.alias+".id", o)
		return page(items, o, key), err
	}
	grantees, err := all(tx, scanPrincipalID, mine+`SELECT id FROM mine`, visible.Who)
	if err != nil {
		return page[T](nil, o, key), err
	}
	items := []T{}
	for _, p := range grantees {
		granted, err := l.granted(tx, env, p, o, filter, key)
		if err != nil {
			return page[T](nil, o, key), err
		}
		items = append(items, granted...)
	}
	// Several of the principal's groups may be granted the same thing.
	slices.SortFunc(items, func(a, b T) int { return compareKeys(key, a, b) })
	items = slices.CompactFunc(items, func(a, b T) bool { return compareKeys(key, a, b) == 0 })
	return page(items[:min(len(items), o.Size()+1)], o, key), nil
}

// granted returns the first things after the cursor that are granted to a
// principal, one more than the page has.
func (l listing[T]) granted(tx *Tx, env latchkey.EnvironmentID, p latchkey.PrincipalID, o latchkey.PageOptions, filter func(*where), key func(T) (string, string)) ([]T, error) {
	want := o.Size() + 1
	items := []T{}
	for {
		var w where
		w.add("g.principal_id = ?", p)
		w.add("g.subject_kind = ?", l.kind)
		w.add("g.environment_id = ?", env)
		w.conds = append(w.conds, l.alias+".id = g.subject_id")
		// SQLite keeps the order of a CROSS JOIN: grants first.
		more, err := l.query(tx, ` FROM grants g CROSS JOIN `+l.table+l.joins, w, filter, "g.sort_key", "g.subject_id", o)
		if err != nil {
			return nil, err
		}
		// A thing can be granted several times, by several shares.
		items = append(items, slices.CompactFunc(slices.Clone(more), func(a, b T) bool { return compareKeys(key, a, b) == 0 })...)
		if len(more) < want || len(items) >= want {
			return items, nil
		}
		o.After = cursor(key(more[len(more)-1]))
	}
}

func (l listing[T]) query(tx *Tx, from string, w where, filter func(*where), keyColumn, idColumn string, o latchkey.PageOptions) ([]T, error) {
	w.conds = append(w.conds, l.alias+".deleted_at IS NULL")
	if filter != nil {
		filter(&w)
	}
	w.after(o, keyColumn, idColumn)
	w.args = append(w.args, o.Size()+1)
	return all(tx, l.scan, `SELECT `+l.cols+from+w.String()+` ORDER BY `+keyColumn+`, `+idColumn+` LIMIT `+w.last(), w.args...)
}

func compareKeys[T any](key func(T) (string, string), a, b T) int {
	ka, ia := key(a)
	kb, ib := key(b)
	return cmp.Or(cmp.Compare(ka, kb), cmp.Compare(ia, ib))
}

// tables are the tables of the kinds of things that are granted.
var tables = map[latchkey.Kind]string{
	latchkey.KindVariable:   "variables",
	latchkey.KindCredential: "credentials",
	latchkey.KindConnection: "connections",
	latchkey.KindFlow:       "flows",
	latchkey.KindMachine:    "machines",
}

// sortGrants notes the new name of a thing in the grants on it.
func (tx *Tx) sortGrants(id, name string) error {
	_, err := tx.exec(`UPDATE grants SET sort_key = $2 WHERE subject_id = $1 AND sort_key <> $2`, id, latchkey.SortKey(name))
	return err
}

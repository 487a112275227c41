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
// things there are that one may not see, and then only the things of the page.
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
	items := []T{}
	grantees, err := all(tx, scanPrincipalID, mine+`SELECT id FROM mine`, visible.Who)
	if err != nil || len(grantees) == 0 {
		return page(items, o, key), err
	}
	want := o.Size() + 1
	rest := o
	// A few grants of each are mostly enough; if they are not, more are read.
	for size := 2*want/len(grantees) + 16; ; size *= 2 {
		granted, more, err := tx.granted(l.kind, env, grantees, rest, min(size, want))
		if err != nil {
			return page[T](nil, o, key), err
		}
		if len(granted) > want {
			granted, more = granted[:want], true
		}
		found, err := l.load(tx, granted, filter)
		if err != nil {
			return page[T](nil, o, key), err
		}
		items = append(items, found...)
		if !more || len(items) >= want {
			return page(items[:min(len(items), want)], o, key), nil
		}
		last := granted[len(granted)-1]
		rest.After = cursor(last.sort, last.id)
	}
}

// A grantedKey is what a granted thing is ordered by.
type grantedKey struct{ sort, id string }

func (a grantedKey) compare(b grantedKey) int {
	return cmp.Or(cmp.Compare(a.sort, b.sort), cmp.Compare(a.id, b.id))
}

// granted returns the things of a kind that are granted to some principals, deleted
// ones among them, in order and each once: at least one, if there is one after the
// cursor. It reads at most size of each principal, and reports whether there may be
// more.
func (tx *Tx) granted(kind latchkey.Kind, env latchkey.EnvironmentID, to []latchkey.PrincipalID, o latchkey.PageOptions, size int) (keys []grantedKey, more bool, err error) {
	p := tx.pipeline()
	each := make([][]grantedKey, len(to))
	for i, principal := range to {
		var w where
		w.add("principal_id = ?", principal)
		w.add("subject_kind = ?", kind)
		w.add("environment_id = ?", env)
		w.after(o, "sort_key", "subject_id")
		w.args = append(w.args, size)
		// A thing can be granted several times, by several shares.
		p.query(func(s scanner) error {
			var k grantedKey
			err := s.Scan(&k.sort, &k.id)
			each[i] = append(each[i], k)
			return err
		}, `SELECT DISTINCT sort_key, subject_id FROM grants`+w.String()+` ORDER BY sort_key, subject_id LIMIT `+w.last(), w.args...)
	}
	if err := p.run(); err != nil {
		return nil, false, err
	}
	var end grantedKey // what comes after it may be granted to who has more
	for _, found := range each {
		keys = append(keys, found...)
		if len(found) == size {
			if last := found[size-1]; !more || last.compare(end) < 0 {
				end = last
			}
			more = true
		}
	}
	slices.SortFunc(keys, grantedKey.compare)
	keys = slices.Compact(keys) // several of the principals may be granted the same
	if more {
		keys = slices.DeleteFunc(keys, func(k grantedKey) bool { return k.compare(end) > 0 })
	}
	return keys, more, nil
}

// load returns those of some things that are not deleted and that the filter lets
// through, in the order of their keys. It does not ask for their environment, which
// the grants had: SQLite would read all that is in it.
func (l listing[T]) load(tx *Tx, keys []grantedKey, filter func(*where)) ([]T, error) {
	var w where
	w.conds = append(w.conds, l.alias+".deleted_at IS NULL")
	if filter != nil {
		filter(&w)
	}
	ids := make([]string, len(keys))
	for i, k := range keys {
		ids[i] = k.id
	}
	found, err := allOf(tx, l.scan, ids, func(list string) string {
		return `SELECT ` + l.cols + ` FROM ` + l.table + l.joins + w.String() + ` AND ` + l.alias + `.id IN (` + list + `)`
	}, w.args...)
	place := make(map[string]int, len(ids))
	for i, id := range ids {
		place[id] = i
	}
	at := func(item T) int {
		_, id := l.name(&item)
		return place[id]
	}
	slices.SortFunc(found, func(a, b T) int { return cmp.Compare(at(a), at(b)) })
	return found, err
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

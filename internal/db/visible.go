package db

import (
	"cmp"
	"slices"
	"time"

	"latchkey.dev/latchkey"
)

// Visible restricts a list to the things that a principal may see. Everything
// is set when the principal's role in the environment shows it all.
type Visible struct {
	Who        latchkey.PrincipalID
	Everything bool
}

// A listing is how the things of one kind are listed: by sort key and id, or by the
// time of their last change and id.
type listing[T any] struct {
	kind  latchkey.Kind
	cols  string // selected
	table string // with its alias
	alias string
	joins string // after the table
	scan  func(scanner) (T, error)
	name  func(*T) (name, id string) // what the thing is ordered by

	modified func(*T) time.Time // when it was last changed; nil if lists are not by that
}

// spot returns where an item is in the order of s.
func (l listing[T]) spot(s sorting, item *T) spot {
	name, id := l.name(item)
	if s.column == "updated_at" {
		return spot{at: ms(l.modified(item)), id: id}
	}
	return spot{sort: latchkey.SortKey(name), id: id}
}

// page returns a page of an environment's things that are not deleted and that
// the filter lets through, in the order and with the text that o asks for.
//
// Who sees everything reads the index of names or times. Who does not reads that of
// each grantee's grants, which has the names too, so that it does not matter how many
// things there are that one may not see, and then only the things of the page. A
// search, and a list by time, reads all that is granted.
func (l listing[T]) page(tx *Tx, env latchkey.EnvironmentID, visible Visible, o latchkey.PageOptions, filter func(*where)) (latchkey.Page[T], error) {
	s := sortingOf(o)
	if s.column == "updated_at" && l.modified == nil {
		return latchkey.Page[T]{}, o.Validate(latchkey.NameOrders...)
	}
	cut := func(items []T) latchkey.Page[T] {
		p := latchkey.Page[T]{Items: items}
		if n := o.Size(); len(items) > n {
			p.Items, p.Next = items[:n], s.cursor(l.spot(s, &items[n-1]))
		}
		return p
	}
	if visible.Everything {
		items, err := l.query(tx, env, s, filter, o)
		return cut(items), err
	}
	items := []T{}
	grantees, err := all(tx, scanPrincipalID, mine+`SELECT id FROM mine`, visible.Who)
	if err != nil || len(grantees) == 0 {
		return cut(items), err
	}
	want := o.Size() + 1
	rest := o
	// A few grants of each are mostly enough; if they are not, more are read.
	for size := 2*want/len(grantees) + 16; ; size *= 2 {
		granted, more, err := tx.granted(l.kind, env, grantees, s, rest, min(size, want))
		if err != nil {
			return latchkey.Page[T]{}, err
		}
		if len(granted) > want {
			granted, more = granted[:want], true
		}
		found, err := l.load(tx, granted, filter)
		if err != nil {
			return latchkey.Page[T]{}, err
		}
		items = append(items, found...)
		if !more || len(items) >= want {
			return cut(items[:min(len(items), want)]), nil
		}
		rest.After = s.cursor(granted[len(granted)-1])
	}
}

// granted returns the spots of the things of a kind that are granted to some
// principals, deleted ones among them, in order and each once: at least one, if there
// is one after the cursor. It reads at most size of each principal, and reports
// whether there may be more.
func (tx *Tx) granted(kind latchkey.Kind, env latchkey.EnvironmentID, to []latchkey.PrincipalID, s sorting, o latchkey.PageOptions, size int) (keys []spot, more bool, err error) {
	p := tx.pipeline()
	each := make([][]spot, len(to))
	alias, id, join := "g", "subject_id", ""
	if o.Search != "" || s.column != "sort_key" {
		// What grants do not have themselves.
		alias, id, join = "t", "id", " JOIN "+tables[kind]+" t ON t.id = g.subject_id AND t.deleted_at IS NULL"
	}
	for i, principal := range to {
		var w where
		w.add("g.principal_id = ?", principal)
		w.add("g.subject_kind = ?", kind)
		w.add("g.environment_id = ?", env)
		w.contains("t.search_key", o.Search)
		if err := s.after(&w, o, alias, id); err != nil {
			return nil, false, err
		}
		w.args = append(w.args, size)
		// A thing can be granted several times, by several shares.
		p.query(func(row scanner) error {
			var k spot
			key := any(&k.sort)
			if s.column == "updated_at" {
				key = &k.at
			}
			err := row.Scan(key, &k.id)
			each[i] = append(each[i], k)
			return err
		}, `SELECT DISTINCT `+alias+`.`+s.column+`, `+alias+`.`+id+` FROM grants g`+join+w.String()+s.by(alias, id)+` LIMIT `+w.last(), w.args...)
	}
	if err := p.run(); err != nil {
		return nil, false, err
	}
	var end spot // what comes after it may be granted to who has more
	for _, found := range each {
		keys = append(keys, found...)
		if len(found) == size {
			if last := found[size-1]; !more || s.compare(last, end) < 0 {
				end = last
			}
			more = true
		}
	}
	slices.SortFunc(keys, s.compare)
	keys = slices.Compact(keys) // several of the principals may be granted the same
	if more {
		keys = slices.DeleteFunc(keys, func(k spot) bool { return s.compare(k, end) > 0 })
	}
	return keys, more, nil
}

// load returns those of some things that are not deleted and that the filter lets
// through, in the order of their keys. It does not ask for their environment, which
// the grants had: SQLite would read all that is in it.
func (l listing[T]) load(tx *Tx, keys []spot, filter func(*where)) ([]T, error) {
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
	index := make(map[string]int, len(ids))
	for i, id := range ids {
		index[id] = i
	}
	at := func(item T) int {
		_, id := l.name(&item)
		return index[id]
	}
	slices.SortFunc(found, func(a, b T) int { return cmp.Compare(at(a), at(b)) })
	return found, err
}

// query returns the page of who sees everything, and one item more.
func (l listing[T]) query(tx *Tx, env latchkey.EnvironmentID, s sorting, filter func(*where), o latchkey.PageOptions) ([]T, error) {
	var w where
	w.add(l.alias+".environment_id = ?", env)
	w.conds = append(w.conds, l.alias+".deleted_at IS NULL")
	if filter != nil {
		filter(&w)
	}
	w.contains(l.alias+".search_key", o.Search)
	if err := s.after(&w, o, l.alias, "id"); err != nil {
		return nil, err
	}
	w.args = append(w.args, o.Size()+1)
	return all(tx, l.scan, `SELECT `+l.cols+` FROM `+l.table+l.joins+w.String()+s.by(l.alias, "id")+` LIMIT `+w.last(), w.args...)
}

// tables are the tables of the kinds of things that are granted.
var tables = map[latchkey.Kind]string{
	latchkey.KindVariable:   "variables",
	latchkey.KindCredential: "credentials",
	latchkey.KindConnection: "connections",
	latchkey.KindFlow:       "flows",
	latchkey.KindMachine:    "machines",

	latchkey.KindMachineGroup: "machine_groups",
}

// sortGrants notes the new name of a thing in the grants on it.
func (tx *Tx) sortGrants(id, name string) error {
	_, err := tx.exec(`UPDATE grants SET sort_key = $2 WHERE subject_id = $1 AND sort_key <> $2`, id, latchkey.SortKey(name))
	return err
}

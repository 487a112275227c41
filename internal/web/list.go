package web

import (
	"net/url"
	"slices"
	"strings"

	"latchkey.dev/latchkey"
)

// rowsOfPage is how many rows a list shows at once.
const rowsOfPage = 50

// A column is one of a list. The first column of a list is always shown.
type column struct {
	Key    string // of its heading, below the list's texts
	Sort   string // how the list is asked for its order; empty cannot be
	Hidden bool   // unless it is chosen
	Number bool
}

// A list is how a list is shown: what was searched for, which order and columns
// were chosen, and what comes next.
type list struct {
	Name    string // of its texts, and of what is remembered of it
	Path    string
	Search  string
	Sort    string
	Filters url.Values // what else is in the address
	All     []column
	Next    string // address of the following rows
	First   string // address of the first ones, when these are not

	shown []string
	after string
}

// list returns how a list is to be shown, by the address and what is remembered.
// filters are further parameters of the address.
func (v *view) list(name string, columns []column, filters ...string) *list {
	l := &list{Name: name, Path: v.r.URL.Path, Search: v.value("search"), Sort: v.value("sort"), Filters: url.Values{}, All: columns, after: v.value("after")}
	for _, f := range filters {
		if values := v.r.Form[f]; len(values) > 0 && values[0] != "" {
			l.Filters[f] = values
		}
	}
	remembered, ok := v.prefs.Columns[name]
	for i, c := range columns {
		if i == 0 || ok && slices.Contains(remembered, c.Key) || !ok && !c.Hidden {
			l.shown = append(l.shown, c.Key)
		}
	}
	if l.after != "" {
		l.First = l.address("", l.Sort)
	}
	return l
}

// options returns what to ask the broker for.
func (l *list) options() latchkey.PageOptions {
	return latchkey.PageOptions{After: l.after, Limit: rowsOfPage, Search: l.Search, Sort: l.Sort}
}

// more notes where the following rows are.
func (l *list) more(next string) {
	if next != "" {
		l.Next = l.address(next, l.Sort)
	}
}

// address returns the address of the list with another place and order.
func (l *list) address(after, sort string) string {
	q := url.Values{}
	for name, values := range l.Filters {
		q[name] = values
	}
	for name, value := range map[string]string{"search": l.Search, "sort": sort, "after": after} {
		if value != "" {
			q.Set(name, value)
		}
	}
	if len(q) == 0 {
		return l.Path
	}
	return l.Path + "?" + q.Encode()
}

// Shows reports whether a column is shown.
func (l *list) Shows(key string) bool { return slices.Contains(l.shown, key) }

// Columns returns the columns that are shown.
func (l *list) Columns() (shown []column) {
	for _, c := range l.All {
		if l.Shows(c.Key) {
			shown = append(shown, c)
		}
	}
	return shown
}

// Filtered reports whether only a part of the list was asked for.
func (l *list) Filtered() bool { return l.Search != "" || len(l.Filters) > 0 }

// Order returns ascending or descending for the column that the list is in the
// order of, as aria-sort has it.
func (l *list) Order(c column) string {
	switch sort := l.Sort; {
	case c.Sort == "":
		return ""
	case sort == c.Sort || sort == "" && c.Sort == "name":
		return "ascending"
	case sort == "-"+c.Sort:
		return "descending"
	}
	return ""
}

// Turned returns the address of the list in the order of a column, or in the
// opposite one if that is its order.
func (l *list) Turned(c column) string {
	if l.Order(c) == "ascending" {
		return l.address("", "-"+c.Sort)
	}
	return l.address("", strings.TrimPrefix(c.Sort, "name"))
}

// Text returns the key of a text of the list.
func (l *list) Text(key string) string { return l.Name + "." + key }

// Here returns the address of what is shown.
func (l *list) Here() string { return l.address(l.after, l.Sort) }

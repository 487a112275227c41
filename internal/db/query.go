package db

import (
	"cmp"
	"database/sql"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"latchkey.dev/latchkey"
)

// ErrNotFound is what queries for one row return when there is none.
var ErrNotFound = errors.New("db: no such row")

// ErrExists is what inserts return when a row with the same unique key exists.
// The transaction must not go on after it.
var ErrExists = errors.New("db: the row exists")

// A scanner is a row: *sql.Row or *sql.Rows.
type scanner interface {
	Scan(dest ...any) error
}

// all returns every row of a query, made by scan.
func all[T any](tx *Tx, scan func(scanner) (T, error), query string, args ...any) (_ []T, err error) {
	if !storable(args...) {
		return []T{}, nil
	}
	tx.traced(query, args)
	rows, err := tx.tx.QueryContext(tx.ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	items := []T{}
	for rows.Next() {
		item, err := scan(rows)
		if err != nil {
			return nil, err
		}
		items = append(items, item)
	}
	return items, rows.Err()
}

// idsAtOnce is about how many ids one query asks. Given many more, PostgreSQL
// reads whole tables rather than look them up.
const idsAtOnce = 100

// allOf is all for a query about ids, which are its arguments after the ones in
// before: query is given their placeholders.
func allOf[T any, ID ~string](tx *Tx, scan func(scanner) (T, error), ids []ID, query func(list string) string, before ...any) ([]T, error) {
	var items []T
	for some := range slices.Chunk(ids, idsAtOnce) {
		more, err := all(tx, scan, query(placeholders(len(before)+1, len(some))), in(some, slices.Clone(before)...)...)
		if err != nil {
			return nil, err
		}
		items = append(items, more...)
	}
	return items, nil
}

// one returns the only row of a query, or ErrNotFound.
func one[T any](tx *Tx, scan func(scanner) (T, error), query string, args ...any) (T, error) {
	if !storable(args...) {
		var none T
		return none, ErrNotFound
	}
	tx.traced(query, args)
	item, err := scan(tx.tx.QueryRowContext(tx.ctx, query, args...))
	if errors.Is(err, sql.ErrNoRows) {
		err = ErrNotFound
	}
	return item, err
}

// page returns one page of a list. The query selects one row more than the
// page has, ordered by sort key and id; key returns these of an item.
func page[T any](items []T, o latchkey.PageOptions, key func(T) (string, string)) latchkey.Page[T] {
	p := latchkey.Page[T]{Items: items}
	if n := o.Size(); len(items) > n {
		p.Items = items[:n]
		p.Next = cursor(key(items[n-1]))
	}
	return p
}

// storable reports whether every text among args can be in the database, so
// that a query with it makes sense.
func storable(args ...any) bool {
	for _, arg := range args {
		if v := reflect.ValueOf(arg); v.Kind() == reflect.String && !Storable(v.String()) {
			return false
		}
	}
	return true
}

// Storable reports whether both engines can keep a text as it is: PostgreSQL
// takes no NUL and only UTF-8.
func Storable(text string) bool { return utf8.ValidString(text) && !strings.ContainsRune(text, 0) }

// exec runs a statement and returns how many rows it changed.
func (tx *Tx) exec(query string, args ...any) (int64, error) {
	tx.traced(query, args)
	res, err := tx.tx.ExecContext(tx.ctx, query, args...)
	if err != nil {
		if isUnique(err) {
			return 0, fmt.Errorf("%w: %w", ErrExists, err)
		}
		return 0, err
	}
	return res.RowsAffected()
}

// execOne is exec for a statement that must change exactly one row: it returns
// ErrNotFound when it changed none.
func (tx *Tx) execOne(query string, args ...any) error {
	n, err := tx.exec(query, args...)
	if err == nil && n == 0 {
		err = ErrNotFound
	}
	return err
}

var cursorEncoding = base64.RawURLEncoding

// cursor encodes where a page ended.
func cursor(key, id string) string {
	b, _ := json.Marshal([2]string{key, id}) // strings always marshal
	return cursorEncoding.EncodeToString(b)
}

// parseCursor decodes what cursor encoded; a cursor that was not made by it is
// the start of the list.
func parseCursor(s string) (key, id string) {
	var v [2]string
	b, err := cursorEncoding.DecodeString(s)
	if err != nil || json.Unmarshal(b, &v) != nil || !storable(v[0], v[1]) {
		return "", ""
	}
	return v[0], v[1]
}

// A sorting is the order of a list that has several.
type sorting struct {
	name   string // in cursors; "" is by name
	column string // sort_key or updated_at
	down   bool
}

// sortingOf returns the order that options ask for, which have been checked.
func sortingOf(o latchkey.PageOptions) sorting {
	switch o.Sort {
	case latchkey.SortNameDown:
		return sorting{o.Sort, "sort_key", true}
	case latchkey.SortOldest:
		return sorting{o.Sort, "updated_at", false}
	case latchkey.SortNewest:
		return sorting{o.Sort, "updated_at", true}
	}
	return sorting{"", "sort_key", false}
}

// by returns ORDER BY for columns of a table or an alias.
func (s sorting) by(alias, id string) string {
	down := ""
	if s.down {
		down = " DESC"
	}
	return " ORDER BY " + alias + "." + s.column + down + ", " + alias + "." + id + down
}

// A spot is what the items of a list are ordered by: sort or at, then id.
type spot struct {
	sort string
	at   int64 // Unix milliseconds
	id   string
}

// compare compares a and b in the order of s.
func (s sorting) compare(a, b spot) int {
	n := cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.sort, b.sort), cmp.Compare(a.id, b.id))
	if s.down {
		return -n
	}
	return n
}

// cursor encodes where a page ended, and its order.
func (s sorting) cursor(p spot) string {
	key := p.sort
	if s.column == "updated_at" {
		key = strconv.FormatInt(p.at, 10)
	}
	if s.name == "" {
		return cursor(key, p.id)
	}
	b, _ := json.Marshal([3]string{key, p.id, s.name}) // strings always marshal
	return cursorEncoding.EncodeToString(b)
}

// errOrder is the error about a cursor of a list in another order.
func errOrder() error {
	return latchkey.Invalid("after", "is of this list in another order; leave it out to begin anew")
}

// after restricts a list to what follows a cursor. A cursor of another order is an
// error; one that is none is the start of the list.
func (s sorting) after(w *where, o latchkey.PageOptions, alias, id string) error {
	if o.After == "" {
		return nil
	}
	var v []string
	if b, err := cursorEncoding.DecodeString(o.After); err != nil || json.Unmarshal(b, &v) != nil || len(v) < 2 || len(v) > 3 || !storable(v[0], v[1]) {
		v = []string{"", ""}
		if s.name != "" {
			return errOrder()
		}
	}
	if order := strings.Join(v[2:], ""); order != s.name {
		return errOrder()
	}
	var key any = v[0]
	if s.column == "updated_at" {
		at, err := strconv.ParseInt(v[0], 10, 64)
		if err != nil {
			return errOrder()
		}
		key = at
	}
	than := " > "
	if s.down {
		than = " < "
	}
	w.add("("+alias+"."+s.column+", "+alias+"."+id+")"+than+"(?, ?)", key, v[1])
	return nil
}

// contains adds the condition that a column of search keys has a text in it.
func (w *where) contains(column, text string) {
	if text != "" {
		// Both sides are in lower case, so that it does not matter that SQLite's LIKE
		// ignores the case of ASCII letters and that of PostgreSQL does not.
		w.add(column+` LIKE ? ESCAPE '\'`, "%"+likeText.Replace(latchkey.SearchKey(text))+"%")
	}
}

// likeText escapes what means more than itself in a pattern.
var likeText = strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`)

// IsCursor reports whether s is of the form in which lists say where a page ended.
func IsCursor(s string) bool {
	key, id := parseCursor(s)
	return cursor(key, id) == s
}

// where collects the conditions of a query and their arguments.
type where struct {
	conds []string
	args  []any
}

// add appends a condition in which ? stands for each argument in turn.
func (w *where) add(cond string, args ...any) {
	for _, arg := range args {
		w.args = append(w.args, arg)
		cond = strings.Replace(cond, "?", fmt.Sprintf("$%d", len(w.args)), 1)
	}
	w.conds = append(w.conds, cond)
}

// after restricts a list to what follows a cursor in the given order.
func (w *where) after(o latchkey.PageOptions, keyColumn, idColumn string) {
	if o.After != "" {
		key, id := parseCursor(o.After)
		w.add("("+keyColumn+", "+idColumn+") > (?, ?)", key, id)
	}
}

// begins restricts a column of sort keys to those that begin with key. What is
// between two of them is so under every collation: they are hexadecimal.
func (w *where) begins(column, key string) {
	w.add(column+" >= ?", key)
	w.add(column+" < ?", key+"g") // which is after every digit
}

// String returns the WHERE clause, or "" without conditions.
func (w *where) String() string {
	if len(w.conds) == 0 {
		return ""
	}
	return " WHERE " + strings.Join(w.conds, " AND ")
}

// ms returns t for storing.
func ms(t time.Time) int64 { return t.UnixMilli() }

// msOrNull returns t for storing, or NULL for no time.
func msOrNull(t *time.Time) any {
	if t == nil {
		return nil
	}
	return t.UnixMilli()
}

// A timestamp scans a time that is never NULL into a time.Time.
type timestamp struct{ t *time.Time }

// Scan implements [sql.Scanner].
func (s timestamp) Scan(v any) error {
	n, ok := v.(int64)
	if !ok {
		return fmt.Errorf("db: %T is no time", v)
	}
	*s.t = time.UnixMilli(n).UTC()
	return nil
}

// A duration scans milliseconds into a time.Duration.
type duration struct{ d *time.Duration }

// Scan implements [sql.Scanner].
func (s duration) Scan(v any) error {
	n, ok := v.(int64)
	if !ok {
		return fmt.Errorf("db: %T is no duration", v)
	}
	*s.d = time.Duration(n) * time.Millisecond
	return nil
}

// A nullTime scans a time or NULL into a *time.Time.
type nullTime struct{ t **time.Time }

// Scan implements [sql.Scanner].
func (s nullTime) Scan(v any) error {
	if v == nil {
		*s.t = nil
		return nil
	}
	var t time.Time
	if err := (timestamp{&t}).Scan(v); err != nil {
		return err
	}
	*s.t = &t
	return nil
}

// A jsonText scans JSON stored as text into v.
type jsonText struct{ v any }

// Scan implements [sql.Scanner].
func (s jsonText) Scan(v any) error {
	switch v := v.(type) {
	case string:
		return json.Unmarshal([]byte(v), s.v)
	case []byte:
		return json.Unmarshal(v, s.v)
	}
	return fmt.Errorf("db: %T is no JSON", v)
}

// toJSON returns v for storing as text.
func toJSON(v any) (string, error) {
	b, err := json.Marshal(v)
	return string(b), err
}

// last returns the placeholder of the last argument.
func (w *where) last() string { return fmt.Sprintf("$%d", len(w.args)) }

// placeholders returns n placeholders from $first on, separated by commas.
func placeholders(first, n int) string {
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("$%d", first+i)
	}
	return strings.Join(names, ", ")
}

// in returns arguments for a list of ids after other arguments.
func in[ID ~string](ids []ID, before ...any) []any {
	args := before
	for _, id := range ids {
		args = append(args, id)
	}
	return args
}

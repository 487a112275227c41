package db

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
)

// A ColumnType says how the values of a column appear in Go.
type ColumnType string

const (
	TypeText    ColumnType = "text"    // string
	TypeInteger ColumnType = "integer" // int64
	TypeBoolean ColumnType = "boolean" // bool
	TypeBytes   ColumnType = "bytes"   // []byte
)

// A Column is a column of a table. NULL is a nil value, whatever the type.
type Column struct {
	Name string     `json:"name"`
	Type ColumnType `json:"type"`
}

// A Table is a table of the schema, as copies of whole databases see it.
type Table struct {
	Name    string   `json:"table"`
	Columns []Column `json:"columns"`
}

// columnType returns the type of a column by the name that the schema gives it.
func columnType(declared string) (ColumnType, error) {
	switch declared {
	case "TEXT":
		return TypeText, nil
	case "BIGINT":
		return TypeInteger, nil
	case "BOOLEAN":
		return TypeBoolean, nil
	case "BYTEA":
		return TypeBytes, nil
	}
	return "", fmt.Errorf("db: the schema has a column of type %q", declared)
}

// Tables returns the tables of a version of the schema, or of the newest when
// version is 0, each after those that its rows refer to. They are read from the
// migrations themselves, so that none can be forgotten, and are the same for
// both engines.
func Tables(ctx context.Context, version int64) (_ []Table, err error) {
	pool, err := sql.Open("sqlite", ":memory:")
	if err != nil {
		return nil, err
	}
	pool.SetMaxOpenConns(1) // each connection has a memory of its own
	d := &DB{engine: engineSQLite, write: pool, read: pool}
	defer func() { err = errors.Join(err, d.Close()) }()
	if err := d.upTo(ctx, version); err != nil {
		return nil, err
	}
	names, err := texts(ctx, pool, `SELECT name FROM sqlite_master WHERE type = 'table' AND name <> 'goose_db_version' AND name NOT LIKE 'sqlite_%' ORDER BY rowid`)
	if err != nil {
		return nil, err
	}
	needs := make(map[string][]string, len(names)) // table → those that it refers to
	for _, name := range names {
		if needs[name], err = texts(ctx, pool, `SELECT DISTINCT "table" FROM pragma_foreign_key_list($1)`, name); err != nil {
			return nil, err
		}
	}
	var tables []Table
	done := make(map[string]bool, len(names))
	for range names { // each round adds one table at least
		for _, name := range names {
			waits := slices.ContainsFunc(needs[name], func(n string) bool { return n != name && !done[n] })
			if done[name] || waits {
				continue
			}
			t, err := readTable(ctx, pool, name)
			if err != nil {
				return nil, err
			}
			tables, done[name] = append(tables, t), true
		}
	}
	if len(tables) != len(names) {
		return nil, errors.New("db: tables of the schema refer to each other in a circle")
	}
	return tables, nil
}

func readTable(ctx context.Context, pool *sql.DB, name string) (_ Table, err error) {
	t := Table{Name: name}
	rows, err := pool.QueryContext(ctx, `SELECT name, type FROM pragma_table_info($1) ORDER BY cid`, name)
	if err != nil {
		return t, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var c Column
		var declared string
		if err := rows.Scan(&c.Name, &declared); err != nil {
			return t, err
		}
		if c.Type, err = columnType(declared); err != nil {
			return t, err
		}
		t.Columns = append(t.Columns, c)
	}
	return t, rows.Err()
}

// texts returns the only column of a query.
func texts(ctx context.Context, pool *sql.DB, query string, args ...any) (_ []string, err error) {
	rows, err := pool.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	var all []string
	for rows.Next() {
		var s string
		if err := rows.Scan(&s); err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	return all, rows.Err()
}

// upTo brings an empty database to a version of the schema, or to the newest
// when version is 0.
func (d *DB) upTo(ctx context.Context, version int64) error {
	provider, err := d.ownProvider()
	if err != nil {
		return err
	}
	if version == 0 {
		_, err = provider.Up(ctx)
	} else {
		_, err = provider.UpTo(ctx, version)
	}
	if err != nil {
		return fmt.Errorf("make the schema: %w", err)
	}
	return nil
}

// SchemaVersion returns the version of the schema that this program works with.
func SchemaVersion() (int64, error) {
	files, err := fs.Glob(migrationFiles, "migrations/*.sql")
	if err != nil || len(files) == 0 {
		return 0, errors.Join(errors.New("db: there are no migrations"), err)
	}
	var newest int64
	for _, f := range files {
		var n int64
		if _, err := fmt.Sscanf(strings.TrimPrefix(f, "migrations/"), "%d_", &n); err != nil {
			return 0, fmt.Errorf("db: the migration %s has no number: %w", f, err)
		}
		newest = max(newest, n)
	}
	return newest, nil
}

// names returns the columns of a table for a statement.
func (t Table) names() string {
	names := make([]string, len(t.Columns))
	for i, c := range t.Columns {
		names[i] = c.Name
	}
	return strings.Join(names, ", ")
}

// EachRow calls f with every row of a table, as it comes from the database: a
// value for each column. The slice is used again for the next row.
func (tx *Tx) EachRow(t Table, f func([]any) error) (err error) {
	rows, err := tx.tx.QueryContext(tx.ctx, `SELECT `+t.names()+` FROM `+t.Name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	dest, values := make([]any, len(t.Columns)), make([]any, len(t.Columns))
	for i := range t.Columns {
		dest[i] = cell{t.Columns[i].Type, &values[i]}
	}
	for rows.Next() {
		if err := rows.Scan(dest...); err != nil {
			return fmt.Errorf("read table %s: %w", t.Name, err)
		}
		if err := f(values); err != nil {
			return err
		}
	}
	return rows.Err()
}

// A cell scans a value as its column's type, whatever the engine's driver makes
// of it.
type cell struct {
	is    ColumnType
	value *any
}

// Scan implements [sql.Scanner].
func (c cell) Scan(v any) error {
	if v == nil {
		*c.value = nil
		return nil
	}
	switch c.is {
	case TypeText:
		var s string
		switch v := v.(type) {
		case string:
			s = v
		case []byte:
			s = string(v)
		default:
			return fmt.Errorf("db: %T is no text", v)
		}
		if !Storable(s) {
			return errors.New("db: a text is not UTF-8 without NUL")
		}
		*c.value = s
	case TypeBytes:
		b, ok := v.([]byte)
		if !ok {
			return fmt.Errorf("db: %T are no bytes", v)
		}
		*c.value = append([]byte{}, b...) // never nil, which would be NULL
	case TypeInteger:
		n, ok := v.(int64)
		if !ok {
			return fmt.Errorf("db: %T is no integer", v)
		}
		*c.value = n
	case TypeBoolean:
		switch v := v.(type) {
		case bool:
			*c.value = v
		case int64:
			*c.value = v != 0
		default:
			return fmt.Errorf("db: %T is no boolean", v)
		}
	default:
		return fmt.Errorf("db: unknown column type %q", c.is)
	}
	return nil
}

// maxInsertArgs bounds the values of one INSERT, below what both engines take.
const maxInsertArgs = 2000

// MaxInsertRows returns how many rows InsertRows takes at once.
func (t Table) MaxInsertRows() int { return max(1, maxInsertArgs/len(t.Columns)) }

// InsertRows adds rows of a table, which [Tx.EachRow] gave for the same table of
// some database; at most MaxInsertRows of them.
func (tx *Tx) InsertRows(t Table, rows [][]any) error {
	if len(rows) == 0 {
		return nil
	}
	var b strings.Builder
	b.WriteString(`INSERT INTO ` + t.Name + ` (` + t.names() + `) VALUES `)
	args := make([]any, 0, len(rows)*len(t.Columns))
	for i, row := range rows {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(`(` + placeholders(len(args)+1, len(row)) + `)`)
		args = append(args, row...)
	}
	if _, err := tx.tx.ExecContext(tx.ctx, b.String(), args...); err != nil {
		return fmt.Errorf("write table %s: %w", t.Name, err)
	}
	return nil
}

// Engine returns the name of the database's engine.
func (d *DB) Engine() string { return string(d.engine) }

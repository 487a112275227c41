package db

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	_ "github.com/jackc/pgx/v5/stdlib" // driver "pgx"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// maxAttempts bounds how often a transaction is tried when the database says
// that it collided with another.
const maxAttempts = 100

// A DB is an open database. Close releases it.
type DB struct {
	engine engine
	write  *sql.DB // SQLite: one connection, transactions begin immediate
	read   *sql.DB // SQLite: several connections that cannot write
	now    func() time.Time

	records atomic.Uint32 // audit entries added; orders those of one millisecond
	full    atomic.Bool   // see Full

	path  string // of a SQLite file
	place place
}

type engine string

const (
	engineSQLite   engine = "SQLite"
	enginePostgres engine = "PostgreSQL"
)

// A Config says which database to open.
type Config struct {
	// URL is postgres://… for PostgreSQL; otherwise the path of a SQLite file,
	// which is created if it does not exist.
	URL string

	// Log is told about migrations. It must not be nil.
	Log *slog.Logger

	// Now is the clock; nil is time.Now.
	Now func() time.Time
}

// IsPostgres reports whether url names a PostgreSQL database.
func IsPostgres(url string) bool {
	return strings.HasPrefix(url, "postgres://") || strings.HasPrefix(url, "postgresql://")
}

// Open opens the database and brings its schema up to date. It refuses a
// database whose schema is newer than this program, and with ErrRestoring one
// whose restore was interrupted. A SQLite file is copied beside itself before
// its schema changes.
func Open(ctx context.Context, c Config) (*DB, error) {
	if c.Log == nil {
		return nil, errors.New("db: Config.Log is nil")
	}
	d, err := openBare(c)
	if err != nil {
		return nil, err
	}
	if err := d.notMarked(ctx); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	if err := d.migrate(ctx, c); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	if err := d.renumberAudit(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("order the audit log: %w", err), d.Close())
	}
	return d, nil
}

// openBare opens a database without looking at its schema.
func openBare(c Config) (*DB, error) {
	var d *DB
	var err error
	if IsPostgres(c.URL) {
		d, err = openPostgres(c.URL)
	} else {
		d, err = openSQLite(c.URL)
	}
	if err != nil {
		return nil, err
	}
	if d.now = c.Now; d.now == nil {
		d.now = time.Now
	}
	return d, nil
}

func openPostgres(dsn string) (*DB, error) {
	pool, err := sql.Open("pgx", dsn)
	if err != nil {
		return nil, errors.New("the database's address is not valid; it has the form postgres://user@host/database") // err may hold the password
	}
	pool.SetMaxOpenConns(16)
	pool.SetMaxIdleConns(16)
	pool.SetConnMaxLifetime(time.Hour)
	return &DB{engine: enginePostgres, write: pool, read: pool}, nil
}

func openSQLite(path string) (*DB, error) {
	// The file is made here so that it is never readable by others.
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	if err := f.Close(); err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	dsn := func(params string) string {
		// busy_timeout comes first, so that the others wait for a lock too.
		return (&url.URL{Scheme: "file", OmitHost: true, Path: filepath.ToSlash(abs)}).String() +
			"?_pragma=busy_timeout(10000)&_pragma=journal_mode(wal)&_pragma=synchronous(full)&_pragma=foreign_keys(1)&_pragma=wal_autocheckpoint(4000)" + params
	}
	// Writers begin immediate: a deferred transaction that writes after it has
	// read fails at once when another has written meanwhile.
	write := openStatements(dsn("&_txlock=immediate"))
	write.SetMaxOpenConns(1)
	write.SetConnMaxLifetime(0)
	read := openStatements(dsn("&_pragma=query_only(1)"))
	read.SetMaxOpenConns(max(4, runtime.NumCPU()))
	read.SetMaxIdleConns(max(4, runtime.NumCPU()))
	return &DB{engine: engineSQLite, write: write, read: read, path: abs}, nil
}

// closeNote bounds how long Close waits to note how far the database has come.
const closeNote = 5 * time.Second

// Close closes the database.
func (d *DB) Close() error {
	if d.read == d.write {
		return d.write.Close()
	}
	ctx, cancel := context.WithTimeout(context.Background(), closeNote)
	defer cancel()
	_ = d.NotePlace(ctx) // what was noted before is true as well
	return errors.Join(d.read.Close(), d.write.Close())
}

// Ping returns an error if the database cannot be reached.
func (d *DB) Ping(ctx context.Context) error { return d.read.PingContext(ctx) }

// A Tx is a transaction. Its methods are the queries.
type Tx struct {
	// Now is the transaction's only time, in whole milliseconds.
	Now time.Time

	ctx     context.Context
	conn    *sql.Conn // that tx is on, where statements can be sent together; else nil
	tx      *sql.Tx
	engine  engine
	records *atomic.Uint32                 // the database's
	trace   func(query string, args []any) // see WithTrace; mostly nil
}

// Update runs f in a transaction and commits unless f returns an error. A failure
// of the database itself is a [latchkey.Error] with one of the Code values. f may
// run several times, when the database says that the transaction collided with
// another: it must have no effect outside the transaction but on variables that
// it sets anew each time.
func (d *DB) Update(ctx context.Context, f func(*Tx) error) error {
	opts := &sql.TxOptions{}
	if d.engine == enginePostgres {
		opts.Isolation = sql.LevelSerializable
	}
	return d.run(ctx, d.write, opts, f)
}

// View runs f in a transaction that only reads, from one state of the database.
func (d *DB) View(ctx context.Context, f func(*Tx) error) error {
	opts := &sql.TxOptions{ReadOnly: true}
	if d.engine == enginePostgres {
		opts.Isolation = sql.LevelRepeatableRead
	}
	return d.run(ctx, d.read, opts, f)
}

func (d *DB) run(ctx context.Context, pool *sql.DB, opts *sql.TxOptions, f func(*Tx) error) error {
	for attempt := 1; ; attempt++ {
		err := d.once(ctx, pool, opts, f)
		if err == nil || !isCollision(err) || attempt == maxAttempts || ctx.Err() != nil {
			return d.trouble(err)
		}
		// Wait a random while that grows with the attempts, at most 100 ms.
		wait := time.Duration(rand.Int64N(int64(min(attempt*2, 100)))+1) * time.Millisecond
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
	}
}

func (d *DB) once(ctx context.Context, pool *sql.DB, opts *sql.TxOptions, f func(*Tx) error) (err error) {
	conn, err := pool.Conn(ctx)
	if err != nil {
		return fmt.Errorf("connect to the database: %w", err)
	}
	defer conn.Close() // only gives it back
	sqlTx, err := conn.BeginTx(ctx, opts)
	if err != nil {
		return fmt.Errorf("begin transaction: %w", err)
	}
	committed := false
	defer func() {
		if !committed {
			// Also when f panics. The error of f is the one that matters.
			_ = sqlTx.Rollback()
		}
	}()
	tx := &Tx{Now: d.now().UTC().Truncate(time.Millisecond), ctx: ctx, tx: sqlTx, engine: d.engine, records: &d.records}
	tx.trace, _ = ctx.Value(traceKey{}).(func(query string, args []any))
	switch {
	case d.engine == enginePostgres:
		tx.conn = conn
	case !opts.ReadOnly:
		// The statements of a change are short, and the driver starts a goroutine
		// for each that can be interrupted. The end of ctx ends the transaction.
		tx.ctx = context.WithoutCancel(ctx)
	}
	if err := f(tx); err != nil {
		if cause := ctx.Err(); cause != nil && errors.Is(err, sql.ErrTxDone) {
			return cause // the transaction was ended before one of f's statements
		}
		return err
	}
	if err := sqlTx.Commit(); err != nil {
		if cause := ctx.Err(); cause != nil && (err == sql.ErrTxDone || err == cause) {
			return cause // database/sql itself says so: it did not come to the commit
		}
		if opts.ReadOnly {
			return fmt.Errorf("end of reading: %w", err)
		}
		return fmt.Errorf("%w: %w", errCommit, err)
	}
	committed = true
	return nil
}

// isCollision reports whether a transaction may succeed when tried again.
func isCollision(err error) bool {
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		return pg.Code == "40001" || pg.Code == "40P01" // serialization failure, deadlock
	}
	if lite, ok := errors.AsType[*sqlite.Error](err); ok {
		return lite.Code()&0xff == sqlite3.SQLITE_BUSY
	}
	return false
}

// isUnique reports whether err is the violation of a unique index.
func isUnique(err error) bool {
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		return pg.Code == "23505"
	}
	if lite, ok := errors.AsType[*sqlite.Error](err); ok {
		return lite.Code() == sqlite3.SQLITE_CONSTRAINT_UNIQUE || lite.Code() == sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY
	}
	return false
}

package db

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"latchkey.dev/latchkey"
)

// Codes of failures of the database itself. Operations return them as
// [latchkey.ErrUnavailable].
const (
	CodeStorageFull    = latchkey.CodeStorageFull // nothing was changed
	CodeUnavailable    = "database-unavailable"   // nothing was changed
	CodeOutcomeUnknown = "outcome-unknown"        // the change may have been made
)

// errCommit marks a failed commit: without word from the database that it rolled
// back, the change may have been made.
var errCommit = errors.New("commit")

// trouble returns err as operations report it: a failure of the database itself
// becomes a [latchkey.Error] that says what happened to the change; others are
// returned as they are.
func (d *DB) trouble(err error) error {
	if err == nil || errors.Is(err, ErrNotFound) || errors.Is(err, ErrExists) {
		return err
	}
	if _, ok := errors.AsType[*latchkey.Error](err); ok {
		return err
	}
	e := &latchkey.Error{Kind: latchkey.ErrUnavailable, Err: err}
	switch state := d.diagnose(err); {
	case state == CodeStorageFull:
		d.full.Store(true)
		e.Code, e.Check = CodeStorageFull, "storage"
		e.Msg = fmt.Sprintf("the storage of the %s database is full, so nothing can be recorded and nothing was changed; whoever runs the server has to make room, then try again", d.engine)
		e.Remedy = "make room where the database is; the server goes on by itself"
	case state == "":
		return err
	case errors.Is(err, errCommit) && !rolledBack(err):
		e.Code, e.Check = CodeOutcomeUnknown, "database"
		e.Msg = fmt.Sprintf("the connection to the %s database failed while the change was being committed: it may have been made; look before you try again", d.engine)
		e.Remedy = "look whether the change is there before you repeat it"
	default:
		e.Code, e.Check = CodeUnavailable, "database"
		e.Msg = fmt.Sprintf("the %s database cannot be used now; nothing was changed; try again", d.engine)
		e.Remedy = "see the server's log for the cause"
	}
	return e
}

// diagnose returns CodeStorageFull, CodeUnavailable, or "" for an error that is
// no failure of the database itself.
func (d *DB) diagnose(err error) string {
	if lite, ok := errors.AsType[*sqlite.Error](err); ok {
		switch lite.Code() & 0xff {
		case sqlite3.SQLITE_FULL:
			return CodeStorageFull
		case sqlite3.SQLITE_IOERR:
			if lite.Code() == sqlite3.SQLITE_IOERR_SHMSIZE { // the index of the log has no room to grow
				return CodeStorageFull
			}
			return CodeUnavailable
		case sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB:
			return CodeUnavailable
		}
		return ""
	}
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		switch {
		case pg.Code == "53100": // disk_full
			return CodeStorageFull
		// Connection exceptions, too few resources, the operator's doing, system
		// errors; a server that only reads since another has taken over; collisions
		// without end. See PostgreSQL, appendix A.
		case strings.HasPrefix(pg.Code, "08"), strings.HasPrefix(pg.Code, "53"), strings.HasPrefix(pg.Code, "57P"), strings.HasPrefix(pg.Code, "58"),
			pg.Code == "25006", pg.Code == "40001", pg.Code == "40P01", errors.Is(err, errCommit) && !rolledBack(err):
			return CodeUnavailable
		}
		return ""
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return CodeUnavailable
	}
	if errors.Is(err, context.Canceled) {
		return ""
	}
	_, network := errors.AsType[net.Error](err)
	_, connect := errors.AsType[*pgconn.ConnectError](err)
	if network || connect || errors.Is(err, errCommit) || pgconn.SafeToRetry(err) || errors.Is(err, driver.ErrBadConn) || errors.Is(err, sql.ErrConnDone) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return CodeUnavailable
	}
	return ""
}

// rolledBack reports whether a commit is known to have changed nothing.
func rolledBack(err error) bool {
	if lite, ok := errors.AsType[*sqlite.Error](err); ok {
		// After an error of the file system the log may hold the commit already.
		return lite.Code()&0xff != sqlite3.SQLITE_IOERR
	}
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		// FATAL ends the connection, also right after the commit.
		return pg.Severity == "ERROR" || pg.SeverityUnlocalized == "ERROR"
	}
	// pgconn.SafeToRetry does not help: of a connection that is lost after COMMIT
	// was sent, pgx says "conn closed" and that it is safe.
	return false
}

// probeSize is what a probe writes, in bytes: more than the free space that a
// database has inside its file by chance.
const probeSize = 64 << 10

const settingProbe = "storage-probe"

// Full reports whether the storage was full when something was last written.
func (d *DB) Full() bool { return d.full.Load() }

// Probe writes something large and removes it, to see whether there is room
// again after the storage was full. It returns an error when there is none.
func (d *DB) Probe(ctx context.Context) error {
	if err := d.Update(ctx, func(tx *Tx) error { return tx.SetSetting(settingProbe, strings.Repeat("0", probeSize)) }); err != nil {
		return err
	}
	d.full.Store(false)
	return d.Update(ctx, func(tx *Tx) error {
		_, err := tx.exec(`DELETE FROM settings WHERE name = $1`, settingProbe)
		return err
	})
}

// LimitPages bounds the pages of a SQLite database's file, as a full disk would,
// and returns how many it has now. It cannot become smaller than it is; 0 leaves
// the limit. No program calls it: it is here for tests of other packages, which
// cannot reach the connections of a server's database.
func (d *DB) LimitPages(ctx context.Context, limit int64) (pages int64, err error) {
	if d.engine != engineSQLite {
		return 0, errors.New("db: only SQLite files have a limit of pages")
	}
	if _, err := d.write.ExecContext(ctx, fmt.Sprintf("PRAGMA max_page_count = %d", limit)); err != nil {
		return 0, err
	}
	err = d.write.QueryRowContext(ctx, "PRAGMA page_count").Scan(&pages)
	return pages, err
}

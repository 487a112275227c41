package db

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"
)

// settingRestoring is there from the begin of a restore to its end. Servers read
// it in the transaction of their start, which a restore that begins meanwhile
// therefore collides with.
const settingRestoring = "restoring"

// markTable is there from before the schema, which is no single transaction, to
// the end of a restore.
const markTable = "restoring"

// ErrRestoring is the error of using a database that a restore has not filled
// to the end.
var ErrRestoring = errors.New("a restore into this database was interrupted, and what is in it is not whole: run latchkey restore again")

// OpenExisting opens a database as it is, beside the servers that use it. It
// makes and changes no schema: it refuses a database that is missing or that
// has another version than this program's, and one whose restore was
// interrupted.
func OpenExisting(ctx context.Context, c Config) (*DB, error) {
	if !IsPostgres(c.URL) {
		if _, err := os.Stat(c.URL); err != nil {
			return nil, fmt.Errorf("there is no database in the data folder: %w", err)
		}
	}
	d, err := openBare(c)
	if err != nil {
		return nil, err
	}
	if err := d.checkExisting(ctx); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

func (d *DB) checkExisting(ctx context.Context) error {
	provider, err := d.ownProvider()
	if err != nil {
		return err
	}
	if err := d.notMarked(ctx); err != nil {
		return err
	}
	have, want, err := provider.GetVersions(ctx)
	switch {
	case err != nil:
		return fmt.Errorf("open database: %w", err)
	case have == 0:
		return errors.New("the database is empty: no server has used it yet")
	case have != want:
		return fmt.Errorf("the database has schema version %d, this program works with %d: use the program of the version that the server has", have, want)
	}
	if err := d.View(ctx, (*Tx).NotRestoring); err != nil {
		return err
	}
	return d.renumberAudit(ctx) // of a copy that no server has started on yet
}

// NotRestoring returns ErrRestoring when a restore into the database has not
// come to its end.
func (tx *Tx) NotRestoring() error {
	marked, err := isMarked(tx.ctx, tx.tx, tx.engine)
	if err != nil {
		return err
	}
	_, err = tx.Setting(settingRestoring)
	switch {
	case err == nil || marked && errors.Is(err, ErrNotFound):
		return ErrRestoring
	case errors.Is(err, ErrNotFound):
		return nil
	}
	return err
}

// notMarked is NotRestoring for a database that may have no schema yet.
func (d *DB) notMarked(ctx context.Context) error {
	marked, err := isMarked(ctx, d.write, d.engine)
	if err != nil {
		return d.unreachable(err)
	}
	if marked {
		return ErrRestoring
	}
	return nil
}

// isMarked reports whether a database has the mark of a restore.
func isMarked(ctx context.Context, q interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}, e engine) (marked bool, err error) {
	query := `SELECT count(*) > 0 FROM sqlite_master WHERE type = 'table' AND name = $1`
	if e == enginePostgres {
		query = `SELECT to_regclass($1) IS NOT NULL`
	}
	return marked, q.QueryRowContext(ctx, query, markTable).Scan(&marked)
}

// OpenEmpty opens a database to restore into, and makes its schema in the given
// version, which must not be newer than this program's. From before its first
// table until EndRestore the database is marked as unfinished, and no server
// starts on it. It refuses a database that holds anything but what an
// interrupted restore left, which it removes.
func OpenEmpty(ctx context.Context, c Config, version int64) (_ *DB, err error) {
	d, err := openBare(c)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.Close())
		}
	}()
	if err := d.Ping(ctx); err != nil {
		return nil, d.unreachable(err)
	}
	tables, err := Tables(ctx, version)
	if err != nil {
		return nil, err
	}
	provider, err := d.ownProvider()
	if err != nil {
		return nil, err
	}
	have, want, err := provider.GetVersions(ctx)
	switch {
	case err != nil:
		return nil, fmt.Errorf("open database: %w", err)
	case version > want:
		return nil, fmt.Errorf("the backup has schema version %d, this program works with %d: use the program of the version that made the backup, or a newer one", version, want)
	case have > version:
		return nil, fmt.Errorf("the database has schema version %d already, and the backup %d: restore into a new one", have, version)
	}
	present := tables
	if have == 0 {
		present = nil
	} else if have < version {
		if present, err = Tables(ctx, have); err != nil {
			return nil, err
		}
	}
	if err := d.Update(ctx, func(tx *Tx) error { return tx.markRestore(present) }); err != nil {
		return nil, err
	}
	if have < version {
		if err := d.upTo(ctx, version); err != nil {
			return nil, err
		}
	}
	err = d.Update(ctx, func(tx *Tx) error { return tx.beginRestore(tables) })
	if errors.Is(err, errInUse) { // and goes on without the mark
		err = errors.Join(err, d.Update(ctx, func(tx *Tx) error { return tx.unmark() }))
	}
	if err != nil {
		return nil, err
	}
	return d, nil
}

var errInUse = errors.New("a server has begun to use the database meanwhile: restore into a new one, and start no server on it until then")

// markRestore marks a database whose tables are empty as unfinished, unless it
// is.
func (tx *Tx) markRestore(tables []Table) error {
	marked, err := isMarked(tx.ctx, tx.tx, tx.engine)
	if err != nil || marked {
		return err
	}
	for _, t := range tables {
		n, err := one(tx, scanInt, `SELECT count(*) FROM (SELECT 1 FROM `+t.Name+` LIMIT 1) AS q`)
		if err != nil {
			return err
		}
		if n > 0 {
			return errors.New("the database is not empty: restore into a new one; nothing was changed")
		}
	}
	if _, err = tx.exec(`CREATE TABLE ` + markTable + ` (begun_at TEXT)`); err != nil {
		return fmt.Errorf("mark the database as unfinished: %w", err)
	}
	return nil
}

func (tx *Tx) unmark() error {
	_, err := tx.exec(`DROP TABLE ` + markTable)
	return err
}

// beginRestore empties the tables of a marked database. A server that was
// starting when the mark was made either collides with this transaction or has
// left rows in them, which are not a restore's: errInUse.
func (tx *Tx) beginRestore(tables []Table) error {
	_, err := tx.Setting(settingRestoring)
	again := err == nil
	if err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	for _, t := range slices.Backward(tables) {
		n, err := one(tx, scanInt, `SELECT count(*) FROM (SELECT 1 FROM `+t.Name+` LIMIT 1) AS q`)
		if err != nil {
			return err
		}
		if n > 0 && !again {
			return errInUse
		}
		if n > 0 {
			if _, err := tx.exec(`DELETE FROM ` + t.Name); err != nil {
				return fmt.Errorf("empty table %s: %w", t.Name, err)
			}
		}
	}
	return tx.SetSetting(settingRestoring, tx.Now.Format(time.RFC3339))
}

// Migrate brings a database from OpenEmpty, once it is filled, up to date.
func (d *DB) Migrate(ctx context.Context) error {
	if err := d.upTo(ctx, 0); err != nil {
		return err
	}
	return d.renumberAudit(ctx)
}

// UpdateRows is Update with the engine's default isolation, for changes whose
// every statement holds by itself whatever others do meanwhile: filling a
// database from OpenEmpty, and ReplaceBox. Serializable transactions of their
// size would collide with others for ever.
func (d *DB) UpdateRows(ctx context.Context, f func(*Tx) error) error {
	return d.run(ctx, d.write, &sql.TxOptions{}, f)
}

// EndRestore removes the mark of an unfinished database.
func (tx *Tx) EndRestore() error {
	if _, err := tx.exec(`DELETE FROM settings WHERE name = $1`, settingRestoring); err != nil {
		return err
	}
	return tx.unmark()
}

// OpenRuns returns at most limit runs that have not ended, of every environment,
// the oldest first.
func (tx *Tx) OpenRuns(limit int) ([]Run, error) {
	return all(tx, scanRun, `SELECT `+runCols+runFrom+` WHERE r.state IN ('queued', 'running') ORDER BY r.id LIMIT $1`, limit)
}

// A Forgotten says how much ForgetAccess ended.
type Forgotten struct {
	MachineSessions int64
	EnrolmentTokens int64
	SignIns         int64 // browser sessions and sign-in links
	APITokens       int64
}

// ForgetAccess ends what a copy of a database must not go on with: it removes
// the sessions of machines, so that requests which somebody recorded in them
// mean nothing, revokes enrolment tokens and sign-ins, and API tokens too when
// asked to, and moves every environment's authorization epoch to a value that no
// server has seen.
func (tx *Tx) ForgetAccess(apiTokens bool) (f Forgotten, err error) {
	now := ms(tx.Now)
	for _, s := range []struct {
		n     *int64
		query string
		args  []any
	}{
		{&f.MachineSessions, `DELETE FROM machine_sessions`, nil},
		{&f.EnrolmentTokens, `UPDATE enrolment_tokens SET revoked_at = $1 WHERE revoked_at IS NULL AND uses_left > 0 AND expires_at > $1`, []any{now}},
		{&f.SignIns, `UPDATE tokens SET revoked_at = $1 WHERE kind <> $2 AND revoked_at IS NULL AND expires_at > $1`, []any{now, TokenAPI}},
		{new(int64), `UPDATE environments SET authz_epoch = CASE WHEN authz_epoch < $1 THEN $1 ELSE authz_epoch + 1 END`, []any{now}},
	} {
		if *s.n, err = tx.exec(s.query, s.args...); err != nil {
			return f, err
		}
	}
	if apiTokens {
		f.APITokens, err = tx.exec(`UPDATE tokens SET revoked_at = $1 WHERE kind = $2 AND revoked_at IS NULL AND expires_at > $1`, now, TokenAPI)
	}
	return f, err
}

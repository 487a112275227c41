package db

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"time"
)

// settingRestoring is there from the begin of a restore to its end.
const settingRestoring = "restoring"

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
	migrations, err := fs.Sub(migrationFiles, "migrations")
	if err != nil {
		return err
	}
	provider, err := d.provider(migrations)
	if err != nil {
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
	_, err := tx.Setting(settingRestoring)
	switch {
	case err == nil:
		return ErrRestoring
	case errors.Is(err, ErrNotFound):
		return nil
	}
	return err
}

// OpenEmpty opens a database to restore into, and makes its schema in the given
// version, which must not be newer than this program's. Until EndRestore the
// database is marked as unfinished, and no server starts on it. It refuses a
// database that holds anything but what an interrupted restore left, which it
// removes.
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
	migrations, err := fs.Sub(migrationFiles, "migrations")
	if err != nil {
		return nil, err
	}
	provider, err := d.provider(migrations)
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
	case have < version:
		if err := d.upTo(ctx, version); err != nil {
			return nil, err
		}
	}
	tables, err := Tables(ctx, version)
	if err != nil {
		return nil, err
	}
	if err := d.Update(ctx, func(tx *Tx) error { return tx.beginRestore(tables) }); err != nil {
		return nil, err
	}
	return d, nil
}

// beginRestore marks an empty database as unfinished, or empties one that is.
func (tx *Tx) beginRestore(tables []Table) error {
	err := tx.NotRestoring()
	again := errors.Is(err, ErrRestoring)
	if err != nil && !again {
		return err
	}
	for _, t := range slices.Backward(tables) {
		if again {
			if _, err := tx.exec(`DELETE FROM ` + t.Name); err != nil {
				return fmt.Errorf("empty table %s: %w", t.Name, err)
			}
			continue
		}
		n, err := one(tx, scanInt, `SELECT count(*) FROM (SELECT 1 FROM `+t.Name+` LIMIT 1) AS q`)
		if err != nil {
			return err
		}
		if n > 0 {
			return errors.New("the database is not empty: restore into a new one; nothing was changed")
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
	_, err := tx.exec(`DELETE FROM settings WHERE name = $1`, settingRestoring)
	return err
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

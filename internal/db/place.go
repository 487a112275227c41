package db

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"latchkey.dev/latchkey"
)

// settingPlace names the place that a server last used the database in. A copy
// carries it along, and is somewhere else. See docs/decisions/011.
const settingPlace = "place"

// A Copy says how a database was found to be a copy of the one that servers used.
type Copy struct {
	Noticed string // what gave it away
	Was     string // what the original had at that point
	Is      string // what this database has
}

// TakePlace finds out whether the database is a copy that some program other
// than this one put in place since a server last took its place. It then calls
// copied in the transaction that makes the new place the database's, and returns
// how the copy was noticed: of several servers that start on it, one does. copied
// may run several times, as functions given to [DB.Update]. A database that was
// in no place yet, a new or a restored one, just gets one.
//
// Copies with everything that the original has, such as snapshots of a volume,
// are not noticed.
func (d *DB) TakePlace(ctx context.Context, copied func(*Tx, Copy) error) (*Copy, error) {
	if d.engine == enginePostgres {
		return d.takePostgres(ctx, copied)
	}
	return d.takeFile(ctx, copied)
}

// ForgetPlace makes the next server take the database's place as that of a new
// one: what a copy must not go on with has been ended already.
func (tx *Tx) ForgetPlace() error {
	_, err := tx.exec(`DELETE FROM settings WHERE name = $1`, settingPlace)
	return err
}

// takePostgres is TakePlace for PostgreSQL. The place is the cluster, the
// database in it, and the transaction that stored the setting: PostgreSQL keeps
// the latter with the row, and whatever loads a dump stores it in another.
func (d *DB) takePostgres(ctx context.Context, copied func(*Tx, Copy) error) (found *Copy, err error) {
	cluster, err := d.cluster(ctx)
	if err != nil {
		return nil, err
	}
	err = d.Update(ctx, func(tx *Tx) error {
		found = nil
		is := pgPlace{cluster: cluster}
		if is.database, err = one(tx, scanText, `SELECT CAST(oid AS TEXT) FROM pg_database WHERE datname = current_database()`); err != nil {
			return fmt.Errorf("read the database's number: %w", err)
		}
		was, err := tx.Setting(settingPlace)
		if err != nil && !errors.Is(err, ErrNotFound) {
			return err
		}
		if err == nil {
			if is.writer, err = one(tx, scanText, `SELECT CAST(xmin AS TEXT) FROM settings WHERE name = $1`, settingPlace); err != nil {
				return err
			}
			was := parsePgPlace(was)
			if found = was.compare(is); found == nil && (was.cluster != "" || is.cluster == "") {
				return nil
			}
		}
		if found != nil {
			if err := copied(tx, *found); err != nil {
				return err
			}
		}
		if is.writer, err = one(tx, scanText, `SELECT CAST(CAST(pg_current_xact_id() AS xid) AS TEXT)`); err != nil {
			return fmt.Errorf("read the transaction's number: %w", err)
		}
		return tx.SetSetting(settingPlace, is.String())
	})
	return found, err
}

// cluster returns PostgreSQL's system identifier, or "" where the role may not
// read it.
func (d *DB) cluster(ctx context.Context) (id string, err error) {
	err = d.View(ctx, func(tx *Tx) error {
		id, err = one(tx, scanText, `SELECT CAST(system_identifier AS TEXT) FROM pg_control_system()`)
		return err
	})
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok && (pg.Code == "42501" || pg.Code == "42883") { // may not; there is no such function
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("read the cluster's identifier: %w", err)
	}
	return id, nil
}

// A pgPlace is where a database of PostgreSQL is.
type pgPlace struct {
	cluster  string // system identifier, or "" if it is not known
	database string // number of the database in the cluster
	writer   string // number of the transaction that stored this
}

func scanText(s scanner) (v string, err error) { return v, s.Scan(&v) }

func (p pgPlace) String() string {
	return p.cluster + "/" + p.database + "/" + p.writer
}

// parsePgPlace parses what String returns. Anything else is no place that a
// database can be in.
func parsePgPlace(s string) pgPlace {
	parts := strings.SplitN(s, "/", 3)
	if len(parts) != 3 {
		return pgPlace{}
	}
	return pgPlace{parts[0], parts[1], parts[2]}
}

// compare returns how it shows that a database that was in one place and is now
// in another is a copy, or nil. The cluster counts when it is known of both.
func (p pgPlace) compare(is pgPlace) *Copy {
	c := &Copy{Was: p.String(), Is: is.String()}
	switch {
	case p.cluster != "" && is.cluster != "" && p.cluster != is.cluster:
		c.Noticed = "the PostgreSQL cluster is another one"
	case p.database != is.database:
		c.Noticed = "the database in the PostgreSQL cluster is another one"
	case p.writer != is.writer:
		c.Noticed = "the tables were filled anew, as from a dump"
	default:
		return nil
	}
	return c
}

// takeFile is TakePlace for SQLite. The place is a file beside the database.
func (d *DB) takeFile(ctx context.Context, copied func(*Tx, Copy) error) (found *Copy, err error) {
	beside, err := readPlaceFile(d.path)
	if err != nil {
		return nil, err
	}
	first := false
	err = d.View(ctx, func(tx *Tx) error {
		id, err := tx.Setting(settingPlace)
		if first = errors.Is(err, ErrNotFound); first {
			return nil
		}
		if err == nil {
			found, err = tx.compareFile(id, beside)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	if !first && found == nil {
		d.place.take(beside.Place, beside.Newest)
		return nil, nil
	}
	// The file comes first: if what follows does not happen, the next start finds
	// that the two do not belong together, and does this again.
	id := latchkey.NewID("place", d.now())
	if err := writePlaceFile(d.path, placeFile{Place: id}); err != nil {
		return nil, err
	}
	err = d.Update(ctx, func(tx *Tx) error {
		if found != nil {
			if err := copied(tx, *found); err != nil {
				return err
			}
		}
		return tx.SetSetting(settingPlace, id)
	})
	if err != nil {
		return nil, err
	}
	d.place.take(id, "")
	return found, d.NotePlace(ctx)
}

// compareFile returns how it shows that the database, which says that it is in
// place id, is a copy, given the file beside it; or nil.
func (tx *Tx) compareFile(id string, beside foundPlace) (*Copy, error) {
	switch {
	case beside.fault != "":
		return &Copy{Noticed: beside.fault, Was: id, Is: "none"}, nil
	case beside.Place != id:
		return &Copy{Noticed: "the file beside the database belongs to another one", Was: beside.Place, Is: id}, nil
	case !beside.Self.same(beside.actual):
		return &Copy{Noticed: "the file beside the database is a copy", Was: beside.Self.String(), Is: beside.actual.String()}, nil
	case beside.Newest == "":
		return nil, nil
	}
	n, err := one(tx, scanInt, `SELECT count(*) FROM audit WHERE id = $1`, beside.Newest)
	if err != nil || n > 0 {
		return nil, err
	}
	newest, err := tx.newestAudit()
	return &Copy{Noticed: "the database is older than the file beside it", Was: beside.Newest, Is: newest}, err
}

// newestAudit returns the id of the last entry of the audit log in the committed
// order, or "".
func (tx *Tx) newestAudit() (string, error) {
	id, err := one(tx, scanText, `SELECT id FROM audit ORDER BY position DESC, id DESC LIMIT 1`)
	if errors.Is(err, ErrNotFound) {
		return "", nil
	}
	return id, err
}

// NotePlace notes beside a SQLite database how far it has come, durably: a copy
// of before that replaces it is noticed by that. It does nothing before TakePlace
// and on PostgreSQL.
func (d *DB) NotePlace(ctx context.Context) error {
	d.place.mu.Lock()
	defer d.place.mu.Unlock()
	if d.place.id == "" {
		return nil
	}
	var newest string
	err := d.View(ctx, func(tx *Tx) (err error) {
		newest, err = tx.newestAudit()
		return err
	})
	if err != nil || newest == d.place.newest {
		return err
	}
	if err := writePlaceFile(d.path, placeFile{Place: d.place.id, Newest: newest}); err != nil {
		return err
	}
	d.place.newest = newest
	return nil
}

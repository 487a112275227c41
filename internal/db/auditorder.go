package db

import (
	"context"
	"fmt"

	"latchkey.dev/latchkey"
)

// The committed order of the audit log is that of (position, id). Ids alone do
// not do: they are made before the commit, by the clocks of several servers, so
// that an entry can become visible after ones with greater ids, and who reads on
// from the greatest id would never see it.
//
// On SQLite one transaction writes at a time, so the next free number will do.
// On PostgreSQL the position is the transaction's number, and an entry counts
// as committed once every transaction with a smaller number has ended: from then
// on nothing can come before it. Clocks play no part.

// newPosition returns the SQL expression for the position of rows that are being
// added, in which $n stands for the argument that is to be added, if there is one.
func (tx *Tx) newPosition(n int) (expression string, arg []any, err error) {
	if tx.engine == enginePostgres {
		return pgTransaction, nil, nil
	}
	next, err := one(tx, scanInt, `SELECT COALESCE(MAX(position), 0) + 1 FROM audit`)
	return fmt.Sprintf("$%d", n), []any{next}, err
}

// PostgreSQL has no cast from its transaction numbers to other numbers.
const (
	pgTransaction = `CAST(CAST(pg_current_xact_id() AS TEXT) AS BIGINT)`
	pgOldest      = `CAST(CAST(pg_snapshot_xmin(pg_current_snapshot()) AS TEXT) AS BIGINT)`
)

// committedAfter restricts a list to the entries of the committed order that
// come after one, given by its id or by a cursor; "" is the beginning.
func (tx *Tx) committedAfter(w *where, env latchkey.EnvironmentID, after string) error {
	if tx.engine == enginePostgres {
		w.add("position < " + pgOldest)
	}
	if after == "" {
		return nil
	}
	if !latchkey.HasPrefix(after, "aud") {
		_, after = parseCursor(after)
	}
	position, err := one(tx, func(s scanner) (p int64, err error) { return p, s.Scan(&p) },
		`SELECT position FROM audit WHERE id = $1 AND ($2 = '' OR environment_id = $2)`, after, env)
	if err != nil {
		return err
	}
	w.add("(position, id) > (?, ?)", position, after)
	return nil
}

// renumberAudit makes positions fit the database that they are in. A dump that
// was loaded into another PostgreSQL has positions that are not numbers of its
// transactions, which new entries could precede. They are moved below zero, in
// their order: no transaction has such a number.
func (d *DB) renumberAudit(ctx context.Context) error {
	if d.engine != enginePostgres {
		return nil
	}
	return d.Update(ctx, func(tx *Tx) error {
		foreign, err := one(tx, func(s scanner) (b bool, err error) { return b, s.Scan(&b) },
			`SELECT COALESCE(MAX(position), -1) >= `+pgTransaction+` FROM audit`)
		if err != nil || !foreign {
			return err
		}
		_, err = tx.exec(`UPDATE audit SET position = position - (SELECT MAX(position) + 1 FROM audit)`)
		return err
	})
}

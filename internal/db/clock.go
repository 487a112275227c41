package db

import (
	"context"
	"time"
)

// Skew returns by how much this program's clock is ahead of the database
// server's, about. Servers on one PostgreSQL judge leases that others have given
// by their own clocks, so that these must not be far apart. On SQLite there is one
// clock, and the answer is 0.
func (d *DB) Skew(ctx context.Context) (time.Duration, error) {
	if d.engine != enginePostgres {
		return 0, nil
	}
	var theirs int64
	before := d.now()
	err := d.View(ctx, func(tx *Tx) (err error) {
		theirs, err = one(tx, func(s scanner) (ms int64, err error) { return ms, s.Scan(&ms) },
			`SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT)`)
		return err
	})
	if err != nil {
		return 0, err
	}
	after := d.now()
	return before.Add(after.Sub(before) / 2).Sub(time.UnixMilli(theirs)), nil
}

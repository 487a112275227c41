package db

import (
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
)

// A pipeline runs statements whose results are looked at when all of them have
// run. PostgreSQL is sent them together, in one round trip; SQLite, where there
// is nothing to send, runs them as they come.
type pipeline struct {
	tx    *Tx
	batch pgx.Batch
	err   error
}

func (tx *Tx) pipeline() *pipeline { return &pipeline{tx: tx} }

// exec adds a statement. changed, unless it is nil, is how many rows it changed.
func (p *pipeline) exec(changed *int64, query string, args ...any) {
	switch {
	case p.err != nil:
	case p.tx.conn != nil:
		p.tx.traced(query, args)
		p.batch.Queue(query, args...).Exec(func(tag pgconn.CommandTag) error {
			if changed != nil {
				*changed = tag.RowsAffected()
			}
			return nil
		})
	default:
		var n int64
		n, p.err = p.tx.exec(query, args...)
		if changed != nil {
			*changed = n
		}
	}
}

// query adds a query; row is called for each of its rows.
func (p *pipeline) query(row func(scanner) error, query string, args ...any) {
	switch {
	case p.err != nil:
	case p.tx.conn != nil:
		p.tx.traced(query, args)
		p.batch.Queue(query, args...).Query(func(rows pgx.Rows) error {
			for rows.Next() {
				if err := row(rows); err != nil {
					return err
				}
			}
			return rows.Err()
		})
	default:
		_, p.err = all(p.tx, func(s scanner) (struct{}, error) { return struct{}{}, row(s) }, query, args...)
	}
}

// run runs what has not run yet, and returns the first error of all.
func (p *pipeline) run() error {
	if p.err != nil || p.batch.Len() == 0 {
		return p.err
	}
	err := p.tx.conn.Raw(func(c any) error {
		conn, ok := c.(*stdlib.Conn)
		if !ok {
			return errors.New("the PostgreSQL driver is not pgx")
		}
		return conn.Conn().SendBatch(p.tx.ctx, &p.batch).Close()
	})
	if isUnique(err) {
		err = fmt.Errorf("%w: %w", ErrExists, err)
	}
	return err
}

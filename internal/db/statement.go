package db

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"

	"modernc.org/sqlite"
)

// maxStatements bounds the statements that one connection to SQLite keeps
// prepared. The queries of this package are fewer; lists with many filters make
// the rest.
const maxStatements = 400

// openStatements returns a pool of connections to SQLite that keep their
// statements prepared, as pgx does for PostgreSQL: parsing a statement anew costs
// more than most executions of it.
func openStatements(dsn string) *sql.DB { return sql.OpenDB(connector{dsn}) }

type connector struct{ dsn string }

// Connect implements [driver.Connector].
func (c connector) Connect(context.Context) (driver.Conn, error) {
	conn, err := c.Driver().Open(c.dsn)
	if err != nil {
		return nil, err
	}
	all, ok := conn.(sqliteConn)
	if !ok {
		return nil, errors.Join(errors.New("the SQLite driver lacks what this package uses of it"), conn.Close())
	}
	return &preparedConn{sqliteConn: all, statements: make(map[string]*preparedStmt)}, nil
}

// Driver implements [driver.Connector].
func (connector) Driver() driver.Driver { return &sqlite.Driver{} }

// sqliteConn is what database/sql uses of a connection.
type sqliteConn interface {
	driver.Conn
	driver.ConnBeginTx
	driver.ConnPrepareContext
	driver.ExecerContext
	driver.QueryerContext
	driver.Pinger
	driver.SessionResetter
	driver.Validator
}

// A preparedConn is a connection that prepares each statement once. One
// goroutine at a time uses it, which database/sql sees to.
type preparedConn struct {
	sqliteConn
	statements map[string]*preparedStmt
}

type preparedStmt struct {
	stmt driver.Stmt
	busy bool // its rows are being read
}

// prepared returns the statement of a query, or nil when it cannot be kept:
// there are too many, or it is in use. The query must be one statement.
func (c *preparedConn) prepared(ctx context.Context, query string) (*preparedStmt, error) {
	s := c.statements[query]
	switch {
	case s != nil && s.busy:
		return nil, nil
	case s != nil:
		return s, nil
	case len(c.statements) >= maxStatements:
		return nil, nil
	}
	stmt, err := c.PrepareContext(ctx, query)
	if err != nil {
		return nil, err
	}
	s = &preparedStmt{stmt: stmt}
	c.statements[query] = s
	return s, nil
}

// ExecContext implements [driver.ExecerContext]. Statements without arguments
// are passed on: those of migrations are scripts.
func (c *preparedConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	if len(args) > 0 {
		s, err := c.prepared(ctx, query)
		if err != nil {
			return nil, err
		}
		if s != nil {
			return s.stmt.(driver.StmtExecContext).ExecContext(ctx, args)
		}
	}
	return c.sqliteConn.ExecContext(ctx, query, args)
}

// QueryContext implements [driver.QueryerContext].
func (c *preparedConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	s, err := c.prepared(ctx, query)
	if err != nil {
		return nil, err
	}
	if s == nil {
		return c.sqliteConn.QueryContext(ctx, query, args)
	}
	rows, err := s.stmt.(driver.StmtQueryContext).QueryContext(ctx, args)
	if err != nil {
		return nil, err
	}
	s.busy = true
	return &preparedRows{rows, s}, nil
}

// Close implements [driver.Conn].
func (c *preparedConn) Close() error {
	var errs []error
	for _, s := range c.statements {
		errs = append(errs, s.stmt.Close())
	}
	clear(c.statements)
	return errors.Join(append(errs, c.sqliteConn.Close())...)
}

// preparedRows are the rows of a kept statement, which is free again when they
// are closed.
type preparedRows struct {
	driver.Rows
	s *preparedStmt
}

// Close implements [driver.Rows].
func (r *preparedRows) Close() error {
	r.s.busy = false
	return r.Rows.Close()
}

package db

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"syscall"

	"github.com/jackc/pgx/v5/pgconn"

	"latchkey.dev/latchkey"
)

// unreachable returns the error of a first look at a database as one sentence.
// What the driver says names every try at length, so that its error is no part
// of it; the password never is.
func (d *DB) unreachable(err error) error {
	connect, ok := errors.AsType[*pgconn.ConnectError](err)
	if !ok || errors.Is(err, context.Canceled) {
		return fmt.Errorf("open database: %w", d.trouble(err))
	}
	at := connect.Config.Host // a path is that of a socket's folder
	if _, network := errors.AsType[*net.OpError](err); network || at != "" && at[0] != '/' {
		at = net.JoinHostPort(at, strconv.Itoa(int(connect.Config.Port)))
	}
	return &latchkey.Error{
		Kind: latchkey.ErrUnavailable, Code: CodeUnavailable, Check: "database",
		Msg: fmt.Sprintf("the PostgreSQL database at %s cannot be used: %s: see that PostgreSQL runs there, and that --database names its host, port, user and database", at, connectReason(err)),
	}
}

// connectReason returns why no connection could be made.
func connectReason(err error) string {
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		return pg.Message
	}
	if _, ok := errors.AsType[*net.DNSError](err); ok {
		return "the host's name is not known"
	}
	if no, ok := errors.AsType[syscall.Errno](err); ok {
		return no.Error()
	}
	if timeout, ok := errors.AsType[net.Error](err); errors.Is(err, context.DeadlineExceeded) || ok && timeout.Timeout() {
		return "no answer in time"
	}
	return "no connection as it was asked for, such as with TLS"
}

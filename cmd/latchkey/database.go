package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"

	"latchkey.dev/internal/cli"
	"latchkey.dev/internal/db"
	"latchkey.dev/internal/seal"
)

// checkDatabase returns every fault of what says where a database is, for
// commands that work on one without a server. With key the master key file is
// needed too.
func (c *serverConfig) checkDatabase(key bool) error {
	faults := append([]error{}, c.faults...)
	fault := func(format string, args ...any) { faults = append(faults, cli.Usagef(format, args...)) }
	if c.Data == "" && c.Database == "" {
		fault("--data or --database is missing: where the database is")
	}
	if c.Data != "" {
		abs, err := filepath.Abs(c.Data)
		if err != nil {
			fault("--data: %v", err)
		}
		c.Data = abs
	}
	if c.Database != "" && !db.IsPostgres(c.Database) {
		fault("--database must begin with postgres://; leave it out for SQLite")
	}
	switch {
	case c.MasterKey != "" || !key:
	case c.Data != "":
		c.MasterKey = filepath.Join(c.Data, "master.key")
	default:
		fault("--master-key is missing: the key file")
	}
	return errors.Join(faults...)
}

// openDatabase opens an existing database, beside its servers if any run. The
// key is nil unless it is needed.
func (c *serverConfig) openDatabase(ctx context.Context, key bool) (d *db.DB, k *seal.Key, err error) {
	if err := c.checkDatabase(key); err != nil {
		return nil, nil, err
	}
	if key {
		if k, err = seal.LoadKey(c.MasterKey); err != nil {
			return nil, nil, err
		}
	}
	log, err := newLog(*c)
	if err != nil {
		return nil, nil, err
	}
	d, err = db.OpenExisting(ctx, db.Config{URL: c.databaseURL(), Log: log})
	return d, k, err
}

// lockFolder takes the data folder's lock, if the database is in it: no server
// may run on the database meanwhile. The function that it returns gives it back.
func (c *serverConfig) lockFolder() (func() error, error) {
	if c.Database != "" {
		return func() error { return nil }, nil
	}
	f, err := lockData(c.Data)
	if err != nil {
		return nil, err
	}
	return f.Close, nil
}

// serveCommandLine returns the command that starts a server on the database.
func (c *serverConfig) serveCommandLine() string {
	line := "latchkey serve --data " + cli.QuoteWord(firstOf(c.Data, "DIR"))
	if c.Database != "" {
		line += " --database postgres://…" // the address may hold a password
	}
	if c.Data == "" || c.MasterKey != filepath.Join(c.Data, "master.key") {
		line += " --master-key " + cli.QuoteWord(c.MasterKey)
	}
	return line
}

// account returns the operating system's account that runs this program, for
// the record.
func account() string {
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return fmt.Sprintf("uid %d", os.Getuid())
}

// counting shows on a terminal how far long work has come, on one line. done
// removes the line.
func (a *app) counting(what string) (show func(string, int64), done func()) {
	line := a.newStatus(nil)
	return func(part string, n int64) { line.set("%s %s: %d", what, part, n) }, line.clear
}

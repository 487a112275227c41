package main

import (
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"latchkey.dev/internal/latchkeytest/pg"
)

// TestBackupBetweenEngines takes an installation from SQLite to PostgreSQL and
// back.
func TestBackupBetweenEngines(t *testing.T) {
	if testing.Short() {
		t.Skip("starts servers")
	}
	dsn := pg.New(t)
	p := scripts(testscript.Params{Files: []string{"testdata/postgres/backup.txtar"}})
	setup := p.Setup
	p.Setup = func(e *testscript.Env) error {
		e.Setenv("POSTGRES", dsn)
		return setup(e)
	}
	testscript.Run(t, p)
}

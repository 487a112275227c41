package broker

import (
	"errors"
	"log/slog"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"latchkey.dev/internal/db"
	"latchkey.dev/latchkey"
)

// TestLedgerSurvivesAPanic has the transaction of a group panic: those who wait
// get an error, and the next group is written.
func TestLedgerSurvivesAPanic(t *testing.T) {
	broken := false
	var mu sync.Mutex // guards broken
	d, err := db.Open(t.Context(), db.Config{URL: filepath.Join(t.TempDir(), "latchkey.db"), Log: slog.New(slog.DiscardHandler), Now: func() time.Time {
		mu.Lock()
		defer mu.Unlock()
		if broken {
			panic("in the transaction")
		}
		return time.Now()
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	l := &ledger{db: d}
	add := func() (err error) {
		defer func() {
			if p := recover(); p != nil {
				err = errors.New("panicked")
			}
		}()
		return l.add(t.Context(), &ledgerEntry{events: []latchkey.AuditEvent{{Action: latchkey.ActReleaseFailed, Outcome: latchkey.OutcomeFailed}}})
	}
	set := func(b bool) {
		mu.Lock()
		defer mu.Unlock()
		broken = b
	}
	set(true)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if add() == nil {
				t.Error("an entry of a transaction that panicked is on record")
			}
		})
	}
	wg.Wait()
	set(false)
	if err := add(); err != nil {
		t.Errorf("the entry after the panic: %v", err)
	}
}

package broker

import (
	"context"
	"errors"
	"sync"

	"latchkey.dev/internal/db"
	"latchkey.dev/latchkey"
)

// maxGroup bounds the releases that one transaction puts on record.
const maxGroup = 256

// errStale is what a release ends with that cannot be granted from memory: what
// it was decided on has changed, or its run or its session has. It must be
// decided anew.
var errStale = errors.New("the decision about the release no longer holds")

// A ledger puts releases on record, many in one transaction: whoever finds
// nobody writing writes, and what comes meanwhile waits and is written together.
// So one sync of the disk serves all that wait for it.
type ledger struct {
	db *db.DB

	mu      sync.Mutex
	waiting []*ledgerEntry // guarded by mu
	writing bool           // somebody writes, or was told to; guarded by mu
}

// A ledgerEntry is what is put on record at once for one release.
type ledgerEntry struct {
	guard  *guard // nil for what was decided in a transaction before
	events []latchkey.AuditEvent

	turn chan struct{} // tells who waits for the entry to write the next group
	done chan struct{} // closed once err is set
	err  error
}

// A guard says what must hold in the transaction that grants a release.
type guard struct {
	environment latchkey.EnvironmentID
	epoch       int64
	vault       latchkey.VaultID // "" unless the value is at hand
	revision    int64
	count       db.ReleaseCount
}

// holds reports whether nothing has changed since the decision was made.
func (g *guard) holds(epochs map[string]int64) bool {
	epoch, ok := epochs[string(g.environment)]
	if !ok || epoch != g.epoch {
		return false
	}
	if g.vault == "" {
		return true
	}
	revision, ok := epochs[string(g.vault)]
	return ok && revision == g.revision
}

// add puts an entry on record and returns when it is durable. It returns
// errStale when its guard does not hold; then nothing of it is on record.
// It does not end with ctx, since the entry may be written by then; the
// time of the transaction is bounded.
func (l *ledger) add(ctx context.Context, e *ledgerEntry) error {
	e.turn, e.done = make(chan struct{}, 1), make(chan struct{})
	l.mu.Lock()
	l.waiting = append(l.waiting, e)
	if l.writing {
		l.mu.Unlock()
		select {
		case <-e.done:
			return e.err
		case <-e.turn:
			l.mu.Lock()
		}
	}
	l.writing = true
	n := min(len(l.waiting), maxGroup)
	group := append([]*ledgerEntry(nil), l.waiting[:n]...)
	l.waiting = append(l.waiting[:0], l.waiting[n:]...)
	l.mu.Unlock()

	ctx, cancel := afterwards(ctx)
	l.write(ctx, group)
	cancel()

	l.mu.Lock()
	if l.writing = len(l.waiting) > 0; l.writing {
		l.waiting[0].turn <- struct{}{}
	}
	l.mu.Unlock()
	<-e.done // the writer's own entry is the first of its group
	return e.err
}

// write puts a group on record. Each round but the last takes at least one entry
// out of the group.
func (l *ledger) write(ctx context.Context, group []*ledgerEntry) {
	end := func(e *ledgerEntry, err error) {
		e.err = err
		close(e.done)
	}
	for len(group) > 0 {
		var stale map[*ledgerEntry]bool
		undone := false
		err := l.db.Update(ctx, func(tx *db.Tx) (err error) {
			stale, err = record(tx, group)
			undone = errors.Is(err, errStale)
			return err
		})
		kept := group[:0:0]
		for _, e := range group {
			switch {
			case stale[e]:
				end(e, errStale)
			case undone:
				kept = append(kept, e)
			default:
				end(e, err)
			}
		}
		group = kept
	}
}

// record puts a group on record and returns the entries whose guards do not
// hold. With errStale the transaction must be undone, and the others tried again.
func record(tx *db.Tx, group []*ledgerEntry) (stale map[*ledgerEntry]bool, err error) {
	var envs []latchkey.EnvironmentID
	var vaults []latchkey.VaultID
	asked := make(map[string]bool)
	for _, e := range group {
		if g := e.guard; g != nil {
			if !asked[string(g.environment)] {
				asked[string(g.environment)] = true
				envs = append(envs, g.environment)
			}
			if g.vault != "" && !asked[string(g.vault)] {
				asked[string(g.vault)] = true
				vaults = append(vaults, g.vault)
			}
		}
	}
	epochs, err := tx.Epochs(envs, vaults)
	if err != nil {
		return nil, err
	}
	stale = make(map[*ledgerEntry]bool)
	var counts []db.ReleaseCount
	var counted []*ledgerEntry
	var events []latchkey.AuditEvent
	for _, e := range group {
		if e.guard != nil {
			if !e.guard.holds(epochs) {
				stale[e] = true
				continue
			}
			counts, counted = append(counts, e.guard.count), append(counted, e)
		}
		events = append(events, e.events...)
	}
	refused, err := tx.CountReleases(counts)
	if err != nil {
		return nil, err
	}
	for _, i := range refused {
		stale[counted[i]] = true
	}
	if len(refused) > 0 {
		return stale, errStale
	}
	return stale, tx.Record(events...)
}

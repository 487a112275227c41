package broker

import (
	"context"
	"errors"
	"slices"
	"sync"

	"latchkey.dev/internal/db"
	"latchkey.dev/latchkey"
)

const (
	maxGroup   = 256    // releases that one transaction puts on record
	maxWaiting = 10_000 // releases that wait to be put on record
)

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
	guard  *db.ReleaseGuard // nil for what was decided in a transaction before
	events []latchkey.AuditEvent

	turn chan struct{} // tells who waits for the entry to write the next group
	done chan struct{} // closed once err is set
	err  error
}

// add puts an entry on record and returns when it is durable. It returns
// errStale when its guard does not hold; then nothing of it is on record.
// It does not end with ctx, since the entry may be written by then; the
// time of the transaction is bounded. When too many wait it is an
// [latchkey.ErrUnavailable].
func (l *ledger) add(ctx context.Context, e *ledgerEntry) error {
	e.turn, e.done = make(chan struct{}, 1), make(chan struct{})
	l.mu.Lock()
	if len(l.waiting) >= maxWaiting {
		l.mu.Unlock()
		return &latchkey.Error{Kind: latchkey.ErrUnavailable, Code: "overloaded", Msg: "too many releases wait to be put on record; try again"}
	}
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
	group := slices.Clone(l.waiting[:n])
	l.waiting = slices.Delete(l.waiting, 0, n)
	l.mu.Unlock()
	defer l.pass()

	ctx, cancel := afterwards(ctx)
	defer cancel()
	l.write(ctx, group)
	<-e.done // the writer's own entry is the first of its group
	return e.err
}

// pass has the first of those who wait write next.
func (l *ledger) pass() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.writing = len(l.waiting) > 0; l.writing {
		l.waiting[0].turn <- struct{}{}
	}
}

// write puts a group on record. A round that finds guards broken changes nothing,
// ends their entries and leaves a smaller group to the next.
func (l *ledger) write(ctx context.Context, group []*ledgerEntry) {
	defer func() {
		// Only when the transaction panicked: the others must not wait for ever.
		for _, e := range group {
			e.end(errors.New("the release could not be put on record"))
		}
	}()
	for len(group) > 0 {
		var guards []*db.ReleaseGuard
		var guarded []*ledgerEntry
		var events []latchkey.AuditEvent
		for _, e := range group {
			events = append(events, e.events...)
			if e.guard != nil {
				guards, guarded = append(guards, e.guard), append(guarded, e)
			}
		}
		var broken []int
		err := l.db.Update(ctx, func(tx *db.Tx) (err error) {
			if broken, err = tx.GrantReleases(guards, events); err == nil && len(broken) > 0 {
				err = errStale
			}
			return err
		})
		if !errors.Is(err, errStale) {
			for _, e := range group {
				e.end(err)
			}
			group = nil
			return
		}
		for _, i := range broken {
			guarded[i].end(errStale)
			group = slices.DeleteFunc(group, func(e *ledgerEntry) bool { return e == guarded[i] })
		}
	}
}

// end tells who waits for the entry how it ended.
func (e *ledgerEntry) end(err error) {
	e.err = err
	close(e.done)
}

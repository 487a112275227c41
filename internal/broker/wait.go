package broker

import (
	"context"
	"sync"

	"latchkey.dev/internal/vault"
)

// waiters wakes who waits for news about something on this server. News from
// other servers is found by polling.
type waiters struct {
	mu   sync.Mutex
	subs map[string]map[chan struct{}]bool // key → who waits for it; guarded by mu
}

func newWaiters() *waiters {
	return &waiters{subs: make(map[string]map[chan struct{}]bool)}
}

// subscribe returns a channel that receives when there is news about key after
// the call, and a function that ends the subscription.
func (w *waiters) subscribe(key string) (<-chan struct{}, func()) {
	ch := make(chan struct{}, 1)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.subs[key] == nil {
		w.subs[key] = make(map[chan struct{}]bool)
	}
	w.subs[key][ch] = true
	return ch, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.subs[key], ch)
		if len(w.subs[key]) == 0 {
			delete(w.subs, key)
		}
	}
}

// wake tells who waits for key that there is news.
func (w *waiters) wake(key string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for ch := range w.subs[key] {
		select {
		case ch <- struct{}{}:
		default: // it has not looked at the last news yet
		}
	}
}

// sharedReads reads each secret at most once at a time. Who asks while it is
// being read waits for the next reading, and shares that with others who wait:
// an answer is never older than the question. Nothing is kept.
type sharedReads struct {
	mu    sync.Mutex
	calls map[string]*reading // secret → the reading under way; guarded by mu
}

// A reading is one reading of a secret. Value and error may be looked at once
// done is closed.
type reading struct {
	done  chan struct{}
	value vault.Value
	err   error
	next  *reading // begins when this one ends; guarded by sharedReads.mu
}

func newSharedReads() *sharedReads { return &sharedReads{calls: make(map[string]*reading)} }

// get reads a secret. The reading goes on, within the time limit of read, when
// ctx ends, since others may share it.
func (s *sharedReads) get(ctx context.Context, key string, read func(context.Context) (vault.Value, error)) (vault.Value, error) {
	s.mu.Lock()
	current := s.calls[key]
	mine := current
	if current == nil {
		mine = &reading{done: make(chan struct{})}
		s.calls[key] = mine
		go s.run(context.WithoutCancel(ctx), key, mine, read)
	} else {
		if current.next == nil {
			current.next = &reading{done: make(chan struct{})}
		}
		mine = current.next
	}
	s.mu.Unlock()
	select {
	case <-ctx.Done():
		return vault.Value{}, ctx.Err()
	case <-mine.done:
		return mine.value, mine.err
	}
}

// run carries out a reading, and the ones that are asked for meanwhile.
func (s *sharedReads) run(ctx context.Context, key string, r *reading, read func(context.Context) (vault.Value, error)) {
	for r != nil {
		r.value, r.err = read(ctx)
		s.mu.Lock()
		close(r.done)
		if r = r.next; r != nil {
			s.calls[key] = r
		} else {
			delete(s.calls, key)
		}
		s.mu.Unlock()
	}
}

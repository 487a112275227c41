package broker

import (
	"context"
	"sync"

	"golang.org/x/sync/singleflight"

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

// sharedReads lets reads of one secret that happen at the same time share one
// answer of the vault. Nothing is kept.
type sharedReads struct{ group singleflight.Group }

func newSharedReads() *sharedReads { return new(sharedReads) }

// get reads a secret. The read goes on, within the vault's own time limit, when
// ctx ends, since others may share it.
func (s *sharedReads) get(ctx context.Context, key string, read func(context.Context) (vault.Value, error)) (vault.Value, error) {
	ch := s.group.DoChan(key, func() (any, error) {
		return read(context.WithoutCancel(ctx))
	})
	select {
	case <-ctx.Done():
		return vault.Value{}, ctx.Err()
	case r := <-ch:
		if r.Err != nil {
			return vault.Value{}, r.Err
		}
		return r.Val.(vault.Value), nil
	}
}

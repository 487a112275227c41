package azure

import (
	"sync"
	"time"
)

const (
	maxFailures = 5                // in a row, before a vault is left alone
	pause       = 30 * time.Second // for which it is
	maxPause    = 5 * time.Minute  // if it asks for longer itself
)

// A breaker keeps requests from a vault that does not answer. After maxFailures in
// a row it lets none through for a while, and then one, which decides how it goes
// on. Refusals are answers.
type breaker struct {
	mu       sync.Mutex
	failures int       // in a row; guarded by mu
	until    time.Time // nobody asks before; zero if everybody may; guarded by mu
	trying   bool      // one asks, to find out; guarded by mu
	why      string    // of the last failure; guarded by mu
}

// What became of a request.
type outcome int

const (
	answered  outcome = iota
	failed            // there was no usable answer
	abandoned         // whoever asked went away: nothing is known
)

// allow reports whether a request may be sent; otherwise until when none may be, and
// why. Whoever may calls done.
func (b *breaker) allow() (ok bool, until time.Time, why string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.until.IsZero() {
		return true, b.until, ""
	}
	if now := time.Now(); b.trying || now.Before(b.until) {
		return false, b.until, b.why
	}
	b.trying = true
	return true, b.until, ""
}

// done notes what became of a request that was allowed, and how long the vault asks
// to be left alone. It reports whether the vault is left alone from now on, and
// whether it answers again.
func (b *breaker) done(o outcome, why string, wait time.Duration) (opened, closed bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	was := !b.until.IsZero()
	switch o {
	case answered:
		b.failures, b.until, b.trying, b.why = 0, time.Time{}, false, ""
		return false, was
	case failed:
		b.failures, b.why = b.failures+1, why
		if wait <= maxRetryDelay { // this long is waited between tries
			wait = 0
		}
		if b.failures >= maxFailures {
			wait = max(wait, pause)
		}
		if wait > 0 {
			b.until = time.Now().Add(min(wait, maxPause))
		}
	}
	b.trying = false
	return !was && !b.until.IsZero(), false
}

// open reports whether requests are kept back.
func (b *breaker) open() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return !b.until.IsZero()
}

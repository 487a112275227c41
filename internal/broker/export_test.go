package broker

import (
	"context"
	"time"
)

// ForgetSome is the round of background work that drops what is remembered for
// releases, for tests.
func (b *Broker) ForgetSome(ctx context.Context) error { return b.forgetSome(ctx) }

// Remembered returns how many decisions and sessions are remembered.
func (b *Broker) Remembered() (decisions, sessions int) {
	return b.standing.decisions.Len(), b.standing.sessions.Len()
}

// LeaseRounds returns what ends lost runs, going by a clock that cannot be set.
func LeaseRounds(b *Broker, monotonic func() time.Time) func(context.Context) error {
	return (&leaseWatch{b: b, monotonic: monotonic}).round
}

package broker

import (
	"context"
	"errors"
	"time"

	"latchkey.dev/internal/db"
	"latchkey.dev/latchkey"
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

// Allows reports whether an operation of who that does action with a thing would be
// let through, by the code that operations go through.
func (b *Broker) Allows(ctx context.Context, who latchkey.Caller, env string, kind latchkey.Kind, ref string, action latchkey.Action) (ok bool, err error) {
	err = b.db.View(ctx, func(tx *db.Tx) error {
		o := &op{tx, who}
		t, err := o.explained(env, kind, ref)
		switch {
		case err != nil:
		case kind == latchkey.KindRun:
			_, err = o.run(env, latchkey.RunID(ref), action)
		case action == latchkey.ActVariableBind:
			_, err = o.slotVariable(t.e, latchkey.SlotPassword, ref)
		default:
			err = o.allow(action, t.thing)
		}
		ok = err == nil
		if errors.Is(err, latchkey.ErrNotFound) || errors.Is(err, latchkey.ErrDenied) {
			err = nil
		}
		return err
	})
	return ok, err
}

// CredentialStatus is credentialStatus, for tests.
func CredentialStatus(c *latchkey.Credential, references []db.SecretStanding, now time.Time) (latchkey.CredentialStatus, *time.Time) {
	return credentialStatus(c, references, now)
}

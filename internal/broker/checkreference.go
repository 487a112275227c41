package broker

import (
	"context"
	"math"
	"sync"
	"time"

	"latchkey.dev/latchkey"
)

// How often one principal may have references checked that are not saved: asking
// makes the service look at vaults, and people look at a form.
const (
	previewsAtOnce = 20              // in a row
	previewEvery   = 3 * time.Second // and one more each
	maxPreviewers  = 10_000          // whom previews remembers at most
	maxPreviews    = 8               // under way at the same time, of everybody
)

// CheckReference says whether the caller and the service may read the secret that a
// reference names, as the check of a variable does, and saves nothing. It takes the
// right to make variables. Only vaults that the environment lists are asked. It
// returns within a bounded time; who asks too often gets ErrDenied, code
// too-many-checks, until the time that it names.
func (b *Broker) CheckReference(ctx context.Context, who latchkey.Caller, env string, ref latchkey.SecretReference) (c latchkey.Check, err error) {
	if err := ref.Validate(); err != nil {
		return c, err
	}
	var e latchkey.Environment
	var facts checkFacts
	err = b.view(ctx, who, func(o *op) (err error) {
		if e, err = o.environment(env); err != nil {
			return err
		}
		if err := o.allow(latchkey.ActReferenceCheck, environmentThing(e)); err != nil {
			return err
		}
		facts, err = b.factsFor(o.Tx, e, ref, who.ID)
		return err
	})
	if err != nil {
		return c, err
	}
	if at := b.previews.take(who.ID, b.now()); !at.IsZero() {
		return c, &latchkey.Error{
			Kind: latchkey.ErrDenied, Code: latchkey.CodeTooManyChecks, Check: string(latchkey.ActReferenceCheck), Identity: string(who.ID), RetryAt: at,
			Msg: "you have had many references checked within a short time; wait some seconds", Remedy: "wait some seconds",
		}
	}
	select {
	case b.previewing <- struct{}{}:
		defer func() { <-b.previewing }()
	case <-ctx.Done():
		return c, ctx.Err()
	}
	c = b.check(ctx, facts)
	now := b.now()
	c.CheckedAt = &now
	// It is on record also when nobody has waited for the answer.
	ctx, cancel := afterwards(ctx)
	defer cancel()
	return c, b.update(ctx, who, func(o *op) error {
		event := o.event(latchkey.ActReferenceCheck, environmentThing(e))
		event.Code, event.Reason, event.Details = string(c.State), c.Message, map[string]string{"reference": ref.String()}
		if c.State != latchkey.CheckPassed {
			event.Outcome = latchkey.OutcomeFailed
		}
		return o.Record(event)
	})
}

// previews remember how often each principal has asked lately.
type previews struct {
	mu sync.Mutex
	of map[latchkey.PrincipalID]spent // guarded by mu
}

// spent is how many checks somebody has had, less those that time gave back, at a
// time.
type spent struct {
	n  float64
	at time.Time
}

func (s spent) now(now time.Time) float64 {
	return math.Max(0, s.n-float64(now.Sub(s.at))/float64(previewEvery))
}

// take counts a check, or returns when there may be one.
func (p *previews) take(who latchkey.PrincipalID, now time.Time) (wait time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := p.of[who].now(now)
	if n > previewsAtOnce-1 {
		return now.Add(time.Duration((n - (previewsAtOnce - 1)) * float64(previewEvery)))
	}
	if len(p.of) >= maxPreviewers {
		for id, s := range p.of {
			if s.now(now) == 0 {
				delete(p.of, id)
			}
		}
	}
	if _, known := p.of[who]; !known && len(p.of) >= maxPreviewers {
		return now.Add(previewEvery)
	}
	if p.of == nil {
		p.of = map[latchkey.PrincipalID]spent{}
	}
	p.of[who] = spent{n + 1, now}
	return time.Time{}
}

package broker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"latchkey.dev/internal/db"
	"latchkey.dev/internal/vault"
	"latchkey.dev/latchkey"
)

// Times of the background check.
const (
	checkHold    = time.Minute      // a check that is not finished by then is given out again
	checkTimeout = 30 * time.Second // of the vault's answer
	checkWorkers = 4                // checks at the same time, so that one slow vault does not hold up all
	checkPoll    = 2 * time.Second  // how late a check that another server asked for may begin
	checkRelief  = 10 * time.Second // the same, while all but the first of the workers are idle and it is held up
	maxCheckWait = time.Hour        // between retries of an unknown result
	checkAgain   = 22 * time.Hour   // until a known result is checked anew, and up to
	checkSpread  = 4 * time.Hour    // so much longer, so that not all are at once
)

// CheckVariable has the newest reference of a secret variable checked anew.
func (b *Broker) CheckVariable(ctx context.Context, who latchkey.Caller, env, ref string) (v latchkey.Variable, err error) {
	err = b.update(ctx, who, func(o *op) (err error) {
		var e latchkey.Environment
		var r db.Reference
		if e, v, r, err = o.newest(env, ref, latchkey.ActVariableCheck); err != nil {
			return err
		}
		if err := o.RestartCheck(r.ID); err != nil {
			return err
		}
		if err := o.addReferences(&v); err != nil {
			return err
		}
		return o.record(latchkey.ActVariableCheck, variableThing(e.ID, v), details(v))
	})
	if err == nil {
		b.wakeChecks()
	}
	return v, err
}

// OverrideCheck puts the newest reference of a secret variable in force though
// its check has not passed. It must be the one that the caller means, given as
// its ARM id: somebody may have saved another meanwhile. The reason is kept in
// the audit log.
func (b *Broker) OverrideCheck(ctx context.Context, who latchkey.Caller, env, ref, reference, reason string) (v latchkey.Variable, err error) {
	meant, err := latchkey.ParseSecretReference(reference)
	if err != nil {
		return v, latchkey.Invalid("reference", "%v", err)
	}
	if err := latchkey.CheckName(reason); err != nil {
		return v, latchkey.Invalid("reason", "%v", err)
	}
	err = b.update(ctx, who, func(o *op) (err error) {
		var e latchkey.Environment
		var r db.Reference
		if e, v, r, err = o.newest(env, ref, latchkey.ActVariableOverride); err != nil {
			return err
		}
		if r.SecretReference.Key() != meant.Key() {
			return latchkey.Conflict("reference-changed", "the variable's reference is another one than you name; look at it again")
		}
		if err := o.Override(r.ID, who.ID); err != nil {
			return err
		}
		if err := o.PutInForce(r); err != nil {
			return err
		}
		if err := o.addReferences(&v); err != nil {
			return err
		}
		d := details(v)
		d["reason"] = reason
		return o.record(latchkey.ActVariableOverride, variableThing(e.ID, v), d)
	})
	return v, err
}

// newest returns a secret variable and its newest reference.
func (o *op) newest(env, ref string, action latchkey.Action) (e latchkey.Environment, v latchkey.Variable, r db.Reference, err error) {
	if e, v, err = o.variable(env, ref, action); err != nil {
		return e, v, r, err
	}
	refs, err := o.References(v.ID)
	if err != nil {
		return e, v, r, err
	}
	for _, r := range refs {
		if r.Newest {
			return e, v, r, nil
		}
	}
	return e, v, r, latchkey.Conflict("no-reference", "the variable has no secret reference to check; set one first")
}

// wakeChecks has the loop look for checks that are due.
func (b *Broker) wakeChecks() {
	select {
	case b.checks <- struct{}{}:
	default: // it will look anyway
	}
}

// awaitChecks waits until it is woken, or for a time, and reports false when ctx has
// ended.
func (b *Broker) awaitChecks(ctx context.Context, poll time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-b.checks:
	case <-time.After(poll):
	}
	return true
}

// runChecks carries out checks that are due, one after the other, until ctx
// ends. When there are none it waits until it is woken, or for a time.
func (b *Broker) runChecks(ctx context.Context, poll time.Duration) error {
	for {
		did, err := b.checkOne(ctx)
		if err == nil && !did {
			did, err = b.checkCertificate(ctx)
		}
		if err != nil && ctx.Err() == nil {
			b.log.LogAttrs(ctx, slog.LevelError, "background check failed", slog.Any("error", err))
		}
		if did && err == nil {
			continue
		}
		if !b.awaitChecks(ctx, poll) {
			return nil
		}
	}
}

// due reports whether the time that next returns has come. next may return
// db.ErrNotFound: nothing is due.
func (b *Broker) due(ctx context.Context, next func(*db.Tx) (time.Time, error)) (due bool, err error) {
	err = b.db.View(ctx, func(tx *db.Tx) error {
		t, err := next(tx)
		due = err == nil && !t.After(tx.Now)
		if errors.Is(err, db.ErrNotFound) {
			err = nil
		}
		return err
	})
	return due, err
}

// checkOne carries out one check that is due, and reports whether there was one.
func (b *Broker) checkOne(ctx context.Context) (bool, error) {
	due, err := b.due(ctx, (*db.Tx).NextCheck)
	if err != nil || !due {
		return false, err
	}
	var r db.Reference
	var facts checkFacts
	err = b.db.Update(ctx, func(tx *db.Tx) (err error) {
		if r, err = tx.ClaimCheck(checkHold); err != nil {
			return err
		}
		facts, err = b.factsOf(tx, r)
		return err
	})
	if errors.Is(err, db.ErrNotFound) {
		return false, nil // another server took it
	}
	if err != nil {
		return false, err
	}
	b.wakeChecks() // there may be more
	r.Check = b.check(ctx, facts)
	r.Attempts++
	next := b.now().Add(checkAgain + rand.N(checkSpread))
	switch r.Check.State {
	case latchkey.CheckPassed:
		b.counts.ChecksPassed.Add(1)
	case latchkey.CheckFailed:
		b.counts.ChecksFailed.Add(1)
		if r.InForce {
			b.log.LogAttrs(ctx, slog.LevelWarn, "check of a reference in use failed", slog.String("variable", string(r.Variable)),
				slog.String("reference", r.SecretReference.String()), slog.String("check", r.Check.Check))
		}
	default:
		b.counts.ChecksUnknown.Add(1)
		next = b.now().Add(checkBackoff(r.Attempts))
	}
	r.Check.NextAt = &next
	err = b.db.Update(ctx, func(tx *db.Tx) error { return b.finishCheck(tx, r, facts) })
	if errors.Is(err, db.ErrNotFound) {
		return true, nil // saved or started anew meanwhile: this result is of no use
	}
	return true, err
}

// checkBackoff returns how long to wait before an unknown result is tried
// again: 5 s, doubled each time.
func checkBackoff(attempts int) time.Duration {
	return min(5*time.Second<<min(attempts-1, 20), maxCheckWait)
}

// finishCheck stores a result and puts a reference that passed in force.
func (b *Broker) finishCheck(tx *db.Tx, r db.Reference, facts checkFacts) error {
	if err := tx.FinishCheck(r); err != nil {
		return err
	}
	if r.Check.State == latchkey.CheckPassed && r.Newest {
		if err := tx.PutInForce(r); err != nil {
			return err
		}
	}
	o := &op{tx, serviceCaller}
	e := o.event(latchkey.ActVariableCheck, thing{latchkey.KindVariable, facts.env, string(r.Variable), facts.variable, latchkey.ActVariableRead})
	e.Code, e.Reason = string(r.Check.State), r.Check.Message
	if r.Check.State != latchkey.CheckPassed {
		e.Outcome = latchkey.OutcomeFailed
	}
	e.Details = map[string]string{"reference": r.SecretReference.String(), "savedBy": string(r.SavedBy)}
	return o.Record(e)
}

// checkFacts is what the database knows about a reference that is checked.
type checkFacts struct {
	env      latchkey.EnvironmentID
	variable string
	listed   bool // the environment lists the vault
	question vault.Question
}

func (b *Broker) factsOf(tx *db.Tx, r db.Reference) (checkFacts, error) {
	e, v, err := tx.VariableByID(r.Variable)
	if err != nil {
		return checkFacts{}, err
	}
	f, err := b.factsFor(tx, e, r.SecretReference, r.SavedBy)
	f.variable = v.Name
	return f, err
}

// factsFor is factsOf for a reference in an environment with whoever saves it.
func (b *Broker) factsFor(tx *db.Tx, e latchkey.Environment, r latchkey.SecretReference, by latchkey.PrincipalID) (f checkFacts, err error) {
	f.env, f.listed = e.ID, allowsVault(e, r.VaultRef())
	p, err := personOf(tx, by)
	if err != nil {
		return f, err
	}
	f.question = vault.Question{Reference: r, Person: fmt.Sprintf("%s (%s)", p.Name, p.ID), Program: p.Program, ObjectIDs: map[string]string{}}
	if _, f.question.Embedded, err = embeddedVault(tx, r.VaultRef()); err != nil {
		return f, err
	}
	if f.question.Embedded {
		f.question.Person = p.Name
		f.question.Tenants, f.question.ObjectIDs[strings.ToLower(b.tenant)] = []string{b.tenant}, string(p.ID)
		return f, nil
	}
	f.question.ObjectIDs = p.ObjectIDs
	f.question.Tenants, err = tx.LinkedAzureTenants()
	return f, err
}

// personOf returns who a principal is in the tenants of Azure that are linked.
func personOf(tx *db.Tx, id latchkey.PrincipalID) (vault.Person, error) {
	p, err := tx.KnownPrincipal(id)
	if err != nil {
		return vault.Person{}, err
	}
	person := vault.Person{ID: p.ID, Program: p.Kind == latchkey.PrincipalService, Name: p.Name, ObjectIDs: map[string]string{}}
	tenants, err := tx.LinkedAzureTenants()
	if err != nil {
		return person, err
	}
	identities, err := tx.ExternalIdentities(p.ID)
	for _, id := range identities {
		if slices.Contains(tenants, id.Tenant) {
			person.ObjectIDs[id.Tenant] = id.ObjectID
		}
	}
	return person, err
}

// check says whether the person who saved a reference, and the service, may read
// it, and what is missing.
func (b *Broker) check(ctx context.Context, f checkFacts) latchkey.Check {
	if !f.listed {
		return latchkey.Conclude([]latchkey.CheckResult{{
			Step: latchkey.CheckListed, State: latchkey.CheckFailed, Message: "This environment does not list the vault.",
			Remedy: "An environment admin can add the vault's ARM id to the environment's vaults.",
		}})
	}
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	q := f.question
	q.Read = b.metadata(q)
	listed := latchkey.CheckResult{Step: latchkey.CheckListed, State: latchkey.CheckPassed, Message: "The environment lists the vault."}
	return latchkey.Conclude(append([]latchkey.CheckResult{listed}, b.inspect(ctx, q)...))
}

// metadata returns the function that looks at the metadata of a question's secret.
func (b *Broker) metadata(q vault.Question) func(context.Context) error {
	return func(ctx context.Context) error {
		v, err := b.openVault(q.Reference.VaultRef(), q.Embedded)
		if err == nil {
			err = v.CheckRead(ctx, q.Reference.Secret)
		}
		if err != nil && (errors.Is(err, vault.ErrUnavailable) || !isVaultError(err)) {
			b.log.LogAttrs(ctx, slog.LevelWarn, "reference could not be checked", slog.String("reference", q.Reference.String()), slog.Any("error", err))
		}
		return err
	}
}

func isVaultError(err error) bool {
	_, ok := errors.AsType[*vault.Error](err)
	return ok
}

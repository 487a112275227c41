package broker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
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
	maxCheckWait = time.Hour        // between retries of an unknown result
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

// runChecks carries out checks that are due, one after the other, until ctx
// ends.
func (b *Broker) runChecks(ctx context.Context) error {
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
		select {
		case <-ctx.Done():
			return nil
		case <-b.checks:
		case <-time.After(checkPoll):
		}
	}
}

// checkOne carries out one check that is due, and reports whether there was one.
func (b *Broker) checkOne(ctx context.Context) (bool, error) {
	due := false
	err := b.db.View(ctx, func(tx *db.Tx) error {
		t, err := tx.NextCheck()
		due = err == nil && !t.After(tx.Now)
		if errors.Is(err, db.ErrNotFound) {
			err = nil
		}
		return err
	})
	if err != nil || !due {
		return false, err
	}
	var r db.Reference
	var facts checkFacts
	err = b.db.Update(ctx, func(tx *db.Tx) (err error) {
		if r, err = tx.ClaimCheck(checkHold); err != nil {
			return err
		}
		facts, err = factsOf(tx, r)
		return err
	})
	if errors.Is(err, db.ErrNotFound) {
		return false, nil // another server took it
	}
	if err != nil {
		return false, err
	}
	r.Check = b.check(ctx, r, facts)
	r.Attempts++
	switch r.Check.State {
	case latchkey.CheckPassed:
		b.counts.ChecksPassed.Add(1)
	case latchkey.CheckFailed:
		b.counts.ChecksFailed.Add(1)
	default:
		b.counts.ChecksUnknown.Add(1)
		next := b.now().Add(checkBackoff(r.Attempts))
		r.Check.NextAt = &next
	}
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
	embedded bool
	person   string // name of who saved it
	allowed  bool   // whether the person may read the secret; only of embedded vaults
	service  bool   // whether the service may; only of embedded vaults
}

func factsOf(tx *db.Tx, r db.Reference) (f checkFacts, err error) {
	e, v, err := tx.VariableByID(r.Variable)
	if err != nil {
		return f, err
	}
	f.env, f.variable, f.listed = e.ID, v.Name, allowsVault(e, r.VaultRef())
	p, err := tx.Principal(string(r.SavedBy))
	if err != nil {
		return f, err
	}
	f.person = p.Name
	vault, ok, err := embeddedVault(tx, r.VaultRef())
	if err != nil || !ok {
		return f, err
	}
	f.embedded = true
	o := &op{Tx: tx, who: latchkey.Caller{ID: p.ID, Kind: p.Kind, Name: p.Name}}
	if f.allowed, err = o.vaultCan(p.ID, vault, secretObject(r.Secret), latchkey.VaultGetSecret); err != nil {
		return f, err
	}
	f.service, err = o.vaultCan(latchkey.ServiceIdentity, vault, secretObject(r.Secret), latchkey.VaultGetSecret)
	return f, err
}

// notAuthorized is the sentence that Power Automate's users know.
func notAuthorized(ref latchkey.SecretReference) string {
	return fmt.Sprintf("This variable didn't save properly. User is not authorized to read secrets from '%s' resource.", ref)
}

// check says whether the person who saved a reference, and the service, may
// read it. The person comes first, so that nobody learns by it whether a secret
// exists that they may not read.
func (b *Broker) check(ctx context.Context, r db.Reference, f checkFacts) latchkey.Check {
	failed := func(check, identity, message, remedy string) latchkey.Check {
		return latchkey.Check{State: latchkey.CheckFailed, Check: check, Identity: identity, Message: message, Remedy: remedy}
	}
	unknown := func(check, identity, message, remedy string) latchkey.Check {
		return latchkey.Check{State: latchkey.CheckUnknown, Check: check, Identity: identity, Message: message, Remedy: remedy}
	}
	person := fmt.Sprintf("%s (%s)", f.person, r.SavedBy)
	service := fmt.Sprintf("%s (%s)", latchkey.ServiceIdentityName, latchkey.ServiceIdentity)
	switch {
	case !f.listed:
		return failed("vault", "", "This environment does not list the vault.", "An environment admin can add the vault's ARM id to the environment's vaults.")
	case f.embedded && !f.allowed:
		return failed("person", person, notAuthorized(r.SecretReference),
			fmt.Sprintf("Somebody with the role %s in the vault %s can give %s the role %s there, or on this secret only; then check again.",
				latchkey.VaultAdministrator, r.Vault, f.person, latchkey.VaultSecretsUser))
	}
	serviceFailed := failed("service", service, notAuthorized(r.SecretReference),
		fmt.Sprintf("Give the service's identity the role %s in the vault %s, or on this secret only; then check again.", latchkey.VaultSecretsUser, r.Vault))
	if f.embedded && !f.service {
		return serviceFailed
	}
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	v, err := b.openVault(r.VaultRef(), f.embedded)
	if err == nil {
		err = v.CheckRead(ctx, r.Secret)
	}
	switch {
	case err == nil && f.embedded:
		return latchkey.Check{State: latchkey.CheckPassed, Message: "The person who saved it and the service may read the secret."}
	case err == nil:
		return unknown("person", person, "Could not be checked: the service may read the secret, but what the person may read in Azure is not known here.",
			"An environment admin can let the reference be used without this check, on record.")
	case errors.Is(err, vault.ErrDenied):
		return refusedBy(err, serviceFailed)
	case errors.Is(err, vault.ErrNotFound):
		return failed("secret", service, fmt.Sprintf("There is no secret '%s'.", r.SecretReference), "Create the secret in the vault, or correct the reference; then check again.")
	}
	message, remedy := "Could not be checked: the vault could not be reached.", "It is tried again by itself."
	if ve, ok := errors.AsType[*vault.Error](err); ok && ve.Msg != "" {
		message = "Could not be checked: " + ve.Msg
	}
	b.log.LogAttrs(ctx, slog.LevelWarn, "reference could not be checked", slog.String("reference", r.SecretReference.String()), slog.Any("error", err))
	return unknown("vault", service, message, remedy)
}

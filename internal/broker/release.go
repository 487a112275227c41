package broker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"latchkey.dev/internal/db"
	"latchkey.dev/internal/vault"
	"latchkey.dev/latchkey"
)

const (
	releaseTTL     = time.Minute      // how long the agent may use a released value before it hands it on
	releaseTimeout = 20 * time.Second // of the vault's answer
)

// Release reads a credential for the machine of a claimed run and returns it
// sealed to that machine. It is decided in the transaction that puts the grant
// on record, before the vault is read; the outcome is on record before the
// answer. If one of the two cannot be recorded, nothing is released.
func (b *Broker) Release(ctx context.Context, s AgentSession, id latchkey.RunID, req latchkey.ReleaseRequest) (latchkey.Sealed, error) {
	var g grant
	var denied *refusal
	stepBack := false
	err := b.agent(ctx, s, b.db.Update, func(o *agentOp) (err error) {
		denied = nil
		if stepBack = req.Counter <= o.session.ReleaseCounter; stepBack {
			g = grant{machine: o.m}
			if req.Counter == o.session.ReleaseCounter && bytes.Equal(s.Nonce, o.session.ReleaseNonce) {
				return latchkey.Conflict("repeated", "this very request was made before; ask again with the next counter")
			}
			return nil
		}
		if err := o.SetReleaseCounter(s.ID, req.Counter, s.Nonce); err != nil {
			return err
		}
		g, err = decideRelease(o, id, req)
		if r, ok := errors.AsType[*refusal](err); ok {
			// Recorded here, so that the counter counts for a denied request too.
			denied = r
			return o.Record(r.event)
		}
		return err
	})
	if err == nil && denied != nil {
		b.counts.Denials.Add(1)
		b.counts.ReleasesDenied.Add(1)
		return latchkey.Sealed{}, denied.err
	}
	if err == nil && stepBack {
		err = b.quarantine(ctx, g.machine, "its agent asked for a release with a counter that had been used: two agents hold its keys", s.Address)
	}
	if err != nil {
		return latchkey.Sealed{}, err
	}
	b.counts.ReleasesGranted.Add(1)

	value, readErr := b.read(ctx, g)
	if readErr == nil {
		readErr = g.refused.blocks(value.Version)
	}
	sealed := latchkey.Sealed{
		Suite: latchkey.AgentSuite, Release: g.release.ID, Run: g.run.ID, Claim: g.run.Claim, Machine: g.machine.ID,
		Credential: g.credential.ID, Name: g.credential.Name, Version: value.Version, Exposure: g.credential.Exposure,
		Expires: b.now().UTC().Truncate(time.Millisecond).Add(releaseTTL),
	}
	if readErr == nil {
		readErr = s.Keys.SealRelease(latchkey.CredentialValues{Username: g.username, Password: value.Value}, &sealed)
	}
	// The outcome is recorded also when the agent has gone away meanwhile.
	after, cancel := afterwards(ctx)
	defer cancel()
	err = b.db.Update(after, func(tx *db.Tx) error { return b.endRelease(tx, s, g, value.Version, readErr) })
	if err != nil {
		return latchkey.Sealed{}, errors.Join(fmt.Errorf("record the outcome of release %s: %w", g.release.ID, err), readErr)
	}
	if readErr != nil {
		b.counts.ReleasesFailed.Add(1)
		return latchkey.Sealed{}, b.releaseError(ctx, g, readErr)
	}
	b.counts.ReleasesDelivered.Add(1)
	return sealed, nil
}

// A grant is a release that was decided and is on record.
type grant struct {
	release    db.Release
	run        db.Run
	machine    db.Machine
	credential latchkey.Credential
	username   string
	reference  db.Reference
	embedded   bool
	refused    refusals // of the credential, by the run's target
}

// decideRelease decides about a release and records it.
func decideRelease(o *agentOp, id latchkey.RunID, req latchkey.ReleaseRequest) (g grant, err error) {
	g.machine = o.m
	if g.run, err = o.running(id, req.Claim); err != nil {
		if errors.Is(err, latchkey.ErrConflict) {
			// About a run that is none of the machine's nothing is said but that.
			return g, o.refuseRelease(g, req, denial{code: "claim-lost", reason: err.Error()})
		}
		return g, err
	}
	// Its name is for the record; whether the run may have it is decided below.
	if g.credential, err = o.Credential(g.run.Environment, req.Credential); err != nil && !errors.Is(err, db.ErrNotFound) {
		return g, err
	}
	d, err := denyRelease(o, &g, req.Credential)
	if err != nil {
		return g, err
	}
	if d.code != "" {
		return g, o.refuseRelease(g, req, d)
	}
	g.release = db.Release{
		ID: latchkey.ReleaseID(latchkey.NewID("rel", o.Now)), Run: g.run.ID, Number: g.run.Releases + 1, Claim: g.run.Claim,
		Credential: g.credential.ID, Reference: g.reference.ID, Machine: o.m.ID,
	}
	if err := o.CreateRelease(g.release); err != nil {
		return g, err
	}
	if err := o.ExtendLease(g.run.ID); err != nil {
		return g, err
	}
	e := releaseEvent(o.op, latchkey.ActReleaseGranted, g)
	e.Details = map[string]string{
		"reference": g.reference.SecretReference.String(), "number": fmt.Sprint(g.release.Number), "owner": string(g.run.Owner),
		"startedBy": string(g.run.StartedBy), "flow": g.run.FlowName, "connection": string(g.run.Connection),
	}
	return g, o.Record(e)
}

// denyRelease says why the run of g may not have a credential, and fills in
// what the release needs.
func denyRelease(o *agentOp, g *grant, id latchkey.CredentialID) (denial, error) {
	switch {
	case o.m.Disabled:
		return denial{code: "machine-disabled", reason: fmt.Sprintf("the machine %q is disabled", o.m.Name), remedy: "an environment admin can enable it", identity: latchkey.PrincipalID(o.m.ID)}, nil
	case g.run.StartedAt == nil:
		return denial{code: "not-started", reason: "the agent has not started the run"}, nil
	case g.run.CancelAsked:
		return denial{code: "cancelled", reason: "the run is being cancelled"}, nil
	}
	if d, err := deny(o.Tx, g.run, o.m); err != nil || d.code != "" {
		return d, err
	}
	c, err := o.Connection(g.run.Environment, g.run.Connection)
	if err != nil {
		return denial{}, err
	}
	f, err := flowOf(o.Tx, g.run)
	if err != nil {
		return denial{}, err
	}
	if f.Handover == latchkey.HandoverNone && c.Driver == latchkey.DriverNone {
		return denial{code: "not-needed", reason: "neither the connection's driver nor the flow uses a credential"}, nil
	}
	if c.Credential != id && !slices.Contains(f.Credentials, id) {
		return denial{code: "credential-not-listed", reason: "the run's connection and flow do not name the credential that was asked for", remedy: "add it to the flow's credentials"}, nil
	}
	if g.refused, err = refusalsAt(o.Tx, c, id); err != nil {
		return denial{}, err
	}
	return resolve(o, g)
}

// resolve fills in the user name and the reference of g's credential.
func resolve(o *agentOp, g *grant) (denial, error) {
	username, deleted, err := o.SlotVariable(g.credential.ID, latchkey.SlotUsername)
	if err != nil {
		return denial{}, err
	}
	text, ok := username.Effective()
	if deleted || !ok {
		return denial{code: "no-username", reason: fmt.Sprintf("the variable %s, the user name, has no value", username.Name), remedy: "set its value"}, nil
	}
	g.username = text
	password, deleted, err := o.SlotVariable(g.credential.ID, latchkey.SlotPassword)
	if err != nil {
		return denial{}, err
	}
	noReference := denial{
		code: "reference-not-passed", reason: fmt.Sprintf("no reference of the variable %s has passed its check", password.Name),
		remedy: "see the variable's check for what to do",
	}
	if deleted {
		return noReference, nil
	}
	g.reference, err = o.ReferenceInForce(password.ID)
	if errors.Is(err, db.ErrNotFound) {
		return noReference, nil
	}
	if err != nil {
		return denial{}, err
	}
	e, err := o.Environment(string(g.run.Environment))
	if err != nil {
		return denial{}, err
	}
	if !allowsVault(e, g.reference.VaultRef()) {
		return denial{code: "vault-not-listed", reason: "the environment does not list the vault of the reference", remedy: "an environment admin can add it to the environment's vaults"}, nil
	}
	_, g.embedded, err = embeddedVault(o.Tx, g.reference.VaultRef())
	return denial{}, err
}

// releaseEvent returns the audit entry about a release.
func releaseEvent(o op, action latchkey.Action, g grant) latchkey.AuditEvent {
	e := o.event(action, thing{latchkey.KindCredential, g.machine.Environment, string(g.credential.ID), g.credential.Name, ""})
	e.Run, e.Claim, e.Release, e.Machine = g.run.ID, g.run.Claim, g.release.ID, g.machine.ID
	return e
}

// refuseRelease returns a denied release, to be recorded.
func (o *agentOp) refuseRelease(g grant, req latchkey.ReleaseRequest, d denial) *refusal {
	r := o.refuseFor(latchkey.ActReleaseDenied, thing{latchkey.KindCredential, g.machine.Environment, string(req.Credential), g.credential.Name, ""}, d)
	r.event.Run, r.event.Claim, r.event.Machine = g.run.ID, req.Claim, g.machine.ID
	return r
}

// read reads the secret of a granted release from its vault.
func (b *Broker) read(ctx context.Context, g grant) (vault.Value, error) {
	ctx, cancel := context.WithTimeout(ctx, releaseTimeout)
	defer cancel()
	return b.reads.get(ctx, g.reference.Key(), func(ctx context.Context) (vault.Value, error) {
		ctx, cancel := context.WithTimeout(ctx, releaseTimeout)
		defer cancel()
		v, err := b.openVault(g.reference.VaultRef(), g.embedded)
		if err != nil {
			return vault.Value{}, err
		}
		return v.Get(ctx, g.reference.Secret)
	})
}

// endRelease records the outcome of a release.
func (b *Broker) endRelease(tx *db.Tx, s AgentSession, g grant, version string, failure error) error {
	o := op{tx, machineCaller(g.machine, s.Address)}
	action := latchkey.ActReleaseDelivered
	if failure != nil {
		action, version = latchkey.ActReleaseFailed, ""
	}
	if err := tx.EndRelease(g.release.ID, version); err != nil {
		return err
	}
	e := releaseEvent(o, action, g)
	e.Details = map[string]string{"reference": g.reference.SecretReference.String(), "number": fmt.Sprint(g.release.Number)}
	if failure != nil {
		e.Outcome, e.Code, e.Reason = latchkey.OutcomeFailed, failureCode(failure), vaultMessage(failure)
	} else {
		e.Details["version"] = version
	}
	return tx.Record(e)
}

// vaultMessage says why a release failed, without a value.
func vaultMessage(err error) string {
	if blocked, ok := errors.AsType[*blockedError](err); ok {
		return blocked.Error()
	}
	if ve, ok := errors.AsType[*vault.Error](err); ok {
		return ve.Msg
	}
	return "the vault could not be read"
}

// releaseError is the answer to the agent when the vault was not read.
func (b *Broker) releaseError(ctx context.Context, g grant, err error) error {
	if blocked, ok := errors.AsType[*blockedError](err); ok {
		return blocked.answer(g)
	}
	b.log.LogAttrs(ctx, slog.LevelWarn, "release failed", slog.String("release", string(g.release.ID)), slog.Any("error", err))
	e := &latchkey.Error{
		Kind: latchkey.ErrUnavailable, Code: "vault", Err: err, Check: "vault", Identity: string(latchkey.ServiceIdentity),
		Msg: fmt.Sprintf("the secret '%s' could not be read: %s", g.reference.SecretReference, vaultMessage(err)),
	}
	if ve, ok := errors.AsType[*vault.Error](err); ok {
		e.Remedy = ve.Remedy
		if !errors.Is(err, vault.ErrUnavailable) {
			e.Kind, e.Code = latchkey.ErrConflict, "vault-refused"
		}
	}
	return e
}

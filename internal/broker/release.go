package broker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"time"

	"latchkey.dev/internal/certauth"
	"latchkey.dev/internal/db"
	"latchkey.dev/internal/seal"
	"latchkey.dev/internal/vault"
	"latchkey.dev/latchkey"
)

const (
	releaseTTL     = time.Minute      // how long the agent may use a released value before it hands it on
	releaseTimeout = 20 * time.Second // of the vault's answer
)

// Release reads a credential for the machine of a claimed run and returns it
// sealed to that machine. It is decided in the transaction that puts the grant
// on record, before the vault's answer leaves; the outcome is on record before
// the answer. If one of the two cannot be recorded, nothing is released.
func (b *Broker) Release(ctx context.Context, s AgentSession, id latchkey.RunID, req latchkey.ReleaseRequest) (latchkey.Sealed, error) {
	// It would be on record when it is refused.
	if len(req.Credential) > latchkey.MaxName || !db.Storable(string(req.Credential)) {
		return latchkey.Sealed{}, latchkey.Invalid("credential", "must be the id of a credential, cred_…")
	}
	g, delivered, err := b.grantStanding(ctx, s, id, req)
	if errors.Is(err, errStale) {
		g, err = b.grant(ctx, s, id, req)
	}
	if err != nil {
		return latchkey.Sealed{}, err
	}
	b.counts.ReleasesGranted.Add(1)
	if delivered != nil {
		b.counts.ReleasesDelivered.Add(1)
		return *delivered, nil
	}
	value, failure := b.read(ctx, g)
	var sealed latchkey.Sealed
	if failure == nil {
		sealed, failure = b.sealRelease(s, g, value)
		b.noteCertificate(ctx, g, value.Version)
	}
	// The outcome is recorded also when the agent has gone away meanwhile.
	if g.target != nil && failure == nil {
		failure, err = b.beginSignIn(ctx, g, s.Address, value.Version)
	} else {
		err = b.ledger.add(ctx, &ledgerEntry{events: []latchkey.AuditEvent{g.outcome(s.Address, value.Version, failure)}})
	}
	if err != nil {
		if failure != nil {
			return latchkey.Sealed{}, fmt.Errorf("record that release %s failed (%v): %w", g.id, failure, err)
		}
		return latchkey.Sealed{}, fmt.Errorf("record the outcome of release %s: %w", g.id, err)
	}
	if failure != nil {
		b.counts.ReleasesFailed.Add(1)
		return latchkey.Sealed{}, b.releaseError(ctx, g, failure)
	}
	b.counts.ReleasesDelivered.Add(1)
	if g.target == nil { // whether a sign-in may be tried is decided each time
		b.stand(g, value)
	}
	return sealed, nil
}

// grant decides about a release in the database and puts the decision on record.
func (b *Broker) grant(ctx context.Context, s AgentSession, id latchkey.RunID, req latchkey.ReleaseRequest) (g grant, err error) {
	var denied *refusal
	stepBack := false
	err = b.agent(ctx, s, b.db.Update, func(o *agentOp) (err error) {
		denied = nil
		if stepBack = req.Counter <= o.session.ReleaseCounter; stepBack {
			g = grant{machine: o.m}
			// A request from before the newest release is one that came late, or that
			// somebody recorded: it says nothing about a second agent.
			late := req.Counter < o.session.ReleaseCounter && !s.At.After(seal.NonceTime(o.session.ReleaseNonce))
			if late || bytes.Equal(s.Nonce, o.session.ReleaseNonce) {
				return latchkey.Conflict("repeated", "this request was made before; ask again with the next counter")
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
	switch {
	case err != nil:
		return g, err
	case denied != nil:
		b.counts.Denials.Add(1)
		b.counts.ReleasesDenied.Add(1)
		return g, denied.err
	case stepBack:
		return g, b.quarantine(ctx, g.machine, "its agent asked for a release with a counter that had been used: two agents hold its keys", s.Address)
	}
	return g, nil
}

// A grant is a release that was decided and is on record.
type grant struct {
	id         latchkey.ReleaseID
	number     int // in its run, from 1
	run        db.Run
	machine    db.Machine
	credential latchkey.Credential
	username   string
	reference  db.Reference
	vault      latchkey.VaultID // embedded, else ""
	target     *db.SignInTarget // of the sign-in that it is for; nil if for none

	// What it was decided at; see standing.
	epoch int64
	state db.VaultState
}

// event returns an audit entry about the release.
func (g *grant) event(action latchkey.Action, address string) latchkey.AuditEvent {
	o := op{who: machineCaller(g.machine, address)}
	e := o.event(action, thing{latchkey.KindCredential, g.machine.Environment, string(g.credential.ID), g.credential.Name, ""})
	e.Run, e.Claim, e.Release, e.Machine = g.run.ID, g.run.Claim, g.id, g.machine.ID
	return e
}

// granted is the audit entry that is durable before the vault's answer leaves.
func (g *grant) granted(address string) latchkey.AuditEvent {
	e := g.event(latchkey.ActReleaseGranted, address)
	e.Details = map[string]string{
		"reference": g.reference.SecretReference.String(), "number": strconv.Itoa(g.number), "owner": string(g.run.Owner),
		"startedBy": string(g.run.StartedBy), "flow": g.run.FlowName, "connection": string(g.run.Connection),
	}
	return e
}

// outcome is the audit entry about how the release ended.
func (g *grant) outcome(address, version string, failure error) latchkey.AuditEvent {
	action := latchkey.ActReleaseDelivered
	if failure != nil {
		action = latchkey.ActReleaseFailed
	}
	e := g.event(action, address)
	e.Details = map[string]string{"reference": g.reference.SecretReference.String(), "number": strconv.Itoa(g.number)}
	if failure != nil {
		e.Outcome, e.Code, e.Reason = latchkey.OutcomeFailed, failureCode(failure), vaultMessage(failure)
	} else {
		e.Details[db.AuditVersion] = version
	}
	return e
}

// sealRelease seals the value of a granted release to the agent's session.
func (b *Broker) sealRelease(s AgentSession, g grant, value vault.Value) (latchkey.Sealed, error) {
	sealed := latchkey.Sealed{
		Suite: latchkey.AgentSuite, Release: g.id, Run: g.run.ID, Claim: g.run.Claim, Machine: g.machine.ID,
		Credential: g.credential.ID, Name: g.credential.Name, Version: value.Version, Exposure: g.credential.Exposure,
		Expires: b.now().UTC().Truncate(time.Millisecond).Add(releaseTTL),
	}
	v, err := g.values(value.Value)
	if err != nil {
		return sealed, err
	}
	return sealed, s.Keys.SealRelease(v, &sealed)
}

// values returns what the agent gets of a value that was read. It returns a
// *certauth.Error if that is no certificate, though the credential needs one.
func (g *grant) values(value latchkey.Secret) (v latchkey.CredentialValues, err error) {
	v.Username = g.username
	if g.credential.Authentication != latchkey.AuthenticationCertificate {
		v.Password = value
		return v, nil
	}
	c, err := certauth.Parse(value)
	if err != nil {
		return v, err
	}
	v.PFX = c.PFX
	return v, nil
}

// codeUnusable is the code of a release that fails since the secret is no
// certificate with its key.
const codeUnusable = "certificate-unusable"

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
	g.id, g.number = latchkey.ReleaseID(latchkey.NewID("rel", o.Now)), g.run.Releases+1
	if err := o.CountRelease(g.run.ID, g.number); err != nil {
		return g, err
	}
	if err := o.ExtendLease(g.run.ID); err != nil {
		return g, err
	}
	return g, o.Record(g.granted(o.who.Address))
}

// denyRelease says why the run of g may not have a credential, and fills in
// what the release needs.
func denyRelease(o *agentOp, g *grant, id latchkey.CredentialID) (denial, error) {
	switch {
	case o.m.Disabled:
		return machineDisabled(o.m), nil
	case g.run.StartedAt == nil:
		return denial{code: "not-started", reason: "the agent has not started the run"}, nil
	case g.run.CancelAsked:
		return denial{code: "cancelled", reason: "the run is being cancelled"}, nil
	}
	t, d, err := deny(o.Tx, g.run, o.m)
	if err != nil || d.code != "" {
		return d, err
	}
	c, f := t.connection, t.flow
	if f.Handover == latchkey.HandoverNone && c.Driver == latchkey.DriverNone {
		return denial{code: "not-needed", reason: "neither the connection's driver nor the flow uses a credential"}, nil
	}
	if c.Credential != id && !slices.Contains(f.Credentials, id) {
		return denial{code: "credential-not-listed", reason: "the run's connection and flow do not name the credential that was asked for", remedy: "add it to the flow's credentials"}, nil
	}
	g.target = signInTarget(c, id)
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
	secret, deleted, err := o.SlotVariable(g.credential.ID, g.credential.Authentication.SecretSlot())
	if err != nil {
		return denial{}, err
	}
	noReference := denial{
		code: "reference-not-passed", reason: fmt.Sprintf("no reference of the variable %s has passed its check", secret.Name),
		remedy: "see the variable's check for what to do",
	}
	if deleted {
		return noReference, nil
	}
	g.reference, err = o.ReferenceInForce(secret.ID)
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
	v, embedded, err := embeddedVault(o.Tx, g.reference.VaultRef())
	if err != nil {
		return denial{}, err
	}
	if embedded {
		g.vault = v.ID
	}
	g.epoch, g.state, err = o.Epoch(g.run.Environment, g.vault)
	return denial{}, err
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
		v, err := b.openVault(g.reference.VaultRef(), g.vault != "")
		if err != nil {
			return vault.Value{}, err
		}
		return v.Get(ctx, g.reference.Secret)
	})
}

// vaultMessage says why a release failed, without a value.
func vaultMessage(err error) string {
	if blocked, ok := errors.AsType[*blockedError](err); ok {
		return blocked.Error()
	}
	if ce, ok := errors.AsType[*certauth.Error](err); ok {
		return ce.Msg
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
	if ce, ok := errors.AsType[*certauth.Error](err); ok {
		return &latchkey.Error{
			Kind: latchkey.ErrConflict, Code: codeUnusable, Identity: g.username, Check: "certificate", Remedy: ce.Remedy,
			Msg: fmt.Sprintf("the secret '%s' was read, but %s; %s", g.reference.SecretReference, ce.Msg, ce.Remedy),
		}
	}
	b.log.LogAttrs(ctx, slog.LevelWarn, "release failed", slog.String("release", string(g.id)), slog.Any("error", err))
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

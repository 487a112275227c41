package broker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"latchkey.dev/internal/certauth"
	"latchkey.dev/internal/db"
	"latchkey.dev/internal/vault"
	"latchkey.dev/latchkey"
)

// certificateEvery is how long what was found about a certificate is taken for
// what is so.
const certificateEvery = 24 * time.Hour

// addCertificates fills in what was found about the certificates of credentials.
func (o *op) addCertificates(credentials ...*latchkey.Credential) error {
	var ids []latchkey.CredentialID
	for _, c := range credentials {
		if c.Authentication == latchkey.AuthenticationCertificate {
			ids = append(ids, c.ID)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	found, err := o.CertificateChecks(ids...)
	for _, c := range credentials {
		if check, ok := found[c.ID]; ok {
			c.Certificate = &check
		}
	}
	return err
}

// CheckCredential has the certificate of a credential looked at again.
func (b *Broker) CheckCredential(ctx context.Context, who latchkey.Caller, env string, id latchkey.CredentialID) (c latchkey.Credential, err error) {
	err = b.update(ctx, who, func(o *op) (err error) {
		var e latchkey.Environment
		if e, c, err = o.credential(env, id, latchkey.ActCredentialCheck); err != nil {
			return err
		}
		if c.Authentication != latchkey.AuthenticationCertificate {
			return latchkey.Conflict("no-certificate", "the credential has a password, and nothing of it to look at; the reference to the password is checked with its variable")
		}
		if err := o.StartCertificateCheck(c.ID); err != nil {
			return err
		}
		if err := o.addCertificates(&c); err != nil {
			return err
		}
		return o.record(latchkey.ActCredentialCheck, credentialThing(e.ID, c), nil)
	})
	if err == nil {
		b.wakeChecks()
	}
	return c, err
}

// noteCertificate has a certificate looked at that a release has found to be
// another one than the last time.
func (b *Broker) noteCertificate(ctx context.Context, g grant, version string) {
	if g.credential.Authentication != latchkey.AuthenticationCertificate {
		return
	}
	err := b.db.Update(ctx, func(tx *db.Tx) error { return tx.RecheckCertificate(g.credential.ID, version) })
	if err == nil {
		b.wakeChecks()
	} else if ctx.Err() == nil {
		b.log.LogAttrs(ctx, slog.LevelWarn, "new version of a certificate not noted", slog.String("credential", string(g.credential.ID)), slog.Any("error", err))
	}
}

// A certificateCase is what a certificate is looked at with.
type certificateCase struct {
	check       db.CertificateCheck
	environment latchkey.Environment
	grant       grant // with the credential, the user name and the reference
	bindings    latchkey.CertificateBindings
	account     *latchkey.CertificateAccount // what is known of the user; nil is nothing
	denied      denial                       // why it is not looked at
}

// checkCertificate looks at one certificate that is due, and reports whether there
// was one. That its secret is read is on record before it is.
func (b *Broker) checkCertificate(ctx context.Context) (bool, error) {
	due, err := b.due(ctx, (*db.Tx).NextCertificateCheck)
	if err != nil || !due {
		return false, err
	}
	var c certificateCase
	err = b.db.Update(ctx, func(tx *db.Tx) (err error) {
		c, err = beginCertificateCheck(tx)
		return err
	})
	if errors.Is(err, db.ErrNotFound) {
		return false, nil // another server took it
	}
	if err != nil {
		return false, err
	}
	b.wakeChecks() // there may be more
	c.check.CertificateCheck = b.lookAt(ctx, &c)
	err = b.db.Update(ctx, func(tx *db.Tx) error {
		if err := tx.FinishCertificateCheck(c.check); err != nil {
			return err
		}
		o := &op{tx, serviceCaller}
		e := o.event(latchkey.ActCredentialCheck, credentialThing(c.environment.ID, c.grant.credential))
		e.Code, e.Reason = string(c.check.State), c.check.Message
		if c.check.State != latchkey.CheckPassed {
			e.Outcome = latchkey.OutcomeFailed
		}
		e.Details = map[string]string{"reference": c.grant.reference.SecretReference.String(), db.AuditVersion: c.check.Version}
		return o.Record(e)
	})
	if errors.Is(err, db.ErrNotFound) {
		return true, nil // started anew meanwhile: this result is of no use
	}
	return true, err
}

// beginCertificateCheck takes a certificate that is due and puts on record that it
// is read.
func beginCertificateCheck(tx *db.Tx) (c certificateCase, err error) {
	if c.check, err = tx.ClaimCertificateCheck(checkHold); err != nil {
		return c, err
	}
	o := &agentOp{op: op{tx, serviceCaller}}
	if c.environment, c.grant.credential, err = tx.CredentialByID(c.check.Credential); err != nil {
		return c, err
	}
	if c.bindings, err = o.bindings(); err != nil {
		return c, err
	}
	c.grant.run.Environment = c.environment.ID
	if c.denied, err = resolve(o, &c.grant); err != nil || c.denied.code != "" {
		return c, err
	}
	if c.account, err = o.accountOf(c.grant.username); err != nil {
		return c, err
	}
	return c, o.record(latchkey.ActCertificateRead, credentialThing(c.environment.ID, c.grant.credential),
		map[string]string{"reference": c.grant.reference.SecretReference.String()})
}

// lookAt reads a certificate and says what is to be said of it. Nothing else of
// the secret is kept.
func (b *Broker) lookAt(ctx context.Context, c *certificateCase) (r latchkey.CertificateCheck) {
	next := b.now().Add(certificateEvery)
	before := c.check.CertificateCheck // what is known of the certificate stays so while it cannot be read
	before.NextAt, before.Findings = &next, nil
	if c.denied.code != "" {
		before.State, before.Message, before.Remedy = latchkey.CheckFailed, c.denied.reason, c.denied.remedy
		return before
	}
	value, err := b.read(ctx, c.grant)
	if err != nil {
		before.State, before.Message, before.Remedy = latchkey.CheckUnknown, "the certificate could not be read: "+vaultMessage(err), "It is tried again by itself."
		if ve, ok := errors.AsType[*vault.Error](err); ok && ve.Remedy != "" {
			before.Remedy = ve.Remedy
		}
		if !errors.Is(err, vault.ErrUnavailable) && !errors.Is(err, context.DeadlineExceeded) {
			before.State = latchkey.CheckFailed
			return before
		}
		b.log.LogAttrs(ctx, slog.LevelWarn, "certificate could not be checked", slog.String("credential", string(c.check.Credential)), slog.Any("error", err))
		c.check.Attempts++
		next = b.now().Add(checkBackoff(c.check.Attempts))
		return before
	}
	c.check.Attempts = 0
	cert, err := certauth.Parse(value.Value)
	if ce, ok := errors.AsType[*certauth.Error](err); ok {
		r = certauth.Refused(ce)
	} else if err == nil {
		r = cert.Examine(c.grant.username, c.account, c.bindings, b.now())
	}
	r.Version, r.NextAt = value.Version, &next
	return r
}

// bindings returns the tenant's username bindings.
func (o *op) bindings() (b latchkey.CertificateBindings, err error) {
	text, err := o.Setting(settingBindings)
	if errors.Is(err, db.ErrNotFound) {
		return latchkey.DefaultCertificateBindings(), nil
	}
	if err != nil {
		return b, err
	}
	if err := json.Unmarshal([]byte(text), &b); err != nil {
		return b, fmt.Errorf("read the setting %s: %w", settingBindings, err)
	}
	return b, nil
}

// CertificateBindings returns the username bindings of the tenant.
func (b *Broker) CertificateBindings(ctx context.Context, who latchkey.Caller) (bindings latchkey.CertificateBindings, err error) {
	err = b.view(ctx, who, func(o *op) (err error) {
		if err := o.allow(latchkey.ActBindingRead, tenantThing); err != nil {
			return err
		}
		bindings, err = o.bindings()
		return err
	})
	return bindings, err
}

// SetCertificateBindings sets the username bindings of the tenant, as they are in
// its directory, and has every certificate looked at again.
func (b *Broker) SetCertificateBindings(ctx context.Context, who latchkey.Caller, bindings latchkey.CertificateBindings) (latchkey.CertificateBindings, error) {
	if err := bindings.Validate(); err != nil {
		return bindings, err
	}
	text, err := json.Marshal(bindings)
	if err != nil {
		return bindings, err
	}
	err = b.update(ctx, who, func(o *op) error {
		if err := o.allow(latchkey.ActBindingSet, tenantThing); err != nil {
			return err
		}
		if err := o.SetSetting(settingBindings, string(text)); err != nil {
			return err
		}
		if err := o.RecheckAllCertificates(); err != nil {
			return err
		}
		return o.record(latchkey.ActBindingSet, tenantThing, map[string]string{"bindings": string(text)})
	})
	if err == nil {
		b.wakeChecks()
	}
	return bindings, err
}

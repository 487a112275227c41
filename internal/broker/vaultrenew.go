package broker

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"time"

	"latchkey.dev/internal/certs"
	"latchkey.dev/internal/db"
	"latchkey.dev/latchkey"
)

// renewBatch is for how many certificates something is done in one round.
const renewBatch = 20

// due returns when the next lifetime action of a certificate is due, or nil: a
// renewal that comes after one time, or something to tell after another. c is the
// certificate's newest version.
func due(c db.StoredCertificate, renew, tell time.Time) *time.Time {
	if c.Number == 0 || !c.Enabled {
		return nil
	}
	var next *time.Time
	for _, a := range c.Policy.Lifetime {
		after := tell
		if a.Is(latchkey.AutoRenew) && c.Policy.IssuedBy(latchkey.IssuerSelf) {
			after = renew
		}
		if at := a.At(c.NotBefore, c.Expires); at.After(after) && (next == nil || at.Before(*next)) {
			next = &at
		}
	}
	return next
}

// setDue stores when the next lifetime action of a certificate is due, after
// something that this depends on has changed. A renewal that was missed is due;
// nothing is told twice.
func (o *vaultOp) setDue(name string) error {
	c, err := o.Certificate(o.v.ID, name, "")
	if err != nil {
		return err
	}
	tell := o.Now
	if c.DueAt != nil && c.DueAt.Before(tell) {
		tell = c.DueAt.Add(-time.Millisecond)
	}
	return o.SetCertificateDue(o.v.ID, name, due(c, time.Time{}, tell))
}

// renew does what the policies of certificates want done by now: it makes new
// versions of those that sign themselves, and puts on record that others come to
// their end.
func (b *Broker) renew(ctx context.Context) error {
	var list []db.DueCertificate
	err := b.db.View(ctx, func(tx *db.Tx) (err error) {
		list, err = tx.DueCertificates(renewBatch)
		return err
	})
	if err != nil {
		return err
	}
	var errs []error
	for _, d := range list {
		if err := b.renewOne(ctx, d); err != nil {
			errs = append(errs, fmt.Errorf("certificate %s in vault %s: %w", d.Name, d.VaultName, err))
		}
	}
	return errors.Join(errs...)
}

// isDue returns the certificate if it is still as it was when it was found to be
// due, and which actions are due.
func isDue(tx *db.Tx, d db.DueCertificate) (c db.StoredCertificate, renew, notify bool, err error) {
	c, err = tx.Certificate(d.Vault, d.Name, "")
	if errors.Is(err, db.ErrNotFound) {
		return c, false, false, nil
	}
	if err != nil || c.DeletedAt != nil || c.DueAt == nil || !c.DueAt.Equal(d.At) {
		return c, false, false, err
	}
	for _, a := range c.Policy.Lifetime {
		// Of actions at the same time, and of those that were missed, all are due.
		if at := a.At(c.NotBefore, c.Expires); !at.Before(d.At.Add(-time.Millisecond)) && !at.After(tx.Now) {
			renew = renew || a.Is(latchkey.AutoRenew)
			notify = notify || a.Is(latchkey.EmailContacts)
		}
	}
	return c, renew, notify, nil
}

// renewOne does what is due for one certificate.
func (b *Broker) renewOne(ctx context.Context, d db.DueCertificate) error {
	var policy latchkey.CertificatePolicy
	var old crypto.Signer
	var oldExportable, wanted bool
	var decided time.Time // when the policy was made that is looked at
	err := b.db.View(ctx, func(tx *db.Tx) error {
		c, renew, _, err := isDue(tx, d)
		wanted, decided = renew && c.Policy.IssuedBy(latchkey.IssuerSelf), c.PolicyUpdated
		if err != nil || !wanted {
			return err
		}
		policy = c.Policy
		policy.Fill()
		v, err := tx.Vault(d.VaultName)
		if err != nil {
			return err
		}
		o := &vaultOp{op{tx, serviceCaller}, v, certificateObject(c.Name)}
		old, oldExportable, err = b.loadKey(o, c.Name, c.Version)
		return err
	})
	if err != nil {
		return err
	}
	var m made
	why := "its policy renews it, but its issuer is not the vault"
	if wanted {
		m, err = certificateWork(ctx, b.keys, func() (made, error) { return makeVersion(&policy, old, oldExportable, b.now()) })
		if errors.Is(err, latchkey.ErrInvalid) {
			wanted, why = false, "it cannot be renewed: "+err.Error() // as its policy was changed since
		} else if err != nil {
			return err
		}
	}
	finish := func(tx *db.Tx) error {
		c, renew, notify, err := isDue(tx, d)
		if err != nil || c.DueAt == nil || !c.DueAt.Equal(d.At) {
			return err
		}
		if !c.PolicyUpdated.Equal(decided) {
			return nil // the new policy is for the next round
		}
		v, err := tx.Vault(d.VaultName)
		if err != nil {
			return err
		}
		o := &vaultOp{op{tx, serviceCaller}, v, certificateObject(c.Name)}
		if renew && wanted {
			return b.addRenewed(o, c, m)
		}
		if renew || notify {
			if !renew {
				why = "its policy says to tell"
			}
			if err := o.nearExpiry(c, why); err != nil {
				return err
			}
		}
		return o.SetCertificateDue(v.ID, c.Name, due(c, tx.Now, tx.Now))
	}
	err = b.db.Update(ctx, finish)
	if errors.Is(err, latchkey.ErrInvalid) || errors.Is(err, latchkey.ErrConflict) {
		// What was made cannot be kept. It would not be otherwise in the next round, and
		// others wait.
		wanted, why = false, "it cannot be renewed: "+err.Error()
		err = b.db.Update(ctx, finish)
	}
	return err
}

// addRenewed stores a new version that signs itself, like the one before.
func (b *Broker) addRenewed(o *vaultOp, c db.StoredCertificate, m made) error {
	leaf, err := x509.ParseCertificate(m.leaf)
	if err != nil {
		return err
	}
	if err := b.storeKey(o, c.Name, m.version, m.key, m.exportable); err != nil {
		return err
	}
	c.Policy.Fill()
	r := db.StoredOperation{Version: m.version, Enabled: true, Tags: c.Tags}
	r.PreserveOrder = c.PreserveOrder
	if _, err := b.addVersion(o, c, r, certs.Bundle{Key: m.key, Leaf: leaf}, m.exportable); err != nil {
		return err
	}
	return o.record(latchkey.ActCertificateRenew, o.thing(), map[string]string{
		"version": m.version, "previous": c.Version, "expires": leaf.NotAfter.UTC().Format(time.RFC3339),
	})
}

// nearExpiry puts on record that a certificate comes to its end, and whom its
// vault's contacts name.
func (o *vaultOp) nearExpiry(c db.StoredCertificate, why string) error {
	contacts, err := o.Contacts(o.v.ID)
	if err != nil && !errors.Is(err, db.ErrNotFound) {
		return err
	}
	var emails []string
	for _, c := range contacts {
		emails = append(emails, c.Email)
	}
	return o.record(latchkey.ActCertificateNearExpiry, o.thing(), map[string]string{
		"version": c.Version, "expires": c.Expires.Format(time.RFC3339), "contacts": strings.Join(emails, ", "), "reason": why,
	})
}

package broker

import (
	"context"
	"encoding/json"
	"errors"
	"strings"

	"latchkey.dev/internal/db"
	"latchkey.dev/latchkey"
)

func accountThing(upn string) thing {
	return thing{kind: latchkey.KindAccount, id: upn, name: upn, read: latchkey.ActBindingRead}
}

// CertificateAccounts lists what was said of users in the tenant's directory, for
// tenant admins.
func (b *Broker) CertificateAccounts(ctx context.Context, who latchkey.Caller, page latchkey.PageOptions) (p latchkey.Page[latchkey.CertificateAccount], err error) {
	err = b.view(ctx, who, func(o *op) error {
		if err := o.allow(latchkey.ActBindingRead, tenantThing); err != nil {
			return err
		}
		p, err = o.CertificateAccounts(page)
		return err
	})
	return p, err
}

// CertificateAccount returns what was said of one user.
func (b *Broker) CertificateAccount(ctx context.Context, who latchkey.Caller, upn string) (a latchkey.CertificateAccount, err error) {
	err = b.view(ctx, who, func(o *op) error {
		if err := o.allow(latchkey.ActBindingRead, tenantThing); err != nil {
			return err
		}
		a, err = o.CertificateAccount(upn)
		return found(err, latchkey.KindAccount)
	})
	return a, err
}

// SetCertificateAccount says what the tenant's directory has of a user, in place of
// what was said before, and has the certificates looked at again that sign in by the
// user's name.
func (b *Broker) SetCertificateAccount(ctx context.Context, who latchkey.Caller, upn string, in latchkey.CertificateAccountSet) (a latchkey.CertificateAccount, err error) {
	if err := latchkey.CheckUPN(upn); err != nil {
		return a, latchkey.Invalid("userPrincipalName", "%v", err)
	}
	if err := in.Validate(); err != nil {
		return a, err
	}
	details, err := json.Marshal(in)
	if err != nil {
		return a, err
	}
	err = b.update(ctx, who, func(o *op) error {
		if err := o.allow(latchkey.ActAccountSet, tenantThing); err != nil {
			return err
		}
		a = latchkey.CertificateAccount{
			UPN: upn, OnPremisesUPN: in.OnPremisesUPN, CertificateUserIDs: append([]string{}, in.CertificateUserIDs...), UpdatedBy: who.ID, UpdatedAt: o.Now,
		}
		for _, id := range a.CertificateUserIDs {
			holder, err := o.UserIDHolder(id)
			switch {
			case err == nil && !strings.EqualFold(holder, upn):
				return latchkey.Conflict("user-id-taken", "%s is in the certificateUserIds of %s, and can be one user's only; take it away from there first", id, holder)
			case err != nil && !errors.Is(err, db.ErrNotFound):
				return err
			}
		}
		if err := o.SetCertificateAccount(a); err != nil {
			return err
		}
		if err := o.RecheckCertificatesOf(upn); err != nil {
			return err
		}
		return o.record(latchkey.ActAccountSet, accountThing(upn), map[string]string{"account": string(details)})
	})
	if err == nil {
		b.wakeChecks()
	}
	return a, err
}

// RemoveCertificateAccount takes back what SetCertificateAccount said.
func (b *Broker) RemoveCertificateAccount(ctx context.Context, who latchkey.Caller, upn string) error {
	err := b.update(ctx, who, func(o *op) error {
		if err := o.allow(latchkey.ActAccountRemove, tenantThing); err != nil {
			return err
		}
		a, err := o.CertificateAccount(upn)
		if err != nil {
			return found(err, latchkey.KindAccount)
		}
		if err := o.DeleteCertificateAccount(upn); err != nil {
			return err
		}
		if err := o.RecheckCertificatesOf(upn); err != nil {
			return err
		}
		return o.record(latchkey.ActAccountRemove, accountThing(a.UPN), nil)
	})
	if err == nil {
		b.wakeChecks()
	}
	return err
}

// accountOf returns what was said of a user, or nil when nothing was.
func (o *op) accountOf(username string) (*latchkey.CertificateAccount, error) {
	a, err := o.CertificateAccount(username)
	if errors.Is(err, db.ErrNotFound) {
		return nil, nil
	}
	return &a, err
}

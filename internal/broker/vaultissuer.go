package broker

import (
	"context"
	"errors"
	"strings"

	"latchkey.dev/internal/db"
	"latchkey.dev/latchkey"
)

// maxIssuers bounds the issuers of one vault.
const maxIssuers = 1000

// onIssuer is onVault for an issuer, which is no object that a role can be
// limited to.
func (b *Broker) onIssuer(ctx context.Context, who latchkey.Caller, vault, name string, a latchkey.VaultAction, audited latchkey.Action, f func(*vaultOp) error) error {
	if err := latchkey.CheckSecretName(name); err != nil {
		return latchkey.Invalid("name", "%v", err)
	}
	return b.onVault(ctx, who, vault, latchkey.VaultObject{}, a, audited, func(o *vaultOp) error {
		if err := f(o); err != nil {
			if errors.Is(err, db.ErrNotFound) {
				return missing(codeIssuerNotFound, "the vault %s keeps no issuer named %s", o.v.Name, name)
			}
			return err
		}
		return o.record(audited, thing{kind: latchkey.KindVaultIssuer, id: o.v.ARMID + "/certificates/issuers/" + name, name: o.v.Name + "/" + name}, nil)
	})
}

// Issuer returns an issuer that a vault keeps, without the account's password.
func (b *Broker) Issuer(ctx context.Context, who latchkey.Caller, vault, name string) (i latchkey.VaultIssuer, err error) {
	err = b.onIssuer(ctx, who, vault, name, latchkey.VaultReadIssuer, latchkey.ActIssuerGet, func(o *vaultOp) error {
		i, err = o.Issuer(o.v.ID, name)
		return err
	})
	return i, err
}

// Issuers lists the issuers that a vault keeps.
func (b *Broker) Issuers(ctx context.Context, who latchkey.Caller, vault string, page latchkey.PageOptions) (p latchkey.Page[latchkey.VaultIssuer], err error) {
	err = b.onVault(ctx, who, vault, latchkey.VaultObject{}, latchkey.VaultReadIssuer, latchkey.ActIssuerGet, func(o *vaultOp) error {
		if p, err = o.Issuers(o.v.ID, page); err != nil {
			return err
		}
		return o.note(latchkey.ActIssuerGet, "")
	})
	return p, err
}

// An IssuerUpdate changes what is not nil of an issuer.
type IssuerUpdate struct {
	Provider     *string
	Account      *string
	Password     *latchkey.Secret
	Organization *latchkey.IssuerOrganization
	Enabled      *bool
}

// maxIssuerPassword bounds the password of an issuer's account, in bytes.
const maxIssuerPassword = 1000

// SetIssuer stores an issuer, in the place of the one with its name if there is
// one.
func (b *Broker) SetIssuer(ctx context.Context, who latchkey.Caller, vault, name string, u IssuerUpdate) (latchkey.VaultIssuer, error) {
	return b.putIssuer(ctx, who, vault, name, u, true)
}

// UpdateIssuer changes an issuer.
func (b *Broker) UpdateIssuer(ctx context.Context, who latchkey.Caller, vault, name string, u IssuerUpdate) (latchkey.VaultIssuer, error) {
	return b.putIssuer(ctx, who, vault, name, u, false)
}

func (b *Broker) putIssuer(ctx context.Context, who latchkey.Caller, vault, name string, u IssuerUpdate, whole bool) (i latchkey.VaultIssuer, err error) {
	if u.Password != nil && len(u.Password.Reveal()) > maxIssuerPassword {
		return i, latchkey.Invalid("credentials.pwd", "must be at most %d bytes", maxIssuerPassword)
	}
	err = b.onIssuer(ctx, who, vault, name, latchkey.VaultWriteIssuer, latchkey.ActIssuerSet, func(o *vaultOp) error {
		i, err = o.Issuer(o.v.ID, name)
		isNew := errors.Is(err, db.ErrNotFound)
		switch {
		case isNew && whole:
			n, err := o.CountIssuers(o.v.ID)
			if err != nil {
				return err
			}
			if n >= maxIssuers {
				return latchkey.Conflict("TooManyIssuers", "the vault has %d issuers, the most that one may have", maxIssuers)
			}
		case err != nil:
			return err
		}
		if whole {
			created := i.CreatedAt
			i = latchkey.VaultIssuer{Name: name, Enabled: true, CreatedAt: created}
			if isNew {
				i.CreatedAt = o.Now
			}
		}
		set(&i.Provider, u.Provider)
		set(&i.Account, u.Account)
		set(&i.Organization, u.Organization)
		set(&i.Enabled, u.Enabled)
		i.UpdatedAt = o.Now
		if err := i.Validate(); err != nil {
			return err
		}
		var box []byte
		if whole || u.Password != nil {
			password := ""
			if u.Password != nil {
				password = u.Password.Reveal()
			}
			if box, err = b.seal(o.Tx, []byte(password), "vault_issuers", "password", string(o.v.ID), strings.ToLower(name)); err != nil {
				return err
			}
		}
		return o.Tx.SetIssuer(o.v.ID, i, box)
	})
	return i, err
}

// DeleteIssuer removes an issuer.
func (b *Broker) DeleteIssuer(ctx context.Context, who latchkey.Caller, vault, name string) (i latchkey.VaultIssuer, err error) {
	err = b.onIssuer(ctx, who, vault, name, latchkey.VaultDeleteIssuer, latchkey.ActIssuerDelete, func(o *vaultOp) error {
		if i, err = o.Issuer(o.v.ID, name); err != nil {
			return err
		}
		return o.Tx.DeleteIssuer(o.v.ID, name)
	})
	return i, err
}

// onContacts runs an operation on a vault's contacts.
func (b *Broker) onContacts(ctx context.Context, who latchkey.Caller, vault string, audited latchkey.Action, f func(*vaultOp) error) error {
	return b.onVault(ctx, who, vault, latchkey.VaultObject{}, latchkey.VaultWriteContacts, audited, func(o *vaultOp) error {
		if err := f(o); err != nil {
			if errors.Is(err, db.ErrNotFound) {
				return missing(codeContactsNotFound, "the vault %s has no contacts for its certificates", o.v.Name)
			}
			return err
		}
		return o.note(audited, "")
	})
}

// Contacts returns who is told about a vault's certificates.
func (b *Broker) Contacts(ctx context.Context, who latchkey.Caller, vault string) (c []latchkey.CertificateContact, err error) {
	err = b.onContacts(ctx, who, vault, latchkey.ActContactsGet, func(o *vaultOp) error {
		c, err = o.Contacts(o.v.ID)
		return err
	})
	return c, err
}

// SetContacts says who is told about a vault's certificates.
func (b *Broker) SetContacts(ctx context.Context, who latchkey.Caller, vault string, c []latchkey.CertificateContact) error {
	if err := latchkey.CheckContacts(c); err != nil {
		return err
	}
	return b.onContacts(ctx, who, vault, latchkey.ActContactsSet, func(o *vaultOp) error { return o.Tx.SetContacts(o.v.ID, c) })
}

// DeleteContacts removes who is told about a vault's certificates, and returns
// who that was.
func (b *Broker) DeleteContacts(ctx context.Context, who latchkey.Caller, vault string) (c []latchkey.CertificateContact, err error) {
	err = b.onContacts(ctx, who, vault, latchkey.ActContactsDelete, func(o *vaultOp) error {
		if c, err = o.Contacts(o.v.ID); err != nil {
			return err
		}
		return o.Tx.DeleteContacts(o.v.ID)
	})
	return c, err
}

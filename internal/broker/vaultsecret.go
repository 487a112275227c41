package broker

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"latchkey.dev/internal/db"
	"latchkey.dev/latchkey"
)

// secret returns a version of the operation's secret, or its newest. A secret
// that is deleted is not found, unless deleted is what is asked for.
func (o *vaultOp) secret(version string, deleted bool) (db.StoredSecret, error) {
	s, err := o.VaultSecret(o.v.ID, o.object.Name, version)
	if err == nil && (s.DeletedAt != nil) != deleted {
		err = db.ErrNotFound
	}
	s.RetentionDays = o.v.RetentionDays
	if errors.Is(err, db.ErrNotFound) {
		code := codeSecretNotFound
		if deleted {
			code = codeDeletedSecretNotFound
		}
		return s, missing(code, "there is no secret %q in the vault %q", o.object.Name, o.v.Name)
	}
	return s, err
}

// managed returns the refusal of an operation on a certificate's secret, which
// follows its certificate (AKV).
func (o *vaultOp) managed(audited latchkey.Action) error {
	verb := strings.TrimPrefix(string(audited), "secret.")
	return o.refuseWith(audited, o.thing(), &latchkey.Error{
		Kind: latchkey.ErrDenied, Code: codeManaged, Identity: string(o.who.ID),
		Msg: fmt.Sprintf("Operation %s is not allowed on the secret %s, which belongs to the certificate of the same name: do it with the certificate.", verb, o.object.Name),
	})
}

// ownSecret is secret for an operation that is not one of a certificate's secret.
func (o *vaultOp) ownSecret(version string, deleted bool, audited latchkey.Action) (db.StoredSecret, error) {
	s, err := o.secret(version, deleted)
	if err == nil && s.Managed {
		err = o.managed(audited)
	}
	return s, err
}

// sealBinding binds a sealed value to where it is stored.
func sealBinding(v latchkey.VaultID, name, version string) []string {
	return []string{"vault_secret_versions", "value", string(v), strings.ToLower(name), version}
}

// SetSecret stores a new version of a secret.
func (b *Broker) SetSecret(ctx context.Context, who latchkey.Caller, vault, name string, value latchkey.Secret, a latchkey.SecretAttributes) (latchkey.VaultSecret, error) {
	return b.setSecret(ctx, who, vault, name, value, a, true)
}

// CreateSecret is SetSecret for a secret that there is none of yet: a new version of
// one that is there would go to all who use it. It is ErrConflict, code secret-exists,
// if there is one.
func (b *Broker) CreateSecret(ctx context.Context, who latchkey.Caller, vault, name string, value latchkey.Secret, a latchkey.SecretAttributes) (latchkey.VaultSecret, error) {
	return b.setSecret(ctx, who, vault, name, value, a, false)
}

func (b *Broker) setSecret(ctx context.Context, who latchkey.Caller, vault, name string, value latchkey.Secret, a latchkey.SecretAttributes, again bool) (s latchkey.VaultSecret, err error) {
	if err := a.Validate(); err != nil {
		return s, err
	}
	if err := latchkey.CheckSecretValue(value); err != nil {
		return s, latchkey.Invalid("value", "%v", err)
	}
	err = b.onVault(ctx, who, vault, secretObject(name), latchkey.VaultSetSecret, latchkey.ActSecretSet, func(o *vaultOp) error {
		last, err := o.VaultSecret(o.v.ID, name, "")
		switch {
		case errors.Is(err, db.ErrNotFound):
			if err := o.nameIsFree(); err != nil {
				return err
			}
			last = db.StoredSecret{VaultSecret: latchkey.VaultSecret{Name: name}}
		case err != nil:
			return err
		case last.DeletedAt != nil:
			return o.deletedObject(last.Name)
		case !again:
			e := latchkey.Conflict("secret-exists", "the vault %q has a secret %q already; refer to that one, or choose another name", o.v.Name, last.Name)
			e.Fields = []latchkey.FieldError{{Field: "name", Message: "the vault has a secret with this name already; refer to that one, or choose another name"}}
			return e
		case last.Managed:
			return o.managed(latchkey.ActSecretSet)
		case last.Number >= maxVersions:
			return latchkey.Conflict("TooManyVersions", "the secret has %d versions, the most that one may have; delete and purge it, or use another name", maxVersions)
		}
		if a.Tags == nil {
			a.Tags = map[string]string{}
		}
		next := db.StoredSecret{
			VaultSecret: latchkey.VaultSecret{
				Name: last.Name, Version: newVersion(), SecretAttributes: a, CreatedAt: o.Now, UpdatedAt: o.Now,
				PreviousVersion: last.Version, RetentionDays: o.v.RetentionDays,
			},
			Number: last.Number + 1,
		}
		if next.Value, err = b.seal(o.Tx, []byte(value.Reveal()), sealBinding(o.v.ID, next.Name, next.Version)...); err != nil {
			return err
		}
		if err := o.AddSecretVersion(o.v.ID, next); err != nil {
			return err
		}
		s = next.VaultSecret
		return o.note(latchkey.ActSecretSet, s.Version)
	})
	return s, err
}

// Secret returns a version of a secret with its value, or the newest when
// version is "". Only an enabled version has a value to read; its period of
// validity informs only (AKV).
func (b *Broker) Secret(ctx context.Context, who latchkey.Caller, vault, name, version string) (s latchkey.VaultSecret, value latchkey.Secret, err error) {
	var stored db.StoredSecret
	err = b.onVault(ctx, who, vault, secretObject(name), latchkey.VaultGetSecret, latchkey.ActSecretGet, func(o *vaultOp) error {
		if stored, err = o.secret(version, false); err != nil {
			return err
		}
		if !stored.Enabled {
			return o.refuseWith(latchkey.ActSecretGet, o.thing(), &latchkey.Error{
				Kind: latchkey.ErrDenied, Code: codeSecretDisabled, Msg: "Operation get is not allowed on a disabled secret.", Identity: string(who.ID),
			})
		}
		if stored.PreviousVersion, err = o.PreviousVersion(o.v.ID, name, stored.Number); err != nil {
			return err
		}
		s = stored.VaultSecret
		if value, err = b.openSecret(o.v, stored); err != nil {
			return err
		}
		return o.note(latchkey.ActSecretGet, s.Version)
	})
	if err != nil {
		return latchkey.VaultSecret{}, latchkey.Secret{}, err
	}
	return s, value, nil
}

// openSecret returns the value of a stored version.
func (b *Broker) openSecret(v latchkey.EmbeddedVault, s db.StoredSecret) (latchkey.Secret, error) {
	text, err := b.key.Open(s.Value, sealBinding(v.ID, s.Name, s.Version)...)
	if err != nil {
		return latchkey.Secret{}, fmt.Errorf("open version %s of secret %s in vault %s: %w", s.Version, s.Name, v.Name, err)
	}
	return latchkey.NewSecret(string(text)), nil
}

// Secrets lists the newest versions of a vault's secrets, without values.
func (b *Broker) Secrets(ctx context.Context, who latchkey.Caller, vault string, page latchkey.PageOptions) (p latchkey.Page[latchkey.VaultSecret], err error) {
	return b.listSecrets(ctx, who, vault, false, page)
}

// DeletedSecrets lists the secrets of a vault that are deleted and can be
// recovered.
func (b *Broker) DeletedSecrets(ctx context.Context, who latchkey.Caller, vault string, page latchkey.PageOptions) (p latchkey.Page[latchkey.VaultSecret], err error) {
	return b.listSecrets(ctx, who, vault, true, page)
}

func (b *Broker) listSecrets(ctx context.Context, who latchkey.Caller, vault string, deleted bool, page latchkey.PageOptions) (p latchkey.Page[latchkey.VaultSecret], err error) {
	err = b.onVault(ctx, who, vault, secretObject(""), latchkey.VaultReadMetadata, latchkey.ActSecretList, func(o *vaultOp) (err error) {
		if p, err = o.VaultSecrets(o.v.ID, deleted, page); err != nil {
			return err
		}
		o.retain(p.Items)
		return o.note(latchkey.ActSecretList, "")
	})
	return p, err
}

// SecretVersions lists the versions of a secret, oldest first, without values.
func (b *Broker) SecretVersions(ctx context.Context, who latchkey.Caller, vault, name string, page latchkey.PageOptions) (p latchkey.Page[latchkey.VaultSecret], err error) {
	err = b.onVault(ctx, who, vault, secretObject(name), latchkey.VaultReadMetadata, latchkey.ActSecretList, func(o *vaultOp) (err error) {
		if p, err = o.VaultSecretVersions(o.v.ID, name, page); err != nil {
			return err
		}
		o.retain(p.Items)
		return o.note(latchkey.ActSecretList, "")
	})
	return p, err
}

func (o *vaultOp) retain(items []latchkey.VaultSecret) {
	for i := range items {
		items[i].RetentionDays = o.v.RetentionDays
	}
}

// A SecretUpdate changes what is not nil of a version's attributes.
type SecretUpdate struct {
	ContentType *string
	Enabled     *bool
	NotBefore   *time.Time
	Expires     *time.Time
	Tags        *map[string]string
}

// UpdateSecret changes the attributes of a version of a secret, or of its
// newest when version is "". The value of a version never changes.
func (b *Broker) UpdateSecret(ctx context.Context, who latchkey.Caller, vault, name, version string, u SecretUpdate) (s latchkey.VaultSecret, err error) {
	err = b.onVault(ctx, who, vault, secretObject(name), latchkey.VaultUpdateSecret, latchkey.ActSecretUpdate, func(o *vaultOp) error {
		stored, err := o.ownSecret(version, false, latchkey.ActSecretUpdate)
		if err != nil {
			return err
		}
		set(&stored.ContentType, u.ContentType)
		set(&stored.Enabled, u.Enabled)
		set(&stored.Tags, u.Tags)
		if u.NotBefore != nil {
			stored.NotBefore = u.NotBefore
		}
		if u.Expires != nil {
			stored.Expires = u.Expires
		}
		if err := stored.SecretAttributes.Validate(); err != nil {
			return err
		}
		stored.UpdatedAt = o.Now
		if err := o.UpdateSecretVersion(o.v.ID, stored); err != nil {
			return err
		}
		s = stored.VaultSecret
		return o.note(latchkey.ActSecretUpdate, s.Version)
	})
	return s, err
}

// DeleteSecret deletes a secret with all its versions. It can be recovered until
// the vault's retention has passed.
func (b *Broker) DeleteSecret(ctx context.Context, who latchkey.Caller, vault, name string) (s latchkey.VaultSecret, err error) {
	err = b.onVault(ctx, who, vault, secretObject(name), latchkey.VaultDeleteSecret, latchkey.ActSecretDelete, func(o *vaultOp) error {
		stored, err := o.ownSecret("", false, latchkey.ActSecretDelete)
		if err != nil {
			return err
		}
		purgeAt := o.Now.AddDate(0, 0, o.v.RetentionDays)
		if err := o.SetSecretDeleted(o.v.ID, name, &purgeAt); err != nil {
			return err
		}
		stored.DeletedAt, stored.PurgeAt = &o.Now, &purgeAt
		s = stored.VaultSecret
		return o.note(latchkey.ActSecretDelete, "")
	})
	return s, err
}

// DeletedSecret returns a deleted secret without its value.
func (b *Broker) DeletedSecret(ctx context.Context, who latchkey.Caller, vault, name string) (s latchkey.VaultSecret, err error) {
	err = b.onVault(ctx, who, vault, secretObject(name), latchkey.VaultReadMetadata, latchkey.ActSecretList, func(o *vaultOp) error {
		stored, err := o.secret("", true)
		if err != nil {
			return err
		}
		s = stored.VaultSecret
		return o.note(latchkey.ActSecretList, "")
	})
	return s, err
}

// RecoverSecret makes a deleted secret one that is not.
func (b *Broker) RecoverSecret(ctx context.Context, who latchkey.Caller, vault, name string) (s latchkey.VaultSecret, err error) {
	err = b.onVault(ctx, who, vault, secretObject(name), latchkey.VaultRecoverSecret, latchkey.ActSecretRecover, func(o *vaultOp) error {
		stored, err := o.ownSecret("", true, latchkey.ActSecretRecover)
		if err != nil {
			return err
		}
		if err := o.SetSecretDeleted(o.v.ID, name, nil); err != nil {
			return err
		}
		stored.DeletedAt, stored.PurgeAt = nil, nil
		s = stored.VaultSecret
		return o.note(latchkey.ActSecretRecover, "")
	})
	return s, err
}

// PurgeSecret removes a deleted secret for good.
func (b *Broker) PurgeSecret(ctx context.Context, who latchkey.Caller, vault, name string) error {
	return b.onVault(ctx, who, vault, secretObject(name), latchkey.VaultPurgeSecret, latchkey.ActSecretPurge, func(o *vaultOp) error {
		if _, err := o.ownSecret("", true, latchkey.ActSecretPurge); err != nil {
			return err
		}
		if err := o.PurgeSecret(o.v.ID, name); err != nil {
			return err
		}
		return o.note(latchkey.ActSecretPurge, "")
	})
}

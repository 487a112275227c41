package broker

import (
	"context"
	"errors"
	"time"

	"latchkey.dev/internal/db"
	"latchkey.dev/internal/seal"
	"latchkey.dev/latchkey"
)

// prefixSetup is what setup links begin with.
const prefixSetup = "lki"

// SetupLink returns the code of a link by which whoever has it makes an account that
// is tenant admin, once, within latchkey.SignInLinkTTL; for whoever holds the data
// folder. Earlier ones count no more.
func (b *Broker) SetupLink(ctx context.Context) (code string, expires time.Time, err error) {
	err = b.update(ctx, localAdministration, func(o *op) error {
		if _, err := o.RevokeSignIns(latchkey.ServiceIdentity, ""); err != nil {
			return err
		}
		t, err := o.issue(latchkey.ServiceIdentity, db.TokenSetup, prefixSetup, "setup link", latchkey.SignInLinkTTL)
		if err != nil {
			return err
		}
		code, expires = t.Value, t.ExpiresAt
		return o.record(latchkey.ActTokenCreate, tokenThing(t.Token), map[string]string{"expiresAt": expires.Format(time.RFC3339)})
	})
	if err != nil {
		return "", time.Time{}, err
	}
	return code, expires, nil
}

// SetUp uses a setup link up: it makes the account, a tenant admin, and returns a
// session of it. An account with the login is taken for it as long as nobody can sign
// in with it: the one that the first start has made for programs. It returns
// ErrUnauthenticated, code link-invalid, when the link does not count.
func (b *Broker) SetUp(ctx context.Context, code string, c latchkey.UserCreate, from Visitor) (session latchkey.NewToken, err error) {
	const remedy = "print another on the server's machine with latchkey admin setup-link"
	invalid := unauthenticated("link-invalid", "the setup link does not exist, was used already, or has expired", remedy)
	c.TenantAdmin, from.Browser = true, true
	if !isToken(code, prefixSetup) {
		return session, invalid
	}
	look := func(tx *db.Tx) (db.HeldToken, error) {
		t, err := tx.HeldToken(seal.HashToken(code))
		if errors.Is(err, db.ErrNotFound) || err == nil && (t.Kind != db.TokenSetup || t.Revoked || !t.ExpiresAt.After(tx.Now)) {
			err = invalid
		}
		return t, err
	}
	// Passwords are hashed for those who have a link.
	if err := b.db.View(ctx, func(tx *db.Tx) error { _, err := look(tx); return err }); err != nil {
		return session, err
	}
	if err := c.Validate(); err != nil {
		return session, err
	}
	hash := ""
	if c.Password != nil {
		if hash, err = b.newPassword(ctx, *c.Password); err != nil {
			return session, err
		}
	}
	err = b.db.Update(ctx, func(tx *db.Tx) error {
		t, err := look(tx)
		if err != nil {
			return err
		}
		own := localAdministration
		own.Address = from.Address
		o := &op{tx, own}
		if _, err := tx.RevokeToken(t.Holder.ID, t.ID); err != nil {
			return err
		}
		u, err := o.firstPerson(c, hash)
		if err != nil {
			return err
		}
		session, err = b.begin(o, db.Principal{ID: u.ID, Kind: latchkey.PrincipalUser, Name: u.DisplayName}, u.Login, from, "setup", nil)
		return err
	})
	if err != nil {
		return latchkey.NewToken{}, err
	}
	b.counts.SignIns.Add(1)
	return session, nil
}

// firstPerson returns the account that a setup link makes.
func (o *op) firstPerson(c latchkey.UserCreate, passwordHash string) (latchkey.User, error) {
	a, err := o.Account(c.Login)
	if errors.Is(err, db.ErrNotFound) {
		return o.createUser(c, passwordHash)
	}
	if err != nil {
		return latchkey.User{}, err
	}
	was, err := o.User(string(a.ID))
	if err != nil {
		return was, err
	}
	keys, err := o.Passkeys(a.ID)
	if err != nil {
		return was, err
	}
	if a.PasswordHash != "" || len(keys) > 0 || len(was.ExternalIdentities) > 0 || !was.TenantAdmin {
		return o.createUser(c, passwordHash) // says that the login is taken
	}
	now, details := was, map[string]string{}
	now.DisplayName, now.Disabled = c.DisplayName, false
	if passwordHash != "" {
		if err := o.SetPassword(was.ID, passwordHash); err != nil {
			return now, err
		}
		details["password"] = "changed"
	}
	return now, o.changeUser(was, now, details, func() error { return o.UpdateUser(now) })
}

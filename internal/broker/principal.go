package broker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"latchkey.dev/internal/db"
	"latchkey.dev/latchkey"
)

func userThing(u latchkey.User) thing {
	return thing{latchkey.KindUser, "", string(u.ID), u.Login, latchkey.ActUserRead}
}

// tenantThing is the installation, on which users are made.
var tenantThing = thing{kind: latchkey.KindTenant, name: "this installation"}

// user returns the user with an id or a login, if the caller may see it: users
// see themselves.
func (o *op) user(ref string) (latchkey.User, error) {
	access, err := o.Access(o.who.ID, "", "")
	if err != nil {
		return latchkey.User{}, err
	}
	if !access.Can(latchkey.ActUserRead) {
		// See op.seen: nobody else's account is looked up.
		me, err := o.User(string(o.who.ID))
		if err == nil && !strings.EqualFold(ref, string(me.ID)) && !strings.EqualFold(ref, me.Login) {
			err = db.ErrNotFound
		}
		return me, found(err, latchkey.KindUser)
	}
	u, err := o.User(ref)
	return u, found(err, latchkey.KindUser)
}

// Me returns the caller's own account. A caller who is no user has none, which
// is ErrNotFound.
func (b *Broker) Me(ctx context.Context, who latchkey.Caller) (latchkey.User, error) {
	return b.User(ctx, who, string(who.ID))
}

// User returns the user with an id or a login. Who is no tenant admin sees only
// itself.
func (b *Broker) User(ctx context.Context, who latchkey.Caller, ref string) (u latchkey.User, err error) {
	err = b.view(ctx, who, func(o *op) (err error) {
		u, err = o.user(ref)
		return err
	})
	if err != nil {
		return latchkey.User{}, err
	}
	return u, nil
}

// Users lists the users that the caller may see, by display name.
func (b *Broker) Users(ctx context.Context, who latchkey.Caller, page latchkey.PageOptions) (p latchkey.Page[latchkey.User], err error) {
	if err := page.Validate(); err != nil {
		return p, err
	}
	err = b.view(ctx, who, func(o *op) error {
		access, err := o.Access(who.ID, "", "")
		if err != nil {
			return err
		}
		only := who.ID
		if access.Can(latchkey.ActUserRead) {
			only = ""
		}
		p, err = o.Users(only, page)
		return err
	})
	return p, err
}

// CreateUser makes a local account.
func (b *Broker) CreateUser(ctx context.Context, who latchkey.Caller, c latchkey.UserCreate) (u latchkey.User, err error) {
	if err := c.Validate(); err != nil {
		return u, err
	}
	hash := ""
	if c.Password != nil {
		// A hash is costly: it is made only for those who may have it, and
		// outside of the transaction.
		if err := b.view(ctx, who, func(o *op) error { return o.allow(latchkey.ActUserCreate, tenantThing) }); err != nil {
			return u, err
		}
		if hash, err = b.newPassword(ctx, *c.Password); err != nil {
			return u, err
		}
	}
	err = b.update(ctx, who, func(o *op) (err error) {
		if err := o.allow(latchkey.ActUserCreate, tenantThing); err != nil {
			return err
		}
		u, err = o.createUser(c, hash)
		return err
	})
	if err != nil {
		return latchkey.User{}, err
	}
	return u, nil
}

// createUser stores and records a new user.
func (o *op) createUser(c latchkey.UserCreate, passwordHash string) (latchkey.User, error) {
	u := latchkey.User{
		ID: latchkey.PrincipalID(latchkey.NewID("user", o.Now)), Login: c.Login, DisplayName: c.DisplayName, TenantAdmin: c.TenantAdmin,
		ExternalIdentities: []latchkey.ExternalIdentity{}, CreatedAt: o.Now, UpdatedAt: o.Now,
	}
	if err := o.CreateUser(u, passwordHash); err != nil {
		if errors.Is(err, db.ErrExists) {
			e := latchkey.Conflict("name-taken", "there is a user with this login already")
			e.Fields = []latchkey.FieldError{{Field: "login", Message: "is taken; choose another"}}
			return u, e
		}
		return u, err
	}
	return u, o.record(latchkey.ActUserCreate, userThing(u), map[string]string{
		"tenantAdmin": strconv.FormatBool(u.TenantAdmin), "password": strconv.FormatBool(passwordHash != ""),
	})
}

// UpdateUser changes what u sets. Users change their own display name and
// password; the rest is for tenant admins. A new password ends what signing in
// gave the account, but for the session that asks for it, and whoever is disabled can do nothing from then on. The
// last enabled tenant admin stays one.
func (b *Broker) UpdateUser(ctx context.Context, who latchkey.Caller, ref string, u latchkey.UserUpdate) (user latchkey.User, err error) {
	if err := u.Validate(); err != nil {
		return user, err
	}
	hash := ""
	if u.Password != nil {
		// As in CreateUser.
		if err := b.mayChangePassword(ctx, who, ref, u); err != nil {
			return user, err
		}
		if hash, err = b.newPassword(ctx, *u.Password); err != nil {
			return user, err
		}
	}
	err = b.update(ctx, who, func(o *op) error {
		was, err := o.editableUser(ref, u)
		if err != nil {
			return err
		}
		user, err = o.updateUser(was, u, hash)
		return err
	})
	if err != nil {
		return latchkey.User{}, err
	}
	return user, nil
}

// mayChangePassword returns nil if the caller may give an account a new
// password: a tenant admin may, and everybody their own, who proves to know the
// one before, so that a stolen token is not enough.
func (b *Broker) mayChangePassword(ctx context.Context, who latchkey.Caller, ref string, u latchkey.UserUpdate) error {
	var account db.Account
	err := b.view(ctx, who, func(o *op) error {
		user, err := o.editableUser(ref, u)
		if err != nil || user.ID != who.ID {
			return err
		}
		account, err = o.Account(user.Login)
		return err
	})
	if err != nil || account.PasswordHash == "" {
		return err
	}
	if u.CurrentPassword == nil {
		return latchkey.Invalid("currentPassword", "must be given for a new password of one's own account")
	}
	release, err := b.passwordSlot(ctx)
	if err != nil {
		return err
	}
	defer release()
	right, _, err := checkPassword(account.PasswordHash, latchkey.NewSecret(*u.CurrentPassword))
	if err == nil && !right {
		err = latchkey.Invalid("currentPassword", "is not the account's password")
	}
	return err
}

// editableUser returns the user with an id or a login, if the caller may see it
// and make the change u.
func (o *op) editableUser(ref string, u latchkey.UserUpdate) (latchkey.User, error) {
	user, err := o.user(ref)
	if err != nil {
		return user, err
	}
	t := userThing(user)
	if user.ID == o.who.ID {
		if u.TenantAdmin == nil && u.Disabled == nil && u.ExternalIdentities == nil {
			_, err := o.self()
			return user, err
		}
		t.read = "" // one sees oneself: what is not allowed is refused
	}
	return user, o.allow(latchkey.ActUserUpdate, t)
}

// updateUser makes the change u, with the hash of the new password if it has
// one.
func (o *op) updateUser(was latchkey.User, u latchkey.UserUpdate, passwordHash string) (latchkey.User, error) {
	now := was
	if u.DisplayName != nil {
		now.DisplayName = *u.DisplayName
	}
	if u.TenantAdmin != nil {
		now.TenantAdmin = *u.TenantAdmin
	}
	if u.Disabled != nil {
		now.Disabled = *u.Disabled
	}
	details := map[string]string{}
	if u.ExternalIdentities != nil {
		if err := o.setIdentities(was, *u.ExternalIdentities); err != nil {
			return now, err
		}
		details["externalIdentities"] = strconv.Itoa(len(*u.ExternalIdentities))
	}
	if passwordHash != "" {
		if err := o.SetPassword(was.ID, passwordHash); err != nil {
			return now, err
		}
		if err := o.SetSignInFailures(was.Login, db.Failures{}); err != nil {
			return now, err
		}
		// The session that has asked for it goes on, with a new token.
		n, err := o.RevokeSignIns(was.ID, o.who.Token)
		if err != nil {
			return now, err
		}
		if err := o.RotateSoon(was.ID); err != nil {
			return now, err
		}
		details["password"], details["endedSessions"] = "changed", strconv.FormatInt(n, 10)
	}
	change := func() error { return o.UpdateUser(now) }
	if now.Disabled && !was.Disabled {
		store := change
		change = func() error { return o.disabling(u.Force, details, store) }
	}
	if err := o.changeUser(was, now, details, change); err != nil {
		return now, err
	}
	return o.User(string(was.ID))
}

// changeUser stores, by change, and records what differs between two states of a user.
func (o *op) changeUser(was, now latchkey.User, details map[string]string, change func() error) error {
	if err := change(); err != nil {
		return err
	}
	if was.DisplayName != now.DisplayName {
		details["displayName"] = now.DisplayName
	}
	if was.TenantAdmin != now.TenantAdmin {
		details["tenantAdmin"] = strconv.FormatBool(now.TenantAdmin)
	}
	if was.Disabled != now.Disabled {
		details["disabled"] = strconv.FormatBool(now.Disabled)
	}
	if was.TenantAdmin != now.TenantAdmin || was.Disabled != now.Disabled {
		n, err := o.TenantAdminCount()
		if err != nil {
			return err
		}
		if n == 0 {
			return latchkey.Conflict("last-admin", "the installation would be left without an enabled tenant admin; make somebody else one first")
		}
	}
	return o.record(latchkey.ActUserUpdate, userThing(now), details)
}

// setIdentities stores who a user is in other directories. The caller is a
// tenant admin, who may know whom an identity belongs to.
func (o *op) setIdentities(u latchkey.User, identities []latchkey.ExternalIdentity) error {
	for i, e := range identities {
		if slices.Contains(identities[:i], e) {
			return latchkey.Invalid("externalIdentities", "must not name one identity twice")
		}
		p, err := o.PrincipalOf(e)
		if errors.Is(err, db.ErrNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		if p.ID != u.ID {
			c := latchkey.Conflict("identity-taken", "the external identity number %d belongs to the %s %q (%s); take it away from there first",
				i+1, p.Kind, p.Name, p.ID)
			c.Fields = []latchkey.FieldError{{Field: fmt.Sprintf("externalIdentities[%d]", i), Message: "belongs to another principal"}}
			return c
		}
	}
	if err := o.SetExternalIdentities(u.ID, identities); err != nil {
		return err
	}
	for _, e := range u.ExternalIdentities {
		if !slices.Contains(identities, e) {
			if err := o.record(latchkey.ActIdentityRemove, userThing(u), identityDetails(e)); err != nil {
				return err
			}
		}
	}
	for _, e := range identities {
		if !slices.Contains(u.ExternalIdentities, e) {
			if err := o.record(latchkey.ActIdentityAdd, userThing(u), identityDetails(e)); err != nil {
				return err
			}
		}
	}
	return nil
}

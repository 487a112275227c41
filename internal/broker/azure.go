package broker

import (
	"context"
	"errors"
	"strings"

	"latchkey.dev/internal/db"
	"latchkey.dev/latchkey"
)

func azureTenantThing(id string) thing {
	return thing{kind: latchkey.KindAzureTenant, id: id, name: id, read: latchkey.ActAzureTenantRead}
}

// AzureTenants lists the tenants of Azure that are linked, for tenant admins.
func (b *Broker) AzureTenants(ctx context.Context, who latchkey.Caller, page latchkey.PageOptions) (p latchkey.Page[latchkey.AzureTenant], err error) {
	err = b.view(ctx, who, func(o *op) error {
		if err := o.allow(latchkey.ActAzureTenantRead, tenantThing); err != nil {
			return err
		}
		p, err = o.AzureTenants(page)
		return err
	})
	return p, err
}

// LinkAzureTenant has vaults of a tenant of Azure be read from now on. References to
// vaults in Azure whose check has not passed are checked anew.
func (b *Broker) LinkAzureTenant(ctx context.Context, who latchkey.Caller, l latchkey.AzureTenantLink) (t latchkey.AzureTenant, err error) {
	if err := l.Validate(); err != nil {
		return t, err
	}
	err = b.update(ctx, who, func(o *op) error {
		thing := azureTenantThing(l.ID)
		thing.read = "" // who may not link is told so
		if err := o.allow(latchkey.ActAzureTenantLink, thing); err != nil {
			return err
		}
		t = latchkey.AzureTenant{ID: l.ID, LinkedBy: who.ID, LinkedAt: o.Now}
		if err := o.LinkAzureTenant(t); err != nil {
			if errors.Is(err, db.ErrExists) {
				err = latchkey.Conflict("exists", "the Azure tenant %s is linked already", l.ID)
			}
			return err
		}
		if err := o.RestartAzureChecks("", false); err != nil {
			return err
		}
		return o.record(latchkey.ActAzureTenantLink, thing, nil)
	})
	if err == nil {
		b.wakeChecks()
	}
	return t, err
}

// UnlinkAzureTenant ends it: vaults of the tenant are read no more, at once. Which
// vaults those are only they say, so every reference to one in Azure is checked anew.
func (b *Broker) UnlinkAzureTenant(ctx context.Context, who latchkey.Caller, id string) error {
	err := b.update(ctx, who, func(o *op) error {
		t := azureTenantThing(strings.ToLower(id))
		if err := o.allow(latchkey.ActAzureTenantUnlink, t); err != nil {
			return err
		}
		if err := o.UnlinkAzureTenant(t.id); err != nil {
			return found(err, latchkey.KindAzureTenant)
		}
		if err := o.RestartAzureChecks("", true); err != nil {
			return err
		}
		return o.record(latchkey.ActAzureTenantUnlink, t, nil)
	})
	if err == nil {
		b.wakeChecks()
	}
	return err
}

// LinkedAzureTenants returns the ids of the tenants of Azure that are linked. It is
// for readers in this process, which ask before they send a token.
func (b *Broker) LinkedAzureTenants(ctx context.Context) (ids []string, err error) {
	err = b.db.View(ctx, func(tx *db.Tx) error {
		ids, err = tx.LinkedAzureTenants()
		return err
	})
	return ids, err
}

// AddIdentity says who a user is in another directory. An identity is one
// principal's at most. References to vaults in Azure that the user saved and whose
// check has not passed are checked anew.
func (b *Broker) AddIdentity(ctx context.Context, who latchkey.Caller, ref string, e latchkey.ExternalIdentity) (latchkey.ExternalIdentity, error) {
	if err := e.Validate(); err != nil {
		return e, err
	}
	err := b.update(ctx, who, func(o *op) error {
		u, err := o.identityKeeper(ref, latchkey.ActIdentityAdd)
		if err != nil {
			return err
		}
		if len(u.ExternalIdentities) >= latchkey.MaxIdentities {
			return latchkey.Conflict("too-many", "the user has %d external identities, and more are not kept; remove one first", len(u.ExternalIdentities))
		}
		p, err := o.PrincipalOf(e)
		switch {
		case err == nil:
			return latchkey.Conflict("identity-taken", "the external identity belongs to the %s %q (%s); take it away from there first", p.Kind, p.Name, p.ID)
		case !errors.Is(err, db.ErrNotFound):
			return err
		}
		if err := o.AddExternalIdentity(u.ID, e); err != nil {
			return err
		}
		if err := o.RestartAzureChecks(u.ID, false); err != nil {
			return err
		}
		return o.record(latchkey.ActIdentityAdd, userThing(u), identityDetails(e))
	})
	if err == nil {
		b.wakeChecks()
	}
	return e, err
}

// RemoveIdentity takes away what AddIdentity said. All references to vaults in Azure
// that the user saved are checked anew.
func (b *Broker) RemoveIdentity(ctx context.Context, who latchkey.Caller, ref string, e latchkey.ExternalIdentity) error {
	if err := e.Validate(); err != nil {
		return err
	}
	err := b.update(ctx, who, func(o *op) error {
		u, err := o.identityKeeper(ref, latchkey.ActIdentityRemove)
		if err != nil {
			return err
		}
		if err := o.RemoveExternalIdentity(u.ID, e); err != nil {
			return found(err, latchkey.KindIdentity)
		}
		if err := o.RestartAzureChecks(u.ID, true); err != nil {
			return err
		}
		return o.record(latchkey.ActIdentityRemove, userThing(u), identityDetails(e))
	})
	if err == nil {
		b.wakeChecks()
	}
	return err
}

// identityKeeper returns a user if the caller may change who it is elsewhere. Nobody
// may say that of themselves.
func (o *op) identityKeeper(ref string, action latchkey.Action) (latchkey.User, error) {
	u, err := o.user(ref)
	if err != nil {
		return u, err
	}
	t := userThing(u)
	if u.ID == o.who.ID {
		return u, o.refuse(action, t, "not-authorized", "somebody else has to say so: it takes another tenant admin")
	}
	return u, o.allow(action, t)
}

func identityDetails(e latchkey.ExternalIdentity) map[string]string {
	return map[string]string{"issuer": e.Issuer, "tenant": e.Tenant, "objectId": e.ObjectID}
}

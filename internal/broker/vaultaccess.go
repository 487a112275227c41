package broker

import (
	"context"

	"latchkey.dev/latchkey"
)

// VaultResource returns an embedded vault by its ARM id, to whoever may see it and
// to the service itself, which has to find a vault to say what it lacks there.
func (b *Broker) VaultResource(ctx context.Context, who latchkey.Caller, ref latchkey.VaultReference) (v latchkey.EmbeddedVault, err error) {
	err = b.view(ctx, who, func(o *op) (err error) {
		v, err = o.vaultResource(ref)
		return err
	})
	return v, err
}

func (o *op) vaultResource(ref latchkey.VaultReference) (latchkey.EmbeddedVault, error) {
	v, err := o.VaultByReference(ref)
	if err != nil {
		return v, found(err, latchkey.KindVault)
	}
	if o.who.ID == latchkey.ServiceIdentity {
		return v, nil
	}
	v, _, err = o.vault(v.Name)
	return v, err
}

// VaultSubscription reports whether an embedded vault that the caller may see is in
// a subscription, which is given by its id.
func (b *Broker) VaultSubscription(ctx context.Context, who latchkey.Caller, subscription string) (known bool, err error) {
	err = b.view(ctx, who, func(o *op) error {
		access, err := o.Access(who.ID, "", "")
		if err != nil {
			return err
		}
		known, err = o.SubscriptionUsed(who.ID, access.Can(latchkey.ActVaultRead) || who.ID == latchkey.ServiceIdentity, subscription)
		return err
	})
	return known, err
}

// VaultAssignments returns the role assignments of an embedded vault that hold for
// an object in it, or for the vault itself: those of a principal and its groups, or
// all if assignee is "". One sees one's own; the service, the vault's administrators
// and tenant admins see those of others.
func (b *Broker) VaultAssignments(ctx context.Context, who latchkey.Caller, ref latchkey.VaultReference, object latchkey.VaultObject, assignee latchkey.PrincipalID) (all []latchkey.RoleAssignment, err error) {
	err = b.view(ctx, who, func(o *op) error {
		v, err := o.vaultResource(ref)
		if err != nil {
			return err
		}
		if who.ID != assignee && who.ID != latchkey.ServiceIdentity {
			if _, err := o.roleKeeper(v.Name, latchkey.ActVaultRead); err != nil {
				return err
			}
		}
		all, err = o.AssignmentsOf(v.ID, object, assignee)
		return err
	})
	return all, err
}

// OwnVaultRoles returns the role assignments that the caller has in an embedded vault,
// or on an object in it, by itself or by a group.
func (b *Broker) OwnVaultRoles(ctx context.Context, who latchkey.Caller, vault string) (all []latchkey.RoleAssignment, err error) {
	err = b.view(ctx, who, func(o *op) error {
		v, _, err := o.vault(vault)
		if err != nil {
			return err
		}
		all, err = o.OwnAssignments(v.ID, who.ID)
		return err
	})
	return all, err
}

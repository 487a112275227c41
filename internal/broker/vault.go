package broker

import (
	"context"
	"errors"
	"slices"

	"latchkey.dev/internal/db"
	"latchkey.dev/latchkey"
)

func vaultThing(v latchkey.EmbeddedVault) thing {
	return thing{kind: latchkey.KindVault, id: string(v.ID), name: v.Name, read: latchkey.ActVaultRead}
}

// vault returns an embedded vault if the caller may see it: tenant admins may,
// and whoever has a role in it.
func (o *op) vault(name string) (latchkey.EmbeddedVault, latchkey.Access, error) {
	access, err := o.Access(o.who.ID, "", "")
	if err != nil {
		return latchkey.EmbeddedVault{}, access, err
	}
	v, err := o.Vault(name)
	if access.Can(latchkey.ActVaultRead) {
		return v, access, found(err, latchkey.KindVault)
	}
	if err != nil && !errors.Is(err, db.ErrNotFound) {
		return v, access, err
	}
	// Of no vault nobody has a role: see op.seen for why that is asked for.
	roles, err := o.AnyVaultRoles(o.who.ID, v.ID)
	if err == nil && len(roles) == 0 {
		err = latchkey.NotFound(latchkey.KindVault)
	}
	return v, access, err
}

// Vault returns an embedded vault.
func (b *Broker) Vault(ctx context.Context, who latchkey.Caller, name string) (v latchkey.EmbeddedVault, err error) {
	err = b.view(ctx, who, func(o *op) (err error) {
		v, _, err = o.vault(name)
		v.URL = b.vaultURL(v.Name)
		return err
	})
	return v, err
}

// Vaults lists the embedded vaults that the caller may see.
func (b *Broker) Vaults(ctx context.Context, who latchkey.Caller, page latchkey.PageOptions) (p latchkey.Page[latchkey.EmbeddedVault], err error) {
	if err := page.Validate(); err != nil {
		return p, err
	}
	err = b.view(ctx, who, func(o *op) error {
		access, err := o.Access(who.ID, "", "")
		if err != nil {
			return err
		}
		if p, err = o.Vaults(who.ID, access.Can(latchkey.ActVaultRead), page); err != nil {
			return err
		}
		for i := range p.Items {
			p.Items[i].URL = b.vaultURL(p.Items[i].Name)
		}
		return nil
	})
	return p, err
}

// CreateVault makes an embedded vault. The caller becomes its administrator and
// the service may read its secrets, both by role assignments that are on
// record like any other.
func (b *Broker) CreateVault(ctx context.Context, who latchkey.Caller, c latchkey.EmbeddedVaultCreate) (v latchkey.EmbeddedVault, err error) {
	if err := c.Validate(b.subscription); err != nil {
		return v, err
	}
	err = b.update(ctx, who, func(o *op) error {
		if err := o.allow(latchkey.ActVaultCreate, tenantThing); err != nil {
			return err
		}
		v = latchkey.EmbeddedVault{
			ID: latchkey.VaultID(latchkey.NewID("vault", o.Now)), Name: c.Name, SubscriptionID: c.SubscriptionID, ResourceGroup: c.ResourceGroup,
			URL: b.vaultURL(c.Name), RetentionDays: c.RetentionDays, CreatedBy: who.ID, CreatedAt: o.Now,
		}
		v.ARMID = v.Reference().String()
		if _, err := o.Vault(v.Name); err == nil {
			return taken(db.ErrExists, "there is a vault with this name already")
		} else if !errors.Is(err, db.ErrNotFound) {
			return err
		}
		inForce, err := o.VaultInForce(v.Reference())
		if err != nil {
			return err
		}
		if inForce {
			return latchkey.Conflict("in-use", "references to a vault of Azure with this ARM id are in force, and would read this one instead; choose another name, subscription or resource group")
		}
		if err := o.CreateVault(v); err != nil {
			return taken(err, "there is a vault with this name already")
		}
		if err := o.record(latchkey.ActVaultCreate, vaultThing(v), map[string]string{"armId": v.ARMID}); err != nil {
			return err
		}
		for _, a := range []latchkey.RoleAssignment{
			{Principal: who.ID, PrincipalName: who.Name, Role: latchkey.VaultAdministrator},
			{Principal: latchkey.ServiceIdentity, PrincipalName: latchkey.ServiceIdentityName, Role: latchkey.VaultSecretsUser},
		} {
			if _, err := o.assign(v, a); err != nil {
				return err
			}
		}
		return nil
	})
	return v, err
}

// DeleteVault deletes an embedded vault that has no secrets and certificates and
// that no variable refers to.
func (b *Broker) DeleteVault(ctx context.Context, who latchkey.Caller, name string) error {
	return b.update(ctx, who, func(o *op) error {
		v, access, err := o.vault(name)
		if err != nil {
			return err
		}
		if !access.Can(latchkey.ActVaultDelete) {
			return o.refuse(latchkey.ActVaultDelete, vaultThing(v), "not-authorized", need(latchkey.ActVaultDelete))
		}
		secrets, certificates, variables, err := o.VaultUse(v)
		if err != nil {
			return err
		}
		if secrets > 0 || certificates > 0 || variables > 0 {
			return latchkey.Conflict("in-use", "the vault has %s and %s, deleted ones included, and %s to it; delete and purge what is in it and change the references",
				count(secrets, "secret"), count(certificates, "certificate"), count(variables, "reference"))
		}
		if err := o.DeleteVault(v.ID); err != nil {
			return err
		}
		return o.record(latchkey.ActVaultDelete, vaultThing(v), nil)
	})
}

// embeddedVault returns the embedded vault that a reference names: the one whose
// whole ARM id is the reference's. Any other reference is Azure's.
func embeddedVault(tx *db.Tx, ref latchkey.VaultReference) (latchkey.EmbeddedVault, bool, error) {
	v, err := tx.VaultByReference(ref)
	if errors.Is(err, db.ErrNotFound) {
		return v, false, nil
	}
	return v, err == nil, err
}

// secretObject names a secret in a vault.
func secretObject(name string) latchkey.VaultObject {
	return latchkey.VaultObject{In: latchkey.VaultSecrets, Name: name}
}

// vaultCan reports whether a principal may do a data action on an object in an
// embedded vault.
func (o *op) vaultCan(who latchkey.PrincipalID, v latchkey.EmbeddedVault, object latchkey.VaultObject, a latchkey.VaultAction) (bool, error) {
	roles, err := o.VaultRoles(who, v.ID, object)
	return slices.ContainsFunc(roles, func(r latchkey.VaultRole) bool { return r.Allows(a) }), err
}

// RoleAssignments lists the role assignments of an embedded vault.
func (b *Broker) RoleAssignments(ctx context.Context, who latchkey.Caller, vault string, page latchkey.PageOptions) (p latchkey.Page[latchkey.RoleAssignment], err error) {
	err = b.view(ctx, who, func(o *op) error {
		v, err := o.roleKeeper(vault, latchkey.ActVaultRead)
		if err != nil {
			return err
		}
		p, err = o.RoleAssignments(v.ID, page)
		return err
	})
	return p, err
}

// roleKeeper returns a vault whose roles the caller may see and change: its
// administrators may, and tenant admins, so that a vault without an
// administrator is not lost. What they do is on record.
func (o *op) roleKeeper(vault string, action latchkey.Action) (latchkey.EmbeddedVault, error) {
	v, access, err := o.vault(vault)
	if err != nil || access.Tenant {
		return v, err
	}
	roles, err := o.VaultRoles(o.who.ID, v.ID, latchkey.VaultObject{})
	if err != nil {
		return v, err
	}
	if !slices.Contains(roles, latchkey.VaultAdministrator) {
		return v, o.refuse(action, vaultThing(v), "not-authorized", "it takes the role "+string(latchkey.VaultAdministrator)+" in the vault, or being a tenant admin")
	}
	return v, nil
}

// IsCursor reports whether s could be the Next of a page: faces whose protocol
// refuses others ask it.
func IsCursor(s string) bool { return db.IsCursor(s) }

// AssignRole gives a principal a role in an embedded vault or on one object in it.
func (b *Broker) AssignRole(ctx context.Context, who latchkey.Caller, vault string, c latchkey.RoleAssignmentCreate) (a latchkey.RoleAssignment, err error) {
	if err := c.Validate(); err != nil {
		return a, err
	}
	err = b.update(ctx, who, func(o *op) error {
		v, err := o.roleKeeper(vault, latchkey.ActVaultAssign)
		if err != nil {
			return err
		}
		p, err := o.principal(string(c.Principal))
		if err != nil {
			return asField(err, "principal", "there is no such user, group or service principal")
		}
		a = latchkey.RoleAssignment{Principal: p.ID, PrincipalName: p.Name, Role: c.Role}
		a.LimitTo(c.Object())
		a, err = o.assign(v, a)
		return err
	})
	return a, err
}

// assign stores a role assignment and records it.
func (o *op) assign(v latchkey.EmbeddedVault, a latchkey.RoleAssignment) (latchkey.RoleAssignment, error) {
	a.ID, a.CreatedBy, a.CreatedAt = latchkey.RoleAssignmentID(latchkey.NewID("ra", o.Now)), o.who.ID, o.Now
	if err := o.CreateRoleAssignment(v.ID, a); err != nil {
		if errors.Is(err, db.ErrExists) {
			err = latchkey.Conflict("exists", "%s has this role there already", a.PrincipalName)
		}
		return a, err
	}
	return a, o.record(latchkey.ActVaultAssign, vaultThing(v), assignmentDetails(a))
}

func assignmentDetails(a latchkey.RoleAssignment) map[string]string {
	return map[string]string{"principal": string(a.Principal), "name": a.PrincipalName, "role": string(a.Role), "object": a.Object().String()}
}

// RemoveRole takes a role assignment of an embedded vault away.
func (b *Broker) RemoveRole(ctx context.Context, who latchkey.Caller, vault string, id latchkey.RoleAssignmentID) error {
	return b.update(ctx, who, func(o *op) error {
		v, err := o.roleKeeper(vault, latchkey.ActVaultRemove)
		if err != nil {
			return err
		}
		a, err := o.RoleAssignment(v.ID, id)
		if err != nil {
			return found(err, latchkey.KindRole)
		}
		if err := o.DeleteRoleAssignment(v.ID, id); err != nil {
			return err
		}
		return o.record(latchkey.ActVaultRemove, vaultThing(v), assignmentDetails(a))
	})
}

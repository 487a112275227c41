package broker

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"latchkey.dev/latchkey"
)

func environmentThing(e latchkey.Environment) thing {
	return thing{latchkey.KindEnvironment, e.ID, string(e.ID), e.Name, latchkey.ActEnvironmentRead}
}

// Environment returns the environment with an id or a name.
func (b *Broker) Environment(ctx context.Context, who latchkey.Caller, ref string) (e latchkey.Environment, err error) {
	err = b.view(ctx, who, func(o *op) (err error) {
		e, err = o.environment(ref)
		return err
	})
	return e, err
}

// Environments lists the environments that the caller may see.
func (b *Broker) Environments(ctx context.Context, who latchkey.Caller, page latchkey.PageOptions) (p latchkey.Page[latchkey.Environment], err error) {
	if err := page.Validate(); err != nil {
		return p, err
	}
	err = b.view(ctx, who, func(o *op) error {
		access, err := o.Access(who.ID, "", "")
		if err != nil {
			return err
		}
		if p, err = o.Environments(who.ID, access.Tenant, page); err != nil {
			return err
		}
		for i := range p.Items {
			access, err := o.Access(who.ID, p.Items[i].ID, "")
			if err != nil {
				return err
			}
			p.Items[i].MyRole = access.Highest()
		}
		return nil
	})
	return p, err
}

// CreateEnvironment makes an environment, with the caller as its admin.
func (b *Broker) CreateEnvironment(ctx context.Context, who latchkey.Caller, c latchkey.EnvironmentCreate) (e latchkey.Environment, err error) {
	if err := c.Validate(); err != nil {
		return e, err
	}
	err = b.update(ctx, who, func(o *op) error {
		if err := o.allow(latchkey.ActEnvironmentCreate, tenantThing); err != nil {
			return err
		}
		e = latchkey.Environment{
			ID: latchkey.EnvironmentID(latchkey.NewID("env", o.Now)), Name: c.Name, DisplayName: c.DisplayName,
			Prefix: c.Prefix, Vaults: c.Vaults, MyRole: latchkey.EnvAdmin, CreatedAt: o.Now, UpdatedAt: o.Now,
		}
		if err := o.CreateEnvironment(e, who.ID); err != nil {
			return taken(err, "there is an environment with this name already")
		}
		if err := o.SetMember(e.ID, who.ID, latchkey.EnvAdmin, who.ID); err != nil {
			return err
		}
		return o.record(latchkey.ActEnvironmentCreate, environmentThing(e), nil)
	})
	return e, err
}

// UpdateEnvironment changes what u sets.
func (b *Broker) UpdateEnvironment(ctx context.Context, who latchkey.Caller, ref string, u latchkey.EnvironmentUpdate) (e latchkey.Environment, err error) {
	if err := u.Validate(); err != nil {
		return e, err
	}
	err = b.update(ctx, who, func(o *op) (err error) {
		if e, err = o.environment(ref); err != nil {
			return err
		}
		if err := o.allow(latchkey.ActEnvironmentUpdate, environmentThing(e)); err != nil {
			return err
		}
		was := e.Vaults
		set(&e.DisplayName, u.DisplayName)
		set(&e.Vaults, u.Vaults)
		set(&e.RemoveVariableGrants, u.RemoveVariableGrants)
		e.UpdatedAt = o.Now
		if err := o.UpdateEnvironment(e); err != nil {
			return err
		}
		return o.record(latchkey.ActEnvironmentUpdate, environmentThing(e), map[string]string{
			"vaults": strings.Join(e.Vaults, " "), "vaultsBefore": strings.Join(was, " "), "displayName": e.DisplayName,
			"removeVariableGrants": strconv.FormatBool(e.RemoveVariableGrants),
		})
	})
	return e, err
}

// DeleteEnvironment deletes an environment that has nothing in it.
func (b *Broker) DeleteEnvironment(ctx context.Context, who latchkey.Caller, ref string) error {
	return b.update(ctx, who, func(o *op) error {
		e, err := o.environment(ref)
		if err != nil {
			return err
		}
		if err := o.allow(latchkey.ActEnvironmentDelete, environmentThing(e)); err != nil {
			return err
		}
		n, err := o.EnvironmentUse(e.ID)
		if err != nil {
			return err
		}
		if n > 0 {
			return latchkey.Conflict("in-use", "the environment has %d components; delete them first", n)
		}
		if err := o.DeleteEnvironment(e.ID); err != nil {
			return err
		}
		return o.record(latchkey.ActEnvironmentDelete, environmentThing(e), nil)
	})
}

// Members lists who has a role in an environment.
func (b *Broker) Members(ctx context.Context, who latchkey.Caller, ref string, page latchkey.PageOptions) (p latchkey.Page[latchkey.Member], err error) {
	err = b.view(ctx, who, func(o *op) error {
		e, err := o.environment(ref)
		if err != nil {
			return err
		}
		p, err = o.Members(e.ID, page)
		return err
	})
	return p, err
}

// SetMember gives the principal with an id, the user with a login, the service
// principal with a client id or the group with a name a role in an environment; role
// "" takes it away. The last admin stays.
func (b *Broker) SetMember(ctx context.Context, who latchkey.Caller, ref, principal string, role latchkey.EnvironmentRole) error {
	return b.update(ctx, who, func(o *op) error {
		e, err := o.environment(ref)
		if err != nil {
			return err
		}
		if err := o.allow(latchkey.ActMemberSet, environmentThing(e)); err != nil {
			return err
		}
		if role != "" && !slices.Contains(latchkey.EnvironmentRoles, role) {
			return latchkey.Invalid("role", "must be one of admin, maker, user, auditor")
		}
		p, err := o.principal(principal)
		if err != nil {
			return err
		}
		if p.Kind == latchkey.PrincipalMachine || p.ID == latchkey.ServiceIdentity {
			return latchkey.Invalid("principal", "must be a user, a group or a service principal")
		}
		if err := o.keepAdmins(func() error { return o.SetMember(e.ID, p.ID, role, who.ID) }); err != nil {
			return found(err, latchkey.KindMember)
		}
		return o.record(latchkey.ActMemberSet, environmentThing(e), map[string]string{
			"principal": string(p.ID), "name": p.Name, "role": string(role),
		})
	})
}

// keepAdmins makes a change of principals or their roles, and returns a conflict if
// it would leave an environment without an admin that has one.
func (o *op) keepAdmins(change func() error) error {
	left, err := o.leftWithoutAdmin(change)
	if err == nil && len(left) > 0 {
		err = latchkey.Conflict("last-admin", "%s would be left without an admin; give somebody else the role first", environments(left))
	}
	return err
}

// leftWithoutAdmin makes a change of principals or their roles, and returns the names
// of the environments that had an admin before and have none after.
func (o *op) leftWithoutAdmin(change func() error) ([]string, error) {
	before, err := o.WithoutAdmin()
	if err != nil {
		return nil, err
	}
	if err := change(); err != nil {
		return nil, err
	}
	after, err := o.WithoutAdmin()
	return slices.DeleteFunc(after, func(name string) bool { return slices.Contains(before, name) }), err
}

// disabling makes a change that disables an account. With force it may leave
// environments without an admin, which details, of the audit log, then name: whom one
// has to stop can be stopped at once, and a tenant admin can make another admin.
func (o *op) disabling(force bool, details map[string]string, change func() error) error {
	left, err := o.leftWithoutAdmin(change)
	switch {
	case err != nil || len(left) == 0:
		return err
	case !force:
		return latchkey.Conflict("last-admin", "%s would be left without an admin; give somebody else the role first, or disable the account with force", environments(left))
	}
	details["forced"], details["withoutAdmin"] = "true", strings.Join(left, " ")
	return nil
}

// environments names some environments in a sentence.
func environments(names []string) string {
	if len(names) == 1 {
		return "the environment " + names[0]
	}
	text := "the environments " + strings.Join(names[:min(len(names), maxNamed)], ", ")
	if more := len(names) - maxNamed; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

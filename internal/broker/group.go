package broker

import (
	"context"
	"errors"
	"slices"

	"latchkey.dev/internal/db"
	"latchkey.dev/latchkey"
)

func groupThing(g latchkey.Group) thing {
	return thing{kind: latchkey.KindGroup, id: string(g.ID), name: g.Name, read: latchkey.ActGroupRead}
}

// group returns the group with an id or a name, if the caller may do action on it.
// Who is in a group sees that there is one.
func (o *op) group(ref string, action latchkey.Action) (latchkey.Group, error) {
	access, err := o.Access(o.who.ID, "", "")
	if err != nil {
		return latchkey.Group{}, err
	}
	mine, err := o.GroupsOf(o.who.ID)
	if err != nil {
		return latchkey.Group{}, err
	}
	g, err := o.Group(ref)
	if err != nil {
		return g, found(err, latchkey.KindGroup)
	}
	t := groupThing(g)
	if slices.Contains(mine, g.ID) {
		if action == latchkey.ActGroupRead {
			return g, nil
		}
		t.read = "" // what is not allowed is refused
	}
	return g, o.decide(access, action, t)
}

// Group returns the group with an id or a name. Tenant admins see every group,
// others those that they are in.
func (b *Broker) Group(ctx context.Context, who latchkey.Caller, ref string) (g latchkey.Group, err error) {
	err = b.view(ctx, who, func(o *op) (err error) {
		g, err = o.group(ref, latchkey.ActGroupRead)
		return err
	})
	return g, err
}

// Groups lists the groups that the caller may see.
func (b *Broker) Groups(ctx context.Context, who latchkey.Caller, page latchkey.PageOptions) (p latchkey.Page[latchkey.Group], err error) {
	if err := page.Validate(); err != nil {
		return p, err
	}
	err = b.view(ctx, who, func(o *op) error {
		access, err := o.Access(who.ID, "", "")
		if err != nil {
			return err
		}
		only := who.ID
		if access.Can(latchkey.ActGroupRead) {
			only = ""
		}
		p, err = o.Groups(only, page)
		return err
	})
	return p, err
}

// CreateGroup makes a group that nobody is in.
func (b *Broker) CreateGroup(ctx context.Context, who latchkey.Caller, c latchkey.GroupCreate) (g latchkey.Group, err error) {
	if err := c.Validate(); err != nil {
		return g, err
	}
	err = b.update(ctx, who, func(o *op) error {
		if err := o.allow(latchkey.ActGroupCreate, tenantThing); err != nil {
			return err
		}
		g = latchkey.Group{ID: latchkey.PrincipalID(latchkey.NewID("grp", o.Now)), Name: c.Name, Description: c.Description, External: c.External, CreatedAt: o.Now, UpdatedAt: o.Now}
		if err := o.unlinked(g); err != nil {
			return err
		}
		if err := o.CreateGroup(g); err != nil {
			return taken(err, "there is a group with this name already")
		}
		return o.record(latchkey.ActGroupCreate, groupThing(g), linkDetails(g))
	})
	return g, err
}

// UpdateGroup changes what u sets.
func (b *Broker) UpdateGroup(ctx context.Context, who latchkey.Caller, ref string, u latchkey.GroupUpdate) (g latchkey.Group, err error) {
	if err := u.Validate(); err != nil {
		return g, err
	}
	err = b.update(ctx, who, func(o *op) (err error) {
		if g, err = o.group(ref, latchkey.ActGroupUpdate); err != nil {
			return err
		}
		set(&g.Name, u.Name)
		set(&g.Description, u.Description)
		switch {
		case u.External == nil:
		case *u.External == (latchkey.ExternalGroup{}):
			g.External = nil
		default:
			g.External = u.External
		}
		if err := o.unlinked(g); err != nil {
			return err
		}
		g.UpdatedAt = o.Now
		if err := o.UpdateGroup(g); err != nil {
			return taken(err, "there is a group with this name already")
		}
		return o.record(latchkey.ActGroupUpdate, groupThing(g), linkDetails(g))
	})
	return g, err
}

// unlinked returns nil if no other group is linked to the one of a provider that g is
// linked to.
func (o *op) unlinked(g latchkey.Group) error {
	if g.External == nil {
		return nil
	}
	other, err := o.LinkedGroup(*g.External)
	if errors.Is(err, db.ErrNotFound) || err == nil && other.ID == g.ID {
		return nil
	}
	if err != nil {
		return err
	}
	e := latchkey.Conflict("link-taken", "the group %q is linked to this group of the provider already", other.Name)
	e.Fields = []latchkey.FieldError{{Field: "external.id", Message: "is linked to the group " + other.Name + " already"}}
	return e
}

func linkDetails(g latchkey.Group) map[string]string {
	if g.External == nil {
		return nil
	}
	return map[string]string{"issuer": g.External.Issuer, "externalId": g.External.ID}
}

// DeleteGroup deletes a group: what its members had by it they have no more, at
// once. An environment keeps an admin.
func (b *Broker) DeleteGroup(ctx context.Context, who latchkey.Caller, ref string) error {
	return b.update(ctx, who, func(o *op) error {
		g, err := o.group(ref, latchkey.ActGroupDelete)
		if err != nil {
			return err
		}
		if err := o.keepAdmins(func() error { return o.DeleteGroup(g.ID) }); err != nil {
			return err
		}
		return o.record(latchkey.ActGroupDelete, groupThing(g), nil)
	})
}

// GroupMembers lists who is in a group by itself, for tenant admins.
func (b *Broker) GroupMembers(ctx context.Context, who latchkey.Caller, ref string, page latchkey.PageOptions) (p latchkey.Page[latchkey.DirectoryEntry], err error) {
	err = b.view(ctx, who, func(o *op) error {
		g, err := o.group(ref, latchkey.ActGroupRead)
		if err != nil {
			return err
		}
		if err := o.allow(latchkey.ActGroupRead, thing{kind: latchkey.KindGroup, id: string(g.ID), name: g.Name}); err != nil {
			return err
		}
		p, err = o.GroupMembers(g.ID, page)
		return err
	})
	return p, err
}

// AddGroupMember puts a user, a service principal or a group into a group. Groups
// are in one another at most MaxGroupDepth deep, and never in a circle.
func (b *Broker) AddGroupMember(ctx context.Context, who latchkey.Caller, ref, member string) error {
	return b.update(ctx, who, func(o *op) error {
		g, p, err := o.groupAndMember(ref, member)
		if err != nil {
			return err
		}
		if p.Kind == latchkey.PrincipalMachine || p.ID == latchkey.ServiceIdentity {
			return latchkey.Invalid("principal", "must be a user, a group or a service principal")
		}
		if p.Kind == latchkey.PrincipalUser && g.External != nil {
			return latchkey.Conflict("group-linked", "who is in the group %q is said by %s when people sign in there; add %s to the group %q there, or take the link away", g.Name, g.External.Issuer, p.Name, g.External.ID)
		}
		if p.Kind == latchkey.PrincipalGroup {
			if err := o.nests(g, p); err != nil {
				return err
			}
		}
		if g.Members >= latchkey.MaxGroupMembers {
			return latchkey.Conflict("group-full", "the group %q has %d members, the most that one may have; make groups of them and put these in", g.Name, g.Members)
		}
		if err := o.SetGroupMember(g.ID, p.ID); err != nil {
			return err
		}
		return o.record(latchkey.ActGroupMember, groupThing(g), map[string]string{"principal": string(p.ID), "name": p.Name, "member": "true"})
	})
}

// nests returns nil if a group can be put into g.
func (o *op) nests(g latchkey.Group, p db.Principal) error {
	above, err := o.GroupsOf(g.ID)
	if err != nil {
		return err
	}
	if p.ID == g.ID || slices.Contains(above, p.ID) {
		return latchkey.Invalid("principal", "the group %q would be in itself: %q is in it already", g.Name, g.Name)
	}
	_, high, err := o.GroupDepth(g.ID, latchkey.MaxGroupDepth)
	if err != nil {
		return err
	}
	deep, _, err := o.GroupDepth(p.ID, latchkey.MaxGroupDepth)
	if err != nil {
		return err
	}
	if high+deep > latchkey.MaxGroupDepth {
		return latchkey.Conflict("group-depth", "groups would be in one another %d deep, and %d is the most", high+deep, latchkey.MaxGroupDepth)
	}
	return nil
}

// RemoveGroupMember takes a principal out of a group: what it had by the group it
// has no more, at once.
func (b *Broker) RemoveGroupMember(ctx context.Context, who latchkey.Caller, ref, member string) error {
	return b.update(ctx, who, func(o *op) error {
		g, p, err := o.groupAndMember(ref, member)
		if err != nil {
			return err
		}
		if err := o.keepAdmins(func() error { return o.RemoveGroupMember(g.ID, p.ID) }); err != nil {
			return found(err, latchkey.KindMember)
		}
		return o.record(latchkey.ActGroupMember, groupThing(g), map[string]string{"principal": string(p.ID), "name": p.Name, "member": "false"})
	})
}

func (o *op) groupAndMember(ref, member string) (g latchkey.Group, p db.Principal, err error) {
	if g, err = o.group(ref, latchkey.ActGroupMember); err != nil {
		return g, p, err
	}
	p, err = o.principal(member)
	return g, p, err
}

// principal returns the principal with an id, the user with a login, the service
// principal with a client id, or the group with a name.
func (o *op) principal(ref string) (db.Principal, error) {
	p, err := o.Principal(ref)
	if errors.Is(err, db.ErrNotFound) {
		var g latchkey.Group
		if g, err = o.Group(ref); err == nil {
			p, err = o.Principal(string(g.ID))
		}
	}
	return p, found(err, latchkey.KindPrincipal)
}

// Directory lists the principals that something may be shared with, by name: those
// whose name or login begins with a text, or all. It is for whoever has a role in
// the environment.
func (b *Broker) Directory(ctx context.Context, who latchkey.Caller, env, prefix string, page latchkey.PageOptions) (p latchkey.Page[latchkey.DirectoryEntry], err error) {
	err = b.view(ctx, who, func(o *op) error {
		e, err := o.environment(env)
		if err != nil {
			return err
		}
		if err := o.allow(latchkey.ActDirectoryRead, environmentThing(e)); err != nil {
			return err
		}
		p, err = o.Directory(prefix, page)
		return err
	})
	return p, err
}

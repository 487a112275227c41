package broker

import (
	"context"
	"errors"
	"fmt"

	"latchkey.dev/internal/db"
	"latchkey.dev/latchkey"
)

func machineGroupThing(g db.MachineGroup) thing {
	return thing{latchkey.KindMachineGroup, g.Environment, string(g.ID), g.Name, latchkey.ActMachineGroupRead}
}

// machineGroup returns a machine group if the caller may do action on it.
func (o *op) machineGroup(envRef string, id latchkey.MachineGroupID, action latchkey.Action) (db.MachineGroup, error) {
	e, err := o.environment(envRef)
	if err != nil {
		return db.MachineGroup{}, err
	}
	return o.machineGroupIn(e.ID, id, action)
}

func (o *op) machineGroupIn(env latchkey.EnvironmentID, id latchkey.MachineGroupID, action latchkey.Action) (db.MachineGroup, error) {
	access, err := o.seen(latchkey.KindMachineGroup, env, string(id), latchkey.ActMachineGroupRead)
	if err != nil {
		return db.MachineGroup{}, err
	}
	g, err := o.MachineGroup(id)
	if err == nil && g.Environment != env {
		err = db.ErrNotFound
	}
	if err != nil {
		return g, found(err, latchkey.KindMachineGroup)
	}
	return g, o.decide(access, action, machineGroupThing(g))
}

// MachineGroup returns a machine group.
func (b *Broker) MachineGroup(ctx context.Context, who latchkey.Caller, env string, id latchkey.MachineGroupID) (g latchkey.MachineGroup, err error) {
	err = b.view(ctx, who, func(o *op) error {
		d, err := o.machineGroup(env, id, latchkey.ActMachineGroupRead)
		if err != nil {
			return err
		}
		g = d.MachineGroup
		return o.describeMachineGroups(&g)
	})
	return g, err
}

// MachineGroups lists the machine groups that the caller may see.
func (b *Broker) MachineGroups(ctx context.Context, who latchkey.Caller, env string, page latchkey.PageOptions) (p latchkey.Page[latchkey.MachineGroup], err error) {
	if err := page.Validate(latchkey.SortOrders...); err != nil {
		return p, err
	}
	return list(ctx, b, who, env, latchkey.ActMachineGroupRead, func(o *op, id latchkey.EnvironmentID, visible db.Visible) (latchkey.Page[latchkey.MachineGroup], error) {
		p, err := o.MachineGroups(id, visible, page)
		if err != nil {
			return p, err
		}
		return p, o.describeMachineGroups(pointers(p.Items)...)
	})
}

// CreateMachineGroup makes a machine group without machines, owned by the caller.
func (b *Broker) CreateMachineGroup(ctx context.Context, who latchkey.Caller, env string, c latchkey.MachineGroupCreate) (g latchkey.MachineGroup, err error) {
	if err := c.Validate(); err != nil {
		return g, err
	}
	err = b.update(ctx, who, func(o *op) error {
		e, err := o.environment(env)
		if err != nil {
			return err
		}
		if err := o.allow(latchkey.ActMachineGroupCreate, environmentThing(e)); err != nil {
			return err
		}
		d := db.MachineGroup{
			MachineGroup: latchkey.MachineGroup{
				ID: latchkey.MachineGroupID(latchkey.NewID("mgrp", o.Now)), Name: c.Name, Description: c.Description,
				CreatedBy: who.ID, CreatedAt: o.Now, UpdatedAt: o.Now,
			},
			Environment: e.ID,
		}
		t := machineGroupThing(d)
		if err := o.CreateMachineGroup(d); err != nil {
			return taken(err, "there is a machine group with this name in this environment already")
		}
		if err := o.SetGrant(e.ID, t.kind, t.id, who.ID, latchkey.RoleOwner, "", who.ID); err != nil {
			return err
		}
		g = d.MachineGroup
		if err := o.describeMachineGroups(&g); err != nil {
			return err
		}
		return o.record(latchkey.ActMachineGroupCreate, t, nil)
	})
	return g, err
}

// UpdateMachineGroup changes what u sets.
func (b *Broker) UpdateMachineGroup(ctx context.Context, who latchkey.Caller, env string, id latchkey.MachineGroupID, u latchkey.MachineGroupUpdate) (g latchkey.MachineGroup, err error) {
	if err := u.Validate(); err != nil {
		return g, err
	}
	err = b.update(ctx, who, func(o *op) error {
		d, err := o.machineGroup(env, id, latchkey.ActMachineGroupUpdate)
		if err != nil {
			return err
		}
		set(&d.Name, u.Name)
		set(&d.Description, u.Description)
		d.UpdatedAt = o.Now
		if err := o.UpdateMachineGroup(d); err != nil {
			return taken(err, "there is a machine group with this name in this environment already")
		}
		g = d.MachineGroup
		if err := o.describeMachineGroups(&g); err != nil {
			return err
		}
		return o.record(latchkey.ActMachineGroupUpdate, machineGroupThing(d), nil)
	})
	return g, err
}

// GroupMachines lists the machines of a group, also those on which the caller has no
// role: who may use the group runs flows there.
func (b *Broker) GroupMachines(ctx context.Context, who latchkey.Caller, env string, id latchkey.MachineGroupID) (p latchkey.Page[latchkey.GroupMachine], err error) {
	err = b.view(ctx, who, func(o *op) error {
		g, err := o.machineGroup(env, id, latchkey.ActMachineGroupRead)
		if err != nil {
			return err
		}
		machines, err := o.GroupMachines(g.ID)
		if err != nil {
			return err
		}
		p = latchkey.Page[latchkey.GroupMachine]{Items: make([]latchkey.GroupMachine, len(machines))}
		for i, m := range machines {
			servers := make([]string, len(m.Policy.SSHServers))
			for j, s := range m.Policy.SSHServers {
				servers[j] = s.Name
			}
			p.Items[i] = latchkey.GroupMachine{
				Machine: m.ID, Name: m.Name, Status: m.Status, SharedUID: m.SharedUID, Drivers: append([]latchkey.Driver{}, m.Policy.Drivers...), SSHServers: servers, Realm: m.Policy.Realm,
			}
		}
		return nil
	})
	return p, err
}

// AddGroupMachine puts a machine into a group, which takes that the caller may change
// both: whoever may use the group can run flows on the machine from then on. It may be
// in the group already.
func (b *Broker) AddGroupMachine(ctx context.Context, who latchkey.Caller, env string, id latchkey.MachineGroupID, machine latchkey.MachineID) error {
	err := b.update(ctx, who, func(o *op) error {
		g, err := o.machineGroup(env, id, latchkey.ActMachineGroupMember)
		if err != nil {
			return err
		}
		m, err := o.machineIn(g.Environment, machine, latchkey.ActMachineUpdate)
		if err != nil || m.MachineGroup == g.ID {
			return err
		}
		if err := o.join(m, g); err != nil {
			return err
		}
		return o.recordMember(g, m, "added")
	})
	if err == nil {
		b.waiting.wake(string(machine)) // there may be work for it
	}
	return err
}

// join puts a machine into a group that has room for it.
func (o *op) join(m db.Machine, g db.MachineGroup) error {
	if m.MachineGroup != "" {
		return latchkey.Conflict("in-another-group", "the machine %q is in the machine group %q, and can be in one only; remove it there first", m.Name, m.MachineGroupName)
	}
	members, err := o.GroupMachines(g.ID)
	if err != nil {
		return err
	}
	if len(members) >= latchkey.MaxGroupMachines {
		return latchkey.Conflict("group-full", "the machine group %q has %d machines, the most that may be; remove one, or make another group", g.Name, len(members))
	}
	return o.SetMachineGroup(m.ID, g.ID)
}

func (o *op) recordMember(g db.MachineGroup, m db.Machine, what string) error {
	e := o.event(latchkey.ActMachineGroupMember, machineGroupThing(g))
	e.Machine, e.Details = m.ID, map[string]string{"machine": string(m.ID), "name": m.Name, "member": what}
	return o.Record(e)
}

// RemoveGroupMachine takes a machine out of a group, at once: runs of the group that it
// executes get no secret any more. Whoever may change the group may do so, and whoever
// may change the machine: what was given can be taken back.
func (b *Broker) RemoveGroupMachine(ctx context.Context, who latchkey.Caller, env string, id latchkey.MachineGroupID, machine latchkey.MachineID) error {
	return b.update(ctx, who, func(o *op) error {
		e, err := o.environment(env)
		if err != nil {
			return err
		}
		access, err := o.Access(who.ID, e.ID, string(machine))
		if err != nil {
			return err
		}
		m, err := o.Machine(machine)
		if err != nil && !errors.Is(err, db.ErrNotFound) {
			return err
		}
		member := err == nil && m.Environment == e.ID && m.MachineGroup == id
		var g db.MachineGroup
		if member && access.Can(latchkey.ActMachineUpdate) {
			g, err = o.MachineGroup(id)
		} else {
			g, err = o.machineGroupIn(e.ID, id, latchkey.ActMachineGroupMember)
		}
		switch {
		case err != nil:
			return found(err, latchkey.KindMachineGroup)
		case !member:
			return latchkey.NotFound(latchkey.KindMachine)
		}
		if err := o.SetMachineGroup(m.ID, ""); err != nil {
			return err
		}
		return o.recordMember(g, m, "removed")
	})
}

// enrolInto puts a new machine into the group of its enrolment token, if whoever made
// the token may still do that.
func (o *op) enrolInto(t db.EnrolmentToken, m db.Machine) error {
	refuse := func(code, remedy string) error {
		return o.refuse(latchkey.ActMachineEnrol, machineThing(m), code, remedy)
	}
	g, err := o.MachineGroup(t.MachineGroup)
	if isNotFound(found(err, latchkey.KindMachineGroup)) {
		return refuse("enrolment-token-group", "the machine group that the enrolment token is for was deleted; ask an environment admin for a new one")
	}
	if err != nil {
		return err
	}
	access, err := o.Access(t.CreatedBy, t.Environment, string(g.ID))
	if err != nil {
		return err
	}
	if !access.Can(latchkey.ActMachineGroupMember) {
		return refuse("enrolment-token-maker", "whoever made the enrolment token may not add machines to its machine group any more; ask an environment admin for a new one")
	}
	return o.join(m, g)
}

// A target is what a connection signs in on, as it is now.
type target struct {
	machine db.Machine
	group   *db.MachineGroup // nil for the machine alone
	members []db.Machine     // of the group
}

// target returns what a connection's target is now. If it was deleted that is
// latchkey.ErrNotFound.
func (o *op) target(t latchkey.Target) (to target, err error) {
	if t.MachineGroup == "" {
		to.machine, err = o.Machine(t.Machine)
		return to, found(err, latchkey.KindMachine)
	}
	g, err := o.MachineGroup(t.MachineGroup)
	if err != nil {
		return to, found(err, latchkey.KindMachineGroup)
	}
	to.group = &g
	to.members, err = o.GroupMachines(g.ID)
	return to, err
}

// targetToUse returns a target that the caller names in a request, and may use.
func (o *op) targetToUse(env latchkey.EnvironmentID, t latchkey.Target) (to target, err error) {
	if t.MachineGroup == "" {
		to.machine, err = o.machineIn(env, t.Machine, latchkey.ActMachineUse)
		return to, asField(err, "target.machine", "there is no such machine in this environment, or you may not see it")
	}
	if _, err := o.machineGroupIn(env, t.MachineGroup, latchkey.ActMachineGroupUse); err != nil {
		return to, asField(err, "target.machineGroup", "there is no such machine group in this environment, or you may not see it")
	}
	return o.target(t)
}

// String names the target in a sentence, without an article.
func (t target) String() string {
	if t.group != nil {
		return fmt.Sprintf("machine group %q", t.group.Name)
	}
	return fmt.Sprintf("machine %q", t.machine.Name)
}

// place notes in a new run where it is to be executed.
func (t target) place(r *db.Run) {
	if t.group != nil {
		r.MachineGroup, r.MachineGroupName = t.group.ID, t.group.Name
		return
	}
	r.Machine, r.MachineName, r.SharedUID = t.machine.ID, t.machine.Name, t.machine.SharedUID
}

// details adds the target to the details of an audit entry.
func (t target) details(d map[string]string) map[string]string {
	if t.group != nil {
		d["machineGroup"] = string(t.group.ID)
	} else {
		d["machine"] = string(t.machine.ID)
	}
	return d
}

// suits says why a new connection does not suit the target, and returns its SSH server.
// Of a group one machine must fit, unless it has none yet, and the SSH server must be
// named unless every machine names the same one alone.
func (t target) suits(n latchkey.ConnectionCreate, c latchkey.Credential) (server string, err error) {
	if t.group == nil {
		return suitsMachine(n, c, t.machine)
	}
	if n.Driver == latchkey.DriverSSH && n.SSHServer == "" {
		for _, m := range t.members {
			one, err := sshServer(n, m)
			if err != nil || server != "" && one != server {
				return "", latchkey.Invalid("sshServer", "must be given: the machines of the group do not all name the same one server in their configurations")
			}
			server = one
		}
		if n.SSHServer = server; server == "" {
			return "", latchkey.Invalid("sshServer", "must be given: the group has no machine yet whose configuration names one")
		}
	}
	for _, m := range t.members {
		if server, err = suitsMachine(n, c, m); err == nil {
			return server, nil
		}
	}
	return n.SSHServer, err // of the last machine; nil if there is none
}

// wakeAll tells the agents of a target that there is something to claim.
func (b *Broker) wakeAll(t target) {
	if t.group == nil {
		b.waiting.wake(string(t.machine.ID))
	}
	for _, m := range t.members {
		b.waiting.wake(string(m.ID))
	}
}

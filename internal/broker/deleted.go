package broker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"latchkey.dev/internal/db"
	"latchkey.dev/latchkey"
)

func shareDelete(s latchkey.Sharing) latchkey.Action { return s.Delete }

// DeleteVariable deletes a variable that nothing uses, or one in use with force.
func (b *Broker) DeleteVariable(ctx context.Context, who latchkey.Caller, env, ref string, f latchkey.Force) error {
	return b.delete(ctx, who, env, latchkey.KindVariable, ref, f, func(o *op, s shareable) error {
		id := latchkey.VariableID(s.id)
		if err := o.DeleteVariable(id, who.ID); err != nil {
			return err
		}
		return o.RetireReferences(id)
	})
}

// DeleteCredential deletes a credential that nothing uses, or one in use with force.
// Its variables stay.
func (b *Broker) DeleteCredential(ctx context.Context, who latchkey.Caller, env string, id latchkey.CredentialID, f latchkey.Force) error {
	return b.delete(ctx, who, env, latchkey.KindCredential, string(id), f, func(o *op, s shareable) error {
		return o.DeleteCredential(latchkey.CredentialID(s.id), who.ID)
	})
}

// DeleteMachine removes a machine that nothing uses, or one in use with force.
func (b *Broker) DeleteMachine(ctx context.Context, who latchkey.Caller, env string, id latchkey.MachineID, f latchkey.Force) error {
	return b.delete(ctx, who, env, latchkey.KindMachine, string(id), f, func(o *op, s shareable) error {
		return o.DeleteMachine(latchkey.MachineID(s.id), who.ID)
	})
}

// DeleteMachineGroup deletes a machine group that nothing uses, or one in use with
// force. Its machines stay.
func (b *Broker) DeleteMachineGroup(ctx context.Context, who latchkey.Caller, env string, id latchkey.MachineGroupID, f latchkey.Force) error {
	return b.delete(ctx, who, env, latchkey.KindMachineGroup, string(id), f, func(o *op, s shareable) error {
		return o.DeleteMachineGroup(latchkey.MachineGroupID(s.id), who.ID)
	})
}

// DeleteConnection deletes a connection that nothing used lately, or one in use with
// force.
func (b *Broker) DeleteConnection(ctx context.Context, who latchkey.Caller, env string, id latchkey.ConnectionID, f latchkey.Force) error {
	return b.delete(ctx, who, env, latchkey.KindConnection, string(id), f, func(o *op, s shareable) error {
		return o.DeleteConnection(latchkey.ConnectionID(s.id), who.ID)
	})
}

// DeleteFlow deletes a flow that did not run lately, or one in use with force.
func (b *Broker) DeleteFlow(ctx context.Context, who latchkey.Caller, env string, id latchkey.FlowID, f latchkey.Force) error {
	return b.delete(ctx, who, env, latchkey.KindFlow, string(id), f, func(o *op, s shareable) error {
		return o.DeleteFlow(latchkey.FlowID(s.id), who.ID)
	})
}

// delete deletes a thing by remove, if the caller may and nothing uses it, or f says
// to delete it all the same.
func (b *Broker) delete(ctx context.Context, who latchkey.Caller, env string, kind latchkey.Kind, ref string, f latchkey.Force, remove func(*op, shareable) error) error {
	return b.update(ctx, who, func(o *op) error {
		s, err := o.shareable(env, kind, ref, shareDelete)
		if err != nil {
			return err
		}
		details, err := o.mayDelete(s, f)
		if err != nil {
			return err
		}
		if err := remove(o, s); err != nil {
			return err
		}
		return o.record(s.Delete, s.thing, details)
	})
}

// Deleted lists what was deleted in an environment within DeletedTTL and can be
// restored, newest first: all of it for its admins, for others what they own.
func (b *Broker) Deleted(ctx context.Context, who latchkey.Caller, env string, page latchkey.PageOptions) (p latchkey.Page[latchkey.Deleted], err error) {
	err = b.view(ctx, who, func(o *op) error {
		e, err := o.environment(env)
		if err != nil {
			return err
		}
		visible, err := o.visible(e.ID, latchkey.ActRestore)
		if err != nil {
			return err
		}
		p, err = o.Tx.Deleted(e.ID, visible, page)
		return err
	})
	return p, err
}

// deleted returns a deleted component, if the caller may restore it: its owner, and
// an admin of the environment.
func (o *op) deleted(env, id string, action latchkey.Action) (d latchkey.Deleted, t thing, e latchkey.Environment, err error) {
	if e, err = o.environment(env); err != nil {
		return d, t, e, err
	}
	access, err := o.seen(latchkey.KindDeleted, e.ID, id, latchkey.ActRestore)
	if err != nil {
		return d, t, e, err
	}
	d, err = o.DeletedOne(e.ID, id)
	if err != nil {
		return d, t, e, found(err, latchkey.KindDeleted)
	}
	t = thing{d.Kind, e.ID, d.ID, d.Name, latchkey.ActRestore}
	return d, t, e, o.decide(access, action, t)
}

// Restore takes the deletion of a component back, with its shares. Under another
// name if its own is taken meanwhile. What it uses must be there.
func (b *Broker) Restore(ctx context.Context, who latchkey.Caller, env, id string, r latchkey.Restore) (c latchkey.Component, err error) {
	err = b.update(ctx, who, func(o *op) error {
		d, t, e, err := o.deleted(env, id, latchkey.ActRestore)
		if err != nil {
			return err
		}
		name := d.Name
		if r.Name != "" {
			if err := checkRestoredName(d.Kind, e, r.Name); err != nil {
				return err
			}
			name, t.name = r.Name, r.Name
		}
		if err := o.usesExist(node{d.Kind, d.ID}); err != nil {
			return err
		}
		if err := o.RestoreDeleted(d.Kind, d.ID, name); err != nil {
			return taken(err, "there is a %s with the name %q meanwhile; restore this one under another name", d.Kind, name)
		}
		if err := o.revive(e, d); err != nil {
			return err
		}
		c = latchkey.Component{Kind: d.Kind, ID: d.ID, Name: name, Environment: e.ID}
		return o.record(latchkey.ActRestore, t, map[string]string{"name": name, "deletedAt": d.DeletedAt.Format(time.RFC3339)})
	})
	if err == nil {
		b.wakeChecks()
	}
	return c, err
}

func checkRestoredName(kind latchkey.Kind, e latchkey.Environment, name string) error {
	if kind == latchkey.KindVariable {
		c := latchkey.VariableCreate{Name: name, DisplayName: name, Type: latchkey.TypeText}
		return c.Validate(e.Prefix)
	}
	if err := latchkey.CheckName(name); err != nil {
		return latchkey.Invalid("name", "%v", err)
	}
	return nil
}

// usesExist returns a conflict if something that a component uses is deleted.
func (o *op) usesExist(n node) error {
	edges, err := o.Uses(n.kind, []string{n.id})
	if err != nil {
		return err
	}
	for _, e := range edges {
		if e.Observed || e.ToKind == latchkey.KindReference {
			continue
		}
		there, err := o.Components(e.ToKind, []string{e.To})
		if err != nil {
			return err
		}
		if _, ok := there[e.To]; !ok {
			return latchkey.Conflict("uses-deleted", "the %s %s that it uses is deleted as well: restore that first", e.ToKind, e.To)
		}
	}
	return nil
}

// revive starts what depends on a component's being there.
func (o *op) revive(e latchkey.Environment, d latchkey.Deleted) error {
	switch d.Kind {
	case latchkey.KindVariable:
		v, err := o.Variable(e.ID, d.ID)
		if err != nil {
			return err
		}
		return o.saveReference(e, &v, "")
	case latchkey.KindCredential:
		c, err := o.Credential(e.ID, latchkey.CredentialID(d.ID))
		if err != nil || c.Authentication != latchkey.AuthenticationCertificate {
			return err
		}
		return o.StartCertificateCheck(c.ID)
	case latchkey.KindMachine:
		m, err := o.Machine(latchkey.MachineID(d.ID))
		if err != nil || m.MachineGroup == "" {
			return err
		}
		members, err := o.GroupMachines(m.MachineGroup)
		if err != nil || len(members) <= latchkey.MaxGroupMachines {
			return err
		}
		return o.SetMachineGroup(m.ID, "") // others have taken its place meanwhile
	}
	return nil
}

// Purge removes a deleted component for good, with its shares, before its time.
func (b *Broker) Purge(ctx context.Context, who latchkey.Caller, env, id string) error {
	return b.update(ctx, who, func(o *op) error {
		d, t, _, err := o.deleted(env, id, latchkey.ActPurge)
		if err != nil {
			return err
		}
		if err := o.PurgeDeleted(d.Kind, d.ID); err != nil {
			return err
		}
		return o.record(latchkey.ActPurge, t, nil)
	})
}

// purgeDeleted removes for good what was deleted long enough ago, a batch.
func purgeDeleted(tx *db.Tx) error {
	due, err := tx.DueDeleted(purgeBatch)
	if err != nil {
		return err
	}
	for _, d := range due {
		if err := tx.PurgeDeleted(d.Kind, d.ID); err != nil && !errors.Is(err, db.ErrNotFound) {
			return fmt.Errorf("purge %s: %w", d.ID, err)
		}
		o := &op{tx, serviceCaller}
		if err := o.record(latchkey.ActPurge, thing{d.Kind, d.Environment, d.ID, d.Name, ""}, nil); err != nil {
			return err
		}
	}
	return nil
}

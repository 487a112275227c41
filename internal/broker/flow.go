package broker

import (
	"context"
	"slices"

	"latchkey.dev/internal/db"
	"latchkey.dev/latchkey"
)

func flowThing(env latchkey.EnvironmentID, f latchkey.Flow) thing {
	return thing{latchkey.KindFlow, env, string(f.ID), f.Name, latchkey.ActFlowRead}
}

// flow returns a flow in its newest revision if the caller may do action on it.
func (o *op) flow(envRef string, id latchkey.FlowID, action latchkey.Action) (latchkey.Environment, latchkey.Flow, error) {
	e, err := o.environment(envRef)
	if err != nil {
		return e, latchkey.Flow{}, err
	}
	access, err := o.seen(latchkey.KindFlow, e.ID, string(id), latchkey.ActFlowRead)
	if err != nil {
		return e, latchkey.Flow{}, err
	}
	f, err := o.Flow(e.ID, id)
	if err != nil {
		return e, f, found(err, latchkey.KindFlow)
	}
	return e, f, o.decide(access, action, flowThing(e.ID, f))
}

// Flow returns a flow in its newest revision.
func (b *Broker) Flow(ctx context.Context, who latchkey.Caller, env string, id latchkey.FlowID) (f latchkey.Flow, err error) {
	err = b.view(ctx, who, func(o *op) (err error) {
		e, found, err := o.flow(env, id, latchkey.ActFlowRead)
		if err != nil {
			return err
		}
		f = found
		return o.describeFlows(e.ID, &f)
	})
	return f, err
}

// FlowRevision returns one revision of a flow.
func (b *Broker) FlowRevision(ctx context.Context, who latchkey.Caller, env string, id latchkey.FlowID, revision int) (f latchkey.Flow, err error) {
	err = b.view(ctx, who, func(o *op) error {
		e, _, err := o.flow(env, id, latchkey.ActFlowRead)
		if err != nil {
			return err
		}
		f, err = o.FlowRevision(e.ID, id, revision)
		return found(err, latchkey.KindFlow)
	})
	return f, err
}

// Flows lists the flows that the caller may see, in their newest revisions.
func (b *Broker) Flows(ctx context.Context, who latchkey.Caller, env string, page latchkey.PageOptions) (p latchkey.Page[latchkey.Flow], err error) {
	if err := page.Validate(latchkey.SortOrders...); err != nil {
		return p, err
	}
	return list(ctx, b, who, env, latchkey.ActFlowRead, func(o *op, id latchkey.EnvironmentID, visible db.Visible) (latchkey.Page[latchkey.Flow], error) {
		p, err := o.Flows(id, visible, page)
		if err != nil {
			return p, err
		}
		return p, o.describeFlows(id, pointers(p.Items)...)
	})
}

// CreateFlow makes a flow with its first revision, owned by the caller.
func (b *Broker) CreateFlow(ctx context.Context, who latchkey.Caller, env string, n latchkey.FlowCreate) (f latchkey.Flow, err error) {
	if err := n.Validate(); err != nil {
		return f, err
	}
	err = b.update(ctx, who, func(o *op) error {
		e, err := o.environment(env)
		if err != nil {
			return err
		}
		if err := o.allow(latchkey.ActFlowCreate, environmentThing(e)); err != nil {
			return err
		}
		if err := o.flowCredentials(e.ID, n); err != nil {
			return err
		}
		f = latchkey.Flow{
			ID: latchkey.FlowID(latchkey.NewID("flow", o.Now)), Name: n.Name, Description: n.Description, Revision: 1,
			Command: n.Command, Timeout: n.Timeout, Handover: n.Handover, Credentials: n.Credentials,
			CreatedBy: who.ID, CreatedAt: o.Now, UpdatedAt: o.Now,
		}
		t := flowThing(e.ID, f)
		if err := o.CreateFlow(e.ID, f); err != nil {
			return taken(err, "you have a flow with this name in this environment already")
		}
		if err := o.SetGrant(e.ID, t.kind, t.id, who.ID, latchkey.RoleOwner, "", who.ID); err != nil {
			return err
		}
		return o.record(latchkey.ActFlowCreate, t, nil)
	})
	return f, err
}

// flowCredentials checks that the caller may use the credentials that a flow
// asks for, and that they fit.
func (o *op) flowCredentials(env latchkey.EnvironmentID, n latchkey.FlowCreate) error {
	for _, id := range n.Credentials {
		c, err := o.credentialIn(env, id, latchkey.ActCredentialUse)
		if err != nil {
			return asField(err, "credentials", "one of them does not exist in this environment, or you may not see it")
		}
		if !slices.Contains(c.Usages, latchkey.UsageDesktopFlow) {
			return latchkey.Invalid("credentials", "the credential %q is not for use as %s", c.Name, latchkey.UsageDesktopFlow)
		}
		if bad := exposes(c, n.Handover); bad.code != "" {
			return latchkey.Invalid("handover", "%s; %s", bad.reason, bad.remedy)
		}
	}
	return nil
}

// ReviseFlow makes the next revision of a flow. Runs that are queued keep the
// revision that they were started with.
func (b *Broker) ReviseFlow(ctx context.Context, who latchkey.Caller, env string, id latchkey.FlowID, n latchkey.FlowCreate) (f latchkey.Flow, err error) {
	if err := n.Validate(); err != nil {
		return f, err
	}
	err = b.update(ctx, who, func(o *op) (err error) {
		var e latchkey.Environment
		if e, f, err = o.flow(env, id, latchkey.ActFlowUpdate); err != nil {
			return err
		}
		if err := o.flowCredentials(e.ID, n); err != nil {
			return err
		}
		f.Name, f.Description, f.Revision = n.Name, n.Description, f.Revision+1
		f.Command, f.Timeout, f.Handover, f.Credentials, f.UpdatedAt = n.Command, n.Timeout, n.Handover, n.Credentials, o.Now
		if err := o.ReviseFlow(f, who.ID); err != nil {
			return taken(err, "another flow of the same creator has this name")
		}
		return o.record(latchkey.ActFlowUpdate, flowThing(e.ID, f), nil)
	})
	return f, err
}

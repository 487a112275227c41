package broker

import (
	"context"
	"errors"
	"fmt"

	"latchkey.dev/internal/db"
	"latchkey.dev/latchkey"
)

// Owned lists what a principal owns in an environment, in the order in which it
// would be handed over. Everybody may ask about themselves, about others admins and
// auditors of the environment.
func (b *Broker) Owned(ctx context.Context, who latchkey.Caller, env, principal string, page latchkey.PageOptions) (p latchkey.Page[latchkey.OwnedThing], err error) {
	err = b.view(ctx, who, func(o *op) error {
		e, err := o.environment(env)
		if err != nil {
			return err
		}
		if principal == "" {
			principal = string(who.ID)
		}
		owner, err := o.ownerIn(e, principal, "principal", latchkey.ActOwnedRead)
		if err != nil {
			return err
		}
		p, err = o.Owned(e.ID, owner.ID, latchkey.OwnedKinds, page)
		return err
	})
	return p, err
}

// ownerIn returns the principal that a field of a request names, if it is the caller
// or the caller may do action on the environment.
func (o *op) ownerIn(e latchkey.Environment, ref, field string, action latchkey.Action) (db.Principal, error) {
	p, err := o.principal(ref)
	if err == nil && p.ID == o.who.ID {
		return p, nil
	}
	if err := o.allow(action, environmentThing(e)); err != nil {
		return p, err
	}
	return p, asField(err, field, "there is no such user, group or service principal")
}

// HandOver makes another principal the owner of what one owns in an environment, as
// SetOwner does with each thing: by the owner, or by an admin of the environment,
// who takes it over so, of which the owner is told once a request. Each thing is handed over
// by itself; what cannot be is in the answer with the reason.
func (b *Broker) HandOver(ctx context.Context, who latchkey.Caller, env string, in latchkey.HandOver) (h latchkey.HandedOver, err error) {
	h = latchkey.HandedOver{Things: []latchkey.OwnedThing{}, Left: []latchkey.LeftThing{}}
	if err := in.Validate(); err != nil {
		return h, err
	}
	var e latchkey.Environment
	var from, to db.Principal
	var page latchkey.Page[latchkey.OwnedThing]
	err = b.view(ctx, who, func(o *op) (err error) {
		if e, err = o.environment(env); err != nil {
			return err
		}
		if from, err = o.ownerIn(e, in.From, "from", latchkey.ActOwnedHandOver); err != nil {
			return err
		}
		if to, err = o.newOwner(shareable{env: e}, in.To); err != nil {
			return renamed(err, "principal", "to")
		}
		if from.ID == to.ID {
			return latchkey.Invalid("to", "must be somebody else than from")
		}
		page, err = o.Owned(e.ID, from.ID, in.Kinds, latchkey.PageOptions{After: in.After, Limit: latchkey.MaxHandOver})
		return err
	})
	if err != nil {
		return h, err
	}
	told := false
	for _, t := range page.Items {
		tells := false
		err := b.update(ctx, who, func(o *op) error {
			tells = false
			s, err := o.shareable(string(e.ID), t.Kind, t.ID, shareRead)
			if err != nil {
				return err
			}
			owner, err := o.OwnerOf(s.id)
			if err != nil {
				return found(err, t.Kind)
			}
			if owner.Principal != from.ID {
				return latchkey.Conflict("owner", "its owner is %s by now", owner.Name)
			}
			set := latchkey.OwnerSet{Principal: string(to.ID), Keep: in.Keep}
			if s.kind == latchkey.KindConnection && !(from.Kind == latchkey.PrincipalService && s.Gives(in.Keep)) {
				set.Keep = latchkey.RoleNone
			}
			_, err = o.setOwner(s, set, func(before latchkey.PrincipalID, now db.Principal) error {
				if told {
					return nil
				}
				tells = true
				return o.tell(before, environmentThing(e), fmt.Sprintf("%s takes over what you own in the environment %s; its owner is %s now. The audit log says what.", who.Name, e.Name, now.Name))
			})
			return err
		})
		why, ok := errors.AsType[*latchkey.Error](err)
		switch {
		case err == nil:
			told = told || tells
			h.Things = append(h.Things, t)
		case ok && why.Kind != latchkey.ErrUnavailable:
			h.Left = append(h.Left, latchkey.LeftThing{OwnedThing: t, Reason: reasonOf(why)})
		default:
			// What was handed over is on record; asking again goes on.
			return h, err
		}
	}
	h.Next = page.Next
	return h, nil
}

// reasonOf returns what is wrong without the names of a request's fields.
func reasonOf(e *latchkey.Error) string {
	if len(e.Fields) == 1 {
		return e.Fields[0].Message
	}
	return e.Msg
}

// renamed is an error about one field of a request as one about another.
func renamed(err error, field, now string) error {
	e, ok := errors.AsType[*latchkey.Error](err)
	if !ok {
		return err
	}
	c := *e
	c.Fields = append([]latchkey.FieldError{}, e.Fields...)
	for i := range c.Fields {
		if c.Fields[i].Field == field {
			c.Fields[i].Field = now
		}
	}
	return &c
}

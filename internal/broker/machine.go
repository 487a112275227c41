package broker

import (
	"context"
	"crypto/ed25519"
	"errors"
	"time"

	"latchkey.dev/internal/db"
	"latchkey.dev/internal/seal"
	"latchkey.dev/latchkey"
)

func machineThing(m db.Machine) thing {
	return thing{latchkey.KindMachine, m.Environment, string(m.ID), m.Name, latchkey.ActMachineRead}
}

// machine returns a machine if the caller may do action on it.
func (o *op) machine(envRef string, id latchkey.MachineID, action latchkey.Action) (db.Machine, error) {
	e, err := o.environment(envRef)
	if err != nil {
		return db.Machine{}, err
	}
	return o.machineIn(e.ID, id, action)
}

func (o *op) machineIn(env latchkey.EnvironmentID, id latchkey.MachineID, action latchkey.Action) (db.Machine, error) {
	access, err := o.seen(latchkey.KindMachine, env, string(id), latchkey.ActMachineRead)
	if err != nil {
		return db.Machine{}, err
	}
	m, err := o.Machine(id)
	if err == nil && m.Environment != env {
		err = db.ErrNotFound
	}
	if err != nil {
		return m, found(err, latchkey.KindMachine)
	}
	return m, o.decide(access, action, machineThing(m))
}

// Machine returns a machine.
func (b *Broker) Machine(ctx context.Context, who latchkey.Caller, env string, id latchkey.MachineID) (m latchkey.Machine, err error) {
	err = b.view(ctx, who, func(o *op) error {
		d, err := o.machine(env, id, latchkey.ActMachineRead)
		if err != nil {
			return err
		}
		m = d.Machine
		return o.describeMachines(&m)
	})
	return m, err
}

// Machines lists the machines that the caller may see.
func (b *Broker) Machines(ctx context.Context, who latchkey.Caller, env string, page latchkey.PageOptions) (p latchkey.Page[latchkey.Machine], err error) {
	if err := page.Validate(latchkey.NameOrders...); err != nil {
		return p, err
	}
	return list(ctx, b, who, env, latchkey.ActMachineRead, func(o *op, id latchkey.EnvironmentID, visible db.Visible) (latchkey.Page[latchkey.Machine], error) {
		p, err := o.Machines(id, visible, page)
		if err != nil {
			return p, err
		}
		return p, o.describeMachines(pointers(p.Items)...)
	})
}

// UpdateMachine changes what u sets. Disabling takes effect at once, also for
// runs that are under way: they get no secret any more.
func (b *Broker) UpdateMachine(ctx context.Context, who latchkey.Caller, env string, id latchkey.MachineID, u latchkey.MachineUpdate) (m latchkey.Machine, err error) {
	if err := u.Validate(); err != nil {
		return m, err
	}
	err = b.update(ctx, who, func(o *op) error {
		d, err := o.machine(env, id, latchkey.ActMachineUpdate)
		if err != nil {
			return err
		}
		set(&d.Name, u.Name)
		set(&d.Description, u.Description)
		set(&d.Disabled, u.Disabled)
		if err := o.UpdateMachine(d); err != nil {
			return taken(err, "there is a machine with this name in this environment already")
		}
		if d, err = o.Tx.Machine(id); err != nil { // its status may have changed
			return err
		}
		m = d.Machine
		if err := o.AddLoad(&m); err != nil {
			return err
		}
		return o.record(latchkey.ActMachineUpdate, machineThing(d), map[string]string{"status": string(d.Status)})
	})
	return m, err
}

// CreateEnrolmentToken makes a token that enrols machines into an environment,
// or one machine anew.
func (b *Broker) CreateEnrolmentToken(ctx context.Context, who latchkey.Caller, env string, c latchkey.EnrolmentTokenCreate) (t latchkey.EnrolmentToken, err error) {
	if err := c.Validate(); err != nil {
		return t, err
	}
	token, _, hash := seal.EnrolmentToken(b.serverKey.Public().(ed25519.PublicKey))
	err = b.update(ctx, who, func(o *op) error {
		e, err := o.environment(env)
		if err != nil {
			return err
		}
		subject := environmentThing(e)
		if c.Machine != "" {
			m, err := o.machineIn(e.ID, c.Machine, latchkey.ActMachineToken)
			if err != nil {
				return asField(err, "machine", "there is no such machine in this environment, or you may not see it")
			}
			subject = machineThing(m)
		}
		if err := o.allow(latchkey.ActMachineToken, subject); err != nil {
			return err
		}
		if c.MachineGroup != "" {
			if _, err := o.machineGroupIn(e.ID, c.MachineGroup, latchkey.ActMachineGroupMember); err != nil {
				return asField(err, "machineGroup", "there is no such machine group in this environment, or you may not see it")
			}
		}
		t = latchkey.EnrolmentToken{
			ID: latchkey.EnrolmentTokenID(latchkey.NewID("enrol", o.Now)), Token: token, Machine: c.Machine, MachineGroup: c.MachineGroup, Uses: c.Uses,
			CreatedBy: who.ID, ExpiresAt: o.Now.Add(time.Duration(c.ExpiresIn)),
		}
		if err := o.CreateEnrolmentToken(db.EnrolmentToken{EnrolmentToken: t, Environment: e.ID}, hash); err != nil {
			return err
		}
		details := map[string]string{"token": string(t.ID), "expiresIn": c.ExpiresIn.String()}
		if c.MachineGroup != "" {
			details["machineGroup"] = string(c.MachineGroup)
		}
		return o.record(latchkey.ActMachineToken, subject, details)
	})
	return t, err
}

// EnrolmentTokens lists the enrolment tokens of an environment that can still be
// used, without their values.
func (b *Broker) EnrolmentTokens(ctx context.Context, who latchkey.Caller, env string, page latchkey.PageOptions) (p latchkey.Page[latchkey.EnrolmentToken], err error) {
	err = b.view(ctx, who, func(o *op) error {
		e, err := o.environment(env)
		if err != nil {
			return err
		}
		if err := o.allow(latchkey.ActMachineToken, environmentThing(e)); err != nil {
			return err
		}
		p, err = o.EnrolmentTokens(e.ID, page)
		return err
	})
	return p, err
}

// RevokeEnrolmentToken ends an enrolment token. Machines that it has enrolled
// stay.
func (b *Broker) RevokeEnrolmentToken(ctx context.Context, who latchkey.Caller, env string, id latchkey.EnrolmentTokenID) error {
	return b.update(ctx, who, func(o *op) error {
		e, err := o.environment(env)
		if err != nil {
			return err
		}
		if err := o.allow(latchkey.ActMachineToken, environmentThing(e)); err != nil {
			return err
		}
		if err := o.RevokeEnrolmentToken(e.ID, id); err != nil {
			return found(err, latchkey.KindEnrolment)
		}
		return o.record(latchkey.ActMachineRevoke, environmentThing(e), map[string]string{"token": string(id)})
	})
}

// Enrol makes a machine known, by an enrolment token. The answer is signed by
// the key that the token carries.
func (b *Broker) Enrol(ctx context.Context, req latchkey.EnrolRequest, address string) (resp latchkey.EnrolResponse, err error) {
	if err := latchkey.CheckName(req.Name); err != nil {
		return resp, latchkey.Invalid("name", "%v", err)
	}
	if err := latchkey.CheckAgent(req.OS, req.Version, req.Policy); err != nil {
		return resp, err
	}
	if err := seal.VerifyEnrol(&req); err != nil {
		return resp, &latchkey.Error{Kind: latchkey.ErrInvalid, Code: "enrol-signature", Msg: "the machine's keys or their signature are not valid", Err: err}
	}
	who := latchkey.Caller{Kind: latchkey.PrincipalMachine, Name: req.Name, Address: address}
	err = b.update(ctx, who, func(o *op) error {
		token, e, err := o.enrolmentToken(req)
		if err != nil {
			return err
		}
		m := db.Machine{
			Machine: latchkey.Machine{
				ID: latchkey.MachineID(latchkey.NewID("mach", o.Now)), Name: req.Name, SharedUID: req.SharedUID, OS: req.OS,
				AgentVersion: req.Version, Policy: req.Policy, EnrolledBy: token.CreatedBy,
			},
			Environment: e.ID, SignKey: req.SignKey, SealKey: req.SealKey,
		}
		if token.Machine == "" {
			if err := o.CreateMachine(m); err != nil {
				return taken(err, "the environment %s has a machine with this name already; give another name, or have it enrolled anew with a token of its own", e.Name)
			}
			if err := o.SetGrant(e.ID, latchkey.KindMachine, string(m.ID), token.CreatedBy, latchkey.RoleOwner, "", token.CreatedBy); err != nil {
				return err
			}
		} else {
			known, err := o.Machine(token.Machine)
			if err != nil {
				return found(err, latchkey.KindMachine)
			}
			known.SignKey, known.SealKey = req.SignKey, req.SealKey
			m = known
			if err := o.RekeyMachine(m); err != nil {
				return taken(err, "these keys are known already; make new ones")
			}
		}
		if err := o.UseEnrolmentToken(token.ID); err != nil {
			return err
		}
		resp = latchkey.EnrolResponse{Machine: m.ID, Name: m.Name, Environment: e.Name}
		o.who.ID = latchkey.PrincipalID(m.ID)
		details := map[string]string{"token": string(token.ID), "tokenBy": string(token.CreatedBy), "os": req.OS}
		if token.MachineGroup != "" {
			if err := o.enrolInto(token, m); err != nil {
				return err
			}
			details["machineGroup"] = string(token.MachineGroup)
		}
		return o.record(latchkey.ActMachineEnrol, machineThing(m), details)
	})
	if err != nil {
		return latchkey.EnrolResponse{}, err
	}
	seal.SignEnrolResponse(b.serverKey, &req, &resp)
	return resp, nil
}

// enrolmentToken returns the token of a request and its environment, if it can
// be used.
func (o *op) enrolmentToken(req latchkey.EnrolRequest) (db.EnrolmentToken, latchkey.Environment, error) {
	t, err := o.EnrolmentTokenByHash(seal.HashToken(req.Token))
	if errors.Is(err, db.ErrNotFound) {
		return t, latchkey.Environment{}, &latchkey.Error{
			Kind: latchkey.ErrUnauthenticated, Code: "enrolment-token-unknown",
			Msg: "this server did not make the enrolment token, or it was revoked; ask an environment admin for a new one",
		}
	}
	if err != nil {
		return t, latchkey.Environment{}, err
	}
	e, err := o.Environment(string(t.Environment))
	if err != nil {
		return t, e, found(err, latchkey.KindEnvironment)
	}
	th := thing{kind: latchkey.KindMachine, env: t.Environment, name: req.Name}
	maker, err := o.Access(t.CreatedBy, t.Environment, string(t.Machine))
	if err != nil {
		return t, e, err
	}
	switch {
	case !maker.Can(latchkey.ActMachineToken):
		return t, e, o.refuse(latchkey.ActMachineEnrol, th, "enrolment-token-maker", "whoever made the enrolment token may not do so any more; ask an environment admin for a new one")
	case !t.ExpiresAt.After(o.Now):
		return t, e, o.refuse(latchkey.ActMachineEnrol, th, "enrolment-token-expired", "the enrolment token has expired; ask an environment admin for a new one")
	case t.Uses <= 0:
		return t, e, o.refuse(latchkey.ActMachineEnrol, th, "enrolment-token-used", "the enrolment token has been used up; ask an environment admin for a new one")
	case req.Environment != "" && req.Environment != e.Name && req.Environment != string(e.ID):
		return t, e, o.refuse(latchkey.ActMachineEnrol, th, "enrolment-token-environment", "the enrolment token is for another environment than the one asked for; ask an admin of that environment for a token")
	}
	return t, e, nil
}

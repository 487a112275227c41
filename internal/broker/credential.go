package broker

import (
	"context"
	"fmt"
	"slices"

	"latchkey.dev/internal/db"
	"latchkey.dev/latchkey"
)

func credentialThing(env latchkey.EnvironmentID, c latchkey.Credential) thing {
	return thing{latchkey.KindCredential, env, string(c.ID), c.Name, latchkey.ActCredentialRead}
}

// credential returns a credential if the caller may do action on it.
func (o *op) credential(envRef string, id latchkey.CredentialID, action latchkey.Action) (latchkey.Environment, latchkey.Credential, error) {
	e, err := o.environment(envRef)
	if err != nil {
		return e, latchkey.Credential{}, err
	}
	c, err := o.credentialIn(e.ID, id, action)
	return e, c, err
}

func (o *op) credentialIn(env latchkey.EnvironmentID, id latchkey.CredentialID, action latchkey.Action) (latchkey.Credential, error) {
	access, err := o.seen(latchkey.KindCredential, env, string(id), latchkey.ActCredentialRead)
	if err != nil {
		return latchkey.Credential{}, err
	}
	c, err := o.Credential(env, id)
	if err != nil {
		return c, found(err, latchkey.KindCredential)
	}
	if err := o.decide(access, action, credentialThing(env, c)); err != nil {
		return c, err
	}
	c.MyRole = access.Role
	return c, o.addCertificates(&c)
}

// Credential returns a credential.
func (b *Broker) Credential(ctx context.Context, who latchkey.Caller, env string, id latchkey.CredentialID) (c latchkey.Credential, err error) {
	err = b.view(ctx, who, func(o *op) (err error) {
		e, found, err := o.credential(env, id, latchkey.ActCredentialRead)
		if err != nil {
			return err
		}
		c = found
		return o.describeCredentials(e.ID, &c)
	})
	return c, err
}

// Credentials lists the credentials that the caller may see.
func (b *Broker) Credentials(ctx context.Context, who latchkey.Caller, env string, page latchkey.PageOptions) (latchkey.Page[latchkey.Credential], error) {
	return b.FindCredentials(ctx, who, env, CredentialFilter{}, page)
}

// A CredentialFilter chooses credentials of a list; zero fields choose all.
type CredentialFilter struct {
	Authentication latchkey.Authentication
	Usage          latchkey.Usage
	Mine           bool // owned by the caller
}

// FindCredentials is Credentials for some of them.
func (b *Broker) FindCredentials(ctx context.Context, who latchkey.Caller, env string, f CredentialFilter, page latchkey.PageOptions) (p latchkey.Page[latchkey.Credential], err error) {
	if err := latchkey.CheckCredentialFilter(f.Authentication, f.Usage); err != nil {
		return p, err
	}
	of := db.CredentialFilter{Authentication: f.Authentication, Usage: f.Usage}
	if f.Mine {
		of.Owner = who.ID
	}
	if err := page.Validate(latchkey.SortOrders...); err != nil {
		return p, err
	}
	return list(ctx, b, who, env, latchkey.ActCredentialRead, func(o *op, id latchkey.EnvironmentID, visible db.Visible) (latchkey.Page[latchkey.Credential], error) {
		p, err := o.Credentials(id, visible, of, page)
		if err != nil {
			return p, err
		}
		ids := make([]string, len(p.Items))
		for i, c := range p.Items {
			ids[i] = string(c.ID)
		}
		roles, err := o.Roles(who.ID, ids)
		if err != nil {
			return p, err
		}
		all := pointers(p.Items)
		for _, c := range all {
			c.MyRole = roles[string(c.ID)]
		}
		if err := o.addCertificates(all...); err != nil {
			return p, err
		}
		return p, o.describeCredentials(id, all...)
	})
}

// CreateCredential makes a credential, owned by the caller, of variables that
// the caller may see, and of new ones, which are made along with it.
func (b *Broker) CreateCredential(ctx context.Context, who latchkey.Caller, env string, n latchkey.CredentialCreate) (c latchkey.Credential, err error) {
	if err := n.Validate(); err != nil {
		return c, err
	}
	err = b.update(ctx, who, func(o *op) error {
		e, err := o.environment(env)
		if err != nil {
			return err
		}
		if err := o.allow(latchkey.ActCredentialCreate, environmentThing(e)); err != nil {
			return err
		}
		slots := make(map[latchkey.Slot]latchkey.VariableID)
		names := make(map[latchkey.Slot]string)
		secret := n.Authentication.SecretSlot()
		for _, slot := range []latchkey.Slot{latchkey.SlotUsername, secret} {
			v, err := o.slot(e, slot, n)
			if err != nil {
				return err
			}
			slots[slot], names[slot] = v.ID, v.Name
		}
		c = latchkey.Credential{
			ID: latchkey.CredentialID(latchkey.NewID("cred", o.Now)), Name: n.Name, Description: n.Description, Store: n.Store,
			Usages: n.Usages, Authentication: n.Authentication, Exposure: n.Exposure, AllowSharedUID: n.AllowSharedUID, Machines: n.Machines, MachineGroups: n.MachineGroups,
			Slots: names, MyRole: latchkey.RoleOwner, CreatedBy: who.ID, CreatedAt: o.Now, UpdatedAt: o.Now,
		}
		t := credentialThing(e.ID, c)
		if err := o.CreateCredential(e.ID, c, slots); err != nil {
			return taken(err, "you have a credential with this name in this environment already")
		}
		if err := o.SetGrant(e.ID, t.kind, t.id, who.ID, latchkey.RoleOwner, "", who.ID); err != nil {
			return err
		}
		if c.Authentication == latchkey.AuthenticationCertificate {
			if err := o.StartCertificateCheck(c.ID); err != nil {
				return err
			}
			if err := o.addCertificates(&c); err != nil {
				return err
			}
		}
		return o.record(latchkey.ActCredentialCreate, t, map[string]string{
			"username": names[latchkey.SlotUsername], string(secret): names[secret], "exposure": string(c.Exposure),
		})
	})
	if err == nil {
		b.wakeChecks() // of the certificate, and of references of new variables
	}
	return c, err
}

// slot returns the variable for a slot of a new credential: the one that it names,
// or one that is made.
func (o *op) slot(e latchkey.Environment, slot latchkey.Slot, n latchkey.CredentialCreate) (latchkey.Variable, error) {
	c, isNew := n.Variables[slot]
	if !isNew {
		return o.slotVariable(e, slot, n.Slots[slot])
	}
	field := "variables." + string(slot)
	if c.Type == "" {
		c.Type = slot.Type()
	}
	if c.Type != slot.Type() {
		return latchkey.Variable{}, latchkey.Invalid(field+".type", "must be %s", slot.Type())
	}
	v, err := o.createVariable(e, c)
	return v, inside(err, field)
}

// inside is an error about fields of a part of a request as one about the request.
func inside(err error, part string) error {
	e, ok := err.(*latchkey.Error) // of a refusal, which has one inside, nothing changes
	if !ok || len(e.Fields) == 0 {
		return err
	}
	c := *e
	c.Fields = make([]latchkey.FieldError, len(e.Fields))
	for i, f := range e.Fields {
		c.Fields[i] = latchkey.FieldError{Field: part + "." + f.Field, Message: f.Message}
	}
	return &c
}

// slotVariable returns the variable that a new credential names for a slot, if
// it fits. Seeing a secret variable is not enough to make a credential of it,
// with an exposure of one's own choice: the caller must be able to change the
// variable, or to read the secret itself.
func (o *op) slotVariable(e latchkey.Environment, slot latchkey.Slot, ref string) (latchkey.Variable, error) {
	field := "slots." + string(slot)
	_, v, err := o.variable(string(e.ID), ref, latchkey.ActVariableRead)
	if isNotFound(err) {
		return v, latchkey.Invalid(field, "there is no such variable, or you may not see it")
	}
	if err != nil {
		return v, err
	}
	switch want := slot.Type(); {
	case v.Type != want:
		return v, latchkey.Invalid(field, "must be a variable of type %s, and this one is of type %s", want, v.Type)
	case want == latchkey.TypeSecret && v.Check == nil:
		return v, latchkey.Invalid(field, "the variable has no secret reference")
	case want == latchkey.TypeSecret && v.Check.State == latchkey.CheckFailed && !v.Check.Overridden:
		return v, latchkey.Invalid(field, "the variable's check failed: %s", v.Check.Message)
	case want == latchkey.TypeText:
		return v, nil
	}
	if ok, err := o.readsSecret(o.who.ID, v); err != nil || ok {
		return v, err
	}
	access, err := o.Access(o.who.ID, e.ID, string(v.ID))
	if err != nil || access.Can(latchkey.ActVariableBind) {
		return v, err
	}
	return v, o.refuse(latchkey.ActVariableBind, variableThing(e.ID, v), "not-authorized", need(latchkey.ActVariableBind)+", or the right to read the secret itself")
}

// readsSecret reports whether a principal may read the secret that is in force for a
// variable itself, in an embedded vault.
func (o *op) readsSecret(p latchkey.PrincipalID, v latchkey.Variable) (bool, error) {
	if v.InForce == nil {
		return false, nil
	}
	vault, embedded, err := embeddedVault(o.Tx, v.InForce.VaultRef())
	if err != nil || !embedded {
		return false, err
	}
	return o.vaultCan(p, vault, secretObject(v.InForce.Secret), latchkey.VaultGetSecret)
}

// UpdateCredential changes what u sets. What lets the secret nearer to a flow is
// for owners only.
func (b *Broker) UpdateCredential(ctx context.Context, who latchkey.Caller, env string, id latchkey.CredentialID, u latchkey.CredentialUpdate) (c latchkey.Credential, err error) {
	if err := u.Validate(); err != nil {
		return c, err
	}
	err = b.update(ctx, who, func(o *op) (err error) {
		var e latchkey.Environment
		if e, c, err = o.credential(env, id, latchkey.ActCredentialUpdate); err != nil {
			return err
		}
		action := latchkey.ActCredentialUpdate
		if u.OwnerOnly() {
			action = latchkey.ActCredentialExpose
			if err := o.allow(action, credentialThing(e.ID, c)); err != nil {
				return err
			}
		}
		set(&c.Name, u.Name)
		set(&c.Description, u.Description)
		set(&c.Exposure, u.Exposure)
		set(&c.AllowSharedUID, u.AllowSharedUID)
		set(&c.Machines, u.Machines)
		set(&c.MachineGroups, u.MachineGroups)
		c.UpdatedAt = o.Now
		if err := o.UpdateCredential(c); err != nil {
			return taken(err, "another credential of the same creator has this name")
		}
		return o.record(action, credentialThing(e.ID, c), map[string]string{
			"exposure": string(c.Exposure), "allowSharedUid": fmt.Sprint(c.AllowSharedUID), "machines": fmt.Sprint(c.Machines), "machineGroups": fmt.Sprint(c.MachineGroups),
		})
	})
	return c, err
}

// hasUsage says whether a credential is for a usage.
func hasUsage(c latchkey.Credential, usage latchkey.Usage) denial {
	if slices.Contains(c.Usages, usage) {
		return denial{}
	}
	return denial{code: "usage", reason: fmt.Sprintf("the credential %q is not for use as %s", c.Name, usage), remedy: "create a credential with this usage"}
}

// fitsOn says whether a credential may be used on a machine: one that it lists, or of a
// group that it lists, unless it lists none.
func fitsOn(c latchkey.Credential, m db.Machine) denial {
	switch listed := slices.Contains(c.Machines, m.ID) || m.MachineGroup != "" && slices.Contains(c.MachineGroups, m.MachineGroup); {
	case len(c.Machines)+len(c.MachineGroups) > 0 && !listed:
		return denial{code: "machine-not-listed", reason: fmt.Sprintf("the credential %q may be used on certain machines only, and this is none of them", c.Name), remedy: "its owner can add the machine"}
	case m.SharedUID && !c.AllowSharedUID:
		return denial{code: "shared-uid", reason: fmt.Sprintf("flows on this machine run as the agent's own user, and the credential %q does not allow that", c.Name), remedy: "set run_as in the machine's policy file, or let the credential's owner set allowSharedUid"}
	}
	return denial{}
}

// exposes says whether a credential's owner lets a flow have it by a handover.
func exposes(c latchkey.Credential, h latchkey.Handover) denial {
	if c.Exposure.Allows(h) {
		return denial{}
	}
	return denial{code: "exposure", reason: fmt.Sprintf("the flow asks for the credential %q by %s, and its owner allows the exposure %s only", c.Name, h, c.Exposure), remedy: fmt.Sprintf("the credential's owner can set its exposure to %s", h)}
}

// BindableVariables lists the variables that the caller may make a credential of, for
// a slot. A page may have fewer than it could, and one more after it.
func (b *Broker) BindableVariables(ctx context.Context, who latchkey.Caller, env string, slot latchkey.Slot, page latchkey.PageOptions) (p latchkey.Page[latchkey.Variable], err error) {
	p, err = b.Variables(ctx, who, env, VariableFilter{Type: slot.Type()}, page)
	if err != nil || slot.Type() == latchkey.TypeText {
		return p, err
	}
	err = b.view(ctx, who, func(o *op) error {
		e, err := o.environment(env)
		if err != nil {
			return err
		}
		ids := make([]string, len(p.Items))
		for i, v := range p.Items {
			ids[i] = string(v.ID)
		}
		roles, err := o.Roles(who.ID, ids)
		if err != nil {
			return err
		}
		bindable := []latchkey.Variable{}
		for _, v := range p.Items {
			access := latchkey.Access{Environment: []latchkey.EnvironmentRole{e.MyRole}, Role: roles[string(v.ID)]}
			ok := access.Can(latchkey.ActVariableBind)
			if !ok {
				if ok, err = o.readsSecret(who.ID, v); err != nil {
					return err
				}
			}
			if ok {
				bindable = append(bindable, v)
			}
		}
		p.Items = bindable
		return nil
	})
	return p, err
}

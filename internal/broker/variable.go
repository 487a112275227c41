package broker

import (
	"context"
	"maps"
	"slices"

	"latchkey.dev/internal/db"
	"latchkey.dev/latchkey"
)

func variableThing(env latchkey.EnvironmentID, v latchkey.Variable) thing {
	return thing{latchkey.KindVariable, env, string(v.ID), v.Name, latchkey.ActVariableRead}
}

// variable returns the variable of an environment with an id or unique name,
// if the caller may do action on it.
func (o *op) variable(envRef, ref string, action latchkey.Action) (latchkey.Environment, latchkey.Variable, error) {
	e, err := o.environment(envRef)
	if err != nil {
		return e, latchkey.Variable{}, err
	}
	v, err := o.Variable(e.ID, ref)
	if err != nil {
		return e, v, o.unseen(err, latchkey.KindVariable, e.ID)
	}
	if err := o.allow(action, variableThing(e.ID, v)); err != nil {
		return e, v, err
	}
	return e, v, o.addReferences(&v)
}

// addReferences fills in what variables show of their references.
func (o *op) addReferences(variables ...*latchkey.Variable) error {
	byID := make(map[latchkey.VariableID]*latchkey.Variable)
	for _, v := range variables {
		if v.Type == latchkey.TypeSecret {
			byID[v.ID] = v
		}
	}
	refs, err := o.References(slices.Collect(maps.Keys(byID))...)
	if err != nil {
		return err
	}
	for _, r := range refs {
		v, ref := byID[r.Variable], r.SecretReference
		if r.Newest {
			check := r.Check
			if check.State == latchkey.CheckChecking {
				check.NextAt = nil // when a check that is under way is taken up is of no use to people
			}
			v.Secret, v.Check = &ref, &check
		}
		if r.InForce {
			v.InForce = &ref
		}
	}
	return nil
}

// Variable returns the variable with an id or unique name.
func (b *Broker) Variable(ctx context.Context, who latchkey.Caller, env, ref string) (v latchkey.Variable, err error) {
	err = b.view(ctx, who, func(o *op) (err error) {
		if _, v, err = o.variable(env, ref, latchkey.ActVariableRead); err != nil {
			return err
		}
		return o.describeVariables(&v)
	})
	return v, err
}

// A VariableFilter chooses variables of a list; zero fields choose all.
type VariableFilter = db.VariableFilter

// Variables lists the variables that the caller may see.
func (b *Broker) Variables(ctx context.Context, who latchkey.Caller, env string, f VariableFilter, page latchkey.PageOptions) (p latchkey.Page[latchkey.Variable], err error) {
	if err := page.Validate(latchkey.SortOrders...); err != nil {
		return p, err
	}
	return list(ctx, b, who, env, latchkey.ActVariableRead, func(o *op, id latchkey.EnvironmentID, visible db.Visible) (latchkey.Page[latchkey.Variable], error) {
		p, err := o.Variables(id, visible, f, page)
		if err != nil {
			return p, err
		}
		variables := make([]*latchkey.Variable, len(p.Items))
		for i := range p.Items {
			variables[i] = &p.Items[i]
		}
		if err := o.addReferences(variables...); err != nil {
			return p, err
		}
		for _, v := range variables {
			if v.Check != nil {
				v.Check.Results = nil // they are for one variable at a time
			}
		}
		return p, o.describeVariables(variables...)
	})
}

// CreateVariable makes a variable, owned by the caller. For a secret variable
// the check of its reference begins once it is saved.
func (b *Broker) CreateVariable(ctx context.Context, who latchkey.Caller, env string, c latchkey.VariableCreate) (v latchkey.Variable, err error) {
	err = b.update(ctx, who, func(o *op) error {
		e, err := o.environment(env)
		if err != nil {
			return err
		}
		v, err = o.createVariable(e, c)
		return err
	})
	if err == nil && v.Type == latchkey.TypeSecret {
		b.wakeChecks()
	}
	return v, err
}

// createVariable makes a variable of the caller in an environment.
func (o *op) createVariable(e latchkey.Environment, c latchkey.VariableCreate) (v latchkey.Variable, err error) {
	if err := c.Validate(e.Prefix); err != nil {
		return v, err
	}
	v = latchkey.Variable{
		ID: latchkey.VariableID(latchkey.NewID("var", o.Now)), Name: c.Name, DisplayName: c.DisplayName, Description: c.Description,
		Type: c.Type, DefaultValue: c.DefaultValue, Value: c.Value, CreatedBy: o.who.ID, CreatedAt: o.Now, UpdatedAt: o.Now,
	}
	t := variableThing(e.ID, v)
	if err := o.allow(latchkey.ActVariableCreate, thing{latchkey.KindEnvironment, e.ID, "", e.Name, latchkey.ActEnvironmentRead}); err != nil {
		return v, err
	}
	if err := o.CreateVariable(e.ID, v); err != nil {
		return v, taken(err, "there is a variable with this name already, or one that you may not see; give another name")
	}
	if err := o.SetGrant(e.ID, t.kind, t.id, o.who.ID, latchkey.RoleOwner, "", o.who.ID); err != nil {
		return v, err
	}
	if err := o.saveReference(e, &v, ""); err != nil {
		return v, err
	}
	return v, o.record(latchkey.ActVariableCreate, t, details(v))
}

// details is what the audit log says of a change of a variable: references, but
// no values.
func details(v latchkey.Variable) map[string]string {
	if v.Secret == nil {
		return map[string]string{"type": string(v.Type)}
	}
	return map[string]string{"type": string(v.Type), "reference": v.Secret.String()}
}

// saveReference starts the check of a secret variable's effective reference if
// it is another than before was.
func (o *op) saveReference(e latchkey.Environment, v *latchkey.Variable, before string) error {
	if v.Type != latchkey.TypeSecret {
		return nil
	}
	text, ok := v.Effective()
	if !ok {
		v.Secret, v.Check, v.InForce = nil, nil, nil
		return o.RetireReferences(v.ID)
	}
	if text == before {
		return nil
	}
	ref, err := latchkey.ParseSecretReference(text)
	if err != nil {
		return err
	}
	if !allowsVault(e, ref.VaultRef()) {
		return latchkey.Invalid("secret.vault", "this environment does not list the vault; an environment admin can add its ARM id to the environment's vaults")
	}
	if _, err := o.CreateReference(v.ID, ref, o.who.ID); err != nil {
		return err
	}
	return o.addReferences(v)
}

// allowsVault reports whether references of an environment may name a vault.
func allowsVault(e latchkey.Environment, v latchkey.VaultReference) bool {
	return slices.ContainsFunc(e.Vaults, func(s string) bool {
		if s == latchkey.AnyVault {
			return true
		}
		listed, err := latchkey.ParseVaultID(s)
		return err == nil && listed.Key() == v.Key()
	})
}

// UpdateVariable changes what u sets. A new reference is checked before
// releases read it; until then the old one stays in force.
func (b *Broker) UpdateVariable(ctx context.Context, who latchkey.Caller, env, ref string, u latchkey.VariableUpdate) (v latchkey.Variable, err error) {
	err = b.update(ctx, who, func(o *op) error {
		u := u // Validate changes it, and this function may run again
		var e latchkey.Environment
		var err error
		if e, v, err = o.variable(env, ref, latchkey.ActVariableUpdate); err != nil {
			return err
		}
		if err := u.Validate(v.Type); err != nil {
			return err
		}
		before, _ := v.Effective()
		set(&v.DisplayName, u.DisplayName)
		set(&v.Description, u.Description)
		setValue(&v.DefaultValue, u.DefaultValue)
		setValue(&v.Value, u.Value)
		v.UpdatedAt = o.Now
		if err := o.UpdateVariable(v); err != nil {
			return err
		}
		if err := o.saveReference(e, &v, before); err != nil {
			return err
		}
		return o.record(latchkey.ActVariableUpdate, variableThing(e.ID, v), details(v))
	})
	if err == nil { // text may be the user name of a certificate
		b.wakeChecks()
	}
	return v, err
}

// set changes *to if v is given.
func set[T any](to *T, v *T) {
	if v != nil {
		*to = *v
	}
}

// setValue changes one of a variable's values if v is given; empty removes it.
func setValue(to **string, v *string) {
	if v == nil {
		return
	}
	*to = v
	if *v == "" {
		*to = nil
	}
}

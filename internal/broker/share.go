package broker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"latchkey.dev/internal/db"
	"latchkey.dev/latchkey"
)

// A shareable is a thing that can be shared, with how.
type shareable struct {
	thing
	latchkey.Sharing
	env latchkey.Environment
}

// shareable returns the thing of a kind with an id, or a variable's name, if the
// caller may do an action on it.
func (o *op) shareable(env string, kind latchkey.Kind, ref string, action func(latchkey.Sharing) latchkey.Action) (s shareable, err error) {
	s.Sharing = latchkey.SharingOf[kind]
	switch act := action(s.Sharing); kind {
	case latchkey.KindCredential:
		var c latchkey.Credential
		s.env, c, err = o.credential(env, latchkey.CredentialID(ref), act)
		s.thing = credentialThing(s.env.ID, c)
	case latchkey.KindVariable:
		var v latchkey.Variable
		s.env, v, err = o.variable(env, ref, act)
		s.thing = variableThing(s.env.ID, v)
	case latchkey.KindMachine:
		var m db.Machine
		if s.env, err = o.environment(env); err == nil {
			m, err = o.machineIn(s.env.ID, latchkey.MachineID(ref), act)
		}
		s.thing = machineThing(m)
	case latchkey.KindMachineGroup:
		var g db.MachineGroup
		if s.env, err = o.environment(env); err == nil {
			g, err = o.machineGroupIn(s.env.ID, latchkey.MachineGroupID(ref), act)
		}
		s.thing = machineGroupThing(g)
	case latchkey.KindFlow:
		var f latchkey.Flow
		s.env, f, err = o.flow(env, latchkey.FlowID(ref), act)
		s.thing = flowThing(s.env.ID, f)
	case latchkey.KindConnection:
		var c latchkey.Connection
		s.env, c, err = o.connection(env, latchkey.ConnectionID(ref), act)
		s.thing = connectionThing(s.env.ID, c)
	default:
		err = fmt.Errorf("a %s cannot be shared", kind)
	}
	return s, err
}

func shareList(s latchkey.Sharing) latchkey.Action   { return s.List }
func shareSet(s latchkey.Sharing) latchkey.Action    { return s.Share }
func shareRemove(s latchkey.Sharing) latchkey.Action { return s.Unshare }
func shareRead(s latchkey.Sharing) latchkey.Action   { return s.Read }

// Shares lists who has a role on a thing.
func (b *Broker) Shares(ctx context.Context, who latchkey.Caller, env string, kind latchkey.Kind, ref string, page latchkey.PageOptions) (p latchkey.Page[latchkey.Share], err error) {
	err = b.view(ctx, who, func(o *op) error {
		s, err := o.shareable(env, kind, ref, shareList)
		if err != nil {
			return err
		}
		if p, err = o.Shares(s.id, page); err != nil {
			return err
		}
		return o.hideVias(s, p.Items)
	})
	return p, err
}

// hideVias takes the names of credentials out of shares that the caller may not
// see.
func (o *op) hideVias(s shareable, shares []latchkey.Share) error {
	for i, share := range shares {
		if share.Via == "" {
			continue
		}
		access, err := o.Access(o.who.ID, s.env.ID, string(share.Via))
		if err != nil {
			return err
		}
		if !access.Can(latchkey.ActCredentialRead) {
			shares[i].ViaName = ""
		}
	}
	return nil
}

// Share returns a principal's share of a thing. Of a credential it says what would
// become of the grants on its variables if the share were removed.
func (b *Broker) Share(ctx context.Context, who latchkey.Caller, env string, kind latchkey.Kind, ref, principal string) (d latchkey.ShareDetail, err error) {
	err = b.view(ctx, who, func(o *op) error {
		s, err := o.shareable(env, kind, ref, shareList)
		if err != nil {
			return err
		}
		p, grants, err := o.grantsOf(s, principal)
		if err != nil {
			return err
		}
		shares := []latchkey.Share{grants[0].Share}
		if err := o.hideVias(s, shares); err != nil {
			return err
		}
		d = latchkey.ShareDetail{Share: shares[0]}
		d.Variables, err = o.sharedVariables(s, p, true)
		return err
	})
	return d, err
}

// grantsOf returns the principal with an id, a login or a group's name, and those of
// its grants on a thing that can be removed there, at least one: its own first, and of
// a variable what was left of shares of credentials. What comes with a share that
// there is goes with that one.
func (o *op) grantsOf(s shareable, principal string) (p db.Principal, grants []db.Grant, err error) {
	if p, err = o.principal(principal); err != nil {
		if isNotFound(err) {
			err = latchkey.NotFound(latchkey.KindShare)
		}
		return p, nil, err
	}
	own, err := o.GrantTo(s.id, p.ID)
	switch {
	case err == nil:
		grants = append(grants, own)
	case !errors.Is(err, db.ErrNotFound):
		return p, nil, err
	}
	if s.kind == latchkey.KindVariable {
		with, err := o.GrantsWith(s.id, p.ID)
		if err != nil {
			return p, nil, err
		}
		for _, g := range with {
			if g.Left {
				grants = append(grants, g)
			}
		}
		if len(grants) == 0 && len(with) > 0 {
			why, err := o.why(s.env.ID, p.ID, with[0])
			if err != nil {
				return p, nil, err
			}
			return p, nil, latchkey.Conflict("with-credential", "%s sees %s with a credential: %s; it goes when that share is removed", p.Name, describe(s.thing), why)
		}
	}
	if len(grants) == 0 {
		return p, nil, latchkey.NotFound(latchkey.KindShare)
	}
	return p, grants, nil
}

// SetShare gives a principal a role on a thing, in place of the one that it was
// given before, but not more than the caller holds. With a credential go its
// variables, to see. The owner's role is handed over, not given.
func (b *Broker) SetShare(ctx context.Context, who latchkey.Caller, env string, kind latchkey.Kind, ref, principal string, in latchkey.ShareSet) (share latchkey.Share, err error) {
	err = b.update(ctx, who, func(o *op) error {
		s, err := o.shareable(env, kind, ref, shareSet)
		if err != nil {
			return err
		}
		if !s.Gives(in.Role) {
			return latchkey.Invalid("role", "must be one of %v; the owner's is handed over", s.Roles)
		}
		p, err := o.sharee(s, principal)
		if err != nil {
			return err
		}
		before, err := o.GrantTo(s.id, p.ID)
		if err != nil && !errors.Is(err, db.ErrNotFound) {
			return err
		}
		if err := o.mayGive(s, before, in.Role); err != nil {
			return err
		}
		if err := o.SetGrant(s.env.ID, s.kind, s.id, p.ID, in.Role, "", who.ID); err != nil {
			return err
		}
		details := map[string]string{"principal": string(p.ID), "name": p.Name, "role": string(in.Role), "roleBefore": string(before.Role)}
		if err := o.shareVariables(s, p.ID, details); err != nil {
			return err
		}
		g, err := o.GrantTo(s.id, p.ID)
		if err != nil {
			return err
		}
		share = g.Share
		return o.record(s.Sharing.Share, s.thing, details)
	})
	return share, err
}

// sharee returns the principal that something is to be shared with, if it can be.
// People and programs need a role in the environment to see anything in it; what a
// group's members have is decided member by member.
func (o *op) sharee(s shareable, ref string) (db.Principal, error) {
	p, err := o.principal(ref)
	if err != nil {
		return p, asField(err, "principal", "there is no such user, group or service principal")
	}
	switch {
	case s.kind == latchkey.KindConnection && p.Kind != latchkey.PrincipalService:
		return p, latchkey.Invalid("principal", "must be a service principal: whoever may use a connection can run commands as its owner, and so people make their own")
	case !slices.Contains(s.To, p.Kind), p.ID == latchkey.ServiceIdentity:
		return p, latchkey.Invalid("principal", "must be a user, a group or a service principal")
	case p.Disabled:
		return p, latchkey.Invalid("principal", "the account %s is deactivated", p.Name)
	case p.Kind == latchkey.PrincipalGroup:
		return p, nil
	}
	access, err := o.Access(p.ID, s.env.ID, "")
	if err == nil && len(access.Environment) == 0 {
		err = latchkey.Invalid("principal", "%s has no role in the environment %s and would not see it; an admin of the environment can give one", p.Name, s.env.Name)
	}
	return p, err
}

// mayGive returns nil if the caller, who may share a thing, may give a role on it,
// RoleNone to take it away, to whom the grant before is.
func (o *op) mayGive(s shareable, before db.Grant, role latchkey.Role) error {
	action := s.Sharing.Share
	if role == latchkey.RoleNone {
		action = s.Unshare
	}
	access, err := o.Access(o.who.ID, s.thing.env, s.id)
	if err != nil {
		return err
	}
	refuse := func(code, remedy string) error { return o.refuse(action, s.thing, code, remedy) }
	switch {
	case before.Role == latchkey.RoleOwner:
		return latchkey.Conflict("owner", "%s is the owner; hand the ownership over first", before.Name)
	case !access.Role.Includes(role):
		return refuse("more-than-held", fmt.Sprintf("nobody gives more than they hold, and that is %s", access.Role))
	case before.Role != latchkey.RoleNone && !access.Role.Includes(before.Role):
		return refuse("more-than-held", fmt.Sprintf("%s holds more than you do; it takes the role %s", before.Name, before.Role))
	case before.Role != latchkey.RoleNone && access.Role == latchkey.RoleUserShare && before.CreatedBy != o.who.ID:
		return refuse("not-yours", "who can view and share changes and removes only what they gave; it takes the role co-owner")
	}
	return nil
}

// shareVariables gives whoever a credential is shared with its variables to see: those
// that the caller sees, since nobody gives more than they hold. details, of the audit
// log, name the others. Using the credential does not take them.
func (o *op) shareVariables(s shareable, to latchkey.PrincipalID, details map[string]string) error {
	if s.kind != latchkey.KindCredential {
		return nil
	}
	variables, err := o.SlotVariables(latchkey.CredentialID(s.id))
	if err != nil {
		return err
	}
	var without []string
	for _, v := range variables {
		access, err := o.Access(o.who.ID, s.env.ID, string(v.ID))
		if err != nil {
			return err
		}
		if !access.Can(latchkey.ActVariableRead) {
			without = append(without, string(v.ID))
			continue
		}
		if err := o.SetGrant(s.env.ID, latchkey.KindVariable, string(v.ID), to, latchkey.RoleUser, latchkey.CredentialID(s.id), o.who.ID); err != nil {
			return err
		}
	}
	if len(without) > 0 {
		details["variablesWithout"] = strings.Join(without, " ")
	}
	return nil
}

// sharedVariables says what becomes of the grants on a credential's variables that
// came with its share to a principal, if the share and, with remove, the grants are
// removed. A disabled principal gets back what is left once it is enabled, and so
// counts as if it were.
func (o *op) sharedVariables(s shareable, to db.Principal, remove bool) ([]latchkey.SharedVariable, error) {
	if s.kind != latchkey.KindCredential {
		return nil, nil
	}
	credential, p, kind := latchkey.CredentialID(s.id), to.ID, to.Kind
	variables, err := o.SlotVariables(credential)
	if err != nil {
		return nil, err
	}
	shared := []latchkey.SharedVariable{}
	for _, v := range variables {
		grants, err := o.GrantsReaching(p, string(v.ID))
		if err != nil {
			return nil, err
		}
		came := func(g db.Grant) bool { return g.Principal == p && g.Via == credential }
		if !slices.ContainsFunc(grants, came) {
			continue
		}
		sv := latchkey.SharedVariable{Variable: v.ID, Name: v.Name, Removed: remove, Because: []string{}}
		for _, g := range grants {
			if came(g) {
				continue
			}
			why, err := o.why(s.env.ID, p, g)
			if err != nil {
				return nil, err
			}
			sv.Because = append(sv.Because, why)
		}
		roles, err := o.RolesReaching(p, s.env.ID)
		if err != nil {
			return nil, err
		}
		if access := (latchkey.Access{Environment: roles}); access.Can(latchkey.ActVariableRead) {
			sv.Because = append(sv.Because, fmt.Sprintf("the role %s in the environment shows every variable", access.Highest()))
		}
		// Who has no role in the environment sees nothing of it as it is. Of a group's
		// members each has one or not.
		sv.Loses = remove && len(sv.Because) == 0 && (len(roles) > 0 || kind == latchkey.PrincipalGroup)
		shared = append(shared, sv)
	}
	return shared, nil
}

// why says in a sentence what a grant that reaches a principal comes from. It does
// not name a credential that the caller may not see.
func (o *op) why(env latchkey.EnvironmentID, p latchkey.PrincipalID, g db.Grant) (string, error) {
	to := "it"
	if g.Principal != p {
		to = fmt.Sprintf("the group %q", g.Name)
	}
	switch {
	case g.Role == latchkey.RoleOwner:
		return "it is the owner", nil
	case g.Via == "":
		return fmt.Sprintf("%s was given the role %s on it", to, g.Role), nil
	}
	access, err := o.Access(o.who.ID, env, string(g.Via))
	if err != nil {
		return "", err
	}
	name := "a credential that you may not see"
	if access.Can(latchkey.ActCredentialRead) && g.ViaName != "" {
		name = fmt.Sprintf("the credential %q", g.ViaName)
	}
	if g.Left {
		return fmt.Sprintf("%s was once shared with %s; this was left of it", name, to), nil
	}
	return fmt.Sprintf("%s is shared with %s", name, to), nil
}

// Unshare takes the role on a thing away that a principal was given. The grants on
// a credential's variables that came with it stay, unless remove says otherwise or,
// when remove is nil, the environment does.
func (b *Broker) Unshare(ctx context.Context, who latchkey.Caller, env string, kind latchkey.Kind, ref, principal string, remove *bool) (u latchkey.Unshared, err error) {
	err = b.update(ctx, who, func(o *op) error {
		s, err := o.shareable(env, kind, ref, shareRemove)
		if err != nil {
			return err
		}
		p, grants, err := o.grantsOf(s, principal)
		if err != nil {
			return err
		}
		details := map[string]string{"principal": string(p.ID), "name": p.Name, "roleBefore": string(grants[0].Role)}
		removed, left := 0, 0
		var refused error
		for _, g := range grants {
			if err := o.mayGive(s, g, latchkey.RoleNone); err != nil {
				if g.Via == "" {
					return err
				}
				refused = err
				continue
			}
			if err := o.RemoveGrant(s.env.ID, s.id, p.ID, g.Via); err != nil {
				return err
			}
			removed++
			if g.Via != "" {
				left++
			}
		}
		if removed == 0 {
			return refused // all is left of shares of credentials, which others gave
		}
		if left > 0 {
			details["leftOfCredentials"] = fmt.Sprint(left)
		}
		u.Variables, err = o.leave(s, p, remove, details)
		if err != nil {
			return err
		}
		return o.record(s.Unshare, s.thing, details)
	})
	return u, err
}

// leave decides about what a principal has of a credential's variables by a share of
// it that is removed: it stays, unless remove says otherwise or, when remove is nil,
// the environment does. details are those of the audit log.
func (o *op) leave(s shareable, p db.Principal, remove *bool, details map[string]string) ([]latchkey.SharedVariable, error) {
	drop := s.env.RemoveVariableGrants
	if remove != nil {
		drop = *remove
	}
	variables, err := o.sharedVariables(s, p, drop)
	if err != nil || len(variables) == 0 {
		return []latchkey.SharedVariable{}, err
	}
	for _, v := range variables {
		if !v.Removed {
			continue
		}
		if err := o.RemoveGrant(s.env.ID, string(v.Variable), p.ID, latchkey.CredentialID(s.id)); err != nil {
			return nil, err
		}
	}
	details["variableGrants"], details["removed"] = fmt.Sprint(len(variables)), fmt.Sprint(drop)
	return variables, nil
}

// SetOwner hands the ownership of a thing over. Its owner may, and an admin of the
// environment, who takes it over so; the owner is told. A credential's new owner gets
// its variables to see, and what the owner before has of them by its shares is left as
// by Unshare. A connection's new owner must hold what it binds.
func (b *Broker) SetOwner(ctx context.Context, who latchkey.Caller, env string, kind latchkey.Kind, ref string, in latchkey.OwnerSet) (share latchkey.Share, err error) {
	err = b.update(ctx, who, func(o *op) error {
		s, err := o.shareable(env, kind, ref, shareRead)
		if err != nil {
			return err
		}
		share, err = o.setOwner(s, in, func(before latchkey.PrincipalID, p db.Principal) error {
			return o.tell(before, s.thing, fmt.Sprintf("%s has taken over %s, which you owned; its owner is %s now.", who.Name, describe(s.thing), p.Name))
		})
		return err
	})
	return share, err
}

// setOwner makes somebody else the owner of a thing that the caller may see. told
// is called when the owner before is another than the caller, with the new one.
func (o *op) setOwner(s shareable, in latchkey.OwnerSet, told func(before latchkey.PrincipalID, now db.Principal) error) (share latchkey.Share, err error) {
	if in.Keep != latchkey.RoleNone && !s.Gives(in.Keep) {
		return share, latchkey.Invalid("keep", "must be one of %v, or nothing", s.Roles)
	}
	before, err := o.OwnerOf(s.id)
	if err != nil && !errors.Is(err, db.ErrNotFound) {
		return share, err
	}
	action := s.HandOver
	if before.Principal != o.who.ID {
		access, err := o.Access(o.who.ID, s.env.ID, s.id)
		if err != nil {
			return share, err
		}
		if access.Can(s.Take) {
			action = s.Take
		}
	}
	if err := o.allow(action, s.thing); err != nil {
		return share, err
	}
	p, err := o.newOwner(s, in.Principal)
	if err != nil {
		return share, err
	}
	if before.Principal == p.ID {
		return share, latchkey.Conflict("owner", "%s is the owner already", p.Name)
	}
	if s.kind == latchkey.KindConnection && in.Keep != latchkey.RoleNone && before.Kind != latchkey.PrincipalService {
		return share, latchkey.Invalid("keep", "must be left out: a connection is not shared with people")
	}
	if err := o.SetOwner(s.env.ID, s.kind, s.id, p.ID, in.Keep, o.who.ID); err != nil {
		return share, err
	}
	details := map[string]string{"owner": string(p.ID), "name": p.Name, "ownerBefore": string(before.Principal), "keeps": string(in.Keep)}
	if err := o.shareVariables(s, p.ID, details); err != nil {
		return share, err
	}
	if before.Principal != "" {
		// What is kept is a share as any other, and what is not is one that is removed.
		if in.Keep != latchkey.RoleNone {
			err = o.shareVariables(s, before.Principal, details)
		} else {
			_, err = o.leave(s, db.Principal{ID: before.Principal, Kind: before.Kind}, nil, details)
		}
		if err != nil {
			return share, err
		}
	}
	g, err := o.OwnerOf(s.id)
	if err != nil {
		return share, err
	}
	if before.Principal != "" && before.Principal != o.who.ID {
		if err := told(before.Principal, p); err != nil {
			return share, err
		}
	}
	return g.Share, o.record(action, s.thing, details)
}

// newOwner returns the principal that is to own a thing, if it can.
func (o *op) newOwner(s shareable, ref string) (db.Principal, error) {
	p, err := o.principal(ref)
	switch {
	case err != nil:
		return p, asField(err, "principal", "there is no such user or service principal")
	case p.ID == latchkey.ServiceIdentity, p.Kind != latchkey.PrincipalUser && p.Kind != latchkey.PrincipalService:
		return p, latchkey.Invalid("principal", "must be a user or a service principal: somebody answers for what they own")
	case p.Disabled:
		return p, latchkey.Invalid("principal", "the account %s is deactivated", p.Name)
	}
	access, err := o.Access(p.ID, s.env.ID, "")
	if err != nil {
		return p, err
	}
	if len(access.Environment) == 0 {
		return p, latchkey.Invalid("principal", "%s has no role in the environment %s; an admin of the environment can give one", p.Name, s.env.Name)
	}
	if s.kind != latchkey.KindConnection {
		return p, nil
	}
	c, err := o.Connection(s.env.ID, latchkey.ConnectionID(s.id))
	if err != nil {
		return p, err
	}
	type need struct {
		action latchkey.Action
		id     string
	}
	target := need{latchkey.ActMachineUse, string(c.Target.Machine)}
	if c.Target.MachineGroup != "" {
		target = need{latchkey.ActMachineGroupUse, string(c.Target.MachineGroup)}
	}
	for _, need := range []need{target, {latchkey.ActCredentialUse, string(c.Credential)}} {
		access, err := o.Access(p.ID, s.env.ID, need.id)
		if err != nil {
			return p, err
		}
		if !access.Can(need.action) {
			return p, latchkey.Invalid("principal", "%s may not use the connection's target and credential (%s); share both with %s first", p.Name, need.action, p.Name)
		}
	}
	return p, nil
}

package broker

import (
	"context"
	"fmt"
	"slices"

	"latchkey.dev/internal/db"
	"latchkey.dev/latchkey"
)

// maxGivers bounds how many people an explanation names who could give something.
const maxGivers = 10

// An Inquiry asks for an Explanation.
type Inquiry struct {
	Principal string        // id, login or a group's name; "" is the caller
	Kind      latchkey.Kind // one of latchkey.ExplainedKinds
	Ref       string        // id of the thing, or a variable's name; nothing for an environment
	Action    latchkey.Action
}

// An explained is a thing whose access is explained.
type explained struct {
	thing
	e        latchkey.Environment
	run      db.Run            // of a run
	variable latchkey.Variable // of a variable
}

// Explain says whether a principal may do an action with a thing of an environment,
// or each action when none is named, and why. Everybody may ask about themselves;
// about others may who has at least co-owner on the thing, admins and auditors of
// the environment, and of the environment itself tenant admins. What the caller may
// not see is ErrNotFound.
func (b *Broker) Explain(ctx context.Context, who latchkey.Caller, env string, in Inquiry) (x latchkey.Explanation, err error) {
	actions := latchkey.ActionsOf(in.Kind)
	switch {
	case len(actions) == 0:
		return x, latchkey.Invalid("kind", "must be one of %v", latchkey.ExplainedKinds)
	case in.Action != "" && !slices.Contains(actions, in.Action):
		return x, latchkey.Invalid("action", "must be one of those on things of this kind: %v", actions)
	case in.Action != "":
		actions = []latchkey.Action{in.Action}
	}
	err = b.view(ctx, who, func(o *op) error {
		t, err := o.explained(env, in.Kind, in.Ref)
		if err != nil {
			return err
		}
		p, err := o.about(t, in.Principal)
		if err != nil {
			return err
		}
		x, err = o.explain(t, p, actions)
		return err
	})
	return x, err
}

// explained returns the thing that an Inquiry is about, if the caller may see it.
func (o *op) explained(env string, kind latchkey.Kind, ref string) (t explained, err error) {
	switch kind {
	case latchkey.KindEnvironment:
		if t.e, err = o.environment(env); err == nil && ref != "" && ref != t.e.Name && ref != string(t.e.ID) {
			err = latchkey.Invalid("id", "must be the environment's own, or left out")
		}
		t.thing = environmentThing(t.e)
	case latchkey.KindRun:
		if t.e, err = o.environment(env); err == nil {
			t.run, err = o.run(string(t.e.ID), latchkey.RunID(ref), latchkey.ActRunRead)
		}
		t.thing = runThing(t.run)
	case latchkey.KindVariable:
		t.e, t.variable, err = o.variable(env, ref, latchkey.ActVariableRead)
		t.thing = variableThing(t.e.ID, t.variable)
	default:
		var s shareable
		s, err = o.shareable(env, kind, ref, shareRead)
		t.thing, t.e = s.thing, s.env
	}
	return t, err
}

// about returns the principal that an Inquiry is about, if the caller may ask.
func (o *op) about(t explained, ref string) (db.Principal, error) {
	if ref == "" {
		ref = string(o.who.ID)
	}
	p, err := o.principal(ref)
	if err == nil && p.ID == o.who.ID {
		return p, nil
	}
	access, accessErr := o.accessTo(o.who.ID, t)
	if accessErr != nil {
		return p, accessErr
	}
	action := latchkey.ActAccessExplain
	if t.kind == latchkey.KindEnvironment {
		action = latchkey.ActAccessRead
	}
	if err := o.decide(access, action, t.thing); err != nil {
		return p, err
	}
	if err == nil && p.Kind == latchkey.PrincipalMachine {
		err = latchkey.Invalid("principal", "must be a user, a group or a service principal; what machines may do follows from the runs that they claim")
	}
	return p, asField(err, "principal", "there is no such user, group or service principal")
}

// accessTo returns what a principal holds with regard to a thing: what every
// operation on it is decided from.
func (o *op) accessTo(p latchkey.PrincipalID, t explained) (latchkey.Access, error) {
	if t.kind == latchkey.KindRun {
		return o.runAccess(p, t.run)
	}
	return o.Access(p, t.env, t.id)
}

func (o *op) explain(t explained, p db.Principal, actions []latchkey.Action) (x latchkey.Explanation, err error) {
	x = latchkey.Explanation{Environment: t.e.ID, Kind: t.kind, ID: t.id, Name: t.name, Decisions: []latchkey.AccessDecision{}, Obstacles: []latchkey.Obstacle{}}
	if x.Principal, err = o.DirectoryEntry(p.ID); err != nil {
		return x, found(err, latchkey.KindPrincipal)
	}
	access, err := o.accessTo(p.ID, t)
	if err != nil {
		return x, err
	}
	if x.Sources, err = o.sources(t, p); err != nil {
		return x, err
	}
	var would latchkey.Access // if all of it counted
	for _, s := range x.Sources {
		a := s.Access()
		would.Tenant = would.Tenant || a.Tenant
		would.Environment = append(would.Environment, a.Environment...)
		if a.Role.Includes(would.Role) {
			would.Role = a.Role
		}
	}
	x.Obstacles = obstacles(p, t, would)
	outside := len(would.Environment) == 0
	for i := range x.Sources {
		s := &x.Sources[i]
		s.Counts = !p.Disabled && !(outside && (s.Way == latchkey.WayShare || s.Way == latchkey.WayRun))
		s.Permits = []latchkey.Action{}
		for _, action := range actions {
			if s.Access().Can(action) || s.Way == latchkey.WayVault && action == latchkey.ActVariableBind {
				s.Permits = append(s.Permits, action)
			}
		}
	}
	reads := slices.ContainsFunc(x.Sources, func(s latchkey.AccessSource) bool { return s.Way == latchkey.WayVault && s.Counts })
	for _, action := range actions {
		d := latchkey.AccessDecision{Action: action, Allowed: access.Can(action) || reads && action == latchkey.ActVariableBind}
		if d.Allowed {
			d.Note = limit(action, t, access)
		} else if err := o.remedy(&d, t, p, would); err != nil {
			return x, err
		}
		x.Decisions = append(x.Decisions, d)
	}
	return x, nil
}

// sources returns what a principal holds with regard to a thing.
func (o *op) sources(t explained, p db.Principal) ([]latchkey.AccessSource, error) {
	sources, err := o.AccessSources(p.ID, t.env, t.id)
	if err != nil {
		return nil, err
	}
	for i := range sources {
		s := &sources[i]
		if !s.With {
			continue
		}
		access, err := o.Access(o.who.ID, t.env, string(s.Via))
		if err != nil {
			return nil, err
		}
		if !access.Can(latchkey.ActCredentialRead) {
			s.Via, s.ViaName = "", ""
		}
	}
	if t.kind == latchkey.KindRun && (t.run.Owner == p.ID || t.run.StartedBy == p.ID) {
		at := t.run.QueuedAt
		sources = append(sources, latchkey.AccessSource{Way: latchkey.WayRun, Role: latchkey.RoleOwner, To: p.ID, ToName: p.Name, By: t.run.StartedBy, At: &at})
	}
	if t.kind == latchkey.KindVariable {
		reads, err := o.readsSecret(p.ID, t.variable)
		if err != nil {
			return nil, err
		}
		if reads {
			sources = append(sources, latchkey.AccessSource{Way: latchkey.WayVault, To: p.ID, ToName: p.Name})
		}
	}
	return sources, nil
}

// obstacles says what keeps what a principal holds from counting.
func obstacles(p db.Principal, t explained, would latchkey.Access) []latchkey.Obstacle {
	found := []latchkey.Obstacle{}
	add := func(code, format string, args ...any) {
		found = append(found, latchkey.Obstacle{Code: code, Message: fmt.Sprintf(format, args...)})
	}
	if p.Disabled {
		add(latchkey.ObstacleDisabled, "The account %s is deactivated: nothing that it holds counts until a tenant admin enables it.", p.Name)
	}
	switch {
	case p.Kind == latchkey.PrincipalGroup && len(would.Environment) == 0:
		add(latchkey.ObstacleGroup, "%s is a group without a role in the environment %s: shares of things in it count for those members only that have one by themselves or by another group.", p.Name, t.e.Name)
	case p.Kind == latchkey.PrincipalGroup:
		add(latchkey.ObstacleGroup, "%s is a group: a member may do what is said here, and what the member has besides.", p.Name)
	case len(would.Environment) == 0:
		add(latchkey.ObstacleOutside, "%s has no role in the environment %s: shares of things in it do not count.", p.Name, t.e.Name)
	}
	return found
}

// limit says how far a permission goes where the table does not say it all.
func limit(action latchkey.Action, t explained, access latchkey.Access) string {
	s := latchkey.SharingOf[t.kind]
	switch {
	case action == s.Share && access.Role == latchkey.RoleUserShare:
		return "gives no more than user-share, and changes only what it gave itself"
	case action == s.Unshare && access.Role == latchkey.RoleUserShare:
		return "takes away only what it gave itself"
	case action == s.Share && access.Role == latchkey.RoleCoOwner:
		return "gives no more than co-owner"
	case action == latchkey.ActFlowRun:
		return "a run also takes connection.use on its connection, and the connection's owner must hold its machine and credentials"
	case action == latchkey.ActConnectionUse:
		return "a run also takes flow.run on its flow, and the connection's owner must hold its machine and credentials"
	}
	return ""
}

// remedy fills in the least that would permit what is refused.
func (o *op) remedy(d *latchkey.AccessDecision, t explained, p db.Principal, would latchkey.Access) error {
	steps, ok := would.Missing(d.Action, t.kind, p.Kind)
	if !ok {
		d.Note = fmt.Sprintf("no %s can have this: %s", p.Kind, need(d.Action))
		return nil
	}
	if p.Disabled {
		d.Change = append(d.Change, latchkey.AccessStep{Give: latchkey.GiveEnable})
	}
	d.Change = append(d.Change, steps...)
	if t.kind == latchkey.KindConnection && p.Kind != latchkey.PrincipalService && latchkey.Permissions[d.Action].Role != latchkey.RoleNone {
		d.Note = "a connection is not shared with people and groups: whoever may use it can run commands as its owner, and so people make their own"
	}
	for i := range d.Change {
		if err := o.describeStep(&d.Change[i], t, p, would); err != nil {
			return err
		}
	}
	return nil
}

// describeStep says what a step gives, and who could.
func (o *op) describeStep(s *latchkey.AccessStep, t explained, p db.Principal, would latchkey.Access) (err error) {
	sharing := latchkey.SharingOf[t.kind]
	switch s.Give {
	case latchkey.GiveEnable:
		s.Message = fmt.Sprintf("enable the account %s; a tenant admin can", p.Name)
	case latchkey.GiveTenant:
		s.Message = fmt.Sprintf("make %s a tenant admin; another one can", p.Name)
	case latchkey.GiveMember:
		s.Message = fmt.Sprintf("give %s the role %s in the environment %s; its admins and tenant admins can", p.Name, s.EnvironmentRole, t.e.Name)
		if has := (latchkey.Access{Environment: would.Environment}).Highest(); has != "" {
			s.Message += fmt.Sprintf(". A principal has one role there by itself: in place of %s, or by a group beside it", has)
		}
		s.Who, err = o.EnvironmentAdmins(t.e.ID, maxGivers)
	case latchkey.GiveShare:
		from := latchkey.Permissions[sharing.Share].Role
		if s.Role.Includes(from) {
			from = s.Role
		}
		s.Message = fmt.Sprintf("share %s with %s in the role %s; who has at least the role %s on it can", describe(t.thing), p.Name, s.Role, from)
		s.Who, err = o.holders(t, from)
	case latchkey.GiveHandOver:
		s.Message = fmt.Sprintf("hand %s over to %s; its owner can, and an admin of the environment", describe(t.thing), p.Name)
		s.Who, err = o.holders(t, latchkey.RoleOwner)
	}
	return err
}

// holders returns some of those with at least a role on a thing, if the caller may
// see its shares.
func (o *op) holders(t explained, role latchkey.Role) ([]latchkey.DirectoryEntry, error) {
	access, err := o.accessTo(o.who.ID, t)
	if err != nil || !access.Can(latchkey.SharingOf[t.kind].List) {
		return nil, err
	}
	return o.Holders(t.id, role, maxGivers)
}

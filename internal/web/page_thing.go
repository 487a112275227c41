package web

import (
	"latchkey.dev/internal/broker"
	"latchkey.dev/latchkey"
)

// A sharedKind is a kind of things that have pages for sharing, dependencies,
// deletion and access, with the name of their list in addresses.
type sharedKind struct {
	kind   latchkey.Kind
	plural string
}

var sharedKinds = []sharedKind{
	{latchkey.KindCredential, "credentials"}, {latchkey.KindVariable, "variables"}, {latchkey.KindMachine, "machines"},
	{latchkey.KindMachineGroup, "machine-groups"},
	{latchkey.KindFlow, "flows"}, {latchkey.KindConnection, "connections"},
}

// pluralOf returns the name of a kind's list in addresses, or "".
func pluralOf(kind latchkey.Kind) string {
	for _, k := range sharedKinds {
		if k.kind == kind {
			return k.plural
		}
	}
	return ""
}

// thingRoutes are the pages that things of several kinds have: what is below
// /e/{env}/{plural}/{id}; several of them are deleted by the address without
// an id.
func (p *Pages) thingRoutes() {
	for _, k := range sharedKinds {
		about := func(method, path string, h func(*view, subject) error) {
			p.inEnvironment(method+" /e/{env}/"+k.plural+"/{id}/"+path, func(v *view) error {
				s, err := v.subject(k.kind, v.r.PathValue("id"))
				if err != nil {
					return err
				}
				return h(v, s)
			})
		}
		about("GET", "share", p.sharePage)
		about("POST", "share", p.share)
		about("POST", "share/role", p.changeShare)
		about("GET", "share/remove", p.unsharePage)
		about("POST", "share/remove", p.unshare)
		about("GET", "share/owner", p.ownerPage)
		about("POST", "share/owner", p.setOwner)
		about("GET", "dependencies", p.dependenciesPage)
		about("GET", "access", p.accessPage)
		p.inEnvironment("GET /e/{env}/"+k.plural+"/{id}/delete", func(v *view) error { return p.deletePage(v, k.kind, []string{v.r.PathValue("id")}) })
		p.inEnvironment("POST /e/{env}/"+k.plural+"/{id}/delete", func(v *view) error { return p.delete(v, k.kind) })
		p.inEnvironment("GET /e/{env}/"+k.plural+"/delete", func(v *view) error { return p.deletePage(v, k.kind, v.r.Form["id"]) })
		p.inEnvironment("POST /e/{env}/"+k.plural+"/delete", func(v *view) error { return p.delete(v, k.kind) })
	}
}

// A choosePage says that a command of a list needs something chosen.
type choosePage struct {
	shell
	Plural string
	Some   bool // one or more; else exactly one
}

func (v *view) choose(plural string, some bool) error {
	return v.show("choose", choosePage{v.shell(v.t("list.choose-one"), plural), plural, some})
}

// A subject is the thing that a page is about, with what the person may do with it.
type subject struct {
	Kind         latchkey.Kind
	Plural       string
	Ref          string // as the address has it
	ID, Name     string
	Role         latchkey.Role // the person's own role on it
	Sharing      latchkey.Sharing
	allowed      map[latchkey.Action]bool
	ownPrincipal latchkey.PrincipalID
}

// subject returns a thing that the person may see. What they may do with it is
// asked for, not tried: nothing is on record of it.
func (v *view) subject(kind latchkey.Kind, ref string) (s subject, err error) {
	x, err := v.p.b.Explain(v.r.Context(), v.who, string(v.env.ID), broker.Inquiry{Kind: kind, Ref: ref})
	if err != nil {
		return s, err
	}
	s = subject{Kind: kind, Plural: pluralOf(kind), Ref: ref, ID: x.ID, Name: x.Name, Sharing: latchkey.SharingOf[kind], allowed: map[latchkey.Action]bool{}, ownPrincipal: v.who.ID}
	for _, d := range x.Decisions {
		s.allowed[d.Action] = d.Allowed
	}
	for _, source := range x.Sources {
		if source.Counts && source.Role.Includes(s.Role) {
			s.Role = source.Role
		}
	}
	return s, nil
}

// Can reports whether the person may do an action with the thing.
func (s subject) Can(action latchkey.Action) bool { return s.allowed[action] }

// MayDelete, MayShare, MaySeeShares and MayGiveAway are for templates.
func (s subject) MayDelete() bool    { return s.Can(s.Sharing.Delete) }
func (s subject) MayShare() bool     { return s.Can(s.Sharing.Share) }
func (s subject) MaySeeShares() bool { return s.Can(s.Sharing.List) }
func (s subject) MayGiveAway() bool  { return s.Can(s.Sharing.HandOver) || s.Can(s.Sharing.Take) }

// Takes reports whether giving the thing away would be a take-over of what is
// somebody else's.
func (s subject) Takes() bool { return s.Role != latchkey.RoleOwner && s.Can(s.Sharing.Take) }

// ThingPath returns the address of a thing, or "" if it has no page.
func (s shell) ThingPath(kind latchkey.Kind, id string) string {
	plural := pluralOf(kind)
	if kind == latchkey.KindRun {
		plural = "runs"
	}
	if plural == "" || id == "" {
		return ""
	}
	return s.Path(plural, id)
}

// KindIcon returns the icon of things of a kind.
func (s shell) KindIcon(kind latchkey.Kind) string {
	switch kind {
	case latchkey.KindCredential:
		return "key"
	case latchkey.KindVariable:
		return "braces"
	case latchkey.KindMachine, latchkey.KindMachineGroup:
		return "machine"
	case latchkey.KindConnection:
		return "plug"
	case latchkey.KindFlow:
		return "flow"
	case latchkey.KindRun:
		return "play"
	case latchkey.KindReference:
		return "vault"
	}
	return "link"
}

// PrincipalIcon returns the icon of principals of a kind.
func (s shell) PrincipalIcon(kind latchkey.PrincipalKind) string {
	switch kind {
	case latchkey.PrincipalGroup:
		return "people"
	case latchkey.PrincipalService:
		return "robot"
	}
	return "person"
}

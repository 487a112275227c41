package web

import (
	"strings"

	"latchkey.dev/internal/broker"
	"latchkey.dev/latchkey"
)

type accessPage struct {
	shell
	Subject   subject
	Form      form
	Access    *latchkey.Explanation
	MayOthers bool // be asked about
}

// accessPage says what somebody may do with a thing, and why. Everybody may ask
// about themselves.
func (p *Pages) accessPage(v *view, s subject) error {
	f := v.filled()
	page := accessPage{shell: v.shell(v.t("access.title", s.Name), s.Plural), Subject: s, Form: f, MayOthers: s.Can(latchkey.ActAccessExplain)}
	page.MayOthers = page.MayOthers || v.mayOn(s.Role, latchkey.ActAccessExplain)
	in := broker.Inquiry{Kind: s.Kind, Ref: s.Ref}
	if page.MayOthers {
		in.Principal = v.value("principal")
	}
	x, err := p.b.Explain(v.r.Context(), v.who, string(v.env.ID), in)
	if err != nil {
		status, err := v.refused(&page.Form, err)
		if err != nil {
			return err
		}
		return v.showWith(status, "access", page)
	}
	page.Access = &x
	return v.show("access", page)
}

// Verb returns an action without the kind of its thing, for people.
func (accessPage) Verb(a latchkey.Action) string {
	_, verb, _ := strings.Cut(string(a), ".")
	return strings.NewReplacer(".", " ", "-", " ").Replace(verb)
}

// Reasons returns the sources that permit an action.
func (p accessPage) Reasons(a latchkey.Action) (all []latchkey.AccessSource) {
	for _, s := range p.Access.Sources {
		for _, permitted := range s.Permits {
			if permitted == a && s.Counts {
				all = append(all, s)
			}
		}
	}
	return all
}

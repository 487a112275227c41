package web

import (
	"errors"
	"fmt"
	"net/http"

	"latchkey.dev/latchkey"
)

// deletedAtOnce is how many things one form deletes.
const deletedAtOnce = 50

type deletePage struct {
	shell
	Plural string
	Kind   latchkey.Kind
	Form   form
	Items  []deleteItem
	InUse  bool // one of those that can be deleted
	May    bool // delete one of them
	One    string
}

// A deleteItem is one thing that is to be deleted, with what that does.
type deleteItem struct {
	Subject subject
	Impact  latchkey.Impact
	Fault   *Fault
}

// deleting returns the page that says what the deletion of things does. What there
// is no more is left out.
func (v *view) deleting(kind latchkey.Kind, refs []string, f form, faults map[string]*Fault) (page deletePage, err error) {
	page = deletePage{Plural: pluralOf(kind), Kind: kind, Form: f}
	if len(refs) > deletedAtOnce {
		return page, latchkey.Invalid("id", "choose at most %d at once", deletedAtOnce)
	}
	for _, ref := range refs {
		s, err := v.subject(kind, ref)
		if len(refs) > 1 && errors.Is(err, latchkey.ErrNotFound) {
			continue
		}
		if err != nil {
			return page, err
		}
		item := deleteItem{Subject: s, Fault: faults[ref]}
		if item.Impact, err = v.p.b.Impact(v.r.Context(), v.who, string(v.env.ID), kind, ref, latchkey.ImpactDelete, ""); err != nil {
			return page, err
		}
		page.May = page.May || s.MayDelete()
		page.InUse = page.InUse || s.MayDelete() && item.Impact.InUse
		page.Items = append(page.Items, item)
	}
	title := v.t("deletion.title", len(page.Items))
	if len(page.Items) == 1 {
		page.One = page.Items[0].Subject.Name
		title = v.t("deletion.title-one", page.One)
	}
	page.shell = v.shell(title, page.Plural)
	return page, nil
}

// deletePage says what would be deleted and what depends on it.
func (p *Pages) deletePage(v *view, kind latchkey.Kind, refs []string) error {
	if len(refs) == 0 {
		return v.choose(pluralOf(kind), true)
	}
	page, err := v.deleting(kind, refs, form{}, nil)
	if err != nil {
		return err
	}
	return v.show("delete", page)
}

// delete deletes what the page named, each by the impact that was shown. What
// cannot be deleted is shown again, with the reason.
func (p *Pages) delete(v *view, kind latchkey.Kind) error {
	refs := v.r.PostForm["id"]
	if len(refs) == 0 || len(refs) > deletedAtOnce {
		return latchkey.Invalid("id", "must be 1 to %d things", deletedAtOnce)
	}
	force := v.value("force") == "true"
	faults, left, status, name := map[string]*Fault{}, []string{}, http.StatusUnprocessableEntity, ""
	for _, ref := range refs {
		hash := v.r.PostForm.Get("impact." + ref)
		err := p.deleteOne(v, kind, ref, latchkey.Force{Force: force, Hash: hash})
		if err == nil {
			name = v.r.PostForm.Get("name." + ref)
			continue
		}
		if errors.Is(err, latchkey.ErrNotFound) && len(refs) > 1 {
			continue // somebody else deleted it
		}
		fault := p.Fault(v.r.Context(), err)
		if fault.Status >= http.StatusInternalServerError {
			return err
		}
		if fault.Code == "impact-changed" {
			fault.Detail = v.t("deletion.changed") // the answer speaks of the hash, which people do not see
		}
		faults[ref], status = &fault, fault.Status
		left = append(left, ref)
	}
	if len(left) == 0 {
		if len(refs) == 1 {
			return v.redirect(v.path(pluralOf(kind)), "deletion.done-one", name)
		}
		return v.redirect(v.path(pluralOf(kind)), "deletion.done", fmt.Sprint(len(refs)))
	}
	page, err := v.deleting(kind, left, v.filled(), faults)
	if err != nil {
		return err
	}
	return v.showWith(status, "delete", page)
}

func (p *Pages) deleteOne(v *view, kind latchkey.Kind, ref string, f latchkey.Force) error {
	ctx, env := v.r.Context(), string(v.env.ID)
	switch kind {
	case latchkey.KindCredential:
		return p.b.DeleteCredential(ctx, v.who, env, latchkey.CredentialID(ref), f)
	case latchkey.KindVariable:
		return p.b.DeleteVariable(ctx, v.who, env, ref, f)
	case latchkey.KindMachine:
		return p.b.DeleteMachine(ctx, v.who, env, latchkey.MachineID(ref), f)
	case latchkey.KindMachineGroup:
		return p.b.DeleteMachineGroup(ctx, v.who, env, latchkey.MachineGroupID(ref), f)
	case latchkey.KindFlow:
		return p.b.DeleteFlow(ctx, v.who, env, latchkey.FlowID(ref), f)
	case latchkey.KindConnection:
		return p.b.DeleteConnection(ctx, v.who, env, latchkey.ConnectionID(ref), f)
	}
	return fmt.Errorf("a %s cannot be deleted here", kind)
}

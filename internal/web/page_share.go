package web

import (
	"net/http"
	"slices"

	"latchkey.dev/latchkey"
)

// Of the picker of people: how many it shows at once, and how many can be given
// something at once.
const (
	pickedAtOnce = 20
	foundAtOnce  = 8
)

type sharePage struct {
	shell
	Subject   subject
	Form      form
	Done      string // what was just done, in the panel
	Rows      []shareRow
	More      bool // there are more than are shown
	Chosen    []latchkey.DirectoryEntry
	Found     []latchkey.DirectoryEntry
	Searched  bool
	Roles     []option
	Variables []string // that travel along
}

// A shareRow is one who has the thing.
type shareRow struct {
	latchkey.Share
	MayChange bool
}

// shares returns the page of sharing a thing.
func (v *view) shares(s subject, f form) (page sharePage, err error) {
	ctx, env := v.r.Context(), string(v.env.ID)
	page = sharePage{shell: v.shell(v.t("share.title", s.Name), s.Plural), Subject: s, Form: f}
	for _, r := range s.Sharing.Roles {
		if s.Role.Includes(r) {
			page.Roles = append(page.Roles, option{string(r), v.t("role." + string(r))})
		}
	}
	page.Form.set("role", string(latchkey.RoleUser))
	if s.MaySeeShares() {
		rows, err := v.p.b.Shares(ctx, v.who, env, s.Kind, s.Ref, latchkey.PageOptions{Limit: rowsOfPage, After: v.value("after")})
		if err != nil {
			return page, err
		}
		page.More = rows.Next != ""
		for _, r := range rows.Items {
			page.Rows = append(page.Rows, shareRow{r, s.mayChange(r)})
		}
	}
	if s.Kind == latchkey.KindCredential {
		if page.Variables, err = v.variablesOf(s); err != nil {
			return page, err
		}
	}
	if s.MayShare() {
		page.Chosen, page.Found, err = v.pick(s.Sharing.To, page.Form)
		page.Searched = page.Form.Value("q") != ""
	}
	return page, err
}

// mayChange reports whether the person may change or remove a share, as the broker
// decides it.
func (s subject) mayChange(r latchkey.Share) bool {
	return s.MayShare() && r.Via == "" && r.Role != latchkey.RoleOwner && s.Role.Includes(r.Role) &&
		(s.Role != latchkey.RoleUserShare || r.CreatedBy == s.ownPrincipal)
}

// variablesOf returns the names of a credential's variables.
func (v *view) variablesOf(s subject) (names []string, err error) {
	c, err := v.p.b.Credential(v.r.Context(), v.who, string(v.env.ID), latchkey.CredentialID(s.ID))
	for _, slot := range []latchkey.Slot{latchkey.SlotUsername, latchkey.SlotPassword, latchkey.SlotCertificate} {
		if name := c.Slots[slot]; name != "" && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names, err
}

// pick returns the principals that are chosen in a form, and others whose names
// begin with what is searched for.
func (v *view) pick(kinds []latchkey.PrincipalKind, f form) (chosen, found []latchkey.DirectoryEntry, err error) {
	names := f.Values["known"] // "id name" of those that were shown before
	for _, id := range f.Values["principal"][:min(len(f.Values["principal"]), pickedAtOnce)] {
		e := latchkey.DirectoryEntry{ID: latchkey.PrincipalID(id), Kind: kindOfPrincipal(id), Name: id}
		for _, n := range names {
			if rest, ok := cutID(n, id); ok {
				e.Name = rest
			}
		}
		if !slices.ContainsFunc(chosen, func(c latchkey.DirectoryEntry) bool { return c.ID == e.ID }) {
			chosen = append(chosen, e)
		}
	}
	q := f.Value("q")
	if q == "" {
		return chosen, nil, nil
	}
	if len(q) > latchkey.MaxName {
		return chosen, nil, nil
	}
	p, err := v.p.b.Directory(v.r.Context(), v.who, string(v.env.ID), q, latchkey.PageOptions{Limit: 4 * foundAtOnce})
	if err != nil {
		return chosen, nil, err
	}
	for _, e := range p.Items {
		isChosen := slices.ContainsFunc(chosen, func(c latchkey.DirectoryEntry) bool { return c.ID == e.ID })
		if !isChosen && slices.Contains(kinds, e.Kind) && len(found) < foundAtOnce {
			found = append(found, e)
		}
	}
	return chosen, found, nil
}

// cutID returns what follows an id and a space.
func cutID(s, id string) (string, bool) {
	if len(s) > len(id) && s[:len(id)] == id && s[len(id)] == ' ' {
		return s[len(id)+1:], true
	}
	return "", false
}

// kindOfPrincipal returns the kind that an id is of.
func kindOfPrincipal(id string) latchkey.PrincipalKind {
	switch {
	case latchkey.HasPrefix(id, "grp"):
		return latchkey.PrincipalGroup
	case latchkey.HasPrefix(id, "sp"):
		return latchkey.PrincipalService
	}
	return latchkey.PrincipalUser
}

// sharePage shows who has a thing, and shares it with more.
func (p *Pages) sharePage(v *view, s subject) error {
	page, err := v.shares(s, v.filled())
	if err != nil {
		return err
	}
	return v.show("share", page)
}

// shareAgain answers a form of the page: with what it did, in the panel or on the
// next page.
func (p *Pages) shareAgain(v *view, s subject, said string, args ...string) error {
	if v.part() == "" {
		return v.redirect(v.path(s.Plural, s.Ref, "share"), said, args...)
	}
	all := make([]any, len(args))
	for i, a := range args {
		all[i] = a
	}
	page, err := v.shares(s, form{})
	if err != nil {
		return err
	}
	page.Done = v.t(said, all...)
	return v.show("share", page)
}

// shareRefused shows the shares again with what was refused; names are those of
// view.refused.
func (v *view) shareRefused(s subject, f form, err error, names ...string) error {
	status, err := v.refused(&f, err, names...)
	if err != nil {
		return err
	}
	page, err := v.shares(s, f)
	if err != nil {
		return err
	}
	return v.showWith(status, "share", page)
}

// share gives a role to everybody who is chosen. What was given stays when
// somebody later in the list cannot have it; the form then has the others.
func (p *Pages) share(v *view, s subject) error {
	f := v.filled()
	people := v.r.PostForm["principal"]
	if len(people) == 0 || len(people) > pickedAtOnce {
		f.wrong("q", v.t("share.nobody", pickedAtOnce))
		page, err := v.shares(s, f)
		if err != nil {
			return err
		}
		return v.showWith(http.StatusUnprocessableEntity, "share", page)
	}
	name := ""
	for i, id := range people {
		share, err := p.b.SetShare(v.r.Context(), v.who, string(v.env.ID), s.Kind, s.Ref, id, latchkey.ShareSet{Role: latchkey.Role(v.value("role"))})
		if err != nil {
			f.Values["principal"] = people[i:]
			return v.shareRefused(s, f, err, "principal", "q") // the picker's field is the search
		}
		name = share.Name
	}
	if len(people) > 1 {
		return p.shareAgain(v, s, "share.shared-several", s.Name)
	}
	return p.shareAgain(v, s, "share.shared", s.Name, name)
}

// changeShare changes the role of somebody who has the thing.
func (p *Pages) changeShare(v *view, s subject) error {
	share, err := p.b.SetShare(v.r.Context(), v.who, string(v.env.ID), s.Kind, s.Ref, v.value("who"), latchkey.ShareSet{Role: latchkey.Role(v.value("to"))})
	if err != nil {
		return v.shareRefused(s, form{}, err)
	}
	return p.shareAgain(v, s, "share.changed", share.Name, v.t("role."+string(share.Role)))
}

type unsharePage struct {
	shell
	Subject subject
	Form    form
	Share   latchkey.ShareDetail
	Impact  latchkey.Impact
	Loses   bool // of a credential: what removing the grants on its variables would take
}

func (v *view) unsharing(s subject, principal string, f form) (page unsharePage, err error) {
	ctx, env := v.r.Context(), string(v.env.ID)
	page = unsharePage{Subject: s, Form: f}
	if page.Share, err = v.p.b.Share(ctx, v.who, env, s.Kind, s.Ref, principal); err != nil {
		return page, err
	}
	if page.Impact, err = v.p.b.Impact(ctx, v.who, env, s.Kind, s.Ref, latchkey.ImpactUnshare, principal); err != nil {
		return page, err
	}
	page.shell = v.shell(v.t("share.remove-title", page.Share.Name), s.Plural)
	page.Loses = slices.ContainsFunc(page.Share.Variables, func(sv latchkey.SharedVariable) bool { return sv.Loses })
	if v.env.RemoveVariableGrants {
		page.Form.set("remove", "true")
	}
	return page, nil
}

// unsharePage shows what remains when a share is removed, and why. Only for who
// sees the shares it is more than an error.
func (p *Pages) unsharePage(v *view, s subject) error {
	if !s.MaySeeShares() {
		return latchkey.NotFound(latchkey.KindShare)
	}
	page, err := v.unsharing(s, v.value("principal"), form{})
	if err != nil {
		return err
	}
	return v.show("unshare", page)
}

func (p *Pages) unshare(v *view, s subject) error {
	remove, who := v.value("remove") == "true", v.value("principal")
	_, err := p.b.Unshare(v.r.Context(), v.who, string(v.env.ID), s.Kind, s.Ref, who, &remove)
	if err != nil {
		f := v.filled()
		status, err := v.refused(&f, err)
		if err != nil {
			return err
		}
		page, err := v.unsharing(s, who, f)
		if err != nil {
			return err
		}
		return v.showWith(status, "unshare", page)
	}
	return p.shareAgain(v, s, "share.removed", v.value("name"))
}

type ownerPage struct {
	shell
	Subject subject
	Form    form
	Owner   latchkey.Share
	Chosen  []latchkey.DirectoryEntry
	Found   []latchkey.DirectoryEntry
	Keep    []option
}

var owners = []latchkey.PrincipalKind{latchkey.PrincipalUser, latchkey.PrincipalService}

func (v *view) owning(s subject, f form) (page ownerPage, err error) {
	title := "share.hand-over-title"
	if s.Takes() {
		title = "share.take-over-title"
		if f.Value("q") == "" && !f.Values.Has("principal") {
			f.set("principal", string(v.who.ID))
			f.set("known", string(v.who.ID)+" "+v.who.Name)
		}
	}
	page = ownerPage{shell: v.shell(v.t(title, s.Name), s.Plural), Subject: s, Form: f}
	if s.MaySeeShares() {
		rows, err := v.p.b.Shares(v.r.Context(), v.who, string(v.env.ID), s.Kind, s.Ref, latchkey.PageOptions{Limit: rowsOfPage})
		if err != nil {
			return page, err
		}
		for _, r := range rows.Items {
			if r.Role == latchkey.RoleOwner {
				page.Owner = r
			}
		}
	}
	page.Keep = options("", v.t("share.keep-nothing"))
	for _, r := range s.Sharing.Roles {
		page.Keep = append(page.Keep, option{string(r), v.t("role." + string(r))})
	}
	page.Chosen, page.Found, err = v.pick(owners, page.Form)
	return page, err
}

// ownerPage hands a thing over, or takes it over as an admin.
func (p *Pages) ownerPage(v *view, s subject) error {
	if !s.MayGiveAway() {
		return latchkey.NotFound(latchkey.KindShare)
	}
	page, err := v.owning(s, v.filled())
	if err != nil {
		return err
	}
	return v.show("owner", page)
}

func (p *Pages) setOwner(v *view, s subject) error {
	f := v.filled()
	refuse := func(err error) error {
		status, err := v.refused(&f, err, "principal", "q")
		if err != nil {
			return err
		}
		page, err := v.owning(s, f)
		if err != nil {
			return err
		}
		return v.showWith(status, "owner", page)
	}
	if v.value("principal") == "" {
		return refuse(latchkey.Invalid("principal", "%s", v.t("share.no-owner")))
	}
	share, err := p.b.SetOwner(v.r.Context(), v.who, string(v.env.ID), s.Kind, s.Ref, latchkey.OwnerSet{Principal: v.value("principal"), Keep: latchkey.Role(v.value("keep"))})
	if err != nil {
		return refuse(err)
	}
	return v.redirect(v.path(s.Plural), "share.handed-over", s.Name, share.Name)
}

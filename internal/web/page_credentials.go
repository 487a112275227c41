package web

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"latchkey.dev/internal/broker"
	"latchkey.dev/latchkey"
)

func (p *Pages) credentialRoutes() {
	p.inEnvironment("GET /e/{env}/credentials", p.credentialsPage)
	p.inEnvironment("GET /e/{env}/credentials/new", p.wizardPage)
	p.inEnvironment("POST /e/{env}/credentials/new", p.wizard)
	p.inEnvironment("POST /e/{env}/credentials/new/check", p.wizardCheck)
	p.inEnvironment("GET /e/{env}/credentials/new/variables", p.wizardVariables)
	p.inEnvironment("GET /e/{env}/credentials/new/reference", p.wizardReference)
	p.inEnvironment("GET /e/{env}/credentials/{id}", p.credentialPage)
	p.inEnvironment("GET /e/{env}/credentials/{id}/edit", p.editCredentialPage)
	p.inEnvironment("POST /e/{env}/credentials/{id}/edit", p.editCredential)
	p.inEnvironment("GET /e/{env}/credentials/{id}/test", p.testCredentialPage)
	p.inEnvironment("POST /e/{env}/credentials/{id}/check", p.checkCredential)
}

type credentialsPage struct {
	shell
	List   *list
	Rows   []latchkey.Credential
	May    struct{ Create bool }
	Filter form
}

// credentialsPage lists the credentials that one may see.
func (p *Pages) credentialsPage(v *view) error {
	page := credentialsPage{shell: v.shell(v.t("credentials.title"), "credentials"), Filter: v.filled()}
	page.List = v.list("credentials", []column{
		{Key: "name", Sort: "name"}, {Key: "usages"}, {Key: "store", Hidden: true}, {Key: "authentication", Hidden: true}, {Key: "username"}, {Key: "owner"}, {Key: "access"},
		{Key: "status"}, {Key: "used"}, {Key: "expires"}, {Key: "modified", Sort: "modified"},
	}, "authentication", "usage", "mine")
	filter := broker.CredentialFilter{
		Authentication: latchkey.Authentication(v.value("authentication")), Usage: latchkey.Usage(v.value("usage")), Mine: v.value("mine") == "true",
	}
	rows, err := p.b.FindCredentials(v.r.Context(), v.who, string(v.env.ID), filter, page.List.options())
	if err != nil {
		return err
	}
	page.Rows = rows.Items
	page.List.more(rows.Next)
	page.May.Create = v.may(latchkey.ActCredentialCreate)
	return v.show("credentials", page)
}

// releasesShown is how many releases of a credential its page shows at once.
const releasesShown = 20

type credentialPage struct {
	shell
	Subject    subject
	Credential latchkey.Credential
	Slots      []credentialSlot
	Shares     []latchkey.Share
	MoreShares bool
	UsedBy     []graphRow
	Hidden     int // more that use it
	Releases   []latchkey.ReleaseRecord
	Next       string // more releases
	First      string
	Timeline   []dot
	From, To   time.Time
	May        struct{ Edit, Test, Check, ReadRuns bool }
	Machines   []string
}

// A credentialSlot is a slot with the variable that is bound to it.
type credentialSlot struct {
	Slot     latchkey.Slot
	Name     string
	Variable *latchkey.Variable // nil if the person may not see it
}

// A dot is one release on the timeline.
type dot struct {
	X                  int
	Outcome            latchkey.ReleaseOutcome
	At                 time.Time
	Machine, Flow, Run string
}

// credentialPage shows a credential: what it uses, who has it, where it is used, and
// what it was released for.
func (p *Pages) credentialPage(v *view) error {
	ctx, env := v.r.Context(), string(v.env.ID)
	s, err := v.subject(latchkey.KindCredential, v.r.PathValue("id"))
	if err != nil {
		return err
	}
	page := credentialPage{shell: v.shell(s.Name, "credentials"), Subject: s}
	if page.Credential, err = p.b.Credential(ctx, v.who, env, latchkey.CredentialID(s.ID)); err != nil {
		return err
	}
	for _, slot := range []latchkey.Slot{latchkey.SlotUsername, page.Credential.Authentication.SecretSlot()} {
		use := credentialSlot{Slot: slot, Name: page.Credential.Slots[slot]}
		x, err := p.b.Variable(ctx, v.who, env, use.Name)
		switch {
		case err == nil:
			use.Variable = &x
		case !errors.Is(err, latchkey.ErrNotFound):
			return err
		}
		page.Slots = append(page.Slots, use)
	}
	for _, id := range page.Credential.Machines {
		name := string(id)
		if m, err := p.b.Machine(ctx, v.who, env, id); err == nil {
			name = m.Name
		} else if !errors.Is(err, latchkey.ErrNotFound) {
			return err
		}
		page.Machines = append(page.Machines, name)
	}
	if s.MaySeeShares() {
		shares, err := p.b.Shares(ctx, v.who, env, s.Kind, s.ID, latchkey.PageOptions{Limit: releasesShown})
		if err != nil {
			return err
		}
		page.Shares, page.MoreShares = shares.Items, shares.Next != ""
	}
	g, err := p.b.Dependents(ctx, v.who, env, s.Kind, s.ID)
	if err != nil {
		return err
	}
	page.UsedBy, page.Hidden = graphRows(g), g.Hidden
	releases, err := p.b.Releases(ctx, v.who, env, page.Credential.ID, latchkey.PageOptions{Limit: releasesShown, After: v.value("after")})
	if err != nil {
		return err
	}
	page.Releases = releases.Items
	if releases.Next != "" {
		page.Next = v.path("credentials", s.ID) + "?after=" + releases.Next + "#releases"
	}
	if v.value("after") != "" {
		page.First = v.path("credentials", s.ID) + "#releases"
	}
	page.Timeline, page.From, page.To = timeline(releases.Items)
	page.May.Edit = s.Can(latchkey.ActCredentialUpdate)
	page.May.Check = page.Credential.Authentication == latchkey.AuthenticationCertificate && s.Can(latchkey.ActCredentialCheck)
	page.May.Test = slices.ContainsFunc(page.UsedBy, func(r graphRow) bool { return r.Kind == latchkey.KindConnection })
	return v.show("credential", page)
}

// timelineWidth is how wide the picture of releases is, in its own units.
const timelineWidth = 600

// timeline places releases on a line from the first to the last.
func timeline(releases []latchkey.ReleaseRecord) (dots []dot, from, to time.Time) {
	if len(releases) == 0 {
		return nil, from, to
	}
	to, from = releases[0].At, releases[len(releases)-1].At
	span := to.Sub(from)
	for _, r := range releases {
		x := timelineWidth / 2
		if span > 0 {
			x = 10 + int(float64(r.At.Sub(from))/float64(span)*(timelineWidth-20))
		}
		dots = append(dots, dot{x, r.Outcome, r.At, r.MachineName, r.FlowName, string(r.Run)})
	}
	return dots, from, to
}

type credentialForm struct {
	shell
	Credential latchkey.Credential
	Form       form
	MayExpose  bool
	Machines   []option
	Exposures  []option
}

// exposures are the choices of how near a secret may come to a flow.
func (v *view) exposures() (all []option) {
	for _, e := range []latchkey.Exposure{latchkey.ExposureSession, latchkey.ExposureDescriptor, latchkey.ExposureFile, latchkey.ExposureEnvironment} {
		all = append(all, option{string(e), v.t("credentials.exposure-" + string(e))})
	}
	return all
}

func (v *view) editing(c latchkey.Credential, s subject, f form) (page credentialForm, err error) {
	page = credentialForm{shell: v.shell(v.t("credentials.edit-title", c.Name), "credentials"), Credential: c, MayExpose: s.Can(latchkey.ActCredentialExpose), Exposures: v.exposures()}
	f.set("name", c.Name)
	f.set("description", c.Description)
	if page.MayExpose {
		f.set("exposure", string(c.Exposure))
		machines, err := v.p.b.Machines(v.r.Context(), v.who, string(v.env.ID), latchkey.PageOptions{Limit: latchkey.DefaultPage})
		if err != nil {
			return page, err
		}
		chosen := make([]string, len(c.Machines))
		for i, m := range c.Machines {
			chosen[i] = string(m)
			if !slices.ContainsFunc(machines.Items, func(x latchkey.Machine) bool { return x.ID == m }) {
				page.Machines = append(page.Machines, option{string(m), string(m)})
			}
		}
		for _, m := range machines.Items {
			page.Machines = append(page.Machines, option{string(m.ID), m.Name})
		}
		if f.Value("sent") == "" {
			f.set("machines", chosen...)
			if c.AllowSharedUID {
				f.set("sharedUid", "true")
			}
		}
	}
	page.Form = f
	return page, nil
}

// editCredentialPage changes the details of a credential. Its variables never change.
func (p *Pages) editCredentialPage(v *view) error {
	s, c, err := v.editable()
	if err != nil {
		return err
	}
	page, err := v.editing(c, s, form{})
	if err != nil {
		return err
	}
	return v.show("credential-edit", page)
}

// editable returns the credential of the address, if the person may edit it.
func (v *view) editable() (s subject, c latchkey.Credential, err error) {
	if s, err = v.subject(latchkey.KindCredential, v.r.PathValue("id")); err != nil {
		return s, c, err
	}
	if !s.Can(latchkey.ActCredentialUpdate) {
		return s, c, latchkey.NotFound(latchkey.KindCredential)
	}
	c, err = v.p.b.Credential(v.r.Context(), v.who, string(v.env.ID), latchkey.CredentialID(s.ID))
	return s, c, err
}

func (p *Pages) editCredential(v *view) error {
	s, c, err := v.editable()
	if err != nil {
		return err
	}
	u := latchkey.CredentialUpdate{Name: new(v.value("name")), Description: new(v.value("description"))}
	if s.Can(latchkey.ActCredentialExpose) {
		machines := []latchkey.MachineID{}
		for _, m := range v.r.PostForm["machines"] {
			machines = append(machines, latchkey.MachineID(m))
		}
		if e := latchkey.Exposure(v.value("exposure")); e != c.Exposure {
			u.Exposure = &e
		}
		if shared := v.value("sharedUid") == "true"; shared != c.AllowSharedUID {
			u.AllowSharedUID = &shared
		}
		if !slices.Equal(machines, c.Machines) {
			u.Machines = &machines
		}
	}
	if _, err := p.b.UpdateCredential(v.r.Context(), v.who, string(v.env.ID), c.ID, u); err != nil {
		f := v.filled()
		status, err := v.refused(&f, err)
		if err != nil {
			return err
		}
		page, err := v.editing(c, s, f)
		if err != nil {
			return err
		}
		return v.showWith(status, "credential-edit", page)
	}
	return v.redirect(v.path("credentials", s.ID), "credentials.saved", *u.Name)
}

type credentialTest struct {
	shell
	Credential  string
	ID          string
	Connections []latchkey.Component
}

// testCredentialPage leads to the tests of the connections that use a credential: it
// is a sign-in that shows whether it works.
func (p *Pages) testCredentialPage(v *view) error {
	s, err := v.subject(latchkey.KindCredential, v.r.PathValue("id"))
	if err != nil {
		return err
	}
	g, err := p.b.Dependents(v.r.Context(), v.who, string(v.env.ID), s.Kind, s.ID)
	if err != nil {
		return err
	}
	page := credentialTest{shell: v.shell(v.t("credentials.test-title", s.Name), "credentials"), Credential: s.Name, ID: s.ID}
	for _, c := range g.Components {
		if c.Kind == latchkey.KindConnection {
			page.Connections = append(page.Connections, c)
		}
	}
	return v.show("credential-test", page)
}

// checkCredential has the certificate of a credential looked at again.
func (p *Pages) checkCredential(v *view) error {
	c, err := p.b.CheckCredential(v.r.Context(), v.who, string(v.env.ID), latchkey.CredentialID(v.r.PathValue("id")))
	if err != nil {
		return err
	}
	return v.redirect(v.path("credentials", fmt.Sprint(c.ID)), "credentials.checking")
}

package web

import (
	"net/http"
	"strconv"
	"strings"

	"latchkey.dev/internal/broker"
	"latchkey.dev/latchkey"
)

func (p *Pages) machineRoutes() {
	p.inEnvironment("GET /e/{env}/machines", p.machinesPage)
	p.inEnvironment("GET /e/{env}/machines/enrol", p.enrolPage)
	p.inEnvironment("POST /e/{env}/machines/enrol", p.makeEnrolmentToken)
	p.inEnvironment("POST /e/{env}/machines/enrol/revoke", p.revokeEnrolmentToken)
	p.inEnvironment("GET /e/{env}/machines/{id}", p.machinePage)
	p.inEnvironment("GET /e/{env}/machines/{id}/edit", p.editMachinePage)
	p.inEnvironment("POST /e/{env}/machines/{id}/edit", p.editMachine)
	p.inEnvironment("GET /e/{env}/machines/{id}/state", p.machineStatePage)
	p.inEnvironment("POST /e/{env}/machines/{id}/state", p.setMachineState)
	p.inEnvironment("GET /e/{env}/machines/{id}/enrol", p.enrolPage)
	p.inEnvironment("POST /e/{env}/machines/{id}/enrol", p.makeEnrolmentToken)
}

type machinesPage struct {
	shell
	List *list
	Rows []latchkey.Machine
	May  struct{ Enrol bool }
}

// machinesPage lists the machines that one may see, and follows what happens.
func (p *Pages) machinesPage(v *view) error {
	page := machinesPage{shell: v.shell(v.t("machines.title"), "machines")}
	page.List = v.list("machines", []column{
		{Key: "name", Sort: "name"}, {Key: "status"}, {Key: "running", Number: true}, {Key: "queued", Number: true}, {Key: "version"}, {Key: "os", Hidden: true},
		{Key: "owner"}, {Key: "access"}, {Key: "seen"},
	})
	rows, err := p.b.Machines(v.r.Context(), v.who, string(v.env.ID), page.List.options())
	if err != nil {
		return err
	}
	page.Rows = rows.Items
	page.List.more(rows.Next)
	page.May.Enrol = v.may(latchkey.ActMachineToken)
	return v.show("machines", page)
}

type machinePage struct {
	shell
	Machine     latchkey.Machine
	EnrolledBy  string
	Connections []latchkey.Connection
	Runs        []latchkey.Run
	Here        string
	May         struct{ Update, Enrol, Share, Delete bool }
}

// machinePage shows a machine, and follows what happens on it.
func (p *Pages) machinePage(v *view) error {
	ctx, env := v.r.Context(), string(v.env.ID)
	m, err := p.b.Machine(ctx, v.who, env, latchkey.MachineID(v.r.PathValue("id")))
	if err != nil {
		return err
	}
	page := machinePage{shell: v.shell(m.Name, "machines"), Machine: m, Here: v.r.URL.Path}
	names, err := v.memberNames()
	if err != nil {
		return err
	}
	page.EnrolledBy = nameOf(names, m.EnrolledBy)
	uses, err := p.b.Dependents(ctx, v.who, env, latchkey.KindMachine, string(m.ID))
	if err != nil {
		return err
	}
	for _, c := range uses.Components {
		if c.Kind != latchkey.KindConnection || len(page.Connections) == choices {
			continue
		}
		if n, err := p.b.Connection(ctx, v.who, env, latchkey.ConnectionID(c.ID)); err == nil {
			page.Connections = append(page.Connections, n)
		}
	}
	runs, err := p.b.Runs(ctx, v.who, env, broker.RunFilter{Machine: m.ID}, latchkey.PageOptions{Limit: recentRuns})
	if err != nil {
		return err
	}
	page.Runs = runs.Items
	page.May.Update, page.May.Enrol = v.mayOn(m.MyRole, latchkey.ActMachineUpdate), v.mayOn(m.MyRole, latchkey.ActMachineToken)
	page.May.Share, page.May.Delete = v.mayOn(m.MyRole, latchkey.ActMachineShares), v.mayOn(m.MyRole, latchkey.ActMachineDelete)
	return v.show("machine", page)
}

// memberNames returns the names of the environment's members, of very many the
// first.
func (v *view) memberNames() (map[latchkey.PrincipalID]string, error) {
	all, err := v.p.b.Members(v.r.Context(), v.who, string(v.env.ID), latchkey.PageOptions{Limit: latchkey.MaxPage})
	names := map[latchkey.PrincipalID]string{v.who.ID: v.who.Name}
	for _, m := range all.Items {
		names[m.Principal] = m.Name
	}
	return names, err
}

// nameOf returns the name of somebody, or the id of one that is no member.
func nameOf(names map[latchkey.PrincipalID]string, id latchkey.PrincipalID) string {
	if name := names[id]; name != "" {
		return name
	}
	return string(id)
}

type machineForm struct {
	shell
	Machine latchkey.Machine
	Form    form
}

// machineToChange returns a machine with the title of what is done with it, if one
// may change it.
func (v *view) machineToChange(title string) (page machineForm, may bool, err error) {
	m, err := v.p.b.Machine(v.r.Context(), v.who, string(v.env.ID), latchkey.MachineID(v.r.PathValue("id")))
	if err != nil {
		return page, false, err
	}
	return machineForm{shell: v.shell(v.t(title, m.Name), "machines"), Machine: m}, v.mayOn(m.MyRole, latchkey.ActMachineUpdate), nil
}

func (p *Pages) editMachinePage(v *view) error {
	page, may, err := v.machineToChange("machines.edit-of")
	if err != nil {
		return err
	}
	if !may {
		return v.redirect(v.path("machines", string(page.Machine.ID)), "")
	}
	page.Form.set("name", page.Machine.Name)
	page.Form.set("description", page.Machine.Description)
	return v.show("machine-form", page)
}

func (p *Pages) editMachine(v *view) error {
	page, _, err := v.machineToChange("machines.edit-of")
	if err != nil {
		return err
	}
	page.Form = v.filled()
	name, description := v.value("name"), v.value("description")
	_, err = p.b.UpdateMachine(v.r.Context(), v.who, string(v.env.ID), page.Machine.ID, latchkey.MachineUpdate{Name: &name, Description: &description})
	if err == nil {
		return v.redirect(v.path("machines", string(page.Machine.ID)), "machines.said-edited")
	}
	status, err := v.refused(&page.Form, err)
	if err != nil {
		return err
	}
	return v.showWith(status, "machine-form", page)
}

type machineState struct {
	machineForm
	Impact  latchkey.Impact
	Disable bool // else it is enabled
}

// machineStatePage asks whether a machine is to be taken out of service, and what
// that stops, or back into it.
func (p *Pages) machineStatePage(v *view) error {
	f, may, err := v.machineToChange("machines.disable-of")
	if err != nil {
		return err
	}
	page := machineState{machineForm: f, Disable: f.Machine.Status != latchkey.MachineDisabled}
	if !may || f.Machine.Status == latchkey.MachineQuarantined {
		return v.redirect(v.path("machines", string(f.Machine.ID)), "")
	}
	return v.showMachineState(http.StatusOK, page)
}

func (v *view) showMachineState(status int, page machineState) (err error) {
	if !page.Disable {
		page.Title = v.t("machines.enable-of", page.Machine.Name)
	} else if page.Impact, err = v.p.b.Impact(v.r.Context(), v.who, string(v.env.ID), latchkey.KindMachine, string(page.Machine.ID), latchkey.ImpactDisable, ""); err != nil {
		return err
	}
	return v.showWith(status, "machine-state", page)
}

func (p *Pages) setMachineState(v *view) error {
	f, _, err := v.machineToChange("machines.disable-of")
	if err != nil {
		return err
	}
	disable := v.value("disable") == "true"
	_, err = p.b.UpdateMachine(v.r.Context(), v.who, string(v.env.ID), f.Machine.ID, latchkey.MachineUpdate{Disabled: &disable})
	if err == nil {
		said := "machines.said-enabled"
		if disable {
			said = "machines.said-disabled"
		}
		return v.redirect(v.path("machines", string(f.Machine.ID)), said, f.Machine.Name)
	}
	status, err := v.refused(&f.Form, err)
	if err != nil {
		return err
	}
	return v.showMachineState(status, machineState{machineForm: f, Disable: disable})
}

type enrolPage struct {
	shell
	Machine latchkey.Machine // that is enrolled anew; zero for new ones
	Form    form
	Groups  []option                 // that new machines can join
	Token   *latchkey.EnrolmentToken // just made
	Command string                   // to type on the machine
	Tokens  []openToken
}

// An openToken is an enrolment token that can still be used.
type openToken struct {
	latchkey.EnrolmentToken
	By      string
	Machine string
	Group   string
}

// enrolForm returns the page that makes enrolment tokens, if one may.
func (v *view) enrolForm() (page enrolPage, may bool, err error) {
	ctx, b, env := v.r.Context(), v.p.b, string(v.env.ID)
	page = enrolPage{shell: v.shell(v.t("machines.enrol"), "machines")}
	if id := v.r.PathValue("id"); id != "" {
		if page.Machine, err = b.Machine(ctx, v.who, env, latchkey.MachineID(id)); err != nil {
			return page, false, err
		}
		page.Title = v.t("machines.enrol-again-of", page.Machine.Name)
	}
	if !v.may(latchkey.ActMachineToken) {
		return page, false, nil
	}
	if page.Machine.ID == "" {
		page.Groups = append(page.Groups, option{"", v.t("machines.group-none")})
		groups, err := b.MachineGroups(ctx, v.who, env, latchkey.PageOptions{Limit: offeredChoices})
		if err != nil {
			return page, true, err
		}
		for _, g := range groups.Items {
			if v.mayOn(g.MyRole, latchkey.ActMachineGroupMember) {
				page.Groups = append(page.Groups, option{string(g.ID), g.Name})
			}
		}
	}
	return page, true, nil
}

// addOpenTokens lists the tokens that can still be used.
func (v *view) addOpenTokens(page *enrolPage) error {
	ctx, b, env := v.r.Context(), v.p.b, string(v.env.ID)
	open, err := b.EnrolmentTokens(ctx, v.who, env, latchkey.PageOptions{Limit: rowsOfPage})
	if err != nil {
		return err
	}
	names, err := v.memberNames()
	if err != nil {
		return err
	}
	for _, t := range open.Items {
		o := openToken{EnrolmentToken: t, By: nameOf(names, t.CreatedBy)}
		if t.Machine != "" {
			o.Machine = string(t.Machine)
			if m, err := b.Machine(ctx, v.who, env, t.Machine); err == nil {
				o.Machine = m.Name
			}
		}
		if t.MachineGroup != "" {
			o.Group = string(t.MachineGroup)
			if g, err := b.MachineGroup(ctx, v.who, env, t.MachineGroup); err == nil {
				o.Group = g.Name
			}
		}
		page.Tokens = append(page.Tokens, o)
	}
	return nil
}

// enrolPage makes enrolment tokens, and lists those that can still be used.
func (p *Pages) enrolPage(v *view) error {
	page, may, err := v.enrolForm()
	if err != nil {
		return err
	}
	if !may {
		return v.redirect(v.path("machines", v.r.PathValue("id")), "machines.said-no-enrol")
	}
	page.Form.set("expires", "1h")
	page.Form.set("uses", "1")
	if err := v.addOpenTokens(&page); err != nil {
		return err
	}
	return v.show("machine-enrol", page)
}

// makeEnrolmentToken makes a token, and shows it this once, in the command to type on
// the machine.
func (p *Pages) makeEnrolmentToken(v *view) error {
	page, may, err := v.enrolForm()
	if err != nil {
		return err
	}
	page.Form = v.filled()
	ask := latchkey.EnrolmentTokenCreate{Machine: page.Machine.ID, MachineGroup: latchkey.MachineGroupID(v.value("group"))}
	if text := v.value("expires"); text != "" {
		if err := ask.ExpiresIn.UnmarshalText([]byte(text)); err != nil {
			page.Form.wrong("expires", err.Error())
		}
	}
	if text := v.value("uses"); text != "" {
		if ask.Uses, err = strconv.Atoi(text); err != nil || ask.Uses < 1 {
			page.Form.wrong("uses", v.t("machines.uses-wrong"))
		}
	}
	status := http.StatusUnprocessableEntity
	if page.Form.Errors == nil {
		t, err := p.b.CreateEnrolmentToken(v.r.Context(), v.who, string(v.env.ID), ask)
		if err == nil {
			status, page.Token, page.Command = http.StatusOK, &t, v.enrolCommand(t)
		} else if status, err = v.refused(&page.Form, err, "expiresIn", "expires", "machineGroup", "group"); err != nil {
			return err
		}
	}
	if may {
		if err := v.addOpenTokens(&page); err != nil {
			return err
		}
	}
	return v.showWith(status, "machine-enrol", page)
}

// enrolCommand is what to type on the machine.
func (v *view) enrolCommand(t latchkey.EnrolmentToken) string {
	words := []string{"latchkey-agent", "enrol", "--server", v.p.PublicURL(), "--token", t.Token}
	if t.Machine != "" {
		words = append(words, "--force")
	} else {
		for _, line := range strings.Split(v.value("commands"), "\n") {
			if line = strings.TrimSpace(line); line != "" {
				words = append(words, "--allow-command", line)
			}
		}
		if as := v.value("run-as"); as != "" {
			words = append(words, "--run-as", as)
		}
	}
	return commandText(words) + "\nlatchkey-agent run"
}

func (p *Pages) revokeEnrolmentToken(v *view) error {
	err := p.b.RevokeEnrolmentToken(v.r.Context(), v.who, string(v.env.ID), latchkey.EnrolmentTokenID(v.value("token")))
	if err != nil {
		return err
	}
	return v.redirect(v.path("machines"), "machines.said-revoked")
}

package web

import (
	"net/http"
	"strings"

	"latchkey.dev/latchkey"
)

func (p *Pages) environmentRoutes() {
	p.signedIn("GET /environments", p.environmentsPage)
	p.signedIn("GET /environments/new", p.newEnvironmentPage)
	p.signedIn("POST /environments", p.createEnvironment)
	p.inEnvironment("GET /e/{env}/settings", p.settingsPage)
	p.inEnvironment("POST /e/{env}/settings", p.saveSettings)
	p.inEnvironment("GET /e/{env}/members", p.membersPage)
	p.inEnvironment("POST /e/{env}/members", p.setMember)
	p.inEnvironment("GET /e/{env}/members/remove", p.removeMemberPage)
	p.inEnvironment("POST /e/{env}/members/remove", p.removeMember)
	p.inEnvironment("GET /e/{env}/remove", p.removeEnvironmentPage)
	p.inEnvironment("POST /e/{env}/remove", p.removeEnvironment)
}

type environmentsPage struct {
	shell
	List *list
	Rows []latchkey.Environment
	May  struct{ Create bool }
}

// environmentsPage lists the environments in which one has a role; all of them
// for tenant admins.
func (p *Pages) environmentsPage(v *view) error {
	page := environmentsPage{shell: v.shell(v.t("environments.title"), "environments")}
	page.List = v.list("environments", []column{{Key: "name"}, {Key: "short"}, {Key: "prefix"}, {Key: "role"}, {Key: "created"}})
	rows, err := p.b.Environments(v.r.Context(), v.who, page.List.options())
	if err != nil {
		return err
	}
	page.Rows = rows.Items
	page.List.more(rows.Next)
	page.May.Create = v.may(latchkey.ActEnvironmentCreate)
	return v.show("environments", page)
}

type environmentForm struct {
	shell
	Form form
}

func (p *Pages) newEnvironmentPage(v *view) error {
	return v.show("environment-new", environmentForm{shell: v.shell(v.t("environments.new"), "environments")})
}

func (p *Pages) createEnvironment(v *view) error {
	c := latchkey.EnvironmentCreate{Name: v.value("name"), DisplayName: v.value("displayName"), Prefix: v.value("prefix")}
	e, err := p.b.CreateEnvironment(v.r.Context(), v.who, c)
	if err != nil {
		f := v.filled()
		status, err := v.refused(&f, err)
		if err != nil {
			return err
		}
		return v.showWith(status, "environment-new", environmentForm{v.shell(v.t("environments.new"), "environments"), f})
	}
	return v.redirect(envPath(e.Name), "environments.said-created", e.DisplayName)
}

type settingsPage struct {
	shell
	Form      form
	MayUpdate bool
	MayDelete bool
}

func (v *view) settings(f form) settingsPage {
	return settingsPage{v.shell(v.t("environments.settings"), "environments"), f, v.may(latchkey.ActEnvironmentUpdate), v.may(latchkey.ActEnvironmentDelete)}
}

// settingsPage shows what an environment is set to.
func (p *Pages) settingsPage(v *view) error {
	var f form
	f.set("displayName", v.env.DisplayName)
	f.set("vaults", strings.Join(v.env.Vaults, "\n"))
	if v.env.RemoveVariableGrants {
		f.set("removeVariableGrants", "true")
	}
	return v.show("environment-settings", v.settings(f))
}

func (p *Pages) saveSettings(v *view) error {
	name, remove := v.value("displayName"), v.value("removeVariableGrants") == "true"
	vaults := strings.Fields(v.value("vaults"))
	u := latchkey.EnvironmentUpdate{DisplayName: &name, Vaults: &vaults, RemoveVariableGrants: &remove}
	if _, err := p.b.UpdateEnvironment(v.r.Context(), v.who, string(v.env.ID), u); err != nil {
		f := v.filled()
		status, err := v.refused(&f, err)
		if err != nil {
			return err
		}
		return v.showWith(status, "environment-settings", v.settings(f))
	}
	return v.redirect(v.path("settings"), "environments.saved")
}

type membersPage struct {
	shell
	List      *list
	Rows      []latchkey.Member
	Form      form
	Directory []latchkey.DirectoryEntry
	Roles     []option
	MaySet    bool
}

// pickable is how many principals the field of a new member proposes at once.
const pickable = 100

func (v *view) members(f form) (page membersPage, err error) {
	page = membersPage{shell: v.shell(v.t("environments.members"), "environments"), Form: f, MaySet: v.may(latchkey.ActMemberSet)}
	page.List = v.list("members", []column{{Key: "name"}, {Key: "kind"}, {Key: "role"}, {Key: "since"}})
	page.List.Path = v.path("members")
	rows, err := v.p.b.Members(v.r.Context(), v.who, string(v.env.ID), page.List.options())
	if err != nil {
		return page, err
	}
	page.Rows = rows.Items
	page.List.more(rows.Next)
	for _, r := range latchkey.EnvironmentRoles {
		page.Roles = append(page.Roles, option{string(r), v.t("environments.role-" + string(r))})
	}
	// The directory is for those who have a role here.
	if page.MaySet && v.env.MyRole != "" {
		entries, err := v.p.b.Directory(v.r.Context(), v.who, string(v.env.ID), "", latchkey.PageOptions{Limit: pickable})
		if err != nil {
			return page, err
		}
		page.Directory = entries.Items
	}
	return page, nil
}

// membersPage shows who has a role in an environment.
func (p *Pages) membersPage(v *view) error {
	var f form
	f.set("role", string(latchkey.EnvUser))
	page, err := v.members(f)
	if err != nil {
		return err
	}
	return v.show("environment-members", page)
}

func (p *Pages) setMember(v *view) error {
	err := p.b.SetMember(v.r.Context(), v.who, string(v.env.ID), v.value("principal"), latchkey.EnvironmentRole(v.value("role")))
	if err == nil {
		return v.redirect(v.path("members"), "environments.member-set", v.value("principal"))
	}
	f := v.filled()
	status := http.StatusUnprocessableEntity
	if fault := p.Fault(v.r.Context(), err); fault.Code == "not-found" {
		f.wrong("principal", v.t("environments.no-principal"))
	} else if status, err = v.refused(&f, err); err != nil {
		return err
	}
	page, err := v.members(f)
	if err != nil {
		return err
	}
	return v.showWith(status, "environment-members", page)
}

type removeMemberPage struct {
	shell
	Principal, Name string
	Form            form
}

func (p *Pages) removeMemberPage(v *view) error {
	return v.show("environment-member-remove", removeMemberPage{
		shell: v.shell(v.t("environments.remove-member", v.value("name")), "environments"), Principal: v.value("principal"), Name: v.value("name"),
	})
}

func (p *Pages) removeMember(v *view) error {
	if err := p.b.SetMember(v.r.Context(), v.who, string(v.env.ID), v.value("principal"), ""); err != nil {
		f := v.filled()
		status, err := v.refused(&f, err)
		if err != nil {
			return err
		}
		return v.showWith(status, "environment-member-remove", removeMemberPage{v.shell(v.t("environments.remove-member", v.value("name")), "environments"), v.value("principal"), v.value("name"), f})
	}
	return v.redirect(v.path("members"), "environments.member-removed", v.value("name"))
}

func (p *Pages) removeEnvironmentPage(v *view) error {
	return v.show("environment-remove", environmentForm{shell: v.shell(v.t("environments.remove", v.env.DisplayName), "environments")})
}

func (p *Pages) removeEnvironment(v *view) error {
	f := v.filled()
	title := v.t("environments.remove", v.env.DisplayName)
	if v.value("name") != v.env.Name {
		f.wrong("name", v.t("environments.remove-name-wrong", v.env.Name))
		return v.showWith(http.StatusUnprocessableEntity, "environment-remove", environmentForm{v.shell(title, "environments"), f})
	}
	if err := p.b.DeleteEnvironment(v.r.Context(), v.who, string(v.env.ID)); err != nil {
		status, err := v.refused(&f, err)
		if err != nil {
			return err
		}
		return v.showWith(status, "environment-remove", environmentForm{v.shell(title, "environments"), f})
	}
	return v.redirect("/environments", "environments.removed", v.env.DisplayName)
}

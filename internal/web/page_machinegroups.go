package web

import (
	"net/http"

	"latchkey.dev/latchkey"
)

func (p *Pages) machineGroupRoutes() {
	p.inEnvironment("GET /e/{env}/machine-groups", p.machineGroupsPage)
	p.inEnvironment("GET /e/{env}/machine-groups/new", p.newMachineGroupPage)
	p.inEnvironment("POST /e/{env}/machine-groups/new", p.saveMachineGroup)
	p.inEnvironment("GET /e/{env}/machine-groups/{id}", p.machineGroupPage)
	p.inEnvironment("GET /e/{env}/machine-groups/{id}/edit", p.editMachineGroupPage)
	p.inEnvironment("POST /e/{env}/machine-groups/{id}/edit", p.saveMachineGroup)
	p.inEnvironment("POST /e/{env}/machine-groups/{id}/machines", p.addGroupMachine)
	p.inEnvironment("POST /e/{env}/machine-groups/{id}/machines/remove", p.removeGroupMachine)
}

type machineGroupsPage struct {
	shell
	List *list
	Rows []latchkey.MachineGroup
	May  struct{ Create bool }
}

// machineGroupsPage lists the machine groups that one may see.
func (p *Pages) machineGroupsPage(v *view) error {
	page := machineGroupsPage{shell: v.shell(v.t("machine-groups.title"), "machines")}
	page.List = v.list("machine-groups", []column{
		{Key: "name"}, {Key: "machines", Number: true}, {Key: "online", Number: true}, {Key: "running", Number: true}, {Key: "queued", Number: true},
		{Key: "owner"}, {Key: "access"},
	})
	rows, err := p.b.MachineGroups(v.r.Context(), v.who, string(v.env.ID), page.List.options())
	if err != nil {
		return err
	}
	page.Rows = rows.Items
	page.List.more(rows.Next)
	page.May.Create = v.may(latchkey.ActMachineGroupCreate)
	return v.show("machine-groups", page)
}

type machineGroupForm struct {
	shell
	Group latchkey.MachineGroup // zero for a new one
	Form  form
}

func (p *Pages) newMachineGroupPage(v *view) error {
	return v.show("machine-group-form", machineGroupForm{shell: v.shell(v.t("machine-groups.new"), "machines")})
}

// machineGroup returns the group that the address names.
func (v *view) machineGroup() (latchkey.MachineGroup, error) {
	return v.p.b.MachineGroup(v.r.Context(), v.who, string(v.env.ID), latchkey.MachineGroupID(v.r.PathValue("id")))
}

func (p *Pages) editMachineGroupPage(v *view) error {
	g, err := v.machineGroup()
	if err != nil {
		return err
	}
	var f form
	f.set("name", g.Name)
	f.set("description", g.Description)
	return v.show("machine-group-form", machineGroupForm{v.shell(v.t("machine-groups.edit-of", g.Name), "machines"), g, f})
}

// saveMachineGroup makes a group, or changes the one that the address names.
func (p *Pages) saveMachineGroup(v *view) (err error) {
	ctx, env := v.r.Context(), string(v.env.ID)
	name, description := v.value("name"), v.value("description")
	page := machineGroupForm{Form: v.filled()}
	var g latchkey.MachineGroup
	if v.r.PathValue("id") == "" {
		page.shell = v.shell(v.t("machine-groups.new"), "machines")
		g, err = p.b.CreateMachineGroup(ctx, v.who, env, latchkey.MachineGroupCreate{Name: name, Description: description})
	} else {
		if page.Group, err = v.machineGroup(); err != nil {
			return err
		}
		page.shell = v.shell(v.t("machine-groups.edit-of", page.Group.Name), "machines")
		g, err = p.b.UpdateMachineGroup(ctx, v.who, env, page.Group.ID, latchkey.MachineGroupUpdate{Name: &name, Description: &description})
	}
	if err != nil {
		status, err := v.refused(&page.Form, err)
		if err != nil {
			return err
		}
		return v.showWith(status, "machine-group-form", page)
	}
	return v.redirect(v.path("machine-groups", string(g.ID)), "machine-groups.saved", g.Name)
}

type machineGroupPage struct {
	shell
	Group    latchkey.MachineGroup
	Machines []latchkey.GroupMachine
	Choices  []option // machines that can be added
	Form     form
	May      struct{ Update, Members, Share, Delete bool }
}

func (v *view) machineGroupWith(f form) (page machineGroupPage, err error) {
	g, err := v.machineGroup()
	if err != nil {
		return page, err
	}
	page = machineGroupPage{shell: v.shell(g.Name, "machines"), Group: g, Form: f}
	members, err := v.p.b.GroupMachines(v.r.Context(), v.who, string(v.env.ID), g.ID)
	if err != nil {
		return page, err
	}
	page.Machines = members.Items
	page.May.Update, page.May.Members = v.mayOn(g.MyRole, latchkey.ActMachineGroupUpdate), v.mayOn(g.MyRole, latchkey.ActMachineGroupMember)
	page.May.Share, page.May.Delete = v.mayOn(g.MyRole, latchkey.ActMachineGroupShares), v.mayOn(g.MyRole, latchkey.ActMachineGroupDelete)
	if page.May.Members {
		machines, err := v.p.b.Machines(v.r.Context(), v.who, string(v.env.ID), latchkey.PageOptions{Limit: pickable})
		if err != nil {
			return page, err
		}
		for _, m := range machines.Items {
			if m.MachineGroup == "" {
				page.Choices = append(page.Choices, option{string(m.ID), m.Name})
			}
		}
	}
	return page, nil
}

// machineGroupPage shows a group and its machines.
func (p *Pages) machineGroupPage(v *view) error {
	page, err := v.machineGroupWith(form{})
	if err != nil {
		return err
	}
	return v.show("machine-group", page)
}

func (p *Pages) addGroupMachine(v *view) error {
	err := p.b.AddGroupMachine(v.r.Context(), v.who, string(v.env.ID), latchkey.MachineGroupID(v.r.PathValue("id")), latchkey.MachineID(v.value("machine")))
	return v.groupMachineDone(err, "machine-groups.added")
}

func (p *Pages) removeGroupMachine(v *view) error {
	err := p.b.RemoveGroupMachine(v.r.Context(), v.who, string(v.env.ID), latchkey.MachineGroupID(v.r.PathValue("id")), latchkey.MachineID(v.value("machine")))
	return v.groupMachineDone(err, "machine-groups.removed")
}

// groupMachineDone shows the group again, with what was done or refused.
func (v *view) groupMachineDone(err error, said string) error {
	if err == nil {
		return v.redirect(v.path("machine-groups", v.r.PathValue("id")), said)
	}
	f := v.filled()
	status := http.StatusUnprocessableEntity
	if fault := v.p.Fault(v.r.Context(), err); fault.Code == "not-found" {
		f.wrong("machine", fault.Detail)
	} else if status, err = v.refused(&f, err); err != nil {
		return err
	}
	page, err := v.machineGroupWith(f)
	if err != nil {
		return err
	}
	return v.showWith(status, "machine-group", page)
}

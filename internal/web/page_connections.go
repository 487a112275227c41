package web

import (
	"errors"
	"net/http"
	"slices"
	"strings"

	"latchkey.dev/latchkey"
)

func (p *Pages) connectionRoutes() {
	p.inEnvironment("GET /e/{env}/connections", p.connectionsPage)
	p.inEnvironment("GET /e/{env}/connections/new", p.newConnectionPage)
	p.inEnvironment("POST /e/{env}/connections/new", p.createConnection)
	p.inEnvironment("GET /e/{env}/connections/{id}", p.connectionPage)
	p.inEnvironment("GET /e/{env}/connections/{id}/edit", p.renameConnectionPage)
	p.inEnvironment("POST /e/{env}/connections/{id}/edit", p.renameConnection)
	p.inEnvironment("GET /e/{env}/connections/{id}/test", p.connectionTestPage)
	p.inEnvironment("POST /e/{env}/connections/{id}/test", p.testConnection)
}

type connectionsPage struct {
	shell
	List *list
	Rows []connectionRow
	May  struct{ Create bool }
}

// A connectionRow is a connection with the names of what it binds.
type connectionRow struct {
	latchkey.Connection
	CredentialName string // empty if the person may not see it, as are the others
	Machine        latchkey.Machine
	Group          latchkey.MachineGroup // of a connection on a group
}

// connectionRows adds what connections are shown with. What the person may not see is
// left out.
func (v *view) connectionRows(connections ...latchkey.Connection) ([]connectionRow, error) {
	ctx, env := v.r.Context(), string(v.env.ID)
	credentials, machines := map[latchkey.CredentialID]string{}, map[latchkey.MachineID]latchkey.Machine{}
	groups := map[latchkey.MachineGroupID]latchkey.MachineGroup{}
	rows := make([]connectionRow, 0, len(connections))
	for _, c := range connections {
		row := connectionRow{Connection: c}
		if _, known := credentials[c.Credential]; !known {
			x, err := v.p.b.Credential(ctx, v.who, env, c.Credential)
			if err != nil && !errors.Is(err, latchkey.ErrNotFound) {
				return nil, err
			}
			credentials[c.Credential] = x.Name
		}
		if _, known := groups[c.Target.MachineGroup]; !known && c.Target.MachineGroup != "" {
			x, err := v.p.b.MachineGroup(ctx, v.who, env, c.Target.MachineGroup)
			if err != nil && !errors.Is(err, latchkey.ErrNotFound) {
				return nil, err
			}
			groups[c.Target.MachineGroup] = x
		}
		if _, known := machines[c.Target.Machine]; !known && c.Target.Machine != "" {
			x, err := v.p.b.Machine(ctx, v.who, env, c.Target.Machine)
			if err != nil && !errors.Is(err, latchkey.ErrNotFound) {
				return nil, err
			}
			machines[c.Target.Machine] = x
		}
		row.CredentialName, row.Machine, row.Group = credentials[c.Credential], machines[c.Target.Machine], groups[c.Target.MachineGroup]
		rows = append(rows, row)
	}
	return rows, nil
}

// connectionsPage lists the connections that one may see.
func (p *Pages) connectionsPage(v *view) error {
	page := connectionsPage{shell: v.shell(v.t("connections.title"), "connections")}
	page.List = v.list("connections", []column{
		{Key: "name", Sort: "name"}, {Key: "credential"}, {Key: "target"}, {Key: "driver", Hidden: true}, {Key: "status"}, {Key: "last-run"}, {Key: "owner"}, {Key: "access", Hidden: true},
		{Key: "modified", Sort: "modified", Hidden: true},
	})
	rows, err := p.b.Connections(v.r.Context(), v.who, string(v.env.ID), page.List.options())
	if err != nil {
		return err
	}
	if page.Rows, err = v.connectionRows(rows.Items...); err != nil {
		return err
	}
	page.List.more(rows.Next)
	page.May.Create = v.may(latchkey.ActConnectionCreate)
	return v.show("connections", page)
}

type connectionForm struct {
	shell
	Crumbs      []option
	Form        form
	Credentials []option
	Targets     []option
	Machine     latchkey.Machine        // that was chosen
	Group       latchkey.MachineGroupID // or this
	Drivers     []option
	Servers     []option // of the driver ssh
	More        bool     // there are more credentials or machines than are offered
}

// offeredChoices is how many credentials and machines a form offers to choose from.
const offeredChoices = 200

// newConnectionPage shows the form of a new connection. What can be chosen further
// follows from the machine in the address.
func (p *Pages) newConnectionPage(v *view) error {
	return v.showConnectionForm(http.StatusOK, v.filled())
}

func (v *view) showConnectionForm(status int, f form) error {
	ctx, env := v.r.Context(), string(v.env.ID)
	page := connectionForm{shell: v.shell(v.t("connections.new"), "connections"), Crumbs: []option{{v.path("connections"), v.t("connections.title")}}}
	part := v.part()
	if part != "driver-fields" {
		search := strings.TrimSpace(f.Value("search"))
		credentials, err := v.p.b.Credentials(ctx, v.who, env, latchkey.PageOptions{Limit: offeredChoices, Search: search})
		if err != nil {
			return err
		}
		page.More = credentials.Next != "" || search != ""
		for _, c := range credentials.Items {
			// An admin sees credentials that only others may use.
			if slices.Contains(c.Usages, latchkey.UsageConnection) && c.MyRole != latchkey.RoleNone {
				page.Credentials = append(page.Credentials, option{string(c.ID), c.Name})
			}
		}
	}
	machines, err := v.p.b.Machines(ctx, v.who, env, latchkey.PageOptions{Limit: offeredChoices})
	if err != nil {
		return err
	}
	groups, err := v.p.b.MachineGroups(ctx, v.who, env, latchkey.PageOptions{Limit: offeredChoices})
	if err != nil {
		return err
	}
	for _, m := range machines.Items {
		label := m.Name + " (" + v.t("state."+string(m.Status)) + ")"
		page.Targets = append(page.Targets, option{string(m.ID), label})
	}
	for _, g := range groups.Items {
		page.Targets = append(page.Targets, option{string(g.ID), v.t("connections.group", g.Name, g.Machines)})
		if string(g.ID) == f.Value("machine") {
			if err := v.groupFields(&page, g.ID); err != nil {
				return err
			}
		}
	}
	if len(page.Targets) == 1 {
		f.set("machine", page.Targets[0].Value)
	}
	for _, m := range machines.Items {
		if string(m.ID) != f.Value("machine") {
			continue
		}
		page.Machine = m
		for _, d := range latchkey.Drivers {
			if slices.Contains(m.Policy.Drivers, d) {
				page.Drivers = append(page.Drivers, option{string(d), v.t("connections.driver-" + string(d))})
			}
		}
		for _, s := range m.Policy.SSHServers {
			page.Servers = append(page.Servers, option{s.Name, s.Name})
		}
	}
	if len(page.Drivers) > 0 && !slices.ContainsFunc(page.Drivers, func(o option) bool { return o.Value == f.Value("driver") }) {
		f.Values.Set("driver", page.Drivers[0].Value)
	}
	page.Form = f
	return v.showWith(status, "connection-new", page)
}

// groupFields offers the drivers and the SSH servers that machines of a group have.
func (v *view) groupFields(page *connectionForm, id latchkey.MachineGroupID) error {
	machines, err := v.p.b.GroupMachines(v.r.Context(), v.who, string(v.env.ID), id)
	if err != nil {
		return err
	}
	for _, d := range latchkey.Drivers {
		if slices.ContainsFunc(machines.Items, func(m latchkey.GroupMachine) bool { return slices.Contains(m.Drivers, d) }) {
			page.Drivers = append(page.Drivers, option{string(d), v.t("connections.driver-" + string(d))})
		}
	}
	for _, m := range machines.Items {
		for _, name := range m.SSHServers {
			if o := (option{name, name}); !slices.Contains(page.Servers, o) {
				page.Servers = append(page.Servers, o)
			}
		}
	}
	page.Group = id
	return nil
}

// createConnection binds a credential to a machine or a group.
func (p *Pages) createConnection(v *view) error {
	target := latchkey.Target{Machine: latchkey.MachineID(v.value("machine"))}
	if latchkey.HasPrefix(v.value("machine"), "mgrp") {
		target = latchkey.Target{MachineGroup: latchkey.MachineGroupID(v.value("machine"))}
	}
	n := latchkey.ConnectionCreate{
		Name: v.value("name"), Target: target, Driver: latchkey.Driver(v.value("driver")),
		Credential: latchkey.CredentialID(v.value("credential")),
	}
	if n.Driver == latchkey.DriverSSH {
		n.SSHServer = v.value("sshServer")
	}
	c, err := p.b.CreateConnection(v.r.Context(), v.who, string(v.env.ID), n)
	if err != nil {
		f := v.filled()
		status, err := v.refused(&f, err, "target.machine", "machine", "target.machineGroup", "machine", "target", "machine")
		if err != nil {
			return err
		}
		return v.showConnectionForm(status, f)
	}
	return v.redirect(v.path("connections", string(c.ID)), "connections.made", c.Name)
}

type connectionPage struct {
	shell
	Crumbs     []option
	Connection connectionRow
	Uses       latchkey.Dependencies // what uses it
	Test       testPart
	May        struct{ Rename, Share, Delete, Test, Force, Run bool }
}

// A testPart is the newest test of a connection, which a page follows until it has
// ended. Its template is "test-result".
type testPart struct {
	Connection latchkey.ConnectionID
	At         string // address of the test
	Test       *latchkey.ConnectionTest
	Polled     bool
	Force      bool // may be tested though the target has refused the secret
}

// Pending reports whether the test is under way.
func (p testPart) Pending() bool { return p.Test != nil && p.Test.State == latchkey.TestPending }

// connectionPage shows a connection, its last test and what uses it.
func (p *Pages) connectionPage(v *view) error {
	ctx, env := v.r.Context(), string(v.env.ID)
	c, may, err := v.connection()
	if err != nil {
		return err
	}
	page := connectionPage{shell: v.shell(c.Name, "connections"), Crumbs: []option{{v.path("connections"), v.t("connections.title")}}}
	rows, err := v.connectionRows(c)
	if err != nil {
		return err
	}
	page.Connection = rows[0]
	page.May.Rename, page.May.Share, page.May.Delete = may(latchkey.ActConnectionUpdate), may(latchkey.ActConnectionShares), may(latchkey.ActConnectionDelete)
	page.May.Test, page.May.Force = may(latchkey.ActConnectionTest), may(latchkey.ActConnectionForce)
	if page.Uses, err = p.b.Dependents(ctx, v.who, env, latchkey.KindConnection, string(c.ID)); err != nil {
		return err
	}
	if page.Test, err = v.lastTest(c, may); err != nil {
		return err
	}
	return v.show("connection", page)
}

// connection returns the connection that the address names, and what the person may do
// with it.
func (v *view) connection() (c latchkey.Connection, may func(latchkey.Action) bool, err error) {
	c, err = v.p.b.Connection(v.r.Context(), v.who, string(v.env.ID), latchkey.ConnectionID(v.r.PathValue("id")))
	return c, func(a latchkey.Action) bool { return v.mayOn(c.MyRole, a) }, err
}

// lastTest returns the newest test of a connection, for those who may test it.
func (v *view) lastTest(c latchkey.Connection, may func(latchkey.Action) bool) (t testPart, err error) {
	t = testPart{Connection: c.ID, At: v.path("connections", string(c.ID), "test"), Force: may(latchkey.ActConnectionForce) && c.Refusals > 0}
	if !may(latchkey.ActConnectionTest) {
		return t, nil
	}
	switch last, err := v.p.b.ConnectionTest(v.r.Context(), v.who, string(v.env.ID), c.ID, "", 0); {
	case err == nil:
		t.Test = &last
	case !errors.Is(err, latchkey.ErrNotFound):
		return t, err
	}
	return t, nil
}

type connectionTestPage struct {
	shell
	Crumbs     []option
	Connection latchkey.Connection
	Form       form
	May        bool
	testPart
}

// connectionTestPage shows the newest test of a connection. A script asks for it again
// until the test has ended.
func (p *Pages) connectionTestPage(v *view) error {
	return v.showTest(http.StatusOK, form{}, nil)
}

func (v *view) showTest(status int, f form, now *latchkey.ConnectionTest) error {
	c, may, err := v.connection()
	if err != nil {
		return err
	}
	page := connectionTestPage{
		shell: v.shell(v.t("connections.test-of", c.Name), "connections"), Connection: c, Form: f, May: may(latchkey.ActConnectionTest),
		Crumbs: []option{{v.path("connections"), v.t("connections.title")}, {v.path("connections", string(c.ID)), c.Name}},
	}
	if page.testPart, err = v.lastTest(c, may); err != nil {
		return err
	}
	if now != nil {
		page.Test = now
	}
	page.Polled = v.part() == "test-result"
	return v.showWith(status, "connection-test", page)
}

// testConnection begins a test.
func (p *Pages) testConnection(v *view) error {
	id := latchkey.ConnectionID(v.r.PathValue("id"))
	t, err := p.b.TestConnection(v.r.Context(), v.who, string(v.env.ID), id, v.value("force") == "true", 0)
	if err != nil {
		f := v.filled()
		status, err := v.refused(&f, err)
		if err != nil {
			return err
		}
		return v.showTest(status, f, nil)
	}
	if v.part() == "" && t.Run != "" {
		return v.redirect(v.path("connections", string(id), "test"), "")
	}
	return v.showTest(http.StatusOK, form{}, &t)
}

type connectionNameForm struct {
	shell
	Crumbs     []option
	Connection latchkey.Connection
	Form       form
}

func (p *Pages) renameConnectionPage(v *view) error { return v.showRename(http.StatusOK, form{}) }

func (v *view) showRename(status int, f form) error {
	c, err := v.p.b.Connection(v.r.Context(), v.who, string(v.env.ID), latchkey.ConnectionID(v.r.PathValue("id")))
	if err != nil {
		return err
	}
	f.set("name", c.Name)
	return v.showWith(status, "connection-edit", connectionNameForm{
		v.shell(v.t("connections.rename-of", c.Name), "connections"), []option{{v.path("connections"), v.t("connections.title")}, {v.path("connections", string(c.ID)), c.Name}}, c, f,
	})
}

// renameConnection gives a connection another name.
func (p *Pages) renameConnection(v *view) error {
	id := latchkey.ConnectionID(v.r.PathValue("id"))
	c, err := p.b.UpdateConnection(v.r.Context(), v.who, string(v.env.ID), id, latchkey.ConnectionUpdate{Name: new(v.value("name"))})
	if err != nil {
		f := v.filled()
		status, err := v.refused(&f, err)
		if err != nil {
			return err
		}
		return v.showRename(status, f)
	}
	return v.redirect(v.path("connections", string(id)), "connections.saved", c.Name)
}

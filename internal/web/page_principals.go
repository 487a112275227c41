package web

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"latchkey.dev/latchkey"
)

func (p *Pages) principalRoutes() {
	p.signedIn("GET /users", p.usersPage)
	p.signedIn("GET /users/new", p.newUserPage)
	p.signedIn("POST /users", p.createUser)
	p.signedIn("GET /users/{user}", p.userPage)
	p.signedIn("POST /users/{user}", p.saveUser)
	p.signedIn("GET /users/{user}/password", p.resetPasswordPage)
	p.signedIn("POST /users/{user}/password", p.resetPassword)
	p.signedIn("GET /users/{user}/disable", p.disableUserPage)
	p.signedIn("POST /users/{user}/disable", p.disableUser)
	p.signedIn("POST /users/{user}/enable", p.enableUser)
	p.signedIn("GET /users/{user}/identities/new", p.newIdentityPage)
	p.signedIn("POST /users/{user}/identities", p.addIdentity)
	p.signedIn("POST /users/{user}/identities/remove", p.removeIdentity)

	p.signedIn("GET /groups", p.groupsPage)
	p.signedIn("GET /groups/new", p.newGroupPage)
	p.signedIn("POST /groups", p.createGroup)
	p.signedIn("GET /groups/{group}", p.groupPage)
	p.signedIn("GET /groups/{group}/edit", p.editGroupPage)
	p.signedIn("POST /groups/{group}", p.saveGroup)
	p.signedIn("POST /groups/{group}/members", p.addGroupMember)
	p.signedIn("POST /groups/{group}/members/remove", p.removeGroupMember)
	p.signedIn("GET /groups/{group}/delete", p.deleteGroupPage)
	p.signedIn("POST /groups/{group}/delete", p.deleteGroup)

	p.signedIn("GET /service-principals", p.servicePrincipalsPage)
	p.signedIn("GET /service-principals/new", p.newServicePrincipalPage)
	p.signedIn("POST /service-principals", p.createServicePrincipal)
	p.signedIn("GET /service-principals/{sp}", p.servicePrincipalPage)
	p.signedIn("POST /service-principals/{sp}", p.saveServicePrincipal)
	p.signedIn("POST /service-principals/{sp}/disabled", p.disableServicePrincipal)
	p.signedIn("GET /service-principals/{sp}/credentials/new", p.newProofPage)
	p.signedIn("POST /service-principals/{sp}/credentials", p.addProof)
	p.signedIn("GET /service-principals/{sp}/credentials/{id}/remove", p.removeProofPage)
	p.signedIn("POST /service-principals/{sp}/credentials/{id}/remove", p.removeProof)
	p.signedIn("GET /service-principals/{sp}/delete", p.deleteServicePrincipalPage)
	p.signedIn("POST /service-principals/{sp}/delete", p.deleteServicePrincipal)
}

// tenantAdmin returns nil for tenant admins. Others find no such page: to ask the
// broker for them would put a refusal on record.
func (v *view) tenantAdmin() error {
	if v.may(latchkey.ActUserRead) {
		return nil
	}
	return latchkey.NotFound(latchkey.KindUser)
}

// A formPage is a page, or a panel, with a form of its own.
type formPage struct {
	shell
	Form   form
	Action string // address of the form
	Back   string
	Name   string // of the thing that it is about, if there is one
}

// formAgain shows a form with what was refused.
func (v *view) formAgain(page string, c formPage, cause error, secrets ...string) error {
	c.Form = v.filled(secrets...)
	status, err := v.refused(&c.Form, cause)
	if err != nil {
		return err
	}
	return v.showWith(status, page, c)
}

type usersPage struct {
	shell
	List *list
	Rows []latchkey.User
}

func (p *Pages) usersPage(v *view) error {
	if err := v.tenantAdmin(); err != nil {
		return err
	}
	page := usersPage{shell: v.shell(v.t("users.title"), "users")}
	page.List = v.list("users", []column{{Key: "name"}, {Key: "login"}, {Key: "state"}, {Key: "identities"}, {Key: "modified"}})
	rows, err := p.b.Users(v.r.Context(), v.who, page.List.options())
	if err != nil {
		return err
	}
	page.Rows = rows.Items
	page.List.more(rows.Next)
	return v.show("users", page)
}

func (v *view) newUser() formPage {
	return formPage{shell: v.shell(v.t("users.new"), "users"), Action: "/users", Back: "/users"}
}

func (p *Pages) newUserPage(v *view) error {
	if err := v.tenantAdmin(); err != nil {
		return err
	}
	return v.show("user-new", v.newUser())
}

func (p *Pages) createUser(v *view) error {
	c := latchkey.UserCreate{Login: v.value("login"), DisplayName: v.value("displayName"), TenantAdmin: v.value("tenantAdmin") == "true"}
	if s := v.secret("password").Reveal(); s != "" {
		c.Password = &s
	}
	u, err := p.b.CreateUser(v.r.Context(), v.who, c)
	if err != nil {
		return v.formAgain("user-new", v.newUser(), err, "password")
	}
	return v.redirect("/users/"+string(u.ID), "users.created", u.DisplayName)
}

// Owned are the things of an environment that somebody owns, the first of them.
type owned struct {
	Env    latchkey.Environment
	Things []latchkey.OwnedThing
	More   bool
}

// someOwned is how many things of one environment are named at once.
const someOwned = 20

// ownedBy returns what somebody owns where the person may know it: in the
// environments in which they are admin or auditor. others is how many there are
// besides.
func (v *view) ownedBy(id latchkey.PrincipalID) (all []owned, others int, err error) {
	environments, err := v.p.b.Environments(v.r.Context(), v.who, latchkey.PageOptions{Limit: latchkey.MaxPage})
	if err != nil {
		return nil, 0, err
	}
	for _, e := range environments.Items {
		if !(latchkey.Access{Environment: []latchkey.EnvironmentRole{e.MyRole}}).Can(latchkey.ActOwnedRead) {
			others++
			continue
		}
		things, err := v.p.b.Owned(v.r.Context(), v.who, string(e.ID), string(id), latchkey.PageOptions{Limit: someOwned})
		if err != nil {
			return nil, 0, err
		}
		if len(things.Items) > 0 {
			all = append(all, owned{e, things.Items, things.Next != ""})
		}
	}
	return all, others, nil
}

type userPage struct {
	shell
	Of     latchkey.User
	Form   form
	Own    bool // it is one's own
	Owned  []owned
	Others int
}

func (v *view) user() (latchkey.User, error) {
	return v.p.b.User(v.r.Context(), v.who, v.r.PathValue("user"))
}

func (v *view) userForm(u latchkey.User, f form) (userPage, error) {
	page := userPage{shell: v.shell(u.DisplayName, "users"), Of: u, Form: f, Own: u.ID == v.who.ID}
	page.Form.set("displayName", u.DisplayName)
	if u.TenantAdmin {
		page.Form.set("tenantAdmin", "true")
	}
	var err error
	page.Owned, page.Others, err = v.ownedBy(u.ID)
	return page, err
}

func (p *Pages) userPage(v *view) error {
	if err := v.tenantAdmin(); err != nil {
		return err
	}
	u, err := v.user()
	if err != nil {
		return err
	}
	page, err := v.userForm(u, form{})
	if err != nil {
		return err
	}
	return v.show("user", page)
}

func (p *Pages) saveUser(v *view) error {
	u, err := v.user()
	if err != nil {
		return err
	}
	name, admin := v.value("displayName"), v.value("tenantAdmin") == "true"
	if _, err := p.b.UpdateUser(v.r.Context(), v.who, string(u.ID), latchkey.UserUpdate{DisplayName: &name, TenantAdmin: &admin}); err != nil {
		f := v.filled()
		f.set("tenantAdmin") // a box that is not checked is not sent
		status, err := v.refused(&f, err)
		if err != nil {
			return err
		}
		page, err := v.userForm(u, f)
		if err != nil {
			return err
		}
		return v.showWith(status, "user", page)
	}
	return v.redirect("/users/"+string(u.ID), "users.saved", name)
}

func (v *view) resetting(u latchkey.User) formPage {
	at := "/users/" + string(u.ID)
	return formPage{shell: v.shell(v.t("users.reset-password", u.DisplayName), "users"), Action: at + "/password", Back: at, Name: u.DisplayName}
}

func (p *Pages) resetPasswordPage(v *view) error {
	if err := v.tenantAdmin(); err != nil {
		return err
	}
	u, err := v.user()
	if err != nil {
		return err
	}
	return v.show("user-password", v.resetting(u))
}

func (p *Pages) resetPassword(v *view) error {
	u, err := v.user()
	if err != nil {
		return err
	}
	password := v.secret("password").Reveal()
	if _, err := p.b.UpdateUser(v.r.Context(), v.who, string(u.ID), latchkey.UserUpdate{Password: &password}); err != nil {
		return v.formAgain("user-password", v.resetting(u), err, "password")
	}
	return v.redirect("/users/"+string(u.ID), "users.password-reset", u.DisplayName)
}

type disablePage struct {
	shell
	Of        latchkey.User
	Form      form
	Owned     []owned
	Others    int
	Left      []leftThing
	Directory []latchkey.DirectoryEntry
}

// A leftThing is what could not be handed over.
type leftThing struct {
	Env string
	latchkey.LeftThing
}

func (v *view) disabling(u latchkey.User, f form, left []leftThing) (page disablePage, err error) {
	page = disablePage{shell: v.shell(v.t("users.disable", u.DisplayName), "users"), Of: u, Form: f, Left: left}
	if page.Owned, page.Others, err = v.ownedBy(u.ID); err != nil {
		return page, err
	}
	if len(page.Owned) > 0 { // the directory is the same of all
		entries, err := v.p.b.Directory(v.r.Context(), v.who, string(page.Owned[0].Env.ID), "", latchkey.PageOptions{Limit: pickable})
		if err != nil {
			return page, err
		}
		page.Directory = entries.Items
	}
	return page, nil
}

func (p *Pages) disableUserPage(v *view) error {
	if err := v.tenantAdmin(); err != nil {
		return err
	}
	u, err := v.user()
	if err != nil {
		return err
	}
	page, err := v.disabling(u, form{}, nil)
	if err != nil {
		return err
	}
	return v.show("user-disable", page)
}

// disableUser hands over what somebody owns, if somebody else is named, and then
// disables the account; not while something is left over.
func (p *Pages) disableUser(v *view) error {
	u, err := v.user()
	if err != nil {
		return err
	}
	var left []leftThing
	if to := v.value("to"); to != "" {
		left, err = v.handOver(u, to)
	}
	if err == nil && len(left) == 0 {
		yes := true
		if _, err = p.b.UpdateUser(v.r.Context(), v.who, string(u.ID), latchkey.UserUpdate{Disabled: &yes, Force: v.value("force") == "true"}); err == nil {
			return v.redirect("/users/"+string(u.ID), "users.disabled", u.DisplayName)
		}
	}
	f, status := v.filled(), http.StatusConflict
	if err != nil {
		if status, err = v.refused(&f, err); err != nil {
			return err
		}
	}
	page, err := v.disabling(u, f, left)
	if err != nil {
		return err
	}
	return v.showWith(status, "user-disable", page)
}

// maxHandOvers bounds how many requests one form makes.
const maxHandOvers = 20

// handOver makes somebody the owner of what a user owns, in the environments in
// which the person may do so.
func (v *view) handOver(u latchkey.User, to string) (left []leftThing, err error) {
	all, _, err := v.ownedBy(u.ID)
	if err != nil {
		return nil, err
	}
	for _, o := range all {
		in := latchkey.HandOver{From: string(u.ID), To: to}
		for range maxHandOvers {
			h, err := v.p.b.HandOver(v.r.Context(), v.who, string(o.Env.ID), in)
			if e, ok := errors.AsType[*latchkey.Error](err); ok && len(e.Fields) > 0 {
				for i := range e.Fields {
					e.Fields[i].Message = o.Env.DisplayName + ": " + e.Fields[i].Message
				}
			}
			if err != nil {
				return left, err
			}
			for _, t := range h.Left {
				left = append(left, leftThing{o.Env.DisplayName, t})
			}
			if in.After = h.Next; in.After == "" {
				break
			}
		}
	}
	return left, nil
}

func (p *Pages) enableUser(v *view) error {
	no := false
	u, err := p.b.UpdateUser(v.r.Context(), v.who, v.r.PathValue("user"), latchkey.UserUpdate{Disabled: &no})
	if err != nil {
		return err
	}
	return v.redirect("/users/"+string(u.ID), "users.enabled", u.DisplayName)
}

func (v *view) newIdentity(u latchkey.User) formPage {
	at := "/users/" + string(u.ID)
	return formPage{shell: v.shell(v.t("users.add-identity", u.DisplayName), "users"), Action: at + "/identities", Back: at, Name: u.DisplayName}
}

func (p *Pages) newIdentityPage(v *view) error {
	if err := v.tenantAdmin(); err != nil {
		return err
	}
	u, err := v.user()
	if err != nil {
		return err
	}
	page := v.newIdentity(u)
	for _, name := range []string{"issuer", "tenant", "objectId"} { // a refusal's link fills them in
		page.Form.set(name, v.value(name))
	}
	return v.show("user-identity", page)
}

func (p *Pages) addIdentity(v *view) error {
	u, err := v.user()
	if err != nil {
		return err
	}
	e := latchkey.ExternalIdentity{Issuer: v.value("issuer"), Tenant: v.value("tenant"), ObjectID: v.value("objectId")}
	if _, err := p.b.AddIdentity(v.r.Context(), v.who, string(u.ID), e); err != nil {
		return v.formAgain("user-identity", v.newIdentity(u), err)
	}
	return v.redirect("/users/"+string(u.ID), "users.identity-added", u.DisplayName)
}

func (p *Pages) removeIdentity(v *view) error {
	e := latchkey.ExternalIdentity{Issuer: v.value("issuer"), Tenant: v.value("tenant"), ObjectID: v.value("objectId")}
	if err := p.b.RemoveIdentity(v.r.Context(), v.who, v.r.PathValue("user"), e); err != nil {
		return err
	}
	return v.redirect("/users/"+url.PathEscape(v.r.PathValue("user")), "users.identity-removed")
}

type groupsPage struct {
	shell
	List *list
	Rows []latchkey.Group
	May  bool // make one
}

// groupsPage lists the groups that one is in; all of them for tenant admins.
func (p *Pages) groupsPage(v *view) error {
	page := groupsPage{shell: v.shell(v.t("groups.title"), "groups"), May: v.may(latchkey.ActGroupCreate)}
	page.List = v.list("groups", []column{{Key: "name"}, {Key: "members", Number: true}, {Key: "link"}, {Key: "modified"}})
	rows, err := p.b.Groups(v.r.Context(), v.who, page.List.options())
	if err != nil {
		return err
	}
	page.Rows = rows.Items
	page.List.more(rows.Next)
	return v.show("groups", page)
}

func (v *view) groupEdit(g latchkey.Group) formPage {
	c := formPage{shell: v.shell(v.t("groups.new"), "groups"), Action: "/groups", Back: "/groups"}
	if g.ID != "" {
		at := "/groups/" + string(g.ID)
		c = formPage{shell: v.shell(v.t("groups.edit", g.Name), "groups"), Action: at, Back: at, Name: g.Name}
		c.Form.set("name", g.Name)
		c.Form.set("description", g.Description)
		if g.External != nil {
			c.Form.set("issuer", g.External.Issuer)
			c.Form.set("externalId", g.External.ID)
		}
	}
	return c
}

// external returns the group of a provider that a form links a group to, or nil.
func (v *view) external() *latchkey.ExternalGroup {
	e := latchkey.ExternalGroup{Issuer: v.value("issuer"), ID: v.value("externalId")}
	if e == (latchkey.ExternalGroup{}) {
		return nil
	}
	return &e
}

func (p *Pages) newGroupPage(v *view) error {
	if err := v.tenantAdmin(); err != nil {
		return err
	}
	return v.show("group-edit", v.groupEdit(latchkey.Group{}))
}

// linkNames say which fields of a group's form are meant.
var linkNames = []string{"external.issuer", "issuer", "external.id", "externalId"}

func (v *view) groupAgain(g latchkey.Group, cause error) error {
	c := v.groupEdit(g)
	c.Form = v.filled()
	status, err := v.refused(&c.Form, cause, linkNames...)
	if err != nil {
		return err
	}
	return v.showWith(status, "group-edit", c)
}

func (p *Pages) createGroup(v *view) error {
	g, err := p.b.CreateGroup(v.r.Context(), v.who, latchkey.GroupCreate{Name: v.value("name"), Description: v.value("description"), External: v.external()})
	if err != nil {
		return v.groupAgain(latchkey.Group{}, err)
	}
	return v.redirect("/groups/"+string(g.ID), "groups.created", g.Name)
}

type groupPage struct {
	shell
	Group     latchkey.Group
	List      *list
	Rows      []latchkey.DirectoryEntry
	Form      form
	Directory []latchkey.DirectoryEntry
	May       bool // change it, and see who is in it
}

func (v *view) group() (latchkey.Group, error) {
	return v.p.b.Group(v.r.Context(), v.who, v.r.PathValue("group"))
}

func (v *view) groupForm(f form) (page groupPage, err error) {
	g, err := v.group()
	if err != nil {
		return page, err
	}
	page = groupPage{shell: v.shell(g.Name, "groups"), Group: g, Form: f, May: v.may(latchkey.ActGroupMember)}
	page.List = v.list("group-members", []column{{Key: "name"}, {Key: "kind"}, {Key: "login"}})
	page.List.Path = "/groups/" + string(g.ID)
	if !page.May {
		return page, nil
	}
	rows, err := v.p.b.GroupMembers(v.r.Context(), v.who, string(g.ID), latchkey.PageOptions{After: page.List.after, Limit: rowsOfPage})
	if err != nil {
		return page, err
	}
	page.Rows = rows.Items
	page.List.more(rows.Next)
	page.Directory, err = v.everybody()
	return page, err
}

// everybody returns the first principals that a tenant admin can choose from.
func (v *view) everybody() (all []latchkey.DirectoryEntry, err error) {
	ctx, first := v.r.Context(), latchkey.PageOptions{Limit: pickable}
	users, err := v.p.b.Users(ctx, v.who, first)
	if err != nil {
		return nil, err
	}
	for _, u := range users.Items {
		if !u.Disabled {
			all = append(all, latchkey.DirectoryEntry{ID: u.ID, Kind: latchkey.PrincipalUser, Name: u.DisplayName, Login: u.Login})
		}
	}
	groups, err := v.p.b.Groups(ctx, v.who, first)
	if err != nil {
		return nil, err
	}
	for _, g := range groups.Items {
		all = append(all, latchkey.DirectoryEntry{ID: g.ID, Kind: latchkey.PrincipalGroup, Name: g.Name})
	}
	programs, err := v.p.b.ServicePrincipals(ctx, v.who, first)
	if err != nil {
		return nil, err
	}
	for _, s := range programs.Items {
		all = append(all, latchkey.DirectoryEntry{ID: s.ID, Kind: latchkey.PrincipalService, Name: s.DisplayName, ClientID: s.ClientID})
	}
	return all, nil
}

func (p *Pages) groupPage(v *view) error {
	page, err := v.groupForm(form{})
	if err != nil {
		return err
	}
	return v.show("group", page)
}

func (p *Pages) editGroupPage(v *view) error {
	if err := v.tenantAdmin(); err != nil {
		return err
	}
	g, err := v.group()
	if err != nil {
		return err
	}
	return v.show("group-edit", v.groupEdit(g))
}

func (p *Pages) saveGroup(v *view) error {
	g, err := v.group()
	if err != nil {
		return err
	}
	name, description, link := v.value("name"), v.value("description"), v.external()
	u := latchkey.GroupUpdate{Name: &name, Description: &description, External: link}
	if link == nil {
		u.External = &latchkey.ExternalGroup{} // takes it away
	}
	if _, err := p.b.UpdateGroup(v.r.Context(), v.who, string(g.ID), u); err != nil {
		return v.groupAgain(g, err)
	}
	return v.redirect("/groups/"+string(g.ID), "groups.saved", name)
}

func (p *Pages) addGroupMember(v *view) error {
	who := v.value("principal")
	err := p.b.AddGroupMember(v.r.Context(), v.who, v.r.PathValue("group"), who)
	if err == nil {
		return v.redirect("/groups/"+url.PathEscape(v.r.PathValue("group")), "groups.added", who)
	}
	f, status := v.filled(), http.StatusUnprocessableEntity
	if fault := p.Fault(v.r.Context(), err); fault.Code == "not-found" {
		f.wrong("principal", v.t("environments.no-principal"))
	} else if status, err = v.refused(&f, err); err != nil {
		return err
	}
	page, err := v.groupForm(f)
	if err != nil {
		return err
	}
	return v.showWith(status, "group", page)
}

func (p *Pages) removeGroupMember(v *view) error {
	if err := p.b.RemoveGroupMember(v.r.Context(), v.who, v.r.PathValue("group"), v.value("principal")); err != nil {
		return err
	}
	return v.redirect("/groups/"+url.PathEscape(v.r.PathValue("group")), "groups.removed", v.value("name"))
}

func (v *view) deletingGroup(g latchkey.Group, cause error) error {
	at := "/groups/" + string(g.ID)
	return v.confirm(cause, confirmPage{
		shell: v.shell(v.t("groups.delete", g.Name), "groups"), Crumbs: options("/groups", v.t("groups.title"), at, g.Name),
		About: v.t("groups.delete-about", g.Members), Do: v.t("groups.delete-do"), Action: at + "/delete", Back: at,
	})
}

func (p *Pages) deleteGroupPage(v *view) error {
	if err := v.tenantAdmin(); err != nil {
		return err
	}
	g, err := v.group()
	if err != nil {
		return err
	}
	return v.deletingGroup(g, nil)
}

func (p *Pages) deleteGroup(v *view) error {
	g, err := v.group()
	if err != nil {
		return err
	}
	if err := p.b.DeleteGroup(v.r.Context(), v.who, string(g.ID)); err != nil {
		return v.deletingGroup(g, err)
	}
	return v.redirect("/groups", "groups.deleted", g.Name)
}

type servicePrincipalsPage struct {
	shell
	List *list
	Rows []latchkey.ServicePrincipal
}

func (p *Pages) servicePrincipalsPage(v *view) error {
	if err := v.tenantAdmin(); err != nil {
		return err
	}
	page := servicePrincipalsPage{shell: v.shell(v.t("service-principals.title"), "service-principals")}
	page.List = v.list("service-principals", []column{{Key: "name"}, {Key: "client"}, {Key: "state"}, {Key: "credentials"}, {Key: "modified"}})
	rows, err := p.b.ServicePrincipals(v.r.Context(), v.who, page.List.options())
	if err != nil {
		return err
	}
	page.Rows = rows.Items
	page.List.more(rows.Next)
	return v.show("service-principals", page)
}

func (v *view) newServicePrincipal() formPage {
	return formPage{shell: v.shell(v.t("service-principals.new"), "service-principals"), Action: "/service-principals", Back: "/service-principals"}
}

func (p *Pages) newServicePrincipalPage(v *view) error {
	if err := v.tenantAdmin(); err != nil {
		return err
	}
	return v.show("service-principal-new", v.newServicePrincipal())
}

func (p *Pages) createServicePrincipal(v *view) error {
	s, err := p.b.CreateServicePrincipal(v.r.Context(), v.who, latchkey.ServicePrincipalCreate{DisplayName: v.value("displayName"), Description: v.value("description")})
	if err != nil {
		return v.formAgain("service-principal-new", v.newServicePrincipal(), err)
	}
	return v.redirect("/service-principals/"+string(s.ID), "service-principals.created", s.DisplayName)
}

type servicePrincipalPage struct {
	shell
	Of   latchkey.ServicePrincipal
	Form form
	New  latchkey.NewServicePrincipalCredential // just made; a secret is shown here and never again
	Now  time.Time
}

func (v *view) servicePrincipal() (latchkey.ServicePrincipal, error) {
	return v.p.b.ServicePrincipal(v.r.Context(), v.who, v.r.PathValue("sp"))
}

func (v *view) program(s latchkey.ServicePrincipal, f form) servicePrincipalPage {
	page := servicePrincipalPage{shell: v.shell(s.DisplayName, "service-principals"), Of: s, Form: f, Now: v.p.Now()}
	page.Form.set("displayName", s.DisplayName)
	page.Form.set("description", s.Description)
	return page
}

// Expired reports whether a credential has ended.
func (p servicePrincipalPage) Expired(c latchkey.ServicePrincipalCredential) bool {
	return c.ExpiresAt != nil && !c.ExpiresAt.After(p.Now)
}

func (p *Pages) servicePrincipalPage(v *view) error {
	if err := v.tenantAdmin(); err != nil {
		return err
	}
	s, err := v.servicePrincipal()
	if err != nil {
		return err
	}
	return v.show("service-principal", v.program(s, form{}))
}

func (p *Pages) saveServicePrincipal(v *view) error {
	s, err := v.servicePrincipal()
	if err != nil {
		return err
	}
	name, description := v.value("displayName"), v.value("description")
	if _, err := p.b.UpdateServicePrincipal(v.r.Context(), v.who, string(s.ID), latchkey.ServicePrincipalUpdate{DisplayName: &name, Description: &description}); err != nil {
		f := v.filled()
		status, err := v.refused(&f, err)
		if err != nil {
			return err
		}
		return v.showWith(status, "service-principal", v.program(s, f))
	}
	return v.redirect("/service-principals/"+string(s.ID), "service-principals.saved", name)
}

func (p *Pages) disableServicePrincipal(v *view) error {
	disabled := v.value("disabled") == "true"
	s, err := p.b.UpdateServicePrincipal(v.r.Context(), v.who, v.r.PathValue("sp"), latchkey.ServicePrincipalUpdate{Disabled: &disabled})
	if err != nil {
		return err
	}
	return v.redirect("/service-principals/"+string(s.ID), fmt.Sprintf("service-principals.disabled-%t", disabled), s.DisplayName)
}

type proofPage struct {
	formPage
	Kind latchkey.ProofKind
}

func (v *view) newProof(s latchkey.ServicePrincipal) proofPage {
	at := "/service-principals/" + string(s.ID)
	page := proofPage{formPage{shell: v.shell(v.t("service-principals.add-credential", s.DisplayName), "service-principals"), Action: at + "/credentials", Back: at, Name: s.DisplayName}, latchkey.ProofKind(v.value("kind"))}
	if page.Kind != latchkey.ProofCertificate && page.Kind != latchkey.ProofFederated {
		page.Kind = latchkey.ProofSecret
	}
	return page
}

func (p *Pages) newProofPage(v *view) error {
	if err := v.tenantAdmin(); err != nil {
		return err
	}
	s, err := v.servicePrincipal()
	if err != nil {
		return err
	}
	page := v.newProof(s)
	page.Form.set("expiresIn", "4320h")
	page.Form.set("audience", latchkey.DefaultFederatedAudience)
	return v.show("service-principal-credential", page)
}

func (p *Pages) addProof(v *view) error {
	s, err := v.servicePrincipal()
	if err != nil {
		return err
	}
	page := v.newProof(s)
	c := latchkey.ServicePrincipalCredentialCreate{Kind: page.Kind, Name: v.value("name")}
	switch page.Kind {
	case latchkey.ProofSecret:
		d, err := time.ParseDuration(v.value("expiresIn"))
		if err != nil {
			d = -1 // is refused
		}
		c.ExpiresIn = latchkey.Duration(d)
	case latchkey.ProofCertificate:
		c.Certificate = strings.TrimSpace(v.value("certificate")) + "\n"
	case latchkey.ProofFederated:
		c.Issuer, c.Subject, c.Audience = v.value("issuer"), v.value("subject"), v.value("audience")
	}
	made, err := p.b.AddServicePrincipalCredential(v.r.Context(), v.who, string(s.ID), c)
	if err != nil {
		page.Form = v.filled()
		status, err := v.refused(&page.Form, err)
		if err != nil {
			return err
		}
		return v.showWith(status, "service-principal-credential", page)
	}
	if made.Secret == "" {
		return v.redirect("/service-principals/"+string(s.ID), "service-principals.credential-added", made.Name)
	}
	// The secret is in this answer, and in no other.
	if s, err = v.servicePrincipal(); err != nil {
		return err
	}
	shown := v.program(s, form{})
	shown.New = made
	return v.show("service-principal", shown)
}

func (v *view) removingProof(cause error) error {
	s, err := v.servicePrincipal()
	if err != nil {
		return err
	}
	at, name := "/service-principals/"+string(s.ID), v.value("name")
	return v.confirm(cause, confirmPage{
		shell: v.shell(v.t("service-principals.remove-credential", name), "service-principals"), Crumbs: options("/service-principals", v.t("service-principals.title"), at, s.DisplayName),
		About: v.t("service-principals.remove-about", s.DisplayName), Do: v.t("service-principals.remove"), Action: at + "/credentials/" + url.PathEscape(v.r.PathValue("id")) + "/remove", Back: at, Hidden: map[string]string{"name": name},
	})
}

func (p *Pages) removeProofPage(v *view) error {
	if err := v.tenantAdmin(); err != nil {
		return err
	}
	return v.removingProof(nil)
}

func (p *Pages) removeProof(v *view) error {
	err := p.b.RemoveServicePrincipalCredential(v.r.Context(), v.who, v.r.PathValue("sp"), latchkey.ServicePrincipalCredentialID(v.r.PathValue("id")))
	if err != nil {
		return v.removingProof(err)
	}
	return v.redirect("/service-principals/"+url.PathEscape(v.r.PathValue("sp")), "service-principals.credential-removed", v.value("name"))
}

func (v *view) deletingProgram(s latchkey.ServicePrincipal, cause error) error {
	at := "/service-principals/" + string(s.ID)
	c := confirmPage{
		shell: v.shell(v.t("service-principals.delete", s.DisplayName), "service-principals"), Crumbs: options("/service-principals", v.t("service-principals.title"), at, s.DisplayName),
		About: v.t("service-principals.delete-about", s.DisplayName), Do: v.t("service-principals.delete-do"), Action: at + "/delete", Back: at,
		DependsHead: v.t("service-principals.owns"),
	}
	all, _, err := v.ownedBy(s.ID)
	if err != nil {
		return err
	}
	for _, o := range all {
		for _, t := range o.Things {
			c.Depends = append(c.Depends, fmt.Sprintf("%s: %s (%s)", o.Env.DisplayName, t.Name, v.t("kind."+string(t.Kind))))
		}
	}
	return v.confirm(cause, c)
}

func (p *Pages) deleteServicePrincipalPage(v *view) error {
	if err := v.tenantAdmin(); err != nil {
		return err
	}
	s, err := v.servicePrincipal()
	if err != nil {
		return err
	}
	return v.deletingProgram(s, nil)
}

func (p *Pages) deleteServicePrincipal(v *view) error {
	s, err := v.servicePrincipal()
	if err != nil {
		return err
	}
	if err := p.b.DeleteServicePrincipal(v.r.Context(), v.who, string(s.ID)); err != nil {
		return v.deletingProgram(s, err)
	}
	return v.redirect("/service-principals", "service-principals.deleted", s.DisplayName)
}

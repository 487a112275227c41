package accesstest

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// The people, groups and things of a small world, by the places that steps name
// them by. What is deleted leaves its place empty until something new is made there.
var (
	people      = []string{"root", "ada", "bea", "cyd", "robot"} // robot is a service principal
	users       = people[:4]
	groups      = []string{"finance", "staff", "night"}
	credentials = []string{"erp", "crm", "spare"}
	variables   = []string{"account", "erppass", "crmpass", "extra"}
	others      = []string{"bot1", "desk", "invoices"} // a machine, a connection and a flow
	principals  = slices.Concat(people, groups)
	things      = slices.Concat(credentials, variables, others)
)

// kindOf returns the kind of the thing in a place, as actions name it.
func kindOf(place string) string {
	switch {
	case slices.Contains(credentials, place):
		return "credential"
	case slices.Contains(variables, place):
		return "variable"
	case place == "bot1":
		return "machine"
	case place == "desk":
		return "connection"
	}
	return "flow"
}

// secret reports whether the variable in a place refers to a secret.
func secret(variable string) bool { return strings.HasSuffix(variable, "pass") }

// Roles on a thing, in their order.
const (
	none = iota
	user
	userShare
	coOwner
	owner
)

var roleNames = []string{"", "user", "user-share", "co-owner", "owner"}

// Roles in an environment, as a set.
const (
	admin = 1 << iota
	maker
	member // the role user
	auditor

	anybody = admin | maker | member | auditor
)

var envRoles = map[string]int{"admin": admin, "maker": maker, "user": member, "auditor": auditor}

// A rule says who may do something: who has a role on the thing or a higher one, or
// one of some roles in the environment, or, with tenant, a tenant admin.
type rule struct {
	role, env int
	tenant    bool
}

// rules are what the guide says about roles. They are written down here once more on
// purpose.
var rules = map[string]rule{
	"environment.create":          {tenant: true},
	"environment.read":            {env: anybody, tenant: true},
	"environment.update":          {env: admin},
	"environment.delete":          {env: admin},
	"environment.member.set":      {env: admin, tenant: true},
	"environment.directory.read":  {env: anybody, tenant: true},
	"environment.access.read":     {env: admin | auditor, tenant: true},
	"environment.owned.read":      {env: admin | auditor},
	"environment.owned.hand-over": {env: admin},

	"variable.create":     {env: admin | maker},
	"variable.read":       {role: user, env: admin | auditor},
	"variable.update":     {role: coOwner},
	"variable.delete":     {role: owner, env: admin},
	"variable.check":      {role: user, env: admin},
	"variable.override":   {env: admin},
	"variable.bind":       {role: coOwner},
	"variable.share.list": {role: userShare, env: admin | auditor},
	"variable.share":      {role: userShare},
	"variable.unshare":    {role: userShare},
	"variable.hand-over":  {role: owner},
	"variable.take-over":  {env: admin},

	"credential.create":     {env: admin | maker},
	"credential.read":       {role: user, env: admin | auditor},
	"credential.update":     {role: coOwner},
	"credential.expose":     {role: owner},
	"credential.delete":     {role: owner, env: admin},
	"credential.use":        {role: user},
	"credential.check":      {role: user, env: admin},
	"credential.share.list": {role: userShare, env: admin | auditor},
	"credential.share":      {role: userShare},
	"credential.unshare":    {role: userShare},
	"credential.hand-over":  {role: owner},
	"credential.take-over":  {env: admin},

	"component.restore": {role: owner, env: admin},
	"component.purge":   {role: owner, env: admin},

	"machine.read":       {role: user, env: admin | auditor},
	"machine.update":     {role: coOwner, env: admin},
	"machine.delete":     {role: owner, env: admin},
	"machine.use":        {role: user},
	"machine.token":      {env: admin},
	"machine.share.list": {role: userShare, env: admin | auditor},
	"machine.share":      {role: userShare},
	"machine.unshare":    {role: userShare},
	"machine.hand-over":  {role: owner},
	"machine.take-over":  {env: admin},

	"connection.create":     {env: admin | maker},
	"connection.read":       {role: user, env: admin | auditor},
	"connection.update":     {role: coOwner},
	"connection.delete":     {role: owner, env: admin},
	"connection.use":        {role: user},
	"connection.test":       {role: user},
	"connection.test.force": {role: owner},
	"connection.share.list": {role: owner, env: admin | auditor},
	"connection.share":      {role: owner},
	"connection.unshare":    {role: owner},
	"connection.hand-over":  {role: owner},
	"connection.take-over":  {env: admin},

	"flow.create":     {env: admin | maker},
	"flow.read":       {role: user, env: admin | auditor},
	"flow.update":     {role: coOwner},
	"flow.delete":     {role: owner, env: admin},
	"flow.run":        {role: user},
	"flow.share.list": {role: userShare, env: admin | auditor},
	"flow.share":      {role: userShare},
	"flow.unshare":    {role: userShare},
	"flow.hand-over":  {role: owner},
	"flow.take-over":  {env: admin},
}

// actionsOf are the actions on things of a kind.
var actionsOf = func() map[string][]string {
	of := map[string][]string{}
	for _, action := range slices.Sorted(maps.Keys(rules)) {
		kind, _, _ := strings.Cut(action, ".")
		of[kind] = append(of[kind], action)
	}
	for _, kind := range listed {
		of[kind] = append(of[kind], of["component"]...)
	}
	return of
}()

// A model is the whole world as it should be. Principals and things are numbers
// that are never used again.
type model struct {
	principals []modelPrincipal
	things     []modelThing
	at         map[string]int // place → principal or thing; -1 for none
	last       map[string]int // place → the thing that was there last, if it was deleted
	members    map[[2]int]bool
	roles      map[int]string // principal → role in the environment
	grants     map[grantKey]grant
	remove     bool // the environment removes grants on variables with a share
}

type modelPrincipal struct {
	place                    string
	group, disabled, deleted bool
	program                  bool // a service principal
	tenant                   bool
}

type modelThing struct {
	place   string
	creator int
	uses    []int // of a credential: its variables; of a connection: its credential and its machine
	deleted bool
	purged  bool // cannot be restored
}

// A grantKey is how somebody has a role on a thing: as given, with via none, or
// with the share of a credential.
type grantKey struct{ thing, principal, via int }

const noVia = -1

type grant struct{ role, by int }

// newModel returns the world in which every sequence begins; see given.
func newModel() *model {
	m := &model{
		at: map[string]int{}, last: map[string]int{}, members: map[[2]int]bool{}, roles: map[int]string{}, grants: map[grantKey]grant{},
	}
	for _, place := range things {
		m.at[place] = -1
	}
	for i, place := range principals {
		m.at[place] = i
		m.principals = append(m.principals, modelPrincipal{place: place, group: slices.Contains(groups, place), program: place == "robot", tenant: place == "root"})
	}
	for who, role := range startRoles {
		m.roles[m.at[who]] = role
	}
	for _, in := range startMembers {
		m.members[[2]int{m.at[in[0]], m.at[in[1]]}] = true
	}
	for _, t := range startThings {
		m.make(t.place, m.at[t.owner], t.uses...)
	}
	for _, place := range startShares {
		m.grants[grantKey{m.at[place], m.at["ada"], noVia}] = grant{user, m.at["root"]}
	}
	return m
}

// make puts a new thing in a place.
func (m *model) make(place string, by int, uses ...string) {
	t := modelThing{place: place, creator: by}
	for _, v := range uses {
		t.uses = append(t.uses, m.at[v])
	}
	delete(m.last, place)
	m.at[place] = len(m.things)
	m.things = append(m.things, t)
	m.grants[grantKey{m.at[place], by, noVia}] = grant{owner, by}
}

// mine returns a principal and all groups that it is in; nothing if it is disabled
// or deleted.
func (m *model) mine(p int) []int {
	if m.principals[p].disabled || m.principals[p].deleted {
		return nil
	}
	all := []int{p}
	for i := 0; i < len(all); i++ {
		for g := range m.principals {
			if m.members[[2]int{g, all[i]}] && !m.principals[g].deleted && !slices.Contains(all, g) {
				all = append(all, g)
			}
		}
	}
	return all
}

// env returns the set of a principal's roles in the environment.
func (m *model) env(p int) (set int) {
	for _, q := range m.mine(p) {
		set |= envRoles[m.roles[q]]
	}
	return set
}

// role returns the highest role of a principal on a thing. Who has none in the
// environment has none on its things.
func (m *model) role(p, t int) (highest int) {
	if m.env(p) == 0 {
		return none
	}
	mine := m.mine(p)
	for k, g := range m.grants {
		if k.thing == t && slices.Contains(mine, k.principal) {
			highest = max(highest, g.role)
		}
	}
	return highest
}

// environment is the thing that things are in.
const environment = -2

// can reports whether a principal may do something to a thing.
func (m *model) can(p int, action string, t int) bool {
	r, ok := rules[action]
	if !ok {
		panic("the model has no rule for " + action)
	}
	return r.role > none && t != environment && m.role(p, t) >= r.role || m.env(p)&r.env != 0 ||
		r.tenant && m.principals[p].tenant && !m.principals[p].disabled
}

// Answers of the model, and of the world. What else there is begins with "invalid",
// "denied" or "conflict" and names the field or says the code.
const (
	ok            = "ok"
	notFound      = "not found"
	notAuthorized = "denied not-authorized"
)

// inEnvironment says how it ends when somebody does something in the environment;
// ok is that it goes on.
func (m *model) inEnvironment(who int, action string) string {
	switch {
	case !m.can(who, "environment.read", environment):
		return notFound
	case !m.can(who, action, environment):
		return notAuthorized
	}
	return ok
}

// to returns the thing in a place, and how it ends when somebody does something to
// it: what one may not see does not exist.
func (m *model) to(who int, place, action string) (t int, answer string) {
	t = m.at[place]
	kind := kindOf(place)
	switch {
	case !m.can(who, "environment.read", environment), t < 0, !m.can(who, kind+"."+action, t) && !m.can(who, kind+".read", t):
		return t, notFound
	case !m.can(who, kind+"."+action, t):
		return t, notAuthorized
	}
	return t, ok
}

// given returns what a principal was given of a thing.
func (m *model) given(t, p int) grant { return m.grants[grantKey{t, p, noVia}] }

// mayGive says whether who may give or, with none, take a role from whom has before.
func (m *model) mayGive(who, t int, before grant, role int) string {
	held := m.role(who, t)
	switch {
	case before.role == owner:
		return "conflict owner"
	case role > held, before.role > held:
		return "denied more-than-held"
	case before.role > none && held == userShare && before.by != who:
		return "denied not-yours"
	}
	return ok
}

// give gives a role, and with it the variables of a credential that whoever gives it
// sees.
func (m *model) give(t, p, role, by int) {
	m.grants[grantKey{t, p, noVia}] = grant{role, by}
	for _, v := range m.variablesOf(t) {
		if m.can(by, "variable.read", v) {
			m.grants[grantKey{v, p, t}] = grant{user, by}
		}
	}
}

// variablesOf returns the variables of a credential, and none of other things.
func (m *model) variablesOf(t int) []int {
	if kindOf(m.things[t].place) != "credential" {
		return nil
	}
	return m.things[t].uses
}

// left reports whether what somebody got with a credential is left of a share that
// there is no more.
func (m *model) left(k grantKey) bool {
	return k.via != noVia && (m.things[k.via].deleted || m.given(k.via, k.principal).role == none)
}

// usable says whether a principal can be given something.
func (m *model) usable(p int, group bool) string {
	q := m.principals[p]
	if q.deleted || q.disabled || q.group && !group || !q.group && m.env(p) == 0 {
		return "invalid principal"
	}
	return ok
}

func (m *model) share(who int, place, to string, role int) string {
	t, answer := m.to(who, place, "share")
	if answer != ok {
		return answer
	}
	connection := kindOf(place) == "connection"
	if role == owner || connection && role == userShare {
		return "invalid role"
	}
	p := m.at[to]
	if connection && !m.principals[p].program {
		return "invalid principal"
	}
	if answer := m.usable(p, true); answer != ok {
		return answer
	}
	if answer := m.mayGive(who, t, m.given(t, p), role); answer != ok {
		return answer
	}
	m.give(t, p, role, who)
	return ok
}

// unshare takes what was given. Unless it is to stay, what came with it goes too.
func (m *model) unshare(who int, place, from, remove string) string {
	t, answer := m.to(who, place, "unshare")
	if answer != ok {
		return answer
	}
	p := m.at[from]
	if m.principals[p].deleted {
		return notFound
	}
	if kindOf(place) == "variable" {
		return m.unshareVariable(who, t, p)
	}
	before := m.given(t, p)
	if before.role == none {
		return notFound
	}
	if answer := m.mayGive(who, t, before, none); answer != ok {
		return answer
	}
	delete(m.grants, grantKey{t, p, noVia})
	return ok + m.leave(t, p, m.goes(remove))
}

// goes says whether what came with a share goes with it.
func (m *model) goes(remove string) bool { return m.remove && remove == "" || remove == "yes" }

// unshareVariable takes what was given, and what is left of shares of credentials and
// one may take.
func (m *model) unshareVariable(who, t, p int) string {
	own, with := m.given(t, p), false
	if own.role != none {
		if answer := m.mayGive(who, t, own, none); answer != ok {
			return answer
		}
	}
	taken, refused := 0, ""
	for k, g := range m.grants {
		if k.thing != t || k.principal != p || k.via == noVia {
			continue
		}
		with = true
		if !m.left(k) {
			continue
		}
		if answer := m.mayGive(who, t, g, none); answer != ok {
			refused = answer
			continue
		}
		delete(m.grants, k)
		taken++
	}
	switch {
	case own.role != none:
		delete(m.grants, grantKey{t, p, noVia})
		return ok
	case taken > 0:
		return ok
	case refused != "":
		return refused
	case with:
		return "conflict with-credential"
	}
	return notFound
}

// leave says, and does, what becomes of what came with a credential's share.
func (m *model) leave(t, p int, goes bool) string {
	var all []string
	for _, v := range m.variablesOf(t) {
		came := grantKey{v, p, t}
		if m.grants[came].role == none {
			continue
		}
		if goes {
			delete(m.grants, came)
		}
		// Whether something else gives the variable does not hang on whether the
		// account is in use.
		q := m.principals[p]
		m.principals[p].disabled = false
		inside := q.group || m.env(p) != 0
		because := m.env(p)&(admin|auditor) != 0
		mine := m.mine(p)
		m.principals[p] = q
		for k := range m.grants {
			because = because || k != came && k.thing == v && slices.Contains(mine, k.principal)
		}
		all = append(all, left(m.things[v].place, goes, goes && !because && inside, because))
	}
	slices.Sort(all)
	return strings.Join(all, "")
}

// left says what was left of a grant on a variable.
func left(place string, removed, loses, because bool) string {
	return fmt.Sprintf(", %s removed=%t loses=%t because=%t", place, removed, loses, because)
}

func (m *model) handOver(who int, place, to string, keep int) string {
	t, answer := m.to(who, place, "read")
	if answer != ok {
		return answer
	}
	before, action := -1, "hand-over"
	for k, g := range m.grants {
		if k.thing != t || g.role != owner {
			continue
		}
		if before = k.principal; m.principals[before].deleted {
			before = -1
		}
	}
	connection := kindOf(place) == "connection"
	if before != who && m.can(who, kindOf(place)+".take-over", t) {
		action = "take-over"
	}
	if keep == owner || connection && keep == userShare {
		return "invalid keep"
	}
	if _, answer := m.to(who, place, action); answer != ok {
		return answer
	}
	p := m.at[to]
	if answer := m.usable(p, false); answer != ok {
		return answer
	}
	if connection && (!m.can(p, "credential.use", m.things[t].uses[0]) || !m.can(p, "machine.use", m.things[t].uses[1])) {
		return "invalid principal"
	}
	switch {
	case p == before:
		return "conflict owner"
	case connection && keep != none && (before < 0 || !m.principals[before].program):
		return "invalid keep"
	}
	maps.DeleteFunc(m.grants, func(k grantKey, g grant) bool { return k.thing == t && g.role == owner })
	m.give(t, p, owner, who)
	switch {
	case before < 0:
	case keep == none:
		m.leave(t, before, m.goes(""))
	default:
		m.give(t, before, keep, who)
	}
	return ok
}

func (m *model) edit(who int, place string) string {
	_, answer := m.to(who, place, "update")
	return answer
}

func (m *model) setting(who int, remove bool) string {
	answer := m.inEnvironment(who, "environment.update")
	if answer == ok {
		m.remove = remove
	}
	return answer
}

func (m *model) createCredential(who int, place, password string) string {
	if answer := m.inEnvironment(who, "credential.create"); answer != ok {
		return answer
	}
	uses := []string{"account", password}
	for i, field := range []string{"invalid slots.username", "invalid slots.password"} {
		if v, answer := m.to(who, uses[i], "read"); answer != ok {
			return field
		} else if secret(uses[i]) && !m.can(who, "variable.bind", v) {
			return notAuthorized
		}
	}
	if t := m.at[place]; t >= 0 && m.things[t].creator == who {
		return "conflict name-taken"
	}
	m.make(place, who, uses...)
	return ok
}

func (m *model) createVariable(who int, place string) string {
	if answer := m.inEnvironment(who, "variable.create"); answer != ok {
		return answer
	}
	if m.at[place] >= 0 {
		return "conflict name-taken"
	}
	m.make(place, who)
	return ok
}

// del deletes what nothing uses, or what is used by force. Grants on it mean nothing
// then; those on the variables of a credential stay.
func (m *model) del(who int, place string, force bool) string {
	t, answer := m.to(who, place, "delete")
	if answer != ok {
		return answer
	}
	for _, c := range m.things {
		if !c.deleted && slices.Contains(c.uses, t) && !force {
			return "conflict in-use"
		}
	}
	m.things[t].deleted = true
	m.at[place], m.last[place] = -1, t
	return ok
}

// toDeleted returns what was deleted last in a place, and how it ends when somebody
// restores or purges it.
func (m *model) toDeleted(who int, place string) (t int, answer string) {
	t, is := m.last[place]
	if !m.can(who, "environment.read", environment) || !is || m.things[t].purged || !m.can(who, "component.restore", t) {
		return t, notFound
	}
	return t, ok
}

// restore brings a thing back, with all that was given on it, if what it uses is
// there.
func (m *model) restore(who int, place string) string {
	t, answer := m.toDeleted(who, place)
	if answer != ok {
		return answer
	}
	for _, v := range m.things[t].uses {
		if m.things[v].deleted {
			return "conflict uses-deleted"
		}
	}
	m.things[t].deleted = false
	m.at[place] = t
	delete(m.last, place)
	return ok
}

// purge removes a thing for good, with what was given on it.
func (m *model) purge(who int, place string) string {
	t, answer := m.toDeleted(who, place)
	if answer != ok {
		return answer
	}
	m.things[t].purged = true
	maps.DeleteFunc(m.grants, func(k grantKey, _ grant) bool { return k.thing == t })
	return ok
}

// deleted returns the places of what somebody is shown that can be restored. Things
// of the same place were deleted one after the other.
func (m *model) deleted(who int) []string {
	if !m.can(who, "environment.read", environment) {
		return []string{notFound}
	}
	seen := []string{}
	for t, th := range m.things {
		if th.deleted && !th.purged && m.can(who, "component.restore", t) {
			seen = append(seen, th.place)
		}
	}
	slices.Sort(seen)
	return seen
}

// admins returns how many people who are let in are admin of the environment.
func (m *model) admins() (n int) {
	for p, q := range m.principals {
		if !q.group && m.env(p)&admin != 0 {
			n++
		}
	}
	return n
}

// keepingAdmin makes a change unless it would leave the environment without an
// admin.
func (m *model) keepingAdmin(change, undo func()) string {
	before := m.admins()
	change()
	if before > 0 && m.admins() == 0 {
		undo()
		return "conflict last-admin"
	}
	return ok
}

func (m *model) setRole(who int, to, role string) string {
	if answer := m.inEnvironment(who, "environment.member.set"); answer != ok {
		return answer
	}
	p := m.at[to]
	if m.principals[p].deleted || role == "" && m.roles[p] == "" {
		return notFound
	}
	before := m.roles[p]
	return m.keepingAdmin(func() { m.roles[p] = role }, func() { m.roles[p] = before })
}

// tenantAdmin reports whether somebody is one and let in.
func (m *model) tenantAdmin(p int) bool { return m.principals[p].tenant && !m.principals[p].disabled }

func (m *model) createGroup(who int, place string) string {
	switch {
	case !m.tenantAdmin(who):
		return notAuthorized
	case !m.principals[m.at[place]].deleted:
		return "conflict name-taken"
	}
	m.at[place] = len(m.principals)
	m.principals = append(m.principals, modelPrincipal{place: place, group: true})
	return ok
}

// toGroup returns a group, and how it ends when somebody changes it. Members know
// that there is one.
func (m *model) toGroup(who int, place string) (g int, answer string) {
	g = m.at[place]
	switch {
	case m.principals[g].deleted:
		return g, notFound
	case m.tenantAdmin(who):
		return g, ok
	case slices.Contains(m.mine(who), g):
		return g, notAuthorized
	}
	return g, notFound
}

func (m *model) deleteGroup(who int, place string) string {
	g, answer := m.toGroup(who, place)
	if answer != ok {
		return answer
	}
	return m.keepingAdmin(func() { m.principals[g].deleted = true }, func() { m.principals[g].deleted = false })
}

func (m *model) addMember(who int, place, member string) string {
	g, answer := m.toGroup(who, place)
	if answer != ok {
		return answer
	}
	p := m.at[member]
	switch {
	case m.principals[p].deleted:
		return notFound
	case slices.Contains(m.mine(g), p):
		return "invalid principal" // a circle
	}
	m.members[[2]int{g, p}] = true
	return ok
}

func (m *model) removeMember(who int, place, member string) string {
	g, answer := m.toGroup(who, place)
	if answer != ok {
		return answer
	}
	in := [2]int{g, m.at[member]}
	if m.principals[in[1]].deleted || !m.members[in] {
		return notFound
	}
	return m.keepingAdmin(func() { delete(m.members, in) }, func() { m.members[in] = true })
}

// toAccount says how it ends when somebody changes an account: one sees oneself.
func (m *model) toAccount(who int, place string) (p int, answer string) {
	p = m.at[place]
	switch {
	case m.principals[p].deleted:
		return p, notFound
	case m.tenantAdmin(who):
		return p, ok
	case who == p:
		return p, notAuthorized
	}
	return p, notFound
}

// disable lets an account in or not. The last admin of the environment is turned away
// by force: a tenant admin can make another.
func (m *model) disable(who int, place string, disabled, force bool) string {
	p, answer := m.toAccount(who, place)
	if answer != ok {
		return answer
	}
	if disabled && !m.principals[p].disabled && !force {
		m.principals[p].disabled = true
		last := m.admins() == 0
		m.principals[p].disabled = false
		if last && m.admins() > 0 {
			return "conflict last-admin"
		}
	}
	before := m.principals[p].disabled
	m.principals[p].disabled = disabled
	if !slices.ContainsFunc(m.principals, func(q modelPrincipal) bool { return q.tenant && !q.disabled }) {
		m.principals[p].disabled = before
		return "conflict last-admin"
	}
	return ok
}

// removeProgram deletes a service principal for good, unless it owns something.
func (m *model) removeProgram(who int, place string) string {
	p, answer := m.toAccount(who, place)
	if answer != ok {
		return answer
	}
	for k, g := range m.grants {
		if k.principal == p && g.role == owner && !m.things[k.thing].deleted {
			return "conflict owner"
		}
	}
	return m.keepingAdmin(func() { m.principals[p].deleted = true }, func() { m.principals[p].deleted = false })
}

// visible returns the places of the things of a kind that somebody is shown in a
// list, or that there is no list.
func (m *model) visible(who int, kind string) []string {
	if !m.can(who, "environment.read", environment) {
		return []string{notFound}
	}
	seen := []string{}
	for _, place := range things {
		if t := m.at[place]; t >= 0 && kindOf(place) == kind && m.can(who, kind+".read", t) {
			seen = append(seen, place)
		}
	}
	slices.Sort(seen)
	return seen
}

// shares returns what somebody is told of who has a role on a thing.
func (m *model) shares(who int, place string) []string {
	t, answer := m.to(who, place, "share.list")
	if answer != ok {
		return []string{answer}
	}
	all := []string{}
	for k, g := range m.grants {
		if k.thing != t || m.principals[k.principal].deleted {
			continue
		}
		via := ""
		if k.via != noVia {
			via = "a credential"
			if m.can(who, "credential.read", k.via) {
				via = m.things[k.via].place
			}
			if m.left(k) {
				via += ", left"
			}
		}
		all = append(all, shareLine(m.principals[k.principal].place, roleNames[g.role], via, m.principals[k.principal].disabled))
	}
	slices.Sort(all)
	return all
}

// shareLine is one line of a list of shares.
func shareLine(principal, role, via string, disabled bool) string {
	line := principal + " " + role
	if via != "" {
		line += " via " + via
	}
	if disabled {
		line += " (disabled)"
	}
	return line
}

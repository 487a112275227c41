package accesstest

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"

	"latchkey.dev/internal/latchkeytest"
	"latchkey.dev/latchkey"
)

// A step is one operation with its arguments, which are numbers of values of the
// domains that the operation says.
type step struct {
	*operation
	args []int
}

// arg returns the text of an argument; the first is who does it.
func (s step) arg(i int) string { return s.domains[i][s.args[i]] }

// who is the first argument as a principal of the model: people never change.
func (s step) who() int { return s.args[0] }

// String is the step as a command.
func (s step) String() string { return fmt.Sprintf("%-6s latchkey %s", s.arg(0)+":", s.command(s)) }

// An operation is something that people do. Values that are simpler come first in
// their domains.
type operation struct {
	name    string
	weight  int // how often it comes, among the others
	domains [][]string
	command func(s step) string           // as one types it
	model   func(m *model, s step) string // what should be answered
	real    func(w *world, s step) string // what is
	skip    func(m *model, s step) bool   // it cannot be said in places; nil is never

	// aim changes the arguments to ones that may well be allowed: what is drawn
	// blindly is mostly refused. It may be nil.
	aim func(m *model, r *rand.Rand, s step)
}

var (
	yesNo     = []string{"yes", "no"}
	noYes     = []string{"no", "yes"}
	roles     = []string{"user", "user-share", "co-owner", "owner"}
	keeps     = []string{"", "user", "user-share", "co-owner", "owner"}
	removes   = []string{"", "yes", "no"} // "" is as the environment says
	memberOf  = []string{"user", "", "maker", "auditor", "admin"}
	editable  = slices.Concat(credentials, variables, others[:2])
	passwords = variables[1:3]
)

func roleNumber(name string) int { return slices.Index(roleNames, name) }

// operations is the table of all; a new operation is a new row.
var operations = []*operation{
	{
		name: "share", weight: 18, domains: [][]string{people, things, principals, roles},
		aim: aimPlace(false, byHolder("share")),
		command: func(s step) string {
			return fmt.Sprintf("%s share %s %s --role %s", kindOf(s.arg(1)), s.arg(1), s.arg(2), s.arg(3))
		},
		model: func(m *model, s step) string { return m.share(s.who(), s.arg(1), s.arg(2), roleNumber(s.arg(3))) },
		real: func(w *world, s step) string {
			_, err := w.b.SetShare(w.ctx, w.caller(s), w.env, latchkey.Kind(kindOf(s.arg(1))), w.ids[s.arg(1)], w.ids[s.arg(2)], latchkey.ShareSet{Role: latchkey.Role(s.arg(3))})
			return answerOf(err)
		},
	},
	{
		name: "unshare", weight: 16, domains: [][]string{people, things, principals, removes},
		aim: aimUnshare,
		command: func(s step) string {
			flag := map[string]string{"yes": " --remove-variable-grants", "no": " --keep-variable-grants"}[s.arg(3)]
			return fmt.Sprintf("%s unshare %s %s%s", kindOf(s.arg(1)), s.arg(1), s.arg(2), flag)
		},
		model: func(m *model, s step) string { return m.unshare(s.who(), s.arg(1), s.arg(2), s.arg(3)) },
		real: func(w *world, s step) string {
			var remove *bool
			if s.arg(3) != "" {
				remove = new(s.arg(3) == "yes")
			}
			u, err := w.b.Unshare(w.ctx, w.caller(s), w.env, latchkey.Kind(kindOf(s.arg(1))), w.ids[s.arg(1)], w.ids[s.arg(2)], remove)
			var lines []string
			for _, v := range u.Variables {
				lines = append(lines, left(w.place(string(v.Variable)), v.Removed, v.Loses, len(v.Because) > 0))
			}
			slices.Sort(lines)
			return answerOf(err) + strings.Join(lines, "")
		},
	},
	{
		name: "hand over", weight: 4, domains: [][]string{people, things, principals, keeps},
		aim: aimPlace(false, byHolder("hand-over")),
		command: func(s step) string {
			flag := ""
			if s.arg(3) != "" {
				flag = " --keep " + s.arg(3)
			}
			return fmt.Sprintf("%s hand-over %s %s%s", kindOf(s.arg(1)), s.arg(1), s.arg(2), flag)
		},
		model: func(m *model, s step) string { return m.handOver(s.who(), s.arg(1), s.arg(2), roleNumber(s.arg(3))) },
		real: func(w *world, s step) string {
			_, err := w.b.SetOwner(w.ctx, w.caller(s), w.env, latchkey.Kind(kindOf(s.arg(1))), w.ids[s.arg(1)], latchkey.OwnerSet{Principal: w.ids[s.arg(2)], Keep: latchkey.Role(s.arg(3))})
			return answerOf(err)
		},
	},
	{
		name: "edit", weight: 2, domains: [][]string{people, editable},
		aim: aimPlace(false, byHolder("update")),
		command: func(s step) string {
			return fmt.Sprintf("%s update %s --description changed", kindOf(s.arg(1)), s.arg(1))
		},
		model: func(m *model, s step) string { return m.edit(s.who(), s.arg(1)) },
		real: func(w *world, s step) string {
			id, err := w.ids[s.arg(1)], error(nil)
			switch kindOf(s.arg(1)) {
			case "credential":
				_, err = w.b.UpdateCredential(w.ctx, w.caller(s), w.env, latchkey.CredentialID(id), latchkey.CredentialUpdate{Description: new("changed")})
			case "variable":
				_, err = w.b.UpdateVariable(w.ctx, w.caller(s), w.env, id, latchkey.VariableUpdate{Description: new("changed")})
			case "machine":
				_, err = w.b.UpdateMachine(w.ctx, w.caller(s), w.env, latchkey.MachineID(id), latchkey.MachineUpdate{Description: new("changed")})
			case "connection":
				_, err = w.b.UpdateConnection(w.ctx, w.caller(s), w.env, latchkey.ConnectionID(id), latchkey.ConnectionUpdate{Name: new(s.arg(1))})
			}
			return answerOf(err)
		},
	},
	{
		name: "setting", weight: 5, domains: [][]string{people, yesNo},
		aim: byEnvironment("environment.update"),
		command: func(s step) string {
			return fmt.Sprintf("environment update prod --remove-variable-grants=%t", s.arg(1) == "yes")
		},
		model: func(m *model, s step) string { return m.setting(s.who(), s.arg(1) == "yes") },
		real: func(w *world, s step) string {
			_, err := w.b.UpdateEnvironment(w.ctx, w.caller(s), w.env, latchkey.EnvironmentUpdate{RemoveVariableGrants: new(s.arg(1) == "yes")})
			return answerOf(err)
		},
	},
	{
		name: "role", weight: 5, domains: [][]string{people, principals, memberOf},
		aim: byEnvironment("environment.member.set"),
		command: func(s step) string {
			if s.arg(2) == "" {
				return "environment member remove " + s.arg(1)
			}
			return fmt.Sprintf("environment member set %s %s", s.arg(1), s.arg(2))
		},
		model: func(m *model, s step) string { return m.setRole(s.who(), s.arg(1), s.arg(2)) },
		real: func(w *world, s step) string {
			return answerOf(w.b.SetMember(w.ctx, w.caller(s), w.env, w.ids[s.arg(1)], latchkey.EnvironmentRole(s.arg(2))))
		},
	},
	{
		name: "create group", weight: 2, domains: [][]string{people, groups},
		aim:     aimPlace(true, byTenantAdmin),
		command: func(s step) string { return "group create " + s.arg(1) },
		model:   func(m *model, s step) string { return m.createGroup(s.who(), s.arg(1)) },
		real: func(w *world, s step) string {
			g, err := w.b.CreateGroup(w.ctx, w.caller(s), latchkey.GroupCreate{Name: s.arg(1)})
			return w.made(s.arg(1), string(g.ID), err)
		},
	},
	{
		name: "delete group", weight: 3, domains: [][]string{people, groups},
		aim:     aimPlace(false, byTenantAdmin),
		command: func(s step) string { return "group delete " + s.arg(1) },
		model:   func(m *model, s step) string { return m.deleteGroup(s.who(), s.arg(1)) },
		real: func(w *world, s step) string {
			return answerOf(w.b.DeleteGroup(w.ctx, w.caller(s), w.ids[s.arg(1)]))
		},
	},
	{
		name: "add member", weight: 6, domains: [][]string{people, groups, principals},
		aim:     aimPlace(false, byTenantAdmin),
		command: func(s step) string { return fmt.Sprintf("group member add %s %s", s.arg(1), s.arg(2)) },
		model:   func(m *model, s step) string { return m.addMember(s.who(), s.arg(1), s.arg(2)) },
		real: func(w *world, s step) string {
			return answerOf(w.b.AddGroupMember(w.ctx, w.caller(s), w.ids[s.arg(1)], w.ids[s.arg(2)]))
		},
	},
	{
		name: "remove member", weight: 4, domains: [][]string{people, groups, principals},
		aim:     aimMember,
		command: func(s step) string { return fmt.Sprintf("group member remove %s %s", s.arg(1), s.arg(2)) },
		model:   func(m *model, s step) string { return m.removeMember(s.who(), s.arg(1), s.arg(2)) },
		real: func(w *world, s step) string {
			return answerOf(w.b.RemoveGroupMember(w.ctx, w.caller(s), w.ids[s.arg(1)], w.ids[s.arg(2)]))
		},
	},
	{
		name: "account", weight: 6, domains: [][]string{people, people, yesNo, noYes},
		aim: byTenantAdmin,
		command: func(s step) string {
			command := fmt.Sprintf("%s %s %s", map[bool]string{false: "user", true: "service-principal"}[s.arg(1) == "robot"], map[string]string{"yes": "disable", "no": "enable"}[s.arg(2)], s.arg(1))
			if s.arg(2) == "yes" && s.arg(3) == "yes" {
				command += " --force"
			}
			return command
		},
		model: func(m *model, s step) string {
			return m.disable(s.who(), s.arg(1), s.arg(2) == "yes", s.arg(3) == "yes")
		},
		real: func(w *world, s step) (answer string) {
			var err error
			if disabled, force := new(s.arg(2) == "yes"), s.arg(3) == "yes"; s.arg(1) == "robot" {
				_, err = w.b.UpdateServicePrincipal(w.ctx, w.caller(s), w.ids[s.arg(1)], latchkey.ServicePrincipalUpdate{Disabled: disabled, Force: force})
			} else {
				_, err = w.b.UpdateUser(w.ctx, w.caller(s), w.ids[s.arg(1)], latchkey.UserUpdate{Disabled: disabled, Force: force})
			}
			return answerOf(err)
		},
	},
	{
		name: "delete service principal", weight: 1, domains: [][]string{people, people[4:]},
		aim:     byTenantAdmin,
		command: func(s step) string { return "service-principal delete " + s.arg(1) },
		model:   func(m *model, s step) string { return m.removeProgram(s.who(), s.arg(1)) },
		real: func(w *world, s step) string {
			return answerOf(w.b.DeleteServicePrincipal(w.ctx, w.caller(s), w.ids[s.arg(1)]))
		},
	},
	{
		name: "create credential", weight: 3, domains: [][]string{people, credentials, passwords},
		aim: aimPlace(true, byEnvironment("credential.create")),
		command: func(s step) string {
			return fmt.Sprintf("credential create %s --username new_account --password new_%s", s.arg(1), s.arg(2))
		},
		model: func(m *model, s step) string { return m.createCredential(s.who(), s.arg(1), s.arg(2)) },
		real: func(w *world, s step) string {
			c, err := w.b.CreateCredential(w.ctx, w.caller(s), w.env, newCredential(s.arg(1), w.ids["account"], w.ids[s.arg(2)]))
			return w.made(s.arg(1), string(c.ID), err)
		},
		// Others may have one of the same name, and there is one place.
		skip: func(m *model, s step) bool {
			t := m.at[s.arg(1)]
			return t >= 0 && m.things[t].creator != s.who()
		},
	},
	{
		name: "create variable", weight: 2, domains: [][]string{people, variables},
		aim: aimPlace(true, byEnvironment("variable.create")),
		command: func(s step) string {
			if secret(s.arg(1)) {
				return fmt.Sprintf("variable create %s --secret /subscriptions/…/secrets/%s", s.arg(1), s.arg(1))
			}
			return fmt.Sprintf("variable create %s --value x", s.arg(1))
		},
		model: func(m *model, s step) string { return m.createVariable(s.who(), s.arg(1)) },
		real: func(w *world, s step) string {
			v, err := w.b.CreateVariable(w.ctx, w.caller(s), w.env, newVariable(s.arg(1)))
			return w.made(s.arg(1), string(v.ID), err)
		},
	},
	{
		name: "delete", weight: 4, domains: [][]string{people, things},
		aim:     aimPlace(false, byHolder("delete")),
		command: func(s step) string { return fmt.Sprintf("%s delete %s", kindOf(s.arg(1)), s.arg(1)) },
		model:   func(m *model, s step) string { return m.del(s.who(), s.arg(1), false) },
		real:    func(w *world, s step) string { return w.del(s, latchkey.Force{}) },
	},
	{
		name: "force", weight: 2, domains: [][]string{people, things},
		aim:     aimPlace(false, byHolder("delete")),
		command: func(s step) string { return fmt.Sprintf("%s delete %s --force", kindOf(s.arg(1)), s.arg(1)) },
		model:   func(m *model, s step) string { return m.del(s.who(), s.arg(1), true) },
		real: func(w *world, s step) string {
			i, err := w.b.Impact(w.ctx, w.caller(s), w.env, latchkey.Kind(kindOf(s.arg(1))), w.ids[s.arg(1)], latchkey.ImpactDelete, "")
			if err != nil {
				return answerOf(err)
			}
			return w.del(s, latchkey.Force{Force: true, Hash: i.Hash})
		},
	},
	{
		name: "restore", weight: 4, domains: [][]string{people, things},
		aim:     aimDeleted,
		command: func(s step) string { return fmt.Sprintf("deleted restore %s", s.arg(1)) },
		model:   func(m *model, s step) string { return m.restore(s.who(), s.arg(1)) },
		real: func(w *world, s step) string {
			_, err := w.b.Restore(w.ctx, w.caller(s), w.env, w.ids[s.arg(1)], latchkey.Restore{})
			return answerOf(err)
		},
	},
	{
		name: "purge", weight: 1, domains: [][]string{people, things},
		aim:     aimDeleted,
		command: func(s step) string { return fmt.Sprintf("deleted purge %s", s.arg(1)) },
		model:   func(m *model, s step) string { return m.purge(s.who(), s.arg(1)) },
		real: func(w *world, s step) string {
			return answerOf(w.b.Purge(w.ctx, w.caller(s), w.env, w.ids[s.arg(1)]))
		},
	},
}

// del deletes a thing.
func (w *world) del(s step, f latchkey.Force) string {
	who, id := w.caller(s), w.ids[s.arg(1)]
	switch kindOf(s.arg(1)) {
	case "credential":
		return answerOf(w.b.DeleteCredential(w.ctx, who, w.env, latchkey.CredentialID(id), f))
	case "machine":
		return answerOf(w.b.DeleteMachine(w.ctx, who, w.env, latchkey.MachineID(id), f))
	case "connection":
		return answerOf(w.b.DeleteConnection(w.ctx, who, w.env, latchkey.ConnectionID(id), f))
	case "flow":
		return answerOf(w.b.DeleteFlow(w.ctx, who, w.env, latchkey.FlowID(id), f))
	}
	return answerOf(w.b.DeleteVariable(w.ctx, who, w.env, id, f))
}

func newCredential(name, username, password string) latchkey.CredentialCreate {
	return latchkey.CredentialCreate{
		Name: name, Usages: []latchkey.Usage{latchkey.UsageConnection},
		Slots: map[latchkey.Slot]string{latchkey.SlotUsername: username, latchkey.SlotPassword: password},
	}
}

// newVariable refers, where it does, to a vault that is not an embedded one: nobody
// may read its secrets.
func newVariable(name string) latchkey.VariableCreate {
	if !secret(name) {
		return latchkey.VariableCreate{DisplayName: name, Type: latchkey.TypeText, Value: new("x")}
	}
	return latchkey.VariableCreate{DisplayName: name, Type: latchkey.TypeSecret, Secret: &latchkey.SecretReference{
		SubscriptionID: "6f1f9e0c-3f0f-4a8e-9c1d-0b7f4f0a2c11", ResourceGroup: "rg", Vault: "elsewhere", Secret: name,
	}}
}

// set makes an argument a value, if there are values to choose from.
func (s step) set(r *rand.Rand, i int, values []string) {
	if len(values) > 0 {
		s.args[i] = slices.Index(s.domains[i], values[r.IntN(len(values))])
	}
}

// setBoth makes the first arguments but who one of several pairs.
func (s step) setBoth(r *rand.Rand, pairs [][2]string) {
	if len(pairs) == 0 {
		return
	}
	slices.SortFunc(pairs, func(a, b [2]string) int { return slices.Compare(a[:], b[:]) })
	one := pick(r, pairs)
	s.set(r, 1, one[:1])
	s.set(r, 2, one[1:])
}

// by makes somebody do it who may, if anybody may.
func (s step) by(m *model, r *rand.Rand, may func(p int) bool) {
	var all []string
	for p, name := range people {
		if may(p) {
			all = append(all, name)
		}
	}
	s.set(r, 0, all)
}

// byHolder makes somebody do it who may do an action to the thing in the first
// argument.
func byHolder(action string) func(m *model, r *rand.Rand, s step) {
	return func(m *model, r *rand.Rand, s step) {
		s.by(m, r, func(p int) bool {
			_, answer := m.to(p, s.arg(1), action)
			return answer == ok
		})
	}
}

// byEnvironment makes somebody do it who may do an action in the environment.
func byEnvironment(action string) func(m *model, r *rand.Rand, s step) {
	return func(m *model, r *rand.Rand, s step) {
		s.by(m, r, func(p int) bool { return m.inEnvironment(p, action) == ok })
	}
}

// byTenantAdmin makes a tenant admin do it.
func byTenantAdmin(m *model, r *rand.Rand, s step) { s.by(m, r, m.tenantAdmin) }

// aimUnshare chooses a share that there is.
func aimUnshare(m *model, r *rand.Rand, s step) {
	var all [][2]string
	for k, g := range m.grants {
		if k.via == noVia && g.role != owner && !m.things[k.thing].deleted && !m.principals[k.principal].deleted {
			one := [2]string{m.things[k.thing].place, m.principals[k.principal].place}
			all = append(all, one)
			if kindOf(one[0]) == "credential" { // there is more to it
				all = append(all, one, one, one)
			}
		}
	}
	s.setBoth(r, all)
	byHolder("unshare")(m, r, s)
}

// aimMember chooses a member that there is.
func aimMember(m *model, r *rand.Rand, s step) {
	var all [][2]string
	for in, is := range m.members {
		if g, p := m.principals[in[0]], m.principals[in[1]]; is && !g.deleted && !p.deleted {
			all = append(all, [2]string{g.place, p.place})
		}
	}
	s.setBoth(r, all)
	byTenantAdmin(m, r, s)
}

// aimDeleted chooses what was deleted.
func aimDeleted(m *model, r *rand.Rand, s step) {
	if _, is := m.last[s.arg(1)]; !is {
		s.set(r, 1, slices.Sorted(maps.Keys(m.last)))
	}
	s.by(m, r, func(p int) bool {
		_, answer := m.toDeleted(p, s.arg(1))
		return answer == ok
	})
}

// aimPlace chooses a place with nothing in it, or with something.
func aimPlace(empty bool, then func(*model, *rand.Rand, step)) func(m *model, r *rand.Rand, s step) {
	return func(m *model, r *rand.Rand, s step) {
		var all []string
		for _, place := range s.domains[1] {
			i := m.at[place]
			if is := i < 0 || slices.Contains(groups, place) && m.principals[i].deleted; is == empty {
				all = append(all, place)
			}
		}
		if !slices.Contains(all, s.arg(1)) {
			s.set(r, 1, all)
		}
		then(m, r, s)
	}
}

// A drawer draws the steps of one sequence. Most of them are of a few operations,
// people and things, so that they have to do with one another.
type drawer struct {
	r       *rand.Rand
	m       *model       // the world as it is so far
	few     []*operation // some several times
	focus   map[string]bool
	weights []*operation // all, as often as they weigh
}

func newDrawer(r *rand.Rand) *drawer {
	d := &drawer{r: r, m: newModel(), focus: map[string]bool{}}
	for _, o := range operations {
		for range o.weight {
			d.weights = append(d.weights, o)
		}
	}
	for range 5 {
		d.few = append(d.few, pick(r, d.weights))
	}
	for _, places := range [][]string{credentials[:2], things, users[1:], principals} {
		d.focus[pick(r, places)] = true
	}
	return d
}

func pick[T any](r *rand.Rand, from []T) T { return from[r.IntN(len(from))] }

// mostly reports whether what is likely is to be drawn.
func (d *drawer) mostly() bool { return d.r.IntN(4) > 0 }

func (d *drawer) step() step {
	from := d.weights
	if d.mostly() {
		from = d.few
	}
	o := pick(d.r, from)
	s := step{o, make([]int, len(o.domains))}
	for i, domain := range o.domains {
		values := domain
		if d.mostly() {
			if near := slices.DeleteFunc(slices.Clone(domain), func(v string) bool { return !d.focus[v] }); len(near) > 0 {
				values = near
			}
		}
		s.set(d.r, i, values)
	}
	if o.aim != nil && d.mostly() {
		o.aim(d.m, d.r, s)
	}
	if o.skip == nil || !o.skip(d.m, s) {
		o.model(d.m, s)
	}
	return s
}

// maxSteps bounds a sequence, and minSteps. There are half as many sequences of each
// length as of the one before.
const (
	minSteps = 3
	maxSteps = 12
)

func randomSequence(r *rand.Rand) []step {
	n := minSteps
	for n < maxSteps && r.IntN(2) == 0 {
		n++
	}
	d := newDrawer(r)
	steps := make([]step, n)
	for i := range steps {
		steps[i] = d.step()
	}
	return steps
}

// program is what the machine and the flow of the world run; nothing runs them.
const program = latchkeytest.Program

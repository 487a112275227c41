package accesstest

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"latchkey.dev/internal/broker"
	"latchkey.dev/internal/db"
	"latchkey.dev/internal/latchkeytest"
	"latchkey.dev/latchkey"
)

// What there is when a sequence begins.
var (
	startRoles   = map[string]string{"root": "admin", "ada": "maker", "bea": "user", "robot": "user"}
	startMembers = [][2]string{{"finance", "bea"}, {"staff", "finance"}}
	startThings  = []struct {
		place, owner string
		uses         []string // of a credential, and of a connection
	}{
		{place: "account", owner: "root"},
		{place: "erppass", owner: "root"},
		{place: "crmpass", owner: "ada"},
		{place: "erp", owner: "root", uses: []string{"account", "erppass"}},
		{place: "crm", owner: "ada", uses: []string{"account", "crmpass"}},
		{place: "bot1", owner: "root"},
		{place: "desk", owner: "ada", uses: []string{"crm", "bot1"}},
		{place: "invoices", owner: "ada"},
	}
	startShares = []string{"account", "bot1"} // root's, with ada as user
)

// given is the same as a text, for who reads a counterexample.
const given = `given:  root is tenant admin, and admin of prod; ada is maker, bea and robot are user, cyd has no role
        bea is in finance, finance is in staff, night is empty
        root has the credential erp (of the variables account and erppass) and the machine bot1
        ada has the credential crm (of account, which root shares with her, and crmpass), the connection desk (of crm and
        bot1, which root shares with her) and the flow invoices`

// A world is a whole service with the people and things of a model.
type world struct {
	*latchkeytest.Service
	b      *broker.Broker
	ctx    context.Context   //nolint:containedctx // that of the test, of which there is one
	raw    *sql.DB           // beside the service
	env    string            // id
	who    []latchkey.Caller // people
	ids    map[string]string // place → id of what is there, or was
	start  map[string]string // ids, when a sequence begins
	places map[string]string // id → place

	answers map[string]int  // how often operations ended how
	dirty   map[string]bool // the tables that were changed since the last reset

	plant, unplant string // a fault of the database, if it has one
}

// newWorld makes a world on a database, "" for a SQLite file, in memory if the
// system has a place for that.
func newWorld(t *testing.T, url string) *world {
	t.Helper()
	if url == "" {
		dir := t.TempDir()
		if memory, err := os.MkdirTemp("/dev/shm", "latchkey-test-"); err == nil {
			t.Cleanup(func() { _ = os.RemoveAll(memory) })
			dir = memory
		}
		url = filepath.Join(dir, "latchkey.db")
	}
	s := latchkeytest.New(t, latchkeytest.Options{DatabaseURL: url, Idle: true})
	w := &world{Service: s, b: s.Broker, answers: map[string]int{}, dirty: map[string]bool{}, ids: map[string]string{}, places: map[string]string{}}
	w.ctx = db.WithTrace(t.Context(), w.changed)
	w.build(t)
	driver := "sqlite"
	if db.IsPostgres(url) {
		driver = "pgx"
	} else {
		url += "?_pragma=busy_timeout(60000)&_txlock=immediate"
	}
	var err error
	if w.raw, err = sql.Open(driver, url); err != nil {
		t.Fatal(err)
	}
	w.raw.SetMaxOpenConns(1)
	t.Cleanup(func() { _ = w.raw.Close() })
	// Copies of what the start is, to begin each sequence with.
	for _, table := range resetTables {
		if err := w.exec("CREATE TABLE start_" + table + " AS SELECT * FROM " + table); err != nil {
			t.Fatal(err)
		}
	}
	return w
}

// build makes what is given.
func (w *world) build(t *testing.T) {
	t.Helper()
	ctx, b := t.Context(), w.b
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	e, err := b.CreateEnvironment(ctx, w.Admin, latchkey.EnvironmentCreate{Name: "prod"})
	must(err)
	w.env = string(e.ID)
	for _, name := range people {
		c := w.Admin
		switch name {
		case "root":
		case "robot":
			p, err := b.CreateServicePrincipal(ctx, w.Admin, latchkey.ServicePrincipalCreate{DisplayName: name})
			must(err)
			c = latchkey.Caller{ID: p.ID, Kind: latchkey.PrincipalService, Name: name}
		default:
			c = w.User(t, name, "", "")
		}
		w.who = append(w.who, c)
		w.ids[name] = string(c.ID)
	}
	for _, name := range groups {
		g, err := b.CreateGroup(ctx, w.Admin, latchkey.GroupCreate{Name: name})
		must(err)
		w.ids[name] = string(g.ID)
	}
	for _, name := range slices.Sorted(maps.Keys(startRoles)) {
		must(b.SetMember(ctx, w.Admin, "prod", w.ids[name], latchkey.EnvironmentRole(startRoles[name])))
	}
	for _, in := range startMembers {
		must(b.AddGroupMember(ctx, w.Admin, w.ids[in[0]], w.ids[in[1]]))
	}
	for _, place := range things {
		w.ids[place] = map[string]string{"credential": "cred_", "variable": "var_", "connection": "conn_"}[kindOf(place)] + strings.Repeat("0", 26)
	}
	for _, th := range startThings {
		who := w.who[slices.Index(people, th.owner)]
		var id string
		switch kindOf(th.place) {
		case "variable":
			v, err := b.CreateVariable(ctx, who, "prod", newVariable(th.place))
			must(err)
			id = string(v.ID)
		case "credential":
			c, err := b.CreateCredential(ctx, who, "prod", newCredential(th.place, w.ids[th.uses[0]], w.ids[th.uses[1]]))
			must(err)
			id = string(c.ID)
		case "machine":
			id = string(w.Machine(t, "prod", th.place).ID)
		case "connection":
			c, err := b.CreateConnection(ctx, who, "prod", latchkey.ConnectionCreate{
				Name: th.place, Driver: latchkey.DriverNone, Credential: latchkey.CredentialID(w.ids[th.uses[0]]), Target: latchkey.Target{Machine: latchkey.MachineID(w.ids[th.uses[1]])},
			})
			must(err)
			id = string(c.ID)
		case "flow":
			f, err := b.CreateFlow(ctx, who, "prod", latchkey.FlowCreate{Name: th.place, Command: []string{program}})
			must(err)
			id = string(f.ID)
		}
		w.ids[th.place] = id
		if slices.Contains(startShares, th.place) {
			_, err := b.SetShare(ctx, who, "prod", latchkey.Kind(kindOf(th.place)), id, "ada", latchkey.ShareSet{Role: latchkey.RoleUser})
			must(err)
		}
	}
	w.start = maps.Clone(w.ids)
}

func (w *world) exec(query string) error {
	if _, err := w.raw.ExecContext(w.ctx, query); err != nil {
		return fmt.Errorf("%s: %w", query, err)
	}
	return nil
}

// resetTables are those that operations change rows of, each after what its rows
// name. audit only grows, and epochs.
var resetTables = []string{
	"principals", "service_principals", "principal_groups", "group_members", "environments", "environment_members",
	"variables", "secret_references", "machines", "credentials", "credential_slots", "connections", "flows", "grants", "notices",
}

// whole are the tables of which everything is written anew; of the others come back
// these columns, and rows that were added go.
var (
	whole    = []string{"group_members", "environment_members", "secret_references", "credential_slots", "grants", "notices"}
	columned = map[string][]string{
		"principals": {"deleted_at", "disabled_at"}, "service_principals": {"name_key"}, "environments": {"remove_variable_grants"},
		"variables": {"current_value", "deleted_at", "deleted_by", "purged_at"}, "machines": {"deleted_at", "deleted_by", "purged_at"},
		"credentials": {"deleted_at", "deleted_by", "purged_at"}, "connections": {"owner_id", "deleted_at", "deleted_by", "purged_at"}, "flows": {"deleted_at", "deleted_by", "purged_at"},
	}
)

// changes finds the table that a statement changes.
var changes = regexp.MustCompile(`^\s*(?:INSERT INTO|UPDATE|DELETE FROM) (\w+)`)

// changed notes the table that a statement of the service changes.
func (w *world) changed(query string, _ []any) {
	if m := changes.FindStringSubmatch(query); m != nil {
		w.dirty[m[1]] = true
	}
}

// resetTo returns the statements that make tables as they were at the start: what
// names rows of others goes first, and comes last.
func resetTo(dirty func(table string) bool) (script []string) {
	add := func(format string, args ...any) { script = append(script, fmt.Sprintf(format, args...)) }
	for _, table := range slices.Backward(resetTables) {
		if dirty(table) && slices.Contains(whole, table) {
			add("DELETE FROM %s", table)
		}
	}
	for _, table := range slices.Backward(resetTables) {
		if dirty(table) && !slices.Contains(whole, table) {
			add("DELETE FROM %s WHERE id NOT IN (SELECT id FROM start_%[1]s)", table)
		}
	}
	for _, table := range resetTables {
		switch columns := columned[table]; {
		case !dirty(table):
		case slices.Contains(whole, table):
			add("INSERT INTO %s SELECT * FROM start_%[1]s", table)
		case columns != nil:
			list := strings.Join(columns, ", ")
			add("UPDATE %s SET (%s) = (SELECT %[2]s FROM start_%[1]s s WHERE s.id = %[1]s.id)", table, list)
		}
	}
	return script
}

// reset makes the start again, of the tables that were changed. A fault that is planted
// changes the table that the service does, and is not there meanwhile.
func (w *world) reset() error {
	script := resetTo(func(table string) bool { return w.dirty[table] })
	if w.unplant != "" {
		script = append([]string{w.unplant}, script...)
	}
	if w.plant != "" {
		script = append(script, w.plant)
	}
	clear(w.dirty)
	if len(script) > 0 {
		if err := w.exec("BEGIN; " + strings.Join(script, "; ") + "; COMMIT"); err != nil {
			return err
		}
	}
	maps.Copy(w.ids, w.start)
	clear(w.places)
	for place, id := range w.ids {
		w.places[id] = place
	}
	return nil
}

func (w *world) caller(s step) latchkey.Caller { return w.who[s.who()] }

// made notes what is in a place now, and returns the answer.
func (w *world) made(place, id string, err error) string {
	if err == nil {
		w.ids[place] = id
		w.places[id] = place
	}
	return answerOf(err)
}

// place returns the place of what is there, or was.
func (w *world) place(id string) string {
	if place, ok := w.places[id]; ok {
		return place
	}
	return "unknown " + id
}

// answerOf says how an operation ended, as the model does.
func answerOf(err error) string {
	if err == nil {
		return ok
	}
	e, isError := errors.AsType[*latchkey.Error](err)
	switch {
	case !isError:
		return "internal: " + err.Error()
	case e.Kind == latchkey.ErrInvalid && len(e.Fields) > 0:
		return "invalid " + e.Fields[0].Field
	case e.Kind == latchkey.ErrNotFound:
		return notFound
	case e.Kind == latchkey.ErrDenied:
		return "denied " + e.Code
	case e.Kind == latchkey.ErrConflict:
		return "conflict " + e.Code
	}
	return err.Error()
}

// now is place, but says so when something else is there now.
func (w *world) now(id string) string {
	place := w.place(id)
	if w.ids[place] != id {
		return "former " + place
	}
	return place
}

// A difference is where the world is not as the model.
type difference struct{ what, want, got string }

func (d *difference) String() string {
	return fmt.Sprintf("%s\n    is        %s\n    should be %s", d.what, d.got, d.want)
}

func differs(what, want, got string) *difference {
	if want == got {
		return nil
	}
	return &difference{what, want, got}
}

// decisions compares every decision about some people and every action on some things
// and the environment, and what the environment is set to.
func (w *world) decisions(m *model, who []int, things []string) (d *difference) {
	err := w.DB.View(w.ctx, func(tx *db.Tx) error {
		d = nil
		e, err := tx.Environment(w.env)
		if err != nil || e.RemoveVariableGrants != m.remove {
			d = differs("whether the environment removes grants on variables", fmt.Sprint(m.remove), fmt.Sprint(e.RemoveVariableGrants))
			return err
		}
		for _, p := range who {
			name := people[p]
			for _, place := range append([]string{""}, things...) {
				t, id, kind := environment, "", "environment"
				if place != "" {
					if t, id, kind = m.at[place], w.ids[place], kindOf(place); t < 0 {
						continue
					}
				}
				access, err := tx.Access(w.who[p].ID, latchkey.EnvironmentID(w.env), id)
				if err != nil {
					return err
				}
				for _, action := range actionsOf[kind] {
					want, got := m.can(p, action, t), access.Can(latchkey.Action(action))
					if want != got {
						d = differs(fmt.Sprintf("whether %s may do %s to %s", name, action, strings.TrimSpace(kind+" "+place)), fmt.Sprint(want), fmt.Sprint(got))
						return nil
					}
				}
			}
		}
		return nil
	})
	if err != nil {
		return differs("deciding", ok, err.Error())
	}
	return d
}

// list returns the places of the things of a kind that a person is shown.
func (w *world) list(who latchkey.Caller, kind string) (places []string, answer string) {
	var err error
	add := func(id string) { places = append(places, w.now(id)) }
	env, page := w.env, latchkey.PageOptions{}
	switch kind {
	case "credential":
		var p latchkey.Page[latchkey.Credential]
		p, err = w.b.Credentials(w.ctx, who, env, page)
		for _, c := range p.Items {
			add(string(c.ID))
		}
	case "variable":
		var p latchkey.Page[latchkey.Variable]
		p, err = w.b.Variables(w.ctx, who, env, broker.VariableFilter{}, page)
		for _, v := range p.Items {
			add(string(v.ID))
		}
	case "machine":
		var p latchkey.Page[latchkey.Machine]
		p, err = w.b.Machines(w.ctx, who, env, page)
		for _, m := range p.Items {
			add(string(m.ID))
		}
	case "connection":
		var p latchkey.Page[latchkey.Connection]
		p, err = w.b.Connections(w.ctx, who, env, page)
		for _, c := range p.Items {
			add(string(c.ID))
		}
	case "flow":
		var p latchkey.Page[latchkey.Flow]
		p, err = w.b.Flows(w.ctx, who, env, page)
		for _, f := range p.Items {
			add(string(f.ID))
		}
	}
	slices.Sort(places)
	return places, answerOf(err)
}

var listed = []string{"credential", "variable", "machine", "connection", "flow"}

// deleted is the list of deleted things, among kinds.
const deleted = "deleted"

// kinds are all lists.
var kinds = append([]string{deleted}, listed...)

// deletedThings compares the list of deleted things that a person is shown.
func (w *world) deletedThings(m *model, p int) *difference {
	deleted, err := w.b.Deleted(w.ctx, w.who[p], w.env, latchkey.PageOptions{})
	gone := []string{}
	for _, d := range deleted.Items {
		gone = append(gone, w.place(d.ID))
	}
	slices.Sort(gone)
	if err != nil {
		gone = []string{answerOf(err)}
	}
	return differs("the deleted things that "+people[p]+" is shown", fmt.Sprint(m.deleted(p)), fmt.Sprint(gone))
}

// lists compares what a person is shown in some lists.
func (w *world) lists(m *model, p int, kinds []string) *difference {
	for _, kind := range kinds {
		if kind == deleted {
			if d := w.deletedThings(m, p); d != nil {
				return d
			}
			continue
		}
		got, answer := w.list(w.who[p], kind)
		if answer != ok {
			got = []string{answer}
		}
		if d := differs(fmt.Sprintf("the %ss that %s is shown", kind, people[p]), fmt.Sprint(m.visible(p, kind)), fmt.Sprint(append([]string{}, got...))); d != nil {
			return d
		}
	}
	return nil
}

// shares compares what a person is told of who has a role on a thing.
func (w *world) shares(m *model, p int, place string) *difference {
	page, err := w.b.Shares(w.ctx, w.who[p], w.env, latchkey.Kind(kindOf(place)), w.ids[place], latchkey.PageOptions{})
	got := []string{}
	for _, s := range page.Items {
		via := ""
		if s.Via != "" {
			via = "a credential"
			if s.ViaName != "" {
				via = s.ViaName
			}
			if s.Left {
				via += ", left"
			}
		}
		got = append(got, shareLine(w.now(string(s.Principal)), string(s.Role), via, s.Disabled))
	}
	slices.Sort(got)
	if err != nil {
		got = []string{answerOf(err)}
	}
	return differs(fmt.Sprintf("the shares of the %s %s that %s is told", kindOf(place), place, people[p]), fmt.Sprint(m.shares(p, place)), fmt.Sprint(got))
}

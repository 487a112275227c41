package broker_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"latchkey.dev/internal/broker"
	"latchkey.dev/internal/db"
	"latchkey.dev/internal/latchkeytest"
	"latchkey.dev/latchkey"
)

// A grouped is a chain with a group of machines, bot1 and bot2, and a connection on it,
// which is the chain's from then on.
type grouped struct {
	*latchkeytest.Chain
	group latchkey.MachineGroup
	bot2  *latchkeytest.Machine
}

func newGrouped(t *testing.T, url string) *grouped {
	t.Helper()
	c := latchkeytest.New(t, latchkeytest.Options{DatabaseURL: url}).Chain(t)
	g := &grouped{Chain: c, bot2: c.Service.Machine(t, c.Env, "bot2")}
	var err error
	if g.group, err = c.Broker.CreateMachineGroup(t.Context(), c.Admin, c.Env, latchkey.MachineGroupCreate{Name: "robots"}); err != nil {
		t.Fatal(err)
	}
	g.add(t, c.Machine.ID, g.bot2.ID)
	g.Connection, err = c.Broker.CreateConnection(t.Context(), c.Admin, c.Env, latchkey.ConnectionCreate{
		Name: "ERP on any", Target: latchkey.Target{MachineGroup: g.group.ID}, Driver: latchkey.DriverNone, Credential: c.Credential.ID,
	})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func (g *grouped) add(t *testing.T, machines ...latchkey.MachineID) {
	t.Helper()
	for _, m := range machines {
		if err := g.Broker.AddGroupMachine(t.Context(), g.Admin, g.Env, g.group.ID, m); err != nil {
			t.Fatal(err)
		}
	}
}

func (g *grouped) remove(t *testing.T, m latchkey.MachineID) {
	t.Helper()
	if err := g.Broker.RemoveGroupMachine(t.Context(), g.Admin, g.Env, g.group.ID, m); err != nil {
		t.Fatal(err)
	}
}

func (g *grouped) start() (latchkey.Run, error) {
	return g.Broker.StartRun(context.Background(), g.Admin, g.Env, latchkey.RunCreate{Flow: g.Flow.ID, Connection: g.Connection.ID})
}

func (g *grouped) run(t *testing.T, id latchkey.RunID) latchkey.Run {
	t.Helper()
	r, err := g.Broker.Run(t.Context(), g.Admin, g.Env, id)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestGroupClaims has many machines of a group claim at once: each run goes to exactly
// one of them.
func TestGroupClaims(t *testing.T) {
	latchkeytest.EachDB(t, func(t *testing.T, url string) {
		g := newGrouped(t, url)
		machines := []*latchkeytest.Machine{g.Machine, g.bot2}
		for i := range 6 {
			m := g.Service.Machine(t, g.Env, fmt.Sprint("more", i))
			g.add(t, m.ID)
			machines = append(machines, m)
		}
		const runs = 24
		queued := make([]latchkey.RunID, runs)
		for i := range queued {
			r := g.Start(t)
			if r.Machine != "" || r.MachineGroup != g.group.ID || r.MachineGroupName != "robots" {
				t.Fatalf("queued run = %+v; want one for the group without a machine", r)
			}
			queued[i] = r.ID
		}
		var mu sync.Mutex
		claimed := map[latchkey.RunID][]latchkey.MachineID{} // guarded by mu
		var wg sync.WaitGroup
		for _, m := range machines {
			wg.Go(func() {
				var holding []latchkey.RunID
				for range 10 * runs { // each claim finds a run, or loses one to another
					resp, err := g.Broker.Claim(context.Background(), m.Session(), latchkey.ClaimRequest{Holding: holding})
					if err != nil {
						t.Error(err)
						return
					}
					mu.Lock()
					if resp.Run != nil {
						holding = append(holding, resp.Run.Run)
						claimed[resp.Run.Run] = append(claimed[resp.Run.Run], m.ID)
					}
					done := len(claimed) == runs
					mu.Unlock()
					if done {
						return
					}
				}
			})
		}
		wg.Wait()
		for _, id := range queued {
			r := g.run(t, id)
			if by := claimed[id]; len(by) != 1 || r.Machine != by[0] || r.State != latchkey.RunRunning || r.MachineGroup != g.group.ID {
				t.Errorf("run claimed by %v, and is %s on %s; want one claim, by the machine that it runs on", by, r.State, r.Machine)
			}
		}
		shown, err := g.Broker.MachineGroup(t.Context(), g.Admin, g.Env, g.group.ID)
		if err != nil || shown.Machines != len(machines) || shown.Online != len(machines) || shown.Running != runs || shown.Queued != 0 {
			t.Errorf("group = %+v, %v; want %d machines online and %d runs", shown, err, len(machines), runs)
		}
	})
}

// TestGroupRun follows runs of a group: the claimed run is its machine's as any other,
// and what keeps one machine from it leaves it to the others.
func TestGroupRun(t *testing.T) {
	latchkeytest.EachDB(t, func(t *testing.T, url string) {
		g := newGrouped(t, url)
		ctx := t.Context()

		// A waiting agent is woken, and the secret is sealed to it alone.
		got := make(chan latchkey.ClaimResponse, 1)
		go func() {
			resp, err := g.Broker.Claim(context.Background(), g.bot2.Session(), latchkey.ClaimRequest{Wait: latchkey.Duration(20 * time.Second)})
			if err != nil {
				t.Error(err)
			}
			got <- resp
		}()
		r := g.Start(t)
		run := (<-got).Run
		if run == nil || run.Run != r.ID {
			t.Fatalf("waiting claim = %+v; want run %s", run, r.ID)
		}
		if again := g.Machine.Claim(t); again != nil {
			t.Fatalf("another machine claims %s as well", again.Run)
		}
		_, err := g.Broker.StartClaimed(ctx, g.Machine.Session(), r.ID, latchkey.RunRequest{Claim: run.Claim})
		wantCode(t, err, latchkey.ErrConflict, "claim-lost")
		if _, err := g.Broker.StartClaimed(ctx, g.bot2.Session(), r.ID, latchkey.RunRequest{Claim: run.Claim}); err != nil {
			t.Fatal(err)
		}
		values, sealed, err := g.bot2.Get(t, run, run.Credential)
		if err != nil || values.Password.Reveal() != latchkeytest.ChainPassword || sealed.Machine != g.bot2.ID {
			t.Fatalf("release for %s: %v; want the secret for %s", sealed.Machine, err, g.bot2.ID)
		}
		_, _, err = g.Machine.Get(t, run, run.Credential)
		wantCode(t, err, latchkey.ErrDenied, "claim-lost")

		// A machine that is taken out of the group gets no secret of its runs any more,
		// not even from memory.
		g.remove(t, g.bot2.ID)
		_, _, err = g.bot2.Get(t, run, run.Credential)
		wantCode(t, err, latchkey.ErrDenied, "machine-left-group")
		g.bot2.Finish(t, run)
		g.Start(t)
		if other := g.bot2.Claim(t); other != nil {
			t.Errorf("a machine that has left claims %s", other.Run)
		}
		g.Machine.Finish(t, g.Machine.Claim(t))
		g.add(t, g.bot2.ID)

		// Disabled, and with flows that share the agent's user, machines leave runs to the
		// others; the oldest of what is a machine's alone and what is the group's is first.
		yes, no := true, false
		if _, err := g.Broker.UpdateMachine(ctx, g.Admin, g.Env, g.Machine.ID, latchkey.MachineUpdate{Disabled: &yes}); err != nil {
			t.Fatal(err)
		}
		r = g.Start(t)
		if none := g.Machine.Claim(t); none != nil {
			t.Error("a disabled machine claims a run of its group")
		}
		if _, err := g.Broker.UpdateMachine(ctx, g.Admin, g.Env, g.Machine.ID, latchkey.MachineUpdate{Disabled: &no}); err != nil {
			t.Fatal(err)
		}
		if err := g.Machine.Open(t, true); err != nil {
			t.Fatal(err)
		}
		own, err := g.Broker.CreateFlow(ctx, g.Admin, g.Env, latchkey.FlowCreate{Name: "own", Command: []string{latchkeytest.Program}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := g.Broker.UpdateCredential(ctx, g.Admin, g.Env, g.Credential.ID, latchkey.CredentialUpdate{AllowSharedUID: &yes}); err != nil {
			t.Fatal(err)
		}
		later, err := g.Broker.StartRun(ctx, g.Admin, g.Env, latchkey.RunCreate{Flow: own.ID, Connection: g.onBot1(t).ID})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := g.Broker.UpdateCredential(ctx, g.Admin, g.Env, g.Credential.ID, latchkey.CredentialUpdate{AllowSharedUID: &no}); err != nil {
			t.Fatal(err)
		}
		if none := g.Machine.Claim(t); none != nil {
			t.Errorf("a machine with a shared uid claims %s", none.Run)
		}
		if got := g.run(t, later.ID); got.State != latchkey.RunFailed || got.Error.Code != latchkey.RunErrRefused {
			t.Errorf("its own run, which waits behind the group's = %s %+v; want refused", got.State, got.Error)
		}
		if got := g.run(t, r.ID); got.State != latchkey.RunQueued {
			t.Errorf("the group's run = %s %+v; want it left to the other machine", got.State, got.Error)
		}
		if run := g.bot2.Claim(t); run == nil || run.Run != r.ID {
			t.Errorf("the other machine claims %+v; want run %s", run, r.ID)
		} else {
			g.bot2.Finish(t, run)
		}

		// If none may execute it any more it ends, and says what is wrong with each.
		r = g.Start(t)
		if err := g.bot2.Open(t, true); err != nil {
			t.Fatal(err)
		}
		if none := g.bot2.Claim(t); none != nil {
			t.Errorf("a machine with a shared uid claims %s", none.Run)
		}
		ended := g.run(t, r.ID)
		if ended.State != latchkey.RunFailed || ended.Error.Code != latchkey.RunErrRefused || !strings.Contains(ended.Error.Message, `"bot1": flows on this machine`) || !strings.Contains(ended.Error.Message, `"bot2"`) {
			t.Errorf("run that no machine may execute = %s %+v; want refused, with the reason of each", ended.State, ended.Error)
		}
		_, err = g.start()
		wantCode(t, err, latchkey.ErrConflict, "group-no-machine")
		g.remove(t, g.Machine.ID)
		g.remove(t, g.bot2.ID)
		_, err = g.start()
		wantCode(t, err, latchkey.ErrConflict, "group-empty")
	})
}

// onBot1 returns the chain's connection on its machine alone.
func (g *grouped) onBot1(t *testing.T) latchkey.Connection {
	t.Helper()
	p, err := g.Broker.Connections(t.Context(), g.Admin, g.Env, latchkey.PageOptions{})
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(p.Items, func(c latchkey.Connection) bool { return c.Target.Machine == g.Machine.ID })
	if i < 0 {
		t.Fatalf("connections = %+v; want one on %s", p.Items, g.Machine.ID)
	}
	return p.Items[i]
}

// TestGroupRights: using a group is using its machines, and nobody puts a machine into
// one without both.
func TestGroupRights(t *testing.T) {
	g := newGrouped(t, "")
	ctx := t.Context()
	maya := g.User(t, "maya", g.Env, latchkey.EnvMaker)
	target := latchkey.ConnectionCreate{Name: "mine", Target: latchkey.Target{MachineGroup: g.group.ID}, Driver: latchkey.DriverNone, Credential: g.Credential.ID}
	g.Share(t, latchkey.KindCredential, string(g.Credential.ID), "maya", latchkey.RoleUser)
	g.Share(t, latchkey.KindFlow, string(g.Flow.ID), "maya", latchkey.RoleUser)
	_, err := g.Broker.CreateConnection(ctx, maya, g.Env, target)
	wantCode(t, err, latchkey.ErrInvalid, "invalid")
	g.Share(t, latchkey.KindMachineGroup, string(g.group.ID), "maya", latchkey.RoleUser)
	conn, err := g.Broker.CreateConnection(ctx, maya, g.Env, target)
	if err != nil {
		t.Fatal(err)
	}
	members, err := g.Broker.GroupMachines(ctx, maya, g.Env, g.group.ID)
	if err != nil || len(members.Items) != 2 || members.Items[0].Name != "bot1" {
		t.Errorf("members = %+v, %v; want bot1 and bot2, also without a role on them", members.Items, err)
	}
	_, err = g.Broker.Machine(ctx, maya, g.Env, g.bot2.ID)
	wantCode(t, err, latchkey.ErrNotFound, "not-found")
	start := func() (latchkey.Run, error) {
		return g.Broker.StartRun(ctx, maya, g.Env, latchkey.RunCreate{Flow: g.Flow.ID, Connection: conn.ID})
	}
	r, err := start()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := g.Broker.Unshare(ctx, g.Admin, g.Env, latchkey.KindMachineGroup, string(g.group.ID), "maya", nil); err != nil {
		t.Fatal(err)
	}
	if none := g.bot2.Claim(t); none != nil {
		t.Errorf("a run whose owner has lost the group is claimed")
	}
	if got := g.run(t, r.ID); got.State != latchkey.RunFailed || !strings.Contains(got.Error.Message, `may not use the machine group "robots"`) {
		t.Errorf("run = %s %+v; want refused", got.State, got.Error)
	}
	_, err = start()
	wantCode(t, err, latchkey.ErrDenied, "owner-lost-group")

	// Whose group it is and who may edit the machine.
	mine, err := g.Broker.CreateMachineGroup(ctx, maya, g.Env, latchkey.MachineGroupCreate{Name: "mine"})
	if err != nil || mine.MyRole != latchkey.RoleOwner {
		t.Fatalf("group of a maker = %+v, %v", mine, err)
	}
	add := func(group latchkey.MachineGroupID) error {
		return g.Broker.AddGroupMachine(ctx, maya, g.Env, group, g.bot2.ID)
	}
	wantCode(t, add(mine.ID), latchkey.ErrNotFound, "not-found")
	g.Share(t, latchkey.KindMachine, string(g.bot2.ID), "maya", latchkey.RoleUserShare)
	wantCode(t, add(mine.ID), latchkey.ErrDenied, "not-authorized")
	g.Share(t, latchkey.KindMachine, string(g.bot2.ID), "maya", latchkey.RoleCoOwner)
	wantCode(t, add(mine.ID), latchkey.ErrConflict, "in-another-group")
	wantCode(t, g.Broker.RemoveGroupMachine(ctx, maya, g.Env, mine.ID, g.bot2.ID), latchkey.ErrNotFound, "not-found")
	if err := g.Broker.RemoveGroupMachine(ctx, maya, g.Env, g.group.ID, g.bot2.ID); err != nil {
		t.Errorf("who may edit the machine takes it out of a group: %v", err)
	}
	if err := add(mine.ID); err != nil {
		t.Fatal(err)
	}
	wantCode(t, g.Broker.RemoveGroupMachine(ctx, maya, g.Env, g.group.ID, g.Machine.ID), latchkey.ErrNotFound, "not-found")
	m, err := g.Broker.Machine(ctx, maya, g.Env, g.bot2.ID)
	if err != nil || m.MachineGroup != mine.ID || m.MachineGroupName != "mine" {
		t.Errorf("machine = %+v, %v; want it in the group mine", m, err)
	}
	log, err := g.Broker.Audit(ctx, g.Admin, broker.AuditFilter{Environment: g.Env, Machine: g.bot2.ID, Action: latchkey.ActMachineGroupMember}, latchkey.PageOptions{})
	if err != nil || len(log.Items) != 3 {
		t.Errorf("%d entries about the machine's groups, %v; want 3", len(log.Items), err)
	}
}

// TestGroupConnection makes and tests connections on a group.
func TestGroupConnection(t *testing.T) {
	g := newGrouped(t, "")
	ctx := t.Context()
	policy := func(m *latchkeytest.Machine, servers ...string) {
		t.Helper()
		m.Policy.Drivers = []latchkey.Driver{latchkey.DriverSSH, latchkey.DriverNone}
		m.Policy.SSHServers = nil
		for _, s := range servers {
			m.Policy.SSHServers = append(m.Policy.SSHServers, latchkey.SSHServer{Name: s, Commands: []string{latchkeytest.Program}})
		}
		if err := m.Open(t, false); err != nil {
			t.Fatal(err)
		}
	}
	ssh := latchkey.ConnectionCreate{Name: "by SSH", Target: latchkey.Target{MachineGroup: g.group.ID}, Driver: latchkey.DriverSSH, Credential: g.Credential.ID}
	_, err := g.Broker.CreateConnection(ctx, g.Admin, g.Env, ssh)
	wantCode(t, err, latchkey.ErrInvalid, "invalid")
	policy(g.Machine, "erp")
	policy(g.bot2, "erp", "other")
	_, err = g.Broker.CreateConnection(ctx, g.Admin, g.Env, ssh) // it is not the same one alone
	wantCode(t, err, latchkey.ErrInvalid, "invalid")
	policy(g.bot2, "erp")
	conn, err := g.Broker.CreateConnection(ctx, g.Admin, g.Env, ssh)
	if err != nil || conn.SSHServer != "erp" {
		t.Fatalf("connection = %+v, %v; want the server erp", conn, err)
	}
	g.Connection = conn
	if g.Flow, err = g.Broker.CreateFlow(ctx, g.Admin, g.Env, latchkey.FlowCreate{Name: "there", Command: []string{latchkeytest.Program}}); err != nil {
		t.Fatal(err)
	}

	// A machine that does not name the server leaves runs to the others, and a test says so.
	policy(g.bot2, "other")
	begin := func() latchkey.ConnectionTest {
		t.Helper()
		ct, err := g.Broker.TestConnection(ctx, g.Admin, g.Env, conn.ID, false, 0)
		if err != nil {
			t.Fatal(err)
		}
		return ct
	}
	begin()
	if none := g.bot2.Claim(t); none != nil {
		t.Error("a machine that does not name the SSH server claims the test")
	}
	signIns := func(m *latchkeytest.Machine, code string) error {
		t.Helper()
		c := *g.Chain
		c.Machine = m
		return signIn(t, &c, code)
	}
	if err := signIns(g.Machine, ""); err != nil {
		t.Fatal(err)
	}
	if got, want := testStates(latestTest(t, g.Chain)), "passed: passed passed passed passed passed passed"; got != want {
		t.Errorf("test is %s; want %s", got, want)
	}
	policy(g.Machine, "other")
	if ct := begin(); ct.State != latchkey.TestFailed || ct.Run != "" || !slices.ContainsFunc(ct.Steps, func(r latchkey.TestResult) bool { return r.Code == "group-no-machine" }) {
		t.Errorf("test that no machine can take = %+v; want it to fail before", ct)
	}

	// What the target refuses counts for the whole group: it is the same account.
	policy(g.Machine, "erp")
	policy(g.bot2, "erp")
	for i := range latchkey.MaxRefusals {
		g.Start(t)
		if err := signIns([]*latchkeytest.Machine{g.Machine, g.bot2}[i%2], latchkey.RunErrSignIn); err != nil {
			t.Fatal(err)
		}
	}
	if conn, err = g.Broker.Connection(ctx, g.Admin, g.Env, conn.ID); err != nil || conn.Refusals != latchkey.MaxRefusals {
		t.Errorf("%d refusals, %v; want %d", conn.Refusals, err, latchkey.MaxRefusals)
	}
	g.Start(t)
	wantCode(t, signIns(g.bot2, ""), latchkey.ErrConflict, "refused-before")

	// A credential may list groups.
	only := []latchkey.MachineGroupID{g.group.ID}
	if _, err := g.Broker.UpdateCredential(ctx, g.Admin, g.Env, g.Credential.ID, latchkey.CredentialUpdate{MachineGroups: &only}); err != nil {
		t.Fatal(err)
	}
	g.Start(t)
	g.remove(t, g.Machine.ID)
	_, err = g.Broker.StartRun(ctx, g.Admin, g.Env, latchkey.RunCreate{Flow: g.Flow.ID, Connection: g.onBot1(t).ID})
	wantCode(t, err, latchkey.ErrDenied, "machine-not-listed")
}

// TestGroupIsShownAndDeleted: what depends on a group, on its last machine, and what
// comes back with it.
func TestGroupIsShownAndDeleted(t *testing.T) {
	latchkeytest.EachDB(t, func(t *testing.T, url string) {
		g := newGrouped(t, url)
		ctx := t.Context()
		impact := func(kind latchkey.Kind, id string, action latchkey.ImpactAction) (latchkey.Impact, string) {
			t.Helper()
			i, err := g.Broker.Impact(ctx, g.Admin, g.Env, kind, id, action, "")
			if err != nil {
				t.Fatal(err)
			}
			var effects []string
			for _, e := range i.Effects {
				effects = append(effects, string(e.Kind)+" "+e.Name)
			}
			return i, strings.Join(effects, ", ")
		}
		g.Start(t)
		if i, got := impact(latchkey.KindMachineGroup, string(g.group.ID), latchkey.ImpactDelete); got != "connection ERP on any, flow invoices" || i.Open != 1 {
			t.Errorf("deleting the group affects %q and %d runs; want its connection, the flow that runs through it, and 1", got, i.Open)
		}
		if _, got := impact(latchkey.KindMachine, string(g.bot2.ID), latchkey.ImpactDelete); got != "machine group robots" {
			t.Errorf("deleting one machine of two affects %q; want the group alone", got)
		}
		g.remove(t, g.Machine.ID)
		if _, got := impact(latchkey.KindMachine, string(g.bot2.ID), latchkey.ImpactDisable); got != "machine group robots, connection ERP on any, flow invoices" {
			t.Errorf("disabling the last machine affects %q; want the group, its connection and the flow", got)
		}
		d, err := g.Broker.Dependencies(ctx, g.Admin, g.Env, latchkey.KindConnection, string(g.Connection.ID))
		if err != nil || !slices.ContainsFunc(d.Dependencies, func(e latchkey.Dependency) bool {
			return e.From == string(g.group.ID) && e.To == string(g.bot2.ID) && e.As == "member"
		}) {
			t.Errorf("dependencies = %+v, %v; want the machine by the group", d, err)
		}

		wantCode(t, g.Broker.DeleteMachineGroup(ctx, g.Admin, g.Env, g.group.ID, latchkey.Force{}), latchkey.ErrConflict, "in-use")
		i, _ := impact(latchkey.KindMachineGroup, string(g.group.ID), latchkey.ImpactDelete)
		if err := g.Broker.DeleteMachineGroup(ctx, g.Admin, g.Env, g.group.ID, latchkey.Force{Force: true, Hash: i.Hash}); err != nil {
			t.Fatal(err)
		}
		if none := g.bot2.Claim(t); none != nil {
			t.Error("a run of a deleted group is claimed")
		}
		m, err := g.Broker.Machine(ctx, g.Admin, g.Env, g.bot2.ID)
		if err != nil || m.MachineGroup != "" {
			t.Errorf("machine of a deleted group = %+v, %v; want it in none", m, err)
		}
		_, err = g.start()
		wantCode(t, err, latchkey.ErrNotFound, "not-found")
		if _, err := g.Broker.Restore(ctx, g.Admin, g.Env, string(g.group.ID), latchkey.Restore{Name: "robots again"}); err != nil {
			t.Fatal(err)
		}
		if run := g.bot2.Claim(t); run == nil {
			t.Error("a restored group has not its machine and its queue")
		} else {
			g.bot2.Finish(t, run)
		}

		// Who gets everything of another gets the group too, before its connections.
		g.User(t, "ada", g.Env, latchkey.EnvMaker)
		h, err := g.Broker.HandOver(ctx, g.Admin, g.Env, latchkey.HandOver{From: string(g.Admin.ID), To: "ada"})
		if err != nil || len(h.Left) > 0 || !slices.ContainsFunc(h.Things, func(t latchkey.OwnedThing) bool { return t.Kind == latchkey.KindMachineGroup }) {
			t.Errorf("handed over %+v, left %+v, %v; want everything, the group among it", h.Things, h.Left, err)
		}
		page, err := g.Broker.MachineGroups(ctx, g.Admin, g.Env, latchkey.PageOptions{})
		if err != nil || len(page.Items) != 1 || page.Items[0].Machines != 1 || page.Items[0].Name != "robots again" {
			t.Errorf("groups = %+v, %v", page.Items, err)
		}
		i, _ = impact(latchkey.KindMachineGroup, string(g.group.ID), latchkey.ImpactDelete)
		if err := g.Broker.DeleteMachineGroup(ctx, g.Admin, g.Env, g.group.ID, latchkey.Force{Force: true, Hash: i.Hash}); err != nil {
			t.Fatal(err)
		}
		if err := g.Broker.Purge(ctx, g.Admin, g.Env, string(g.group.ID)); err != nil {
			t.Fatal(err)
		}
	})
}

// TestGroupLimit: a group has room for so many machines, also for those that enrol into
// it and those that come back.
func TestGroupLimit(t *testing.T) {
	g := newGrouped(t, "")
	ctx := t.Context()
	if err := g.DB.Update(ctx, func(tx *db.Tx) error {
		e, err := tx.Environment(g.Env)
		for i := range latchkey.MaxGroupMachines - 3 {
			if err != nil {
				return err
			}
			m := db.Machine{Machine: latchkey.Machine{ID: latchkey.MachineID(latchkey.NewID("mach", tx.Now)), Name: fmt.Sprint("filler", i), EnrolledBy: g.Admin.ID}, Environment: e.ID, SignKey: fmt.Append(nil, i), SealKey: []byte{}}
			if err = tx.CreateMachine(m); err == nil {
				err = tx.SetMachineGroup(m.ID, g.group.ID)
			}
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	into := latchkey.EnrolmentTokenCreate{MachineGroup: g.group.ID}
	last, err := g.EnrolWith(t, g.Env, "bot3", into)
	if err != nil {
		t.Fatal(err)
	}
	shown, err := g.Broker.Machine(ctx, g.Admin, g.Env, last.ID)
	if err != nil || shown.MachineGroup != g.group.ID {
		t.Fatalf("enrolled machine = %+v, %v; want it in the group of its token", shown, err)
	}
	_, err = g.EnrolWith(t, g.Env, "bot4", into)
	wantCode(t, err, latchkey.ErrConflict, "group-full")
	if err := g.Broker.DeleteMachine(ctx, g.Admin, g.Env, last.ID, g.force(t, last.ID)); err != nil {
		t.Fatal(err)
	}
	if _, err = g.EnrolWith(t, g.Env, "bot4", into); err != nil {
		t.Fatal(err)
	}
	if _, err := g.Broker.Restore(ctx, g.Admin, g.Env, string(last.ID), latchkey.Restore{}); err != nil {
		t.Fatal(err)
	}
	if shown, err = g.Broker.Machine(ctx, g.Admin, g.Env, last.ID); err != nil || shown.MachineGroup != "" {
		t.Errorf("restored machine whose place was taken = %+v, %v; want it in no group", shown, err)
	}
	bad := latchkey.EnrolmentTokenCreate{MachineGroup: latchkey.MachineGroupID(latchkey.NewID("mgrp", time.UnixMilli(0)))}
	_, err = g.Broker.CreateEnrolmentToken(ctx, g.Admin, g.Env, bad)
	wantCode(t, err, latchkey.ErrInvalid, "invalid")
}

// force returns what it takes to delete a machine now.
func (g *grouped) force(t *testing.T, m latchkey.MachineID) latchkey.Force {
	t.Helper()
	i, err := g.Broker.Impact(t.Context(), g.Admin, g.Env, latchkey.KindMachine, string(m), latchkey.ImpactDelete, "")
	if err != nil {
		t.Fatal(err)
	}
	return latchkey.Force{Force: i.InUse, Hash: i.Hash}
}

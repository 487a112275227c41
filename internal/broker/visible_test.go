package broker_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"latchkey.dev/internal/broker"
	"latchkey.dev/internal/latchkeytest"
	"latchkey.dev/latchkey"
)

// TestInvisibleIsNotFound asks for everything of a chain as people who may not
// see it, and compares the answer with the one for what does not exist.
func TestInvisibleIsNotFound(t *testing.T) {
	latchkeytest.EachDB(t, func(t *testing.T, url string) {
		c := latchkeytest.New(t, latchkeytest.Options{DatabaseURL: url}).Chain(t)
		r := c.Start(t)
		if _, err := c.Broker.CreateEnvironment(t.Context(), c.Admin, latchkey.EnvironmentCreate{Name: "elsewhere"}); err != nil {
			t.Fatal(err)
		}
		ask := func(who latchkey.Caller, env string, exists bool) map[string]string {
			ctx, b := t.Context(), c.Broker
			id := func(prefix, real string) string {
				if exists {
					return real
				}
				return latchkey.NewID(prefix, testTime)
			}
			name := "new_nothing"
			if exists {
				name = c.Password.Name
			}
			yes := true
			got := make(map[string]string)
			note := func(what string, err error) { got[what] = fmt.Sprint(errors.Is(err, latchkey.ErrNotFound), " ", err) }
			_, err := b.Variable(ctx, who, env, name)
			note("variable", err)
			_, err = b.UpdateVariable(ctx, who, env, name, latchkey.VariableUpdate{})
			note("update variable", err)
			note("delete variable", b.DeleteVariable(ctx, who, env, name, latchkey.Force{}))
			_, err = b.CheckVariable(ctx, who, env, name)
			note("check variable", err)
			_, err = b.OverrideCheck(ctx, who, env, name, c.Reference.String(), "x")
			note("override", err)
			cred := latchkey.CredentialID(id("cred", string(c.Credential.ID)))
			_, err = b.Credential(ctx, who, env, cred)
			note("credential", err)
			_, err = b.UpdateCredential(ctx, who, env, cred, latchkey.CredentialUpdate{AllowSharedUID: &yes})
			note("update credential", err)
			note("delete credential", b.DeleteCredential(ctx, who, env, cred, latchkey.Force{}))
			mach := latchkey.MachineID(id("mach", string(c.Machine.ID)))
			_, err = b.Machine(ctx, who, env, mach)
			note("machine", err)
			_, err = b.UpdateMachine(ctx, who, env, mach, latchkey.MachineUpdate{Disabled: &yes})
			note("update machine", err)
			note("delete machine", b.DeleteMachine(ctx, who, env, mach, latchkey.Force{}))
			conn := latchkey.ConnectionID(id("conn", string(c.Connection.ID)))
			_, err = b.Connection(ctx, who, env, conn)
			note("connection", err)
			_, err = b.UpdateConnection(ctx, who, env, conn, latchkey.ConnectionUpdate{})
			note("update connection", err)
			note("delete connection", b.DeleteConnection(ctx, who, env, conn, latchkey.Force{}))
			flow := latchkey.FlowID(id("flow", string(c.Flow.ID)))
			_, err = b.Flow(ctx, who, env, flow)
			note("flow", err)
			_, err = b.FlowRevision(ctx, who, env, flow, 1)
			note("flow revision", err)
			_, err = b.ReviseFlow(ctx, who, env, flow, latchkey.FlowCreate{Name: "x", Command: []string{"/bin/x"}})
			note("revise flow", err)
			note("delete flow", b.DeleteFlow(ctx, who, env, flow, latchkey.Force{}))
			run := latchkey.RunID(id("run", string(r.ID)))
			_, err = b.Run(ctx, who, env, run)
			note("run", err)
			_, err = b.RunLog(ctx, who, env, run, 0, 0)
			note("log", err)
			_, err = b.CancelRun(ctx, who, env, run)
			note("cancel", err)
			_, err = b.StartRun(ctx, who, env, latchkey.RunCreate{Flow: flow, Connection: conn})
			got["start"] = fmt.Sprint(err) // a fault of the request's field
			return got
		}
		callers := []struct {
			name string
			who  latchkey.Caller
			env  string
		}{
			{"stranger", c.User(t, "stranger", "", ""), c.Env},
			{"user", c.User(t, "user", c.Env, latchkey.EnvUser), c.Env},
			{"maker", c.User(t, "maker", c.Env, latchkey.EnvMaker), c.Env},
			{"admin elsewhere", c.User(t, "elsewhere", "elsewhere", latchkey.EnvAdmin), "elsewhere"},
		}
		for _, tt := range callers {
			t.Run(tt.name, func(t *testing.T) {
				invisible, missing := ask(tt.who, tt.env, true), ask(tt.who, tt.env, false)
				if diff := cmp.Diff(missing, invisible); diff != "" {
					t.Errorf("what is invisible answers otherwise than what does not exist (-missing +invisible):\n%s", diff)
				}
				for what, answer := range invisible {
					if what != "start" && answer[:4] != "true" {
						t.Errorf("%s = %s; want not found", what, answer)
					}
				}
			})
		}
		t.Run("lists", func(t *testing.T) {
			maker := callers[2].who
			for name, n := range map[string]func() (int, error){
				"variables": func() (int, error) {
					p, err := c.Broker.Variables(t.Context(), maker, c.Env, broker.VariableFilter{}, latchkey.PageOptions{})
					return len(p.Items), err
				},
				"credentials": func() (int, error) {
					p, err := c.Broker.Credentials(t.Context(), maker, c.Env, latchkey.PageOptions{})
					return len(p.Items), err
				},
				"connections": func() (int, error) {
					p, err := c.Broker.Connections(t.Context(), maker, c.Env, latchkey.PageOptions{})
					return len(p.Items), err
				},
				"flows": func() (int, error) {
					p, err := c.Broker.Flows(t.Context(), maker, c.Env, latchkey.PageOptions{})
					return len(p.Items), err
				},
				"runs": func() (int, error) {
					p, err := c.Broker.Runs(t.Context(), maker, c.Env, broker.RunFilter{}, latchkey.PageOptions{})
					return len(p.Items), err
				},
			} {
				if got, err := n(); got != 0 || err != nil {
					t.Errorf("a maker sees %d %s of others, %v; want none", got, name, err)
				}
			}
			auditor := c.User(t, "auditor", c.Env, latchkey.EnvAuditor)
			p, err := c.Broker.Credentials(t.Context(), auditor, c.Env, latchkey.PageOptions{})
			if err != nil || len(p.Items) != 1 {
				t.Errorf("an auditor sees %d credentials, %v; want 1", len(p.Items), err)
			}
			_, err = c.Broker.StartRun(t.Context(), auditor, c.Env, latchkey.RunCreate{Flow: c.Flow.ID, Connection: c.Connection.ID})
			wantCode(t, err, latchkey.ErrDenied, "not-authorized")
		})
	})
}

func TestPagesByKey(t *testing.T) {
	latchkeytest.EachDB(t, func(t *testing.T, url string) {
		s := latchkeytest.New(t, latchkeytest.Options{DatabaseURL: url})
		if _, err := s.Broker.CreateEnvironment(t.Context(), s.Admin, latchkey.EnvironmentCreate{Name: "prod"}); err != nil {
			t.Fatal(err)
		}
		var want []string
		for _, display := range []string{"a", "B", "c", "Ä", "z", "é"} {
			v := "x"
			n, err := s.Broker.CreateVariable(t.Context(), s.Admin, "prod", latchkey.VariableCreate{DisplayName: display, Name: fmt.Sprintf("new_v%d", len(want)), Type: latchkey.TypeText, Value: &v})
			if err != nil {
				t.Fatal(err)
			}
			want = append(want, n.DisplayName)
		}
		want = []string{"a", "B", "c", "z", "Ä", "é"} // by the bytes of the lower-case name, on every engine
		var got []string
		page := latchkey.PageOptions{Limit: 2}
		for {
			p, err := s.Broker.Variables(t.Context(), s.Admin, "prod", broker.VariableFilter{}, page)
			if err != nil {
				t.Fatal(err)
			}
			for _, v := range p.Items {
				got = append(got, v.DisplayName)
			}
			if page.After = p.Next; p.Next == "" {
				break
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("order (-want +got):\n%s", diff)
		}
	})
}

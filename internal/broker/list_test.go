package broker_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"latchkey.dev/internal/broker"
	"latchkey.dev/internal/latchkeytest"
	"latchkey.dev/latchkey"
)

// pagesOf returns the names of everything in a list, read in pages of a size.
func pagesOf[T any](t *testing.T, size int, o latchkey.PageOptions, name func(T) string, list func(latchkey.PageOptions) (latchkey.Page[T], error)) []string {
	t.Helper()
	names := []string{}
	o.Limit = size
	for range 100 {
		p, err := list(o)
		if err != nil {
			t.Fatal(err)
		}
		for _, item := range p.Items {
			names = append(names, name(item))
		}
		if o.After = p.Next; p.Next == "" {
			return names
		}
	}
	t.Fatal("the pages do not end")
	return nil
}

// TestSearchAndSort lists flows in every order and by searches, as who sees them all,
// as who is granted some of them by several ways, and as who is granted none.
func TestSearchAndSort(t *testing.T) {
	latchkeytest.EachDB(t, func(t *testing.T, url string) {
		var now atomic.Int64
		now.Store(testTime.UnixMilli())
		s := latchkeytest.New(t, latchkeytest.Options{DatabaseURL: url, Idle: true, Now: func() time.Time { return time.UnixMilli(now.Load()) }})
		ctx, b := t.Context(), s.Broker
		if _, err := b.CreateEnvironment(ctx, s.Admin, latchkey.EnvironmentCreate{Name: "prod"}); err != nil {
			t.Fatal(err)
		}
		some, none := s.User(t, "some", "prod", latchkey.EnvUser), s.User(t, "none", "prod", latchkey.EnvUser)
		g, err := b.CreateGroup(ctx, s.Admin, latchkey.GroupCreate{Name: "staff"})
		if err != nil {
			t.Fatal(err)
		}
		if err := b.AddGroupMember(ctx, s.Admin, "staff", "some"); err != nil {
			t.Fatal(err)
		}
		flows := []struct {
			name, description string
			to                []latchkey.PrincipalID
		}{
			{"Übung", "", nil},
			{"alpha", "Erste LINIE\nzweite", []latchkey.PrincipalID{some.ID}},
			{"Beta 100%", "", []latchkey.PrincipalID{g.ID}},
			{"beta_1", "", []latchkey.PrincipalID{some.ID, g.ID}},
			{"betaX1", `back\slash`, []latchkey.PrincipalID{some.ID}},
			{"Gamma", "ÜBUNG", []latchkey.PrincipalID{g.ID}},
			{"delta", "", nil},
		}
		created := make([]latchkey.Flow, len(flows))
		for i, f := range flows {
			now.Add(1000)
			if created[i], err = b.CreateFlow(ctx, s.Admin, "prod", latchkey.FlowCreate{Name: f.name, Description: f.description, Command: []string{"/bin/x"}}); err != nil {
				t.Fatal(err)
			}
			for _, to := range f.to {
				if _, err := b.SetShare(ctx, s.Admin, "prod", latchkey.KindFlow, string(created[i].ID), string(to), latchkey.ShareSet{Role: latchkey.RoleUser}); err != nil {
					t.Fatal(err)
				}
			}
		}
		// What is changed first is the newest then.
		now.Add(1000)
		if _, err := b.ReviseFlow(ctx, s.Admin, "prod", created[1].ID, latchkey.FlowCreate{Name: "alpha", Description: flows[1].description, Command: []string{"/bin/y"}}); err != nil {
			t.Fatal(err)
		}
		list := func(who latchkey.Caller) func(latchkey.PageOptions) (latchkey.Page[latchkey.Flow], error) {
			return func(o latchkey.PageOptions) (latchkey.Page[latchkey.Flow], error) {
				return b.Flows(ctx, who, "prod", o)
			}
		}
		name := func(f latchkey.Flow) string { return f.Name }
		byName := []string{"alpha", "Beta 100%", "beta_1", "betaX1", "delta", "Gamma", "Übung"}
		byTime := []string{"Übung", "Beta 100%", "beta_1", "betaX1", "Gamma", "delta", "alpha"}
		down := func(names []string) []string {
			names = slices.Clone(names)
			slices.Reverse(names)
			return names
		}
		for _, tt := range []struct {
			o    latchkey.PageOptions
			want []string
		}{
			{latchkey.PageOptions{}, byName},
			{latchkey.PageOptions{Sort: "name"}, byName},
			{latchkey.PageOptions{Sort: "-name"}, down(byName)},
			{latchkey.PageOptions{Sort: "modified"}, byTime},
			{latchkey.PageOptions{Sort: "-modified"}, down(byTime)},
			{latchkey.PageOptions{Search: "BETA"}, []string{"Beta 100%", "beta_1", "betaX1"}},
			{latchkey.PageOptions{Search: "BETA", Sort: "-modified"}, []string{"betaX1", "beta_1", "Beta 100%"}},
			{latchkey.PageOptions{Search: "a_1"}, []string{"beta_1"}},
			{latchkey.PageOptions{Search: "%"}, []string{"Beta 100%"}},
			{latchkey.PageOptions{Search: `k\S`}, []string{"betaX1"}},
			{latchkey.PageOptions{Search: "übung"}, []string{"Gamma", "Übung"}},
			{latchkey.PageOptions{Search: "linie"}, []string{"alpha"}},
			{latchkey.PageOptions{Search: "alphaerste"}, []string{}},
			{latchkey.PageOptions{Search: "'; --"}, []string{}},
		} {
			seen := slices.DeleteFunc(slices.Clone(tt.want), func(n string) bool { return n == "Übung" || n == "delta" })
			for _, size := range []int{1, 2, 100} {
				for _, who := range []struct {
					latchkey.Caller
					want []string
				}{{s.Admin, tt.want}, {some, seen}, {none, []string{}}} {
					if diff := cmp.Diff(who.want, pagesOf(t, size, tt.o, name, list(who.Caller))); diff != "" {
						t.Errorf("%+v as %s in pages of %d (-want +got):\n%s", tt.o, who.Name, size, diff)
					}
				}
			}
		}

		t.Run("refused", func(t *testing.T) {
			for _, o := range []latchkey.PageOptions{{Sort: "owner"}, {Sort: "--name"}, {Search: strings.Repeat("x", 101)}, {Search: "a\nb"}, {Search: "\xff"}} {
				if _, err := list(s.Admin)(o); !errors.Is(err, latchkey.ErrInvalid) {
					t.Errorf("%+v: %v; want invalid", o, err)
				}
			}
			if _, err := list(s.Admin)(latchkey.PageOptions{Sort: "owner"}); err == nil || !strings.Contains(fmt.Sprint(err), "name, -name, modified, -modified") {
				t.Errorf("an order that there is not: %v; want the orders that there are", err)
			}
			if _, err := b.Machines(ctx, s.Admin, "prod", latchkey.PageOptions{Sort: "modified"}); !errors.Is(err, latchkey.ErrInvalid) {
				t.Errorf("machines by change: %v; want invalid", err)
			}
			if _, err := b.Users(ctx, s.Admin, latchkey.PageOptions{Sort: "name"}); !errors.Is(err, latchkey.ErrInvalid) {
				t.Errorf("users in an order: %v; want invalid", err)
			}
		})
		t.Run("other order", func(t *testing.T) {
			for _, who := range []latchkey.Caller{s.Admin, some} {
				for _, from := range []string{"", "-name", "modified", "-modified"} {
					p, err := list(who)(latchkey.PageOptions{Sort: from, Limit: 1})
					if err != nil || p.Next == "" {
						t.Fatal(p.Next, err)
					}
					for _, to := range []string{"", "-name", "modified", "-modified"} {
						_, err := list(who)(latchkey.PageOptions{Sort: to, Limit: 1, After: p.Next})
						if (err != nil) != (from != to) || err != nil && !errors.Is(err, latchkey.ErrInvalid) {
							t.Errorf("a page by %q after one by %q as %s: %v", to, from, who.Name, err)
						}
					}
				}
				for _, after := range []string{"x", "WyJ4IiwieSIsIi1tb2RpZmllZCJd", "WyJ4Il0"} { // ["x","y","-modified"], ["x"]
					if _, err := list(who)(latchkey.PageOptions{Sort: "-modified", After: after}); !errors.Is(err, latchkey.ErrInvalid) {
						t.Errorf("after %q: %v; want invalid", after, err)
					}
				}
			}
		})
	})
}

// TestSearchFollows searches for what things are called after they were changed,
// deleted and restored, on lists of every kind.
func TestSearchFollows(t *testing.T) {
	latchkeytest.EachDB(t, func(t *testing.T, url string) {
		c := latchkeytest.New(t, latchkeytest.Options{DatabaseURL: url}).Chain(t)
		ctx, b := t.Context(), c.Broker
		name := func(s string) *string { return &s }
		must := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		id := func(kind latchkey.Kind) string {
			return map[latchkey.Kind]string{
				latchkey.KindVariable: string(c.Password.ID), latchkey.KindCredential: string(c.Credential.ID), latchkey.KindMachine: string(c.Machine.ID),
				latchkey.KindConnection: string(c.Connection.ID), latchkey.KindFlow: string(c.Flow.ID),
			}[kind]
		}
		search := func(what, text string, want int) {
			t.Helper()
			o := latchkey.PageOptions{Search: text}
			n, err := map[string]func() (int, error){
				"variables": func() (int, error) {
					p, err := b.Variables(ctx, c.Admin, c.Env, broker.VariableFilter{Type: latchkey.TypeSecret}, o)
					return len(p.Items), err
				},
				"credentials": func() (int, error) { p, err := b.Credentials(ctx, c.Admin, c.Env, o); return len(p.Items), err },
				"machines":    func() (int, error) { p, err := b.Machines(ctx, c.Admin, c.Env, o); return len(p.Items), err },
				"connections": func() (int, error) { p, err := b.Connections(ctx, c.Admin, c.Env, o); return len(p.Items), err },
				"flows":       func() (int, error) { p, err := b.Flows(ctx, c.Admin, c.Env, o); return len(p.Items), err },
				"users":       func() (int, error) { p, err := b.Users(ctx, c.Admin, o); return len(p.Items), err },
				"groups":      func() (int, error) { p, err := b.Groups(ctx, c.Admin, o); return len(p.Items), err },
				"programs":    func() (int, error) { p, err := b.ServicePrincipals(ctx, c.Admin, o); return len(p.Items), err },
				"places":      func() (int, error) { p, err := b.Environments(ctx, c.Admin, o); return len(p.Items), err },
				"vaults":      func() (int, error) { p, err := b.Vaults(ctx, c.Admin, o); return len(p.Items), err },
			}[what]()
			if n != want || err != nil {
				t.Errorf("%s with %q: %d, %v; want %d", what, text, n, err, want)
			}
		}
		search("variables", strings.ToUpper(c.Password.Name), 1)
		_, err := b.UpdateVariable(ctx, c.Admin, c.Env, c.Password.Name, latchkey.VariableUpdate{DisplayName: name("Renamed"), Description: name("For the SAP thing")})
		must(err)
		_, err = b.UpdateCredential(ctx, c.Admin, c.Env, c.Credential.ID, latchkey.CredentialUpdate{Name: name("Renamed"), Description: name("For the SAP thing")})
		must(err)
		_, err = b.UpdateMachine(ctx, c.Admin, c.Env, c.Machine.ID, latchkey.MachineUpdate{Name: name("Renamed"), Description: name("For the SAP thing")})
		must(err)
		_, err = b.UpdateConnection(ctx, c.Admin, c.Env, c.Connection.ID, latchkey.ConnectionUpdate{Name: name("Renamed")})
		must(err)
		_, err = b.ReviseFlow(ctx, c.Admin, c.Env, c.Flow.ID, latchkey.FlowCreate{Name: "Renamed", Description: "For the SAP thing", Command: []string{"/bin/x"}})
		must(err)
		for _, what := range []string{"variables", "credentials", "machines", "connections", "flows"} {
			search(what, "rEnAmEd", 1)
			if what != "connections" {
				search(what, "the sap", 1)
			}
		}
		// Restored under another name.
		for _, kind := range []latchkey.Kind{latchkey.KindFlow, latchkey.KindConnection, latchkey.KindCredential} {
			what := string(kind) + "s"
			impact, err := b.Impact(ctx, c.Admin, c.Env, kind, id(kind), latchkey.ImpactDelete, "")
			must(err)
			force := latchkey.Force{Force: true, Hash: impact.Hash}
			must(map[latchkey.Kind]func() error{
				latchkey.KindFlow:       func() error { return b.DeleteFlow(ctx, c.Admin, c.Env, c.Flow.ID, force) },
				latchkey.KindConnection: func() error { return b.DeleteConnection(ctx, c.Admin, c.Env, c.Connection.ID, force) },
				latchkey.KindCredential: func() error { return b.DeleteCredential(ctx, c.Admin, c.Env, c.Credential.ID, force) },
			}[kind]())
			search(what, "renamed", 0)
		}
		for _, kind := range []latchkey.Kind{latchkey.KindCredential, latchkey.KindConnection, latchkey.KindFlow} {
			what := string(kind) + "s"
			_, err := b.Restore(ctx, c.Admin, c.Env, id(kind), latchkey.Restore{Name: "Again"})
			must(err)
			search(what, "renamed", 0)
			search(what, "AGAIN", 1)
			if kind != latchkey.KindConnection {
				search(what, "the sap", 1)
			}
		}

		_, err = b.CreateUser(ctx, c.Admin, latchkey.UserCreate{Login: "jdoe", DisplayName: "Jane"})
		must(err)
		search("users", "JDO", 1)
		_, err = b.UpdateUser(ctx, c.Admin, "jdoe", latchkey.UserUpdate{DisplayName: name("Joan")})
		must(err)
		search("users", "joan", 1)
		search("users", "jdoe", 1)
		search("users", "jane", 0)
		_, err = b.CreateGroup(ctx, c.Admin, latchkey.GroupCreate{Name: "staff", Description: "Everybody"})
		must(err)
		search("groups", "everyb", 1)
		_, err = b.UpdateGroup(ctx, c.Admin, "staff", latchkey.GroupUpdate{Description: name("Nobody")})
		must(err)
		search("groups", "nobody", 1)
		p, err := b.CreateServicePrincipal(ctx, c.Admin, latchkey.ServicePrincipalCreate{DisplayName: "Pipeline", Description: "Deploys"})
		must(err)
		search("programs", "DEPLOY", 1)
		search("programs", p.ClientID[:13], 1)
		_, err = b.UpdateServicePrincipal(ctx, c.Admin, string(p.ID), latchkey.ServicePrincipalUpdate{Description: name("Tests")})
		must(err)
		search("programs", "deploy", 0)
		search("programs", "pipeline", 1)
		_, err = b.UpdateEnvironment(ctx, c.Admin, c.Env, latchkey.EnvironmentUpdate{DisplayName: name("Finance Étage")})
		must(err)
		search("places", "ÉTAGE", 1)
		search("vaults", strings.ToUpper(c.Vault.Name), 1)
		search("vaults", "nothing", 0)
	})
}

package broker_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"latchkey.dev/internal/latchkeytest"
	"latchkey.dev/latchkey"
)

// components returns what a graph has, a text each.
func components(d latchkey.Dependencies) (got []string) {
	for _, c := range d.Components {
		got = append(got, string(c.Kind)+" "+c.Name)
	}
	slices.Sort(got)
	return got
}

func TestDependencies(t *testing.T) {
	latchkeytest.EachDB(t, func(t *testing.T, url string) {
		s := newSharing(t, url)
		ctx := t.Context()
		run := func() {
			t.Helper()
			s.Start(t)
			s.Chain.Machine.Finish(t, s.Chain.Machine.Claim(t))
		}
		run()
		graph := func(f func(latchkey.Kind, string) (latchkey.Dependencies, error), kind latchkey.Kind, ref string) latchkey.Dependencies {
			t.Helper()
			d, err := f(kind, ref)
			if err != nil {
				t.Fatal(err)
			}
			return d
		}
		uses := func(who latchkey.Caller) func(latchkey.Kind, string) (latchkey.Dependencies, error) {
			return func(k latchkey.Kind, ref string) (latchkey.Dependencies, error) {
				return s.Broker.Dependencies(ctx, who, s.Env, k, ref)
			}
		}
		usedBy := func(who latchkey.Caller) func(latchkey.Kind, string) (latchkey.Dependencies, error) {
			return func(k latchkey.Kind, ref string) (latchkey.Dependencies, error) {
				return s.Broker.Dependents(ctx, who, s.Env, k, ref)
			}
		}
		secret := "secret reference " + s.Reference.Vault + "/" + s.Reference.Secret
		cred, conn, flow, machine := "credential "+s.Credential.Name, "connection "+s.Connection.Name, "flow "+s.Flow.Name, "machine bot1"
		user, password := "variable "+s.Username.Name, "variable "+s.Password.Name
		for _, tt := range []struct {
			what string
			got  latchkey.Dependencies
			want []string
		}{
			{"the secret variable is used by", graph(usedBy(s.Admin), latchkey.KindVariable, s.Password.Name), []string{conn, cred, flow}},
			{"the credential is used by", graph(usedBy(s.Admin), latchkey.KindCredential, string(s.Credential.ID)), []string{conn, flow}},
			{"the machine is used by", graph(usedBy(s.Admin), latchkey.KindMachine, string(s.Chain.Machine.ID)), []string{conn, flow}},
			{"the connection is used by", graph(usedBy(s.Admin), latchkey.KindConnection, string(s.Connection.ID)), []string{flow}},
			{"the flow is used by", graph(usedBy(s.Admin), latchkey.KindFlow, string(s.Flow.ID)), nil},
			{"the flow uses", graph(uses(s.Admin), latchkey.KindFlow, string(s.Flow.ID)), []string{conn, cred, machine, secret, password, user}},
			{"the connection uses", graph(uses(s.Admin), latchkey.KindConnection, string(s.Connection.ID)), []string{cred, machine, secret, password, user}},
			{"the credential uses", graph(uses(s.Admin), latchkey.KindCredential, string(s.Credential.ID)), []string{secret, password, user}},
			{"the secret variable uses", graph(uses(s.Admin), latchkey.KindVariable, s.Password.Name), []string{secret}},
		} {
			want := slices.Clone(tt.want)
			slices.Sort(want)
			if diff := cmp.Diff(want, components(tt.got)); diff != "" || tt.got.Hidden > 0 {
				t.Errorf("%s, %d hidden (-want +got):\n%s", tt.what, tt.got.Hidden, diff)
			}
		}
		d := graph(usedBy(s.Admin), latchkey.KindVariable, s.Password.Name)
		for _, e := range d.Dependencies {
			if e.From == string(s.Flow.ID) && (!e.Observed || e.LastUsedAt == nil) {
				t.Errorf("edge of the flow = %+v; want it observed, with when", e)
			}
		}
		for _, c := range d.Components {
			if c.LastUsedAt == nil && c.Kind != latchkey.KindCredential { // nothing was released
				t.Errorf("the %s %s has no last use", c.Kind, c.Name)
			}
		}
		// Who sees the credential alone is told how much more there is.
		if err := s.share(t, s.Admin, "ada", latchkey.RoleUser); err != nil {
			t.Fatal(err)
		}
		d = graph(usedBy(s.ada), latchkey.KindVariable, s.Password.Name)
		if diff := cmp.Diff([]string{cred}, components(d)); diff != "" || d.Hidden != 2 || len(d.Dependencies) != 1 {
			t.Errorf("ada sees %d hidden, %v; want 2 (-want +got):\n%s", d.Hidden, d.Dependencies, diff)
		}
		if _, err := s.Broker.Dependents(ctx, s.bea, s.Env, latchkey.KindVariable, s.Password.Name); !errors.Is(err, latchkey.ErrNotFound) {
			t.Errorf("bea asks about a variable that she does not see: %v", err)
		}

		t.Run("search", func(t *testing.T) {
			for _, q := range [][2]string{{s.Reference.Vault, s.Reference.Secret}, {strings.ToUpper(s.Reference.Vault), ""}, {s.Reference.String(), ""}, {s.Reference.VaultRef().String(), s.Reference.Secret}} {
				found, err := s.Broker.SecretUses(ctx, s.Admin, q[0], q[1])
				if err != nil || len(found) != 1 || found[0].Variable != s.Password.ID || found[0].Credentials != 1 || found[0].Connections != 1 || !found[0].InForce {
					t.Errorf("who uses %v: %+v, %v; want the variable with its credential and connection", q, found, err)
				}
			}
			if found, err := s.Broker.SecretUses(ctx, s.bea, s.Reference.Vault, ""); err != nil || len(found) != 0 {
				t.Errorf("bea finds %+v, %v; want nothing", found, err)
			}
			if found, err := s.Broker.SecretUses(ctx, s.Admin, s.Reference.Vault, "another"); err != nil || len(found) != 0 {
				t.Errorf("who uses another secret: %+v, %v; want nobody", found, err)
			}
			_, err := s.Broker.SecretUses(ctx, s.Admin, "no vault!", "")
			wantField(t, err, "vault", "must be the name of a vault")
		})
	})
}

func TestImpact(t *testing.T) {
	latchkeytest.EachDB(t, func(t *testing.T, url string) {
		s := newSharing(t, url)
		ctx := t.Context()
		impact := func(who latchkey.Caller, kind latchkey.Kind, ref string, action latchkey.ImpactAction, principal string) latchkey.Impact {
			t.Helper()
			i, err := s.Broker.Impact(ctx, who, s.Env, kind, ref, action, principal)
			if err != nil {
				t.Fatal(err)
			}
			return i
		}
		cred := string(s.Credential.ID)
		before := impact(s.Admin, latchkey.KindCredential, cred, latchkey.ImpactDelete, "")
		if len(before.Effects) != 1 || before.Effects[0].ID != string(s.Connection.ID) || !before.InUse || before.Open != 0 || before.Hash == "" {
			t.Errorf("impact = %+v; want the connection", before)
		}
		if again := impact(s.Admin, latchkey.KindCredential, cred, latchkey.ImpactDelete, ""); again.Hash != before.Hash {
			t.Error("the hash of the same impact is another one")
		}
		err := s.Broker.DeleteCredential(ctx, s.Admin, s.Env, s.Credential.ID, latchkey.Force{})
		wantCode(t, err, latchkey.ErrConflict, "in-use")
		if !strings.Contains(err.Error(), fmt.Sprintf("the connection %q", s.Connection.Name)) {
			t.Errorf("error = %v; want it to name the connection", err)
		}
		wantField(t, s.Broker.DeleteCredential(ctx, s.Admin, s.Env, s.Credential.ID, latchkey.Force{Force: true}), "impact", "must be the hash")

		// Whoever confirms what has changed meanwhile is refused: a run waits now.
		s.Start(t)
		wantCode(t, s.Broker.DeleteCredential(ctx, s.Admin, s.Env, s.Credential.ID, latchkey.Force{Force: true, Hash: before.Hash}), latchkey.ErrConflict, "impact-changed")
		waiting := impact(s.Admin, latchkey.KindCredential, cred, latchkey.ImpactDelete, "")
		if waiting.Open != 1 || len(waiting.Observed) != 1 || waiting.Observed[0].Flow != s.Flow.ID || waiting.Observed[0].Runs != 1 {
			t.Errorf("impact = %+v; want a run that waits, of the flow", waiting)
		}

		// Who loses what, and what stops for whom.
		s.Share(t, latchkey.KindMachine, string(s.Chain.Machine.ID), "ada", latchkey.RoleUser)
		if err := s.share(t, s.Admin, "ada", latchkey.RoleUser); err != nil {
			t.Fatal(err)
		}
		conn, err := s.Broker.CreateConnection(ctx, s.ada, s.Env, latchkey.ConnectionCreate{
			Name: "ada's", Target: latchkey.Target{Machine: s.Chain.Machine.ID}, Driver: latchkey.DriverNone, Credential: s.Credential.ID,
		})
		if err != nil {
			t.Fatal(err)
		}
		unshare := impact(s.Admin, latchkey.KindCredential, cred, latchkey.ImpactUnshare, "ada")
		if len(unshare.Effects) != 1 || unshare.Effects[0].ID != string(conn.ID) || unshare.Effects[0].Owner != "ada" || len(unshare.Losses) != 1 || unshare.Losses[0].Name != "ada" {
			t.Errorf("impact of unsharing with ada = %+v; want her connection, and her role", unshare)
		}
		if _, err := s.Broker.CreateGroup(ctx, s.Admin, latchkey.GroupCreate{Name: "Finance"}); err != nil {
			t.Fatal(err)
		}
		if err := s.Broker.AddGroupMember(ctx, s.Admin, "Finance", "ada"); err != nil {
			t.Fatal(err)
		}
		if err := s.share(t, s.Admin, "Finance", latchkey.RoleUser); err != nil {
			t.Fatal(err)
		}
		if i := impact(s.Admin, latchkey.KindCredential, cred, latchkey.ImpactUnshare, "ada"); len(i.Effects) != 0 {
			t.Errorf("impact of unsharing with ada, who has it by a group too = %+v; want none", i.Effects)
		}
		all := impact(s.Admin, latchkey.KindCredential, cred, latchkey.ImpactDelete, "")
		if len(all.Effects) != 3 || len(all.Losses) != 2 {
			t.Errorf("impact = %+v; want two connections and the flow that ran, ada and the group", all)
		}
		edit := impact(s.ada, latchkey.KindVariable, s.Password.Name, latchkey.ImpactEdit, "")
		if len(edit.Effects) != 2 || edit.Hidden != 2 || len(edit.Losses) != 0 {
			t.Errorf("what ada is told of an edit = %+v; want her connection and the credential, the rest counted", edit)
		}
		disable := impact(s.Admin, latchkey.KindMachine, string(s.Chain.Machine.ID), latchkey.ImpactDisable, "")
		if len(disable.Effects) != 3 || disable.Open != 1 {
			t.Errorf("impact of disabling the machine = %+v; want two connections, the flow and the run", disable)
		}
		_, err = s.Broker.Impact(ctx, s.Admin, s.Env, latchkey.KindCredential, cred, latchkey.ImpactDisable, "")
		wantField(t, err, "action", "must be one of")
		_, err = s.Broker.Impact(ctx, s.bea, s.Env, latchkey.KindConnection, string(s.Connection.ID), latchkey.ImpactDelete, "")
		if !errors.Is(err, latchkey.ErrNotFound) {
			t.Errorf("bea asks about a connection that she does not see: %v", err)
		}

		// Deleted by force, its runs are refused.
		if err := s.Broker.DeleteCredential(ctx, s.Admin, s.Env, s.Credential.ID, latchkey.Force{Force: true, Hash: all.Hash}); err != nil {
			t.Fatal(err)
		}
		if run := s.Chain.Machine.Claim(t); run != nil {
			t.Errorf("claimed %s, whose credential is deleted", run.Run)
		}
	})
}

func TestDeletedAndRestored(t *testing.T) {
	latchkeytest.EachDB(t, func(t *testing.T, url string) {
		now := time.Now()
		service := latchkeytest.New(t, latchkeytest.Options{DatabaseURL: url, Now: func() time.Time { return now }, Idle: true})
		ctx := t.Context()
		b, admin := service.Broker, service.Admin
		if _, err := b.CreateEnvironment(ctx, admin, latchkey.EnvironmentCreate{Name: "prod"}); err != nil {
			t.Fatal(err)
		}
		ada := service.User(t, "ada", "prod", latchkey.EnvMaker)
		bea := service.User(t, "bea", "prod", latchkey.EnvMaker)
		variable := func(who latchkey.Caller, name string) latchkey.Variable {
			t.Helper()
			v, err := b.CreateVariable(ctx, who, "prod", latchkey.VariableCreate{DisplayName: name, Type: latchkey.TypeText, Value: new("bot")})
			if err != nil {
				t.Fatal(err)
			}
			return v
		}
		list := func(who latchkey.Caller) (names []string) {
			t.Helper()
			o := latchkey.PageOptions{Limit: 1} // so that pages are gone through too
			for range 10 {
				p, err := b.Deleted(ctx, who, "prod", o)
				if err != nil {
					t.Fatal(err)
				}
				for _, d := range p.Items {
					names = append(names, d.Name)
				}
				if o.After = p.Next; p.Next == "" {
					return names
				}
			}
			t.Fatal("the list does not end")
			return nil
		}
		first, second := variable(ada, "first"), variable(bea, "second")
		if _, err := b.SetShare(ctx, ada, "prod", latchkey.KindVariable, first.Name, "bea", latchkey.ShareSet{Role: latchkey.RoleUser}); err != nil {
			t.Fatal(err)
		}
		for i, v := range []latchkey.Variable{first, second} {
			now = now.Add(time.Duration(i) * time.Minute)
			if err := b.DeleteVariable(ctx, []latchkey.Caller{ada, bea}[i], "prod", v.Name, latchkey.Force{}); err != nil {
				t.Fatal(err)
			}
		}
		if diff := cmp.Diff([]string{second.Name, first.Name}, list(admin)); diff != "" {
			t.Errorf("an admin's list (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff([]string{second.Name}, list(bea)); diff != "" {
			t.Errorf("bea's list (-want +got):\n%s", diff)
		}
		if _, err := b.Restore(ctx, bea, "prod", string(first.ID), latchkey.Restore{}); !errors.Is(err, latchkey.ErrNotFound) {
			t.Errorf("bea restores what she does not own: %v; want not found", err)
		}
		again := variable(bea, "first") // the name is free at once
		_, err := b.Restore(ctx, ada, "prod", string(first.ID), latchkey.Restore{})
		wantCode(t, err, latchkey.ErrConflict, "name-taken")
		_, err = b.Restore(ctx, ada, "prod", string(first.ID), latchkey.Restore{Name: "not valid"})
		wantField(t, err, "name", "")
		c, err := b.Restore(ctx, ada, "prod", string(first.ID), latchkey.Restore{Name: "new_firstAgain"})
		if err != nil || c.Name != "new_firstAgain" {
			t.Fatalf("restored = %+v, %v", c, err)
		}
		v, err := b.Variable(ctx, bea, "prod", "new_firstAgain")
		if err != nil || v.ID != first.ID || *v.Value != "bot" {
			t.Errorf("bea, with whom it was shared, sees %+v, %v; want the restored variable", v, err)
		}
		if _, err := b.Variable(ctx, ada, "prod", again.Name); !errors.Is(err, latchkey.ErrNotFound) {
			t.Errorf("ada sees the variable that has the name now: %v", err)
		}
		_, err = b.Restore(ctx, ada, "prod", string(first.ID), latchkey.Restore{})
		if !errors.Is(err, latchkey.ErrNotFound) {
			t.Errorf("restored twice: %v; want not found", err)
		}

		// For good: before its time, and by itself.
		if err := b.Purge(ctx, bea, "prod", string(second.ID)); err != nil {
			t.Fatal(err)
		}
		if got := list(admin); len(got) != 0 {
			t.Errorf("after the purge %v can be restored", got)
		}
		if err := b.DeleteVariable(ctx, ada, "prod", "new_firstAgain", latchkey.Force{}); err != nil {
			t.Fatal(err)
		}
		now = now.Add(latchkey.DeletedTTL - time.Minute)
		if got := list(ada); len(got) != 1 {
			t.Errorf("a minute before the end %v can be restored; want one", got)
		}
		now = now.Add(time.Minute)
		if _, err := b.Restore(ctx, ada, "prod", string(first.ID), latchkey.Restore{}); !errors.Is(err, latchkey.ErrNotFound) {
			t.Errorf("restored after 30 days: %v; want not found", err)
		}
	})
}

// TestRestoreChain deletes a whole chain and restores it, to a run that gets its
// secret.
func TestRestoreChain(t *testing.T) {
	latchkeytest.EachDB(t, func(t *testing.T, url string) {
		s := newSharing(t, url)
		ctx := t.Context()
		things := []struct {
			kind latchkey.Kind
			ref  string
		}{
			{latchkey.KindFlow, string(s.Flow.ID)}, {latchkey.KindConnection, string(s.Connection.ID)}, {latchkey.KindCredential, string(s.Credential.ID)},
			{latchkey.KindMachine, string(s.Chain.Machine.ID)}, {latchkey.KindVariable, string(s.Username.ID)}, {latchkey.KindVariable, string(s.Password.ID)},
		}
		for _, x := range things {
			i, err := s.Broker.Impact(ctx, s.Admin, s.Env, x.kind, x.ref, latchkey.ImpactDelete, "")
			if err != nil {
				t.Fatal(err)
			}
			f := latchkey.Force{Force: i.InUse, Hash: i.Hash}
			switch x.kind {
			case latchkey.KindFlow:
				err = s.Broker.DeleteFlow(ctx, s.Admin, s.Env, s.Flow.ID, f)
			case latchkey.KindConnection:
				err = s.Broker.DeleteConnection(ctx, s.Admin, s.Env, s.Connection.ID, f)
			case latchkey.KindCredential:
				err = s.Broker.DeleteCredential(ctx, s.Admin, s.Env, s.Credential.ID, f)
			case latchkey.KindMachine:
				err = s.Broker.DeleteMachine(ctx, s.Admin, s.Env, s.Chain.Machine.ID, f)
			default:
				err = s.Broker.DeleteVariable(ctx, s.Admin, s.Env, x.ref, f)
			}
			if err != nil {
				t.Fatalf("delete the %s: %v", x.kind, err)
			}
		}
		_, err := s.Broker.Restore(ctx, s.Admin, s.Env, string(s.Connection.ID), latchkey.Restore{})
		wantCode(t, err, latchkey.ErrConflict, "uses-deleted")
		for _, x := range slices.Backward(things) {
			if _, err := s.Broker.Restore(ctx, s.Admin, s.Env, x.ref, latchkey.Restore{}); err != nil {
				t.Fatalf("restore the %s: %v", x.kind, err)
			}
		}
		s.AwaitCheck(t, s.Password.Name, latchkey.CheckPassed)
		s.Start(t)
		if err := s.Chain.Machine.Open(t, false); err != nil {
			t.Fatal(err)
		}
		run := s.Chain.Machine.Claim(t)
		if run == nil {
			t.Fatal("the restored machine claims nothing")
		}
		if v, _, err := s.Chain.Machine.Get(t, run, s.Credential.ID); err != nil || v.Password.Reveal() != latchkeytest.ChainPassword {
			t.Errorf("released after everything was restored: %v", err)
		}
	})
}

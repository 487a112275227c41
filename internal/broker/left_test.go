package broker_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"latchkey.dev/internal/broker"
	"latchkey.dev/internal/db"
	"latchkey.dev/internal/latchkeytest"
	"latchkey.dev/latchkey"
)

// removeGrants sets what the environment does with grants on variables.
func (s *sharing) removeGrants(t *testing.T, remove bool) {
	t.Helper()
	if _, err := s.Broker.UpdateEnvironment(t.Context(), s.Admin, s.Env, latchkey.EnvironmentUpdate{RemoveVariableGrants: &remove}); err != nil {
		t.Fatal(err)
	}
}

// TestHandOverVariables hands a credential over: what the owner before has of its
// variables is left as when a share is removed, and what they keep is a share.
func TestHandOverVariables(t *testing.T) {
	latchkeytest.EachDB(t, func(t *testing.T, url string) {
		s := newSharing(t, url)
		handOver := func(who latchkey.Caller, to string, keep latchkey.Role) {
			t.Helper()
			if _, err := s.Broker.SetOwner(t.Context(), who, s.Env, latchkey.KindCredential, string(s.Credential.ID), latchkey.OwnerSet{Principal: to, Keep: keep}); err != nil {
				t.Fatal(err)
			}
		}
		want := func(who latchkey.Caller, credential, variable bool) {
			t.Helper()
			if c, v := s.sees(t, who); c != credential || v != variable {
				t.Errorf("%s sees the credential: %t, its variable: %t; want %t, %t", who.Name, c, v, credential, variable)
			}
		}
		handOver(s.Admin, "ada", "")
		want(s.ada, true, true)
		handOver(s.ada, "bea", "") // they stay, as the environment says
		want(s.ada, false, true)
		s.removeGrants(t, true)
		handOver(s.bea, "cyd", "")
		want(s.bea, false, false)
		p, err := s.Broker.Audit(t.Context(), s.Admin, broker.AuditFilter{Environment: s.Env, Action: latchkey.ActCredentialHandOver}, latchkey.PageOptions{})
		if err != nil || !slices.ContainsFunc(p.Items, func(e latchkey.AuditEvent) bool {
			return e.Actor == s.bea.ID && e.Details["variableGrants"] == "2" && e.Details["removed"] == "true"
		}) {
			t.Errorf("audit = %+v, %v; want that two grants were removed", p.Items, err)
		}
		// An admin who takes over sees all of it; what the owner keeps has the variables.
		handOver(s.Admin, "bea", latchkey.RoleUser)
		want(s.cyd, true, true)
		if d, err := s.Broker.Share(t.Context(), s.Admin, s.Env, latchkey.KindCredential, string(s.Credential.ID), "cyd"); err != nil || len(d.Variables) != 2 {
			t.Errorf("cyd's share = %+v, %v; want its two variables", d, err)
		}
	})
}

// TestRemoveLeft takes away what was left of a credential's share at the variable.
func TestRemoveLeft(t *testing.T) {
	latchkeytest.EachDB(t, func(t *testing.T, url string) {
		s := newSharing(t, url)
		ctx := t.Context()
		unshare := func(who latchkey.Caller, with string) error {
			_, err := s.Broker.Unshare(ctx, who, s.Env, latchkey.KindVariable, s.Password.Name, with, nil)
			return err
		}
		if err := unshare(s.Admin, "ada"); !errors.Is(err, latchkey.ErrNotFound) {
			t.Errorf("without a share: %v; want not found", err)
		}
		if err := s.share(t, s.Admin, "ada", latchkey.RoleUser); err != nil {
			t.Fatal(err)
		}
		err := unshare(s.Admin, "ada")
		wantCode(t, err, latchkey.ErrConflict, "with-credential")
		if !strings.Contains(err.Error(), `the credential "ERP bot" is shared with it`) {
			t.Errorf("error = %v; want it to name the credential", err)
		}
		if _, err := s.unshare(t, s.Admin, "ada", nil); err != nil {
			t.Fatal(err)
		}
		// Who can view and share takes away only what they gave.
		s.Share(t, latchkey.KindVariable, s.Password.Name, "bea", latchkey.RoleUserShare)
		wantCode(t, unshare(s.bea, "ada"), latchkey.ErrDenied, "not-yours")
		d, err := s.Broker.Share(ctx, s.bea, s.Env, latchkey.KindVariable, s.Password.Name, "ada")
		if err != nil || !d.Left || d.Via != s.Credential.ID || d.ViaName != "" {
			t.Errorf("what bea is told of ada's share = %+v, %v; want what is left of a credential that she may not see", d, err)
		}
		i, err := s.Broker.Impact(ctx, s.Admin, s.Env, latchkey.KindVariable, s.Password.Name, latchkey.ImpactUnshare, "ada")
		if err != nil || len(i.Losses) != 1 || i.Losses[0].Name != "ada" {
			t.Errorf("impact = %+v, %v; want ada's loss", i, err)
		}
		if err := unshare(s.Admin, "ada"); err != nil {
			t.Fatal(err)
		}
		if _, v := s.sees(t, s.ada); v {
			t.Error("ada sees the variable though what was left was removed")
		}
		// Of a deleted credential all is left, and goes with a share of the variable itself.
		if err := s.share(t, s.Admin, "cyd", latchkey.RoleUser); err != nil {
			t.Fatal(err)
		}
		s.Share(t, latchkey.KindVariable, s.Password.Name, "cyd", latchkey.RoleUser)
		i, err = s.Broker.Impact(ctx, s.Admin, s.Env, latchkey.KindCredential, string(s.Credential.ID), latchkey.ImpactDelete, "")
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Broker.DeleteCredential(ctx, s.Admin, s.Env, s.Credential.ID, latchkey.Force{Force: true, Hash: i.Hash}); err != nil {
			t.Fatal(err)
		}
		if err := unshare(s.Admin, "cyd"); err != nil {
			t.Fatal(err)
		}
		if _, v := s.sees(t, s.cyd); v {
			t.Error("cyd sees the variable by a credential that is deleted")
		}
	})
}

// TestShareWithoutVariable shares a credential whose owner does not see its variables
// any more.
func TestShareWithoutVariable(t *testing.T) {
	latchkeytest.EachDB(t, func(t *testing.T, url string) {
		s := newSharing(t, url)
		ctx := t.Context()
		s.Share(t, latchkey.KindVariable, s.Username.Name, "ada", latchkey.RoleUser)
		s.Share(t, latchkey.KindVariable, s.Password.Name, "ada", latchkey.RoleCoOwner)
		c, err := s.Broker.CreateCredential(ctx, s.ada, s.Env, latchkey.CredentialCreate{
			Name: "ada's", Usages: []latchkey.Usage{latchkey.UsageConnection},
			Slots: map[latchkey.Slot]string{latchkey.SlotUsername: s.Username.Name, latchkey.SlotPassword: s.Password.Name},
		})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Broker.Unshare(ctx, s.Admin, s.Env, latchkey.KindVariable, s.Password.Name, "ada", nil); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Broker.SetShare(ctx, s.ada, s.Env, latchkey.KindCredential, string(c.ID), "cyd", latchkey.ShareSet{Role: latchkey.RoleUser}); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Broker.Variable(ctx, s.cyd, s.Env, s.Username.Name); err != nil {
			t.Errorf("cyd does not see the variable that ada sees: %v", err)
		}
		if _, err := s.Broker.Variable(ctx, s.cyd, s.Env, s.Password.Name); !errors.Is(err, latchkey.ErrNotFound) {
			t.Errorf("ada gives cyd a variable that she does not see herself: %v", err)
		}
		p, err := s.Broker.Audit(ctx, s.Admin, broker.AuditFilter{Environment: s.Env, Action: latchkey.ActCredentialShare}, latchkey.PageOptions{Limit: 1})
		if err != nil || len(p.Items) != 1 || p.Items[0].Details["variablesWithout"] != string(s.Password.ID) {
			t.Errorf("audit = %+v, %v; want the variable that did not go along", p.Items, err)
		}
	})
}

// TestLosesOutside asks what somebody loses who has no role in the environment.
func TestLosesOutside(t *testing.T) {
	latchkeytest.EachDB(t, func(t *testing.T, url string) {
		s := newSharing(t, url)
		if err := s.share(t, s.Admin, "ada", latchkey.RoleUser); err != nil {
			t.Fatal(err)
		}
		loses := func() (loses []bool) {
			t.Helper()
			d, err := s.Broker.Share(t.Context(), s.Admin, s.Env, latchkey.KindCredential, string(s.Credential.ID), "ada")
			if err != nil {
				t.Fatal(err)
			}
			for _, v := range d.Variables {
				loses = append(loses, v.Loses)
			}
			return loses
		}
		if got := loses(); !slices.Equal(got, []bool{true, true}) {
			t.Errorf("with a role in the environment ada loses %v; want both", got)
		}
		if err := s.Broker.SetMember(t.Context(), s.Admin, s.Env, "ada", ""); err != nil {
			t.Fatal(err)
		}
		if got := loses(); !slices.Equal(got, []bool{false, false}) {
			t.Errorf("without a role in the environment ada loses %v; want neither, which she does not see", got)
		}
	})
}

// TestDisableLastAdmin disables and deletes the only admins of environments.
func TestDisableLastAdmin(t *testing.T) {
	latchkeytest.EachDB(t, func(t *testing.T, url string) {
		s := newSharing(t, url)
		ctx := t.Context()
		p, err := s.Broker.CreateServicePrincipal(ctx, s.Admin, latchkey.ServicePrincipalCreate{DisplayName: "deploy"})
		if err != nil {
			t.Fatal(err)
		}
		for env, login := range map[string]string{"one": "bea", "two": "bea", "three": "deploy"} {
			if _, err := s.Broker.CreateEnvironment(ctx, s.Admin, latchkey.EnvironmentCreate{Name: env}); err != nil {
				t.Fatal(err)
			}
			ref := login
			if login == "deploy" {
				ref = p.ClientID
			}
			if err := s.Broker.SetMember(ctx, s.Admin, env, ref, latchkey.EnvAdmin); err != nil {
				t.Fatal(err)
			}
			if err := s.Broker.SetMember(ctx, s.Admin, env, string(s.Admin.ID), ""); err != nil {
				t.Fatal(err)
			}
		}
		_, err = s.Broker.UpdateUser(ctx, s.Admin, "bea", latchkey.UserUpdate{Disabled: new(true)})
		wantCode(t, err, latchkey.ErrConflict, "last-admin")
		if !strings.Contains(err.Error(), "the environments one, two would be left") {
			t.Errorf("error = %v; want it to name the environments", err)
		}
		if u, err := s.Broker.User(ctx, s.Admin, "bea"); err != nil || u.Disabled {
			t.Errorf("bea = %+v, %v; want nothing changed", u, err)
		}
		if _, err := s.Broker.UpdateUser(ctx, s.Admin, "bea", latchkey.UserUpdate{Disabled: new(true), Force: true}); err != nil {
			t.Fatal(err)
		}
		audit, err := s.Broker.Audit(ctx, s.Admin, broker.AuditFilter{Action: latchkey.ActUserUpdate}, latchkey.PageOptions{Limit: 1})
		if err != nil || len(audit.Items) != 1 || audit.Items[0].Details["withoutAdmin"] != "one two" || audit.Items[0].Details["forced"] != "true" {
			t.Errorf("audit = %+v, %v; want the environments that are left without an admin", audit.Items, err)
		}
		if _, err := s.Broker.UpdateUser(ctx, s.Admin, "ada", latchkey.UserUpdate{Disabled: new(true)}); err != nil {
			t.Errorf("disable somebody who is admin of nothing, though other environments have none: %v", err)
		}

		_, err = s.Broker.UpdateServicePrincipal(ctx, s.Admin, p.ClientID, latchkey.ServicePrincipalUpdate{Disabled: new(true)})
		wantCode(t, err, latchkey.ErrConflict, "last-admin")
		wantCode(t, s.Broker.DeleteServicePrincipal(ctx, s.Admin, p.ClientID), latchkey.ErrConflict, "last-admin")
		if _, err := s.Broker.UpdateServicePrincipal(ctx, s.Admin, p.ClientID, latchkey.ServicePrincipalUpdate{Disabled: new(true), Force: true}); err != nil {
			t.Fatal(err)
		}
		if err := s.Broker.DeleteServicePrincipal(ctx, s.Admin, p.ClientID); err != nil {
			t.Errorf("delete what was disabled: %v", err)
		}
	})
}

// TestDeleteOwner deletes a service principal that owns something.
func TestDeleteOwner(t *testing.T) {
	latchkeytest.EachDB(t, func(t *testing.T, url string) {
		s := newSharing(t, url)
		ctx := t.Context()
		p, err := s.Broker.CreateServicePrincipal(ctx, s.Admin, latchkey.ServicePrincipalCreate{DisplayName: "deploy"})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Broker.SetMember(ctx, s.Admin, s.Env, p.ClientID, latchkey.EnvMaker); err != nil {
			t.Fatal(err)
		}
		deploy := latchkey.Caller{ID: p.ID, Kind: latchkey.PrincipalService, Name: p.DisplayName}
		v, err := s.Broker.CreateVariable(ctx, deploy, s.Env, latchkey.VariableCreate{DisplayName: "host", Type: latchkey.TypeText, Value: new("x")})
		if err != nil {
			t.Fatal(err)
		}
		err = s.Broker.DeleteServicePrincipal(ctx, s.Admin, p.ClientID)
		wantCode(t, err, latchkey.ErrConflict, "owner")
		if !strings.Contains(err.Error(), "the environment "+s.Env) {
			t.Errorf("error = %v; want it to name the environment", err)
		}
		// What is deleted already is restored without an owner, and taken over.
		if err := s.Broker.DeleteVariable(ctx, deploy, s.Env, v.Name, latchkey.Force{}); err != nil {
			t.Fatal(err)
		}
		if err := s.Broker.DeleteServicePrincipal(ctx, s.Admin, p.ClientID); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Broker.Restore(ctx, s.Admin, s.Env, string(v.ID), latchkey.Restore{}); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Broker.SetOwner(ctx, s.Admin, s.Env, latchkey.KindVariable, v.Name, latchkey.OwnerSet{Principal: "ada"}); err != nil {
			t.Fatalf("take over what a deleted service principal owned: %v", err)
		}
		shares, err := s.Broker.Shares(ctx, s.ada, s.Env, latchkey.KindVariable, v.Name, latchkey.PageOptions{})
		if err != nil || len(shares.Items) != 1 || shares.Items[0].Principal != s.ada.ID || shares.Items[0].Role != latchkey.RoleOwner {
			t.Errorf("shares of the variable = %+v, %v; want ada the owner", shares.Items, err)
		}
	})
}

// TestImpactOfListed asks what becomes of runs whose flow lists a credential.
func TestImpactOfListed(t *testing.T) {
	latchkeytest.EachDB(t, func(t *testing.T, url string) {
		s := newSharing(t, url)
		ctx := t.Context()
		listed, err := s.Broker.CreateCredential(ctx, s.Admin, s.Env, latchkey.CredentialCreate{
			Name: "listed", Usages: []latchkey.Usage{latchkey.UsageDesktopFlow}, Exposure: latchkey.ExposureDescriptor,
			Slots: map[latchkey.Slot]string{latchkey.SlotUsername: s.Username.Name, latchkey.SlotPassword: s.Password.Name},
		})
		if err != nil {
			t.Fatal(err)
		}
		f, err := s.Broker.CreateFlow(ctx, s.Admin, s.Env, latchkey.FlowCreate{
			Name: "asks", Command: []string{latchkeytest.Program, "true"}, Handover: latchkey.HandoverDescriptor, Credentials: []latchkey.CredentialID{listed.ID},
		})
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range []latchkey.Credential{s.Credential, listed} {
			s.Share(t, latchkey.KindCredential, string(c.ID), "ada", latchkey.RoleUser)
		}
		s.Share(t, latchkey.KindMachine, string(s.Chain.Machine.ID), "ada", latchkey.RoleUser)
		s.Share(t, latchkey.KindFlow, string(f.ID), "ada", latchkey.RoleUser)
		mine, err := s.Broker.CreateConnection(ctx, s.ada, s.Env, latchkey.ConnectionCreate{
			Name: "ada's", Target: latchkey.Target{Machine: s.Chain.Machine.ID}, Driver: latchkey.DriverNone, Credential: s.Credential.ID,
		})
		if err != nil {
			t.Fatal(err)
		}
		for who, connection := range map[*latchkey.Caller]latchkey.ConnectionID{&s.Admin: s.Connection.ID, &s.ada: mine.ID} {
			if _, err := s.Broker.StartRun(ctx, *who, s.Env, latchkey.RunCreate{Flow: f.ID, Connection: connection}); err != nil {
				t.Fatal(err)
			}
		}
		for _, tt := range []struct {
			what           string
			kind           latchkey.Kind
			id             string
			action         latchkey.ImpactAction
			open, observed int
		}{
			{"the credential that the flow lists", latchkey.KindCredential, string(listed.ID), latchkey.ImpactDelete, 2, 2},
			{"that of the connections", latchkey.KindCredential, string(s.Credential.ID), latchkey.ImpactDelete, 2, 2},
			{"a variable of both", latchkey.KindVariable, s.Password.Name, latchkey.ImpactEdit, 2, 2},
			{"the flow", latchkey.KindFlow, string(f.ID), latchkey.ImpactDelete, 2, 2},
			{"one connection", latchkey.KindConnection, string(mine.ID), latchkey.ImpactDelete, 1, 1},
			{"the share of the connections' credential", latchkey.KindCredential, string(s.Credential.ID), latchkey.ImpactUnshare, 1, 1},
		} {
			i, err := s.Broker.Impact(ctx, s.Admin, s.Env, tt.kind, tt.id, tt.action, "ada")
			if err != nil || i.Open != tt.open || len(i.Observed) != tt.observed {
				t.Errorf("%s of %s: %d runs wait, of %+v, %v; want %d, of %d", tt.action, tt.what, i.Open, i.Observed, err, tt.open, tt.observed)
			}
		}
		i, err := s.Broker.Impact(ctx, s.Admin, s.Env, latchkey.KindCredential, string(listed.ID), latchkey.ImpactUnshare, "ada")
		if err != nil || len(i.Effects) != 1 || i.Effects[0].ID != string(f.ID) || !strings.Contains(i.Effects[0].What, "a connection of ada") {
			t.Errorf("impact of unsharing what the flow lists = %+v, %v; want the flow's runs through ada's connection", i, err)
		}
		// What somebody may not see has no id either.
		s.Share(t, latchkey.KindFlow, string(f.ID), "cyd", latchkey.RoleCoOwner)
		i, err = s.Broker.Impact(ctx, s.cyd, s.Env, latchkey.KindFlow, string(f.ID), latchkey.ImpactDelete, "")
		if err != nil || len(i.Observed) != 2 || i.Observed[0].Connection != "" || i.Observed[1].Connection != "" {
			t.Errorf("what cyd is told = %+v, %v; want no connection named", i.Observed, err)
		}
	})
}

// TestStatementsOfGraph counts the statements of a graph: they do not grow with it.
func TestStatementsOfGraph(t *testing.T) {
	latchkeytest.EachDB(t, func(t *testing.T, url string) {
		s := newSharing(t, url)
		count := func() (n int) {
			t.Helper()
			ctx := db.WithTrace(t.Context(), func(string, []any) { n++ })
			d, err := s.Broker.Dependents(ctx, s.Admin, s.Env, latchkey.KindVariable, s.Password.Name)
			if err != nil || len(d.Components) == 0 {
				t.Fatalf("dependents = %+v, %v", d, err)
			}
			return n
		}
		few := count()
		for _, name := range []string{"a", "b", "c", "d", "e"} {
			c, err := s.Broker.CreateCredential(t.Context(), s.Admin, s.Env, latchkey.CredentialCreate{
				Name: name, Usages: []latchkey.Usage{latchkey.UsageDesktopFlow}, Exposure: latchkey.ExposureDescriptor,
				Slots: map[latchkey.Slot]string{latchkey.SlotUsername: s.Username.Name, latchkey.SlotPassword: s.Password.Name},
			})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := s.Broker.CreateFlow(t.Context(), s.Admin, s.Env, latchkey.FlowCreate{
				Name: name, Command: []string{latchkeytest.Program}, Handover: latchkey.HandoverDescriptor, Credentials: []latchkey.CredentialID{c.ID},
			}); err != nil {
				t.Fatal(err)
			}
		}
		if many := count(); many > few+5 { // the flows' kind is new, and was not asked about
			t.Errorf("%d statements with ten components more, %d without", many, few)
		}
	})
}

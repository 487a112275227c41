package broker_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"latchkey.dev/internal/broker"
	"latchkey.dev/internal/db"
	"latchkey.dev/internal/latchkeytest"
	"latchkey.dev/latchkey"
)

func TestCredentialStatus(t *testing.T) {
	now := testTime
	at := func(d time.Duration) *time.Time { v := now.Add(d); return &v }
	ref := func(state latchkey.CheckState, newest, inForce bool) db.SecretStanding {
		return db.SecretStanding{State: state, Newest: newest, InForce: inForce}
	}
	passed := ref(latchkey.CheckPassed, true, true)
	expires := func(d time.Duration) db.SecretStanding {
		r := passed
		r.ExpiresAt = at(d)
		return r
	}
	overridden := ref(latchkey.CheckFailed, true, true)
	overridden.Overridden = true
	certificate := func(s latchkey.CheckState, d time.Duration) *latchkey.CertificateCheck {
		return &latchkey.CertificateCheck{State: s, ExpiresAt: at(d), CheckedAt: at(-time.Hour)}
	}
	const day = 24 * time.Hour
	for _, tt := range []struct {
		name        string
		certificate *latchkey.CertificateCheck
		references  []db.SecretStanding
		want        latchkey.CredentialStatus
		expires     *time.Time
	}{
		{name: "no reference", want: latchkey.CredentialFailed},
		{name: "passed", references: []db.SecretStanding{passed}, want: latchkey.CredentialOK},
		{name: "first check", references: []db.SecretStanding{ref(latchkey.CheckChecking, true, false)}, want: latchkey.CredentialChecking},
		{name: "first check not possible", references: []db.SecretStanding{ref(latchkey.CheckUnknown, true, false)}, want: latchkey.CredentialUnknown},
		{name: "failed", references: []db.SecretStanding{ref(latchkey.CheckFailed, true, false)}, want: latchkey.CredentialFailed},
		{name: "failed later", references: []db.SecretStanding{ref(latchkey.CheckFailed, true, true)}, want: latchkey.CredentialFailed},
		{name: "overridden", references: []db.SecretStanding{overridden}, want: latchkey.CredentialOK},
		{name: "checked again", references: []db.SecretStanding{ref(latchkey.CheckChecking, true, true)}, want: latchkey.CredentialOK},
		{name: "checked again in vain", references: []db.SecretStanding{ref(latchkey.CheckUnknown, true, true)}, want: latchkey.CredentialUnknown},
		{name: "changed", references: []db.SecretStanding{ref(latchkey.CheckPassed, false, true), ref(latchkey.CheckChecking, true, false)}, want: latchkey.CredentialPending},
		{name: "changed in vain", references: []db.SecretStanding{ref(latchkey.CheckPassed, false, true), ref(latchkey.CheckFailed, true, false)}, want: latchkey.CredentialFailed},
		{name: "later", references: []db.SecretStanding{expires(31 * day)}, want: latchkey.CredentialOK, expires: at(31 * day)},
		{name: "soon", references: []db.SecretStanding{expires(29 * day)}, want: latchkey.CredentialExpiring, expires: at(29 * day)},
		{name: "expired", references: []db.SecretStanding{expires(0)}, want: latchkey.CredentialExpired, expires: at(0)},
		{name: "certificate", certificate: certificate(latchkey.CheckPassed, 40*day), references: []db.SecretStanding{passed}, want: latchkey.CredentialOK, expires: at(40 * day)},
		{name: "certificate expires first", certificate: certificate(latchkey.CheckPassed, day), references: []db.SecretStanding{expires(40 * day)}, want: latchkey.CredentialExpiring, expires: at(day)},
		{name: "certificate expired", certificate: certificate(latchkey.CheckFailed, -day), references: []db.SecretStanding{passed}, want: latchkey.CredentialExpired, expires: at(-day)},
		{name: "certificate failed", certificate: certificate(latchkey.CheckFailed, 40*day), references: []db.SecretStanding{passed}, want: latchkey.CredentialFailed, expires: at(40 * day)},
		{name: "certificate never looked at", certificate: &latchkey.CertificateCheck{State: latchkey.CheckChecking}, references: []db.SecretStanding{passed}, want: latchkey.CredentialChecking},
		{name: "certificate looked at again", certificate: certificate(latchkey.CheckChecking, 40*day), references: []db.SecretStanding{passed}, want: latchkey.CredentialOK, expires: at(40 * day)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, expires := broker.CredentialStatus(&latchkey.Credential{Certificate: tt.certificate}, tt.references, now)
			if got != tt.want {
				t.Errorf("status %s; want %s", got, tt.want)
			}
			if diff := cmp.Diff(tt.expires, expires); diff != "" {
				t.Errorf("expiry (-want +got):\n%s", diff)
			}
		})
	}
}

// TestRows looks at what lists show of a chain after a run, as its owner, as somebody
// with whom the credential is shared without its variables, and in the history.
func TestRows(t *testing.T) {
	latchkeytest.EachDB(t, func(t *testing.T, url string) {
		c := latchkeytest.New(t, latchkeytest.Options{DatabaseURL: url}).Chain(t)
		ctx, b := t.Context(), c.Broker
		must := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		guest, auditor := c.User(t, "guest", c.Env, latchkey.EnvUser), c.User(t, "auditor", c.Env, latchkey.EnvAuditor)
		c.Share(t, latchkey.KindCredential, string(c.Credential.ID), "guest", latchkey.RoleUser)
		c.Share(t, latchkey.KindFlow, string(c.Flow.ID), "guest", latchkey.RoleUser)
		// The variables went along; take the user name's back.
		e, err := b.Environment(ctx, c.Admin, c.Env)
		must(err)
		must(c.DB.Update(ctx, func(tx *db.Tx) error {
			return tx.RemoveGrant(e.ID, string(c.Username.ID), guest.ID, c.Credential.ID)
		}))
		credential := func(who latchkey.Caller) latchkey.Credential {
			t.Helper()
			got, err := b.Credential(ctx, who, c.Env, c.Credential.ID)
			must(err)
			p, err := b.Credentials(ctx, who, c.Env, latchkey.PageOptions{})
			must(err)
			if diff := cmp.Diff([]latchkey.Credential{got}, p.Items); diff != "" {
				t.Errorf("the list has another credential than the one shown (-shown +listed):\n%s", diff)
			}
			return got
		}
		admin := &latchkey.Owner{ID: c.Admin.ID, Name: c.Admin.Name}
		got := credential(c.Admin)
		if got.Username != latchkeytest.ChainUser || got.Status != latchkey.CredentialOK || got.LastUsedAt != nil || got.ExpiresAt != nil {
			t.Errorf("before a run: %+v", got)
		}
		if diff := cmp.Diff(admin, got.OwnedBy, cmp.FilterPath(func(p cmp.Path) bool { return p.Last().String() == ".Name" }, cmp.Ignore())); diff != "" {
			t.Errorf("owner (-want +got):\n%s", diff)
		}
		if got := credential(guest); got.Username != "" || got.Status != latchkey.CredentialOK || got.OwnedBy == nil {
			t.Errorf("of whom may not read the user name: %+v", got)
		}
		if got := credential(auditor); got.Username != latchkeytest.ChainUser {
			t.Errorf("an auditor sees the user name %q", got.Username)
		}

		r := c.Start(t)
		run := c.Machine.Claim(t)
		_, sealed, err := c.Machine.Get(t, run, run.Credential)
		must(err)
		c.Machine.Finish(t, run)
		if got := credential(guest); got.LastUsedAt == nil {
			t.Error("a released credential was not used")
		}

		flow, err := b.Flow(ctx, c.Admin, c.Env, c.Flow.ID)
		must(err)
		if flow.OwnedBy == nil || flow.LastRun == nil || flow.LastRun.Run != r.ID || flow.LastRun.State != latchkey.RunSucceeded || flow.LastRun.FinishedAt == nil {
			t.Errorf("flow: owner %+v, last run %+v", flow.OwnedBy, flow.LastRun)
		}
		flows, err := b.Flows(ctx, guest, c.Env, latchkey.PageOptions{})
		must(err)
		if len(flows.Items) != 1 || flows.Items[0].LastRun != nil || flows.Items[0].OwnedBy == nil {
			t.Errorf("of whom may not see the run: %+v", flows.Items)
		}
		connections, err := b.Connections(ctx, c.Admin, c.Env, latchkey.PageOptions{})
		must(err)
		if len(connections.Items) != 1 || connections.Items[0].LastRun == nil || connections.Items[0].OwnedBy == nil {
			t.Errorf("connections: %+v", connections.Items)
		}
		machines, err := b.Machines(ctx, c.Admin, c.Env, latchkey.PageOptions{})
		must(err)
		if len(machines.Items) != 1 || machines.Items[0].OwnedBy == nil || machines.Items[0].LastSeenAt == nil {
			t.Errorf("machines: %+v", machines.Items)
		}
		variables, err := b.Variables(ctx, c.Admin, c.Env, broker.VariableFilter{}, latchkey.PageOptions{})
		must(err)
		for _, v := range variables.Items {
			if v.OwnedBy == nil || v.UsedBy == nil || *v.UsedBy != 1 {
				t.Errorf("variable: %+v", v)
			}
		}

		// A denied request, and then the history.
		_, err = b.StartRun(ctx, c.Admin, c.Env, latchkey.RunCreate{Flow: c.Flow.ID, Connection: c.Connection.ID})
		must(err)
		second := c.Machine.Claim(t)
		_, err = b.CancelRun(ctx, c.Admin, c.Env, second.Run)
		must(err)
		if _, _, err = c.Machine.Get(t, second, second.Credential); err == nil {
			t.Fatal("a cancelled run was given the secret")
		}
		history := func(who latchkey.Caller, size int) (all []latchkey.ReleaseRecord) {
			t.Helper()
			o := latchkey.PageOptions{Limit: size}
			for range 10 {
				p, err := b.Releases(ctx, who, c.Env, c.Credential.ID, o)
				must(err)
				all = append(all, p.Items...)
				if o.After = p.Next; p.Next == "" {
					return all
				}
			}
			t.Fatal("the pages do not end")
			return nil
		}
		for _, size := range []int{1, 100} {
			all := history(auditor, size)
			if len(all) != 2 {
				t.Fatalf("history: %+v; want a denial and a release", all)
			}
			denied, done := all[0], all[1]
			if denied.Outcome != latchkey.ReleaseDenied || denied.Code != "cancelled" || denied.Reason == "" || denied.Run != second.Run {
				t.Errorf("denied: %+v", denied)
			}
			if done.Outcome != latchkey.ReleaseDelivered || done.Version != sealed.Version || done.Run != r.ID || done.FlowName != c.Flow.Name || done.MachineName != "bot1" || done.Release == "" || done.Kind != latchkey.RunFlow {
				t.Errorf("delivered: %+v", done)
			}
		}
		other := c.User(t, "other", c.Env, latchkey.EnvUser)
		c.Share(t, latchkey.KindCredential, string(c.Credential.ID), "other", latchkey.RoleUser)
		for _, r := range history(other, 100) {
			if r.Flow != "" || r.FlowName != "" || r.Reason != "" || r.MachineName == "" {
				t.Errorf("of whom may not see the flow: %+v", r)
			}
		}
		if _, err := b.Releases(ctx, c.User(t, "stranger", c.Env, latchkey.EnvMaker), c.Env, c.Credential.ID, latchkey.PageOptions{}); err == nil {
			t.Error("who may not see the credential sees its history")
		}
	})
}

func TestRowsHaveTheCallersRole(t *testing.T) {
	latchkeytest.EachDB(t, func(t *testing.T, url string) {
		c := latchkeytest.New(t, latchkeytest.Options{DatabaseURL: url}).Chain(t)
		ctx, b := t.Context(), c.Broker
		user, auditor := c.User(t, "ursula", c.Env, latchkey.EnvUser), c.User(t, "aud", c.Env, latchkey.EnvAuditor)
		c.Share(t, latchkey.KindFlow, string(c.Flow.ID), "ursula", latchkey.RoleCoOwner)
		c.Share(t, latchkey.KindMachine, string(c.Machine.ID), "ursula", latchkey.RoleUser)
		c.Share(t, latchkey.KindVariable, string(c.Username.ID), "ursula", latchkey.RoleUserShare)
		check := func(who string, of string, got, want latchkey.Role, err error) {
			t.Helper()
			if err != nil || got != want {
				t.Errorf("the role of %s on the %s = %q, %v; want %q", who, of, got, err, want)
			}
		}
		f, err := b.Flow(ctx, user, c.Env, c.Flow.ID)
		check("who it is shared with", "flow", f.MyRole, latchkey.RoleCoOwner, err)
		m, err := b.Machine(ctx, user, c.Env, c.Machine.ID)
		check("who it is shared with", "machine", m.MyRole, latchkey.RoleUser, err)
		v, err := b.Variable(ctx, user, c.Env, c.Username.Name)
		check("who it is shared with", "variable", v.MyRole, latchkey.RoleUserShare, err)
		n, err := b.Connection(ctx, c.Admin, c.Env, c.Connection.ID)
		check("the owner", "connection", n.MyRole, latchkey.RoleOwner, err)
		all, err := b.Flows(ctx, auditor, c.Env, latchkey.PageOptions{})
		if err != nil || len(all.Items) != 1 {
			t.Fatalf("flows = %v, %v; want one", all.Items, err)
		}
		check("an auditor", "flow", all.Items[0].MyRole, latchkey.RoleNone, nil)
	})
}

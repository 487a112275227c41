package broker_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"latchkey.dev/internal/db"
	"latchkey.dev/internal/latchkeytest"
	"latchkey.dev/latchkey"
)

func TestChanges(t *testing.T) {
	latchkeytest.EachDB(t, func(t *testing.T, url string) {
		clock := new(latchkeytest.Clock)
		c := latchkeytest.New(t, latchkeytest.Options{DatabaseURL: url, Now: clock.Now}).Chain(t)
		ctx, b := t.Context(), c.Broker
		member := c.User(t, "member", c.Env, latchkey.EnvUser)
		changes := func(since string, wait time.Duration) latchkey.Changes {
			t.Helper()
			v, err := b.Changes(ctx, member, c.Env, since, wait)
			if err != nil {
				t.Fatal(err)
			}
			return v
		}
		now := changes("", time.Hour)
		if now.Changed || now.Cursor == "" {
			t.Fatalf("at first: %+v; want a cursor", now)
		}
		if v := changes(now.Cursor, 0); v.Changed || v.Cursor != now.Cursor {
			t.Errorf("nothing happened, and the answer is %+v", v)
		}
		// Another environment's changes are none of this one's.
		if _, err := b.CreateEnvironment(ctx, c.Admin, latchkey.EnvironmentCreate{Name: "elsewhere"}); err != nil {
			t.Fatal(err)
		}
		other, err := b.Changes(ctx, c.Admin, "elsewhere", "", 0)
		if err != nil || other.Cursor == now.Cursor {
			t.Fatal(other, err)
		}
		if v := changes(now.Cursor, 0); v.Changed {
			t.Error("a change elsewhere is one here")
		}
		// What happens while somebody waits ends the wait; the member may not see the run.
		waited := make(chan latchkey.Changes, 1)
		go func() {
			v, err := b.Changes(ctx, member, c.Env, now.Cursor, latchkey.MaxChangesWait)
			if err != nil {
				t.Error(err)
			}
			waited <- v
		}()
		c.Start(t)
		v := <-waited
		if !v.Changed || v.Cursor == now.Cursor {
			t.Fatalf("after a run was started: %+v", v)
		}
		for what, f := range map[string]func(){
			"claim": func() { c.Machine.Claim(t) },
			"share": func() { c.Share(t, latchkey.KindFlow, string(c.Flow.ID), "member", latchkey.RoleUser) },
		} {
			before := changes("", 0)
			f()
			if v := changes(before.Cursor, 0); !v.Changed {
				t.Errorf("%s is no change", what)
			}
		}
		before := changes("", 0)
		clock.Step(2 * latchkey.OnlineWindow)
		if v := changes(before.Cursor, 0); !v.Changed {
			t.Error("that a machine is offline is no change")
		}
		if v := changes("nonsense", 0); !v.Changed {
			t.Error("an unknown cursor is the newest")
		}
		if _, err := b.Changes(ctx, c.User(t, "stranger", "", ""), c.Env, "", 0); !errors.Is(err, latchkey.ErrNotFound) {
			t.Errorf("a stranger: %v; want not found", err)
		}
	})
}

// kinds returns what kinds of attention are for whom, with their subjects' names.
func kinds(a latchkey.Attention) (all []string) {
	for _, i := range a.Items {
		all = append(all, fmt.Sprintf("%s %s %s", i.Severity, i.Kind, i.Subject.Name))
	}
	slices.Sort(all)
	return all
}

func TestAttention(t *testing.T) {
	latchkeytest.EachDB(t, func(t *testing.T, url string) {
		clock := new(latchkeytest.Clock)
		c := latchkeytest.New(t, latchkeytest.Options{DatabaseURL: url, Now: clock.Now}).Chain(t)
		ctx, b := t.Context(), c.Broker
		must := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		ask := func(who latchkey.Caller) latchkey.Attention {
			t.Helper()
			a, err := b.Attention(ctx, who, c.Env)
			must(err)
			return a
		}
		if got := kinds(ask(c.Admin)); len(got) != 0 {
			t.Errorf("of a new chain: %q; want nothing", got)
		}
		// A reference that fails, a secret that expires soon, a run whose release is
		// denied and that fails, a second machine that was never seen, and a notice.
		bad := c.Reference
		bad.Secret = "missing"
		_, err := b.CreateVariable(ctx, c.Admin, c.Env, latchkey.VariableCreate{DisplayName: "Bad", Type: latchkey.TypeSecret, Secret: &bad})
		must(err)
		c.AwaitCheck(t, "new_Bad", latchkey.CheckFailed)
		soon := clock.Now().Add(10 * 24 * time.Hour).Truncate(time.Second)
		_, err = b.SetSecret(ctx, c.Admin, c.Vault.Name, c.Reference.Secret, latchkey.NewSecret("x"), latchkey.SecretAttributes{Enabled: true, Expires: &soon})
		must(err)
		c.Start(t)
		run := c.Machine.Claim(t)
		_, err = b.CancelRun(ctx, c.Admin, c.Env, run.Run)
		must(err)
		if _, _, err := c.Machine.Get(t, run, run.Credential); err == nil {
			t.Fatal("a cancelled run was given the secret")
		}
		must(c.DB.Update(ctx, func(tx *db.Tx) error {
			one := 1
			return tx.FinishRun(run.Run, latchkey.RunFailed, &one, &latchkey.RunError{Code: latchkey.RunErrExit, Message: "the flow ended with 1"})
		}))
		off := true
		second := c.Service.Machine(t, c.Env, "bot2")
		_, err = b.UpdateMachine(ctx, c.Admin, c.Env, second.ID, latchkey.MachineUpdate{Disabled: &off})
		must(err)
		clock.Step(2 * latchkey.OnlineWindow)
		must(c.DB.Update(ctx, func(tx *db.Tx) error {
			e, err := tx.Environment(c.Env)
			if err != nil {
				return err
			}
			return tx.CreateNotice(c.Admin.ID, latchkey.Notice{Environment: e.ID, Kind: latchkey.KindFlow, Subject: string(c.Flow.ID), Name: "invoices", Message: "for you"})
		}))
		want := []string{
			"error check-failed Bad", "error releases-denied ERP bot", "error runs-failed invoices",
			"info machine bot2", "info notice invoices", "warning expiring ERP password", "warning machine bot1",
		}
		a := ask(c.Admin)
		if diff := cmp.Diff(want, kinds(a)); diff != "" {
			t.Errorf("for the owner (-want +got):\n%s", diff)
		}
		if a.More != 0 || a.Items[0].Severity != latchkey.SeverityError || a.Items[len(a.Items)-1].Severity != latchkey.SeverityInfo {
			t.Errorf("order or rest: %+v", a)
		}
		for _, i := range a.Items {
			if i.What == "" || i.Since == nil || i.Subject.ID == "" {
				t.Errorf("item lacks something: %+v", i)
			}
		}
		if diff := cmp.Diff(slices.DeleteFunc(want, func(s string) bool { return strings.Contains(s, "notice") }), kinds(ask(c.User(t, "auditor", c.Env, latchkey.EnvAuditor)))); diff != "" {
			t.Errorf("for an auditor (-want +got):\n%s", diff)
		}
		member := c.User(t, "member", c.Env, latchkey.EnvMaker)
		if got := kinds(ask(member)); len(got) != 0 {
			t.Errorf("for a maker who sees none of it: %q", got)
		}
		c.Share(t, latchkey.KindMachine, string(c.Machine.ID), "member", latchkey.RoleUser)
		c.Share(t, latchkey.KindFlow, string(c.Flow.ID), "member", latchkey.RoleUser)
		if diff := cmp.Diff([]string{"warning machine bot1"}, kinds(ask(member))); diff != "" {
			t.Errorf("for a maker who sees the machine (-want +got):\n%s", diff)
		}
		c.Share(t, latchkey.KindCredential, string(c.Credential.ID), "member", latchkey.RoleUser)
		if diff := cmp.Diff([]string{"error releases-denied ERP bot", "warning expiring ERP password", "warning machine bot1"}, kinds(ask(member))); diff != "" {
			t.Errorf("for a maker who sees the credential too (-want +got):\n%s", diff)
		}

		t.Run("activity", func(t *testing.T) {
			for _, tt := range []struct {
				who            latchkey.Caller
				all            bool
				failed, denied int
			}{{c.Admin, true, 1, 1}, {member, false, 0, 0}} {
				got, err := b.Activity(ctx, tt.who, c.Env, 2)
				must(err)
				if len(got.Days) != 2 || got.All != tt.all || !got.Days[0].Day.Equal(got.Days[1].Day.AddDate(0, 0, -1)) {
					t.Fatalf("activity: %+v; want two days", got)
				}
				// Both, since the test may run at midnight.
				if f, d := got.Days[0].Failed+got.Days[1].Failed, got.Days[0].Denied+got.Days[1].Denied; f != tt.failed || d != tt.denied {
					t.Errorf("%s: %d failed and %d denied; want %d and %d", tt.who.Name, f, d, tt.failed, tt.denied)
				}
			}
			must(c.DB.Update(ctx, func(tx *db.Tx) error { // a run of the member's own
				r, err := tx.Run(run.Run)
				if err != nil {
					return err
				}
				r.ID, r.StartedBy = latchkey.RunID(latchkey.NewID("run", tx.Now)), member.ID
				if err := tx.CreateRun(r); err != nil {
					return err
				}
				return tx.FinishRun(r.ID, latchkey.RunSucceeded, nil, nil)
			}))
			got, err := b.Activity(ctx, member, c.Env, 0)
			must(err)
			if last := got.Days[len(got.Days)-1]; len(got.Days) != latchkey.DefaultActivity || last.Succeeded+got.Days[len(got.Days)-2].Succeeded != 1 {
				t.Errorf("of the member's own run: %+v", got)
			}
			for _, days := range []int{-1, 91} {
				if _, err := b.Activity(ctx, c.Admin, c.Env, days); !errors.Is(err, latchkey.ErrInvalid) {
					t.Errorf("%d days: %v; want invalid", days, err)
				}
			}
		})
		t.Run("many", func(t *testing.T) {
			for i := range 120 {
				must(c.DB.Update(ctx, func(tx *db.Tx) error {
					e, err := tx.Environment(c.Env)
					if err != nil {
						return err
					}
					m := db.Machine{Machine: latchkey.Machine{ID: latchkey.MachineID(latchkey.NewID("mach", tx.Now)), Name: fmt.Sprint("more ", i), EnrolledBy: c.Admin.ID}, Environment: e.ID, SignKey: []byte(fmt.Sprint(i)), SealKey: []byte{1}}
					return tx.CreateMachine(m)
				}))
			}
			a := ask(c.Admin)
			// The last run of the flow has succeeded, so that it is no trouble any more.
			if all := 120 + len(want) - 1; len(a.Items) != latchkey.MaxAttention || a.More != all-latchkey.MaxAttention {
				t.Errorf("listed %d and %d more; want %d of %d", len(a.Items), a.More, latchkey.MaxAttention, all)
			}
		})
	})
}

func TestFind(t *testing.T) {
	latchkeytest.EachDB(t, func(t *testing.T, url string) {
		c := latchkeytest.New(t, latchkeytest.Options{DatabaseURL: url}).Chain(t)
		ctx, b := t.Context(), c.Broker
		find := func(who latchkey.Caller, text string, limit int) (names []string) {
			t.Helper()
			found, err := b.Find(ctx, who, c.Env, text, limit)
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range found {
				names = append(names, string(f.Kind)+" "+f.Name)
			}
			return names
		}
		if _, err := b.CreateFlow(ctx, c.Admin, c.Env, latchkey.FlowCreate{Name: "The ERP", Description: "nothing", Command: []string{"/bin/x"}}); err != nil {
			t.Fatal(err)
		}
		if _, err := b.CreateFlow(ctx, c.Admin, c.Env, latchkey.FlowCreate{Name: "Other", Description: "for the erp", Command: []string{"/bin/x"}}); err != nil {
			t.Fatal(err)
		}
		want := []string{"credential ERP bot", "connection ERP on bot1", "variable ERP password", "variable ERP user", "flow The ERP"}
		if diff := cmp.Diff(want, find(c.Admin, " eRp", 0)); diff != "" {
			t.Errorf("erp (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(want[:2], find(c.Admin, "erp", 2)); diff != "" {
			t.Errorf("two of erp (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff([]string{"variable ERP user"}, find(c.Admin, "NEW_ERPU", 0)); diff != "" {
			t.Errorf("by unique name (-want +got):\n%s", diff)
		}
		if got := find(c.Admin, c.Username.Name, 0); len(got) != 1 || got[0] != "variable ERP user" {
			t.Errorf("exactly: %q", got)
		}
		for _, text := range []string{"", " ", "%", "nothing", "_user"} {
			if got := find(c.Admin, text, 0); len(got) != 0 {
				t.Errorf("%q: %q; want nothing", text, got)
			}
		}
		member := c.User(t, "member", c.Env, latchkey.EnvMaker)
		if got := find(member, "erp", 0); len(got) != 0 {
			t.Errorf("a maker finds %q of others", got)
		}
		c.Share(t, latchkey.KindFlow, string(c.Flow.ID), "member", latchkey.RoleUser)
		if diff := cmp.Diff([]string{"flow invoices"}, find(member, "voice", 0)); diff != "" {
			t.Errorf("what is shared (-want +got):\n%s", diff)
		}
		if _, err := b.Find(ctx, c.Admin, c.Env, strings.Repeat("x", 101), 0); !errors.Is(err, latchkey.ErrInvalid) {
			t.Errorf("a long text: %v; want invalid", err)
		}
		if _, err := b.Find(ctx, c.User(t, "stranger", "", ""), c.Env, "erp", 0); !errors.Is(err, latchkey.ErrNotFound) {
			t.Errorf("a stranger: %v; want not found", err)
		}
	})
}

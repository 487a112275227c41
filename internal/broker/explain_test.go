package broker_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"latchkey.dev/internal/broker"
	"latchkey.dev/internal/db"
	"latchkey.dev/internal/latchkeytest"
	"latchkey.dev/latchkey"
)

// TestExplainAgrees makes grants at random and compares each decision that is
// explained with the one that operations take.
func TestExplainAgrees(t *testing.T) {
	latchkeytest.EachDB(t, func(t *testing.T, url string) {
		s := newSharing(t, url)
		ctx := t.Context()
		r := s.Start(t)
		things := map[latchkey.Kind]string{
			latchkey.KindEnvironment: "", latchkey.KindVariable: string(s.Password.ID), latchkey.KindCredential: string(s.Credential.ID),
			latchkey.KindMachine: string(s.Machine.ID), latchkey.KindConnection: string(s.Connection.ID), latchkey.KindFlow: string(s.Flow.ID), latchkey.KindRun: string(r.ID),
		}
		people := []latchkey.Caller{s.Admin, s.ada, s.bea, s.cyd}
		var groups []latchkey.PrincipalID
		for i := range 3 {
			g, err := s.Broker.CreateGroup(ctx, s.Admin, latchkey.GroupCreate{Name: fmt.Sprintf("group %d", i)})
			if err != nil {
				t.Fatal(err)
			}
			groups = append(groups, g.ID)
		}
		auditor := s.User(t, "auditor", s.Env, latchkey.EnvAuditor)
		random := rand.New(rand.NewPCG(1, 2))
		some := []latchkey.PrincipalID{s.ada.ID, s.bea.ID, s.cyd.ID, groups[0], groups[1], groups[2]}
		pick := func() latchkey.PrincipalID { return some[random.IntN(len(some))] }
		seen := map[bool]int{}
		for round := range 12 {
			err := s.DB.Update(ctx, func(tx *db.Tx) error {
				e, err := tx.Environment(s.Env)
				if err != nil {
					return err
				}
				for range 4 {
					p, role := pick(), append(latchkey.EnvironmentRoles, "")[random.IntN(5)]
					if err := tx.SetMember(e.ID, p, role, s.Admin.ID); err != nil && !errors.Is(err, db.ErrNotFound) {
						return err
					}
					for kind, id := range things {
						role := []latchkey.Role{latchkey.RoleUser, latchkey.RoleUserShare, latchkey.RoleCoOwner}[random.IntN(3)]
						if latchkey.SharingOf[kind].Read == "" || random.IntN(2) == 0 {
							continue
						}
						via := latchkey.CredentialID("")
						if kind == latchkey.KindVariable && random.IntN(2) == 0 {
							via = s.Credential.ID
						}
						p := pick()
						if random.IntN(3) == 0 {
							if err := tx.RemoveGrant(e.ID, id, p, via); err != nil && !errors.Is(err, db.ErrNotFound) {
								return err
							}
						} else if err := tx.SetGrant(e.ID, kind, id, p, role, via, s.Admin.ID); err != nil {
							return err
						}
					}
					group, member := groups[random.IntN(3)], some[random.IntN(3)]
					if i := random.IntN(3); i > 0 && groups[i-1] != group && slices.Index(groups, group) > i-1 {
						member = groups[i-1]
					}
					if err := tx.SetGroupMember(group, member); err != nil {
						return err
					}
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := s.Broker.UpdateUser(ctx, s.Admin, "cyd", latchkey.UserUpdate{Disabled: new(round%2 == 1)}); err != nil {
				t.Fatal(err)
			}
			for kind, id := range things {
				for _, p := range people {
					x, err := s.Broker.Explain(ctx, auditor, s.Env, broker.Inquiry{Principal: string(p.ID), Kind: kind, Ref: id})
					if err != nil {
						t.Fatal(err)
					}
					for _, d := range x.Decisions {
						allowed, err := s.Broker.Allows(ctx, p, s.Env, kind, id, d.Action)
						if err != nil {
							t.Fatal(err)
						}
						seen[allowed]++
						by := slices.ContainsFunc(x.Sources, func(a latchkey.AccessSource) bool { return a.Counts && slices.Contains(a.Permits, d.Action) })
						if d.Allowed != allowed || by != allowed {
							t.Errorf("round %d: %s of %s: explained as %t by sources %t (%+v); operations say %t", round, d.Action, p.Name, d.Allowed, by, x.Sources, allowed)
						}
						if (len(d.Change) > 0) == allowed && d.Note == "" {
							t.Errorf("%s of %s: allowed %t with the change %v", d.Action, p.Name, allowed, d.Change)
						}
					}
				}
			}
		}
		if seen[true] < 100 || seen[false] < 100 {
			t.Errorf("decisions: %v; want many of both", seen)
		}
	})
}

// TestExplainChange does what an explanation says is missing, and sees that it does.
func TestExplainChange(t *testing.T) {
	s := newSharing(t, "")
	ctx := t.Context()
	out := s.User(t, "out", "", "")
	ask := func(p latchkey.Caller, action latchkey.Action) (latchkey.Explanation, latchkey.AccessDecision) {
		t.Helper()
		x, err := s.Broker.Explain(ctx, s.Admin, s.Env, broker.Inquiry{Principal: string(p.ID), Kind: latchkey.KindCredential, Ref: string(s.Credential.ID), Action: action})
		if err != nil || len(x.Decisions) != 1 {
			t.Fatalf("explanation = %+v, %v", x, err)
		}
		return x, x.Decisions[0]
	}
	if _, err := s.Broker.UpdateUser(ctx, s.Admin, "out", latchkey.UserUpdate{Disabled: new(true)}); err != nil {
		t.Fatal(err)
	}
	x, d := ask(out, latchkey.ActCredentialUpdate)
	if len(x.Obstacles) != 2 || x.Obstacles[0].Code != latchkey.ObstacleDisabled || x.Obstacles[1].Code != latchkey.ObstacleOutside {
		t.Errorf("obstacles = %+v; want a deactivated account and no role", x.Obstacles)
	}
	if d.Allowed || len(d.Change) != 3 || d.Change[2].Role != latchkey.RoleCoOwner {
		t.Fatalf("decision = %+v; want three steps, the last a share as co-owner", d)
	}
	for _, step := range d.Change {
		var err error
		switch step.Give {
		case latchkey.GiveEnable:
			_, err = s.Broker.UpdateUser(ctx, s.Admin, "out", latchkey.UserUpdate{Disabled: new(false)})
		case latchkey.GiveMember:
			err = s.Broker.SetMember(ctx, s.Admin, s.Env, "out", step.EnvironmentRole)
		case latchkey.GiveShare:
			if len(step.Who) != 1 || step.Who[0].ID != s.Admin.ID {
				t.Errorf("who can share = %+v; want the owner", step.Who)
			}
			err = s.share(t, s.Admin, "out", step.Role)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	x, d = ask(out, latchkey.ActCredentialUpdate)
	if !d.Allowed || len(x.Sources) != 2 || x.Sources[1].By != s.Admin.ID || x.Sources[1].At == nil || !slices.Equal(x.Sources[1].Permits, []latchkey.Action{latchkey.ActCredentialUpdate}) {
		t.Errorf("afterwards: %+v, %+v; want it allowed by the share that the admin gave", d, x.Sources)
	}
}

func TestExplainGroupsAndVia(t *testing.T) {
	s := newSharing(t, "")
	ctx := t.Context()
	for _, name := range []string{"inner", "outer"} {
		if _, err := s.Broker.CreateGroup(ctx, s.Admin, latchkey.GroupCreate{Name: name}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Broker.AddGroupMember(ctx, s.Admin, "inner", "ada"); err != nil {
		t.Fatal(err)
	}
	if err := s.Broker.AddGroupMember(ctx, s.Admin, "outer", "inner"); err != nil {
		t.Fatal(err)
	}
	if err := s.share(t, s.Admin, "outer", latchkey.RoleUser); err != nil {
		t.Fatal(err)
	}
	of := func(asker latchkey.Caller, principal string) (latchkey.Explanation, error) {
		return s.Broker.Explain(ctx, asker, s.Env, broker.Inquiry{Principal: principal, Kind: latchkey.KindVariable, Ref: s.Password.Name, Action: latchkey.ActVariableRead})
	}
	x, err := of(s.ada, "")
	if err != nil || !x.Decisions[0].Allowed {
		t.Fatalf("explanation = %+v, %v; want it allowed", x, err)
	}
	share := x.Sources[len(x.Sources)-1]
	if !slices.Equal(share.Groups, []string{"inner", "outer"}) || share.ViaName != s.Credential.Name || !share.With || share.Left {
		t.Errorf("share = %+v; want it by inner and outer, with the credential", share)
	}
	// Who sees the variable alone is not told of the credential, and asks about nobody else.
	s.Chain.Share(t, latchkey.KindVariable, s.Password.Name, "bea", latchkey.RoleUser)
	_, err = of(s.bea, "ada")
	wantCode(t, err, latchkey.ErrDenied, "not-authorized")
	s.Chain.Share(t, latchkey.KindVariable, s.Password.Name, "bea", latchkey.RoleCoOwner)
	if x, err = of(s.bea, "ada"); err != nil {
		t.Fatal(err)
	}
	if share = x.Sources[len(x.Sources)-1]; share.Via != "" || share.ViaName != "" || !share.With {
		t.Errorf("share as bea sees it = %+v; want the credential unnamed", share)
	}
	_, err = of(s.cyd, "")
	wantCode(t, err, latchkey.ErrNotFound, "not-found")
	if _, err = of(s.Admin, "nobody"); err == nil || !strings.Contains(err.Error(), "principal: there is no such user") {
		t.Errorf("of nobody = %v; want a fault of principal", err)
	}
}

func TestHandOverAll(t *testing.T) {
	latchkeytest.EachDB(t, func(t *testing.T, url string) {
		s := newSharing(t, url)
		ctx := t.Context()
		owned := func(p latchkey.Caller) []latchkey.OwnedThing {
			t.Helper()
			var all []latchkey.OwnedThing
			for page := (latchkey.PageOptions{Limit: 2}); ; {
				o, err := s.Broker.Owned(ctx, s.Admin, s.Env, string(p.ID), page)
				if err != nil {
					t.Fatal(err)
				}
				all = append(all, o.Items...)
				if page.After = o.Next; o.Next == "" {
					return all
				}
			}
		}
		all := owned(s.Admin)
		if len(all) != 6 || all[0].Kind != latchkey.KindVariable || all[5].Kind != latchkey.KindConnection {
			t.Fatalf("owned = %+v; want six things, variables first and the connection last", all)
		}
		_, err := s.Broker.Owned(ctx, s.ada, s.Env, "admin", latchkey.PageOptions{})
		wantCode(t, err, latchkey.ErrDenied, "not-authorized")
		_, err = s.Broker.HandOver(ctx, s.ada, s.Env, latchkey.HandOver{From: "admin", To: "ada"})
		wantCode(t, err, latchkey.ErrDenied, "not-authorized")
		_, err = s.Broker.HandOver(ctx, s.Admin, s.Env, latchkey.HandOver{From: "admin", To: "nobody"})
		wantField(t, err, "to", "no such user")
		// Of a connection the new owner must hold the credential: this is left.
		h, err := s.Broker.HandOver(ctx, s.Admin, s.Env, latchkey.HandOver{From: "admin", To: "ada", Kinds: []latchkey.Kind{latchkey.KindConnection}})
		if err != nil || len(h.Things) != 0 || len(h.Left) != 1 || !strings.Contains(h.Left[0].Reason, "share both with ada first") {
			t.Fatalf("handed over %+v, %v; want the connection left with the reason", h, err)
		}
		h, err = s.Broker.HandOver(ctx, s.Admin, s.Env, latchkey.HandOver{From: "admin", To: "ada"})
		if err != nil || len(h.Things) != 6 || len(h.Left) != 0 || h.Next != "" {
			t.Fatalf("handed over %+v, %v; want all", h, err)
		}
		// An admin takes over what ada has, who is deactivated: she is told once.
		if _, err := s.Broker.UpdateUser(ctx, s.Admin, "ada", latchkey.UserUpdate{Disabled: new(true)}); err != nil {
			t.Fatal(err)
		}
		h, err = s.Broker.HandOver(ctx, s.Admin, s.Env, latchkey.HandOver{From: "ada", To: "bea", Keep: latchkey.RoleUser})
		if err != nil || len(h.Things) != 6 || len(h.Left) != 0 {
			t.Fatalf("taken over %+v, %v; want all", h, err)
		}
		if notices, err := s.Broker.Notices(ctx, s.ada, latchkey.PageOptions{}); err != nil || len(notices.Items) != 1 || !strings.Contains(notices.Items[0].Message, "bea") {
			t.Errorf("notices = %+v, %v; want one", notices.Items, err)
		}
		if got := owned(s.bea); len(got) != 6 {
			t.Errorf("bea owns %+v; want all", got)
		}
		a, err := s.Broker.Audit(ctx, s.Admin, broker.AuditFilter{Environment: s.Env, Action: latchkey.ActCredentialTakeOver}, latchkey.PageOptions{})
		if err != nil || len(a.Items) != 1 {
			t.Errorf("take-overs of the credential on record = %d, %v; want 1", len(a.Items), err)
		}
		shares, err := s.Broker.Shares(ctx, s.bea, s.Env, latchkey.KindCredential, string(s.Credential.ID), latchkey.PageOptions{})
		if err != nil || !slices.ContainsFunc(shares.Items, func(sh latchkey.Share) bool {
			return sh.Principal == s.ada.ID && sh.Disabled && sh.Role == latchkey.RoleUser
		}) {
			t.Errorf("shares = %+v, %v; want ada's, deactivated", shares.Items, err)
		}
		members, err := s.Broker.Members(ctx, s.bea, s.Env, latchkey.PageOptions{})
		if err != nil || !slices.ContainsFunc(members.Items, func(m latchkey.Member) bool {
			return m.Principal == s.ada.ID && m.Disabled && m.Kind == latchkey.PrincipalUser
		}) {
			t.Errorf("members = %+v, %v; want ada, deactivated", members.Items, err)
		}
	})
}

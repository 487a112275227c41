package broker_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"latchkey.dev/internal/broker"
	"latchkey.dev/internal/latchkeytest"
	"latchkey.dev/latchkey"
)

// A sharing is a chain in which something is shared, with people of the
// environment.
type sharing struct {
	*latchkeytest.Chain
	ada, bea, cyd latchkey.Caller // makers
}

func newSharing(t *testing.T, url string) *sharing {
	t.Helper()
	c := latchkeytest.New(t, latchkeytest.Options{DatabaseURL: url, Idle: false}).Chain(t)
	s := &sharing{Chain: c}
	s.ada = c.User(t, "ada", c.Env, latchkey.EnvMaker)
	s.bea = c.User(t, "bea", c.Env, latchkey.EnvMaker)
	s.cyd = c.User(t, "cyd", c.Env, latchkey.EnvMaker)
	return s
}

// share shares the credential as who.
func (s *sharing) share(t *testing.T, who latchkey.Caller, with string, role latchkey.Role) error {
	t.Helper()
	_, err := s.Broker.SetShare(t.Context(), who, s.Env, latchkey.KindCredential, string(s.Credential.ID), with, latchkey.ShareSet{Role: role})
	return err
}

func (s *sharing) unshare(t *testing.T, who latchkey.Caller, with string, remove *bool) (latchkey.Unshared, error) {
	t.Helper()
	return s.Broker.Unshare(t.Context(), who, s.Env, latchkey.KindCredential, string(s.Credential.ID), with, remove)
}

// sees reports whether who sees the credential and its secret variable.
func (s *sharing) sees(t *testing.T, who latchkey.Caller) (credential, variable bool) {
	t.Helper()
	_, err := s.Broker.Credential(t.Context(), who, s.Env, s.Credential.ID)
	if err != nil && !errors.Is(err, latchkey.ErrNotFound) {
		t.Fatal(err)
	}
	_, verr := s.Broker.Variable(t.Context(), who, s.Env, s.Password.Name)
	if verr != nil && !errors.Is(verr, latchkey.ErrNotFound) {
		t.Fatal(verr)
	}
	return err == nil, verr == nil
}

func wantField(t *testing.T, err error, field, text string) {
	t.Helper()
	e, ok := errors.AsType[*latchkey.Error](err)
	if !ok || !slices.ContainsFunc(e.Fields, func(f latchkey.FieldError) bool { return f.Field == field && strings.Contains(f.Message, text) }) {
		t.Errorf("error = %v; want a fault of %s that says %q", err, field, text)
	}
}

func TestShareCredential(t *testing.T) {
	latchkeytest.EachDB(t, func(t *testing.T, url string) {
		s := newSharing(t, url)
		if c, v := s.sees(t, s.ada); c || v {
			t.Fatalf("before it is shared ada sees the credential: %t, its variable: %t", c, v)
		}
		if err := s.share(t, s.Admin, "ada", latchkey.RoleUser); err != nil {
			t.Fatal(err)
		}
		if c, v := s.sees(t, s.ada); !c || !v {
			t.Errorf("ada sees the credential: %t, its variable: %t; want both", c, v)
		}
		got, err := s.Broker.Credential(t.Context(), s.ada, s.Env, s.Credential.ID)
		if err != nil || got.MyRole != latchkey.RoleUser {
			t.Errorf("ada's role = %q, %v; want user", got.MyRole, err)
		}
		_, err = s.Broker.UpdateCredential(t.Context(), s.ada, s.Env, s.Credential.ID, latchkey.CredentialUpdate{Name: new("mine")})
		wantCode(t, err, latchkey.ErrDenied, "not-authorized")
		wantCode(t, s.share(t, s.ada, "bea", latchkey.RoleUser), latchkey.ErrDenied, "not-authorized")
		_, err = s.Broker.Shares(t.Context(), s.ada, s.Env, latchkey.KindCredential, string(s.Credential.ID), latchkey.PageOptions{})
		wantCode(t, err, latchkey.ErrDenied, "not-authorized")
		// Who only sees a variable makes no credential of it.
		_, err = s.Broker.CreateCredential(t.Context(), s.ada, s.Env, latchkey.CredentialCreate{
			Name: "wider", Usages: []latchkey.Usage{latchkey.UsageDesktopFlow}, Exposure: latchkey.ExposureEnvironment,
			Slots: map[latchkey.Slot]string{latchkey.SlotUsername: s.Username.Name, latchkey.SlotPassword: s.Password.Name},
		})
		wantCode(t, err, latchkey.ErrDenied, "not-authorized")

		t.Run("user who can share", func(t *testing.T) {
			if err := s.share(t, s.Admin, "ada", latchkey.RoleUserShare); err != nil {
				t.Fatal(err)
			}
			wantCode(t, s.share(t, s.ada, "bea", latchkey.RoleCoOwner), latchkey.ErrDenied, "more-than-held")
			if err := s.share(t, s.ada, "bea", latchkey.RoleUserShare); err != nil {
				t.Errorf("ada gives what she holds: %v", err)
			}
			if err := s.share(t, s.Admin, "cyd", latchkey.RoleUser); err != nil {
				t.Fatal(err)
			}
			_, err := s.unshare(t, s.ada, "cyd", nil)
			wantCode(t, err, latchkey.ErrDenied, "not-yours")
			if _, err := s.unshare(t, s.ada, "bea", nil); err != nil {
				t.Errorf("ada takes away what she gave: %v", err)
			}
			if err := s.share(t, s.Admin, "cyd", latchkey.RoleCoOwner); err != nil {
				t.Fatal(err)
			}
			wantCode(t, s.share(t, s.ada, "cyd", latchkey.RoleUser), latchkey.ErrDenied, "more-than-held")
			_, err = s.unshare(t, s.ada, "cyd", nil)
			wantCode(t, err, latchkey.ErrDenied, "more-than-held")
		})
		t.Run("co-owner", func(t *testing.T) {
			if _, err := s.Broker.UpdateCredential(t.Context(), s.cyd, s.Env, s.Credential.ID, latchkey.CredentialUpdate{Description: new("of cyd")}); err != nil {
				t.Errorf("a co-owner edits: %v", err)
			}
			_, err := s.Broker.UpdateCredential(t.Context(), s.cyd, s.Env, s.Credential.ID, latchkey.CredentialUpdate{Exposure: new(latchkey.ExposureEnvironment)})
			wantCode(t, err, latchkey.ErrDenied, "not-authorized")
			if err := s.share(t, s.cyd, "bea", latchkey.RoleCoOwner); err != nil {
				t.Errorf("a co-owner gives what they hold: %v", err)
			}
			_, err = s.unshare(t, s.cyd, "admin", nil)
			wantCode(t, err, latchkey.ErrConflict, "owner")
			wantField(t, s.share(t, s.cyd, "bea", latchkey.RoleOwner), "role", "handed over")
		})
	})
}

func TestShareRefusals(t *testing.T) {
	s := newSharing(t, "")
	stranger := s.User(t, "stranger", "", "")
	wantField(t, s.share(t, s.Admin, "nobody@example.com", latchkey.RoleUser), "principal", "no such user")
	wantField(t, s.share(t, s.Admin, "stranger", latchkey.RoleUser), "principal", "no role in the environment prod")
	wantField(t, s.share(t, s.Admin, string(latchkey.ServiceIdentity), latchkey.RoleUser), "principal", "must be a user")
	wantField(t, s.share(t, s.Admin, string(s.Machine.ID), latchkey.RoleUser), "principal", "must be a user")
	if _, err := s.Broker.UpdateUser(t.Context(), s.Admin, "bea", latchkey.UserUpdate{Disabled: new(true)}); err != nil {
		t.Fatal(err)
	}
	wantField(t, s.share(t, s.Admin, "bea", latchkey.RoleUser), "principal", "deactivated")
	wantField(t, s.share(t, s.Admin, "ada", ""), "role", "must be one of")
	_, err := s.Broker.SetShare(t.Context(), s.Admin, s.Env, latchkey.KindConnection, string(s.Connection.ID), "ada", latchkey.ShareSet{Role: latchkey.RoleUser})
	wantField(t, err, "principal", "must be a service principal")
	if err := s.share(t, stranger, "ada", latchkey.RoleUser); !errors.Is(err, latchkey.ErrNotFound) {
		t.Errorf("a stranger shares: %v; want not found", err)
	}
	if err := s.share(t, s.ada, "ada", latchkey.RoleUser); !errors.Is(err, latchkey.ErrNotFound) {
		t.Errorf("who does not see it shares it with themselves: %v; want not found", err)
	}
	_, err = s.unshare(t, s.Admin, "ada", nil)
	if !errors.Is(err, latchkey.ErrNotFound) {
		t.Errorf("removing a share that is none: %v; want not found", err)
	}
}

// TestUnshareVariables takes shares away and looks at what is left of the variables.
func TestUnshareVariables(t *testing.T) {
	latchkeytest.EachDB(t, func(t *testing.T, url string) {
		s := newSharing(t, url)
		second, err := s.Broker.CreateCredential(t.Context(), s.Admin, s.Env, latchkey.CredentialCreate{
			Name: "second", Usages: []latchkey.Usage{latchkey.UsageConnection},
			Slots: map[latchkey.Slot]string{latchkey.SlotUsername: s.Username.Name, latchkey.SlotPassword: s.Password.Name},
		})
		if err != nil {
			t.Fatal(err)
		}
		shareSecond := func(with string) {
			t.Helper()
			if _, err := s.Broker.SetShare(t.Context(), s.Admin, s.Env, latchkey.KindCredential, string(second.ID), with, latchkey.ShareSet{Role: latchkey.RoleUser}); err != nil {
				t.Fatal(err)
			}
		}
		outcome := func(u latchkey.Unshared, err error) (got []string) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
			for _, v := range u.Variables {
				got = append(got, fmt.Sprintf("%s removed=%t loses=%t %s", v.Name, v.Removed, v.Loses, strings.Join(v.Because, "; ")))
			}
			return got
		}
		want := func(got []string, each string) {
			t.Helper()
			if diff := cmp.Diff([]string{s.Username.Name + " " + each, s.Password.Name + " " + each}, got); diff != "" {
				t.Errorf("what is left (-want +got):\n%s", diff)
			}
		}
		mustShare := func(with string) {
			t.Helper()
			if err := s.share(t, s.Admin, with, latchkey.RoleUser); err != nil {
				t.Fatal(err)
			}
		}
		// They stay unless one says so.
		mustShare("ada")
		want(outcome(s.unshare(t, s.Admin, "ada", nil)), "removed=false loses=false ")
		if c, v := s.sees(t, s.ada); c || !v {
			t.Errorf("ada sees the credential: %t, its variable: %t; want the variable alone", c, v)
		}
		// Sharing again takes up what was left, and it goes with the share this time.
		mustShare("ada")
		want(outcome(s.unshare(t, s.Admin, "ada", new(true))), "removed=true loses=true ")
		if c, v := s.sees(t, s.ada); c || v {
			t.Errorf("ada sees the credential: %t, its variable: %t; want neither", c, v)
		}
		// Another credential justifies the same variables.
		mustShare("ada")
		shareSecond("ada")
		detail, err := s.Broker.Share(t.Context(), s.Admin, s.Env, latchkey.KindCredential, string(s.Credential.ID), "ada")
		want(outcome(latchkey.Unshared{Variables: detail.Variables}, err), `removed=true loses=false the credential "second" is shared with it`)
		want(outcome(s.unshare(t, s.Admin, "ada", new(true))), `removed=true loses=false the credential "second" is shared with it`)
		if _, v := s.sees(t, s.ada); !v {
			t.Error("ada does not see the variable that another credential of hers uses")
		}
		if _, err := s.Broker.Unshare(t.Context(), s.Admin, s.Env, latchkey.KindCredential, string(second.ID), "ada", new(true)); err != nil {
			t.Fatal(err)
		}
		if _, v := s.sees(t, s.ada); v {
			t.Error("ada sees the variable though nothing gives it")
		}
		// So does a group, and a share of the variable itself.
		g, err := s.Broker.CreateGroup(t.Context(), s.Admin, latchkey.GroupCreate{Name: "Finance"})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Broker.AddGroupMember(t.Context(), s.Admin, g.Name, "ada"); err != nil {
			t.Fatal(err)
		}
		mustShare("ada")
		mustShare("Finance")
		s.Share(t, latchkey.KindVariable, s.Password.Name, "ada", latchkey.RoleUser)
		s.Share(t, latchkey.KindVariable, s.Username.Name, "ada", latchkey.RoleUser)
		got := outcome(s.unshare(t, s.Admin, "ada", new(true)))
		for _, line := range got {
			if !strings.Contains(line, `the credential "chain" is shared with the group "Finance"`) && !strings.Contains(line, `is shared with the group "Finance"`) || !strings.Contains(line, "it was given the role user on it") {
				t.Errorf("left = %q; want the group and its own share", line)
			}
		}
		if c, v := s.sees(t, s.ada); !c || !v {
			t.Errorf("ada sees the credential: %t, its variable: %t; want both, by the group", c, v)
		}
		if err := s.Broker.RemoveGroupMember(t.Context(), s.Admin, "Finance", "ada"); err != nil {
			t.Fatal(err)
		}
		if c, v := s.sees(t, s.ada); c || !v {
			t.Errorf("ada sees the credential: %t, its variable: %t; want the variable alone", c, v)
		}
		// The environment says what happens where the request does not.
		if _, err := s.Broker.UpdateEnvironment(t.Context(), s.Admin, s.Env, latchkey.EnvironmentUpdate{RemoveVariableGrants: new(true)}); err != nil {
			t.Fatal(err)
		}
		mustShare("cyd")
		want(outcome(s.unshare(t, s.Admin, "cyd", nil)), "removed=true loses=true ")
		mustShare("cyd")
		want(outcome(s.unshare(t, s.Admin, "cyd", new(false))), "removed=false loses=false ")
		shares, err := s.Broker.Shares(t.Context(), s.Admin, s.Env, latchkey.KindVariable, s.Password.Name, latchkey.PageOptions{})
		if err != nil {
			t.Fatal(err)
		}
		left := slices.IndexFunc(shares.Items, func(sh latchkey.Share) bool { return sh.Principal == s.cyd.ID })
		if left < 0 || !shares.Items[left].Left || shares.Items[left].Via != s.Credential.ID || shares.Items[left].ViaName != s.Credential.Name {
			t.Errorf("shares of the variable = %+v; want cyd's, left of the credential's", shares.Items)
		}
	})
}

func TestOwnership(t *testing.T) {
	latchkeytest.EachDB(t, func(t *testing.T, url string) {
		s := newSharing(t, url)
		owner := func(kind latchkey.Kind, ref, principal string, keep latchkey.Role, who latchkey.Caller) error {
			_, err := s.Broker.SetOwner(t.Context(), who, s.Env, kind, ref, latchkey.OwnerSet{Principal: principal, Keep: keep})
			return err
		}
		cred := string(s.Credential.ID)
		if err := s.share(t, s.Admin, "ada", latchkey.RoleCoOwner); err != nil {
			t.Fatal(err)
		}
		wantCode(t, owner(latchkey.KindCredential, cred, "ada", "", s.ada), latchkey.ErrDenied, "not-authorized")
		if err := owner(latchkey.KindCredential, cred, "bea", latchkey.RoleUser, s.Admin); err != nil {
			t.Fatal(err)
		}
		if c, v := s.sees(t, s.bea); !c || !v {
			t.Errorf("the new owner sees the credential: %t, its variable: %t; want both", c, v)
		}
		if _, err := s.Broker.UpdateCredential(t.Context(), s.bea, s.Env, s.Credential.ID, latchkey.CredentialUpdate{Exposure: new(latchkey.ExposureSession)}); err != nil {
			t.Errorf("the new owner changes the exposure: %v", err)
		}
		_, err := s.Broker.UpdateCredential(t.Context(), s.Admin, s.Env, s.Credential.ID, latchkey.CredentialUpdate{Name: new("x")})
		wantCode(t, err, latchkey.ErrDenied, "not-authorized")

		// An admin of the environment takes it over, and the owner is told.
		if err := owner(latchkey.KindCredential, cred, "admin", "", s.Admin); err != nil {
			t.Fatal(err)
		}
		notices, err := s.Broker.Notices(t.Context(), s.bea, latchkey.PageOptions{})
		if err != nil || len(notices.Items) != 1 || !strings.Contains(notices.Items[0].Message, "has taken over the credential") {
			t.Errorf("bea's notices = %+v, %v; want one about the credential", notices.Items, err)
		} else if err := s.Broker.DismissNotice(t.Context(), s.ada, notices.Items[0].ID); !errors.Is(err, latchkey.ErrNotFound) {
			t.Errorf("ada puts bea's notice away: %v; want not found", err)
		} else if err := s.Broker.DismissNotice(t.Context(), s.bea, notices.Items[0].ID); err != nil {
			t.Error(err)
		}
		if c, _ := s.sees(t, s.bea); c {
			t.Error("who owned the credential still sees it, without a role on it")
		}
		p, err := s.Broker.Audit(t.Context(), s.Admin, broker.AuditFilter{Environment: s.Env, Action: latchkey.ActCredentialTakeOver}, latchkey.PageOptions{})
		if err != nil || len(p.Items) != 1 || p.Items[0].Details["ownerBefore"] != string(s.bea.ID) {
			t.Errorf("audit = %+v, %v; want the take-over with the owner before", p.Items, err)
		}

		wantField(t, owner(latchkey.KindCredential, cred, "nobody", "", s.Admin), "principal", "no such")
		if _, err := s.Broker.CreateGroup(t.Context(), s.Admin, latchkey.GroupCreate{Name: "Finance"}); err != nil {
			t.Fatal(err)
		}
		wantField(t, owner(latchkey.KindCredential, cred, "Finance", "", s.Admin), "principal", "must be a user or a service principal")

		// A connection's new owner must hold what it binds, and owns its runs.
		conn := string(s.Connection.ID)
		wantField(t, owner(latchkey.KindConnection, conn, "cyd", "", s.Admin), "principal", "may not use the connection's target and credential")
		s.Share(t, latchkey.KindMachine, string(s.Machine.ID), "cyd", latchkey.RoleUser)
		s.Share(t, latchkey.KindCredential, cred, "cyd", latchkey.RoleUser)
		wantField(t, owner(latchkey.KindConnection, conn, "cyd", latchkey.RoleUser, s.Admin), "keep", "not shared with people")
		if err := owner(latchkey.KindConnection, conn, "cyd", "", s.Admin); err != nil {
			t.Fatal(err)
		}
		c, err := s.Broker.Connection(t.Context(), s.cyd, s.Env, s.Connection.ID)
		if err != nil || c.Owner != s.cyd.ID {
			t.Errorf("the connection's owner = %s, %v; want cyd", c.Owner, err)
		}
	})
}

// TestUnshareEndsReleases takes the credential from the owner of a connection whose
// run is under way, by each of the ways that they may have it.
func TestUnshareEndsReleases(t *testing.T) {
	latchkeytest.EachDB(t, func(t *testing.T, url string) {
		s := newSharing(t, url)
		if _, err := s.Broker.CreateGroup(t.Context(), s.Admin, latchkey.GroupCreate{Name: "inner"}); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Broker.CreateGroup(t.Context(), s.Admin, latchkey.GroupCreate{Name: "outer"}); err != nil {
			t.Fatal(err)
		}
		for group, member := range map[string]string{"outer": "inner", "inner": "ada"} {
			if err := s.Broker.AddGroupMember(t.Context(), s.Admin, group, member); err != nil {
				t.Fatal(err)
			}
		}
		s.Share(t, latchkey.KindMachine, string(s.Machine.ID), "ada", latchkey.RoleUser)
		s.Share(t, latchkey.KindFlow, string(s.Flow.ID), "ada", latchkey.RoleUser)
		s.Share(t, latchkey.KindCredential, string(s.Credential.ID), "outer", latchkey.RoleUser)
		conn, err := s.Broker.CreateConnection(t.Context(), s.ada, s.Env, latchkey.ConnectionCreate{
			Name: "ada's", Target: latchkey.Target{Machine: s.Machine.ID}, Driver: latchkey.DriverNone, Credential: s.Credential.ID,
		})
		if err != nil {
			t.Fatal(err)
		}
		// Another server of the installation, where what is below is done; SQLite has one.
		other := s.Broker
		if url != "" {
			other = latchkeytest.New(t, latchkeytest.Options{DatabaseURL: url, Key: s.Key}).Broker
		}
		codes := map[string]string{
			"out of the environment": "owner-left", "deactivated": "owner-disabled", "machine unshared": "owner-lost-machine", "flow unshared": "starter-lost-access",
			"group unshared": "owner-lost-credential", "out of the inner group": "owner-lost-credential", "inner out of the outer group": "owner-lost-credential",
		}
		for name, lose := range map[string]func() (undo func() error, err error){
			"out of the environment": func() (func() error, error) {
				return func() error { return other.SetMember(t.Context(), s.Admin, s.Env, "ada", latchkey.EnvMaker) }, other.SetMember(t.Context(), s.Admin, s.Env, "ada", "")
			},
			"deactivated": func() (func() error, error) {
				set := func(disabled bool) error {
					_, err := other.UpdateUser(t.Context(), s.Admin, "ada", latchkey.UserUpdate{Disabled: &disabled})
					return err
				}
				return func() error { return set(false) }, set(true)
			},
			"machine unshared": func() (func() error, error) {
				_, err := other.Unshare(t.Context(), s.Admin, s.Env, latchkey.KindMachine, string(s.Machine.ID), "ada", nil)
				return func() error {
					_, err := other.SetShare(t.Context(), s.Admin, s.Env, latchkey.KindMachine, string(s.Machine.ID), "ada", latchkey.ShareSet{Role: latchkey.RoleUser})
					return err
				}, err
			},
			"flow unshared": func() (func() error, error) {
				_, err := other.Unshare(t.Context(), s.Admin, s.Env, latchkey.KindFlow, string(s.Flow.ID), "ada", nil)
				return func() error {
					_, err := other.SetShare(t.Context(), s.Admin, s.Env, latchkey.KindFlow, string(s.Flow.ID), "ada", latchkey.ShareSet{Role: latchkey.RoleUser})
					return err
				}, err
			},
			"group unshared": func() (func() error, error) {
				_, err := other.Unshare(t.Context(), s.Admin, s.Env, latchkey.KindCredential, string(s.Credential.ID), "outer", nil)
				return func() error { return s.share(t, s.Admin, "outer", latchkey.RoleUser) }, err
			},
			"out of the inner group": func() (func() error, error) {
				return func() error { return other.AddGroupMember(t.Context(), s.Admin, "inner", "ada") }, other.RemoveGroupMember(t.Context(), s.Admin, "inner", "ada")
			},
			"inner out of the outer group": func() (func() error, error) {
				return func() error { return other.AddGroupMember(t.Context(), s.Admin, "outer", "inner") }, other.RemoveGroupMember(t.Context(), s.Admin, "outer", "inner")
			},
		} {
			t.Run(name, func(t *testing.T) {
				if _, err := s.Broker.StartRun(t.Context(), s.ada, s.Env, latchkey.RunCreate{Flow: s.Flow.ID, Connection: conn.ID}); err != nil {
					t.Fatal(err)
				}
				run := s.Chain.Machine.Claim(t)
				if _, _, err := s.Chain.Machine.Get(t, run, s.Credential.ID); err != nil {
					t.Fatal(err)
				}
				undo, err := lose()
				if err != nil {
					t.Fatal(err)
				}
				_, _, err = s.Chain.Machine.Get(t, run, s.Credential.ID)
				wantDenied(t, err, codes[name])
				s.Chain.Machine.Finish(t, run)
				if err := undo(); err != nil {
					t.Fatal(err)
				}
			})
		}
	})
}

func TestGroups(t *testing.T) {
	latchkeytest.EachDB(t, func(t *testing.T, url string) {
		s := latchkeytest.New(t, latchkeytest.Options{DatabaseURL: url})
		ctx := t.Context()
		if _, err := s.Broker.CreateEnvironment(ctx, s.Admin, latchkey.EnvironmentCreate{Name: "prod"}); err != nil {
			t.Fatal(err)
		}
		ada := s.User(t, "ada", "", "")
		group := func(name string) latchkey.Group {
			t.Helper()
			g, err := s.Broker.CreateGroup(ctx, s.Admin, latchkey.GroupCreate{Name: name})
			if err != nil {
				t.Fatal(err)
			}
			return g
		}
		admins, finance := group("Admins"), group("Finance")
		_, err := s.Broker.CreateGroup(ctx, s.Admin, latchkey.GroupCreate{Name: "finance"})
		wantCode(t, err, latchkey.ErrConflict, "name-taken")
		_, err = s.Broker.CreateGroup(ctx, ada, latchkey.GroupCreate{Name: "ada's"})
		wantCode(t, err, latchkey.ErrDenied, "not-authorized")
		if _, err := s.Broker.Group(ctx, ada, "Finance"); !errors.Is(err, latchkey.ErrNotFound) {
			t.Errorf("ada sees a group that she is not in: %v", err)
		}
		for _, member := range []string{"ada", "Admins"} {
			if err := s.Broker.AddGroupMember(ctx, s.Admin, "Finance", member); err != nil {
				t.Fatal(err)
			}
		}
		if g, err := s.Broker.Group(ctx, ada, "FINANCE"); err != nil || g.ID != finance.ID || g.Members != 2 {
			t.Errorf("ada's group = %+v, %v; want Finance with two members", g, err)
		}
		if p, err := s.Broker.Groups(ctx, ada, latchkey.PageOptions{}); err != nil || len(p.Items) != 1 {
			t.Errorf("ada's groups = %+v, %v; want one", p.Items, err)
		}
		_, err = s.Broker.GroupMembers(ctx, ada, "Finance", latchkey.PageOptions{})
		wantCode(t, err, latchkey.ErrDenied, "not-authorized")
		wantCode(t, s.Broker.DeleteGroup(ctx, ada, "Finance"), latchkey.ErrDenied, "not-authorized")
		wantField(t, s.Broker.AddGroupMember(ctx, s.Admin, "Admins", "Finance"), "principal", "in itself")
		wantField(t, s.Broker.AddGroupMember(ctx, s.Admin, "Admins", "Admins"), "principal", "in itself")
		below := admins.Name
		for i := range latchkey.MaxGroupDepth {
			name := fmt.Sprint("level ", i)
			group(name)
			err := s.Broker.AddGroupMember(ctx, s.Admin, below, name)
			if i < latchkey.MaxGroupDepth-2 {
				if err != nil {
					t.Fatalf("%d levels: %v", i+3, err)
				}
			} else {
				wantCode(t, err, latchkey.ErrConflict, "group-depth")
				break
			}
			below = name
		}

		// An environment keeps an admin, also one by groups.
		if err := s.Broker.SetMember(ctx, s.Admin, "prod", "Finance", latchkey.EnvAdmin); err != nil {
			t.Fatal(err)
		}
		if err := s.Broker.SetMember(ctx, s.Admin, "prod", "admin", ""); err != nil {
			t.Fatalf("the group has an admin left: %v", err)
		}
		if e, err := s.Broker.Environment(ctx, ada, "prod"); err != nil || e.MyRole != latchkey.EnvAdmin {
			t.Errorf("ada's role = %q, %v; want admin by the group", e.MyRole, err)
		}
		wantCode(t, s.Broker.RemoveGroupMember(ctx, s.Admin, "Finance", "ada"), latchkey.ErrConflict, "last-admin")
		wantCode(t, s.Broker.DeleteGroup(ctx, s.Admin, "Finance"), latchkey.ErrConflict, "last-admin")
		if err := s.Broker.SetMember(ctx, ada, "prod", "admin", latchkey.EnvAdmin); err != nil {
			t.Fatal(err)
		}
		if err := s.Broker.DeleteGroup(ctx, s.Admin, "Finance"); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Broker.Environment(ctx, ada, "prod"); !errors.Is(err, latchkey.ErrNotFound) {
			t.Errorf("ada sees the environment though her group is gone: %v", err)
		}
		group("Finance") // the name is free again
	})
}

// TestConnectionOfServicePrincipal gives a program a connection, which it starts runs
// through, and takes it away while one is under way.
func TestConnectionOfServicePrincipal(t *testing.T) {
	latchkeytest.EachDB(t, func(t *testing.T, url string) {
		s := newSharing(t, url)
		ctx := t.Context()
		p, err := s.Broker.CreateServicePrincipal(ctx, s.Admin, latchkey.ServicePrincipalCreate{DisplayName: "Nightly"})
		if err != nil {
			t.Fatal(err)
		}
		program := latchkey.Caller{ID: p.ID, Kind: latchkey.PrincipalService, Name: p.DisplayName}
		if err := s.Broker.SetMember(ctx, s.Admin, s.Env, p.ClientID, latchkey.EnvUser); err != nil {
			t.Fatal(err)
		}
		start := func() error {
			_, err := s.Broker.StartRun(ctx, program, s.Env, latchkey.RunCreate{Flow: s.Flow.ID, Connection: s.Connection.ID})
			return err
		}
		s.Share(t, latchkey.KindFlow, string(s.Flow.ID), p.ClientID, latchkey.RoleUser)
		wantField(t, start(), "connection", "no such connection")
		conn := func(role latchkey.Role) error {
			_, err := s.Broker.SetShare(ctx, s.Admin, s.Env, latchkey.KindConnection, string(s.Connection.ID), p.ClientID, latchkey.ShareSet{Role: role})
			return err
		}
		wantField(t, conn(latchkey.RoleUserShare), "role", "must be one of")
		if err := conn(latchkey.RoleUser); err != nil {
			t.Fatal(err)
		}
		if err := start(); err != nil {
			t.Fatal(err)
		}
		run := s.Chain.Machine.Claim(t)
		if _, _, err := s.Chain.Machine.Get(t, run, s.Credential.ID); err != nil {
			t.Errorf("the secret of the connection's owner, for a run that a program started: %v", err)
		}
		r, err := s.Broker.Run(ctx, program, s.Env, run.Run)
		if err != nil || r.Owner != s.Admin.ID || r.StartedBy != p.ID {
			t.Errorf("run = owner %s, started by %s, %v; want the connection's owner and the program", r.Owner, r.StartedBy, err)
		}
		_, err = s.Broker.UpdateConnection(ctx, program, s.Env, s.Connection.ID, latchkey.ConnectionUpdate{Name: new("mine")})
		wantCode(t, err, latchkey.ErrDenied, "not-authorized")
		_, err = s.Broker.SetShare(ctx, program, s.Env, latchkey.KindConnection, string(s.Connection.ID), p.ClientID, latchkey.ShareSet{Role: latchkey.RoleUser})
		wantCode(t, err, latchkey.ErrDenied, "not-authorized")
		if _, err := s.Broker.Unshare(ctx, s.Admin, s.Env, latchkey.KindConnection, string(s.Connection.ID), string(p.ID), nil); err != nil {
			t.Fatal(err)
		}
		_, _, err = s.Chain.Machine.Get(t, run, s.Credential.ID)
		wantDenied(t, err, "starter-lost-access")
	})
}

// TestUnshareDisabled takes the share of an account away that is disabled: what came
// with it goes as well, and is not there when the account is enabled again.
func TestUnshareDisabled(t *testing.T) {
	s := newSharing(t, "")
	if err := s.share(t, s.Admin, "ada", latchkey.RoleUser); err != nil {
		t.Fatal(err)
	}
	disable := func(disabled bool) {
		t.Helper()
		if _, err := s.Broker.UpdateUser(t.Context(), s.Admin, "ada", latchkey.UserUpdate{Disabled: &disabled}); err != nil {
			t.Fatal(err)
		}
	}
	disable(true)
	u, err := s.unshare(t, s.Admin, "ada", new(true))
	if err != nil || len(u.Variables) != 2 || !u.Variables[0].Loses || !u.Variables[1].Loses {
		t.Errorf("unshared = %+v, %v; want both variables lost", u, err)
	}
	disable(false)
	if c, v := s.sees(t, s.ada); c || v {
		t.Errorf("ada sees the credential: %t, its variable: %t; want neither", c, v)
	}
}

// TestListsWithoutRole lists as a tenant admin who has left the environment, but has
// shares in it: they count for nothing, as they do in decisions.
func TestListsWithoutRole(t *testing.T) {
	s := newSharing(t, "")
	if err := s.Broker.SetMember(t.Context(), s.Admin, s.Env, "ada", latchkey.EnvAdmin); err != nil {
		t.Fatal(err)
	}
	if err := s.Broker.SetMember(t.Context(), s.Admin, s.Env, "admin", ""); err != nil {
		t.Fatal(err)
	}
	_, err := s.Broker.Credential(t.Context(), s.Admin, s.Env, s.Credential.ID)
	if !errors.Is(err, latchkey.ErrNotFound) {
		t.Errorf("the credential: %v; want not found", err)
	}
	p, err := s.Broker.Credentials(t.Context(), s.Admin, s.Env, latchkey.PageOptions{})
	if err != nil || len(p.Items) != 0 {
		t.Errorf("credentials = %+v, %v; want none", p.Items, err)
	}
}

package broker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"latchkey.dev/internal/db"
	"latchkey.dev/internal/latchkeytest/pg"
	"latchkey.dev/internal/seal"
	"latchkey.dev/internal/vault"
	"latchkey.dev/latchkey"
)

// An office is a service with a clock of its own and three users: the admin,
// who is tenant admin, ada and bob.
type office struct {
	*Broker
	t               *testing.T
	admin, ada, bob latchkey.Caller

	mu  sync.Mutex // guards now
	now time.Time
}

// officeSchema is a database with the schema and no rows.
var officeSchema = pg.Template{Fill: func(url string) error {
	d, err := db.Open(context.Background(), db.Config{URL: url, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	return d.Close()
}}

// eachOffice runs f with a new office on each engine.
func eachOffice(t *testing.T, f func(*office)) {
	run := func(t *testing.T, url string) {
		o := &office{t: t, now: time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)}
		log := slog.New(slog.DiscardHandler)
		d, err := db.Open(t.Context(), db.Config{URL: url, Log: log, Now: o.time})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := d.Close(); err != nil {
				t.Errorf("close database: %v", err)
			}
		})
		o.Broker, err = New(t.Context(), Config{
			DB: d, Key: seal.NewKey(), Log: log, Now: o.time,
			OpenVault: func(latchkey.VaultReference, bool) (vault.Vault, error) { return nil, errors.New("no vault here") },
			Inspect:   func(context.Context, vault.Question) []latchkey.CheckResult { return nil },
			VaultURL:  func(string) string { return "" },
		})
		if err != nil {
			t.Fatal(err)
		}
		_, token, err := o.Bootstrap(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		o.admin = o.authenticate(token)
		o.ada, o.bob = o.hire("ada"), o.hire("bob")
		f(o)
	}
	t.Run("SQLite", func(t *testing.T) { run(t, filepath.Join(t.TempDir(), "latchkey.db")) })
	t.Run("PostgreSQL", func(t *testing.T) { run(t, officeSchema.New(t)) })
}

// time is the office's clock: no two transactions have the same time, which
// keeps the audit log in order.
func (o *office) time() time.Time {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.now = o.now.Add(time.Millisecond)
	return o.now
}

// wait lets time pass.
func (o *office) wait(d time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.now = o.now.Add(d)
}

func (o *office) authenticate(token string) latchkey.Caller {
	o.t.Helper()
	who, err := o.Authenticate(o.t.Context(), token)
	if err != nil {
		o.t.Fatal(err)
	}
	return who
}

// hire makes a user with the password of passwordOf.
func (o *office) hire(login string) latchkey.Caller {
	o.t.Helper()
	u, err := o.CreateUser(o.t.Context(), o.admin, latchkey.UserCreate{Login: login})
	if err != nil {
		o.t.Fatal(err)
	}
	err = o.db.Update(o.t.Context(), func(tx *db.Tx) error { return tx.SetPassword(u.ID, stored(passwordOf(login), cheap)) })
	if err != nil {
		o.t.Fatal(err)
	}
	return latchkey.Caller{ID: u.ID, Kind: latchkey.PrincipalUser, Name: u.DisplayName}
}

func passwordOf(login string) string { return "the password of " + login }

// trail returns the audit log as lines: action, outcome, code, actor, subject.
func (o *office) trail(f db.AuditFilter) (lines []string) {
	o.t.Helper()
	err := o.db.View(o.t.Context(), func(tx *db.Tx) error {
		p, err := tx.Audit(f, latchkey.PageOptions{Limit: latchkey.MaxPage})
		for _, e := range p.Items {
			lines = append(lines, strings.TrimSpace(fmt.Sprintf("%s %s %s by %s on %s", e.Action, e.Outcome, e.Code, e.ActorName, e.SubjectName)))
		}
		return err
	})
	if err != nil {
		o.t.Fatal(err)
	}
	return lines
}

// wantTrail compares the lines of the audit log that f chooses.
func (o *office) wantTrail(f db.AuditFilter, want ...string) {
	o.t.Helper()
	if diff := cmp.Diff(want, o.trail(f)); diff != "" {
		o.t.Errorf("audit (-want +got):\n%s", diff)
	}
}

// wantCode checks the kind and code of an error.
func wantCode(t *testing.T, what string, err, kind error, code string) {
	t.Helper()
	e, ok := errors.AsType[*latchkey.Error](err)
	if !ok || !errors.Is(err, kind) || e.Code != code {
		t.Errorf("%s: %v; want %v with code %s", what, err, kind, code)
	}
}

func pointer[T any](v T) *T { return &v }

func TestCreateUser(t *testing.T) {
	eachOffice(t, func(o *office) {
		t, ctx := o.t, o.t.Context()
		o.wait(time.Second)
		since := db.AuditFilter{Since: o.time()}
		u, err := o.CreateUser(ctx, o.admin, latchkey.UserCreate{Login: "eve", DisplayName: "Eve", Password: pointer("correct horse")})
		if err != nil {
			t.Fatal(err)
		}
		want := latchkey.User{
			ID: u.ID, Login: "eve", DisplayName: "Eve", ExternalIdentities: []latchkey.ExternalIdentity{},
			CreatedAt: u.CreatedAt, UpdatedAt: u.CreatedAt,
		}
		if diff := cmp.Diff(want, u); diff != "" {
			t.Errorf("CreateUser (-want +got):\n%s", diff)
		}
		if _, err := o.SignIn(ctx, "Eve", latchkey.NewSecret("correct horse"), Visitor{}); err != nil {
			t.Errorf("signing in: %v", err)
		}

		_, err = o.CreateUser(ctx, o.admin, latchkey.UserCreate{Login: "eve"})
		wantCode(t, "a login twice", err, latchkey.ErrConflict, "name-taken")
		_, err = o.CreateUser(ctx, o.admin, latchkey.UserCreate{Login: "Not A Login", Password: pointer("short")})
		wantCode(t, "a bad login", err, latchkey.ErrInvalid, "invalid")
		for _, password := range []*string{nil, pointer("correct horse")} {
			_, err = o.CreateUser(ctx, o.ada, latchkey.UserCreate{Login: "mallory", Password: password})
			wantCode(t, "a user who is no admin", err, latchkey.ErrDenied, "not-authorized")
		}
		o.wantTrail(since,
			"user.create ok  by admin on eve",
			"sign-in ok  by Eve on eve",
			"user.create denied not-authorized by ada on this installation",
			"user.create denied not-authorized by ada on this installation")
	})
}

func TestVisibleUsers(t *testing.T) {
	eachOffice(t, func(o *office) {
		t, ctx := o.t, o.t.Context()
		for _, ref := range []string{"ada", "ADA", string(o.ada.ID)} {
			for _, who := range []latchkey.Caller{o.admin, o.ada} {
				if u, err := o.User(ctx, who, ref); err != nil || u.Login != "ada" {
					t.Errorf("User(%s, %q) = %q, %v; want ada", who.Name, ref, u.Login, err)
				}
			}
			u, err := o.User(ctx, o.bob, ref)
			wantCode(t, "another user", err, latchkey.ErrNotFound, "not-found")
			if u.Login != "" {
				t.Errorf("the refused User returns %v", u)
			}
		}
		_, missing := o.User(ctx, o.bob, "nobody")
		_, hidden := o.User(ctx, o.bob, "ada")
		if missing.Error() != hidden.Error() {
			t.Errorf("a user who does not exist: %v; one who may not be seen: %v; want the same", missing, hidden)
		}
		if u, err := o.Me(ctx, o.bob); err != nil || u.Login != "bob" {
			t.Errorf("Me(bob) = %q, %v", u.Login, err)
		}
		_, err := o.Me(ctx, latchkey.Caller{ID: latchkey.ServiceIdentity, Kind: latchkey.PrincipalService})
		wantCode(t, "Me of a service principal", err, latchkey.ErrNotFound, "not-found")

		list := func(who latchkey.Caller) (logins []string) {
			p, err := o.Users(ctx, who, latchkey.PageOptions{})
			if err != nil {
				t.Fatal(err)
			}
			for _, u := range p.Items {
				logins = append(logins, u.Login)
			}
			return logins
		}
		if diff := cmp.Diff([]string{"ada", "admin", "bob"}, list(o.admin)); diff != "" {
			t.Errorf("Users(admin) (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff([]string{"bob"}, list(o.bob)); diff != "" {
			t.Errorf("Users(bob) (-want +got):\n%s", diff)
		}
	})
}

func TestUpdateSelf(t *testing.T) {
	eachOffice(t, func(o *office) {
		t, ctx := o.t, o.t.Context()
		session, err := o.SignIn(ctx, "ada", latchkey.NewSecret(passwordOf("ada")), Visitor{})
		if err != nil {
			t.Fatal(err)
		}
		api, err := o.CreateToken(ctx, o.ada, latchkey.TokenCreate{Name: "for the nightly job"})
		if err != nil {
			t.Fatal(err)
		}
		link, _, err := o.SignInLink(ctx, o.ada)
		if err != nil {
			t.Fatal(err)
		}
		o.wait(time.Second)
		since := db.AuditFilter{Since: o.time()}

		for _, current := range []*string{nil, pointer("not the password")} {
			_, err := o.UpdateUser(ctx, o.ada, "ada", latchkey.UserUpdate{Password: pointer("new password!"), CurrentPassword: current})
			wantCode(t, "a new password without the one before", err, latchkey.ErrInvalid, "invalid")
		}
		u, err := o.UpdateUser(ctx, o.ada, "ada", latchkey.UserUpdate{
			DisplayName: pointer("Ada L."), Password: pointer("new password!"), CurrentPassword: pointer(passwordOf("ada")),
		})
		if err != nil {
			t.Fatal(err)
		}
		if u.DisplayName != "Ada L." || u.UpdatedAt.Before(since.Since) {
			t.Errorf("UpdateUser = %+v; want the new display name and time", u)
		}
		_, err = o.Authenticate(ctx, session.Value)
		wantCode(t, "the session before the new password", err, latchkey.ErrUnauthenticated, "token-invalid")
		_, err = o.StartSession(ctx, link, Visitor{})
		wantCode(t, "the link before the new password", err, latchkey.ErrUnauthenticated, "link-invalid")
		o.authenticate(api.Value)
		_, err = o.SignIn(ctx, "ada", latchkey.NewSecret(passwordOf("ada")), Visitor{})
		wantCode(t, "the old password", err, latchkey.ErrUnauthenticated, "sign-in-refused")
		if _, err := o.SignIn(ctx, "ada", latchkey.NewSecret("new password!"), Visitor{}); err != nil {
			t.Errorf("the new password: %v", err)
		}

		refused := []latchkey.UserUpdate{
			{TenantAdmin: pointer(true)},
			{Disabled: pointer(false)},
			{DisplayName: pointer("Root"), ExternalIdentities: &[]latchkey.ExternalIdentity{}},
			{Password: pointer("another password"), TenantAdmin: pointer(true)},
		}
		for i, update := range refused {
			_, err := o.UpdateUser(ctx, o.ada, string(o.ada.ID), update)
			wantCode(t, fmt.Sprintf("change %d of oneself", i), err, latchkey.ErrDenied, "not-authorized")
		}
		for _, update := range []latchkey.UserUpdate{{DisplayName: pointer("x")}, {Password: pointer("another password")}} {
			_, err := o.UpdateUser(ctx, o.ada, "bob", update)
			wantCode(t, "a change of somebody else", err, latchkey.ErrNotFound, "not-found")
		}
		if u, err := o.Me(ctx, o.ada); err != nil || u.DisplayName != "Ada L." || u.TenantAdmin {
			t.Errorf("Me after refused changes = %+v, %v", u, err)
		}
		denied := "user.update denied not-authorized by ada on ada"
		o.wantTrail(since,
			"user.update ok  by ada on ada",
			"sign-in denied link-invalid by Ada L. on Ada L.",
			"sign-in denied sign-in-refused by nobody on ada",
			"sign-in ok  by Ada L. on ada",
			denied, denied, denied, denied)
	})
}

func TestDisable(t *testing.T) {
	eachOffice(t, func(o *office) {
		t, ctx := o.t, o.t.Context()
		api, err := o.CreateToken(ctx, o.ada, latchkey.TokenCreate{Name: "api"})
		if err != nil {
			t.Fatal(err)
		}
		link, _, err := o.SignInLink(ctx, o.ada)
		if err != nil {
			t.Fatal(err)
		}

		if _, err := o.UpdateUser(ctx, o.admin, "ada", latchkey.UserUpdate{Disabled: pointer(true)}); err != nil {
			t.Fatal(err)
		}
		_, err = o.Authenticate(ctx, api.Value)
		wantCode(t, "a token", err, latchkey.ErrUnauthenticated, "account-disabled")
		_, err = o.StartSession(ctx, link, Visitor{})
		wantCode(t, "a link", err, latchkey.ErrUnauthenticated, "account-disabled")
		_, err = o.SignIn(ctx, "ada", latchkey.NewSecret(passwordOf("ada")), Visitor{})
		wantCode(t, "the password", err, latchkey.ErrUnauthenticated, "account-disabled")
		_, err = o.SignIn(ctx, "ada", latchkey.NewSecret("a wrong password"), Visitor{})
		wantCode(t, "a wrong password", err, latchkey.ErrUnauthenticated, "sign-in-refused")
		// A request that was authenticated before.
		_, err = o.CreateToken(ctx, o.ada, latchkey.TokenCreate{Name: "another"})
		wantCode(t, "CreateToken", err, latchkey.ErrUnauthenticated, "account-disabled")
		_, _, err = o.SignInLink(ctx, o.ada)
		wantCode(t, "SignInLink", err, latchkey.ErrUnauthenticated, "account-disabled")
		_, err = o.UpdateUser(ctx, o.ada, "ada", latchkey.UserUpdate{DisplayName: pointer("x")})
		wantCode(t, "UpdateUser", err, latchkey.ErrUnauthenticated, "account-disabled")

		if _, err := o.UpdateUser(ctx, o.admin, "ada", latchkey.UserUpdate{Disabled: pointer(false)}); err != nil {
			t.Fatal(err)
		}
		o.authenticate(api.Value)
	})
}

func TestLastAdmin(t *testing.T) {
	eachOffice(t, func(o *office) {
		t, ctx := o.t, o.t.Context()
		for _, update := range []latchkey.UserUpdate{{Disabled: pointer(true)}, {TenantAdmin: pointer(false)}} {
			_, err := o.UpdateUser(ctx, o.admin, "admin", update)
			wantCode(t, "the last admin", err, latchkey.ErrConflict, "last-admin")
		}
		// A disabled admin does not count.
		for _, update := range []latchkey.UserUpdate{{TenantAdmin: pointer(true)}, {Disabled: pointer(true)}} {
			if _, err := o.UpdateUser(ctx, o.admin, "ada", update); err != nil {
				t.Fatal(err)
			}
		}
		_, err := o.UpdateUser(ctx, o.admin, "admin", latchkey.UserUpdate{Disabled: pointer(true)})
		wantCode(t, "the last enabled admin", err, latchkey.ErrConflict, "last-admin")
		if _, err := o.UpdateUser(ctx, o.admin, "ada", latchkey.UserUpdate{Disabled: pointer(false)}); err != nil {
			t.Fatal(err)
		}

		// Of two admins who disable each other at the same time one stays.
		var wg sync.WaitGroup
		errs := make([]error, 2)
		for i, c := range []struct {
			who latchkey.Caller
			ref string
		}{{o.admin, "ada"}, {o.ada, "admin"}} {
			wg.Go(func() {
				_, errs[i] = o.UpdateUser(ctx, c.who, c.ref, latchkey.UserUpdate{Disabled: pointer(true)})
			})
		}
		wg.Wait()
		if (errs[0] == nil) == (errs[1] == nil) {
			t.Errorf("disabling each other: %v and %v; want one of the two refused", errs[0], errs[1])
		}
	})
}

func TestExternalIdentities(t *testing.T) {
	eachOffice(t, func(o *office) {
		t, ctx := o.t, o.t.Context()
		identity := latchkey.ExternalIdentity{Issuer: "https://id.example", Tenant: "t", ObjectID: "object-7"}
		set := func(ref string, list ...latchkey.ExternalIdentity) (latchkey.User, error) {
			return o.UpdateUser(ctx, o.admin, ref, latchkey.UserUpdate{ExternalIdentities: &list})
		}
		u, err := set("ada", identity)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]latchkey.ExternalIdentity{identity}, u.ExternalIdentities); diff != "" {
			t.Errorf("identities (-want +got):\n%s", diff)
		}
		if _, err := set("ada", identity); err != nil {
			t.Errorf("the same again: %v", err)
		}
		_, err = set("bob", identity)
		wantCode(t, "an identity of another user", err, latchkey.ErrConflict, "identity-taken")
		if !strings.Contains(err.Error(), string(o.ada.ID)) || strings.Contains(err.Error(), identity.ObjectID) {
			t.Errorf("error = %q; want it to name ada, and not to repeat the identity", err)
		}
		_, err = set("bob", latchkey.ExternalIdentity{Issuer: "i", ObjectID: "o"}, latchkey.ExternalIdentity{Issuer: "i", ObjectID: "o"})
		wantCode(t, "one identity twice", err, latchkey.ErrInvalid, "invalid")
		if _, err := set("ada"); err != nil {
			t.Fatal(err)
		}
		if _, err := set("bob", identity); err != nil {
			t.Errorf("an identity that was given up: %v", err)
		}
		o.wantTrail(db.AuditFilter{Action: latchkey.ActIdentityAdd}, "user.identity.add ok  by admin on ada", "user.identity.add ok  by admin on bob")
		o.wantTrail(db.AuditFilter{Action: latchkey.ActIdentityRemove}, "user.identity.remove ok  by admin on ada")
		upper := latchkey.EntraIdentity(tenantA, "AAAAAAAA-0000-0000-0000-000000000001")
		if _, err := set("ada", upper); err != nil {
			t.Fatal(err)
		}
		_, err = o.AddIdentity(ctx, o.admin, "bob", latchkey.EntraIdentity(tenantA, strings.ToLower(upper.ObjectID)))
		wantCode(t, "an identity of another user in other letters", err, latchkey.ErrConflict, "identity-taken")
	})
}

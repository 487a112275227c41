package broker

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"latchkey.dev/internal/db"
	"latchkey.dev/latchkey"
)

func TestAuthenticate(t *testing.T) {
	eachOffice(t, func(o *office) {
		t, ctx := o.t, o.t.Context()
		token, err := o.CreateToken(ctx, o.ada, latchkey.TokenCreate{Name: "api", ExpiresIn: latchkey.Duration(time.Hour)})
		if err != nil {
			t.Fatal(err)
		}
		link, _, err := o.SignInLink(ctx, o.ada)
		if err != nil {
			t.Fatal(err)
		}
		want := latchkey.Caller{ID: o.ada.ID, Kind: latchkey.PrincipalUser, Name: "ada", Token: token.ID}
		if diff := cmp.Diff(want, o.authenticate(token.Value)); diff != "" {
			t.Errorf("Authenticate (-want +got):\n%s", diff)
		}
		for name, value := range map[string]string{
			"empty":       "",
			"no prefix":   strings.TrimPrefix(token.Value, "lk_"),
			"link":        link,
			"a link as":   "lk_" + strings.TrimPrefix(link, "lkl_"),
			"cut":         token.Value[:len(token.Value)-1],
			"longer":      token.Value + "A",
			"very long":   token.Value + strings.Repeat("A", 1<<20),
			"other case":  "lk_" + strings.ToUpper(token.Value[3:]),
			"zero":        "lk_\x00",
			"enrolment":   "lke_" + token.Value[3:],
			"white space": token.Value + "\n",
		} {
			who, err := o.Authenticate(ctx, value)
			wantCode(t, name, err, latchkey.ErrUnauthenticated, "token-invalid")
			if who != (latchkey.Caller{}) {
				t.Errorf("%s: caller %+v; want none", name, who)
			}
			if len(value) > 10 && strings.Contains(err.Error(), value[3:]) {
				t.Errorf("%s: the error repeats the token", name)
			}
		}
		o.wait(time.Hour)
		_, err = o.Authenticate(ctx, token.Value)
		wantCode(t, "an expired token", err, latchkey.ErrUnauthenticated, "token-expired")
		if !strings.Contains(err.Error(), "latchkey login") {
			t.Errorf("error = %q; want it to say what to do", err)
		}
	})
}

func TestLastUse(t *testing.T) {
	eachOffice(t, func(o *office) {
		t, ctx := o.t, o.t.Context()
		token, err := o.CreateToken(ctx, o.ada, latchkey.TokenCreate{Name: "api"})
		if err != nil {
			t.Fatal(err)
		}
		used := func() *time.Time {
			t.Helper()
			p, err := o.Tokens(ctx, o.ada, latchkey.PageOptions{})
			if err != nil || len(p.Items) != 1 {
				t.Fatalf("Tokens = %v, %v; want one", p.Items, err)
			}
			return p.Items[0].LastUsedAt
		}
		if got := used(); got != nil {
			t.Errorf("last use of a new token = %v; want none", got)
		}
		o.authenticate(token.Value)
		first := used()
		if first == nil {
			t.Fatal("the first use was not noted")
		}
		o.wait(30 * time.Second)
		o.authenticate(token.Value)
		if got := used(); !got.Equal(*first) {
			t.Errorf("noted again after half a minute, at %v; want %v", got, first)
		}
		o.wait(time.Minute)
		o.authenticate(token.Value)
		if got := used(); !got.After(*first) {
			t.Errorf("last use = %v; want it later than %v", got, first)
		}
	})
}

// TestLastUseLocked authenticates while nothing can be written.
func TestLastUseLocked(t *testing.T) {
	eachOffice(t, func(o *office) {
		t, ctx := o.t, o.t.Context()
		token, err := o.CreateToken(ctx, o.ada, latchkey.TokenCreate{Name: "api"})
		if err != nil {
			t.Fatal(err)
		}
		locked, done := make(chan struct{}), make(chan struct{})
		ended := make(chan error)
		go func() {
			var once bool
			ended <- o.db.Update(ctx, func(tx *db.Tx) error {
				err := tx.TouchToken(token.ID, tx.Now)
				if !once {
					once = true
					close(locked)
				}
				<-done
				return err
			})
		}()
		<-locked
		o.authenticate(token.Value)
		close(done)
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

func TestOwnTokens(t *testing.T) {
	eachOffice(t, func(o *office) {
		t, ctx := o.t, o.t.Context()
		o.wait(time.Second)
		since := db.AuditFilter{Since: o.time()}
		token, err := o.CreateToken(ctx, o.ada, latchkey.TokenCreate{Name: "nightly"})
		if err != nil {
			t.Fatal(err)
		}
		if got, want := token.ExpiresAt.Sub(token.CreatedAt), latchkey.DefaultTokenTTL; got != want {
			t.Errorf("the token lives for %v; want %v", got, want)
		}
		_, err = o.CreateToken(ctx, o.ada, latchkey.TokenCreate{ExpiresIn: latchkey.Duration(2 * latchkey.MaxTokenTTL)})
		wantCode(t, "a token without a name that lives too long", err, latchkey.ErrInvalid, "invalid")

		p, err := o.Tokens(ctx, o.ada, latchkey.PageOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]latchkey.Token{token.Token}, p.Items); diff != "" {
			t.Errorf("Tokens (-want +got):\n%s", diff)
		}
		for _, who := range []latchkey.Caller{o.bob, o.admin} {
			if p, err := o.Tokens(ctx, who, latchkey.PageOptions{}); err != nil || strings.Contains(names(p.Items), "nightly") {
				t.Errorf("Tokens(%s) = %s, %v; want only its own", who.Name, names(p.Items), err)
			}
			wantCode(t, "revoking somebody else's", o.RevokeToken(ctx, who, token.ID), latchkey.ErrNotFound, "not-found")
		}
		for _, id := range []latchkey.TokenID{"", "x", "tok_\x00"} {
			wantCode(t, "revoking "+string(id), o.RevokeToken(ctx, o.ada, id), latchkey.ErrNotFound, "not-found")
		}
		if err := o.RevokeToken(ctx, o.ada, token.ID); err != nil {
			t.Fatal(err)
		}
		_, err = o.Authenticate(ctx, token.Value)
		wantCode(t, "a revoked token", err, latchkey.ErrUnauthenticated, "token-invalid")
		wantCode(t, "revoking twice", o.RevokeToken(ctx, o.ada, token.ID), latchkey.ErrNotFound, "not-found")
		o.wantTrail(since, "token.create ok  by ada on nightly", "token.revoke ok  by ada on nightly")
	})
}

func names(tokens []latchkey.Token) string {
	var list []string
	for _, t := range tokens {
		list = append(list, t.Name)
	}
	return strings.Join(list, ", ")
}

func TestBootstrap(t *testing.T) {
	eachOffice(t, func(o *office) {
		t, ctx := o.t, o.t.Context()
		o.wantTrail(db.AuditFilter{Actor: "", Action: "user.create", Subject: string(o.admin.ID)},
			"user.create ok  by local administration on admin")
		u, err := o.Me(ctx, o.admin)
		if err != nil || !u.TenantAdmin || u.Login != "admin" {
			t.Errorf("the first admin = %+v, %v", u, err)
		}
		created, token, err := o.Bootstrap(ctx)
		if created || token != "" || err != nil {
			t.Errorf("the second Bootstrap = %t, %q, %v; want nothing done", created, token, err)
		}
		p, err := o.Tokens(ctx, o.admin, latchkey.PageOptions{})
		if err != nil || names(p.Items) != "first admin token" {
			t.Fatalf("tokens of the first admin = %s, %v", names(p.Items), err)
		}
		if got := p.Items[0].ExpiresAt.Sub(p.Items[0].CreatedAt); got != latchkey.AdminTokenTTL {
			t.Errorf("the first token lives for %v; want %v", got, latchkey.AdminTokenTTL)
		}
	})
}

func TestAdminToken(t *testing.T) {
	eachOffice(t, func(o *office) {
		t, ctx := o.t, o.t.Context()
		if _, err := o.UpdateUser(ctx, o.admin, "ada", latchkey.UserUpdate{Disabled: pointer(true)}); err != nil {
			t.Fatal(err)
		}
		o.wait(time.Second)
		since := db.AuditFilter{Since: o.time()}
		for _, login := range []string{"admin", "ada", "carol"} {
			token, err := o.AdminToken(ctx, login, 0)
			if err != nil {
				t.Fatalf("AdminToken(%s): %v", login, err)
			}
			u, err := o.Me(ctx, o.authenticate(token))
			if err != nil || !u.TenantAdmin || u.Login != login {
				t.Errorf("the account of %s = %+v, %v; want an enabled tenant admin", login, u, err)
			}
		}
		const by = " by local administration on "
		o.wantTrail(since,
			"token.create ok "+by+"recovery token",
			"user.update ok "+by+"ada",
			"token.create ok "+by+"recovery token",
			"user.create ok "+by+"carol",
			"token.create ok "+by+"recovery token")
		for login, ttl := range map[string]time.Duration{"": 0, "No Login": 0, "admin": 2 * latchkey.MaxTokenTTL, "dave": -1} {
			token, err := o.AdminToken(ctx, login, ttl)
			wantCode(t, login, err, latchkey.ErrInvalid, "invalid")
			if token != "" {
				t.Errorf("AdminToken(%q, %v) returns a token with its error", login, ttl)
			}
		}
	})
}

package broker

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"latchkey.dev/internal/db"
	"latchkey.dev/latchkey"
)

func TestSignIn(t *testing.T) {
	eachOffice(t, func(o *office) {
		t, ctx := o.t, o.t.Context()
		o.wait(time.Second)
		since := db.AuditFilter{Since: o.time()}
		right := latchkey.NewSecret(passwordOf("ada"))
		token, err := o.SignIn(ctx, "Ada", right, Visitor{Address: "192.0.2.1"})
		if err != nil {
			t.Fatal(err)
		}
		if got, want := token.ExpiresAt.Sub(token.CreatedAt), latchkey.SignInTokenTTL; got != want {
			t.Errorf("the token lives for %v; want %v", got, want)
		}
		if got := o.authenticate(token.Value); got.ID != o.ada.ID || got.Token != token.ID {
			t.Errorf("the token stands for %+v; want ada", got)
		}

		// All that is wrong is answered alike.
		var texts []string
		for _, attempt := range []struct {
			login    string
			password latchkey.Secret
		}{
			{"ada", latchkey.NewSecret("not the password")},
			{"ada", latchkey.Secret{}},
			{"ada", latchkey.NewSecret(strings.Repeat("x", 1<<20))},
			{"admin", right}, // has no password
			{"admin", latchkey.NewSecret("")},
			{"zoe", right},
			{"Some Secret!", right},
			{"\x00\xff", right},
			{"", right},
		} {
			_, err := o.SignIn(ctx, attempt.login, attempt.password, Visitor{Address: "192.0.2.1"})
			wantCode(t, fmt.Sprintf("login %q", attempt.login), err, latchkey.ErrUnauthenticated, "sign-in-refused")
			texts = append(texts, err.Error())
		}
		for _, text := range texts {
			if text != texts[0] {
				t.Errorf("answers %q and %q; want one for all", text, texts[0])
			}
		}
		denied := "sign-in denied sign-in-refused by nobody on"
		o.wantTrail(since, "sign-in ok  by ada on ada",
			denied+" ada", denied+" ada", denied+" ada", denied+" admin", denied+" admin", denied+" zoe", denied, denied, denied)

		p, err := o.Audit(ctx, o.admin, AuditFilter{Since: since.Since, Action: latchkey.ActSignIn}, latchkey.PageOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range p.Items {
			if e.Address != "192.0.2.1" {
				t.Errorf("audit entry %+v; want the address in it", e)
			}
		}
		if text := fmt.Sprintf("%+v", p); strings.Contains(text, right.Reveal()) || strings.Contains(text, token.Value) {
			t.Error("the audit log has the password or the token in it")
		}
		if ok, denied := o.Counts().SignIns.Load(), o.Counts().SignInsDenied.Load(); ok != 1 || denied != 9 {
			t.Errorf("counts = %d, %d; want 1, 9", ok, denied)
		}
	})
}

// TestThrottle tries an account and a login that nobody has: one cannot tell
// them apart.
func TestThrottle(t *testing.T) {
	eachOffice(t, func(o *office) {
		t, ctx := o.t, o.t.Context()
		attempt := func(login, password string) error {
			_, err := o.SignIn(ctx, login, latchkey.NewSecret(password), Visitor{})
			return err
		}
		for _, login := range []string{"ada", "zoe"} {
			for range freeFailures {
				wantCode(t, login, attempt(login, "wrong password"), latchkey.ErrUnauthenticated, "sign-in-refused")
			}
			wantCode(t, login, attempt(login, passwordOf(login)), latchkey.ErrDenied, "sign-in-throttled")
			o.wait(time.Second)
			wantCode(t, login, attempt(login, "wrong password"), latchkey.ErrUnauthenticated, "sign-in-refused")
			o.wait(time.Second)
			wantCode(t, login, attempt(login, passwordOf(login)), latchkey.ErrDenied, "sign-in-throttled")
			o.wait(time.Second)
		}
		if err := attempt("bob", passwordOf("bob")); err != nil {
			t.Errorf("another account: %v", err)
		}
		if err := attempt("ada", passwordOf("ada")); err != nil {
			t.Errorf("the right password after waiting: %v", err)
		}
		// That ends the counting.
		for range freeFailures {
			wantCode(t, "anew", attempt("ada", "wrong password"), latchkey.ErrUnauthenticated, "sign-in-refused")
		}
		err := attempt("ada", passwordOf("ada"))
		wantCode(t, "anew", err, latchkey.ErrDenied, "sign-in-throttled")
		if !strings.Contains(err.Error(), "try again after 2026-11-23T12:") {
			t.Errorf("error = %q; want it to say when to try again", err)
		}
		// So does whoever holds the data folder.
		if _, err := o.AdminToken(ctx, "ada", 0); err != nil {
			t.Fatal(err)
		}
		if err := attempt("ada", passwordOf("ada")); err != nil {
			t.Errorf("after AdminToken: %v", err)
		}
	})
}

// TestMalformedLoginsThrottled tests that what cannot be a login does not fill the
// audit log, and keeps nobody waiting.
func TestMalformedLoginsThrottled(t *testing.T) {
	eachOffice(t, func(o *office) {
		t, ctx := o.t, o.t.Context()
		since := len(o.trail(db.AuditFilter{}))
		for i := range 100 {
			_, err := o.SignIn(ctx, fmt.Sprintf("no login %d", i), latchkey.NewSecret("wrong password"), Visitor{})
			if i < freeFailures {
				wantCode(t, "malformed", err, latchkey.ErrUnauthenticated, "sign-in-refused")
			} else {
				wantCode(t, "malformed", err, latchkey.ErrDenied, "sign-in-throttled")
			}
		}
		if rows := len(o.trail(db.AuditFilter{})) - since; rows != freeFailures {
			t.Errorf("100 malformed logins wrote %d audit events; want %d", rows, freeFailures)
		}
		_, err := o.SignIn(ctx, "zoe", latchkey.NewSecret("wrong password"), Visitor{})
		wantCode(t, "a login that nobody has", err, latchkey.ErrUnauthenticated, "sign-in-refused")
		if _, err := o.SignIn(ctx, "ada", latchkey.NewSecret(passwordOf("ada")), Visitor{}); err != nil {
			t.Errorf("an account: %v", err)
		}
	})
}

// TestThrottleTogether tries many passwords at once.
func TestThrottleTogether(t *testing.T) {
	eachOffice(t, func(o *office) {
		t, ctx := o.t, o.t.Context()
		var wg sync.WaitGroup
		var mu sync.Mutex
		refused := 0
		for range 20 {
			wg.Go(func() {
				_, err := o.SignIn(ctx, "ada", latchkey.NewSecret("wrong password"), Visitor{})
				mu.Lock()
				defer mu.Unlock()
				if e, ok := err.(*latchkey.Error); !ok {
					t.Errorf("SignIn = %v", err)
				} else if e.Code == "sign-in-refused" {
					refused++
				}
			})
		}
		wg.Wait()
		if limit := freeFailures + maxPasswordHashes; refused > limit {
			t.Errorf("%d passwords were tried at once; want at most %d", refused, limit)
		}
	})
}

func TestRetryWait(t *testing.T) {
	for failures, want := range map[int]time.Duration{
		0: 0, 4: 0, 5: time.Second, 6: 2 * time.Second, 14: 512 * time.Second, 15: maxRetryWait, 1000: maxRetryWait,
	} {
		if got := retryWait(failures); got != want {
			t.Errorf("retryWait(%d) = %v; want %v", failures, got, want)
		}
	}
}

// TestRehash signs in with a hash of another cost, which is then made anew.
func TestRehash(t *testing.T) {
	eachOffice(t, func(o *office) {
		t, ctx := o.t, o.t.Context()
		hash := func() (hash string) {
			err := o.db.View(ctx, func(tx *db.Tx) error {
				a, err := tx.Account("ada")
				hash = a.PasswordHash
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			return hash
		}
		if _, err := o.SignIn(ctx, "ada", latchkey.NewSecret("wrong password"), Visitor{}); err == nil {
			t.Error("a wrong password was right")
		}
		if got := hash(); !strings.Contains(got, "m=64,") {
			t.Errorf("hash after a wrong password = %q; want the old one", got)
		}
		for range 2 {
			if _, err := o.SignIn(ctx, "ada", latchkey.NewSecret(passwordOf("ada")), Visitor{}); err != nil {
				t.Fatal(err)
			}
			if got := hash(); !strings.Contains(got, "m=19456,t=2,p=1") {
				t.Errorf("hash after signing in = %q; want one of today's cost", got)
			}
		}
	})
}

func TestSignInLink(t *testing.T) {
	eachOffice(t, func(o *office) {
		t, ctx := o.t, o.t.Context()
		o.wait(time.Second)
		since := db.AuditFilter{Since: o.time()}
		link, expires, err := o.SignInLink(ctx, o.ada)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(link, "lkl_") {
			t.Errorf("link = %.4s…; want it to begin with lkl_", link)
		}
		if got := expires.Sub(since.Since); got < latchkey.SignInLinkTTL || got > latchkey.SignInLinkTTL+time.Second {
			t.Errorf("the link lives for %v; want %v", got, latchkey.SignInLinkTTL)
		}

		// Of several uses at once one counts.
		var wg sync.WaitGroup
		var mu sync.Mutex
		var sessions []string
		for range 5 {
			wg.Go(func() {
				session, err := o.StartSession(ctx, link, Visitor{})
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					sessions = append(sessions, session.Value)
				} else {
					wantCode(t, "a used link", err, latchkey.ErrUnauthenticated, "link-invalid")
				}
			})
		}
		wg.Wait()
		if len(sessions) != 1 || !strings.HasPrefix(sessions[0], "lks_") {
			t.Fatalf("%d sessions; want one that begins with lks_", len(sessions))
		}
		if c, err := o.Continue(ctx, sessions[0], true); err != nil || c.Caller.ID != o.ada.ID || c.Next != "" {
			t.Errorf("the session stands for %+v, %v; want ada", c, err)
		}
		_, err = o.Authenticate(ctx, sessions[0])
		wantCode(t, "a browser's session as an API token", err, latchkey.ErrUnauthenticated, "token-invalid")

		for range 2 {
			if err := o.EndSession(ctx, sessions[0]); err != nil {
				t.Errorf("EndSession: %v", err)
			}
		}
		_, err = o.Continue(ctx, sessions[0], true)
		wantCode(t, "an ended session", err, latchkey.ErrUnauthenticated, "token-invalid")
		denied := "sign-in denied link-invalid by ada on ada"
		o.wantTrail(since, "token.create ok  by ada on sign-in link", "sign-in ok  by ada on ada",
			denied, denied, denied, denied, "token.revoke ok  by ada on browser session")

		late, _, err := o.SignInLink(ctx, o.ada)
		if err != nil {
			t.Fatal(err)
		}
		o.wait(latchkey.SignInLinkTTL)
		_, err = o.StartSession(ctx, late, Visitor{})
		wantCode(t, "a late link", err, latchkey.ErrUnauthenticated, "link-invalid")
		_, _, err = o.SignInLink(ctx, latchkey.Caller{ID: latchkey.ServiceIdentity, Kind: latchkey.PrincipalService})
		wantCode(t, "a link of a service principal", err, latchkey.ErrNotFound, "not-found")
	})
}

func TestStartSessionFaults(t *testing.T) {
	eachOffice(t, func(o *office) {
		t, ctx := o.t, o.t.Context()
		token, err := o.CreateToken(ctx, o.ada, latchkey.TokenCreate{Name: "api"})
		if err != nil {
			t.Fatal(err)
		}
		o.wait(time.Second)
		since := db.AuditFilter{Since: o.time()}
		for _, link := range []string{"", "lkl_", "lkl_unknown", token.Value, "lkl_" + token.Value[3:], strings.Repeat("lkl_", 1<<16)} {
			_, err := o.StartSession(ctx, link, Visitor{})
			wantCode(t, fmt.Sprintf("link %.10q", link), err, latchkey.ErrUnauthenticated, "link-invalid")
		}
		o.wantTrail(since)

		// EndSession leaves API tokens alone.
		for _, value := range []string{"", "x", "lks_unknown", token.Value} {
			if err := o.EndSession(ctx, value); err != nil {
				t.Errorf("EndSession(%.5q) = %v", value, err)
			}
		}
		o.authenticate(token.Value)
	})
}

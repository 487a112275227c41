package broker

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"latchkey.dev/internal/db"
	"latchkey.dev/latchkey"
)

// browse signs somebody in with a browser, and returns the value of the session's
// token.
func (o *office) browse(login string) string {
	o.t.Helper()
	s, err := o.SignIn(o.t.Context(), login, latchkey.NewSecret(passwordOf(login)), Visitor{Address: "192.0.2.7", Client: "Browser/1\n", Browser: true})
	if err != nil {
		o.t.Fatal(err)
	}
	return s.Value
}

func (o *office) goesOn(token string) Continued {
	o.t.Helper()
	c, err := o.Continue(o.t.Context(), token, true)
	if err != nil {
		o.t.Fatal(err)
	}
	return c
}

func (o *office) ended(what, token string) {
	o.t.Helper()
	_, err := o.Continue(o.t.Context(), token, true)
	e, ok := err.(*latchkey.Error)
	if !ok || e.Kind != latchkey.ErrUnauthenticated {
		o.t.Errorf("%s = %v; want that it has ended", what, err)
	}
}

func TestSessionRotates(t *testing.T) {
	eachOffice(t, func(o *office) {
		t := o.t
		one, other := o.browse("ada"), o.browse("ada")
		if one == other || !strings.HasPrefix(one, "lks_") {
			t.Error("two sign-ins give one token, or none of a browser")
		}
		o.wait(40 * time.Minute)
		if c := o.goesOn(one); c.Next != "" {
			t.Error("a token is replaced before it is due")
		}
		// What replaces it is the same for all who ask at the same time.
		o.wait(30 * time.Minute)
		var wg sync.WaitGroup
		var mu sync.Mutex
		next := map[string]int{}
		for range 5 {
			wg.Go(func() {
				c, err := o.Continue(t.Context(), one, true)
				mu.Lock()
				defer mu.Unlock()
				if err != nil || c.Caller.ID != o.ada.ID {
					t.Errorf("Continue = %+v, %v; want ada", c, err)
				}
				next[c.Next]++
			})
		}
		wg.Wait()
		if len(next) != 1 || next[""] > 0 {
			t.Fatalf("%d values replace one", len(next))
		}
		var two string
		for two = range next {
		}
		if c := o.goesOn(two); c.Next != "" || two == one {
			t.Errorf("the new value is replaced by %q", c.Next)
		}
		o.wait(replacedGrace + time.Second)
		o.ended("a value that was replaced a while ago", one)
		if c := o.goesOn(two); c.Caller.ID != o.ada.ID {
			t.Errorf("the session stands for %v", c.Caller)
		}
		// The other one was out of use since.
		o.ended("a session that was not used", other)
	})
}

func TestSessionEnds(t *testing.T) {
	eachOffice(t, func(o *office) {
		t, ctx := o.t, o.t.Context()
		// What pages do by themselves is no use.
		token := o.browse("ada")
		for range 4 {
			o.wait(16 * time.Minute)
			if _, err := o.Continue(ctx, token, false); err != nil {
				break
			}
		}
		o.ended("a session that only its pages used", token)

		// However much it is used, it ends.
		token = o.browse("ada")
		for range 30 {
			o.wait(25 * time.Minute)
			c, err := o.Continue(ctx, token, true)
			if err != nil {
				break
			}
			if c.Next != "" {
				token = c.Next
			}
		}
		o.ended("a session after 12 hours", token)
		for _, other := range []string{"", "lks_", "lks_unknown", token[:20], strings.Repeat("lks_", 1000)} {
			o.ended("no session", other)
		}
		api, err := o.CreateToken(ctx, o.ada, latchkey.TokenCreate{Name: "api"})
		if err != nil {
			t.Fatal(err)
		}
		o.ended("an API token", api.Value)
	})
}

func TestSessionList(t *testing.T) {
	eachOffice(t, func(o *office) {
		t, ctx := o.t, o.t.Context()
		first, second, bobs := o.browse("ada"), o.browse("ada"), o.browse("bob")
		if _, err := o.SignIn(ctx, "ada", latchkey.NewSecret(passwordOf("ada")), Visitor{Client: "cli"}); err != nil {
			t.Fatal(err)
		}
		me := o.goesOn(second).Caller
		p, err := o.Sessions(ctx, me, latchkey.PageOptions{})
		if err != nil || len(p.Items) != 3 {
			t.Fatalf("Sessions = %+v, %v; want three", p.Items, err)
		}
		if s := p.Items[1]; !s.Current || s.Method != "password" || s.Address != "192.0.2.7" || s.Client != "Browser/1" || s.LastUsedAt == nil {
			t.Errorf("session = %+v; want what it was begun with, and that it is this one", s)
		}
		if p.Items[0].Current || p.Items[2].Current || p.Items[0].Client != "cli" {
			t.Errorf("sessions = %+v; want one that is this one", p.Items)
		}
		if err := o.RevokeToken(ctx, me, p.Items[2].ID); err != nil {
			t.Fatal(err)
		}
		o.ended("a session that was ended", first)
		wantCode(t, "ending somebody else's", o.RevokeToken(ctx, o.bob, p.Items[1].ID), latchkey.ErrNotFound, "not-found")
		if n, err := o.EndOtherSessions(ctx, me); err != nil || n.Ended != 1 {
			t.Errorf("EndOtherSessions = %+v, %v; want 1", n, err)
		}
		o.goesOn(second)
		o.goesOn(bobs)
		signIns, err := o.SignIns(ctx, me, latchkey.PageOptions{})
		if err != nil || len(signIns.Items) != 3 || signIns.Items[0].Actor != o.ada.ID {
			t.Errorf("SignIns = %+v, %v; want ada's three", signIns.Items, err)
		}

		// A new password ends the others, and the value of its own token soon.
		third := o.browse("ada")
		if _, err := o.UpdateUser(ctx, me, "ada", latchkey.UserUpdate{Password: pointer("new password!"), CurrentPassword: pointer(passwordOf("ada"))}); err != nil {
			t.Fatal(err)
		}
		o.ended("another session", third)
		c := o.goesOn(second)
		if c.Next == "" {
			t.Error("the session goes on with the token from before the new password")
		}
		o.goesOn(c.Next)
		// One that a tenant admin sets ends them all.
		if _, err := o.UpdateUser(ctx, o.admin, "ada", latchkey.UserUpdate{Password: pointer("newer password!")}); err != nil {
			t.Fatal(err)
		}
		o.ended("a session after its account was given a password", c.Next)
	})
}

func TestThrottleByAddress(t *testing.T) {
	eachOffice(t, func(o *office) {
		t, ctx := o.t, o.t.Context()
		try := func(login, password, address string) error {
			_, err := o.SignIn(ctx, login, latchkey.NewSecret(password), Visitor{Address: address})
			return err
		}
		for i := range freeOfAddress {
			wantCode(t, "a guess", try(fmt.Sprintf("login%d", i), "wrong password", fmt.Sprintf("2001:db8::%x", i)), latchkey.ErrUnauthenticated, "sign-in-refused")
		}
		for _, login := range []string{"ada", "zoe"} {
			err := try(login, passwordOf(login), "2001:db8::ffff")
			wantCode(t, login, err, latchkey.ErrDenied, "sign-in-throttled")
			if !strings.Contains(err.Error(), "from this network address") {
				t.Errorf("error = %v; want what has failed too often", err)
			}
		}
		if err := try("ada", passwordOf("ada"), "2001:db8:1::1"); err != nil {
			t.Errorf("from elsewhere: %v", err)
		}
		o.wait(time.Minute + time.Second)
		if err := try("ada", passwordOf("ada"), "2001:db8::1"); err != nil {
			t.Errorf("after waiting: %v", err)
		}
		for i := range freeOfAddress + 5 {
			wantCode(t, "on this machine", try(fmt.Sprintf("other%d", i), "wrong password", "127.0.0.1"), latchkey.ErrUnauthenticated, "sign-in-refused")
		}
	})
}

// TestSignInTakesTheSame compares what is asked of the database, and how often a
// password is hashed, for whatever is wrong: nothing else takes time.
func TestSignInTakesTheSame(t *testing.T) {
	eachOffice(t, func(o *office) {
		t := o.t
		var first []string
		for _, login := range []string{"ada", "zoe", "admin", "no login", "bob"} {
			var queries []string
			ctx := db.WithTrace(t.Context(), func(query string, _ []any) { queries = append(queries, query) })
			_, err := o.SignIn(ctx, login, latchkey.NewSecret("wrong password"), Visitor{Address: "192.0.2.9"})
			wantCode(t, login, err, latchkey.ErrUnauthenticated, "sign-in-refused")
			if first == nil {
				first = queries
			}
			if !slices.Equal(queries, first) {
				t.Errorf("%s takes other statements:\n%s\nwant\n%s", login, strings.Join(queries, "\n"), strings.Join(first, "\n"))
			}
		}
	})
}

// BenchmarkSignInRefused measures a wrong password of an account beside a login that
// nobody has.
func BenchmarkSignInRefused(b *testing.B) {
	stored := hashPassword(latchkey.NewSecret("the right password"))
	for _, c := range []struct{ name, stored string }{{"account", stored}, {"nobody", ""}} {
		b.Run(c.name, func(b *testing.B) {
			for b.Loop() {
				if right, _, err := checkPassword(c.stored, latchkey.NewSecret("a wrong password")); right || err != nil {
					b.Fatal(right, err)
				}
			}
		})
	}
}

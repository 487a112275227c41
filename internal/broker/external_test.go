package broker

import (
	"slices"
	"strings"
	"testing"
	"time"

	"latchkey.dev/internal/db"
	"latchkey.dev/internal/signon"
	"latchkey.dev/latchkey"
)

// company is a provider that somebody signs in with, and begun an answer to it.
func (o *office) company(change func(*signon.Provider)) (person func(subject string, groups ...string) signon.Person, ceremony func() string) {
	p := signon.Provider{ID: "company", Name: "The company", Issuer: "https://id.example", GroupsClaim: "groups"}
	if change != nil {
		change(&p)
	}
	return func(subject string, groups ...string) signon.Person {
			return signon.Person{
				Provider: &p, External: latchkey.ExternalIdentity{Issuer: p.Issuer, ObjectID: subject}, Login: "Maya.Maker@Example.org", Name: "Maya Maker", Groups: groups,
			}
		}, func() string {
			o.t.Helper()
			c, err := o.SealSignOn(signon.Begun{Provider: p.ID, State: o.time().String()})
			if err != nil {
				o.t.Fatal(err)
			}
			return c
		}
}

func TestSignInExternal(t *testing.T) {
	eachOffice(t, func(o *office) {
		t, ctx := o.t, o.t.Context()
		from := Visitor{Address: "192.0.2.1", Browser: true}
		person, ceremony := o.company(nil)
		_, err := o.SignInExternal(ctx, person("sub-1"), ceremony(), from)
		wantCode(t, "somebody whom nobody knows", err, latchkey.ErrDenied, "identity-unknown")
		for _, want := range []string{"https://id.example", "sub-1", "The company"} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("error = %v; want %q in it", err, want)
			}
		}
		identity := latchkey.ExternalIdentity{Issuer: "https://id.example", ObjectID: "sub-1"}
		if _, err := o.AddIdentity(ctx, o.admin, "ada", identity); err != nil {
			t.Fatal(err)
		}
		used := ceremony()
		s, err := o.SignInExternal(ctx, person("sub-1"), used, from)
		if err != nil {
			t.Fatal(err)
		}
		me := o.goesOn(s.Value).Caller
		if me.ID != o.ada.ID {
			t.Errorf("the session stands for %+v; want ada", me)
		}
		if p, err := o.Sessions(ctx, me, latchkey.PageOptions{}); err != nil || p.Items[0].Method != "oidc:company" {
			t.Errorf("sessions = %+v, %v; want one by the provider", p.Items, err)
		}
		_, err = o.SignInExternal(ctx, person("sub-1"), used, from)
		wantCode(t, "an answer a second time", err, latchkey.ErrUnauthenticated, "ceremony-used")
		late := ceremony()
		o.wait(ceremonyTTL)
		for _, c := range []string{"", "x", late, late[:len(late)-2], strings.Repeat("A", 5000)} {
			_, err = o.SignInExternal(ctx, person("sub-1"), c, from)
			wantCode(t, "no answer", err, latchkey.ErrUnauthenticated, "ceremony-invalid")
		}
		if _, err := o.UpdateUser(ctx, o.admin, "ada", latchkey.UserUpdate{Disabled: pointer(true)}); err != nil {
			t.Fatal(err)
		}
		_, err = o.SignInExternal(ctx, person("sub-1"), ceremony(), from)
		wantCode(t, "a disabled account", err, latchkey.ErrUnauthenticated, "account-disabled")
	})
}

func TestFollowGroups(t *testing.T) {
	eachOffice(t, func(o *office) {
		t, ctx := o.t, o.t.Context()
		from := Visitor{Browser: true}
		link := func(id string) *latchkey.ExternalGroup {
			return &latchkey.ExternalGroup{Issuer: "https://id.example", ID: id}
		}
		for _, name := range []string{"makers", "ops"} {
			if _, err := o.CreateGroup(ctx, o.admin, latchkey.GroupCreate{Name: name, External: link("/" + name)}); err != nil {
				t.Fatal(err)
			}
		}
		_, err := o.CreateGroup(ctx, o.admin, latchkey.GroupCreate{Name: "again", External: link("/ops")})
		wantCode(t, "a link that another group has", err, latchkey.ErrConflict, "link-taken")
		if _, err := o.CreateGroup(ctx, o.admin, latchkey.GroupCreate{Name: "own"}); err != nil {
			t.Fatal(err)
		}
		wantCode(t, "somebody by hand", o.AddGroupMember(ctx, o.admin, "ops", "bob"), latchkey.ErrConflict, "group-linked")
		if err := o.AddGroupMember(ctx, o.admin, "own", "ada"); err != nil {
			t.Fatal(err)
		}
		if _, err := o.AddIdentity(ctx, o.admin, "ada", latchkey.ExternalIdentity{Issuer: "https://id.example", ObjectID: "sub-1"}); err != nil {
			t.Fatal(err)
		}
		person, ceremony := o.company(nil)
		for _, c := range []struct {
			says, want []string
		}{
			{[]string{"/ops", "/unknown"}, []string{"ops", "own"}},
			{[]string{"/ops", "/makers"}, []string{"makers", "ops", "own"}},
			{[]string{"/makers"}, []string{"makers", "own"}},
			{nil, []string{"own"}},
		} {
			if _, err := o.SignInExternal(ctx, person("sub-1", c.says...), ceremony(), from); err != nil {
				t.Fatal(err)
			}
			p, err := o.Groups(ctx, o.ada, latchkey.PageOptions{})
			var got []string
			for _, g := range p.Items {
				got = append(got, g.Name)
			}
			if err != nil || !slices.Equal(got, c.want) {
				t.Errorf("with %v ada is in %v, %v; want %v", c.says, got, err, c.want)
			}
		}
		set := 0
		for _, line := range o.trail(db.AuditFilter{Action: latchkey.ActGroupMember, Actor: o.ada.ID}) {
			if strings.Contains(line, "ok") {
				set++
			}
		}
		if set != 4 {
			t.Errorf("%d changes of groups are on record by ada; want 4", set)
		}
		// Whoever is in it stays when the link is taken away.
		if g, err := o.UpdateGroup(ctx, o.admin, "ops", latchkey.GroupUpdate{External: &latchkey.ExternalGroup{}}); err != nil || g.External != nil {
			t.Errorf("UpdateGroup = %+v, %v; want no link", g, err)
		}
		if err := o.AddGroupMember(ctx, o.admin, "ops", "bob"); err != nil {
			t.Error(err)
		}
	})
}

func TestWelcome(t *testing.T) {
	eachOffice(t, func(o *office) {
		t, ctx := o.t, o.t.Context()
		if _, err := o.CreateEnvironment(ctx, o.admin, latchkey.EnvironmentCreate{Name: "production"}); err != nil {
			t.Fatal(err)
		}
		person, ceremony := o.company(func(p *signon.Provider) {
			p.CreateAccounts = true
			p.Environments = map[string]latchkey.EnvironmentRole{"production": latchkey.EnvUser, "gone": latchkey.EnvMaker}
		})
		for i, want := range []string{"maya.maker@example.org", "maya.maker@example.org-2"} {
			s, err := o.SignInExternal(ctx, person(want), ceremony(), Visitor{Browser: true})
			if err != nil {
				t.Fatal(err)
			}
			u, err := o.Me(ctx, o.goesOn(s.Value).Caller)
			if err != nil || u.Login != want || u.DisplayName != "Maya Maker" || u.TenantAdmin || len(u.ExternalIdentities) != 1 {
				t.Errorf("account %d = %+v, %v; want %s", i, u, err, want)
			}
			e, err := o.Environment(ctx, o.goesOn(s.Value).Caller, "production")
			if err != nil || e.MyRole != latchkey.EnvUser {
				t.Errorf("environment = %+v, %v; want the role user", e, err)
			}
			// Again it is the same account.
			again, err := o.SignInExternal(ctx, person(want), ceremony(), Visitor{Browser: true})
			if err != nil || again.Principal != u.ID {
				t.Errorf("the second sign-in is of %v, %v; want %v", again.Principal, err, u.ID)
			}
		}
	})
}

func TestLoginOf(t *testing.T) {
	for from, want := range map[string]string{
		"Maya@Example.org": "maya@example.org", "": "person", "ÄÖ": "person", "--a b!--": "ab", strings.Repeat("x", 300): strings.Repeat("x", 90),
		"11111111-1111-1111-1111-111111111111": "person",
	} {
		if got := loginOf(from); got != want {
			t.Errorf("loginOf(%q) = %q; want %q", from, got, want)
		}
	}
}

func TestSetUp(t *testing.T) {
	eachOffice(t, func(o *office) {
		t, ctx := o.t, o.t.Context()
		first, _, err := o.SetupLink(ctx)
		if err != nil {
			t.Fatal(err)
		}
		second, _, err := o.SetupLink(ctx)
		if err != nil {
			t.Fatal(err)
		}
		password := "correct horse"
		try := func(code, login string) (latchkey.NewToken, error) {
			return o.SetUp(ctx, code, latchkey.UserCreate{Login: login, DisplayName: "Root", Password: &password}, Visitor{})
		}
		for _, code := range []string{"", "lki_unknown", first, "lk_" + second[4:]} {
			_, err := try(code, "root")
			wantCode(t, "no link", err, latchkey.ErrUnauthenticated, "link-invalid")
		}
		_, err = try(second, "Not A Login")
		wantCode(t, "no login", err, latchkey.ErrInvalid, "invalid")
		_, err = try(second, "ada")
		wantCode(t, "a login that somebody signs in with", err, latchkey.ErrConflict, "name-taken")
		s, err := try(second, "admin") // made for programs
		if err != nil {
			t.Fatal(err)
		}
		if u, err := o.Me(ctx, o.goesOn(s.Value).Caller); err != nil || u.ID != o.admin.ID || u.DisplayName != "Root" || !u.TenantAdmin {
			t.Errorf("Me = %+v, %v; want the first admin", u, err)
		}
		if _, err := o.SignIn(ctx, "admin", latchkey.NewSecret(password), Visitor{}); err != nil {
			t.Errorf("the password: %v", err)
		}
		_, err = try(second, "root")
		wantCode(t, "a used link", err, latchkey.ErrUnauthenticated, "link-invalid")
		third, _, err := o.SetupLink(ctx)
		if err != nil {
			t.Fatal(err)
		}
		_, err = try(third, "admin")
		wantCode(t, "an account that somebody signs in with", err, latchkey.ErrConflict, "name-taken")
		if _, err := try(third, "root"); err != nil {
			t.Errorf("another admin: %v", err)
		}
		late, _, err := o.SetupLink(ctx)
		if err != nil {
			t.Fatal(err)
		}
		o.wait(latchkey.SignInLinkTTL + time.Second)
		_, err = try(late, "late")
		wantCode(t, "a late link", err, latchkey.ErrUnauthenticated, "link-invalid")
	})
}

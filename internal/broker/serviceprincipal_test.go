package broker

import (
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"latchkey.dev/internal/db"
	"latchkey.dev/latchkey"
)

// program makes a service principal.
func (o *office) program(name string) latchkey.ServicePrincipal {
	o.t.Helper()
	p, err := o.CreateServicePrincipal(o.t.Context(), o.admin, latchkey.ServicePrincipalCreate{DisplayName: name})
	if err != nil {
		o.t.Fatal(err)
	}
	return p
}

// prove gives a service principal a credential.
func (o *office) prove(p latchkey.ServicePrincipal, c latchkey.ServicePrincipalCredentialCreate) latchkey.NewServicePrincipalCredential {
	o.t.Helper()
	n, err := o.AddServicePrincipalCredential(o.t.Context(), o.admin, p.ClientID, c)
	if err != nil {
		o.t.Fatal(err)
	}
	return n
}

func secretProof(p latchkey.ServicePrincipal, secret string) ServicePrincipalProof {
	return ServicePrincipalProof{ClientID: p.ClientID, Secret: latchkey.NewSecret(secret), Address: "192.0.2.1"}
}

// codeOf returns the code of an error of the vocabulary, or what it is otherwise.
func codeOf(err error) string {
	if err == nil {
		return "ok"
	}
	if e, ok := errors.AsType[*latchkey.Error](err); ok {
		return e.Code
	}
	return err.Error()
}

func TestServicePrincipal(t *testing.T) {
	eachOffice(t, func(o *office) {
		ctx := o.t.Context()
		p := o.program("Deploy")
		if !latchkey.IsGUID(p.ClientID) || p.ClientID != strings.ToLower(p.ClientID) {
			o.t.Errorf("client id = %q; want a GUID in lower case", p.ClientID)
		}
		n := o.prove(p, latchkey.ServicePrincipalCredentialCreate{Kind: latchkey.ProofSecret, Name: "CI"})
		o.prove(p, latchkey.ServicePrincipalCredentialCreate{Kind: latchkey.ProofFederated, Issuer: "https://ci.example", Subject: "repo:a"})
		for _, ref := range []string{string(p.ID), p.ClientID, strings.ToUpper(p.ClientID)} {
			got, err := o.ServicePrincipal(ctx, o.admin, ref)
			if err != nil || got.ID != p.ID || len(got.Credentials) != 2 || got.Credentials[0].Name != "CI" {
				o.t.Errorf("ServicePrincipal(%q) = %+v, %v", ref, got, err)
			}
		}
		who, err := o.AuthenticateServicePrincipal(ctx, secretProof(p, n.Secret))
		if err != nil || who.ID != p.ID || who.Kind != latchkey.PrincipalService || who.Name != "Deploy" {
			o.t.Fatalf("authenticated %+v, %v", who, err)
		}

		// It sees itself, alone, and changes nothing.
		o.program("Other")
		if page, err := o.ServicePrincipals(ctx, who, latchkey.PageOptions{}); err != nil || len(page.Items) != 1 || page.Items[0].ID != p.ID || page.Items[0].Credentials[0].LastUsedAt == nil {
			o.t.Errorf("it lists %+v, %v; want itself, with the time of the secret's use", page.Items, err)
		}
		if page, err := o.ServicePrincipals(ctx, o.admin, latchkey.PageOptions{Limit: 1}); err != nil || len(page.Items) != 1 || page.Next == "" {
			o.t.Errorf("the admin's first page = %+v, %v", page, err)
		}
		if page, err := o.ServicePrincipals(ctx, o.ada, latchkey.PageOptions{}); err != nil || len(page.Items) != 0 {
			o.t.Errorf("a stranger lists %+v, %v; want nothing", page.Items, err)
		}
		name := "Else"
		if _, err := o.CreateToken(ctx, who, latchkey.TokenCreate{Name: "long"}); codeOf(err) != "service-principal-token" {
			o.t.Errorf("a service principal makes an API token: %v", err)
		}

		// Who may not see one learns nothing (law 5); itself is refused.
		for _, tt := range []struct {
			who  latchkey.Caller
			ref  string
			want error
		}{
			{o.ada, string(p.ID), latchkey.ErrNotFound},
			{o.ada, p.ClientID, latchkey.ErrNotFound},
			{who, string(p.ID), latchkey.ErrDenied},
			{o.admin, string(latchkey.ServiceIdentity), latchkey.ErrNotFound},
			{o.admin, string(o.ada.ID), latchkey.ErrNotFound},
			{o.admin, "ada", latchkey.ErrNotFound},
			{o.admin, "\x00", latchkey.ErrNotFound},
		} {
			if _, err := o.UpdateServicePrincipal(ctx, tt.who, tt.ref, latchkey.ServicePrincipalUpdate{DisplayName: &name}); !errors.Is(err, tt.want) {
				o.t.Errorf("%s updates %q: %v; want %v", tt.who.Name, tt.ref, err, tt.want)
			}
			if err := o.DeleteServicePrincipal(ctx, tt.who, tt.ref); !errors.Is(err, tt.want) {
				o.t.Errorf("%s deletes %q: %v; want %v", tt.who.Name, tt.ref, err, tt.want)
			}
			if _, err := o.AddServicePrincipalCredential(ctx, tt.who, tt.ref, latchkey.ServicePrincipalCredentialCreate{Kind: latchkey.ProofSecret}); !errors.Is(err, tt.want) {
				o.t.Errorf("%s adds a credential to %q: %v; want %v", tt.who.Name, tt.ref, err, tt.want)
			}
			if err := o.RemoveServicePrincipalCredential(ctx, tt.who, tt.ref, n.ID); !errors.Is(err, tt.want) {
				o.t.Errorf("%s removes a credential of %q: %v; want %v", tt.who.Name, tt.ref, err, tt.want)
			}
		}
		if _, err := o.CreateServicePrincipal(ctx, o.ada, latchkey.ServicePrincipalCreate{DisplayName: "Mine"}); !errors.Is(err, latchkey.ErrDenied) {
			o.t.Errorf("a stranger makes a service principal: %v", err)
		}
		if _, err := o.ServicePrincipal(ctx, o.ada, p.ClientID); !errors.Is(err, latchkey.ErrNotFound) {
			o.t.Errorf("a stranger sees one: %v", err)
		}

		if _, err := o.CreateServicePrincipal(ctx, o.admin, latchkey.ServicePrincipalCreate{DisplayName: "deploy"}); codeOf(err) != "name-taken" {
			o.t.Errorf("a second one of the name: %v", err)
		}
		other := "OTHER"
		if _, err := o.UpdateServicePrincipal(ctx, o.admin, p.ClientID, latchkey.ServicePrincipalUpdate{DisplayName: &other}); codeOf(err) != "name-taken" {
			o.t.Errorf("renamed to a name that is taken: %v", err)
		}
		text := "puts things live"
		if got, err := o.UpdateServicePrincipal(ctx, o.admin, p.ClientID, latchkey.ServicePrincipalUpdate{DisplayName: &name, Description: &text}); err != nil || got.DisplayName != name || got.Description != text {
			o.t.Errorf("updated = %+v, %v", got, err)
		}
		trail := strings.Join(o.trail(db.AuditFilter{}), "\n")
		for _, want := range []string{
			"service-principal.create ok  by admin on Deploy",
			"service-principal.credential.add ok  by admin on Deploy",
			"sign-in ok  by Deploy on Deploy",
			"service-principal.update ok  by admin on Else",
			"service-principal.update denied not-authorized by Deploy on Deploy",
			"service-principal.create denied not-authorized by ada on this installation",
		} {
			if !strings.Contains(trail, want) {
				o.t.Errorf("the audit log lacks %q:\n%s", want, trail)
			}
		}
		if strings.Contains(trail, n.Secret) {
			o.t.Error("the audit log has the secret")
		}
	})
}

// TestServicePrincipalEnds tests that one that is disabled or deleted can do
// nothing any more, whatever it holds, and is answered as a guesser.
func TestServicePrincipalEnds(t *testing.T) {
	eachOffice(t, func(o *office) {
		ctx := o.t.Context()
		if _, err := o.CreateEnvironment(ctx, o.admin, latchkey.EnvironmentCreate{Name: "main"}); err != nil {
			o.t.Fatal(err)
		}
		v, err := o.CreateVault(ctx, o.admin, latchkey.EmbeddedVaultCreate{Name: "erp"})
		if err != nil {
			o.t.Fatal(err)
		}
		p := o.program("Deploy")
		n := o.prove(p, latchkey.ServicePrincipalCredentialCreate{Kind: latchkey.ProofSecret})
		if err := o.SetMember(ctx, o.admin, "main", strings.ToUpper(p.ClientID), latchkey.EnvMaker); err != nil {
			o.t.Fatal(err)
		}
		if _, err := o.AssignRole(ctx, o.admin, v.Name, latchkey.RoleAssignmentCreate{Principal: latchkey.PrincipalID(p.ClientID), Role: latchkey.VaultSecretsUser}); err != nil {
			o.t.Fatal(err)
		}
		members, err := o.Members(ctx, o.admin, "main", latchkey.PageOptions{})
		if err != nil || !slices.ContainsFunc(members.Items, func(m latchkey.Member) bool {
			return m.Principal == p.ID && m.Kind == latchkey.PrincipalService && m.ClientID == p.ClientID && m.Name == "Deploy"
		}) {
			o.t.Errorf("members = %+v, %v; want the service principal among them", members.Items, err)
		}
		signIn := func() (latchkey.Caller, string, string) {
			o.t.Helper()
			token, err := o.SignInServicePrincipal(ctx, secretProof(p, n.Secret))
			if err != nil {
				o.t.Fatal(err)
			}
			if ttl := token.ExpiresAt.Sub(token.CreatedAt); ttl != latchkey.ServicePrincipalTokenTTL || token.Principal != p.ID {
				o.t.Errorf("token of %s for %v", token.Principal, ttl)
			}
			who := o.authenticate(token.Value)
			vaultToken, _, err := o.VaultToken(ctx, who)
			if err != nil {
				o.t.Fatal(err)
			}
			if got, err := o.AuthenticateVault(ctx, vaultToken); err != nil || got.ID != p.ID {
				o.t.Fatalf("vault token of %+v, %v", got, err)
			}
			if _, err := o.Environment(ctx, who, "main"); err != nil {
				o.t.Fatalf("a member does not see its environment: %v", err)
			}
			return who, token.Value, vaultToken
		}
		ended := func(who latchkey.Caller, token, vaultToken string) {
			o.t.Helper()
			if _, err := o.Authenticate(ctx, token); codeOf(err) != "account-disabled" {
				o.t.Errorf("its API token: %v; want account-disabled", err)
			}
			if _, err := o.AuthenticateVault(ctx, vaultToken); codeOf(err) != "account-disabled" {
				o.t.Errorf("its vault token: %v; want account-disabled", err)
			}
			if _, err := o.Environment(ctx, who, "main"); !errors.Is(err, latchkey.ErrNotFound) {
				o.t.Errorf("it still sees its environment: %v", err)
			}
			if page, err := o.Vaults(ctx, who, latchkey.PageOptions{}); err != nil || len(page.Items) != 0 {
				o.t.Errorf("it still sees its vault: %+v, %v", page.Items, err)
			}
			right, err := o.SignInServicePrincipal(ctx, secretProof(p, n.Secret))
			_, wrong := o.SignInServicePrincipal(ctx, secretProof(p, "lkc_wrong"))
			if err == nil || right.Value != "" || err.Error() != wrong.Error() || codeOf(err) != latchkey.CodeSecretWrong {
				o.t.Errorf("answered %v; want what a wrong secret is answered, %v", err, wrong)
			}
			if trail := o.trail(db.AuditFilter{Action: latchkey.ActSignIn}); !slices.Contains(trail, "sign-in denied client-disabled by nobody on Deploy") {
				o.t.Errorf("the audit log does not say why: %q", trail)
			}
		}
		epoch := func() (n int64) {
			o.t.Helper()
			e, err := o.Environment(ctx, o.admin, "main")
			if err != nil {
				o.t.Fatal(err)
			}
			if err := o.db.View(ctx, func(tx *db.Tx) (err error) {
				n, _, err = tx.Epoch(e.ID, "")
				return err
			}); err != nil {
				o.t.Fatal(err)
			}
			return n
		}
		who, token, vaultToken := signIn()
		yes, no := true, false
		before := epoch()
		if _, err := o.UpdateServicePrincipal(ctx, o.admin, p.ClientID, latchkey.ServicePrincipalUpdate{Disabled: &yes}); err != nil {
			o.t.Fatal(err)
		}
		if epoch() == before {
			o.t.Error("disabling did not bump the environment's authorization epoch")
		}
		ended(who, token, vaultToken)
		if _, err := o.UpdateServicePrincipal(ctx, o.admin, p.ClientID, latchkey.ServicePrincipalUpdate{Disabled: &no}); err != nil {
			o.t.Fatal(err)
		}
		who, token, vaultToken = signIn()
		before = epoch()
		if err := o.DeleteServicePrincipal(ctx, o.admin, p.ClientID); err != nil {
			o.t.Fatal(err)
		}
		if epoch() == before {
			o.t.Error("deleting did not bump the environment's authorization epoch")
		}
		ended(who, token, vaultToken)
		if _, err := o.ServicePrincipal(ctx, o.admin, string(p.ID)); !errors.Is(err, latchkey.ErrNotFound) {
			o.t.Errorf("a deleted one is shown: %v", err)
		}
		if members, err = o.Members(ctx, o.admin, "main", latchkey.PageOptions{}); err != nil || len(members.Items) != 1 {
			o.t.Errorf("members = %+v, %v; want the admin alone", members.Items, err)
		}
		roles, err := o.RoleAssignments(ctx, o.admin, v.Name, latchkey.PageOptions{})
		if err != nil || slices.ContainsFunc(roles.Items, func(a latchkey.RoleAssignment) bool { return a.Principal == p.ID }) {
			o.t.Errorf("role assignments = %+v, %v; want none of the deleted one", roles.Items, err)
		}
		if err := o.SetMember(ctx, o.admin, "main", string(p.ID), latchkey.EnvMaker); !errors.Is(err, latchkey.ErrNotFound) {
			o.t.Errorf("a deleted one is made member: %v", err)
		}
		o.program("Deploy") // its name is free
	})
}

func TestClientSecrets(t *testing.T) {
	eachOffice(t, func(o *office) {
		ctx := o.t.Context()
		p := o.program("Deploy")
		first := o.prove(p, latchkey.ServicePrincipalCredentialCreate{Kind: latchkey.ProofSecret, Name: "first", ExpiresIn: latchkey.Duration(time.Hour)})
		second := o.prove(p, latchkey.ServicePrincipalCredentialCreate{Kind: latchkey.ProofSecret, Name: "second"})
		if !strings.HasPrefix(second.Secret, "lkc_") || len(second.Secret) < 40 {
			o.t.Errorf("a secret of %d bytes", len(second.Secret))
		}
		if ttl := second.ExpiresAt.Sub(second.CreatedAt); ttl != latchkey.DefaultClientSecretTTL {
			o.t.Errorf("a secret lasts %v; want %v", ttl, latchkey.DefaultClientSecretTTL)
		}
		one, err := o.SignInServicePrincipal(ctx, secretProof(p, first.Secret))
		if err != nil {
			o.t.Fatal(err)
		}
		byID := secretProof(p, second.Secret)
		byID.ClientID = string(p.ID)
		two, err := o.SignInServicePrincipal(ctx, byID)
		if err != nil {
			o.t.Fatal(err)
		}
		// What a removed credential gave ends, and nothing else does.
		if err := o.RemoveServicePrincipalCredential(ctx, o.admin, string(p.ID), "spc_00000000000000000000000000"); !errors.Is(err, latchkey.ErrNotFound) {
			o.t.Errorf("removed a credential that is none: %v", err)
		}
		if err := o.RemoveServicePrincipalCredential(ctx, o.admin, string(p.ID), second.ID); err != nil {
			o.t.Fatal(err)
		}
		if _, err := o.Authenticate(ctx, two.Value); codeOf(err) != "token-invalid" {
			o.t.Errorf("the token of a removed credential: %v", err)
		}
		o.authenticate(one.Value)
		check := func(proof ServicePrincipalProof, want string) {
			o.t.Helper()
			_, err := o.AuthenticateServicePrincipal(ctx, proof)
			if codeOf(err) != want {
				o.t.Errorf("authenticated with %v; want %s", err, want)
			}
			if err != nil && strings.Contains(err.Error(), first.Secret) {
				o.t.Errorf("the error repeats the secret: %v", err)
			}
		}
		check(secretProof(p, second.Secret), latchkey.CodeSecretWrong)
		o.wait(time.Hour)
		check(secretProof(p, first.Secret), latchkey.CodeSecretExpired)
		check(secretProof(p, first.Secret+"x"), latchkey.CodeSecretWrong)
		check(ServicePrincipalProof{ClientID: latchkey.NewGUID(), Secret: latchkey.NewSecret(first.Secret)}, latchkey.CodeClientUnknown)
		check(ServicePrincipalProof{ClientID: "admin", Secret: latchkey.NewSecret(first.Secret)}, latchkey.CodeClientUnknown)
		check(ServicePrincipalProof{ClientID: string(latchkey.ServiceIdentity), Secret: latchkey.NewSecret(first.Secret)}, latchkey.CodeClientUnknown)
		check(ServicePrincipalProof{ClientID: p.ClientID}, "invalid")
		check(ServicePrincipalProof{ClientID: p.ClientID, Secret: latchkey.NewSecret("a"), Assertion: "b"}, "invalid")

		for i := range latchkey.MaxServicePrincipalCredentials {
			_, err := o.AddServicePrincipalCredential(ctx, o.admin, p.ClientID, latchkey.ServicePrincipalCredentialCreate{Kind: latchkey.ProofSecret})
			if want := map[bool]string{true: "ok", false: "too-many"}[i < latchkey.MaxServicePrincipalCredentials-1]; codeOf(err) != want {
				o.t.Fatalf("secret %d: %v; want %s", i+2, err, want)
			}
		}
	})
}

// TestClientThrottled tests that wrong proofs have to wait, are not recorded
// meanwhile, and lock nobody out.
func TestClientThrottled(t *testing.T) {
	eachOffice(t, func(o *office) {
		ctx := o.t.Context()
		p := o.program("Deploy")
		n := o.prove(p, latchkey.ServicePrincipalCredentialCreate{Kind: latchkey.ProofSecret})
		unknown := latchkey.ServicePrincipal{ClientID: latchkey.NewGUID()}
		for _, of := range []latchkey.ServicePrincipal{p, unknown} {
			try := secretProof(of, "lkc_guess")
			for i := range freeFailures {
				if i%2 == 1 && of.ID != "" {
					try.ClientID = string(of.ID) // the same counter
				}
				if _, err := o.AuthenticateServicePrincipal(ctx, try); !errors.Is(err, latchkey.ErrUnauthenticated) {
					o.t.Fatalf("guess %d: %v", i, err)
				}
			}
			before := len(o.trail(db.AuditFilter{}))
			if _, err := o.AuthenticateServicePrincipal(ctx, try); codeOf(err) != latchkey.CodeSignInThrottled || !errors.Is(err, latchkey.ErrDenied) {
				o.t.Errorf("after %d guesses: %v; want to wait", freeFailures, err)
			}
			if after := len(o.trail(db.AuditFilter{})); after != before {
				o.t.Errorf("a guess that had to wait is recorded")
			}
		}
		if _, err := o.AuthenticateServicePrincipal(ctx, secretProof(p, n.Secret)); err != nil {
			o.t.Errorf("the program is locked out by others' guesses: %v", err)
		}
		if _, err := o.AuthenticateServicePrincipal(ctx, secretProof(p, "lkc_guess")); codeOf(err) != latchkey.CodeSecretWrong {
			o.t.Errorf("after a right proof: %v; want no wait", err)
		}
	})
}

// TestUnknownClientsThrottled tests that client ids which nothing has, however many,
// write a bounded number of rows, and keep nobody else waiting.
func TestUnknownClientsThrottled(t *testing.T) {
	eachOffice(t, func(o *office) {
		ctx := o.t.Context()
		p := o.program("Deploy")
		n := o.prove(p, latchkey.ServicePrincipalCredentialCreate{Kind: latchkey.ProofSecret})
		since := len(o.trail(db.AuditFilter{}))
		right, throttled := 0, 0
		var guessed []string
		for i := range 1000 {
			guess := ServicePrincipalProof{ClientID: latchkey.NewGUID(), Secret: latchkey.NewSecret("lkc_guess")}
			switch i % 3 {
			case 1:
				guess.ClientID = latchkey.NewID("sp", o.time())
			case 2:
				guess.Secret, guess.Assertion = latchkey.Secret{}, "no.assertion.this"
			}
			guessed = append(guessed, guess.ClientID)
			_, err := o.AuthenticateServicePrincipal(ctx, guess)
			switch codeOf(err) {
			case latchkey.CodeClientUnknown:
				if i >= freeFailures && throttled == 0 {
					o.t.Fatalf("guess %d need not wait", i+1)
				}
			case latchkey.CodeSignInThrottled:
				throttled++
				if e, ok := errors.AsType[*latchkey.Error](err); !ok || e.RetryAt.IsZero() {
					o.t.Fatalf("guess %d: %v; want it to say when to try again", i+1, err)
				}
			default:
				o.t.Fatalf("guess %d: %v", i+1, err)
			}
			if i%200 == 100 {
				if _, err := o.AuthenticateServicePrincipal(ctx, secretProof(p, n.Secret)); err != nil {
					o.t.Errorf("a right secret meanwhile: %v", err)
				}
				right++
			}
			o.wait(100 * time.Millisecond)
		}
		// In 100 seconds there are the free ones, and those after 1, 2, 4 … seconds.
		const most = freeFailures + 7
		if rows := len(o.trail(db.AuditFilter{})) - since - right; rows < freeFailures || rows > most || throttled < 1000-most {
			o.t.Errorf("1000 guesses wrote %d audit events, and %d had to wait; want at most %d events", rows, throttled, most)
		}
		if err := o.db.View(ctx, func(tx *db.Tx) error {
			if f, err := tx.SignInFailures(unknownClient); err != nil || f.Count < freeFailures || f.Count > most {
				o.t.Errorf("together they have failed %d times, %v", f.Count, err)
			}
			for _, id := range guessed {
				if f, err := tx.SignInFailures("sp:" + id); err != nil || f.Count != 0 {
					o.t.Fatalf("%s has a counter of its own: %v, %v", id, f, err)
				}
			}
			return nil
		}); err != nil {
			o.t.Fatal(err)
		}
		if _, err := o.AuthenticateServicePrincipal(ctx, secretProof(p, "lkc_guess")); codeOf(err) != latchkey.CodeSecretWrong {
			o.t.Errorf("one that exists waits for those that do not: %v", err)
		}
	})
}

// TestUnknownClientsTogether has many unknown clients try at once.
func TestUnknownClientsTogether(t *testing.T) {
	eachOffice(t, func(o *office) {
		since := len(o.trail(db.AuditFilter{}))
		var wg sync.WaitGroup
		for range 40 {
			wg.Go(func() {
				_, err := o.AuthenticateServicePrincipal(o.t.Context(), ServicePrincipalProof{ClientID: latchkey.NewGUID(), Secret: latchkey.NewSecret("lkc_guess")})
				if code := codeOf(err); code != latchkey.CodeClientUnknown && code != latchkey.CodeSignInThrottled {
					o.t.Errorf("answered %v", err)
				}
			})
		}
		wg.Wait()
		if rows := len(o.trail(db.AuditFilter{})) - since; rows != freeFailures {
			o.t.Errorf("forty at once wrote %d audit events; want %d", rows, freeFailures)
		}
	})
}

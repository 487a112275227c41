package broker_test

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"latchkey.dev/internal/broker"
	"latchkey.dev/internal/latchkeytest"
	"latchkey.dev/internal/latchkeytest/idp"
	"latchkey.dev/latchkey"
)

func codeOf(err error) string {
	if err == nil {
		return "ok"
	}
	if e, ok := errors.AsType[*latchkey.Error](err); ok {
		return e.Code
	}
	return err.Error()
}

// TestFederated signs in by the tokens of an issuer that runs beside the test.
func TestFederated(t *testing.T) {
	latchkeytest.EachDB(t, func(t *testing.T, url string) {
		i, foreign := idp.Start(), idp.Start()
		t.Cleanup(i.Close)
		t.Cleanup(foreign.Close)
		now := time.Now().UTC()
		s := latchkeytest.New(t, latchkeytest.Options{DatabaseURL: url, Idle: true, Issuers: i.Client(), Now: func() time.Time {
			now = now.Add(time.Millisecond)
			return now
		}})
		ctx := t.Context()
		p, err := s.Broker.CreateServicePrincipal(ctx, s.Admin, latchkey.ServicePrincipalCreate{DisplayName: "Deploy"})
		if err != nil {
			t.Fatal(err)
		}
		var first latchkey.ServicePrincipalCredentialID
		for _, c := range []latchkey.ServicePrincipalCredentialCreate{
			{Kind: latchkey.ProofFederated, Issuer: i.URL, Subject: "repo:example/erp:ref:refs/heads/main"},
			{Kind: latchkey.ProofFederated, Issuer: i.URL, Subject: "repo:example/erp:environment:live", Audience: "latchkey"},
		} {
			n, err := s.Broker.AddServicePrincipalCredential(ctx, s.Admin, p.ClientID, c)
			if err != nil {
				t.Fatal(err)
			}
			if first == "" {
				first = n.ID
			}
		}
		claims := func(change idp.Claims) idp.Claims {
			c := idp.Claims{"sub": "repo:example/erp:ref:refs/heads/main", "aud": latchkey.DefaultFederatedAudience, "iat": now.Unix(), "exp": now.Add(5 * time.Minute).Unix()}
			for name, v := range change {
				c[name] = v
			}
			return c
		}
		try := func(what, token, want string) error {
			t.Helper()
			who, err := s.Broker.AuthenticateServicePrincipal(ctx, broker.ServicePrincipalProof{ClientID: p.ClientID, Assertion: token, Audiences: []string{"https://latchkey.example"}})
			if codeOf(err) != want || err == nil && who.ID != p.ID {
				t.Errorf("%s: %+v, %v; want %s", what, who, err, want)
			}
			return err
		}
		right := i.Sign(claims(nil))
		try("the right one", right, "ok")
		try("it again, as pipelines do", right, "ok")
		try("the other credential's", i.Sign(claims(idp.Claims{"sub": "repo:example/erp:environment:live", "aud": []string{"else", "latchkey"}})), "ok")
		for _, tt := range []struct {
			name   string
			change idp.Claims
			want   string
			says   []string
		}{
			{"another subject", idp.Claims{"sub": "repo:evil/erp:ref:refs/heads/main"}, latchkey.CodeFederatedMismatch, []string{`"repo:evil/erp:ref:refs/heads/main"`, `"repo:example/erp:ref:refs/heads/main"`}},
			{"a longer subject", idp.Claims{"sub": "repo:example/erp:ref:refs/heads/main2"}, latchkey.CodeFederatedMismatch, nil},
			{"a subject in capitals", idp.Claims{"sub": "REPO:example/erp:ref:refs/heads/main"}, latchkey.CodeFederatedMismatch, nil},
			{"another audience", idp.Claims{"aud": "latchkey"}, latchkey.CodeAssertionAudience, []string{`"latchkey"`, `"` + latchkey.DefaultFederatedAudience + `"`}},
			{"no audience", idp.Claims{"aud": []string{}}, latchkey.CodeAssertionAudience, nil},
			{"expired", idp.Claims{"exp": now.Add(-2 * time.Minute).Unix()}, latchkey.CodeAssertionExpired, nil},
			{"no expiry", idp.Claims{"exp": nil}, latchkey.CodeAssertionInvalid, nil},
			{"not yet", idp.Claims{"nbf": now.Add(3 * time.Minute).Unix()}, latchkey.CodeAssertionInvalid, nil},
		} {
			err := try(tt.name, i.Sign(claims(tt.change)), tt.want)
			for _, text := range tt.says {
				if err == nil || !strings.Contains(err.Error(), text) {
					t.Errorf("%s: %v; want it to name %s", tt.name, err, text)
				}
			}
			try("a right one between wrong ones", right, "ok")
		}

		// Who has no token of the issuer learns no subject, and has nobody asked.
		asked := i.Asked()
		forged := foreign.Sign(claims(idp.Claims{"iss": i.URL, "sub": "guess"}))
		if err := try("signed by another", forged, latchkey.CodeAssertionInvalid); err != nil && strings.Contains(err.Error(), "example/erp") {
			t.Errorf("a forged token is told the subject: %v", err)
		}
		try("of an issuer that no credential names", foreign.Sign(claims(nil)), latchkey.CodeFederatedMismatch)
		if foreign.Asked() != 0 || i.Asked() != asked {
			t.Errorf("the issuers were asked %d and %d times; want 0 and %d", foreign.Asked(), i.Asked(), asked)
		}
		try("a right one", right, "ok")

		// The issuer changes its key.
		i.Rotate()
		now = now.Add(time.Minute)
		try("signed by the new key", i.Sign(claims(nil)), "ok")
		try("signed by the old key", right, latchkey.CodeAssertionInvalid)

		// The issuer is down.
		now = now.Add(2 * time.Hour)
		i.Answer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) }))
		late := i.Sign(claims(nil))
		if err := try("while it is down", late, latchkey.CodeIssuerUnavailable); !errors.Is(err, latchkey.ErrUnavailable) || strings.Contains(err.Error(), "502") || !strings.Contains(s.Log.String(), "status 502") {
			t.Errorf("while it is down: %v; want the reason in the log alone", err)
		}
		i.Answer(nil)
		now = now.Add(10 * time.Second)
		try("when it is up again", late, "ok")

		// Disabled, nobody is asked; without the credential, it is over.
		now = now.Add(2 * time.Hour)
		yes, no := true, false
		if _, err := s.Broker.UpdateServicePrincipal(ctx, s.Admin, p.ClientID, latchkey.ServicePrincipalUpdate{Disabled: &yes}); err != nil {
			t.Fatal(err)
		}
		asked = i.Asked()
		try("disabled", i.Sign(claims(nil)), latchkey.CodeFederatedMismatch)
		if i.Asked() != asked {
			t.Error("the issuer of a disabled service principal was asked")
		}
		if _, err := s.Broker.UpdateServicePrincipal(ctx, s.Admin, p.ClientID, latchkey.ServicePrincipalUpdate{Disabled: &no}); err != nil {
			t.Fatal(err)
		}
		try("enabled", i.Sign(claims(nil)), "ok")
		if err := s.Broker.RemoveServicePrincipalCredential(ctx, s.Admin, p.ClientID, first); err != nil {
			t.Fatal(err)
		}
		try("removed", i.Sign(claims(nil)), latchkey.CodeFederatedMismatch)

		page, err := s.Broker.Audit(ctx, s.Admin, broker.AuditFilter{Action: latchkey.ActSignIn}, latchkey.PageOptions{Limit: 500})
		if err != nil {
			t.Fatal(err)
		}
		for _, code := range []string{latchkey.CodeFederatedMismatch, latchkey.CodeAssertionAudience, latchkey.CodeAssertionExpired, latchkey.CodeAssertionInvalid, latchkey.CodeIssuerUnavailable, latchkey.CodeClientDisabled} {
			if !slices.ContainsFunc(page.Items, func(e latchkey.AuditEvent) bool {
				return e.Outcome == latchkey.OutcomeDenied && e.Code == code && e.Subject == string(p.ID)
			}) {
				t.Errorf("the audit log has no denied sign-in with the code %s", code)
			}
		}
	})
}

// TestServicePrincipalRun has a service principal own a run, which gets nothing
// once it is disabled or deleted.
func TestServicePrincipalRun(t *testing.T) {
	for _, how := range []string{"disabled", "deleted"} {
		t.Run(how, func(t *testing.T) {
			latchkeytest.EachDB(t, func(t *testing.T, url string) {
				c := latchkeytest.New(t, latchkeytest.Options{DatabaseURL: url}).Chain(t)
				ctx, admin := t.Context(), c.Admin
				p, err := c.Broker.CreateServicePrincipal(ctx, admin, latchkey.ServicePrincipalCreate{DisplayName: "Deploy"})
				if err != nil {
					t.Fatal(err)
				}
				n, err := c.Broker.AddServicePrincipalCredential(ctx, admin, p.ClientID, latchkey.ServicePrincipalCredentialCreate{Kind: latchkey.ProofSecret})
				if err != nil {
					t.Fatal(err)
				}
				if err := c.Broker.SetMember(ctx, admin, c.Env, p.ClientID, latchkey.EnvMaker); err != nil {
					t.Fatal(err)
				}
				if _, err := c.Broker.AssignRole(ctx, admin, c.Vault.Name, latchkey.RoleAssignmentCreate{Principal: p.ID, Role: latchkey.VaultSecretsUser}); err != nil {
					t.Fatal(err)
				}
				who, err := c.Broker.AuthenticateServicePrincipal(ctx, broker.ServicePrincipalProof{ClientID: p.ClientID, Secret: latchkey.NewSecret(n.Secret)})
				if err != nil {
					t.Fatal(err)
				}
				c.Share(t, latchkey.KindMachine, string(c.Machine.ID), p.ClientID, latchkey.RoleUser)
				c.Admin = who
				cred := c.Bind(t, "bot", latchkeytest.ChainUser, c.Reference.Secret, latchkey.CredentialCreate{Usages: []latchkey.Usage{latchkey.UsageConnection}, Exposure: latchkey.ExposureDescriptor})
				if c.Connection, err = c.Broker.CreateConnection(ctx, who, c.Env, latchkey.ConnectionCreate{Name: "mine", Target: latchkey.Target{Machine: c.Machine.ID}, Driver: latchkey.DriverNone, Credential: cred.ID}); err != nil {
					t.Fatal(err)
				}
				if c.Flow, err = c.Broker.CreateFlow(ctx, who, c.Env, latchkey.FlowCreate{Name: "mine", Command: []string{latchkeytest.Program, "true"}, Timeout: latchkey.Duration(time.Minute), Handover: latchkey.HandoverDescriptor}); err != nil {
					t.Fatal(err)
				}
				c.Start(t)
				run := c.Machine.Claim(t)
				if run == nil {
					t.Fatal("its run is not claimed")
				}
				if _, _, err := c.Machine.Get(t, run, run.Credential); err != nil {
					t.Fatalf("its run gets no credential: %v", err)
				}
				if how == "deleted" { // which takes that it owns nothing
					h, handErr := c.Broker.HandOver(ctx, admin, c.Env, latchkey.HandOver{From: p.ClientID, To: string(admin.ID)})
					if handErr != nil || len(h.Left) > 0 {
						t.Fatalf("hand over %+v: %v", h, handErr)
					}
					err = c.Broker.DeleteServicePrincipal(ctx, admin, p.ClientID)
				} else {
					yes := true
					_, err = c.Broker.UpdateServicePrincipal(ctx, admin, p.ClientID, latchkey.ServicePrincipalUpdate{Disabled: &yes})
				}
				if err != nil {
					t.Fatal(err)
				}
				if _, _, err := c.Machine.Get(t, run, run.Credential); codeOf(err) != "owner-disabled" {
					t.Errorf("once it is %s its run is answered %v; want owner-disabled", how, err)
				}
				// What it saved is checked still, and says who it was.
				if v, err := c.Broker.CheckVariable(ctx, admin, c.Env, c.Password.Name); err != nil {
					t.Errorf("check %+v: %v", v, err)
				}
				c.Admin = admin
				vars, err := c.Broker.Variables(ctx, admin, c.Env, broker.VariableFilter{}, latchkey.PageOptions{})
				if err != nil {
					t.Fatal(err)
				}
				for _, v := range vars.Items {
					if v.DisplayName == "bot secret" {
						if _, err := c.Broker.CheckVariable(ctx, admin, c.Env, v.Name); err != nil {
							t.Errorf("check the variable of one who is %s: %v", how, err)
						}
						for end := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
							v, err := c.Broker.Variable(ctx, admin, c.Env, v.Name)
							if err != nil {
								t.Fatal(err)
							}
							if v.Check.State != latchkey.CheckChecking {
								break
							}
							if time.Now().After(end) {
								t.Errorf("the check of a variable whose saver is %s does not end: %+v", how, v.Check)
								break
							}
						}
					}
				}
			})
		})
	}
}

package azure_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"latchkey.dev/internal/latchkeytest"
	"latchkey.dev/internal/vault"
	"latchkey.dev/internal/vault/azure"
	"latchkey.dev/latchkey"
)

// finding returns the one finding of a check that holds a text.
func finding(t *testing.T, all []latchkey.Finding, check, text string) latchkey.Finding {
	t.Helper()
	for _, f := range all {
		if f.Check == check && strings.Contains(f.Subject+" "+f.Message, text) {
			return f
		}
	}
	t.Fatalf("no finding %s with %q in\n%s", check, text, told(all))
	return latchkey.Finding{}
}

// told is what a person reads.
func told(all []latchkey.Finding) string {
	var b strings.Builder
	for _, f := range all {
		fmt.Fprintf(&b, "%-8s %s %s: %s | %s | %s\n", f.State, f.Check, f.Subject, f.Message, f.Remedy, f.Command)
	}
	return b.String()
}

func TestSurveyVault(t *testing.T) {
	const (
		proof    = `"enablePurgeProtection":true,"enableSoftDelete":true`
		roles    = `"enableRbacAuthorization":true,` + proof
		assigned = `{"properties":{"roleDefinitionId":"/providers/Microsoft.Authorization/roleDefinitions/1","principalId":"` + azPerson + `","scope":"` + azScope + `"}}`
	)
	forbidden := error(&vault.Error{Kind: vault.ErrDenied, Msg: "denied", Code: "ForbiddenByFirewall", Check: "network", Address: "203.0.113.7"})
	away := error(&vault.Error{Kind: vault.ErrUnavailable, Msg: "the key vault x is left alone until 2026-11-27T12:00:30Z, after it could not be read: it did not answer in time"})
	well := func() fakeARM { return fakeARM{vault: roles, own: secretsUser, assigned: assigned} }
	with := func(change func(*fakeARM)) fakeARM { f := well(); change(&f); return f }
	tests := []struct {
		name  string
		arm   fakeARM
		read  error
		usage vault.Usage
		check string
		about string // in the finding's message
		want  latchkey.FindingState
		text  string // in its message, remedy or command
	}{
		{"key vault's provider", with(func(f *fakeARM) { f.provider = "NotRegistered" }), nil, vault.Usage{}, "azure-provider", "KeyVault", latchkey.FindingFailed, "az provider register --namespace Microsoft.KeyVault --subscription " + azSub},
		{"power platform's provider", with(func(f *fakeARM) { f.provider = "NotRegistered" }), nil, vault.Usage{}, "azure-provider", "PowerPlatform", latchkey.FindingWarning,
			"Latchkey itself does not need it. az provider register --namespace Microsoft.PowerPlatform --subscription " + azSub},
		{"registered", well(), nil, vault.Usage{}, "azure-provider", "PowerPlatform", latchkey.FindingOK, "is registered"},
		{"no look at providers", with(func(f *fakeARM) { f.status = map[string]int{"Microsoft.PowerPlatform": 403} }), nil, vault.Usage{}, "azure-provider", "PowerPlatform", latchkey.FindingUnknown, "the role Reader"},
		{"no such subscription", with(func(f *fakeARM) { f.status = map[string]int{"providers/Microsoft.KeyVault": 404} }), nil, vault.Usage{}, "azure-provider", "KeyVault", latchkey.FindingUnknown, "no such subscription"},
		{"the vault", well(), nil, vault.Usage{}, "vault-resource", "", latchkey.FindingOK, "decided by roles"},
		{"access policies", fakeARM{vault: proof}, nil, vault.Usage{}, "vault-resource", "", latchkey.FindingWarning, "Power Platform"},
		{"no such vault", with(func(f *fakeARM) { f.status = map[string]int{"/vaults/kv": 404} }), away, vault.Usage{}, "vault-resource", "", latchkey.FindingFailed, azScope},
		{"no look at the vault, which answers", with(func(f *fakeARM) { f.status = map[string]int{"/vaults/kv": 403} }), nil, vault.Usage{}, "vault-resource", "", latchkey.FindingUnknown, `az role assignment create --role "Reader"`},
		{"no look at the vault: network", with(func(f *fakeARM) { f.status = map[string]int{"/vaults/kv": 403} }), nil, vault.Usage{}, "vault-network", "", latchkey.FindingUnknown, "not known"},
		{"no look at the vault: protection", with(func(f *fakeARM) { f.status = map[string]int{"/vaults/kv": 403} }), nil, vault.Usage{}, "vault-protection", "", latchkey.FindingUnknown, "not known"},
		{"tenant", well(), nil, vault.Usage{}, "vault-tenant", "", latchkey.FindingOK, azTenant},
		{"reachable", well(), nil, vault.Usage{}, "vault-reachable", "", latchkey.FindingOK, "It answers, in "},
		{"no such secret, but it answers", well(), &vault.Error{Kind: vault.ErrNotFound, Msg: "no secret"}, vault.Usage{}, "vault-reachable", "", latchkey.FindingOK, "It answers, in "},
		{"left alone", well(), away, vault.Usage{}, "vault-reachable", "", latchkey.FindingFailed, "is left alone until 2026-11-27T12:00:30Z"},
		{"firewall", well(), forbidden, vault.Usage{}, "vault-reachable", "", latchkey.FindingFailed, "az keyvault network-rule add --name kv --subscription " + azSub + " --ip-address 203.0.113.7"},
		{"no token", well(), &vault.Error{Kind: vault.ErrDenied, Check: "sign-in", Msg: "no"}, vault.Usage{}, "vault-reachable", "", latchkey.FindingUnknown, "not asked"},
		{"open", well(), nil, vault.Usage{}, "vault-network", "", latchkey.FindingOK, "everywhere"},
		{"with a firewall", fakeARM{vault: roles + `,"networkAcls":{"defaultAction":"Deny"}`}, nil, vault.Usage{}, "vault-network", "", latchkey.FindingOK, "firewall"},
		{"private", fakeARM{vault: roles + `,"publicNetworkAccess":"Disabled","privateEndpointConnections":[{"id":"x"}]`}, nil, vault.Usage{}, "vault-network", "", latchkey.FindingOK, "1 private endpoint"},
		{"closed", fakeARM{vault: roles + `,"publicNetworkAccess":"Disabled"`}, away, vault.Usage{}, "vault-network", "", latchkey.FindingWarning, "nobody reaches it"},
		{"protected", well(), nil, vault.Usage{}, "vault-protection", "", latchkey.FindingOK, "can be recovered"},
		{"not from purging", fakeARM{vault: `"enableRbacAuthorization":true`}, nil, vault.Usage{}, "vault-protection", "", latchkey.FindingWarning, "az keyvault update --name kv --subscription " + azSub + " --enable-purge-protection true"},
		{"not from deletion", fakeARM{vault: `"enableSoftDelete":false`}, nil, vault.Usage{}, "vault-protection", "", latchkey.FindingWarning, "--enable-soft-delete true"},
		{"the service", well(), nil, vault.Usage{}, "vault-role", "", latchkey.FindingOK, "may read secrets, by the example of 'one'"},
		{"the service without its role", with(func(f *fakeARM) { f.own = "{}" }), nil, vault.Usage{}, "vault-role", "", latchkey.FindingFailed,
			`az role assignment create --role "Key Vault Secrets User" --assignee-object-id ` + azService + ` --assignee-principal-type ServicePrincipal --scope "` + azScope + `"`},
		{"the service, unknown", with(func(f *fakeARM) { f.status = map[string]int{"/permissions": 500} }), nil, vault.Usage{}, "vault-role", "", latchkey.FindingUnknown, "not known"},
		{"a person", well(), nil, vault.Usage{}, "vault-person", "Key Vault Secrets User", latchkey.FindingOK, "may read the secret"},
		{"a person without the role", with(func(f *fakeARM) { f.assigned = "" }), nil, vault.Usage{}, "vault-person", "ann (" + azPerson, latchkey.FindingWarning, `--scope "` + azScope + `"`},
		{"a person who is not known there", well(), nil, vault.Usage{}, "vault-person", "who noor is", latchkey.FindingUnknown, "latchkey user identity add user_2 --tenant " + azTenant + " --object-id OBJECT-ID"},
		{"quota", well(), nil, vault.Usage{Requests: 700, Peak: 40}, "vault-quota", "", latchkey.FindingOK, "700 requests in the last hour, at most 40 in 10 s of the 4000 that Key Vault answers; none was answered by 429"},
		{"busy", well(), nil, vault.Usage{Requests: 9000, Peak: 2000}, "vault-quota", "", latchkey.FindingWarning, "more vaults"},
		{"throttled", well(), nil, vault.Usage{Requests: 9, Peak: 9, Throttled: 2, LastAt: time.Unix(0, 0)}, "vault-quota", "", latchkey.FindingWarning, "2 answers were 429, the last one at 1970-01-01T00:00:00Z"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := &tt.arm
			if f.provider == "" {
				f.provider = "Registered"
			}
			server := newServer(lock(f))
			defer server.Close()
			m, err := azure.NewResourceManager(azure.ResourceManagerConfig{Endpoint: server.URL, Audience: server.URL, Credential: azureToken{}, Transport: server.Client()})
			if err != nil {
				t.Fatal(err)
			}
			all := azure.Surveyor{Azure: m, Usage: func(latchkey.VaultReference) vault.Usage { return tt.usage }}.Survey(t.Context(), vault.Survey{
				Azure: true, Tenants: []string{azTenant}, Vaults: []vault.Subject{{
					Question: vault.Question{
						Reference: latchkey.SecretReference{SubscriptionID: azSub, ResourceGroup: "g", Vault: "kv", Secret: "one"}, Tenants: []string{azTenant},
						Read: func(context.Context) error { return tt.read },
					},
					People: []vault.Person{{ID: "user_1", Name: "ann", Secret: "one", ObjectIDs: map[string]string{azTenant: azPerson}}, {ID: "user_2", Name: "noor", Secret: "one"}},
				}},
			})
			got := finding(t, all, tt.check, tt.about)
			if said := got.Message + " " + got.Remedy + " " + got.Command; got.State != tt.want || !strings.Contains(said, tt.text) {
				t.Errorf("%+v; want %s and %q\n%s", got, tt.want, tt.text, told(all))
			}
			for _, asked := range f.asked {
				if !strings.HasPrefix(asked, "GET ") {
					t.Errorf("%s: nothing may be changed", asked)
				}
			}
			if strings.Contains(told(all), "not repeated") {
				t.Errorf("what the other side sent is repeated:\n%s", told(all))
			}
		})
	}
}

// newServer serves a handler over TLS; connections that are given up are no news.
func newServer(h http.Handler) *httptest.Server {
	s := httptest.NewUnstartedServer(h)
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	s.StartTLS()
	return s
}

// TestSurveySlow has Azure not answer: the survey ends, and says that it knows nothing.
func TestSurveySlow(t *testing.T) {
	server := newServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	defer server.Close()
	m, err := azure.NewResourceManager(azure.ResourceManagerConfig{Endpoint: server.URL, Audience: server.URL, Credential: azureToken{}, Transport: server.Client()})
	if err != nil {
		t.Fatal(err)
	}
	q := vault.Survey{Tenants: []string{azTenant}}
	for i := range 30 {
		q.Vaults = append(q.Vaults, vault.Subject{Question: vault.Question{
			Reference: latchkey.SecretReference{SubscriptionID: azSub, ResourceGroup: "g", Vault: fmt.Sprintf("kv%d", i), Secret: "one"},
			Read: func(ctx context.Context) error {
				<-ctx.Done()
				return &vault.Error{Kind: vault.ErrUnavailable, Msg: "the key vault could not be read: it did not answer in time"}
			},
		}})
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	all := azure.Surveyor{Azure: m}.Survey(ctx, q)
	for _, f := range all {
		if f.State == latchkey.FindingOK || f.State == latchkey.FindingFailed && f.Check != "vault-reachable" {
			t.Fatalf("%+v; want that nothing is known", f)
		}
	}
	if f := finding(t, all, "vault-reachable", "kv29"); f.State != latchkey.FindingFailed {
		t.Errorf("%+v; want the last vault to be told of as not reachable", f)
	}
}

// TestSurveyWorld asks a cloud over the network: real vaults behind TLS, read by an
// application that signs in, and the resource manager of the embedded vaults in the
// place of Azure's.
func TestSurveyWorld(t *testing.T) {
	w := newWorld(t, "https://login.microsoftonline.com", "vault.azure.net")
	a := w.open(t, w.bySecret(t))
	v, err := a.Vault(latchkey.VaultReference{Vault: "erp"})
	if err != nil {
		t.Fatal(err)
	}
	ask := func(tenants ...string) []latchkey.Finding {
		s := azure.Surveyor{Access: a, Azure: azure.NoResourceManager("there is none here"), Usage: func(latchkey.VaultReference) vault.Usage { return v.Usage() }}
		return s.Survey(t.Context(), vault.Survey{Azure: true, Tenants: tenants, Vaults: []vault.Subject{{Question: vault.Question{
			Reference: latchkey.SecretReference{SubscriptionID: azSub, ResourceGroup: "g", Vault: "erp", Secret: "x"},
			Tenants:   tenants, Read: func(ctx context.Context) error { return v.CheckRead(ctx, "x") },
		}}}})
	}
	all := ask(w.Broker.Tenant())
	for check, want := range map[string]latchkey.FindingState{
		"azure-sign-in": latchkey.FindingOK, "azure-tenant": latchkey.FindingOK, "azure-provider": latchkey.FindingUnknown, "vault-resource": latchkey.FindingUnknown,
		"vault-tenant": latchkey.FindingOK, "vault-reachable": latchkey.FindingOK, "vault-role": latchkey.FindingUnknown, "vault-quota": latchkey.FindingOK,
	} {
		if f := finding(t, all, check, ""); f.State != want {
			t.Errorf("%+v; want %s", f, want)
		}
	}
	if f := finding(t, all, "azure-sign-in", ""); !strings.Contains(f.Message, application) || !strings.Contains(f.Message, "cloud public at login.microsoftonline.com") {
		t.Errorf("%q does not say who signs in, and where", f.Message)
	}
	if f := finding(t, all, "vault-quota", ""); !strings.Contains(f.Message, "2 requests") { // with the challenge
		t.Errorf("%q; want what the vault was asked", f.Message)
	}
	if f := finding(t, ask(), "azure-tenant", ""); f.State != latchkey.FindingFailed || !strings.Contains(f.Command, "latchkey azure tenant link") {
		t.Errorf("without a tenant: %+v", f)
	}

	// Tokens that the server has do not hide that it cannot sign in any more.
	w.directory.Secret = "another"
	all = ask(w.Broker.Tenant())
	if f := finding(t, all, "azure-sign-in", ""); f.State != latchkey.FindingFailed || !strings.Contains(f.Message, "the secret of the application is wrong") || f.Remedy == "" {
		t.Errorf("with a wrong secret: %+v", f)
	}
	if f := finding(t, all, "azure-tenant", ""); f.State != latchkey.FindingUnknown {
		t.Errorf("the tenant, without signing in: %+v", f)
	}
	w.set(func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(http.StatusTooManyRequests) })
	all = ask(w.Broker.Tenant())
	if f := finding(t, all, "vault-quota", ""); f.State != latchkey.FindingWarning || !strings.Contains(f.Message, "answers were 429") {
		t.Errorf("after answers 429: %+v", f)
	}
	if strings.Contains(told(all), canary) {
		t.Error("a secret's value is told")
	}
}

// TestSurveyEmbedded asks embedded vaults.
func TestSurveyEmbedded(t *testing.T) {
	s := latchkeytest.New(t, latchkeytest.Options{})
	c := s.Chain(t)
	r, err := s.Broker.Doctor(t.Context(), s.Admin, latchkey.DoctorOptions{Environment: c.Env})
	if err != nil {
		t.Fatal(err)
	}
	for _, check := range []string{"vault-reachable", "vault-role"} {
		if f := finding(t, r.Findings, check, c.Vault.Name); f.State != latchkey.FindingOK {
			t.Errorf("%+v; want ok", f)
		}
	}
	roles, err := s.Broker.RoleAssignments(t.Context(), s.Admin, c.Vault.Name, latchkey.PageOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range roles.Items {
		if a.Principal == latchkey.ServiceIdentity {
			if err := s.Broker.RemoveRole(t.Context(), s.Admin, c.Vault.Name, a.ID); err != nil {
				t.Fatal(err)
			}
		}
	}
	if r, err = s.Broker.Doctor(t.Context(), s.Admin, latchkey.DoctorOptions{Environment: c.Env}); err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf(`latchkey vault role assign %s %s "Key Vault Secrets User"`, c.Vault.Name, latchkey.ServiceIdentity)
	if f := finding(t, r.Findings, "vault-role", c.Vault.Name); f.State != latchkey.FindingFailed || f.Command != want {
		t.Errorf("without the service's role: %+v; want %s", f, want)
	}
	if f := finding(t, r.Findings, "vault-reachable", c.Vault.Name); f.State != latchkey.FindingOK {
		t.Errorf("a refusal is an answer: %+v", f)
	}
}

package azure_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"

	"latchkey.dev/internal/arm"
	"latchkey.dev/internal/broker"
	"latchkey.dev/internal/latchkeytest"
	"latchkey.dev/internal/vault"
	"latchkey.dev/internal/vault/azure"
	"latchkey.dev/latchkey"
)

// states are those of the results, as step=state.
func states(results []latchkey.CheckResult) string {
	var all []string
	for _, r := range results {
		all = append(all, fmt.Sprintf("%s=%s", r.Step, r.State))
	}
	return strings.Join(all, " ")
}

func result(t *testing.T, results []latchkey.CheckResult, step latchkey.CheckStep) latchkey.CheckResult {
	t.Helper()
	for _, r := range results {
		if r.Step == step {
			return r
		}
	}
	t.Fatalf("there is no result of the step %s in %+v", step, results)
	return latchkey.CheckResult{}
}

// TestInspectEmbedded asks about a real embedded vault, through the same SDKs as
// about Azure's.
func TestInspectEmbedded(t *testing.T) {
	s := latchkeytest.New(t, latchkeytest.Options{})
	c := s.Chain(t)
	ctx := t.Context()
	b := s.Broker
	h, err := arm.New(arm.Config{Broker: b, Tenant: b.Tenant(), Authority: "https://login.test/" + b.Tenant(), VaultURL: func(name string) string { return "https://" + name + "." + latchkeytest.VaultDomain }})
	if err != nil {
		t.Fatal(err)
	}
	manager, err := azure.EmbeddedResourceManager(h, b.ServiceVaultToken, "https://management."+latchkeytest.VaultDomain)
	if err != nil {
		t.Fatal(err)
	}
	person := s.User(t, "person", c.Env, latchkey.EnvMaker)
	ask := func(change func(*vault.Question)) []latchkey.CheckResult {
		t.Helper()
		q := vault.Question{
			Reference: c.Reference, Embedded: true, Person: "person", ObjectIDs: map[string]string{b.Tenant(): string(person.ID)}, Tenants: []string{b.Tenant()},
		}
		if change != nil {
			change(&q)
		}
		v, err := s.OpenVault(q.Reference.VaultRef())
		if err != nil {
			t.Fatal(err)
		}
		q.Read = func(ctx context.Context) error { return v.CheckRead(ctx, q.Reference.Secret) }
		return manager.Inspect(ctx, q)
	}
	assign := func(who latchkey.PrincipalID, role latchkey.VaultRole, secret string) latchkey.RoleAssignmentID {
		t.Helper()
		a, err := b.AssignRole(ctx, s.Admin, c.Vault.Name, latchkey.RoleAssignmentCreate{Principal: who, Role: role, Secret: secret})
		if err != nil {
			t.Fatal(err)
		}
		return a.ID
	}

	got := ask(nil)
	if want := "provider=passed vault=passed tenant=passed network=passed service=passed secret=unknown person=failed"; states(got) != want {
		t.Fatalf("before the person has a role: %s; want %s\n%+v", states(got), want, got)
	}
	r := result(t, got, latchkey.CheckPerson)
	if r.Role != "Key Vault Secrets User" || r.Action != string(latchkey.VaultGetSecret) || r.Scope != c.Reference.String() ||
		r.Command != fmt.Sprintf(`latchkey vault role assign %s %s "Key Vault Secrets User" --secret %s`, c.Vault.Name, person.ID, c.Reference.Secret) {
		t.Errorf("the person's result %+v does not say what is missing and how to give it", r)
	}

	// A role that shows metadata only is the classic mistake.
	assign(person.ID, latchkey.VaultReader, "")
	if r := result(t, ask(nil), latchkey.CheckPerson); r.State != latchkey.CheckFailed || !strings.Contains(r.Warning, "does not permit it: Key Vault Reader") {
		t.Errorf("with Key Vault Reader: %+v", r)
	}
	other := assign(person.ID, latchkey.VaultSecretsUser, "other")
	if r := result(t, ask(nil), latchkey.CheckPerson); r.State != latchkey.CheckFailed {
		t.Errorf("with a role on another secret: %+v", r)
	}
	if err := b.RemoveRole(ctx, s.Admin, c.Vault.Name, other); err != nil {
		t.Fatal(err)
	}
	assign(person.ID, latchkey.VaultSecretsUser, c.Reference.Secret)
	if got := states(ask(nil)); strings.Contains(got, "failed") || strings.Contains(got, "unknown") {
		t.Errorf("with the role on the secret: %s; want all passed", got)
	}

	for name, tt := range map[string]struct {
		change func(*vault.Question)
		want   string
	}{
		"another tenant":       {func(q *vault.Question) { q.Tenants = []string{"other"} }, "tenant=failed"},
		"no tenant":            {func(q *vault.Question) { q.Tenants = nil }, "tenant=failed"},
		"an unknown person":    {func(q *vault.Question) { q.ObjectIDs = nil }, "person=unknown"},
		"no such secret":       {func(q *vault.Question) { q.Reference.Secret = "missing"; q.ObjectIDs[b.Tenant()] = string(s.Admin.ID) }, "secret=failed"},
		"no such vault":        {func(q *vault.Question) { q.Reference.ResourceGroup = "other" }, "vault=failed"},
		"no such subscription": {func(q *vault.Question) { q.Reference.SubscriptionID = "00000000-0000-0000-0000-000000000009" }, "vault=failed"},
	} {
		if got := states(ask(tt.change)); !strings.Contains(got, tt.want) {
			t.Errorf("%s: %s; want %s", name, got, tt.want)
		}
	}
	r = result(t, ask(func(q *vault.Question) { q.Tenants = []string{"00000000-0000-0000-0000-00000000000a"} }), latchkey.CheckTenant)
	if !strings.Contains(r.Message, b.Tenant()) || !strings.Contains(r.Message, "00000000-0000-0000-0000-00000000000a") {
		t.Errorf("the tenant's result %q does not name both ids", r.Message)
	}

	// The service loses its role: by what it may do, not by what it sees.
	roles, err := b.RoleAssignments(ctx, s.Admin, c.Vault.Name, latchkey.PageOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range roles.Items {
		if a.Principal == latchkey.ServiceIdentity {
			if err := b.RemoveRole(ctx, s.Admin, c.Vault.Name, a.ID); err != nil {
				t.Fatal(err)
			}
		}
	}
	assign(latchkey.ServiceIdentity, latchkey.VaultReader, "")
	r = result(t, ask(nil), latchkey.CheckService)
	if r.State != latchkey.CheckFailed || !strings.Contains(r.Command, "latchkey vault role assign "+c.Vault.Name+" "+string(latchkey.ServiceIdentity)) {
		t.Errorf("the service with Key Vault Reader only: %+v", r)
	}
	assign(latchkey.ServiceIdentity, latchkey.VaultSecretsUser, "")
	if _, err := b.UpdateSecret(ctx, s.Admin, c.Vault.Name, c.Reference.Secret, "", broker.SecretUpdate{Enabled: new(false)}); err != nil {
		t.Fatal(err)
	}
	if r = result(t, ask(nil), latchkey.CheckSecret); r.State != latchkey.CheckFailed || !strings.Contains(r.Message, "is disabled") {
		t.Errorf("a disabled secret: %+v", r)
	}
}

// fakeARM answers like Azure Resource Manager of a directory whose state the test
// sets: it has what the embedded vaults do not.
type fakeARM struct {
	status   map[string]int // a part of a path → the status it is answered with
	provider string         // its state
	vault    string         // properties of the vault, in JSON
	own      string         // entries of what the service may do
	assigned string         // role assignments, in JSON
	denied   string         // deny assignments
	asked    []string
}

const (
	secretsUser = `{"dataActions":["Microsoft.KeyVault/vaults/secrets/getSecret/action","Microsoft.KeyVault/vaults/secrets/readMetadata/action"]}`
	azSub       = "11111111-1111-1111-1111-111111111111"
	azScope     = "/subscriptions/" + azSub + "/resourceGroups/g/providers/Microsoft.KeyVault/vaults/kv"
	azPerson    = "22222222-2222-2222-2222-222222222222"
	azService   = "33333333-3333-3333-3333-333333333333"
	azTenant    = "44444444-4444-4444-4444-444444444444"
)

func (f *fakeARM) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.asked = append(f.asked, r.Method+" "+r.URL.Path)
	w.Header().Set("Content-Type", "application/json")
	path := strings.ToLower(r.URL.Path)
	for part, status := range f.status {
		part, whole := strings.CutSuffix(strings.ToLower(part), "$") // the end of the path, or any part of it
		if whole && strings.HasSuffix(path, part) || !whole && strings.Contains(path, part) {
			w.WriteHeader(status)
			fmt.Fprintf(w, `{"error":{"code":"Code%d","message":"a text that is not repeated"}}`, status)
			return
		}
	}
	list := func(items string) { fmt.Fprintf(w, `{"value":[%s]}`, items) }
	switch {
	case strings.HasSuffix(path, "/permissions"):
		list(f.own)
	case strings.HasSuffix(path, "/roleassignments"):
		list(f.assigned)
	case strings.Contains(path, "/roledefinitions/"):
		fmt.Fprintf(w, `{"id":"x","properties":{"roleName":"Key Vault Secrets User","permissions":[%s]}}`, secretsUser)
	case strings.HasSuffix(path, "/denyassignments"):
		list(f.denied)
	case strings.Contains(path, "/vaults/"):
		fmt.Fprintf(w, `{"id":%q,"properties":{"tenantId":%q,%s}}`, azScope, azTenant, f.vault)
	default:
		fmt.Fprintf(w, `{"registrationState":%q}`, f.provider)
	}
}

// lock has a handler serve one request at a time.
func lock(h http.Handler) http.Handler {
	var mu sync.Mutex
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		h.ServeHTTP(w, r)
	})
}

// azureToken is a token as Entra ID makes them, but for the signature.
type azureToken struct{}

// GetToken implements [azcore.TokenCredential].
func (azureToken) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	// {"oid":azService}
	return azcore.AccessToken{Token: "e30.eyJvaWQiOiIzMzMzMzMzMy0zMzMzLTMzMzMtMzMzMy0zMzMzMzMzMzMzMzMifQ.x", ExpiresOn: time.Now().Add(time.Hour)}, nil
}

func TestInspectAzure(t *testing.T) {
	const (
		roles    = `"enableRbacAuthorization":true`
		assigned = `{"properties":{"roleDefinitionId":"/providers/Microsoft.Authorization/roleDefinitions/1","principalId":"` + azPerson + `","scope":"` + azScope + `"}}`
	)
	denied := func(vaultCode, address string) error {
		e := &vault.Error{Kind: vault.ErrDenied, Msg: "denied", Code: vaultCode, Address: address}
		if vaultCode != "ForbiddenByRbac" {
			e.Check = "network"
		}
		return e
	}
	away := error(&vault.Error{Kind: vault.ErrUnavailable, Msg: "no answer"})
	tests := []struct {
		name string
		arm  fakeARM
		read error
		step latchkey.CheckStep
		want latchkey.CheckState
		text string // of the result's message, warning, role or command
	}{
		{"all is well: service", fakeARM{vault: roles, own: secretsUser, assigned: assigned}, nil, latchkey.CheckService, latchkey.CheckPassed, "may read the secret"},
		{"all is well: person", fakeARM{vault: roles, own: secretsUser, assigned: assigned}, nil, latchkey.CheckPerson, latchkey.CheckPassed, "Key Vault Secrets User at " + azScope},
		{"provider", fakeARM{vault: roles, provider: "NotRegistered"}, nil, latchkey.CheckProvider, latchkey.CheckFailed, "az provider register --namespace Microsoft.KeyVault --subscription " + azSub},
		{"no look at providers", fakeARM{vault: roles, status: map[string]int{"/providers/Microsoft.KeyVault": 403}}, away, latchkey.CheckProvider, latchkey.CheckUnknown, "give it the role Reader"},
		{"no such vault", fakeARM{vault: roles, status: map[string]int{"/vaults/kv": 404}}, nil, latchkey.CheckVault, latchkey.CheckFailed, "There is no vault"},
		{"no look at the vault", fakeARM{vault: roles, status: map[string]int{"/vaults/kv": 403}}, away, latchkey.CheckVault, latchkey.CheckUnknown,
			`az role assignment create --role "Reader" --assignee-object-id ` + azService + ` --assignee-principal-type ServicePrincipal --scope "` + azScope + `"`},
		{"no look at the vault: tenant", fakeARM{vault: roles, status: map[string]int{"/vaults/kv": 403}}, away, latchkey.CheckTenant, latchkey.CheckUnknown, "not known"},
		{"no look at the vault, which answers", fakeARM{vault: roles, status: map[string]int{"/vaults/kv": 403}}, nil, latchkey.CheckVault, latchkey.CheckUnknown, "A vault of this name answers"},
		{"no look at the vault, which answers: service", fakeARM{vault: roles, own: secretsUser, assigned: assigned, status: map[string]int{"/vaults/kv$": 403}}, nil, latchkey.CheckService, latchkey.CheckUnknown, "elsewhere"},
		{"no look at the vault, which answers: person", fakeARM{vault: roles, own: secretsUser, assigned: assigned, status: map[string]int{"/vaults/kv$": 500}}, nil, latchkey.CheckPerson, latchkey.CheckUnknown, "elsewhere"},
		{"service, denied", fakeARM{vault: roles, own: secretsUser, assigned: assigned, denied: `{"properties":{"denyAssignmentName":"blueprint","scope":"/subscriptions/` + azSub + `",` +
			`"permissions":[{"dataActions":["*"]}],"principals":[{"id":"00000000-0000-0000-0000-000000000000","type":"SystemDefined"}],"excludePrincipals":[{"id":"` + azPerson + `","type":"User"}]}}`}, nil, latchkey.CheckService, latchkey.CheckFailed, "deny assignment blueprint"},
		{"service, denials not known", fakeARM{vault: roles, own: secretsUser, status: map[string]int{"/denyassignments": 500}}, nil, latchkey.CheckService, latchkey.CheckUnknown, "deny assignment"},
		{"no look at the vault, which answers: tenant", fakeARM{vault: roles, status: map[string]int{"/vaults/kv": 403}}, nil, latchkey.CheckTenant, latchkey.CheckPassed, "linked"},
		{"another tenant's", fakeARM{vault: roles}, &vault.Error{Kind: vault.ErrDenied, Check: "tenant", Msg: "of tenant x, not y"}, latchkey.CheckTenant, latchkey.CheckFailed, "of tenant x, not y"},
		{"no sign-in", fakeARM{vault: roles}, &vault.Error{Kind: vault.ErrDenied, Check: "sign-in", Msg: "the client secret has expired"}, latchkey.CheckService, latchkey.CheckFailed, "the client secret has expired"},
		{"service without the role", fakeARM{vault: roles, own: `{"dataActions":["Microsoft.KeyVault/vaults/secrets/readMetadata/action"]}`}, nil, latchkey.CheckService, latchkey.CheckFailed,
			`az role assignment create --role "Key Vault Secrets User" --assignee-object-id ` + azService + ` --assignee-principal-type ServicePrincipal --scope "` + azScope + `/secrets/one"`},
		{"service, permissions not known", fakeARM{vault: roles, status: map[string]int{"/permissions": 403}}, nil, latchkey.CheckService, latchkey.CheckUnknown, "not known whether the service may read"},
		{"person without a role", fakeARM{vault: roles, own: secretsUser}, nil, latchkey.CheckPerson, latchkey.CheckFailed, "--assignee-object-id " + azPerson + " --assignee-principal-type User"},
		{"person, a role under a condition", fakeARM{vault: roles, own: secretsUser, assigned: strings.Replace(assigned, `"scope"`, `"condition":"x","scope"`, 1)}, nil, latchkey.CheckPerson, latchkey.CheckUnknown, "condition"},
		{"person, roles not known", fakeARM{vault: roles, own: secretsUser, status: map[string]int{"/roleassignments": 403}}, nil, latchkey.CheckPerson, latchkey.CheckUnknown, "which roles"},
		{"person, denied", fakeARM{vault: roles, own: secretsUser, assigned: assigned, denied: `{"properties":{"denyAssignmentName":"blueprint","scope":"/subscriptions/` + azSub + `",` +
			`"permissions":[{"dataActions":["*"]}],"principals":[{"id":"00000000-0000-0000-0000-000000000000","type":"SystemDefined"}]}}`}, nil, latchkey.CheckPerson, latchkey.CheckFailed, "deny assignment blueprint"},
		{"person, denials not known", fakeARM{vault: roles, own: secretsUser, assigned: assigned, status: map[string]int{"/denyassignments": 500}}, nil, latchkey.CheckPerson, latchkey.CheckUnknown, "deny assignment"},
		{"firewall: network", fakeARM{vault: roles, own: secretsUser}, denied("ForbiddenByFirewall", "203.0.113.7"), latchkey.CheckNetwork, latchkey.CheckFailed, "az keyvault network-rule add --name kv --subscription " + azSub + " --ip-address 203.0.113.7"},
		{"firewall: service", fakeARM{vault: roles, own: secretsUser}, denied("ForbiddenByFirewall", ""), latchkey.CheckService, latchkey.CheckPassed, "may read the secret"},
		{"firewall: secret", fakeARM{vault: roles, own: secretsUser, assigned: assigned}, denied("ForbiddenByFirewall", ""), latchkey.CheckSecret, latchkey.CheckUnknown, "could not be looked at"},
		{"private endpoints", fakeARM{vault: roles, own: secretsUser}, denied("ForbiddenByConnection", ""), latchkey.CheckNetwork, latchkey.CheckFailed, "--public-network-access Enabled"},
		{"private endpoints, no route", fakeARM{vault: roles + `,"publicNetworkAccess":"Disabled"`, own: secretsUser}, away, latchkey.CheckNetwork, latchkey.CheckFailed, "private endpoints only"},
		{"a missing role is no network", fakeARM{vault: roles, own: `{}`}, denied("ForbiddenByRbac", ""), latchkey.CheckNetwork, latchkey.CheckPassed, "answers"},
		{"access policies: vault", fakeARM{vault: `"accessPolicies":[]`}, nil, latchkey.CheckVault, latchkey.CheckPassed, "Power Platform"},
		{"access policies: person", fakeARM{vault: `"accessPolicies":[{"tenantId":"x","objectId":"` + azPerson + `","permissions":{"secrets":["Get"]}}]`}, nil, latchkey.CheckPerson, latchkey.CheckPassed, "Power Platform"},
		{"access policies: none for the person", fakeARM{vault: `"accessPolicies":[{"tenantId":"x","objectId":"` + azPerson + `","permissions":{"secrets":["list"]}}]`}, nil, latchkey.CheckPerson, latchkey.CheckFailed,
			"az keyvault set-policy --name kv --subscription " + azSub + " --object-id " + azPerson + " --secret-permissions get list"},
		{"access policies: perhaps a group's", fakeARM{vault: `"accessPolicies":[{"tenantId":"x","objectId":"group","permissions":{"secrets":["all"]}}]`}, nil, latchkey.CheckPerson, latchkey.CheckUnknown, "group"},
		{"access policies: service", fakeARM{vault: `"accessPolicies":[{"tenantId":"x","objectId":"` + azService + `","permissions":{"secrets":["get"]}}]`}, nil, latchkey.CheckService, latchkey.CheckPassed, "may read"},
		{"throttled", fakeARM{vault: roles, own: secretsUser, status: map[string]int{"/roleassignments": 429}}, nil, latchkey.CheckPerson, latchkey.CheckUnknown, "asked too often"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := &tt.arm
			f.provider = map[bool]string{true: "Registered", false: f.provider}[f.provider == ""]
			server := httptest.NewTLSServer(f)
			defer server.Close()
			m, err := azure.NewResourceManager(azure.ResourceManagerConfig{Endpoint: server.URL, Audience: server.URL, Credential: azureToken{}, Transport: server.Client()})
			if err != nil {
				t.Fatal(err)
			}
			results := m.Inspect(t.Context(), vault.Question{
				Reference: latchkey.SecretReference{SubscriptionID: azSub, ResourceGroup: "g", Vault: "kv", Secret: "one"},
				Person:    "ann", ObjectIDs: map[string]string{azTenant: azPerson}, Tenants: []string{azTenant},
				Read: func(context.Context) error { return tt.read },
			})
			r := result(t, results, tt.step)
			if said := fmt.Sprintf("%s %s %s %s %s", r.Message, r.Warning, r.Role, r.Remedy, r.Command); r.State != tt.want || !strings.Contains(said, tt.text) {
				t.Errorf("%+v; want %s and %q", r, tt.want, tt.text)
			}
			for _, r := range results {
				if strings.Contains(r.Message, "not repeated") {
					t.Errorf("%+v repeats what the other side sent", r)
				}
			}
			for _, asked := range f.asked {
				if !strings.HasPrefix(asked, "GET ") {
					t.Errorf("%s: nothing may be changed", asked)
				}
			}
		})
	}
}

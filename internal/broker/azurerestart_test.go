package broker_test

import (
	"context"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"

	"latchkey.dev/internal/latchkeytest"
	"latchkey.dev/internal/vault"
	"latchkey.dev/internal/vault/azure"
	"latchkey.dev/latchkey"
)

const (
	someTenant       = "44444444-4444-4444-4444-444444444444"
	someObject       = "22222222-2222-2222-2222-222222222222"
	someSubscription = "11111111-1111-1111-1111-111111111111"
)

// anAzure is a directory with one vault in which one person may read: what stands for
// Azure Resource Manager in tests.
type anAzure struct{}

func (anAzure) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return azcore.AccessToken{Token: "x", ExpiresOn: time.Now().Add(time.Hour)}, nil
}

func (anAzure) Do(req *http.Request) (*http.Response, error) {
	const may = `{"dataActions":["Microsoft.KeyVault/vaults/secrets/*"]}`
	body, path := `{"registrationState":"Registered"}`, strings.ToLower(req.URL.Path)
	switch {
	case strings.HasSuffix(path, "/permissions"):
		body = `{"value":[` + may + `]}`
	case strings.HasSuffix(path, "/roleassignments"):
		body = `{"value":[]}`
		if strings.Contains(req.URL.RawQuery, someObject) {
			body = `{"value":[{"properties":{"roleDefinitionId":"/providers/Microsoft.Authorization/roleDefinitions/1","scope":"/"}}]}`
		}
	case strings.Contains(path, "/roledefinitions/"):
		body = `{"properties":{"roleName":"reader of secrets","permissions":[` + may + `]}}`
	case strings.HasSuffix(path, "/denyassignments"):
		body = `{"value":[]}`
	case strings.Contains(path, "/vaults/"):
		body = `{"properties":{"tenantId":"` + someTenant + `","enableRbacAuthorization":true,"enablePurgeProtection":true}}`
	}
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader(body)), Request: req}, nil
}

// newAnAzure returns options of a service that reads vaults in Azure, of tenants that
// are linked.
func newAnAzure(t *testing.T, url string) (latchkeytest.Options, func(*latchkeytest.Service)) {
	t.Helper()
	m, err := azure.NewResourceManager(azure.ResourceManagerConfig{Endpoint: "https://management.example", Audience: "https://management.example", Credential: anAzure{}, Transport: anAzure{}})
	if err != nil {
		t.Fatal(err)
	}
	v := &ofTenant{}
	return latchkeytest.Options{DatabaseURL: url, Manager: m, OpenVault: func(_ latchkey.VaultReference, embedded bool) vault.Vault {
		if embedded {
			return nil
		}
		return v
	}}, func(s *latchkeytest.Service) { v.s = s }
}

// ofTenant is a vault of someTenant.
type ofTenant struct{ s *latchkeytest.Service }

func (v *ofTenant) CheckRead(ctx context.Context, _ string) error {
	linked, err := v.s.Broker.LinkedAzureTenants(ctx)
	if err == nil && !slices.Contains(linked, someTenant) {
		err = &vault.Error{Kind: vault.ErrDenied, Check: "tenant", Msg: "of another tenant"}
	}
	return err
}

func (v *ofTenant) Get(ctx context.Context, name string) (vault.Value, error) {
	return vault.Value{}, v.CheckRead(ctx, name)
}

// TestAzureChecksStartAnew changes what the checks of references to vaults in Azure
// depend on.
func TestAzureChecksStartAnew(t *testing.T) {
	latchkeytest.EachDB(t, func(t *testing.T, url string) {
		options, use := newAnAzure(t, url)
		options.Idle = true
		s := latchkeytest.New(t, options)
		use(s)
		ctx, b := t.Context(), s.Broker
		ref := latchkey.SecretReference{SubscriptionID: someSubscription, ResourceGroup: "rg", Vault: "cloudy", Secret: "x"}
		if _, err := b.CreateEnvironment(ctx, s.Admin, latchkey.EnvironmentCreate{Name: "prod", Vaults: []string{latchkey.AnyVault}}); err != nil {
			t.Fatal(err)
		}
		if _, err := b.CreateVault(ctx, s.Admin, latchkey.EmbeddedVaultCreate{Name: "erp"}); err != nil {
			t.Fatal(err)
		}
		erp, err := b.Vault(ctx, s.Admin, "erp")
		if err != nil {
			t.Fatal(err)
		}
		ada, bob := s.User(t, "ada", "prod", latchkey.EnvMaker), s.User(t, "bob", "prod", latchkey.EnvMaker)
		var names []string
		refer := func(who latchkey.Caller, name string, r latchkey.SecretReference) {
			t.Helper()
			v, err := b.CreateVariable(ctx, who, "prod", latchkey.VariableCreate{DisplayName: name, Type: latchkey.TypeSecret, Secret: &r})
			if err != nil {
				t.Fatal(err)
			}
			names = append(names, v.Name)
		}
		refer(ada, "adas", ref)
		refer(bob, "bobs", ref)
		missing := latchkey.SecretReference{SubscriptionID: erp.SubscriptionID, ResourceGroup: erp.ResourceGroup, Vault: erp.Name, Secret: "missing"}
		refer(s.Admin, "embedded", missing)
		states := func() string {
			t.Helper()
			var all []string
			for _, n := range names {
				v, err := b.Variable(ctx, s.Admin, "prod", n)
				if err != nil {
					t.Fatal(err)
				}
				all = append(all, string(v.Check.State))
			}
			return strings.Join(all, " ")
		}
		// settle does the background work until no check is under way.
		settle := func(want string) {
			t.Helper()
			work, stop := context.WithCancel(ctx)
			done := begin(func() error { return b.Work(work) })
			latchkeytest.Eventually(t, latchkeytest.Patience, "the checks", func() bool { return !strings.Contains(states(), "checking") })
			stop()
			if err := <-done; err != nil {
				t.Error(err)
			}
			if got := states(); got != want {
				t.Fatalf("checks = %s; want %s", got, want)
			}
		}
		starts := func(what, want string, err error) {
			t.Helper()
			if got := states(); err != nil || got != want {
				t.Fatalf("after %s: %v, checks = %s; want %s", what, err, got, want)
			}
		}
		settle("failed failed failed")
		_, err = b.LinkAzureTenant(ctx, s.Admin, latchkey.AzureTenantLink{ID: someTenant})
		starts("the tenant was linked", "checking checking failed", err)
		settle("unknown unknown failed")
		identity := latchkey.EntraIdentity(someTenant, someObject)
		_, err = b.AddIdentity(ctx, s.Admin, "ada", identity)
		starts("it was said who ada is", "checking unknown failed", err)
		settle("passed unknown failed")
		_, err = b.LinkAzureTenant(ctx, s.Admin, latchkey.AzureTenantLink{ID: someObject})
		starts("another tenant was linked", "passed checking failed", err)
		settle("passed unknown failed")
		starts("a tenant was unlinked", "checking checking failed", b.UnlinkAzureTenant(ctx, s.Admin, someObject))
		settle("passed unknown failed")
		starts("it was taken back who ada is", "checking unknown failed", b.RemoveIdentity(ctx, s.Admin, "ada", identity))
		settle("unknown unknown failed")
		starts("the tenant was unlinked", "checking checking failed", b.UnlinkAzureTenant(ctx, s.Admin, someTenant))
		settle("failed failed failed")
	})
}

// TestDoctorAzure has doctor ask a vault in Azure, or not.
func TestDoctorAzure(t *testing.T) {
	latchkeytest.EachDB(t, func(t *testing.T, url string) {
		options, use := newAnAzure(t, url)
		options.Idle = true
		s := latchkeytest.New(t, options)
		use(s)
		ctx, b := t.Context(), s.Broker
		doctor := func(env string, offline bool) latchkey.DoctorReport {
			t.Helper()
			r, err := b.Doctor(ctx, s.Admin, latchkey.DoctorOptions{Environment: env, Offline: offline})
			if err != nil {
				t.Fatal(err)
			}
			return r
		}
		if _, err := b.CreateEnvironment(ctx, s.Admin, latchkey.EnvironmentCreate{Name: "prod", Vaults: []string{latchkey.AnyVault}}); err != nil {
			t.Fatal(err)
		}
		if got := findings(doctor("", true)); got["azure-sign-in"] != "" {
			t.Errorf("azure-sign-in is %s though nothing is in Azure", got["azure-sign-in"])
		}
		refer := func(i int, vaultName string) {
			t.Helper()
			ref := latchkey.SecretReference{SubscriptionID: someSubscription, ResourceGroup: "rg", Vault: vaultName, Secret: "x"}
			if _, err := b.CreateVariable(ctx, s.Admin, "prod", latchkey.VariableCreate{DisplayName: "V" + string(rune('a'+i)), Type: latchkey.TypeSecret, Secret: &ref}); err != nil {
				t.Fatal(err)
			}
		}
		refer(0, "cloudy")
		if got := findings(doctor("", true)); got["azure-sign-in"] != latchkey.FindingUnknown {
			t.Errorf("offline, with a reference to Azure, azure-sign-in is %q; want unknown", got["azure-sign-in"])
		}
		if _, err := b.LinkAzureTenant(ctx, s.Admin, latchkey.AzureTenantLink{ID: someTenant}); err != nil {
			t.Fatal(err)
		}
		got := findings(doctor("prod", false))
		for check, want := range map[string]latchkey.FindingState{
			"vault-reachable cloudy": latchkey.FindingOK, "vault-tenant cloudy": latchkey.FindingOK, "vault-role cloudy": latchkey.FindingOK,
			"vault-protection cloudy": latchkey.FindingOK, "vault-person cloudy": latchkey.FindingUnknown, "azure-provider " + someSubscription: latchkey.FindingOK,
		} {
			if got[check] != want {
				t.Errorf("%s is %q; want %s", check, got[check], want)
			}
		}
		r := doctor("prod", true)
		if got := findings(r); got["vaults-asked"] != latchkey.FindingUnknown || got["vault-reachable cloudy"] != "" {
			t.Errorf("offline: %+v; want that no vault was asked", r.Findings)
		}
		for i := range 21 {
			refer(i+1, "cloudy-"+string(rune('a'+i)))
		}
		r = doctor("prod", false)
		asked := 0
		for _, f := range r.Findings {
			if f.Check == "vault-reachable" {
				asked++
			}
		}
		if asked != 20 || findings(r)["vaults-asked"] != latchkey.FindingUnknown {
			t.Errorf("%d vaults were asked, and it is said that others were not: %s; want 20", asked, findings(r)["vaults-asked"])
		}

		// A vault that the environment does not list is not asked.
		if _, err := b.UpdateEnvironment(ctx, s.Admin, "prod", latchkey.EnvironmentUpdate{Vaults: &[]string{"/subscriptions/" + someSubscription + "/resourceGroups/rg/providers/Microsoft.KeyVault/vaults/cloudy"}}); err != nil {
			t.Fatal(err)
		}
		if got := findings(doctor("prod", false)); got["vault-reachable cloudy"] != latchkey.FindingOK || got["vault-reachable cloudy-a"] != "" {
			t.Errorf("vaults that are not listed were asked: %v", got)
		}
	})
}

// begin runs f beside the test, and returns where its error comes.
func begin(f func() error) <-chan error {
	done := make(chan error, 1)
	go func() { done <- f() }()
	return done
}

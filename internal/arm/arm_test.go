package arm_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	azarm "github.com/Azure/azure-sdk-for-go/sdk/azcore/arm"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/authorization/armauthorization/v2"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/keyvault/armkeyvault"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/resources/armresources/v3"

	"latchkey.dev/internal/arm"
	"latchkey.dev/internal/latchkeytest"
	"latchkey.dev/latchkey"
)

// as is a credential of one of the installation's principals.
type as struct {
	s   *latchkeytest.Service
	who latchkey.Caller
}

// GetToken implements [azcore.TokenCredential].
func (a as) GetToken(ctx context.Context, _ policy.TokenRequestOptions) (azcore.AccessToken, error) {
	token, expires, err := a.s.Broker.VaultToken(ctx, a.who)
	return azcore.AccessToken{Token: token, ExpiresOn: expires}, err
}

// serve serves the face over TLS, and returns the options of SDKs that speak to it.
func serve(t *testing.T, s *latchkeytest.Service) *azarm.ClientOptions {
	t.Helper()
	h, err := arm.New(arm.Config{Broker: s.Broker, Tenant: s.Broker.Tenant(), Authority: "https://login.vault.test/" + s.Broker.Tenant(), VaultURL: func(name string) string { return "https://" + name + ".vault.test" }})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewTLSServer(h)
	t.Cleanup(server.Close)
	return &azarm.ClientOptions{DisableRPRegistration: true, ClientOptions: azcore.ClientOptions{
		Transport: server.Client(), Retry: policy.RetryOptions{MaxRetries: -1},
		Cloud: cloud.Configuration{Services: map[cloud.ServiceName]cloud.ServiceConfiguration{cloud.ResourceManager: {Endpoint: server.URL, Audience: server.URL}}},
	}}
}

// TestSDKs asks with Azure's own SDKs, without a change to them.
func TestSDKs(t *testing.T) {
	s := latchkeytest.New(t, latchkeytest.Options{})
	c := s.Chain(t)
	ctx := t.Context()
	options := serve(t, s)
	ref := c.Vault.Reference()
	admin := as{s, s.Admin}

	providers, err := armresources.NewProvidersClient(ref.SubscriptionID, admin, options)
	if err != nil {
		t.Fatal(err)
	}
	if p, err := providers.Get(ctx, "Microsoft.KeyVault", nil); err != nil || *p.RegistrationState != "Registered" {
		t.Errorf("provider: %+v, %v", p.Provider, err)
	}
	wantStatus(t, "another provider", 404, func() error { _, err := providers.Get(ctx, "Microsoft.Compute", nil); return err })

	vaults, err := armkeyvault.NewVaultsClient(ref.SubscriptionID, admin, options)
	if err != nil {
		t.Fatal(err)
	}
	v, err := vaults.Get(ctx, ref.ResourceGroup, strings.ToUpper(ref.Vault), nil)
	if err != nil {
		t.Fatal(err)
	}
	if p := v.Properties; *p.TenantID != s.Broker.Tenant() || !*p.EnableRbacAuthorization || *p.VaultURI != "https://"+ref.Vault+".vault.test/" || *v.ID != ref.String() {
		t.Errorf("vault: %+v", v.Vault)
	}
	wantStatus(t, "a vault in another group", 404, func() error { _, err := vaults.Get(ctx, "other", ref.Vault, nil); return err })

	user := s.User(t, "reader", c.Env, latchkey.EnvMaker)
	if _, err := s.Broker.AssignRole(ctx, s.Admin, ref.Vault, latchkey.RoleAssignmentCreate{Principal: user.ID, Role: latchkey.VaultSecretsUser, Secret: c.Reference.Secret}); err != nil {
		t.Fatal(err)
	}
	permissions := func(who latchkey.Caller, parent, kind, name string) (all []string) {
		t.Helper()
		client, err := armauthorization.NewPermissionsClient(ref.SubscriptionID, as{s, who}, options)
		if err != nil {
			t.Fatal(err)
		}
		for pager := client.NewListForResourcePager(ref.ResourceGroup, "Microsoft.KeyVault", parent, kind, name, nil); pager.More(); {
			page, err := pager.NextPage(ctx)
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range page.Value {
				for _, a := range p.DataActions {
					all = append(all, *a)
				}
			}
		}
		return all
	}
	get := string(latchkey.VaultGetSecret)
	if on := permissions(user, "vaults/"+ref.Vault, "secrets", c.Reference.Secret); !slices.Contains(on, get) {
		t.Errorf("permissions on the secret: %q; want %s", on, get)
	}
	if on := permissions(user, "vaults/"+ref.Vault, "secrets", "other"); slices.Contains(on, get) {
		t.Errorf("permissions on another secret: %q; want none", on)
	}
	// The SDK leaves the parent's path empty, which makes two slashes.
	if on := permissions(s.Admin, "", "vaults", ref.Vault); !slices.Contains(on, get) {
		t.Errorf("the administrator's permissions on the vault: %q; want %s", on, get)
	}

	assignments, err := armauthorization.NewRoleAssignmentsClient(ref.SubscriptionID, admin, options)
	if err != nil {
		t.Fatal(err)
	}
	definitions, err := armauthorization.NewRoleDefinitionsClient(admin, options)
	if err != nil {
		t.Fatal(err)
	}
	assigned := func(scope, filter string) (found []string) {
		t.Helper()
		for pager := assignments.NewListForScopePager(scope, &armauthorization.RoleAssignmentsClientListForScopeOptions{Filter: &filter}); pager.More(); {
			page, err := pager.NextPage(ctx)
			if err != nil {
				t.Fatal(err)
			}
			for _, a := range page.Value {
				d, err := definitions.GetByID(ctx, strings.TrimPrefix(*a.Properties.RoleDefinitionID, "/"), nil)
				if err != nil {
					t.Fatal(err)
				}
				found = append(found, *a.Properties.PrincipalID+" "+*d.Properties.RoleName+" "+strings.TrimPrefix(*a.Properties.Scope, ref.String()))
			}
		}
		return found
	}
	mine := string(user.ID) + " Key Vault Secrets User /secrets/" + c.Reference.Secret
	if got := assigned(c.Reference.String(), "assignedTo('"+string(user.ID)+"')"); !slices.Equal(got, []string{mine}) {
		t.Errorf("assigned to the user on the secret: %q; want %q", got, mine)
	}
	if got := assigned(ref.String(), "assignedTo('"+string(user.ID)+"')"); len(got) != 0 {
		t.Errorf("assigned to the user on the vault: %q; want none", got)
	}
	if got := assigned(c.Reference.String(), "atScope()"); len(got) < 3 || !slices.Contains(got, mine) {
		t.Errorf("assigned at the secret: %q; want the administrator's, the service's and the user's", got)
	}
	denies, err := armauthorization.NewDenyAssignmentsClient(ref.SubscriptionID, admin, options)
	if err != nil {
		t.Fatal(err)
	}
	if page, err := denies.NewListForScopePager(ref.String(), nil).NextPage(ctx); err != nil || len(page.Value) != 0 {
		t.Errorf("deny assignments: %v, %v; want none", page.Value, err)
	}

	// Others see their own only, and a vault that they hold no role in does not exist.
	others, err := armauthorization.NewRoleAssignmentsClient(ref.SubscriptionID, as{s, user}, options)
	if err != nil {
		t.Fatal(err)
	}
	filter := "assignedTo('" + string(s.Admin.ID) + "')"
	wantStatus(t, "somebody else's assignments", 403, func() error {
		_, err := others.NewListForScopePager(ref.String(), &armauthorization.RoleAssignmentsClientListForScopeOptions{Filter: &filter}).NextPage(ctx)
		return err
	})
	strange, err := armkeyvault.NewVaultsClient(ref.SubscriptionID, as{s, s.User(t, "a-stranger", "", "")}, options)
	if err != nil {
		t.Fatal(err)
	}
	wantStatus(t, "a vault as a stranger", 404, func() error { _, err := strange.Get(ctx, ref.ResourceGroup, ref.Vault, nil); return err })
}

func wantStatus(t *testing.T, what string, status int, f func() error) {
	t.Helper()
	err := f()
	if e, ok := errors.AsType[*azcore.ResponseError](err); !ok || e.StatusCode != status {
		t.Errorf("%s: %v; want status %d", what, err, status)
	}
}

// TestBadRequests sends what no SDK does.
func TestBadRequests(t *testing.T) {
	s := latchkeytest.New(t, latchkeytest.Options{})
	c := s.Chain(t)
	h, err := arm.New(arm.Config{Broker: s.Broker, Tenant: s.Broker.Tenant(), Authority: "https://login.vault.test/" + s.Broker.Tenant(), VaultURL: func(name string) string { return name }})
	if err != nil {
		t.Fatal(err)
	}
	token, _, err := s.Broker.VaultToken(t.Context(), s.Admin)
	if err != nil {
		t.Fatal(err)
	}
	vault, subscription := c.Vault.ARMID, "/subscriptions/"+c.Vault.SubscriptionID
	tests := []struct {
		method, path, token string
		status              int
		code                string
	}{
		{"GET", vault + "?api-version=2022-04-01", "", 401, "AuthenticationFailed"},
		{"GET", vault + "?api-version=2022-04-01", "x", 401, "InvalidAuthenticationToken"},
		{"GET", vault, token, 400, "MissingApiVersionParameter"},
		{"GET", vault + "?api-version=", token, 400, "MissingApiVersionParameter"},
		{"GET", vault + "?api-version=1", token, 400, "InvalidApiVersionParameter"},
		{"GET", vault + "?api-version=2022-04-01-beta", token, 400, "InvalidApiVersionParameter"},
		{"GET", vault + "?api-version=2022-04-01%0a", token, 400, "InvalidApiVersionParameter"},
		{"GET", vault + "?Api-Version=2022-04-01-Preview", token, 200, ""},
		{"PUT", vault + "?api-version=2022-04-01", token, 405, "MethodNotAllowed"},
		{"GET", vault + "/providers/Microsoft.Authorization/roleAssignments?api-version=2022-04-01&$filter=principalId%20ne%20'x'", token, 400, "UnsupportedQuery"},
		{"GET", "/subscriptions/x/resourceGroups/y?api-version=2022-04-01", token, 404, "InvalidResourceType"},
		{"GET", "/providers/Microsoft.Authorization/roleDefinitions/x?api-version=2022-04-01", token, 404, "RoleDefinitionDoesNotExist"},
		{"GET", vault + "%2Fsecrets?api-version=2022-04-01", token, 404, "ResourceNotFound"},
		{"GET", "/" + strings.Repeat("x", 2000) + "?api-version=2022-04-01", token, 404, "InvalidResourceType"},
		{"HEAD", vault + "?api-version=2022-04-01", token, 200, ""},
		{"GET", subscription + "/providers/microsoft.powerplatform?api-version=2022-04-01", token, 200, `"namespace":"Microsoft.PowerPlatform"`},
		{"GET", subscription + "/providers/Microsoft.Compute?api-version=2022-04-01", token, 404, "InvalidResourceNamespace"},
	}
	ids := map[string]bool{}
	for _, tt := range tests {
		r := httptest.NewRequest(tt.method, tt.path, nil)
		if tt.token != "" {
			r.Header.Set("Authorization", "Bearer "+tt.token)
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != tt.status || !strings.Contains(w.Body.String(), tt.code) {
			t.Errorf("%s %.80s: %d %s; want %d %s", tt.method, tt.path, w.Code, w.Body, tt.status, tt.code)
		}
		if id := w.Header().Get("x-ms-request-id"); !latchkey.IsGUID(id) || ids[id] {
			t.Errorf("%s %.80s: request id %q; want a new GUID", tt.method, tt.path, id)
		} else {
			ids[id] = true
		}
		if w.Code == http.StatusUnauthorized && !strings.Contains(w.Header().Get("WWW-Authenticate"), `authorization_uri="https://login.vault.test/`+s.Broker.Tenant()+`"`) {
			t.Errorf("the challenge %q does not name the tenant", w.Header().Get("WWW-Authenticate"))
		}
	}
}

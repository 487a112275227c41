package azure

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/arm"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/authorization/armauthorization/v2"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/keyvault/armkeyvault"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/resources/armresources/v3"

	"latchkey.dev/latchkey"
)

// armPages bounds the pages that are read of one list of Azure Resource Manager.
const armPages = 50

// ResourceManagerConfig says how Azure Resource Manager is asked, and as whom.
type ResourceManagerConfig struct {
	// Endpoint is its address and Audience what tokens for it are for.
	Endpoint string
	Audience string

	// Credential is the identity that asks.
	Credential azcore.TokenCredential

	// Transport sends requests. It follows no redirects.
	Transport policy.Transporter
}

// A ResourceManager asks Azure Resource Manager, and changes nothing there. It is
// safe for concurrent use.
type ResourceManager struct {
	credential azcore.TokenCredential
	scope      string
	options    *arm.ClientOptions
	none       error // why nobody can be asked, or nil
}

// NewResourceManager returns who asks the Azure Resource Manager that c names.
func NewResourceManager(c ResourceManagerConfig) (*ResourceManager, error) {
	if c.Credential == nil || c.Transport == nil || c.Endpoint == "" || c.Audience == "" {
		return nil, errors.New("azure resource manager needs an address, an audience, a credential and a transport")
	}
	return &ResourceManager{
		credential: c.Credential,
		scope:      c.Audience + "/.default",
		options: &arm.ClientOptions{
			// The SDK would otherwise register resource providers by itself.
			DisableRPRegistration: true,
			ClientOptions: azcore.ClientOptions{
				Transport: bounded{c.Transport},
				Retry:     policy.RetryOptions{MaxRetries: maxRetries, RetryDelay: retryDelay, MaxRetryDelay: maxRetryDelay},
				Cloud: cloud.Configuration{Services: map[cloud.ServiceName]cloud.ServiceConfiguration{
					cloud.ResourceManager: {Endpoint: c.Endpoint, Audience: c.Audience},
				}},
			},
		},
	}, nil
}

// NoResourceManager returns one that knows nothing, for a reason that people are
// told as a part of a sentence.
func NoResourceManager(why string) *ResourceManager {
	return &ResourceManager{none: &unaskedError{why}}
}

// An unaskedError is why nobody was asked.
type unaskedError struct{ why string }

func (e *unaskedError) Error() string { return e.why }

// ResourceManager returns who asks the cloud's Azure Resource Manager.
func (a *Access) ResourceManager() *ResourceManager {
	if a.Cloud.ResourceManager == "" {
		return NoResourceManager("the settings of this cloud name no Azure Resource Manager")
	}
	c, err := a.credential()
	if err == nil {
		var m *ResourceManager
		if m, err = NewResourceManager(ResourceManagerConfig{
			Endpoint: a.Cloud.ResourceManager, Audience: a.Cloud.ResourceManagerAudience, Credential: c, Transport: a.client,
		}); err == nil {
			return m
		}
	}
	return NoResourceManager("the service has no identity in Azure")
}

// An identity is who a token is for.
type identity struct {
	ObjectID string `json:"oid"`
	Tenant   string `json:"tid"`
	AppID    string `json:"appid"`
}

// whoami returns who asks, as its token says. It is told to people, and nothing
// is decided by it: the token's signature is not for us to check.
func (m *ResourceManager) whoami(ctx context.Context) (id identity, err error) {
	if m.none != nil {
		return id, m.none
	}
	token, err := m.credential.GetToken(ctx, policy.TokenRequestOptions{Scopes: []string{m.scope}})
	if err != nil {
		return id, err
	}
	return identityOf(token.Token), nil
}

// identityOf returns who a token is for, or the zero value if it does not say.
func identityOf(token string) (id identity) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return id
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil || json.Unmarshal(payload, &id) != nil {
		return identity{}
	}
	return id
}

// who names an identity in a sentence, as far as it is known.
func (id identity) who() string {
	if id.ObjectID == "" || id.Tenant == "" {
		return ""
	}
	return fmt.Sprintf(", as the object %s of the tenant %s", id.ObjectID, id.Tenant)
}

// registered returns whether a resource provider is registered in a subscription,
// and Azure's word for its state.
func (m *ResourceManager) registered(ctx context.Context, subscription, namespace string) (bool, string, error) {
	if m.none != nil {
		return false, "", m.none
	}
	c, err := armresources.NewProvidersClient(subscription, m.credential, m.options)
	if err != nil {
		return false, "", err
	}
	resp, err := c.Get(ctx, namespace, nil)
	if err != nil {
		return false, "", err
	}
	state := value(resp.RegistrationState)
	return strings.EqualFold(state, "Registered"), state, nil
}

// A resource is what is known of a vault as a resource of Azure.
type resource struct {
	tenant   string
	byRoles  bool // data actions go by roles; otherwise by access policies
	policies []accessPolicy
	closed   bool // nothing but private endpoints reaches it
	firewall bool // only some addresses reach it
	private  int  // private endpoints

	softDelete bool // what is deleted can be recovered for some time
	purgeProof bool // and nobody can shorten that time
}

// An accessPolicy is what an object of the directory may do with secrets.
type accessPolicy struct {
	object, application string
	secrets             []string
}

func (m *ResourceManager) vault(ctx context.Context, ref latchkey.VaultReference) (r resource, err error) {
	if m.none != nil {
		return r, m.none
	}
	c, err := armkeyvault.NewVaultsClient(ref.SubscriptionID, m.credential, m.options)
	if err != nil {
		return r, err
	}
	resp, err := c.Get(ctx, ref.ResourceGroup, ref.Vault, nil)
	if err != nil {
		return r, err
	}
	p := resp.Properties
	if p == nil {
		return r, errors.New("the answer is not a vault")
	}
	r.tenant, r.byRoles = value(p.TenantID), value(p.EnableRbacAuthorization)
	r.closed = strings.EqualFold(value(p.PublicNetworkAccess), "Disabled")
	if a := p.NetworkACLs; a != nil {
		r.firewall = strings.EqualFold(string(value(a.DefaultAction)), "Deny")
	}
	r.private = len(p.PrivateEndpointConnections)
	// ARM: soft delete is on unless it is said to be off, purge protection is off
	// unless it is said to be on.
	r.softDelete = p.EnableSoftDelete == nil || *p.EnableSoftDelete
	r.purgeProof = value(p.EnablePurgeProtection)
	for _, a := range p.AccessPolicies {
		if a == nil || a.Permissions == nil {
			continue
		}
		policy := accessPolicy{object: value(a.ObjectID), application: value(a.ApplicationID)}
		for _, s := range a.Permissions.Secrets {
			policy.secrets = append(policy.secrets, string(value(s)))
		}
		r.policies = append(r.policies, policy)
	}
	return r, nil
}

// permissions returns what the asking identity may do with a secret of a vault.
func (m *ResourceManager) permissions(ctx context.Context, ref latchkey.SecretReference) (entries []entry, err error) {
	if m.none != nil {
		return nil, m.none
	}
	c, err := armauthorization.NewPermissionsClient(ref.SubscriptionID, m.credential, m.options)
	if err != nil {
		return nil, err
	}
	pager := c.NewListForResourcePager(ref.ResourceGroup, "Microsoft.KeyVault", "vaults/"+ref.Vault, "secrets", ref.Secret, nil)
	for n := 0; pager.More(); n++ {
		page, err := pager.NextPage(ctx)
		if err != nil {
			return nil, err
		}
		for _, p := range page.Value {
			if p != nil {
				entries = append(entries, entry{texts(p.DataActions), texts(p.NotDataActions)})
			}
		}
		if n == armPages {
			return nil, errTooMuch
		}
	}
	return entries, nil
}

var errTooMuch = fmt.Errorf("azure resource manager lists more than %d pages", armPages)

// assigned returns the roles of an object of the directory at a scope, those at
// scopes above and those of its groups included.
func (m *ResourceManager) assigned(ctx context.Context, subscription, scope, object string) (all []assignment, err error) {
	if m.none != nil {
		return nil, m.none
	}
	if !isObjectID(object) {
		return nil, errors.New("the object id is not one")
	}
	c, err := armauthorization.NewRoleAssignmentsClient(subscription, m.credential, m.options)
	if err != nil {
		return nil, err
	}
	definitions, err := armauthorization.NewRoleDefinitionsClient(m.credential, m.options)
	if err != nil {
		return nil, err
	}
	filter := "assignedTo('" + object + "')"
	pager := c.NewListForScopePager(scope, &armauthorization.RoleAssignmentsClientListForScopeOptions{Filter: &filter})
	known := map[string]assignment{} // id of a definition → its name and entries
	for n := 0; pager.More(); n++ {
		page, err := pager.NextPage(ctx)
		if err != nil {
			return nil, err
		}
		for _, a := range page.Value {
			if a == nil || a.Properties == nil {
				continue
			}
			id := value(a.Properties.RoleDefinitionID)
			role, ok := known[strings.ToLower(id)]
			if !ok {
				if role, err = definition(ctx, definitions, id); err != nil {
					return nil, err
				}
				known[strings.ToLower(id)] = role
			}
			role.scope, role.conditional = value(a.Properties.Scope), value(a.Properties.Condition) != ""
			all = append(all, role)
		}
		if n == armPages {
			return nil, errTooMuch
		}
	}
	return all, nil
}

func definition(ctx context.Context, c *armauthorization.RoleDefinitionsClient, id string) (a assignment, err error) {
	resp, err := c.GetByID(ctx, strings.TrimPrefix(id, "/"), nil)
	if err != nil {
		return a, err
	}
	if p := resp.Properties; p != nil {
		a.role = value(p.RoleName)
		for _, e := range p.Permissions {
			if e != nil {
				a.entries = append(a.entries, entry{texts(e.DataActions), texts(e.NotDataActions)})
			}
		}
	}
	return a, nil
}

// denied returns the deny assignments at a scope and above it.
func (m *ResourceManager) denied(ctx context.Context, subscription, scope string) (all []deny, err error) {
	if m.none != nil {
		return nil, m.none
	}
	c, err := armauthorization.NewDenyAssignmentsClient(subscription, m.credential, m.options)
	if err != nil {
		return nil, err
	}
	filter := "atScope()"
	pager := c.NewListForScopePager(scope, &armauthorization.DenyAssignmentsClientListForScopeOptions{Filter: &filter})
	for n := 0; pager.More(); n++ {
		page, err := pager.NextPage(ctx)
		if err != nil {
			return nil, err
		}
		for _, a := range page.Value {
			if a == nil || a.Properties == nil {
				continue
			}
			p := a.Properties
			d := deny{
				name: value(p.DenyAssignmentName), scope: value(p.Scope), onlyHere: value(p.DoNotApplyToChildScopes),
				principals: principals(p.Principals), exempted: principals(p.ExcludePrincipals),
			}
			for _, e := range p.Permissions {
				if e != nil {
					d.entries = append(d.entries, entry{texts(e.DataActions), texts(e.NotDataActions)})
					d.conditional = d.conditional || value(e.Condition) != ""
				}
			}
			all = append(all, d)
		}
		if n == armPages {
			return nil, errTooMuch
		}
	}
	return all, nil
}

func principals(list []*armauthorization.Principal) (all []principal) {
	for _, p := range list {
		if p != nil {
			all = append(all, principal{value(p.ID), value(p.Type)})
		}
	}
	return all
}

// value returns what p points to, or the zero value.
func value[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}

func texts(list []*string) (all []string) {
	for _, s := range list {
		if s != nil {
			all = append(all, *s)
		}
	}
	return all
}

// isObjectID reports whether a text can stand in a filter as the id of an object:
// a GUID in Azure, a principal's id in an embedded vault.
func isObjectID(s string) bool {
	return s != "" && len(s) <= 64 && strings.Trim(s, "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_") == ""
}

// armStatus returns the status of an answer of Azure Resource Manager, and its
// code, or 0 when there was none.
func armStatus(err error) (status int, code string) {
	if e, ok := errors.AsType[*azcore.ResponseError](err); ok {
		if codeRE.MatchString(e.ErrorCode) {
			code = e.ErrorCode
		}
		return e.StatusCode, code
	}
	return 0, ""
}

// armTrouble says in a sentence why Azure Resource Manager gave no answer, without
// repeating what it sent.
func armTrouble(err error) string {
	if e, ok := errors.AsType[*unaskedError](err); ok {
		return e.why
	}
	if e, ok := errors.AsType[*azidentity.AuthenticationFailedError](err); ok {
		if number := aadRE.FindString(e.Error()); number != "" {
			return "the service could not sign in to Azure (" + number + ")"
		}
		return "the service could not sign in to Azure"
	}
	switch status, code := armStatus(err); {
	case status == http.StatusForbidden:
		return "the service's identity may not look there: give it the role Reader"
	case status == http.StatusTooManyRequests:
		return "Azure Resource Manager is asked too often now"
	case status != 0:
		return strings.TrimRight(fmt.Sprintf("Azure Resource Manager answers %d %s", status, code), " ")
	case errors.Is(err, context.DeadlineExceeded):
		return "Azure Resource Manager gave no answer in time"
	}
	return "Azure Resource Manager could not be reached"
}

// inspectTimeout bounds a whole inspection.
const inspectTimeout = 25 * time.Second

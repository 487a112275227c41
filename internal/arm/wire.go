package arm

import (
	"net/http"
	"net/url"
	"regexp"
	"time"

	"latchkey.dev/latchkey"
)

func provider(subscription, name string) any {
	return map[string]any{
		"id": "/subscriptions/" + subscription + "/providers/" + name, "namespace": name,
		"registrationState": "Registered", "registrationPolicy": "RegistrationRequired", "resourceTypes": []any{},
	}
}

func (s *server) vault(v latchkey.EmbeddedVault) any {
	return map[string]any{
		"id": v.ARMID, "name": v.Name, "type": keyVaultProvider + "/vaults", "location": "local", "tags": map[string]string{},
		"properties": map[string]any{
			"sku": map[string]string{"family": "A", "name": "standard"}, "tenantId": s.Tenant, "vaultUri": s.VaultURL(v.Name) + "/",
			"accessPolicies": []any{}, "enableRbacAuthorization": true, "enableSoftDelete": true, "softDeleteRetentionInDays": v.RetentionDays,
			"publicNetworkAccess": "Enabled", "provisioningState": "Succeeded",
		},
	}
}

// permission is an entry of what a role permits (ARM: * stands for any run of
// characters).
type permission struct {
	Actions        []string               `json:"actions"`
	NotActions     []string               `json:"notActions"`
	DataActions    []latchkey.VaultAction `json:"dataActions"`
	NotDataActions []latchkey.VaultAction `json:"notDataActions"`
}

func permissionOf(r latchkey.VaultRole) permission {
	p := permission{Actions: []string{}, NotActions: []string{}, DataActions: []latchkey.VaultAction{}, NotDataActions: []latchkey.VaultAction{}}
	for _, a := range latchkey.VaultActions {
		if r.Allows(a) {
			p.DataActions = append(p.DataActions, a)
		}
	}
	return p
}

// permissions are what a caller's roles permit, an entry for each.
func permissions(roles []latchkey.RoleAssignment) any {
	l := list{Value: []any{}}
	for _, a := range roles {
		l.Value = append(l.Value, permissionOf(a.Role))
	}
	return l
}

func definitionID(r latchkey.VaultRole, subscription string) string {
	id := "/providers/Microsoft.Authorization/roleDefinitions/" + r.ID()
	if subscription != "" {
		id = "/subscriptions/" + subscription + id
	}
	return id
}

func definition(r latchkey.VaultRole, subscription string) any {
	return map[string]any{
		"id": definitionID(r, subscription), "name": r.ID(), "type": "Microsoft.Authorization/roleDefinitions",
		"properties": map[string]any{
			"roleName": r, "type": "BuiltInRole", "assignableScopes": []string{"/"}, "permissions": []permission{permissionOf(r)},
		},
	}
}

func definitions(subscription string) any {
	l := list{Value: []any{}}
	for _, r := range latchkey.VaultRoles {
		l.Value = append(l.Value, definition(r, subscription))
	}
	return l
}

// principalTypes are Azure's words for kinds of principals.
var principalTypes = map[latchkey.PrincipalKind]string{
	latchkey.PrincipalUser: "User", latchkey.PrincipalGroup: "Group", latchkey.PrincipalService: "ServicePrincipal", latchkey.PrincipalMachine: "Device",
}

func assignments(v latchkey.EmbeddedVault, roles []latchkey.RoleAssignment) any {
	l := list{Value: []any{}}
	for _, a := range roles {
		scope := v.ARMID
		if o := a.Object(); o.Name != "" {
			scope += "/" + o.String()
		}
		l.Value = append(l.Value, map[string]any{
			"id": scope + "/providers/Microsoft.Authorization/roleAssignments/" + string(a.ID), "name": a.ID, "type": "Microsoft.Authorization/roleAssignments",
			"properties": map[string]any{
				"roleDefinitionId": definitionID(a.Role, v.SubscriptionID), "principalId": a.Principal, "principalType": principalTypes[a.PrincipalKind],
				"scope": scope, "createdOn": a.CreatedAt.Format(time.RFC3339), "createdBy": a.CreatedBy,
			},
		})
	}
	return l
}

// filterRE are the filters that a list of role assignments takes.
var filterRE = regexp.MustCompile(`^(?i:atScope\(\)|(?:atScope\(\) and )?assignedTo\('([0-9A-Za-z_-]{1,64})'\)|principalId eq '([0-9A-Za-z_-]{1,64})')$`)

// assignee returns the principal whose assignments are asked for, or "" for all.
func assignee(query url.Values) (latchkey.PrincipalID, error) {
	filter := query.Get("$filter")
	if filter == "" {
		return "", nil
	}
	m := filterRE.FindStringSubmatch(filter)
	if m == nil {
		return "", &fault{http.StatusBadRequest, "UnsupportedQuery", "The filter must be atScope(), assignedTo('{id}') or principalId eq '{id}'."}
	}
	return latchkey.PrincipalID(m[1] + m[2]), nil
}

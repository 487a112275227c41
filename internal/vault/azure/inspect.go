package azure

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"latchkey.dev/internal/vault"
	"latchkey.dev/latchkey"
)

// Inspect finds out whether the service and a person may read a secret, without
// reading it: by what Azure Resource Manager says of the vault and of who holds
// which roles there, and by looking at the secret's metadata. It returns a result
// for each step from [latchkey.CheckProvider] on, in their order. What could not be
// found out is unknown, never passed. A person who may not read the secret is not
// told whether it is there.
func (m *ResourceManager) Inspect(ctx context.Context, q vault.Question) []latchkey.CheckResult {
	ctx, cancel := context.WithTimeout(ctx, inspectTimeout)
	defer cancel()
	i := inspection{m: m, q: q, ref: q.Reference, scope: q.Reference.VaultRef().String(), grant: q.Reference.String()}
	i.begin(ctx)
	results := []latchkey.CheckResult{i.provider(ctx), i.lookUp(ctx), i.tenant(), i.network(), i.serviceStep(ctx)}
	person := i.personStep(ctx)
	return append(results, i.secret(person.State), person)
}

// An inspection is one call of Inspect.
type inspection struct {
	m       *ResourceManager
	q       vault.Question
	ref     latchkey.SecretReference
	scope   string // ARM id of the vault
	grant   string // ARM id at which a role that is missing is to be given
	service identity
	signIn  error // why there is no token for Azure Resource Manager, or nil
	vault   *resource
	read    error        // of the secret's metadata
	refusal *vault.Error // which it is, or nil
}

// begin finds out who asks, and looks at the secret's metadata.
func (i *inspection) begin(ctx context.Context) {
	i.service, i.signIn = i.m.whoami(ctx)
	i.read = i.q.Read(ctx)
	i.refusal, _ = errors.AsType[*vault.Error](i.read)
}

// answered reports whether the vault itself has answered: then it is there, and of
// a tenant that is linked, or it would not have been asked.
func (i *inspection) answered() bool {
	return i.read == nil || errors.Is(i.read, vault.ErrNotFound) && i.refusal.Code != "VaultNotFound" || errors.Is(i.read, vault.ErrDisabled) ||
		errors.Is(i.read, vault.ErrDenied) && (i.refusal.Check == "" || i.refusal.Check == "network")
}

func (i *inspection) provider(ctx context.Context) latchkey.CheckResult {
	const namespace = keyVaultProvider
	r := latchkey.CheckResult{Step: latchkey.CheckProvider, State: latchkey.CheckPassed, Scope: "/subscriptions/" + i.ref.SubscriptionID}
	ok, state, err := i.m.registered(ctx, i.ref.SubscriptionID, namespace)
	switch status, _ := armStatus(err); {
	case status == http.StatusNotFound && !i.answered():
		r.State, r.Message = latchkey.CheckFailed, fmt.Sprintf("There is no subscription %s that the service can see.", i.ref.SubscriptionID)
		r.Remedy = "Correct the subscription id of the reference."
	case err != nil && i.answered():
		r.Message = "The vault answers, so that the resource provider " + namespace + " is registered."
	case err != nil:
		r.State, r.Message = latchkey.CheckUnknown, unknown("whether "+namespace+" is registered", err)
	case !ok:
		r.State, r.Message = latchkey.CheckFailed, fmt.Sprintf("The resource provider %s is %s in the subscription.", namespace, state)
		r.Command = registerCommand(namespace, i.ref.SubscriptionID)
	default:
		r.Message = "The resource provider " + namespace + " is registered in the subscription."
	}
	return r
}

// lookUp is the step that finds the vault; the later ones use what it found.
func (i *inspection) lookUp(ctx context.Context) latchkey.CheckResult {
	r := latchkey.CheckResult{Step: latchkey.CheckVault, State: latchkey.CheckPassed, Scope: i.scope}
	found, err := i.m.vault(ctx, i.ref.VaultRef())
	switch status, _ := armStatus(err); {
	case status == http.StatusNotFound:
		// A vault of this name may be elsewhere: names are of all subscriptions.
		r.State, r.Message = latchkey.CheckFailed, fmt.Sprintf("There is no vault '%s'.", i.scope)
		r.Remedy = "Correct the subscription, the resource group or the name of the vault in the reference."
	case err != nil && i.answered():
		// Whoever refers to a vault that is not theirs chooses the scope at which roles
		// are looked for: a vault of this name elsewhere must not do.
		r.State, r.Message = latchkey.CheckUnknown, fmt.Sprintf("A vault of this name answers. %s", unknown("whether it is in this subscription and resource group", err))
	case err != nil:
		r.State, r.Message = latchkey.CheckUnknown, unknown("whether the vault is there", err)
	default:
		i.vault = &found
		r.Message = "The vault is there; who may read it is decided by "
		if found.byRoles {
			r.Message += "roles."
		} else {
			r.Message += "access policies."
			r.Warning = "Systems that check the rights of people by roles alone, as Power Platform does, refuse references to vaults with access policies."
		}
	}
	if status, _ := armStatus(err); status == http.StatusForbidden {
		r.Identity, r.Role = i.serviceName(), "Reader"
		r.Command = i.roleCommand(r.Role, i.service.ObjectID, "ServicePrincipal", i.scope)
	}
	return r
}

func (i *inspection) tenant() latchkey.CheckResult {
	r := latchkey.CheckResult{Step: latchkey.CheckTenant, State: latchkey.CheckUnknown, Scope: i.scope}
	linked := strings.Join(i.q.Tenants, ", ")
	switch {
	case i.refusal != nil && i.refusal.Check == "tenant":
		r.State, r.Message, r.Remedy = latchkey.CheckFailed, i.refusal.Msg, i.refusal.Remedy
	case i.vault == nil && i.answered():
		r.State, r.Message = latchkey.CheckPassed, "The vault names a tenant that is linked to this installation."
	case i.vault == nil:
		r.Message = "It is not known which tenant the vault belongs to, since the vault could not be looked at."
	case slices.ContainsFunc(i.q.Tenants, func(t string) bool { return strings.EqualFold(t, i.vault.tenant) }):
		r.State, r.Message = latchkey.CheckPassed, fmt.Sprintf("The vault belongs to the tenant %s, which is this installation's.", i.vault.tenant)
	case linked == "":
		r.State, r.Message = latchkey.CheckFailed, fmt.Sprintf("The vault belongs to the tenant %s, and no tenant is linked to this installation.", i.vault.tenant)
		r.Command = "latchkey azure tenant link " + i.vault.tenant
	default:
		r.State, r.Message = latchkey.CheckFailed, fmt.Sprintf("The vault belongs to the tenant %s, and this installation to %s.", i.vault.tenant, linked)
		r.Command = "latchkey azure tenant link " + i.vault.tenant
	}
	return r
}

// network says whether the vault can be reached, which the reading of metadata
// has shown: every answer but a refusal of the network's is one.
func (i *inspection) network() latchkey.CheckResult {
	r := latchkey.CheckResult{Step: latchkey.CheckNetwork, State: latchkey.CheckPassed, Scope: i.scope, Message: "The vault answers."}
	e := i.refusal
	switch {
	case e != nil && e.Code == "ForbiddenByConnection", i.vault != nil && i.vault.closed && errors.Is(i.read, vault.ErrUnavailable):
		r.State, r.Message = latchkey.CheckFailed, "The vault takes connections over its private endpoints only, and the service's is not one."
		r.Command = fmt.Sprintf("az keyvault update --name %s --subscription %s --public-network-access Enabled", i.ref.Vault, i.ref.SubscriptionID)
		r.Warning = "The command opens the vault's public address; to keep it closed, let the service reach a private endpoint of it and resolve its name there."
	case e != nil && e.Check == "network":
		r.State, r.Message = latchkey.CheckFailed, "The vault's firewall does not let the service's network address in."
		r.Command = fmt.Sprintf("az keyvault network-rule add --name %s --subscription %s --ip-address %s", i.ref.Vault, i.ref.SubscriptionID, cmp.Or(e.Address, "ADDRESS"))
	case e != nil && (e.Check == "tenant" || e.Check == "sign-in"):
		r.State, r.Message = latchkey.CheckUnknown, "The vault was not asked, since no token could be sent to it."
	case i.read != nil && !i.answered():
		r.State, r.Message = latchkey.CheckUnknown, "Could not be checked: the vault could not be reached."
		if e != nil && e.Msg != "" {
			r.Message = "Could not be checked: " + e.Msg
		}
		r.Remedy = "It is tried again by itself."
	}
	return r
}

// serviceStep says whether the service may read the secret's value: its permissions
// are evaluated, since lesser roles show metadata too.
func (i *inspection) serviceStep(ctx context.Context) latchkey.CheckResult {
	r := latchkey.CheckResult{Step: latchkey.CheckService, Identity: i.serviceName(), Scope: i.ref.String(), State: latchkey.CheckPassed, Message: "The service may read the secret's value."}
	refused := errors.Is(i.read, vault.ErrDenied)
	switch {
	case i.refusal != nil && i.refusal.Check == "sign-in":
		r.State, r.Message, r.Remedy = latchkey.CheckFailed, i.refusal.Msg, i.refusal.Remedy
		return r
	case refused && i.refusal.Check == "":
		return i.missing(r, i.service.ObjectID, "ServicePrincipal")
	case i.signIn != nil:
		r.State, r.Message = latchkey.CheckUnknown, "It is not known whether the service may read the secret: "+armTrouble(i.signIn)+"."
		return r
	case i.vault == nil:
		r.State, r.Message = latchkey.CheckUnknown, "It is not known whether the service may read the secret"+otherVault
		return r
	case !i.vault.byRoles:
		switch i.byPolicy(i.service.ObjectID) {
		case latchkey.CheckFailed:
			return i.missing(r, i.service.ObjectID, "ServicePrincipal")
		case latchkey.CheckUnknown:
			r.State, r.Message = latchkey.CheckUnknown, "It is not known whether the service may read the secret: an access policy for a group may let it."
		}
		return r
	}
	entries, err := i.m.permissions(ctx, i.ref)
	switch {
	case err != nil:
		r.State, r.Message = latchkey.CheckUnknown, unknown("whether the service may read the secret's value", err)
	case !slices.ContainsFunc(entries, func(e entry) bool { return e.holds(string(latchkey.VaultGetSecret)) }):
		return i.missing(r, i.service.ObjectID, "ServicePrincipal")
	default:
		i.denyService(ctx, &r)
	}
	return r
}

// denyService looks at whether a deny assignment takes away what the service's
// permissions give.
func (i *inspection) denyService(ctx context.Context, r *latchkey.CheckResult) {
	denies, err := i.m.denied(ctx, i.ref.SubscriptionID, i.ref.String())
	if err != nil {
		r.State, r.Message = latchkey.CheckUnknown, unknown("whether a deny assignment takes it away that the service may read the secret", err)
		return
	}
	held := []assignment{{scope: i.scope, entries: []entry{{data: []string{string(latchkey.VaultGetSecret)}}}}}
	switch v := decide(i.service.ObjectID, string(latchkey.VaultGetSecret), i.ref.String(), held, denies); {
	case v.denied != "":
		r.State, r.Message, r.Action = latchkey.CheckFailed, notAuthorized(i.ref), string(latchkey.VaultGetSecret)
		r.Remedy = "The deny assignment " + v.denied + " forbids it, whatever roles are held: have the service's identity exempted from it."
	case v.unsure != "":
		r.State, r.Message = latchkey.CheckUnknown, "It is not known whether the service may read the secret: "+v.unsure+"."
	}
}

// otherVault is why rights are not known though a vault answers.
const otherVault = ": the vault could not be looked at, so that what answers may be a vault of this name elsewhere."

// secret says whether the secret is there, unless the person may not know.
func (i *inspection) secret(person latchkey.CheckState) latchkey.CheckResult {
	r := latchkey.CheckResult{Step: latchkey.CheckSecret, Scope: i.ref.String(), State: latchkey.CheckPassed, Message: "The secret is there."}
	switch {
	case person != latchkey.CheckPassed:
		r.State, r.Message = latchkey.CheckUnknown, "Whether the secret is there is told only to those who are known to be allowed to read it."
	case i.read == nil:
	case errors.Is(i.read, vault.ErrNotFound) && i.answered():
		r.State, r.Message = latchkey.CheckFailed, fmt.Sprintf("There is no secret '%s'.", i.ref)
		r.Remedy = "Create the secret in the vault, or correct the reference; then check again."
	case errors.Is(i.read, vault.ErrDisabled):
		r.State, r.Message = latchkey.CheckFailed, fmt.Sprintf("The newest version of the secret '%s' is disabled.", i.ref)
		r.Remedy = "Enable it, or set a new version; then check again."
	default:
		r.State, r.Message = latchkey.CheckUnknown, "It is not known whether the secret is there: it could not be looked at."
	}
	return r
}

// personStep says whether the person who refers to the secret may read it.
func (i *inspection) personStep(ctx context.Context) latchkey.CheckResult {
	r := latchkey.CheckResult{Step: latchkey.CheckPerson, Identity: i.q.Person, Scope: i.ref.String(), State: latchkey.CheckPassed}
	object, many := i.objectID()
	if object == "" {
		r.State, r.Message = latchkey.CheckUnknown, fmt.Sprintf("It is not known who %s is in the vault's directory.", i.q.Person)
		if many {
			r.Message = fmt.Sprintf("It is not known which of several identities of %s is the one in the vault's directory.", i.q.Person)
		}
		r.Remedy = "A tenant admin can say so with latchkey user identity add; or an environment admin can let the reference be used without this check, on record."
		if i.q.Program {
			r.Message = fmt.Sprintf("%s is a service principal of this installation, and nobody in the vault's directory.", i.q.Person)
			r.Remedy = "A person who may read the secret can save the reference; or an environment admin can let it be used without this check, on record."
		}
		return r
	}
	r.Identity = fmt.Sprintf("%s (%s)", i.q.Person, object)
	if i.vault == nil {
		r.State, r.Message = latchkey.CheckUnknown, "It is not known whether the person may read the secret"+otherVault
		return r
	}
	if !i.vault.byRoles {
		switch i.byPolicy(object) {
		case latchkey.CheckPassed:
			r.Message = "An access policy of the vault lets the person read secrets."
			r.Warning = "Systems that check by roles alone, as Power Platform does, would refuse the person."
		case latchkey.CheckUnknown:
			r.State, r.Message = latchkey.CheckUnknown, "It is not known whether the person may read the secret: an access policy for a group may let them."
		default:
			return i.missing(r, object, "User")
		}
		return r
	}
	assigned, err := i.m.assigned(ctx, i.ref.SubscriptionID, i.ref.String(), object)
	if err != nil {
		r.State, r.Message = latchkey.CheckUnknown, unknown("which roles the person holds", err)
		return r
	}
	denies, deniesErr := i.m.denied(ctx, i.ref.SubscriptionID, i.ref.String())
	v := decide(object, string(latchkey.VaultGetSecret), i.ref.String(), assigned, denies)
	switch {
	case v.granted && deniesErr != nil:
		r.State, r.Message = latchkey.CheckUnknown, unknown("whether a deny assignment takes it away that the person may read the secret", deniesErr)
	case v.granted:
		r.Message = "The person may read the secret, by the role " + v.through[0] + "."
	case v.denied != "":
		r.State, r.Message, r.Action = latchkey.CheckFailed, notAuthorized(i.ref), string(latchkey.VaultGetSecret)
		r.Remedy = "The deny assignment " + v.denied + " forbids it, whatever roles are held: have the person exempted from it."
	case v.unsure != "":
		r.State, r.Message = latchkey.CheckUnknown, "It is not known whether the person may read the secret: "+v.unsure+"."
	default:
		r = i.missing(r, object, "User")
		if len(v.roles) > 0 {
			r.Warning = "What is held does not permit it: " + strings.Join(v.roles, ", ") + "."
		}
	}
	return r
}

// objectID returns who the person is in the vault's directory, or "", and whether
// several could be meant.
func (i *inspection) objectID() (id string, many bool) {
	if i.vault != nil {
		return i.q.ObjectIDs[strings.ToLower(i.vault.tenant)], false
	}
	if len(i.q.ObjectIDs) != 1 {
		return "", len(i.q.ObjectIDs) > 1
	}
	for _, id = range i.q.ObjectIDs {
	}
	return id, false
}

// byPolicy says whether an access policy lets an object read secrets. Policies
// for groups look like any other.
func (i *inspection) byPolicy(object string) latchkey.CheckState {
	state := latchkey.CheckFailed
	for _, p := range i.vault.policies {
		if !slices.ContainsFunc(p.secrets, func(s string) bool { return strings.EqualFold(s, "get") || strings.EqualFold(s, "all") }) || p.application != "" {
			continue
		}
		if strings.EqualFold(p.object, object) && object != "" {
			return latchkey.CheckPassed
		}
		state = latchkey.CheckUnknown
	}
	return state
}

// serviceName is what people are told about the identity that asks.
func (i *inspection) serviceName() string {
	if id := i.service.ObjectID; id != "" && !i.q.Embedded {
		return fmt.Sprintf("%s (%s)", latchkey.ServiceIdentityName, id)
	}
	return fmt.Sprintf("%s (%s)", latchkey.ServiceIdentityName, latchkey.ServiceIdentity)
}

// missing completes a result that somebody lacks the right to read the secret.
func (i *inspection) missing(r latchkey.CheckResult, object, kind string) latchkey.CheckResult {
	r.State, r.Message, r.Action = latchkey.CheckFailed, notAuthorized(i.ref), string(latchkey.VaultGetSecret)
	if i.vault != nil && !i.vault.byRoles {
		r.Role = "an access policy with get and list for secrets"
		r.Command = fmt.Sprintf("az keyvault set-policy --name %s --subscription %s --object-id %s --secret-permissions get list",
			i.ref.Vault, i.ref.SubscriptionID, cmp.Or(object, "OBJECT-ID"))
		return r
	}
	r.Role = string(latchkey.VaultSecretsUser)
	r.Command = i.roleCommand(r.Role, object, kind, i.grant)
	return r
}

// roleCommand returns the command that gives a role.
func (i *inspection) roleCommand(role, object, kind, scope string) string {
	if i.q.Embedded {
		c := fmt.Sprintf("latchkey vault role assign %s %s %q", i.ref.Vault, cmp.Or(object, string(latchkey.ServiceIdentity)), role)
		if scope == i.ref.String() {
			c += " --secret " + i.ref.Secret
		}
		return c
	}
	return fmt.Sprintf("az role assignment create --role %q --assignee-object-id %s --assignee-principal-type %s --scope %q",
		role, cmp.Or(object, "OBJECT-ID"), kind, scope)
}

// notAuthorized is the sentence that Power Automate's users know.
func notAuthorized(ref latchkey.SecretReference) string {
	return fmt.Sprintf("This variable didn't save properly. User is not authorized to read secrets from '%s' resource.", ref)
}

func unknown(what string, err error) string {
	return fmt.Sprintf("It is not known %s: %s.", what, armTrouble(err))
}

package azure

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"golang.org/x/sync/errgroup"

	"latchkey.dev/internal/vault"
	"latchkey.dev/latchkey"
)

// Bounds of a survey. It has to end before the answer to the request that it is for.
const (
	surveyTimeout = 40 * time.Second // of all of it
	subjectTime   = 15 * time.Second // of one vault, one subscription, or all signing in
	surveyWorkers = 8                // subjects at the same time
)

// Resource providers that subscriptions with vaults have.
const (
	keyVaultProvider      = "Microsoft.KeyVault"
	powerPlatformProvider = "Microsoft.PowerPlatform"
)

// busyPart of a limit is from where on it is a warning: the other half is for others.
const busyPart = 2

// A Surveyor finds out how vaults stand.
type Surveyor struct {
	Access   *Access          // as which Azure's vaults are read; nil tells nothing about signing in
	Azure    *ResourceManager // which is asked about them
	Embedded *ResourceManager // which is asked about the embedded vaults

	// Usage returns how much this process has asked of a vault in Azure; nil knows of
	// none.
	Usage func(latchkey.VaultReference) vault.Usage
}

// Survey returns what there is to say of the vaults that are asked about, in their
// order, and before them of the identity of the service and of the subscriptions. What
// cannot be found out is unknown. It takes 40 seconds at most.
func (s Surveyor) Survey(ctx context.Context, q vault.Survey) (found []latchkey.Finding) {
	ctx, cancel := context.WithTimeout(ctx, surveyTimeout)
	defer cancel()
	var parts []func(context.Context) []latchkey.Finding
	if q.Azure && s.Access != nil {
		parts = append(parts, func(ctx context.Context) []latchkey.Finding { return s.Access.signIn(ctx, q.Tenants) })
	}
	var subscriptions []string
	for _, v := range q.Vaults {
		if id := strings.ToLower(v.Reference.SubscriptionID); !v.Embedded && !slices.Contains(subscriptions, id) {
			subscriptions = append(subscriptions, id)
			parts = append(parts, func(ctx context.Context) []latchkey.Finding { return s.Azure.providers(ctx, id) })
		}
	}
	for _, v := range q.Vaults {
		parts = append(parts, func(ctx context.Context) []latchkey.Finding { return s.vault(ctx, v) })
	}
	each := make([][]latchkey.Finding, len(parts))
	var g errgroup.Group
	g.SetLimit(surveyWorkers)
	for i, f := range parts {
		g.Go(func() error {
			ctx, cancel := context.WithTimeout(ctx, subjectTime)
			defer cancel()
			each[i] = f(ctx)
			return nil
		})
	}
	_ = g.Wait() // parts have no errors
	return slices.Concat(each...)
}

// signIn says whether the service can sign in to Azure, and in which of the tenants
// that are linked. Tokens that it has already do not count.
func (a *Access) signIn(ctx context.Context, tenants []string) []latchkey.Finding {
	f := latchkey.Finding{Area: "azure", Check: "azure-sign-in", State: latchkey.FindingOK}
	c, err := a.fresh()
	var id identity
	if err == nil {
		id, f.Message, f.Remedy = a.token(ctx, c, "")
	} else {
		f.Message, f.Remedy = "the server has no identity in Azure: "+firstLine(err), "correct the server's Azure settings"
	}
	if f.Message != "" {
		f.State, f.Message, f.Remedy = latchkey.FindingFailed, sentence(f.Message), sentence(f.Remedy)
	} else {
		f.Message = fmt.Sprintf("%s signs in to Azure's cloud %s at %s%s.", capital(a.reader.name), a.Cloud, host(a.Cloud.Authority), id.who())
	}
	found := []latchkey.Finding{f}
	if len(tenants) == 0 {
		return append(found, latchkey.Finding{Area: "azure", Check: "azure-tenant", State: latchkey.FindingFailed,
			Message: "No tenant of Azure is linked, so that no vault there is read.",
			Remedy:  "Link the tenant that the vaults belong to.", Command: `latchkey azure tenant link "$(az account show --query tenantId --output tsv)"`})
	}
	for _, tenant := range tenants {
		t := latchkey.Finding{Area: "azure", Check: "azure-tenant", Subject: tenant, State: latchkey.FindingUnknown, Message: "Not asked, since the service could not sign in."}
		if f.State == latchkey.FindingOK {
			in, message, remedy := a.token(ctx, c, tenant)
			switch {
			case message != "":
				t.State, t.Message, t.Remedy = latchkey.FindingFailed, sentence(message), sentence(remedy)
			case in.Tenant != "" && !strings.EqualFold(in.Tenant, tenant):
				// A managed identity is of one tenant, whichever is asked for.
				t.State, t.Message = latchkey.FindingFailed, fmt.Sprintf("The service gets tokens of the tenant %s only: its identity is not known in this one.", in.Tenant)
				t.Remedy = "Let the server sign in as an application that this tenant knows, or unlink the tenant."
			default:
				t.State, t.Message = latchkey.FindingOK, "The service signs in there."
			}
		}
		found = append(found, t)
	}
	return found
}

// token gets a token for vaults in a tenant, or in that of the identity, and returns
// who it is for, or why there is none.
func (a *Access) token(ctx context.Context, c azcore.TokenCredential, tenant string) (id identity, message, remedy string) {
	t := new(trace)
	ctx = context.WithValue(ctx, traceKey{}, t)
	token, err := c.GetToken(ctx, policy.TokenRequestOptions{Scopes: []string{"https://" + a.Cloud.VaultSuffix + "/.default"}, TenantID: tenant})
	if err != nil {
		w, _, _ := a.reader.signIn(ctx, t.signIn, err)
		return id, w.what, w.remedy
	}
	return identityOf(token.Token), "", ""
}

// providers says whether the resource providers are registered in a subscription.
// Power Platform's is needed by Power Platform alone, where it reads the same vaults.
func (m *ResourceManager) providers(ctx context.Context, subscription string) (found []latchkey.Finding) {
	for _, namespace := range []string{keyVaultProvider, powerPlatformProvider} {
		f := latchkey.Finding{Area: "azure", Check: "azure-provider", Subject: subscription, State: latchkey.FindingOK, Message: "The resource provider " + namespace + " is registered."}
		ok, state, err := m.registered(ctx, subscription, namespace)
		switch status, _ := armStatus(err); {
		case status == http.StatusNotFound:
			f.State, f.Message = latchkey.FindingUnknown, fmt.Sprintf("It is not known whether %s is registered: there is no such subscription that the service can see.", namespace)
			f.Remedy = "Correct the subscription id of the references, or give the service's identity the role Reader."
		case err != nil:
			f.State, f.Message = latchkey.FindingUnknown, unknown("whether "+namespace+" is registered", err)
		case !ok:
			f.State, f.Message, f.Command = latchkey.FindingFailed, fmt.Sprintf("The resource provider %s is %s.", namespace, state), registerCommand(namespace, subscription)
			if namespace == powerPlatformProvider {
				f.State = latchkey.FindingWarning
				f.Remedy = "Register it if Power Platform is to read the vaults as well: Latchkey itself does not need it."
			}
		}
		found = append(found, f)
	}
	return found
}

func registerCommand(namespace, subscription string) string {
	return fmt.Sprintf("az provider register --namespace %s --subscription %s", namespace, subscription)
}

// vault says how one vault stands.
func (s Surveyor) vault(ctx context.Context, v vault.Subject) []latchkey.Finding {
	m := s.Azure
	if v.Embedded {
		m = s.Embedded
	}
	i := inspection{m: m, q: v.Question, ref: v.Reference, scope: v.Reference.VaultRef().String()}
	i.grant = i.scope
	took := time.Duration(0)
	read := i.q.Read
	i.q.Read = func(ctx context.Context) error {
		began := time.Now()
		defer func() { took = time.Since(began) }()
		return read(ctx)
	}
	i.begin(ctx)
	var found []latchkey.Finding
	add := func(check string, f latchkey.Finding) {
		f.Area, f.Check, f.Subject = "vaults", check, v.Reference.Vault
		found = append(found, f)
	}
	there := findingOf(i.lookUp(ctx))
	if v.Embedded {
		add("vault-reachable", i.reachable(took))
		add("vault-role", i.mayRead(ctx))
		return found
	}
	add("vault-resource", there)
	add("vault-tenant", findingOf(i.tenant()))
	add("vault-reachable", i.reachable(took))
	add("vault-network", i.openTo())
	add("vault-protection", i.protection())
	add("vault-role", i.mayRead(ctx))
	for _, p := range v.People {
		add("vault-person", i.personMay(ctx, p))
	}
	if s.Usage != nil {
		add("vault-quota", quota(s.Usage(v.Reference.VaultRef())))
	}
	return found
}

// findingOf returns a result of an inspection as doctor tells it.
func findingOf(r latchkey.CheckResult) latchkey.Finding {
	f := latchkey.Finding{State: latchkey.FindingUnknown, Message: r.Message, Remedy: r.Remedy, Command: r.Command}
	switch r.State {
	case latchkey.CheckPassed:
		f.State = latchkey.FindingOK
		if r.Warning != "" {
			f.State = latchkey.FindingWarning
		}
	case latchkey.CheckFailed:
		f.State = latchkey.FindingFailed
	}
	if r.Warning != "" {
		f.Message += " " + r.Warning
	}
	return f
}

// reachable says whether the vault has answered, and how soon.
func (i *inspection) reachable(took time.Duration) latchkey.Finding {
	f := findingOf(i.network())
	switch {
	case f.State == latchkey.FindingOK:
		f.Message = fmt.Sprintf("It answers, in %s.", max(took.Round(time.Millisecond), time.Millisecond))
	case errors.Is(i.read, vault.ErrUnavailable) && i.refusal != nil && i.refusal.Msg != "":
		// Releases would fail now.
		f.State, f.Message, f.Remedy = latchkey.FindingFailed, sentence(i.refusal.Msg), ""
	}
	return f
}

// openTo says from where the vault can be reached, by its settings.
func (i *inspection) openTo() latchkey.Finding {
	switch {
	case i.vault == nil:
		return latchkey.Finding{State: latchkey.FindingUnknown, Message: "It is not known from where it can be reached, since the vault could not be looked at."}
	case i.vault.closed && i.vault.private == 0:
		return latchkey.Finding{State: latchkey.FindingWarning, Message: "Its public address is closed, and it has no private endpoint: nobody reaches it.",
			Remedy: "Make a private endpoint of it in a network that the server reaches, or open its public address."}
	case i.vault.closed:
		return latchkey.Finding{State: latchkey.FindingOK, Message: fmt.Sprintf("Its public address is closed; it has %d private endpoints.", i.vault.private)}
	case i.vault.firewall:
		return latchkey.Finding{State: latchkey.FindingOK, Message: "Its firewall lets in the addresses and networks that are listed there."}
	}
	return latchkey.Finding{State: latchkey.FindingOK, Message: "Its public address takes connections from everywhere."}
}

// protection says whether what is deleted in the vault can be recovered.
func (i *inspection) protection() latchkey.Finding {
	update := func(flag string) string {
		return fmt.Sprintf("az keyvault update --name %s --subscription %s %s true", i.ref.Vault, i.ref.SubscriptionID, flag)
	}
	switch {
	case i.vault == nil:
		return latchkey.Finding{State: latchkey.FindingUnknown, Message: "It is not known whether deleted secrets can be recovered, since the vault could not be looked at."}
	case !i.vault.softDelete:
		return latchkey.Finding{State: latchkey.FindingWarning, Message: "Soft delete is off: a secret that is deleted is gone.", Command: update("--enable-soft-delete")}
	case !i.vault.purgeProof:
		return latchkey.Finding{State: latchkey.FindingWarning, Message: "Soft delete is on, and purge protection is off: whoever may purge can make the deletion of a secret final.",
			Remedy: "Turn purge protection on, which cannot be undone.", Command: update("--enable-purge-protection")}
	}
	return latchkey.Finding{State: latchkey.FindingOK, Message: "Deleted secrets can be recovered, and nobody can purge them before their time."}
}

// mayRead says whether the service may read secrets, by the one of the question.
func (i *inspection) mayRead(ctx context.Context) latchkey.Finding {
	r := i.serviceStep(ctx)
	f := findingOf(r)
	switch {
	case r.State == latchkey.CheckPassed:
		f.Message = fmt.Sprintf("%s may read secrets, by the example of '%s'.", r.Identity, i.ref.Secret)
	case r.Role != "":
		f.Message = fmt.Sprintf("%s may not read the secret '%s': it takes %s.", r.Identity, i.ref.Secret, r.Role)
	}
	return f
}

// personMay says whether a person who refers to a secret of the vault may read it. One
// who may not saves references that do not pass their check; those in force stay so.
func (i *inspection) personMay(ctx context.Context, p vault.Person) latchkey.Finding {
	of := *i
	of.q.Person, of.q.Program, of.q.ObjectIDs = p.Name, p.Program, p.ObjectIDs
	of.ref.Secret = p.Secret
	r := of.personStep(ctx)
	f := findingOf(r)
	object, _ := of.objectID()
	switch {
	case r.State == latchkey.CheckFailed && r.Role != "":
		f.State = latchkey.FindingWarning
		f.Message = fmt.Sprintf("%s may not read the secret '%s', and refers to it: it takes %s.", r.Identity, p.Secret, r.Role)
	case r.State == latchkey.CheckFailed:
		f.State = latchkey.FindingWarning
		f.Message = fmt.Sprintf("%s may not read the secret '%s', and refers to it.", r.Identity, p.Secret)
	case object == "" && of.vault != nil && !p.Program:
		f.Command = fmt.Sprintf("latchkey user identity add %s --tenant %s --object-id OBJECT-ID", p.ID, of.vault.tenant)
	}
	return f
}

// quota says how near a vault is to its limit by what this process has asked of it.
func quota(u vault.Usage) latchkey.Finding {
	f := latchkey.Finding{State: latchkey.FindingOK, Message: fmt.Sprintf("This server has sent it %d requests in the last hour, at most %d in 10 s of the %d that Key Vault answers; ", u.Requests, u.Peak, quotaRequests)}
	switch {
	case u.Throttled > 0:
		f.State = latchkey.FindingWarning
		f.Message += fmt.Sprintf("%d answers were 429, the last one at %s.", u.Throttled, u.LastAt.UTC().Format(time.RFC3339))
	default:
		f.Message += "none was answered by 429."
		if u.Peak >= quotaRequests/busyPart {
			f.State = latchkey.FindingWarning
		}
	}
	if f.State == latchkey.FindingWarning {
		f.Remedy = "Spread the secrets over more vaults, or see what else reads this one; all vaults of a subscription in a region have five times as much together."
	}
	return f
}

// sentence returns a part of a sentence as a sentence.
func sentence(s string) string {
	if s = capital(s); s == "" || strings.HasSuffix(s, ".") {
		return s
	}
	return s + "."
}

func capital(s string) string {
	if s == "" {
		return ""
	}
	return strings.ToUpper(s[:1]) + s[1:]
}

func host(address string) string { return strings.TrimPrefix(address, "https://") }

// firstLine returns the beginning of an error of the SDK, which lists what it tried.
func firstLine(err error) string {
	line, _, _ := strings.Cut(err.Error(), "\n")
	return line
}

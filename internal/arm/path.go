package arm

import (
	"net/url"
	"strings"

	"latchkey.dev/latchkey"
)

const (
	keyVaultProvider = "Microsoft.KeyVault"
	authorization    = "microsoft.authorization"
)

// providers are the resource providers that every subscription has registered. What
// checks the prerequisites of Power Platform asks for its own.
var providers = []string{keyVaultProvider, "Microsoft.PowerPlatform"}

// What a path asks for.
type what int

const (
	whatProvider what = iota
	whatVault
	whatPermissions
	whatAssignments
	whatDefinition
	whatDefinitions
	whatDenies
)

// A target is what the path of a request names.
type target struct {
	what         what
	subscription string
	vault        latchkey.VaultReference
	object       latchkey.VaultObject
	name         string // of a provider, or id of a role definition
}

// maxPath bounds a path. The longest that means something has a vault's ARM id,
// the name of an object and the id of a role definition.
const maxPath = 1024

// parse reads the path of a request as it was sent. Case does not matter (ARM),
// and empty segments count as absent: SDKs leave a parent's path empty. It reports
// false for what is not served.
func parse(escaped string) (t target, ok bool) {
	if len(escaped) > maxPath {
		return t, false
	}
	var given, lower []string
	for s := range strings.SplitSeq(escaped, "/") {
		if s == "" {
			continue
		}
		// Decoding comes after splitting, so that %2F cannot make a segment.
		s, err := url.PathUnescape(s)
		if err != nil {
			return t, false
		}
		given, lower = append(given, s), append(lower, strings.ToLower(s))
	}
	// next takes the segments of a pattern, in which "" is any, from the front.
	next := func(pattern ...string) (values []string, ok bool) {
		if len(lower) < len(pattern) {
			return nil, false
		}
		for i, p := range pattern {
			switch p {
			case "":
				values = append(values, given[i])
			case lower[i]:
			default:
				return nil, false
			}
		}
		given, lower = given[len(pattern):], lower[len(pattern):]
		return values, true
	}
	if v, ok := next("subscriptions", ""); ok {
		t.subscription = v[0]
		if v, ok := next("resourcegroups", "", "providers", "microsoft.keyvault", "vaults", ""); ok {
			t.vault = latchkey.VaultReference{SubscriptionID: t.subscription, ResourceGroup: v[0], Vault: v[1]}
			for _, in := range []latchkey.VaultCollection{latchkey.VaultSecrets, latchkey.VaultCertificates, latchkey.VaultKeys} {
				if v, ok := next(string(in), ""); ok {
					t.object = latchkey.VaultObject{In: in, Name: v[0]}
				}
			}
			if len(lower) == 0 && t.object.Name == "" {
				t.what = whatVault
				return t, true
			}
		}
	}
	of := t.vault.Vault != ""
	if v, ok := next("providers", authorization, "roledefinitions", ""); ok {
		t.what, t.name = whatDefinition, v[0]
		return t, len(lower) == 0
	}
	for name, what := range map[string]what{
		"permissions": whatPermissions, "roleassignments": whatAssignments, "roledefinitions": whatDefinitions, "denyassignments": whatDenies,
	} {
		if _, ok := next("providers", authorization, name); ok {
			t.what = what
			return t, of && len(lower) == 0
		}
	}
	if v, ok := next("providers", ""); ok && !of && t.subscription != "" {
		t.what, t.name = whatProvider, v[0]
		return t, len(lower) == 0
	}
	return t, false
}

package web

import (
	"errors"
	"net/url"
	"slices"
	"strings"

	"latchkey.dev/latchkey"
)

// How many vaults, and secrets of one, a form offers to choose from.
const (
	offeredVaults  = 100
	offeredSecrets = 200
)

// maxPasted bounds what is pasted to fill in a reference, in bytes.
const maxPasted = 2000

// Names of the fields of a form that say where a secret is. The first three fill in
// the others.
const (
	fieldPaste        = "paste"
	fieldPickVault    = "pickVault"
	fieldPickSecret   = "pickSecret"
	fieldSubscription = "subscriptionId"
	fieldGroup        = "resourceGroup"
	fieldVault        = "vault"
	fieldSecret       = "secret"
)

// A referenceForm is the part of a form that says where a secret is: four fields, an
// address to fill them in from, and lists of embedded vaults and their secrets. Its
// template is "reference-fields". The field by names the one that fills in the others.
type referenceForm struct {
	Form    form
	Path    string // what answers with the part alone
	Inline  bool   // without script the form itself is sent: it may hold a secret, which is never part of an address
	Vaults  []option
	Secrets []option
	Picked  string // name of the embedded vault that the fields name
	More    bool   // there are more secrets than are offered
}

// referenceForm returns the part of a form, with the fields filled in from what was
// pasted or picked. path answers the same, for a script.
func (v *view) referenceForm(f *form, path string) (r referenceForm, err error) {
	if f.Values == nil {
		f.Values = url.Values{}
	}
	vaults, err := v.p.b.Vaults(v.r.Context(), v.who, latchkey.PageOptions{Limit: offeredVaults})
	if err != nil {
		return r, err
	}
	embedded := slices.DeleteFunc(vaults.Items, func(e latchkey.EmbeddedVault) bool { return !listsVault(v.env, e.Reference()) })
	switch f.Value("by") {
	case fieldPaste:
		if text := strings.TrimSpace(f.Value(fieldPaste)); text != "" {
			if ref, err := v.readPasted(text, embedded); err != nil {
				f.wrong(fieldPaste, err.Error())
			} else {
				f.setReference(ref)
				f.Values.Del(fieldPaste)
			}
		}
	case fieldPickVault:
		for _, e := range embedded {
			if e.Name == f.Value(fieldPickVault) {
				ref := latchkey.SecretReference{SubscriptionID: e.SubscriptionID, ResourceGroup: e.ResourceGroup, Vault: e.Name}
				if e.Reference().Key() == f.reference().VaultRef().Key() {
					ref.Secret = f.Value(fieldSecret)
				}
				f.setReference(ref)
			}
		}
	case fieldPickSecret:
		if s := f.Value(fieldPickSecret); s != "" {
			f.Values.Set(fieldSecret, s)
		}
	}
	r = referenceForm{Form: *f, Path: path}
	for _, e := range embedded {
		r.Vaults = append(r.Vaults, option{e.Name, e.Name})
		if e.Reference().Key() != f.reference().VaultRef().Key() {
			continue
		}
		r.Picked = e.Name
		access, err := v.vaultAccess(e)
		if err != nil {
			return r, err
		}
		if !access.can(latchkey.VaultObject{}, latchkey.VaultReadMetadata) {
			continue
		}
		secrets, err := v.p.b.Secrets(v.r.Context(), v.who, e.Name, latchkey.PageOptions{Limit: offeredSecrets})
		if err != nil {
			return r, err
		}
		for _, s := range secrets.Items {
			r.Secrets = append(r.Secrets, option{s.Name, s.Name})
		}
		r.More = secrets.Next != ""
	}
	f.Values.Del("by")
	r.Form.Values.Set(fieldPickVault, r.Picked)
	r.Form.Values.Set(fieldPickSecret, f.Value(fieldSecret))
	return r, nil
}

// reference returns what the four fields name.
func (f form) reference() latchkey.SecretReference {
	of := func(name string) string { return strings.TrimSpace(f.Value(name)) }
	return latchkey.SecretReference{SubscriptionID: of(fieldSubscription), ResourceGroup: of(fieldGroup), Vault: of(fieldVault), Secret: of(fieldSecret)}
}

func (f *form) setReference(r latchkey.SecretReference) {
	if f.Values == nil {
		f.Values = url.Values{}
	}
	f.Values.Set(fieldSubscription, r.SubscriptionID)
	f.Values.Set(fieldGroup, r.ResourceGroup)
	f.Values.Set(fieldVault, r.Vault)
	f.Values.Set(fieldSecret, r.Secret)
}

// readPasted returns the reference that a text names: the ARM id of a secret or a
// vault, or the address of one. An address says nothing of subscription and resource
// group; they are taken from the embedded vault of that address, or the vault of that
// name that the environment lists.
func (v *view) readPasted(text string, embedded []latchkey.EmbeddedVault) (latchkey.SecretReference, error) {
	r, host, err := parsePasted(text)
	if err != nil || host == "" {
		return r, err
	}
	for _, e := range embedded {
		if u, err := url.Parse(e.URL); err == nil && strings.EqualFold(u.Hostname(), host) {
			r.SubscriptionID, r.ResourceGroup, r.Vault = e.SubscriptionID, e.ResourceGroup, e.Name
			return r, nil
		}
	}
	for _, id := range v.env.Vaults {
		if listed, err := latchkey.ParseVaultID(id); err == nil && strings.EqualFold(listed.Vault, r.Vault) {
			r.SubscriptionID, r.ResourceGroup, r.Vault = listed.SubscriptionID, listed.ResourceGroup, listed.Vault
		}
	}
	return r, nil
}

// parsePasted reads an ARM id or an address of a vault or of a secret in it. Of an
// address it returns the host too. A version is left out: references have none.
func parsePasted(text string) (r latchkey.SecretReference, host string, err error) {
	switch {
	case len(text) > maxPasted:
		return r, "", errors.New("is too long for an ARM id or an address")
	case strings.HasPrefix(text, "/"):
		if v, err := latchkey.ParseVaultID(strings.TrimSuffix(text, "/")); err == nil {
			return latchkey.SecretReference{SubscriptionID: v.SubscriptionID, ResourceGroup: v.ResourceGroup, Vault: v.Vault}, "", nil
		}
		if parts := strings.Split(text, "/"); len(parts) == 12 { // with a version
			text = strings.Join(parts[:11], "/")
		}
		r, err = latchkey.ParseSecretReference(text)
		return r, "", err
	}
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "https" || u.Hostname() == "" {
		return r, "", errors.New("is neither an ARM id, /subscriptions/…, nor the address of a vault or secret, https://…")
	}
	host = strings.ToLower(u.Hostname())
	r.Vault, _, _ = strings.Cut(host, ".")
	if err := latchkey.CheckVaultName(r.Vault); err != nil {
		return r, "", errors.New("is no address of a vault: its host must begin with the vault's name")
	}
	parts := strings.Split(strings.Trim(u.Path, "/"), "/")
	if kind := strings.ToLower(parts[0]); len(parts) > 1 && (kind == "secrets" || kind == "certificates") {
		if err := latchkey.CheckSecretName(parts[1]); err != nil {
			return r, "", errors.New("is no address of a secret: " + err.Error())
		}
		r.Secret = parts[1]
	}
	return r, host, nil
}

// listsVault reports whether references of an environment may name a vault, for the
// choice of what is offered.
func listsVault(e latchkey.Environment, v latchkey.VaultReference) bool {
	return slices.ContainsFunc(e.Vaults, func(s string) bool {
		if s == latchkey.AnyVault {
			return true
		}
		listed, err := latchkey.ParseVaultID(s)
		return err == nil && listed.Key() == v.Key()
	})
}

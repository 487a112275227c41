package latchkey

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

// A SecretReference says where a secret is: never its version, never its value.
type SecretReference struct {
	SubscriptionID string `json:"subscriptionId" doc:"subscription id of the vault, a GUID"`
	ResourceGroup  string `json:"resourceGroup" doc:"resource group of the vault"`
	Vault          string `json:"vault" doc:"name of the vault, not its address"`
	Secret         string `json:"secret" doc:"name of the secret, without a version"`
}

// A VaultReference names a vault by the first three parts of its ARM id.
type VaultReference struct {
	SubscriptionID string `json:"subscriptionId"`
	ResourceGroup  string `json:"resourceGroup"`
	Vault          string `json:"vault"`
}

var (
	guidRE       = regexp.MustCompile(`^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$`)
	vaultNameRE  = regexp.MustCompile(`^[a-zA-Z]([0-9a-zA-Z]|-[0-9a-zA-Z]){2,23}$`)
	secretNameRE = regexp.MustCompile(`^[0-9a-zA-Z-]{1,127}$`)
)

// CheckVaultName returns what is wrong with the name of a vault (AKV: 3 to 24
// letters, digits and single hyphens, beginning with a letter).
func CheckVaultName(s string) error {
	switch {
	case strings.Contains(s, "://"):
		return errors.New("this is an address; take only the vault's name, the part between https:// and the first dot")
	case strings.HasPrefix(s, "/"):
		return errors.New("this is an ARM id; take only the part between /vaults/ and the next slash")
	case strings.Contains(s, "."):
		return errors.New("this is a host name; take only the part before the first dot")
	case len(s) < 3 || len(s) > 24 || !vaultNameRE.MatchString(s):
		return errors.New("must be 3 to 24 letters, digits and single hyphens, begin with a letter and end with a letter or digit")
	}
	return nil
}

// CheckSecretName returns what is wrong with the name of a secret (AKV: 1 to
// 127 letters, digits and hyphens).
func CheckSecretName(s string) error {
	switch {
	case strings.Contains(s, "://"):
		return errors.New("this is an address; take only the secret's name, the part after /secrets/ up to the next slash")
	case strings.Contains(strings.ToLower(s), "/secrets/"):
		return errors.New("this is an ARM id; take only the part after /secrets/")
	case strings.Contains(s, "/"):
		return errors.New("a reference never names a version; take only the part before the slash")
	case !secretNameRE.MatchString(s):
		return errors.New("must be 1 to 127 letters, digits and hyphens")
	}
	return nil
}

func checkSubscription(s string) error {
	if strings.HasPrefix(s, "/") {
		return errors.New("this is an ARM id; take only the part between /subscriptions/ and the next slash")
	}
	if !guidRE.MatchString(s) {
		return errors.New("must be a GUID such as 00000000-0000-0000-0000-000000000000")
	}
	return nil
}

func notInResourceGroup(r rune) bool {
	return !unicode.IsLetter(r) && !unicode.IsNumber(r) && !strings.ContainsRune("_().-", r)
}

func checkResourceGroup(s string) error {
	if strings.HasPrefix(s, "/") {
		return errors.New("this is an ARM id; take only the part between /resourceGroups/ and the next slash")
	}
	// Not a regular expression: one with so many of a large class takes longer to
	// compile, at the start of every program, than all others together.
	n := utf8.RuneCountInString(s)
	if n < 1 || n > 90 || strings.ContainsFunc(s, notInResourceGroup) || strings.HasSuffix(s, ".") {
		return errors.New("must be 1 to 90 letters, digits and _ - . ( ) and not end with a dot")
	}
	return nil
}

// Validate returns every fault with field names that begin with prefix.
func (r SecretReference) validate(f *faults, prefix string) {
	r.VaultRef().validate(f, prefix)
	f.check(prefix+"secret", CheckSecretName(r.Secret))
}

// Validate returns every fault.
func (r SecretReference) Validate() error {
	var f faults
	r.validate(&f, "")
	return f.err()
}

// VaultRef returns the vault's part of the reference.
func (r SecretReference) VaultRef() VaultReference {
	return VaultReference{r.SubscriptionID, r.ResourceGroup, r.Vault}
}

// String returns the reference as an ARM id.
func (r SecretReference) String() string {
	return r.VaultRef().String() + "/secrets/" + r.Secret
}

// Key returns the form in which references are compared: ARM ids and the names
// of Key Vault objects do not depend on case.
func (r SecretReference) Key() string { return strings.ToLower(r.String()) }

func (v VaultReference) validate(f *faults, prefix string) {
	f.check(prefix+"subscriptionId", checkSubscription(v.SubscriptionID))
	f.check(prefix+"resourceGroup", checkResourceGroup(v.ResourceGroup))
	f.check(prefix+"vault", CheckVaultName(v.Vault))
}

// String returns the vault's ARM id.
func (v VaultReference) String() string {
	return fmt.Sprintf("/subscriptions/%s/resourceGroups/%s/providers/Microsoft.KeyVault/vaults/%s",
		v.SubscriptionID, v.ResourceGroup, v.Vault)
}

// Key returns the form in which vaults are compared.
func (v VaultReference) Key() string { return strings.ToLower(v.String()) }

// maxARMID bounds the text that ParseSecretReference and ParseVaultID read.
const maxARMID = 1000

// ParseSecretReference reads the ARM id of a secret. Its errors do not repeat
// the text.
func ParseSecretReference(s string) (SecretReference, error) {
	if strings.Contains(s, "://") {
		return SecretReference{}, errors.New("this is an address of the vault, not an ARM id; in the Azure portal the ARM id is the vault's Resource ID, followed by /secrets/ and the secret's name")
	}
	parts, err := splitARMID(s)
	if err != nil {
		return SecretReference{}, err
	}
	switch {
	case len(parts) == 8:
		return SecretReference{}, errors.New("this names a vault only; add /secrets/ and the secret's name")
	case len(parts) > 10 && strings.EqualFold(parts[8], "secrets"):
		return SecretReference{}, errors.New("a reference never names a version; leave out what follows the secret's name")
	case len(parts) != 10 || !strings.EqualFold(parts[8], "secrets"):
		return SecretReference{}, errARMShape
	}
	r := SecretReference{parts[1], parts[3], parts[7], parts[9]}
	return r, r.Validate()
}

// ParseVaultID reads the ARM id of a vault. Its errors do not repeat the text.
func ParseVaultID(s string) (VaultReference, error) {
	parts, err := splitARMID(s)
	if err != nil {
		return VaultReference{}, err
	}
	if len(parts) != 8 {
		return VaultReference{}, errors.New("must end with the vault's name")
	}
	v := VaultReference{parts[1], parts[3], parts[7]}
	var f faults
	v.validate(&f, "")
	return v, f.err()
}

var errARMShape = errors.New("must have the form /subscriptions/{id}/resourceGroups/{name}/providers/Microsoft.KeyVault/vaults/{vault}/secrets/{secret}")

// splitARMID returns the segments of an ARM id below Microsoft.KeyVault/vaults.
// Keywords compare without case, as in Azure.
func splitARMID(s string) ([]string, error) {
	if len(s) > maxARMID {
		return nil, fmt.Errorf("must be at most %d bytes", maxARMID)
	}
	rest, ok := strings.CutPrefix(s, "/")
	if !ok {
		return nil, errARMShape
	}
	parts := strings.Split(rest, "/")
	want := []string{"subscriptions", "", "resourceGroups", "", "providers", "Microsoft.KeyVault", "vaults", ""}
	if len(parts) < len(want) {
		return nil, errARMShape
	}
	for i, w := range want {
		if w != "" && !strings.EqualFold(parts[i], w) || parts[i] == "" {
			return nil, errARMShape
		}
	}
	return parts, nil
}

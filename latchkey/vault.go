package latchkey

import (
	"errors"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// An EmbeddedVault is an Azure Key Vault that Latchkey serves itself.
type EmbeddedVault struct {
	ID             VaultID     `json:"id"`
	Name           string      `json:"name"`
	SubscriptionID string      `json:"subscriptionId"`
	ResourceGroup  string      `json:"resourceGroup"`
	ARMID          string      `json:"armId" doc:"what secret references name"`
	URL            string      `json:"url" doc:"its address for Azure SDKs"`
	RetentionDays  int         `json:"retentionDays" doc:"how long deleted secrets can be recovered"`
	CreatedBy      PrincipalID `json:"createdBy"`
	CreatedAt      time.Time   `json:"createdAt"`
}

// Reference returns the vault as references name it.
func (v *EmbeddedVault) Reference() VaultReference {
	return VaultReference{v.SubscriptionID, v.ResourceGroup, v.Name}
}

// Defaults of embedded vaults.
const (
	DefaultResourceGroup = "latchkey"
	DefaultRetentionDays = 90
)

// An EmbeddedVaultCreate asks for a new embedded vault.
type EmbeddedVaultCreate struct {
	Name           string `json:"name" doc:"3 to 24 letters, digits and single hyphens"`
	SubscriptionID string `json:"subscriptionId,omitempty" doc:"a GUID; defaults to this installation's"`
	ResourceGroup  string `json:"resourceGroup,omitempty" doc:"defaults to latchkey"`
	RetentionDays  int    `json:"retentionDays,omitempty" doc:"7 to 90, the default"`
}

// Validate returns every fault, and fills in the defaults.
func (c *EmbeddedVaultCreate) Validate(defaultSubscription string) error {
	if c.SubscriptionID == "" {
		c.SubscriptionID = defaultSubscription
	}
	if c.ResourceGroup == "" {
		c.ResourceGroup = DefaultResourceGroup
	}
	if c.RetentionDays == 0 {
		c.RetentionDays = DefaultRetentionDays
	}
	var f faults
	f.check("name", CheckVaultName(c.Name))
	f.check("subscriptionId", checkSubscription(c.SubscriptionID))
	f.check("resourceGroup", checkResourceGroup(c.ResourceGroup))
	if c.RetentionDays < 7 || c.RetentionDays > 90 {
		f.add("retentionDays", "must be from 7 to 90")
	}
	return f.err()
}

// A VaultRole is a role in an embedded vault, named as in Azure.
type VaultRole string

const (
	VaultAdministrator  VaultRole = "Key Vault Administrator"
	VaultSecretsOfficer VaultRole = "Key Vault Secrets Officer"
	VaultSecretsUser    VaultRole = "Key Vault Secrets User"
	VaultReader         VaultRole = "Key Vault Reader"
)

var vaultRoles = []VaultRole{VaultAdministrator, VaultSecretsOfficer, VaultSecretsUser, VaultReader}

// A VaultAction is a data action of an embedded vault, named as in Azure.
type VaultAction string

const (
	VaultGetSecret     VaultAction = "Microsoft.KeyVault/vaults/secrets/getSecret/action"
	VaultReadMetadata  VaultAction = "Microsoft.KeyVault/vaults/secrets/readMetadata/action"
	VaultSetSecret     VaultAction = "Microsoft.KeyVault/vaults/secrets/setSecret/action"
	VaultUpdateSecret  VaultAction = "Microsoft.KeyVault/vaults/secrets/update/action"
	VaultDeleteSecret  VaultAction = "Microsoft.KeyVault/vaults/secrets/delete"
	VaultBackupSecret  VaultAction = "Microsoft.KeyVault/vaults/secrets/backup/action"
	VaultRestoreSecret VaultAction = "Microsoft.KeyVault/vaults/secrets/restore/action"
	VaultRecoverSecret VaultAction = "Microsoft.KeyVault/vaults/secrets/recover/action"
	VaultPurgeSecret   VaultAction = "Microsoft.KeyVault/vaults/secrets/purge/action"
)

// Allows reports whether the role includes a data action. Administrator and
// Secrets Officer include every action on secrets; assigning roles is the
// Administrator's alone.
func (r VaultRole) Allows(a VaultAction) bool {
	switch r {
	case VaultAdministrator, VaultSecretsOfficer:
		return true
	case VaultSecretsUser:
		return a == VaultGetSecret || a == VaultReadMetadata
	case VaultReader:
		return a == VaultReadMetadata
	}
	return false
}

// A RoleAssignment gives a principal a role in an embedded vault, or on one
// secret of it.
type RoleAssignment struct {
	ID            RoleAssignmentID `json:"id"`
	Principal     PrincipalID      `json:"principal"`
	PrincipalName string           `json:"principalName"`
	Role          VaultRole        `json:"role"`
	Secret        string           `json:"secret,omitempty" doc:"name of the secret it is limited to; empty is the whole vault"`
	CreatedBy     PrincipalID      `json:"createdBy"`
	CreatedAt     time.Time        `json:"createdAt"`
}

// A RoleAssignmentCreate asks for a new role assignment.
type RoleAssignmentCreate struct {
	Principal PrincipalID `json:"principal" doc:"id of a user or service principal, or a user's login; sp_latchkey is the service itself"`
	Role      VaultRole   `json:"role" doc:"Key Vault Administrator, Key Vault Secrets Officer, Key Vault Secrets User or Key Vault Reader"`
	Secret    string      `json:"secret,omitempty" doc:"name of the secret to limit it to; empty is the whole vault"`
}

// Validate returns every fault.
func (c *RoleAssignmentCreate) Validate() error {
	var f faults
	if c.Principal == "" || len(c.Principal) > MaxName {
		f.add("principal", "must be the id of a principal or the login of a user")
	}
	if !slices.Contains(vaultRoles, c.Role) {
		f.add("role", "must be one of Key Vault Administrator, Key Vault Secrets Officer, Key Vault Secrets User, Key Vault Reader")
	}
	if c.Secret != "" {
		f.check("secret", CheckSecretName(c.Secret))
	}
	return f.err()
}

// Limits of a secret's metadata (AKV).
const (
	MaxContentType = 255
	MaxTags        = 15
	MaxTagName     = 512
	MaxTagValue    = 512
)

// SecretAttributes are what one version of a secret carries besides its value.
// NotBefore and Expires inform only: reading goes on outside them (AKV).
type SecretAttributes struct {
	ContentType string
	Enabled     bool
	NotBefore   *time.Time
	Expires     *time.Time
	Tags        map[string]string
}

// Validate returns every fault.
func (a *SecretAttributes) Validate() error {
	var f faults
	if len(a.ContentType) > MaxContentType || checkText(a.ContentType, MaxContentType) != nil {
		f.add("contentType", "must be at most %d characters", MaxContentType)
	}
	if len(a.Tags) > MaxTags {
		f.add("tags", "must be at most %d", MaxTags)
	}
	for name, value := range a.Tags {
		if checkText(name, MaxTagName) != nil || checkText(value, MaxTagValue) != nil {
			f.add("tags", "names and values must be at most %d characters", MaxTagName)
			break
		}
	}
	if a.NotBefore != nil && a.Expires != nil && a.Expires.Before(*a.NotBefore) {
		f.add("attributes.exp", "must not be before nbf")
	}
	return f.err()
}

// CheckSecretValue returns what is wrong with the value of a vault's secret.
func CheckSecretValue(v Secret) error {
	switch s := v.Reveal(); {
	case v.IsZero():
		return errors.New("must be given")
	case len(s) > MaxSecretBytes:
		return errors.New("must be at most 25600 bytes")
	case !utf8.ValidString(s) || strings.ContainsRune(s, 0):
		return errors.New("must be valid UTF-8 without NUL")
	}
	return nil
}

// A VaultSecret is one version of a secret of an embedded vault, without its
// value.
type VaultSecret struct {
	Name    string
	Version string // 32 lower-case hexadecimal digits
	SecretAttributes
	CreatedAt       time.Time
	UpdatedAt       time.Time
	PreviousVersion string
	RetentionDays   int

	// Of a deleted secret.
	DeletedAt *time.Time
	PurgeAt   *time.Time
}

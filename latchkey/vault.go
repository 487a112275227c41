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
	RetentionDays  int         `json:"retentionDays" doc:"how long deleted secrets and certificates can be recovered"`
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
	if slices.Contains(reservedVaultNames, strings.ToLower(c.Name)) {
		f.add("name", "is an address of the embedded vaults' own; choose another")
	}
	f.check("subscriptionId", checkSubscription(c.SubscriptionID))
	f.check("resourceGroup", checkResourceGroup(c.ResourceGroup))
	if c.RetentionDays < 7 || c.RetentionDays > 90 {
		f.add("retentionDays", "must be from 7 to 90")
	}
	return f.err()
}

// reservedVaultNames are what the embedded vaults' domain has besides vaults.
var reservedVaultNames = []string{"management", "login"}

// A VaultRole is a role in an embedded vault, named as in Azure.
type VaultRole string

const (
	VaultAdministrator       VaultRole = "Key Vault Administrator"
	VaultSecretsOfficer      VaultRole = "Key Vault Secrets Officer"
	VaultSecretsUser         VaultRole = "Key Vault Secrets User"
	VaultCertificatesOfficer VaultRole = "Key Vault Certificates Officer"
	VaultCertificateUser     VaultRole = "Key Vault Certificate User"
	VaultCryptoOfficer       VaultRole = "Key Vault Crypto Officer"
	VaultCryptoUser          VaultRole = "Key Vault Crypto User"
	VaultReader              VaultRole = "Key Vault Reader"
)

// VaultRoles are the roles in embedded vaults, of those that allow an action the
// one that allows least first.
var VaultRoles = []VaultRole{
	VaultReader, VaultSecretsUser, VaultCryptoUser, VaultCertificateUser,
	VaultSecretsOfficer, VaultCryptoOfficer, VaultCertificatesOfficer, VaultAdministrator,
}

// vaultRoleIDs are the ids of Azure's built-in roles.
var vaultRoleIDs = map[VaultRole]string{
	VaultAdministrator:       "00482a5a-887f-4fb3-b363-3b7fe8e74483",
	VaultSecretsOfficer:      "b86a8fe4-44ce-4948-aee5-eccb2c155cd7",
	VaultSecretsUser:         "4633458b-17de-408a-b874-0445c86b69e6",
	VaultCertificatesOfficer: "a4417e6f-fecd-4de8-b567-7b0420556985",
	VaultCertificateUser:     "db79e9a7-68ee-4b58-9aeb-b90e7c24fcba",
	VaultCryptoOfficer:       "14b46e9e-c2b7-41b4-b07b-48a6ebf60603",
	VaultCryptoUser:          "12338af0-0e69-4776-bea7-57ae8d297424",
	VaultReader:              "21090545-7ca7-4776-b22c-e363652d74d2",
}

// ID returns the GUID of Azure's built-in role of this name.
func (r VaultRole) ID() string { return vaultRoleIDs[r] }

// A VaultAction is a data action of an embedded vault, named as in Azure.
type VaultAction string

const (
	VaultGetSecret     VaultAction = secretAction + "getSecret/action"
	VaultReadMetadata  VaultAction = secretAction + "readMetadata/action"
	VaultSetSecret     VaultAction = secretAction + "setSecret/action"
	VaultUpdateSecret  VaultAction = secretAction + "update/action"
	VaultDeleteSecret  VaultAction = secretAction + "delete"
	VaultBackupSecret  VaultAction = secretAction + "backup/action"
	VaultRestoreSecret VaultAction = secretAction + "restore/action"
	VaultRecoverSecret VaultAction = secretAction + "recover/action"
	VaultPurgeSecret   VaultAction = secretAction + "purge/action"

	VaultReadCertificate    VaultAction = certificateAction + "read"
	VaultCreateCertificate  VaultAction = certificateAction + "create/action"
	VaultImportCertificate  VaultAction = certificateAction + "import/action"
	VaultUpdateCertificate  VaultAction = certificateAction + "update/action"
	VaultDeleteCertificate  VaultAction = certificateAction + "delete"
	VaultBackupCertificate  VaultAction = certificateAction + "backup/action"
	VaultRestoreCertificate VaultAction = certificateAction + "restore/action"
	VaultRecoverCertificate VaultAction = certificateAction + "recover/action"
	VaultPurgeCertificate   VaultAction = certificateAction + "purge/action"

	VaultReadIssuer    VaultAction = issuerAction + "read"
	VaultWriteIssuer   VaultAction = issuerAction + "write"
	VaultDeleteIssuer  VaultAction = issuerAction + "delete"
	VaultWriteContacts VaultAction = "Microsoft.KeyVault/vaults/certificatecontacts/write"

	VaultReadKey VaultAction = keyAction + "read"
)

// VaultActions are the data actions that are served.
var VaultActions = []VaultAction{
	VaultGetSecret, VaultReadMetadata, VaultSetSecret, VaultUpdateSecret, VaultDeleteSecret, VaultBackupSecret, VaultRestoreSecret, VaultRecoverSecret, VaultPurgeSecret,
	VaultReadCertificate, VaultCreateCertificate, VaultImportCertificate, VaultUpdateCertificate, VaultDeleteCertificate, VaultBackupCertificate,
	VaultRestoreCertificate, VaultRecoverCertificate, VaultPurgeCertificate,
	VaultReadIssuer, VaultWriteIssuer, VaultDeleteIssuer, VaultWriteContacts, VaultReadKey,
}

const (
	secretAction      = "Microsoft.KeyVault/vaults/secrets/"
	certificateAction = "Microsoft.KeyVault/vaults/certificates/"
	issuerAction      = "Microsoft.KeyVault/vaults/certificatecas/"
	keyAction         = "Microsoft.KeyVault/vaults/keys/"
)

// Allows reports whether the role includes a data action, as Azure's built-in
// role of this name does. Assigning roles is the Administrator's alone.
func (r VaultRole) Allows(a VaultAction) bool {
	of := func(prefix string) bool { return strings.HasPrefix(string(a), prefix) }
	switch r {
	case VaultAdministrator:
		return true
	case VaultSecretsOfficer:
		return of(secretAction)
	case VaultSecretsUser:
		return a == VaultGetSecret || a == VaultReadMetadata
	case VaultCertificatesOfficer:
		return of(certificateAction) || of(issuerAction) || a == VaultWriteContacts
	case VaultCertificateUser:
		return a == VaultReadCertificate || a == VaultGetSecret || a == VaultReadMetadata || a == VaultReadKey
	case VaultCryptoOfficer:
		return of(keyAction)
	case VaultCryptoUser:
		return a == VaultReadKey
	case VaultReader:
		return a == VaultReadMetadata || a == VaultReadCertificate || a == VaultReadIssuer || a == VaultReadKey
	}
	return false
}

// A VaultCollection is a kind of objects in a vault, by its name in paths and
// ARM ids.
type VaultCollection string

const (
	VaultSecrets      VaultCollection = "secrets"
	VaultCertificates VaultCollection = "certificates"
	VaultKeys         VaultCollection = "keys"
)

// A VaultObject names an object in a vault. The zero value is the vault itself.
type VaultObject struct {
	In   VaultCollection
	Name string
}

// String returns the object's part of an ARM id, or "" for the vault.
func (o VaultObject) String() string {
	if o.Name == "" {
		return ""
	}
	return string(o.In) + "/" + o.Name
}

// A RoleAssignment gives a principal a role in an embedded vault, or on one
// object in it.
type RoleAssignment struct {
	ID            RoleAssignmentID `json:"id"`
	Principal     PrincipalID      `json:"principal"`
	PrincipalName string           `json:"principalName"`
	PrincipalKind PrincipalKind    `json:"principalKind"`
	ClientID      string           `json:"clientId,omitempty" doc:"of a service principal"`
	Role          VaultRole        `json:"role"`
	Secret        string           `json:"secret,omitempty" doc:"name of the secret it is limited to"`
	Certificate   string           `json:"certificate,omitempty" doc:"name of the certificate it is limited to"`
	Key           string           `json:"key,omitempty" doc:"name of the key it is limited to; without secret, certificate and key it is for the whole vault"`
	CreatedBy     PrincipalID      `json:"createdBy"`
	CreatedAt     time.Time        `json:"createdAt"`
}

// Object returns what the assignment is limited to.
func (a *RoleAssignment) Object() VaultObject { return object(a.Secret, a.Certificate, a.Key) }

// LimitTo limits the assignment to an object.
func (a *RoleAssignment) LimitTo(o VaultObject) {
	a.Secret, a.Certificate, a.Key = "", "", ""
	switch o.In {
	case VaultSecrets:
		a.Secret = o.Name
	case VaultCertificates:
		a.Certificate = o.Name
	case VaultKeys:
		a.Key = o.Name
	}
}

func object(secret, certificate, key string) VaultObject {
	switch {
	case secret != "":
		return VaultObject{VaultSecrets, secret}
	case certificate != "":
		return VaultObject{VaultCertificates, certificate}
	case key != "":
		return VaultObject{VaultKeys, key}
	}
	return VaultObject{}
}

// A RoleAssignmentCreate asks for a new role assignment.
type RoleAssignmentCreate struct {
	Principal   PrincipalID `json:"principal" doc:"id of a user or service principal, a user's login or a service principal's client id; sp_latchkey is the service itself"`
	Role        VaultRole   `json:"role" doc:"Key Vault Administrator, Key Vault Secrets Officer, Key Vault Secrets User, Key Vault Certificates Officer, Key Vault Certificate User, Key Vault Crypto Officer, Key Vault Crypto User or Key Vault Reader"`
	Secret      string      `json:"secret,omitempty" doc:"name of the secret to limit it to"`
	Certificate string      `json:"certificate,omitempty" doc:"name of the certificate to limit it to; its secret and key, of the same name, are objects of their own"`
	Key         string      `json:"key,omitempty" doc:"name of the key to limit it to; without secret, certificate and key it is for the whole vault"`
}

// Object returns what the assignment shall be limited to.
func (c *RoleAssignmentCreate) Object() VaultObject { return object(c.Secret, c.Certificate, c.Key) }

// Validate returns every fault.
func (c *RoleAssignmentCreate) Validate() error {
	var f faults
	if c.Principal == "" || len(c.Principal) > MaxName {
		f.add("principal", "must be the id of a principal, the login of a user or the client id of a service principal")
	}
	if !slices.Contains(VaultRoles, c.Role) {
		var names []string
		for _, r := range VaultRoles {
			names = append(names, string(r))
		}
		f.add("role", "must be one of %s", strings.Join(names, ", "))
	}
	limits := 0
	for _, limit := range [][2]string{{"secret", c.Secret}, {"certificate", c.Certificate}, {"key", c.Key}} {
		if limit[1] != "" {
			limits++
			f.check(limit[0], CheckSecretName(limit[1]))
		}
	}
	if limits > 1 {
		f.add("secret", "is one of secret, certificate and key, of which an assignment has at most one")
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
	Managed         bool // it is a certificate's: its key and certificates

	// Of a deleted secret.
	DeletedAt *time.Time
	PurgeAt   *time.Time
}

package latchkey

import (
	"errors"
	"net/url"
	"strings"
	"time"
	"unicode/utf8"
)

// A PrincipalKind is the kind of a principal.
type PrincipalKind string

const (
	PrincipalUser    PrincipalKind = "user"
	PrincipalService PrincipalKind = "service-principal"
	PrincipalGroup   PrincipalKind = "group"
	PrincipalMachine PrincipalKind = "machine"
)

// ServiceIdentity is the id of the service principal as which Latchkey itself
// reads vaults.
const ServiceIdentity PrincipalID = "sp_latchkey"

// ServiceIdentityName is its name where people see it.
const ServiceIdentityName = "Latchkey service"

// A Caller is who asks for an operation: an authenticated principal. Every
// operation takes its caller as an argument. What the caller may do is decided
// inside the operation's transaction, not kept here.
type Caller struct {
	ID        PrincipalID
	Kind      PrincipalKind
	Name      string
	Token     TokenID // the API token or session used, if any
	RequestID string  // for the audit log
	Address   string  // network address it came from, for the audit log
}

// A User is a person with a local account.
type User struct {
	ID                 PrincipalID        `json:"id"`
	Login              string             `json:"login"`
	DisplayName        string             `json:"displayName"`
	TenantAdmin        bool               `json:"tenantAdmin"`
	Disabled           bool               `json:"disabled"`
	ExternalIdentities []ExternalIdentity `json:"externalIdentities" nullable:"false"`
	CreatedAt          time.Time          `json:"createdAt"`
	UpdatedAt          time.Time          `json:"updatedAt"`
}

// An ExternalIdentity is who a principal is in another directory.
type ExternalIdentity struct {
	Issuer   string `json:"issuer" doc:"issuer of its tokens, an https address"`
	Tenant   string `json:"tenant,omitempty"`
	ObjectID string `json:"objectId"`
}

// Validate returns every fault, and writes GUIDs as they are compared.
func (e *ExternalIdentity) Validate() error {
	var f faults
	if u, err := url.Parse(e.Issuer); err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || checkText(e.Issuer, 500) != nil {
		f.add("issuer", "must be an https address of at most 500 characters, as tokens name it")
	}
	if e.ObjectID == "" || checkText(e.ObjectID, 200) != nil {
		f.add("objectId", "must be 1 to 200 characters")
	}
	if checkText(e.Tenant, 200) != nil {
		f.add("tenant", "must be at most 200 characters")
	}
	for _, id := range []*string{&e.Tenant, &e.ObjectID} {
		if guidRE.MatchString(*id) {
			*id = strings.ToLower(*id)
		}
	}
	return f.err()
}

// EntraIdentity returns who somebody is in a tenant of Microsoft Entra ID, as its
// tokens in Azure's public cloud say it.
func EntraIdentity(tenant, objectID string) ExternalIdentity {
	return ExternalIdentity{Issuer: "https://login.microsoftonline.com/" + strings.ToLower(tenant) + "/v2.0", Tenant: tenant, ObjectID: objectID}
}

// MaxIdentities is how many external identities a principal has at most.
const MaxIdentities = 20

// Limits of passwords of local accounts, in bytes.
const (
	MinPassword = 12
	MaxPassword = 256
)

// A UserCreate asks for a new local account.
type UserCreate struct {
	Login       string  `json:"login" doc:"1 to 100 lower-case letters, digits and . _ @ + -"`
	DisplayName string  `json:"displayName,omitempty" doc:"defaults to the login"`
	Password    *string `json:"password,omitempty" doc:"12 to 256 bytes; without one the account signs in by tokens only"`
	TenantAdmin bool    `json:"tenantAdmin,omitempty"`
}

// Validate returns every fault, and fills in the defaults.
func (c *UserCreate) Validate() error {
	if c.DisplayName == "" {
		c.DisplayName = c.Login
	}
	var f faults
	if !loginRE.MatchString(c.Login) {
		f.add("login", "must be 1 to 100 lower-case letters, digits and . _ @ + -, beginning and ending with a letter or digit")
	} else if idRE.MatchString(c.Login) || guidRE.MatchString(c.Login) {
		f.add("login", "must not look like an identifier")
	} else {
		f.check("displayName", CheckName(c.DisplayName))
	}
	if c.Password != nil {
		f.check("password", CheckPassword(*c.Password))
	}
	return f.err()
}

// CheckPassword returns what is wrong with the password of a local account.
func CheckPassword(s string) error {
	if len(s) < MinPassword || len(s) > MaxPassword {
		return errors.New("must be 12 to 256 bytes")
	}
	if !utf8.ValidString(s) {
		return errors.New("is not valid UTF-8")
	}
	return nil
}

// A UserUpdate changes what is not nil.
type UserUpdate struct {
	DisplayName        *string             `json:"displayName,omitempty"`
	Password           *string             `json:"password,omitempty" doc:"ends the account's sessions"`
	CurrentPassword    *string             `json:"currentPassword,omitempty" doc:"for a new password of one's own account, if it has one"`
	TenantAdmin        *bool               `json:"tenantAdmin,omitempty"`
	Disabled           *bool               `json:"disabled,omitempty" doc:"takes effect at once, also for runs that are under way"`
	Force              bool                `json:"force,omitempty" doc:"disable it though an environment is left without an admin, which is on record"`
	ExternalIdentities *[]ExternalIdentity `json:"externalIdentities,omitempty" nullable:"false"`
}

// Validate returns every fault, and writes GUIDs as they are compared.
func (u *UserUpdate) Validate() error {
	var f faults
	if u.DisplayName != nil {
		f.check("displayName", CheckName(*u.DisplayName))
	}
	if u.Password != nil {
		f.check("password", CheckPassword(*u.Password))
	}
	if u.ExternalIdentities != nil {
		if len(*u.ExternalIdentities) > MaxIdentities {
			f.add("externalIdentities", "must be at most %d", MaxIdentities)
		}
		for i := range *u.ExternalIdentities {
			if (*u.ExternalIdentities)[i].Validate() != nil {
				f.add("externalIdentities", "each needs an https issuer of at most 500 and an objectId of at most 200 characters")
				break
			}
		}
	}
	return f.err()
}

// A Token is an API token of a principal, without its value.
type Token struct {
	ID         TokenID     `json:"id"`
	Name       string      `json:"name"`
	Principal  PrincipalID `json:"principal"`
	CreatedAt  time.Time   `json:"createdAt"`
	ExpiresAt  time.Time   `json:"expiresAt"`
	LastUsedAt *time.Time  `json:"lastUsedAt,omitempty"`
}

// Lifetimes of tokens.
const (
	AdminTokenTTL   = 24 * time.Hour       // of the first admin token
	SignInTokenTTL  = 12 * time.Hour       // of a token made by signing in
	SignInLinkTTL   = 10 * time.Minute     // of a one-time sign-in link
	DefaultTokenTTL = 30 * 24 * time.Hour  // of a token whose request does not say
	MaxTokenTTL     = 366 * 24 * time.Hour // of any token
	VaultTokenTTL   = time.Hour            // of an access token for embedded vaults
)

// A TokenCreate asks for a new API token of the caller.
type TokenCreate struct {
	Name      string   `json:"name"`
	ExpiresIn Duration `json:"expiresIn,omitempty" doc:"for example 720h, the default; at most 8784h"`
}

// Validate returns every fault, and fills in the defaults.
func (c *TokenCreate) Validate() error {
	if c.ExpiresIn == 0 {
		c.ExpiresIn = Duration(DefaultTokenTTL)
	}
	var f faults
	f.check("name", CheckName(c.Name))
	if d := time.Duration(c.ExpiresIn); d < time.Second || d > MaxTokenTTL {
		f.add("expiresIn", "must be from 1s to 8784h")
	}
	return f.err()
}

// A NewToken is a new API token with its value, which is shown once.
type NewToken struct {
	Token
	Value string `json:"token" doc:"shown once"`
}

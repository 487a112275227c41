package latchkey

import (
	"strings"
	"time"
)

// DefaultPrefix is the prefix of variable names in an environment that does not
// choose its own.
const DefaultPrefix = "new"

// AnyVault in an environment's list of vaults allows its references to name
// any vault of the tenant.
const AnyVault = "*"

// An Environment is the workspace that variables, credentials, machines,
// connections, flows and runs live in.
type Environment struct {
	ID          EnvironmentID `json:"id"`
	Name        string        `json:"name" doc:"short name, used in addresses"`
	DisplayName string        `json:"displayName"`
	Prefix      string        `json:"prefix" doc:"prefix of the variables' unique names"`
	Vaults      []string      `json:"vaults" nullable:"false" doc:"ARM ids of the vaults that references may name; * is any vault of the tenant"`

	// Whether removing a share of a credential removes the grants on its variables
	// too, where the request does not say.
	RemoveVariableGrants bool `json:"removeVariableGrants" doc:"whether removing a share of a credential also removes what it gave on the credential's variables, unless the request says otherwise"`

	MyRole    EnvironmentRole `json:"myRole,omitempty" enum:"admin,maker,user,auditor" doc:"the caller's role here"`
	CreatedAt time.Time       `json:"createdAt"`
	UpdatedAt time.Time       `json:"updatedAt"`
}

// An EnvironmentCreate asks for a new environment.
type EnvironmentCreate struct {
	Name        string   `json:"name" doc:"1 to 63 lower-case letters, digits and hyphens, beginning with a letter"`
	DisplayName string   `json:"displayName,omitempty" doc:"defaults to the name"`
	Prefix      string   `json:"prefix,omitempty" doc:"2 to 8 lower-case letters and digits; defaults to new"`
	Vaults      []string `json:"vaults,omitempty" nullable:"false" doc:"ARM ids of the vaults that references may name; defaults to *"`
}

// Validate returns every fault, and fills in the defaults.
func (c *EnvironmentCreate) Validate() error {
	if c.DisplayName == "" {
		c.DisplayName = c.Name
	}
	if c.Prefix == "" {
		c.Prefix = DefaultPrefix
	}
	if c.Vaults == nil {
		c.Vaults = []string{AnyVault}
	}
	var f faults
	if !environmentNameRE.MatchString(c.Name) {
		f.add("name", "must be 1 to 63 lower-case letters, digits and hyphens, begin with a letter and not end with a hyphen")
	} else if HasPrefix(c.Name, "env") {
		f.add("name", "must not look like an identifier")
	} else {
		f.check("displayName", CheckName(c.DisplayName))
	}
	checkPrefix(&f, c.Prefix)
	checkVaults(&f, c.Vaults)
	return f.err()
}

func checkPrefix(f *faults, prefix string) {
	switch {
	case !prefixRE.MatchString(prefix):
		f.add("prefix", "must be 2 to 8 lower-case letters and digits and begin with a letter")
	case strings.HasPrefix(prefix, "mscrm"):
		f.add("prefix", "must not begin with mscrm, which Dataverse reserves")
	}
}

func checkVaults(f *faults, vaults []string) {
	if len(vaults) > 100 {
		f.add("vaults", "must be at most 100")
		return
	}
	for _, v := range vaults {
		if v == AnyVault {
			continue
		}
		if _, err := ParseVaultID(v); err != nil {
			f.add("vaults", "each must be * or an ARM id /subscriptions/{id}/resourceGroups/{name}/providers/Microsoft.KeyVault/vaults/{name}: %v", err)
			return
		}
	}
}

// An EnvironmentUpdate changes what is not nil.
type EnvironmentUpdate struct {
	DisplayName *string   `json:"displayName,omitempty"`
	Vaults      *[]string `json:"vaults,omitempty" nullable:"false" doc:"ARM ids of the vaults that references may name; * is any vault of the tenant"`

	RemoveVariableGrants *bool `json:"removeVariableGrants,omitempty" doc:"whether removing a share of a credential also removes what it gave on the credential's variables, unless the request says otherwise"`
}

// Validate returns every fault.
func (u *EnvironmentUpdate) Validate() error {
	var f faults
	if u.DisplayName != nil {
		f.check("displayName", CheckName(*u.DisplayName))
	}
	if u.Vaults != nil {
		checkVaults(&f, *u.Vaults)
	}
	return f.err()
}

// A Member is a principal with a role in an environment.
type Member struct {
	Principal PrincipalID     `json:"principal"`
	Kind      PrincipalKind   `json:"kind" enum:"user,service-principal,group,machine"`
	Name      string          `json:"name"`
	ClientID  string          `json:"clientId,omitempty" doc:"of a service principal"`
	Role      EnvironmentRole `json:"role" enum:"admin,maker,user,auditor"`
	Disabled  bool            `json:"disabled,omitempty" doc:"the principal is deactivated: the role means nothing until it is enabled again"`
	CreatedBy PrincipalID     `json:"createdBy"`
	CreatedAt time.Time       `json:"createdAt"`
}

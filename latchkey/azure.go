package latchkey

import (
	"strings"
	"time"
)

// An AzureTenant is a tenant of Azure that is linked to the installation: vaults of
// others are not read.
type AzureTenant struct {
	ID       string      `json:"id" doc:"the tenant's id, a GUID"`
	LinkedBy PrincipalID `json:"linkedBy"`
	LinkedAt time.Time   `json:"linkedAt"`
}

// An AzureTenantLink asks to link a tenant of Azure.
type AzureTenantLink struct {
	ID string `json:"id" doc:"the tenant's id, a GUID; az account show prints it as tenantId"`
}

// Validate returns every fault, and writes the id as it is compared.
func (l *AzureTenantLink) Validate() error {
	var f faults
	f.check("id", CheckTenantID(l.ID))
	l.ID = strings.ToLower(l.ID)
	return f.err()
}

// CheckTenantID returns what is wrong with the id of a tenant of Azure.
func CheckTenantID(s string) error { return checkSubscription(s) }

package latchkey

import (
	"maps"
	"slices"
	"time"
)

// A Store is the kind of credential store that a credential's secrets are in.
type Store string

// StoreAzureKeyVault is Azure Key Vault, in Azure's clouds or embedded.
const StoreAzureKeyVault Store = "azure-key-vault"

// A Usage is a place where a credential may be used.
type Usage string

const (
	UsageConnection  Usage = "connection"   // the agent signs in with it
	UsageDesktopFlow Usage = "desktop-flow" // a flow asks for it
)

// An Authentication is what a credential consists of.
type Authentication string

const (
	AuthenticationPassword    Authentication = "password"    // a user name and a password
	AuthenticationCertificate Authentication = "certificate" // a user name and a certificate with its key
)

// Type returns the type of the variables that a slot takes.
func (s Slot) Type() VariableType {
	if s == SlotUsername {
		return TypeText
	}
	return TypeSecret
}

// SecretSlot returns the slot of what proves the user.
func (a Authentication) SecretSlot() Slot {
	if a == AuthenticationCertificate {
		return SlotCertificate
	}
	return SlotPassword
}

// A Slot is a named place of a credential that is bound to one variable.
type Slot string

const (
	SlotUsername Slot = "username" // a text variable
	SlotPassword Slot = "password" // a secret variable

	SlotCertificate Slot = "certificate" // a secret variable that refers to the secret of a Key Vault certificate
)

// An Exposure says how near a secret may come to a flow. A greater exposure
// includes the smaller ones.
type Exposure string

const (
	ExposureSession     Exposure = "session"     // only the agent's sign-in driver sees it
	ExposureDescriptor  Exposure = "descriptor"  // the flow reads it from an inherited file descriptor
	ExposureFile        Exposure = "file"        // the flow reads it from a file in memory
	ExposureEnvironment Exposure = "environment" // the flow finds it in its environment
)

var exposures = []Exposure{ExposureSession, ExposureDescriptor, ExposureFile, ExposureEnvironment}

// Allows reports whether an owner who chose e lets a flow have the secret in
// the way that h asks for.
func (e Exposure) Allows(h Handover) bool {
	if h == HandoverNone {
		return true
	}
	want := slices.Index(exposures, Exposure(h))
	return want > 0 && slices.Index(exposures, e) >= want
}

// A Credential refers to secrets by variables. It never holds a value.
type Credential struct {
	ID             CredentialID      `json:"id"`
	Name           string            `json:"name"`
	Description    string            `json:"description,omitempty"`
	Store          Store             `json:"store" enum:"azure-key-vault"`
	Usages         []Usage           `json:"usages" nullable:"false" enum:"connection,desktop-flow"`
	Authentication Authentication    `json:"authentication" enum:"password,certificate"`
	Exposure       Exposure          `json:"exposure" enum:"session,descriptor,file,environment" doc:"the nearest a secret may come to a flow; chosen by the owner"`
	AllowSharedUID bool              `json:"allowSharedUid" doc:"whether machines may use it whose flows run as the agent's own user"`
	Machines       []MachineID       `json:"machines,omitempty" nullable:"false" doc:"the only machines it may be used on, besides those in machineGroups; both empty is any"`
	MachineGroups  []MachineGroupID  `json:"machineGroups,omitempty" nullable:"false" doc:"the only machine groups on whose machines it may be used, besides machines"`
	Slots          map[Slot]string   `json:"slots" doc:"slot to the unique name of its variable; never changes"`
	Certificate    *CertificateCheck `json:"certificate,omitempty" doc:"of authentication certificate: what was found when the certificate was last looked at"`
	MyRole         Role              `json:"myRole,omitempty" enum:"owner,co-owner,user-share,user" doc:"the caller's own role on it"`
	CreatedBy      PrincipalID       `json:"createdBy"`
	CreatedAt      time.Time         `json:"createdAt"`
	UpdatedAt      time.Time         `json:"updatedAt"`

	// What it shows besides when it is asked for or listed, and not when it is changed.

	OwnedBy    *Owner           `json:"ownedBy,omitempty" doc:"when it is shown or listed: who owns it"`
	Username   string           `json:"username,omitempty" doc:"likewise: the value of the variable with the user name, if the caller may read that"`
	Status     CredentialStatus `json:"status,omitempty" enum:"failed,expired,checking,pending,unknown,expiring,ok" doc:"likewise: whether it can be used. failed: the check of its reference or certificate failed; expired; checking: not checked before; pending: a changed reference has not passed, and the one before is read; unknown: could not be checked; expiring: within 30 days"`
	LastUsedAt *time.Time       `json:"lastUsedAt,omitempty" doc:"likewise: when it was last released"`
	ExpiresAt  *time.Time       `json:"expiresAt,omitempty" doc:"likewise: when its certificate expires, or its secret in an embedded vault"`
}

// A CredentialCreate asks for a new credential.
type CredentialCreate struct {
	Name           string           `json:"name"`
	Description    string           `json:"description,omitempty"`
	Store          Store            `json:"store,omitempty" doc:"azure-key-vault, the default"`
	Usages         []Usage          `json:"usages" nullable:"false" doc:"connection, desktop-flow or both"`
	Authentication Authentication   `json:"authentication,omitempty" doc:"password, the default, or certificate"`
	Exposure       Exposure         `json:"exposure,omitempty" doc:"session (the default), descriptor, file or environment"`
	AllowSharedUID bool             `json:"allowSharedUid,omitempty" doc:"also allow machines whose flows run as the agent's own user"`
	Machines       []MachineID      `json:"machines,omitempty" nullable:"false" doc:"the only machines it may be used on, besides those in machineGroups; both empty is any"`
	MachineGroups  []MachineGroupID `json:"machineGroups,omitempty" nullable:"false" doc:"the only machine groups on whose machines it may be used, besides machines"`
	Slots          map[Slot]string  `json:"slots,omitempty" doc:"username: a text variable; password or certificate, as the authentication says: a secret variable whose check has not failed"`

	// Variables are made along with the credential, all or nothing.
	Variables map[Slot]VariableCreate `json:"variables,omitempty" doc:"new variables for slots that slots does not name; they are made along with the credential, or nothing is. The type follows from the slot"`
}

// Validate returns every fault, and fills in the defaults. Whether the
// variables exist and fit is for the caller to check.
func (c *CredentialCreate) Validate() error {
	if c.Store == "" {
		c.Store = StoreAzureKeyVault
	}
	if c.Authentication == "" {
		c.Authentication = AuthenticationPassword
	}
	if c.Exposure == "" {
		c.Exposure = ExposureSession
	}
	var f faults
	f.check("name", CheckName(c.Name))
	f.check("description", checkText(c.Description, MaxDescription))
	if c.Store != StoreAzureKeyVault {
		f.add("store", "must be azure-key-vault")
	}
	if c.Authentication != AuthenticationPassword && c.Authentication != AuthenticationCertificate {
		f.add("authentication", "must be password or certificate")
	}
	if !slices.Contains(exposures, c.Exposure) {
		f.add("exposure", "must be one of session, descriptor, file, environment")
	}
	if len(c.Usages) == 0 {
		f.add("usages", "must name connection, desktop-flow or both")
	}
	for i, u := range c.Usages {
		if u != UsageConnection && u != UsageDesktopFlow {
			f.add("usages", "must each be connection or desktop-flow")
		} else if slices.Contains(c.Usages[:i], u) {
			f.add("usages", "must not name the same usage twice")
		}
	}
	checkMachines(&f, c.Machines, c.MachineGroups)
	secret := c.Authentication.SecretSlot()
	for _, slot := range []Slot{SlotUsername, secret} {
		switch _, isNew := c.Variables[slot]; {
		case c.Slots[slot] == "" && !isNew:
			f.add("slots."+string(slot), "must name a variable")
		case c.Slots[slot] != "" && isNew:
			f.add("slots."+string(slot), "must be left out when variables has a new one")
		}
	}
	for _, slot := range slices.Concat(slices.Collect(maps.Keys(c.Slots)), slices.Collect(maps.Keys(c.Variables))) {
		if slot != SlotUsername && slot != secret {
			f.add("slots", "only username and %s are slots of this authentication", secret)
			break
		}
	}
	return f.err()
}

// CheckCredentialFilter returns what is wrong with what a list of credentials is
// restricted to; empty is nothing.
func CheckCredentialFilter(a Authentication, u Usage) error {
	var f faults
	if a != "" && a != AuthenticationPassword && a != AuthenticationCertificate {
		f.add("authentication", "must be password or certificate")
	}
	if u != "" && u != UsageConnection && u != UsageDesktopFlow {
		f.add("usage", "must be connection or desktop-flow")
	}
	return f.err()
}

func checkMachines(f *faults, machines []MachineID, groups []MachineGroupID) {
	if len(machines) > 100 {
		f.add("machines", "must be at most 100")
	}
	for _, m := range machines {
		if !HasPrefix(string(m), "mach") {
			f.add("machines", "must each be the id of a machine, mach_…")
			break
		}
	}
	if len(groups) > 100 {
		f.add("machineGroups", "must be at most 100")
	}
	for _, g := range groups {
		if !HasPrefix(string(g), "mgrp") {
			f.add("machineGroups", "must each be the id of a machine group, mgrp_…")
			break
		}
	}
}

// A CredentialUpdate changes what is not nil. The variables of a credential
// never change: change the variable's value or the vault's secret instead.
type CredentialUpdate struct {
	Name           *string           `json:"name,omitempty"`
	Description    *string           `json:"description,omitempty"`
	Exposure       *Exposure         `json:"exposure,omitempty" doc:"owner only"`
	AllowSharedUID *bool             `json:"allowSharedUid,omitempty" doc:"owner only"`
	Machines       *[]MachineID      `json:"machines,omitempty" nullable:"false" doc:"owner only"`
	MachineGroups  *[]MachineGroupID `json:"machineGroups,omitempty" nullable:"false" doc:"owner only"`

	Slots map[Slot]string `json:"slots,omitempty" doc:"refused: the variables of a credential never change"`
}

// OwnerOnly reports whether the update touches what only an owner may change:
// how near the secret may come to a flow.
func (u *CredentialUpdate) OwnerOnly() bool {
	return u.Exposure != nil || u.AllowSharedUID != nil || u.Machines != nil || u.MachineGroups != nil
}

// Validate returns every fault.
func (u *CredentialUpdate) Validate() error {
	var f faults
	if u.Name != nil {
		f.check("name", CheckName(*u.Name))
	}
	if u.Description != nil {
		f.check("description", checkText(*u.Description, MaxDescription))
	}
	if u.Exposure != nil && !slices.Contains(exposures, *u.Exposure) {
		f.add("exposure", "must be one of session, descriptor, file, environment")
	}
	var machines []MachineID
	var groups []MachineGroupID
	if u.Machines != nil {
		machines = *u.Machines
	}
	if u.MachineGroups != nil {
		groups = *u.MachineGroups
	}
	checkMachines(&f, machines, groups)
	if u.Slots != nil {
		f.add("slots", "the variables of a credential never change; edit the variable's value, or set a new version of the secret in the vault")
	}
	return f.err()
}

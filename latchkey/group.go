package latchkey

import (
	"strings"
	"time"
)

// Limits of groups.
const (
	MaxGroupMembers = 5000 // of one group, by itself
	MaxGroupDepth   = 10   // of groups within groups
)

// A Group is a set of principals, groups among them, that roles and shares are
// given to as one.
type Group struct {
	ID          PrincipalID `json:"id"`
	Name        string      `json:"name"`
	Description string      `json:"description,omitempty"`
	Members     int         `json:"members" doc:"how many it has by itself, not by the groups in it"`
	CreatedAt   time.Time   `json:"createdAt"`
	UpdatedAt   time.Time   `json:"updatedAt"`

	External *ExternalGroup `json:"external,omitempty" doc:"the group of a provider that says who is in this one"`
}

// An ExternalGroup is a group of a provider that people sign in with. Whoever signs
// in there is put into the group that is linked to it, or taken out of it.
type ExternalGroup struct {
	Issuer string `json:"issuer" doc:"issuer of the provider's tokens, an https address"`
	ID     string `json:"id" doc:"its id there, as tokens have it"`
}

func (e ExternalGroup) check(f *faults) {
	f.check("external.issuer", CheckIssuer(e.Issuer))
	if e.ID == "" || checkText(e.ID, 200) != nil || strings.TrimSpace(e.ID) != e.ID {
		f.add("external.id", "must be 1 to 200 characters, without white space around them")
	}
}

// A GroupCreate asks for a new group.
type GroupCreate struct {
	Name        string `json:"name" doc:"no two groups have the same"`
	Description string `json:"description,omitempty"`

	External *ExternalGroup `json:"external,omitempty" doc:"the group of a provider that says who is in this one"`
}

// Validate returns every fault.
func (c *GroupCreate) Validate() error {
	var f faults
	checkGroupName(&f, c.Name)
	f.check("description", checkText(c.Description, MaxDescription))
	if c.External != nil {
		c.External.check(&f)
	}
	return f.err()
}

func checkGroupName(f *faults, name string) {
	if err := CheckName(name); err != nil {
		f.check("name", err)
	} else if idRE.MatchString(name) {
		f.add("name", "must not look like an identifier")
	}
}

// A GroupUpdate changes what is not nil.
type GroupUpdate struct {
	Name        *string `json:"name,omitempty"`
	Description *string `json:"description,omitempty"`

	External *ExternalGroup `json:"external,omitempty" doc:"an empty one takes the link away; who is in the group stays"`
}

// Validate returns every fault.
func (u *GroupUpdate) Validate() error {
	var f faults
	if u.Name != nil {
		checkGroupName(&f, *u.Name)
	}
	if u.Description != nil {
		f.check("description", checkText(*u.Description, MaxDescription))
	}
	if u.External != nil && *u.External != (ExternalGroup{}) {
		u.External.check(&f)
	}
	return f.err()
}

// A DirectoryEntry is a principal as those see it who may share something.
type DirectoryEntry struct {
	ID       PrincipalID   `json:"id"`
	Kind     PrincipalKind `json:"kind" enum:"user,group,service-principal"`
	Name     string        `json:"name"`
	Login    string        `json:"login,omitempty" doc:"of a user"`
	ClientID string        `json:"clientId,omitempty" doc:"of a service principal"`
	Disabled bool          `json:"disabled,omitempty" doc:"is deactivated"`
}

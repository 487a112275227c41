package latchkey

import "time"

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
}

// A GroupCreate asks for a new group.
type GroupCreate struct {
	Name        string `json:"name" doc:"no two groups have the same"`
	Description string `json:"description,omitempty"`
}

// Validate returns every fault.
func (c *GroupCreate) Validate() error {
	var f faults
	checkGroupName(&f, c.Name)
	f.check("description", checkText(c.Description, MaxDescription))
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

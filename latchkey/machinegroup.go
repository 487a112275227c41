package latchkey

import "time"

// MaxGroupMachines is how many machines are in one group at most.
const MaxGroupMachines = 50

// A MachineGroup is machines of an environment that stand in for one another: a run
// for the group goes to whichever of them asks first. It has no keys: secrets are
// sealed to the machine that has claimed the run. A machine is in one group at most.
type MachineGroup struct {
	ID          MachineGroupID `json:"id"`
	Name        string         `json:"name"`
	Description string         `json:"description,omitempty"`
	Machines    int            `json:"machines" doc:"how many are in it"`
	Online      int            `json:"online" doc:"how many of them are online"`
	Running     int            `json:"running" doc:"runs for it that one of its machines executes"`
	Queued      int            `json:"queued" doc:"runs that wait for it"`
	MyRole      Role           `json:"myRole,omitempty" enum:"owner,co-owner,user-share,user" doc:"the caller's own role on it"`
	CreatedBy   PrincipalID    `json:"createdBy"`
	CreatedAt   time.Time      `json:"createdAt"`
	UpdatedAt   time.Time      `json:"updatedAt"`

	OwnedBy *Owner `json:"ownedBy,omitempty" doc:"when it is shown or listed: who owns it"`
}

// A MachineGroupCreate asks for a new machine group.
type MachineGroupCreate struct {
	Name        string `json:"name"`
	Description string `json:"description,omitempty"`
}

// Validate returns every fault.
func (c *MachineGroupCreate) Validate() error {
	var f faults
	f.check("name", CheckName(c.Name))
	f.check("description", checkText(c.Description, MaxDescription))
	return f.err()
}

// A MachineGroupUpdate changes what is not nil.
type MachineGroupUpdate struct {
	Name        *string `json:"name,omitempty"`
	Description *string `json:"description,omitempty"`
}

// Validate returns every fault.
func (u *MachineGroupUpdate) Validate() error {
	var f faults
	if u.Name != nil {
		f.check("name", CheckName(*u.Name))
	}
	if u.Description != nil {
		f.check("description", checkText(*u.Description, MaxDescription))
	}
	return f.err()
}

// A GroupMachine is a machine of a group, as whoever sees the group sees it: who may
// use the group runs flows there, whatever they hold on the machine itself.
type GroupMachine struct {
	Machine    MachineID     `json:"machine"`
	Name       string        `json:"name"`
	Status     MachineStatus `json:"status" enum:"online,offline,disabled,quarantined"`
	SharedUID  bool          `json:"sharedUid" doc:"its flows run as the agent's own user"`
	Drivers    []Driver      `json:"drivers" nullable:"false" doc:"that its policy file allows"`
	SSHServers []string      `json:"sshServers" nullable:"false" doc:"names of the servers of the driver ssh in its configuration"`
	Realm      string        `json:"realm,omitempty" doc:"of the driver kerberos"`
}

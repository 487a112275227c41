package latchkey

import (
	"slices"
	"time"
)

// A Driver is how the agent signs in before it runs a flow.
type Driver string

const (
	// DriverNone runs the flow without signing in, as the user that the machine's
	// configuration names.
	DriverNone Driver = "none"
	// DriverSSH signs in to an SSH server that the machine's configuration names,
	// and runs the flow there, as the credential's user.
	DriverSSH Driver = "ssh"
	// DriverKerberos signs in to the Kerberos realm that the machine's configuration
	// names, and runs the flow with the tickets, as the user that the configuration
	// names.
	DriverKerberos Driver = "kerberos"
)

// Drivers are all drivers.
var Drivers = []Driver{DriverNone, DriverSSH, DriverKerberos}

// A Target is where a connection signs in: exactly one of its fields is set.
type Target struct {
	Machine      MachineID      `json:"machine,omitempty" doc:"id of a machine"`
	MachineGroup MachineGroupID `json:"machineGroup,omitempty" doc:"id of a machine group: runs go to whichever of its machines asks first"`
}

func (t Target) check(f *faults) {
	switch {
	case t.MachineGroup == "" && !HasPrefix(string(t.Machine), "mach"):
		f.add("target.machine", "must be the id of a machine, mach_…, unless machineGroup is given")
	case t.MachineGroup != "" && t.Machine != "":
		f.add("target", "must have one of machine and machineGroup")
	case t.MachineGroup != "" && !HasPrefix(string(t.MachineGroup), "mgrp"):
		f.add("target.machineGroup", "must be the id of a machine group, mgrp_…")
	}
}

// A Connection is a credential bound to a target: sign in there as this. Its
// creator owns it, and owns the runs through it.
type Connection struct {
	ID         ConnectionID `json:"id"`
	Name       string       `json:"name"`
	Target     Target       `json:"target"`
	Driver     Driver       `json:"driver" enum:"none,ssh,kerberos"`
	SSHServer  string       `json:"sshServer,omitempty" doc:"of the driver ssh: the server's name in the machine's configuration, of a group in that of each machine"`
	Credential CredentialID `json:"credential"`
	Owner      PrincipalID  `json:"owner"`
	Refusals   int          `json:"refusals,omitempty" doc:"how often in a row the target has refused the credential; from 3 on nothing signs in with the same version of the secret until it is tested with force"`
	CreatedAt  time.Time    `json:"createdAt"`
	UpdatedAt  time.Time    `json:"updatedAt"`

	OwnedBy *Owner   `json:"ownedBy,omitempty" doc:"when it is shown or listed: who owns it"`
	MyRole  Role     `json:"myRole,omitempty" enum:"owner,co-owner,user-share,user" doc:"likewise: the caller's own role on it"`
	LastRun *LastRun `json:"lastRun,omitempty" doc:"likewise: the newest run that the caller may see, of the last 100"`
}

// A ConnectionCreate asks for a new connection.
type ConnectionCreate struct {
	Name       string       `json:"name"`
	Target     Target       `json:"target"`
	Driver     Driver       `json:"driver" doc:"none: the flow runs as the user that the machine's configuration names; ssh: on an SSH server that the machine's configuration names, as the credential's user; kerberos: as with none, with tickets of the credential's user"`
	SSHServer  string       `json:"sshServer,omitempty" doc:"of the driver ssh: the server's name in the machine's configuration; may be left out when there is one only; of a group the name in the configuration of each machine"`
	Credential CredentialID `json:"credential"`
}

// Validate returns every fault. Whether target and credential exist is for the
// caller to check.
func (c *ConnectionCreate) Validate() error {
	var f faults
	f.check("name", CheckName(c.Name))
	c.Target.check(&f)
	if !slices.Contains(Drivers, c.Driver) {
		f.add("driver", "must be none, ssh or kerberos")
	}
	if c.SSHServer != "" && c.Driver != DriverSSH {
		f.add("sshServer", "is of the driver ssh only")
	} else if c.SSHServer != "" {
		f.check("sshServer", CheckSSHServerName(c.SSHServer))
	}
	if !HasPrefix(string(c.Credential), "cred") {
		f.add("credential", "must be the id of a credential, cred_…")
	}
	return f.err()
}

// A ConnectionUpdate changes what is not nil.
type ConnectionUpdate struct {
	Name *string `json:"name,omitempty"`
}

// Validate returns every fault.
func (u *ConnectionUpdate) Validate() error {
	var f faults
	if u.Name != nil {
		f.check("name", CheckName(*u.Name))
	}
	return f.err()
}

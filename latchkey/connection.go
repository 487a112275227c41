package latchkey

import "time"

// A Driver is how the agent signs in before it runs a flow.
type Driver string

// DriverNone runs the flow without signing in, as the user that the machine's
// configuration names.
const DriverNone Driver = "none"

// A Target is where a connection signs in: exactly one of its fields is set.
type Target struct {
	Machine MachineID `json:"machine,omitempty" doc:"id of a machine"`
}

// A Connection is a credential bound to a target: sign in there as this. Its
// creator owns it, and owns the runs through it.
type Connection struct {
	ID         ConnectionID `json:"id"`
	Name       string       `json:"name"`
	Target     Target       `json:"target"`
	Driver     Driver       `json:"driver" enum:"none"`
	Credential CredentialID `json:"credential"`
	Owner      PrincipalID  `json:"owner"`
	CreatedAt  time.Time    `json:"createdAt"`
	UpdatedAt  time.Time    `json:"updatedAt"`
}

// A ConnectionCreate asks for a new connection.
type ConnectionCreate struct {
	Name       string       `json:"name"`
	Target     Target       `json:"target"`
	Driver     Driver       `json:"driver" doc:"none: the flow runs as the user that the machine's configuration names"`
	Credential CredentialID `json:"credential"`
}

// Validate returns every fault. Whether target and credential exist is for the
// caller to check.
func (c *ConnectionCreate) Validate() error {
	var f faults
	f.check("name", CheckName(c.Name))
	if !HasPrefix(string(c.Target.Machine), "mach") {
		f.add("target.machine", "must be the id of a machine, mach_…")
	}
	if c.Driver != DriverNone {
		f.add("driver", "must be none")
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

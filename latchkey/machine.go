package latchkey

import (
	"fmt"
	"slices"
	"time"
)

// A MachineStatus says whether a machine can run flows now.
type MachineStatus string

const (
	MachineOnline      MachineStatus = "online"
	MachineOffline     MachineStatus = "offline" // its agent has not been heard of for a minute
	MachineDisabled    MachineStatus = "disabled"
	MachineQuarantined MachineStatus = "quarantined" // its keys seem to be in two places; enrol it anew
)

// OnlineWindow is how long after its agent was last heard of a machine counts
// as online.
const OnlineWindow = time.Minute

// A Machine runs flows. Its agent holds its private keys.
type Machine struct {
	ID           MachineID     `json:"id"`
	Name         string        `json:"name"`
	Description  string        `json:"description,omitempty"`
	Status       MachineStatus `json:"status" enum:"online,offline,disabled,quarantined"`
	StatusReason string        `json:"statusReason,omitempty"`
	SharedUID    bool          `json:"sharedUid" doc:"its flows run as the agent's own user, so the agent cannot keep secrets from them"`
	OS           string        `json:"os"`
	AgentVersion string        `json:"agentVersion"`
	Policy       Policy        `json:"policy" doc:"what its local policy file allows, as its agent reported it"`
	SignKeyID    string        `json:"signKeyId" doc:"SHA-256 fingerprint of the machine's signing key"`
	EnrolledBy   PrincipalID   `json:"enrolledBy" doc:"who made the enrolment token"`
	EnrolledAt   time.Time     `json:"enrolledAt"`
	LastSeenAt   *time.Time    `json:"lastSeenAt,omitempty"`
	Running      int           `json:"running" doc:"runs on it now"`
	Queued       int           `json:"queued" doc:"runs that wait for it alone"`

	MachineGroup     MachineGroupID `json:"machineGroup,omitempty" doc:"the group that it is in"`
	MachineGroupName string         `json:"machineGroupName,omitempty"`

	OwnedBy *Owner `json:"ownedBy,omitempty" doc:"when it is shown or listed: who owns it"`
	MyRole  Role   `json:"myRole,omitempty" enum:"owner,co-owner,user-share,user" doc:"likewise: the caller's own role on it"`
}

// A Policy is what a machine's local policy file allows. The file is the
// machine's: the server is told, and can refuse early, but cannot change it.
type Policy struct {
	Commands  []string   `json:"commands" nullable:"false" toml:"commands" doc:"absolute paths of programs, * matches within a segment"`
	Drivers   []Driver   `json:"drivers" nullable:"false" toml:"drivers"`
	Handovers []Handover `json:"handovers" nullable:"false" toml:"handovers"`
	RunAs     string     `json:"runAs,omitempty" toml:"run_as" doc:"operating system user that flows run as"`

	Realm string `json:"realm,omitempty" toml:"-" doc:"realm of the driver kerberos; its servers are in the machine's own configuration"`

	SSHServers []SSHServer `json:"sshServers,omitempty" nullable:"false" toml:"-" doc:"servers of the driver ssh; their addresses and host keys stay on the machine"`
}

// CheckAgent returns what is wrong with what an agent says of itself.
func CheckAgent(os, version string, p Policy) error {
	var f faults
	f.check("os", checkText(os, MaxName))
	f.check("version", checkText(version, MaxName))
	f.check("policy.runAs", checkText(p.RunAs, MaxName))
	if p.Realm != "" {
		f.check("policy.realm", CheckRealm(p.Realm))
	}
	if len(p.Commands) > maxPolicy || len(p.Drivers) > maxPolicy || len(p.Handovers) > maxPolicy || len(p.SSHServers) > maxPolicy {
		f.add("policy", "lists must have at most %d items", maxPolicy)
		return f.err()
	}
	for _, c := range p.Commands {
		f.check("policy.commands", checkText(c, maxPolicyCommand))
	}
	for _, d := range p.Drivers {
		f.check("policy.drivers", checkText(string(d), MaxName))
	}
	for _, h := range p.Handovers {
		f.check("policy.handovers", checkText(string(h), MaxName))
	}
	for i, s := range p.SSHServers {
		f.check("policy.sshServers", CheckSSHServerName(s.Name))
		if len(s.Commands) > maxPolicy {
			f.add("policy.sshServers", "lists must have at most %d items", maxPolicy)
			return f.err()
		}
		for _, c := range s.Commands {
			f.check("policy.sshServers", checkText(c, maxPolicyCommand))
		}
		if slices.ContainsFunc(p.SSHServers[:i], func(other SSHServer) bool { return other.Name == s.Name }) {
			f.add("policy.sshServers", "must have different names")
		}
	}
	return f.err()
}

// Limits of a policy.
const (
	maxPolicy        = 100
	maxPolicyCommand = 500
)

// A MachineUpdate changes what is not nil.
type MachineUpdate struct {
	Name        *string `json:"name,omitempty"`
	Description *string `json:"description,omitempty"`
	Disabled    *bool   `json:"disabled,omitempty" doc:"a disabled machine claims no run and gets no secret"`
}

// Validate returns every fault.
func (u *MachineUpdate) Validate() error {
	var f faults
	if u.Name != nil {
		f.check("name", CheckName(*u.Name))
	}
	if u.Description != nil {
		f.check("description", checkText(*u.Description, MaxDescription))
	}
	return f.err()
}

// Limits of enrolment tokens.
const (
	MaxEnrolmentTTL  = 24 * time.Hour
	MaxEnrolmentUses = 1000
)

// An EnrolmentTokenCreate asks for a token that enrols machines into one
// environment.
type EnrolmentTokenCreate struct {
	ExpiresIn Duration `json:"expiresIn,omitempty" doc:"for example 1h, the default; at most 24h"`
	Uses      int      `json:"uses,omitempty" doc:"how many machines it enrols, 1 to 1000; defaults to 1"`

	Machine MachineID `json:"machine,omitempty" doc:"enrol this machine anew, with new keys: it keeps its id and connections, and leaves quarantine"`

	MachineGroup MachineGroupID `json:"machineGroup,omitempty" doc:"the group that new machines join"`
}

// Validate returns every fault, and fills in the defaults.
func (c *EnrolmentTokenCreate) Validate() error {
	if c.ExpiresIn == 0 {
		c.ExpiresIn = Duration(time.Hour)
	}
	if c.Uses == 0 {
		c.Uses = 1
	}
	var f faults
	if d := time.Duration(c.ExpiresIn); d < time.Second || d > MaxEnrolmentTTL {
		f.add("expiresIn", "must be from 1s to 24h")
	}
	if c.Uses < 1 || c.Uses > MaxEnrolmentUses {
		f.add("uses", "must be from 1 to %d", MaxEnrolmentUses)
	}
	if c.Machine != "" && !HasPrefix(string(c.Machine), "mach") {
		f.add("machine", "must be the id of a machine, mach_…")
	} else if c.Machine != "" && c.Uses != 1 {
		f.add("uses", "must be 1 for a token of one machine")
	}
	if c.MachineGroup != "" && c.Machine != "" {
		f.add("machineGroup", "must not be given for a token of one machine: it stays in the group that it is in")
	} else if c.MachineGroup != "" && !HasPrefix(string(c.MachineGroup), "mgrp") {
		f.add("machineGroup", "must be the id of a machine group, mgrp_…")
	}
	return f.err()
}

// An EnrolmentToken enrols machines. Its value is shown once, when it is made.
type EnrolmentToken struct {
	ID        EnrolmentTokenID `json:"id"`
	Token     string           `json:"token,omitempty" doc:"shown once; it carries the server's key, so that the agent knows whom it talks to"`
	Machine   MachineID        `json:"machine,omitempty" doc:"the machine that it enrols anew"`
	Uses      int              `json:"uses" doc:"how many machines it can still enrol"`
	CreatedBy PrincipalID      `json:"createdBy"`
	ExpiresAt time.Time        `json:"expiresAt"`

	MachineGroup MachineGroupID `json:"machineGroup,omitempty" doc:"the group that new machines join"`
}

// A Duration is a time.Duration written as text, for example "5m".
type Duration time.Duration

// String returns d as text that Duration reads back.
func (d Duration) String() string { return time.Duration(d).String() }

// MarshalText writes d as time.Duration does.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads text such as "90s" or "1h30m".
func (d *Duration) UnmarshalText(b []byte) error {
	if len(b) > 32 {
		return fmt.Errorf("must be a duration such as 90s, 5m or 1h30m")
	}
	v, err := time.ParseDuration(string(b))
	if err != nil {
		return fmt.Errorf("must be a duration such as 90s, 5m or 1h30m")
	}
	*d = Duration(v)
	return nil
}

package latchkey

import (
	"path"
	"slices"
	"strings"
	"time"
)

// A Handover is how a flow wants the values of its credentials.
type Handover string

const (
	HandoverNone        Handover = "none"        // it wants none
	HandoverDescriptor  Handover = "descriptor"  // JSON on an inherited file descriptor
	HandoverFile        Handover = "file"        // JSON in a file in memory
	HandoverEnvironment Handover = "environment" // in its environment
)

var handovers = []Handover{HandoverNone, HandoverDescriptor, HandoverFile, HandoverEnvironment}

// Limits of flows.
const (
	DefaultTimeout = 3 * time.Hour
	MaxTimeout     = 24 * time.Hour
	maxArgs        = 100
	maxArgBytes    = 8 << 10
	maxFlowCreds   = 20
	MaxInputs      = 100
	MaxInputBytes  = 64 << 10 // of all inputs of a run together
)

// A Flow is what a machine runs. Its revisions never change; the fields other
// than id, name and owner are those of its newest revision.
type Flow struct {
	ID          FlowID         `json:"id"`
	Name        string         `json:"name"`
	Description string         `json:"description,omitempty"`
	Revision    int            `json:"revision" doc:"number of this revision, from 1"`
	Command     []string       `json:"command" nullable:"false" doc:"program and arguments; no shell is involved"`
	Timeout     Duration       `json:"timeout"`
	Handover    Handover       `json:"handover" enum:"none,descriptor,file,environment"`
	Credentials []CredentialID `json:"credentials" nullable:"false" doc:"desktop-flow credentials that it may ask for"`
	CreatedBy   PrincipalID    `json:"createdBy"`
	CreatedAt   time.Time      `json:"createdAt"`
	UpdatedAt   time.Time      `json:"updatedAt" doc:"when this revision was made"`

	OwnedBy *Owner   `json:"ownedBy,omitempty" doc:"when it is shown or listed: who owns it"`
	MyRole  Role     `json:"myRole,omitempty" enum:"owner,co-owner,user-share,user" doc:"likewise: the caller's own role on it"`
	LastRun *LastRun `json:"lastRun,omitempty" doc:"likewise: the newest run that the caller may see, of the last 100"`
}

// A FlowCreate asks for a new flow, or for its next revision.
type FlowCreate struct {
	Name        string         `json:"name"`
	Description string         `json:"description,omitempty"`
	Command     []string       `json:"command" nullable:"false" doc:"absolute path of a program, and its arguments"`
	Timeout     Duration       `json:"timeout,omitempty" doc:"for example 5m; defaults to 3h, at most 24h"`
	Handover    Handover       `json:"handover,omitempty" doc:"none (the default), descriptor, file or environment"`
	Credentials []CredentialID `json:"credentials,omitempty" nullable:"false" doc:"desktop-flow credentials that it may ask for"`
}

// Validate returns every fault, and fills in the defaults.
func (c *FlowCreate) Validate() error {
	if c.Timeout == 0 {
		c.Timeout = Duration(DefaultTimeout)
	}
	if c.Handover == "" {
		c.Handover = HandoverNone
	}
	if c.Credentials == nil {
		c.Credentials = []CredentialID{}
	}
	var f faults
	f.check("name", CheckName(c.Name))
	f.check("description", checkText(c.Description, MaxDescription))
	checkCommand(&f, c.Command)
	checkTimeout(&f, c.Timeout)
	if !slices.Contains(handovers, c.Handover) {
		f.add("handover", "must be one of none, descriptor, file, environment")
	}
	checkFlowCredentials(&f, c.Credentials)
	if len(c.Credentials) > 0 && c.Handover == HandoverNone {
		f.add("handover", "must not be none for a flow that asks for credentials")
	}
	return f.err()
}

func checkTimeout(f *faults, d Duration) {
	if d := time.Duration(d); d < time.Second || d > MaxTimeout {
		f.add("timeout", "must be from 1s to 24h")
	}
}

func checkFlowCredentials(f *faults, ids []CredentialID) {
	if len(ids) > maxFlowCreds {
		f.add("credentials", "must be at most %d", maxFlowCreds)
	}
	for i, id := range ids {
		if !HasPrefix(string(id), "cred") {
			f.add("credentials", "must each be the id of a credential, cred_…")
		} else if slices.Contains(ids[:i], id) {
			f.add("credentials", "must not name the same credential twice")
		}
	}
}

func checkCommand(f *faults, command []string) {
	if len(command) == 0 {
		f.add("command", "must name a program")
		return
	}
	if len(command) > maxArgs {
		f.add("command", "must be at most %d words", maxArgs)
	}
	total := 0
	for _, arg := range command {
		total += len(arg)
		if !storable(arg) {
			f.add("command", "must be valid UTF-8 without NUL")
			return
		}
	}
	if total > maxArgBytes {
		f.add("command", "must be at most %d bytes", maxArgBytes)
	}
	if !absolute(command[0]) {
		f.add("command", "must begin with the absolute, clean path of a program, such as /usr/bin/env")
	}
}

// absolute reports whether p is a clean absolute path on Unix or Windows.
func absolute(p string) bool {
	if rest, ok := strings.CutPrefix(p, "/"); ok {
		return path.Clean(p) == p && rest != ""
	}
	// Windows takes a slash for a backslash and drops dots and spaces at the end of
	// a name, so that "..", also as ".. ", leads upwards.
	return len(p) > 3 && p[1] == ':' && p[2] == '\\' && !strings.Contains(p, "/") &&
		!slices.ContainsFunc(strings.Split(p[3:], `\`), func(name string) bool { return strings.Trim(name, ". ") == "" })
}

// AllowsCommand reports whether the policy allows the program of a flow that
// runs on the machine itself.
func (p Policy) AllowsCommand(program string) bool { return allows(p.Commands, program) }

// AllowsCommand reports whether flows may run a program on the server.
func (s SSHServer) AllowsCommand(program string) bool { return allows(s.Commands, program) }

func allows(patterns []string, program string) bool {
	// A backslash separates on Windows; in a pattern it would escape.
	slashes := func(s string) string {
		if strings.HasPrefix(program, "/") {
			return s
		}
		return strings.ReplaceAll(s, `\`, "/")
	}
	return absolute(program) && slices.ContainsFunc(patterns, func(pattern string) bool {
		ok, err := path.Match(slashes(pattern), slashes(program))
		return err == nil && ok
	})
}

// RefusesDriver returns why the policy does not allow to sign in by a driver,
// or "". sshServer is the server's name of the driver ssh.
func (p Policy) RefusesDriver(driver Driver, sshServer string) string {
	if !slices.Contains(p.Drivers, driver) {
		return "the machine's policy does not allow the driver " + string(driver) + "; " + p.DriverRemedy(driver)
	}
	if _, ok := p.SSHServer(sshServer); driver == DriverSSH && !ok {
		return "the machine's policy file has no SSH server named " + sshServer + "; " + sshServerRemedy(sshServer)
	}
	if driver == DriverKerberos && p.Realm == "" {
		return "the machine's policy file names no Kerberos realm; its administrator can add it"
	}
	return ""
}

// DriverRemedy says what a machine's administrator can do to have its policy allow
// a driver.
func (p Policy) DriverRemedy(driver Driver) string {
	if driver == DriverSSH && len(p.SSHServers) == 0 {
		return sshServerRemedy("NAME") // with ssh among the drivers and no server the agent refuses its policy
	}
	return "its administrator can add it to drivers in the machine's policy file, and start the agent again"
}

func sshServerRemedy(name string) string {
	return "its administrator can add the server with latchkey-agent ssh add " + name + " ADDRESS on the machine, and start the agent again"
}

// Refuses returns why the policy does not allow a flow through a driver, or "".
// sshServer is the server's name of the driver ssh.
func (p Policy) Refuses(program string, driver Driver, sshServer string, handover Handover) string {
	if driver == DriverSSH {
		server, _ := p.SSHServer(sshServer)
		if reason := p.RefusesDriver(driver, sshServer); reason != "" {
			return reason
		}
		switch {
		case !server.AllowsCommand(program):
			return "the machine's policy does not allow the flow's program on the SSH server " + sshServer + "; its administrator can add it to commands of that server in the machine's policy file"
		case handover != HandoverNone:
			return "the driver ssh hands no values over; make a revision of the flow with the handover none"
		}
		return ""
	}
	switch {
	case !p.AllowsCommand(program):
		return "the machine's policy does not allow the flow's program; its administrator can add it to commands in the machine's policy file"
	case handover != HandoverNone && driver == DriverKerberos:
		return "the driver kerberos hands no values over; make a revision of the flow with the handover none"
	case handover != HandoverNone && !slices.Contains(p.Handovers, handover):
		return "the machine's policy does not allow the handover " + string(handover)
	}
	return p.RefusesDriver(driver, "")
}

package agent

import (
	"bytes"
	"errors"
	"fmt"
	"os/user"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"

	"latchkey.dev/latchkey"
)

// loadPolicy reads the machine's policy file. A key that is not known is an
// error: a misspelt restriction must not be a missing one.
func loadPolicy(dir string) (policy, error) {
	file := filepath.Join(dir, policyFile)
	b, err := readFile(file)
	if err != nil {
		return policy{}, fmt.Errorf("policy: %w", err)
	}
	p, err := parsePolicy(b)
	if err != nil {
		return p, fmt.Errorf("policy file %s: %w", file, err)
	}
	return p, nil
}

func parsePolicy(b []byte) (p policy, err error) {
	d := toml.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&p); err != nil {
		if strict, ok := errors.AsType[*toml.StrictMissingError](err); ok {
			return p, fmt.Errorf("a key that is not known:\n%s", strict.String())
		}
		if syntax, ok := errors.AsType[*toml.DecodeError](err); ok {
			line, _ := syntax.Position()
			return p, fmt.Errorf("line %d: %w", line, err)
		}
		return p, err
	}
	if err := checkCommands(p.Commands); err != nil {
		return p, err
	}
	for _, d := range p.Drivers {
		if !slices.Contains(latchkey.Drivers, d) {
			return p, fmt.Errorf("drivers: %q is not known; none, ssh and kerberos are", d)
		}
	}
	for _, h := range p.Handovers {
		switch h {
		case latchkey.HandoverDescriptor, latchkey.HandoverFile, latchkey.HandoverEnvironment:
		default:
			return p, fmt.Errorf("handovers: %q is not known; descriptor, file and environment are", h)
		}
	}
	if err := p.checkServers(); err != nil {
		return p, err
	}
	return p, p.checkKerberos()
}

// refuses returns why a run is not executed on this machine, or "".
func (p policy) refuses(run *latchkey.ClaimedRun) string {
	if err := run.Validate(); err != nil {
		return err.Error()
	}
	if run.Kind == latchkey.RunTest {
		return p.RefusesDriver(run.Driver, run.SSHServer)
	}
	return p.Refuses(run.Command[0], run.Driver, run.SSHServer, run.Handover)
}

// newPolicy returns the text of the policy file of a new machine.
func newPolicy(commands []string, runAs string) []byte {
	var b strings.Builder
	b.WriteString(`# What flows may do on this machine. The server is told of it, but cannot change it.
# The agent reads this file when it starts.

# Programs that flows may run: absolute paths, in which * stands for any name.
# Without one, no flow runs.
commands = [`)
	for i, c := range commands {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%q", c)
	}
	fmt.Fprintf(&b, `]

# How the agent may sign in before it runs a flow. none: it does not. ssh: to one
# of the SSH servers below, which latchkey-agent ssh add writes. kerberos: to the
# realm below, which latchkey-agent kerberos add writes.
drivers = ["none"]

# How flows may get values: on a file descriptor, in a file in memory, or in
# their environment, as far as the owner of a credential allows it.
handovers = ["descriptor", "file", "environment"]

# The operating system user that flows run as. It needs an agent that runs as
# root. Empty: flows run as the agent's own user, which the server shows as
# shared-uid, and credentials must allow that.
run_as = %q
`, runAs)
	return []byte(b.String())
}

// sharedUID reports whether flows run as the agent's own user, so that they
// could read its keys and memory. An error says why they cannot run as the user
// that the policy names.
func sharedUID(p latchkey.Policy) (bool, error) {
	if p.RunAs == "" {
		// Without either no flow runs on the machine itself.
		local := func(d latchkey.Driver) bool { return d != latchkey.DriverSSH }
		return len(p.Commands) > 0 && slices.ContainsFunc(p.Drivers, local), nil
	}
	u, err := user.Lookup(p.RunAs)
	if err != nil {
		return true, fmt.Errorf("policy: run_as: %w", err)
	}
	self, err := user.Current()
	if err != nil {
		return true, fmt.Errorf("policy: run_as: %w", err)
	}
	if self.Uid == u.Uid {
		return true, nil
	}
	if !canSwitchUser() {
		return true, fmt.Errorf("policy: run_as names %s, but only an agent that runs as root can run flows as another user", p.RunAs)
	}
	return false, nil
}

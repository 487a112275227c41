package latchkey

import (
	"errors"
	"regexp"
)

// An SSHServer is an SSH server that a machine's configuration names, as its
// agent reports it. Its address and its host keys are the machine's own affair:
// nobody can choose them from elsewhere.
type SSHServer struct {
	Name     string   `json:"name"`
	Commands []string `json:"commands" nullable:"false" doc:"absolute paths of programs that flows may run there, * matches within a segment"`
}

var sshServerRE = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

// CheckSSHServerName returns what is wrong with the name of an SSH server in a
// machine's configuration.
func CheckSSHServerName(name string) error {
	if !sshServerRE.MatchString(name) {
		return errors.New("must be 1 to 64 letters, digits, dots, underscores and hyphens, and begin with a letter or digit")
	}
	return nil
}

// SSHServer returns the policy's SSH server with a name.
func (p Policy) SSHServer(name string) (SSHServer, bool) {
	for _, s := range p.SSHServers {
		if s.Name == name {
			return s, true
		}
	}
	return SSHServer{}, false
}

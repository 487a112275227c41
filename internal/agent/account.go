package agent

import (
	"errors"
	"os"
	"os/user"
	"strconv"

	"latchkey.dev/latchkey"
)

// An account is the operating system user that a flow runs as.
type account struct {
	name     string
	home     string
	uid, gid uint32
	groups   []uint32
	other    bool // another than the agent's own
}

// runAccount returns the account that the policy names, or the agent's own.
func runAccount(name string) (account, error) {
	self, err := user.Current()
	if err != nil {
		return account{}, err
	}
	u := self
	if name != "" {
		if u, err = user.Lookup(name); err != nil {
			return account{}, err
		}
	}
	a := account{name: u.Username, home: u.HomeDir, other: u.Uid != self.Uid}
	if !a.other {
		return a, nil
	}
	return a, a.ids(u)
}

// ids fills in the numbers of an account that the agent switches to.
func (a *account) ids(u *user.User) error {
	groups, err := u.GroupIds()
	if err != nil {
		return err
	}
	number := func(s string) (n uint32) {
		var v uint64
		if err == nil {
			v, err = strconv.ParseUint(s, 10, 32)
		}
		return uint32(v)
	}
	a.uid, a.gid = number(u.Uid), number(u.Gid)
	for _, g := range groups {
		a.groups = append(a.groups, number(g))
	}
	return err
}

// workPrefix begins the names of the folders that flows run in.
const workPrefix = "latchkey-run-"

// workDir makes the folder that a flow runs in, which is its own.
func (a account) workDir(machine latchkey.MachineID) (string, error) {
	dir, err := os.MkdirTemp("", ownName(workPrefix, machine))
	if err != nil || !a.other {
		return dir, err
	}
	if err := os.Chown(dir, int(a.uid), int(a.gid)); err != nil {
		return "", errors.Join(err, os.RemoveAll(dir))
	}
	return dir, nil
}

package agent

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"

	"latchkey.dev/client"
	"latchkey.dev/internal/seal"
	"latchkey.dev/latchkey"
)

// An EnrolConfig says how to enrol a machine.
type EnrolConfig struct {
	Dir         string // the agent's folder, made if it does not exist
	Server      string // address of the server
	Token       latchkey.Secret
	Name        string   // of the machine; "" is the host's name
	Environment string   // when given, the one that the token must be for
	CAFile      string   // authorities to trust for the server's address
	Commands    []string // for a new policy file
	RunAs       string   // for a new policy file
	Force       bool     // enrol though the machine is enrolled
	Insecure    bool     // plain http to another host
}

var (
	errBadToken = errors.New("the enrolment token cannot be used")
	errEnrolled = errors.New("this machine is enrolled already")
	errInUse    = errors.New("another agent uses this folder")
)

// Enrol makes keys on this machine and has the server know them. When it
// returns, everything is on disk. A policy file that exists is kept.
func Enrol(ctx context.Context, c EnrolConfig) (_ *State, _ latchkey.Policy, err error) {
	none := latchkey.Policy{}
	if c.Name == "" {
		if c.Name, err = os.Hostname(); err != nil {
			return nil, none, fmt.Errorf("the host's name: %w; name the machine with --name", err)
		}
	}
	proof, serverKey, err := seal.ParseEnrolmentToken(c.Token.Reveal())
	if err != nil {
		return nil, none, fmt.Errorf("%w: what was given %v", errBadToken, err)
	}
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return nil, none, err
	}
	unlock, err := lock(filepath.Join(c.Dir, lockFile))
	if err != nil {
		return nil, none, err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	if s, err := LoadState(c.Dir); err == nil && !c.Force {
		return nil, none, fmt.Errorf("%w, as %s (%s) with %s", errEnrolled, s.Name, s.Machine, s.Server)
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) && !c.Force {
		return nil, none, err
	}
	policy, err := ensurePolicy(c)
	if err != nil {
		return nil, none, err
	}
	shared, err := sharedUID(policy)
	if err != nil {
		return nil, none, err
	}
	if c.CAFile != "" { // the agent may be started in another folder
		if c.CAFile, err = filepath.Abs(c.CAFile); err != nil {
			return nil, none, err
		}
	}
	server, err := client.NewMachine(c.Server, client.MachineOptions{CAFile: c.CAFile, AllowInsecure: c.Insecure, UserAgent: userAgent()})
	if err != nil {
		return nil, none, err
	}
	defer server.Close()
	keys, err := seal.NewMachineKeys()
	if err != nil {
		return nil, none, err
	}
	req := latchkey.EnrolRequest{
		Token: proof, Name: c.Name, Environment: c.Environment, OS: platform(), Version: Version(), SharedUID: shared, Policy: policy,
	}
	// The new keys wait beside the old ones: if the server refuses, the machine
	// is what it was.
	text, err := keys.MarshalText()
	if err != nil {
		return nil, none, err
	}
	waiting := filepath.Join(c.Dir, keyFile+".new")
	if err := writeFile(waiting, text); err != nil {
		return nil, none, err
	}
	defer func() { err = errors.Join(err, removeIfThere(waiting)) }()
	resp, err := server.Enrol(ctx, keys, serverKey, &req)
	if err != nil {
		return nil, none, err
	}
	s := &State{
		Server: c.Server, ServerKey: ed25519.PublicKey(serverKey), CAFile: c.CAFile, Machine: resp.Machine, Name: resp.Name, Environment: resp.Environment,
	}
	if err := os.Rename(waiting, filepath.Join(c.Dir, keyFile)); err != nil {
		return nil, none, err
	}
	if err := s.save(c.Dir); err != nil {
		return nil, none, err
	}
	return s, policy, removeIfThere(filepath.Join(c.Dir, troubleFile))
}

// ensurePolicy returns the machine's policy, of a new file if there is none.
func ensurePolicy(c EnrolConfig) (latchkey.Policy, error) {
	file := filepath.Join(c.Dir, policyFile)
	old, err := readFile(file)
	text := newPolicy(c.Commands, c.RunAs)
	if errors.Is(err, fs.ErrNotExist) {
		// Before a file is made of it, which would stand in the way of the next try.
		p, parseErr := parsePolicy(text)
		if parseErr != nil {
			return p.Policy, parseErr
		}
		if _, err := sharedUID(p.Policy); err != nil {
			return p.Policy, err
		}
		err = writeFile(file, text)
	} else if err == nil && (len(c.Commands) > 0 || c.RunAs != "") && !bytes.Equal(old, text) { // equal: an enrolment that was refused is repeated
		err = fmt.Errorf("there is a policy file already; change %s instead of giving --allow-command or --run-as", file)
	}
	if err != nil {
		return latchkey.Policy{}, err
	}
	p, err := loadPolicy(c.Dir)
	return p.Policy, err
}

func platform() string { return runtime.GOOS + "/" + runtime.GOARCH }

func userAgent() string { return "latchkey-agent/" + Version() }

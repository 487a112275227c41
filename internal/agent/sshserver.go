package agent

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"path"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/crypto/ssh"

	"latchkey.dev/latchkey"
)

// A policy is what the machine's policy file says: what flows may do, which the
// server is told, and the SSH servers and the Kerberos realm, of which it is told
// the names only.
type policy struct {
	latchkey.Policy
	SSH      []*sshServer   `toml:"ssh"`
	Kerberos *kerberosRealm `toml:"kerberos"`
}

// An sshServer is an SSH server that the agent may sign in to.
type sshServer struct {
	Name     string   `toml:"name"`
	Address  string   `toml:"address"`
	HostKeys []string `toml:"host_keys"` // as in authorized_keys(5): type and base64
	Commands []string `toml:"commands"`
	Shell    string   `toml:"shell"` // of the accounts there; "" is posix

	keys [][]byte // HostKeys in wire format
}

// shellPosix is the only kind of server that flows can run on yet.
const shellPosix = "posix"

// server returns the SSH server with a name, or nil.
func (p policy) server(name string) *sshServer {
	i := slices.IndexFunc(p.SSH, func(s *sshServer) bool { return s.Name == name })
	if i < 0 {
		return nil
	}
	return p.SSH[i]
}

// checkServers checks the servers of a policy file and tells the part that
// Latchkey's server knows of them.
func (p *policy) checkServers() error {
	for i, s := range p.SSH {
		where := fmt.Sprintf("ssh server %q", s.Name)
		if s.Name == "" {
			where = fmt.Sprintf("ssh server %d", i+1)
		}
		if err := s.check(); err != nil {
			return fmt.Errorf("%s: %w", where, err)
		}
		if p.server(s.Name) != s {
			return fmt.Errorf("%s: there are two of this name", where)
		}
		p.SSHServers = append(p.SSHServers, latchkey.SSHServer{Name: s.Name, Commands: slices.Concat([]string{}, s.Commands)})
	}
	if len(p.SSH) == 0 && slices.Contains(p.Drivers, latchkey.DriverSSH) {
		return errors.New("drivers: ssh is allowed, but there is no server in [[ssh]]; latchkey-agent ssh add adds one")
	}
	return nil
}

func (s *sshServer) check() (err error) {
	if err := latchkey.CheckSSHServerName(s.Name); err != nil {
		return fmt.Errorf("name %w", err)
	}
	if s.Address, err = sshAddress(s.Address); err != nil {
		return err
	}
	if len(s.HostKeys) == 0 {
		return errors.New("host_keys must hold the server's host key; latchkey-agent ssh add writes it")
	}
	for _, text := range s.HostKeys {
		key, err := parseHostKey(text)
		if err != nil {
			return err
		}
		s.keys = append(s.keys, key.Marshal())
	}
	if s.Shell != "" && s.Shell != shellPosix {
		return fmt.Errorf("shell: %q is not known; posix is: a server whose accounts have a shell like sh. Windows servers cannot be used yet", s.Shell)
	}
	return checkCommands(s.Commands)
}

// checkCommands checks patterns of programs.
func checkCommands(patterns []string) error {
	for _, c := range patterns {
		if _, err := path.Match(c, ""); err != nil || !strings.HasPrefix(c, "/") && !strings.Contains(c, `:\`) {
			return fmt.Errorf("commands: %q is not an absolute path, in which * may stand for any name", c)
		}
	}
	return nil
}

// sshPort is where SSH servers listen (RFC 4253, section 4.1).
const sshPort = "22"

// sshAddress returns an address with its port.
func sshAddress(address string) (string, error) {
	bad := errors.New("address must be HOST or HOST:PORT, for example erp.example.com or [2001:db8::5]:2222")
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		host, port = strings.TrimSuffix(strings.TrimPrefix(address, "["), "]"), sshPort
		if strings.Contains(host, ":") && net.ParseIP(host) == nil {
			return "", bad
		}
	}
	n, err := strconv.ParseUint(port, 10, 16)
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune(".-_:%", r)
	}
	if err != nil || n == 0 || host == "" || len(host) > 253 || strings.ContainsFunc(host, func(r rune) bool { return !plain(r) }) {
		return "", bad
	}
	return net.JoinHostPort(host, port), nil
}

// maxHostKey bounds the text of a host key.
const maxHostKey = 16 << 10

// parseHostKey reads a host key as it is in a public key file.
func parseHostKey(text string) (ssh.PublicKey, error) {
	bad := errors.New(`host_keys must be public keys as in /etc/ssh/ssh_host_ed25519_key.pub, for example "ssh-ed25519 AAAA…"`)
	if len(text) > maxHostKey || strings.ContainsAny(text, "\r\n") {
		return nil, bad
	}
	key, _, options, _, err := ssh.ParseAuthorizedKey([]byte(text))
	if err != nil || len(options) > 0 {
		return nil, bad
	}
	if len(keyAlgorithms(key.Type())) == 0 {
		return nil, fmt.Errorf("host_keys: a key of type %s cannot be used; use ed25519, ecdsa or rsa", key.Type())
	}
	return key, nil
}

// keyAlgorithms returns the algorithms by which the holder of a key may prove
// it. SHA-1 is not among them (RFC 8332).
func keyAlgorithms(keyType string) []string {
	switch keyType {
	case ssh.KeyAlgoRSA:
		return []string{ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256}
	case ssh.KeyAlgoED25519, ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA521:
		return []string{keyType}
	}
	return nil
}

// algorithms returns the algorithms of the keys that the server may have, so that
// it shows one that is known when it has several.
func (s *sshServer) algorithms() (all []string, err error) {
	for _, wire := range s.keys {
		key, err := ssh.ParsePublicKey(wire)
		if err != nil {
			return nil, err
		}
		for _, a := range keyAlgorithms(key.Type()) {
			if !slices.Contains(all, a) {
				all = append(all, a)
			}
		}
	}
	return all, nil
}

// knows reports whether a host key is one of the server's.
func (s *sshServer) knows(key ssh.PublicKey) bool {
	wire := key.Marshal()
	return slices.ContainsFunc(s.keys, func(known []byte) bool { return bytes.Equal(known, wire) })
}

package agent

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"latchkey.dev/latchkey"
)

// A kerberosRealm is the realm in which the driver kerberos signs in. Its servers,
// and the authorities that prove them, are in the configuration of Kerberos.
type kerberosRealm struct {
	Realm  string `toml:"realm"`
	Config string `toml:"config"` // krb5.conf(5); "" is defaultKrb5Conf
	Kinit  string `toml:"kinit"`  // kinit(1); "" is where it is found
}

const defaultKrb5Conf = "/etc/krb5.conf"

// checkKerberos checks the realm of a policy file and tells the part that
// Latchkey's server knows of it.
func (p *policy) checkKerberos() error {
	if p.Kerberos == nil {
		if slices.Contains(p.Drivers, latchkey.DriverKerberos) {
			return errors.New("drivers: kerberos is allowed, but there is no realm in [kerberos]; latchkey-agent kerberos add adds it")
		}
		return nil
	}
	if err := p.Kerberos.check(); err != nil {
		return fmt.Errorf("kerberos: %w", err)
	}
	p.Realm = p.Kerberos.Realm
	return nil
}

func (k *kerberosRealm) check() error {
	if err := latchkey.CheckRealm(k.Realm); err != nil {
		return fmt.Errorf("realm %w", err)
	}
	if k.Config == "" {
		k.Config = defaultKrb5Conf
	}
	for _, path := range []string{k.Config, k.Kinit} {
		// A colon separates files in KRB5_CONFIG.
		if path != "" && (!filepath.IsAbs(path) || strings.ContainsAny(path, ":\x00")) {
			return errors.New("config and kinit must be absolute paths without a colon")
		}
	}
	return nil
}

// ready returns why nobody can sign in by Kerberos on this machine, or nil.
func (k *kerberosRealm) ready() error {
	f, err := os.Open(k.Config)
	if err != nil {
		return failure(latchkey.RunErrKerberos, "the configuration of Kerberos cannot be read: %v; the machine's administrator can name another one in config of [kerberos] in the machine's policy file", err)
	}
	if err := f.Close(); err != nil {
		return err
	}
	_, err = k.program()
	return err
}

// program returns where kinit is.
func (k *kerberosRealm) program() (string, error) {
	name := k.Kinit
	if name == "" {
		name = "kinit"
	}
	path, err := exec.LookPath(name)
	if err != nil {
		return "", failure(latchkey.RunErrKerberos, "kinit is not on the machine; its administrator can install it (krb5-user, and krb5-pkinit for certificates), or set kinit of [kerberos] in the machine's policy file")
	}
	return path, nil
}

// principal returns kinit's arguments for a user name. The realm is the policy's,
// whatever the name says: a name of another domain is looked up there, as an
// enterprise name (RFC 6806).
func (k *kerberosRealm) principal(username string) ([]string, error) {
	name, domain, qualified := strings.Cut(username, "@")
	switch {
	case strings.Contains(username, `\`):
		return nil, failure(latchkey.RunErrAccount, "the driver kerberos takes the user name as user or user@domain, not as DOMAIN\\user; set the variable of the user name")
	case name == "" || strings.HasPrefix(name, "-") || qualified && domain == "" || strings.Contains(domain, "@") || strings.ContainsFunc(username, latchkey.Steers) || strings.Contains(username, " "):
		return nil, failure(latchkey.RunErrAccount, "the user name is none that Kerberos knows: it must be user or user@domain; set the variable of the user name")
	case !qualified || strings.EqualFold(domain, k.Realm):
		return []string{"--", name + "@" + k.Realm}, nil
	}
	return []string{"-E", "--", username + "@" + k.Realm}, nil
}

package agent

import (
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"latchkey.dev/internal/cli"
	"latchkey.dev/latchkey"
)

func (t *tool) kerberosCommand() *cobra.Command {
	cmd := cli.Group("kerberos", "the Kerberos realm that flows can be signed in to", `With the driver kerberos the agent signs in to a Kerberos realm that this machine's
policy file names, by the password or the certificate of a connection's credential, and
runs the flow with the tickets. Realm, KDCs and trusted authorities are this machine's:
nobody can choose them from elsewhere.`)
	cmd.AddCommand(t.kerberosAddCommand())
	return cmd
}

// A realmInfo is what people and programs are shown of a realm.
type realmInfo struct {
	Realm  string `json:"realm"`
	Config string `json:"config"`
	Kinit  string `json:"kinit,omitempty"`
}

func (t *tool) kerberosAddCommand() *cobra.Command {
	var dir string
	k := &kerberosRealm{}
	cmd := &cobra.Command{
		Use:   "add REALM",
		Short: "let flows be signed in to a Kerberos realm",
		Long: `Add writes the realm into policy.toml and the driver kerberos into its drivers. It needs
kinit (Debian: krb5-user, and krb5-pkinit for certificates) and a configuration of Kerberos
that knows the realm's KDCs and, for certificates, its authorities (pkinit_anchors). A
running agent reads the file when it is started again.`,
		Example: "  latchkey-agent kerberos add CORP.EXAMPLE.COM --config /etc/krb5.conf",
		Args:    cli.Exactly("REALM"),
		RunE: func(_ *cobra.Command, args []string) error {
			k.Realm = args[0]
			if err := k.check(); err != nil {
				return cli.Usage(err)
			}
			if err := k.ready(); err != nil {
				return err
			}
			if err := addRealm(dir, k); err != nil {
				return t.adviseNoPolicy(err, dir)
			}
			if err := t.PrintOne(realmInfo{k.Realm, k.Config, k.Kinit}, cli.Field{"Realm", k.Realm}, cli.Field{"Configuration", k.Config}, cli.Field{"kinit", k.Kinit}); err != nil {
				return err
			}
			t.Say("added to %s; start the agent again, if it is running", filepath.Join(dir, policyFile))
			return nil
		},
	}
	dirFlag(cmd, &dir)
	cmd.Flags().StringVar(&k.Config, "config", "", "configuration of Kerberos, krb5.conf(5) (default "+defaultKrb5Conf+")")
	cmd.Flags().StringVar(&k.Kinit, "kinit", "", "path of kinit; found by itself unless given")
	return cmd
}

// addRealm writes the realm into the policy file, and leaves the rest of it as it
// is.
func addRealm(dir string, k *kerberosRealm) error {
	file := filepath.Join(dir, policyFile)
	old, err := readFile(file)
	if err != nil {
		return fmt.Errorf("policy: %w", err)
	}
	p, err := parsePolicy(old)
	if err != nil {
		return fmt.Errorf("policy file %s: %w", file, err)
	}
	if p.Kerberos != nil {
		return fmt.Errorf("%s has the Kerberos realm %s already; change it there", file, p.Kerberos.Realm)
	}
	part := k.text()
	text := allowDriver(string(old), p, latchkey.DriverKerberos) + part
	added, err := parsePolicy([]byte(text))
	if err != nil || added.Kerberos == nil || added.RefusesDriver(latchkey.DriverKerberos, "") != "" {
		return fmt.Errorf("%s is written in a way that cannot be added to; add \"kerberos\" to its drivers, and at its end:\n%s", file, part)
	}
	return writeFile(file, []byte(text))
}

// text returns the realm as a part of the policy file.
func (k *kerberosRealm) text() string {
	text := fmt.Sprintf(`
# The Kerberos realm that flows can be signed in to. Its KDCs, and the authorities
# whose certificates count, are in the configuration of Kerberos.
[kerberos]
realm = %q
config = %q
`, k.Realm, k.Config)
	if k.Kinit != "" {
		text += fmt.Sprintf("kinit = %q\n", k.Kinit)
	}
	return text
}

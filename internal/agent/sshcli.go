package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/crypto/ssh"

	"latchkey.dev/internal/cli"
	"latchkey.dev/latchkey"
)

func (t *tool) sshCommand() *cobra.Command {
	cmd := cli.Group("ssh", "SSH servers that flows can run on", `With the driver ssh the agent signs in to an SSH server that this machine's policy file
names, as the user of a connection's credential, and runs the flow there. Address and
host key are this machine's: who makes a connection chooses a server by its name.`)
	cmd.AddCommand(t.sshAddCommand(), t.sshListCommand())
	return cmd
}

// An sshServerInfo is what people and programs are shown of an SSH server.
type sshServerInfo struct {
	Name     string        `json:"name"`
	Address  string        `json:"address"`
	HostKeys []hostKeyInfo `json:"hostKeys"`
	Commands []string      `json:"commands"`
}

type hostKeyInfo struct {
	Type        string `json:"type"`
	Fingerprint string `json:"fingerprint"`
}

// info returns what is shown of a server.
func (s *sshServer) info() (sshServerInfo, error) {
	i := sshServerInfo{s.Name, s.Address, []hostKeyInfo{}, slices.Concat([]string{}, s.Commands)}
	for _, text := range s.HostKeys {
		key, err := parseHostKey(text)
		if err != nil {
			return i, err
		}
		i.HostKeys = append(i.HostKeys, hostKeyInfo{key.Type(), ssh.FingerprintSHA256(key)})
	}
	return i, nil
}

func (i sshServerInfo) fields() []cli.Field {
	fields := []cli.Field{{"Name", i.Name}, {"Address", i.Address}}
	for _, k := range i.HostKeys {
		fields = append(fields, cli.Field{"Host key", fmt.Sprintf("%s (%s)", k.Fingerprint, k.Type)})
	}
	return append(fields, cli.Field{"Commands", cli.Joined(i.Commands)})
}

func (t *tool) sshAddCommand() *cobra.Command {
	var dir, fingerprint, hostKey string
	var commands []string
	cmd := &cobra.Command{
		Use:   "add NAME ADDRESS",
		Short: "let flows run on an SSH server",
		Long: `Add asks the server for its host key, shows the key's fingerprint, and when that is
confirmed writes the server into policy.toml. Compare the fingerprint with what the server's
administrator sees there with: ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub

Without a terminal --host-key-fingerprint confirms it; with --host-key the server is not
asked. A running agent reads the file when it is started again.`,
		Example: "  latchkey-agent ssh add erp erp.example.com --allow-command '/opt/erp/bin/*'",
		Args:    cli.Exactly("NAME", "ADDRESS"),
		RunE: func(cmd *cobra.Command, args []string) error {
			s := &sshServer{Name: args[0], Address: args[1], Commands: commands}
			if err := latchkey.CheckSSHServerName(s.Name); err != nil {
				return cli.Usagef("the name %w", err)
			}
			address, err := sshAddress(s.Address)
			if err != nil {
				return cli.Usage(err)
			}
			s.Address = address
			if hostKey == "" {
				key, err := scanHostKey(cmd.Context(), address)
				if err != nil {
					return cli.Hint(err, "another address, or --host-key 'ssh-ed25519 AAAA…', with which the server is not asked")
				}
				hostKey = strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key)))
				if err := t.confirmKey(cmd.Context(), address, key, fingerprint); err != nil {
					return err
				}
			}
			s.HostKeys = []string{hostKey}
			if err := addServer(dir, s); err != nil {
				return t.adviseNoPolicy(err, dir)
			}
			i, err := s.info()
			if err != nil {
				return err
			}
			if err := t.PrintOne(i, i.fields()...); err != nil {
				return err
			}
			t.Say("added to %s; start the agent again, if it is running", filepath.Join(dir, policyFile))
			if len(commands) == 0 {
				t.Say("no flow can run there yet: add programs to commands in its [[ssh]] part")
			}
			return nil
		},
	}
	dirFlag(cmd, &dir)
	f := cmd.Flags()
	f.StringArrayVar(&commands, "allow-command", nil, "program that flows may run there: an absolute path, * is any name; may be repeated")
	f.StringVar(&fingerprint, "host-key-fingerprint", "", "take the server's host key if it has this fingerprint, SHA256:…")
	f.StringVar(&hostKey, "host-key", "", "the server's host key, \"ssh-ed25519 AAAA…\", in place of asking the server")
	return cmd
}

// adviseNoPolicy adds what to try when a folder has no policy file.
func (t *tool) adviseNoPolicy(err error, dir string) error {
	if errors.Is(err, fs.ErrNotExist) {
		return cli.Hint(fmt.Errorf("no machine is enrolled in %s: it has no %s", dir, policyFile), t.line("enrol", dir)+" --server URL --token-file FILE")
	}
	return err
}

// confirmKey has somebody say that a host key is the right one.
func (t *tool) confirmKey(ctx context.Context, address string, key ssh.PublicKey, fingerprint string) error {
	got := ssh.FingerprintSHA256(key)
	shown := fmt.Sprintf("%s has the host key %s (%s)", address, got, key.Type())
	switch {
	case fingerprint == got:
		return nil
	case fingerprint != "":
		return fmt.Errorf("%s, which is not the one that was given", shown)
	case !t.CanAsk():
		return cli.Hint(cli.Usagef("%s, and there is nobody to ask whether that is the right one", shown), "--host-key-fingerprint "+got+", if the server's administrator confirms it")
	}
	ok, err := t.Ask(ctx, shown+". Is that the right one")
	if err == nil && !ok {
		err = errors.New("nothing was added")
	}
	return err
}

// scanHostKey returns the host key of a server. Nothing is sent to it that names
// anybody.
func scanHostKey(ctx context.Context, address string) (key ssh.PublicKey, err error) {
	ctx, cancel := context.WithTimeout(ctx, sshDialTime)
	defer cancel()
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("%s cannot be reached: %w", address, err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(sshDialTime)); err != nil {
		return nil, err
	}
	var algorithms []string
	for _, t := range []string{ssh.KeyAlgoED25519, ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA521, ssh.KeyAlgoRSA} {
		algorithms = append(algorithms, keyAlgorithms(t)...)
	}
	_, _, _, err = ssh.NewClientConn(conn, address, &ssh.ClientConfig{
		ClientVersion: "SSH-2.0-Latchkey", HostKeyAlgorithms: algorithms,
		HostKeyCallback: func(_ string, _ net.Addr, k ssh.PublicKey) error {
			key = k
			return errHostKey
		},
	})
	if key == nil {
		return nil, fmt.Errorf("%s does not show a host key: %w", address, err)
	}
	return key, nil
}

// driversRE finds the line of the policy file that lists drivers.
var driversRE = regexp.MustCompile(`(?m)^drivers[ \t]*=[ \t]*\[([^\]\n#]*)\]`)

// addServer writes a server into the policy file, and leaves the rest of it as it
// is.
func addServer(dir string, s *sshServer) error {
	file := filepath.Join(dir, policyFile)
	old, err := readFile(file)
	if err != nil {
		return fmt.Errorf("policy: %w; enrol the machine first", err)
	}
	p, err := parsePolicy(old)
	if err != nil {
		return fmt.Errorf("policy file %s: %w", file, err)
	}
	if p.server(s.Name) != nil {
		return fmt.Errorf("%s has an SSH server %s already; change it there", file, s.Name)
	}
	part := s.text()
	text := allowDriver(string(old), p, latchkey.DriverSSH) + part
	added, err := parsePolicy([]byte(text))
	if err != nil || added.server(s.Name) == nil || added.RefusesDriver(latchkey.DriverSSH, s.Name) != "" {
		if err := s.check(); err != nil {
			return err
		}
		return fmt.Errorf("%s is written in a way that cannot be added to; add \"ssh\" to its drivers, and at its end:\n%s", file, part)
	}
	return writeFile(file, []byte(text))
}

// allowDriver returns the text of a policy file with a driver among the drivers.
func allowDriver(text string, p policy, driver latchkey.Driver) string {
	if !strings.HasSuffix(text, "\n") {
		text += "\n"
	}
	for _, d := range p.Drivers {
		if d == driver {
			return text
		}
	}
	at := driversRE.FindStringSubmatchIndex(text)
	if at == nil {
		return text
	}
	list := strings.TrimRight(strings.TrimSpace(text[at[2]:at[3]]), ", ")
	if list != "" {
		list += ", "
	}
	return text[:at[2]] + list + `"` + string(driver) + `"` + text[at[3]:]
}

// text returns the server as a part of the policy file.
func (s *sshServer) text() string {
	quoted := func(items []string) string {
		q := make([]string, len(items))
		for i, item := range items {
			q[i] = fmt.Sprintf("%q", item)
		}
		return strings.Join(q, ", ")
	}
	return fmt.Sprintf(`
# An SSH server that connections may name. Its host key is checked before a
# password is sent. commands are what flows may run there.
[[ssh]]
name = %q
address = %q
host_keys = [%s]
commands = [%s]
`, s.Name, s.Address, quoted(s.HostKeys), quoted(s.Commands))
}

func (t *tool) sshListCommand() *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:   "list",
		Short: "show the SSH servers that flows can run on",
		Args:  cli.Exactly(),
		RunE: func(*cobra.Command, []string) error {
			p, err := loadPolicy(dir)
			if err != nil {
				return t.adviseNoPolicy(err, dir)
			}
			all := []sshServerInfo{}
			for _, s := range p.SSH {
				i, err := s.info()
				if err != nil {
					return err
				}
				all = append(all, i)
			}
			if t.JSON {
				return t.PrintJSON(all)
			}
			for n, i := range all {
				if n > 0 {
					fmt.Fprintln(t.Out)
				}
				if err := t.PrintOne(i, i.fields()...); err != nil {
					return err
				}
			}
			if len(all) == 0 {
				t.Say("there are none in %s", filepath.Join(dir, policyFile))
			}
			return nil
		},
	}
	dirFlag(cmd, &dir)
	return cmd
}

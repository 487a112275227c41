package agent

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/crypto/ssh"
	"golang.org/x/term"

	"latchkey.dev/latchkey"
)

func sshCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "ssh",
		Short: "SSH servers that flows can run on",
		Long: `With the driver ssh the agent signs in to an SSH server that this machine's policy file
names, as the user of a connection's credential, and runs the flow there. Address and
host key are this machine's: who makes a connection chooses a server by its name.`,
		Args: knownCommand, SuggestionsMinimumDistance: 2,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(sshAddCommand(), sshListCommand())
	return cmd
}

func sshAddCommand() *cobra.Command {
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
		Args: func(cmd *cobra.Command, args []string) error {
			if err := cobra.ExactArgs(2)(cmd, args); err != nil {
				return usageError{errors.New("the name and the address of the server are needed, for example: erp erp.example.com")}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			s := &sshServer{Name: args[0], Address: args[1], Commands: commands}
			if err := latchkey.CheckSSHServerName(s.Name); err != nil {
				return usageError{fmt.Errorf("the name %w", err)}
			}
			address, err := sshAddress(s.Address)
			if err != nil {
				return usageError{err}
			}
			s.Address = address
			if hostKey == "" {
				key, err := scanHostKey(cmd.Context(), address)
				if err != nil {
					return err
				}
				hostKey = strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key)))
				if err := confirmKey(cmd, address, key, fingerprint); err != nil {
					return err
				}
			}
			s.HostKeys = []string{hostKey}
			if err := addServer(dir, s); err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			fmt.Fprintf(out, "Added %s to %s. Start the agent again, if it is running.\n", s.Name, filepath.Join(dir, policyFile))
			if len(commands) == 0 {
				fmt.Fprintln(out, "No flow can run there yet: add programs to commands in its [[ssh]] part.")
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

// confirmKey has somebody say that a host key is the right one.
func confirmKey(cmd *cobra.Command, address string, key ssh.PublicKey, fingerprint string) error {
	got := ssh.FingerprintSHA256(key)
	if fingerprint != "" {
		if got != fingerprint {
			return fmt.Errorf("%s has the host key %s (%s), which is not the one that was given", address, got, key.Type())
		}
		return nil
	}
	in, ok := cmd.InOrStdin().(*os.File)
	if !ok || !term.IsTerminal(int(in.Fd())) {
		return usageError{fmt.Errorf("%s has the host key %s (%s); if its administrator confirms that, give --host-key-fingerprint %s", address, got, key.Type(), got)}
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "%s has the host key %s (%s).\nIs that the right one? Type yes: ", address, got, key.Type())
	line, err := bufio.NewReader(io.LimitReader(in, 100)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if strings.TrimSpace(line) != "yes" {
		return errors.New("nothing was added")
	}
	return nil
}

// scanHostKey returns the host key of a server. Nothing is sent to it that names
// anybody.
func scanHostKey(ctx context.Context, address string) (key ssh.PublicKey, err error) {
	ctx, cancel := context.WithTimeout(ctx, sshDialTime)
	defer cancel()
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("reach the server: %w", err)
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

func sshListCommand() *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:   "list",
		Short: "show the SSH servers that flows can run on",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			p, err := loadPolicy(dir)
			if err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			for _, s := range p.SSH {
				fmt.Fprintf(out, "%s  %s\n", s.Name, s.Address)
				for _, wire := range s.keys {
					key, err := ssh.ParsePublicKey(wire)
					if err != nil {
						return err
					}
					fmt.Fprintf(out, "  host key  %s (%s)\n", ssh.FingerprintSHA256(key), key.Type())
				}
				fmt.Fprintf(out, "  commands  %s\n", strings.Join(s.Commands, " "))
			}
			if len(p.SSH) == 0 {
				fmt.Fprintf(out, "There is none in %s.\n", filepath.Join(dir, policyFile))
			}
			return nil
		},
	}
	dirFlag(cmd, &dir)
	return cmd
}

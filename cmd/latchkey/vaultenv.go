package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"latchkey.dev/client"
	"latchkey.dev/internal/cli"
)

const vaultEnvHelp = `Env runs a command in an environment in which any official Azure SDK, without a change
to the program, finds the embedded vaults at their addresses and signs in as you.

What it sets for the command, and why:

  HTTPS_PROXY, https_proxy     a proxy in this process, on this machine only, that leads
                               {vault}.{domain} to the server's vaults and everything
                               else where it leads anyway, through your own proxy if you
                               have one; it sees no plain text
  NO_PROXY, no_proxy           yours, without what would lead past that proxy
  IDENTITY_ENDPOINT            where the SDK gets tokens: a managed identity as in Azure
  IDENTITY_HEADER              App Service, served by this process; the header is a
                               secret of this run
  AZURE_TOKEN_CREDENTIALS      ManagedIdentityCredential: DefaultAzureCredential then
                               tries nothing else
  SSL_CERT_FILE                the system's certificate authorities and the vaults' own,
  REQUESTS_CA_BUNDLE           in a temporary file: for Go and OpenSSL, for Python, for
  CURL_CA_BUNDLE               curl
  NODE_EXTRA_CA_CERTS          the vaults' own authority, for Node.js

Tokens are made one at a time when the command asks, and last an hour. Signals are
passed on, the exit code is the command's, and the temporary files are removed at the
end. Vault addresses are in latchkey vault list.

With --as-service-principal the command signs in by itself, as it would in Azure, and not
as you: with AZURE_CLIENT_ID and either AZURE_CLIENT_SECRET, AZURE_CLIENT_CERTIFICATE_PATH
or AZURE_FEDERATED_TOKEN_FILE, or with a credential of its own making. In place of
IDENTITY_… it finds

  AZURE_AUTHORITY_HOST         where service principals get tokens for the vaults:
                               https://login.{domain}
  AZURE_TENANT_ID              the id of the installation
  AZURE_TOKEN_CREDENTIALS      EnvironmentCredential or WorkloadIdentityCredential, by
                               what is set

Microsoft's libraries know their own authorities only, and ask login.microsoftonline.com
about any other before they sign in there. For the command, this process stands in for
that host: it answers for the vaults' authority, and 404 to all else. Its certificate is
of an authority that was made for this run, whose key never leaves this process, that can
vouch for no other host, and that is in the temporary files alone. A program that also
signs in to Azure itself can therefore not be run so.`

func (a *app) vaultEnvCommand() *cobra.Command {
	var asService bool
	cmd := &cobra.Command{
		Use:                   "env [--as-service-principal] -- COMMAND [ARGUMENT…]",
		Short:                 "run a program whose Azure SDK then finds the embedded vaults",
		Long:                  vaultEnvHelp,
		DisableFlagsInUseLine: true,
		Example: `  latchkey vault env -- python3 read_secret.py
  AZURE_CLIENT_ID=… AZURE_CLIENT_SECRET=… latchkey vault env --as-service-principal -- node job.mjs`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return cli.Hint(cli.Usagef("the command to run is missing"), "latchkey vault env -- COMMAND")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			return a.vaultEnv(cmd.Context(), c, asService, args)
		},
	}
	cmd.Flags().BoolVar(&asService, "as-service-principal", false, "the command signs in by itself, as a service principal")
	return cmd
}

func (a *app) vaultEnv(ctx context.Context, c *client.Client, asService bool, command []string) (err error) {
	at, err := c.VaultConnection(ctx)
	if err != nil {
		return err
	}
	var signIn map[string]string
	var unset []string
	if asService {
		if signIn, unset, err = a.signInVariables(at); err != nil {
			return err
		}
	} else if _, err := c.VaultToken(ctx); err != nil {
		return err // whoever may not have a token is told so before the command starts
	}
	dir, err := os.MkdirTemp("", "latchkey-env-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()

	// An interrupt is the command's to act on: what it needs stays until it ends.
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var g errgroup.Group
	defer func() { cancel(); err = errors.Join(err, g.Wait()) }()
	hosts := []string{at.Domain} // that NO_PROXY must not lead past the proxy
	var standIns map[string]string
	if asService {
		address, ca, err := startDiscovery(ctx, &g, at)
		if err != nil {
			return err
		}
		at.CAPEM += "\n" + ca
		hosts, standIns = append(hosts, discoveryHost), map[string]string{discoveryHost + ":443": address}
	} else {
		identity, err := startIdentity(ctx, &g, c, at.Domain)
		if err != nil {
			return err
		}
		signIn = map[string]string{
			"IDENTITY_ENDPOINT": identity.endpoint, "IDENTITY_HEADER": identity.header, "AZURE_TOKEN_CREDENTIALS": "ManagedIdentityCredential",
		}
	}
	proxy, err := startVaultProxy(ctx, &g, a.Environ, vaultAddress(at.Address, c.Server()), at.Domain, standIns)
	if err != nil {
		return err
	}
	set, err := a.certificateFiles(dir, at.CAPEM)
	if err != nil {
		return err
	}
	maps.Copy(set, signIn)
	set["HTTPS_PROXY"], set["https_proxy"] = proxy, proxy
	noProxy := withoutDomain(firstOf(a.Getenv("no_proxy"), a.Getenv("NO_PROXY")), hosts...)
	set["NO_PROXY"], set["no_proxy"] = noProxy, noProxy
	return a.runCommandWith(command, set, unset...)
}

// certificateFiles writes the files of certificates and returns the variables
// that name them.
func (a *app) certificateFiles(dir, ca string) (map[string]string, error) {
	roots, err := systemRoots(a.Getenv("SSL_CERT_FILE"))
	if err != nil {
		return nil, err
	}
	if roots == "" {
		a.Say("the system's certificate authorities were not found: the command will trust the embedded vaults only")
	}
	bundle, own := filepath.Join(dir, "bundle.pem"), filepath.Join(dir, "ca.pem")
	if err := os.WriteFile(bundle, []byte(roots+"\n"+ca), 0o600); err != nil {
		return nil, err
	}
	if more := a.Getenv("NODE_EXTRA_CA_CERTS"); more != "" {
		b, err := readFile(more, maxRoots)
		if err != nil {
			return nil, fmt.Errorf("read NODE_EXTRA_CA_CERTS: %w", err)
		}
		ca = string(b) + "\n" + ca
	}
	if err := os.WriteFile(own, []byte(ca), 0o600); err != nil {
		return nil, err
	}
	return map[string]string{"SSL_CERT_FILE": bundle, "REQUESTS_CA_BUNDLE": bundle, "CURL_CA_BUNDLE": bundle, "NODE_EXTRA_CA_CERTS": own}, nil
}

// maxRoots bounds a file of certificate authorities.
const maxRoots = 16 << 20

// systemRoots returns the system's certificate authorities in PEM, or "".
func systemRoots(given string) (string, error) {
	if given != "" {
		b, err := readFile(given, maxRoots)
		if err != nil {
			return "", fmt.Errorf("read SSL_CERT_FILE: %w", err)
		}
		return string(b), nil
	}
	for _, path := range []string{
		"/etc/ssl/certs/ca-certificates.crt", // Debian, Ubuntu, Arch
		"/etc/pki/tls/certs/ca-bundle.crt",   // Fedora, RHEL
		"/etc/ssl/ca-bundle.pem",             // openSUSE
		"/etc/ssl/cert.pem",                  // Alpine, macOS, BSD
	} {
		if b, err := readFile(path, maxRoots); err == nil {
			return string(b), nil
		}
	}
	return "", nil
}

// withoutDomain returns a list such as NO_PROXY holds, without the entries that
// cover some hosts or what is below them, and with this machine's address, where the
// identity is.
func withoutDomain(list string, domains ...string) string {
	var hosts []string
	for _, d := range domains {
		host, _, err := net.SplitHostPort(d)
		if err != nil {
			host = d
		}
		hosts = append(hosts, "."+host)
	}
	kept := []string{}
	for _, e := range strings.Split(list, ",") {
		e = strings.TrimSpace(e)
		name := strings.ToLower(strings.TrimPrefix(strings.TrimPrefix(e, "*"), "."))
		if e == "" || name == "" || slices.ContainsFunc(hosts, func(host string) bool { return strings.HasSuffix(host, "."+name) }) {
			continue
		}
		kept = append(kept, e)
	}
	if !slices.Contains(kept, "127.0.0.1") {
		kept = append(kept, "127.0.0.1")
	}
	return strings.Join(kept, ",")
}

// notStarted returns the exit code that shells have for a program that could
// not be started.
func notStarted(err error) cli.ExitCode {
	if errors.Is(err, exec.ErrNotFound) || errors.Is(err, fs.ErrNotExist) {
		return 127
	}
	return 126
}

// runCommandWith runs a program with more environment variables, and without some,
// and returns its exit code.
func (a *app) runCommandWith(command []string, set map[string]string, unset ...string) error {
	child := exec.Command(command[0], command[1:]...)
	child.Stdin, child.Stdout, child.Stderr = a.In, a.Out, a.Err
	child.Env = slices.DeleteFunc(slices.Clone(a.Environ), func(e string) bool {
		name, _, _ := strings.Cut(e, "=")
		_, ours := set[name]
		return ours || slices.Contains(unset, name)
	})
	for name, value := range set {
		child.Env = append(child.Env, name+"="+value)
	}
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer signal.Stop(signals)
	if err := child.Start(); err != nil {
		a.Say("%v", err)
		return notStarted(err)
	}
	ended := make(chan struct{})
	passed := make(chan struct{})
	go func() {
		defer close(passed)
		for {
			select {
			case <-ended:
				return
			case sig := <-signals:
				// At a terminal an interrupt reaches the command by itself.
				if sig != os.Interrupt || !cli.IsTerminal(a.In) {
					_ = child.Process.Signal(sig) // it may just have ended
				}
			}
		}
	}()
	err := child.Wait()
	close(ended)
	<-passed
	if e, ok := errors.AsType[*exec.ExitError](err); ok {
		if status, ok := e.Sys().(syscall.WaitStatus); ok && status.Signaled() {
			return cli.ExitCode(128 + int(status.Signal()))
		}
		return cli.ExitCode(e.ExitCode())
	}
	return err
}

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"latchkey.dev/client"
	"latchkey.dev/internal/agent"
	"latchkey.dev/internal/cli"
	"latchkey.dev/latchkey"
)

// An app is one invocation of the program.
type app struct {
	cli.Console

	// Flags of every command.
	server      string
	environment string
	profile     string // its name
	tokenFile   string
	caFile      string
	insecure    bool

	newProfile bool // the profile that is asked for need not exist
}

func newApp(std stdio, environ []string) *app {
	return &app{Console: cli.Console{Program: "latchkey", In: std.in, Out: std.out, Err: std.err, Environ: environ, Color: cli.ColorAuto}}
}

const rootHelp = `Latchkey hands credentials to the machines that run your automation, at the moment
a run needs them, without anyone seeing them on the way.

  latchkey quickstart            see the whole chain work once, on this machine
  latchkey serve --data DIR      start a server
  latchkey login --server URL    sign in; the other commands then use that server

Commands take ids or names. Results are tables and fields for people, or JSON for
programs with --json; more in latchkey help output. Exit codes are in latchkey help
exit-codes, environment variables in latchkey help environment-variables.`

// rootCommand returns the whole command tree.
func (a *app) rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:     "latchkey",
		Short:   "Credentials for automation that runs when nobody is there",
		Long:    rootHelp,
		Version: agent.Version(),
		Args:    cobra.ArbitraryArgs,
		RunE:    cli.GroupRun,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			return errors.Join(checkEnviron(a.Environ), a.CheckColor())
		},
	}
	a.Attach(root)

	f := root.PersistentFlags()
	f.StringVar(&a.server, "server", "", "address of the server, such as https://latchkey.example.org")
	f.StringVarP(&a.environment, "environment", "e", "", "environment to work in, by id or name; default: the profile's, else the only one there is")
	f.StringVar(&a.profile, "profile", "", "profile to use; default: the current one")
	f.StringVar(&a.tokenFile, "token-file", "", "file that holds the API token to use")
	f.StringVar(&a.caFile, "ca-file", "", "PEM file of the authorities that the server's certificate may come from, instead of the system's")
	f.BoolVar(&a.insecure, "insecure", false, "allow http:// to other machines: whoever is on the way sees everything")
	a.Flags(root)

	completeFlag(root, "environment", a.completeEnvironments())
	completeFlag(root, "profile", a.completeProfiles())
	completeFlag(root, "server", a.completeServers())

	root.AddGroup(
		&cobra.Group{ID: groupServer, Title: "Server:"},
		&cobra.Group{ID: groupChain, Title: "The chain:"},
		&cobra.Group{ID: groupAccess, Title: "Access and records:"},
	)
	add := func(group string, cmds ...*cobra.Command) {
		for _, c := range cmds {
			c.GroupID = group
			root.AddCommand(c)
		}
	}
	add(groupServer, a.quickstartCommand(), a.serveCommand(), a.adminCommand(), a.backupCommand(), a.restoreCommand(), a.masterKeyCommand(), a.agentCommand())
	add(groupChain, a.environmentCommand(), a.vaultCommand(), a.azureCommand(), a.variableCommand(), a.credentialCommand(),
		a.machineCommand(), a.machineGroupCommand(), a.connectionCommand(), a.flowCommand(), a.runCommand(), a.deletedCommand())
	add(groupAccess, a.loginCommand(), a.linkCommand(), a.logoutCommand(), a.whoamiCommand(), a.profileCommand(), a.userCommand(), a.groupCommand(), a.servicePrincipalCommand(), a.accessCommand(), a.noticesCommand(), a.tokenCommand(), a.sessionCommand(), a.certificateBindingCommand(), a.auditCommand(), a.attentionCommand(), a.doctorCommand())
	root.AddCommand(a.openapiCommand(), a.versionCommand(), a.manCommand(), a.proofCommand())
	root.AddCommand(helpTopics()...)
	cli.AddCompletion(root, "print the script with which a shell completes commands and names", completionHelp)
	cli.CompleteNothingElse(root)
	return root
}

const (
	groupServer = "server"
	groupChain  = "chain"
	groupAccess = "access"
)

// client returns the client for the server and token that flags, environment
// and profile choose, in this order.
func (a *app) client() (*client.Client, error) {
	c, err := a.connect()
	if err != nil {
		return nil, err
	}
	to, err := c.client() // a wrong address comes before a missing token
	if err != nil || !c.token.IsZero() {
		return to, err
	}
	return nil, cli.Hint(errors.New("not signed in"), a.loginCommandLine(c.server))
}

// A connectTo says how to reach a server.
type connectTo struct {
	server   string
	token    latchkey.Secret
	caFile   string
	insecure bool
}

func (c connectTo) client() (*client.Client, error) {
	return client.New(client.Config{
		Server: c.server, Token: c.token, CAFile: c.caFile, AllowInsecure: c.insecure,
		UserAgent: "latchkey/" + agent.Version(),
	})
}

func (a *app) connect() (connectTo, error) {
	p, err := a.loadProfile()
	if err != nil {
		return connectTo{}, err
	}
	c := connectTo{server: firstOf(a.server, a.Getenv("LATCHKEY_SERVER"), p.Server), caFile: a.caFile, insecure: a.insecure}
	if c.server == "" {
		return c, a.noServer()
	}
	// What the profile holds belongs to its own server.
	if sameServer(c.server, p.Server) {
		c.token = latchkey.NewSecret(p.Token)
		if p.Token == "" {
			c.token = latchkey.Secret{}
		}
		c.caFile = firstOf(c.caFile, p.CAFile)
		c.insecure = c.insecure || p.Insecure
	}
	given, err := a.givenToken()
	if err != nil {
		return c, err
	}
	if !given.IsZero() {
		c.token = given
	}
	return c, nil
}

// givenToken returns the token that this invocation was given, if any.
func (a *app) givenToken() (latchkey.Secret, error) {
	if a.tokenFile == "" {
		if t := strings.TrimSpace(a.Getenv("LATCHKEY_TOKEN")); t != "" {
			return latchkey.NewSecret(t), nil
		}
	}
	path := firstOf(a.tokenFile, a.Getenv("LATCHKEY_TOKEN_FILE"))
	if path == "" {
		return latchkey.Secret{}, nil
	}
	return readTokenFile(path)
}

// readTokenFile reads a file whose one line is a token.
func readTokenFile(path string) (latchkey.Secret, error) {
	b, err := readFile(path, 4096)
	if err != nil {
		return latchkey.Secret{}, fmt.Errorf("read token: %w", err)
	}
	t := strings.TrimSpace(string(b))
	if t == "" {
		return latchkey.Secret{}, fmt.Errorf("read token: %s is empty", path)
	}
	return latchkey.NewSecret(t), nil
}

// readFile reads a file of at most limit bytes.
func readFile(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readAll(f, limit, path)
}

var errTooLarge = errors.New("is larger")

func readAll(r io.Reader, limit int64, name string) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("%s %w than %d bytes", name, errTooLarge, limit)
	}
	return b, nil
}

// within returns the client and the environment to work in: the one that flag,
// environment variable or profile names, else the only one the caller sees.
func (a *app) within(ctx context.Context) (*client.Client, string, error) {
	c, err := a.client()
	if err != nil {
		return nil, "", err
	}
	if name := firstOf(a.environment, a.Getenv("LATCHKEY_ENVIRONMENT")); name != "" {
		return c, name, nil
	}
	p, err := a.loadProfile()
	if err != nil {
		return nil, "", err
	}
	if p.Environment != "" && sameServer(c.Server(), p.Server) {
		return c, p.Environment, nil
	}
	var names []string
	for e, err := range c.Environments(ctx) {
		if err != nil {
			return nil, "", err
		}
		names = append(names, e.Name)
	}
	switch len(names) {
	case 0:
		return nil, "", cli.Hint(errors.New("there is no environment that you may see"), "latchkey environment create NAME")
	case 1:
		return c, names[0], nil
	}
	return nil, "", cli.Hint(cli.Usagef("say which environment: %s", strings.Join(names, ", ")), "the flag -e NAME, or latchkey environment use NAME to keep it")
}

// firstOf returns the first of texts that is not empty.
func firstOf(texts ...string) string {
	for _, t := range texts {
		if t != "" {
			return t
		}
	}
	return ""
}

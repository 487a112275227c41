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
	"latchkey.dev/latchkey"
)

// An app is one invocation of the program.
type app struct {
	std     stdio
	environ []string // as os.Environ returns it

	// Flags of every command.
	server      string
	environment string
	profile     string // its name
	tokenFile   string
	caFile      string
	insecure    bool
	json        bool
	quiet       bool
	color       string

	newProfile bool // the profile that is asked for need not exist
}

func newApp(std stdio, environ []string) *app {
	return &app{std: std, environ: environ, color: colorAuto}
}

// getenv is os.Getenv on the environment of this invocation.
func (a *app) getenv(name string) string {
	value := ""
	for _, e := range a.environ {
		if k, v, ok := strings.Cut(e, "="); ok && k == name {
			value = v
		}
	}
	return value
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
		Use:           "latchkey",
		Short:         "Credentials for automation that runs when nobody is there",
		Long:          rootHelp,
		SilenceErrors: true,
		SilenceUsage:  true,
		Version:       agent.Version(),
		Args:          cobra.ArbitraryArgs,
		RunE:          groupRun,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			return errors.Join(checkEnviron(a.environ), a.checkColor(cmd))
		},
	}
	root.SetIn(a.std.in)
	root.SetOut(a.std.out)
	root.SetErr(a.std.err)
	root.SetFlagErrorFunc(adviseFlag)
	root.SetHelpCommand(helpCommand())
	root.CompletionOptions.HiddenDefaultCmd = false

	f := root.PersistentFlags()
	f.StringVar(&a.server, "server", "", "address of the server, such as https://latchkey.example.org")
	f.StringVarP(&a.environment, "environment", "e", "", "environment to work in, by id or name; default: the profile's, else the only one there is")
	f.StringVar(&a.profile, "profile", "", "profile to use; default: the current one")
	f.StringVar(&a.tokenFile, "token-file", "", "file that holds the API token to use")
	f.StringVar(&a.caFile, "ca-file", "", "PEM file of the authorities that the server's certificate may come from, instead of the system's")
	f.BoolVar(&a.insecure, "insecure", false, "allow http:// to other machines: whoever is on the way sees everything")
	f.BoolVar(&a.json, "json", false, "print JSON for programs")
	f.BoolVarP(&a.quiet, "quiet", "q", false, "no messages and no progress: only results and errors")
	f.StringVar(&a.color, "color", colorAuto, "colours: auto (on terminals only), always or never")

	completeFlag(root, "environment", a.completeEnvironments())
	completeFlag(root, "profile", a.completeProfiles())
	completeFlag(root, "server", a.completeServers())
	completeFlag(root, "color", oneOf(colorAuto, colorAlways, colorNever))

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
	add(groupChain, a.environmentCommand(), a.vaultCommand(), a.variableCommand(), a.credentialCommand(),
		a.machineCommand(), a.connectionCommand(), a.flowCommand(), a.runCommand())
	add(groupAccess, a.loginCommand(), a.linkCommand(), a.logoutCommand(), a.whoamiCommand(), a.profileCommand(), a.userCommand(), a.tokenCommand(), a.certificateBindingCommand(), a.auditCommand())
	root.AddCommand(a.openapiCommand(), a.versionCommand(), a.manCommand(), a.proofCommand())
	root.AddCommand(helpTopics()...)
	helpCompletion(root)
	completeNothingElse(root)
	return root
}

const (
	groupServer = "server"
	groupChain  = "chain"
	groupAccess = "access"
)

// groupRun is what a command that only has subcommands does: without one it
// shows its help.
func groupRun(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return cmd.Help()
	}
	msg := fmt.Sprintf("there is no command %q", cmd.CommandPath()+" "+args[0])
	if s := cmd.SuggestionsFor(args[0]); len(s) > 0 {
		msg += fmt.Sprintf("; did you mean %q?", s[0])
	}
	return hint(usagef("%s", msg), cmd.CommandPath()+" --help")
}

// group returns a command that only has subcommands.
func group(use, short, long string, aliases ...string) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, Long: long, Aliases: aliases,
		Args: cobra.ArbitraryArgs, RunE: groupRun, DisableFlagsInUseLine: true,
		SuggestionsMinimumDistance: 2,
	}
}

// exactly returns the check for a command's positional arguments, whose names
// the message shows.
func exactly(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) < len(names):
			return hint(usagef("%s is missing", strings.Join(names[len(args):], " and ")), cmd.CommandPath()+" --help")
		case len(args) > len(names):
			return hint(usagef("%q is one argument too many", args[len(names)]), cmd.CommandPath()+" --help")
		}
		return nil
	}
}

// atMost returns the check for positional arguments that may be left out.
func atMost(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		return exactly(names[:min(len(args), len(names))]...)(cmd, args)
	}
}

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
	return nil, hint(errors.New("not signed in"), a.loginCommandLine(c.server))
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
	c := connectTo{server: firstOf(a.server, a.getenv("LATCHKEY_SERVER"), p.Server), caFile: a.caFile, insecure: a.insecure}
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
		if t := strings.TrimSpace(a.getenv("LATCHKEY_TOKEN")); t != "" {
			return latchkey.NewSecret(t), nil
		}
	}
	path := firstOf(a.tokenFile, a.getenv("LATCHKEY_TOKEN_FILE"))
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
	if name := firstOf(a.environment, a.getenv("LATCHKEY_ENVIRONMENT")); name != "" {
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
		return nil, "", hint(errors.New("there is no environment that you may see"), "latchkey environment create NAME")
	case 1:
		return c, names[0], nil
	}
	return nil, "", hint(usagef("say which environment: %s", strings.Join(names, ", ")), "the flag -e NAME, or latchkey environment use NAME to keep it")
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

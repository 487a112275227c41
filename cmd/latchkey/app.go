package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"latchkey.dev/client"
	"latchkey.dev/latchkey"
)

// An app is one invocation of the program.
type app struct {
	std     stdio
	environ []string // as os.Environ returns it

	// Flags of every command.
	server      string
	environment string
	tokenFile   string
	caFile      string
	insecure    bool
	json        bool
}

func newApp(std stdio, environ []string) *app { return &app{std: std, environ: environ} }

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

Commands take ids or names. Lists are tables, or JSON with --json. The exit code is
0 when it was done, 1 when it failed and 2 when the command line is wrong.

Environment:
  LATCHKEY_SERVER        address of the server, before that of the profile
  LATCHKEY_TOKEN         API token, before that of the profile
  LATCHKEY_TOKEN_FILE    file that holds the API token
  LATCHKEY_ENVIRONMENT   environment to work in, before that of the profile

The profile that login writes is latchkey/config.json in the folder for
configuration ($XDG_CONFIG_HOME, or ~/.config). Its token is sent to the server
that it was made at, and to no other.`

// rootCommand returns the whole command tree.
func (a *app) rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:           "latchkey",
		Short:         "Credentials for automation that runs when nobody is there",
		Long:          rootHelp,
		SilenceErrors: true,
		SilenceUsage:  true,
		Version:       version(),
		Args:          cobra.ArbitraryArgs,
		RunE:          groupRun,
		PersistentPreRunE: func(*cobra.Command, []string) error {
			return checkEnviron(a.environ)
		},
	}
	root.SetIn(a.std.in)
	root.SetOut(a.std.out)
	root.SetErr(a.std.err)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.CompletionOptions.HiddenDefaultCmd = false

	f := root.PersistentFlags()
	f.StringVar(&a.server, "server", "", "address of the server, such as https://latchkey.example.org")
	f.StringVarP(&a.environment, "environment", "e", "", "environment to work in, by id or name; default: the profile's, else the only one there is")
	f.StringVar(&a.tokenFile, "token-file", "", "file that holds the API token to use")
	f.StringVar(&a.caFile, "ca-file", "", "PEM file of the authorities that the server's certificate may come from, instead of the system's")
	f.BoolVar(&a.insecure, "insecure", false, "allow http:// to other machines: whoever is on the way sees everything")
	f.BoolVar(&a.json, "json", false, "print JSON for programs")

	completeFlag(root, "environment", a.completeEnvironments())

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
	add(groupServer, a.quickstartCommand(), a.serveCommand(), a.adminCommand(), a.agentCommand())
	add(groupChain, a.environmentCommand(), a.vaultCommand(), a.variableCommand(), a.credentialCommand(),
		a.machineCommand(), a.connectionCommand(), a.flowCommand(), a.runCommand())
	add(groupAccess, a.loginCommand(), a.linkCommand(), a.logoutCommand(), a.whoamiCommand(), a.userCommand(), a.tokenCommand(), a.auditCommand())
	root.AddCommand(a.openapiCommand(), a.versionCommand(), a.proofCommand())
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

// A usageError is a command line that was not understood.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// An exitCode ends the program with a code and without a message.
type exitCode int

func (e exitCode) Error() string { return fmt.Sprintf("exit code %d", int(e)) }

// A hinted error knows the command to try next.
type hinted struct {
	error
	try string
}

func (e hinted) Unwrap() error { return e.error }

// hint adds the command to try next to err.
func hint(err error, try string) error { return hinted{err, try} }

// report prints err for a person and returns the exit code.
func (a *app) report(ctx context.Context, err error) int {
	if err == nil {
		return 0
	}
	if code, ok := errors.AsType[exitCode](err); ok {
		return int(code)
	}
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		fmt.Fprintln(a.std.err, "latchkey: interrupted")
		return 1
	}
	for _, line := range message(err) {
		fmt.Fprintln(a.std.err, "latchkey: "+line)
	}
	if h, ok := errors.AsType[hinted](err); ok {
		fmt.Fprintln(a.std.err, "latchkey: try: "+h.try)
	} else if errors.Is(err, latchkey.ErrUnauthenticated) {
		fmt.Fprintln(a.std.err, "latchkey: try: latchkey login")
	}
	if _, ok := errors.AsType[usageError](err); ok {
		return 2
	}
	return 1
}

// message returns an error as lines: what failed, then each faulty field, then
// what would help.
func message(err error) []string {
	if j, ok := err.(interface{ Unwrap() []error }); ok {
		if _, ok := err.(*latchkey.Error); !ok {
			var lines []string
			for _, e := range j.Unwrap() {
				lines = append(lines, message(e)...)
			}
			return lines
		}
	}
	e, ok := errors.AsType[*latchkey.Error](err)
	if !ok {
		return strings.Split(strings.TrimSuffix(err.Error(), "."), "\n")
	}
	msg := e.Msg
	if e.Err != nil {
		msg += ": " + e.Err.Error()
	}
	lines := []string{strings.TrimSuffix(msg, ".")}
	for _, f := range e.Fields {
		lines = append(lines, "  "+f.Field+": "+f.Message)
	}
	if e.Remedy != "" && !strings.Contains(e.Msg, e.Remedy) {
		lines = append(lines, strings.TrimSuffix(e.Remedy, "."))
	}
	return lines
}

// say tells a person something that is not the command's result.
func (a *app) say(format string, args ...any) {
	fmt.Fprintf(a.std.err, "latchkey: "+format+"\n", args...)
}

// client returns the client for the server and token that flags, environment
// and profile choose, in this order.
func (a *app) client() (*client.Client, error) {
	c, err := a.connect()
	if err != nil {
		return nil, err
	}
	if c.token.IsZero() {
		return nil, hint(errors.New("not signed in"), "latchkey login --server "+c.server)
	}
	return c.client()
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
		UserAgent: "latchkey/" + version(),
	})
}

func (a *app) connect() (connectTo, error) {
	p, err := a.loadProfile()
	if err != nil {
		return connectTo{}, err
	}
	c := connectTo{server: firstOf(a.server, a.getenv("LATCHKEY_SERVER"), p.Server), caFile: a.caFile, insecure: a.insecure}
	if c.server == "" {
		return c, hint(errors.New("no server is chosen"), "latchkey login --server http://127.0.0.1:8080")
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

// isTerminal reports whether a person is at the other end.
func isTerminal(v any) bool {
	f, ok := v.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"latchkey.dev/client"
	"latchkey.dev/internal/cli"
	"latchkey.dev/latchkey"
)

// maxToken bounds what is read as an enrolment token.
const maxToken = 4 << 10

// Main runs the agent's command line and returns the exit code: 0 when it was
// done, 1 when it failed, 2 when it was not understood, 130 when it was
// interrupted.
func Main(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	c := &cli.Console{Program: "latchkey-agent", In: stdin, Out: stdout, Err: stderr, Environ: os.Environ(), Color: cli.ColorAuto}
	cmd := Program(c)
	cmd.SetArgs(args)
	return c.Report(ctx, cmd.ExecuteContext(ctx))
}

// Program returns the commands of the agent's own program.
func Program(c *cli.Console) *cobra.Command {
	cmd := Command(c.Program, c)
	cmd.Version = Version()
	cmd.PersistentPreRunE = func(*cobra.Command, []string) error { return c.CheckColor() }
	c.Attach(cmd)
	c.Flags(cmd)
	cmd.AddCommand(c.ManCommand(func() *cobra.Command { return Program(&cli.Console{Program: c.Program}) }))
	cli.AddCompletion(cmd, "print the script with which a shell completes commands", `Completion prints a script with which a shell completes commands and flags. For the
shell that you are in: source <(`+c.Program+` completion bash)`)
	cli.CompleteNothingElse(cmd)
	return cmd
}

// A tool is the agent's commands as a part of a program.
type tool struct {
	*cli.Console
	root *cobra.Command // of the agent's commands
}

// Command returns the agent's commands under a name, for the agent's own program
// and for latchkey. They print to c.
func Command(use string, c *cli.Console) *cobra.Command {
	t := &tool{c, cli.Group(use, "run flows on this machine", `The agent makes this machine one that flows can run on. Enrol it once with a token
from an administrator of the environment, then keep "run" running.

What flows may do here is said by policy.toml in the agent's folder. The server is told of
it and cannot change it.`)}
	t.root.AddCommand(t.enrolCommand(), t.runCommand(), t.sshCommand(), t.kerberosCommand(), t.statusCommand(), t.versionCommand())
	return t.root
}

// line returns the line of one of the agent's commands, for the folder.
func (t *tool) line(command, dir string) string {
	line := t.root.CommandPath() + " " + command
	if dir != DefaultDir() {
		line += " --dir " + cli.QuoteWord(dir)
	}
	return line
}

func dirFlag(cmd *cobra.Command, dir *string) {
	cmd.Flags().StringVar(dir, "dir", DefaultDir(), "the agent's folder")
}

func (t *tool) enrolCommand() *cobra.Command {
	var c EnrolConfig
	var token, tokenFile string
	cmd := &cobra.Command{
		Use:   "enrol --server URL --token TOKEN",
		Short: "make this machine known to a server",
		Long: `Enrol makes keys on this machine and has the server know their public halves. The token
says which environment the machine is for, and carries the server's key, by which the agent
knows the server from then on.

A new policy file allows the programs given by --allow-command, and none without one. In a
shell others may see the token: --token-file reads it from a file, or from standard
input for -.`,
		Example: "  latchkey-agent enrol --server https://latchkey.example.com --token-file - --allow-command '/opt/bots/*'",
		Args:    cli.Exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			text, err := readToken(t.In, token, tokenFile)
			if err != nil {
				return err
			}
			if c.Server == "" {
				return cli.Hint(cli.Usagef("--server is missing: the address of the server"), "--server https://latchkey.example.com")
			}
			c.Token = latchkey.NewSecret(text)
			if _, _, err := Enrol(cmd.Context(), c); err != nil {
				return t.adviseEnrol(err, c)
			}
			st, err := statusOf(c.Dir)
			if err != nil {
				return err
			}
			if err := t.PrintOne(st, st.fields()...); err != nil {
				return err
			}
			if st.SharedUID && st.PolicyError == "" {
				t.Say("flows run as the agent's own user (shared-uid): only credentials that allow it can be used here")
			}
			if st.Policy != nil && len(st.Policy.Commands) == 0 {
				t.Say("no flow can run here yet: add programs to commands in %s, or a server with %s", filepath.Join(c.Dir, policyFile), t.line("ssh add", c.Dir))
			}
			t.Say("enrolled; next: %s", t.line("run", c.Dir))
			return nil
		},
	}
	dirFlag(cmd, &c.Dir)
	f := cmd.Flags()
	f.StringVar(&c.Server, "server", "", "address of the server")
	f.StringVar(&token, "token", "", "enrolment token")
	f.StringVar(&tokenFile, "token-file", "", "file with the enrolment token; - is standard input")
	f.StringVar(&c.Name, "name", "", "name of the machine (default: the host's name)")
	f.StringVarP(&c.Environment, "environment", "e", "", "refuse a token that is for another environment")
	f.StringVar(&c.CAFile, "ca-file", "", "PEM file of the authorities to trust for the server's address")
	f.StringArrayVar(&c.Commands, "allow-command", nil, "program that flows may run: an absolute path, * is any name; may be repeated")
	f.StringVar(&c.RunAs, "run-as", "", "operating system user that flows run as; needs root")
	f.BoolVar(&c.Force, "force", false, "enrol anew, with new keys, though the machine is enrolled")
	f.BoolVar(&c.Insecure, "insecure", false, "allow plain http to another host")
	return cmd
}

// newToken is what to try for want of an enrolment token.
const newToken = "latchkey machine token, as an admin of the environment: it makes one"

func readToken(stdin io.Reader, token, file string) (string, error) {
	switch {
	case token != "" && file != "":
		return "", cli.Usagef("give either --token or --token-file")
	case token != "":
		return token, nil
	case file == "":
		return "", cli.Hint(cli.Usagef("--token or --token-file is missing: the enrolment token"), newToken)
	}
	in := stdin
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return "", fmt.Errorf("read the enrolment token: %w", err)
		}
		defer f.Close()
		in = f
	}
	b, err := io.ReadAll(io.LimitReader(in, maxToken))
	if err != nil {
		return "", fmt.Errorf("read the enrolment token: %w", err)
	}
	if len(b) == 0 {
		return "", cli.Hint(fmt.Errorf("%s holds no enrolment token: it is empty", file), newToken)
	}
	return strings.TrimSpace(string(b)), nil
}

// adviseEnrol adds to the error of an enrolment what to try next.
func (t *tool) adviseEnrol(err error, c EnrolConfig) error {
	switch {
	case errors.Is(err, errBadToken):
		return cli.Hint(err, newToken)
	case errors.Is(err, errEnrolled):
		return cli.Hint(err, t.line("status", c.Dir)+", or a new token and --force to enrol it anew")
	case errors.Is(err, errInUse):
		return cli.Hint(err, t.line("status", c.Dir)+", and to stop the agent that runs")
	}
	e, ok := errors.AsType[*latchkey.Error](err)
	switch {
	case !ok:
		return err
	case e.Code == client.CodeUnreachable:
		return cli.Unreachable(err, c.Server, cli.Remedies{
			Refused:   "--server URL, if the server is at another address",
			Authority: "--ca-file FILE, with the certificate of the authority that the server's comes from",
			Unknown:   "--server URL, with another address",
			Other:     "--server URL, if the server is at another address",
		})
	case strings.HasPrefix(e.Code, "enrolment-token-"):
		return cli.Hint(err, newToken)
	}
	return cli.Hint(err, t.root.CommandPath()+" enrol --help")
}

func (t *tool) runCommand() *cobra.Command {
	var c Config
	var level, format string
	cmd := &cobra.Command{
		Use:   "run",
		Short: "claim and run flows until a signal",
		Long: `Run keeps a session with the server, and claims and runs flows. On SIGTERM or an interrupt
it ends the flows that are under way, reports them, and stops. What it does is in its log,
on standard error.`,
		Args: cli.Exactly(),
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if c.Log, err = newLog(t.Err, level, format); err != nil {
				return err
			}
			if c.Slots < 1 || c.Slots > 100 {
				return cli.Usagef("--slots must be from 1 to 100")
			}
			a, err := New(c)
			if errors.Is(err, errInUse) {
				return cli.Hint(err, t.line("status", c.Dir))
			}
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, a.Close()) }()
			return a.Run(cmd.Context())
		},
	}
	dirFlag(cmd, &c.Dir)
	f := cmd.Flags()
	f.StringVar(&c.Server, "server", "", "address of the server in place of the one enrolled with")
	f.IntVar(&c.Slots, "slots", 1, "runs at the same time")
	f.BoolVar(&c.Insecure, "insecure", false, "allow plain http to another host")
	cli.EnumFlag(cmd, &level, "log-level", "info", "debug, info, warn or error", "debug", "info", "warn", "error")
	cli.EnumFlag(cmd, &format, "log-format", "text", "text or json", "text", "json")
	return cmd
}

func newLog(w io.Writer, level, format string) (*slog.Logger, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return nil, fmt.Errorf("log level: %w", err)
	}
	o := &slog.HandlerOptions{Level: l}
	if format == "json" {
		return slog.New(slog.NewJSONHandler(w, o)), nil
	}
	return slog.New(slog.NewTextHandler(w, o)), nil
}

// A Status is what the agent's folder says.
type Status struct {
	Enrolled    bool               `json:"enrolled"`
	Running     bool               `json:"running"`
	Machine     latchkey.MachineID `json:"machine,omitempty"`
	Name        string             `json:"name,omitempty"`
	Environment string             `json:"environment,omitempty"`
	Server      string             `json:"server,omitempty"`
	SharedUID   bool               `json:"sharedUid"`
	Policy      *latchkey.Policy   `json:"policy,omitempty"`
	PolicyError string             `json:"policyError,omitempty"`
	Trouble     *Trouble           `json:"trouble,omitempty"` // why it cannot work, if it cannot
	Version     string             `json:"version"`
}

func statusOf(dir string) (Status, error) {
	st := Status{Version: Version()}
	s, err := LoadState(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return st, nil
	}
	if err != nil {
		return st, err
	}
	st.Enrolled, st.Machine, st.Name, st.Environment, st.Server = true, s.Machine, s.Name, s.Environment, s.Server
	if unlock, err := lock(dir + string(os.PathSeparator) + lockFile); err != nil {
		st.Running = true
	} else if err := unlock(); err != nil {
		return st, err
	}
	if st.Trouble, err = loadTrouble(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return st, err
	}
	p, err := loadPolicy(dir)
	if err == nil {
		st.Policy = &p.Policy
		st.SharedUID, err = sharedUID(p.Policy)
	}
	if err != nil {
		st.PolicyError = err.Error()
	}
	return st, nil
}

// fields returns the status of an enrolled machine for people.
func (st Status) fields() []cli.Field {
	fields := []cli.Field{
		{"Machine", fmt.Sprintf("%s (%s)", st.Name, st.Machine)}, {"Environment", st.Environment}, {"Server", st.Server},
		{"Running", yesNo(st.Running)}, {"Shared uid", yesNo(st.SharedUID)},
	}
	if st.Trouble != nil {
		fields = append(fields, cli.Field{"Trouble", fmt.Sprintf("since %s: %s", st.Trouble.Since.Local().Format(time.DateTime), st.Trouble.Message)})
	}
	fields = append(fields, cli.Field{"Policy", st.PolicyError})
	if st.Policy == nil {
		return fields
	}
	fields = append(fields, cli.Field{"Commands", cli.Joined(st.Policy.Commands)})
	for _, s := range st.Policy.SSHServers {
		fields = append(fields, cli.Field{"SSH server", s.Name + ": " + cli.Joined(s.Commands)})
	}
	return append(fields, cli.Field{"Kerberos realm", st.Policy.Realm})
}

func (t *tool) statusCommand() *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:   "status",
		Short: "show what this machine is enrolled as and what its policy allows",
		Args:  cli.Exactly(),
		RunE: func(*cobra.Command, []string) error {
			st, err := statusOf(dir)
			if err != nil {
				return err
			}
			if !st.Enrolled && !t.JSON {
				t.Say("no machine is enrolled in %s", dir)
				return nil
			}
			return t.PrintOne(st, st.fields()...)
		},
	}
	dirFlag(cmd, &dir)
	return cmd
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func (t *tool) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "show the program's version", Args: cli.Exactly(),
		RunE: func(*cobra.Command, []string) error {
			v := map[string]string{"version": Version(), "go": runtime.Version(), "platform": platform()}
			return t.PrintOne(v, cli.Field{"Version", v["version"]}, cli.Field{"Go", v["go"]}, cli.Field{"Platform", v["platform"]})
		},
	}
}

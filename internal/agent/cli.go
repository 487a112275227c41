package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"latchkey.dev/latchkey"
)

// maxToken bounds what is read as an enrolment token.
const maxToken = 4 << 10

// A usageError is a mistake in the command line: the program ends with 2.
type usageError struct{ error }

// Main runs the agent's command line and returns the exit code: 0, 1 for a
// failure, 2 for a mistake in the command line.
func Main(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	cmd := Command("latchkey-agent")
	cmd.SetArgs(args)
	cmd.SetIn(stdin)
	cmd.SetOut(stdout)
	cmd.SetErr(stderr)
	cmd.InitDefaultCompletionCmd(args...)
	if completion, _, err := cmd.Find([]string{"completion"}); err == nil && completion != cmd {
		completion.Short = "print the script with which a shell completes commands"
	}
	err := cmd.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	fmt.Fprintf(stderr, "latchkey-agent: %v\n", err)
	if _, ok := errors.AsType[usageError](err); ok {
		return 2
	}
	return 1
}

// Command returns the agent's commands under a name, for the agent's own program
// and for latchkey.
func Command(use string) *cobra.Command {
	cmd := &cobra.Command{
		Use:   use,
		Short: "run flows on this machine",
		Long: `The agent makes this machine one that flows can run on. Enrol it once with a token
from an administrator of the environment, then keep "run" running.

What flows may do here is said by policy.toml in the agent's folder. The server is told of
it and cannot change it.`,
		SilenceUsage: true, SilenceErrors: true,
		Args: knownCommand, SuggestionsMinimumDistance: 2,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	cmd.AddCommand(enrolCommand(), runCommand(), sshCommand(), kerberosCommand(), statusCommand(), versionCommand())
	return cmd
}

// knownCommand refuses a subcommand that there is none of, and offers the one
// that was probably meant.
func knownCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	msg := fmt.Sprintf("there is no command %q", cmd.CommandPath()+" "+args[0])
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		return usageError{fmt.Errorf("%s; did you mean %q?", msg, near[0])}
	}
	return usageError{fmt.Errorf("%s; see %s --help", msg, cmd.CommandPath())}
}

// noArgs refuses arguments as a mistake in the command line.
func noArgs(cmd *cobra.Command, args []string) error {
	if err := cobra.NoArgs(cmd, args); err != nil {
		return usageError{err}
	}
	return nil
}

func dirFlag(cmd *cobra.Command, dir *string) {
	cmd.Flags().StringVar(dir, "dir", DefaultDir(), "the agent's folder")
}

func enrolCommand() *cobra.Command {
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
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			text, err := readToken(cmd.InOrStdin(), token, tokenFile)
			if err != nil {
				return err
			}
			if c.Server == "" {
				return usageError{errors.New("--server must be given, for example --server https://latchkey.example.com")}
			}
			c.Token = latchkey.NewSecret(text)
			s, policy, err := Enrol(cmd.Context(), c)
			if err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			fmt.Fprintf(out, "Enrolled as %s (%s) in the environment %s.\n", s.Name, s.Machine, s.Environment)
			if shared, err := sharedUID(policy); err == nil && shared {
				fmt.Fprintln(out, "Flows run as the agent's own user (shared-uid): only credentials that allow it can be used here.")
			}
			if len(policy.Commands) == 0 {
				fmt.Fprintf(out, "No flow can run here yet: add programs to commands in %s, or a server with %s ssh add.\n", c.Dir+string(os.PathSeparator)+policyFile, cmd.Parent().CommandPath())
			}
			fmt.Fprintf(out, "Next: %s run --dir %s\n", cmd.Parent().CommandPath(), c.Dir)
			return nil
		},
	}
	dirFlag(cmd, &c.Dir)
	f := cmd.Flags()
	f.StringVar(&c.Server, "server", "", "address of the server")
	f.StringVar(&token, "token", "", "enrolment token")
	f.StringVar(&tokenFile, "token-file", "", "file with the enrolment token; - is standard input")
	f.StringVar(&c.Name, "name", "", "name of the machine (default: the host's name)")
	f.StringVar(&c.Environment, "environment", "", "refuse a token that is for another environment")
	f.StringVar(&c.CAFile, "ca-file", "", "PEM file of the authorities to trust for the server's address")
	f.StringArrayVar(&c.Commands, "allow-command", nil, "program that flows may run: an absolute path, * is any name; may be repeated")
	f.StringVar(&c.RunAs, "run-as", "", "operating system user that flows run as; needs root")
	f.BoolVar(&c.Force, "force", false, "enrol anew, with new keys, though the machine is enrolled")
	f.BoolVar(&c.Insecure, "insecure", false, "allow plain http to another host")
	return cmd
}

func readToken(stdin io.Reader, token, file string) (string, error) {
	switch {
	case token != "" && file != "":
		return "", usageError{errors.New("give either --token or --token-file")}
	case token != "":
		return token, nil
	case file == "":
		return "", usageError{errors.New("give the enrolment token with --token or --token-file; an environment admin makes one with: latchkey machine token")}
	}
	in := stdin
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return "", err
		}
		defer f.Close()
		in = f
	}
	b, err := io.ReadAll(io.LimitReader(in, maxToken))
	return strings.TrimSpace(string(b)), err
}

func runCommand() *cobra.Command {
	var c Config
	var level, format string
	cmd := &cobra.Command{
		Use:   "run",
		Short: "claim and run flows until a signal",
		Long: `Run keeps a session with the server, and claims and runs flows. On SIGTERM or an interrupt
it ends the flows that are under way, reports them, and stops.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if c.Log, err = newLog(cmd.ErrOrStderr(), level, format); err != nil {
				return err
			}
			if c.Slots < 1 || c.Slots > 100 {
				return usageError{errors.New("--slots must be from 1 to 100")}
			}
			a, err := New(c)
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
	f.StringVar(&level, "log-level", "info", "debug, info, warn or error")
	f.StringVar(&format, "log-format", "text", "text or json")
	return cmd
}

func newLog(w io.Writer, level, format string) (*slog.Logger, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return nil, usageError{errors.New("--log-level must be debug, info, warn or error")}
	}
	o := &slog.HandlerOptions{Level: l}
	switch format {
	case "text":
		return slog.New(slog.NewTextHandler(w, o)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(w, o)), nil
	}
	return nil, usageError{errors.New("--log-format must be text or json")}
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

func statusCommand() *cobra.Command {
	var dir string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "show what this machine is enrolled as and what its policy allows",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			st, err := statusOf(dir)
			if err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			if asJSON {
				return json.NewEncoder(out).Encode(st)
			}
			if !st.Enrolled {
				fmt.Fprintf(out, "No machine is enrolled in %s.\n", dir)
				return nil
			}
			fmt.Fprintf(out, "machine      %s (%s)\nenvironment  %s\nserver       %s\nrunning      %s\nshared-uid   %s\n", st.Name, st.Machine, st.Environment, st.Server, yesNo(st.Running), yesNo(st.SharedUID))
			if st.Trouble != nil {
				fmt.Fprintf(out, "trouble      since %s: %s\n", st.Trouble.Since.Local().Format(time.DateTime), st.Trouble.Message)
			}
			if st.PolicyError != "" {
				fmt.Fprintf(out, "policy       %s\n", st.PolicyError)
			}
			if st.Policy != nil {
				fmt.Fprintf(out, "commands     %s\n", strings.Join(st.Policy.Commands, " "))
				for _, s := range st.Policy.SSHServers {
					fmt.Fprintf(out, "ssh server   %s: %s\n", s.Name, strings.Join(s.Commands, " "))
				}
				if st.Policy.Realm != "" {
					fmt.Fprintf(out, "kerberos     %s\n", st.Policy.Realm)
				}
			}
			return nil
		},
	}
	dirFlag(cmd, &dir)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "show the program's version", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "Version:   %s\nGo:        %s\nPlatform:  %s\n", Version(), runtime.Version(), platform())
			return err
		},
	}
}

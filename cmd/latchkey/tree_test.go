package main

import (
	"io"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"latchkey.dev/internal/agent"
	"latchkey.dev/internal/cli"
)

// everyCommand calls f with each command that does something.
func everyCommand(f func(*cobra.Command)) {
	var walk func(*cobra.Command)
	walk = func(cmd *cobra.Command) {
		if cmd.Runnable() && !cmd.HasSubCommands() {
			f(cmd)
		}
		for _, c := range cmd.Commands() {
			walk(c)
		}
	}
	walk(newApp(stdio{strings.NewReader(""), io.Discard, io.Discard}, nil).rootCommand())
}

// ofServer are names of arguments and flags that stand for things or values that
// a shell can be offered.
var ofServer = []string{
	"ENVIRONMENT", "VARIABLE", "CREDENTIAL", "MACHINE", "CONNECTION", "FLOW", "RUN", "USER", "VAULT", "SECRET", "ASSIGNMENT", "TOKEN", "PROFILE", "ROLE",
	"environment", "profile", "credential", "machine", "connection", "flow", "run", "vault", "secret-name", "version", "driver", "exposure", "usage",
	"handover", "type", "state", "outcome", "action", "actor", "color", "log-format", "log-level", "server",
}

// TestTree holds all commands to the same form, also those that are added later.
func TestTree(t *testing.T) {
	nothing := reflect.ValueOf(cobra.NoFileCompletions).Pointer()
	offers := func(c completion) bool { return c != nil && reflect.ValueOf(c).Pointer() != nothing }
	shorthands := map[string]string{} // of all commands: shorthand → flag
	kinds := map[string]string{}      // flag → type
	everyCommand(func(cmd *cobra.Command) {
		path := cmd.CommandPath()
		if strings.HasPrefix(path, "latchkey completion") {
			return
		}
		verb := cmd.Name()
		if slices.Contains([]string{"delete", "remove", "revoke", "purge", "retire", "disable", "cancel"}, verb) {
			if f := cmd.Flags().Lookup("yes"); f == nil || f.Value.Type() != "bool" {
				t.Errorf("%s takes something away and has no --yes", path)
			}
		}
		for _, name := range []string{"json", "quiet", "environment", "profile", "color"} {
			// The agent's own program has no profile, and so no environment to work in.
			if cmd.LocalNonPersistentFlags().Lookup(name) != nil && !(name == "environment" && path == "latchkey agent enrol") {
				t.Errorf("%s has a --%s of its own", path, name)
			}
		}
		_, arguments, _ := strings.Cut(cmd.Use, " ")
		for word := range strings.FieldsFuncSeq(arguments, func(r rune) bool { return strings.ContainsRune(" []()", r) }) {
			if strings.HasPrefix(word, "-") {
				break
			}
			if slices.Contains(ofServer, word) && !offers(cmd.ValidArgsFunction) {
				t.Errorf("%s: a shell is offered nothing for %s", path, word)
			}
		}
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			if f.Usage == "" || strings.HasSuffix(f.Usage, ".") || f.Usage[0] >= 'A' && f.Usage[0] <= 'Z' && f.Usage[1] >= 'a' && f.Usage[1] <= 'z' {
				t.Errorf("%s --%s: %q; want a text in lower case without a full stop", path, f.Name, f.Usage)
			}
			if f.Shorthand != "" {
				if other, ok := shorthands[f.Shorthand]; ok && other != f.Name {
					t.Errorf("%s: -%s is --%s, and elsewhere --%s", path, f.Shorthand, f.Name, other)
				}
				shorthands[f.Shorthand] = f.Name
			}
			kind := strings.TrimSuffix(strings.TrimSuffix(f.Value.Type(), "Slice"), "Array")
			if other, ok := kinds[f.Name]; ok && other != kind && !(f.Name == "password" || f.Name == "disabled" || f.Name == "version") {
				t.Errorf("%s: --%s is a %s, and elsewhere a %s", path, f.Name, kind, other)
			}
			kinds[f.Name] = kind
			c, _ := cmd.GetFlagCompletionFunc(f.Name)
			if slices.Contains(ofServer, f.Name) && f.Value.Type() != "bool" && !offers(c) {
				t.Errorf("%s: a shell is offered nothing for --%s", path, f.Name)
			}
		})
	})
}

// TestWithoutServer carries out each command that lists, without a
// server: what they do without one is the same for all.
func TestWithoutServer(t *testing.T) {
	everyCommand(func(cmd *cobra.Command) {
		if cmd.Name() != "list" && cmd.Name() != "export" || cmd.Parent().Name() == "profile" || strings.HasPrefix(cmd.CommandPath(), "latchkey agent ") {
			return
		}
		args := strings.Fields(cmd.CommandPath())[1:]
		for word := range strings.FieldsSeq(cmd.Use) {
			if strings.ToUpper(word) == word {
				args = append(args, "x")
			}
		}
		a, _, _ := testApp(t, "")
		var stdout, stderr strings.Builder
		code := run(append(args, "--json"), stdio{strings.NewReader(""), &stdout, &stderr}, a.Environ)
		if want := "latchkey: no server is chosen\nlatchkey: try: latchkey login"; code != 1 || stdout.Len() > 0 || !strings.HasPrefix(stderr.String(), want) {
			t.Errorf("%s = %d, %q, %q; want 1, nothing and %q", cmd.CommandPath(), code, stdout.String(), stderr.String(), want)
		}
	})
}

// TestAgentsProgram compares latchkey agent with the agent's own program: both
// have the same commands, which know the same flags and print to the same form.
func TestAgentsProgram(t *testing.T) {
	flags := func(root *cobra.Command) map[string][]string {
		all := map[string][]string{}
		for _, path := range []string{"", "enrol", "run", "ssh add", "ssh list", "status", "version"} {
			cmd, rest, err := root.Find(strings.Fields(path))
			if err != nil || len(rest) > 0 {
				t.Fatalf("%s has no %s: %v", root.CommandPath(), path, err)
			}
			cmd.LocalNonPersistentFlags().VisitAll(func(f *pflag.Flag) {
				all[path] = append(all[path], "-"+f.Shorthand+" --"+f.Name+" "+f.Value.Type()+" "+f.Usage)
			})
			for _, name := range []string{"json", "quiet", "color"} {
				f := cmd.Flag(name)
				if f == nil {
					t.Fatalf("%s has no --%s", cmd.CommandPath(), name)
				}
				all[path] = append(all[path], "-"+f.Shorthand+" --"+f.Name+" "+f.Usage)
			}
		}
		return all
	}
	own := agent.Program(&cli.Console{Program: "latchkey-agent", Out: io.Discard})
	part, _, err := newApp(stdio{strings.NewReader(""), io.Discard, io.Discard}, nil).rootCommand().Find([]string{"agent"})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(flags(own), flags(part)); diff != "" {
		t.Errorf("flags of latchkey-agent (-) and of latchkey agent (+):\n%s", diff)
	}
	if own.Version == "" {
		t.Error("latchkey-agent has no --version")
	}

	dir := t.TempDir()
	for _, tt := range []struct {
		args           []string
		code           int
		stdout, stderr string
	}{
		{[]string{"agent", "status", "--dir", dir, "--json"}, 0, "{\n  \"enrolled\": false,", ""},
		{[]string{"agent", "status", "--dir", dir, "-q"}, 0, "", ""},
		{[]string{"agent", "ssh", "list", "--dir", dir, "--json"}, 1, "", "\nlatchkey: try: latchkey agent enrol --dir " + dir},
		{[]string{"agent", "enrol", "--server", "http://127.0.0.1:1"}, 2, "", "\nlatchkey: try: latchkey machine token"},
		{[]string{"agent", "stats"}, 2, "", "there is no command \"latchkey agent stats\"; did you mean \"status\"?\nlatchkey: try: latchkey agent --help"},
	} {
		a, _, _ := testApp(t, "")
		var stdout, stderr strings.Builder
		code := run(tt.args, stdio{strings.NewReader(""), &stdout, &stderr}, a.Environ)
		if code != tt.code || !strings.HasPrefix(stdout.String(), tt.stdout) || !strings.Contains(stderr.String(), tt.stderr) || (stderr.Len() > 0) != (tt.stderr != "") {
			t.Errorf("%q = %d, %q, %q; want %d, %q, %q", tt.args, code, stdout.String(), stderr.String(), tt.code, tt.stdout, tt.stderr)
		}
	}
}

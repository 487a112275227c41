package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
)

const cliDoc = "../../docs/cli.md"

// TestCLIDoc compares docs/cli.md with the help of the program.
func TestCLIDoc(t *testing.T) {
	a := newApp(stdio{strings.NewReader(""), io.Discard, io.Discard}, nil)
	var b strings.Builder
	b.WriteString("# The command line\n\nThis page is made from the program's help: go test ./cmd/latchkey -run TestCLIDoc -update\n")
	document(&b, a.rootCommand())
	got := b.String()
	if *update {
		if err := os.WriteFile(cliDoc, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(cliDoc)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s is not what the help says; run this test with -update:\n%s", cliDoc, diff)
	}
}

// document writes a command and those below it.
func document(b *strings.Builder, cmd *cobra.Command) {
	if cmd.Hidden || cmd.Name() == "help" || cmd.HasParent() && cmd.Parent().Name() == "completion" {
		return
	}
	fmt.Fprintf(b, "\n## %s\n\n", cmd.CommandPath())
	text := cmd.Long
	if text == "" {
		text = strings.ToUpper(cmd.Short[:1]) + cmd.Short[1:] + "."
	}
	fmt.Fprintf(b, "```\n%s\n", text)
	if cmd.Runnable() && cmd.HasParent() && !cmd.DisableFlagsInUseLine { // not a group
		fmt.Fprintf(b, "\nUsage:\n  %s\n", cmd.UseLine())
	}
	if cmd.Example != "" {
		fmt.Fprintf(b, "\nExamples:\n%s\n", cmd.Example)
	}
	if dir := cmd.Flags().Lookup("dir"); dir != nil {
		dir.DefValue = "" // it depends on who asks
	}
	if flags := cmd.LocalFlags().FlagUsages(); flags != "" {
		fmt.Fprintf(b, "\nFlags:\n%s", flags)
	}
	b.WriteString("```\n")
	for _, c := range cmd.Commands() {
		document(b, c)
	}
}

// TestHelp holds every command to the same form.
func TestHelp(t *testing.T) {
	a := newApp(stdio{strings.NewReader(""), io.Discard, io.Discard}, nil)
	var walk func(*cobra.Command)
	walk = func(cmd *cobra.Command) {
		if cmd.Short == "" || strings.HasSuffix(cmd.Short, ".") {
			t.Errorf("%s: Short is %q; want a text without a full stop", cmd.CommandPath(), cmd.Short)
		}
		if cmd.Args == nil {
			t.Errorf("%s does not check its arguments", cmd.CommandPath())
		}
		for line := range strings.Lines(cmd.Long) {
			if n := len([]rune(line)); n > 100 {
				t.Errorf("%s: a line of Long has %d characters", cmd.CommandPath(), n)
			}
		}
		for _, c := range cmd.Commands() {
			walk(c)
		}
	}
	walk(a.rootCommand())
}

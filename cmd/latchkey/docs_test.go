package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"

	"latchkey.dev/latchkey"
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

// runErrors returns the values of the constants RunErr… of package latchkey, in
// alphabetical order.
func runErrors(t *testing.T) []string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "../../latchkey/run.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var codes []string
	ast.Inspect(file, func(n ast.Node) bool {
		v, ok := n.(*ast.ValueSpec)
		if !ok || !strings.HasPrefix(v.Names[0].Name, "RunErr") {
			return true
		}
		code, err := strconv.Unquote(v.Values[0].(*ast.BasicLit).Value)
		if err != nil {
			t.Fatal(err)
		}
		codes = append(codes, code)
		return true
	})
	slices.Sort(codes)
	return codes
}

// TestRunErrors compares the codes by which runs fail with the table of the guide
// and with what the API says of them.
func TestRunErrors(t *testing.T) {
	guide, err := os.ReadFile("../../docs/guide.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(guide), "\n## 8. Runs\n")
	section, _, _ = strings.Cut(section, "\n## ")
	var listed []string
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z-]+)` \\|").FindAllStringSubmatch(section, -1) {
		listed = append(listed, m[1])
	}
	field, _ := reflect.TypeFor[latchkey.RunError]().FieldByName("Code")
	said := strings.NewReplacer("; of the drivers ssh and kerberos also ", ", ", " or ", ", ").Replace(field.Tag.Get("doc"))
	want := runErrors(t)
	for doc, got := range map[string][]string{"section 8 of docs/guide.md": listed, "latchkey.RunError": strings.Split(said, ", ")} {
		slices.Sort(got)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s lists other codes than the constants (-want +got):\n%s", doc, diff)
		}
	}
}

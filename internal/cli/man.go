package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// OwnManual is the annotation of a command that is a program of its own as well,
// whose manual it has.
const OwnManual = "own-manual"

// ManCommand returns the command that writes the program's manual, of the
// commands that fresh returns.
func (c *Console) ManCommand(fresh func() *cobra.Command) *cobra.Command {
	return &cobra.Command{
		Use:   "man DIR",
		Short: "write the manual pages into a folder",
		Long: `Man writes a page for each command of the program, in section 1: the same text as
--help. The pages are the same for everybody who has this version, so that a package
can hold them.`,
		Example: "  " + c.Program + " man /usr/local/share/man/man1",
		Args:    Exactly("DIR"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := os.MkdirAll(args[0], 0o755); err != nil {
				return fmt.Errorf("make folder: %w", err)
			}
			pages := manPages(fresh())
			for name, page := range pages {
				if err := os.WriteFile(filepath.Join(args[0], name), []byte(page), 0o644); err != nil {
					return fmt.Errorf("write manual: %w", err)
				}
			}
			c.Say("wrote %d pages", len(pages))
			return nil
		},
	}
}

// manPages returns the manual of a program's commands, by file name.
func manPages(root *cobra.Command) map[string]string {
	root.InitDefaultVersionFlag()
	pages := map[string]string{}
	var walk func(*cobra.Command)
	walk = func(cmd *cobra.Command) {
		if cmd.Hidden || cmd.Name() == "help" || cmd.Annotations[OwnManual] != "" {
			return
		}
		pages[manName(cmd)+".1"] = manPage(cmd)
		for _, c := range cmd.Commands() {
			walk(c)
		}
	}
	walk(root)
	return pages
}

func manName(cmd *cobra.Command) string { return strings.ReplaceAll(cmd.CommandPath(), " ", "-") }

// manPage returns one page in the macros of man(7). Help is text with lines and
// columns of its own, which are kept.
func manPage(cmd *cobra.Command) string {
	var b strings.Builder
	fmt.Fprintf(&b, ".TH %s 1 \"\" \"Latchkey\" \"Latchkey manual\"\n", quoteRoff(strings.ToUpper(manName(cmd))))
	fmt.Fprintf(&b, ".SH NAME\n%s \\- %s\n", roff(manName(cmd)), roff(cmd.Short))
	if use := cmd.UseLine(); cmd.Runnable() && !cmd.HasAvailableSubCommands() {
		fmt.Fprintf(&b, ".SH SYNOPSIS\n.nf\n%s\n.fi\n", roff(use))
	} else if cmd.HasAvailableSubCommands() {
		fmt.Fprintf(&b, ".SH SYNOPSIS\n.nf\n%s\n.fi\n", roff(cmd.CommandPath()+" COMMAND [flags]"))
	}
	section := func(name, text string) {
		if text = strings.TrimRight(text, "\n"); text != "" {
			fmt.Fprintf(&b, ".SH %s\n.nf\n%s\n.fi\n", name, roff(text))
		}
	}
	section("DESCRIPTION", cmd.Long)
	section("EXAMPLES", cmd.Example)
	flags := func(name string, set *pflag.FlagSet) {
		var list strings.Builder
		set.VisitAll(func(f *pflag.Flag) {
			if f.Hidden || f.Name == "help" {
				return
			}
			dashes := "--" + f.Name
			if f.Shorthand != "" {
				dashes = "-" + f.Shorthand + ", " + dashes
			}
			kind, usage := pflag.UnquoteUsage(f)
			if kind != "" {
				dashes += " " + kind
			}
			// Some defaults depend on who asks.
			if f.DefValue != "" && f.DefValue != "false" && f.DefValue != "0" && f.DefValue != "[]" && f.DefValue != "0s" && !IsFileFlag(f.Name) {
				usage += " (default " + f.DefValue + ")"
			}
			fmt.Fprintf(&list, ".TP\n\\fB%s\\fR\n%s\n", roff(dashes), roff(usage))
		})
		if list.Len() > 0 {
			fmt.Fprintf(&b, ".SH %s\n%s", name, list.String())
		}
	}
	flags("OPTIONS", cmd.NonInheritedFlags())
	flags("OPTIONS OF EVERY COMMAND", cmd.InheritedFlags())
	var below []string
	for _, c := range cmd.Commands() {
		if !c.Hidden && c.Name() != "help" {
			below = append(below, fmt.Sprintf(".TP\n\\fB%s\\fR(1)\n%s\n", roff(manName(c)), roff(c.Short)))
		}
	}
	if len(below) > 0 {
		b.WriteString(".SH COMMANDS\n" + strings.Join(below, ""))
	}
	if parent := cmd.Parent(); parent != nil {
		fmt.Fprintf(&b, ".SH SEE ALSO\n\\fB%s\\fR(1)\n", roff(manName(parent)))
	}
	return b.String()
}

// roff escapes a text so that it is shown as it is: no character is an escape,
// no line a request, and hyphens can be copied.
func roff(s string) string {
	s = strings.NewReplacer(`\`, `\e`, `-`, `\-`, `'`, `\(aq`, "`", "\\(ga", `^`, `\(ha`, `~`, `\(ti`, `"`, `\(dq`, "\t", "    ").Replace(s)
	lines := strings.Split(s, "\n")
	for i, line := range lines {
		if strings.HasPrefix(line, ".") {
			lines[i] = `\&` + line
		}
	}
	var b strings.Builder
	for _, r := range strings.Join(lines, "\n") {
		if r < utf8.RuneSelf {
			b.WriteRune(r)
		} else {
			fmt.Fprintf(&b, `\[u%04X]`, r)
		}
	}
	return b.String()
}

func quoteRoff(s string) string { return `"` + roff(s) + `"` }

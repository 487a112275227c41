package cli

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Group returns a command that only has subcommands.
func Group(use, short, long string, aliases ...string) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, Long: long, Aliases: aliases,
		Args: cobra.ArbitraryArgs, RunE: GroupRun, DisableFlagsInUseLine: true,
		SuggestionsMinimumDistance: 2,
	}
}

// GroupRun is what a command that only has subcommands does: without one it
// shows its help.
func GroupRun(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return cmd.Help()
	}
	msg := fmt.Sprintf("there is no command %q", cmd.CommandPath()+" "+args[0])
	if s := cmd.SuggestionsFor(args[0]); len(s) > 0 {
		msg += fmt.Sprintf("; did you mean %q?", s[0])
	}
	return Hint(Usagef("%s", msg), cmd.CommandPath()+" --help")
}

// Exactly returns the check for a command's positional arguments, whose names
// the message shows.
func Exactly(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) < len(names):
			is := "is"
			if len(names)-len(args) > 1 {
				is = "are"
			}
			return Hint(Usagef("%s %s missing", strings.Join(names[len(args):], " and "), is), cmd.CommandPath()+" --help")
		case len(args) > len(names):
			return Hint(Usagef("%q is one argument too many", args[len(names)]), cmd.CommandPath()+" --help")
		}
		return nil
	}
}

// AtMost returns the check for positional arguments that may be left out.
func AtMost(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		return Exactly(names[:min(len(args), len(names))]...)(cmd, args)
	}
}

// AtLeast takes the named arguments, and more like the last.
func AtLeast(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		return Exactly(names...)(cmd, args[:min(len(args), len(names))])
	}
}

// FlagError makes a faulty flag a mistake of the command line, and offers the
// flag that was probably meant.
func FlagError(cmd *cobra.Command, err error) error {
	try := cmd.CommandPath() + " --help"
	if e, ok := errors.AsType[*pflag.InvalidValueError](err); ok {
		err = flagFault(e)
	}
	if e, ok := errors.AsType[*pflag.NotExistError](err); ok {
		var names []string
		cmd.Flags().VisitAll(func(f *pflag.Flag) { names = append(names, f.Name) })
		if near := Nearest(e.GetSpecifiedName(), names); near != "" {
			try = "--" + near + ", if that is what you mean"
		}
	}
	return Hint(UsageError{err}, try)
}

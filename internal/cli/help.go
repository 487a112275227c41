package cli

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// HelpCommand shows the help of a command, or a page that belongs to none.
func HelpCommand() *cobra.Command {
	find := func(cmd *cobra.Command, words []string) (*cobra.Command, []string) {
		found, rest, err := cmd.Root().Find(words)
		if err != nil {
			return cmd.Root(), words
		}
		return found, rest
	}
	return &cobra.Command{
		Use: "help [COMMAND]", Short: "show the help of a command, or another page of help", Args: cobra.ArbitraryArgs,
		DisableFlagsInUseLine: true,
		// What is wrong with the environment is told of here, so it must not stand in the way.
		PersistentPreRunE: func(*cobra.Command, []string) error { return nil },
		ValidArgsFunction: func(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
			found, rest := find(cmd, args)
			if len(rest) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			var names []string
			for _, c := range found.Commands() {
				if !c.Hidden && strings.HasPrefix(c.Name(), typed) {
					names = append(names, cobra.CompletionWithDesc(c.Name(), c.Short))
				}
			}
			return names, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			found, rest := find(cmd, args)
			if len(rest) > 0 {
				return GroupRun(found, rest)
			}
			found.InitDefaultHelpFlag()
			return found.Help()
		},
	}
}

// AddCompletion adds the command that prints scripts for shells, with a help of
// the program's own.
func AddCompletion(root *cobra.Command, short, long string) {
	root.CompletionOptions.HiddenDefaultCmd = false
	root.InitDefaultCompletionCmd()
	cmd, _, err := root.Find([]string{"completion"})
	if err != nil {
		panic(err) // it has just been added
	}
	cmd.Short, cmd.Long = short, long
	cmd.RunE, cmd.Args = GroupRun, cobra.ArbitraryArgs
	for _, shell := range cmd.Commands() {
		shell.Short = "print the script for " + shell.Name()
		shell.Args = Exactly()
	}
}

// CompleteNothingElse keeps shells from offering files where none are meant.
func CompleteNothingElse(cmd *cobra.Command) {
	if cmd.ValidArgsFunction == nil && len(cmd.ValidArgs) == 0 && !cmd.HasSubCommands() && !takesFiles(cmd) {
		cmd.ValidArgsFunction = cobra.NoFileCompletions
	}
	cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
		if _, ok := cmd.GetFlagCompletionFunc(f.Name); !ok && !IsFileFlag(f.Name) && f.NoOptDefVal == "" {
			_ = cmd.RegisterFlagCompletionFunc(f.Name, cobra.NoFileCompletions) // it has the flag
		}
	})
	for _, c := range cmd.Commands() {
		CompleteNothingElse(c)
	}
}

// takesFiles reports whether a command's arguments may be files.
func takesFiles(cmd *cobra.Command) bool {
	for _, word := range []string{"FILE", "DIR", "COMMAND", "PROGRAM"} {
		if slices.Contains(strings.FieldsFunc(cmd.Use, func(r rune) bool { return strings.ContainsRune(" []…", r) }), word) {
			return true
		}
	}
	return false
}

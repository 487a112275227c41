package main

import (
	"github.com/spf13/cobra"

	"latchkey.dev/internal/cli"
)

const completionHelp = `Completion prints a script with which a shell completes commands, flags and the names
of things on the server: those of the profile, the environment and the server that the
line says so far. The server is asked each time, for two seconds at most.

  bash         latchkey completion bash > /etc/bash_completion.d/latchkey
               for yourself: ~/.local/share/bash-completion/completions/latchkey
               (needs the package bash-completion)
  zsh          latchkey completion zsh > "${fpath[1]}/_latchkey"
               (needs: autoload -U compinit; compinit)
  fish         latchkey completion fish > ~/.config/fish/completions/latchkey.fish
  PowerShell   latchkey completion powershell | Out-String | Invoke-Expression
               (in the file $PROFILE to keep it)

Then start a new shell. For the shell that you are in: source <(latchkey completion bash)`

// helpCompletion adds the command that prints scripts for shells.
func helpCompletion(root *cobra.Command) {
	root.InitDefaultCompletionCmd()
	cmd, _, err := root.Find([]string{"completion"})
	if err != nil {
		panic(err) // it has just been added
	}
	cmd.Short = "print the script with which a shell completes commands and names"
	cmd.Long = completionHelp
	cmd.RunE, cmd.Args = cli.GroupRun, cobra.ArbitraryArgs
	for _, shell := range cmd.Commands() {
		shell.Short = "print the script for " + shell.Name()
		shell.Args = cli.Exactly()
	}
}

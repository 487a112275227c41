package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"latchkey.dev/internal/cli"
)

// manCommand is the one of this program. The agent's commands have their pages
// under the name of the agent's own program.
func (a *app) manCommand() *cobra.Command {
	cmd := a.ManCommand(func() *cobra.Command { return newApp(stdio{}, nil).rootCommand() })
	cmd.Long += " The pages of latchkey agent come from latchkey-agent man."
	return cmd
}

// helpTopics are pages of help that belong to no command.
func helpTopics() []*cobra.Command {
	topic := func(name, short, long string) *cobra.Command {
		return &cobra.Command{Use: name, Short: short, Long: long, Args: cobra.ArbitraryArgs, DisableFlagsInUseLine: true}
	}
	return []*cobra.Command{
		topic("exit-codes", "what the exit code says", fmt.Sprintf(`The exit code is

  0    it was done
  %d    it failed; standard error says why, and often what to try next
  %d    the command line or an environment variable is wrong, and nothing was done
  %d  it was interrupted

run start --wait, run show --watch, connection test, variable check and credential check,
and variable create and update and credential create with --wait, also end with 1 when
the run did not succeed or the test or the check did not pass, and doctor when something
does not work. An answer to a question that is not the one asked for, such
as another word than yes or two passwords that differ, is 1, and nothing was done.
vault env ends with the code of its command.`, cli.CodeFailed, cli.CodeUsage, cli.CodeInterrupted)),
		topic("environment-variables", "variables that commands read", `Flags come before environment variables, and these before the profile.

  LATCHKEY_SERVER        address of the server
  LATCHKEY_TOKEN         API token
  LATCHKEY_TOKEN_FILE    file that holds the API token
  LATCHKEY_ENVIRONMENT   environment to work in
  LATCHKEY_PROFILE       profile to use
  NO_COLOR               no colours, if it is not empty
  TERM                   no colours and nothing that moves, if it is dumb
  XDG_CONFIG_HOME        where the file of profiles is: latchkey/config.json in this
                         folder, or in ~/.config
  HTTPS_PROXY, NO_PROXY  the proxy to reach the server by

latchkey serve has a variable for each of its flags, which its help names. A LATCHKEY_
variable that no command knows is an error: it is probably a misspelt one.`),
		topic("output", "what commands print, and where", `Results go to standard output, everything else to standard error: messages, questions,
progress and errors. --quiet leaves messages and progress out.

With --json results are JSON: an object, or an array for a list; audit export, run list
--watch and run show --watch write a JSON object per line. What is shown once, such as
a token, is printed bare where it is the whole result, to go into a pipe or a file.

On a terminal tables are cut to its width, states are coloured, and what is under way
moves. In pipes and files nothing is cut to a width, coloured or moved; --color always
colours there too. Names and messages from a server are shown without control
characters; in JSON these are escaped.

What takes something away asks first, on a terminal only. Elsewhere it takes --yes. Only
run cancel and vault certificate cancel do not ask.`),
	}
}

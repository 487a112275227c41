package main

import (
	"github.com/spf13/cobra"

	"latchkey.dev/internal/agent"
	"latchkey.dev/internal/cli"
)

// agentCommand is the machine's program as a part of this one.
func (a *app) agentCommand() *cobra.Command {
	cmd := agent.Command("agent")
	cmd.Short = "the agent, which makes this machine one that flows run on"
	cmd.Args, cmd.RunE = cobra.ArbitraryArgs, cli.GroupRun
	cmd.SetFlagErrorFunc(cli.FlagError)
	for _, sub := range cmd.Commands() {
		sub.SetFlagErrorFunc(cli.FlagError)
		sub.Args = cli.Exactly()
	}
	return cmd
}

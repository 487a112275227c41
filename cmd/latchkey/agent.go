package main

import (
	"github.com/spf13/cobra"

	"latchkey.dev/internal/agent"
)

// agentCommand is the machine's program as a part of this one.
func (a *app) agentCommand() *cobra.Command {
	cmd := agent.Command("agent")
	cmd.Short = "the agent, which makes this machine one that flows run on"
	cmd.Args, cmd.RunE = cobra.ArbitraryArgs, groupRun
	cmd.SetFlagErrorFunc(adviseFlag)
	for _, sub := range cmd.Commands() {
		sub.SetFlagErrorFunc(adviseFlag)
		sub.Args = exactly()
	}
	return cmd
}

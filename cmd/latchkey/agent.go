package main

import (
	"strings"

	"github.com/spf13/cobra"

	"latchkey.dev/internal/agent"
	"latchkey.dev/internal/cli"
)

// agentCommand is the machine's program as a part of this one.
func (a *app) agentCommand() *cobra.Command {
	cmd := agent.Command("agent", &a.Console)
	cmd.Annotations = map[string]string{cli.OwnManual: "latchkey-agent"}
	cmd.Short = "the agent, which makes this machine one that flows run on"
	for _, sub := range cmd.Commands() {
		// The profile may know what its own program does not.
		if sub.Flags().Lookup("server") != nil {
			completeFlag(sub, "server", a.completeServers())
		}
		if sub.Flags().Lookup("environment") != nil {
			completeFlag(sub, "environment", a.completeEnvironments())
		}
	}
	return cmd
}

// ofAgent reports whether a command is one of the agent's.
func ofAgent(cmd *cobra.Command) bool { return strings.HasPrefix(cmd.CommandPath(), "latchkey agent ") }

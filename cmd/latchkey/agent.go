package main

import "github.com/spf13/cobra"

func (a *app) agentCommand() *cobra.Command { return group("agent", "the agent of this machine", "") }

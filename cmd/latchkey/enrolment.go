package main

import (
	"context"
	"iter"
	"strconv"

	"github.com/spf13/cobra"

	"latchkey.dev/client"
	"latchkey.dev/internal/cli"
	"latchkey.dev/latchkey"
)

func (a *app) enrolmentList() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "list the enrolment tokens that can still be used", Args: cli.Exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, env, err := a.within(cmd.Context())
			if err != nil {
				return err
			}
			var machines map[latchkey.MachineID]string
			var groups map[latchkey.MachineGroupID]string
			if !a.JSON {
				machines, groups = namesOf(c.Machines(cmd.Context(), env), machineKey), namesOf(c.MachineGroups(cmd.Context(), env), machineGroupKey)
			}
			members := a.members(cmd.Context(), c, env)
			return cli.PrintList(&a.Console, c.EnrolmentTokens(cmd.Context(), env), []string{"ID", "USES LEFT", "EXPIRES", "FOR MACHINE", "FOR GROUP", "MADE BY"},
				func(t latchkey.EnrolmentToken) []string {
					return []string{string(t.ID), strconv.Itoa(t.Uses), cli.When(t.ExpiresAt), nameOr(machines, t.Machine), nameOr(groups, t.MachineGroup), nameOr(members, t.CreatedBy)}
				})
		},
	}
}

func (a *app) enrolmentRevoke() *cobra.Command {
	cmd := &cobra.Command{
		Use: "revoke TOKEN", Short: "end an enrolment token at once, by its id; machines that it has enrolled stay", Args: cli.Exactly("TOKEN"),
		ValidArgsFunction: completeNames(a, func(ctx context.Context, c *client.Client, env string) iter.Seq2[latchkey.EnrolmentToken, error] {
			return c.EnrolmentTokens(ctx, env)
		}, func(t latchkey.EnrolmentToken) string { return string(t.ID) }),
	}
	sure := cli.SureFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, env, err := a.within(cmd.Context())
		if err != nil {
			return err
		}
		if err := a.Confirm(cmd.Context(), *sure, "revoke the enrolment token "+args[0]); err != nil {
			return err
		}
		return c.RevokeEnrolmentToken(cmd.Context(), env, latchkey.EnrolmentTokenID(args[0]))
	}
	return cmd
}

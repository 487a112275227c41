package main

import (
	"context"
	"iter"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"latchkey.dev/client"
	"latchkey.dev/internal/cli"
	"latchkey.dev/latchkey"
)

func flowFields(f latchkey.Flow) []cli.Field {
	return []cli.Field{
		{"ID", string(f.ID)}, {"Name", f.Name}, {"Description", f.Description}, {"Revision", strconv.Itoa(f.Revision)},
		{"Command", cli.QuoteCommand(f.Command)}, {"Timeout", f.Timeout.String()}, {"Handover", string(f.Handover)},
		{"Credentials", cli.Joined(f.Credentials)}, {"Created", cli.When(f.CreatedAt)}, {"Revised", cli.When(f.UpdatedAt)},
	}
}

// flowFlags are the flags of create and update.
type flowFlags struct {
	description, handover string
	timeout               time.Duration
	credentials           []string
}

func (v *flowFlags) add(a *app, cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&v.description, "description", "", "description")
	f.DurationVar(&v.timeout, "timeout", latchkey.DefaultTimeout, "time limit of a run, at most 24h")
	cli.EnumFlag(cmd, &v.handover, "handover", string(latchkey.HandoverNone), "how it wants credentials: none, descriptor, file or environment",
		latchkey.HandoverNone, latchkey.HandoverDescriptor, latchkey.HandoverFile, latchkey.HandoverEnvironment)
	f.StringSliceVar(&v.credentials, "credential", nil, "desktop-flow credential that it may ask for; repeatable")
	completeFlag(cmd, "credential", a.completeCredentials())
}

func (a *app) flowCommand() *cobra.Command {
	cmd := cli.Group("flow", "what machines run, in immutable revisions", `A flow is a program with arguments, a time limit and the desktop-flow credentials it may
ask for. No shell is involved. Every change is a new revision.`, "flows")
	cmd.AddCommand(a.flowCreate(), a.flowList(), a.flowShow(), a.flowUpdate(), a.flowDelete())
	a.addSharing(cmd, shared{kind: latchkey.KindFlow, resolve: asText(flowID), complete: a.completeFlows()})
	return cmd
}

func (a *app) completeFlows() completion {
	return completeNames(a, func(ctx context.Context, c *client.Client, env string) iter.Seq2[latchkey.Flow, error] {
		return c.Flows(ctx, env)
	}, func(f latchkey.Flow) string { return described(f.Name, short(cli.QuoteCommand(f.Command))) })
}

// nameAndCommand checks for NAME -- PROGRAM ARGUMENTS….
func nameAndCommand(name string, needed bool) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		dash := cmd.ArgsLenAtDash()
		switch {
		case dash == 1 && len(args) > 1, !needed && len(args) == 1:
			return nil
		case dash < 0 && len(args) > 1:
			return cli.Hint(cli.Usagef("the flow's command goes after --"), cmd.CommandPath()+" "+cli.QuoteWord(args[0])+" -- "+cli.QuoteCommand(args[1:]))
		}
		return cli.Hint(cli.Usagef("%s and, after --, the flow's command are needed", name), cmd.CommandPath()+" --help")
	}
}

func (a *app) flowCreate() *cobra.Command {
	var v flowFlags
	cmd := &cobra.Command{
		Use: "create NAME [flags] -- PROGRAM [ARGUMENT…]", Short: "make a flow", DisableFlagsInUseLine: true,
		Example: `  latchkey flow create "Month end" --timeout 10m --handover descriptor -- /opt/erp/month-end --verbose`,
		Args:    nameAndCommand("NAME", true),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, env, err := a.within(cmd.Context())
			if err != nil {
				return err
			}
			in := latchkey.FlowCreate{
				Name: args[0], Command: args[1:], Description: v.description,
				Timeout: latchkey.Duration(v.timeout), Handover: latchkey.Handover(v.handover),
			}
			if in.Credentials, err = several(v.credentials, func(ref string) (latchkey.CredentialID, error) { return credentialID(cmd.Context(), c, env, ref) }); err != nil {
				return err
			}
			f, err := c.CreateFlow(cmd.Context(), env, in)
			if err != nil {
				return err
			}
			return a.PrintOne(f, flowFields(f)...)
		},
	}
	v.add(a, cmd)
	return cmd
}

func (a *app) flowList() *cobra.Command {
	var v listFlags
	cmd := &cobra.Command{
		Use: "list", Short: "list the flows", Args: cli.Exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, env, err := a.within(cmd.Context())
			if err != nil {
				return err
			}
			return cli.PrintList(&a.Console, c.Flows(cmd.Context(), env, v.options()...), []string{"NAME", "REVISION", "COMMAND", "HANDOVER", "ID"},
				func(f latchkey.Flow) []string {
					return []string{f.Name, strconv.Itoa(f.Revision), short(cli.QuoteCommand(f.Command)), string(f.Handover), string(f.ID)}
				})
		},
	}
	v.add(cmd, latchkey.SortOrders...)
	return cmd
}

func (a *app) flowShow() *cobra.Command {
	var revision int
	cmd := &cobra.Command{
		Use: "show FLOW", Short: "show a flow in its newest or another revision", Args: cli.Exactly("FLOW"), ValidArgsFunction: a.completeFlows(),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, env, err := a.within(cmd.Context())
			if err != nil {
				return err
			}
			id, err := flowID(cmd.Context(), c, env, args[0])
			if err != nil {
				return err
			}
			var f latchkey.Flow
			if revision > 0 {
				f, err = c.FlowRevision(cmd.Context(), env, id, revision)
			} else {
				f, err = c.Flow(cmd.Context(), env, id)
			}
			if err != nil {
				return err
			}
			return a.PrintOne(f, flowFields(f)...)
		},
	}
	cmd.Flags().IntVar(&revision, "revision", 0, "number of the revision; default: the newest")
	return cmd
}

func (a *app) flowUpdate() *cobra.Command {
	var v flowFlags
	var name string
	cmd := &cobra.Command{
		Use: "update FLOW [flags] [-- PROGRAM [ARGUMENT…]]", Short: "add a revision that differs in what is given", DisableFlagsInUseLine: true,
		Args: nameAndCommand("FLOW", false), ValidArgsFunction: a.completeFlows(),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, env, err := a.within(cmd.Context())
			if err != nil {
				return err
			}
			id, err := flowID(cmd.Context(), c, env, args[0])
			if err != nil {
				return err
			}
			old, err := c.Flow(cmd.Context(), env, id)
			if err != nil {
				return err
			}
			in := latchkey.FlowCreate{
				Name: old.Name, Description: old.Description, Command: old.Command,
				Timeout: old.Timeout, Handover: old.Handover, Credentials: old.Credentials,
			}
			f := cmd.Flags()
			if len(args) > 1 {
				in.Command = args[1:]
			}
			if f.Changed("name") {
				in.Name = name
			}
			if f.Changed("description") {
				in.Description = v.description
			}
			if f.Changed("timeout") {
				in.Timeout = latchkey.Duration(v.timeout)
			}
			if f.Changed("handover") {
				in.Handover = latchkey.Handover(v.handover)
			}
			if f.Changed("credential") {
				if in.Credentials, err = several(v.credentials, func(ref string) (latchkey.CredentialID, error) { return credentialID(cmd.Context(), c, env, ref) }); err != nil {
					return err
				}
			}
			flow, err := c.ReviseFlow(cmd.Context(), env, id, in)
			if err != nil {
				return err
			}
			return a.PrintOne(flow, flowFields(flow)...)
		},
	}
	cmd.Flags().StringVar(&name, "name", "", "name")
	v.add(a, cmd)
	return cmd
}

func (a *app) flowDelete() *cobra.Command {
	cmd := &cobra.Command{Use: "delete FLOW", Short: "remove a flow; its runs stay on record", Args: cli.Exactly("FLOW"), ValidArgsFunction: a.completeFlows()}
	return a.deletes(cmd, shared{kind: latchkey.KindFlow, resolve: asText(flowID)})
}

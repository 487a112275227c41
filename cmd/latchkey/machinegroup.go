package main

import (
	"context"
	"iter"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"latchkey.dev/client"
	"latchkey.dev/internal/cli"
	"latchkey.dev/latchkey"
)

func machineGroupFields(g latchkey.MachineGroup) []cli.Field {
	return []cli.Field{
		{"ID", string(g.ID)}, {"Name", g.Name}, {"Description", g.Description}, {"Machines", strconv.Itoa(g.Machines)}, {"Online", strconv.Itoa(g.Online)},
		{"Running", strconv.Itoa(g.Running)}, {"Queued", strconv.Itoa(g.Queued)}, {"Your role", string(g.MyRole)}, {"Owner", ownerName(g.OwnedBy)}, {"Created", cli.When(g.CreatedAt)},
	}
}

func (a *app) machineGroupCommand() *cobra.Command {
	cmd := cli.Group("machine-group", "machines that stand in for one another", `A run through a connection on a machine group goes to whichever of its machines asks first
and may execute it: the others take the work of one that is disabled, away or busy
elsewhere. Secrets are sealed to the machine that has claimed the run. A machine is in one
group at most, and up to 50 are in a group. Sharing a group is sharing the right to run
flows on its machines.`, "machine-groups")
	cmd.AddCommand(a.machineGroupCreate(), a.machineGroupList(), a.machineGroupShow(), a.machineGroupUpdate(),
		a.machineGroupMembers(), a.machineGroupAdd(), a.machineGroupRemove(), a.machineGroupDelete())
	a.addSharing(cmd, shared{kind: latchkey.KindMachineGroup, resolve: asText(machineGroupID), complete: a.completeMachineGroups()})
	return cmd
}

func (a *app) completeMachineGroups() completion {
	return completeNames(a, func(ctx context.Context, c *client.Client, env string) iter.Seq2[latchkey.MachineGroup, error] {
		return c.MachineGroups(ctx, env)
	}, func(g latchkey.MachineGroup) string { return described(g.Name, g.Description) })
}

func (a *app) machineGroupCreate() *cobra.Command {
	var in latchkey.MachineGroupCreate
	cmd := &cobra.Command{
		Use: "create NAME", Short: "make a machine group, which has no machine yet", Args: cli.Exactly("NAME"),
		Example: `  latchkey machine-group create robots
  latchkey machine-group add robots bot1 bot2`,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, env, err := a.within(cmd.Context())
			if err != nil {
				return err
			}
			in.Name = args[0]
			g, err := c.CreateMachineGroup(cmd.Context(), env, in)
			if err != nil {
				return err
			}
			return a.PrintOne(g, machineGroupFields(g)...)
		},
	}
	cmd.Flags().StringVar(&in.Description, "description", "", "description")
	return cmd
}

func (a *app) machineGroupList() *cobra.Command {
	var v listFlags
	cmd := &cobra.Command{
		Use: "list", Short: "list the machine groups", Args: cli.Exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, env, err := a.within(cmd.Context())
			if err != nil {
				return err
			}
			return cli.PrintList(&a.Console, c.MachineGroups(cmd.Context(), env, v.options()...), []string{"NAME", "MACHINES", "ONLINE", "RUNNING", "QUEUED", "YOUR ROLE", "OWNER", "ID"},
				func(g latchkey.MachineGroup) []string {
					return []string{
						g.Name, strconv.Itoa(g.Machines), strconv.Itoa(g.Online), strconv.Itoa(g.Running), strconv.Itoa(g.Queued), string(g.MyRole), ownerName(g.OwnedBy), string(g.ID),
					}
				})
		},
	}
	v.add(cmd, latchkey.SortOrders...)
	return cmd
}

func (a *app) machineGroupShow() *cobra.Command {
	return &cobra.Command{
		Use: "show MACHINE-GROUP", Short: "show a machine group", Args: cli.Exactly("MACHINE-GROUP"), ValidArgsFunction: a.completeMachineGroups(),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, env, id, err := a.machineGroup(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			g, err := c.MachineGroup(cmd.Context(), env, id)
			if err != nil {
				return err
			}
			return a.PrintOne(g, machineGroupFields(g)...)
		},
	}
}

// machineGroup returns the machine group that an argument names.
func (a *app) machineGroup(ctx context.Context, ref string) (c *client.Client, env string, id latchkey.MachineGroupID, err error) {
	if c, env, err = a.within(ctx); err != nil {
		return nil, "", "", err
	}
	id, err = machineGroupID(ctx, c, env, ref)
	return c, env, id, err
}

func (a *app) machineGroupUpdate() *cobra.Command {
	var name, description string
	cmd := &cobra.Command{
		Use: "update MACHINE-GROUP", Short: "change a machine group's name or description", Args: cli.Exactly("MACHINE-GROUP"), ValidArgsFunction: a.completeMachineGroups(),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, env, id, err := a.machineGroup(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			var in latchkey.MachineGroupUpdate
			if cmd.Flags().Changed("name") {
				in.Name = &name
			}
			if cmd.Flags().Changed("description") {
				in.Description = &description
			}
			g, err := c.UpdateMachineGroup(cmd.Context(), env, id, in)
			if err != nil {
				return err
			}
			return a.PrintOne(g, machineGroupFields(g)...)
		},
	}
	cmd.Flags().StringVar(&name, "name", "", "name")
	cmd.Flags().StringVar(&description, "description", "", "description")
	return cmd
}

func (a *app) machineGroupMembers() *cobra.Command {
	return &cobra.Command{
		Use: "members MACHINE-GROUP", Short: "list the machines of a group, and how each can sign in", Args: cli.Exactly("MACHINE-GROUP"), ValidArgsFunction: a.completeMachineGroups(),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, env, id, err := a.machineGroup(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return cli.PrintList(&a.Console, c.GroupMachines(cmd.Context(), env, id), []string{"NAME", "STATUS", "SHARED UID", "DRIVERS", "SSH SERVERS", "KERBEROS REALM", "ID"},
				func(m latchkey.GroupMachine) []string {
					return []string{m.Name, string(m.Status), cli.Yes(m.SharedUID), cli.Joined(m.Drivers), strings.Join(m.SSHServers, ", "), m.Realm, string(m.Machine)}
				})
		},
	}
}

func (a *app) machineGroupAdd() *cobra.Command {
	return &cobra.Command{
		Use: "add MACHINE-GROUP MACHINE...", Short: "put machines into a group", Args: cli.AtLeast("MACHINE-GROUP", "MACHINE"),
		Long: `Add puts machines into a group. Whoever may use the group can run flows on them from then
on. It takes at least the role co-owner on the group and on the machine, or the role admin
in the environment. Connections on the machine itself go on working.`,
		ValidArgsFunction: firstThen(a.completeMachineGroups(), a.completeMachines()),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, env, id, err := a.machineGroup(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			machines, err := several(args[1:], func(ref string) (latchkey.MachineID, error) { return machineID(cmd.Context(), c, env, ref) })
			if err != nil {
				return err
			}
			for _, m := range machines {
				if err := c.AddGroupMachine(cmd.Context(), env, id, m); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

func (a *app) machineGroupRemove() *cobra.Command {
	cmd := &cobra.Command{
		Use: "remove MACHINE-GROUP MACHINE...", Short: "take machines out of a group", Args: cli.AtLeast("MACHINE-GROUP", "MACHINE"),
		Long: `Remove takes machines out of a group, at once: runs of the group that are under way there
get no secret any more. Who may edit the group may do so, and who may edit the machine. To
let runs come to their end first, disable the machine: the others of the group take what
comes then.`,
		ValidArgsFunction: firstThen(a.completeMachineGroups(), a.completeMachines()),
	}
	sure := cli.SureFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, env, id, err := a.machineGroup(cmd.Context(), args[0])
		if err != nil {
			return err
		}
		machines, err := several(args[1:], func(ref string) (latchkey.MachineID, error) { return machineID(cmd.Context(), c, env, ref) })
		if err != nil {
			return err
		}
		if err := a.Confirm(cmd.Context(), *sure, "take "+strings.Join(args[1:], ", ")+" out of the machine group "+args[0]); err != nil {
			return err
		}
		for _, m := range machines {
			if err := c.RemoveGroupMachine(cmd.Context(), env, id, m); err != nil {
				return err
			}
		}
		return nil
	}
	return cmd
}

// firstThen completes the first argument by one completion, and each other by another.
func firstThen(head, rest completion) completion {
	return func(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
		if len(args) == 0 {
			return head(cmd, args, typed)
		}
		return rest(cmd, nil, typed)
	}
}

func (a *app) machineGroupDelete() *cobra.Command {
	cmd := &cobra.Command{Use: "delete MACHINE-GROUP", Short: "remove a machine group; its machines stay", Args: cli.Exactly("MACHINE-GROUP"), ValidArgsFunction: a.completeMachineGroups()}
	return a.deletes(cmd, shared{kind: latchkey.KindMachineGroup, resolve: asText(machineGroupID)})
}

package main

import (
	"context"
	"iter"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"latchkey.dev/client"
	"latchkey.dev/internal/cli"
	"latchkey.dev/latchkey"
)

func connectionFields(c latchkey.Connection) []cli.Field {
	refusals := ""
	if c.Refusals > 0 {
		refusals = strconv.Itoa(c.Refusals) + " in a row"
	}
	return []cli.Field{
		{"ID", string(c.ID)}, {"Name", c.Name}, {"Machine", string(c.Target.Machine)}, {"Machine group", string(c.Target.MachineGroup)}, {"Driver", string(c.Driver)}, {"SSH server", c.SSHServer},
		{"Refused", refusals}, {"Credential", string(c.Credential)}, {"Owner", string(c.Owner)}, {"Created", cli.When(c.CreatedAt)},
	}
}

func (a *app) connectionCommand() *cobra.Command {
	cmd := cli.Group("connection", "credentials bound to machines and machine groups: sign in there as this", `A connection is a credential bound to a target: sign in there as this. Its creator
owns it, and owns the runs through it.`, "connections", "conn")
	cmd.AddCommand(a.connectionCreate(), a.connectionList(), a.connectionShow(), a.connectionUpdate(), a.connectionTest(), a.connectionDelete())
	a.addSharing(cmd, shared{kind: latchkey.KindConnection, resolve: asText(connectionID), complete: a.completeConnections()})
	return cmd
}

func (a *app) completeConnections() completion {
	return completeNames(a, func(ctx context.Context, c *client.Client, env string) iter.Seq2[latchkey.Connection, error] {
		return c.Connections(ctx, env)
	}, func(c latchkey.Connection) string { return described(c.Name, string(c.Driver)) })
}

// completeSSHServers offers the SSH servers of a machine, of a group's machines, or of
// all.
func (a *app) completeSSHServers(machine, group *string) completion {
	return func(cmd *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
		c, env, err := a.within(cmd.Context())
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		var offered []string
		named := func(ref, name, id string) bool { return ref == "" || ref == name || ref == id }
		for m, err := range first(maxCompletions, c.Machines(cmd.Context(), env)) {
			if err != nil {
				break
			}
			for _, s := range m.Policy.SSHServers {
				if named(*machine, m.Name, string(m.ID)) && named(*group, m.MachineGroupName, string(m.MachineGroup)) && strings.HasPrefix(s.Name, typed) && !slices.Contains(offered, s.Name) {
					offered = append(offered, s.Name)
				}
			}
		}
		return offered, cobra.ShellCompDirectiveNoFileComp
	}
}

func (a *app) connectionCreate() *cobra.Command {
	var machine, group, credential, driver, sshServer string
	cmd := &cobra.Command{
		Use: "create NAME (--machine MACHINE | --machine-group GROUP) --credential CREDENTIAL", Short: "bind a credential to a machine or a machine group", Args: cli.Exactly("NAME"),
		Long: `Create binds a credential to a machine. With the driver ssh the machine's agent signs in
to an SSH server that the machine's own configuration names, as the credential's user,
and flows run there; latchkey machine show says which servers there are. With the driver
kerberos it signs in to the realm that the configuration names, with the credential's
password or certificate, and flows run on the machine with the tickets.

On a machine group, whichever machine asks first executes a run; all of them sign in as the
same user. One whose configuration does not name the SSH server leaves the run to others;
latchkey machine-group members says which servers each has.`,
		Example: `  latchkey connection create 'ERP on bot1' --machine bot1 --credential 'ERP bot'
  latchkey connection create 'ERP by SSH' --machine bot1 --credential 'ERP bot' --driver ssh --ssh-server erp
  latchkey connection create 'ERP on any' --machine-group robots --credential 'ERP bot'
  latchkey connection create 'Realm on bot1' --machine bot1 --credential 'Realm bot' --driver kerberos`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if (machine == "") == (group == "") || credential == "" {
				return cli.Hint(cli.Usagef("--credential and one of --machine and --machine-group are needed"), cmd.CommandPath()+" --help")
			}
			c, env, err := a.within(cmd.Context())
			if err != nil {
				return err
			}
			in := latchkey.ConnectionCreate{Name: args[0], Driver: latchkey.Driver(driver), SSHServer: sshServer}
			if sshServer != "" && !cmd.Flags().Changed("driver") {
				in.Driver = latchkey.DriverSSH
			}
			if group != "" {
				in.Target.MachineGroup, err = machineGroupID(cmd.Context(), c, env, group)
			} else {
				in.Target.Machine, err = machineID(cmd.Context(), c, env, machine)
			}
			if err != nil {
				return err
			}
			if in.Credential, err = credentialID(cmd.Context(), c, env, credential); err != nil {
				return err
			}
			conn, err := c.CreateConnection(cmd.Context(), env, in)
			if err != nil {
				return err
			}
			return a.printConnection(cmd.Context(), c, env, conn)
		},
	}
	f := cmd.Flags()
	f.StringVar(&machine, "machine", "", "machine to run on")
	f.StringVar(&group, "machine-group", "", "in place of --machine: group on whose machines to run")
	f.StringVar(&credential, "credential", "", "credential to sign in with")
	cli.EnumFlag(cmd, &driver, "driver", string(latchkey.DriverNone), "how the agent signs in; none: the flow runs as the user that the machine's configuration names; ssh: it runs on an SSH server, as the credential's user; kerberos: as with none, with tickets of the credential's user", latchkey.Drivers...)
	f.StringVar(&sshServer, "ssh-server", "", "SSH server of the machine's configuration, and with it the driver ssh; may be left out when there is one only")
	completeFlag(cmd, "machine", a.completeMachines())
	completeFlag(cmd, "machine-group", a.completeMachineGroups())
	completeFlag(cmd, "credential", a.completeCredentials())
	completeFlag(cmd, "ssh-server", a.completeSSHServers(&machine, &group))
	return cmd
}

func (a *app) connectionList() *cobra.Command {
	var v listFlags
	cmd := &cobra.Command{
		Use: "list", Short: "list the connections", Args: cli.Exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, env, err := a.within(cmd.Context())
			if err != nil {
				return err
			}
			var machines map[latchkey.MachineID]string
			var groups map[latchkey.MachineGroupID]string
			var credentials map[latchkey.CredentialID]string
			if !a.JSON {
				machines, credentials = namesOf(c.Machines(cmd.Context(), env), machineKey), namesOf(c.Credentials(cmd.Context(), env), credentialKey)
				groups = namesOf(c.MachineGroups(cmd.Context(), env), machineGroupKey)
			}
			return cli.PrintList(&a.Console, c.Connections(cmd.Context(), env, v.options()...), []string{"NAME", "MACHINE OR GROUP", "DRIVER", "CREDENTIAL", "ID"},
				func(c latchkey.Connection) []string {
					return []string{c.Name, nameOr(machines, c.Target.Machine) + nameOr(groups, c.Target.MachineGroup), string(c.Driver), nameOr(credentials, c.Credential), string(c.ID)}
				})
		},
	}
	v.add(cmd, latchkey.SortOrders...)
	return cmd
}

func (a *app) connectionShow() *cobra.Command {
	return &cobra.Command{
		Use: "show CONNECTION", Short: "show a connection", Args: cli.Exactly("CONNECTION"), ValidArgsFunction: a.completeConnections(),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, env, err := a.within(cmd.Context())
			if err != nil {
				return err
			}
			id, err := connectionID(cmd.Context(), c, env, args[0])
			if err != nil {
				return err
			}
			conn, err := c.Connection(cmd.Context(), env, id)
			if err != nil {
				return err
			}
			return a.printConnection(cmd.Context(), c, env, conn)
		},
	}
}

func (a *app) connectionUpdate() *cobra.Command {
	var name string
	cmd := &cobra.Command{
		Use: "update CONNECTION", Short: "change a connection's name", Args: cli.Exactly("CONNECTION"), ValidArgsFunction: a.completeConnections(),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, env, err := a.within(cmd.Context())
			if err != nil {
				return err
			}
			id, err := connectionID(cmd.Context(), c, env, args[0])
			if err != nil {
				return err
			}
			var in latchkey.ConnectionUpdate
			if cmd.Flags().Changed("name") {
				in.Name = &name
			}
			conn, err := c.UpdateConnection(cmd.Context(), env, id, in)
			if err != nil {
				return err
			}
			return a.printConnection(cmd.Context(), c, env, conn)
		},
	}
	cmd.Flags().StringVar(&name, "name", "", "name")
	return cmd
}

func (a *app) connectionDelete() *cobra.Command {
	cmd := &cobra.Command{Use: "delete CONNECTION", Short: "remove a connection", Args: cli.Exactly("CONNECTION"), ValidArgsFunction: a.completeConnections()}
	return a.deletes(cmd, shared{kind: latchkey.KindConnection, resolve: asText(connectionID)})
}

package main

import (
	"context"
	"fmt"
	"iter"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"latchkey.dev/client"
	"latchkey.dev/internal/cli"
	"latchkey.dev/latchkey"
)

func machineFields(m latchkey.Machine) []cli.Field {
	return []cli.Field{
		{"ID", string(m.ID)}, {"Name", m.Name}, {"Description", m.Description}, {"Status", string(m.Status)}, {"Reason", m.StatusReason},
		{"Shared uid", cli.Yes(m.SharedUID)}, {"SSH servers", sshServers(m.Policy)}, {"Kerberos realm", m.Policy.Realm}, {"System", m.OS}, {"Agent", m.AgentVersion},
		{"Commands", cli.Joined(m.Policy.Commands)}, {"Drivers", cli.Joined(m.Policy.Drivers)}, {"Handovers", cli.Joined(m.Policy.Handovers)}, {"Runs as", m.Policy.RunAs},
		{"Signing key", m.SignKeyID}, {"Enrolled", cli.When(m.EnrolledAt)}, {"Last seen", cli.WhenPtr(m.LastSeenAt)},
		{"Group", named(map[latchkey.MachineGroupID]string{m.MachineGroup: m.MachineGroupName}, m.MachineGroup)}, {"Running", strconv.Itoa(m.Running)}, {"Queued", strconv.Itoa(m.Queued)},
	}
}

// sshServers lists the SSH servers of a machine, with what may run there.
func sshServers(p latchkey.Policy) string {
	lines := make([]string, len(p.SSHServers))
	for i, s := range p.SSHServers {
		lines[i] = s.Name + ": " + cli.Joined(s.Commands)
	}
	return strings.Join(lines, "\n")
}

func (a *app) machineCommand() *cobra.Command {
	cmd := cli.Group("machine", "where flows run", `A machine runs the Latchkey agent, has its own keys, and runs what its local policy
file allows. It joins an environment with an enrolment token.`, "machines")
	cmd.AddCommand(a.machineToken(), a.machineList(), a.machineShow(), a.machineRename(),
		a.machineDisable(), a.machineEnable(), a.machineDelete())
	a.addSharing(cmd, shared{kind: latchkey.KindMachine, resolve: asText(machineID), complete: a.completeMachines()})
	return cmd
}

func (a *app) completeMachines() completion {
	return completeNames(a, func(ctx context.Context, c *client.Client, env string) iter.Seq2[latchkey.Machine, error] {
		return c.Machines(ctx, env)
	}, func(m latchkey.Machine) string { return described(m.Name, string(m.Status)) })
}

func (a *app) machineToken() *cobra.Command {
	var expires time.Duration
	var uses int
	var bare bool
	var machine, group, runAs string
	var commands []string
	cmd := &cobra.Command{
		Use:   "token",
		Short: "make an enrolment token and show how to use it",
		Long: `Token makes a token with which machines join the environment, and prints the commands
to type on the machine. The token is shown once; it carries the server's key, so that
the agent knows whom it talks to.

With --machine it enrols that machine anew, with new keys: it keeps its id and its
connections, and leaves quarantine. With --machine-group new machines join the group.`,
		Example: `  latchkey machine token --allow-command '/opt/bots/*' --run-as bots
  latchkey machine token --machine bot1`,
		Args: cli.Exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if machine != "" && (len(commands) > 0 || runAs != "") {
				return cli.Usagef("--allow-command and --run-as are for new machines: one that is enrolled anew with --machine keeps its policy file")
			}
			to, err := a.connect()
			if err != nil {
				return err
			}
			c, env, err := a.within(cmd.Context())
			if err != nil {
				return err
			}
			ask := latchkey.EnrolmentTokenCreate{ExpiresIn: latchkey.Duration(expires), Uses: uses}
			if machine != "" {
				if ask.Machine, err = machineID(cmd.Context(), c, env, machine); err != nil {
					return err
				}
			}
			if group != "" {
				if ask.MachineGroup, err = machineGroupID(cmd.Context(), c, env, group); err != nil {
					return err
				}
			}
			t, err := c.CreateEnrolmentToken(cmd.Context(), env, ask)
			if err != nil {
				return err
			}
			switch {
			case a.JSON:
				return a.PrintJSON(t)
			case bare:
				return a.reveal(latchkey.NewSecret(t.Token))
			}
			enrol := "latchkey-agent enrol --server " + cli.QuoteWord(c.Server()) + " --token " + cli.QuoteWord(cli.CleanLine(t.Token))
			for _, program := range commands {
				enrol += " --allow-command " + cli.QuoteWord(program)
			}
			if runAs != "" {
				enrol += " --run-as " + cli.QuoteWord(runAs)
			}
			if machine != "" {
				enrol += " --force"
			}
			if to.caFile != "" {
				enrol += " --ca-file ca.pem"
				a.Say("copy %s to the machine, as ca.pem in the folder where you type this: the agent trusts the server by it", cli.QuoteWord(to.caFile))
			}
			a.Say("on the machine, as the user that the agent runs as:")
			if _, err := fmt.Fprintf(a.Out, "%s\nlatchkey-agent run\n", enrol); err != nil {
				return err
			}
			if len(commands) == 0 && machine == "" {
				a.Say("flows run there only what its policy file allows: add --allow-command '/opt/bots/*', or edit the file")
			}
			machines := "one machine"
			if t.Uses > 1 {
				machines = fmt.Sprintf("%d machines", t.Uses)
			}
			a.Say("the token enrols %s, until %s; it is shown only now", machines, cli.When(t.ExpiresAt))
			return nil
		},
	}
	f := cmd.Flags()
	f.DurationVar(&expires, "expires-in", time.Hour, "how long the token can be used, at most 24h")
	f.IntVar(&uses, "uses", 1, "how many machines it enrols")
	f.StringVar(&machine, "machine", "", "enrol this machine anew, by id or name")
	f.StringVar(&group, "machine-group", "", "group that new machines join, by id or name")
	f.StringArrayVar(&commands, "allow-command", nil, "program for the printed command: an absolute path, * is any name; may be repeated")
	f.StringVar(&runAs, "run-as", "", "user for the printed command, as whom flows run there")
	f.BoolVar(&bare, "bare", false, "print the token only, for a pipe or a file")
	cmd.MarkFlagsMutuallyExclusive("machine", "machine-group")
	completeFlag(cmd, "machine", a.completeMachines())
	completeFlag(cmd, "machine-group", a.completeMachineGroups())
	cmd.AddCommand(a.enrolmentList(), a.enrolmentRevoke())
	return cmd
}

func (a *app) machineList() *cobra.Command {
	var v listFlags
	cmd := &cobra.Command{
		Use: "list", Short: "list the machines", Args: cli.Exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, env, err := a.within(cmd.Context())
			if err != nil {
				return err
			}
			return cli.PrintList(&a.Console, c.Machines(cmd.Context(), env, v.options()...), []string{"NAME", "STATUS", "SHARED UID", "RUNNING", "QUEUED", "LAST SEEN", "GROUP", "ID"},
				func(m latchkey.Machine) []string {
					return []string{m.Name, string(m.Status), cli.Yes(m.SharedUID), strconv.Itoa(m.Running), strconv.Itoa(m.Queued), cli.WhenPtr(m.LastSeenAt), m.MachineGroupName, string(m.ID)}
				})
		},
	}
	v.add(cmd, latchkey.NameOrders...)
	return cmd
}

func (a *app) machineShow() *cobra.Command {
	return &cobra.Command{
		Use: "show MACHINE", Short: "show a machine and what its policy allows", Args: cli.Exactly("MACHINE"), ValidArgsFunction: a.completeMachines(),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, env, err := a.within(cmd.Context())
			if err != nil {
				return err
			}
			id, err := machineID(cmd.Context(), c, env, args[0])
			if err != nil {
				return err
			}
			m, err := c.Machine(cmd.Context(), env, id)
			if err != nil {
				return err
			}
			return a.PrintOne(m, machineFields(m)...)
		},
	}
}

func (a *app) machineRename() *cobra.Command {
	var description string
	cmd := &cobra.Command{
		Use: "rename MACHINE NAME", Short: "give a machine another name", Args: cli.Exactly("MACHINE", "NAME"), ValidArgsFunction: a.completeMachines(),
		RunE: func(cmd *cobra.Command, args []string) error {
			in := latchkey.MachineUpdate{Name: &args[1]}
			if cmd.Flags().Changed("description") {
				in.Description = &description
			}
			return a.updateMachine(cmd.Context(), args[0], in)
		},
	}
	cmd.Flags().StringVar(&description, "description", "", "description")
	return cmd
}

func (a *app) machineDisable() *cobra.Command {
	cmd := &cobra.Command{
		Use: "disable MACHINE", Short: "let a machine claim no run and get no secret, at once", Args: cli.Exactly("MACHINE"), ValidArgsFunction: a.completeMachines(),
		Long: `Disable keeps a machine from claiming runs and from getting secrets, also for runs that are
under way; a flow that has its secret already goes on. Its connections and what waits for it
stay: machine enable takes it back.`,
	}
	sure := cli.SureFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, env, err := a.within(cmd.Context())
		if err != nil {
			return err
		}
		id, err := machineID(cmd.Context(), c, env, args[0])
		if err != nil {
			return err
		}
		if err := a.Confirm(cmd.Context(), *sure, "disable the machine "+args[0]+", so that it claims no run and its runs get no secret any more"); err != nil {
			return err
		}
		disabled := true
		return a.updateMachine(cmd.Context(), string(id), latchkey.MachineUpdate{Disabled: &disabled})
	}
	return cmd
}

func (a *app) machineEnable() *cobra.Command {
	return &cobra.Command{
		Use: "enable MACHINE", Short: "let a disabled machine work again", Args: cli.Exactly("MACHINE"), ValidArgsFunction: a.completeMachines(),
		RunE: func(cmd *cobra.Command, args []string) error {
			disabled := false
			return a.updateMachine(cmd.Context(), args[0], latchkey.MachineUpdate{Disabled: &disabled})
		},
	}
}

func (a *app) updateMachine(ctx context.Context, ref string, in latchkey.MachineUpdate) error {
	c, env, err := a.within(ctx)
	if err != nil {
		return err
	}
	id, err := machineID(ctx, c, env, ref)
	if err != nil {
		return err
	}
	m, err := c.UpdateMachine(ctx, env, id, in)
	if err != nil {
		return err
	}
	return a.PrintOne(m, machineFields(m)...)
}

func (a *app) machineDelete() *cobra.Command {
	cmd := &cobra.Command{Use: "delete MACHINE", Short: "remove a machine; its agent is refused from then on", Args: cli.Exactly("MACHINE"), ValidArgsFunction: a.completeMachines()}
	return a.deletes(cmd, shared{kind: latchkey.KindMachine, resolve: asText(machineID)})
}

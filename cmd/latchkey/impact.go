package main

import (
	"context"
	"fmt"
	"iter"
	"strings"

	"github.com/spf13/cobra"

	"latchkey.dev/client"
	"latchkey.dev/internal/cli"
	"latchkey.dev/latchkey"
)

// remove deletes a thing.
func remove(ctx context.Context, c *client.Client, env string, kind latchkey.Kind, id string, f latchkey.Force) error {
	switch kind {
	case latchkey.KindVariable:
		return c.DeleteVariable(ctx, env, id, f)
	case latchkey.KindCredential:
		return c.DeleteCredential(ctx, env, latchkey.CredentialID(id), f)
	case latchkey.KindMachine:
		return c.DeleteMachine(ctx, env, latchkey.MachineID(id), f)
	case latchkey.KindMachineGroup:
		return c.DeleteMachineGroup(ctx, env, latchkey.MachineGroupID(id), f)
	case latchkey.KindConnection:
		return c.DeleteConnection(ctx, env, latchkey.ConnectionID(id), f)
	}
	return c.DeleteFlow(ctx, env, latchkey.FlowID(id), f)
}

// removeUsed deletes a thing whether or not something uses it.
func removeUsed(ctx context.Context, c *client.Client, env string, kind latchkey.Kind, id string) error {
	impact, err := c.Impact(ctx, env, kind, id, latchkey.ImpactDelete, "")
	if err != nil {
		return err
	}
	return remove(ctx, c, env, kind, id, latchkey.Force{Force: impact.InUse, Hash: impact.Hash})
}

// deletes makes cmd one that deletes a thing, once what that would do is shown and
// confirmed.
func (a *app) deletes(cmd *cobra.Command, s shared) *cobra.Command {
	cmd.Long = fmt.Sprintf(`Delete shows what would stop working, and asks. What is in use, or was within 30 days, is
deleted with --force only, or when that is confirmed at the terminal. A deleted
%s can be restored for 30 days: see latchkey deleted.`, s.kind)
	var force bool
	var hash string
	sure := cli.SureFlag(cmd)
	cmd.Flags().BoolVar(&force, "force", false, "delete it though it is in use")
	cmd.Flags().StringVar(&hash, "impact", "", "with --force: hash of the impact that was decided on; what the impact is now, unless given")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		ctx := cmd.Context()
		c, env, id, err := a.thing(ctx, s, args[0])
		if err != nil {
			return err
		}
		if hash != "" && !force {
			return cli.Usagef("--impact goes with --force")
		}
		impact, err := c.Impact(ctx, env, s.kind, id, latchkey.ImpactDelete, "")
		if err != nil {
			return err
		}
		what := fmt.Sprintf("delete the %s %s", s.kind, args[0])
		if !impact.InUse {
			if err := a.Confirm(ctx, *sure, what); err != nil {
				return err
			}
			return remove(ctx, c, env, s.kind, id, latchkey.Force{})
		}
		a.sayImpact(impact)
		if !force && (*sure || !a.CanAsk()) {
			return cli.Hint(cli.Usagef("the %s %s is in use: nothing was deleted; add --force to delete it all the same", s.kind, args[0]),
				fmt.Sprintf("latchkey %s impact %s", word(s.kind), cli.QuoteWord(args[0])))
		}
		if err := a.Confirm(ctx, *sure, what+", though it is in use"); err != nil {
			return err
		}
		return remove(ctx, c, env, s.kind, id, latchkey.Force{Force: true, Hash: firstOf(hash, impact.Hash)})
	}
	return cmd
}

// sayImpact tells what an action would do.
func (a *app) sayImpact(i latchkey.Impact) {
	for _, line := range impactLines(i) {
		a.Say("%s", line)
	}
}

// impactLines says what an action would do, a line each.
func impactLines(i latchkey.Impact) (lines []string) {
	for _, e := range i.Effects {
		name := fmt.Sprintf("%s %q", e.Kind, e.Name)
		if e.Owner != "" {
			name += " of " + e.Owner
		}
		if e.LastUsedAt != nil {
			name += ", last used " + cli.When(*e.LastUsedAt)
		}
		lines = append(lines, name+": "+e.What)
	}
	if i.Hidden > 0 {
		lines = append(lines, fmt.Sprintf("%d more that you may not see", i.Hidden))
	}
	for _, o := range i.Observed {
		lines = append(lines, fmt.Sprintf("%d runs of %s within 30 days, the last %s", o.Runs, firstOf(o.FlowName, "a flow that you may not see"), cli.When(o.LastAt)))
	}
	for _, l := range i.Losses {
		lines = append(lines, fmt.Sprintf("%s %s loses the role %s", l.Kind, l.Name, l.Role))
	}
	if i.Open > 0 {
		lines = append(lines, fmt.Sprintf("runs that wait or are under way: %d", i.Open))
	}
	if i.Truncated {
		lines = append(lines, "and more, which is not listed")
	}
	return lines
}

// addGraph adds the commands that say what things of a kind use, and what uses them.
func (a *app) addGraph(cmd *cobra.Command, s shared) {
	s.argument = argumentOf(s.kind)
	graph := func(name, short string, ask func(*client.Client, context.Context, string, latchkey.Kind, string) (latchkey.Dependencies, error)) *cobra.Command {
		return &cobra.Command{
			Use: name + " " + s.argument, Short: short, Args: cli.Exactly(s.argument), ValidArgsFunction: s.complete,
			RunE: func(cmd *cobra.Command, args []string) error {
				c, env, id, err := a.thing(cmd.Context(), s, args[0])
				if err != nil {
					return err
				}
				d, err := ask(c, cmd.Context(), env, s.kind, id)
				if err != nil {
					return err
				}
				return a.printDependencies(d)
			},
		}
	}
	cmd.AddCommand(
		graph("dependencies", "show what the "+string(s.kind)+" uses, down to the secrets", (*client.Client).Dependencies),
		graph("dependents", "show what uses the "+string(s.kind), (*client.Client).Dependents),
		a.impactCommand(s))
}

func (a *app) printDependencies(d latchkey.Dependencies) error {
	if a.JSON {
		return a.PrintJSON(d)
	}
	names := map[string]string{d.Component.ID: d.Component.Name}
	for _, c := range d.Components {
		names[c.ID] = c.Name
	}
	how := map[string]string{} // component → how it is connected, nearest first
	for _, e := range d.Dependencies {
		for id, text := range map[string]string{e.To: "used by " + names[e.From] + " as " + e.As, e.From: "uses " + names[e.To] + " as " + e.As} {
			if id != d.Component.ID && how[id] == "" {
				how[id] = text
			}
		}
	}
	items := func(yield func(latchkey.Component, error) bool) {
		for _, c := range d.Components {
			if !yield(c, nil) {
				return
			}
		}
	}
	err := cli.PrintList(&a.Console, items, []string{"KIND", "NAME", "HOW", "LAST USED", "ID"}, func(c latchkey.Component) []string {
		last := ""
		if c.LastUsedAt != nil {
			last = cli.When(*c.LastUsedAt)
		}
		return []string{string(c.Kind), c.Name, how[c.ID], last, c.ID}
	})
	if err != nil {
		return err
	}
	if d.Hidden > 0 {
		a.Say("%d more that you may not see", d.Hidden)
	}
	if d.Truncated {
		a.Say("and more: only the first %d are listed", latchkey.MaxComponents)
	}
	return nil
}

func (a *app) impactCommand(s shared) *cobra.Command {
	action, principal := string(latchkey.ImpactDelete), ""
	actions := latchkey.ImpactActions(s.kind)
	cmd := &cobra.Command{
		Use: "impact " + s.argument, Short: "show what a change of the " + string(s.kind) + " would do",
		Long: `Impact shows what would stop working, who would lose what, what ran within 30 days and what
waits, without changing anything.`,
		Args: cli.Exactly(s.argument), ValidArgsFunction: s.complete,
		RunE: func(cmd *cobra.Command, args []string) error {
			if (principal != "") != (action == string(latchkey.ImpactUnshare)) {
				return cli.Usagef("--principal goes with --action unshare: whom it would no longer be shared with")
			}
			c, env, id, err := a.thing(cmd.Context(), s, args[0])
			if err != nil {
				return err
			}
			i, err := c.Impact(cmd.Context(), env, s.kind, id, latchkey.ImpactAction(action), principal)
			if err != nil {
				return err
			}
			effects := strings.Join(impactLines(i), "\n")
			return a.PrintOne(i, cli.Field{"Action", string(i.Action)}, cli.Field{"In use", cli.Yes(i.InUse)},
				cli.Field{"Effects", firstOf(effects, "none")}, cli.Field{"Hash", i.Hash})
		},
	}
	texts := make([]string, len(actions))
	for n, x := range actions {
		texts[n] = string(x)
	}
	cli.EnumFlag(cmd, &action, "action", action, "what would be done: "+strings.Join(texts, ", "), texts...)
	cmd.Flags().StringVar(&principal, "principal", "", "with --action unshare: whom it would no longer be shared with")
	completeFlag(cmd, "principal", a.completeSharees())
	return cmd
}

func (a *app) vaultUses() *cobra.Command {
	return &cobra.Command{
		Use: "uses VAULT [SECRET]", Short: "find who uses a secret, in every environment that you may see",
		Long: `Uses finds the variables that refer to a secret of a vault, embedded or in Azure, or to
any of the vault's. VAULT is a name or an ARM id, also that of a secret.`,
		Args: cobra.RangeArgs(1, 2), ValidArgsFunction: a.completeVaults(),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			secret := ""
			if len(args) == 2 {
				secret = args[1]
			}
			return cli.PrintList(&a.Console, c.SecretUses(cmd.Context(), args[0], secret), []string{"SECRET", "ENVIRONMENT", "VARIABLE", "CREDENTIALS", "CONNECTIONS", "IN FORCE", "REFERENCE"},
				func(u latchkey.SecretUse) []string {
					return []string{u.Reference.Secret, u.EnvironmentName, u.VariableName, fmt.Sprint(u.Credentials), fmt.Sprint(u.Connections), cli.Yes(u.InForce), u.Reference.String()}
				})
		},
	}
}

func (a *app) deletedCommand() *cobra.Command {
	cmd := cli.Group("deleted", "what was deleted, and can be restored", `What is deleted in an environment, variables, credentials, machines, machine groups,
connections and flows, can be restored for 30 days, with its shares. Its name is free at once.`)
	complete := completeNames(a, func(ctx context.Context, c *client.Client, env string) iter.Seq2[latchkey.Deleted, error] {
		return c.Deleted(ctx, env)
	}, func(d latchkey.Deleted) string { return described(d.ID, string(d.Kind)+" "+d.Name) })
	list := &cobra.Command{
		Use: "list", Short: "list what can be restored, newest first", Args: cli.Exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, env, err := a.within(cmd.Context())
			if err != nil {
				return err
			}
			return cli.PrintList(&a.Console, c.Deleted(cmd.Context(), env), []string{"KIND", "NAME", "DELETED", "GONE", "ID"},
				func(d latchkey.Deleted) []string {
					return []string{string(d.Kind), d.Name, cli.When(d.DeletedAt), cli.When(d.PurgedAt), d.ID}
				})
		},
	}
	var name string
	restore := &cobra.Command{
		Use: "restore ID", Short: "take a deletion back", Args: cli.Exactly("ID"), ValidArgsFunction: complete,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, env, err := a.within(cmd.Context())
			if err != nil {
				return err
			}
			r, err := c.Restore(cmd.Context(), env, args[0], latchkey.Restore{Name: name})
			if err != nil {
				return err
			}
			return a.PrintOne(r, cli.Field{"ID", r.ID}, cli.Field{"Kind", string(r.Kind)}, cli.Field{"Name", r.Name})
		},
	}
	restore.Flags().StringVar(&name, "name", "", "another name for it, when its own is taken meanwhile; of a variable the unique name")
	purge := &cobra.Command{Use: "purge ID", Short: "remove what was deleted for good, with its shares", Args: cli.Exactly("ID"), ValidArgsFunction: complete}
	sure := cli.SureFlag(purge)
	purge.RunE = func(cmd *cobra.Command, args []string) error {
		c, env, err := a.within(cmd.Context())
		if err != nil {
			return err
		}
		if err := a.Confirm(cmd.Context(), *sure, "remove "+args[0]+" for good"); err != nil {
			return err
		}
		return c.Purge(cmd.Context(), env, args[0])
	}
	cmd.AddCommand(list, restore, purge)
	return cmd
}

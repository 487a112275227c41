package main

import (
	"context"
	"iter"

	"github.com/spf13/cobra"

	"latchkey.dev/client"
	"latchkey.dev/internal/cli"
	"latchkey.dev/latchkey"
)

func environmentFields(e latchkey.Environment) []cli.Field {
	return []cli.Field{
		{"ID", string(e.ID)}, {"Name", e.Name}, {"Display name", e.DisplayName}, {"Prefix", e.Prefix},
		{"Vaults", cli.Joined(e.Vaults)}, {"Removes variable grants", cli.Yes(e.RemoveVariableGrants)}, {"Your role", string(e.MyRole)}, {"Created", cli.When(e.CreatedAt)},
	}
}

func (a *app) environmentCommand() *cobra.Command {
	cmd := cli.Group("environment", "workspaces that everything else lives in", `An environment is the workspace that variables, credentials, machines, connections,
flows and runs live in, and in which people have the role admin, maker, user or
auditor.`, "environments", "env")
	cmd.AddCommand(a.environmentCreate(), a.environmentList(), a.environmentShow(), a.environmentUpdate(), a.environmentDelete(),
		a.environmentUse(), a.memberCommand())
	return cmd
}

func (a *app) completeEnvironments() completion {
	return completeTenant(a, func(ctx context.Context, c *client.Client) iter.Seq2[latchkey.Environment, error] {
		return c.Environments(ctx)
	},
		func(e latchkey.Environment) string { return described(e.Name, e.DisplayName) })
}

func (a *app) environmentCreate() *cobra.Command {
	var in latchkey.EnvironmentCreate
	cmd := &cobra.Command{
		Use: "create NAME", Short: "make an environment", Args: cli.Exactly("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			in.Name = args[0]
			e, err := c.CreateEnvironment(cmd.Context(), in)
			if err != nil {
				return err
			}
			return a.PrintOne(e, environmentFields(e)...)
		},
	}
	f := cmd.Flags()
	f.StringVar(&in.DisplayName, "display-name", "", "name to show; defaults to the name")
	f.StringVar(&in.Prefix, "prefix", "", "prefix of the variables' unique names; defaults to new")
	f.StringSliceVar(&in.Vaults, "vault", nil, "ARM id of a vault that references may name, or * for any; repeatable; defaults to *")
	completeFlag(cmd, "vault", a.completeVaultIDs())
	return cmd
}

func (a *app) environmentList() *cobra.Command {
	var v listFlags
	cmd := &cobra.Command{
		Use: "list", Short: "list the environments that you may see", Args: cli.Exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			return cli.PrintList(&a.Console, c.Environments(cmd.Context(), v.options()...), []string{"NAME", "DISPLAY NAME", "PREFIX", "YOUR ROLE", "ID"},
				func(e latchkey.Environment) []string {
					return []string{e.Name, e.DisplayName, e.Prefix, string(e.MyRole), string(e.ID)}
				})
		},
	}
	v.add(cmd)
	return cmd
}

func (a *app) environmentShow() *cobra.Command {
	return &cobra.Command{
		Use: "show ENVIRONMENT", Short: "show an environment", Args: cli.Exactly("ENVIRONMENT"), ValidArgsFunction: a.completeEnvironments(),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			e, err := c.Environment(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return a.PrintOne(e, environmentFields(e)...)
		},
	}
}

func (a *app) environmentUpdate() *cobra.Command {
	var displayName string
	var vaults []string
	var removeGrants bool
	cmd := &cobra.Command{
		Use: "update ENVIRONMENT", Short: "change an environment", Args: cli.Exactly("ENVIRONMENT"), ValidArgsFunction: a.completeEnvironments(),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			var in latchkey.EnvironmentUpdate
			if cmd.Flags().Changed("display-name") {
				in.DisplayName = &displayName
			}
			if cmd.Flags().Changed("vault") {
				in.Vaults = &vaults
			}
			if cmd.Flags().Changed("remove-variable-grants") {
				in.RemoveVariableGrants = &removeGrants
			}
			e, err := c.UpdateEnvironment(cmd.Context(), args[0], in)
			if err != nil {
				return err
			}
			return a.PrintOne(e, environmentFields(e)...)
		},
	}
	cmd.Flags().StringVar(&displayName, "display-name", "", "name to show")
	cmd.Flags().BoolVar(&removeGrants, "remove-variable-grants", false, "whether removing a share of a credential also removes what it gave on the credential's variables")
	cmd.Flags().StringSliceVar(&vaults, "vault", nil, "ARM id of a vault that references may name, or * for any; repeatable; replaces the list")
	completeFlag(cmd, "vault", a.completeVaultIDs())
	return cmd
}

func (a *app) environmentDelete() *cobra.Command {
	cmd := &cobra.Command{Use: "delete ENVIRONMENT", Short: "remove an environment", Args: cli.Exactly("ENVIRONMENT"), ValidArgsFunction: a.completeEnvironments()}
	sure := cli.SureFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := a.client()
		if err != nil {
			return err
		}
		if err := a.Confirm(cmd.Context(), *sure, "delete the environment "+args[0]); err != nil {
			return err
		}
		return c.DeleteEnvironment(cmd.Context(), args[0])
	}
	return cmd
}

func (a *app) environmentUse() *cobra.Command {
	return &cobra.Command{
		Use: "use ENVIRONMENT", Short: "keep an environment in the profile, to work in from now on",
		Args: cli.Exactly("ENVIRONMENT"), ValidArgsFunction: a.completeEnvironments(),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			e, err := c.Environment(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return a.changeProfiles(func(all *profiles) error {
				name, _ := a.chosenProfile(*all)
				p, ok := all.Named[name]
				if !ok || !sameServer(p.Server, c.Server()) {
					return cli.Hint(cli.Usagef("the profile is not of this server"), "latchkey login --server "+c.Server())
				}
				p.Environment = e.Name
				all.Named[name] = p
				return nil
			})
		},
	}
}

func (a *app) memberCommand() *cobra.Command {
	cmd := cli.Group("member", "who has a role in an environment", "Roles in an environment: admin, maker, user and auditor.", "members")
	list := &cobra.Command{
		Use: "list", Short: "list who has a role in the environment", Args: cli.Exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, env, err := a.within(cmd.Context())
			if err != nil {
				return err
			}
			return cli.PrintList(&a.Console, c.Members(cmd.Context(), env), []string{"NAME", "KIND", "ROLE", "DISABLED", "SINCE", "CLIENT ID", "ID"},
				func(m latchkey.Member) []string {
					return []string{m.Name, string(m.Kind), string(m.Role), cli.Yes(m.Disabled), cli.When(m.CreatedAt), m.ClientID, string(m.Principal)}
				})
		},
	}
	set := &cobra.Command{
		Use: "set PRINCIPAL ROLE", Short: "give a user or a service principal a role in the environment, instead of the one it has", Args: cli.Exactly("PRINCIPAL", "ROLE"),
		Long:              `Set takes the login of a user, or the client id of a service principal, or the id of either.`,
		ValidArgsFunction: positions(a.completeSharees(), completeEnvironmentRoles()),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, env, err := a.within(cmd.Context())
			if err != nil {
				return err
			}
			return c.SetMember(cmd.Context(), env, args[0], latchkey.EnvironmentRole(args[1]))
		},
	}
	remove := &cobra.Command{Use: "remove PRINCIPAL", Short: "take a principal's role in the environment away", Args: cli.Exactly("PRINCIPAL"), ValidArgsFunction: a.completeSharees()}
	sure := cli.SureFlag(remove)
	remove.RunE = func(cmd *cobra.Command, args []string) error {
		c, env, err := a.within(cmd.Context())
		if err != nil {
			return err
		}
		if err := a.Confirm(cmd.Context(), *sure, "remove "+args[0]+" from the environment "+env); err != nil {
			return err
		}
		return c.RemoveMember(cmd.Context(), env, args[0])
	}
	cmd.AddCommand(list, set, remove, a.memberOwned(), a.memberHandOver())
	return cmd
}

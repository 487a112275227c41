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

func groupFields(g latchkey.Group) []cli.Field {
	return []cli.Field{
		{"ID", string(g.ID)}, {"Name", g.Name}, {"Description", g.Description}, {"Members", strconv.Itoa(g.Members)}, {"Linked to", linkedTo(g)}, {"Created", cli.When(g.CreatedAt)},
	}
}

// linkedTo names the group of a provider that says who is in a group, or "".
func linkedTo(g latchkey.Group) string {
	if g.External == nil {
		return ""
	}
	return g.External.ID + " of " + g.External.Issuer
}

func (a *app) groupCommand() *cobra.Command {
	cmd := cli.Group("group", "groups of people and programs", `Roles in environments and vaults, and shares, can be given to a group: everybody in it
has them, also by groups within groups, as long as they are in it. Tenant admins manage
groups.`, "groups")
	cmd.AddCommand(a.groupCreate(), a.groupList(), a.groupShow(), a.groupUpdate(), a.groupDelete(), a.groupLink(), a.groupUnlink(), a.groupMemberCommand())
	return cmd
}

func (a *app) completeGroups() completion {
	return completeTenant(a, func(ctx context.Context, c *client.Client) iter.Seq2[latchkey.Group, error] { return c.Groups(ctx) },
		func(g latchkey.Group) string { return described(g.Name, g.Description) })
}

func (a *app) groupCreate() *cobra.Command {
	var in latchkey.GroupCreate
	cmd := &cobra.Command{
		Use: "create NAME", Short: "make a group", Args: cli.Exactly("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			in.Name = args[0]
			g, err := c.CreateGroup(cmd.Context(), in)
			if err != nil {
				return err
			}
			return a.PrintOne(g, groupFields(g)...)
		},
	}
	cmd.Flags().StringVar(&in.Description, "description", "", "description")
	return cmd
}

func (a *app) groupLink() *cobra.Command {
	var e latchkey.ExternalGroup
	cmd := &cobra.Command{
		Use: "link GROUP --issuer ADDRESS --id ID", Short: "let a provider say who is in a group",
		Long: `Link has people put into a group, or taken out of it, when they sign in with a provider
of OpenID Connect, by whether its token names its group. Who is in the group by hand
stays until then. Service principals and groups in it are not touched.`,
		Example: `  latchkey group link makers --issuer https://login.microsoftonline.com/TENANT/v2.0 --id 5f0c…`,
		Args:    cli.Exactly("GROUP"), ValidArgsFunction: a.completeGroups(),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.setLink(cmd.Context(), args[0], e)
		},
	}
	cmd.Flags().StringVar(&e.Issuer, "issuer", "", "issuer of the provider's tokens")
	cmd.Flags().StringVar(&e.ID, "id", "", "id of its group, as tokens have it")
	return cmd
}

func (a *app) groupUnlink() *cobra.Command {
	return &cobra.Command{
		Use: "unlink GROUP", Short: "have a group's members set by hand again; who is in it stays", Args: cli.Exactly("GROUP"), ValidArgsFunction: a.completeGroups(),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.setLink(cmd.Context(), args[0], latchkey.ExternalGroup{})
		},
	}
}

func (a *app) setLink(ctx context.Context, group string, e latchkey.ExternalGroup) error {
	c, err := a.client()
	if err != nil {
		return err
	}
	g, err := c.UpdateGroup(ctx, group, latchkey.GroupUpdate{External: &e})
	if err != nil {
		return err
	}
	return a.PrintOne(g, groupFields(g)...)
}

func (a *app) groupList() *cobra.Command {
	var v listFlags
	cmd := &cobra.Command{
		Use: "list", Short: "list the groups: all for tenant admins, for others those that they are in", Args: cli.Exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			return cli.PrintList(&a.Console, c.Groups(cmd.Context(), v.options()...), []string{"NAME", "DESCRIPTION", "MEMBERS", "ID"},
				func(g latchkey.Group) []string {
					return []string{g.Name, g.Description, strconv.Itoa(g.Members), string(g.ID)}
				})
		},
	}
	v.add(cmd)
	return cmd
}

func (a *app) groupShow() *cobra.Command {
	return &cobra.Command{
		Use: "show GROUP", Short: "show a group", Args: cli.Exactly("GROUP"), ValidArgsFunction: a.completeGroups(),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			g, err := c.Group(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return a.PrintOne(g, groupFields(g)...)
		},
	}
}

func (a *app) groupUpdate() *cobra.Command {
	var name, description string
	cmd := &cobra.Command{
		Use: "update GROUP", Short: "change a group", Args: cli.Exactly("GROUP"), ValidArgsFunction: a.completeGroups(),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			var in latchkey.GroupUpdate
			if cmd.Flags().Changed("name") {
				in.Name = &name
			}
			if cmd.Flags().Changed("description") {
				in.Description = &description
			}
			g, err := c.UpdateGroup(cmd.Context(), args[0], in)
			if err != nil {
				return err
			}
			return a.PrintOne(g, groupFields(g)...)
		},
	}
	cmd.Flags().StringVar(&name, "name", "", "name")
	cmd.Flags().StringVar(&description, "description", "", "description")
	return cmd
}

func (a *app) groupDelete() *cobra.Command {
	cmd := &cobra.Command{Use: "delete GROUP", Short: "remove a group: its members have nothing by it any more, at once", Args: cli.Exactly("GROUP"), ValidArgsFunction: a.completeGroups()}
	sure := cli.SureFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := a.client()
		if err != nil {
			return err
		}
		g, err := c.Group(cmd.Context(), args[0])
		if err != nil {
			return err
		}
		if err := a.Confirm(cmd.Context(), *sure, "delete the group "+g.Name+", so that those in it have nothing by it any more"); err != nil {
			return err
		}
		return c.DeleteGroup(cmd.Context(), string(g.ID))
	}
	return cmd
}

func (a *app) groupMemberCommand() *cobra.Command {
	cmd := cli.Group("member", "who is in a group", "Members are users, by login, service principals, by id, and groups, by name.", "members")
	list := &cobra.Command{
		Use: "list GROUP", Short: "list who is in a group by itself", Args: cli.Exactly("GROUP"), ValidArgsFunction: a.completeGroups(),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			return cli.PrintList(&a.Console, c.GroupMembers(cmd.Context(), args[0]), []string{"NAME", "KIND", "LOGIN", "DISABLED", "ID"},
				func(e latchkey.DirectoryEntry) []string {
					return []string{e.Name, string(e.Kind), e.Login, cli.Yes(e.Disabled), string(e.ID)}
				})
		},
	}
	add := &cobra.Command{
		Use: "add GROUP PRINCIPAL", Short: "put a user, a service principal or a group into a group", Args: cli.Exactly("GROUP", "PRINCIPAL"),
		ValidArgsFunction: positions(a.completeGroups(), first0(a.completePrincipals())),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			return c.AddGroupMember(cmd.Context(), args[0], args[1])
		},
	}
	remove := &cobra.Command{
		Use: "remove GROUP PRINCIPAL", Short: "take somebody out of a group, with what they had by it, at once", Args: cli.Exactly("GROUP", "PRINCIPAL"),
		ValidArgsFunction: positions(a.completeGroups(), first0(a.completePrincipals())),
	}
	sure := cli.SureFlag(remove)
	remove.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := a.client()
		if err != nil {
			return err
		}
		if err := a.Confirm(cmd.Context(), *sure, "take "+args[1]+" out of the group "+args[0]); err != nil {
			return err
		}
		return c.RemoveGroupMember(cmd.Context(), args[0], args[1])
	}
	cmd.AddCommand(list, add, remove)
	return cmd
}

func (a *app) noticesCommand() *cobra.Command {
	cmd := cli.Group("notice", "what others did with what is yours", "Notices say what others did with things of yours, such as taking one over.", "notices")
	list := &cobra.Command{
		Use: "list", Short: "list your notices, oldest first", Args: cli.Exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			return cli.PrintList(&a.Console, c.Notices(cmd.Context()), []string{"WHEN", "MESSAGE", "ID"},
				func(n latchkey.Notice) []string { return []string{cli.When(n.At), n.Message, string(n.ID)} })
		},
	}
	dismiss := &cobra.Command{
		Use: "dismiss NOTICE", Short: "put a notice away", Args: cli.Exactly("NOTICE"),
		ValidArgsFunction: completeTenant(a, func(ctx context.Context, c *client.Client) iter.Seq2[latchkey.Notice, error] { return c.Notices(ctx) },
			func(n latchkey.Notice) string { return described(n.ID, n.Message) }),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			return c.DismissNotice(cmd.Context(), latchkey.NoticeID(args[0]))
		},
	}
	cmd.AddCommand(list, dismiss)
	return cmd
}

package main

import (
	"context"
	"iter"

	"github.com/spf13/cobra"

	"latchkey.dev/client"
	"latchkey.dev/internal/cli"
	"latchkey.dev/latchkey"
)

func (a *app) azureCommand() *cobra.Command {
	cmd := cli.Group("azure", "vaults in Azure", `Vaults in Azure are read as the identity that the server's settings name (serve
--azure), and only those of tenants that are linked.`)
	cmd.AddCommand(a.azureTenantCommand())
	return cmd
}

func (a *app) azureTenantCommand() *cobra.Command {
	cmd := cli.Group("tenant", "Azure tenants whose vaults are read", `A vault says which tenant of Azure it belongs to before it is sent a token. One of a
tenant that is not linked is sent none, and both tenants are named. Only tenant admins
link tenants.`, "tenants")
	cmd.AddCommand(a.azureTenantLink(), a.azureTenantList(), a.azureTenantUnlink())
	return cmd
}

func (a *app) completeAzureTenants() completion {
	return completeTenant(a, func(ctx context.Context, c *client.Client) iter.Seq2[latchkey.AzureTenant, error] {
		return c.AzureTenants(ctx)
	},
		func(t latchkey.AzureTenant) string { return t.ID })
}

func (a *app) azureTenantLink() *cobra.Command {
	return &cobra.Command{
		Use: "link TENANT-ID", Short: "have vaults of a tenant be read", Args: cli.Exactly("TENANT-ID"),
		Long:    `Link has vaults of a tenant of Azure be read. az account show prints its id as tenantId.`,
		Example: `  latchkey azure tenant link "$(az account show --query tenantId --output tsv)"`,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			t, err := c.LinkAzureTenant(cmd.Context(), latchkey.AzureTenantLink{ID: args[0]})
			if err != nil {
				return err
			}
			return a.PrintOne(t, cli.Field{"ID", t.ID}, cli.Field{"Linked by", string(t.LinkedBy)}, cli.Field{"Linked", cli.When(t.LinkedAt)})
		},
	}
}

func (a *app) azureTenantList() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "list the tenants that are linked", Args: cli.Exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			return cli.PrintList(&a.Console, c.AzureTenants(cmd.Context()), []string{"ID", "LINKED BY", "LINKED"},
				func(t latchkey.AzureTenant) []string { return []string{t.ID, string(t.LinkedBy), cli.When(t.LinkedAt)} })
		},
	}
}

func (a *app) azureTenantUnlink() *cobra.Command {
	cmd := &cobra.Command{
		Use: "unlink TENANT-ID", Short: "read vaults of a tenant no more, at once", Args: cli.Exactly("TENANT-ID"), ValidArgsFunction: a.completeAzureTenants(),
	}
	sure := cli.SureFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := a.client()
		if err != nil {
			return err
		}
		if err := a.Confirm(cmd.Context(), *sure, "unlink the Azure tenant "+args[0]+": credentials whose secrets are in its vaults stop working"); err != nil {
			return err
		}
		return c.UnlinkAzureTenant(cmd.Context(), args[0])
	}
	return cmd
}

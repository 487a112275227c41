package main

import (
	"github.com/spf13/cobra"

	"latchkey.dev/internal/cli"
	"latchkey.dev/latchkey"
)

func (a *app) userIdentityCommand() *cobra.Command {
	cmd := cli.Group("identity", "who users are in other directories", `An external identity is who a user is in another directory, such as Microsoft Entra ID.
By it, what a person may read in Azure can be found out. An identity is one user's at
most, and only tenant admins say whose it is.`, "identities")
	cmd.AddCommand(a.userIdentityAdd(), a.userIdentityList(), a.userIdentityRemove())
	return cmd
}

// identityFlags are the flags that name an external identity.
func identityFlags(cmd *cobra.Command, e *latchkey.ExternalIdentity) {
	f := cmd.Flags()
	f.StringVar(&e.ObjectID, "object-id", "", "id of the person in the directory")
	f.StringVar(&e.Tenant, "tenant", "", "id of the directory's tenant, a GUID for Entra ID")
	f.StringVar(&e.Issuer, "issuer", "", "issuer of the person's tokens; default: Entra ID's in Azure's public cloud, of --tenant")
}

// identityOf returns the identity that the flags name.
func identityOf(e latchkey.ExternalIdentity) (latchkey.ExternalIdentity, error) {
	switch {
	case e.ObjectID == "":
		return e, cli.Usagef("--object-id is missing: the id of the person in the directory")
	case e.Issuer != "":
		return e, nil
	case e.Tenant == "":
		return e, cli.Usagef("--tenant is missing: the id of the directory's tenant; a directory that has none takes --issuer")
	}
	return latchkey.EntraIdentity(e.Tenant, e.ObjectID), nil
}

func (a *app) userIdentityAdd() *cobra.Command {
	var e latchkey.ExternalIdentity
	cmd := &cobra.Command{
		Use: "add USER", Short: "say who a user is in another directory", Args: cli.Exactly("USER"), ValidArgsFunction: a.completeUsers(),
		Example: `  latchkey user identity add maya --tenant "$(az account show --query tenantId --output tsv)" \
      --object-id "$(az ad user show --id maya@example.com --query id --output tsv)"`,
		RunE: func(cmd *cobra.Command, args []string) error {
			e, err := identityOf(e)
			if err != nil {
				return err
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			if e, err = c.AddIdentity(cmd.Context(), args[0], e); err != nil {
				return err
			}
			return a.PrintOne(e, cli.Field{"Object id", e.ObjectID}, cli.Field{"Tenant", e.Tenant}, cli.Field{"Issuer", e.Issuer})
		},
	}
	identityFlags(cmd, &e)
	return cmd
}

func (a *app) userIdentityList() *cobra.Command {
	return &cobra.Command{
		Use: "list USER", Short: "list who a user is in other directories", Args: cli.Exactly("USER"), ValidArgsFunction: a.completeUsers(),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			u, err := c.User(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return cli.PrintList(&a.Console, func(yield func(latchkey.ExternalIdentity, error) bool) {
				for _, e := range u.ExternalIdentities {
					if !yield(e, nil) {
						return
					}
				}
			}, []string{"OBJECT ID", "TENANT", "ISSUER"},
				func(e latchkey.ExternalIdentity) []string { return []string{e.ObjectID, e.Tenant, e.Issuer} })
		},
	}
}

func (a *app) userIdentityRemove() *cobra.Command {
	var e latchkey.ExternalIdentity
	cmd := &cobra.Command{Use: "remove USER", Short: "take an identity of a user away", Args: cli.Exactly("USER"), ValidArgsFunction: a.completeUsers()}
	identityFlags(cmd, &e)
	sure := cli.SureFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		e, err := identityOf(e)
		if err != nil {
			return err
		}
		c, err := a.client()
		if err != nil {
			return err
		}
		if err := a.Confirm(cmd.Context(), *sure, "take the identity "+e.ObjectID+" away from "+args[0]); err != nil {
			return err
		}
		return c.RemoveIdentity(cmd.Context(), args[0], e)
	}
	return cmd
}

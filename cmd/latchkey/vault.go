package main

import (
	"context"
	"errors"
	"iter"
	"slices"
	"strconv"

	"github.com/spf13/cobra"

	"latchkey.dev/client"
	"latchkey.dev/internal/cli"
	"latchkey.dev/latchkey"
)

func vaultFields(v latchkey.EmbeddedVault) []cli.Field {
	return []cli.Field{
		{"ID", string(v.ID)}, {"Name", v.Name}, {"ARM id", v.ARMID}, {"Address", v.URL},
		{"Subscription", v.SubscriptionID}, {"Resource group", v.ResourceGroup},
		{"Deleted secrets kept", strconv.Itoa(v.RetentionDays) + " days"}, {"Created", cli.When(v.CreatedAt)},
	}
}

func (a *app) vaultCommand() *cobra.Command {
	cmd := cli.Group("vault", "embedded vaults, and the secrets and certificates in them", `An embedded vault is an Azure Key Vault that the server serves itself. What is in it is
changed and read through Key Vault's own interface, with any Azure SDK or with the
commands below secret and certificate; every read is on record before it is answered.`, "vaults")
	cmd.AddCommand(a.vaultCreate(), a.vaultList(), a.vaultShow(), a.vaultDelete(), a.vaultUses(), a.vaultRoleCommand(), a.vaultSecretCommand(), a.vaultCertificateCommand(), a.vaultEnvCommand())
	return cmd
}

func (a *app) completeVaults() completion {
	return completeTenant(a, func(ctx context.Context, c *client.Client) iter.Seq2[latchkey.EmbeddedVault, error] {
		return c.Vaults(ctx)
	},
		func(v latchkey.EmbeddedVault) string { return described(v.Name, v.URL) })
}

// completeRoleAssignments offers a vault, and then the ids of its role
// assignments.
func (a *app) completeRoleAssignments() completion {
	return positions(a.completeVaults(), completeWith(1, func(cmd *cobra.Command, args []string) iter.Seq2[string, error] {
		c, err := a.client()
		if err != nil {
			return noTexts
		}
		return texts(c.RoleAssignments(cmd.Context(), args[0]), func(r latchkey.RoleAssignment) string {
			return described(r.ID, firstOf(r.PrincipalName, string(r.Principal))+", "+string(r.Role))
		})
	}))
}

func (a *app) vaultCreate() *cobra.Command {
	var in latchkey.EmbeddedVaultCreate
	cmd := &cobra.Command{
		Use: "create NAME", Short: "make an embedded vault; you become its Key Vault Administrator", Args: cli.Exactly("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			in.Name = args[0]
			v, err := c.CreateVault(cmd.Context(), in)
			if err != nil {
				return err
			}
			return a.PrintOne(v, vaultFields(v)...)
		},
	}
	f := cmd.Flags()
	f.StringVar(&in.SubscriptionID, "subscription", "", "subscription id, a GUID; defaults to this installation's")
	f.StringVar(&in.ResourceGroup, "resource-group", "", "resource group; defaults to latchkey")
	f.IntVar(&in.RetentionDays, "retention-days", latchkey.DefaultRetentionDays, "how long deleted secrets and certificates can be recovered, 7 to 90 days")
	return cmd
}

func (a *app) vaultList() *cobra.Command {
	var v listFlags
	cmd := &cobra.Command{
		Use: "list", Short: "list the embedded vaults that you may see", Args: cli.Exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			return cli.PrintList(&a.Console, c.Vaults(cmd.Context(), v.options()...), []string{"NAME", "ADDRESS", "ARM ID"},
				func(v latchkey.EmbeddedVault) []string { return []string{v.Name, v.URL, v.ARMID} })
		},
	}
	v.add(cmd)
	return cmd
}

func (a *app) vaultShow() *cobra.Command {
	return &cobra.Command{
		Use: "show VAULT", Short: "show an embedded vault", Args: cli.Exactly("VAULT"), ValidArgsFunction: a.completeVaults(),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			v, err := c.Vault(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return a.PrintOne(v, vaultFields(v)...)
		},
	}
}

func (a *app) vaultDelete() *cobra.Command {
	cmd := &cobra.Command{Use: "delete VAULT", Short: "remove an embedded vault that has no secrets and certificates and that no variable refers to", Args: cli.Exactly("VAULT"), ValidArgsFunction: a.completeVaults()}
	sure := cli.SureFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := a.client()
		if err != nil {
			return err
		}
		if err := a.Confirm(cmd.Context(), *sure, "delete the vault "+args[0]); err != nil {
			return err
		}
		return c.DeleteVault(cmd.Context(), args[0])
	}
	return cmd
}

// assignRole assigns a role to whom the server knows by the name, or else to the
// service principal whose display name it is.
func assignRole(ctx context.Context, c *client.Client, vault string, in latchkey.RoleAssignmentCreate) (latchkey.RoleAssignment, error) {
	r, err := c.AssignRole(ctx, vault, in)
	refused, ok := errors.AsType[*latchkey.Error](err)
	ref := string(in.Principal)
	if !ok || !slices.ContainsFunc(refused.Fields, func(f latchkey.FieldError) bool { return f.Field == "principal" }) || latchkey.HasPrefix(ref, "sp") || latchkey.IsGUID(ref) {
		return r, err
	}
	id, lookup := servicePrincipalRef(ctx, c, ref)
	if _, ok := errors.AsType[*latchkey.Error](lookup); ok {
		return r, err // nobody's name, or the caller may not list them
	}
	if lookup != nil {
		return r, lookup
	}
	in.Principal = latchkey.PrincipalID(id)
	return c.AssignRole(ctx, vault, in)
}

func (a *app) vaultRoleCommand() *cobra.Command {
	cmd := cli.Group("role", "who may do what in an embedded vault", `Role assignments of an embedded vault, named as in Azure: Key Vault Administrator,
Secrets Officer, Secrets User, Certificates Officer, Certificate User, Crypto Officer,
Crypto User and Reader, for the whole vault or one object in it. The secret and the key
of a certificate have its name and are objects of their own.`, "roles")
	list := &cobra.Command{
		Use: "list VAULT", Short: "list the role assignments of a vault", Args: cli.Exactly("VAULT"), ValidArgsFunction: a.completeVaults(),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			return cli.PrintList(&a.Console, c.RoleAssignments(cmd.Context(), args[0]), []string{"ID", "PRINCIPAL", "ROLE", "ON", "CLIENT ID"},
				func(r latchkey.RoleAssignment) []string {
					return []string{string(r.ID), firstOf(r.PrincipalName, string(r.Principal)), string(r.Role), firstOf(r.Object().String(), "(all)"), r.ClientID}
				})
		},
	}
	var in latchkey.RoleAssignmentCreate
	assign := &cobra.Command{
		Use: "assign VAULT PRINCIPAL ROLE", Short: "give a principal a role", Args: cli.Exactly("VAULT", "PRINCIPAL", "ROLE"),
		Long: `Assign takes the login of a user, the name of a group, the client id or the name of a
service principal, or the id of any of them. The names of service principals are looked
up last, and only tenant admins may list them.`,
		Example:           `  latchkey vault role assign erp alice "Key Vault Secrets User" --secret password`,
		ValidArgsFunction: positions(a.completeVaults(), first0(a.completePrincipals()), completeVaultRoles()),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			in.Principal, in.Role = latchkey.PrincipalID(args[1]), latchkey.VaultRole(args[2])
			r, err := assignRole(cmd.Context(), c, args[0], in)
			if err != nil {
				return err
			}
			return a.PrintOne(r, cli.Field{"ID", string(r.ID)}, cli.Field{"Principal", firstOf(r.PrincipalName, string(r.Principal))},
				cli.Field{"Role", string(r.Role)}, cli.Field{"On", r.Object().String()})
		},
	}
	f := assign.Flags()
	f.StringVar(&in.Secret, "secret", "", "name of the secret to limit it to")
	f.StringVar(&in.Certificate, "certificate", "", "name of the certificate to limit it to")
	f.StringVar(&in.Key, "key", "", "name of the key to limit it to")
	for flag, collection := range map[string]string{"secret": "secrets", "certificate": "certificates", "key": "certificates"} {
		completeFlagAfter(assign, flag, func(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
			if len(args) == 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return a.completeVaultObjects(1, "/"+collection, firstArgument)(cmd, args[:1], typed)
		})
	}
	remove := &cobra.Command{Use: "remove VAULT ASSIGNMENT", Short: "take a role assignment away, by its id", Args: cli.Exactly("VAULT", "ASSIGNMENT"), ValidArgsFunction: a.completeRoleAssignments()}
	sure := cli.SureFlag(remove)
	remove.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := a.client()
		if err != nil {
			return err
		}
		if err := a.Confirm(cmd.Context(), *sure, "remove the role assignment "+args[1]); err != nil {
			return err
		}
		return c.RemoveRole(cmd.Context(), args[0], latchkey.RoleAssignmentID(args[1]))
	}
	cmd.AddCommand(list, assign, remove)
	return cmd
}

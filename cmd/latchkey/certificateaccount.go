package main

import (
	"context"
	"iter"
	"strings"

	"github.com/spf13/cobra"

	"latchkey.dev/client"
	"latchkey.dev/internal/cli"
	"latchkey.dev/latchkey"
)

func (a *app) certificateAccountCommand() *cobra.Command {
	cmd := cli.Group("account", "what the directory has of users of certificates", `Username bindings other than those to userPrincipalName compare a certificate with
attributes that only the tenant's directory has. Say of a user what is there, and the check
of a certificate evaluates these bindings too; of others it says what would have to be
there. Only tenant admins say it.`, "accounts")
	cmd.AddCommand(a.certificateAccountList(), a.certificateAccountShow(), a.certificateAccountSet(), a.certificateAccountRemove())
	return cmd
}

func (a *app) completeAccounts() completion {
	return completeTenant(a, func(ctx context.Context, c *client.Client) iter.Seq2[latchkey.CertificateAccount, error] {
		return c.CertificateAccounts(ctx)
	},
		func(t latchkey.CertificateAccount) string { return t.UPN })
}

func accountFields(x latchkey.CertificateAccount) []cli.Field {
	return []cli.Field{
		{"User principal name", x.UPN}, {"On premises", x.OnPremisesUPN}, {"Certificate user ids", strings.Join(x.CertificateUserIDs, "\n")},
		{"Said by", string(x.UpdatedBy)}, {"Said", cli.When(x.UpdatedAt)},
	}
}

func (a *app) certificateAccountList() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "list the users of whom something was said", Args: cli.Exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			return cli.PrintList(&a.Console, c.CertificateAccounts(cmd.Context()), []string{"USER PRINCIPAL NAME", "ON PREMISES", "CERTIFICATE USER IDS", "SAID"},
				func(x latchkey.CertificateAccount) []string {
					return []string{x.UPN, x.OnPremisesUPN, cli.Joined(x.CertificateUserIDs), cli.When(x.UpdatedAt)}
				})
		},
	}
}

func (a *app) certificateAccountShow() *cobra.Command {
	return &cobra.Command{
		Use: "show UPN", Short: "show what was said of a user", Args: cli.Exactly("UPN"), ValidArgsFunction: a.completeAccounts(),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			x, err := c.CertificateAccount(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return a.PrintOne(x, accountFields(x)...)
		},
	}
}

func (a *app) certificateAccountSet() *cobra.Command {
	var in latchkey.CertificateAccountSet
	cmd := &cobra.Command{
		Use: "set UPN", Short: "say what the directory has of a user", Args: cli.Exactly("UPN"), ValidArgsFunction: a.completeAccounts(),
		Long: `Set says what the directory has of a user, in place of what was said before: an attribute
that is not given is one that the user has not. A user has at most five certificate user
ids, and each is one user's only. They begin with X509:<PN>, X509:<RFC822>, X509:<S>,
X509:<SKI>, X509:<SHA1-PUKEY>, or X509:<I> with <S> or <SR>, in these letters.

The certificates are looked at again that sign in by the name.`,
		Example: `  latchkey certificate-binding account set bot@contoso.example --certificate-user-id 'X509:<SKI>0123456789abcdef'`,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			x, err := c.SetCertificateAccount(cmd.Context(), args[0], in)
			if err != nil {
				return err
			}
			return a.PrintOne(x, accountFields(x)...)
		},
	}
	f := cmd.Flags()
	f.StringVar(&in.OnPremisesUPN, "on-premises-upn", "", "the attribute onPremisesUserPrincipalName")
	f.StringArrayVar(&in.CertificateUserIDs, "certificate-user-id", nil, "a value of the attribute certificateUserIds; repeatable")
	return cmd
}

func (a *app) certificateAccountRemove() *cobra.Command {
	cmd := &cobra.Command{
		Use: "remove UPN", Short: "take back what was said of a user", Args: cli.Exactly("UPN"), ValidArgsFunction: a.completeAccounts(),
	}
	sure := cli.SureFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := a.client()
		if err != nil {
			return err
		}
		if err := a.Confirm(cmd.Context(), *sure, "take back what was said of "+args[0]); err != nil {
			return err
		}
		return c.RemoveCertificateAccount(cmd.Context(), args[0])
	}
	return cmd
}

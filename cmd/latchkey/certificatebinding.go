package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"latchkey.dev/client"
	"latchkey.dev/internal/cli"
	"latchkey.dev/latchkey"
)

func (a *app) certificateBindingCommand() *cobra.Command {
	cmd := cli.Group("certificate-binding", "as whom certificates sign in: the tenant's username bindings", `A username binding compares a field of a certificate with an attribute of the user. The
bindings are those of the tenant's directory, Microsoft Entra ID: set them here as they are
there, and the check of a certificate says by which one it is taken for the user name.`, "certificate-bindings")
	cmd.AddCommand(a.certificateBindingList(), a.certificateBindingSet(), a.certificateAccountCommand())
	return cmd
}

func (a *app) certificateBindingList() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "list the bindings, the one that counts first first", Args: cli.Exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			b, err := c.CertificateBindings(cmd.Context())
			if err != nil {
				return err
			}
			return a.PrintOne(b, bindingFields(b)...)
		},
	}
}

func bindingFields(b latchkey.CertificateBindings) []cli.Field {
	var f []cli.Field
	for i, x := range b.Bindings {
		f = append(f, cli.Field{strconv.Itoa(i + 1), fmt.Sprintf("%s to %s (%s affinity)", x.Field, x.Attribute, x.Field.Affinity())})
	}
	return append(f, cli.Field{"Affinity", string(b.Affinity)}, cli.Field{"High for issuers", strings.Join(b.HighIssuers, "\n")}, cli.Field{"High for policies", cli.Joined(b.HighPolicies)})
}

func (a *app) certificateBindingSet() *cobra.Command {
	var in latchkey.CertificateBindings
	var affinity string
	cmd := &cobra.Command{
		Use:   "set FIELD=ATTRIBUTE ...",
		Short: "set the bindings, in the order of their priority",
		Long: `Set replaces the bindings. Fields are PrincipalName, RFC822Name, IssuerAndSubject, Subject,
SKI, SHA1PublicKey and IssuerAndSerialNumber; attributes are userPrincipalName,
onPremisesUserPrincipalName and certificateUserIds. Only the first two fields can be compared
with others than certificateUserIds. Until somebody sets another one the binding is
PrincipalName=userPrincipalName.

Every certificate is looked at again.`,
		Example: `  latchkey certificate-binding set SKI=certificateUserIds PrincipalName=userPrincipalName
  latchkey certificate-binding set SKI=certificateUserIds --affinity high`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return cli.Usagef("FIELD=ATTRIBUTE is missing, for example: PrincipalName=userPrincipalName")
			}
			return nil
		},
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			var all []string
			for _, f := range latchkey.CertificateFields() {
				for _, attribute := range f.Attributes() {
					all = append(all, string(f)+"="+string(attribute))
				}
			}
			return all, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			in.Affinity = latchkey.Affinity(affinity)
			for _, arg := range args {
				f, attribute, ok := strings.Cut(arg, "=")
				if !ok {
					return cli.Usagef("bindings must be FIELD=ATTRIBUTE, for example PrincipalName=userPrincipalName")
				}
				in.Bindings = append(in.Bindings, latchkey.CertificateBinding{Field: latchkey.CertificateField(f), Attribute: latchkey.UserAttribute(attribute)})
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			b, err := c.SetCertificateBindings(cmd.Context(), in)
			if err != nil {
				return err
			}
			return a.PrintOne(b, bindingFields(b)...)
		},
	}
	f := cmd.Flags()
	cli.EnumFlag(cmd, &affinity, "affinity", string(latchkey.AffinityLow), "high: only bindings by SKI, SHA1PublicKey and IssuerAndSerialNumber count", latchkey.AffinityLow, latchkey.AffinityHigh)
	f.StringArrayVar(&in.HighIssuers, "high-issuer", nil, "issuer whose certificates need high affinity, such as DC=com,DC=contoso,CN=CA; repeatable")
	f.StringSliceVar(&in.HighPolicies, "high-policy", nil, "policy OID of certificates that need high affinity; repeatable")
	return cmd
}

// certificateFields shows what was found about a credential's certificate.
func certificateFields(c *latchkey.CertificateCheck) []cli.Field {
	if c == nil {
		return nil
	}
	f := []cli.Field{
		{"Check", string(c.State)}, {"", c.Message}, {"What to do", c.Remedy}, {"Checked", cli.WhenPtr(c.CheckedAt)},
		{"Subject", c.Subject}, {"Issuer", c.Issuer}, {"Thumbprint", c.Thumbprint}, {"Valid from", cli.WhenPtr(c.NotBefore)}, {"Expires", cli.WhenPtr(c.ExpiresAt)},
	}
	for _, x := range c.Findings {
		f = append(f, cli.Field{x.Check, string(x.State) + ": " + x.Message})
	}
	return f
}

// expiry returns when a credential's certificate expires, and what is wrong with
// it.
func expiry(c *latchkey.CertificateCheck) string {
	switch {
	case c == nil:
		return ""
	case c.ExpiresAt == nil:
		return string(c.State)
	case c.State == latchkey.CheckPassed:
		return cli.When(*c.ExpiresAt)
	}
	return cli.When(*c.ExpiresAt) + " (" + string(c.State) + ")"
}

// checkedCredential prints a credential; with wait it waits for the check of its
// certificate first, and a check that failed is a failure.
func (a *app) checkedCredential(ctx context.Context, c *client.Client, env string, cred latchkey.Credential, wait bool) error {
	if wait {
		stop := a.spin("waiting for the check")
		var err error
		cred, err = waitForCertificate(ctx, c, env, cred)
		if stop(); err != nil {
			return err
		}
	}
	if err := a.PrintOne(cred, credentialFields(cred)...); err != nil {
		return err
	}
	if wait && cred.Certificate != nil && cred.Certificate.State == latchkey.CheckFailed {
		return cli.ExitCode(1)
	}
	return nil
}

// waitForCertificate returns the credential when its certificate was looked at.
func waitForCertificate(ctx context.Context, c *client.Client, env string, cred latchkey.Credential) (latchkey.Credential, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	tick := time.NewTicker(checkPoll)
	defer tick.Stop()
	for cred.Certificate != nil && cred.Certificate.State == latchkey.CheckChecking {
		select {
		case <-ctx.Done():
			return cred, fmt.Errorf("wait for the check of %s: %w", cred.Name, ctx.Err())
		case <-tick.C:
		}
		var err error
		if cred, err = c.Credential(ctx, env, cred.ID); err != nil {
			return cred, err
		}
	}
	return cred, nil
}

func (a *app) credentialCheck() *cobra.Command {
	return &cobra.Command{
		Use: "check CREDENTIAL", Short: "look at a credential's certificate again, and wait for the result", Args: cli.Exactly("CREDENTIAL"), ValidArgsFunction: a.completeCredentials(),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, env, err := a.within(cmd.Context())
			if err != nil {
				return err
			}
			id, err := credentialID(cmd.Context(), c, env, args[0])
			if err != nil {
				return err
			}
			cred, err := c.CheckCredential(cmd.Context(), env, id)
			if err != nil {
				return err
			}
			return a.checkedCredential(cmd.Context(), c, env, cred, true)
		},
	}
}

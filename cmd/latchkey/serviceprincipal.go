package main

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"iter"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"latchkey.dev/client"
	"latchkey.dev/internal/cli"
	"latchkey.dev/latchkey"
)

func servicePrincipalFields(p latchkey.ServicePrincipal) []cli.Field {
	fields := []cli.Field{
		{"ID", string(p.ID)}, {"Client id", p.ClientID}, {"Name", p.DisplayName}, {"Description", p.Description}, {"Disabled", cli.Yes(p.Disabled)},
	}
	for _, c := range p.Credentials {
		fields = append(fields, cli.Field{"Credential", fmt.Sprintf("%s %s %q, %s", c.ID, c.Kind, c.Name, proofText(c))})
	}
	return append(fields, cli.Field{"Created", cli.When(p.CreatedAt)})
}

// proofText says what there is to say of a credential besides its name.
func proofText(c latchkey.ServicePrincipalCredential) string {
	var parts []string
	if c.Kind == latchkey.ProofFederated {
		parts = append(parts, fmt.Sprintf("%s of %s for %s", c.Subject, c.Issuer, c.Audience))
	}
	if c.Thumbprint != "" {
		parts = append(parts, "x5t "+c.Thumbprint)
	}
	if c.ExpiresAt != nil {
		parts = append(parts, "expires "+cli.When(*c.ExpiresAt))
	}
	if c.LastUsedAt == nil {
		return strings.Join(append(parts, "never used"), ", ")
	}
	return strings.Join(append(parts, "used "+cli.When(*c.LastUsedAt)), ", ")
}

func proofFields(c latchkey.ServicePrincipalCredential) []cli.Field {
	fields := []cli.Field{{"ID", string(c.ID)}, {"Kind", string(c.Kind)}, {"Name", c.Name}}
	if c.Kind == latchkey.ProofFederated {
		fields = append(fields, cli.Field{"Issuer", c.Issuer}, cli.Field{"Subject", c.Subject}, cli.Field{"Audience", c.Audience})
	}
	if c.Thumbprint != "" {
		fields = append(fields, cli.Field{"Thumbprint", c.Thumbprint}, cli.Field{"SHA-256", c.ThumbprintSHA256})
	}
	if c.ExpiresAt != nil {
		fields = append(fields, cli.Field{"Expires", cli.When(*c.ExpiresAt)})
	}
	return fields
}

func (a *app) servicePrincipalCommand() *cobra.Command {
	cmd := cli.Group("service-principal", "identities of programs", `A service principal is the identity of a program that signs in by itself, such as a
pipeline. Its credentials are how it proves itself: a secret, a certificate, or the
tokens of another issuer, such as a CI system's. Only tenant admins manage them. It is
named by its id, its client id or its name.`, "service-principals", "sp")
	cmd.AddCommand(a.servicePrincipalCreate(), a.servicePrincipalList(), a.servicePrincipalShow(), a.servicePrincipalUpdate(),
		a.servicePrincipalDisable(), a.servicePrincipalEnable(), a.servicePrincipalDelete(), a.servicePrincipalCredentialCommand())
	return cmd
}

// servicePrincipalRef returns the id or client id of the service principal that ref
// names.
func servicePrincipalRef(ctx context.Context, c *client.Client, ref string) (string, error) {
	if latchkey.IsGUID(ref) {
		return ref, nil
	}
	id, err := byName(ref, "sp", latchkey.KindServicePrincipal, c.ServicePrincipals(ctx),
		func(p latchkey.ServicePrincipal) (latchkey.PrincipalID, string) { return p.ID, p.DisplayName })
	return string(id), err
}

func (a *app) completeServicePrincipals() completion {
	return completeTenant(a, func(ctx context.Context, c *client.Client) iter.Seq2[latchkey.ServicePrincipal, error] {
		return c.ServicePrincipals(ctx)
	}, func(p latchkey.ServicePrincipal) string { return described(p.ClientID, p.DisplayName) })
}

// completePrincipals offers users by their logins, service principals by their
// client ids, and groups by their names.
func (a *app) completePrincipals() completion {
	all := []completion{a.completeUsers(), a.completeServicePrincipals(), a.completeGroups()}
	return func(cmd *cobra.Command, args []string, typed string) (offered []string, directive cobra.ShellCompDirective) {
		for _, complete := range all {
			var more []string
			more, directive = complete(cmd, args, typed)
			offered = append(offered, more...)
		}
		return offered, directive
	}
}

// completeProofs offers the credentials of the service principal that the first
// argument names.
func (a *app) completeProofs() completion {
	return completeWith(1, func(cmd *cobra.Command, args []string) iter.Seq2[string, error] {
		return func(yield func(string, error) bool) {
			c, err := a.client()
			if err != nil {
				return
			}
			ref, err := servicePrincipalRef(cmd.Context(), c, args[0])
			if err != nil {
				return
			}
			p, err := c.ServicePrincipal(cmd.Context(), ref)
			if err != nil {
				return
			}
			for _, proof := range p.Credentials {
				if !yield(described(proof.ID, proof.Name), nil) {
					return
				}
			}
		}
	})
}

func (a *app) servicePrincipalCreate() *cobra.Command {
	var in latchkey.ServicePrincipalCreate
	cmd := &cobra.Command{
		Use: "create NAME", Short: "make a service principal", Args: cli.Exactly("NAME"),
		Long: `Create makes a service principal. It cannot sign in before it has a credential, and may
do nothing before it has a role in an environment or in a vault.`,
		Example: `  latchkey service-principal create 'Deploy pipeline'
  latchkey service-principal credential add-secret 'Deploy pipeline' > secret`,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			in.DisplayName = args[0]
			p, err := c.CreateServicePrincipal(cmd.Context(), in)
			if err != nil {
				return err
			}
			return a.PrintOne(p, servicePrincipalFields(p)...)
		},
	}
	cmd.Flags().StringVar(&in.Description, "description", "", "what it is for")
	return cmd
}

func (a *app) servicePrincipalList() *cobra.Command {
	var v listFlags
	cmd := &cobra.Command{
		Use: "list", Short: "list the service principals", Args: cli.Exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			return cli.PrintList(&a.Console, c.ServicePrincipals(cmd.Context(), v.options()...), []string{"NAME", "CLIENT ID", "CREDENTIALS", "NEXT EXPIRES", "DISABLED", "ID"},
				func(p latchkey.ServicePrincipal) []string {
					return []string{p.DisplayName, p.ClientID, fmt.Sprint(len(p.Credentials)), cli.WhenPtr(nextEnd(p)), cli.Yes(p.Disabled), string(p.ID)}
				})
		},
	}
	v.add(cmd)
	return cmd
}

// nextEnd returns when the first credential of a service principal expires.
func nextEnd(p latchkey.ServicePrincipal) (first *time.Time) {
	for _, c := range p.Credentials {
		if c.ExpiresAt != nil && (first == nil || c.ExpiresAt.Before(*first)) {
			first = c.ExpiresAt
		}
	}
	return first
}

// onServicePrincipal returns what a command does with the service principal that
// its first argument names.
func (a *app) onServicePrincipal(f func(ctx context.Context, c *client.Client, ref string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		c, err := a.client()
		if err != nil {
			return err
		}
		ref, err := servicePrincipalRef(cmd.Context(), c, args[0])
		if err != nil {
			return err
		}
		return f(cmd.Context(), c, ref)
	}
}

func (a *app) servicePrincipalShow() *cobra.Command {
	return &cobra.Command{
		Use: "show SERVICE-PRINCIPAL", Short: "show a service principal with its credentials", Args: cli.Exactly("SERVICE-PRINCIPAL"), ValidArgsFunction: a.completeServicePrincipals(),
		RunE: a.onServicePrincipal(func(ctx context.Context, c *client.Client, ref string) error {
			p, err := c.ServicePrincipal(ctx, ref)
			if err != nil {
				return err
			}
			return a.PrintOne(p, servicePrincipalFields(p)...)
		}),
	}
}

func (a *app) changeServicePrincipal(ctx context.Context, c *client.Client, ref string, in latchkey.ServicePrincipalUpdate) error {
	p, err := c.UpdateServicePrincipal(ctx, ref, in)
	if err != nil {
		return err
	}
	return a.PrintOne(p, servicePrincipalFields(p)...)
}

func (a *app) servicePrincipalUpdate() *cobra.Command {
	var name, description string
	cmd := &cobra.Command{
		Use: "update SERVICE-PRINCIPAL", Short: "change the name or description of a service principal", Args: cli.Exactly("SERVICE-PRINCIPAL"), ValidArgsFunction: a.completeServicePrincipals(),
	}
	cmd.RunE = a.onServicePrincipal(func(ctx context.Context, c *client.Client, ref string) error {
		var in latchkey.ServicePrincipalUpdate
		if cmd.Flags().Changed("name") {
			in.DisplayName = &name
		}
		if cmd.Flags().Changed("description") {
			in.Description = &description
		}
		return a.changeServicePrincipal(ctx, c, ref, in)
	})
	cmd.Flags().StringVar(&name, "name", "", "name to show; no other service principal may have it")
	cmd.Flags().StringVar(&description, "description", "", "what it is for")
	return cmd
}

func (a *app) servicePrincipalDisable() *cobra.Command {
	cmd := &cobra.Command{
		Use: "disable SERVICE-PRINCIPAL", Short: "stop a service principal at once, also for runs that are under way", Args: cli.Exactly("SERVICE-PRINCIPAL"), ValidArgsFunction: a.completeServicePrincipals(),
		Long: `Disable refuses a service principal at once, whatever it is signed in with. Runs that it
has started and runs through its connections get no secret any more. Nothing is
deleted: service-principal enable takes it back. An environment keeps an admin who is let
in, unless --force says otherwise, which is on record.`,
	}
	sure := cli.SureFlag(cmd)
	force := cmd.Flags().Bool("force", false, forceDisable)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return a.onServicePrincipal(func(ctx context.Context, c *client.Client, ref string) error {
			if err := a.Confirm(ctx, *sure, "disable the service principal "+args[0]+", so that it is refused and its runs get no secret any more"); err != nil {
				return err
			}
			return a.changeServicePrincipal(ctx, c, ref, latchkey.ServicePrincipalUpdate{Disabled: new(true), Force: *force})
		})(cmd, args)
	}
	return cmd
}

func (a *app) servicePrincipalEnable() *cobra.Command {
	return &cobra.Command{
		Use: "enable SERVICE-PRINCIPAL", Short: "let a disabled service principal in again", Args: cli.Exactly("SERVICE-PRINCIPAL"), ValidArgsFunction: a.completeServicePrincipals(),
		RunE: a.onServicePrincipal(func(ctx context.Context, c *client.Client, ref string) error {
			no := false
			return a.changeServicePrincipal(ctx, c, ref, latchkey.ServicePrincipalUpdate{Disabled: &no})
		}),
	}
}

func (a *app) servicePrincipalDelete() *cobra.Command {
	cmd := &cobra.Command{
		Use: "delete SERVICE-PRINCIPAL", Short: "remove a service principal for good", Args: cli.Exactly("SERVICE-PRINCIPAL"), ValidArgsFunction: a.completeServicePrincipals(),
		Long: `Delete removes a service principal: its roles in environments and vaults and its grants
count no more, at once. What it made stays; what it owns has to be handed over first, with
environment member hand-over. It cannot be taken back; disable can, and stops it at once.`,
	}
	sure := cli.SureFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return a.onServicePrincipal(func(ctx context.Context, c *client.Client, ref string) error {
			if err := a.Confirm(ctx, *sure, "delete the service principal "+args[0]); err != nil {
				return err
			}
			return c.DeleteServicePrincipal(ctx, ref)
		})(cmd, args)
	}
	return cmd
}

func (a *app) servicePrincipalCredentialCommand() *cobra.Command {
	cmd := cli.Group("credential", "how a service principal proves itself", `Credentials of service principals: secrets, certificates and the tokens of other
issuers, at most 20 each. To change one without a gap, add the new one, let the program
use it, and remove the old one.`, "credentials")
	cmd.AddCommand(a.proofAddSecret(), a.proofAddCertificate(), a.proofAddFederated(), a.proofRemove())
	return cmd
}

func (a *app) proofAddSecret() *cobra.Command {
	in := latchkey.ServicePrincipalCredentialCreate{Kind: latchkey.ProofSecret}
	var expires time.Duration
	cmd := &cobra.Command{
		Use: "add-secret SERVICE-PRINCIPAL", Short: "make a secret for a service principal; it is shown once", Args: cli.Exactly("SERVICE-PRINCIPAL"), ValidArgsFunction: a.completeServicePrincipals(),
		Long:    `Add-secret makes a secret and prints it, bare, so that it can go into a pipe or a file.`,
		Example: `  latchkey service-principal credential add-secret 'Deploy pipeline' --name 'CI of 2027' > secret`,
		RunE: a.onServicePrincipal(func(ctx context.Context, c *client.Client, ref string) error {
			in.ExpiresIn = latchkey.Duration(expires)
			p, err := c.ServicePrincipal(ctx, ref)
			if err != nil {
				return err
			}
			n, err := c.AddServicePrincipalCredential(ctx, ref, in)
			if err != nil {
				return err
			}
			if a.JSON {
				return a.PrintJSON(n)
			}
			a.Say("%s expires %s; it is shown only now", n.ID, cli.When(*n.ExpiresAt))
			a.Say("keep it where the program reads its secrets: as AZURE_CLIENT_SECRET beside AZURE_CLIENT_ID=%s, or in a file for latchkey login --service-principal %[1]s --secret-file FILE", p.ClientID)
			return a.reveal(latchkey.NewSecret(n.Secret))
		}),
	}
	cmd.Flags().StringVar(&in.Name, "name", "", "what it is for")
	cmd.Flags().DurationVar(&expires, "expires-in", latchkey.DefaultClientSecretTTL, "how long it lasts, at most 17568h")
	return cmd
}

func (a *app) proofAddCertificate() *cobra.Command {
	in := latchkey.ServicePrincipalCredentialCreate{Kind: latchkey.ProofCertificate}
	cmd := &cobra.Command{
		Use: "add-certificate SERVICE-PRINCIPAL FILE", Short: "let a service principal prove itself by the key of a certificate", Args: cli.Exactly("SERVICE-PRINCIPAL", "FILE"),
		ValidArgsFunction: positions(a.completeServicePrincipals(), completeFiles),
		Long: `Add-certificate takes the first certificate of a PEM file, which may hold its key and
others as well: they are not sent. It counts until it expires.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			text, err := firstCertificate(args[1])
			if err != nil {
				return err
			}
			in.Certificate = text
			return a.addProof(cmd, args[0], in)
		},
	}
	cmd.Flags().StringVar(&in.Name, "name", "", "what it is for")
	return cmd
}

// firstCertificate returns the first certificate in a PEM file, and nothing else of
// it.
func firstCertificate(path string) (string, error) {
	b, err := readFile(path, maxPEMFile)
	if err != nil {
		return "", err
	}
	for len(b) > 0 {
		var block *pem.Block
		if block, b = pem.Decode(b); block == nil {
			break
		}
		if block.Type == "CERTIFICATE" {
			return string(pem.EncodeToMemory(&pem.Block{Type: block.Type, Bytes: block.Bytes})), nil
		}
	}
	return "", cli.Hint(fmt.Errorf("%s has no certificate in PEM", path), "openssl x509 -in FILE -out certificate.pem")
}

func (a *app) proofAddFederated() *cobra.Command {
	in := latchkey.ServicePrincipalCredentialCreate{Kind: latchkey.ProofFederated}
	cmd := &cobra.Command{
		Use: "add-federated SERVICE-PRINCIPAL", Short: "let a service principal prove itself by tokens of another issuer", Args: cli.Exactly("SERVICE-PRINCIPAL"), ValidArgsFunction: a.completeServicePrincipals(),
		Long: `Add-federated lets whoever has a token of an issuer sign in as the service principal, if
the token has exactly this subject and audience. No secret is kept anywhere. The server
asks the issuer for its keys by https: {issuer}/.well-known/openid-configuration.`,
		Example: `  latchkey service-principal credential add-federated 'Deploy pipeline' \
      --issuer https://token.actions.githubusercontent.com --subject repo:example/erp:ref:refs/heads/main
  latchkey service-principal credential add-federated reports \
      --issuer https://kubernetes.example.org --subject system:serviceaccount:reports:default --audience latchkey`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if in.Issuer == "" || in.Subject == "" {
				return cli.Usagef("--issuer and --subject are needed: those that the tokens have (iss and sub)")
			}
			return a.addProof(cmd, args[0], in)
		},
	}
	f := cmd.Flags()
	f.StringVar(&in.Name, "name", "", "what it is for")
	f.StringVar(&in.Issuer, "issuer", "", "issuer of the tokens, an https address, exactly as they name it (iss)")
	f.StringVar(&in.Subject, "subject", "", "subject of the tokens, exactly (sub)")
	f.StringVar(&in.Audience, "audience", latchkey.DefaultFederatedAudience, "audience of the tokens (aud)")
	return cmd
}

// addProof adds a credential that has no value of its own, and shows it.
func (a *app) addProof(cmd *cobra.Command, name string, in latchkey.ServicePrincipalCredentialCreate) error {
	return a.onServicePrincipal(func(ctx context.Context, c *client.Client, ref string) error {
		n, err := c.AddServicePrincipalCredential(ctx, ref, in)
		if err != nil {
			return err
		}
		return a.PrintOne(n, proofFields(n.ServicePrincipalCredential)...)
	})(cmd, []string{name})
}

func (a *app) proofRemove() *cobra.Command {
	cmd := &cobra.Command{
		Use: "remove SERVICE-PRINCIPAL CREDENTIAL", Short: "take a credential away, by its id", Args: cli.Exactly("SERVICE-PRINCIPAL", "CREDENTIAL"),
		ValidArgsFunction: positions(a.completeServicePrincipals(), a.completeProofs()),
		Long:              `Remove takes a credential away. API tokens that it was signed in for with it end at once.`,
	}
	sure := cli.SureFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return a.onServicePrincipal(func(ctx context.Context, c *client.Client, ref string) error {
			p, err := c.ServicePrincipal(ctx, ref)
			if err != nil {
				return err
			}
			id, err := byName(args[1], "spc", latchkey.KindPrincipalProof, func(yield func(latchkey.ServicePrincipalCredential, error) bool) {
				for _, proof := range p.Credentials {
					if !yield(proof, nil) {
						return
					}
				}
			}, func(c latchkey.ServicePrincipalCredential) (latchkey.ServicePrincipalCredentialID, string) {
				return c.ID, c.Name
			})
			if err != nil {
				return err
			}
			if err := a.Confirm(ctx, *sure, "remove the credential "+args[1]+" of the service principal "+args[0]); err != nil {
				return err
			}
			return c.RemoveServicePrincipalCredential(ctx, ref, id)
		})(cmd, args)
	}
	return cmd
}

// self returns the service principal as which commands are signed in.
func self(ctx context.Context, c *client.Client) (latchkey.ServicePrincipal, error) {
	for p, err := range c.ServicePrincipals(ctx) {
		return p, err // it sees no other
	}
	return latchkey.ServicePrincipal{}, errors.New("the token is neither a user's nor a service principal's")
}

package main

import (
	"context"
	"iter"

	"github.com/spf13/cobra"

	"latchkey.dev/client"
	"latchkey.dev/internal/cli"
	"latchkey.dev/latchkey"
)

func credentialFields(c latchkey.Credential) []cli.Field {
	f := []cli.Field{
		{"ID", string(c.ID)}, {"Name", c.Name}, {"Description", c.Description}, {"Store", string(c.Store)},
		{"Usages", cli.Joined(c.Usages)}, {"Exposure", string(c.Exposure)}, {"Shared uid", cli.Yes(c.AllowSharedUID)},
		{"Only on", cli.Joined(c.Machines)}, {"Only on groups", cli.Joined(c.MachineGroups)}, {"User name", c.Slots[latchkey.SlotUsername]},
		{"Password", c.Slots[latchkey.SlotPassword]}, {"Certificate", c.Slots[latchkey.SlotCertificate]},
		{"Signs in as", c.Username}, {"Status", string(c.Status)}, {"Owner", ownerName(c.OwnedBy)}, {"Last used", cli.WhenPtr(c.LastUsedAt)},
		{"Your role", string(c.MyRole)}, {"Created", cli.When(c.CreatedAt)},
	}
	return append(f, certificateFields(c.Certificate)...)
}

func (a *app) credentialCommand() *cobra.Command {
	cmd := cli.Group("credential", "pairs of a user name and a password or certificate, by reference", `A credential binds two variables: a text variable with the user name and a secret
variable with the reference to the password, or to the secret of a Key Vault certificate.
It never holds a value, and nobody who uses it sees one.`, "credentials", "cred")
	cmd.AddCommand(a.credentialCreate(), a.credentialList(), a.credentialShow(), a.credentialReleases(), a.credentialUpdate(), a.credentialCheck(), a.credentialDelete())
	a.addSharing(cmd, shared{kind: latchkey.KindCredential, resolve: asText(credentialID), complete: a.completeCredentials()})
	return cmd
}

func (a *app) completeCredentials() completion {
	return completeNames(a, func(ctx context.Context, c *client.Client, env string) iter.Seq2[latchkey.Credential, error] {
		return c.Credentials(ctx, env)
	}, func(c latchkey.Credential) string { return described(c.Name, c.Description) })
}

func (a *app) credentialCreate() *cobra.Command {
	var in latchkey.CredentialCreate
	var username, password, certificate, exposure string
	var usages, machines, groups []string
	var wait bool
	cmd := &cobra.Command{
		Use:   "create NAME --username VARIABLE (--password VARIABLE | --certificate VARIABLE)",
		Short: "make a credential from two variables",
		Long: `Create makes a credential from a text variable with the user name and a secret variable:
with the reference to a password, or to the secret of a certificate in Key Vault, which has
the certificate's name. The certificate must be kept as PFX, with an exportable key.`,
		Example: `  latchkey credential create "ERP bot" --username new_ERPuser --password new_ERPpassword
  latchkey credential create "Web bot" --username new_WebUPN --certificate new_WebCertificate`,
		Args: cli.Exactly("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if username == "" || (password == "") == (certificate == "") {
				return cli.Hint(cli.Usagef("--username and one of --password and --certificate are needed: the variables with the user name and the reference to the secret"), "latchkey variable list")
			}
			c, env, err := a.within(cmd.Context())
			if err != nil {
				return err
			}
			in.Name, in.Exposure = args[0], latchkey.Exposure(exposure)
			for _, u := range usages {
				in.Usages = append(in.Usages, latchkey.Usage(u))
			}
			if certificate != "" {
				in.Authentication = latchkey.AuthenticationCertificate
			}
			in.Slots = map[latchkey.Slot]string{latchkey.SlotUsername: username, in.Authentication.SecretSlot(): password + certificate}
			if in.Machines, err = several(machines, func(ref string) (latchkey.MachineID, error) { return machineID(cmd.Context(), c, env, ref) }); err != nil {
				return err
			}
			if in.MachineGroups, err = several(groups, func(ref string) (latchkey.MachineGroupID, error) { return machineGroupID(cmd.Context(), c, env, ref) }); err != nil {
				return err
			}
			cred, err := c.CreateCredential(cmd.Context(), env, in)
			if err != nil {
				return err
			}
			return a.checkedCredential(cmd.Context(), c, env, cred, wait)
		},
	}
	f := cmd.Flags()
	f.BoolVar(&wait, "wait", false, "wait for the check of a certificate")
	f.StringVar(&in.Description, "description", "", "description")
	f.StringVar(&username, "username", "", "unique name of the text variable with the user name")
	f.StringVar(&password, "password", "", "unique name of the secret variable with the password")
	f.StringVar(&certificate, "certificate", "", "in place of --password: unique name of the secret variable that refers to the secret of a Key Vault certificate")
	f.StringSliceVar(&usages, "usage", []string{"connection"}, "connection, desktop-flow or both; repeatable")
	cli.EnumFlag(cmd, &exposure, "exposure", "session", "the nearest a secret may come to a flow: session, descriptor, file or environment", exposures()...)
	f.BoolVar(&in.AllowSharedUID, "allow-shared-uid", false, "also allow machines whose flows run as the agent's own user")
	f.StringSliceVar(&machines, "machine", nil, "the only machines it may be used on, besides those of --machine-group; repeatable")
	f.StringSliceVar(&groups, "machine-group", nil, "the only machine groups on whose machines it may be used, besides --machine; repeatable")
	completeFlag(cmd, "username", a.completeVariables(latchkey.TypeText))
	completeFlag(cmd, "password", a.completeVariables(latchkey.TypeSecret))
	completeFlag(cmd, "certificate", a.completeVariables(latchkey.TypeSecret))
	completeFlag(cmd, "usage", oneOf(latchkey.UsageConnection, latchkey.UsageDesktopFlow))
	completeFlag(cmd, "machine", a.completeMachines())
	completeFlag(cmd, "machine-group", a.completeMachineGroups())
	return cmd
}

func (a *app) credentialList() *cobra.Command {
	var v listFlags
	cmd := &cobra.Command{
		Use: "list", Short: "list the credentials", Args: cli.Exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, env, err := a.within(cmd.Context())
			if err != nil {
				return err
			}
			return cli.PrintList(&a.Console, c.Credentials(cmd.Context(), env, v.options()...), []string{"NAME", "USER NAME", "SECRET", "EXPIRES", "EXPOSURE", "YOUR ROLE", "ID"},
				func(c latchkey.Credential) []string {
					return []string{c.Name, c.Slots[latchkey.SlotUsername], c.Slots[c.Authentication.SecretSlot()], expiry(c.Certificate), string(c.Exposure), string(c.MyRole), string(c.ID)}
				})
		},
	}
	v.add(cmd, latchkey.SortOrders...)
	return cmd
}

func (a *app) credentialShow() *cobra.Command {
	return &cobra.Command{
		Use: "show CREDENTIAL", Short: "show a credential: what it refers to, never a value", Args: cli.Exactly("CREDENTIAL"), ValidArgsFunction: a.completeCredentials(),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, env, err := a.within(cmd.Context())
			if err != nil {
				return err
			}
			id, err := credentialID(cmd.Context(), c, env, args[0])
			if err != nil {
				return err
			}
			cred, err := c.Credential(cmd.Context(), env, id)
			if err != nil {
				return err
			}
			return a.PrintOne(cred, credentialFields(cred)...)
		},
	}
}

// ownerName names an owner, and says when nobody can act as it.
func ownerName(o *latchkey.Owner) string {
	switch {
	case o == nil:
		return ""
	case o.Disabled:
		return o.Name + " (deactivated)"
	}
	return o.Name
}

func (a *app) credentialReleases() *cobra.Command {
	var limit int
	cmd := &cobra.Command{
		Use: "releases CREDENTIAL", Short: "list when a credential was released, for which run and to which machine, newest first", Args: cli.Exactly("CREDENTIAL"), ValidArgsFunction: a.completeCredentials(),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, env, err := a.within(cmd.Context())
			if err != nil {
				return err
			}
			id, err := credentialID(cmd.Context(), c, env, args[0])
			if err != nil {
				return err
			}
			return cli.PrintList(&a.Console, first(limit, c.Releases(cmd.Context(), env, id)), []string{"TIME", "OUTCOME", "FLOW", "MACHINE", "VERSION", "CODE", "RUN"},
				func(r latchkey.ReleaseRecord) []string {
					return []string{cli.When(r.At), string(r.Outcome), r.FlowName, firstOf(r.MachineName, string(r.Machine)), r.Version, r.Code, string(r.Run)}
				})
		},
	}
	cli.LimitFlag(cmd, &limit, 100)
	return cmd
}

func (a *app) credentialUpdate() *cobra.Command {
	var name, description, exposure string
	var sharedUID bool
	var machines, groups []string
	cmd := &cobra.Command{
		Use: "update CREDENTIAL", Short: "change a credential; its variables never change", Args: cli.Exactly("CREDENTIAL"), ValidArgsFunction: a.completeCredentials(),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, env, err := a.within(cmd.Context())
			if err != nil {
				return err
			}
			id, err := credentialID(cmd.Context(), c, env, args[0])
			if err != nil {
				return err
			}
			var in latchkey.CredentialUpdate
			f := cmd.Flags()
			if f.Changed("name") {
				in.Name = &name
			}
			if f.Changed("description") {
				in.Description = &description
			}
			if f.Changed("exposure") {
				in.Exposure = (*latchkey.Exposure)(&exposure)
			}
			if f.Changed("allow-shared-uid") {
				in.AllowSharedUID = &sharedUID
			}
			if f.Changed("machine") {
				ids, err := several(machines, func(ref string) (latchkey.MachineID, error) { return machineID(cmd.Context(), c, env, ref) })
				if err != nil {
					return err
				}
				in.Machines = &ids
			}
			if f.Changed("machine-group") {
				ids, err := several(groups, func(ref string) (latchkey.MachineGroupID, error) { return machineGroupID(cmd.Context(), c, env, ref) })
				if err != nil {
					return err
				}
				in.MachineGroups = &ids
			}
			cred, err := c.UpdateCredential(cmd.Context(), env, id, in)
			if err != nil {
				return err
			}
			return a.PrintOne(cred, credentialFields(cred)...)
		},
	}
	f := cmd.Flags()
	f.StringVar(&name, "name", "", "name")
	f.StringVar(&description, "description", "", "description")
	cli.EnumFlag(cmd, &exposure, "exposure", "", "the nearest a secret may come to a flow; the owner's alone to change", exposures()...)
	f.BoolVar(&sharedUID, "allow-shared-uid", false, "also allow machines whose flows run as the agent's own user; the owner's alone to change")
	f.StringSliceVar(&machines, "machine", nil, "the only machines it may be used on, besides those of --machine-group; repeatable; replaces the list")
	f.StringSliceVar(&groups, "machine-group", nil, "the only machine groups on whose machines it may be used; repeatable; replaces the list")
	completeFlag(cmd, "machine", a.completeMachines())
	completeFlag(cmd, "machine-group", a.completeMachineGroups())
	return cmd
}

func (a *app) credentialDelete() *cobra.Command {
	cmd := &cobra.Command{Use: "delete CREDENTIAL", Short: "remove a credential; its variables stay", Args: cli.Exactly("CREDENTIAL"), ValidArgsFunction: a.completeCredentials()}
	return a.deletes(cmd, shared{kind: latchkey.KindCredential, resolve: asText(credentialID)})
}

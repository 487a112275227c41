package main

import (
	"context"
	"errors"
	"iter"
	"slices"

	"github.com/spf13/cobra"

	"latchkey.dev/client"
	"latchkey.dev/internal/cli"
	"latchkey.dev/latchkey"
)

func userFields(u latchkey.User) []cli.Field {
	fields := []cli.Field{
		{"ID", string(u.ID)}, {"Login", u.Login}, {"Name", u.DisplayName},
		{"Tenant admin", cli.Yes(u.TenantAdmin)}, {"Disabled", cli.Yes(u.Disabled)},
	}
	for _, e := range u.ExternalIdentities {
		fields = append(fields, cli.Field{"Also", e.ObjectID + " at " + e.Issuer})
	}
	return append(fields, cli.Field{"Created", cli.When(u.CreatedAt)})
}

func (a *app) userCommand() *cobra.Command {
	cmd := cli.Group("user", "local accounts", "Accounts of people. Only tenant admins manage them.", "users")
	cmd.AddCommand(a.userCreate(), a.userList(), a.userShow(), a.userUpdate(), a.userDisable(), a.userEnable(), a.userIdentityCommand())
	return cmd
}

func (a *app) completeUsers() completion {
	return completeTenant(a, func(ctx context.Context, c *client.Client) iter.Seq2[latchkey.User, error] { return c.Users(ctx) },
		func(u latchkey.User) string { return described(u.Login, u.DisplayName) })
}

func (a *app) userCreate() *cobra.Command {
	var in latchkey.UserCreate
	var passwordFile string
	var noPassword bool
	cmd := &cobra.Command{
		Use:   "create LOGIN",
		Short: "make a local account",
		Long: `Create makes a local account. The password is asked for twice, or read from a pipe or
from --password-file; it is never an argument. With --no-password the account can
sign in by API tokens only.`,
		Args: cli.Exactly("LOGIN"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			in.Login = args[0]
			if !noPassword {
				password, err := a.newSecret(cmd.Context(), "Password of "+in.Login, passwordFile)
				if err != nil {
					return err
				}
				text := password.Reveal()
				in.Password = &text
			}
			u, err := c.CreateUser(cmd.Context(), in)
			if err != nil {
				return err
			}
			return a.PrintOne(u, userFields(u)...)
		},
	}
	f := cmd.Flags()
	f.StringVar(&in.DisplayName, "name", "", "name to show; defaults to the login")
	f.BoolVar(&in.TenantAdmin, "tenant-admin", false, "may make environments, vaults and accounts")
	f.StringVar(&passwordFile, "password-file", "", "file whose every byte is the password; - is standard input")
	f.BoolVar(&noPassword, "no-password", false, "sign in by API tokens only")
	cmd.MarkFlagsMutuallyExclusive("password-file", "no-password")
	return cmd
}

func (a *app) userList() *cobra.Command {
	var v listFlags
	cmd := &cobra.Command{
		Use: "list", Short: "list the accounts", Args: cli.Exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			return cli.PrintList(&a.Console, c.Users(cmd.Context(), v.options()...), []string{"LOGIN", "NAME", "TENANT ADMIN", "DISABLED", "ID"},
				func(u latchkey.User) []string {
					return []string{u.Login, u.DisplayName, cli.Yes(u.TenantAdmin), cli.Yes(u.Disabled), string(u.ID)}
				})
		},
	}
	v.add(cmd)
	return cmd
}

func (a *app) userShow() *cobra.Command {
	return &cobra.Command{
		Use: "show USER", Short: "show an account", Args: cli.Exactly("USER"), ValidArgsFunction: a.completeUsers(),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			u, err := c.User(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return a.PrintOne(u, userFields(u)...)
		},
	}
}

func (a *app) userUpdate() *cobra.Command {
	var name, passwordFile, currentFile string
	var tenantAdmin, password bool
	cmd := &cobra.Command{
		Use: "update USER", Short: "change an account",
		Long: `Update changes what is given. A new password of your own account takes the current one
as well, if there is one: asked for on a terminal, else from --current-password-file. A
new password ends the account's sessions.`,
		Args: cli.Exactly("USER"), ValidArgsFunction: a.completeUsers(),
		RunE: func(cmd *cobra.Command, args []string) error {
			password = password || passwordFile != ""
			switch {
			case currentFile != "" && !password:
				return cli.Usagef("--current-password-file goes with --password or --password-file")
			case currentFile == "-" && (passwordFile == "-" || passwordFile == "" && !cli.IsTerminal(a.In)):
				return cli.Usagef("standard input cannot be both passwords: name a file for one")
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			var in latchkey.UserUpdate
			f := cmd.Flags()
			if f.Changed("name") {
				in.DisplayName = &name
			}
			if f.Changed("tenant-admin") {
				in.TenantAdmin = &tenantAdmin
			}
			if password {
				if in.CurrentPassword, err = a.currentPassword(cmd.Context(), c, args[0], currentFile); err != nil {
					return err
				}
				p, err := a.newSecret(cmd.Context(), "New password of "+args[0], passwordFile)
				if err != nil {
					return err
				}
				text := p.Reveal()
				in.Password = &text
			}
			u, err := c.UpdateUser(cmd.Context(), args[0], in)
			if err != nil {
				return namingCurrentPassword(err)
			}
			if password {
				a.Say("the account's sessions have ended: sign in again with the new password")
			}
			return a.PrintOne(u, userFields(u)...)
		},
	}
	f := cmd.Flags()
	f.StringVar(&name, "name", "", "name to show")
	f.BoolVar(&tenantAdmin, "tenant-admin", false, "may make environments, vaults and accounts")
	f.BoolVar(&password, "password", false, "set a new password: asked for twice, or read from a pipe")
	f.StringVar(&passwordFile, "password-file", "", "set a new password: every byte of this file; - is standard input")
	f.StringVar(&currentFile, "current-password-file", "", "your current password, for a new one of your own account: every byte of this file; - is standard input")
	return cmd
}

// currentPassword returns the password that the caller's own account has now,
// or nil for another account and for one that has none.
func (a *app) currentPassword(ctx context.Context, c *client.Client, ref, file string) (*string, error) {
	var p latchkey.Secret
	var err error
	if file != "" {
		p, err = a.newSecret(ctx, "Current password", file)
	} else if cli.IsTerminal(a.In) {
		me, meErr := c.Me(ctx)
		if meErr != nil || ref != me.Login && ref != string(me.ID) {
			return nil, meErr
		}
		p, err = a.prompt(ctx, "Current password, or nothing if there is none")
	}
	if err != nil || p.IsZero() || p.Reveal() == "" {
		return nil, err
	}
	text := p.Reveal()
	return &text, nil
}

// namingCurrentPassword adds the flag to an error about the current password.
func namingCurrentPassword(err error) error {
	e, ok := errors.AsType[*latchkey.Error](err)
	if ok && slices.ContainsFunc(e.Fields, func(f latchkey.FieldError) bool { return f.Field == "currentPassword" }) {
		return cli.Hint(err, "the flag --current-password-file FILE")
	}
	return err
}

func (a *app) userDisable() *cobra.Command {
	cmd := &cobra.Command{
		Use: "disable USER", Short: "stop an account at once, also for runs that are under way", Args: cli.Exactly("USER"), ValidArgsFunction: a.completeUsers(),
		Long: `Disable refuses an account at once, whatever it is signed in with. Runs that it has started
and runs through its connections get no secret any more, also those that are under way.
Nothing is deleted: user enable takes it back. What the account owns is counted, in the
environments whose admin or auditor you are: environment member hand-over gives it to
somebody else. An environment keeps an admin who is let in, unless --force says otherwise,
which is on record: a tenant admin can make another one.`,
	}
	sure := cli.SureFlag(cmd)
	force := cmd.Flags().Bool("force", false, forceDisable)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := a.client()
		if err != nil {
			return err
		}
		u, err := c.User(cmd.Context(), args[0])
		if err != nil {
			return err
		}
		if err := a.sayOwned(cmd.Context(), c, u); err != nil {
			return err
		}
		if err := a.Confirm(cmd.Context(), *sure, "disable the account "+args[0]+", so that it is refused and its runs get no secret any more"); err != nil {
			return err
		}
		return a.setDisabled(cmd.Context(), c, args[0], latchkey.UserUpdate{Disabled: new(true), Force: *force})
	}
	return cmd
}

func (a *app) userEnable() *cobra.Command {
	return &cobra.Command{
		Use: "enable USER", Short: "let a disabled account in again", Args: cli.Exactly("USER"), ValidArgsFunction: a.completeUsers(),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			return a.setDisabled(cmd.Context(), c, args[0], latchkey.UserUpdate{Disabled: new(false)})
		},
	}
}

// forceDisable describes the flag of commands that disable accounts.
const forceDisable = "also if an environment is left without an admin"

func (a *app) setDisabled(ctx context.Context, c *client.Client, ref string, in latchkey.UserUpdate) error {
	u, err := c.UpdateUser(ctx, ref, in)
	if err != nil {
		return err
	}
	return a.PrintOne(u, userFields(u)...)
}

package main

import (
	"context"
	"iter"
	"time"

	"github.com/spf13/cobra"

	"latchkey.dev/client"
	"latchkey.dev/internal/cli"
	"latchkey.dev/latchkey"
)

func (a *app) tokenCommand() *cobra.Command {
	cmd := cli.Group("token", "your own API tokens", "API tokens of the account that you are signed in with.", "tokens")
	cmd.AddCommand(a.tokenCreate(), a.tokenList(), a.tokenRevoke())
	return cmd
}

func (a *app) tokenCreate() *cobra.Command {
	var expires time.Duration
	cmd := &cobra.Command{
		Use:   "create NAME",
		Short: "make an API token; it is shown once",
		Long:  `Create makes an API token and prints it, bare, so that it can go into a pipe or a file.`,
		Args:  cli.Exactly("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			t, err := c.CreateToken(cmd.Context(), latchkey.TokenCreate{Name: args[0], ExpiresIn: latchkey.Duration(expires)})
			if err != nil {
				return err
			}
			if a.JSON {
				return a.PrintJSON(t)
			}
			a.Say("%s expires %s; it is shown only now", t.ID, cli.When(t.ExpiresAt))
			return a.reveal(latchkey.NewSecret(t.Value))
		},
	}
	cmd.Flags().DurationVar(&expires, "expires-in", latchkey.DefaultTokenTTL, "how long it lasts, at most 8784h")
	return cmd
}

func (a *app) tokenList() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "list your API tokens", Args: cli.Exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			return cli.PrintList(&a.Console, c.Tokens(cmd.Context()), []string{"ID", "NAME", "EXPIRES", "LAST USED"},
				func(t latchkey.Token) []string {
					return []string{string(t.ID), t.Name, cli.When(t.ExpiresAt), cli.WhenPtr(t.LastUsedAt)}
				})
		},
	}
}

func (a *app) tokenRevoke() *cobra.Command {
	cmd := &cobra.Command{Use: "revoke TOKEN", Short: "end an API token at once, by its id or name", Args: cli.Exactly("TOKEN"), ValidArgsFunction: completeTenant(a, func(ctx context.Context, c *client.Client) iter.Seq2[latchkey.Token, error] {
		return c.Tokens(ctx)
	}, func(t latchkey.Token) string { return described(t.ID, t.Name) })}
	sure := cli.SureFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := a.client()
		if err != nil {
			return err
		}
		id, err := byName(args[0], "tok", latchkey.KindToken, c.Tokens(cmd.Context()),
			func(t latchkey.Token) (latchkey.TokenID, string) { return t.ID, t.Name })
		if err != nil {
			return err
		}
		if err := a.Confirm(cmd.Context(), *sure, "revoke the token "+args[0]); err != nil {
			return err
		}
		return c.RevokeToken(cmd.Context(), id)
	}
	return cmd
}

package main

import (
	"context"
	"iter"
	"time"

	"github.com/spf13/cobra"

	"latchkey.dev/client"
	"latchkey.dev/latchkey"
)

func (a *app) tokenCommand() *cobra.Command {
	cmd := group("token", "your own API tokens", "API tokens of the account that you are signed in with.", "tokens")
	cmd.AddCommand(a.tokenCreate(), a.tokenList(), a.tokenRevoke())
	return cmd
}

func (a *app) tokenCreate() *cobra.Command {
	var expires time.Duration
	cmd := &cobra.Command{
		Use:   "create NAME",
		Short: "make an API token; it is shown once",
		Long:  `Create makes an API token and prints it, bare, so that it can go into a pipe or a file.`,
		Args:  exactly("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			t, err := c.CreateToken(cmd.Context(), latchkey.TokenCreate{Name: args[0], ExpiresIn: latchkey.Duration(expires)})
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(t)
			}
			a.say("%s expires %s; it is shown only now", t.ID, when(t.ExpiresAt))
			return a.reveal(latchkey.NewSecret(t.Value))
		},
	}
	cmd.Flags().DurationVar(&expires, "expires-in", latchkey.DefaultTokenTTL, "how long it lasts, at most 8784h")
	return cmd
}

func (a *app) tokenList() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "list your API tokens", Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			return printList(a, c.Tokens(cmd.Context()), []string{"ID", "NAME", "EXPIRES", "LAST USED"},
				func(t latchkey.Token) []string {
					return []string{string(t.ID), t.Name, when(t.ExpiresAt), whenPtr(t.LastUsedAt)}
				})
		},
	}
}

func (a *app) tokenRevoke() *cobra.Command {
	cmd := &cobra.Command{Use: "revoke TOKEN", Short: "end an API token at once, by its id or name", Args: exactly("TOKEN"), ValidArgsFunction: completeTenant(a, func(ctx context.Context, c *client.Client) iter.Seq2[latchkey.Token, error] {
		return c.Tokens(ctx)
	}, func(t latchkey.Token) string { return described(t.ID, t.Name) })}
	sure := sureFlag(cmd)
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
		if err := a.confirm(cmd.Context(), *sure, "revoke the token "+args[0]); err != nil {
			return err
		}
		return c.RevokeToken(cmd.Context(), id)
	}
	return cmd
}

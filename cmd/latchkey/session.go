package main

import (
	"context"
	"iter"

	"github.com/spf13/cobra"

	"latchkey.dev/client"
	"latchkey.dev/internal/cli"
	"latchkey.dev/latchkey"
)

func (a *app) sessionCommand() *cobra.Command {
	cmd := cli.Group("session", "where you are signed in", `What signing in began and has not ended, in browsers and on the command line. A browser's
session ends when it is not used for an hour, unless the server says otherwise, and any
after 12 hours at the latest.`, "sessions")
	cmd.AddCommand(a.sessionList(), a.sessionEnd(), a.sessionEndOthers())
	return cmd
}

func (a *app) sessionList() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "list your sessions, the newest first", Args: cli.Exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			return cli.PrintList(&a.Console, c.Sessions(cmd.Context()), []string{"ID", "BY", "ADDRESS", "STARTED", "LAST USED", "CLIENT"},
				func(s latchkey.Session) []string {
					id := string(s.ID)
					if s.Current {
						id += " (this one)"
					}
					return []string{id, s.Method, s.Address, cli.When(s.StartedAt), cli.WhenPtr(s.LastUsedAt), s.Client}
				})
		},
	}
}

func (a *app) sessionEnd() *cobra.Command {
	cmd := &cobra.Command{Use: "end SESSION", Short: "end a session at once, by its id", Args: cli.Exactly("SESSION"), ValidArgsFunction: completeTenant(a, func(ctx context.Context, c *client.Client) iter.Seq2[latchkey.Session, error] {
		return c.Sessions(ctx)
	}, func(s latchkey.Session) string { return described(s.ID, s.Client) })}
	sure := cli.SureFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := a.client()
		if err != nil {
			return err
		}
		if err := a.Confirm(cmd.Context(), *sure, "end the session "+args[0]); err != nil {
			return err
		}
		return c.RevokeToken(cmd.Context(), latchkey.TokenID(args[0]))
	}
	return cmd
}

func (a *app) sessionEndOthers() *cobra.Command {
	cmd := &cobra.Command{
		Use: "end-others", Short: "end every session of yours but this one",
		Long: `End-others signs you out everywhere else, and ends sign-in links that were not used. API
tokens stay.`,
		Args: cli.Exactly(),
	}
	sure := cli.SureFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := a.client()
		if err != nil {
			return err
		}
		if err := a.Confirm(cmd.Context(), *sure, "end your other sessions"); err != nil {
			return err
		}
		n, err := c.EndOtherSessions(cmd.Context())
		if err != nil {
			return err
		}
		if a.JSON {
			return a.PrintJSON(n)
		}
		a.Say("%d ended", n.Ended)
		return nil
	}
	return cmd
}

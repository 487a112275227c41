package main

import (
	"github.com/spf13/cobra"

	"latchkey.dev/internal/cli"
	"latchkey.dev/latchkey"
)

func (a *app) attentionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "attention",
		Short: "list what of an environment wants your attention",
		Long: `Attention lists, of what you may see: secret references whose check failed, secrets and
certificates that expire within 30 days, machines that run nothing, releases that were
denied and flows that failed within 7 days, and your notices; the gravest first.`,
		Example: `  latchkey attention -e erp
  latchkey attention --json | jq '.items[] | select(.severity == "error")'`,
		Args: cli.Exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, env, err := a.within(cmd.Context())
			if err != nil {
				return err
			}
			found, err := c.Attention(cmd.Context(), env)
			if err != nil {
				return err
			}
			if a.JSON {
				return a.PrintOne(found)
			}
			items := func(yield func(latchkey.AttentionItem, error) bool) {
				for _, i := range found.Items {
					if !yield(i, nil) {
						return
					}
				}
			}
			if err := cli.PrintList(&a.Console, items, []string{"SEVERITY", "KIND", "NAME", "WHAT", "SINCE", "TRY"}, func(i latchkey.AttentionItem) []string {
				return []string{string(i.Severity), string(i.Subject.Kind), i.Subject.Name, short(i.What), cli.WhenPtr(i.Since), short(i.Remedy)}
			}); err != nil {
				return err
			}
			if found.More > 0 {
				a.Say("%d more are not listed", found.More)
			}
			return nil
		},
	}
}

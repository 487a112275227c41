package main

import (
	"iter"

	"github.com/spf13/cobra"

	"latchkey.dev/client"
	"latchkey.dev/internal/cli"
	"latchkey.dev/latchkey"
)

func (a *app) auditCommand() *cobra.Command {
	cmd := cli.Group("audit", "who did what, when", `The audit log. Every operation is in it, and every release of a secret before it
happens.`)
	cmd.AddCommand(a.auditList(), a.auditExport())
	return cmd
}

func (a *app) auditList() *cobra.Command {
	var f client.AuditFilter
	var v auditFlags
	var limit int
	cmd := &cobra.Command{
		Use:   "list",
		Short: "list entries of the audit log, newest first",
		Long: `List shows entries of the audit log. Without an environment (-e) it shows what you may
see of all of them. To copy the log take audit export.`,
		Example: `  latchkey audit list -e erp --action release.granted --since 24h
  latchkey audit list --run run_… --oldest --json`,
		Args: cli.Exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			if err := v.fill(cmd.Context(), a, c, &f); err != nil {
				return err
			}
			return cli.PrintList(&a.Console, first(limit, c.Audit(cmd.Context(), f)), []string{"TIME", "ACTION", "OUTCOME", "ACTOR", "SUBJECT", "REASON"},
				func(e latchkey.AuditEvent) []string {
					return []string{cli.When(e.At), string(e.Action), string(e.Outcome), e.ActorName, firstOf(e.SubjectName, e.Subject), short(e.Reason)}
				})
		},
	}
	v.add(a, cmd)
	cmd.Flags().BoolVar(&f.Oldest, "oldest", false, "oldest first")
	cli.LimitFlag(cmd, &limit, 100)
	return cmd
}

// first is the first n of items; all of them if n is 0.
func first[T any](n int, items iter.Seq2[T, error]) iter.Seq2[T, error] {
	if n <= 0 {
		return items
	}
	return func(yield func(T, error) bool) {
		left := n
		for item, err := range items {
			if !yield(item, err) {
				return
			}
			if left--; left == 0 {
				return
			}
		}
	}
}

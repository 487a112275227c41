package main

import (
	"context"
	"iter"
	"time"

	"github.com/spf13/cobra"

	"latchkey.dev/client"
	"latchkey.dev/latchkey"
)

func (a *app) auditCommand() *cobra.Command {
	cmd := group("audit", "who did what, when", `The audit log. Every operation is in it, and every release of a secret before it
happens.`)
	var f client.AuditFilter
	var since, until, action, outcome, actor, run, machine, credential string
	var limit int
	list := &cobra.Command{
		Use:   "list",
		Short: "list entries of the audit log, newest first",
		Long: `List shows entries of the audit log. Without an environment (-e) it shows what you may
see of all of them.`,
		Example: `  latchkey audit list -e erp --action release.granted --since 24h
  latchkey audit list --run run_… --oldest --json`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			f.Environment = a.environment
			f.Action, f.Outcome, f.Actor = latchkey.Action(action), latchkey.Outcome(outcome), latchkey.PrincipalID(actor)
			f.Run, f.Machine, f.Credential = latchkey.RunID(run), latchkey.MachineID(machine), latchkey.CredentialID(credential)
			if f.Since, err = parseWhen("--since", since); err != nil {
				return err
			}
			if f.Until, err = parseWhen("--until", until); err != nil {
				return err
			}
			return printList(a, first(limit, c.Audit(cmd.Context(), f)), []string{"TIME", "ACTION", "OUTCOME", "ACTOR", "SUBJECT", "REASON"},
				func(e latchkey.AuditEvent) []string {
					return []string{when(e.At), string(e.Action), string(e.Outcome), e.ActorName, firstOf(e.SubjectName, e.Subject), short(e.Reason)}
				})
		},
	}
	fl := list.Flags()
	fl.StringVar(&action, "action", "", "only this action, such as release.granted")
	fl.StringVar(&outcome, "outcome", "", "only this outcome: ok, denied or failed")
	fl.StringVar(&actor, "actor", "", "only what this principal did, by id")
	fl.StringVar(&f.Subject, "subject", "", "only what was done to this thing, by id")
	fl.StringVar(&run, "run", "", "only what belongs to this run")
	fl.StringVar(&machine, "machine", "", "only what belongs to this machine, by id")
	fl.StringVar(&credential, "credential", "", "only what belongs to this credential, by id")
	fl.StringVar(&since, "since", "", "only from this time on: 2026-11-23T08:00:00Z, or 24h for a day ago")
	fl.StringVar(&until, "until", "", "only before this time")
	fl.BoolVar(&f.Oldest, "oldest", false, "oldest first")
	fl.IntVar(&limit, "limit", 100, "how many at most; 0 is all")
	completeFlag(list, "outcome", oneOf(latchkey.OutcomeOK, latchkey.OutcomeDenied, latchkey.OutcomeFailed))
	completeFlag(list, "run", a.completeRuns(false))
	completeFlag(list, "machine", completeNames(a, func(ctx context.Context, c *client.Client, env string) iter.Seq2[latchkey.Machine, error] {
		return c.Machines(ctx, env)
	}, func(m latchkey.Machine) string { return described(m.ID, m.Name) }))
	completeFlag(list, "credential", completeNames(a, func(ctx context.Context, c *client.Client, env string) iter.Seq2[latchkey.Credential, error] {
		return c.Credentials(ctx, env)
	}, func(c latchkey.Credential) string { return described(c.ID, c.Name) }))
	cmd.AddCommand(list)
	return cmd
}

// parseWhen reads a point in time, or how long ago it was.
func parseWhen(flag, s string) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	if d, err := time.ParseDuration(s); err == nil {
		return time.Now().Add(-d), nil
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return t, usagef("%s must be a time such as 2026-11-23T08:00:00Z or a duration such as 24h", flag)
	}
	return t, nil
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

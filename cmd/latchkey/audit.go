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
	cmd.AddCommand(a.auditList(), a.auditExport())
	return cmd
}

// auditFlags are the flags that choose entries of the audit log.
type auditFlags struct {
	action, outcome, actor, subject, run, machine, credential, since, until string
}

func (v *auditFlags) add(a *app, cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringVar(&v.action, "action", "", "only this action, such as release.granted, or release. for all that begin so")
	fl.StringVar(&v.outcome, "outcome", "", "only this outcome: ok, denied or failed")
	fl.StringVar(&v.actor, "actor", "", "only what this principal did, by id")
	fl.StringVar(&v.subject, "subject", "", "only what was done to this thing, by id")
	fl.StringVar(&v.run, "run", "", "only what belongs to this run")
	fl.StringVar(&v.machine, "machine", "", "only what belongs to this machine, by id")
	fl.StringVar(&v.credential, "credential", "", "only what belongs to this credential, by id")
	fl.StringVar(&v.since, "since", "", "only from this time on: 2026-11-23T08:00:00Z, or 24h for a day ago")
	fl.StringVar(&v.until, "until", "", "only before this time")
	completeFlag(cmd, "action", completeActions())
	completeFlag(cmd, "outcome", oneOf(latchkey.OutcomeOK, latchkey.OutcomeDenied, latchkey.OutcomeFailed))
	completeFlag(cmd, "actor", completeTenant(a, func(ctx context.Context, c *client.Client) iter.Seq2[latchkey.User, error] { return c.Users(ctx) },
		func(u latchkey.User) string { return described(u.ID, u.Login) }))
	completeFlag(cmd, "run", a.completeRuns(false))
	completeFlag(cmd, "machine", completeNames(a, func(ctx context.Context, c *client.Client, env string) iter.Seq2[latchkey.Machine, error] {
		return c.Machines(ctx, env)
	}, func(m latchkey.Machine) string { return described(m.ID, m.Name) }))
	completeFlag(cmd, "credential", completeNames(a, func(ctx context.Context, c *client.Client, env string) iter.Seq2[latchkey.Credential, error] {
		return c.Credentials(ctx, env)
	}, func(c latchkey.Credential) string { return described(c.ID, c.Name) }))
}

// fill puts what the flags say into a filter.
func (v *auditFlags) fill(a *app, f *client.AuditFilter) (err error) {
	f.Environment, f.Subject = a.environment, v.subject
	f.Action, f.Outcome, f.Actor = latchkey.Action(v.action), latchkey.Outcome(v.outcome), latchkey.PrincipalID(v.actor)
	f.Run, f.Machine, f.Credential = latchkey.RunID(v.run), latchkey.MachineID(v.machine), latchkey.CredentialID(v.credential)
	if f.Since, err = parseWhen("--since", v.since); err != nil {
		return err
	}
	f.Until, err = parseWhen("--until", v.until)
	return err
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
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			if err := v.fill(a, &f); err != nil {
				return err
			}
			return printList(a, first(limit, c.Audit(cmd.Context(), f)), []string{"TIME", "ACTION", "OUTCOME", "ACTOR", "SUBJECT", "REASON"},
				func(e latchkey.AuditEvent) []string {
					return []string{when(e.At), string(e.Action), string(e.Outcome), e.ActorName, firstOf(e.SubjectName, e.Subject), short(e.Reason)}
				})
		},
	}
	v.add(a, cmd)
	cmd.Flags().BoolVar(&f.Oldest, "oldest", false, "oldest first")
	cmd.Flags().IntVar(&limit, "limit", 100, "how many at most; 0 is all")
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

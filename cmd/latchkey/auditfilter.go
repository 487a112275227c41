package main

import (
	"context"
	"iter"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"latchkey.dev/client"
	"latchkey.dev/internal/cli"
	"latchkey.dev/latchkey"
)

// auditFlags are the flags that choose entries of the audit log.
type auditFlags struct {
	action, outcome, actor, subject, run, machine, credential, since, until string
}

func (v *auditFlags) add(a *app, cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringVar(&v.action, "action", "", "only this action, such as release.granted, or release. for all that begin so")
	cli.EnumFlag(cmd, &v.outcome, "outcome", "", "only this outcome: ok, denied or failed", latchkey.OutcomeOK, latchkey.OutcomeDenied, latchkey.OutcomeFailed)
	fl.StringVar(&v.actor, "actor", "", "only what this principal did, by id, login, client id or name")
	fl.StringVar(&v.subject, "subject", "", "only what was done to this thing, by id")
	fl.StringVar(&v.run, "run", "", "only what belongs to this run, by id")
	fl.StringVar(&v.machine, "machine", "", "only what belongs to this machine, by id or name")
	fl.StringVar(&v.credential, "credential", "", "only what belongs to this credential, by id or name")
	fl.StringVar(&v.since, "since", "", "only from this time on: 2026-11-23T08:00:00Z, or 24h for a day ago")
	fl.StringVar(&v.until, "until", "", "only before this time")
	completeFlag(cmd, "action", completeActions())
	completeFlag(cmd, "actor", a.completePrincipals())
	completeFlag(cmd, "run", a.completeRuns(false))
	completeFlag(cmd, "machine", completeNames(a, func(ctx context.Context, c *client.Client, env string) iter.Seq2[latchkey.Machine, error] {
		return c.Machines(ctx, env)
	}, func(m latchkey.Machine) string { return m.Name }))
	completeFlag(cmd, "credential", completeNames(a, func(ctx context.Context, c *client.Client, env string) iter.Seq2[latchkey.Credential, error] {
		return c.Credentials(ctx, env)
	}, func(c latchkey.Credential) string { return c.Name }))
}

// anyID is the shape of every id.
var anyID = regexp.MustCompile(`^[a-z]+_[0-9a-z]{26}$`)

// fill puts what the flags say into a filter. What chooses nothing because it is
// misspelt is an error: an empty answer says that nothing happened.
func (v *auditFlags) fill(ctx context.Context, a *app, c *client.Client, f *client.AuditFilter) (err error) {
	f.Environment, f.Subject = a.environment, v.subject
	f.Action, f.Outcome, f.Run = latchkey.Action(v.action), latchkey.Outcome(v.outcome), latchkey.RunID(v.run)
	if actions := auditActions(); v.action != "" && !slices.Contains(actions, v.action) {
		err := cli.Usagef("--action: there is no action %q", v.action)
		if near := cli.Nearest(v.action, actions); near != "" {
			return cli.Hint(err, "--action "+near)
		}
		return cli.Hint(err, "--action release., for all that begin so; a shell completes the others")
	}
	if v.run != "" && !latchkey.HasPrefix(v.run, "run") {
		return cli.Hint(cli.Usagef("--run must be the id of a run, run_…, not %q", v.run), "latchkey run list")
	}
	if v.subject != "" && v.subject != string(latchkey.ServiceIdentity) && !anyID.MatchString(v.subject) {
		return cli.Usagef("--subject must be an id, such as cred_…, not %q", v.subject)
	}
	if f.Since, err = parseWhen("--since", v.since); err != nil {
		return err
	}
	if f.Until, err = parseWhen("--until", v.until); err != nil {
		return err
	}
	if f.Actor, err = a.actorID(ctx, c, v.actor); err != nil {
		return err
	}
	if v.machine != "" {
		if f.Machine, err = idWithin(ctx, a, v.machine, "mach", machineID); err != nil {
			return err
		}
	}
	if v.credential != "" {
		f.Credential, err = idWithin(ctx, a, v.credential, "cred", credentialID)
	}
	return err
}

// chose returns what checks that these flags, which f was filled by, could have
// chosen an entry. When an export began does not matter to it.
func (v *auditFlags) chose(ctx context.Context, c *client.Client, f client.AuditFilter) (func(latchkey.AuditEvent) error, error) {
	env := latchkey.EnvironmentID(f.Environment)
	if env != "" && !latchkey.HasPrefix(f.Environment, "env") {
		e, err := c.Environment(ctx, f.Environment)
		if err != nil {
			return nil, err
		}
		env = e.ID
	}
	action := func(a latchkey.Action) bool {
		return a == f.Action || strings.HasSuffix(v.action, ".") && strings.HasPrefix(string(a), v.action)
	}
	return func(e latchkey.AuditEvent) error {
		for _, flag := range []struct {
			name, given string
			chooses     bool
		}{
			{"environment", f.Environment, e.Environment == env}, {"action", v.action, action(e.Action)}, {"outcome", v.outcome, e.Outcome == f.Outcome},
			{"actor", v.actor, e.Actor == f.Actor}, {"subject", v.subject, e.Subject == f.Subject}, {"run", v.run, e.Run == f.Run},
			{"machine", v.machine, e.Machine == f.Machine}, {"credential", v.credential, e.Credential == f.Credential}, {"until", v.until, e.At.Before(f.Until)},
		} {
			if flag.given != "" && !flag.chooses {
				return cli.Usagef("it has the entry %s, %s at %s, which --%s %s does not choose: it was made with other flags",
					e.ID, e.Action, e.At.Format(time.RFC3339), flag.name, cli.QuoteWord(flag.given))
			}
		}
		return nil
	}, nil
}

// idWithin resolves the name of a thing in the environment to work in. An id
// needs none.
func idWithin[ID ~string](ctx context.Context, a *app, ref, prefix string, resolve func(context.Context, *client.Client, string, string) (ID, error)) (ID, error) {
	if latchkey.HasPrefix(ref, prefix) {
		return ID(ref), nil
	}
	c, env, err := a.within(ctx)
	if err != nil {
		return "", err
	}
	return resolve(ctx, c, env, ref)
}

// actorID returns the id of who acts under an id, a login, a client id or a name: a
// user or a service principal that the caller may see, a member of the environment to work in, or a machine
// in it.
func (a *app) actorID(ctx context.Context, c *client.Client, ref string) (latchkey.PrincipalID, error) {
	if ref == "" || ref == string(latchkey.ServiceIdentity) || anyID.MatchString(ref) {
		return latchkey.PrincipalID(ref), nil
	}
	found := map[latchkey.PrincipalID]bool{}
	var names []string
	see := func(id latchkey.PrincipalID, known ...string) {
		names = append(names, known...)
		if slices.Contains(known, ref) {
			found[id] = true
		}
	}
	for u, err := range c.Users(ctx) {
		if err != nil {
			return "", err
		}
		see(u.ID, u.Login)
	}
	for p, err := range c.ServicePrincipals(ctx) {
		if err != nil {
			return "", err
		}
		see(p.ID, p.DisplayName, p.ClientID)
	}
	if len(found) == 0 {
		if _, env, err := a.within(ctx); err == nil {
			for m, err := range c.Members(ctx, env) {
				if err != nil {
					break // who may not see them is not told of them
				}
				see(m.Principal, m.Name)
			}
			for m, err := range c.Machines(ctx, env) {
				if err != nil {
					break
				}
				see(latchkey.PrincipalID(m.ID), m.Name)
			}
		}
	}
	ids := slices.Sorted(maps.Keys(found))
	switch len(ids) {
	case 1:
		return ids[0], nil
	case 0:
		err := cli.Usagef("--actor: nobody that you may see has the login or name %q", ref)
		if near := cli.Nearest(ref, names); near != "" {
			return "", cli.Hint(err, "--actor "+cli.QuoteWord(near)+", if that is what you mean")
		}
		return "", cli.Hint(err, "latchkey user list, latchkey service-principal list, latchkey machine list, or an id")
	}
	return "", cli.Usagef("--actor: more than one is called %q; give an id: %s", ref, cli.Joined(ids))
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
		return t, cli.Usagef("%s must be a time such as 2026-11-23T08:00:00Z or a duration such as 24h", flag)
	}
	return t, nil
}

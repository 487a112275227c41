package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"latchkey.dev/client"
	"latchkey.dev/internal/cli"
	"latchkey.dev/latchkey"
)

func (a *app) accessCommand() *cobra.Command {
	cmd := cli.Group("access", "who may do what, and why", "Access says what somebody may do with something in an environment, and why.")
	cmd.AddCommand(a.accessExplain())
	return cmd
}

// explainable are how commands name the things whose access is explained.
func (a *app) explainable() map[latchkey.Kind]shared {
	same := func(_ context.Context, _ *client.Client, _, ref string) (string, error) { return ref, nil }
	return map[latchkey.Kind]shared{
		latchkey.KindVariable:   {resolve: same, complete: a.completeVariables("")},
		latchkey.KindCredential: {resolve: asText(credentialID), complete: a.completeCredentials()},
		latchkey.KindMachine:    {resolve: asText(machineID), complete: a.completeMachines()},

		latchkey.KindMachineGroup: {resolve: asText(machineGroupID), complete: a.completeMachineGroups()},

		latchkey.KindConnection: {resolve: asText(connectionID), complete: a.completeConnections()},
		latchkey.KindFlow:       {resolve: asText(flowID), complete: a.completeFlows()},
		latchkey.KindRun:        {resolve: same, complete: a.completeRuns(false)},
	}
}

// explainedActions are what the second argument of access explain may be.
func explainedActions() []string {
	var all []string
	for _, kind := range latchkey.ExplainedKinds {
		all = append(all, described(word(kind), "every action"))
		for _, action := range latchkey.ActionsOf(kind) {
			all = append(all, string(action))
		}
	}
	slices.Sort(all)
	return all
}

// explained returns the kind and the action that an argument stands for.
func explained(text string) (latchkey.Kind, latchkey.Action, error) {
	for _, kind := range latchkey.ExplainedKinds {
		if text == word(kind) {
			return kind, "", nil
		}
	}
	action := latchkey.Action(text)
	if kind := latchkey.KindOf(action); kind != "" {
		return kind, action, nil
	}
	var names []string
	for _, kind := range latchkey.ExplainedKinds {
		names = append(names, word(kind))
		for _, a := range latchkey.ActionsOf(kind) {
			names = append(names, string(a))
		}
	}
	err := cli.Usagef("ACTION must be an action on something in an environment, such as credential.use, or a kind of things for all of its actions, such as credential")
	if near := cli.Nearest(text, names); near != "" {
		return "", "", cli.Hint(err, near+", if that is what you mean")
	}
	return "", "", cli.Hint(err, "latchkey access explain --help")
}

func (a *app) accessExplain() *cobra.Command {
	return &cobra.Command{
		Use: "explain PRINCIPAL ACTION [THING]", Short: "say why somebody may do something, or not",
		Long: `Explain says whether somebody may do something, as the server would decide it now; what
they hold that matters, from whom, since when and by which groups; and when it is
refused, the least that would change it and who could give that. PRINCIPAL is the login of a
user, the name of a group, or an id. ACTION is an action as the audit log shows it, such
as credential.use, or a kind of things, such as credential, for all of its actions. THING
is a name or an id; the environment itself needs none.

Everybody may ask about themselves. About others may who owns or co-owns the thing, and
admins and auditors of the environment.`,
		Example: `  latchkey access explain ada credential.use "ERP bot"
  latchkey access explain ada credential "ERP bot"
  latchkey access explain ada flow.create`,
		Args: func(cmd *cobra.Command, args []string) error {
			names := []string{"PRINCIPAL", "ACTION", "THING"}
			if len(args) == 2 {
				if kind, _, err := explained(args[1]); err != nil || kind == latchkey.KindEnvironment {
					return err
				}
			}
			return cli.Exactly(names...)(cmd, args)
		},
		ValidArgsFunction: positions(a.completePrincipals(), cobra.FixedCompletions(explainedActions(), cobra.ShellCompDirectiveNoFileComp),
			func(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
				if kind, _, err := explained(args[1]); err == nil && kind != latchkey.KindEnvironment {
					return a.explainable()[kind].complete(cmd, nil, typed)
				}
				return nil, cobra.ShellCompDirectiveNoFileComp
			}),
		RunE: func(cmd *cobra.Command, args []string) error {
			kind, action, err := explained(args[1])
			if err != nil {
				return err
			}
			c, env, err := a.within(cmd.Context())
			if err != nil {
				return err
			}
			q := client.AccessQuery{Principal: args[0], Kind: kind, Action: action}
			if len(args) > 2 {
				q.ID = args[2]
				if kind != latchkey.KindEnvironment {
					if q.ID, err = a.explainable()[kind].resolve(cmd.Context(), c, env, args[2]); err != nil {
						return err
					}
				}
			}
			x, err := c.Access(cmd.Context(), env, q)
			if err != nil {
				return err
			}
			return a.printExplanation(x)
		},
	}
}

// printExplanation writes the decision, what it is from, and what would change it.
func (a *app) printExplanation(x latchkey.Explanation) error {
	if a.JSON {
		return a.PrintJSON(x)
	}
	var b strings.Builder
	thing := fmt.Sprintf("the %s %q", x.Kind, x.Name)
	if len(x.Decisions) == 1 {
		d := x.Decisions[0]
		may := "may"
		if !d.Allowed {
			may = "may not"
		}
		fmt.Fprintf(&b, "%s %s %s: %s\n", x.Principal.Name, may, d.Action, thing)
		if d.Note != "" {
			fmt.Fprintf(&b, "  note: %s\n", d.Note)
		}
	} else {
		fmt.Fprintf(&b, "%s and %s:\n", x.Principal.Name, thing)
	}
	for _, o := range x.Obstacles {
		fmt.Fprintf(&b, "  %s\n", o.Message)
	}
	if len(x.Sources) == 0 {
		fmt.Fprintf(&b, "%s holds nothing that matters here.\n", x.Principal.Name)
	} else {
		fmt.Fprintf(&b, "%s holds:\n", x.Principal.Name)
	}
	for _, s := range x.Sources {
		fmt.Fprintf(&b, "  %s\n", sourceText(x, s))
	}
	if len(x.Decisions) == 1 {
		for i, s := range x.Decisions[0].Change {
			if i == 0 {
				b.WriteString("The least that would permit it:\n")
			}
			fmt.Fprintf(&b, "  %s%s\n", s.Message, whoText(s.Who))
		}
		return a.writeClean(b.String())
	}
	if err := a.writeClean(b.String()); err != nil {
		return err
	}
	return cli.PrintTable(&a.Console, cli.WithoutErrors(x.Decisions), []string{"ACTION", "ALLOWED", "THE LEAST THAT WOULD PERMIT IT, OR A NOTE"}, func(d latchkey.AccessDecision) []string {
		allowed, what := "no", d.Note
		if d.Allowed {
			allowed = "yes"
		}
		if len(d.Change) > 0 {
			what = leastText(d.Change)
		}
		return []string{string(d.Action), allowed, what}
	})
}

// writeClean writes text line by line, without what a terminal would act on.
func (a *app) writeClean(text string) error {
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	for i, line := range lines {
		lines[i] = cli.CleanLine(line)
	}
	_, err := a.Out.Write([]byte(strings.Join(lines, "\n") + "\n"))
	return err
}

// sourceText says in a line what somebody holds, and where it is from.
func sourceText(x latchkey.Explanation, s latchkey.AccessSource) string {
	text := ""
	switch s.Way {
	case latchkey.WayTenantAdmin:
		text = "is a tenant admin"
	case latchkey.WayMember:
		text = fmt.Sprintf("the role %s in the environment", s.EnvironmentRole)
	case latchkey.WayRun:
		text = "the run: owns or has started it"
	case latchkey.WayVault:
		text = "may read the secret itself, by a role in its vault"
	default:
		text = fmt.Sprintf("the role %s on it", s.Role)
	}
	if len(s.Groups) > 0 {
		text += ", by the group " + strings.Join(s.Groups, " > ")
	}
	if s.With {
		from := "a credential that you may not see"
		if s.ViaName != "" {
			from = fmt.Sprintf("the credential %q", s.ViaName)
		}
		if s.Left {
			text += ", left of a share of " + from
		} else {
			text += ", with the share of " + from
		}
	}
	if s.At != nil && s.Way != latchkey.WayRun {
		text += fmt.Sprintf("; given by %s, %s", firstOf(s.ByName, string(s.By)), cli.When(*s.At))
	}
	switch {
	case !s.Counts:
		text += "; does not count now"
	case len(x.Decisions) == 1 && len(s.Permits) > 0:
		text += "; permits it"
	}
	return text
}

func whoText(who []latchkey.DirectoryEntry) string {
	var names []string
	for _, e := range who {
		names = append(names, e.Name)
	}
	if len(names) == 0 {
		return ""
	}
	return ": " + strings.Join(names, ", ")
}

// leastText says shortly what would have to be given.
func leastText(steps []latchkey.AccessStep) string {
	var texts []string
	for _, s := range steps {
		switch s.Give {
		case latchkey.GiveEnable:
			texts = append(texts, "the account enabled")
		case latchkey.GiveMember:
			texts = append(texts, fmt.Sprintf("the role %s in the environment", s.EnvironmentRole))
		case latchkey.GiveShare:
			texts = append(texts, fmt.Sprintf("a share as %s", s.Role))
		case latchkey.GiveHandOver:
			texts = append(texts, "owning it")
		case latchkey.GiveTenant:
			texts = append(texts, "being a tenant admin")
		}
	}
	return strings.Join(texts, ", and ")
}

func (a *app) memberOwned() *cobra.Command {
	return &cobra.Command{
		Use: "owned PRINCIPAL", Short: "list what somebody owns in the environment", Args: cli.Exactly("PRINCIPAL"), ValidArgsFunction: a.completePrincipals(),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, env, err := a.within(cmd.Context())
			if err != nil {
				return err
			}
			return cli.PrintList(&a.Console, c.Owned(cmd.Context(), env, args[0]), []string{"KIND", "NAME", "ID"},
				func(t latchkey.OwnedThing) []string { return []string{string(t.Kind), t.Name, t.ID} })
		},
	}
}

func completeOwnedKinds() completion {
	words := make([]string, len(latchkey.OwnedKinds))
	for i, kind := range latchkey.OwnedKinds {
		words[i] = word(kind)
	}
	return oneOf(words...)
}

func (a *app) memberHandOver() *cobra.Command {
	var kinds []string
	var keep string
	cmd := &cobra.Command{
		Use: "hand-over FROM TO", Short: "make somebody else the owner of all that somebody owns in the environment",
		Long: `Hand-over makes TO the owner of everything that FROM owns in the environment: variables,
credentials, machines, machine groups, flows and connections, in this order, since who
owns a connection must hold its machine or group and its credential. Who owns it may do
so, and an admin of the environment, who takes it over in this way: all of it is on
record, and the owner is told. What cannot be handed over is listed with the reason, and
the exit code is 1 then.`,
		Example: `  latchkey environment member hand-over ada bea`,
		Args:    cli.Exactly("FROM", "TO"), ValidArgsFunction: positions(a.completePrincipals(), first0(a.completePrincipals())),
	}
	sure := cli.SureFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, env, err := a.within(cmd.Context())
		if err != nil {
			return err
		}
		in := latchkey.HandOver{From: args[0], To: args[1], Keep: latchkey.Role(keep)}
		for _, k := range kinds {
			in.Kinds = append(in.Kinds, latchkey.Kind(strings.ReplaceAll(k, "-", " ")))
		}
		counts, n := map[latchkey.Kind]int{}, 0
		for t, err := range c.Owned(cmd.Context(), env, args[0]) {
			if err != nil {
				return err
			}
			if len(in.Kinds) == 0 || slices.Contains(in.Kinds, t.Kind) {
				counts[t.Kind]++
				n++
			}
		}
		if n > 0 {
			if err := a.Confirm(cmd.Context(), *sure, fmt.Sprintf("make %s the owner of %s in the environment %s, which %s owns", args[1], countText(counts), env, args[0])); err != nil {
				return err
			}
		}
		all := latchkey.HandedOver{Things: []latchkey.OwnedThing{}, Left: []latchkey.LeftThing{}}
		for {
			h, err := c.HandOver(cmd.Context(), env, in)
			if err != nil {
				if len(all.Things) > 0 {
					a.Say("%d were handed over before", len(all.Things))
				}
				return err
			}
			all.Things, all.Left = append(all.Things, h.Things...), append(all.Left, h.Left...)
			if h.Next == "" || h.Next == in.After {
				break
			}
			in.After = h.Next
		}
		return a.printHandedOver(all, args[0], args[1])
	}
	cmd.Flags().StringSliceVar(&kinds, "kind", nil, "only things of this kind: variable, credential, machine, machine-group, flow or connection; repeatable")
	cmd.Flags().StringVar(&keep, "keep", "", "the role that the owner before keeps: co-owner, user-share or user; none unless given")
	completeFlag(cmd, "kind", completeOwnedKinds())
	completeFlag(cmd, "keep", completeShareRoles())
	return cmd
}

func (a *app) printHandedOver(h latchkey.HandedOver, from, to string) error {
	if a.JSON {
		if err := a.PrintJSON(h); err != nil {
			return err
		}
	} else if len(h.Things)+len(h.Left) > 0 {
		type row struct {
			latchkey.OwnedThing
			result string
		}
		var rows []row
		for _, t := range h.Things {
			rows = append(rows, row{t, "handed over"})
		}
		for _, t := range h.Left {
			rows = append(rows, row{t.OwnedThing, "left: " + t.Reason})
		}
		if err := cli.PrintTable(&a.Console, cli.WithoutErrors(rows), []string{"KIND", "NAME", "ID", "WHAT BECAME OF IT"},
			func(r row) []string { return []string{string(r.Kind), r.Name, r.ID, r.result} }); err != nil {
			return err
		}
	} else {
		a.Say("%s owns nothing of this", from)
	}
	if n := len(h.Left); n > 0 {
		return fmt.Errorf("%d of %d could not be handed over to %s; see above", n, n+len(h.Things), to)
	}
	return nil
}

// countText says how many things of each kind there are.
func countText(counts map[latchkey.Kind]int) string {
	var texts []string
	for _, k := range latchkey.OwnedKinds {
		switch n := counts[k]; n {
		case 0:
		case 1:
			texts = append(texts, fmt.Sprintf("1 %s", k))
		default:
			texts = append(texts, fmt.Sprintf("%d %ss", n, k))
		}
	}
	return strings.Join(texts, ", ")
}

// maxOwnedEnvironments bounds in how many environments it is counted what an account
// owns.
const maxOwnedEnvironments = 100

// sayOwned says how much an account owns, as far as the caller may see it.
func (a *app) sayOwned(ctx context.Context, c *client.Client, u latchkey.User) error {
	for e, err := range first(maxOwnedEnvironments, c.Environments(ctx)) {
		if err != nil {
			return err
		}
		if e.MyRole != latchkey.EnvAdmin && e.MyRole != latchkey.EnvAuditor {
			continue // asking would be refused, on record
		}
		counts := map[latchkey.Kind]int{}
		for t, err := range c.Owned(ctx, e.Name, string(u.ID)) {
			if errors.Is(err, latchkey.ErrNotFound) || errors.Is(err, latchkey.ErrDenied) {
				break // the role is gone by now
			}
			if err != nil {
				return err
			}
			counts[t.Kind]++
		}
		if len(counts) > 0 {
			a.Say("%s owns %s in the environment %s; to give it to somebody else: latchkey environment member hand-over %s TO --environment %s", u.Login, countText(counts), e.Name, u.Login, e.Name)
		}
	}
	return nil
}

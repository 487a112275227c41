package main

import (
	"context"
	"fmt"
	"iter"
	"strings"

	"github.com/spf13/cobra"

	"latchkey.dev/client"
	"latchkey.dev/internal/cli"
	"latchkey.dev/latchkey"
)

// A shared is how commands name the things of a kind that can be shared.
type shared struct {
	kind     latchkey.Kind
	argument string // in usage lines
	resolve  func(ctx context.Context, c *client.Client, env, ref string) (string, error)
	complete completion
}

// asText makes the resolver of a kind one that returns a text.
func asText[ID ~string](resolve func(context.Context, *client.Client, string, string) (ID, error)) func(context.Context, *client.Client, string, string) (string, error) {
	return func(ctx context.Context, c *client.Client, env, ref string) (string, error) {
		id, err := resolve(ctx, c, env, ref)
		return string(id), err
	}
}

// word returns a kind as commands and arguments name it.
func word(kind latchkey.Kind) string { return strings.ReplaceAll(string(kind), " ", "-") }

// argumentOf returns how usage lines name a thing of a kind.
func argumentOf(kind latchkey.Kind) string { return strings.ToUpper(word(kind)) }

// addSharing adds the commands that share things of a kind.
func (a *app) addSharing(cmd *cobra.Command, s shared) {
	s.argument = argumentOf(s.kind)
	cmd.AddCommand(a.sharesCommand(s), a.shareCommand(s), a.unshareCommand(s), a.handOverCommand(s))
	a.addGraph(cmd, s)
}

// thing returns the thing that a command's first argument names.
func (a *app) thing(ctx context.Context, s shared, ref string) (c *client.Client, env, id string, err error) {
	if c, env, err = a.within(ctx); err != nil {
		return nil, "", "", err
	}
	id, err = s.resolve(ctx, c, env, ref)
	return c, env, id, err
}

// completeSharees offers whom something may be shared with.
func (a *app) completeSharees() completion {
	return completeNames(a, func(ctx context.Context, c *client.Client, env string) iter.Seq2[latchkey.DirectoryEntry, error] {
		return c.Principals(ctx, env, "")
	}, principalText)
}

// principalText is how a principal is named in arguments, with what it is.
func principalText(e latchkey.DirectoryEntry) string {
	switch e.Kind {
	case latchkey.PrincipalUser:
		return described(e.Login, e.Name)
	case latchkey.PrincipalGroup:
		return described(e.Name, "group")
	}
	return described(firstOf(e.ClientID, string(e.ID)), e.Name)
}

func completeShareRoles() completion {
	return oneOf(
		described(latchkey.RoleUser, "can view and use it"),
		described(latchkey.RoleUserShare, "can view, use and share it"),
		described(latchkey.RoleCoOwner, "can edit it"))
}

// shareOrigin says where a share is from.
func shareOrigin(s latchkey.Share) string {
	from := ""
	switch {
	case s.Via == "":
	case s.Left:
		from = "left of " + firstOf(s.ViaName, "a credential")
	default:
		from = "with " + firstOf(s.ViaName, "a credential")
	}
	if s.Disabled {
		from = strings.TrimPrefix(from+", deactivated", ", ")
	}
	return from
}

func (a *app) sharesCommand(s shared) *cobra.Command {
	return &cobra.Command{
		Use: "shares " + s.argument, Short: "list who has a role on the " + string(s.kind), Args: cli.Exactly(s.argument), ValidArgsFunction: s.complete,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, env, id, err := a.thing(cmd.Context(), s, args[0])
			if err != nil {
				return err
			}
			return cli.PrintList(&a.Console, c.Shares(cmd.Context(), env, s.kind, id), []string{"NAME", "KIND", "ROLE", "FROM", "SINCE", "ID"},
				func(sh latchkey.Share) []string {
					return []string{sh.Name, string(sh.Kind), string(sh.Role), shareOrigin(sh), cli.When(sh.CreatedAt), string(sh.Principal)}
				})
		},
	}
}

func (a *app) shareCommand(s shared) *cobra.Command {
	role := string(latchkey.RoleUser)
	long := `Share gives a role: to the user with a login, to the group with a name, or to the
principal with an id. Nobody gives more than they hold. It replaces the role that was
given before. Using is not seeing: no role shows a secret.`
	roles := []string{"user: can view and use it", "user-share: can view, use and share it", "co-owner: can edit it"}
	switch s.kind {
	case latchkey.KindConnection:
		long = `Share gives a connection to a service principal, which can then start runs through it. It
cannot be shared with people: whoever may use a connection can run commands as its owner.`
		roles = []string{"user: can use it", "co-owner: can rename and test it"}
	case latchkey.KindCredential:
		long += ` The variables of
the credential go with it, to see.`
	}
	cmd := &cobra.Command{
		Use: "share " + s.argument + " PRINCIPAL", Short: "give somebody a role on the " + string(s.kind),
		Long: long, Args: cli.Exactly(s.argument, "PRINCIPAL"), ValidArgsFunction: positions(s.complete, first0(a.completeSharees())),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, env, id, err := a.thing(cmd.Context(), s, args[0])
			if err != nil {
				return err
			}
			sh, err := c.SetShare(cmd.Context(), env, s.kind, id, args[1], latchkey.ShareSet{Role: latchkey.Role(role)})
			if err != nil {
				return err
			}
			return a.PrintOne(sh, shareFields(sh)...)
		},
	}
	cmd.Flags().StringVar(&role, "role", role, strings.Join(roles, "; "))
	completeFlag(cmd, "role", completeShareRoles())
	return cmd
}

func shareFields(s latchkey.Share) []cli.Field {
	return []cli.Field{{"Principal", s.Name + " (" + string(s.Principal) + ")"}, {"Kind", string(s.Kind)}, {"Role", string(s.Role)}, {"Since", cli.When(s.CreatedAt)}}
}

func (a *app) unshareCommand(s shared) *cobra.Command {
	var remove, keep bool
	cmd := &cobra.Command{
		Use: "unshare " + s.argument + " PRINCIPAL", Short: "take somebody's role on the " + string(s.kind) + " away",
		Long: `Unshare takes away what share gave. It takes effect at once, also for runs that are under
way. What groups give stays.`,
		Args: cli.Exactly(s.argument, "PRINCIPAL"), ValidArgsFunction: positions(s.complete, first0(a.completeSharees())),
	}
	if s.kind == latchkey.KindCredential {
		cmd.Long += ` The variables of a credential were shared with it; these shares
stay unless --remove-variable-grants is given or the environment is set so, and what
would stay or go, and why, is shown before.`
		cmd.Flags().BoolVar(&remove, "remove-variable-grants", false, "also remove what the share gave on the credential's variables")
		cmd.Flags().BoolVar(&keep, "keep-variable-grants", false, "keep it, whatever the environment says")
		cmd.MarkFlagsMutuallyExclusive("remove-variable-grants", "keep-variable-grants")
	}
	sure := cli.SureFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, env, id, err := a.thing(cmd.Context(), s, args[0])
		if err != nil {
			return err
		}
		detail, err := c.Share(cmd.Context(), env, s.kind, id, args[1])
		if err != nil {
			return err
		}
		var removes *bool
		if remove || keep {
			removes = &remove
		}
		if len(detail.Variables) > 0 {
			goes := remove
			if removes == nil {
				e, err := c.Environment(cmd.Context(), env)
				if err != nil {
					return err
				}
				goes = e.RemoveVariableGrants
			}
			a.sayVariables(detail.Name, detail.Variables, goes)
		}
		if err := a.Confirm(cmd.Context(), *sure, fmt.Sprintf("take the role %s on the %s %s away from %s", detail.Role, s.kind, args[0], detail.Name)); err != nil {
			return err
		}
		u, err := c.RemoveShare(cmd.Context(), env, s.kind, id, args[1], removes)
		if err != nil {
			return err
		}
		if a.JSON {
			return a.PrintJSON(u)
		}
		return nil
	}
	return cmd
}

// sayVariables says what becomes of what a share gave on a credential's variables.
func (a *app) sayVariables(name string, variables []latchkey.SharedVariable, goes bool) {
	for _, v := range variables {
		because := strings.Join(v.Because, "; ")
		switch {
		case !goes && because == "":
			a.Say("%s still sees the variable %s afterwards: what the share gave on it stays, and nothing else gives it; --remove-variable-grants removes it", name, v.Name)
		case !goes:
			a.Say("%s still sees the variable %s afterwards: what the share gave on it stays; also %s", name, v.Name, because)
		case because == "":
			a.Say("%s no longer sees the variable %s afterwards", name, v.Name)
		default:
			a.Say("%s still sees the variable %s afterwards: %s", name, v.Name, because)
		}
	}
}

func (a *app) handOverCommand(s shared) *cobra.Command {
	var keepRole string
	cmd := &cobra.Command{
		Use: "hand-over " + s.argument + " PRINCIPAL", Short: "make somebody else the owner of the " + string(s.kind),
		Long: `Hand-over makes a user or a service principal the owner. The owner may do so, and an
admin of the environment, who takes it over in this way: that is on record, and the owner
is told.`,
		Args: cli.Exactly(s.argument, "PRINCIPAL"), ValidArgsFunction: positions(s.complete, first0(a.completeSharees())),
	}
	sure := cli.SureFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, env, id, err := a.thing(cmd.Context(), s, args[0])
		if err != nil {
			return err
		}
		if err := a.Confirm(cmd.Context(), *sure, fmt.Sprintf("make %s the owner of the %s %s", args[1], s.kind, args[0])); err != nil {
			return err
		}
		sh, err := c.SetOwner(cmd.Context(), env, s.kind, id, latchkey.OwnerSet{Principal: args[1], Keep: latchkey.Role(keepRole)})
		if err != nil {
			return err
		}
		return a.PrintOne(sh, shareFields(sh)...)
	}
	cmd.Flags().StringVar(&keepRole, "keep", "", "the role that the owner before keeps: co-owner, user-share or user; none unless given")
	completeFlag(cmd, "keep", completeShareRoles())
	return cmd
}

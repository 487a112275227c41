package main

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/spf13/cobra"

	"latchkey.dev/internal/cli"
	"latchkey.dev/latchkey"
)

// A profileInfo is a profile without what is secret.
type profileInfo struct {
	Name        string `json:"name"`
	Current     bool   `json:"current"`
	Server      string `json:"server"`
	Environment string `json:"environment,omitempty"`
	User        string `json:"user,omitempty"`
	SignedIn    bool   `json:"signedIn"`
	CAFile      string `json:"caFile,omitempty"`
	Insecure    bool   `json:"insecure,omitempty"`
}

// profileInfos returns all profiles by name; the current one is the one that
// commands use now.
func (a *app) profileInfos() ([]profileInfo, error) {
	all, err := a.readProfiles()
	if err != nil {
		return nil, err
	}
	chosen, _ := a.chosenProfile(all)
	infos := []profileInfo{}
	for _, name := range slices.Sorted(maps.Keys(all.Named)) {
		p := all.Named[name]
		infos = append(infos, profileInfo{name, name == chosen, p.Server, p.Environment, p.Login, p.Token != "", p.CAFile, p.Insecure})
	}
	return infos, nil
}

func (i profileInfo) fields() []cli.Field {
	return []cli.Field{
		{"Name", i.Name}, {"Current", cli.Yes(i.Current)}, {"Server", i.Server}, {"Environment", i.Environment},
		{"User", i.User}, {"Signed in", cli.Yes(i.SignedIn)}, {"CA file", i.CAFile}, {"Insecure", cli.Yes(i.Insecure)},
	}
}

func (a *app) completeProfiles() completion {
	return completeOnce(func(*cobra.Command) ([]string, error) {
		infos, err := a.profileInfos()
		names := make([]string, len(infos))
		for i, p := range infos {
			names[i] = cobra.CompletionWithDesc(p.Name, p.Server)
		}
		return names, err
	})
}

func (a *app) profileCommand() *cobra.Command {
	cmd := cli.Group("profile", "servers and accounts that commands use", `A profile is a server, an account's token there and the environment to work in.
latchkey login makes one; commands use the current one, the one that --profile or
LATCHKEY_PROFILE names, or what their flags say. No command shows the token.`, "profiles")
	list := &cobra.Command{
		Use: "list", Short: "list the profiles", Args: cli.Exactly(),
		RunE: func(*cobra.Command, []string) error {
			infos, err := a.profileInfos()
			if err != nil {
				return err
			}
			return cli.PrintList(&a.Console, cli.WithoutErrors(infos), []string{"NAME", "CURRENT", "SERVER", "ENVIRONMENT", "USER"},
				func(i profileInfo) []string {
					return []string{i.Name, cli.Yes(i.Current), i.Server, i.Environment, i.User}
				})
		},
	}
	show := &cobra.Command{
		Use: "show [PROFILE]", Short: "show a profile, or the current one", Args: cli.AtMost("PROFILE"), ValidArgsFunction: a.completeProfiles(),
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				a.profile = args[0]
			}
			if _, err := a.loadProfile(); err != nil {
				return err
			}
			infos, err := a.profileInfos()
			if err != nil {
				return err
			}
			for _, i := range infos {
				if i.Current || len(args) > 0 && i.Name == args[0] {
					return a.PrintOne(i, i.fields()...)
				}
			}
			return cli.Hint(errors.New("there is no current profile"), "latchkey profile list, or latchkey login --server URL")
		},
	}
	use := &cobra.Command{
		Use: "use PROFILE", Short: "make a profile the current one", Args: cli.Exactly("PROFILE"), ValidArgsFunction: a.completeProfiles(),
		RunE: func(_ *cobra.Command, args []string) error {
			err := a.changeProfiles(func(all *profiles) error {
				if _, ok := all.Named[args[0]]; !ok {
					return noProfile(*all, args[0])
				}
				all.Current = args[0]
				return nil
			})
			if err == nil && a.Getenv("LATCHKEY_PROFILE") != "" {
				a.Say("LATCHKEY_PROFILE is set and comes before it")
			}
			return err
		},
	}
	remove := a.sure(&cobra.Command{
		Use: "remove PROFILE", Short: "forget a profile and revoke the token that login made", Args: cli.Exactly("PROFILE"), ValidArgsFunction: a.completeProfiles(),
		RunE: func(cmd *cobra.Command, args []string) error { return a.forget(cmd, args[0]) },
	}, func(args []string) string { return "forget the profile " + args[0] })
	cmd.AddCommand(list, show, use, remove)
	return cmd
}

// forget removes a profile, "" is the one to use, and revokes its token if
// login made it.
func (a *app) forget(cmd *cobra.Command, name string) error {
	p, err := a.removeProfile(name)
	if err != nil {
		return err
	}
	if p.TokenID == "" || p.Token == "" {
		a.Say("the profile is removed")
		return nil
	}
	c, err := connectTo{p.Server, latchkey.NewSecret(p.Token), p.CAFile, p.Insecure}.client()
	if err == nil {
		err = c.RevokeToken(cmd.Context(), latchkey.TokenID(p.TokenID))
	}
	if err != nil && !errors.Is(err, latchkey.ErrUnauthenticated) {
		return fmt.Errorf("the profile is removed, but its token could not be revoked: %w", err)
	}
	a.Say("the profile is removed and its token revoked")
	return nil
}

package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"latchkey.dev/client"
	"latchkey.dev/internal/cli"
	"latchkey.dev/latchkey"
)

func (a *app) loginCommand() *cobra.Command {
	var login string
	var tokenStdin bool
	var service serviceLogin
	cmd := &cobra.Command{
		Use:   "login",
		Short: "sign in and keep the server and a token in the profile",
		Long: `Login signs in to a server and keeps its address and a token in the profile, for
the commands that follow.

With --user it asks for the password, or reads it from a pipe, and keeps a token
that lasts twelve hours. With --token-file or --token-stdin it keeps an API token
that exists already, such as the one in admin-token in a new server's data folder.
With --service-principal a program signs in, for one hour: with its secret, a
certificate and its key, or with --token-file the token of another issuer, such as a CI
system.

With -e it keeps the environment to work in as well. With --profile it keeps all that
under a name, beside other profiles, and makes it the current one.

To sign a browser in afterwards, with the same account, open what latchkey link prints.`,
		Example: `  latchkey login --server http://127.0.0.1:8080 --token-file latchkey-data/admin-token
  latchkey login --server https://latchkey.example.org --user alice
  latchkey login --server https://latchkey.example.org --service-principal "$CLIENT_ID" --token-file "$TOKEN_FILE"
  latchkey login --profile test --server https://test.example.org --user alice -e erp`,
		Args: cli.Exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			a.newProfile = true
			if service.client != "" {
				service.tokenFile, a.tokenFile = a.tokenFile, "" // it holds no API token
			}
			if err := service.check(login, tokenStdin); err != nil {
				return err
			}
			return a.login(cmd.Context(), login, tokenStdin, service)
		},
	}
	cmd.Flags().StringVarP(&login, "user", "u", "", "login of a local account")
	cmd.Flags().StringVar(&service.client, "service-principal", "", "client id of a service principal")
	cmd.Flags().StringVar(&service.secretFile, "secret-file", "", "file that holds a secret of the service principal; - is standard input")
	cmd.Flags().StringVar(&service.certificateFile, "certificate-file", "", "PEM file with a certificate of the service principal and its key, which signs and is not sent")
	completeFlag(cmd, "service-principal", a.completeServicePrincipals())
	cmd.Flags().BoolVar(&tokenStdin, "token-stdin", false, "read an API token from standard input")
	return cmd
}

func (a *app) login(ctx context.Context, login string, tokenStdin bool, service serviceLogin) error {
	to, err := a.connect()
	if err != nil {
		return err
	}
	to.token = latchkey.Secret{}
	p := profile{Server: strings.TrimRight(to.server, "/"), Environment: a.environment, Insecure: to.insecure}
	if to.caFile != "" {
		if p.CAFile, err = filepath.Abs(to.caFile); err != nil {
			return err
		}
	}
	old, err := a.loadProfile()
	if err != nil {
		return err
	}
	if p.Environment == "" && sameServer(old.Server, p.Server) {
		p.Environment = old.Environment
	}
	if login == "" && service.client == "" {
		if to.token, err = a.tokenToKeep(ctx, tokenStdin); err != nil {
			return err
		}
	}
	c, err := to.client()
	if err != nil {
		return err
	}
	if login != "" {
		var password latchkey.Secret
		if cli.IsTerminal(a.In) {
			password, err = a.prompt(ctx, "Password of "+login)
		} else {
			password, err = a.readSecret(a.In, "standard input", true)
		}
		if err != nil {
			return err
		}
		token, err := c.SignIn(ctx, login, password)
		if err != nil {
			return refusedSignIn(err)
		}
		to.token, p.TokenID = latchkey.NewSecret(token.Value), string(token.ID)
		c = c.WithToken(to.token)
	}
	if service.client != "" {
		token, err := a.signInService(ctx, c, service)
		if err != nil {
			return refusedSignIn(err)
		}
		to.token, p.TokenID = latchkey.NewSecret(token.Value), string(token.ID)
		c = c.WithToken(to.token)
	}
	me, err := nameOfCaller(ctx, c)
	if errors.Is(err, latchkey.ErrUnauthenticated) {
		return cli.Hint(err, "latchkey admin token --data DIR on the server, if the administrator's token has expired")
	}
	if err != nil {
		return err
	}
	if p.Environment != "" {
		if _, err := c.Environment(ctx, p.Environment); err != nil {
			return err
		}
	}
	p.Token, p.Login = to.token.Reveal(), me
	if err := a.saveProfile(p); err != nil {
		return err
	}
	a.Say("signed in to %s as %s", p.Server, me)
	return nil
}

// refusedSignIn returns the error of a sign-in without the advice to sign in: a wrong
// password or proof is no reason to try login.
func refusedSignIn(err error) error {
	if e, ok := errors.AsType[*latchkey.Error](err); ok && errors.Is(e, latchkey.ErrUnauthenticated) {
		return errors.New(strings.TrimSuffix(e.Msg, "."))
	}
	return err
}

// nameOfCaller returns the login of the user, or the name of the service principal,
// that a client is signed in as.
func nameOfCaller(ctx context.Context, c *client.Client) (string, error) {
	me, err := c.Me(ctx)
	if !errors.Is(err, latchkey.ErrNotFound) {
		return me.Login, err
	}
	p, err := self(ctx, c)
	return p.DisplayName, err
}

// tokenToKeep returns the existing token that login is to keep.
func (a *app) tokenToKeep(ctx context.Context, tokenStdin bool) (latchkey.Secret, error) {
	if tokenStdin {
		b, err := readAll(a.In, 4096, "standard input")
		if err != nil {
			return latchkey.Secret{}, err
		}
		if t := strings.TrimSpace(string(b)); t != "" {
			return latchkey.NewSecret(t), nil
		}
		return latchkey.Secret{}, cli.Hint(errors.New("standard input is empty"), "latchkey login --token-stdin < FILE, with the token in the file")
	}
	token, err := a.givenToken()
	if err != nil || !token.IsZero() {
		return token, err
	}
	if !cli.IsTerminal(a.In) {
		return token, cli.Hint(cli.Usagef("say as whom: --user, --token-file or --token-stdin"), "latchkey login --help")
	}
	return a.prompt(ctx, "API token")
}

func (a *app) linkCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "link",
		Short: "make a link that signs a browser in as you, once",
		Long: `Link prints the address of a page that signs a browser in as the account that commands
use. It works once, within ten minutes. Whoever has the link is you: open it yourself.`,
		Args: cli.Exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			link, err := c.SignInLink(cmd.Context())
			if err != nil {
				return err
			}
			if a.JSON {
				return a.PrintJSON(link)
			}
			a.Say("the link signs a browser in as you, once, until %s", cli.When(link.ExpiresAt))
			_, err = fmt.Fprintln(a.Out, cli.CleanLine(link.URL))
			return err
		},
	}
}

func (a *app) logoutCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "logout",
		Short: "forget the profile and revoke the token that login made",
		Args:  cli.Exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.forget(cmd, "")
		},
	}
}

func (a *app) whoamiCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "whoami",
		Short: "show the server and the account that commands use",
		Args:  cli.Exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			me, err := c.Me(cmd.Context())
			if errors.Is(err, latchkey.ErrNotFound) {
				p, err := self(cmd.Context(), c)
				if err != nil {
					return err
				}
				return a.PrintOne(p, append([]cli.Field{{"Server", c.Server()}}, servicePrincipalFields(p)...)...)
			}
			if err != nil {
				return err
			}
			return a.PrintOne(me, append([]cli.Field{{"Server", c.Server()}}, userFields(me)...)...)
		},
	}
}

func (a *app) openapiCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "openapi",
		Short: "print the server's OpenAPI document",
		Args:  cli.Exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			to, err := a.connect()
			if err != nil {
				return err
			}
			c, err := to.client()
			if err != nil {
				return err
			}
			doc, err := c.OpenAPI(cmd.Context())
			if err != nil {
				return err
			}
			return a.PrintJSON(doc)
		},
	}
}

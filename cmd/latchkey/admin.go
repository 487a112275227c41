package main

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"latchkey.dev/internal/broker"
	"latchkey.dev/internal/cli"
	"latchkey.dev/internal/vault"
	"latchkey.dev/latchkey"
)

func (a *app) adminCommand() *cobra.Command {
	cmd := cli.Group("admin", "for whoever holds the data folder", `Commands that work on the data folder itself, without a server and without signing in:
they need its files, and are on record.`)
	var c serverConfig
	var login string
	var expires time.Duration
	token := &cobra.Command{
		Use:   "token --data DIR",
		Short: "make a new admin token when every other way in is lost",
		Long: `Token prints a new API token of the administrator, bare, so that it can go into a pipe
or a file. The account is made or enabled if need be. A running server is not in the
way. The audit log shows it as local administration.`,
		Example: `  latchkey admin token --data /var/lib/latchkey | latchkey login --server http://127.0.0.1:8080 --token-stdin`,
		Args:    cli.Exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			token, err := adminToken(cmd.Context(), c, login, expires)
			if err != nil {
				return err
			}
			return a.reveal(latchkey.NewSecret(token))
		},
	}
	a.settingsFlags(token, &c, "data", "database", "master-key")
	token.Flags().StringVar(&login, "user", "admin", "login of the account")
	token.Flags().DurationVar(&expires, "expires-in", latchkey.AdminTokenTTL, "how long it lasts")
	cmd.AddCommand(token, a.setupLinkCommand(), a.adminRestoredCommand())
	return cmd
}

// adminToken opens an existing installation and returns a new token of the
// administrator.
func adminToken(ctx context.Context, c serverConfig, login string, ttl time.Duration) (token string, err error) {
	err = withBroker(ctx, c, func(b *broker.Broker) (err error) {
		token, err = b.AdminToken(ctx, login, ttl)
		return err
	})
	return token, err
}

// withBroker opens an existing installation, beside its server if one runs, for what
// needs no vault.
func withBroker(ctx context.Context, c serverConfig, f func(*broker.Broker) error) (err error) {
	d, key, err := c.openDatabase(ctx, true)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	log, err := newLog(c)
	if err != nil {
		return err
	}
	b, err := broker.New(ctx, broker.Config{
		DB: d, Key: key, Log: log,
		OpenVault: func(latchkey.VaultReference, bool) (vault.Vault, error) {
			return nil, errors.New("no vault is read here")
		},
		Inspect:  func(context.Context, vault.Question) []latchkey.CheckResult { return nil },
		VaultURL: func(string) string { return "" },
	})
	if err != nil {
		return err
	}
	return f(b)
}

func (a *app) setupLinkCommand() *cobra.Command {
	var c serverConfig
	cmd := &cobra.Command{
		Use:   "setup-link --data DIR",
		Short: "print a link by which a person becomes tenant admin in a browser",
		Long: `Setup-link prints a link that opens the page to set Latchkey up: whoever opens it makes
an account with a password or a passkey, which is tenant admin. It works once, within
ten minutes, and ends those printed before. Its secret is in the fragment of the
address, which browsers do not send. The audit log shows it as local administration.`,
		Example: `  latchkey admin setup-link --data /var/lib/latchkey`,
		Args:    cli.Exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			var code string
			var expires time.Time
			err := withBroker(cmd.Context(), c, func(b *broker.Broker) (err error) {
				code, expires, err = b.SetupLink(cmd.Context())
				return err
			})
			if err != nil {
				return err
			}
			a.Say("it works once, before %s", cli.When(expires))
			at := strings.TrimRight(c.PublicURL, "/")
			if at == "" {
				var running addresses
				// Without one beside it, the server is elsewhere, and its address not known.
				if b, err := os.ReadFile(filepath.Join(c.Data, addressFile)); err == nil && json.Unmarshal(b, &running) == nil {
					at = running.URL
				}
			}
			if at == "" {
				a.Say("open /setup at the server's address, and paste the code")
				return a.reveal(latchkey.NewSecret(code))
			}
			return a.reveal(latchkey.NewSecret(at + "/setup#" + code))
		},
	}
	a.settingsFlags(cmd, &c, "data", "database", "master-key", "public-url")
	return cmd
}

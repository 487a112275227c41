package main

import (
	"context"
	"errors"
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
	cmd.AddCommand(token, a.adminRestoredCommand())
	return cmd
}

// adminToken opens an existing installation, beside its server if one runs,
// and returns a new token of the administrator.
func adminToken(ctx context.Context, c serverConfig, login string, ttl time.Duration) (_ string, err error) {
	d, key, err := c.openDatabase(ctx, true)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	log, err := newLog(c)
	if err != nil {
		return "", err
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
		return "", err
	}
	return b.AdminToken(ctx, login, ttl)
}

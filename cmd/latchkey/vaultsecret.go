package main

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"latchkey.dev/internal/cli"
	"latchkey.dev/latchkey"
)

// fields shows a version's metadata.
func (b secretBundle) fields() []cli.Field {
	at := b.attributes()
	return []cli.Field{
		{"Secret", b.name()}, {"Version", b.version()}, {"Enabled", b.enabled()}, {"Content type", b.ContentType},
		{"Not before", unixTime(at.NotBefore)}, {"Expires", unixTime(at.Expires)}, {"Created", unixTime(at.Created)},
		{"Deleted", unixTime(b.DeletedDate)}, {"Purged", unixTime(b.ScheduledFor)},
	}
}

func (a *app) vaultSecretCommand() *cobra.Command {
	cmd := cli.Group("secret", "secrets in an embedded vault", `Secrets in an embedded vault. Values come from a prompt, a pipe or a file, never from
an argument, and are shown with --reveal only.`, "secrets")
	cmd.AddCommand(a.secretSet(), a.secretShow(), a.secretList(), a.secretVersions(), a.secretUpdate(), a.secretDelete(),
		a.secretPlain("recover VAULT SECRET", "bring a deleted secret back", http.MethodPost, "deletedsecrets", "/recover"), a.secretPurge(),
		a.objectBackup("secret", "secrets"), a.objectRestore("secret", "secrets"))
	return cmd
}

// inVault calls f with the vault that the first argument names.
func (a *app) inVault(ctx context.Context, name string, f func(*keyVault) error) error {
	c, err := a.client()
	if err != nil {
		return err
	}
	v, err := openVault(ctx, c, name)
	if err != nil {
		return err
	}
	defer v.close()
	return f(v)
}

func (a *app) secretSet() *cobra.Command {
	var file, contentType string
	var expires time.Duration
	var disabled bool
	cmd := &cobra.Command{
		Use:   "set VAULT SECRET",
		Short: "set a secret: add a version",
		Long: `Set adds a version to a secret, which is then the one that is read. The value is asked
for twice on a terminal. From a pipe it is read whole, without its last line break;
from --file every byte counts.`,
		Example: `  latchkey vault secret set erp password
  pwgen 24 1 | latchkey vault secret set erp password`,
		Args: cli.Exactly("VAULT", "SECRET"), ValidArgsFunction: a.completeIn("secrets"),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			return a.inVault(ctx, args[0], func(v *keyVault) error {
				value, err := a.newSecret(ctx, "Value of "+args[1], file)
				if err != nil {
					return err
				}
				if err := latchkey.CheckSecretValue(value); err != nil {
					return latchkey.Invalid("value", "%v", err)
				}
				meta := secretBundle{ContentType: contentType, Attributes: &secretAttributes{}}
				if disabled {
					meta.Attributes.Enabled = new(bool)
				}
				if expires > 0 {
					meta.Attributes.Expires = time.Now().Add(expires).Unix()
				}
				b, err := v.set(ctx, args[1], value, meta)
				if err != nil {
					return err
				}
				return a.PrintOne(shownSecret{b}, b.fields()...)
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&file, "file", "", "file whose every byte is the value; - is standard input")
	f.StringVar(&contentType, "content-type", "", "what the value is, such as text/plain")
	f.DurationVar(&expires, "expires-in", 0, "note that it expires after this time; reading goes on")
	f.BoolVar(&disabled, "disabled", false, "set it so that it cannot be read yet")
	return cmd
}

func (a *app) secretShow() *cobra.Command {
	var version string
	var reveal bool
	cmd := &cobra.Command{
		Use:   "show VAULT SECRET",
		Short: "show a secret's newest version; its value with --reveal only",
		Long: `Show shows what is known about a version. With --reveal it reads the value, on record,
and prints it: bare to a pipe, with a line break on a terminal.`,
		Args: cli.Exactly("VAULT", "SECRET"), ValidArgsFunction: a.completeIn("secrets"),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			return a.inVault(ctx, args[0], func(v *keyVault) error {
				if reveal {
					b, err := v.get(ctx, args[1], version)
					if err != nil {
						return err
					}
					if a.JSON {
						return a.PrintJSON(shownSecret{b})
					}
					return a.reveal(latchkey.NewSecret(deref(b.Value)))
				}
				b, err := v.find(ctx, args[1], version)
				if err != nil {
					return err
				}
				return a.PrintOne(shownSecret{b}, b.fields()...)
			})
		},
	}
	cmd.Flags().StringVar(&version, "version", "", "version; default: the newest")
	completeFlagAfter(cmd, "version", a.completeVersions("secrets"))
	cmd.Flags().BoolVar(&reveal, "reveal", false, "print the value")
	return cmd
}

// find returns a version's metadata without reading its value; "" is the
// newest.
func (v *keyVault) find(ctx context.Context, name, version string) (secretBundle, error) {
	path, err := secretPath("secrets", name, "")
	if err != nil {
		return secretBundle{}, err
	}
	var newest secretBundle
	for b, err := range v.list(ctx, path+"/versions") {
		if err != nil {
			return b, err
		}
		if version != "" && b.version() == version {
			return b, nil
		}
		if version == "" && (newest.ID == "" || b.attributes().Created > newest.attributes().Created) {
			newest = b
		}
	}
	if newest.ID == "" {
		return newest, latchkey.NotFound(latchkey.KindVaultSecret)
	}
	return newest, nil
}

func (a *app) secretList() *cobra.Command {
	var deleted bool
	cmd := &cobra.Command{
		Use: "list VAULT", Short: "list the secrets of a vault, without values", Args: cli.Exactly("VAULT"), ValidArgsFunction: a.completeVaults(),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.inVault(cmd.Context(), args[0], func(v *keyVault) error {
				if deleted {
					return cli.PrintList(&a.Console, shownSecrets(v.list(cmd.Context(), "/deletedsecrets")), []string{"SECRET", "DELETED", "PURGED"},
						func(b shownSecret) []string {
							return []string{b.name(), unixTime(b.DeletedDate), unixTime(b.ScheduledFor)}
						})
				}
				return cli.PrintList(&a.Console, shownSecrets(v.list(cmd.Context(), "/secrets")), []string{"SECRET", "ENABLED", "CONTENT TYPE", "EXPIRES", "UPDATED"},
					func(b shownSecret) []string {
						return []string{b.name(), b.enabled(), b.ContentType, unixTime(b.attributes().Expires), unixTime(b.attributes().Updated)}
					})
			})
		},
	}
	cmd.Flags().BoolVar(&deleted, "deleted", false, "those that are deleted and can still be recovered")
	return cmd
}

func (a *app) secretVersions() *cobra.Command {
	return &cobra.Command{
		Use: "versions VAULT SECRET", Short: "list the versions of a secret", Args: cli.Exactly("VAULT", "SECRET"), ValidArgsFunction: a.completeIn("secrets"),
		RunE: func(cmd *cobra.Command, args []string) error {
			path, err := secretPath("secrets", args[1], "")
			if err != nil {
				return err
			}
			return a.inVault(cmd.Context(), args[0], func(v *keyVault) error {
				return cli.PrintList(&a.Console, shownSecrets(v.list(cmd.Context(), path+"/versions")), []string{"VERSION", "ENABLED", "EXPIRES", "CREATED"},
					func(b shownSecret) []string {
						return []string{b.version(), b.enabled(), unixTime(b.attributes().Expires), unixTime(b.attributes().Created)}
					})
			})
		},
	}
}

func (a *app) secretUpdate() *cobra.Command {
	var version string
	var enabled bool
	cmd := &cobra.Command{
		Use: "update VAULT SECRET", Short: "enable or disable a version", Args: cli.Exactly("VAULT", "SECRET"), ValidArgsFunction: a.completeIn("secrets"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if !cmd.Flags().Changed("enabled") {
				return cli.Usagef("say --enabled or --enabled=false")
			}
			path, err := secretPath("secrets", args[1], version)
			if err != nil {
				return err
			}
			if version == "" {
				path += "/"
			}
			return a.inVault(cmd.Context(), args[0], func(v *keyVault) error {
				var b secretBundle
				in := secretBundle{Attributes: &secretAttributes{Enabled: &enabled}}
				if err := v.do(cmd.Context(), http.MethodPatch, path, in, &b); err != nil {
					return err
				}
				return a.PrintOne(shownSecret{b}, b.fields()...)
			})
		},
	}
	cmd.Flags().StringVar(&version, "version", "", "version; default: the newest")
	completeFlagAfter(cmd, "version", a.completeVersions("secrets"))
	cmd.Flags().BoolVar(&enabled, "enabled", false, "whether it can be read")
	return cmd
}

// secretPlain returns a command that is one request about one secret.
func (a *app) secretPlain(use, short, method, collection, rest string) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, Args: cli.Exactly("VAULT", "SECRET"), ValidArgsFunction: a.completeIn(collection),
		RunE: func(cmd *cobra.Command, args []string) error {
			path, err := secretPath(collection, args[1], "")
			if err != nil {
				return err
			}
			return a.inVault(cmd.Context(), args[0], func(v *keyVault) error {
				var b secretBundle
				if err := v.do(cmd.Context(), method, path+rest, nil, &b); err != nil {
					return err
				}
				if b.ID == "" {
					return nil
				}
				b.Value = nil
				return a.PrintOne(shownSecret{b}, b.fields()...)
			})
		},
	}
}

func (a *app) secretDelete() *cobra.Command {
	return a.sure(a.secretPlain("delete VAULT SECRET", "delete a secret with all its versions; it can be recovered", http.MethodDelete, "secrets", ""),
		func(args []string) string { return fmt.Sprintf("delete the secret %s of %s", args[1], args[0]) })
}

func (a *app) secretPurge() *cobra.Command {
	return a.sure(a.secretPlain("purge VAULT SECRET", "remove a deleted secret for good", http.MethodDelete, "deletedsecrets", ""),
		func(args []string) string { return fmt.Sprintf("purge the secret %s of %s for good", args[1], args[0]) })
}

// sure makes a command ask first.
func (a *app) sure(cmd *cobra.Command, what func(args []string) string) *cobra.Command {
	sure, do := cli.SureFlag(cmd), cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := a.Confirm(cmd.Context(), *sure, what(args)); err != nil {
			return err
		}
		return do(cmd, args)
	}
	return cmd
}

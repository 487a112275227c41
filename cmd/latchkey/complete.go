package main

import (
	"context"
	"iter"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"latchkey.dev/client"
	"latchkey.dev/internal/cli"
	"latchkey.dev/latchkey"
)

const (
	// maxCompletions bounds what a shell is offered.
	maxCompletions = 200
	// completionTime bounds how long a shell waits for the server.
	completionTime = 2 * time.Second
)

// A completion offers what an argument or the value of a flag may be. What it
// cannot find out it does not offer: nobody wants an error in the middle of a
// line.
type completion = func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective)

// completeWith offers what find returns, for the arguments before which there
// are at positions others.
func completeWith(position int, find func(cmd *cobra.Command, args []string) iter.Seq2[string, error]) completion {
	return func(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
		const directive = cobra.ShellCompDirectiveNoFileComp
		if len(args) != position {
			return nil, directive
		}
		before := cmd.Context()
		ctx, cancel := context.WithTimeout(before, completionTime)
		defer cancel()
		cmd.SetContext(ctx)
		defer cmd.SetContext(before)
		var offered []string
		seen := map[string]bool{}
		for text, err := range find(cmd, args) {
			if err != nil || len(offered) == maxCompletions {
				break
			}
			name, description, _ := strings.Cut(text, "\t")
			if cli.CleanLine(name) != name || name == "" || seen[name] || !strings.HasPrefix(name, typed) {
				continue // what a terminal would act on is not offered
			}
			seen[name] = true
			if description = cli.CleanLine(description); description != "" {
				name = cobra.CompletionWithDesc(name, description)
			}
			offered = append(offered, name)
		}
		return offered, directive
	}
}

// completeOnce offers what find returns for a command's first argument.
func completeOnce(find func(*cobra.Command) ([]string, error)) completion {
	return completeWith(0, func(cmd *cobra.Command, _ []string) iter.Seq2[string, error] {
		texts, err := find(cmd)
		return func(yield func(string, error) bool) {
			if err != nil {
				yield("", err)
				return
			}
			for _, s := range texts {
				if !yield(s, nil) {
					return
				}
			}
		}
	})
}

// completeNames offers the names of things in the environment for a command's
// first argument. A thing whose name is "" is not offered.
func completeNames[T any](a *app, list func(context.Context, *client.Client, string) iter.Seq2[T, error], name func(T) string) completion {
	return completeWith(0, func(cmd *cobra.Command, _ []string) iter.Seq2[string, error] {
		c, env, err := a.within(cmd.Context())
		if err != nil {
			return noTexts
		}
		return texts(list(cmd.Context(), c, env), name)
	})
}

// completeTenant is completeNames for things outside environments.
func completeTenant[T any](a *app, list func(context.Context, *client.Client) iter.Seq2[T, error], name func(T) string) completion {
	return completeWith(0, func(cmd *cobra.Command, _ []string) iter.Seq2[string, error] {
		c, err := a.client()
		if err != nil {
			return noTexts
		}
		return texts(list(cmd.Context(), c), name)
	})
}

func noTexts(func(string, error) bool) {}

func texts[T any](items iter.Seq2[T, error], text func(T) string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for item, err := range items {
			if err != nil {
				yield("", err)
				return
			}
			if !yield(text(item), nil) {
				return
			}
		}
	}
}

// positions completes each argument by a completion of its own.
func positions(each ...completion) completion {
	return func(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
		if len(args) >= len(each) {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return each[len(args)](cmd, args, typed)
	}
}

// first0 makes the completion of a first argument one of any argument.
func first0(c completion) completion {
	return func(cmd *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
		return c(cmd, nil, typed)
	}
}

// oneOf offers fixed values.
func oneOf[T ~string](values ...T) completion {
	texts := make([]string, len(values))
	for i, v := range values {
		texts[i] = string(v)
	}
	return cobra.FixedCompletions(texts, cobra.ShellCompDirectiveNoFileComp)
}

// described offers an id or a name, and shows a text beside it.
func described[ID ~string](id ID, text string) string {
	return cobra.CompletionWithDesc(string(id), text)
}

// completeFlag gives a flag the completion of a first argument.
func completeFlag(cmd *cobra.Command, name string, c completion) {
	completeFlagAfter(cmd, name, first0(c))
}

// completeFlagAfter gives a flag a completion that depends on the arguments.
func completeFlagAfter(cmd *cobra.Command, name string, c completion) {
	if err := cmd.RegisterFlagCompletionFunc(name, c); err != nil {
		panic(err) // the command has no such flag
	}
}

// exposures are the values of --exposure.
func exposures() []string {
	return []string{
		described(latchkey.ExposureSession, "only the agent's sign-in sees the secret"),
		described(latchkey.ExposureDescriptor, "the flow may read it from a descriptor"),
		described(latchkey.ExposureFile, "the flow may read it from a file in memory"),
		described(latchkey.ExposureEnvironment, "the flow may have it in its environment"),
	}
}

// variableTypes are the values of --type.
func variableTypes() []latchkey.VariableType {
	return []latchkey.VariableType{latchkey.TypeText, latchkey.TypeNumber, latchkey.TypeBoolean, latchkey.TypeJSON, latchkey.TypeSecret}
}

func completeEnvironmentRoles() completion {
	return oneOf(
		described("admin", "machines, members and the environment"),
		described("maker", "variables, credentials, connections and flows"),
		described("user", "what is shared with them"),
		described("auditor", "sees every component and the audit log"))
}

func completeVaultRoles() completion {
	return oneOf(
		described(string(latchkey.VaultAdministrator), "everything in the vault"),
		described(string(latchkey.VaultSecretsOfficer), "everything with secrets, but not roles"),
		described(string(latchkey.VaultSecretsUser), "reads values"),
		described(string(latchkey.VaultCertificatesOfficer), "everything with certificates, but not their private keys"),
		described(string(latchkey.VaultCertificateUser), "reads certificates, and values with their private keys"),
		described(string(latchkey.VaultCryptoOfficer), "everything with keys: sees those of certificates"),
		described(string(latchkey.VaultCryptoUser), "sees the public keys of certificates"),
		described(string(latchkey.VaultReader), "sees names, not values"))
}

// recorded are actions of the audit log that no role in an environment is
// needed for.
var recorded = []latchkey.Action{
	latchkey.ActMachineRevoke, latchkey.ActMachineEnrol, latchkey.ActMachineSession, latchkey.ActMachineQuarantine,
	latchkey.ActRunStart, latchkey.ActRunClaim, latchkey.ActRunFinish,
	latchkey.ActCertificateRead, latchkey.ActReleaseGranted, latchkey.ActReleaseDenied, latchkey.ActReleaseDelivered, latchkey.ActReleaseFailed,
	latchkey.ActVaultAssign, latchkey.ActVaultRemove, latchkey.ActVaultToken,
	latchkey.ActSecretGet, latchkey.ActSecretList, latchkey.ActSecretSet, latchkey.ActSecretUpdate,
	latchkey.ActSecretDelete, latchkey.ActSecretRecover, latchkey.ActSecretPurge, latchkey.ActSecretBackup, latchkey.ActSecretRestore,
	latchkey.ActCertificateGet, latchkey.ActCertificateList, latchkey.ActCertificateCreate, latchkey.ActCertificateIssue,
	latchkey.ActCertificateImport, latchkey.ActCertificateCancel, latchkey.ActCertificateUpdate, latchkey.ActCertificateDelete,
	latchkey.ActCertificateRecover, latchkey.ActCertificatePurge, latchkey.ActCertificateBackup, latchkey.ActCertificateRestore,
	latchkey.ActCertificateRenew, latchkey.ActCertificateNearExpiry, latchkey.ActIssuerGet, latchkey.ActIssuerSet, latchkey.ActIssuerDelete,
	latchkey.ActContactsGet, latchkey.ActContactsSet, latchkey.ActContactsDelete, latchkey.ActKeyGet, latchkey.ActKeyList,
	latchkey.ActTokenCreate, latchkey.ActTokenRevoke, latchkey.ActSignIn, latchkey.ActSessionsEnd, latchkey.ActPasskeyAdd, latchkey.ActPasskeyRemove,
	latchkey.ActBackupCreate, latchkey.ActBackupRestore,
	latchkey.ActMasterKeyAdd, latchkey.ActMasterKeyUse, latchkey.ActMasterKeyRewrap, latchkey.ActMasterKeyRetire,
}

// auditActions returns the actions of the audit log, and with a point at the end
// what several of them begin with.
func auditActions() []string {
	var actions []string
	for _, action := range slices.AppendSeq(slices.Clone(recorded), maps.Keys(latchkey.Permissions)) {
		actions = append(actions, string(action))
		if noun, _, ok := strings.Cut(string(action), "."); ok {
			actions = append(actions, noun+".")
		}
	}
	slices.Sort(actions)
	return slices.Compact(actions)
}

// completeActions offers the actions of the audit log.
func completeActions() completion {
	return completeOnce(func(*cobra.Command) ([]string, error) {
		actions := auditActions()
		for i, action := range actions {
			if strings.HasSuffix(action, ".") {
				actions[i] = described(action, "all that begin with it")
			}
		}
		return actions, nil
	})
}

// completeServers offers the servers of profiles.
func (a *app) completeServers() completion {
	return completeOnce(func(*cobra.Command) ([]string, error) {
		infos, err := a.profileInfos()
		var servers []string
		for _, i := range infos {
			if _, err := url.Parse(i.Server); err == nil {
				servers = append(servers, described(i.Server, i.Name))
			}
		}
		return servers, err
	})
}

// completeVaultIDs offers the ARM ids of embedded vaults, and any.
func (a *app) completeVaultIDs() completion {
	ids := completeTenant(a, func(ctx context.Context, c *client.Client) iter.Seq2[latchkey.EmbeddedVault, error] {
		return c.Vaults(ctx)
	},
		func(v latchkey.EmbeddedVault) string { return described(v.ARMID, v.Name) })
	return func(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
		offered, directive := ids(cmd, args, typed)
		if typed == "" {
			offered = append(offered, described("*", "any vault of the tenant"))
		}
		return offered, directive
	}
}

// completeVaultObjects offers what a path lists of the vault that name returns.
func (a *app) completeVaultObjects(position int, path string, name func(*cobra.Command, []string) string) completion {
	return completeWith(position, func(cmd *cobra.Command, args []string) iter.Seq2[string, error] {
		return a.vaultTexts(cmd.Context(), name(cmd, args), path, func(b secretBundle) string { return described(b.name(), b.ContentType) })
	})
}

// completeVersions offers the versions of the object that the arguments name.
func (a *app) completeVersions(collection string) completion {
	return completeWith(2, func(cmd *cobra.Command, args []string) iter.Seq2[string, error] {
		path, err := secretPath(collection, args[1], "")
		if err != nil {
			return noTexts
		}
		return a.vaultTexts(cmd.Context(), args[0], path+"/versions", func(b secretBundle) string {
			return described(b.version(), unixTime(b.attributes().Created))
		})
	})
}

func (a *app) vaultTexts(ctx context.Context, name, path string, text func(secretBundle) string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		c, err := a.client()
		if err != nil {
			return
		}
		v, err := openVault(ctx, c, name)
		if err != nil {
			return
		}
		defer v.close()
		texts(v.list(ctx, path), text)(yield)
	}
}

// firstArgument is the vault of most commands about what is in one.
func firstArgument(_ *cobra.Command, args []string) string { return args[0] }

// completeIn offers a vault, and then what is in a collection of it, such as
// deletedsecrets.
func (a *app) completeIn(collection string) completion {
	return positions(a.completeVaults(), a.completeVaultObjects(1, "/"+collection, firstArgument))
}

// completeThenFile offers a vault, what is in a collection of it, and then files.
func (a *app) completeThenFile(collection string) completion {
	return positions(a.completeVaults(), a.completeVaultObjects(1, "/"+collection, firstArgument), completeFiles)
}

// completeFiles leaves it to the shell, which offers files.
func completeFiles(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return nil, cobra.ShellCompDirectiveDefault
}

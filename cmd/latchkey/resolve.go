package main

import (
	"context"
	"fmt"
	"iter"
	"strings"

	"github.com/spf13/cobra"

	"latchkey.dev/client"
	"latchkey.dev/latchkey"
)

// byName returns the id of the one item that ref names. A ref that is shaped
// like an id stands for itself, and the list is not asked for.
func byName[ID ~string, T any](ref, prefix string, kind latchkey.Kind, items iter.Seq2[T, error], key func(T) (ID, string)) (ID, error) {
	if latchkey.HasPrefix(ref, prefix) {
		return ID(ref), nil
	}
	var found []string
	for item, err := range items {
		if err != nil {
			return "", err
		}
		if id, name := key(item); name == ref {
			found = append(found, string(id))
		}
	}
	switch len(found) {
	case 0:
		return "", hint(latchkey.NotFound(kind), fmt.Sprintf("latchkey %s list", kind))
	case 1:
		return ID(found[0]), nil
	}
	return "", usagef("more than one %s has this name; give an id: %s", kind, strings.Join(found, ", "))
}

func credentialKey(c latchkey.Credential) (latchkey.CredentialID, string) { return c.ID, c.Name }
func machineKey(m latchkey.Machine) (latchkey.MachineID, string)          { return m.ID, m.Name }
func connectionKey(c latchkey.Connection) (latchkey.ConnectionID, string) { return c.ID, c.Name }
func flowKey(f latchkey.Flow) (latchkey.FlowID, string)                   { return f.ID, f.Name }

func credentialID(ctx context.Context, c *client.Client, env, ref string) (latchkey.CredentialID, error) {
	return byName(ref, "cred", latchkey.KindCredential, c.Credentials(ctx, env), credentialKey)
}

func machineID(ctx context.Context, c *client.Client, env, ref string) (latchkey.MachineID, error) {
	return byName(ref, "mach", latchkey.KindMachine, c.Machines(ctx, env), machineKey)
}

func connectionID(ctx context.Context, c *client.Client, env, ref string) (latchkey.ConnectionID, error) {
	return byName(ref, "conn", latchkey.KindConnection, c.Connections(ctx, env), connectionKey)
}

func flowID(ctx context.Context, c *client.Client, env, ref string) (latchkey.FlowID, error) {
	return byName(ref, "flow", latchkey.KindFlow, c.Flows(ctx, env), flowKey)
}

// several is byName for a list of refs.
func several[ID ~string](refs []string, one func(ref string) (ID, error)) ([]ID, error) {
	ids := []ID{}
	for _, ref := range refs {
		id, err := one(ref)
		if err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	return ids, nil
}

// maxCompletions bounds what a shell is offered.
const maxCompletions = 200

type completion = func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective)

// completeNames offers the names of things in the environment for a command's
// first argument.
func completeNames[T any](a *app, list func(context.Context, *client.Client, string) iter.Seq2[T, error], name func(T) string) completion {
	return func(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		c, env, err := a.within(cmd.Context())
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return names(list(cmd.Context(), c, env), name, typed), cobra.ShellCompDirectiveNoFileComp
	}
}

// completeTenant is completeNames for things outside environments.
func completeTenant[T any](a *app, list func(context.Context, *client.Client) iter.Seq2[T, error], name func(T) string) completion {
	return func(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		c, err := a.client()
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return names(list(cmd.Context(), c), name, typed), cobra.ShellCompDirectiveNoFileComp
	}
}

func names[T any](items iter.Seq2[T, error], name func(T) string, typed string) []string {
	var offered []string
	for item, err := range items {
		if err != nil || len(offered) == maxCompletions {
			break
		}
		if n := name(item); strings.HasPrefix(n, typed) {
			offered = append(offered, n)
		}
	}
	return offered
}

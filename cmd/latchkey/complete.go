package main

import (
	"context"
	"iter"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"latchkey.dev/client"
	"latchkey.dev/latchkey"
)

// maxCompletions bounds what a shell is offered.
const maxCompletions = 200

// A completion offers what an argument or the value of a flag may be.
type completion = func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective)

// completeNames offers the names of things in the environment for a command's
// first argument. A thing whose name is "" is not offered.
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
		if n := name(item); n != "" && strings.HasPrefix(n, typed) && !slices.Contains(offered, n) {
			offered = append(offered, n)
		}
	}
	return offered
}

// oneOf offers fixed values.
func oneOf[T ~string](values ...T) completion {
	texts := make([]string, len(values))
	for i, v := range values {
		texts[i] = string(v)
	}
	return cobra.FixedCompletions(texts, cobra.ShellCompDirectiveNoFileComp)
}

// described offers an id, and shows a name beside it.
func described[ID ~string](id ID, name string) string {
	return cobra.CompletionWithDesc(string(id), name)
}

// completeFlag gives a flag the completion of an argument.
func completeFlag(cmd *cobra.Command, name string, c completion) {
	err := cmd.RegisterFlagCompletionFunc(name, func(cmd *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
		return c(cmd, nil, typed)
	})
	if err != nil {
		panic(err) // the command has no such flag
	}
}

func completeExposure() completion {
	return oneOf(latchkey.ExposureSession, latchkey.ExposureDescriptor, latchkey.ExposureFile, latchkey.ExposureEnvironment)
}

func completeTypes() completion {
	return oneOf(latchkey.TypeText, latchkey.TypeNumber, latchkey.TypeBoolean, latchkey.TypeJSON, latchkey.TypeSecret)
}

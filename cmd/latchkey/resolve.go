package main

import (
	"context"
	"iter"
	"strings"

	"latchkey.dev/client"
	"latchkey.dev/internal/cli"
	"latchkey.dev/latchkey"
)

// byName returns the id of the one item that ref names. A ref that is shaped
// like an id stands for itself, and the list is not asked for.
func byName[ID ~string, T any](ref, prefix string, kind latchkey.Kind, items iter.Seq2[T, error], key func(T) (ID, string)) (ID, error) {
	if latchkey.HasPrefix(ref, prefix) {
		return ID(ref), nil
	}
	var found, names []string
	for item, err := range items {
		if err != nil {
			return "", err
		}
		id, name := key(item)
		if name == ref {
			found = append(found, string(id))
		}
		names = append(names, name)
	}
	switch len(found) {
	case 0:
		return "", notFound(kind, ref, names)
	case 1:
		return ID(found[0]), nil
	}
	return "", cli.Usagef("more than one %s has this name; give an id: %s", kind, strings.Join(found, ", "))
}

func credentialKey(c latchkey.Credential) (latchkey.CredentialID, string) { return c.ID, c.Name }
func machineKey(m latchkey.Machine) (latchkey.MachineID, string)          { return m.ID, m.Name }
func machineGroupKey(g latchkey.MachineGroup) (latchkey.MachineGroupID, string) {
	return g.ID, g.Name
}
func connectionKey(c latchkey.Connection) (latchkey.ConnectionID, string) { return c.ID, c.Name }
func flowKey(f latchkey.Flow) (latchkey.FlowID, string)                   { return f.ID, f.Name }

func credentialID(ctx context.Context, c *client.Client, env, ref string) (latchkey.CredentialID, error) {
	return byName(ref, "cred", latchkey.KindCredential, c.Credentials(ctx, env), credentialKey)
}

func machineID(ctx context.Context, c *client.Client, env, ref string) (latchkey.MachineID, error) {
	return byName(ref, "mach", latchkey.KindMachine, c.Machines(ctx, env), machineKey)
}

func machineGroupID(ctx context.Context, c *client.Client, env, ref string) (latchkey.MachineGroupID, error) {
	return byName(ref, "mgrp", latchkey.KindMachineGroup, c.MachineGroups(ctx, env), machineGroupKey)
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

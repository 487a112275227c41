package main

import (
	"context"
	"iter"

	"latchkey.dev/client"
	"latchkey.dev/internal/cli"
	"latchkey.dev/latchkey"
)

// namesOf returns the names of things by their ids, as far as the list comes:
// what has no name there is shown by its id.
func namesOf[ID ~string, T any](items iter.Seq2[T, error], key func(T) (ID, string)) map[ID]string {
	names := map[ID]string{}
	for item, err := range items {
		if err != nil {
			break
		}
		id, name := key(item)
		names[id] = name
	}
	return names
}

func memberKey(m latchkey.Member) (latchkey.PrincipalID, string) { return m.Principal, m.Name }

// named returns a name with its id after it, or the id alone.
func named[ID ~string](names map[ID]string, id ID) string {
	if name := names[id]; name != "" {
		return name + " (" + string(id) + ")"
	}
	return string(id)
}

// nameOr returns a name, or the id of what has none.
func nameOr[ID ~string](names map[ID]string, id ID) string { return firstOf(names[id], string(id)) }

// members returns the names of who has a role in an environment; none for
// programs, which are not shown names.
func (a *app) members(ctx context.Context, c *client.Client, env string) map[latchkey.PrincipalID]string {
	if a.JSON {
		return nil
	}
	return namesOf(c.Members(ctx, env), memberKey)
}

// printConnection prints a connection with the names of what it binds.
func (a *app) printConnection(ctx context.Context, c *client.Client, env string, conn latchkey.Connection) error {
	if a.JSON {
		return a.PrintJSON(conn)
	}
	machines, credentials := map[latchkey.MachineID]string{}, map[latchkey.CredentialID]string{}
	groups := map[latchkey.MachineGroupID]string{}
	if conn.Target.MachineGroup != "" {
		if g, err := c.MachineGroup(ctx, env, conn.Target.MachineGroup); err == nil {
			groups[g.ID] = g.Name
		}
	} else if m, err := c.Machine(ctx, env, conn.Target.Machine); err == nil {
		machines[m.ID] = m.Name
	}
	if cred, err := c.Credential(ctx, env, conn.Credential); err == nil {
		credentials[cred.ID] = cred.Name
	}
	fields := connectionFields(conn)
	for i := range fields {
		switch fields[i][0] {
		case "Machine":
			fields[i][1] = named(machines, conn.Target.Machine)
		case "Machine group":
			fields[i][1] = named(groups, conn.Target.MachineGroup)
		case "Credential":
			fields[i][1] = named(credentials, conn.Credential)
		case "Owner":
			fields[i][1] = named(a.members(ctx, c, env), conn.Owner)
		}
	}
	if err := a.PrintOne(conn, fields...); err != nil {
		return err
	}
	if conn.Refusals >= latchkey.MaxRefusals {
		a.Say("sign-in is blocked: the target has refused this version of the secret %d times in a row. Set the right password in the vault, which is another version; "+
			"if the account or the user name was put right, the connection's owner runs: latchkey connection test --force %s", conn.Refusals, cli.QuoteWord(conn.Name))
	}
	return nil
}

// runNames are the names of what a run names by id.
type runNames struct {
	connections map[latchkey.ConnectionID]string
	principals  map[latchkey.PrincipalID]string
}

// namesOfRun asks for the names that a run is shown with.
func (a *app) namesOfRun(ctx context.Context, c *client.Client, env string, r latchkey.Run) runNames {
	if a.JSON {
		return runNames{}
	}
	n := runNames{map[latchkey.ConnectionID]string{}, a.members(ctx, c, env)}
	if conn, err := c.Connection(ctx, env, r.Connection); err == nil {
		n.connections[conn.ID] = conn.Name
	}
	return n
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

package broker

import (
	"time"

	"latchkey.dev/internal/db"
	"latchkey.dev/latchkey"
)

// idsOf returns the ids of the items of a page, as texts.
func idsOf[T any, ID ~string](items []*T, id func(*T) ID) []string {
	ids := make([]string, len(items))
	for i, item := range items {
		ids[i] = string(id(item))
	}
	return ids
}

// pointers returns pointers to the items of a page.
func pointers[T any](items []T) []*T {
	all := make([]*T, len(items))
	for i := range items {
		all[i] = &items[i]
	}
	return all
}

// addOwners fills in who owns things.
func addOwners[T any, ID ~string](o *op, things []*T, id func(*T) ID, owner func(*T) **latchkey.Owner) error {
	owners, err := o.OwnersOf(idsOf(things, id))
	for _, t := range things {
		*owner(t) = owners[string(id(t))]
	}
	return err
}

// addRoles fills in the caller's own role on things.
func addRoles[T any, ID ~string](o *op, things []*T, id func(*T) ID, role func(*T) *latchkey.Role) error {
	roles, err := o.Roles(o.who.ID, idsOf(things, id))
	for _, t := range things {
		*role(t) = roles[string(id(t))]
	}
	return err
}

// describeCredentials fills in what people see of credentials besides what they are
// made of, with a query for each.
func (o *op) describeCredentials(env latchkey.EnvironmentID, credentials ...*latchkey.Credential) error {
	ids := make([]latchkey.CredentialID, len(credentials))
	for i, c := range credentials {
		ids[i] = c.ID
	}
	if err := addOwners(o, credentials, func(c *latchkey.Credential) latchkey.CredentialID { return c.ID }, func(c *latchkey.Credential) **latchkey.Owner { return &c.OwnedBy }); err != nil {
		return err
	}
	used, err := o.LastReleases(ids)
	if err != nil {
		return err
	}
	rows, err := o.SecretStandings(ids)
	if err != nil {
		return err
	}
	standings := make(map[latchkey.CredentialID][]db.SecretStanding, len(ids))
	for _, r := range rows {
		standings[r.Credential] = append(standings[r.Credential], r)
	}
	for _, c := range credentials {
		c.LastUsedAt = used[c.ID]
		c.Status, c.ExpiresAt = credentialStatus(c, standings[c.ID], o.Now)
	}
	return o.addUsernames(env, ids, credentials)
}

// addUsernames fills in the user names of which the caller may read the variables.
func (o *op) addUsernames(env latchkey.EnvironmentID, ids []latchkey.CredentialID, credentials []*latchkey.Credential) error {
	visible, err := o.visible(env, latchkey.ActVariableRead)
	if err != nil {
		return err
	}
	names, err := o.Usernames(ids)
	if err != nil {
		return err
	}
	var variables []string
	for _, n := range names {
		variables = append(variables, string(n.Variable))
	}
	roles, err := o.Roles(o.who.ID, variables)
	if err != nil {
		return err
	}
	for _, c := range credentials {
		n := names[c.ID]
		if visible.Everything || (latchkey.Access{Role: roles[string(n.Variable)]}).Can(latchkey.ActVariableRead) {
			c.Username = n.Value
		}
	}
	return nil
}

// credentialStatus says how a credential stands by its references and its
// certificate, and when its secret expires, nil for never or unknown.
func credentialStatus(c *latchkey.Credential, references []db.SecretStanding, now time.Time) (status latchkey.CredentialStatus, expires *time.Time) {
	var newest, inForce *db.SecretStanding
	for i := range references {
		if references[i].Newest {
			newest = &references[i]
		}
		if references[i].InForce {
			inForce = &references[i]
		}
	}
	if inForce != nil {
		expires = inForce.ExpiresAt
	}
	certificate := c.Certificate
	if certificate != nil && certificate.ExpiresAt != nil {
		expires = certificate.ExpiresAt
	}
	failed := newest != nil && newest.State == latchkey.CheckFailed && !newest.Overridden
	switch {
	case newest == nil && inForce == nil, failed:
		return latchkey.CredentialFailed, expires
	case expires != nil && !expires.After(now):
		return latchkey.CredentialExpired, expires
	case certificate != nil && certificate.State == latchkey.CheckFailed:
		return latchkey.CredentialFailed, expires
	case newest != nil && !newest.InForce && inForce != nil:
		return latchkey.CredentialPending, expires
	case inForce == nil && newest.State == latchkey.CheckUnknown:
		return latchkey.CredentialUnknown, expires
	case inForce == nil, certificate != nil && certificate.State == latchkey.CheckChecking && certificate.CheckedAt == nil:
		return latchkey.CredentialChecking, expires
	case newest != nil && newest.State == latchkey.CheckUnknown && !newest.Overridden, certificate != nil && certificate.State == latchkey.CheckUnknown:
		return latchkey.CredentialUnknown, expires
	case expires != nil && expires.Sub(now) < latchkey.ExpiresSoon:
		return latchkey.CredentialExpiring, expires
	}
	return latchkey.CredentialOK, expires
}

// describeVariables fills in who owns variables, and how many credentials use them.
func (o *op) describeVariables(variables ...*latchkey.Variable) error {
	ids := make([]latchkey.VariableID, len(variables))
	for i, v := range variables {
		ids[i] = v.ID
	}
	uses, err := o.VariableUses(ids, latchkey.MaxUsedBy)
	if err != nil {
		return err
	}
	for _, v := range variables {
		n := uses[v.ID]
		v.UsedBy = &n
	}
	id := func(v *latchkey.Variable) latchkey.VariableID { return v.ID }
	if err := addRoles(o, variables, id, func(v *latchkey.Variable) *latchkey.Role { return &v.MyRole }); err != nil {
		return err
	}
	return addOwners(o, variables, id, func(v *latchkey.Variable) **latchkey.Owner { return &v.OwnedBy })
}

// describeMachines fills in the load of machines, and who owns them.
func (o *op) describeMachines(machines ...*latchkey.Machine) error {
	if err := o.AddLoad(machines...); err != nil {
		return err
	}
	id := func(m *latchkey.Machine) latchkey.MachineID { return m.ID }
	if err := addRoles(o, machines, id, func(m *latchkey.Machine) *latchkey.Role { return &m.MyRole }); err != nil {
		return err
	}
	return addOwners(o, machines, id, func(m *latchkey.Machine) **latchkey.Owner { return &m.OwnedBy })
}

// describeMachineGroups fills in the load of machine groups, who owns them, and the
// caller's role.
func (o *op) describeMachineGroups(groups ...*latchkey.MachineGroup) error {
	if err := o.AddGroupLoad(groups...); err != nil {
		return err
	}
	id := func(g *latchkey.MachineGroup) latchkey.MachineGroupID { return g.ID }
	if err := addRoles(o, groups, id, func(g *latchkey.MachineGroup) *latchkey.Role { return &g.MyRole }); err != nil {
		return err
	}
	return addOwners(o, groups, id, func(g *latchkey.MachineGroup) **latchkey.Owner { return &g.OwnedBy })
}

// describeConnections fills in who owns connections, and the last runs through them.
func (o *op) describeConnections(env latchkey.EnvironmentID, connections ...*latchkey.Connection) error {
	id := func(c *latchkey.Connection) latchkey.ConnectionID { return c.ID }
	if err := addOwners(o, connections, id, func(c *latchkey.Connection) **latchkey.Owner { return &c.OwnedBy }); err != nil {
		return err
	}
	if err := addRoles(o, connections, id, func(c *latchkey.Connection) *latchkey.Role { return &c.MyRole }); err != nil {
		return err
	}
	return addLastRuns(o, env, latchkey.KindConnection, connections, id, func(c *latchkey.Connection) **latchkey.LastRun { return &c.LastRun })
}

// describeFlows fills in who owns flows, and their last runs.
func (o *op) describeFlows(env latchkey.EnvironmentID, flows ...*latchkey.Flow) error {
	id := func(f *latchkey.Flow) latchkey.FlowID { return f.ID }
	if err := addOwners(o, flows, id, func(f *latchkey.Flow) **latchkey.Owner { return &f.OwnedBy }); err != nil {
		return err
	}
	if err := addRoles(o, flows, id, func(f *latchkey.Flow) *latchkey.Role { return &f.MyRole }); err != nil {
		return err
	}
	return addLastRuns(o, env, latchkey.KindFlow, flows, id, func(f *latchkey.Flow) **latchkey.LastRun { return &f.LastRun })
}

// addLastRuns fills in the last runs that the caller may see.
func addLastRuns[T any, ID ~string](o *op, env latchkey.EnvironmentID, kind latchkey.Kind, things []*T, id func(*T) ID, last func(*T) **latchkey.LastRun) error {
	visible, err := o.visible(env, latchkey.ActRunRead)
	if err != nil {
		return err
	}
	runs, err := o.LastRuns(kind, visible, idsOf(things, id))
	for _, t := range things {
		*last(t) = runs[string(id(t))]
	}
	return err
}

package broker

import (
	"errors"
	"fmt"

	"latchkey.dev/internal/db"
	"latchkey.dev/latchkey"
)

// A denial says why a run may not go on; code is "" when it may.
type denial struct {
	code     string
	reason   string
	remedy   string
	identity latchkey.PrincipalID
	check    latchkey.Action
}

// machineDisabled is the denial of everything on a disabled machine.
func machineDisabled(m db.Machine) denial {
	return denial{code: "machine-disabled", reason: fmt.Sprintf("the machine %q is disabled", m.Name), remedy: "an environment admin can enable it", identity: latchkey.PrincipalID(m.ID)}
}

// terms are what a run was started with.
type terms struct {
	connection  latchkey.Connection
	flow        latchkey.Flow // the revision; see flowOf
	owner       latchkey.PrincipalID
	credentials []latchkey.Credential // the connection's, and those that the flow asks for
}

// deny says why a run may not go on on a machine, and returns its terms when it may:
// nothing denies it anywhere, and each of its credentials may be used on the machine,
// which is still in the run's group if it has one.
func deny(tx *db.Tx, r db.Run, m db.Machine) (t terms, d denial, err error) {
	if t, d, err = denyAnywhere(tx, r); err != nil || d.code != "" {
		return t, d, err
	}
	if d = t.unfit(r, m); d.code != "" || r.Kind != latchkey.RunTest {
		return t, d, nil
	}
	t.flow, err = flowOf(tx, r, t.connection, m)
	return t, d, err
}

// unfit says why a run may not go on on one machine, though it may on others.
func (t *terms) unfit(r db.Run, m db.Machine) denial {
	if r.MachineGroup != "" && r.MachineGroup != m.MachineGroup {
		return denial{
			code: "machine-left-group", reason: fmt.Sprintf("the machine %q is not in the machine group %q any more", m.Name, r.MachineGroupName),
			remedy: "whoever may edit both can add it", identity: latchkey.PrincipalID(m.ID),
		}
	}
	for _, c := range t.credentials {
		if bad := fitsOn(c, m); bad.code != "" {
			bad.identity, bad.check = t.owner, latchkey.ActCredentialUse
			return bad
		}
	}
	return denial{}
}

// refuses says why a machine's policy does not let it execute a run, or "". The agent
// sees to that itself; it is asked here to choose among the machines of a group.
func (t *terms) refuses(r db.Run, m db.Machine) string {
	if r.Kind == latchkey.RunTest {
		return m.Policy.RefusesDriver(t.connection.Driver, t.connection.SSHServer)
	}
	return m.Policy.Refuses(t.flow.Command[0], t.connection.Driver, t.connection.SSHServer, t.flow.Handover)
}

// denyAnywhere says why a run may not go on on any machine, and returns its terms when
// it may: its connection and its machine group must exist, and the connection's owner
// must still hold the machine or the group, the connection's credential and those that
// the flow asks for, each fit for this flow.
func denyAnywhere(tx *db.Tx, r db.Run) (t terms, d denial, err error) {
	t.connection, err = tx.Connection(r.Environment, r.Connection)
	if errors.Is(err, db.ErrNotFound) {
		return t, denial{code: "connection-deleted", reason: "the connection was deleted", identity: r.Owner}, nil
	}
	if err != nil {
		return t, denial{}, err
	}
	t.flow.Handover = latchkey.HandoverNone // of a test
	if r.Kind != latchkey.RunTest {
		if t.flow, err = tx.FlowRevision(r.Environment, r.Flow, r.Revision); err != nil {
			return t, denial{}, err
		}
	}
	if r.MachineGroup != "" {
		if _, err := tx.MachineGroup(r.MachineGroup); errors.Is(err, db.ErrNotFound) {
			return t, denial{code: "group-deleted", reason: fmt.Sprintf("the machine group %q was deleted", r.MachineGroupName), remedy: "it can be restored; or make a connection on another", identity: r.Owner}, nil
		} else if err != nil {
			return t, denial{}, err
		}
	}
	owner, err := tx.KnownPrincipal(r.Owner)
	if err != nil {
		return t, denial{}, err
	}
	t.owner, d = owner.ID, denial{identity: owner.ID}
	if owner.Disabled {
		d.code, d.reason, d.remedy = "owner-disabled", fmt.Sprintf("the account of the connection's owner, %s, is disabled", owner.Name), "somebody else can make a connection"
		return t, d, nil
	}
	d.check = latchkey.ActMachineUse
	place, code, what := string(r.Machine), "owner-lost-machine", fmt.Sprintf("the machine %q", r.MachineName)
	if r.MachineGroup != "" {
		d.check = latchkey.ActMachineGroupUse
		place, code, what = string(r.MachineGroup), "owner-lost-group", fmt.Sprintf("the machine group %q", r.MachineGroupName)
	}
	access, err := tx.Access(owner.ID, r.Environment, place)
	if err != nil {
		return t, d, err
	}
	if len(access.Environment) == 0 {
		d.check = latchkey.ActEnvironmentRead
		d.code, d.reason, d.remedy = "owner-left", fmt.Sprintf("%s, the owner of the connection, has no role in the environment any more", owner.Name), "an environment admin can give one"
		return t, d, nil
	}
	if !access.Can(d.check) {
		d.code, d.reason, d.remedy = code, fmt.Sprintf("%s, the owner of the connection, may not use %s", owner.Name, what), need(d.check)
		return t, d, nil
	}
	if d, err := starterDenial(tx, r, t.connection); err != nil || d.code != "" {
		return t, d, err
	}
	use := func(id latchkey.CredentialID, usage latchkey.Usage) error {
		var c latchkey.Credential
		c, d, err = credentialDenial(tx, owner, r.Environment, id, usage, t.flow.Handover)
		t.credentials = append(t.credentials, c)
		return err
	}
	if err := use(t.connection.Credential, latchkey.UsageConnection); err != nil || d.code != "" {
		return t, d, err
	}
	for _, id := range t.flow.Credentials {
		if err := use(id, latchkey.UsageDesktopFlow); err != nil || d.code != "" {
			return t, d, err
		}
	}
	return t, denial{}, nil
}

// starterDenial says why who started a run may not have it go on.
func starterDenial(tx *db.Tx, r db.Run, c latchkey.Connection) (denial, error) {
	p, err := tx.KnownPrincipal(r.StartedBy)
	if err != nil {
		return denial{}, err
	}
	d := denial{identity: p.ID, check: latchkey.ActFlowRun}
	if p.Disabled {
		d.code, d.reason, d.remedy = "starter-disabled", fmt.Sprintf("the account of %s, who started the run, is disabled", p.Name), "somebody else can start it"
		return d, nil
	}
	needs := []struct {
		action latchkey.Action
		id     string
	}{{latchkey.ActFlowRun, string(r.Flow)}, {latchkey.ActConnectionUse, string(c.ID)}}
	what := "its flow and its connection"
	if r.Kind == latchkey.RunTest {
		needs, what = needs[1:], "its connection"
	}
	for _, n := range needs {
		access, err := tx.Access(p.ID, r.Environment, n.id)
		if err != nil {
			return d, err
		}
		if !access.Can(n.action) {
			d.check = n.action
			d.code, d.reason, d.remedy = "starter-lost-access", fmt.Sprintf("%s, who started the run, may not use %s any more", p.Name, what), need(n.action)
			return d, nil
		}
	}
	return denial{}, nil
}

// credentialDenial says why a run of owner may not have a credential on any machine,
// and returns the credential when it may.
func credentialDenial(tx *db.Tx, owner db.Principal, env latchkey.EnvironmentID, id latchkey.CredentialID, usage latchkey.Usage, h latchkey.Handover) (c latchkey.Credential, d denial, err error) {
	d = denial{identity: owner.ID, check: latchkey.ActCredentialUse}
	c, err = tx.Credential(env, id)
	if errors.Is(err, db.ErrNotFound) {
		d.code, d.reason = "credential-deleted", "the credential was deleted"
		return c, d, nil
	}
	if err != nil {
		return c, d, err
	}
	access, err := tx.Access(owner.ID, env, string(id))
	if err != nil {
		return c, d, err
	}
	if !access.Can(latchkey.ActCredentialUse) {
		d.code, d.reason, d.remedy = "owner-lost-credential", fmt.Sprintf("%s, the owner of the connection, may not use the credential %q", owner.Name, c.Name), need(d.check)
		return c, d, nil
	}
	bad := hasUsage(c, usage)
	if bad.code == "" {
		bad = exposes(c, h)
	}
	bad.identity, bad.check = d.identity, d.check
	return c, bad, nil
}

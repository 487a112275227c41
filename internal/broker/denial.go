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
	connection latchkey.Connection
	flow       latchkey.Flow // the revision; see flowOf
}

// deny says why a run may not go on, and returns its terms when it may: its
// connection must exist, and the connection's owner must still hold the machine,
// the connection's credential and those that the flow asks for, each fit for this
// machine and flow.
func deny(tx *db.Tx, r db.Run, m db.Machine) (t terms, d denial, err error) {
	t.connection, err = tx.Connection(r.Environment, r.Connection)
	if errors.Is(err, db.ErrNotFound) {
		return t, denial{code: "connection-deleted", reason: "the connection was deleted", identity: r.Owner}, nil
	}
	if err != nil {
		return t, denial{}, err
	}
	if t.flow, err = flowOf(tx, r, t.connection, m); err != nil {
		return t, denial{}, err
	}
	owner, err := tx.KnownPrincipal(r.Owner)
	if err != nil {
		return t, denial{}, err
	}
	d = denial{identity: owner.ID}
	if owner.Disabled {
		d.code, d.reason, d.remedy = "owner-disabled", fmt.Sprintf("the account of the connection's owner, %s, is disabled", owner.Name), "somebody else can make a connection"
		return t, d, nil
	}
	access, err := tx.Access(owner.ID, r.Environment, string(m.ID))
	if err != nil {
		return t, d, err
	}
	if len(access.Environment) == 0 {
		d.check = latchkey.ActEnvironmentRead
		d.code, d.reason, d.remedy = "owner-left", fmt.Sprintf("%s, the owner of the connection, has no role in the environment any more", owner.Name), "an environment admin can give one"
		return t, d, nil
	}
	if !access.Can(latchkey.ActMachineUse) {
		d.check = latchkey.ActMachineUse
		d.code, d.reason, d.remedy = "owner-lost-machine", fmt.Sprintf("%s, the owner of the connection, may not use the machine %q", owner.Name, m.Name), need(d.check)
		return t, d, nil
	}
	if d, err := starterDenial(tx, r, t.connection); err != nil || d.code != "" {
		return t, d, err
	}
	if d, err = credentialDenial(tx, owner, r.Environment, t.connection.Credential, latchkey.UsageConnection, t.flow.Handover, m); err != nil || d.code != "" {
		return t, d, err
	}
	for _, id := range t.flow.Credentials {
		if d, err = credentialDenial(tx, owner, r.Environment, id, latchkey.UsageDesktopFlow, t.flow.Handover, m); err != nil || d.code != "" {
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

// credentialDenial says why a run of owner may not have a credential.
func credentialDenial(tx *db.Tx, owner db.Principal, env latchkey.EnvironmentID, id latchkey.CredentialID, usage latchkey.Usage, h latchkey.Handover, m db.Machine) (denial, error) {
	d := denial{identity: owner.ID, check: latchkey.ActCredentialUse}
	c, err := tx.Credential(env, id)
	if errors.Is(err, db.ErrNotFound) {
		d.code, d.reason = "credential-deleted", "the credential was deleted"
		return d, nil
	}
	if err != nil {
		return d, err
	}
	access, err := tx.Access(owner.ID, env, string(id))
	if err != nil {
		return d, err
	}
	if !access.Can(latchkey.ActCredentialUse) {
		d.code, d.reason, d.remedy = "owner-lost-credential", fmt.Sprintf("%s, the owner of the connection, may not use the credential %q", owner.Name, c.Name), need(d.check)
		return d, nil
	}
	bad := fits(c, usage, m.ID, m.SharedUID)
	if bad.code == "" {
		bad = exposes(c, h)
	}
	bad.identity, bad.check = d.identity, d.check
	return bad, nil
}

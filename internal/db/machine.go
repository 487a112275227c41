package db

import (
	"crypto/sha256"
	"encoding/hex"
	"time"

	"latchkey.dev/latchkey"
)

// A Machine is a machine with what only the service needs.
type Machine struct {
	latchkey.Machine
	Environment      latchkey.EnvironmentID
	SignKey          []byte // Ed25519
	SealKey          []byte // X25519
	SessionCounter   int64  // of its newest session
	Disabled         bool
	Quarantined      bool
	QuarantineReason string
}

const machineCols = `m.id, m.environment_id, m.name, m.description, m.sign_key, m.seal_key, m.os, m.agent_version, m.shared_uid, m.policy,
	m.session_counter, m.disabled_at IS NOT NULL, m.quarantined_at IS NOT NULL, m.quarantine_reason, m.last_seen_at, m.enrolled_by, m.created_at,
	COALESCE(mg.id, ''), COALESCE(mg.name, '')`

const machineJoin = ` LEFT JOIN machine_groups mg ON mg.id = m.group_id AND mg.deleted_at IS NULL`

func (tx *Tx) scanMachine(s scanner) (m Machine, err error) {
	err = s.Scan(&m.ID, &m.Environment, &m.Name, &m.Description, &m.SignKey, &m.SealKey, &m.OS, &m.AgentVersion, &m.SharedUID, jsonText{&m.Policy},
		&m.SessionCounter, &m.Disabled, &m.Quarantined, &m.QuarantineReason, nullTime{&m.LastSeenAt}, &m.EnrolledBy, timestamp{&m.EnrolledAt},
		&m.MachineGroup, &m.MachineGroupName)
	fingerprint := sha256.Sum256(m.SignKey)
	m.SignKeyID = hex.EncodeToString(fingerprint[:8])
	switch {
	case m.Quarantined:
		m.Status, m.StatusReason = latchkey.MachineQuarantined, m.QuarantineReason
	case m.Disabled:
		m.Status = latchkey.MachineDisabled
	case m.LastSeenAt != nil && tx.Now.Sub(*m.LastSeenAt) < latchkey.OnlineWindow:
		m.Status = latchkey.MachineOnline
	default:
		m.Status = latchkey.MachineOffline
	}
	return m, err
}

// AddLoad fills in how many runs machines execute and how many wait for them.
func (tx *Tx) AddLoad(machines ...*latchkey.Machine) error {
	if len(machines) == 0 {
		return nil
	}
	byID := make(map[latchkey.MachineID]*latchkey.Machine, len(machines))
	ids := make([]latchkey.MachineID, len(machines))
	for i, m := range machines {
		byID[m.ID], ids[i] = m, m.ID
	}
	type row struct {
		id    latchkey.MachineID
		state latchkey.RunState
		n     int
	}
	// One part for each state, so that the indexes of the two serve.
	part := func(state latchkey.RunState) string {
		return `SELECT machine_id, state, count(*) FROM runs WHERE state = '` + string(state) + `' AND machine_id IN (` + placeholders(1, len(ids)) + `) GROUP BY machine_id, state`
	}
	rows, err := all(tx, func(s scanner) (r row, err error) { return r, s.Scan(&r.id, &r.state, &r.n) },
		part(latchkey.RunRunning)+` UNION ALL `+part(latchkey.RunQueued), in(ids)...)
	for _, r := range rows {
		if r.state == latchkey.RunRunning {
			byID[r.id].Running = r.n
		} else {
			byID[r.id].Queued = r.n
		}
	}
	return err
}

// Machine returns the machine with an id, without its load, or ErrNotFound.
func (tx *Tx) Machine(id latchkey.MachineID) (Machine, error) {
	return one(tx, tx.scanMachine, `SELECT `+machineCols+` FROM machines m`+machineJoin+` WHERE m.id = $1 AND m.deleted_at IS NULL`, id)
}

// Machines lists an environment's machines, without their load.
func (tx *Tx) Machines(env latchkey.EnvironmentID, visible Visible, o latchkey.PageOptions) (latchkey.Page[latchkey.Machine], error) {
	l := listing[latchkey.Machine]{
		kind: latchkey.KindMachine, cols: machineCols, table: "machines m", alias: "m", joins: machineJoin,
		scan: func(s scanner) (latchkey.Machine, error) {
			m, err := tx.scanMachine(s)
			return m.Machine, err
		},
		name: func(m *latchkey.Machine) (string, string) { return m.Name, string(m.ID) },
	}
	return l.page(tx, env, visible, o, nil)
}

// CreateMachine stores a new machine and its principal. It returns ErrExists
// when the environment has a machine of this name, or the key is known.
func (tx *Tx) CreateMachine(m Machine) error {
	policy, err := toJSON(m.Policy)
	if err != nil {
		return err
	}
	if err := tx.EnsurePrincipal(latchkey.PrincipalID(m.ID), latchkey.PrincipalMachine, m.Name); err != nil {
		return err
	}
	_, err = tx.exec(`INSERT INTO machines (id, environment_id, name, sort_key, search_key, sign_key, seal_key, os, agent_version, shared_uid, policy, enrolled_by, created_at, updated_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $13)`,
		m.ID, m.Environment, m.Name, latchkey.SortKey(m.Name), latchkey.SearchKey(m.Name, m.Description), m.SignKey, m.SealKey, m.OS, m.AgentVersion, m.SharedUID, policy, m.EnrolledBy, ms(tx.Now))
	return err
}

// RekeyMachine gives a machine new keys, and ends its quarantine and its
// session. Sessions are counted anew. It returns ErrExists when the key is known.
func (tx *Tx) RekeyMachine(m Machine) error {
	if err := tx.execOne(`UPDATE machines SET sign_key = $2, seal_key = $3, session_counter = 0, quarantined_at = NULL, quarantine_reason = '', updated_at = $4
		WHERE id = $1`, m.ID, m.SignKey, m.SealKey, ms(tx.Now)); err != nil {
		return err
	}
	return tx.forgetSessions(m.ID)
}

// forgetSessions removes a machine's sessions, so that requests which somebody
// recorded in them mean nothing any more.
func (tx *Tx) forgetSessions(id latchkey.MachineID) error {
	_, err := tx.exec(`DELETE FROM machine_sessions WHERE machine_id = $1`, id)
	return err
}

// UpdateMachine stores what people may change of a machine. It returns
// ErrExists when another one has the name.
func (tx *Tx) UpdateMachine(m Machine) error {
	var disabled any
	if m.Disabled {
		disabled = ms(tx.Now)
	}
	if err := tx.execOne(`UPDATE machines SET name = $2, sort_key = $3, description = $4, disabled_at = $5, updated_at = $6, search_key = $7 WHERE id = $1`,
		m.ID, m.Name, latchkey.SortKey(m.Name), m.Description, disabled, ms(tx.Now), latchkey.SearchKey(m.Name, m.Description)); err != nil {
		return err
	}
	if err := tx.sortGrants(string(m.ID), m.Name); err != nil {
		return err
	}
	return tx.bumpEpochOf("machines", string(m.ID))
}

// DeleteMachine marks a machine and its principal as deleted and ends its
// session.
func (tx *Tx) DeleteMachine(id latchkey.MachineID, by latchkey.PrincipalID) error {
	if err := tx.execOne(`UPDATE machines SET deleted_at = $2, deleted_by = $3 WHERE id = $1`, id, ms(tx.Now), by); err != nil {
		return err
	}
	if _, err := tx.exec(`UPDATE principals SET deleted_at = $2 WHERE id = $1`, id, ms(tx.Now)); err != nil {
		return err
	}
	return tx.forgetSessions(id)
}

// QuarantineMachine ends a machine's session and keeps it from opening another.
func (tx *Tx) QuarantineMachine(id latchkey.MachineID, reason string) error {
	if err := tx.execOne(`UPDATE machines SET quarantined_at = $2, quarantine_reason = $3 WHERE id = $1`, id, ms(tx.Now), reason); err != nil {
		return err
	}
	return tx.endSession(id)
}

// MachineSeen notes that a machine's agent was heard of.
func (tx *Tx) MachineSeen(id latchkey.MachineID) error {
	_, err := tx.exec(`UPDATE machines SET last_seen_at = $2 WHERE id = $1`, id, ms(tx.Now))
	return err
}

// An EnrolmentToken is an enrolment token without its value.
type EnrolmentToken struct {
	latchkey.EnrolmentToken
	Environment latchkey.EnvironmentID
}

const enrolmentCols = `id, environment_id, machine_id, group_id, uses_left, expires_at, created_by`

func scanEnrolmentToken(s scanner) (t EnrolmentToken, err error) {
	return t, s.Scan(&t.ID, &t.Environment, &t.Machine, &t.MachineGroup, &t.Uses, timestamp{&t.ExpiresAt}, &t.CreatedBy)
}

// CreateEnrolmentToken stores an enrolment token by its hash.
func (tx *Tx) CreateEnrolmentToken(t EnrolmentToken, hash []byte) error {
	_, err := tx.exec(`INSERT INTO enrolment_tokens (`+enrolmentCols+`, hash, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)`,
		t.ID, t.Environment, t.Machine, t.MachineGroup, t.Uses, ms(t.ExpiresAt), t.CreatedBy, hash, ms(tx.Now))
	return err
}

// EnrolmentTokenByHash returns an enrolment token, used up or expired ones too,
// or ErrNotFound.
func (tx *Tx) EnrolmentTokenByHash(hash []byte) (EnrolmentToken, error) {
	return one(tx, scanEnrolmentToken, `SELECT `+enrolmentCols+` FROM enrolment_tokens WHERE hash = $1 AND revoked_at IS NULL`, hash)
}

// EnrolmentTokens lists the enrolment tokens of an environment that can still be
// used, oldest first.
func (tx *Tx) EnrolmentTokens(env latchkey.EnvironmentID, o latchkey.PageOptions) (latchkey.Page[latchkey.EnrolmentToken], error) {
	var w where
	w.add("environment_id = ?", env)
	w.add("uses_left > 0 AND revoked_at IS NULL AND expires_at > ?", ms(tx.Now))
	if o.After != "" {
		_, after := parseCursor(o.After)
		w.add("id > ?", after)
	}
	w.args = append(w.args, o.Size()+1)
	items, err := all(tx, func(s scanner) (latchkey.EnrolmentToken, error) {
		t, err := scanEnrolmentToken(s)
		return t.EnrolmentToken, err
	}, `SELECT `+enrolmentCols+` FROM enrolment_tokens`+w.String()+` ORDER BY id LIMIT `+w.last(), w.args...)
	return page(items, o, func(t latchkey.EnrolmentToken) (string, string) { return "", string(t.ID) }), err
}

// RevokeEnrolmentToken ends an enrolment token, or returns ErrNotFound when the
// environment has none with the id that can still be used.
func (tx *Tx) RevokeEnrolmentToken(env latchkey.EnvironmentID, id latchkey.EnrolmentTokenID) error {
	return tx.execOne(`UPDATE enrolment_tokens SET revoked_at = $3 WHERE environment_id = $1 AND id = $2 AND revoked_at IS NULL AND uses_left > 0`, env, id, ms(tx.Now))
}

// UseEnrolmentToken takes one use of an enrolment token, or returns
// ErrNotFound when none is left.
func (tx *Tx) UseEnrolmentToken(id latchkey.EnrolmentTokenID) error {
	return tx.execOne(`UPDATE enrolment_tokens SET uses_left = uses_left - 1 WHERE id = $1 AND uses_left > 0`, id)
}

// A MachineSession is a session between a machine's agent and the service.
type MachineSession struct {
	ID             latchkey.SessionID
	Machine        latchkey.MachineID
	Secret         []byte // sealed
	ReleaseCounter int64  // of the newest release asked for in it
	ReleaseNonce   []byte // of that request
	ExpiresAt      time.Time
	ReplacedAt     *time.Time
}

// MachineSession returns the session with an id, or ErrNotFound.
func (tx *Tx) MachineSession(id latchkey.SessionID) (MachineSession, error) {
	return one(tx, func(s scanner) (m MachineSession, err error) {
		return m, s.Scan(&m.ID, &m.Machine, &m.Secret, &m.ReleaseCounter, &m.ReleaseNonce, timestamp{&m.ExpiresAt}, nullTime{&m.ReplacedAt})
	}, `SELECT id, machine_id, secret, release_counter, release_nonce, expires_at, replaced_at FROM machine_sessions WHERE id = $1`, id)
}

// CreateMachineSession replaces a machine's session by a new one, and stores
// what the agent said of itself.
func (tx *Tx) CreateMachineSession(s MachineSession, m Machine) error {
	policy, err := toJSON(m.Policy)
	if err != nil {
		return err
	}
	if err := tx.endSession(m.ID); err != nil {
		return err
	}
	// Of what the agent says of itself, releases depend on this alone.
	if n, err := tx.exec(`UPDATE machines SET shared_uid = $2 WHERE id = $1 AND shared_uid <> $2`, m.ID, m.SharedUID); err != nil {
		return err
	} else if n > 0 {
		if err := tx.bumpEpochOf("machines", string(m.ID)); err != nil {
			return err
		}
	}
	if err := tx.execOne(`UPDATE machines SET session_counter = $2, os = $3, agent_version = $4, policy = $5, last_seen_at = $6 WHERE id = $1`,
		m.ID, m.SessionCounter, m.OS, m.AgentVersion, policy, ms(tx.Now)); err != nil {
		return err
	}
	_, err = tx.exec(`INSERT INTO machine_sessions (id, machine_id, secret, created_at, expires_at) VALUES ($1, $2, $3, $4, $5)`,
		s.ID, s.Machine, s.Secret, ms(tx.Now), ms(s.ExpiresAt))
	return err
}

// endSession marks a machine's live session as replaced.
func (tx *Tx) endSession(id latchkey.MachineID) error {
	_, err := tx.exec(`UPDATE machine_sessions SET replaced_at = $2 WHERE machine_id = $1 AND replaced_at IS NULL`, id, ms(tx.Now))
	return err
}

// SetReleaseCounter stores the counter and the nonce of the newest release asked
// for in a session.
func (tx *Tx) SetReleaseCounter(id latchkey.SessionID, counter int64, nonce []byte) error {
	return tx.execOne(`UPDATE machine_sessions SET release_counter = $2, release_nonce = $3 WHERE id = $1`, id, counter, nonce)
}

// PurgeMachineSessions deletes at most limit sessions that ended before a time.
func (tx *Tx) PurgeMachineSessions(before time.Time, limit int) error {
	_, err := tx.exec(`DELETE FROM machine_sessions WHERE id IN (SELECT id FROM machine_sessions WHERE expires_at < $1 ORDER BY expires_at LIMIT $2)`, ms(before), limit)
	return err
}

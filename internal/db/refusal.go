package db

import (
	"errors"

	"latchkey.dev/latchkey"
)

// A SignInTarget is where an agent signs in with a credential. SSHServer is ""
// for another driver than ssh.
type SignInTarget struct {
	Credential latchkey.CredentialID
	Machine    latchkey.MachineID
	SSHServer  string
}

// Refusals returns how often in a row a target has refused a credential, and the
// version of the secret that it refused last: 0 and "" if it did not.
func (tx *Tx) Refusals(t SignInTarget) (n int, version string, err error) {
	type row struct {
		n       int
		version string
	}
	r, err := one(tx, func(s scanner) (r row, err error) { return r, s.Scan(&r.n, &r.version) },
		`SELECT refusals, version FROM sign_in_refusals WHERE credential_id = $1 AND machine_id = $2 AND ssh_server = $3`, t.Credential, t.Machine, t.SSHServer)
	if errors.Is(err, ErrNotFound) {
		err = nil
	}
	return r.n, r.version, err
}

// AddRefusal counts a refusal of a version of the secret. Another version than
// the one before is counted anew.
func (tx *Tx) AddRefusal(t SignInTarget, version string) error {
	_, err := tx.exec(`INSERT INTO sign_in_refusals (credential_id, machine_id, ssh_server, version, refusals, last_at) VALUES ($1, $2, $3, $4, 1, $5)
		ON CONFLICT (credential_id, machine_id, ssh_server) DO UPDATE SET
			refusals = CASE WHEN sign_in_refusals.version = excluded.version THEN sign_in_refusals.refusals + 1 ELSE 1 END,
			version = excluded.version, last_at = excluded.last_at`, t.Credential, t.Machine, t.SSHServer, version, ms(tx.Now))
	if err != nil {
		return err
	}
	return tx.bumpEpochOf("machines", string(t.Machine))
}

// LimitRefusals makes the count at most n; 0 forgets it.
func (tx *Tx) LimitRefusals(t SignInTarget, n int) error {
	query, args := `UPDATE sign_in_refusals SET refusals = $4 WHERE credential_id = $1 AND machine_id = $2 AND ssh_server = $3 AND refusals > $4`,
		[]any{t.Credential, t.Machine, t.SSHServer, n}
	if n == 0 {
		query, args = `DELETE FROM sign_in_refusals WHERE credential_id = $1 AND machine_id = $2 AND ssh_server = $3`, args[:3]
	}
	if _, err := tx.exec(query, args...); err != nil {
		return err
	}
	return tx.bumpEpochOf("machines", string(t.Machine))
}

// DeliveredVersion returns the version of a credential that was delivered last
// to a run, or ErrNotFound.
func (tx *Tx) DeliveredVersion(run latchkey.RunID, id latchkey.CredentialID) (string, error) {
	e, err := one(tx, scanAudit, `SELECT `+auditCols+` FROM audit
		WHERE run_id = $1 AND run_id <> '' AND credential_id = $2 AND action = $3 ORDER BY id DESC LIMIT 1`, run, id, latchkey.ActReleaseDelivered)
	return e.Details[AuditVersion], err
}

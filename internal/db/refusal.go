package db

import (
	"errors"
	"time"

	"latchkey.dev/latchkey"
)

// A SignInTarget is where an agent signs in with a credential. Place is the target of
// the connection: the id of a machine, or of a group, whose machines all sign in as the
// same account.
type SignInTarget struct {
	Credential latchkey.CredentialID
	Place      string
	SSHServer  string
}

// Refusals say how often in a row a target has refused a credential. The zero
// value is that it did not.
type Refusals struct {
	N        int
	Version  string     // of the secret that was refused last
	ForcedAt *time.Time // when the version was tried once more than the limit
}

// Refusals returns what a target has refused.
func (tx *Tx) Refusals(t SignInTarget) (Refusals, error) {
	r, err := one(tx, func(s scanner) (r Refusals, err error) { return r, s.Scan(&r.N, &r.Version, nullTime{&r.ForcedAt}) },
		`SELECT refusals, version, forced_at FROM sign_in_refusals WHERE credential_id = $1 AND target_id = $2 AND ssh_server = $3`, t.Credential, t.Place, t.SSHServer)
	if errors.Is(err, ErrNotFound) {
		err = nil
	}
	return r, err
}

// AddRefusal counts a refusal of a version of the secret. Another version than
// the one before is counted anew.
func (tx *Tx) AddRefusal(t SignInTarget, version string) error {
	_, err := tx.exec(`INSERT INTO sign_in_refusals (credential_id, target_id, ssh_server, version, refusals, last_at) VALUES ($1, $2, $3, $4, 1, $5)
		ON CONFLICT (credential_id, target_id, ssh_server) DO UPDATE SET
			refusals = CASE WHEN sign_in_refusals.version = excluded.version THEN sign_in_refusals.refusals + 1 ELSE 1 END,
			forced_at = CASE WHEN sign_in_refusals.version = excluded.version THEN sign_in_refusals.forced_at END,
			version = excluded.version, last_at = excluded.last_at`, t.Credential, t.Place, t.SSHServer, version, ms(tx.Now))
	return err
}

// ForgetRefusals ends the count at a target that has taken the secret of a try:
// of the same version, or of one that was refused before the try began.
func (tx *Tx) ForgetRefusals(t SignInTry) error {
	_, err := tx.exec(`DELETE FROM sign_in_refusals WHERE credential_id = $1 AND target_id = $2 AND ssh_server = $3 AND (version = $4 OR last_at <= $5)`,
		t.Target.Credential, t.Target.Place, t.Target.SSHServer, t.Version, ms(t.BegunAt))
	return err
}

// NoteForced stores that what the target has refused is tried once more now.
func (tx *Tx) NoteForced(t SignInTarget) error {
	return tx.execOne(`UPDATE sign_in_refusals SET forced_at = $4 WHERE credential_id = $1 AND target_id = $2 AND ssh_server = $3`, t.Credential, t.Place, t.SSHServer, ms(tx.Now))
}

// A SignInTry is a sign-in of a run that has the secret for it and has not
// reported how it went.
type SignInTry struct {
	Target  SignInTarget
	Version string // of the secret
	BegunAt time.Time
}

// BeginSignIn stores that a run is about to sign in now; it may do so again.
func (tx *Tx) BeginSignIn(run latchkey.RunID, t SignInTry) error {
	_, err := tx.exec(`INSERT INTO sign_in_tries (run_id, credential_id, target_id, ssh_server, version, begun_at) VALUES ($1, $2, $3, $4, $5, $6)
		ON CONFLICT (run_id) DO UPDATE SET version = excluded.version, begun_at = excluded.begun_at`,
		run, t.Target.Credential, t.Target.Place, t.Target.SSHServer, t.Version, ms(tx.Now))
	return err
}

// SignInTry returns the sign-in of a run, or ErrNotFound.
func (tx *Tx) SignInTry(run latchkey.RunID) (SignInTry, error) {
	return one(tx, func(s scanner) (t SignInTry, err error) {
		return t, s.Scan(&t.Target.Credential, &t.Target.Place, &t.Target.SSHServer, &t.Version, timestamp{&t.BegunAt})
	}, `SELECT credential_id, target_id, ssh_server, version, begun_at FROM sign_in_tries WHERE run_id = $1`, run)
}

// OtherSignIns returns how many sign-ins are under way at a target, of running
// runs but one.
func (tx *Tx) OtherSignIns(t SignInTarget, but latchkey.RunID) (int, error) {
	return one(tx, scanInt, `SELECT count(*) FROM sign_in_tries t JOIN runs r ON r.id = t.run_id
		WHERE t.credential_id = $1 AND t.target_id = $2 AND t.ssh_server = $3 AND t.run_id <> $4 AND r.state = 'running'`, t.Credential, t.Place, t.SSHServer, but)
}

// EndSignIn stores that a run's sign-in is not under way any more, if it was.
func (tx *Tx) EndSignIn(run latchkey.RunID) error {
	_, err := tx.exec(`DELETE FROM sign_in_tries WHERE run_id = $1`, run)
	return err
}

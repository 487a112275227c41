package db

import (
	"time"

	"latchkey.dev/latchkey"
)

// A Passkey is a passkey of a user with what proves it.
type Passkey struct {
	latchkey.Passkey
	Holder       latchkey.PrincipalID
	CredentialID []byte // how the authenticator knows the key
	PublicKey    []byte // COSE_Key
	SignCount    uint32
	Flags        byte // of authenticator data
}

const passkeyCols = `id, principal_id, name, credential_id, public_key, sign_count, flags, created_at, last_used_at`

func scanPasskey(s scanner) (p Passkey, err error) {
	return p, s.Scan(&p.ID, &p.Holder, &p.Name, &p.CredentialID, &p.PublicKey, &p.SignCount, &p.Flags, timestamp{&p.CreatedAt}, nullTime{&p.LastUsedAt})
}

// Passkeys returns the passkeys of a user, the oldest first.
func (tx *Tx) Passkeys(who latchkey.PrincipalID) ([]Passkey, error) {
	return all(tx, scanPasskey, `SELECT `+passkeyCols+` FROM passkeys WHERE principal_id = $1 ORDER BY id`, who)
}

// PasskeyOf returns the passkey that an authenticator knows by an id, or
// ErrNotFound.
func (tx *Tx) PasskeyOf(credentialID []byte) (Passkey, error) {
	return one(tx, scanPasskey, `SELECT `+passkeyCols+` FROM passkeys WHERE credential_id = $1`, credentialID)
}

// CreatePasskey stores a new passkey. It returns ErrExists when there is one with its
// credential id.
func (tx *Tx) CreatePasskey(p Passkey) error {
	_, err := tx.exec(`INSERT INTO passkeys (id, principal_id, name, credential_id, public_key, sign_count, flags, created_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`,
		p.ID, p.Holder, p.Name, p.CredentialID, p.PublicKey, int64(p.SignCount), int64(p.Flags), ms(tx.Now))
	return err
}

// UsePasskey notes that a passkey is used now, and what its authenticator said.
func (tx *Tx) UsePasskey(id latchkey.PasskeyID, signCount uint32, flags byte) error {
	return tx.execOne(`UPDATE passkeys SET sign_count = $2, flags = $3, last_used_at = $4 WHERE id = $1`, id, int64(signCount), int64(flags), ms(tx.Now))
}

// RemovePasskey removes a passkey of a user and returns its name, or ErrNotFound.
func (tx *Tx) RemovePasskey(who latchkey.PrincipalID, id latchkey.PasskeyID) (name string, err error) {
	return one(tx, func(s scanner) (name string, err error) { return name, s.Scan(&name) },
		`DELETE FROM passkeys WHERE id = $1 AND principal_id = $2 RETURNING name`, id, who)
}

// UseCeremony remembers until a time that a ceremony was completed, and reports
// whether it was not before.
func (tx *Tx) UseCeremony(hash []byte, until time.Time) (bool, error) {
	n, err := tx.exec(`INSERT INTO used_ceremonies (hash, expires_at) VALUES ($1, $2) ON CONFLICT (hash) DO NOTHING`, hash, ms(until))
	return n == 1, err
}

// PurgeCeremonies deletes at most limit completed ceremonies that have expired.
func (tx *Tx) PurgeCeremonies(limit int) error {
	_, err := tx.exec(`DELETE FROM used_ceremonies WHERE hash IN (SELECT hash FROM used_ceremonies WHERE expires_at <= $1 LIMIT $2)`, ms(tx.Now), limit)
	return err
}

package db

import (
	"time"

	"latchkey.dev/latchkey"
)

// A CertificateCheck is the check of a credential's certificate.
type CertificateCheck struct {
	Credential latchkey.CredentialID
	latchkey.CertificateCheck
	Attempts int    // in a row that found nothing out
	Token    string // set by who checks it now; see ClaimCertificateCheck
}

const certificateCols = `k.credential_id, k.result, k.state, k.version, k.expires_at, k.checked_at, k.next_check_at, k.attempts, k.check_token`

// dest returns where a row of certificateCols goes.
func (c *CertificateCheck) dest() []any {
	return []any{&c.Credential, jsonText{&c.CertificateCheck}, &c.State, &c.Version, nullTime{&c.ExpiresAt}, nullTime{&c.CheckedAt}, nullTime{&c.NextAt}, &c.Attempts, &c.Token}
}

func scanCertificateCheck(s scanner) (c CertificateCheck, err error) { return c, s.Scan(c.dest()...) }

// StartCertificateCheck has the certificate of a credential checked at once. What
// was found before stays to be seen until then.
func (tx *Tx) StartCertificateCheck(id latchkey.CredentialID) error {
	_, err := tx.exec(`INSERT INTO certificate_checks (credential_id, state, result, next_check_at) VALUES ($1, 'checking', '{}', $2)
		ON CONFLICT (credential_id) DO UPDATE SET state = 'checking', next_check_at = excluded.next_check_at, attempts = 0, check_token = ''`, id, ms(tx.Now))
	return err
}

// recheckCertificates has the certificates checked at once that a variable is
// about: the reference to one, or the user name.
func (tx *Tx) recheckCertificates(v latchkey.VariableID) error {
	_, err := tx.exec(`UPDATE certificate_checks SET state = 'checking', next_check_at = $2, attempts = 0, check_token = ''
		WHERE credential_id IN (SELECT credential_id FROM credential_slots WHERE variable_id = $1)`, v, ms(tx.Now))
	return err
}

// RecheckAllCertificates has every certificate checked at once.
func (tx *Tx) RecheckAllCertificates() error {
	_, err := tx.exec(`UPDATE certificate_checks SET state = 'checking', next_check_at = $1, attempts = 0, check_token = ''`, ms(tx.Now))
	return err
}

// RecheckCertificate has a credential's certificate checked at once if the vault
// has another version than the one that was looked at.
func (tx *Tx) RecheckCertificate(id latchkey.CredentialID, version string) error {
	_, err := tx.exec(`UPDATE certificate_checks SET state = 'checking', next_check_at = $3, attempts = 0, check_token = ''
		WHERE credential_id = $1 AND version <> $2 AND state <> 'checking'`, id, version, ms(tx.Now))
	return err
}

// NextCertificateCheck returns when the next check is due, or ErrNotFound when none
// is.
func (tx *Tx) NextCertificateCheck() (t time.Time, err error) {
	return one(tx, func(s scanner) (t time.Time, err error) { return t, s.Scan(timestamp{&t}) },
		`SELECT next_check_at FROM certificate_checks WHERE next_check_at IS NOT NULL ORDER BY next_check_at LIMIT 1`)
}

// ClaimCertificateCheck takes a check that is due, for the given time: nobody else
// gets it before. It returns ErrNotFound when none is due.
func (tx *Tx) ClaimCertificateCheck(hold time.Duration) (CertificateCheck, error) {
	c, err := one(tx, scanCertificateCheck, `SELECT `+certificateCols+` FROM certificate_checks k WHERE k.next_check_at <= $1 ORDER BY k.next_check_at LIMIT 1`, ms(tx.Now))
	if err != nil {
		return c, err
	}
	c.Token = latchkey.NewID("check", tx.Now)
	return c, tx.execOne(`UPDATE certificate_checks SET next_check_at = $2, check_token = $3 WHERE credential_id = $1`, c.Credential, ms(tx.Now.Add(hold)), c.Token)
}

// FinishCertificateCheck stores the result of a check that ClaimCertificateCheck
// gave out. It returns ErrNotFound when the check was given to somebody else or
// started anew meanwhile.
func (tx *Tx) FinishCertificateCheck(c CertificateCheck) error {
	result := c.CertificateCheck
	result.State, result.Version, result.ExpiresAt, result.CheckedAt, result.NextAt = "", "", nil, nil, nil // in columns
	text, err := toJSON(result)
	if err != nil {
		return err
	}
	return tx.execOne(`UPDATE certificate_checks SET state = $3, result = $4, version = $5, expires_at = $6, checked_at = $7, next_check_at = $8, attempts = $9, check_token = ''
		WHERE credential_id = $1 AND check_token = $2`, c.Credential, c.Token, c.State, text, c.Version, msOrNull(c.ExpiresAt), ms(tx.Now), msOrNull(c.NextAt), c.Attempts)
}

// CertificateChecks returns what was found about the certificates of credentials.
// Those without a certificate have none.
func (tx *Tx) CertificateChecks(ids ...latchkey.CredentialID) (map[latchkey.CredentialID]latchkey.CertificateCheck, error) {
	rows, err := allOf(tx, scanCertificateCheck, ids, func(list string) string {
		return `SELECT ` + certificateCols + ` FROM certificate_checks k WHERE k.credential_id IN (` + list + `)`
	})
	found := make(map[latchkey.CredentialID]latchkey.CertificateCheck, len(rows))
	for _, r := range rows {
		found[r.Credential] = r.CertificateCheck
	}
	return found, err
}

// CredentialByID returns a credential that is not deleted, and its environment, or
// ErrNotFound.
func (tx *Tx) CredentialByID(id latchkey.CredentialID) (e latchkey.Environment, c latchkey.Credential, err error) {
	env, err := one(tx, func(s scanner) (id latchkey.EnvironmentID, err error) { return id, s.Scan(&id) },
		`SELECT environment_id FROM credentials WHERE id = $1 AND deleted_at IS NULL`, id)
	if err != nil {
		return e, c, err
	}
	if c, err = tx.Credential(env, id); err != nil {
		return e, c, err
	}
	e, err = tx.Environment(string(env))
	return e, c, err
}

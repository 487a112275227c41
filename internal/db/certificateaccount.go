package db

import (
	"strings"

	"latchkey.dev/latchkey"
)

const accountCols = `a.upn, a.on_premises_upn, a.updated_by, a.updated_at`

func scanAccount(s scanner) (a latchkey.CertificateAccount, err error) {
	return a, s.Scan(&a.UPN, &a.OnPremisesUPN, &a.UpdatedBy, timestamp{&a.UpdatedAt})
}

// addUserIDs fills in the certificateUserIds of an account.
func (tx *Tx) addUserIDs(a *latchkey.CertificateAccount) (err error) {
	a.CertificateUserIDs, err = all(tx, scanString, `SELECT user_id FROM certificate_user_ids WHERE upn_key = $1 ORDER BY position`, strings.ToLower(a.UPN))
	return err
}

// CertificateAccount returns what was said of a user, by the user principal name in
// any case, or ErrNotFound.
func (tx *Tx) CertificateAccount(upn string) (a latchkey.CertificateAccount, err error) {
	if a, err = one(tx, scanAccount, `SELECT `+accountCols+` FROM certificate_accounts a WHERE a.upn_key = $1`, strings.ToLower(upn)); err != nil {
		return a, err
	}
	return a, tx.addUserIDs(&a)
}

// CertificateAccounts lists what was said of users, by user principal name.
func (tx *Tx) CertificateAccounts(o latchkey.PageOptions) (p latchkey.Page[latchkey.CertificateAccount], err error) {
	var w where
	if o.After != "" {
		_, after := parseCursor(o.After)
		w.add("a.upn_key > ?", after)
	}
	w.args = append(w.args, o.Size()+1)
	items, err := all(tx, scanAccount, `SELECT `+accountCols+` FROM certificate_accounts a`+w.String()+` ORDER BY a.upn_key LIMIT `+w.last(), w.args...)
	if err != nil {
		return p, err
	}
	p = page(items, o, func(a latchkey.CertificateAccount) (string, string) { return "", strings.ToLower(a.UPN) })
	for i := range p.Items {
		if err := tx.addUserIDs(&p.Items[i]); err != nil {
			return p, err
		}
	}
	return p, nil
}

// UserIDHolder returns whose a value of certificateUserIds is, or ErrNotFound.
func (tx *Tx) UserIDHolder(id string) (upn string, err error) {
	return one(tx, scanString, `SELECT a.upn FROM certificate_user_ids u JOIN certificate_accounts a ON a.upn_key = u.upn_key WHERE u.user_id = $1`, id)
}

// SetCertificateAccount stores what is said of a user, in place of what was said
// before. It returns ErrExists when one of the certificateUserIds is another user's.
func (tx *Tx) SetCertificateAccount(a latchkey.CertificateAccount) error {
	key := strings.ToLower(a.UPN)
	if _, err := tx.exec(`INSERT INTO certificate_accounts (upn_key, upn, on_premises_upn, updated_by, updated_at) VALUES ($1, $2, $3, $4, $5)
		ON CONFLICT (upn_key) DO UPDATE SET upn = excluded.upn, on_premises_upn = excluded.on_premises_upn, updated_by = excluded.updated_by, updated_at = excluded.updated_at`,
		key, a.UPN, a.OnPremisesUPN, a.UpdatedBy, ms(tx.Now)); err != nil {
		return err
	}
	if _, err := tx.exec(`DELETE FROM certificate_user_ids WHERE upn_key = $1`, key); err != nil {
		return err
	}
	for i, id := range a.CertificateUserIDs {
		if _, err := tx.exec(`INSERT INTO certificate_user_ids (user_id, upn_key, position) VALUES ($1, $2, $3)`, id, key, i); err != nil {
			return err
		}
	}
	return nil
}

// DeleteCertificateAccount removes what was said of a user. It returns ErrNotFound when
// nothing was.
func (tx *Tx) DeleteCertificateAccount(upn string) error {
	key := strings.ToLower(upn)
	if _, err := tx.exec(`DELETE FROM certificate_user_ids WHERE upn_key = $1`, key); err != nil {
		return err
	}
	return tx.execOne(`DELETE FROM certificate_accounts WHERE upn_key = $1`, key)
}

// RecheckCertificatesOf has the certificates looked at again that sign in by a user
// name, in any case of its ASCII letters.
func (tx *Tx) RecheckCertificatesOf(upn string) error {
	_, err := tx.exec(`UPDATE certificate_checks SET state = 'checking', next_check_at = $2, attempts = 0, check_token = ''
		WHERE credential_id IN (SELECT s.credential_id FROM credential_slots s JOIN variables v ON v.id = s.variable_id
			WHERE s.slot = 'username' AND lower(COALESCE(v.current_value, v.default_value)) = lower($1))`, upn, ms(tx.Now))
	return err
}

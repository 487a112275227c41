package db

import (
	"slices"
	"time"

	"latchkey.dev/latchkey"
)

// A Reference is one secret reference that a variable has had.
type Reference struct {
	ID       latchkey.ReferenceID
	Variable latchkey.VariableID
	latchkey.SecretReference
	SavedBy    latchkey.PrincipalID
	Newest     bool // the one last saved
	InForce    bool // the one that releases read
	Check      latchkey.Check
	Attempts   int
	CheckToken string // set by who checks it now; see ClaimCheck
}

const referenceCols = `r.id, r.variable_id, r.subscription_id, r.resource_group, r.vault, r.secret, r.saved_by, r.newest, r.in_force,
	r.check_state, r.check_message, r.check_identity, r.check_name, r.check_remedy, r.checked_at, r.next_check_at, r.attempts, r.check_token,
	r.overridden_at IS NOT NULL, r.check_results`

func scanReference(s scanner) (r Reference, err error) {
	return r, s.Scan(&r.ID, &r.Variable, &r.SubscriptionID, &r.ResourceGroup, &r.Vault, &r.Secret, &r.SavedBy, &r.Newest, &r.InForce,
		&r.Check.State, &r.Check.Message, &r.Check.Identity, &r.Check.Check, &r.Check.Remedy, nullTime{&r.Check.CheckedAt}, nullTime{&r.Check.NextAt},
		&r.Attempts, &r.CheckToken, &r.Check.Overridden, jsonText{&r.Check.Results})
}

// References returns of each variable the newest reference and the one in force,
// which may be the same.
func (tx *Tx) References(variables ...latchkey.VariableID) ([]Reference, error) {
	return allOf(tx, scanReference, variables, func(list string) string {
		return `SELECT ` + referenceCols + ` FROM secret_references r WHERE r.variable_id IN (` + list + `) AND (r.newest OR r.in_force)`
	})
}

// ReferenceInForce returns the reference that releases of a variable read, or
// ErrNotFound.
func (tx *Tx) ReferenceInForce(v latchkey.VariableID) (Reference, error) {
	return one(tx, scanReference, `SELECT `+referenceCols+` FROM secret_references r WHERE r.variable_id = $1 AND r.in_force`, v)
}

// CreateReference stores what a person saved as the newest reference of a
// variable, to be checked at once. One in force stays in force.
func (tx *Tx) CreateReference(v latchkey.VariableID, ref latchkey.SecretReference, by latchkey.PrincipalID) (latchkey.ReferenceID, error) {
	if err := tx.DropNewest(v); err != nil {
		return "", err
	}
	id := latchkey.ReferenceID(latchkey.NewID("ref", tx.Now))
	_, err := tx.exec(`INSERT INTO secret_references (id, variable_id, subscription_id, resource_group, vault, secret, reference_key,
		saved_by, saved_at, newest, check_state, next_check_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, TRUE, 'checking', $9)`,
		id, v, ref.SubscriptionID, ref.ResourceGroup, ref.Vault, ref.Secret, ref.Key(), by, ms(tx.Now))
	return id, err
}

// DropNewest notes that the newest reference of a variable is no longer what
// was last saved. If it is in force it stays so.
func (tx *Tx) DropNewest(v latchkey.VariableID) error {
	_, err := tx.exec(`UPDATE secret_references SET newest = FALSE, next_check_at = NULL WHERE variable_id = $1 AND newest`, v)
	return err
}

// RetireReferences ends every reference of a variable: none is checked and none
// is in force any more.
func (tx *Tx) RetireReferences(v latchkey.VariableID) error {
	if _, err := tx.exec(`UPDATE secret_references SET newest = FALSE, in_force = FALSE, next_check_at = NULL WHERE variable_id = $1 AND (newest OR in_force)`, v); err != nil {
		return err
	}
	return tx.bumpEpochOf("variables", string(v))
}

// RestartCheck has a reference checked anew, for the person who asks.
func (tx *Tx) RestartCheck(id latchkey.ReferenceID) error {
	return tx.execOne(`UPDATE secret_references SET check_state = 'checking', next_check_at = $2, attempts = 0, check_token = '' WHERE id = $1`, id, ms(tx.Now))
}

// inAzure is true of a reference r that names no embedded vault.
const inAzure = `NOT EXISTS (SELECT 1 FROM vaults e WHERE e.deleted_at IS NULL
	AND substr(r.reference_key, 1, length(e.reference_key) + 9) = e.reference_key || '/secrets/')`

// RestartAzureChecks has the newest references to vaults in Azure checked anew: those
// whose check has not passed, or all. Unless by is "", only those that this principal
// saved; otherwise also the certificates that are read in such vaults, whoever saved.
func (tx *Tx) RestartAzureChecks(by latchkey.PrincipalID, all bool) error {
	if _, err := tx.exec(`UPDATE secret_references AS r SET check_state = 'checking', next_check_at = $1, attempts = 0, check_token = ''
		WHERE r.newest AND ($2 OR r.check_state IN ('failed', 'unknown')) AND ($3 = '' OR r.saved_by = $3) AND `+inAzure, ms(tx.Now), all, by); err != nil || by != "" {
		return err
	}
	_, err := tx.exec(`UPDATE certificate_checks SET state = 'checking', next_check_at = $1, attempts = 0, check_token = ''
		WHERE ($2 OR state IN ('failed', 'unknown')) AND credential_id IN (SELECT s.credential_id FROM credential_slots s
			JOIN secret_references r ON r.variable_id = s.variable_id WHERE r.in_force AND `+inAzure+`)`, ms(tx.Now), all)
	return err
}

// ClaimCheck takes a reference whose check is due, for the given time: nobody
// else gets it before. It returns ErrNotFound when none is due.
func (tx *Tx) ClaimCheck(hold time.Duration) (Reference, error) {
	r, err := one(tx, scanReference, `SELECT `+referenceCols+` FROM secret_references r WHERE r.next_check_at <= $1 ORDER BY r.next_check_at LIMIT 1`, ms(tx.Now))
	if err != nil {
		return r, err
	}
	r.CheckToken = latchkey.NewID("check", tx.Now)
	return r, tx.execOne(`UPDATE secret_references SET next_check_at = $2, check_token = $3 WHERE id = $1`,
		r.ID, ms(tx.Now.Add(hold)), r.CheckToken)
}

// NextCheck returns when the next check is due, or ErrNotFound when none is.
func (tx *Tx) NextCheck() (t time.Time, err error) {
	return one(tx, func(s scanner) (t time.Time, err error) { return t, s.Scan(timestamp{&t}) },
		`SELECT next_check_at FROM secret_references WHERE next_check_at IS NOT NULL ORDER BY next_check_at LIMIT 1`)
}

// FinishCheck stores the result of a check that ClaimCheck gave out. It returns
// ErrNotFound when the check was given to somebody else or started anew
// meanwhile.
func (tx *Tx) FinishCheck(r Reference) error {
	results, err := toJSON(slices.Concat([]latchkey.CheckResult{}, r.Check.Results))
	if err != nil {
		return err
	}
	return tx.execOne(`UPDATE secret_references SET check_state = $3, check_message = $4, check_identity = $5, check_name = $6, check_remedy = $7,
		checked_at = $8, next_check_at = $9, attempts = $10, check_token = '', check_results = $11
		WHERE id = $1 AND check_token = $2`,
		r.ID, r.CheckToken, r.Check.State, r.Check.Message, r.Check.Identity, r.Check.Check, r.Check.Remedy,
		ms(tx.Now), msOrNull(r.Check.NextAt), r.Attempts, results)
}

// Override lets a reference be released from without a passed check.
func (tx *Tx) Override(id latchkey.ReferenceID, by latchkey.PrincipalID) error {
	return tx.execOne(`UPDATE secret_references SET overridden_by = $2, overridden_at = $3 WHERE id = $1`, id, by, ms(tx.Now))
}

// PutInForce makes a reference the one that releases of its variable read.
func (tx *Tx) PutInForce(r Reference) error {
	if _, err := tx.exec(`UPDATE secret_references SET in_force = FALSE WHERE variable_id = $1 AND in_force`, r.Variable); err != nil {
		return err
	}
	if err := tx.execOne(`UPDATE secret_references SET in_force = TRUE WHERE id = $1`, r.ID); err != nil {
		return err
	}
	if err := tx.recheckCertificates(r.Variable); err != nil {
		return err
	}
	return tx.bumpEpochOf("variables", string(r.Variable))
}

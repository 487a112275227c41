package db

import (
	"strings"
	"time"

	"latchkey.dev/latchkey"
)

// A ServiceAccount is what signing in as a service principal takes.
type ServiceAccount struct {
	Principal // Disabled also when it is deleted
	ClientID  string
	Deleted   bool
	Proofs    []Proof
}

// A Proof is a credential of a service principal with what it is checked by.
type Proof struct {
	latchkey.ServicePrincipalCredential
	Hash        []byte // of a secret
	Certificate []byte // DER
}

const serviceCols = `p.id, s.client_id, p.name, s.description, p.disabled_at IS NOT NULL, p.created_at, p.updated_at`

func scanService(s scanner) (p latchkey.ServicePrincipal, err error) {
	p.Credentials = []latchkey.ServicePrincipalCredential{}
	return p, s.Scan(&p.ID, &p.ClientID, &p.DisplayName, &p.Description, &p.Disabled, timestamp{&p.CreatedAt}, timestamp{&p.UpdatedAt})
}

// byClient is the condition that a service principal has an id or a client id,
// which are never alike.
const byClient = `(s.id = $1 OR s.client_id = $1)`

// ServicePrincipal returns the service principal with an id or a client id, or
// ErrNotFound.
func (tx *Tx) ServicePrincipal(ref string) (latchkey.ServicePrincipal, error) {
	p, err := one(tx, scanService, `SELECT `+serviceCols+` FROM service_principals s JOIN principals p ON p.id = s.id
		WHERE `+byClient+` AND p.deleted_at IS NULL`, strings.ToLower(ref))
	if err != nil {
		return p, err
	}
	all := []latchkey.ServicePrincipal{p}
	err = tx.addProofs(all)
	return all[0], err
}

// ServicePrincipals lists the service principals by display name: all, or with
// only set that one.
func (tx *Tx) ServicePrincipals(only latchkey.PrincipalID, o latchkey.PageOptions) (latchkey.Page[latchkey.ServicePrincipal], error) {
	p, err := principals(tx, scanService, serviceCols, `service_principals s ON s.id = p.id`, only, o,
		func(p latchkey.ServicePrincipal) (string, string) {
			return latchkey.SortKey(p.DisplayName), string(p.ID)
		})
	if err != nil {
		return p, err
	}
	return p, tx.addProofs(p.Items)
}

const proofCols = `c.id, c.kind, c.name, c.issuer, c.subject, c.audience, c.created_at, c.expires_at, c.last_used_at, c.hash, c.certificate`

func scanProof(s scanner) (p Proof, err error) {
	err = s.Scan(proofDest(&p)...)
	return p, err
}

func proofDest(p *Proof) []any {
	return []any{
		&p.ID, &p.Kind, &p.Name, &p.Issuer, &p.Subject, &p.Audience,
		timestamp{&p.CreatedAt}, nullTime{&p.ExpiresAt}, nullTime{&p.LastUsedAt}, &p.Hash, &p.Certificate,
	}
}

// addProofs fills in the credentials of service principals.
func (tx *Tx) addProofs(principals []latchkey.ServicePrincipal) error {
	ids := make([]latchkey.PrincipalID, len(principals))
	index := map[latchkey.PrincipalID]int{} // principal → its place in principals
	for i, p := range principals {
		ids[i], index[p.ID] = p.ID, i
	}
	type row struct {
		of latchkey.PrincipalID
		Proof
	}
	rows, err := allOf(tx, func(s scanner) (r row, err error) {
		return r, s.Scan(append([]any{&r.of}, proofDest(&r.Proof)...)...)
	}, ids, func(list string) string {
		return `SELECT c.principal_id, ` + proofCols + ` FROM service_principal_credentials c WHERE c.principal_id IN (` + list + `) ORDER BY c.id`
	})
	if err != nil {
		return err
	}
	for _, r := range rows {
		if err := r.describe(); err != nil {
			return err
		}
		p := &principals[index[r.of]]
		p.Credentials = append(p.Credentials, r.ServicePrincipalCredential)
	}
	return nil
}

// describe fills in what people see of a certificate.
func (p *Proof) describe() error {
	if p.Kind != latchkey.ProofCertificate {
		return nil
	}
	return p.DescribeCertificate(p.Certificate)
}

// CreateServicePrincipal stores a new service principal without credentials. It
// returns ErrExists when its name is taken.
func (tx *Tx) CreateServicePrincipal(p latchkey.ServicePrincipal) error {
	if err := tx.EnsurePrincipal(p.ID, latchkey.PrincipalService, p.DisplayName); err != nil {
		return err
	}
	if err := tx.searchService(p); err != nil {
		return err
	}
	_, err := tx.exec(`INSERT INTO service_principals (id, client_id, name_key, description) VALUES ($1, $2, $3, $4)`,
		p.ID, p.ClientID, latchkey.SortKey(p.DisplayName), p.Description)
	return err
}

// searchService stores what a search for a service principal looks at.
func (tx *Tx) searchService(p latchkey.ServicePrincipal) error {
	return tx.execOne(`UPDATE principals SET search_key = $2 WHERE id = $1`, p.ID, latchkey.SearchKey(p.DisplayName, p.ClientID, p.Description))
}

// UpdateServicePrincipal stores a service principal's display name, its
// description, and whether it is disabled. It returns ErrExists when the name is
// taken.
func (tx *Tx) UpdateServicePrincipal(p latchkey.ServicePrincipal) error {
	if err := tx.execOne(`UPDATE principals SET name = $2, sort_key = $3, updated_at = $5,
		disabled_at = CASE WHEN $4 THEN COALESCE(disabled_at, $5) END WHERE id = $1`,
		p.ID, p.DisplayName, latchkey.SortKey(p.DisplayName), p.Disabled, ms(tx.Now)); err != nil {
		return err
	}
	if err := tx.searchService(p); err != nil {
		return err
	}
	if err := tx.execOne(`UPDATE service_principals SET name_key = $2, description = $3 WHERE id = $1`,
		p.ID, latchkey.SortKey(p.DisplayName), p.Description); err != nil {
		return err
	}
	return tx.bumpEpochs()
}

// DeleteServicePrincipal marks a service principal as deleted: whatever it holds
// counts no more.
func (tx *Tx) DeleteServicePrincipal(id latchkey.PrincipalID) error {
	if err := tx.execOne(`UPDATE principals SET deleted_at = $2, updated_at = $2 WHERE id = $1 AND deleted_at IS NULL`, id, ms(tx.Now)); err != nil {
		return err
	}
	if err := tx.execOne(`UPDATE service_principals SET name_key = NULL WHERE id = $1`, id); err != nil {
		return err
	}
	return tx.bumpEpochs()
}

// AddProof stores a new credential of a service principal.
func (tx *Tx) AddProof(to latchkey.PrincipalID, p Proof) error {
	if _, err := tx.exec(`INSERT INTO service_principal_credentials
		(id, principal_id, kind, name, hash, certificate, issuer, subject, audience, created_at, expires_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)`,
		p.ID, to, p.Kind, p.Name, bytesOrNull(p.Hash), bytesOrNull(p.Certificate), p.Issuer, p.Subject, p.Audience, ms(tx.Now), msOrNull(p.ExpiresAt)); err != nil {
		return err
	}
	return tx.touchPrincipal(to)
}

// bytesOrNull returns b for storing, or NULL for none.
func bytesOrNull(b []byte) any {
	if b == nil {
		return nil
	}
	return b
}

// RemoveProof deletes a credential of a service principal. It returns ErrNotFound
// when it has none with this id.
func (tx *Tx) RemoveProof(from latchkey.PrincipalID, id latchkey.ServicePrincipalCredentialID) error {
	if err := tx.execOne(`DELETE FROM service_principal_credentials WHERE principal_id = $1 AND id = $2`, from, id); err != nil {
		return err
	}
	return tx.touchPrincipal(from)
}

func (tx *Tx) touchPrincipal(id latchkey.PrincipalID) error {
	return tx.execOne(`UPDATE principals SET updated_at = $2 WHERE id = $1`, id, ms(tx.Now))
}

// ServiceAccount returns the service principal with an id or a client id, though
// it may be disabled or deleted, or ErrNotFound.
func (tx *Tx) ServiceAccount(ref string) (ServiceAccount, error) {
	a, err := one(tx, func(s scanner) (a ServiceAccount, err error) {
		return a, s.Scan(append(a.dest(), &a.ClientID, &a.Deleted)...)
	}, `SELECT `+principalCols+`, s.client_id, p.deleted_at IS NOT NULL FROM service_principals s JOIN principals p ON p.id = s.id
		WHERE `+byClient, strings.ToLower(ref))
	if err != nil {
		return a, err
	}
	a.Disabled = a.Disabled || a.Deleted
	a.Proofs, err = all(tx, scanProof, `SELECT `+proofCols+` FROM service_principal_credentials c WHERE c.principal_id = $1 ORDER BY c.id`, a.ID)
	return a, err
}

// ProofUsed notes that a service principal proves itself now. It returns
// ErrNotFound when the credential was removed.
func (tx *Tx) ProofUsed(of latchkey.PrincipalID, id latchkey.ServicePrincipalCredentialID) error {
	return tx.execOne(`UPDATE service_principal_credentials SET last_used_at = $3 WHERE principal_id = $1 AND id = $2`, of, id, ms(tx.Now))
}

// UseAssertion notes the hash of an assertion's id until a time, and reports
// whether that is new. Every server of the installation sees it at once.
func (tx *Tx) UseAssertion(of latchkey.PrincipalID, hash []byte, until time.Time) (bool, error) {
	n, err := tx.exec(`INSERT INTO used_assertions (principal_id, hash, expires_at) VALUES ($1, $2, $3)
		ON CONFLICT (principal_id, hash) DO NOTHING`, of, hash, ms(until))
	return n == 1, err
}

// UsedAssertions returns how many used assertions of a service principal have to
// be remembered.
func (tx *Tx) UsedAssertions(of latchkey.PrincipalID) (int, error) {
	return one(tx, scanInt, `SELECT count(*) FROM used_assertions WHERE principal_id = $1 AND expires_at > $2`, of, ms(tx.Now))
}

// PurgeAssertions deletes at most limit used assertions that have expired.
func (tx *Tx) PurgeAssertions(limit int) error {
	_, err := tx.exec(`DELETE FROM used_assertions WHERE (principal_id, hash) IN
		(SELECT principal_id, hash FROM used_assertions WHERE expires_at <= $1 LIMIT $2)`, ms(tx.Now), limit)
	return err
}

package db

import (
	"errors"
	"strings"
	"time"

	"latchkey.dev/latchkey"
)

// A StoredCertificate is one version of a certificate of an embedded vault, as it
// is stored. Number is 0 when the certificate has no version yet.
type StoredCertificate struct {
	latchkey.VaultCertificate
	Number int // of the version, from 1
	Chain  []byte
	DueAt  *time.Time // of the certificate's next lifetime action
}

const vaultCertificateCols = `c.name, c.policy, c.created_at, c.updated_at, c.due_at, c.deleted_at, c.purge_at,
	EXISTS (SELECT 1 FROM vault_certificate_operations o WHERE o.vault_id = c.vault_id AND o.name_key = c.name_key),
	COALESCE(n.number, 0), COALESCE(n.version, ''), n.leaf, n.chain, COALESCE(n.enabled, FALSE), COALESCE(n.not_before, 0), COALESCE(n.expires_at, 0),
	COALESCE(n.tags, '{}'), COALESCE(n.preserve_order, FALSE), COALESCE(n.created_at, c.created_at), COALESCE(n.updated_at, c.updated_at)`

func scanCertificate(s scanner) (c StoredCertificate, err error) {
	return c, s.Scan(&c.Name, jsonText{&c.Policy}, timestamp{&c.PolicyCreated}, timestamp{&c.PolicyUpdated}, nullTime{&c.DueAt}, nullTime{&c.DeletedAt}, nullTime{&c.PurgeAt},
		&c.Pending, &c.Number, &c.Version, &c.Leaf, &c.Chain, &c.Enabled, timestamp{&c.NotBefore}, timestamp{&c.Expires},
		jsonText{&c.Tags}, &c.PreserveOrder, timestamp{&c.CreatedAt}, timestamp{&c.UpdatedAt})
}

// certificateFrom joins certificates with the versions that match a condition;
// those without one have NULLs.
func certificateFrom(version string) string {
	return ` FROM vault_certificates c LEFT JOIN vault_certificate_versions n ON n.vault_id = c.vault_id AND n.name_key = c.name_key AND ` + version
}

const newestCertificate = `n.number = (SELECT max(m.number) FROM vault_certificate_versions m WHERE m.vault_id = c.vault_id AND m.name_key = c.name_key)`

// Certificate returns a version of a certificate, or its newest when version is
// "", also of a deleted certificate, or ErrNotFound. The newest of one that is
// pending for the first time has the number 0.
func (tx *Tx) Certificate(vault latchkey.VaultID, name, version string) (StoredCertificate, error) {
	const where = ` WHERE c.vault_id = $1 AND c.name_key = $2`
	if version == "" {
		return one(tx, scanCertificate, `SELECT `+vaultCertificateCols+certificateFrom(newestCertificate)+where, vault, strings.ToLower(name))
	}
	c, err := one(tx, scanCertificate, `SELECT `+vaultCertificateCols+certificateFrom(`n.version = $3`)+where, vault, strings.ToLower(name), strings.ToLower(version))
	if err == nil && c.Number == 0 {
		err = ErrNotFound
	}
	return c, err
}

// AllCertificateVersions returns at most limit versions of a certificate, oldest
// first.
func (tx *Tx) AllCertificateVersions(vault latchkey.VaultID, name string, limit int) ([]StoredCertificate, error) {
	return all(tx, scanCertificate, `SELECT `+vaultCertificateCols+certificateFrom(`TRUE`)+` WHERE c.vault_id = $1 AND c.name_key = $2 AND n.number > 0 ORDER BY n.number LIMIT $3`,
		vault, strings.ToLower(name), limit)
}

// Certificates lists the newest versions of a vault's certificates in the order
// of their names: of those that are deleted, or of those that are not. With
// pending it also lists those that are pending for the first time.
func (tx *Tx) Certificates(vault latchkey.VaultID, deleted, pending bool, o latchkey.PageOptions) (latchkey.Page[latchkey.VaultCertificate], error) {
	var w where
	w.add("c.vault_id = ?", vault)
	w.add("? = (c.deleted_at IS NOT NULL)", deleted)
	w.add("(? OR n.number IS NOT NULL)", pending)
	if o.After != "" {
		key, _ := parseCursor(o.After)
		w.add("c.name_key > ?", key)
	}
	w.args = append(w.args, o.Size()+1)
	return certificatePage(tx, o, `SELECT `+vaultCertificateCols+certificateFrom(newestCertificate)+w.String()+` ORDER BY c.name_key LIMIT `+w.last(), w.args)
}

// CertificateVersions lists the versions of a certificate, oldest first.
func (tx *Tx) CertificateVersions(vault latchkey.VaultID, name string, o latchkey.PageOptions) (latchkey.Page[latchkey.VaultCertificate], error) {
	var w where
	w.add("c.vault_id = ?", vault)
	w.add("c.name_key = ?", strings.ToLower(name))
	w.add("c.deleted_at IS NULL")
	w.add("n.number > 0")
	if o.After != "" {
		_, version := parseCursor(o.After)
		w.add("n.number > (SELECT m.number FROM vault_certificate_versions m WHERE m.vault_id = c.vault_id AND m.name_key = c.name_key AND m.version = ?)", version)
	}
	w.args = append(w.args, o.Size()+1)
	return certificatePage(tx, o, `SELECT `+vaultCertificateCols+certificateFrom(`TRUE`)+w.String()+` ORDER BY n.number LIMIT `+w.last(), w.args)
}

func certificatePage(tx *Tx, o latchkey.PageOptions, query string, args []any) (latchkey.Page[latchkey.VaultCertificate], error) {
	items, err := all(tx, func(s scanner) (latchkey.VaultCertificate, error) {
		c, err := scanCertificate(s)
		return c.VaultCertificate, err
	}, query, args...)
	return page(items, o, func(c latchkey.VaultCertificate) (string, string) { return strings.ToLower(c.Name), c.Version }), err
}

// CreateCertificate stores a certificate without versions.
func (tx *Tx) CreateCertificate(vault latchkey.VaultID, name string, p latchkey.CertificatePolicy) error {
	policy, err := toJSON(p)
	if err != nil {
		return err
	}
	_, err = tx.exec(`INSERT INTO vault_certificates (vault_id, name_key, name, policy, created_at, updated_at) VALUES ($1, $2, $3, $4, $5, $5)`,
		vault, strings.ToLower(name), name, policy, ms(tx.Now))
	return err
}

// SetCertificatePolicy stores the policy of a certificate.
func (tx *Tx) SetCertificatePolicy(vault latchkey.VaultID, name string, p latchkey.CertificatePolicy) error {
	policy, err := toJSON(p)
	if err != nil {
		return err
	}
	return tx.execOne(`UPDATE vault_certificates SET policy = $3, updated_at = $4 WHERE vault_id = $1 AND name_key = $2`,
		vault, strings.ToLower(name), policy, ms(tx.Now))
}

// SetCertificateDue stores when the next lifetime action of a certificate is due.
func (tx *Tx) SetCertificateDue(vault latchkey.VaultID, name string, at *time.Time) error {
	return tx.execOne(`UPDATE vault_certificates SET due_at = $3 WHERE vault_id = $1 AND name_key = $2`, vault, strings.ToLower(name), msOrNull(at))
}

// AddCertificateVersion stores the next version of a certificate.
func (tx *Tx) AddCertificateVersion(vault latchkey.VaultID, c StoredCertificate) error {
	tags, err := toJSON(c.Tags)
	if err != nil {
		return err
	}
	if c.Chain == nil {
		c.Chain = []byte{} // SQLite's driver reads an empty one as nil
	}
	_, err = tx.exec(`INSERT INTO vault_certificate_versions (vault_id, name_key, number, version, leaf, chain, enabled, not_before, expires_at, tags, preserve_order, created_at, updated_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)`,
		vault, strings.ToLower(c.Name), c.Number, c.Version, c.Leaf, c.Chain, c.Enabled, ms(c.NotBefore), ms(c.Expires), tags, c.PreserveOrder, ms(c.CreatedAt), ms(c.UpdatedAt))
	return err
}

// UpdateCertificateVersion stores what may change of a version.
func (tx *Tx) UpdateCertificateVersion(vault latchkey.VaultID, c StoredCertificate) error {
	tags, err := toJSON(c.Tags)
	if err != nil {
		return err
	}
	return tx.execOne(`UPDATE vault_certificate_versions SET enabled = $4, tags = $5, updated_at = $6 WHERE vault_id = $1 AND name_key = $2 AND number = $3`,
		vault, strings.ToLower(c.Name), c.Number, c.Enabled, tags, ms(tx.Now))
}

// SetCertificateDeleted marks a certificate as deleted until it is purged at a
// time, or, when purgeAt is nil, as not deleted. Its secret goes with it.
func (tx *Tx) SetCertificateDeleted(vault latchkey.VaultID, name string, purgeAt *time.Time) error {
	if err := tx.setVaultObjectDeleted("vault_certificates", vault, name, purgeAt); err != nil {
		return err
	}
	if err := tx.SetSecretDeleted(vault, name, purgeAt); err != nil && !errors.Is(err, ErrNotFound) {
		return err // one that is pending for the first time has no secret
	}
	return nil
}

// PurgeCertificate removes a certificate with all that belongs to it.
func (tx *Tx) PurgeCertificate(vault latchkey.VaultID, name string) error {
	key := strings.ToLower(name)
	for _, table := range []string{"vault_certificate_operations", "vault_certificate_versions", "vault_certificate_keys", "vault_certificates"} {
		if _, err := tx.exec(`DELETE FROM `+table+` WHERE vault_id = $1 AND name_key = $2`, vault, key); err != nil {
			return err
		}
	}
	if err := tx.PurgeSecret(vault, name); err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	return nil
}

// A CertificateKey is the private key of a version of a certificate.
type CertificateKey struct {
	Box        []byte // sealed
	Exportable bool
}

// CertificateKey returns the private key of a version of a certificate.
func (tx *Tx) CertificateKey(vault latchkey.VaultID, name, version string) (CertificateKey, error) {
	return one(tx, func(s scanner) (k CertificateKey, err error) { return k, s.Scan(&k.Box, &k.Exportable) },
		`SELECT private_key, exportable FROM vault_certificate_keys WHERE vault_id = $1 AND name_key = $2 AND version = $3`, vault, strings.ToLower(name), version)
}

// CreateCertificateKey stores the private key of a version of a certificate.
func (tx *Tx) CreateCertificateKey(vault latchkey.VaultID, name, version string, k CertificateKey) error {
	_, err := tx.exec(`INSERT INTO vault_certificate_keys (vault_id, name_key, version, private_key, exportable) VALUES ($1, $2, $3, $4, $5)`,
		vault, strings.ToLower(name), version, k.Box, k.Exportable)
	return err
}

// A StoredOperation is the last request for a version of a certificate.
type StoredOperation struct {
	latchkey.CertificateOperation
	Version string
	Enabled bool // of the version that it makes, as are Tags
	Tags    map[string]string
}

// CertificateOperation returns the last request for a version of a certificate,
// or ErrNotFound.
func (tx *Tx) CertificateOperation(vault latchkey.VaultID, name string) (StoredOperation, error) {
	return one(tx, func(s scanner) (o StoredOperation, err error) {
		return o, s.Scan(&o.Name, &o.Version, &o.RequestID, jsonText{&o.Issuer}, &o.CSR, &o.Completed, &o.Cancelled, &o.Enabled, jsonText{&o.Tags}, &o.PreserveOrder)
	}, `SELECT c.name, o.version, o.request_id, o.issuer, o.csr, o.completed, o.cancelled, o.enabled, o.tags, o.preserve_order
		FROM vault_certificate_operations o JOIN vault_certificates c ON c.vault_id = o.vault_id AND c.name_key = o.name_key
		WHERE o.vault_id = $1 AND o.name_key = $2`, vault, strings.ToLower(name))
}

// SetCertificateOperation stores the request for a version of a certificate in
// the place of the last one, whose key goes with it when nothing came of it.
func (tx *Tx) SetCertificateOperation(vault latchkey.VaultID, o StoredOperation) error {
	if err := tx.DeleteCertificateOperation(vault, o.Name); err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	issuer, err := toJSON(o.Issuer)
	if err != nil {
		return err
	}
	tags, err := toJSON(o.Tags)
	if err != nil {
		return err
	}
	_, err = tx.exec(`INSERT INTO vault_certificate_operations (vault_id, name_key, version, request_id, issuer, csr, completed, cancelled, enabled, tags, preserve_order, created_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)`,
		vault, strings.ToLower(o.Name), o.Version, o.RequestID, issuer, o.CSR, o.Completed, o.Cancelled, o.Enabled, tags, o.PreserveOrder, ms(tx.Now))
	return err
}

// UpdateCertificateOperation stores how a request stands.
func (tx *Tx) UpdateCertificateOperation(vault latchkey.VaultID, o StoredOperation) error {
	return tx.execOne(`UPDATE vault_certificate_operations SET completed = $3, cancelled = $4 WHERE vault_id = $1 AND name_key = $2`,
		vault, strings.ToLower(o.Name), o.Completed, o.Cancelled)
}

// DeleteCertificateOperation removes the last request for a version of a
// certificate, and its key when nothing came of it.
func (tx *Tx) DeleteCertificateOperation(vault latchkey.VaultID, name string) error {
	key := strings.ToLower(name)
	if _, err := tx.exec(`DELETE FROM vault_certificate_keys WHERE vault_id = $1 AND name_key = $2
		AND version IN (SELECT version FROM vault_certificate_operations WHERE vault_id = $1 AND name_key = $2 AND NOT completed)`, vault, key); err != nil {
		return err
	}
	return tx.execOne(`DELETE FROM vault_certificate_operations WHERE vault_id = $1 AND name_key = $2`, vault, key)
}

// A DueCertificate is a certificate for which something is to be done.
type DueCertificate struct {
	Vault     latchkey.VaultID
	VaultName string
	Name      string
	At        time.Time
}

func scanDue(s scanner) (d DueCertificate, err error) {
	return d, s.Scan(&d.Vault, &d.VaultName, &d.Name, timestamp{&d.At})
}

// DueCertificates returns at most limit certificates with a lifetime action that
// is due.
func (tx *Tx) DueCertificates(limit int) ([]DueCertificate, error) {
	return all(tx, scanDue, `SELECT c.vault_id, v.name, c.name, c.due_at FROM vault_certificates c JOIN vaults v ON v.id = c.vault_id
		WHERE c.due_at <= $1 AND c.deleted_at IS NULL ORDER BY c.due_at LIMIT $2`, ms(tx.Now), limit)
}

// DuePurges returns at most limit deleted certificates whose retention has ended.
func (tx *Tx) DuePurges(limit int) ([]DueCertificate, error) {
	return all(tx, scanDue, `SELECT c.vault_id, v.name, c.name, c.purge_at FROM vault_certificates c JOIN vaults v ON v.id = c.vault_id
		WHERE c.purge_at <= $1 ORDER BY c.purge_at LIMIT $2`, ms(tx.Now), limit)
}

const issuerCols = `name, provider, account, organization, enabled, created_at, updated_at`

func scanIssuer(s scanner) (i latchkey.VaultIssuer, err error) {
	return i, s.Scan(&i.Name, &i.Provider, &i.Account, jsonText{&i.Organization}, &i.Enabled, timestamp{&i.CreatedAt}, timestamp{&i.UpdatedAt})
}

// Issuer returns an issuer that a vault keeps, or ErrNotFound.
func (tx *Tx) Issuer(vault latchkey.VaultID, name string) (latchkey.VaultIssuer, error) {
	return one(tx, scanIssuer, `SELECT `+issuerCols+` FROM vault_issuers WHERE vault_id = $1 AND name_key = $2`, vault, strings.ToLower(name))
}

// Issuers lists the issuers that a vault keeps in the order of their names.
func (tx *Tx) Issuers(vault latchkey.VaultID, o latchkey.PageOptions) (latchkey.Page[latchkey.VaultIssuer], error) {
	var w where
	w.add("vault_id = ?", vault)
	if o.After != "" {
		key, _ := parseCursor(o.After)
		w.add("name_key > ?", key)
	}
	w.args = append(w.args, o.Size()+1)
	items, err := all(tx, scanIssuer, `SELECT `+issuerCols+` FROM vault_issuers`+w.String()+` ORDER BY name_key LIMIT `+w.last(), w.args...)
	return page(items, o, func(i latchkey.VaultIssuer) (string, string) { return strings.ToLower(i.Name), "" }), err
}

// CountIssuers returns how many issuers a vault keeps.
func (tx *Tx) CountIssuers(vault latchkey.VaultID) (int, error) {
	return one(tx, scanInt, `SELECT count(*) FROM vault_issuers WHERE vault_id = $1`, vault)
}

// SetIssuer stores an issuer, new or in the place of the one with its name. A
// password of nil stays as it was.
func (tx *Tx) SetIssuer(vault latchkey.VaultID, i latchkey.VaultIssuer, password []byte) error {
	organization, err := toJSON(i.Organization)
	if err != nil {
		return err
	}
	key := strings.ToLower(i.Name)
	if password == nil {
		return tx.execOne(`UPDATE vault_issuers SET provider = $3, account = $4, organization = $5, enabled = $6, updated_at = $7 WHERE vault_id = $1 AND name_key = $2`,
			vault, key, i.Provider, i.Account, organization, i.Enabled, ms(i.UpdatedAt))
	}
	if _, err := tx.exec(`DELETE FROM vault_issuers WHERE vault_id = $1 AND name_key = $2`, vault, key); err != nil {
		return err
	}
	_, err = tx.exec(`INSERT INTO vault_issuers (vault_id, name_key, name, provider, account, password, organization, enabled, created_at, updated_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`,
		vault, key, i.Name, i.Provider, i.Account, password, organization, i.Enabled, ms(i.CreatedAt), ms(i.UpdatedAt))
	return err
}

// DeleteIssuer removes an issuer.
func (tx *Tx) DeleteIssuer(vault latchkey.VaultID, name string) error {
	return tx.execOne(`DELETE FROM vault_issuers WHERE vault_id = $1 AND name_key = $2`, vault, strings.ToLower(name))
}

// Contacts returns who is told about a vault's certificates, or ErrNotFound.
func (tx *Tx) Contacts(vault latchkey.VaultID) ([]latchkey.CertificateContact, error) {
	return one(tx, func(s scanner) (c []latchkey.CertificateContact, err error) { return c, s.Scan(jsonText{&c}) },
		`SELECT contacts FROM vault_contacts WHERE vault_id = $1`, vault)
}

// SetContacts stores who is told about a vault's certificates.
func (tx *Tx) SetContacts(vault latchkey.VaultID, contacts []latchkey.CertificateContact) error {
	text, err := toJSON(contacts)
	if err != nil {
		return err
	}
	_, err = tx.exec(`INSERT INTO vault_contacts (vault_id, contacts) VALUES ($1, $2) ON CONFLICT (vault_id) DO UPDATE SET contacts = excluded.contacts`, vault, text)
	return err
}

// DeleteContacts removes a vault's contacts.
func (tx *Tx) DeleteContacts(vault latchkey.VaultID) error {
	return tx.execOne(`DELETE FROM vault_contacts WHERE vault_id = $1`, vault)
}

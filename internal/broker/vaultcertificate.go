package broker

import (
	"context"
	"crypto"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"latchkey.dev/internal/certs"
	"latchkey.dev/internal/db"
	"latchkey.dev/latchkey"
)

// certificateObject names a certificate in a vault.
func certificateObject(name string) latchkey.VaultObject {
	return latchkey.VaultObject{In: latchkey.VaultCertificates, Name: name}
}

// maxCertificateWork bounds how many keys are made, and how many PFX opened, at
// the same time: each takes a processor.
const maxCertificateWork = 2

// certificateWorkTime bounds how long a request waits for its turn and its work.
const certificateWorkTime = 20 * time.Second

// certificateWork does what takes long, in its turn. Work that does not end in
// time keeps its turn until it does: a PFX can be made so that opening it takes
// years, which nothing but time shows (see package certs). Turns at opening PFX
// are therefore not those at making keys.
func certificateWork[T any](ctx context.Context, turns chan struct{}, f func() (T, error)) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, certificateWorkTime)
	defer cancel()
	type outcome struct {
		result T
		err    error
	}
	done := make(chan outcome, 1)
	select {
	case turns <- struct{}{}:
		go func() {
			defer func() { <-turns }()
			result, err := f()
			done <- outcome{result, err}
		}()
	case <-ctx.Done():
	}
	select {
	case o := <-done:
		return o.result, o.err
	case <-ctx.Done():
		var none T
		if err := ctx.Err(); !errors.Is(err, context.DeadlineExceeded) {
			return none, err
		}
		return none, &latchkey.Error{Kind: latchkey.ErrUnavailable, Code: "busy", Msg: "making keys and opening PFX files takes too long at present; try again later"}
	}
}

// certificate returns a version of the operation's certificate, or its newest. A
// certificate that is deleted is not found, unless deleted is what is asked for.
func (o *vaultOp) certificate(version string, deleted bool) (db.StoredCertificate, error) {
	c, err := o.Certificate(o.v.ID, o.object.Name, version)
	if err == nil && (c.DeletedAt != nil) != deleted {
		err = db.ErrNotFound
	}
	if err == nil && o.object.In == latchkey.VaultKeys && c.Number == 0 {
		err = db.ErrNotFound // its key is nobody's yet
	}
	if errors.Is(err, db.ErrNotFound) {
		code := nouns[o.object.In].noun + "NotFound"
		if deleted {
			code = "Deleted" + code
		}
		return c, missing(code, "there is no %s %q in the vault %q", nouns[o.object.In].kind, o.object.Name, o.v.Name)
	}
	if err != nil {
		return c, err
	}
	return c, o.complete(&c)
}

// complete fills in what the vault and the operation say of a certificate.
func (o *vaultOp) complete(c *db.StoredCertificate) error {
	c.RetentionDays = o.v.RetentionDays
	if c.Number > 0 {
		return nil
	}
	pending, err := o.CertificateOperation(o.v.ID, c.Name)
	if errors.Is(err, db.ErrNotFound) {
		return nil
	}
	c.Version, c.Tags, c.PreserveOrder = pending.Version, pending.Tags, pending.PreserveOrder
	return err
}

// keyBinding binds a private key to where it is stored.
func keyBinding(v latchkey.VaultID, name, version string) []string {
	return []string{"vault_certificate_keys", "private_key", string(v), strings.ToLower(name), version}
}

// storeKey stores the private key of a version.
func (b *Broker) storeKey(o *vaultOp, name, version string, key crypto.Signer, exportable bool) error {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	defer clear(der)
	box, err := b.seal(o.Tx, der, keyBinding(o.v.ID, name, version)...)
	if err != nil {
		return err
	}
	return o.CreateCertificateKey(o.v.ID, name, version, db.CertificateKey{Box: box, Exportable: exportable})
}

// loadKey returns the private key of a version, and whether it may leave.
func (b *Broker) loadKey(o *vaultOp, name, version string) (crypto.Signer, bool, error) {
	stored, err := o.CertificateKey(o.v.ID, name, version)
	if err != nil {
		return nil, false, fmt.Errorf("key of version %s of certificate %s: %w", version, name, err)
	}
	der, err := b.key.Open(stored.Box, keyBinding(o.v.ID, name, version)...)
	if err != nil {
		return nil, false, fmt.Errorf("open the key of version %s of certificate %s in vault %s: %w", version, name, o.v.Name, err)
	}
	defer clear(der)
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, false, fmt.Errorf("read the key of version %s of certificate %s: %w", version, name, err)
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, false, fmt.Errorf("the key of version %s of certificate %s is a %T", version, name, key)
	}
	return signer, stored.Exportable, nil
}

// A CertificateCreate asks for a new version of a certificate.
type CertificateCreate struct {
	Policy        *latchkey.CertificatePolicy // nil: the certificate's own
	Enabled       *bool
	Tags          map[string]string
	PreserveOrder bool
}

// A made version is one that is made and not stored.
type made struct {
	version    string
	key        crypto.Signer
	exportable bool
	csr        []byte
	leaf       []byte // of one that signs itself
}

// makeVersion makes the key of a version and what its policy wants of it. old is
// the key of the version before, or nil.
func makeVersion(p *latchkey.CertificatePolicy, old crypto.Signer, oldExportable bool, now time.Time) (m made, err error) {
	m = made{version: newVersion(), exportable: p.Exportable()}
	if *p.Key.Reuse && old != nil && certs.Fits(old.Public(), p.Key) {
		// A key that was made to stay does not leave under another policy.
		m.key, m.exportable = old, m.exportable && oldExportable
	} else if m.key, err = certs.NewKey(p.Key); err != nil {
		return m, err
	}
	if m.csr, err = certs.Request(m.key, p); err != nil {
		return m, err
	}
	if p.IssuedBy(latchkey.IssuerSelf) {
		m.leaf, err = certs.SelfSign(m.key, p, now)
	}
	return m, err
}

// CreateCertificate begins a new version of a certificate. One that signs itself
// is there when this returns; of others there is a request, and the certificate
// is merged when somebody has signed it.
func (b *Broker) CreateCertificate(ctx context.Context, who latchkey.Caller, vault, name string, c CertificateCreate) (r latchkey.CertificateOperation, err error) {
	if err := latchkey.CheckTags(c.Tags); err != nil {
		return r, err
	}
	var old crypto.Signer
	var oldExportable bool
	err = b.beforeVault(ctx, who, vault, certificateObject(name), latchkey.VaultCreateCertificate, latchkey.ActCertificateCreate, func(o *vaultOp) error {
		last, err := o.Certificate(o.v.ID, name, "")
		switch {
		case errors.Is(err, db.ErrNotFound) && c.Policy == nil:
			return latchkey.Invalid("policy", "must be given for a new certificate")
		case errors.Is(err, db.ErrNotFound):
			return nil
		case err != nil:
			return err
		}
		if c.Policy == nil {
			c.Policy = &last.Policy
		}
		if last.Number > 0 {
			old, oldExportable, err = b.loadKey(o, name, last.Version)
		}
		return err
	})
	if err != nil {
		return r, err
	}
	policy := *c.Policy
	policy.Fill()
	if err := policy.Validate(); err != nil {
		return r, err
	}
	if !policy.IssuedBy(latchkey.IssuerSelf) && !policy.IssuedBy(latchkey.IssuerUnknown) {
		return r, latchkey.Invalid("policy.issuer.name", "must be Self or Unknown: embedded vaults ask no other issuer; with Unknown, have the request signed and merge the certificate")
	}
	m, err := certificateWork(ctx, b.keys, func() (made, error) { return makeVersion(&policy, old, oldExportable, b.now()) })
	if err != nil {
		return r, err
	}
	err = b.onVault(ctx, who, vault, certificateObject(name), latchkey.VaultCreateCertificate, latchkey.ActCertificateCreate, func(o *vaultOp) error {
		last, err := o.takeCertificate(policy)
		if err != nil {
			return err
		}
		request := db.StoredOperation{
			CertificateOperation: latchkey.CertificateOperation{
				Name: last.Name, RequestID: newVersion(), Issuer: *policy.Issuer, CSR: m.csr, Completed: m.leaf != nil, PreserveOrder: c.PreserveOrder,
			},
			Version: m.version, Enabled: c.Enabled == nil || *c.Enabled, Tags: tagsOf(c.Tags),
		}
		if err := o.SetCertificateOperation(o.v.ID, request); err != nil {
			return err
		}
		if err := b.storeKey(o, last.Name, m.version, m.key, m.exportable); err != nil {
			return err
		}
		if m.leaf != nil {
			leaf, err := x509.ParseCertificate(m.leaf)
			if err != nil {
				return err
			}
			if _, err := b.addVersion(o, last, request, certs.Bundle{Key: m.key, Leaf: leaf}, m.exportable); err != nil {
				return err
			}
		}
		r = request.CertificateOperation
		return o.record(latchkey.ActCertificateCreate, o.thing(), map[string]string{"version": m.version, "issuer": *policy.Issuer.Name, "request": r.RequestID})
	})
	return r, err
}

func tagsOf(tags map[string]string) map[string]string {
	if tags == nil {
		return map[string]string{}
	}
	return tags
}

// takeCertificate returns the newest version of the operation's certificate,
// which gets a policy, for the next version to be added. It makes the
// certificate if there is none.
func (o *vaultOp) takeCertificate(p latchkey.CertificatePolicy) (db.StoredCertificate, error) {
	name := o.object.Name
	last, err := o.Certificate(o.v.ID, name, "")
	if errors.Is(err, db.ErrNotFound) {
		if err := o.nameIsFree(); err != nil {
			return last, err
		}
		last.Name, last.Policy = name, p
		return last, o.Tx.CreateCertificate(o.v.ID, name, p)
	}
	if err != nil {
		return last, err
	}
	if last.DeletedAt != nil {
		return last, o.deletedObject(last.Name)
	}
	if last.Number >= maxVersions {
		return last, latchkey.Conflict("TooManyVersions", "the certificate has %d versions, the most that one may have; delete and purge it, or use another name", maxVersions)
	}
	switch pending, err := o.CertificateOperation(o.v.ID, name); {
	case errors.Is(err, db.ErrNotFound):
	case err != nil:
		return last, err
	case !pending.Completed && !pending.Cancelled:
		return last, latchkey.Conflict("PendingCertificate", "A new key vault certificate can not be created or imported while a pending key vault certificate's status is inProgress.")
	}
	last.Policy = p
	return last, o.SetCertificatePolicy(o.v.ID, name, p)
}

// addVersion stores the next version of a certificate with its secret. The key
// is stored already.
func (b *Broker) addVersion(o *vaultOp, last db.StoredCertificate, r db.StoredOperation, bundle certs.Bundle, exportable bool) (db.StoredCertificate, error) {
	if !r.PreserveOrder {
		bundle.Chain = certs.Sort(bundle.Leaf, bundle.Chain)
	}
	c := last
	c.Number, c.Version = last.Number+1, r.Version
	c.Leaf, c.Chain = bundle.Leaf.Raw, certs.Join(bundle.Chain)
	c.NotBefore, c.Expires = bundle.Leaf.NotBefore.UTC(), bundle.Leaf.NotAfter.UTC()
	c.Enabled, c.Tags, c.PreserveOrder = r.Enabled, r.Tags, r.PreserveOrder
	c.CreatedAt, c.UpdatedAt, c.RetentionDays = o.Now, o.Now, o.v.RetentionDays
	if err := o.AddCertificateVersion(o.v.ID, c); err != nil {
		return c, err
	}
	if !exportable {
		bundle.Key = nil
	}
	contentType := *c.Policy.Secret.ContentType
	text, err := secretText(bundle, contentType)
	if err != nil {
		return c, err
	}
	if len(text) > latchkey.MaxSecretBytes {
		return c, latchkey.Invalid("value", "must be smaller: with its chain, the certificate's secret would be more than %d bytes", latchkey.MaxSecretBytes)
	}
	box, err := b.seal(o.Tx, []byte(text), sealBinding(o.v.ID, c.Name, c.Version)...)
	if err != nil {
		return c, err
	}
	err = o.AddSecretVersion(o.v.ID, db.StoredSecret{
		VaultSecret: latchkey.VaultSecret{
			Name: c.Name, Version: c.Version, CreatedAt: o.Now, UpdatedAt: o.Now, Managed: true,
			SecretAttributes: latchkey.SecretAttributes{ContentType: contentType, Enabled: c.Enabled, NotBefore: &c.NotBefore, Expires: &c.Expires, Tags: c.Tags},
		},
		Number: c.Number, Value: box,
	})
	if err != nil {
		return c, err
	}
	c.DueAt = due(c, time.Time{}, time.Time{})
	return c, o.SetCertificateDue(o.v.ID, c.Name, c.DueAt)
}

// secretText returns a bundle as the value of a secret.
func secretText(bundle certs.Bundle, contentType string) (string, error) {
	if contentType == latchkey.ContentTypePEM {
		return bundle.PEM()
	}
	pfx, err := bundle.PFX()
	return base64.StdEncoding.EncodeToString(pfx), err
}

// PEMOfPFX returns the value of a certificate's secret, which is a PFX, as PEM.
func PEMOfPFX(value latchkey.Secret) (latchkey.Secret, error) {
	pfx, err := base64.StdEncoding.DecodeString(value.Reveal())
	if err != nil {
		return latchkey.Secret{}, errors.New("the secret of a certificate is no base64")
	}
	bundle, err := certs.OpenPFX(pfx)
	if err != nil {
		return latchkey.Secret{}, fmt.Errorf("the secret of a certificate: %w", err)
	}
	text, err := bundle.PEM()
	return latchkey.NewSecret(text), err
}

// A CertificateImport is a certificate with its private key that was made
// elsewhere.
type CertificateImport struct {
	Value    latchkey.Secret // a PFX in base64, or PEM
	Password latchkey.Secret // of the PFX
	CertificateCreate
}

// ImportCertificate stores a certificate that was made elsewhere as a new version.
func (b *Broker) ImportCertificate(ctx context.Context, who latchkey.Caller, vault, name string, in CertificateImport) (c latchkey.VaultCertificate, err error) {
	if err := latchkey.CheckCertificateValue(in.Value); err != nil {
		return c, latchkey.Invalid("value", "%v", err)
	}
	if err := latchkey.CheckTags(in.Tags); err != nil {
		return c, err
	}
	object := certificateObject(name)
	err = b.beforeVault(ctx, who, vault, object, latchkey.VaultImportCertificate, latchkey.ActCertificateImport, func(*vaultOp) error { return nil })
	if err != nil {
		return c, err
	}
	bundle, err := certificateWork(ctx, b.imports, func() (certs.Bundle, error) { return openImport(in) })
	if err != nil {
		return c, err
	}
	policy, err := importPolicy(in, bundle)
	if err != nil {
		return c, err
	}
	err = b.onVault(ctx, who, vault, object, latchkey.VaultImportCertificate, latchkey.ActCertificateImport, func(o *vaultOp) error {
		last, err := o.takeCertificate(policy)
		if err != nil {
			return err
		}
		r := db.StoredOperation{
			CertificateOperation: latchkey.CertificateOperation{Name: last.Name, PreserveOrder: in.PreserveOrder},
			Version:              newVersion(), Enabled: in.Enabled == nil || *in.Enabled, Tags: tagsOf(in.Tags),
		}
		if err := b.storeKey(o, last.Name, r.Version, bundle.Key, policy.Exportable()); err != nil {
			return err
		}
		stored, err := b.addVersion(o, last, r, bundle, policy.Exportable())
		if err != nil {
			return err
		}
		c = stored.VaultCertificate
		return o.note(latchkey.ActCertificateImport, c.Version)
	})
	return c, err
}

// openImport reads what is imported. Its form is what the policy says, or what it
// looks like.
func openImport(in CertificateImport) (bundle certs.Bundle, err error) {
	text := in.Value.Reveal()
	isPEM := latchkey.IsPEM(text)
	if p := in.Policy; p != nil && p.Secret != nil && p.Secret.ContentType != nil && isPEM != (*p.Secret.ContentType == latchkey.ContentTypePEM) {
		return bundle, latchkey.Invalid("value", "must be of the content type in policy.secret_props: %s", *p.Secret.ContentType)
	}
	if isPEM {
		bundle, err = certs.ParsePEM(text)
	} else {
		var pfx []byte
		if pfx, err = base64.StdEncoding.DecodeString(text); err == nil {
			bundle, err = certs.ParsePFX(pfx, in.Password.Reveal())
		}
	}
	switch {
	case errors.Is(err, certs.ErrPassword):
		return bundle, latchkey.Invalid("pwd", "is not the password of the PFX")
	case err != nil:
		return bundle, latchkey.Invalid("value", "%v", err)
	}
	return bundle, nil
}

// importPolicy returns the policy of an imported certificate: what it was given,
// and for the rest what would make one like it.
func importPolicy(in CertificateImport, bundle certs.Bundle) (latchkey.CertificatePolicy, error) {
	var p latchkey.CertificatePolicy
	if in.Policy != nil {
		p = *in.Policy
	}
	x509, key := certs.Describe(bundle.Leaf)
	p.X509 = x509
	if p.Key != nil {
		key.Exportable, key.Reuse = p.Key.Exportable, p.Key.Reuse
	}
	p.Key = key
	if p.Secret == nil && latchkey.IsPEM(in.Value.Reveal()) {
		p.Secret = &latchkey.CertificateSecret{ContentType: new(latchkey.ContentTypePEM)}
	}
	p.Fill()
	// What the certificate says, others have decided.
	given := p
	given.X509 = &latchkey.CertificateX509{Months: x509.Months}
	given.Fill()
	return p, given.Validate()
}

// MergeCertificate completes the pending version of a certificate with what its
// issuer signed. Of the certificates one must belong to the pending key.
func (b *Broker) MergeCertificate(ctx context.Context, who latchkey.Caller, vault, name string, der [][]byte, enabled *bool, tags map[string]string) (c latchkey.VaultCertificate, err error) {
	if err := latchkey.CheckTags(tags); err != nil {
		return c, err
	}
	if len(der) == 0 || len(der) > latchkey.MaxCertificates {
		return c, latchkey.Invalid("x5c", "must be 1 to %d certificates", latchkey.MaxCertificates)
	}
	var given []*x509.Certificate
	for _, d := range der {
		cert, err := x509.ParseCertificate(d)
		if err != nil {
			return c, latchkey.Invalid("x5c", "must be certificates in DER, in base64")
		}
		given = append(given, cert)
	}
	err = b.onVault(ctx, who, vault, certificateObject(name), latchkey.VaultCreateCertificate, latchkey.ActCertificateIssue, func(o *vaultOp) error {
		last, r, err := o.pending()
		if err != nil {
			return err
		}
		if r.Completed || r.Cancelled {
			return latchkey.Conflict("OperationEnded", "the pending certificate %s was %s; there is nothing to merge", r.Name, ended(r))
		}
		key, exportable, err := b.loadKey(o, last.Name, r.Version)
		if err != nil {
			return err
		}
		bundle := certs.Bundle{Key: key}
		for _, g := range given {
			if bundle.Leaf == nil && certs.SameKey(g.PublicKey, key.Public()) {
				bundle.Leaf = g
			} else {
				bundle.Chain = append(bundle.Chain, g)
			}
		}
		if bundle.Leaf == nil {
			return latchkey.Invalid("x5c", "must have the certificate of the pending key: none has the public key of the request")
		}
		if enabled != nil {
			r.Enabled = *enabled
		}
		if tags != nil {
			r.Tags = tags
		}
		stored, err := b.addVersion(o, last, r, bundle, exportable)
		if err != nil {
			return err
		}
		r.Completed = true
		if err := o.UpdateCertificateOperation(o.v.ID, r); err != nil {
			return err
		}
		c = stored.VaultCertificate
		return o.record(latchkey.ActCertificateIssue, o.thing(), map[string]string{"version": c.Version, "request": r.RequestID})
	})
	return c, err
}

func ended(r db.StoredOperation) string {
	if r.Completed {
		return "completed already"
	}
	return "cancelled"
}

// pending returns the operation's certificate and the last request for a version
// of it.
func (o *vaultOp) pending() (db.StoredCertificate, db.StoredOperation, error) {
	c, err := o.certificate("", false)
	if err != nil {
		return c, db.StoredOperation{}, err
	}
	r, err := o.CertificateOperation(o.v.ID, c.Name)
	if errors.Is(err, db.ErrNotFound) {
		err = missing(codePendingNotFound, "Pending certificate not found: %s", c.Name)
	}
	return c, r, err
}

// CertificateOperation returns the last request for a version of a certificate.
func (b *Broker) CertificateOperation(ctx context.Context, who latchkey.Caller, vault, name string) (r latchkey.CertificateOperation, err error) {
	err = b.onVault(ctx, who, vault, certificateObject(name), latchkey.VaultReadCertificate, latchkey.ActCertificateGet, func(o *vaultOp) error {
		_, stored, err := o.pending()
		if err != nil {
			return err
		}
		r = stored.CertificateOperation
		return o.record(latchkey.ActCertificateGet, o.thing(), map[string]string{"request": r.RequestID})
	})
	return r, err
}

// CancelCertificate gives up the pending version of a certificate.
func (b *Broker) CancelCertificate(ctx context.Context, who latchkey.Caller, vault, name string) (r latchkey.CertificateOperation, err error) {
	err = b.onVault(ctx, who, vault, certificateObject(name), latchkey.VaultUpdateCertificate, latchkey.ActCertificateCancel, func(o *vaultOp) error {
		_, stored, err := o.pending()
		if err != nil {
			return err
		}
		if stored.Completed {
			return latchkey.Conflict("OperationEnded", "the pending certificate %s was %s", stored.Name, ended(stored))
		}
		stored.Cancelled = true
		if err := o.UpdateCertificateOperation(o.v.ID, stored); err != nil {
			return err
		}
		r = stored.CertificateOperation
		return o.record(latchkey.ActCertificateCancel, o.thing(), map[string]string{"request": r.RequestID})
	})
	return r, err
}

// DeleteCertificateOperation removes the last request for a version of a
// certificate. A certificate that never had a version goes with it.
func (b *Broker) DeleteCertificateOperation(ctx context.Context, who latchkey.Caller, vault, name string) (r latchkey.CertificateOperation, err error) {
	err = b.onVault(ctx, who, vault, certificateObject(name), latchkey.VaultDeleteCertificate, latchkey.ActCertificateCancel, func(o *vaultOp) error {
		c, stored, err := o.pending()
		if err != nil {
			return err
		}
		if err := o.Tx.DeleteCertificateOperation(o.v.ID, c.Name); err != nil {
			return err
		}
		if c.Number == 0 {
			if err := o.Tx.PurgeCertificate(o.v.ID, c.Name); err != nil {
				return err
			}
		}
		r = stored.CertificateOperation
		return o.record(latchkey.ActCertificateCancel, o.thing(), map[string]string{"request": r.RequestID, "removed": "yes"})
	})
	return r, err
}

// Certificate returns a version of a certificate, or the newest when version is
// "".
func (b *Broker) Certificate(ctx context.Context, who latchkey.Caller, vault, name, version string) (latchkey.VaultCertificate, error) {
	return b.certificate(ctx, who, vault, certificateObject(name), version, false)
}

// DeletedCertificate returns a deleted certificate.
func (b *Broker) DeletedCertificate(ctx context.Context, who latchkey.Caller, vault, name string) (latchkey.VaultCertificate, error) {
	return b.certificate(ctx, who, vault, certificateObject(name), "", true)
}

// Key returns the certificate whose key is asked for; of a deleted one when
// deleted is set.
func (b *Broker) Key(ctx context.Context, who latchkey.Caller, vault, name, version string, deleted bool) (latchkey.VaultCertificate, error) {
	return b.certificate(ctx, who, vault, latchkey.VaultObject{In: latchkey.VaultKeys, Name: name}, version, deleted)
}

// readAs returns what it takes to read a collection, and how that is recorded.
func readAs(in latchkey.VaultCollection) (a latchkey.VaultAction, get, list latchkey.Action) {
	if in == latchkey.VaultKeys {
		return latchkey.VaultReadKey, latchkey.ActKeyGet, latchkey.ActKeyList
	}
	return latchkey.VaultReadCertificate, latchkey.ActCertificateGet, latchkey.ActCertificateList
}

func (b *Broker) certificate(ctx context.Context, who latchkey.Caller, vault string, object latchkey.VaultObject, version string, deleted bool) (c latchkey.VaultCertificate, err error) {
	action, get, _ := readAs(object.In)
	err = b.onVault(ctx, who, vault, object, action, get, func(o *vaultOp) error {
		stored, err := o.certificate(version, deleted)
		if err != nil {
			return err
		}
		c = stored.VaultCertificate
		return o.note(get, c.Version)
	})
	return c, err
}

// A CertificateList chooses what is listed of a vault.
type CertificateList struct {
	Keys    bool // the certificates' keys
	Deleted bool
	Pending bool // also certificates that are pending for the first time
}

// Certificates lists the newest versions of a vault's certificates, or their keys.
func (b *Broker) Certificates(ctx context.Context, who latchkey.Caller, vault string, l CertificateList, page latchkey.PageOptions) (p latchkey.Page[latchkey.VaultCertificate], err error) {
	object := certificateObject("")
	if l.Keys {
		object.In = latchkey.VaultKeys
	}
	action, _, list := readAs(object.In)
	err = b.onVault(ctx, who, vault, object, action, list, func(o *vaultOp) (err error) {
		if p, err = o.Certificates(o.v.ID, l.Deleted, l.Pending, page); err != nil {
			return err
		}
		for i := range p.Items {
			p.Items[i].RetentionDays = o.v.RetentionDays
		}
		return o.note(list, "")
	})
	return p, err
}

// CertificateVersions lists the versions of a certificate, or of its key, oldest
// first.
func (b *Broker) CertificateVersions(ctx context.Context, who latchkey.Caller, vault, name string, keys bool, page latchkey.PageOptions) (p latchkey.Page[latchkey.VaultCertificate], err error) {
	object := certificateObject(name)
	if keys {
		object.In = latchkey.VaultKeys
	}
	action, _, list := readAs(object.In)
	err = b.onVault(ctx, who, vault, object, action, list, func(o *vaultOp) (err error) {
		if p, err = o.CertificateVersions(o.v.ID, name, page); err != nil {
			return err
		}
		for i := range p.Items {
			p.Items[i].RetentionDays = o.v.RetentionDays
		}
		return o.note(list, "")
	})
	return p, err
}

// A CertificateUpdate changes what is not nil.
type CertificateUpdate struct {
	Enabled *bool
	Tags    *map[string]string
	Policy  *latchkey.CertificatePolicy // its parts that are not nil replace the policy's
}

// UpdateCertificate changes a version of a certificate, or its newest when
// version is "", and the certificate's policy. When it is valid never changes.
func (b *Broker) UpdateCertificate(ctx context.Context, who latchkey.Caller, vault, name, version string, u CertificateUpdate) (c latchkey.VaultCertificate, err error) {
	if u.Tags != nil {
		if err := latchkey.CheckTags(*u.Tags); err != nil {
			return c, err
		}
	}
	err = b.onVault(ctx, who, vault, certificateObject(name), latchkey.VaultUpdateCertificate, latchkey.ActCertificateUpdate, func(o *vaultOp) error {
		stored, err := o.certificate(version, false)
		if err != nil {
			return err
		}
		if u.Policy != nil {
			stored.Policy.Merge(*u.Policy)
			stored.Policy.Fill()
			if err := stored.Policy.Validate(); err != nil {
				return err
			}
			if err := renewable(stored.Policy); err != nil {
				return err
			}
			if err := o.SetCertificatePolicy(o.v.ID, name, stored.Policy); err != nil {
				return err
			}
			stored.PolicyUpdated = o.Now
		}
		if u.Enabled != nil || u.Tags != nil {
			if stored.Number == 0 {
				return latchkey.Conflict("PendingCertificate", "the certificate %s is pending and has no version yet to change", stored.Name)
			}
			set(&stored.Enabled, u.Enabled)
			set(&stored.Tags, u.Tags)
			stored.Tags, stored.UpdatedAt = tagsOf(stored.Tags), o.Now
			if err := o.UpdateCertificateVersion(o.v.ID, stored); err != nil {
				return err
			}
			s, err := o.VaultSecret(o.v.ID, name, stored.Version)
			if err != nil {
				return err
			}
			s.Enabled, s.Tags = stored.Enabled, stored.Tags
			if err := o.UpdateSecretVersion(o.v.ID, s); err != nil {
				return err
			}
		}
		if err := o.setDue(name); err != nil {
			return err
		}
		c = stored.VaultCertificate
		return o.note(latchkey.ActCertificateUpdate, c.Version)
	})
	return c, err
}

// renewable checks that the vault can do what a policy has it do: renew a certificate
// that signs itself, with a key that [certs.NewKey] makes. Policies by which the vault
// makes nothing are kept as they are (AKV: Microsoft's clients read back any key).
func renewable(p latchkey.CertificatePolicy) error {
	renews := slices.ContainsFunc(p.Lifetime, func(a latchkey.LifetimeAction) bool { return a.Is(latchkey.AutoRenew) })
	if !renews || !p.IssuedBy(latchkey.IssuerSelf) {
		return nil
	}
	return certs.CheckKey(p.Key)
}

// DeleteCertificate deletes a certificate with all its versions, its secret and
// its key. It can be recovered until the vault's retention has passed.
func (b *Broker) DeleteCertificate(ctx context.Context, who latchkey.Caller, vault, name string) (c latchkey.VaultCertificate, err error) {
	err = b.onVault(ctx, who, vault, certificateObject(name), latchkey.VaultDeleteCertificate, latchkey.ActCertificateDelete, func(o *vaultOp) error {
		stored, err := o.certificate("", false)
		if err != nil {
			return err
		}
		purgeAt := o.Now.AddDate(0, 0, o.v.RetentionDays)
		if err := o.SetCertificateDeleted(o.v.ID, name, &purgeAt); err != nil {
			return err
		}
		stored.DeletedAt, stored.PurgeAt = &o.Now, &purgeAt
		c = stored.VaultCertificate
		return o.note(latchkey.ActCertificateDelete, "")
	})
	return c, err
}

// RecoverCertificate makes a deleted certificate one that is not.
func (b *Broker) RecoverCertificate(ctx context.Context, who latchkey.Caller, vault, name string) (c latchkey.VaultCertificate, err error) {
	err = b.onVault(ctx, who, vault, certificateObject(name), latchkey.VaultRecoverCertificate, latchkey.ActCertificateRecover, func(o *vaultOp) error {
		stored, err := o.certificate("", true)
		if err != nil {
			return err
		}
		if err := o.SetCertificateDeleted(o.v.ID, name, nil); err != nil {
			return err
		}
		stored.DeletedAt, stored.PurgeAt = nil, nil
		c = stored.VaultCertificate
		return o.note(latchkey.ActCertificateRecover, "")
	})
	return c, err
}

// PurgeCertificate removes a deleted certificate for good.
func (b *Broker) PurgeCertificate(ctx context.Context, who latchkey.Caller, vault, name string) error {
	return b.onVault(ctx, who, vault, certificateObject(name), latchkey.VaultPurgeCertificate, latchkey.ActCertificatePurge, func(o *vaultOp) error {
		if _, err := o.certificate("", true); err != nil {
			return err
		}
		if err := o.Tx.PurgeCertificate(o.v.ID, name); err != nil {
			return err
		}
		return o.note(latchkey.ActCertificatePurge, "")
	})
}

// A certificateBackup is what a backup of a certificate holds.
type certificateBackup struct {
	Name     string
	Policy   latchkey.CertificatePolicy
	Versions []certificateBackupVersion // oldest first
	Secrets  []secretBackupVersion      // of the same versions
}

type certificateBackupVersion struct {
	Version       string
	Leaf, Chain   []byte
	Key           []byte // PKCS #8
	Exportable    bool
	Enabled       bool
	PreserveOrder bool
	Tags          map[string]string
	CreatedAt     time.Time
	UpdatedAt     time.Time
}

// BackupCertificate returns a certificate with all its versions and keys, sealed. If
// one of the keys may leave the vault, the caller must be allowed to read the secret
// that has it: restored elsewhere, the backup gives it.
func (b *Broker) BackupCertificate(ctx context.Context, who latchkey.Caller, vault, name string) (blob string, err error) {
	err = b.onVault(ctx, who, vault, certificateObject(name), latchkey.VaultBackupCertificate, latchkey.ActCertificateBackup, func(o *vaultOp) error {
		c, err := o.certificate("", false)
		if err != nil {
			return err
		}
		if c.Number == 0 {
			return latchkey.Conflict("PendingCertificate", "the certificate %s is pending and has no version yet to back up", c.Name)
		}
		backup := certificateBackup{Name: c.Name, Policy: c.Policy}
		if backup.Secrets, err = b.secretVersionsOf(o); err != nil {
			return err
		}
		versions, err := o.AllCertificateVersions(o.v.ID, name, maxBackupVersions)
		if err != nil {
			return err
		}
		for _, v := range versions {
			key, exportable, err := b.loadKey(o, c.Name, v.Version)
			if err != nil {
				return err
			}
			if exportable {
				if err := o.mayReadKey(); err != nil {
					return err
				}
			}
			der, err := x509.MarshalPKCS8PrivateKey(key)
			if err != nil {
				return err
			}
			backup.Versions = append(backup.Versions, certificateBackupVersion{
				v.Version, v.Leaf, v.Chain, der, exportable, v.Enabled, v.PreserveOrder, v.Tags, v.CreatedAt, v.UpdatedAt,
			})
		}
		if blob, err = b.sealBackup(o, backup); err != nil {
			return err
		}
		return o.note(latchkey.ActCertificateBackup, "")
	})
	return blob, err
}

// mayReadKey returns a refusal if the caller may not read the secret of the
// operation's certificate.
func (o *vaultOp) mayReadKey() error {
	secret := secretObject(o.object.Name)
	ok, err := o.vaultCan(o.who.ID, o.v, secret, latchkey.VaultGetSecret)
	if err != nil || ok {
		return err
	}
	return (&vaultOp{o.op, o.v, secret}).forbid(latchkey.VaultGetSecret, latchkey.ActCertificateBackup)
}

// RestoreCertificate makes a certificate from a backup, with its name, versions,
// keys and secret. There must be neither a certificate nor a secret of this name,
// not even a deleted one.
func (b *Broker) RestoreCertificate(ctx context.Context, who latchkey.Caller, vault, blob string) (c latchkey.VaultCertificate, err error) {
	if err := b.MayRestore(ctx, who, vault, latchkey.VaultCertificates); err != nil {
		return c, err
	}
	var backup certificateBackup
	if err := b.openBackup(latchkey.VaultCertificates, blob, &backup); err != nil {
		return c, err
	}
	err = b.onVault(ctx, who, vault, certificateObject(""), latchkey.VaultRestoreCertificate, latchkey.ActCertificateRestore, func(o *vaultOp) error {
		o.object.Name = backup.Name
		if err := o.nameIsFree(); err != nil {
			return err
		}
		if err := o.Tx.CreateCertificate(o.v.ID, backup.Name, backup.Policy); err != nil {
			return err
		}
		for i, v := range backup.Versions {
			if err := b.restoreVersion(o, i+1, v); err != nil {
				return err
			}
		}
		if _, err := b.restoreVersions(o, backup.Secrets, true); err != nil {
			return err
		}
		if err := o.setDue(backup.Name); err != nil {
			return err
		}
		stored, err := o.certificate("", false)
		if err != nil {
			return err
		}
		c = stored.VaultCertificate
		return o.note(latchkey.ActCertificateRestore, c.Version)
	})
	return c, err
}

func (b *Broker) restoreVersion(o *vaultOp, number int, v certificateBackupVersion) error {
	leaf, err := x509.ParseCertificate(v.Leaf)
	if err != nil {
		return err
	}
	c := db.StoredCertificate{Number: number, Chain: v.Chain}
	c.Name, c.Version, c.Leaf, c.Enabled, c.PreserveOrder = o.object.Name, v.Version, v.Leaf, v.Enabled, v.PreserveOrder
	c.NotBefore, c.Expires, c.Tags, c.CreatedAt, c.UpdatedAt = leaf.NotBefore.UTC(), leaf.NotAfter.UTC(), v.Tags, v.CreatedAt, v.UpdatedAt
	if err := o.AddCertificateVersion(o.v.ID, c); err != nil {
		return err
	}
	box, err := b.seal(o.Tx, v.Key, keyBinding(o.v.ID, c.Name, c.Version)...)
	if err != nil {
		return err
	}
	return o.CreateCertificateKey(o.v.ID, c.Name, c.Version, db.CertificateKey{Box: box, Exportable: v.Exportable})
}

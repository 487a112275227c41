package keyvault

import (
	"context"
	"crypto/sha1"
	"encoding/base64"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"unicode/utf8"

	"latchkey.dev/internal/broker"
	"latchkey.dev/latchkey"
)

// Bounds of requests about certificates, in bytes.
const maxImport = 512 << 10 // a PFX in base64 with a chain

// certificates answers requests below /certificates.
func (c *call) certificates(ctx context.Context) (any, error) {
	p, method := c.path, c.method
	switch {
	case p.name == "":
		if method != http.MethodGet {
			return nil, badMethod()
		}
		return c.listCertificates(ctx, broker.CertificateList{Pending: c.pendingToo()})
	case strings.EqualFold(p.name, "contacts") && p.rest == "":
		return c.contacts(ctx)
	case strings.EqualFold(p.name, "issuers") && p.more == "":
		return c.issuers(ctx)
	case method == http.MethodPost && strings.EqualFold(p.name, "restore") && p.rest == "":
		return c.restoreCertificate(ctx)
	}
	if latchkey.CheckSecretName(p.name) != nil {
		return nil, badName(p.name)
	}
	if strings.EqualFold(p.rest, "pending") {
		return c.pending(ctx)
	}
	if p.more != "" {
		return nil, noSuchPath()
	}
	for _, o := range []struct {
		name, method string
		do           func(context.Context) (any, error)
	}{
		{"create", http.MethodPost, c.createCertificate},
		{"import", http.MethodPost, c.importCertificate},
		{"backup", http.MethodPost, c.backupCertificate},
		{"versions", http.MethodGet, func(ctx context.Context) (any, error) { return c.certificateVersions(ctx, false) }},
		{"policy", http.MethodGet, c.getPolicy},
		{"policy", http.MethodPatch, c.updatePolicy},
	} {
		if p.is(o.name) && method == o.method {
			return o.do(ctx)
		}
	}
	switch {
	case p.is("create"), p.is("import"), p.is("backup"), p.is("versions"), p.is("policy"):
		return nil, badMethod()
	}
	if err := c.wantVersion(); err != nil {
		return nil, err
	}
	switch {
	case method == http.MethodGet:
		cert, err := c.broker.Certificate(ctx, c.who, c.vault, p.name, c.path.rest)
		return c.certificate(cert), err
	case method == http.MethodPatch:
		return c.updateCertificate(ctx)
	case method == http.MethodDelete && p.rest == "":
		cert, err := c.broker.DeleteCertificate(ctx, c.who, c.vault, p.name)
		return c.certificate(cert), err
	}
	return nil, badMethod()
}

// wantVersion checks that what follows the name of an object is nothing or a
// version, and puts that in its one spelling.
func (c *call) wantVersion() error {
	if c.path.rest == "" {
		return nil
	}
	version, ok := versionID(c.path.rest)
	if !ok {
		return badParameter("The request URI contains an invalid version: %s", c.path.rest)
	}
	c.path.rest = version
	return nil
}

// deletedCertificates answers requests below /deletedcertificates.
func (c *call) deletedCertificates(ctx context.Context) (any, error) {
	p := c.path
	if p.name == "" {
		if c.method != http.MethodGet {
			return nil, badMethod()
		}
		return c.listCertificates(ctx, broker.CertificateList{Deleted: true, Pending: c.pendingToo()})
	}
	if latchkey.CheckSecretName(p.name) != nil {
		return nil, badName(p.name)
	}
	switch {
	case p.rest != "" && !p.is("recover"):
		return nil, noSuchPath()
	case p.rest == "" && c.method == http.MethodGet:
		cert, err := c.broker.DeletedCertificate(ctx, c.who, c.vault, p.name)
		return c.certificate(cert), err
	case p.rest == "" && c.method == http.MethodDelete:
		return nil, c.broker.PurgeCertificate(ctx, c.who, c.vault, p.name)
	case p.rest != "" && c.method == http.MethodPost:
		cert, err := c.broker.RecoverCertificate(ctx, c.who, c.vault, p.name)
		return c.certificate(cert), err
	}
	return nil, badMethod()
}

// pendingToo reports whether a list shall have what is pending too.
func (c *call) pendingToo() bool {
	pending, err := strconv.ParseBool(parameter(c.query, "includePending"))
	return err == nil && pending
}

func (c *call) listCertificates(ctx context.Context, l broker.CertificateList) (any, error) {
	o, err := c.page()
	if err != nil {
		return nil, err
	}
	p, err := c.broker.Certificates(ctx, c.who, c.vault, l, o)
	if err != nil {
		return nil, err
	}
	list := c.certificateList(p, o, false)
	if l.Pending && list.NextLink != nil {
		*list.NextLink += "&includePending=true"
	}
	return list, nil
}

// certificateVersions lists the versions of a certificate, or of its key.
func (c *call) certificateVersions(ctx context.Context, keys bool) (any, error) {
	o, err := c.page()
	if err != nil {
		return nil, err
	}
	p, err := c.broker.CertificateVersions(ctx, c.who, c.vault, c.path.name, keys, o)
	if err != nil {
		return nil, err
	}
	if keys {
		return c.keyList(p, o, true), nil
	}
	return c.certificateList(p, o, true), nil
}

func (c *call) certificateList(p latchkey.Page[latchkey.VaultCertificate], o latchkey.PageOptions, versioned bool) list[certificateItem] {
	l := list[certificateItem]{Value: make([]certificateItem, 0, len(p.Items)), NextLink: c.next(p.Next, o)}
	for _, cert := range p.Items {
		l.Value = append(l.Value, c.certificateItem(cert, versioned))
	}
	return l
}

// createRequest is what POST …/create and parts of others ask for.
type createRequest struct {
	Policy        *latchkey.CertificatePolicy `json:"policy"`
	Attributes    secretAttributes            `json:"attributes"`
	Tags          *map[string]string          `json:"tags"`
	PreserveOrder bool                        `json:"preserveCertOrder"`
}

func (r createRequest) create() broker.CertificateCreate {
	c := broker.CertificateCreate{Policy: r.Policy, Enabled: r.Attributes.Enabled, PreserveOrder: r.PreserveOrder}
	if r.Tags != nil {
		c.Tags = *r.Tags
	}
	return c
}

func (c *call) createCertificate(ctx context.Context) (any, error) {
	var req createRequest
	if err := c.decode(&req); err != nil {
		return nil, err
	}
	r, err := c.broker.CreateCertificate(ctx, c.who, c.vault, c.path.name, req.create())
	if err != nil {
		return nil, err
	}
	// AKV: it is in progress when this is answered, also when nothing is left to do.
	r.Completed = false
	o := c.operation(r)
	c.status = http.StatusAccepted
	c.w.Header().Set("Location", o.ID+"?api-version="+url.QueryEscape(c.version)+"&request_id="+o.RequestID)
	c.w.Header().Set("Retry-After", "10")
	return o, nil
}

func (c *call) importCertificate(ctx context.Context) (any, error) {
	var req struct {
		createRequest
		Value    *string `json:"value"`
		Password *string `json:"pwd"`
	}
	if err := c.decodeUpTo(&req, maxImport); err != nil {
		return nil, err
	}
	in := broker.CertificateImport{CertificateCreate: req.create()}
	if req.Value != nil {
		in.Value = latchkey.NewSecret(plainPEM(*req.Value))
	}
	if req.Password != nil {
		in.Password = latchkey.NewSecret(*req.Password)
	}
	cert, err := c.broker.ImportCertificate(ctx, c.who, c.vault, c.path.name, in)
	return c.certificate(cert), err
}

// plainPEM returns PEM that is in base64 as it is, and all else as given (AKV:
// "Accepted formats: PEM content or Base64 encoded PEM content". Microsoft's
// clients send the one from JavaScript and the other from Python).
func plainPEM(value string) string {
	if text, err := base64.StdEncoding.DecodeString(value); err == nil && latchkey.IsPEM(string(text)) && utf8.Valid(text) {
		return string(text)
	}
	return value
}

func (c *call) updateCertificate(ctx context.Context) (any, error) {
	var req createRequest
	if err := c.decode(&req); err != nil {
		return nil, err
	}
	cert, err := c.broker.UpdateCertificate(ctx, c.who, c.vault, c.path.name, c.path.rest, broker.CertificateUpdate{
		Enabled: req.Attributes.Enabled, Tags: req.Tags, Policy: req.Policy,
	})
	return c.certificate(cert), err
}

func (c *call) backupCertificate(ctx context.Context) (any, error) {
	blob, err := c.broker.BackupCertificate(ctx, c.who, c.vault, c.path.name)
	return backup{blob}, err
}

func (c *call) restoreCertificate(ctx context.Context) (any, error) {
	var req backup
	if err := c.decodeBackup(ctx, &req, latchkey.VaultCertificates); err != nil {
		return nil, err
	}
	cert, err := c.broker.RestoreCertificate(ctx, c.who, c.vault, req.Value)
	return c.certificate(cert), err
}

func (c *call) getPolicy(ctx context.Context) (any, error) {
	cert, err := c.broker.Certificate(ctx, c.who, c.vault, c.path.name, "")
	return c.policy(cert), err
}

func (c *call) updatePolicy(ctx context.Context) (any, error) {
	var policy latchkey.CertificatePolicy
	if err := c.decode(&policy); err != nil {
		return nil, err
	}
	cert, err := c.broker.UpdateCertificate(ctx, c.who, c.vault, c.path.name, "", broker.CertificateUpdate{Policy: &policy})
	return c.policy(cert), err
}

// pending answers requests for the last request for a version of a certificate.
func (c *call) pending(ctx context.Context) (any, error) {
	name := c.path.name
	switch {
	case c.path.more == "merge":
		if c.method != http.MethodPost {
			return nil, badMethod()
		}
		return c.merge(ctx)
	case c.path.more != "":
		return nil, noSuchPath()
	case c.method == http.MethodGet:
		r, err := c.broker.CertificateOperation(ctx, c.who, c.vault, name)
		return c.operation(r), err
	case c.method == http.MethodPatch:
		var req struct {
			Cancel *bool `json:"cancellation_requested"`
		}
		if err := c.decode(&req); err != nil {
			return nil, err
		}
		if req.Cancel == nil || !*req.Cancel {
			return nil, badParameter("Property has invalid value\r\ncancellation_requested must be true\r\n")
		}
		r, err := c.broker.CancelCertificate(ctx, c.who, c.vault, name)
		return c.operation(r), err
	case c.method == http.MethodDelete:
		r, err := c.broker.DeleteCertificateOperation(ctx, c.who, c.vault, name)
		return c.operation(r), err
	}
	return nil, badMethod()
}

func (c *call) merge(ctx context.Context) (any, error) {
	var req struct {
		Certificates [][]byte `json:"x5c"`
		createRequest
	}
	if err := c.decode(&req); err != nil {
		return nil, err
	}
	cert, err := c.broker.MergeCertificate(ctx, c.who, c.vault, c.path.name, req.Certificates, req.Attributes.Enabled, req.create().Tags)
	c.status = http.StatusCreated
	return c.certificate(cert), err
}

// contacts answers requests for /certificates/contacts.
func (c *call) contacts(ctx context.Context) (any, error) {
	var who []latchkey.CertificateContact
	var err error
	switch c.method {
	case http.MethodGet:
		who, err = c.broker.Contacts(ctx, c.who, c.vault)
	case http.MethodPut:
		var req contactList
		if err := c.decode(&req); err != nil {
			return nil, err
		}
		who = req.Contacts
		err = c.broker.SetContacts(ctx, c.who, c.vault, who)
	case http.MethodDelete:
		who, err = c.broker.DeleteContacts(ctx, c.who, c.vault)
	default:
		return nil, badMethod()
	}
	return contactList{c.base() + "/certificates/contacts", who}, err
}

// issuers answers requests below /certificates/issuers.
func (c *call) issuers(ctx context.Context) (any, error) {
	name := c.path.rest
	if name == "" {
		if c.method != http.MethodGet {
			return nil, badMethod()
		}
		return c.listIssuers(ctx)
	}
	if latchkey.CheckSecretName(name) != nil {
		return nil, badName(name)
	}
	var i latchkey.VaultIssuer
	var err error
	switch c.method {
	case http.MethodGet:
		i, err = c.broker.Issuer(ctx, c.who, c.vault, name)
	case http.MethodDelete:
		i, err = c.broker.DeleteIssuer(ctx, c.who, c.vault, name)
	case http.MethodPut, http.MethodPatch:
		var req issuerRequest
		if err := c.decode(&req); err != nil {
			return nil, err
		}
		if c.method == http.MethodPut {
			i, err = c.broker.SetIssuer(ctx, c.who, c.vault, name, req.update())
		} else {
			i, err = c.broker.UpdateIssuer(ctx, c.who, c.vault, name, req.update())
		}
	default:
		return nil, badMethod()
	}
	return c.issuer(i), err
}

func (c *call) listIssuers(ctx context.Context) (any, error) {
	o, err := c.page()
	if err != nil {
		return nil, err
	}
	p, err := c.broker.Issuers(ctx, c.who, c.vault, o)
	l := list[issuerItem]{Value: make([]issuerItem, 0, len(p.Items)), NextLink: c.next(p.Next, o)}
	for _, i := range p.Items {
		l.Value = append(l.Value, issuerItem{c.issuerID(i.Name), i.Provider})
	}
	return l, err
}

func (c *call) issuerID(name string) string { return c.base() + "/certificates/issuers/" + name }

// The types that clients see of certificates, with fields in the order of Key
// Vault's answers.

type certificateItem struct {
	deletion
	ID         string            `json:"id"`
	Thumbprint string            `json:"x5t,omitempty"` // SHA-1, in base64url
	Attributes attributes        `json:"attributes"`
	Tags       map[string]string `json:"tags,omitempty"`
}

// certificateBundle is a certificate, deleted or not.
type certificateBundle struct {
	deletion
	ID            string                      `json:"id"`
	KeyID         string                      `json:"kid,omitempty"`
	SecretID      string                      `json:"sid,omitempty"`
	Thumbprint    string                      `json:"x5t,omitempty"`
	DER           []byte                      `json:"cer,omitempty"`
	Attributes    attributes                  `json:"attributes"`
	Tags          map[string]string           `json:"tags,omitempty"`
	Policy        *latchkey.CertificatePolicy `json:"policy,omitempty"`
	Pending       *pendingID                  `json:"pending,omitempty"`
	PreserveOrder bool                        `json:"preserveCertOrder,omitempty"`
}

type pendingID struct {
	ID string `json:"id"`
}

type operation struct {
	ID            string                     `json:"id"`
	Issuer        latchkey.CertificateIssuer `json:"issuer"`
	CSR           []byte                     `json:"csr"`
	Cancelled     bool                       `json:"cancellation_requested"`
	Status        string                     `json:"status"`
	Details       string                     `json:"status_details,omitempty"`
	Target        string                     `json:"target,omitempty"`
	RequestID     string                     `json:"request_id"`
	PreserveOrder bool                       `json:"preserveCertOrder,omitempty"`
}

type contactList struct {
	ID       string                        `json:"id"`
	Contacts []latchkey.CertificateContact `json:"contacts"`
}

type issuerItem struct {
	ID       string `json:"id"`
	Provider string `json:"provider"`
}

type issuerCredentials struct {
	Account  *string `json:"account_id,omitempty"`
	Password *string `json:"pwd,omitempty"` // in requests alone
}

type issuerAttributes struct {
	Enabled bool  `json:"enabled"`
	Created int64 `json:"created"`
	Updated int64 `json:"updated"`
}

type issuerBundle struct {
	ID           string                       `json:"id"`
	Provider     string                       `json:"provider"`
	Credentials  *issuerCredentials           `json:"credentials,omitempty"`
	Organization *latchkey.IssuerOrganization `json:"org_details,omitempty"`
	Attributes   issuerAttributes             `json:"attributes"`
}

type issuerRequest struct {
	Provider     *string                      `json:"provider"`
	Credentials  issuerCredentials            `json:"credentials"`
	Organization *latchkey.IssuerOrganization `json:"org_details"`
	Attributes   secretAttributes             `json:"attributes"`
}

func (r issuerRequest) update() broker.IssuerUpdate {
	u := broker.IssuerUpdate{Provider: r.Provider, Account: r.Credentials.Account, Organization: r.Organization, Enabled: r.Attributes.Enabled}
	if r.Credentials.Password != nil {
		u.Password = new(latchkey.NewSecret(*r.Credentials.Password))
	}
	return u
}

func (c *call) issuer(i latchkey.VaultIssuer) issuerBundle {
	b := issuerBundle{
		ID: c.issuerID(i.Name), Provider: i.Provider,
		Attributes: issuerAttributes{i.Enabled, i.CreatedAt.Unix(), i.UpdatedAt.Unix()},
	}
	if i.Account != "" {
		b.Credentials = &issuerCredentials{Account: &i.Account}
	}
	if i.Organization.ID != "" || i.Organization.Admins != nil {
		b.Organization = &i.Organization
	}
	return b
}

// certificateItem returns a certificate for a list. Versions are named in lists
// of versions.
func (c *call) certificateItem(cert latchkey.VaultCertificate, versioned bool) certificateItem {
	i := certificateItem{ID: c.base() + "/certificates/" + cert.Name, Attributes: certificateAttributes(cert), Tags: cert.Tags}
	if cert.Leaf != nil {
		i.Thumbprint = thumbprint(cert.Leaf)
	}
	if versioned {
		i.ID += "/" + cert.Version
	}
	i.deletion = c.deletion("deletedcertificates", cert.Name, cert.DeletedAt, cert.PurgeAt)
	return i
}

func thumbprint(der []byte) string {
	sum := sha1.Sum(der)
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

func certificateAttributes(cert latchkey.VaultCertificate) attributes {
	a := attributes{
		Enabled: cert.Enabled, Created: cert.CreatedAt.Unix(), Updated: cert.UpdatedAt.Unix(),
		RecoveryLevel: recoveryLevel(cert.RetentionDays), RecoverableDays: cert.RetentionDays,
	}
	if cert.Leaf != nil {
		a.NotBefore, a.Expires = unix(&cert.NotBefore), unix(&cert.Expires)
	}
	return a
}

// certificate returns a certificate for the wire.
func (c *call) certificate(cert latchkey.VaultCertificate) certificateBundle {
	i := c.certificateItem(cert, true)
	b := certificateBundle{
		deletion: i.deletion, ID: i.ID, Thumbprint: i.Thumbprint,
		DER: cert.Leaf, Attributes: i.Attributes, Tags: i.Tags, Policy: c.policy(cert), PreserveOrder: cert.PreserveOrder,
	}
	versioned := cert.Name + "/" + cert.Version
	b.KeyID, b.SecretID = c.base()+"/keys/"+versioned, c.base()+"/secrets/"+versioned
	if cert.Pending {
		b.Pending = &pendingID{c.base() + "/certificates/" + cert.Name + "/pending"}
	}
	return b
}

// policy returns a certificate's policy for the wire.
func (c *call) policy(cert latchkey.VaultCertificate) *latchkey.CertificatePolicy {
	p := cert.Policy
	p.ID = c.base() + "/certificates/" + cert.Name + "/policy"
	p.Attrs = &latchkey.CertificatePolicyAttributes{Enabled: true, Created: cert.PolicyCreated.Unix(), Updated: cert.PolicyUpdated.Unix()}
	return &p
}

// operation returns the request for a version of a certificate for the wire
// (AKV: with these texts; one that is cancelled goes on to be in progress).
func (c *call) operation(r latchkey.CertificateOperation) operation {
	o := operation{
		ID: c.base() + "/certificates/" + r.Name + "/pending", Issuer: r.Issuer, CSR: r.CSR, Cancelled: r.Cancelled,
		Status: "inProgress", RequestID: r.RequestID, PreserveOrder: r.PreserveOrder,
	}
	switch {
	case r.Completed:
		o.Status, o.Target = "completed", c.base()+"/certificates/"+r.Name
	case r.Issuer.Name != nil && strings.EqualFold(*r.Issuer.Name, latchkey.IssuerUnknown):
		o.Details = "Pending certificate created. Please Perform Merge to complete the request."
	default:
		o.Details = "Pending certificate created. Certificate request is in progress. This may take some time based on the issuer provider. Please check again later."
	}
	return o
}

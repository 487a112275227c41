package web

import (
	"context"
	"crypto/sha1" // thumbprints are SHA-1, whoever shows them
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"latchkey.dev/internal/broker"
	"latchkey.dev/latchkey"
)

func (p *Pages) vaultCertificateRoutes() {
	p.signedIn("GET /vaults/{vault}/certificates", p.vaultCertificatesPage)
	p.signedIn("GET /vaults/{vault}/new-certificate", p.newCertificatePage)
	p.signedIn("POST /vaults/{vault}/new-certificate", p.createCertificate)
	p.signedIn("GET /vaults/{vault}/import-certificate", p.importCertificatePage)
	p.signedIn("POST /vaults/{vault}/import-certificate", p.importCertificate)
	p.signedIn("GET /vaults/{vault}/certificates/{name}", p.certificatePage)
	p.signedIn("POST /vaults/{vault}/certificates/{name}/renew", p.renewCertificate)
	p.signedIn("GET /vaults/{vault}/certificates/{name}/merge", p.mergeCertificatePage)
	p.signedIn("POST /vaults/{vault}/certificates/{name}/merge", p.mergeCertificate)
	p.signedIn("POST /vaults/{vault}/certificates/{name}/cancel", p.cancelCertificate)
	p.signedIn("POST /vaults/{vault}/certificates/{name}/{version}/enabled", p.enableCertificate)
}

type vaultCertificatesPage struct {
	vaultShell
	List *list
	Rows []certificateRow
}

// A certificateRow is a version of a certificate with what is said of it.
type certificateRow struct {
	latchkey.VaultCertificate
	State, Subject, Issuer, Thumbprint string
}

func (s vaultShell) certificateRow(c latchkey.VaultCertificate) certificateRow {
	row := certificateRow{VaultCertificate: c, State: versionState(c.Enabled, &c.Expires, s.now)}
	leaf, err := x509.ParseCertificate(c.Leaf)
	if err != nil { // it is pending for the first time
		row.State = "pending"
		if c.Policy.X509 != nil && c.Policy.X509.Subject != nil {
			row.Subject = *c.Policy.X509.Subject
		}
		return row
	}
	row.Subject, row.Issuer = leaf.Subject.String(), leaf.Issuer.String()
	row.Thumbprint = fmt.Sprintf("%X", sha1.Sum(c.Leaf))
	return row
}

// vaultCertificatesPage lists the certificates of a vault.
func (p *Pages) vaultCertificatesPage(v *view) error {
	s, err := v.vaultShell("", "certificates")
	if err != nil {
		return err
	}
	page := vaultCertificatesPage{vaultShell: s, List: v.list("vault-certificates", []column{
		{Key: "name"}, {Key: "state"}, {Key: "subject"}, {Key: "expires"}, {Key: "thumbprint", Hidden: true}, {Key: "modified"},
	})}
	if s.May.Certificates {
		rows, err := p.b.Certificates(v.r.Context(), v.who, s.Vault.Name, broker.CertificateList{Pending: true}, latchkey.PageOptions{After: page.List.after, Limit: rowsOfPage})
		if err != nil {
			return err
		}
		for _, c := range rows.Items {
			page.Rows = append(page.Rows, s.certificateRow(c))
		}
		page.List.more(rows.Next)
	}
	return v.show("vault-certificates", page)
}

type certificatePage struct {
	vaultShell
	Name      string
	Now       certificateRow
	Versions  []certificateRow // newest first
	Hidden    int
	Policy    []option // name and value
	Names     []string
	Operation *latchkey.CertificateOperation // that is under way, or was last
	Pending   bool
	CSR       string
	Uses      []latchkey.SecretUse
	Can       struct{ Create, Update, Delete, Secret bool }
}

// certificatePage shows a certificate, its policy, its versions and what is under way.
func (p *Pages) certificatePage(v *view) error {
	ctx, name := v.r.Context(), v.r.PathValue("name")
	s, err := v.vaultShell(name, "")
	if err != nil {
		return err
	}
	s.Crumbs = append(s.Crumbs, option{s.At("certificates"), v.t("vaults.certificates")})
	page := certificatePage{vaultShell: s, Name: name}
	if !s.access.onCertificate(name, latchkey.VaultReadCertificate) {
		return &latchkey.Error{Kind: latchkey.ErrNotFound, Code: "not-found", Msg: v.t("vaults.certificate-hidden")}
	}
	c, err := p.b.Certificate(ctx, v.who, s.Vault.Name, name, "")
	if err != nil {
		return err
	}
	page.Now = s.certificateRow(c)
	if len(c.Leaf) > 0 {
		versions, before, err := newest(ctx, func(ctx context.Context, o latchkey.PageOptions) (latchkey.Page[latchkey.VaultCertificate], error) {
			return p.b.CertificateVersions(ctx, v.who, s.Vault.Name, name, false, o)
		})
		if err != nil {
			return err
		}
		page.Hidden = before
		for _, x := range versions {
			page.Versions = append(page.Versions, s.certificateRow(x))
		}
	}
	page.Policy, page.Names = v.policy(c.Policy)
	switch r, err := p.b.CertificateOperation(ctx, v.who, s.Vault.Name, name); {
	case err == nil:
		page.Operation, page.Pending = &r, !r.Completed && !r.Cancelled
		page.CSR = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: r.CSR}))
	case !errors.Is(err, latchkey.ErrNotFound):
		return err
	}
	uses, err := p.b.SecretUses(ctx, v.who, s.Vault.Name, name)
	if err != nil {
		return err
	}
	page.Uses = ofVault(uses, s.Vault)
	page.Can.Create, page.Can.Update = s.access.onCertificate(name, latchkey.VaultCreateCertificate), s.access.onCertificate(name, latchkey.VaultUpdateCertificate)
	page.Can.Delete, page.Can.Secret = s.access.onCertificate(name, latchkey.VaultDeleteCertificate), s.access.onSecret(name, latchkey.VaultReadMetadata)
	return v.show("vault-certificate", page)
}

// policy returns what a policy says, line by line, and the alternative names in it.
func (v *view) policy(p latchkey.CertificatePolicy) (lines []option, names []string) {
	p.Fill()
	add := func(key, value string) {
		if value != "" {
			lines = append(lines, option{v.t("vaults.policy-" + key), value})
		}
	}
	add("issuer", *p.Issuer.Name)
	add("subject", *p.X509.Subject)
	add("months", v.t("vaults.months", *p.X509.Months))
	key := *p.Key.Type
	if p.Key.Size != nil {
		key += " " + strconv.Itoa(*p.Key.Size)
	}
	if p.Key.Curve != nil {
		key += " " + *p.Key.Curve
	}
	add("key", key)
	exportable := v.t("vaults.key-stays")
	if p.Exportable() {
		exportable = v.t("vaults.key-leaves")
	}
	add("exportable", exportable)
	add("content-type", *p.Secret.ContentType)
	for _, a := range p.Lifetime {
		if a.Trigger == nil || a.Action == nil || a.Action.Type == nil {
			continue
		}
		what := v.t("vaults.lifetime-email")
		if a.Is(latchkey.AutoRenew) {
			what = v.t("vaults.lifetime-renew")
		}
		if a.Trigger.Percentage != nil {
			add("lifetime", v.t("vaults.lifetime-percentage", what, *a.Trigger.Percentage))
		} else {
			add("lifetime", v.t("vaults.lifetime-days", what, *a.Trigger.DaysBefore))
		}
	}
	if n := p.X509.Names; n != nil {
		names = slices.Concat(n.DNS, n.Emails, n.UPNs, n.IPs, n.URIs)
	}
	return lines, names
}

type certificateForm struct {
	vaultShell
	Form          form
	Keys, Formats []option
	Issuers       []option
}

func (p *Pages) newCertificatePage(v *view) error {
	f := v.filled()
	f.set("issuer", latchkey.IssuerSelf)
	f.set("months", "12")
	f.set("exportable", "true")
	f.set("renew", "true")
	return v.showCertificateForm(http.StatusOK, f)
}

func (v *view) showCertificateForm(status int, f form) error {
	s, err := v.vaultShell(v.t("vaults.new-certificate"), "")
	if err != nil {
		return err
	}
	page := certificateForm{vaultShell: s, Form: f}
	page.Issuers = options(latchkey.IssuerSelf, v.t("vaults.issuer-self"), latchkey.IssuerUnknown, v.t("vaults.issuer-unknown"))
	page.Keys = options("RSA 2048", "RSA 2048", "RSA 3072", "RSA 3072", "RSA 4096", "RSA 4096", "EC P-256", "EC P-256", "EC P-384", "EC P-384", "EC P-521", "EC P-521")
	page.Formats = options(latchkey.ContentTypePFX, "PFX", latchkey.ContentTypePEM, "PEM")
	return v.showWith(status, "vault-certificate-new", page)
}

// lines returns the lines of a field that are not empty.
func (v *view) lines(name string) (all []string) {
	for line := range strings.SplitSeq(v.text(name), "\n") {
		if line = strings.TrimSpace(line); line != "" {
			all = append(all, line)
		}
	}
	return all
}

// createCertificate makes a certificate, or a request for one, by the policy in the form.
func (p *Pages) createCertificate(v *view) error {
	f := v.filled()
	name := v.value("name")
	months, err := strconv.Atoi(v.value("months"))
	if err != nil {
		f.wrong("months", v.t("vaults.months-wrong"))
	}
	if err := latchkey.CheckSecretName(name); err != nil {
		f.wrong("name", err.Error())
	}
	if v.value("subject") == "" {
		f.wrong("subject", v.t("vaults.subject-missing"))
	}
	if s, err := v.vaultShell("", ""); err != nil {
		return err
	} else if f.Errors["name"] == "" && s.access.onCertificate(name, latchkey.VaultReadCertificate) {
		// A certificate of this name gets a new version only by intent.
		switch _, err := p.b.Certificate(v.r.Context(), v.who, s.Vault.Name, name, ""); {
		case err == nil:
			f.wrong("name", v.t("vaults.certificate-taken"))
		case !errors.Is(err, latchkey.ErrNotFound):
			return err
		}
	}
	if len(f.Errors) > 0 {
		return v.showCertificateForm(http.StatusUnprocessableEntity, f)
	}
	kind, size, _ := strings.Cut(v.value("key"), " ")
	key := &latchkey.CertificateKey{Type: &kind, Exportable: new(v.value("exportable") == "true")}
	if n, err := strconv.Atoi(size); err == nil {
		key.Size = &n
	} else {
		key.Curve = &size
	}
	policy := latchkey.CertificatePolicy{
		Key: key, Secret: &latchkey.CertificateSecret{ContentType: new(v.value("format"))}, Issuer: &latchkey.CertificateIssuer{Name: new(v.value("issuer"))},
		X509: &latchkey.CertificateX509{Subject: new(v.value("subject")), Months: &months, Names: &latchkey.CertificateNames{DNS: v.lines("dns"), Emails: v.lines("emails"), UPNs: v.lines("upns")}},
	}
	if v.value("renew") != "true" {
		policy.Lifetime = []latchkey.LifetimeAction{}
	}
	if _, err := p.b.CreateCertificate(v.r.Context(), v.who, v.r.PathValue("vault"), name, broker.CertificateCreate{Policy: &policy}); err != nil {
		status, err := v.refused(&f, err, "policy.x509_props.subject", "subject", "policy.x509_props.sans", "dns", "policy.x509_props.validity_months", "months",
			"policy.key_props.key_size", "key", "policy.key_props.crv", "key", "policy.key_props.kty", "key", "policy.issuer.name", "issuer", "policy.secret_props.contentType", "format")
		if err != nil {
			return err
		}
		return v.showCertificateForm(status, f)
	}
	return v.redirect(joinPath("/vaults", v.r.PathValue("vault"), "certificates", name), "vaults.certificate-made", name)
}

func (p *Pages) importCertificatePage(v *view) error {
	return v.showImportForm(http.StatusOK, v.filled("pem", "pwd"))
}

func (v *view) showImportForm(status int, f form) error {
	s, err := v.vaultShell(v.t("vaults.import"), "")
	if err != nil {
		return err
	}
	return v.showWith(status, "vault-certificate-import", certificateForm{vaultShell: s, Form: f})
}

// importCertificate stores a certificate that was made elsewhere, with its key: from a
// file, or PEM that was pasted.
func (p *Pages) importCertificate(v *view) error {
	if err := v.r.ParseMultipartForm(maxForm); err != nil && !errors.Is(err, http.ErrNotMultipart) {
		if tooLarge := new(http.MaxBytesError); errors.As(err, &tooLarge) {
			return &latchkey.Error{Kind: latchkey.ErrInvalid, Code: "too-large", Msg: fmt.Sprintf("the form must be at most %d bytes", tooLarge.Limit)}
		}
		return &latchkey.Error{Kind: latchkey.ErrInvalid, Code: "malformed", Msg: "the form cannot be read"}
	}
	f := v.filled("pem", "pwd")
	name := v.value("name")
	if err := latchkey.CheckSecretName(name); err != nil {
		f.wrong("name", err.Error())
	}
	in := broker.CertificateImport{Value: v.secret("pem"), Password: v.secret("pwd")}
	switch file, _, err := v.r.FormFile("file"); {
	case err == nil:
		b, err := io.ReadAll(io.LimitReader(file, maxForm))
		file.Close()
		if err != nil {
			return err
		}
		if latchkey.IsPEM(string(b)) {
			in.Value = latchkey.NewSecret(string(b))
		} else if len(b) > 0 {
			in.Value = latchkey.NewSecret(base64.StdEncoding.EncodeToString(b))
		}
		clear(b)
	case !errors.Is(err, http.ErrMissingFile) && !errors.Is(err, http.ErrNotMultipart):
		f.wrong("file", v.t("vaults.file-wrong"))
	}
	if in.Value.IsZero() && f.Errors["file"] == "" {
		f.wrong("file", v.t("vaults.file-missing"))
	}
	if v.value("stays") == "true" {
		in.Policy = &latchkey.CertificatePolicy{Key: &latchkey.CertificateKey{Exportable: new(false)}}
	}
	if len(f.Errors) > 0 {
		return v.showImportForm(http.StatusUnprocessableEntity, f)
	}
	if _, err := p.b.ImportCertificate(v.r.Context(), v.who, v.r.PathValue("vault"), name, in); err != nil {
		status, err := v.refused(&f, err, "value", "file")
		if err != nil {
			return err
		}
		return v.showImportForm(status, f)
	}
	return v.redirect(joinPath("/vaults", v.r.PathValue("vault"), "certificates", name), "vaults.certificate-imported", name)
}

// renewCertificate makes the next version of a certificate by its policy.
func (p *Pages) renewCertificate(v *view) error {
	name := v.r.PathValue("name")
	if _, err := p.b.CreateCertificate(v.r.Context(), v.who, v.r.PathValue("vault"), name, broker.CertificateCreate{}); err != nil {
		return err
	}
	return v.redirect(joinPath("/vaults", v.r.PathValue("vault"), "certificates", name), "vaults.certificate-renewed", name)
}

func (p *Pages) mergeCertificatePage(v *view) error {
	return v.showMergeForm(http.StatusOK, v.filled())
}

func (v *view) showMergeForm(status int, f form) error {
	s, err := v.vaultShell(v.t("vaults.merge"), "")
	if err != nil {
		return err
	}
	name := v.r.PathValue("name")
	s.Crumbs = append(s.Crumbs, option{s.At("certificates", name), name})
	return v.showWith(status, "vault-certificate-merge", secretForm{vaultShell: s, Form: f, Name: name, Action: s.At("certificates", name, "merge")})
}

// mergeCertificate completes a pending certificate with what somebody signed.
func (p *Pages) mergeCertificate(v *view) error {
	f := v.filled()
	name := v.r.PathValue("name")
	var der [][]byte
	for rest := []byte(v.text("chain")); len(der) <= latchkey.MaxCertificates; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type == "CERTIFICATE" {
			der = append(der, block.Bytes)
		}
	}
	if len(der) == 0 {
		f.wrong("chain", v.t("vaults.chain-wrong"))
		return v.showMergeForm(http.StatusUnprocessableEntity, f)
	}
	if _, err := p.b.MergeCertificate(v.r.Context(), v.who, v.r.PathValue("vault"), name, der, nil, nil); err != nil {
		status, err := v.refused(&f, err, "x5c", "chain")
		if err != nil {
			return err
		}
		return v.showMergeForm(status, f)
	}
	return v.redirect(joinPath("/vaults", v.r.PathValue("vault"), "certificates", name), "vaults.merged", name)
}

// cancelCertificate gives up the pending version of a certificate.
func (p *Pages) cancelCertificate(v *view) error {
	name := v.r.PathValue("name")
	if _, err := p.b.CancelCertificate(v.r.Context(), v.who, v.r.PathValue("vault"), name); err != nil {
		return err
	}
	return v.redirect(joinPath("/vaults", v.r.PathValue("vault"), "certificates", name), "vaults.cancelled")
}

// enableCertificate enables or disables a version of a certificate, with its secret.
func (p *Pages) enableCertificate(v *view) error {
	enabled := v.value("enabled") == "true"
	name := v.r.PathValue("name")
	if _, err := p.b.UpdateCertificate(v.r.Context(), v.who, v.r.PathValue("vault"), name, v.r.PathValue("version"), broker.CertificateUpdate{Enabled: &enabled}); err != nil {
		return err
	}
	said := "vaults.version-disabled"
	if enabled {
		said = "vaults.version-enabled"
	}
	return v.redirect(joinPath("/vaults", v.r.PathValue("vault"), "certificates", name), said)
}

// Expiry returns when a version ends, or nothing while there is none.
func (r certificateRow) Expiry() *time.Time {
	if r.Expires.IsZero() {
		return nil
	}
	return &r.Expires
}

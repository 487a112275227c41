package latchkey

import (
	"encoding/base64"
	"errors"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// Content types of a certificate's secret (AKV).
const (
	ContentTypePFX = "application/x-pkcs12"   // a PFX without a password, in base64
	ContentTypePEM = "application/x-pem-file" // PKCS #8 and certificates in PEM
)

// Names of issuers that need not be registered (AKV). Their case does not matter.
const (
	IssuerSelf    = "Self"    // the certificate signs itself
	IssuerUnknown = "Unknown" // somebody signs the request and merges the certificate
)

// A CertificatePolicy says how the next version of a certificate of an embedded
// vault is made. It is written as Key Vault does, and comes back as it was given:
// what was not given stays nil or is a default.
type CertificatePolicy struct {
	Key      *CertificateKey              `json:"key_props,omitempty"`
	Secret   *CertificateSecret           `json:"secret_props,omitempty"`
	X509     *CertificateX509             `json:"x509_props,omitempty"`
	Lifetime []LifetimeAction             `json:"lifetime_actions"` // empty: none; nil: not given
	Issuer   *CertificateIssuer           `json:"issuer,omitempty"`
	ID       string                       `json:"id,omitempty"`         // in answers
	Attrs    *CertificatePolicyAttributes `json:"attributes,omitempty"` // in answers
}

// CertificatePolicyAttributes are what is known about a policy itself.
type CertificatePolicyAttributes struct {
	Enabled bool  `json:"enabled"`
	Created int64 `json:"created"` // Unix seconds
	Updated int64 `json:"updated"`
}

// A CertificateKey is the key of a certificate.
type CertificateKey struct {
	Exportable *bool   `json:"exportable,omitempty"`
	Type       *string `json:"kty,omitempty"`
	Size       *int    `json:"key_size,omitempty"`
	Reuse      *bool   `json:"reuse_key,omitempty"`
	Curve      *string `json:"crv,omitempty"`
}

// A CertificateSecret is the form of a certificate's secret.
type CertificateSecret struct {
	ContentType *string `json:"contentType,omitempty"`
}

// A CertificateX509 is what a certificate says.
type CertificateX509 struct {
	Subject          *string                      `json:"subject,omitempty"`
	Names            *CertificateNames            `json:"sans,omitempty"`
	ExtendedKeyUsage []string                     `json:"ekus"`      // as lifetime_actions
	KeyUsage         []string                     `json:"key_usage"` // as lifetime_actions
	Months           *int                         `json:"validity_months,omitempty"`
	BasicConstraints *CertificateBasicConstraints `json:"basic_constraints,omitempty"`
}

// CertificateBasicConstraints say whether a certificate may sign others.
type CertificateBasicConstraints struct {
	CA bool `json:"ca"`
}

// CertificateNames are the alternative names of a subject.
type CertificateNames struct {
	DNS    []string `json:"dns_names,omitempty"`
	Emails []string `json:"emails,omitempty"`
	UPNs   []string `json:"upns,omitempty"`
	IPs    []string `json:"ipAddresses,omitempty"`
	URIs   []string `json:"uris,omitempty"`
}

func (n *CertificateNames) all() []string {
	if n == nil {
		return nil
	}
	return slices.Concat(n.DNS, n.Emails, n.UPNs, n.IPs, n.URIs)
}

// A LifetimeAction is done when its trigger is reached in the life of the newest
// version.
type LifetimeAction struct {
	Trigger *LifetimeTrigger `json:"trigger,omitempty"`
	Action  *LifetimeDo      `json:"action,omitempty"`
}

// A LifetimeTrigger is one of a part of the life and days before its end.
type LifetimeTrigger struct {
	Percentage *int `json:"lifetime_percentage,omitempty"`
	DaysBefore *int `json:"days_before_expiry,omitempty"`
}

// A LifetimeDo says what to do.
type LifetimeDo struct {
	Type *string `json:"action_type,omitempty"`
}

// What lifetime actions do (AKV).
const (
	AutoRenew     = "AutoRenew"
	EmailContacts = "EmailContacts"
)

// At returns when the action is due for a certificate with this period.
func (a LifetimeAction) At(notBefore, expires time.Time) time.Time {
	if a.Trigger.Percentage != nil {
		return notBefore.Add(expires.Sub(notBefore) / 100 * time.Duration(*a.Trigger.Percentage))
	}
	return expires.AddDate(0, 0, -*a.Trigger.DaysBefore)
}

// Is reports whether the action is of a type, whatever its case.
func (a LifetimeAction) Is(actionType string) bool {
	return strings.EqualFold(*a.Action.Type, actionType)
}

// A CertificateIssuer names who issues a certificate.
type CertificateIssuer struct {
	Name         *string `json:"name,omitempty"`
	Type         *string `json:"cty,omitempty"`
	Transparency *bool   `json:"cert_transparency,omitempty"`
}

// IssuedBy reports whether the policy names an issuer, whatever the case.
func (p *CertificatePolicy) IssuedBy(name string) bool {
	return p.Issuer != nil && p.Issuer.Name != nil && strings.EqualFold(*p.Issuer.Name, name)
}

// Exportable reports whether the policy lets the private key leave the vault.
func (p *CertificatePolicy) Exportable() bool {
	return p.Key == nil || p.Key.Exportable == nil || *p.Key.Exportable
}

// Fill sets what is nil to the defaults (AKV).
func (p *CertificatePolicy) Fill() {
	p.ID, p.Attrs = "", nil
	if p.Key == nil {
		p.Key = &CertificateKey{Reuse: new(bool)}
	}
	k := p.Key
	if k.Exportable == nil {
		k.Exportable = new(true)
	}
	if k.Type == nil {
		k.Type = new("RSA")
		if k.Curve != nil {
			k.Type = new("EC")
		}
	}
	if k.Size == nil && strings.EqualFold(*k.Type, "RSA") {
		k.Size = new(2048)
	}
	if k.Curve == nil && strings.EqualFold(*k.Type, "EC") {
		k.Curve = new("P-256")
	}
	if k.Reuse == nil {
		k.Reuse = new(bool)
	}
	if p.Secret == nil || p.Secret.ContentType == nil {
		p.Secret = &CertificateSecret{new(ContentTypePFX)}
	}
	if p.X509 == nil {
		p.X509 = &CertificateX509{}
	}
	x := p.X509
	if x.Subject == nil {
		x.Subject = new("")
	}
	if x.ExtendedKeyUsage == nil {
		x.ExtendedKeyUsage = []string{"1.3.6.1.5.5.7.3.1", "1.3.6.1.5.5.7.3.2"}
	}
	if x.KeyUsage == nil {
		x.KeyUsage = []string{"digitalSignature", "keyEncipherment"}
	}
	if x.Months == nil {
		x.Months = new(12)
	}
	if x.BasicConstraints == nil {
		x.BasicConstraints = &CertificateBasicConstraints{}
	}
	if p.Lifetime == nil {
		action := LifetimeAction{&LifetimeTrigger{Percentage: new(80)}, &LifetimeDo{new(AutoRenew)}}
		if !p.IssuedBy(IssuerSelf) {
			action.Action.Type = new(EmailContacts)
		}
		p.Lifetime = []LifetimeAction{action}
	}
	if p.Issuer == nil || p.Issuer.Name == nil {
		p.Issuer = &CertificateIssuer{Name: new(IssuerUnknown)}
	}
}

// Merge replaces the parts of the policy that are in u.
func (p *CertificatePolicy) Merge(u CertificatePolicy) {
	if u.Key != nil {
		p.Key = u.Key
	}
	if u.Secret != nil {
		p.Secret = u.Secret
	}
	if u.X509 != nil {
		p.X509 = u.X509
	}
	if u.Lifetime != nil {
		p.Lifetime = u.Lifetime
	}
	if u.Issuer != nil {
		p.Issuer = u.Issuer
	}
}

// Limits of a policy.
const (
	MaxSubject          = 1000 // characters
	MaxCertificateName  = 255  // characters of one alternative name
	MaxCertificateNames = 100
	MaxMonths           = 1200
	maxUsages           = 30
)

// KeyUsages are the names of key usages (AKV), in the order of their bits in RFC
// 5280, section 4.2.1.3.
var KeyUsages = []string{
	"digitalSignature", "nonRepudiation", "keyEncipherment", "dataEncipherment", "keyAgreement",
	"keyCertSign", "cRLSign", "encipherOnly", "decipherOnly",
}

// Curves are the elliptic curves that a policy may name. Certificates cannot be
// made with the last.
var Curves = []string{"P-256", "P-384", "P-521", "P-256K"}

// Validate returns every fault of a policy that is filled in.
func (p *CertificatePolicy) Validate() error {
	var f faults
	switch k := p.Key; {
	case strings.EqualFold(*k.Type, "RSA") || strings.EqualFold(*k.Type, "RSA-HSM"):
		if k.Size != nil && !slices.Contains([]int{2048, 3072, 4096}, *k.Size) {
			f.add("policy.key_props.key_size", "must be 2048, 3072 or 4096")
		}
		if k.Curve != nil {
			f.add("policy.key_props.crv", "is for keys of the type EC")
		}
	case strings.EqualFold(*k.Type, "EC") || strings.EqualFold(*k.Type, "EC-HSM"):
		if k.Curve == nil || !slices.Contains(Curves, *k.Curve) {
			f.add("policy.key_props.crv", "must be one of %s", strings.Join(Curves, ", "))
		}
	default:
		f.add("policy.key_props.kty", "must be RSA or EC")
	}
	if t := *p.Secret.ContentType; t != ContentTypePFX && t != ContentTypePEM {
		f.add("policy.secret_props.contentType", "must be %s or %s", ContentTypePFX, ContentTypePEM)
	}
	x := p.X509
	f.check("policy.x509_props.subject", checkText(*x.Subject, MaxSubject))
	names := x.Names.all()
	if len(names) > MaxCertificateNames {
		f.add("policy.x509_props.sans", "must be at most %d names", MaxCertificateNames)
	}
	for _, n := range names {
		if n == "" || utf8.RuneCountInString(n) > MaxCertificateName || checkText(n, MaxCertificateName) != nil {
			f.add("policy.x509_props.sans", "names must be 1 to %d characters", MaxCertificateName)
			break
		}
	}
	if x.Names != nil {
		for _, s := range x.Names.IPs {
			if net.ParseIP(s) == nil {
				f.add("policy.x509_props.sans.ipAddresses", "must be IP addresses")
				break
			}
		}
		for _, s := range x.Names.URIs {
			if u, err := url.Parse(s); err != nil || u.Scheme == "" {
				f.add("policy.x509_props.sans.uris", "must be absolute URIs")
				break
			}
		}
		for _, s := range slices.Concat(x.Names.DNS, x.Names.Emails, x.Names.URIs) {
			if !ascii(s) {
				f.add("policy.x509_props.sans", "must be ASCII, except for upns")
				break
			}
		}
	}
	if len(x.ExtendedKeyUsage) > maxUsages || slices.ContainsFunc(x.ExtendedKeyUsage, func(s string) bool { return !isOID(s) }) {
		f.add("policy.x509_props.ekus", "must be at most %d object identifiers such as 1.3.6.1.5.5.7.3.1", maxUsages)
	}
	if len(x.KeyUsage) > maxUsages || slices.ContainsFunc(x.KeyUsage, func(s string) bool { return !slices.Contains(KeyUsages, s) }) {
		f.add("policy.x509_props.key_usage", "must be of %s", strings.Join(KeyUsages, ", "))
	}
	if *x.Months < 1 || *x.Months > MaxMonths {
		f.add("policy.x509_props.validity_months", "must be from 1 to %d", MaxMonths)
	}
	f.lifetime(p)
	if n := *p.Issuer.Name; CheckSecretName(n) != nil {
		f.add("policy.issuer.name", "must be Self, Unknown or the name of an issuer")
	}
	for _, s := range []*string{p.Issuer.Type} {
		if s != nil {
			f.check("policy.issuer.cty", checkText(*s, MaxName))
		}
	}
	return f.err()
}

// lifetime adds the faults of a policy's lifetime actions.
func (f *faults) lifetime(p *CertificatePolicy) {
	seen := map[string]bool{}
	for _, a := range p.Lifetime {
		if a.Trigger == nil || a.Action == nil || a.Action.Type == nil {
			f.add("policy.lifetime_actions", "must have a trigger and an action each")
			return
		}
		kind := strings.ToLower(*a.Action.Type)
		if !a.Is(AutoRenew) && !a.Is(EmailContacts) || seen[kind] {
			f.add("policy.lifetime_actions.action.action_type", "must be AutoRenew or EmailContacts, each at most once")
		}
		seen[kind] = true
		switch t := a.Trigger; {
		case (t.Percentage == nil) == (t.DaysBefore == nil):
			f.add("policy.lifetime_actions.trigger", "must be one of lifetime_percentage and days_before_expiry")
		case t.Percentage != nil && (*t.Percentage < 1 || *t.Percentage > 99):
			f.add("policy.lifetime_actions.trigger.lifetime_percentage", "must be from 1 to 99")
		case t.DaysBefore != nil && (*t.DaysBefore < 1 || *t.DaysBefore > 27**p.X509.Months):
			f.add("policy.lifetime_actions.trigger.days_before_expiry", "must be from 1 to 27 times the months of validity")
		}
	}
}

func ascii(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r >= utf8.RuneSelf })
}

// isOID reports whether s is an object identifier in dots.
func isOID(s string) bool {
	arcs := strings.Split(s, ".")
	if len(s) > MaxName || len(arcs) < 2 || arcs[0] != "0" && arcs[0] != "1" && arcs[0] != "2" {
		return false
	}
	for i, a := range arcs {
		if a == "" || len(a) > 9 || strings.Trim(a, "0123456789") != "" || a[0] == '0' && a != "0" || i == 1 && arcs[0] != "2" && len(a) > 1 && a >= "40" {
			return false
		}
	}
	return true
}

// A VaultCertificate is one version of a certificate of an embedded vault, or
// one that is pending for the first time, without DER then.
type VaultCertificate struct {
	Name          string
	Version       string // 32 lower-case hexadecimal digits
	Policy        CertificatePolicy
	PolicyCreated time.Time
	PolicyUpdated time.Time
	Leaf          []byte // DER
	Enabled       bool
	NotBefore     time.Time
	Expires       time.Time
	Tags          map[string]string
	PreserveOrder bool // keep the order of the certificates as it was given
	Pending       bool // an operation on the certificate is there
	CreatedAt     time.Time
	UpdatedAt     time.Time
	RetentionDays int

	// Of a deleted certificate.
	DeletedAt *time.Time
	PurgeAt   *time.Time
}

// A CertificateOperation is a request for a version of a certificate.
type CertificateOperation struct {
	Name          string
	RequestID     string
	Issuer        CertificateIssuer
	CSR           []byte // DER
	Completed     bool
	Cancelled     bool // somebody asked that it be given up
	PreserveOrder bool
}

// A VaultIssuer is an issuer of certificates that an embedded vault keeps for
// its clients. Embedded vaults ask no issuer for certificates.
type VaultIssuer struct {
	Name         string
	Provider     string
	Account      string
	Organization IssuerOrganization
	Enabled      bool
	CreatedAt    time.Time
	UpdatedAt    time.Time
}

// An IssuerOrganization is who an issuer knows a vault's owner as. It is written
// as Key Vault does.
type IssuerOrganization struct {
	ID     string        `json:"id,omitempty"`
	Admins []IssuerAdmin `json:"admin_details,omitempty"`
}

// An IssuerAdmin is a person of an organization.
type IssuerAdmin struct {
	FirstName string `json:"first_name,omitempty"`
	LastName  string `json:"last_name,omitempty"`
	Email     string `json:"email,omitempty"`
	Phone     string `json:"phone,omitempty"`
}

// A CertificateContact is who is told about a vault's certificates. It is
// written as Key Vault does.
type CertificateContact struct {
	Email string `json:"email,omitempty"`
	Name  string `json:"name,omitempty"`
	Phone string `json:"phone,omitempty"`
}

// maxPeople bounds the contacts of a vault and the admins of an issuer.
const maxPeople = 50

// CheckContacts returns every fault of a vault's contacts.
func CheckContacts(contacts []CertificateContact) error {
	var f faults
	if len(contacts) == 0 || len(contacts) > maxPeople {
		f.add("contacts", "must be 1 to %d", maxPeople)
	}
	for _, c := range contacts {
		if c.Email == "" || checkLine(c.Email, c.Name, c.Phone) != nil {
			f.add("contacts", "must have an email each, and texts of at most %d characters", MaxCertificateName)
			break
		}
	}
	return f.err()
}

// Validate returns every fault.
func (i *VaultIssuer) Validate() error {
	var f faults
	if i.Provider == "" || checkLine(i.Provider) != nil {
		f.add("provider", "must be 1 to %d characters", MaxCertificateName)
	}
	f.check("credentials.account_id", checkLine(i.Account))
	f.check("org_details.id", checkLine(i.Organization.ID))
	if len(i.Organization.Admins) > maxPeople {
		f.add("org_details.admin_details", "must be at most %d", maxPeople)
	}
	for _, a := range i.Organization.Admins {
		if err := checkLine(a.FirstName, a.LastName, a.Email, a.Phone); err != nil {
			f.check("org_details.admin_details", err)
			break
		}
	}
	return f.err()
}

// checkLine returns what is wrong with short texts, which may be empty.
func checkLine(texts ...string) error {
	for _, s := range texts {
		if strings.ContainsAny(s, "\r\n\t") {
			return errors.New("must not contain control characters")
		}
		if err := checkText(s, MaxCertificateName); err != nil {
			return err
		}
	}
	return nil
}

// CheckTags returns every fault of the tags of a vault's object.
func CheckTags(tags map[string]string) error {
	a := SecretAttributes{Tags: tags}
	return a.Validate()
}

// MaxCertificates bounds the certificates of one chain.
const MaxCertificates = 20

// CheckCertificateValue returns what is wrong with the text of an import before
// it is decoded.
func CheckCertificateValue(v Secret) error {
	s := v.Reveal()
	switch {
	case s == "":
		return errors.New("must be given")
	case IsPEM(s):
		return nil
	}
	if _, err := base64.StdEncoding.DecodeString(s); err != nil {
		return errors.New("must be a PFX in base64, or PEM")
	}
	return nil
}

// IsPEM reports whether a text looks like PEM.
func IsPEM(s string) bool { return strings.Contains(s, "-----BEGIN ") }

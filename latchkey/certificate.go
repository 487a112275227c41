package latchkey

import (
	"regexp"
	"slices"
	"time"
)

// A CertificateField is a part of a certificate that names somebody, as Microsoft
// Entra's certificate-based authentication calls it.
type CertificateField string

const (
	FieldPrincipalName         CertificateField = "PrincipalName" // the UPN among the subject alternative names
	FieldRFC822Name            CertificateField = "RFC822Name"    // the e-mail address among them
	FieldIssuerAndSubject      CertificateField = "IssuerAndSubject"
	FieldSubject               CertificateField = "Subject"
	FieldSKI                   CertificateField = "SKI" // the subject key identifier
	FieldSHA1PublicKey         CertificateField = "SHA1PublicKey"
	FieldIssuerAndSerialNumber CertificateField = "IssuerAndSerialNumber"
)

// A UserAttribute is an attribute of a user in Microsoft Entra that a field is
// compared with.
type UserAttribute string

const (
	AttributeUPN                UserAttribute = "userPrincipalName"
	AttributeOnPremisesUPN      UserAttribute = "onPremisesUserPrincipalName"
	AttributeCertificateUserIDs UserAttribute = "certificateUserIds"
)

// An Affinity says how tightly a binding ties a certificate to one user.
type Affinity string

const (
	AffinityLow  Affinity = "low"  // by a name that another certificate may have too
	AffinityHigh Affinity = "high" // by what only this key or certificate has
)

// certificateFields are all fields, with their affinity.
var certificateFields = []struct {
	field    CertificateField
	affinity Affinity
}{
	{FieldPrincipalName, AffinityLow}, {FieldRFC822Name, AffinityLow}, {FieldIssuerAndSubject, AffinityLow}, {FieldSubject, AffinityLow},
	{FieldSKI, AffinityHigh}, {FieldSHA1PublicKey, AffinityHigh}, {FieldIssuerAndSerialNumber, AffinityHigh},
}

// CertificateFields are all fields.
func CertificateFields() []CertificateField {
	fields := make([]CertificateField, len(certificateFields))
	for i, f := range certificateFields {
		fields[i] = f.field
	}
	return fields
}

// Affinity returns how tightly a field ties.
func (f CertificateField) Affinity() Affinity {
	for _, known := range certificateFields {
		if known.field == f {
			return known.affinity
		}
	}
	return AffinityLow
}

// Attributes returns the attributes that a field may be compared with, or none if
// there is no such field.
func (f CertificateField) Attributes() []UserAttribute {
	switch {
	case f == FieldPrincipalName || f == FieldRFC822Name:
		return []UserAttribute{AttributeUPN, AttributeOnPremisesUPN, AttributeCertificateUserIDs}
	case slices.Contains(CertificateFields(), f):
		return []UserAttribute{AttributeCertificateUserIDs}
	}
	return nil
}

// A CertificateBinding compares a field of a certificate with an attribute of the
// user who signs in.
type CertificateBinding struct {
	Field     CertificateField `json:"field" enum:"PrincipalName,RFC822Name,IssuerAndSubject,Subject,SKI,SHA1PublicKey,IssuerAndSerialNumber"`
	Attribute UserAttribute    `json:"attribute" enum:"userPrincipalName,onPremisesUserPrincipalName,certificateUserIds"`
}

// CertificateBindings are the username bindings of a tenant, as they are set in
// Microsoft Entra: the first one that fits decides.
type CertificateBindings struct {
	Bindings     []CertificateBinding `json:"bindings" nullable:"false" doc:"in the order of their priority, the first one first"`
	Affinity     Affinity             `json:"affinity" enum:"low,high" doc:"high: only bindings of high affinity count, those by SKI, SHA1PublicKey and IssuerAndSerialNumber"`
	HighIssuers  []string             `json:"highIssuers,omitempty" nullable:"false" doc:"issuers whose certificates need high affinity, such as DC=com,DC=contoso,CN=Contoso CA"`
	HighPolicies []string             `json:"highPolicies,omitempty" nullable:"false" doc:"policy OIDs of certificates that need high affinity, such as 1.3.6.1.4.1.311.21.8.1"`
}

// DefaultCertificateBindings are those of a tenant in which nobody has set any.
func DefaultCertificateBindings() CertificateBindings {
	return CertificateBindings{Bindings: []CertificateBinding{{FieldPrincipalName, AttributeUPN}}, Affinity: AffinityLow}
}

const (
	maxBindings = 20
	maxHigh     = 100
)

var oidRE = regexp.MustCompile(`^[0-2](\.(0|[1-9][0-9]{0,19})){1,31}$`)

// Validate returns every fault, and fills in the default.
func (b *CertificateBindings) Validate() error {
	if b.Affinity == "" {
		b.Affinity = AffinityLow
	}
	var f faults
	if len(b.Bindings) == 0 || len(b.Bindings) > maxBindings {
		f.add("bindings", "must be 1 to %d", maxBindings)
	}
	for i, x := range b.Bindings {
		switch {
		case len(x.Field.Attributes()) == 0:
			f.add("bindings", "fields must be among PrincipalName, RFC822Name, IssuerAndSubject, Subject, SKI, SHA1PublicKey, IssuerAndSerialNumber")
		case !slices.Contains(x.Field.Attributes(), x.Attribute):
			f.add("bindings", "%s can be compared with %s only", x.Field, list(x.Field.Attributes()))
		case slices.Contains(b.Bindings[:i], x):
			f.add("bindings", "must not have the same one twice")
		}
	}
	if b.Affinity != AffinityLow && b.Affinity != AffinityHigh {
		f.add("affinity", "must be low or high")
	}
	if len(b.HighIssuers) > maxHigh || len(b.HighPolicies) > maxHigh {
		f.add("highIssuers", "must be at most %d, and as many policies", maxHigh)
		return f.err()
	}
	for _, issuer := range b.HighIssuers {
		if issuer == "" || checkText(issuer, MaxValue) != nil {
			f.add("highIssuers", "must each be a name such as DC=com,DC=contoso,CN=Contoso CA")
		}
	}
	for _, oid := range b.HighPolicies {
		if !oidRE.MatchString(oid) {
			f.add("highPolicies", "must each be an object identifier such as 1.3.6.1.4.1.311.21.8.1")
		}
	}
	return f.err()
}

func list[S ~string](items []S) (text string) {
	for i, item := range items {
		if i > 0 {
			text += ", "
		}
		text += string(item)
	}
	return text
}

// A CertificateFinding is one thing that the check of a certificate looks at.
type CertificateFinding struct {
	Check   string     `json:"check" doc:"format, validity, chain, key, usage, username, or binding for each of the tenant's username bindings"`
	State   CheckState `json:"state" enum:"passed,failed,unknown"`
	Message string     `json:"message"`
	Remedy  string     `json:"remedy,omitempty"`
}

// A CertificateCheck is what was found when the certificate of a credential was
// last looked at. It informs: whether somebody is let in is for the target.
type CertificateCheck struct {
	State     CheckState `json:"state" enum:"checking,passed,failed,unknown"`
	Message   string     `json:"message,omitempty" doc:"what is wrong, in a sentence"`
	Remedy    string     `json:"remedy,omitempty" doc:"what to do"`
	CheckedAt *time.Time `json:"checkedAt,omitempty"`
	NextAt    *time.Time `json:"nextAt,omitempty" doc:"when it is looked at again"`

	// Of the certificate that was read.
	Version    string     `json:"version,omitempty" doc:"the vault's id of the version that was read"`
	Subject    string     `json:"subject,omitempty"`
	Issuer     string     `json:"issuer,omitempty"`
	Thumbprint string     `json:"thumbprint,omitempty" doc:"SHA-1 of the certificate, as Azure shows it"`
	NotBefore  *time.Time `json:"notBefore,omitempty"`
	ExpiresAt  *time.Time `json:"expiresAt,omitempty"`

	Findings []CertificateFinding `json:"findings,omitempty" nullable:"false"`
}

package certauth

import (
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"latchkey.dev/latchkey"
)

const minRSABits = 2048

// Extended key usages by which somebody may sign in, beside clientAuth and any.
var (
	oidSmartCardLogon = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 20, 2, 2}
	oidPKINITClient   = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 2, 3, 4} // id-pkinit-KPClientAuth, RFC 4556
)

// Refused returns the check of a secret that is no usable certificate.
func Refused(err *Error) latchkey.CertificateCheck {
	return latchkey.CertificateCheck{
		State: latchkey.CheckFailed, Message: err.Msg, Remedy: err.Remedy,
		Findings: []latchkey.CertificateFinding{{Check: "format", State: latchkey.CheckFailed, Message: err.Msg, Remedy: err.Remedy}},
	}
}

// Examine says whether somebody who signs in by a user name could do so with the
// certificate, at a time and under a tenant's bindings. Account is what is known of the
// user besides the name; nil is nothing.
func (c *Certificate) Examine(username string, account *latchkey.CertificateAccount, bindings latchkey.CertificateBindings, now time.Time) latchkey.CertificateCheck {
	notBefore, expires := c.Leaf.NotBefore.UTC(), c.Leaf.NotAfter.UTC()
	r := latchkey.CertificateCheck{
		State: latchkey.CheckPassed, Subject: DN(c.Leaf.RawSubject), Issuer: DN(c.Leaf.RawIssuer), Thumbprint: thumbprint(c.Leaf),
		NotBefore: &notBefore, ExpiresAt: &expires,
	}
	r.Findings = append(r.Findings,
		passed("format", "a PFX file with an exportable private key"),
		c.validity(now), c.chain(now), c.strength(), c.usage())
	r.Findings = append(r.Findings, c.username(username, account, bindings)...)
	for _, f := range r.Findings {
		// What a single binding says counts in the finding "username".
		if f.Check == "binding" || f.State == latchkey.CheckPassed || r.State == latchkey.CheckFailed || r.State == f.State {
			continue
		}
		r.State, r.Message, r.Remedy = f.State, f.Message, f.Remedy
	}
	return r
}

func passed(check, format string, args ...any) latchkey.CertificateFinding {
	return latchkey.CertificateFinding{Check: check, State: latchkey.CheckPassed, Message: fmt.Sprintf(format, args...)}
}

func failed(check, remedy, format string, args ...any) latchkey.CertificateFinding {
	return latchkey.CertificateFinding{Check: check, State: latchkey.CheckFailed, Message: fmt.Sprintf(format, args...), Remedy: remedy}
}

func unknown(check, remedy, format string, args ...any) latchkey.CertificateFinding {
	return latchkey.CertificateFinding{Check: check, State: latchkey.CheckUnknown, Message: fmt.Sprintf(format, args...), Remedy: remedy}
}

const remedyRenew = "make a new version of the certificate in the vault"

// Expired says whether a time is outside the certificate's validity, in a
// sentence; "" is that it is not.
func (c *Certificate) Expired(now time.Time) string {
	switch {
	case now.Before(c.Leaf.NotBefore):
		return "the certificate is not valid before " + c.Leaf.NotBefore.UTC().Format(time.RFC3339)
	case now.After(c.Leaf.NotAfter):
		return "the certificate expired at " + c.Leaf.NotAfter.UTC().Format(time.RFC3339)
	}
	return ""
}

func (c *Certificate) validity(now time.Time) latchkey.CertificateFinding {
	if why := c.Expired(now); why != "" {
		return failed("validity", remedyRenew, "%s", why)
	}
	return passed("validity", "valid until %s", c.Leaf.NotAfter.UTC().Format(time.RFC3339))
}

const (
	remedyIssue  = "have the authority's certificate renewed, and the certificate issued anew"
	remedyImport = "merge or import the certificate with the certificates of those who issued it"
)

// chain looks at everything between the certificate and the last of its issuers that
// the file has.
func (c *Certificate) chain(now time.Time) latchkey.CertificateFinding {
	path := c.path()
	for _, cert := range path {
		if now.After(cert.NotAfter) || now.Before(cert.NotBefore) {
			return failed("chain", remedyIssue, "the certificate of the issuer %s is outside its validity", DN(cert.RawSubject))
		}
		// Authorities may have keys that nobody signs in with.
		if _, why := keyStrength(cert); why != "" && cert.PublicKeyAlgorithm != x509.Ed25519 {
			return failed("chain", remedyIssue, "the certificate of the issuer %s is too weak: %s", DN(cert.RawSubject), why)
		}
	}
	all := append([]*x509.Certificate{c.Leaf}, path...)
	for _, cert := range all {
		// The self-signature of a root proves nothing that anybody relies on.
		if brokenHash(cert.SignatureAlgorithm) && !selfSigned(cert) {
			return failed("chain", "have the certificate issued anew, signed with SHA-256 or better",
				"the certificate of %s is signed by %s with %s, which can be forged", DN(cert.RawSubject), DN(cert.RawIssuer), cert.SignatureAlgorithm)
		}
	}
	last := all[len(all)-1]
	switch {
	case selfSigned(last) && len(path) == 0:
		return passed("chain", "the certificate is signed by itself")
	case selfSigned(last):
		return passed("chain", "complete, up to %s", DN(last.RawSubject))
	}
	if f, gap := c.gap(all); gap {
		return f
	}
	return unknown("chain", "unless that is a root that the target trusts, import the certificate with its whole chain",
		"the certificate of the issuer %s is missing: the file ends at %s", DN(last.RawIssuer), DN(last.RawSubject))
}

// gap returns the finding that the file has certificates which do not go on where the
// path, from the leaf on, ends.
func (c *Certificate) gap(path []*x509.Certificate) (latchkey.CertificateFinding, bool) {
	last := path[len(path)-1]
	var others []string
	for _, cert := range c.Chain {
		if slices.ContainsFunc(path, cert.Equal) {
			continue
		}
		if names(last, cert) {
			if err := link(last, cert); err != nil {
				why := "is not signed by its key"
				if _, ok := errors.AsType[x509.ConstraintViolationError](err); ok {
					why = "cannot be issued by it, since it is not an authority's"
				}
				return failed("chain", remedyImport, "the file has a certificate of the issuer %s, but that of %s %s", DN(cert.RawSubject), DN(last.RawSubject), why), true
			}
		}
		// One that is another way up from the path, such as a cross-certificate, is no gap.
		if !slices.ContainsFunc(path, func(of *x509.Certificate) bool { return names(of, cert) && link(of, cert) == nil }) {
			others = append(others, DN(cert.RawSubject))
		}
	}
	if others == nil {
		return latchkey.CertificateFinding{}, false
	}
	return failed("chain", remedyImport, "the file has other certificates (%s), but not that of the issuer %s, which issued %s",
		strings.Join(others[:min(len(others), maxNamed)], "; "), DN(last.RawIssuer), DN(last.RawSubject)), true
}

// maxNamed bounds the certificates that a finding names.
const maxNamed = 3

// brokenHash reports whether signatures of an algorithm can be forged by collisions,
// or are of no known algorithm.
func brokenHash(a x509.SignatureAlgorithm) bool {
	switch a {
	case x509.UnknownSignatureAlgorithm, x509.MD2WithRSA, x509.MD5WithRSA, x509.SHA1WithRSA, x509.DSAWithSHA1, x509.ECDSAWithSHA1:
		return true
	}
	return false
}

func (c *Certificate) strength() latchkey.CertificateFinding {
	is, why := keyStrength(c.Leaf)
	if why != "" {
		return failed("key", "make a new version of the certificate with an RSA key of 2048 bits or more, or one on the curve P-256, P-384 or P-521", "%s", why)
	}
	return passed("key", "%s", is)
}

// keyStrength returns what key a certificate has, or why it does not do.
func keyStrength(cert *x509.Certificate) (is, why string) {
	switch key := cert.PublicKey.(type) {
	case *rsa.PublicKey:
		if key.N.BitLen() < minRSABits {
			return "", fmt.Sprintf("an RSA key of %d bits is too weak; it must have %d", key.N.BitLen(), minRSABits)
		}
		return fmt.Sprintf("RSA, %d bits", key.N.BitLen()), ""
	case *ecdsa.PublicKey:
		if key.Params().BitSize < 256 {
			return "", fmt.Sprintf("a key on the curve %s is too weak", key.Params().Name)
		}
		return "on the curve " + key.Params().Name, ""
	}
	return "", fmt.Sprintf("keys of the kind %s are not used for signing in", cert.PublicKeyAlgorithm)
}

func (c *Certificate) usage() latchkey.CertificateFinding {
	const remedy = "have the certificate issued for client authentication"
	if c.Leaf.KeyUsage != 0 && c.Leaf.KeyUsage&x509.KeyUsageDigitalSignature == 0 {
		return failed("usage", remedy, "the certificate's key usage does not include digital signatures")
	}
	switch {
	case len(c.Leaf.ExtKeyUsage) == 0 && len(c.Leaf.UnknownExtKeyUsage) == 0:
		return passed("usage", "not limited to any use")
	case slices.Contains(c.Leaf.ExtKeyUsage, x509.ExtKeyUsageClientAuth):
		return passed("usage", "client authentication")
	case slices.Contains(c.Leaf.ExtKeyUsage, x509.ExtKeyUsageAny):
		return passed("usage", "any use")
	case slices.ContainsFunc(c.Leaf.UnknownExtKeyUsage, oidSmartCardLogon.Equal), slices.ContainsFunc(c.Leaf.UnknownExtKeyUsage, oidPKINITClient.Equal):
		return passed("usage", "smart card logon")
	}
	return failed("usage", remedy, "the certificate is not for client authentication or smart card logon")
}

// username says by which binding the certificate would be taken for the user, in
// the finding "username", and then what each binding says.
func (c *Certificate) username(username string, account *latchkey.CertificateAccount, b latchkey.CertificateBindings) []latchkey.CertificateFinding {
	demand := c.demand(b)
	var each []latchkey.CertificateFinding
	add := func(x latchkey.CertificateBinding, state latchkey.CheckState, format string, args ...any) {
		each = append(each, latchkey.CertificateFinding{
			Check: "binding", State: state, Message: fmt.Sprintf("%s to %s: %s", x.Field, x.Attribute, fmt.Sprintf(format, args...)),
		})
	}
	var by *latchkey.CertificateBinding
	var open []string // values that certificateUserIds or the like would have to have
	fits := func(x latchkey.CertificateBinding, format string, args ...any) {
		add(x, latchkey.CheckPassed, format, args...)
		if by == nil {
			by = &x
		}
	}
	for _, x := range b.Bindings {
		values, err := c.values(x.Field)
		switch {
		case demand != "" && x.Field.Affinity() == latchkey.AffinityLow:
			add(x, latchkey.CheckFailed, "does not count, since %s", demand)
		case err != nil:
			add(x, latchkey.CheckFailed, "%v", err)
		case len(values) == 0:
			add(x, latchkey.CheckFailed, "the certificate has none")
		case x.Attribute == latchkey.AttributeUPN && slices.ContainsFunc(values, func(v string) bool { return strings.EqualFold(v, username) }):
			fits(x, "is the user name")
		case x.Attribute == latchkey.AttributeUPN:
			add(x, latchkey.CheckFailed, "%s is not the user name", strings.Join(values, ", "))
		default:
			want := values
			if x.Attribute == latchkey.AttributeCertificateUserIDs {
				want = c.userIDs(x.Field, values)
			}
			either := strings.Join(want, " or ")
			switch exact, folded := compare(x, want, account); {
			case account == nil:
				open = append(open, fmt.Sprintf("%s with %s", x.Attribute, either))
				add(x, latchkey.CheckUnknown, "fits if the user's %s has %s, which is not known here", x.Attribute, either)
			case exact != "":
				fits(x, "the user has %s", exact)
			case folded != "":
				open = append(open, fmt.Sprintf("%s with %s", x.Attribute, either))
				add(x, latchkey.CheckUnknown, "the user has %s, and the certificate %s: whether capitals matter is for the directory", folded, either)
			default:
				add(x, latchkey.CheckFailed, "the user's %s has not %s", x.Attribute, either)
			}
		}
	}
	switch {
	case by != nil:
		return append([]latchkey.CertificateFinding{passed("username", "is %s by the binding of %s to %s", username, by.Field, by.Attribute)}, each...)
	case len(open) > 0:
		return append([]latchkey.CertificateFinding{unknown("username", "see in the directory that the user has one of them",
			"the certificate is taken for %s only if the user has the attribute %s", username, strings.Join(open, ", or "))}, each...)
	}
	return append([]latchkey.CertificateFinding{failed("username",
		"have a certificate issued for the user name, set the variable of the user name, or have a tenant admin set the username bindings, and what the directory has of the user, as they are there",
		"by none of the tenant's username bindings is the certificate taken for %s", username)}, each...)
}

// compare returns which value of an attribute of a user is one of those that a binding
// wants, and otherwise which one is but for capitals. Names of users and numbers in
// hexadecimal do not depend on them; names of the directory may.
func compare(x latchkey.CertificateBinding, want []string, account *latchkey.CertificateAccount) (exact, folded string) {
	if account == nil {
		return "", ""
	}
	has := account.CertificateUserIDs
	if x.Attribute == latchkey.AttributeOnPremisesUPN {
		has = []string{account.OnPremisesUPN}
	}
	for _, h := range has {
		_, rest, _ := latchkey.CutUserID(h)
		prefix := strings.TrimSuffix(h, rest)
		if x.Attribute == latchkey.AttributeOnPremisesUPN {
			prefix = ""
		}
		for _, w := range want {
			switch {
			case h == w && h != "":
				return h, ""
			case h == "" || !strings.HasPrefix(w, prefix) || !strings.EqualFold(h, w):
			case capitalsMatter(x.Field):
				folded = h
			default:
				return h, ""
			}
		}
	}
	return "", folded
}

func capitalsMatter(f latchkey.CertificateField) bool {
	switch f {
	case latchkey.FieldSubject, latchkey.FieldIssuerAndSubject, latchkey.FieldIssuerAndSerialNumber:
		return true
	}
	return false
}

// demand returns why only bindings of high affinity count, or "".
func (c *Certificate) demand(b latchkey.CertificateBindings) string {
	issuer := DN(c.Leaf.RawIssuer)
	switch {
	case b.Affinity == latchkey.AffinityHigh:
		return "the tenant requires high affinity"
	case slices.ContainsFunc(b.HighIssuers, func(s string) bool { return strings.EqualFold(s, issuer) }):
		return "the tenant requires high affinity of what " + issuer + " has issued"
	}
	for _, p := range c.Leaf.Policies {
		if slices.Contains(b.HighPolicies, p.String()) {
			return "the tenant requires high affinity under the policy " + p.String()
		}
	}
	return ""
}

// values returns what a certificate has in a field.
func (c *Certificate) values(f latchkey.CertificateField) ([]string, error) {
	one := func(s string) []string {
		if s == "" {
			return nil
		}
		return []string{s}
	}
	subject, issuer := DN(c.Leaf.RawSubject), DN(c.Leaf.RawIssuer)
	switch f {
	case latchkey.FieldPrincipalName:
		return UPNs(c.Leaf)
	case latchkey.FieldRFC822Name:
		return c.Leaf.EmailAddresses, nil
	case latchkey.FieldSubject, latchkey.FieldIssuerAndSubject:
		return one(subject), nil
	case latchkey.FieldSKI:
		return one(strings.ToUpper(hex.EncodeToString(c.Leaf.SubjectKeyId))), nil
	case latchkey.FieldSHA1PublicKey:
		return one(thumbprint(c.Leaf)), nil
	case latchkey.FieldIssuerAndSerialNumber:
		if issuer == "" {
			return nil, nil
		}
		return one(serial(c.Leaf)), nil
	}
	return nil, nil
}

// userIDs returns values of a field as certificateUserIds has them.
func (c *Certificate) userIDs(f latchkey.CertificateField, values []string) []string {
	prefix := map[latchkey.CertificateField]string{
		latchkey.FieldPrincipalName: "<PN>", latchkey.FieldRFC822Name: "<RFC822>", latchkey.FieldSubject: "<S>", latchkey.FieldSKI: "<SKI>",
		latchkey.FieldSHA1PublicKey:    "<SHA1-PUKEY>", // of which Azure's tools fill in the thumbprint
		latchkey.FieldIssuerAndSubject: "<I>" + DN(c.Leaf.RawIssuer) + "<S>", latchkey.FieldIssuerAndSerialNumber: "<I>" + DN(c.Leaf.RawIssuer) + "<SR>",
	}[f]
	ids := make([]string, len(values))
	for i, v := range values {
		ids[i] = "X509:" + prefix + v
	}
	return ids
}

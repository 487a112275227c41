// Package certs makes the keys and certificates of embedded vaults, and reads and
// writes the forms in which people exchange them: PFX and PEM.
//
// It keeps nothing and decides nothing. What it reads comes from anybody, so that
// its errors say what is wrong and repeat nothing of the content.
package certs

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"latchkey.dev/latchkey"
)

// NewKey makes a private key, of a policy that CheckKey lets pass.
func NewKey(k *latchkey.CertificateKey) (crypto.Signer, error) {
	if err := CheckKey(k); err != nil {
		return nil, err
	}
	if strings.EqualFold(*k.Type, "RSA") {
		return rsa.GenerateKey(rand.Reader, *k.Size)
	}
	return ecdsa.GenerateKey(curves[*k.Curve], rand.Reader)
}

// CheckKey refuses, as latchkey.ErrInvalid, the keys that a policy may name and that
// a vault without hardware cannot make.
func CheckKey(k *latchkey.CertificateKey) error {
	switch kind := strings.ToUpper(*k.Type); {
	case strings.HasSuffix(kind, "-HSM"):
		return latchkey.Invalid("policy.key_props.kty", "must be RSA or EC: embedded vaults have no hardware that keeps keys")
	case kind == "RSA":
		return nil
	}
	if _, ok := curves[*k.Curve]; !ok {
		return latchkey.Invalid("policy.key_props.crv", "must be P-256, P-384 or P-521: embedded vaults make no certificates on %s", "P-256K")
	}
	return nil
}

var curves = map[string]elliptic.Curve{"P-256": elliptic.P256(), "P-384": elliptic.P384(), "P-521": elliptic.P521()}

// Fits reports whether a key is one that NewKey would make.
func Fits(key crypto.PublicKey, k *latchkey.CertificateKey) bool {
	switch key := key.(type) {
	case *rsa.PublicKey:
		return strings.EqualFold(*k.Type, "RSA") && key.N.BitLen() == *k.Size
	case *ecdsa.PublicKey:
		return strings.EqualFold(*k.Type, "EC") && k.Curve != nil && key.Curve == curves[*k.Curve]
	}
	return false
}

// backdate is how long before its making a certificate begins to be valid (AKV).
const backdate = 10 * time.Minute

// SelfSign returns a certificate, in DER, that signs itself.
func SelfSign(key crypto.Signer, p *latchkey.CertificatePolicy, now time.Time) ([]byte, error) {
	subject, extensions, err := contents(p)
	if err != nil {
		return nil, err
	}
	id, err := keyID(key.Public())
	if err != nil {
		return nil, err
	}
	t := &x509.Certificate{
		RawSubject: subject, ExtraExtensions: extensions,
		NotBefore: now.Add(-backdate), NotAfter: now.Add(-backdate).AddDate(0, *p.X509.Months, 0),
		SubjectKeyId: id, AuthorityKeyId: id,
		BasicConstraintsValid: true, IsCA: p.X509.BasicConstraints.CA,
	}
	return x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
}

// Request returns a request, in DER, for the certificate of a key.
func Request(key crypto.Signer, p *latchkey.CertificatePolicy) ([]byte, error) {
	subject, extensions, err := contents(p)
	if err != nil {
		return nil, err
	}
	return x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{RawSubject: subject, ExtraExtensions: extensions}, key)
}

// keyID returns the identifier of a key by RFC 5280, section 4.2.1.2, method 1.
func keyID(key crypto.PublicKey) ([]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return nil, err
	}
	var info struct {
		Algorithm pkix.AlgorithmIdentifier
		Key       asn1.BitString
	}
	if _, err := asn1.Unmarshal(der, &info); err != nil {
		return nil, err
	}
	id := sha1.Sum(info.Key.Bytes)
	return id[:], nil
}

var (
	oidAlternativeName = asn1.ObjectIdentifier{2, 5, 29, 17}
	oidKeyUsage        = asn1.ObjectIdentifier{2, 5, 29, 15}
	oidExtendedUsage   = asn1.ObjectIdentifier{2, 5, 29, 37}
	oidUPN             = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 20, 2, 3} // a Microsoft user principal name
)

// contents returns what a policy wants in a certificate and in a request for one.
func contents(p *latchkey.CertificatePolicy) (subject []byte, extensions []pkix.Extension, err error) {
	x := p.X509
	if subject, err = ParseSubject(*x.Subject); err != nil {
		return nil, nil, latchkey.Invalid("policy.x509_props.subject", "%v", err)
	}
	names, err := alternativeNames(x.Names)
	if err != nil {
		return nil, nil, err
	}
	if *x.Subject == "" && names == nil {
		return nil, nil, latchkey.Invalid("policy.x509_props.subject", "must be given, or else alternative names")
	}
	if names != nil {
		// RFC 5280, section 4.2.1.6: critical when there is no subject.
		extensions = append(extensions, pkix.Extension{Id: oidAlternativeName, Critical: *x.Subject == "", Value: names})
	}
	if len(x.KeyUsage) > 0 {
		value, err := asn1.Marshal(usageBits(x.KeyUsage))
		if err != nil {
			return nil, nil, err
		}
		extensions = append(extensions, pkix.Extension{Id: oidKeyUsage, Critical: true, Value: value})
	}
	if len(x.ExtendedKeyUsage) > 0 {
		var oids []asn1.ObjectIdentifier
		for _, s := range x.ExtendedKeyUsage {
			oids = append(oids, parseOID(s))
		}
		value, err := asn1.Marshal(oids)
		if err != nil {
			return nil, nil, latchkey.Invalid("policy.x509_props.ekus", "must be object identifiers")
		}
		extensions = append(extensions, pkix.Extension{Id: oidExtendedUsage, Value: value})
	}
	return subject, extensions, nil
}

// usageBits returns key usages as RFC 5280 writes them, without zeros at the end.
func usageBits(names []string) asn1.BitString {
	bits := asn1.BitString{Bytes: make([]byte, 2)}
	for _, n := range names {
		i := slices.Index(latchkey.KeyUsages, n)
		bits.Bytes[i/8] |= 0x80 >> (i % 8)
		bits.BitLength = max(bits.BitLength, i+1)
	}
	bits.Bytes = bits.Bytes[:(bits.BitLength+7)/8]
	return bits
}

// parseOID returns an object identifier that latchkey has validated.
func parseOID(s string) asn1.ObjectIdentifier {
	var oid asn1.ObjectIdentifier
	for arc := range strings.SplitSeq(s, ".") {
		n, _ := strconv.Atoi(arc)
		oid = append(oid, n)
	}
	return oid
}

// Tags of general names (RFC 5280, section 4.2.1.6).
const (
	nameOther = 0
	nameEmail = 1
	nameDNS   = 2
	nameURI   = 6
	nameIP    = 7
)

// alternativeNames returns names in DER, or nil when there are none.
func alternativeNames(n *latchkey.CertificateNames) ([]byte, error) {
	if n == nil {
		return nil, nil
	}
	var names []asn1.RawValue
	add := func(tag int, b []byte) {
		names = append(names, asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: tag, Bytes: b})
	}
	for _, s := range n.DNS {
		add(nameDNS, []byte(s))
	}
	for _, s := range n.Emails {
		add(nameEmail, []byte(s))
	}
	for _, s := range n.URIs {
		add(nameURI, []byte(s))
	}
	for _, s := range n.IPs {
		ip := net.ParseIP(s)
		if v4 := ip.To4(); v4 != nil {
			ip = v4
		}
		add(nameIP, ip)
	}
	for _, s := range n.UPNs {
		oid, err := asn1.Marshal(oidUPN)
		if err != nil {
			return nil, err
		}
		text, err := asn1.MarshalWithParams(s, "utf8,explicit,tag:0")
		if err != nil {
			return nil, err
		}
		names = append(names, asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: nameOther, IsCompound: true, Bytes: append(oid, text...)})
	}
	if names == nil {
		return nil, nil
	}
	return asn1.Marshal(names)
}

// Describe returns what a policy would have to say for a certificate like c.
func Describe(c *x509.Certificate) (*latchkey.CertificateX509, *latchkey.CertificateKey) {
	subject, err := FormatSubject(c.RawSubject)
	if err != nil {
		subject = c.Subject.String() // package x509 has read it
	}
	months := max(1, (c.NotAfter.Year()-c.NotBefore.Year())*12+int(c.NotAfter.Month()-c.NotBefore.Month()))
	x := &latchkey.CertificateX509{
		Subject: &subject, Names: namesOf(c), Months: new(min(months, latchkey.MaxMonths)),
		ExtendedKeyUsage: []string{}, KeyUsage: []string{},
		BasicConstraints: &latchkey.CertificateBasicConstraints{CA: c.IsCA},
	}
	for i, name := range latchkey.KeyUsages {
		if c.KeyUsage&(1<<i) != 0 {
			x.KeyUsage = append(x.KeyUsage, name)
		}
	}
	for _, e := range c.Extensions {
		var oids []asn1.ObjectIdentifier
		if !e.Id.Equal(oidExtendedUsage) {
			continue
		}
		if _, err := asn1.Unmarshal(e.Value, &oids); err != nil {
			continue // package x509 has read it
		}
		for _, oid := range oids {
			x.ExtendedKeyUsage = append(x.ExtendedKeyUsage, oid.String())
		}
	}
	k := &latchkey.CertificateKey{}
	switch key := c.PublicKey.(type) {
	case *rsa.PublicKey:
		k.Type, k.Size = new("RSA"), new(key.N.BitLen())
	case *ecdsa.PublicKey:
		k.Type, k.Curve = new("EC"), new(key.Curve.Params().Name)
	}
	return x, k
}

// namesOf returns the alternative names of a certificate, or nil.
func namesOf(c *x509.Certificate) *latchkey.CertificateNames {
	n := &latchkey.CertificateNames{DNS: c.DNSNames, Emails: c.EmailAddresses, UPNs: UPNs(c)}
	for _, ip := range c.IPAddresses {
		n.IPs = append(n.IPs, ip.String())
	}
	for _, u := range c.URIs {
		n.URIs = append(n.URIs, u.String())
	}
	if len(n.DNS)+len(n.Emails)+len(n.UPNs)+len(n.IPs)+len(n.URIs) == 0 {
		return nil
	}
	return n
}

// UPNs returns the user principal names of a certificate, which package x509
// does not read.
func UPNs(c *x509.Certificate) []string {
	var upns []string
	for _, e := range c.Extensions {
		if !e.Id.Equal(oidAlternativeName) {
			continue
		}
		var names []asn1.RawValue
		if _, err := asn1.Unmarshal(e.Value, &names); err != nil {
			continue
		}
		for _, n := range names {
			if n.Class != asn1.ClassContextSpecific || n.Tag != nameOther {
				continue
			}
			var oid asn1.ObjectIdentifier
			rest, err := asn1.Unmarshal(n.Bytes, &oid)
			if err != nil || !oid.Equal(oidUPN) {
				continue
			}
			var text string
			if _, err := asn1.UnmarshalWithParams(rest, &text, "explicit,tag:0"); err == nil {
				upns = append(upns, text)
			}
		}
	}
	return upns
}

// SameKey reports whether two public keys are the same.
func SameKey(a, b crypto.PublicKey) bool {
	k, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && k.Equal(b)
}

// Parse reads certificates in DER, one after the other.
func Parse(der []byte) ([]*x509.Certificate, error) {
	certificates, err := x509.ParseCertificates(der)
	if err != nil {
		return nil, fmt.Errorf("read certificates: %w", err)
	}
	return certificates, nil
}

// Join returns certificates in DER, one after the other.
func Join(certificates []*x509.Certificate) []byte {
	der := []byte{}
	for _, c := range certificates {
		der = append(der, c.Raw...)
	}
	return der
}

// Sort returns the others of a chain in the order of their issuing, from the one
// that issued leaf. Those that do not belong to it come last, as they were.
func Sort(leaf *x509.Certificate, chain []*x509.Certificate) []*x509.Certificate {
	rest, sorted := slices.Clone(chain), []*x509.Certificate(nil)
	for at := leaf; ; {
		i := slices.IndexFunc(rest, func(c *x509.Certificate) bool { return bytes.Equal(c.RawSubject, at.RawIssuer) })
		if i < 0 || bytes.Equal(at.RawIssuer, at.RawSubject) {
			return append(sorted, rest...)
		}
		at = rest[i]
		sorted, rest = append(sorted, at), slices.Delete(rest, i, i+1)
	}
}

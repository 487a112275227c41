// Package pki makes certificate authorities, certificates and PFX files for tests.
package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/pem"
	"math/big"
	"sync"
	"testing"
	"time"

	"software.sslmate.com/src/go-pkcs12"
)

// rsaKey is the one RSA key of a test binary: making them is slow.
var rsaKey = sync.OnceValues(func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 2048) })

// RSAKey returns the one RSA key of the test binary, of 2048 bits.
func RSAKey(t testing.TB) *rsa.PrivateKey {
	t.Helper()
	key, err := rsaKey()
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// ECKey returns a new key on the curve P-256.
func ECKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// An Authority issues certificates.
type Authority struct {
	Cert *x509.Certificate
	Key  crypto.Signer
}

// NewAuthority makes an authority.
func NewAuthority(t testing.TB, name string) *Authority {
	t.Helper()
	key := ECKey(t)
	cert := sign(t, &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
	}, nil, key.Public(), key)
	return &Authority{cert, key}
}

// A Pair is a certificate with its key.
type Pair struct {
	Cert  *x509.Certificate
	Key   crypto.Signer
	Chain []*x509.Certificate
}

// Options choose what a certificate is like. The zero value is one for client
// authentication, valid from an hour ago for a day, with an EC key.
type Options struct {
	CommonName string // "" is bot
	UPN        string // among the subject alternative names
	Email      string
	DNS        []string
	EKU        []x509.ExtKeyUsage
	EKUOIDs    []asn1.ObjectIdentifier // with EKU, in place of clientAuth
	Extensions []pkix.Extension
	Policies   []x509.OID
	NotBefore  time.Time
	NotAfter   time.Time
	Key        crypto.Signer
	SelfSigned bool
}

// Issue issues a certificate.
func (a *Authority) Issue(t testing.TB, o Options) *Pair {
	t.Helper()
	if o.Key == nil {
		o.Key = ECKey(t)
	}
	if o.CommonName == "" {
		o.CommonName = "bot"
	}
	if len(o.EKU)+len(o.EKUOIDs) == 0 {
		o.EKU = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	}
	if o.NotBefore.IsZero() {
		o.NotBefore = time.Now().Add(-time.Hour)
	}
	if o.NotAfter.IsZero() {
		o.NotAfter = time.Now().Add(24 * time.Hour)
	}
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: o.CommonName}, NotBefore: o.NotBefore, NotAfter: o.NotAfter,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment, ExtKeyUsage: o.EKU, UnknownExtKeyUsage: o.EKUOIDs,
		DNSNames: o.DNS, ExtraExtensions: o.Extensions, Policies: o.Policies,
	}
	if o.Email != "" && o.UPN == "" {
		template.EmailAddresses = []string{o.Email}
	}
	if o.UPN != "" {
		template.ExtraExtensions = append(template.ExtraExtensions, SAN(t, o.UPN, o.Email))
	}
	if o.SelfSigned {
		return &Pair{Cert: sign(t, template, nil, o.Key.Public(), o.Key), Key: o.Key}
	}
	return &Pair{Cert: sign(t, template, a.Cert, o.Key.Public(), a.Key), Key: o.Key, Chain: []*x509.Certificate{a.Cert}}
}

// Sign issues the certificate that a request (PKCS #10, DER) asks for, with the
// extensions that it asks for, valid from an hour ago for a day.
func (a *Authority) Sign(t testing.TB, csr []byte) *x509.Certificate {
	t.Helper()
	r, err := x509.ParseCertificateRequest(csr)
	if err == nil {
		err = r.CheckSignature()
	}
	if err != nil {
		t.Fatal(err)
	}
	return sign(t, &x509.Certificate{
		RawSubject: r.RawSubject, ExtraExtensions: r.Extensions, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
	}, a.Cert, r.PublicKey, a.Key)
}

func sign(t testing.TB, template, parent *x509.Certificate, public crypto.PublicKey, by crypto.Signer) *x509.Certificate {
	t.Helper()
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		t.Fatal(err)
	}
	template.SerialNumber = serial
	if parent == nil {
		parent = template
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, by)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// SAN returns an extension of subject alternative names with a UPN, and an e-mail
// address if it is not "".
func SAN(t testing.TB, upn, email string) pkix.Extension {
	t.Helper()
	type otherName struct {
		Type  asn1.ObjectIdentifier
		Value asn1.RawValue
	}
	text, err := asn1.MarshalWithParams(upn, "utf8")
	if err != nil {
		t.Fatal(err)
	}
	names := []asn1.RawValue{}
	name, err := asn1.MarshalWithParams(otherName{
		asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 20, 2, 3}, asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 0, IsCompound: true, Bytes: text},
	}, "tag:0")
	if err != nil {
		t.Fatal(err)
	}
	names = append(names, asn1.RawValue{FullBytes: name})
	if email != "" {
		names = append(names, asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 1, Bytes: []byte(email)})
	}
	value, err := asn1.Marshal(names)
	if err != nil {
		t.Fatal(err)
	}
	return pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Value: value}
}

// Revoke returns a list of revoked certificates, as PEM.
func (a *Authority) Revoke(t testing.TB, certs ...*x509.Certificate) []byte {
	t.Helper()
	list := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: time.Now().Add(-time.Hour), NextUpdate: time.Now().Add(24 * time.Hour)}
	for _, c := range certs {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: c.SerialNumber, RevocationTime: time.Now().Add(-time.Minute)})
	}
	der, err := x509.CreateRevocationList(rand.Reader, list, a.Cert, a.Key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der})
}

// PFX returns a pair as a PFX file with a password, as Key Vault writes them.
func (p *Pair) PFX(t testing.TB, password string) []byte {
	t.Helper()
	b, err := pkcs12.LegacyDES.Encode(p.Key, p.Cert, p.Chain, password)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Secret returns a pair as the value of a Key Vault certificate's secret.
func (p *Pair) Secret(t testing.TB) string {
	t.Helper()
	return base64.StdEncoding.EncodeToString(p.PFX(t, ""))
}

// PEM returns certificates as PEM.
func PEM(certs ...*x509.Certificate) (text []byte) {
	for _, c := range certs {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	return text
}

// KeyPEM returns a pair's key as PEM.
func (p *Pair) KeyPEM(t testing.TB) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(p.Key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

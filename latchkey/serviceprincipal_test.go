package latchkey

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/big"
	"strings"
	"testing"
	"time"
)

// certificatePEM returns a certificate of a key.
func certificatePEM(t testing.TB, key crypto.Signer) string {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now(), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

func curveKey(t testing.TB, c elliptic.Curve) crypto.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(c, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestServicePrincipalCredentialCreate(t *testing.T) {
	good := certificatePEM(t, curveKey(t, elliptic.P384()))
	_, odd, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	federated := func(change func(*ServicePrincipalCredentialCreate)) ServicePrincipalCredentialCreate {
		c := ServicePrincipalCredentialCreate{Kind: ProofFederated, Issuer: "https://ci.example/path", Subject: "repo:a", Audience: "b"}
		change(&c)
		return c
	}
	for _, tt := range []struct {
		name  string
		in    ServicePrincipalCredentialCreate
		field string // of the fault, "" for none
	}{
		{"a secret", ServicePrincipalCredentialCreate{Kind: ProofSecret}, ""},
		{"a secret for two years", ServicePrincipalCredentialCreate{Kind: ProofSecret, ExpiresIn: Duration(MaxClientSecretTTL)}, ""},
		{"a secret for longer", ServicePrincipalCredentialCreate{Kind: ProofSecret, ExpiresIn: Duration(MaxClientSecretTTL + time.Hour)}, "expiresIn"},
		{"a secret for no time", ServicePrincipalCredentialCreate{Kind: ProofSecret, ExpiresIn: -1}, "expiresIn"},
		{"a secret with a subject", ServicePrincipalCredentialCreate{Kind: ProofSecret, Subject: "a"}, "subject"},
		{"no kind", ServicePrincipalCredentialCreate{}, "kind"},
		{"another kind", ServicePrincipalCredentialCreate{Kind: "password"}, "kind"},
		{"a name with a line break", ServicePrincipalCredentialCreate{Kind: ProofSecret, Name: "a\nb"}, "name"},
		{"a certificate", ServicePrincipalCredentialCreate{Kind: ProofCertificate, Certificate: "text before\n" + good}, ""},
		{"no certificate", ServicePrincipalCredentialCreate{Kind: ProofCertificate}, "certificate"},
		{"two certificates", ServicePrincipalCredentialCreate{Kind: ProofCertificate, Certificate: good + good}, "certificate"},
		{"a certificate with a key", ServicePrincipalCredentialCreate{Kind: ProofCertificate, Certificate: good + "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"}, "certificate"},
		{"a damaged certificate", ServicePrincipalCredentialCreate{Kind: ProofCertificate, Certificate: "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"}, "certificate"},
		{"another curve", ServicePrincipalCredentialCreate{Kind: ProofCertificate, Certificate: certificatePEM(t, curveKey(t, elliptic.P224()))}, "certificate"},
		{"another kind of key", ServicePrincipalCredentialCreate{Kind: ProofCertificate, Certificate: certificatePEM(t, odd)}, "certificate"},
		{"a huge certificate", ServicePrincipalCredentialCreate{Kind: ProofCertificate, Certificate: strings.Repeat("a", MaxCertificatePEM+1)}, "certificate"},
		{"a certificate for a time", ServicePrincipalCredentialCreate{Kind: ProofCertificate, Certificate: good, ExpiresIn: Duration(time.Hour)}, "expiresIn"},
		{"federated", federated(func(*ServicePrincipalCredentialCreate) {}), ""},
		{"no issuer", federated(func(c *ServicePrincipalCredentialCreate) { c.Issuer = "" }), "issuer"},
		{"an issuer without TLS", federated(func(c *ServicePrincipalCredentialCreate) { c.Issuer = "http://ci.example" }), "issuer"},
		{"an issuer on this machine", federated(func(c *ServicePrincipalCredentialCreate) { c.Issuer = "https://127.0.0.1:8443" }), "issuer"},
		{"an issuer on this link", federated(func(c *ServicePrincipalCredentialCreate) { c.Issuer = "https://[::ffff:169.254.169.254]/x" }), "issuer"},
		{"an issuer at no address", federated(func(c *ServicePrincipalCredentialCreate) { c.Issuer = "https://[::]" }), "issuer"},
		{"an issuer with a query", federated(func(c *ServicePrincipalCredentialCreate) { c.Issuer += "?a=b" }), "issuer"},
		{"an issuer with an empty query", federated(func(c *ServicePrincipalCredentialCreate) { c.Issuer += "?" }), "issuer"},
		{"an issuer with a password", federated(func(c *ServicePrincipalCredentialCreate) { c.Issuer = "https://a:b@ci.example" }), "issuer"},
		{"no subject", federated(func(c *ServicePrincipalCredentialCreate) { c.Subject = "" }), "subject"},
		{"a wildcard", federated(func(c *ServicePrincipalCredentialCreate) { c.Subject = "repo:*" }), "subject"},
		{"a subject with a space after it", federated(func(c *ServicePrincipalCredentialCreate) { c.Subject = "repo:a " }), "subject"},
		{"a long audience", federated(func(c *ServicePrincipalCredentialCreate) { c.Audience = strings.Repeat("a", 501) }), "audience"},
		{"federated with a certificate", federated(func(c *ServicePrincipalCredentialCreate) { c.Certificate = good }), "certificate"},
	} {
		err := tt.in.Validate()
		e, _ := errors.AsType[*Error](err)
		switch {
		case tt.field == "" && err != nil:
			t.Errorf("%s: %v; want none", tt.name, err)
		case tt.field != "" && (e == nil || len(e.Fields) != 1 || e.Fields[0].Field != tt.field):
			t.Errorf("%s: %v; want one fault, of %s", tt.name, err, tt.field)
		}
	}
	c := federated(func(c *ServicePrincipalCredentialCreate) { c.Audience = "" })
	if err := c.Validate(); err != nil || c.Audience != DefaultFederatedAudience || c.Name != "federated" {
		t.Errorf("with defaults: %+v, %v", c, err)
	}
}

func TestServicePrincipalNames(t *testing.T) {
	for name, want := range map[string]bool{"Deploy pipeline": true, "": false, " a": false, "sp_a": false, "00000000-0000-0000-0000-00000000000A": false, strings.Repeat("a", MaxName+1): false} {
		c := ServicePrincipalCreate{DisplayName: name}
		u := ServicePrincipalUpdate{DisplayName: &name}
		if got, same := c.Validate() == nil, u.Validate() == nil; got != want || same != want {
			t.Errorf("the name %q is valid: %v when made, %v when changed; want %v", name, got, same, want)
		}
	}
	// A login cannot be taken for a client id.
	if c := (UserCreate{Login: "00000000-0000-0000-0000-000000000000"}); c.Validate() == nil {
		t.Error("a login may be shaped like a client id")
	}
}

// FuzzClientCertificate tests that whatever comes as a certificate has a key of a
// kind that is verified, or is an error that does not repeat it.
func FuzzClientCertificate(f *testing.F) {
	f.Add(certificatePEM(f, curveKey(f, elliptic.P256())))
	f.Add("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
	f.Add("")
	f.Fuzz(func(t *testing.T, text string) {
		cert, err := ParseClientCertificate(text)
		if err != nil {
			if len(err.Error()) > 200 {
				t.Errorf("the error repeats the text: %v", err)
			}
			return
		}
		var c ServicePrincipalCredential
		if err := c.DescribeCertificate(cert.Raw); err != nil || c.Thumbprint == "" || c.ExpiresAt == nil {
			t.Errorf("described as %+v, %v", c, err)
		}
	})
}

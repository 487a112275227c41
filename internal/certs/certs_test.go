package certs_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/json"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"software.sslmate.com/src/go-pkcs12"

	"latchkey.dev/internal/certs"
	"latchkey.dev/latchkey"
)

// rsaKey is the one RSA key of these tests: making one takes long.
var rsaKey = sync.OnceValue(func() crypto.Signer { return mustKey("RSA", "") })

func ecKey() crypto.Signer { return mustKey("EC", "P-256") }

func mustKey(kind, curve string) crypto.Signer {
	k := &latchkey.CertificateKey{Type: &kind, Size: new(2048), Curve: &curve}
	key, err := certs.NewKey(k)
	if err != nil {
		panic(err)
	}
	return key
}

// policy returns a policy that signs itself.
func policy(subject string, names *latchkey.CertificateNames) *latchkey.CertificatePolicy {
	p := &latchkey.CertificatePolicy{
		Issuer: &latchkey.CertificateIssuer{Name: new("self")},
		X509:   &latchkey.CertificateX509{Subject: &subject, Names: names},
	}
	p.Fill()
	return p
}

// signed returns a certificate that signs itself.
func signed(t testing.TB, key crypto.Signer, p *latchkey.CertificatePolicy) *x509.Certificate {
	t.Helper()
	der, err := certs.SelfSign(key, p, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestNewKey(t *testing.T) {
	for _, tt := range []struct {
		kind, curve, field string // of the refusal; "" is none
	}{
		{"EC", "P-256", ""}, {"ec", "P-384", ""}, {"EC", "P-521", ""},
		{"EC", "P-256K", "policy.key_props.crv"}, {"EC-HSM", "P-256", "policy.key_props.kty"}, {"RSA-HSM", "", "policy.key_props.kty"},
	} {
		k := &latchkey.CertificateKey{Type: &tt.kind, Size: new(2048), Curve: &tt.curve}
		key, err := certs.NewKey(k)
		if tt.field == "" {
			if err != nil || !certs.Fits(key.Public(), k) {
				t.Errorf("NewKey(%s, %s) = %T, %v; want one that fits", tt.kind, tt.curve, key, err)
			}
			continue
		}
		e, ok := errors.AsType[*latchkey.Error](err)
		if !ok || e.Kind != latchkey.ErrInvalid || e.Fields[0].Field != tt.field {
			t.Errorf("NewKey(%s, %s) = %v; want %s invalid", tt.kind, tt.curve, err, tt.field)
		}
	}
	if certs.Fits(rsaKey().Public(), &latchkey.CertificateKey{Type: new("RSA"), Size: new(4096)}) {
		t.Error("a key of 2048 bits fits a policy of 4096")
	}
}

// TestSelfSign reads back what a policy says from the certificate and from the
// request for it.
func TestSelfSign(t *testing.T) {
	p := policy(`CN=mail\, one, OU="Sales; East", O=Example+L=Bern, DC=example, DC=org`, &latchkey.CertificateNames{
		DNS: []string{"localhost", "example.com"}, Emails: []string{"a@example.com"}, UPNs: []string{"bob@exämple.com"},
		IPs: []string{"192.168.1.1", "2001:0db8::1"}, URIs: []string{"https://example.com/x"},
	})
	p.X509.KeyUsage = []string{"digitalSignature", "decipherOnly"}
	p.X509.Months = new(24)
	key := ecKey()
	now := time.Now()
	c := signed(t, key, p)
	x, k := certs.Describe(c)
	want := &latchkey.CertificateX509{
		Subject: new(`CN=mail\, one, OU=Sales\; East, L=Bern+O=Example, DC=example, DC=org`),
		Names: &latchkey.CertificateNames{
			DNS: p.X509.Names.DNS, Emails: p.X509.Names.Emails, UPNs: p.X509.Names.UPNs, IPs: []string{"192.168.1.1", "2001:db8::1"}, URIs: p.X509.Names.URIs,
		},
		ExtendedKeyUsage: p.X509.ExtendedKeyUsage, KeyUsage: p.X509.KeyUsage, Months: new(24), BasicConstraints: &latchkey.CertificateBasicConstraints{},
	}
	if d := cmp.Diff(want, x); d != "" {
		t.Errorf("Describe (-want +got):\n%s", d)
	}
	if *k.Type != "EC" || *k.Curve != "P-256" {
		t.Errorf("key = %v", k)
	}
	// What Describe says makes the same subject again.
	again, err := certs.ParseSubject(*x.Subject)
	if err != nil || string(again) != string(c.RawSubject) {
		t.Errorf("ParseSubject(%s) = %x, %v; want %x", *x.Subject, again, err, c.RawSubject)
	}
	if err := c.CheckSignatureFrom(signed(t, key, p)); err == nil {
		t.Error("a certificate that may sign nothing is taken for an issuer")
	}
	if err := c.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature); err != nil {
		t.Error(err)
	}
	if age := now.Sub(c.NotBefore); age < 9*time.Minute || age > 11*time.Minute {
		t.Errorf("it is valid since %s; want 10 minutes", age)
	}
	if string(c.AuthorityKeyId) == "" || string(c.AuthorityKeyId) != string(c.SubjectKeyId) {
		t.Errorf("key ids = %x, %x; want the same", c.AuthorityKeyId, c.SubjectKeyId)
	}
	der, err := certs.Request(key, p)
	if err != nil {
		t.Fatal(err)
	}
	r, err := x509.ParseCertificateRequest(der)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.CheckSignature(); err != nil || string(r.RawSubject) != string(c.RawSubject) || len(r.DNSNames) != 2 {
		t.Errorf("request = %v, %v, %v", err, r.Subject, r.DNSNames)
	}
	if _, err := certs.Request(key, policy("", nil)); !errors.Is(err, latchkey.ErrInvalid) {
		t.Errorf("Request without subject and names = %v; want invalid", err)
	}
}

func TestParseSubject(t *testing.T) {
	for in, want := range map[string]string{
		"CN=x":                      "CN=x",
		" cn = a b ; O=c ":          "CN=a b,O=c",
		`CN="a, b", C=CH`:           "CN=a, b,C=CH",
		`CN=\23x\20,OID.2.5.4.10=y`: "CN=#x ,O=y",
		`CN=\c3\a4`:                 "CN=ä",
		`E=a@example.com`:           "1.2.840.113549.1.9.1=a@example.com",
		"1.3.6.1.4.1.311.1=#0c0161": "1.3.6.1.4.1.311.1=a",
		"":                          "",
		"CN":                        "!",
		"CN=":                       "!",
		"=x":                        "!",
		"CN=x,":                     "!",
		"CN=x+":                     "!",
		`CN="x`:                     "!",
		`CN="x"y`:                   "!",
		`CN=x\`:                     "!",
		"NOSUCH=x":                  "!",
		"CN=#zz":                    "!",
		"CN=#0c02":                  "!",
		"E=ä@example.com":           "!",
		"9.9=x":                     "!",
		"CN=\xff":                   "!",
	} {
		der, err := certs.ParseSubject(in)
		var name pkix.RDNSequence
		if err == nil {
			if _, err := asn1.Unmarshal(der, &name); err != nil {
				t.Errorf("ParseSubject(%q) = %x, which cannot be read: %v", in, der, err)
			}
		}
		var parts []string
		for i := range name {
			for _, a := range name[len(name)-1-i] {
				key := map[string]string{"2.5.4.3": "CN", "2.5.4.10": "O", "2.5.4.6": "C"}[a.Type.String()]
				if key == "" {
					key = a.Type.String()
				}
				value, _ := a.Value.(string)
				parts = append(parts, key+"="+value)
			}
		}
		got := strings.Join(parts, ",")
		if err != nil {
			got = "!"
		}
		if got != want {
			t.Errorf("ParseSubject(%q) = %s, %v; want %s", in, got, err, want)
		}
	}
}

// authority returns a certificate that may sign others, with its key.
func authority(t testing.TB, name string, parent *x509.Certificate, parentKey crypto.Signer) (*x509.Certificate, crypto.Signer) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	if parent == nil {
		parent, parentKey = c, key
	}
	return issue(t, c, parent, key.Public(), parentKey), key
}

func issue(t testing.TB, c, parent *x509.Certificate, key crypto.PublicKey, parentKey crypto.Signer) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, c, parent, key, parentKey)
	if err != nil {
		t.Fatal(err)
	}
	made, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

// chain returns a bundle with two issuers, the upper one first.
func chain(t testing.TB, key crypto.Signer) certs.Bundle {
	t.Helper()
	root, rootKey := authority(t, "root", nil, nil)
	middle, middleKey := authority(t, "middle", root, rootKey)
	leaf := issue(t, &x509.Certificate{
		Subject: pkix.Name{CommonName: "leaf"}, SerialNumber: big.NewInt(2), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}, middle, key.Public(), middleKey)
	return certs.Bundle{Key: key, Leaf: leaf, Chain: []*x509.Certificate{root, middle}}
}

func names(b certs.Bundle) string {
	var all []string
	for _, c := range append([]*x509.Certificate{b.Leaf}, b.Chain...) {
		all = append(all, c.Subject.CommonName)
	}
	return strings.Join(all, " ")
}

func TestBundles(t *testing.T) {
	for name, key := range map[string]crypto.Signer{"RSA": rsaKey(), "EC": ecKey()} {
		b := chain(t, key)
		pfx, err := b.PFX()
		if err != nil {
			t.Fatal(err)
		}
		text, err := b.PEM()
		if err != nil {
			t.Fatal(err)
		}
		fromPFX, err := certs.ParsePFX(pfx, "")
		if err != nil || names(fromPFX) != "leaf root middle" || !certs.SameKey(fromPFX.Key.Public(), key.Public()) {
			t.Errorf("%s: ParsePFX = %s, %v", name, names(fromPFX), err)
		}
		fromPEM, err := certs.ParsePEM(text)
		if err != nil || names(fromPEM) != "leaf root middle" || !certs.SameKey(fromPEM.Key.Public(), key.Public()) {
			t.Errorf("%s: ParsePEM = %v", name, err)
		}
		b.Chain = certs.Sort(b.Leaf, b.Chain)
		if got := names(b); got != "leaf middle root" {
			t.Errorf("%s: sorted chain = %s; want each before its issuer", name, got)
		}

		// Without its key.
		b.Key = nil
		if pfx, err = b.PFX(); err != nil {
			t.Fatal(err)
		}
		open, err := certs.OpenPFX(pfx)
		if err != nil || open.Key != nil || names(open) != "leaf middle root" {
			t.Errorf("%s: OpenPFX without a key = %v, %v", name, open.Key, err)
		}
		if text, err := b.PEM(); err != nil || strings.Contains(text, "PRIVATE") {
			t.Errorf("%s: PEM without a key = %s, %v", name, text, err)
		}
		if _, err := certs.ParsePFX(pfx, ""); err == nil {
			t.Errorf("%s: ParsePFX without a key = nil; want an error", name)
		}
	}
}

// TestOpenSSL has OpenSSL read what is written, and reads what it writes.
func TestOpenSSL(t *testing.T) {
	if _, err := exec.LookPath("openssl"); err != nil {
		if os.Getenv("LATCHKEY_TEST_OPENSSL") == "required" {
			t.Fatal(err)
		}
		t.Skip("no openssl")
	}
	b := chain(t, ecKey())
	pfx, err := b.PFX()
	if err != nil {
		t.Fatal(err)
	}
	run := func(stdin []byte, args ...string) []byte {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), "openssl", args...)
		cmd.Stdin = strings.NewReader(string(stdin))
		var stderr strings.Builder
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%v: %v\n%s", cmd, err, &stderr)
		}
		return out
	}
	text := run(pfx, "pkcs12", "-nodes", "-passin", "pass:")
	if got, err := certs.ParsePEM(string(text)); err != nil || !strings.HasPrefix(names(got), "leaf ") {
		t.Errorf("what OpenSSL reads = %s, %v", names(got), err)
	}
	file := filepath.Join(t.TempDir(), "all.pem")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	again, err := certs.ParsePFX(run(nil, "pkcs12", "-export", "-in", file, "-passout", "pass:secret"), "secret")
	if err != nil || !strings.HasPrefix(names(again), "leaf ") {
		t.Errorf("ParsePFX of what OpenSSL writes = %s, %v", names(again), err)
	}
}

func TestBadImports(t *testing.T) {
	b := chain(t, ecKey())
	pfx, err := pkcs12.Modern2023.Encode(b.Key, b.Leaf, b.Chain, "secret")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := certs.ParsePFX(pfx, "wrong"); !errors.Is(err, certs.ErrPassword) {
		t.Errorf("ParsePFX with a wrong password = %v; want ErrPassword", err)
	}
	text, err := b.PEM()
	if err != nil {
		t.Fatal(err)
	}
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	weak := chain(t, small)
	weakText, err := weak.PEM()
	if err != nil {
		t.Fatal(err)
	}
	key, rest := text[:strings.Index(text, "-----BEGIN CERT")], text[strings.Index(text, "-----BEGIN CERT"):]
	other, err := chain(t, ecKey()).PEM()
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct{ text, want string }{
		"no key":           {rest, "private key"},
		"no certificate":   {key, "no certificate"},
		"two keys":         {key + text, "one private key"},
		"another's key":    {other[:strings.Index(other, "-----BEGIN CERT")] + rest, "belongs"},
		"old form of key":  {strings.ReplaceAll(text, "PRIVATE KEY", "EC PRIVATE KEY"), "PKCS #8"},
		"weak key":         {weakText, "2048"},
		"not PEM":          {"x", "private key"},
		"many":             {key + strings.Repeat(rest, 10), "too many"},
		"bad certificates": {key + string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("x")})), "cannot be read"},
	} {
		if _, err := certs.ParsePEM(tt.text); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: ParsePEM = %v; want %q in it", name, err, tt.want)
		}
	}
}

// TestWork gives PFX that ask for more hashes than can be made, in each of the
// places that are in the open.
func TestWork(t *testing.T) {
	b := chain(t, ecKey())
	for _, e := range []*pkcs12.Encoder{pkcs12.LegacyDES, pkcs12.Modern2023, pkcs12.Modern2026} {
		pfx, err := e.WithIterations(70_000).Encode(b.Key, b.Leaf, nil, "x")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := certs.ParsePFX(pfx, "x"); err != nil {
			t.Fatalf("as it was: %v", err)
		}
		const few, many = "\x02\x03\x01\x11\x70", "\x02\x03\x7f\xff\xff"
		parts := strings.Split(string(pfx), few)
		if len(parts) != 4 {
			t.Fatalf("%d numbers of iterations; want those of the MAC, the certificate and the key", len(parts)-1)
		}
		for i := range 3 {
			with := []string{few, few, few}
			with[i] = many
			bad := parts[0] + with[0] + parts[1] + with[1] + parts[2] + with[2] + parts[3]
			if _, err := certs.ParsePFX([]byte(bad), "x"); err == nil || !strings.Contains(err.Error(), "too much work") {
				t.Errorf("ParsePFX with too many iterations in place %d = %v; want too much work", i, err)
			}
		}
	}
}

func FuzzPFX(f *testing.F) {
	b := chain(f, ecKey())
	pfx, err := b.PFX()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(pfx, "")
	f.Add([]byte{}, "x")
	f.Fuzz(func(t *testing.T, der []byte, password string) {
		b, err := certs.ParsePFX(der, password)
		if err != nil {
			return
		}
		if !certs.SameKey(b.Leaf.PublicKey, b.Key.Public()) {
			t.Error("the certificate is not the key's")
		}
		if _, err := b.PFX(); err != nil {
			t.Errorf("it cannot be written again: %v", err)
		}
	})
}

func FuzzPEM(f *testing.F) {
	text, err := chain(f, ecKey()).PEM()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add("-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----\n")
	f.Fuzz(func(t *testing.T, text string) {
		b, err := certs.ParsePEM(text)
		if err != nil {
			return
		}
		again, err := b.PEM()
		if err != nil {
			t.Fatal(err)
		}
		if got, err := certs.ParsePEM(again); err != nil || names(got) != names(b) {
			t.Errorf("written and read again: %v", err)
		}
		x, k := certs.Describe(b.Leaf)
		p := &latchkey.CertificatePolicy{X509: x, Key: k}
		p.Fill()
		_ = p.Validate()
	})
}

func FuzzSubject(f *testing.F) {
	for _, s := range []string{"CN=x, O=y+L=z", `CN="a"`, `CN=\,`, "1.2.3=#0500", "E=a"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		der, err := certs.ParseSubject(s)
		if err != nil {
			return
		}
		var name pkix.RDNSequence
		if rest, err := asn1.Unmarshal(der, &name); len(rest) > 0 {
			t.Errorf("ParseSubject(%q) = %x: %v", s, der, err)
		}
		text, err := certs.FormatSubject(der)
		if err != nil {
			t.Fatalf("FormatSubject(%x): %v", der, err)
		}
		if again, err := certs.ParseSubject(text); err != nil || string(again) != string(der) {
			t.Errorf("%q becomes %q, and that %x, %v; want %x", s, text, again, err, der)
		}
	})
}

// FuzzPolicy makes a request by what a client says of a policy.
func FuzzPolicy(f *testing.F) {
	key := ecKey()
	f.Add(`{"issuer":{"name":"self"},"x509_props":{"subject":"CN=x","sans":{"upns":["a@b"],"ipAddresses":["::1"],"uris":["a:b"]},"ekus":["2.5.29.37.0"],"key_usage":["decipherOnly"]}}`)
	f.Add(`{"key_props":{"kty":"EC"},"secret_props":{},"lifetime_actions":[{"trigger":{"days_before_expiry":3},"action":{"action_type":"AutoRenew"}}]}`)
	f.Add(`{"key_props":null,"x509_props":{"validity_months":null},"issuer":{}}`)
	f.Fuzz(func(t *testing.T, text string) {
		var p latchkey.CertificatePolicy
		if json.Unmarshal([]byte(text), &p) != nil {
			return
		}
		p.Fill()
		if p.Validate() != nil {
			return
		}
		for _, a := range p.Lifetime {
			a.At(time.Unix(0, 0), time.Unix(1, 0))
		}
		der, err := certs.Request(key, &p)
		if err != nil {
			if !errors.Is(err, latchkey.ErrInvalid) {
				t.Errorf("Request by a policy that is valid = %v; want one, or invalid", err)
			}
			return
		}
		if _, err := x509.ParseCertificateRequest(der); err != nil {
			t.Errorf("a request that cannot be read: %v", err)
		}
		if _, err := certs.SelfSign(key, &p, time.Now()); err != nil {
			t.Errorf("SelfSign = %v", err)
		}
	})
}

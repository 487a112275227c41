package certauth

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"software.sslmate.com/src/go-pkcs12"

	"latchkey.dev/internal/latchkeytest/pki"
	"latchkey.dev/latchkey"
)

const upn = "bot@contoso.example"

func parse(t *testing.T, text string) *Certificate {
	t.Helper()
	c, err := Parse(latchkey.NewSecret(text))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestParse(t *testing.T) {
	ca := pki.NewAuthority(t, "Test CA")
	pair := ca.Issue(t, pki.Options{UPN: upn})
	other := ca.Issue(t, pki.Options{UPN: upn})
	rsaPair := ca.Issue(t, pki.Options{UPN: upn, Key: pki.RSAKey(t)})
	b64 := base64.StdEncoding.EncodeToString
	mixed, err := pkcs12.Modern2023.Encode(other.Key, pair.Cert, pair.Chain, "")
	if err != nil {
		t.Fatal(err)
	}
	late, err := pkcs12.Modern2023.Encode(pair.Key, ca.Cert, pair.Chain[:0], "")
	if err != nil {
		t.Fatal(err)
	}
	reordered, err := pkcs12.Passwordless.Encode(pair.Key, ca.Cert, []*x509.Certificate{pair.Cert}, "")
	if err != nil {
		t.Fatal(err)
	}
	store, err := pkcs12.Passwordless.EncodeTrustStore([]*x509.Certificate{pair.Cert}, "")
	if err != nil {
		t.Fatal(err)
	}
	changed, err := pkcs12.Modern2023.WithIterations(100).Encode(pair.Key, pair.Cert, nil, "")
	if err != nil {
		t.Fatal(err)
	}
	changed = bytes.ReplaceAll(changed, []byte{2, 1, 100}, []byte{2, 1, 99})
	tests := []struct {
		name, text, want string // part of the error, "" for none
	}{
		{"Key Vault's", pair.Secret(t), ""},
		{"RSA", rsaPair.Secret(t), ""},
		{"white space around", "\n" + pair.Secret(t) + "\n", ""},
		{"leaf after its issuer", b64(reordered), ""},
		{"PEM", string(pki.PEM(pair.Cert)) + string(pair.KeyPEM(t)), "kept as PEM"},
		{"password", "correct horse battery staple", "not a PFX file in base64"},
		{"base64 of something", b64([]byte("something")), "not a PFX file with"},
		{"empty", "", "not a PFX file with"},
		{"protected by a password", b64(pair.PFX(t, "x")), "has a password"},
		{"no key", b64(store), "not exportable"},
		{"another's key", b64(mixed), "belongs to none of its certificates"},
		{"the issuer's certificate only", b64(late), "belongs to none of its certificates"},
		{"changed", b64(changed), "has a password, or is damaged"},
		{"too large", strings.Repeat("A", latchkey.MaxSecretBytes+4), "too large"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, err := Parse(latchkey.NewSecret(tt.text))
			switch {
			case tt.want == "" && err != nil:
				t.Fatalf("Parse = %v; want no error", err)
			case tt.want == "" && !bytes.Equal(c.Leaf.Raw, pair.Cert.Raw) && !bytes.Equal(c.Leaf.Raw, rsaPair.Cert.Raw):
				t.Errorf("the leaf is %s; want the pair's", c.Leaf.Subject)
			case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
				t.Errorf("Parse = %v; want %q", err, tt.want)
			case err != nil && len(tt.text) > 8 && strings.Contains(err.Error(), tt.text):
				t.Errorf("the error repeats the secret: %v", err)
			}
		})
	}
}

// TestIterations has files ask for much work.
func TestIterations(t *testing.T) {
	pair := pki.NewAuthority(t, "Test CA").Issue(t, pki.Options{})
	pfx, err := pkcs12.LegacyDES.WithIterations(0x7fff).Encode(pair.Key, pair.Cert, nil, "")
	if err != nil {
		t.Fatal(err)
	}
	grown := bytes.ReplaceAll(pfx, []byte{2, 2, 0x7f, 0xff}, []byte{2, 2, 0x80, 0})
	if _, err := Decode(grown); err == nil || !strings.Contains(err.Error(), "too many rounds") {
		t.Errorf("Decode = %v; want it refused before it is opened", err)
	}
}

func TestPEM(t *testing.T) {
	ca := pki.NewAuthority(t, "Test CA")
	stranger := pki.NewAuthority(t, "Other CA")
	pair := ca.Issue(t, pki.Options{UPN: upn})
	pair.Chain = append(pair.Chain, stranger.Cert)
	chain, key, err := parse(t, pair.Secret(t)).PEM()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tls.X509KeyPair(chain, []byte(key.Reveal())); err != nil {
		t.Error(err)
	}
	if want := string(pki.PEM(pair.Cert, ca.Cert)); string(chain) != want {
		t.Errorf("chain = %s; want the certificate and its issuer, %s", chain, want)
	}
}

func TestExamine(t *testing.T) {
	ca := pki.NewAuthority(t, "Test CA")
	now := time.Now()
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	curve, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	without := ca.Issue(t, pki.Options{UPN: upn})
	without.Chain = nil
	broken := ca.Issue(t, pki.Options{UPN: upn})
	broken.Chain = []*x509.Certificate{pki.NewAuthority(t, "Other CA").Cert}
	server := []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	tests := []struct {
		name  string
		pair  *pki.Pair
		state latchkey.CheckState
		want  string // the findings that have not passed
	}{
		{"right", ca.Issue(t, pki.Options{UPN: upn}), latchkey.CheckPassed, ""},
		{"in other letters", ca.Issue(t, pki.Options{UPN: "BOT@contoso.example"}), latchkey.CheckPassed, ""},
		{"self-signed", ca.Issue(t, pki.Options{UPN: upn, SelfSigned: true}), latchkey.CheckPassed, ""},
		{"smart card", ca.Issue(t, pki.Options{UPN: upn, EKUOIDs: []asn1.ObjectIdentifier{oidSmartCardLogon}}), latchkey.CheckPassed, ""},
		{"any use", ca.Issue(t, pki.Options{UPN: upn, EKU: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}), latchkey.CheckPassed, ""},
		{"expired", ca.Issue(t, pki.Options{UPN: upn, NotAfter: now.Add(-time.Minute)}), latchkey.CheckFailed, "validity "},
		{"too early", ca.Issue(t, pki.Options{UPN: upn, NotBefore: now.Add(time.Minute)}), latchkey.CheckFailed, "validity "},
		{"no chain", without, latchkey.CheckUnknown, "chain "},
		{"another chain", broken, latchkey.CheckFailed, "chain "},
		{"for servers", ca.Issue(t, pki.Options{UPN: upn, EKU: server}), latchkey.CheckFailed, "usage "},
		{"1024 bits", ca.Issue(t, pki.Options{UPN: upn, Key: weak}), latchkey.CheckFailed, "key "},
		{"P-224", ca.Issue(t, pki.Options{UPN: upn, Key: curve}), latchkey.CheckFailed, "key "},
		{"another UPN", ca.Issue(t, pki.Options{UPN: "alice@contoso.example"}), latchkey.CheckFailed, "username binding "},
		{"no UPN", ca.Issue(t, pki.Options{Email: upn}), latchkey.CheckFailed, "username binding "},
		{"all wrong", ca.Issue(t, pki.Options{NotAfter: now.Add(-time.Minute), EKU: server, Key: weak}), latchkey.CheckFailed, "validity key usage username binding "},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := parse(t, tt.pair.Secret(t)).Examine(upn, nil, latchkey.DefaultCertificateBindings(), now)
			got := ""
			for _, f := range r.Findings {
				if f.State != latchkey.CheckPassed {
					got += f.Check + " "
				}
			}
			if r.State != tt.state || got != tt.want {
				t.Errorf("Examine = %s, %q; want %s, %q: %+v", r.State, got, tt.state, tt.want, r.Findings)
			}
			if (r.State == latchkey.CheckPassed) != (r.Message == "") || (r.Message == "") != (r.Remedy == "") {
				t.Errorf("message %q, remedy %q of a check that %s", r.Message, r.Remedy, r.State)
			}
			if !r.ExpiresAt.Equal(tt.pair.Cert.NotAfter) || len(r.Thumbprint) != 40 || r.Subject != "CN=bot" {
				t.Errorf("facts of the certificate are %+v", r)
			}
		})
	}
}

// TestChain has paths of three: a root, an authority below it, and the certificate.
func TestChain(t *testing.T) {
	now := time.Now()
	serial := int64(0)
	// issue makes a certificate for a key, signed by another's; by nil is itself.
	issue := func(name string, key crypto.Signer, ca bool, by *pki.Authority, alg x509.SignatureAlgorithm) *pki.Authority {
		t.Helper()
		serial++
		template := &x509.Certificate{
			SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour),
			IsCA: ca, BasicConstraintsValid: true, SignatureAlgorithm: alg, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
			ExtraExtensions: []pkix.Extension{pki.SAN(t, upn, "")},
		}
		parent, signer := template, key
		if by != nil {
			parent, signer = by.Cert, by.Key
		}
		der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
		if err != nil {
			t.Fatal(err)
		}
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		return &pki.Authority{Cert: cert, Key: key}
	}
	// resign replaces the signature by one of an algorithm that package x509 makes no more.
	resign := func(of *pki.Authority, by crypto.Signer, hash crypto.Hash, alg int) *pki.Authority {
		t.Helper()
		var parts struct {
			TBS       asn1.RawValue
			Algorithm pkix.AlgorithmIdentifier
			Signature asn1.BitString
		}
		if _, err := asn1.Unmarshal(of.Cert.Raw, &parts); err != nil {
			t.Fatal(err)
		}
		// The last number of sha256WithRSAEncryption is 11, in the signed part too.
		oid := []byte{0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01}
		tbs := bytes.ReplaceAll(parts.TBS.FullBytes, append(oid, 11), append(bytes.Clone(oid), byte(alg)))
		h := hash.New()
		h.Write(tbs)
		sum, err := by.Sign(rand.Reader, h.Sum(nil), hash)
		if err != nil {
			t.Fatal(err)
		}
		parts.TBS = asn1.RawValue{FullBytes: tbs}
		parts.Algorithm.Algorithm[len(parts.Algorithm.Algorithm)-1] = alg
		parts.Signature = asn1.BitString{Bytes: sum, BitLength: 8 * len(sum)}
		der, err := asn1.Marshal(parts)
		if err != nil {
			t.Fatal(err)
		}
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		return &pki.Authority{Cert: cert, Key: of.Key}
	}
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	none := x509.UnknownSignatureAlgorithm
	rsaKey := pki.RSAKey(t)
	root := issue("root", pki.ECKey(t), true, nil, none)
	middle := issue("middle", pki.ECKey(t), true, root, none)
	leaf := issue("bot", pki.ECKey(t), false, middle, none)
	other := issue("other", pki.ECKey(t), true, nil, none)

	rsaRoot := issue("rsa root", rsaKey, true, nil, x509.SHA256WithRSA)
	rsaMiddle := issue("rsa middle", rsaKey, true, rsaRoot, x509.SHA256WithRSA)
	rsaLeaf := issue("bot", pki.ECKey(t), false, rsaMiddle, x509.SHA256WithRSA)
	weakRoot := issue("weak root", weak, true, nil, none)
	weakMiddle := issue("weak middle", weak, true, root, none)
	edRoot := issue("ed root", edKey, true, nil, none)
	edMiddle := issue("ed middle", pki.ECKey(t), true, edRoot, none)
	otherMiddle := issue("middle", pki.ECKey(t), true, root, none) // of the same name, with another key
	noAuthority := issue("middle", middle.Key, false, root, none)
	cross := issue("middle", middle.Key, true, other, none) // the same authority, by another root
	stale := issue("bot", pki.ECKey(t), false, other, none)

	tests := []struct {
		name  string
		leaf  *pki.Authority
		chain []*pki.Authority
		state latchkey.CheckState
		want  []string // parts of the message
	}{
		{"complete", leaf, []*pki.Authority{middle, root}, latchkey.CheckPassed, []string{"up to CN=root"}},
		{"in another order, with a stranger", leaf, []*pki.Authority{other, root, middle}, latchkey.CheckPassed, []string{"up to CN=root"}},
		{"two ways, one complete", leaf, []*pki.Authority{cross, middle, root}, latchkey.CheckPassed, []string{"up to CN=root"}},
		{"two ways, none complete", leaf, []*pki.Authority{cross, middle}, latchkey.CheckUnknown, []string{"is missing"}},
		{"twice", leaf, []*pki.Authority{middle, middle, leaf}, latchkey.CheckUnknown, []string{"issuer CN=root is missing", "ends at CN=middle"}},
		{"without the root", leaf, []*pki.Authority{middle}, latchkey.CheckUnknown, []string{"issuer CN=root is missing", "ends at CN=middle"}},
		{"alone", leaf, nil, latchkey.CheckUnknown, []string{"issuer CN=middle is missing", "ends at CN=bot"}},
		{"gap", leaf, []*pki.Authority{root}, latchkey.CheckFailed, []string{"CN=root", "not that of the issuer CN=middle", "issued CN=bot"}},
		{"gap above", leaf, []*pki.Authority{middle, other, stale}, latchkey.CheckFailed, []string{"CN=other; CN=bot", "not that of the issuer CN=root", "issued CN=middle"}},
		{"wrong signature", leaf, []*pki.Authority{otherMiddle, root}, latchkey.CheckFailed, []string{"CN=middle", "CN=bot is not signed by its key"}},
		{"no authority", leaf, []*pki.Authority{noAuthority, root}, latchkey.CheckFailed, []string{"CN=middle", "CN=bot cannot be issued by it"}},
		{"weak root", issue("bot", pki.ECKey(t), false, weakRoot, none), []*pki.Authority{weakRoot}, latchkey.CheckFailed, []string{"CN=weak root", "1024 bits"}},
		{"weak in the middle", issue("bot", pki.ECKey(t), false, weakMiddle, none), []*pki.Authority{weakMiddle, root}, latchkey.CheckFailed, []string{"CN=weak middle", "1024 bits"}},
		{"Ed25519 above", issue("bot", pki.ECKey(t), false, edMiddle, none), []*pki.Authority{edMiddle, edRoot}, latchkey.CheckPassed, []string{"up to CN=ed root"}},
		{"leaf by SHA-1", resign(rsaLeaf, rsaKey, crypto.SHA1, 5), []*pki.Authority{rsaMiddle, rsaRoot}, latchkey.CheckFailed, []string{"CN=bot is signed by CN=rsa middle with SHA1-RSA"}},
		{"leaf by MD5", resign(rsaLeaf, rsaKey, crypto.MD5, 4), []*pki.Authority{rsaMiddle, rsaRoot}, latchkey.CheckFailed, []string{"CN=bot is signed by CN=rsa middle with MD5-RSA"}},
		{"leaf by SHA-1, alone", resign(rsaLeaf, rsaKey, crypto.SHA1, 5), nil, latchkey.CheckFailed, []string{"CN=bot is signed by CN=rsa middle with SHA1-RSA"}},
		{"leaf by SHA-1 of another key", resign(rsaLeaf, weak, crypto.SHA1, 5), []*pki.Authority{rsaMiddle, rsaRoot}, latchkey.CheckFailed, []string{"SHA1-RSA"}},
		{"middle by SHA-1", rsaLeaf, []*pki.Authority{resign(rsaMiddle, rsaKey, crypto.SHA1, 5), rsaRoot}, latchkey.CheckFailed, []string{"CN=rsa middle is signed by CN=rsa root with SHA1-RSA"}},
		{"root by SHA-1", rsaLeaf, []*pki.Authority{rsaMiddle, resign(rsaRoot, rsaKey, crypto.SHA1, 5)}, latchkey.CheckPassed, []string{"up to CN=rsa root"}},
		{"root by MD5", rsaLeaf, []*pki.Authority{rsaMiddle, resign(rsaRoot, rsaKey, crypto.MD5, 4)}, latchkey.CheckPassed, []string{"up to CN=rsa root"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := &Certificate{Leaf: tt.leaf.Cert}
			for _, a := range tt.chain {
				c.Chain = append(c.Chain, a.Cert)
			}
			f := c.chain(now)
			if f.State != tt.state || (f.Remedy == "") != (f.State == latchkey.CheckPassed) {
				t.Errorf("chain = %+v; want %s", f, tt.state)
			}
			for _, want := range tt.want {
				if !strings.Contains(f.Message, want) {
					t.Errorf("message = %q; want %q in it", f.Message, want)
				}
			}
		})
	}
}

// TestBindings evaluates Entra's table of bindings, in their order.
func TestBindings(t *testing.T) {
	ca := pki.NewAuthority(t, "Test CA")
	policy, err := x509.ParseOID("1.2.3.4")
	if err != nil {
		t.Fatal(err)
	}
	cert := parse(t, ca.Issue(t, pki.Options{UPN: upn, Email: "mail@contoso.example", Policies: []x509.OID{policy},
		Extensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 14}, Value: []byte{4, 2, 0xab, 0x01}}}}).Secret(t))
	mail := parse(t, ca.Issue(t, pki.Options{Email: upn}).Secret(t))
	bind := func(f latchkey.CertificateField, a latchkey.UserAttribute) latchkey.CertificateBinding {
		return latchkey.CertificateBinding{Field: f, Attribute: a}
	}
	pn, rfc := bind(latchkey.FieldPrincipalName, latchkey.AttributeUPN), bind(latchkey.FieldRFC822Name, latchkey.AttributeUPN)
	ids := func(f latchkey.CertificateField) latchkey.CertificateBinding {
		return bind(f, latchkey.AttributeCertificateUserIDs)
	}
	tests := []struct {
		name  string
		c     *Certificate
		b     latchkey.CertificateBindings
		state latchkey.CheckState
		want  string // part of the finding "username"
	}{
		{"default", cert, latchkey.DefaultCertificateBindings(), latchkey.CheckPassed, "binding of PrincipalName to userPrincipalName"},
		{"field is absent, next", mail, latchkey.CertificateBindings{Bindings: []latchkey.CertificateBinding{pn, rfc}}, latchkey.CheckPassed, "binding of RFC822Name"},
		{"mismatch, next", cert, latchkey.CertificateBindings{Bindings: []latchkey.CertificateBinding{rfc, pn}}, latchkey.CheckPassed, "binding of PrincipalName"},
		{"mismatch", cert, latchkey.CertificateBindings{Bindings: []latchkey.CertificateBinding{rfc}}, latchkey.CheckFailed, "by none"},
		{"on premises", cert, latchkey.CertificateBindings{Bindings: []latchkey.CertificateBinding{bind(latchkey.FieldPrincipalName, latchkey.AttributeOnPremisesUPN)}},
			latchkey.CheckUnknown, "onPremisesUserPrincipalName with bot@contoso.example"},
		{"PN", cert, latchkey.CertificateBindings{Bindings: []latchkey.CertificateBinding{ids(latchkey.FieldPrincipalName)}}, latchkey.CheckUnknown, "X509:<PN>bot@contoso.example"},
		{"RFC822", cert, latchkey.CertificateBindings{Bindings: []latchkey.CertificateBinding{ids(latchkey.FieldRFC822Name)}}, latchkey.CheckUnknown, "X509:<RFC822>mail@contoso.example"},
		{"subject", cert, latchkey.CertificateBindings{Bindings: []latchkey.CertificateBinding{ids(latchkey.FieldSubject)}}, latchkey.CheckUnknown, "X509:<S>CN=bot"},
		{"issuer and subject", cert, latchkey.CertificateBindings{Bindings: []latchkey.CertificateBinding{ids(latchkey.FieldIssuerAndSubject)}}, latchkey.CheckUnknown, "X509:<I>CN=Test CA<S>CN=bot"},
		{"SKI", cert, latchkey.CertificateBindings{Bindings: []latchkey.CertificateBinding{ids(latchkey.FieldSKI)}}, latchkey.CheckUnknown, "X509:<SKI>AB01"},
		{"SHA1", cert, latchkey.CertificateBindings{Bindings: []latchkey.CertificateBinding{ids(latchkey.FieldSHA1PublicKey)}}, latchkey.CheckUnknown, "X509:<SHA1-PUKEY>" + thumbprint(cert.Leaf)},
		{"serial", cert, latchkey.CertificateBindings{Bindings: []latchkey.CertificateBinding{ids(latchkey.FieldIssuerAndSerialNumber)}}, latchkey.CheckUnknown, "X509:<I>CN=Test CA<SR>" + serial(cert.Leaf)},
		{"absent", mail, latchkey.CertificateBindings{Bindings: []latchkey.CertificateBinding{ids(latchkey.FieldSKI), pn}}, latchkey.CheckFailed, "by none"},
		{"high affinity", cert, latchkey.CertificateBindings{Bindings: []latchkey.CertificateBinding{pn}, Affinity: latchkey.AffinityHigh}, latchkey.CheckFailed, "by none"},
		{"high affinity by key", cert, latchkey.CertificateBindings{Bindings: []latchkey.CertificateBinding{pn, ids(latchkey.FieldSKI)}, Affinity: latchkey.AffinityHigh}, latchkey.CheckUnknown, "<SKI>"},
		{"high by issuer", cert, latchkey.CertificateBindings{Bindings: []latchkey.CertificateBinding{pn}, HighIssuers: []string{"cn=test ca"}}, latchkey.CheckFailed, "by none"},
		{"high by policy", cert, latchkey.CertificateBindings{Bindings: []latchkey.CertificateBinding{pn}, HighPolicies: []string{"1.2.3.4"}}, latchkey.CheckFailed, "by none"},
		{"high by other rules", cert, latchkey.CertificateBindings{Bindings: []latchkey.CertificateBinding{pn}, HighIssuers: []string{"CN=x"}, HighPolicies: []string{"1.2.3"}}, latchkey.CheckPassed, "PrincipalName"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if err := tt.b.Validate(); err != nil {
				t.Fatal(err)
			}
			f := tt.c.username(upn, nil, tt.b)
			if f[0].Check != "username" || f[0].State != tt.state || !strings.Contains(f[0].Message, tt.want) {
				t.Errorf("username = %+v; want %s, %q", f[0], tt.state, tt.want)
			}
			if len(f) != 1+len(tt.b.Bindings) {
				t.Errorf("%d findings; want one of each binding: %+v", len(f)-1, f)
			}
		})
	}
}

// TestAccount evaluates bindings by what the directory has of the user.
func TestAccount(t *testing.T) {
	ca := pki.NewAuthority(t, "Test CA")
	cert := parse(t, ca.Issue(t, pki.Options{UPN: "card@corp.example", Email: "mail@contoso.example",
		Extensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 14}, Value: []byte{4, 2, 0xab, 0x01}}}}).Secret(t))
	number := "X509:<I>CN=Test CA<SR>" + serial(cert.Leaf)
	onPremises := latchkey.CertificateBinding{Field: latchkey.FieldPrincipalName, Attribute: latchkey.AttributeOnPremisesUPN}
	ids := func(f latchkey.CertificateField) latchkey.CertificateBinding {
		return latchkey.CertificateBinding{Field: f, Attribute: latchkey.AttributeCertificateUserIDs}
	}
	tests := []struct {
		name     string
		account  latchkey.CertificateAccount
		bindings []latchkey.CertificateBinding
		affinity latchkey.Affinity
		state    latchkey.CheckState
		want     string // part of a finding
	}{
		{"on premises", latchkey.CertificateAccount{OnPremisesUPN: "CARD@corp.example"}, []latchkey.CertificateBinding{onPremises}, "", latchkey.CheckPassed, "by the binding of PrincipalName to onPremisesUserPrincipalName"},
		{"another on premises", latchkey.CertificateAccount{OnPremisesUPN: "x@corp.example"}, []latchkey.CertificateBinding{onPremises}, "", latchkey.CheckFailed, "the user's onPremisesUserPrincipalName has not card@corp.example"},
		{"none on premises", latchkey.CertificateAccount{}, []latchkey.CertificateBinding{onPremises}, "", latchkey.CheckFailed, "has not card@corp.example"},
		{"SKI", latchkey.CertificateAccount{CertificateUserIDs: []string{"X509:<PN>x", "X509:<SKI>ab01"}}, []latchkey.CertificateBinding{ids(latchkey.FieldSKI)}, "", latchkey.CheckPassed, "the user has X509:<SKI>ab01"},
		{"SKI of another key", latchkey.CertificateAccount{CertificateUserIDs: []string{"X509:<SKI>AB02"}}, []latchkey.CertificateBinding{ids(latchkey.FieldSKI)}, "", latchkey.CheckFailed, "certificateUserIds has not X509:<SKI>AB01"},
		{"the value under another prefix", latchkey.CertificateAccount{CertificateUserIDs: []string{"X509:<PN>AB01"}}, []latchkey.CertificateBinding{ids(latchkey.FieldSKI)}, "", latchkey.CheckFailed, "has not"},
		{"low affinity, high wanted", latchkey.CertificateAccount{CertificateUserIDs: []string{"X509:<PN>card@corp.example"}}, []latchkey.CertificateBinding{ids(latchkey.FieldPrincipalName)}, latchkey.AffinityHigh, latchkey.CheckFailed, "does not count"},
		{"high affinity, high wanted", latchkey.CertificateAccount{CertificateUserIDs: []string{number}}, []latchkey.CertificateBinding{ids(latchkey.FieldPrincipalName), ids(latchkey.FieldIssuerAndSerialNumber)}, latchkey.AffinityHigh, latchkey.CheckPassed, "binding of IssuerAndSerialNumber"},
		{"first that fits", latchkey.CertificateAccount{CertificateUserIDs: []string{"X509:<RFC822>mail@contoso.example", number}}, []latchkey.CertificateBinding{ids(latchkey.FieldSKI), ids(latchkey.FieldRFC822Name), ids(latchkey.FieldIssuerAndSerialNumber)}, "", latchkey.CheckPassed, "binding of RFC822Name"},
		{"subject", latchkey.CertificateAccount{CertificateUserIDs: []string{"X509:<I>CN=Test CA<S>CN=bot"}}, []latchkey.CertificateBinding{ids(latchkey.FieldIssuerAndSubject)}, "", latchkey.CheckPassed, "IssuerAndSubject"},
		{"subject but for capitals", latchkey.CertificateAccount{CertificateUserIDs: []string{"X509:<S>cn=BOT"}}, []latchkey.CertificateBinding{ids(latchkey.FieldSubject)}, "", latchkey.CheckUnknown, "whether capitals matter"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := latchkey.CertificateBindings{Bindings: tt.bindings, Affinity: tt.affinity}
			if err := b.Validate(); err != nil {
				t.Fatal(err)
			}
			f := cert.username(upn, &tt.account, b)
			said := ""
			for _, x := range f {
				said += x.Message + "\n"
			}
			if f[0].State != tt.state || !strings.Contains(said, tt.want) || len(f) != 1+len(tt.bindings) {
				t.Errorf("username = %+v; want %s, %q", f, tt.state, tt.want)
			}
		})
	}
}

func TestNames(t *testing.T) {
	dc := asn1.ObjectIdentifier{0, 9, 2342, 19200300, 100, 1, 25}
	raw, err := asn1.Marshal(pkix.RDNSequence{{{Type: dc, Value: "com"}}, {{Type: dc, Value: "contoso"}}, {{Type: asn1.ObjectIdentifier{2, 5, 4, 3}, Value: `A "bot", Ltd`}},
		{{Type: asn1.ObjectIdentifier{2, 5, 4, 99}, Value: "x"}}})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := DN(raw), `DC=com,DC=contoso,CN="A ""bot"", Ltd",OID.2.5.4.99=x`; got != want {
		t.Errorf("DN = %s; want %s", got, want)
	}
	reversed := &x509.Certificate{SerialNumber: big.NewInt(0x48efa0)}
	if got, want := serial(reversed), "a0ef48"; got != want {
		t.Errorf("serial = %s; want %s", got, want)
	}
	two := pki.SAN(t, upn, "x@y.example")
	got, err := parseUPNs(two.Value)
	if diff := cmp.Diff([]string{upn}, got); diff != "" || err != nil {
		t.Errorf("UPNs: %v (-want +got):\n%s", err, diff)
	}
	for i := range two.Value {
		_, _ = parseUPNs(two.Value[:i]) // must not panic
	}
}

func FuzzPFX(f *testing.F) {
	ca := pki.NewAuthority(f, "Test CA")
	pair := ca.Issue(f, pki.Options{UPN: upn})
	f.Add(pair.PFX(f, ""))
	f.Add(pair.PFX(f, "x"))
	bare, err := pkcs12.Passwordless.Encode(pair.Key, pair.Cert, pair.Chain, "")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(bare)
	f.Add([]byte{0x30, 0x80, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := Decode(b)
		if err != nil {
			return
		}
		c.Examine(upn, nil, latchkey.DefaultCertificateBindings(), time.Unix(0, 0))
		if _, _, err := c.PEM(); err != nil {
			t.Error(err)
		}
	})
}

func FuzzUPN(f *testing.F) {
	f.Add(pki.SAN(f, upn, "").Value)
	f.Add(pki.SAN(f, upn, "x@y.example").Value)
	f.Add([]byte{0x30, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		names, err := parseUPNs(b)
		for _, n := range names {
			if len(n) > maxName || len(names) > maxNames {
				t.Errorf("%d names, one of %d bytes", len(names), len(n))
			}
		}
		if err == nil && len(names) == 1 && !strings.Contains(string(b), names[0]) {
			t.Errorf("%q is not in %x", names[0], b)
		}
	})
}

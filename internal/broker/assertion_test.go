package broker

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"maps"
	"math/big"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"latchkey.dev/internal/db"
	"latchkey.dev/latchkey"
)

const testAudience = "https://latchkey.example/api/v1/sign-in/service-principal"

// A testSigner is a certificate with its key.
type testSigner struct {
	key       crypto.Signer
	der       []byte
	algorithm jose.SignatureAlgorithm
}

func newSigner(t testing.TB, key crypto.Signer, algorithm jose.SignatureAlgorithm, notBefore, notAfter time.Time) testSigner {
	t.Helper()
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: serial, NotBefore: notBefore, NotAfter: notAfter}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return testSigner{key, der, algorithm}
}

func ecKey(t testing.TB, curve elliptic.Curve) crypto.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

var rsaKey = sync.OnceValues(func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 2048) })

func (s testSigner) pem() string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.der}))
}

func (s testSigner) x5t() string {
	sum := sha1.Sum(s.der)
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

func (s testSigner) x5t256() string {
	sum := sha256.Sum256(s.der)
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// sign returns an assertion with claims and headers.
func (s testSigner) sign(t testing.TB, claims map[string]any, headers map[string]string) string {
	t.Helper()
	options := &jose.SignerOptions{}
	for name, v := range headers {
		options = options.WithHeader(jose.HeaderKey(name), v)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: s.algorithm, Key: s.key}, options)
	if err != nil {
		t.Fatal(err)
	}
	text, err := jwt.Signed(signer).Claims(claims).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestClientCertificates(t *testing.T) {
	rsa2048, err := rsaKey()
	if err != nil {
		t.Fatal(err)
	}
	eachOffice(t, func(o *office) {
		ctx := o.t.Context()
		now := o.time()
		end := now.Add(30 * 24 * time.Hour)
		p := o.program("Deploy")
		signers := []testSigner{
			newSigner(o.t, rsa2048, jose.RS256, now, end),
			newSigner(o.t, rsa2048, jose.PS256, now, end),
			newSigner(o.t, ecKey(o.t, elliptic.P256()), jose.ES256, now, end),
			newSigner(o.t, ecKey(o.t, elliptic.P384()), jose.ES384, now, end),
			newSigner(o.t, ecKey(o.t, elliptic.P521()), jose.ES512, now, end),
		}
		var ids []latchkey.ServicePrincipalCredentialID
		for _, s := range signers {
			n := o.prove(p, latchkey.ServicePrincipalCredentialCreate{Kind: latchkey.ProofCertificate, Certificate: s.pem()})
			if n.Thumbprint != s.x5t() || n.ThumbprintSHA256 != s.x5t256() || n.Secret != "" || !n.ExpiresAt.Equal(end.Truncate(time.Second)) {
				o.t.Errorf("added %+v; want thumbprints %s and %s until %s", n, s.x5t(), s.x5t256(), end)
			}
			ids = append(ids, n.ID)
		}
		claims := func(change map[string]any) map[string]any {
			c := map[string]any{
				"iss": p.ClientID, "sub": p.ClientID, "aud": testAudience, "jti": latchkey.NewGUID(),
				"iat": o.time().Unix(), "nbf": o.time().Unix(), "exp": o.time().Add(10 * time.Minute).Unix(),
			}
			maps.Copy(c, change)
			for name, v := range c {
				if v == nil {
					delete(c, name)
				}
			}
			return c
		}
		try := func(what, assertion, want string) error {
			o.t.Helper()
			_, err := o.AuthenticateServicePrincipal(ctx, ServicePrincipalProof{ClientID: p.ClientID, Assertion: assertion, Audiences: []string{testAudience}})
			if codeOf(err) != want {
				o.t.Errorf("%s: %v; want %s", what, err, want)
			}
			// The next one does not have to wait.
			if err := o.db.Update(ctx, func(tx *db.Tx) error { return tx.SetSignInFailures("sp:"+p.ClientID, db.Failures{}) }); err != nil {
				o.t.Fatal(err)
			}
			return err
		}
		for _, s := range signers {
			try(string(s.algorithm)+" by x5t", s.sign(o.t, claims(nil), map[string]string{"x5t": s.x5t()}), "ok")
			try(string(s.algorithm)+" by x5t#S256", s.sign(o.t, claims(nil), map[string]string{"x5t#S256": s.x5t256(), "typ": "JWT"}), "ok")
		}
		s := signers[2]
		sum := sha1.Sum(s.der)
		for what, kid := range map[string]string{"id": string(ids[2]), "SHA-1": s.x5t(), "SHA-1 in hexadecimal": strings.ToUpper(hex.EncodeToString(sum[:])), "SHA-256": s.x5t256()} {
			try("kid as "+what, s.sign(o.t, claims(nil), map[string]string{"kid": kid}), "ok")
		}
		by := map[string]string{"x5t": s.x5t()}
		try("ids in capitals", s.sign(o.t, claims(map[string]any{"iss": strings.ToUpper(p.ClientID)}), by), "ok")
		try("of the id", s.sign(o.t, claims(map[string]any{"iss": string(p.ID), "sub": string(p.ID)}), by), "ok")
		try("several audiences", s.sign(o.t, claims(map[string]any{"aud": []string{"https://else.example", testAudience}}), by), "ok")

		minutes := func(n int) int64 { return o.time().Add(time.Duration(n) * time.Minute).Unix() }
		invalid := latchkey.CodeAssertionInvalid
		for _, tt := range []struct {
			name   string
			change map[string]any
			want   string
		}{
			{"another audience", map[string]any{"aud": "https://login.microsoftonline.com/common"}, latchkey.CodeAssertionAudience},
			{"part of the audience", map[string]any{"aud": testAudience + "/"}, latchkey.CodeAssertionAudience},
			{"no audience", map[string]any{"aud": nil}, latchkey.CodeAssertionAudience},
			{"expired", map[string]any{"exp": minutes(-2)}, latchkey.CodeAssertionExpired},
			{"no expiry", map[string]any{"exp": nil}, invalid},
			{"too long", map[string]any{"exp": minutes(24*60 + 2)}, invalid},
			{"not yet", map[string]any{"nbf": minutes(3)}, invalid},
			{"from the future", map[string]any{"iat": minutes(3)}, invalid},
			{"no id", map[string]any{"jti": nil}, invalid},
			{"a huge id", map[string]any{"jti": strings.Repeat("a", maxClaim+1)}, invalid},
			{"a control character", map[string]any{"jti": "a\nb"}, invalid},
			{"another issuer", map[string]any{"iss": latchkey.NewGUID()}, latchkey.CodeFederatedMismatch},
			{"another subject", map[string]any{"sub": latchkey.NewGUID()}, latchkey.CodeFederatedMismatch},
			{"no subject", map[string]any{"sub": nil}, latchkey.CodeFederatedMismatch},
			{"an expiry that is a text", map[string]any{"exp": "soon"}, invalid},
			{"too many audiences", map[string]any{"aud": make([]string, maxAudiences+1)}, invalid},
		} {
			try(tt.name, s.sign(o.t, claims(tt.change), by), tt.want)
		}
		stranger := newSigner(o.t, ecKey(o.t, elliptic.P256()), jose.ES256, now, end)
		try("a certificate that is none of its", stranger.sign(o.t, claims(nil), map[string]string{"x5t": stranger.x5t()}), invalid)
		try("another key", stranger.sign(o.t, claims(nil), by), invalid)
		try("no certificate", s.sign(o.t, claims(nil), nil), invalid)
		try("a thumbprint that is none", s.sign(o.t, claims(nil), map[string]string{"x5t#S256": "x", "x5t": s.x5t()}), invalid)
		hmac := testSigner{algorithm: jose.HS256}
		signer, err := jose.NewSigner(jose.SigningKey{Algorithm: hmac.algorithm, Key: s.der}, (&jose.SignerOptions{}).WithHeader("x5t", s.x5t()))
		if err != nil {
			o.t.Fatal(err)
		}
		text, err := jwt.Signed(signer).Claims(claims(nil)).Serialize()
		if err != nil {
			o.t.Fatal(err)
		}
		try("the public certificate as a secret", text, invalid)
		encode := func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }
		try("alg none", encode(`{"alg":"none","x5t":"`+s.x5t()+`"}`)+"."+encode(`{"iss":"`+p.ClientID+`","sub":"`+p.ClientID+`","exp":9999999999}`)+".", invalid)
		for _, text := range []string{"x", "a.b.c", "..", strings.Repeat("a", latchkey.MaxAssertion+1)} {
			try("no assertion", text, invalid)
		}

		// Each works once, also where many servers see it at the same time.
		once := s.sign(o.t, claims(map[string]any{"exp": o.time().Add(23 * time.Hour).Unix()}), by)
		var wg sync.WaitGroup
		results := make([]error, 4)
		for i := range results {
			wg.Go(func() {
				_, results[i] = o.AuthenticateServicePrincipal(ctx, ServicePrincipalProof{ClientID: p.ClientID, Assertion: once, Audiences: []string{testAudience}})
			})
		}
		wg.Wait()
		in := 0
		for _, err := range results {
			if err == nil {
				in++
			} else if codeOf(err) != invalid || !strings.Contains(err.Error(), "used already") {
				o.t.Errorf("used at the same time: %v", err)
			}
		}
		if in != 1 {
			o.t.Errorf("an assertion was let in %d times at once; want 1", in)
		}
		o.wait(22 * time.Hour)
		if err := o.purge(ctx); err != nil {
			o.t.Fatal(err)
		}
		try("used again", once, invalid)
		o.wait(time.Hour)
		try("used again, a moment after its end", once, invalid)
		o.wait(2 * time.Minute)
		try("used again, long after", once, latchkey.CodeAssertionExpired)
		if err := o.purge(ctx); err != nil {
			o.t.Fatal(err)
		}
		if err := o.db.View(ctx, func(tx *db.Tx) error {
			n, err := tx.UsedAssertions(p.ID)
			if n != 0 {
				o.t.Errorf("%d used assertions are remembered after they expired", n)
			}
			return err
		}); err != nil {
			o.t.Fatal(err)
		}

		// A certificate ends.
		o.wait(31 * 24 * time.Hour)
		err = try("an expired certificate", s.sign(o.t, claims(nil), by), invalid)
		if err == nil || !strings.Contains(err.Error(), "expired at") {
			o.t.Errorf("an expired certificate: %v", err)
		}
		if _, err := o.AddServicePrincipalCredential(ctx, o.admin, p.ClientID, latchkey.ServicePrincipalCredentialCreate{Kind: latchkey.ProofCertificate, Certificate: stranger.pem()}); !errors.Is(err, latchkey.ErrInvalid) {
			o.t.Errorf("added an expired certificate: %v", err)
		}
		later := newSigner(o.t, ecKey(o.t, elliptic.P256()), jose.ES256, o.time().Add(time.Hour), o.time().Add(2*time.Hour))
		o.prove(p, latchkey.ServicePrincipalCredentialCreate{Kind: latchkey.ProofCertificate, Certificate: later.pem()})
		try("a certificate of later", later.sign(o.t, claims(nil), map[string]string{"x5t": later.x5t()}), invalid)
	})
}

// FuzzAssertion tests that whatever comes as an assertion is an error of the
// vocabulary or one with bounded claims.
func FuzzAssertion(f *testing.F) {
	now := time.Now()
	s := newSigner(f, ecKey(f, elliptic.P256()), jose.ES256, now, now.Add(time.Hour))
	f.Add(s.sign(f, map[string]any{"iss": "a", "sub": "a", "aud": "b", "exp": now.Unix(), "jti": "c"}, map[string]string{"x5t": s.x5t()}))
	f.Add(s.sign(f, map[string]any{"iss": 1, "aud": []any{1}, "exp": 1e300}, map[string]string{"kid": "x"}))
	f.Add("eyJhbGciOiJub25lIn0.e30.")
	f.Add("..")
	var proof latchkey.ServicePrincipalCredential
	if err := proof.DescribeCertificate(s.der); err != nil {
		f.Fatal(err)
	}
	account := db.ServiceAccount{Principal: db.Principal{ID: "sp_a"}, ClientID: "a", Proofs: []db.Proof{{ServicePrincipalCredential: latchkey.ServicePrincipalCredential{Kind: latchkey.ProofCertificate}, Certificate: s.der}}}
	f.Fuzz(func(t *testing.T, text string) {
		a, err := parseAssertion(text)
		if err != nil {
			if codeOf(err) != latchkey.CodeAssertionInvalid || strings.ContainsFunc(err.Error(), latchkey.Steers) {
				t.Errorf("parseAssertion(%q) = %v", text, err)
			}
			return
		}
		if !a.own(account, "a") {
			return
		}
		if p, why := a.byCertificate(account, []string{"b"}, now); why == nil && (p.once == nil || p.until.After(now.Add(latchkey.MaxAssertionTTL+3*assertionLeeway))) {
			t.Errorf("byCertificate(%q) = %+v", text, p)
		} else if why != nil && strings.ContainsFunc(why.Error(), latchkey.Steers) {
			t.Errorf("byCertificate(%q) = %v, which steers a terminal", text, why)
		}
	})
}

package broker

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"latchkey.dev/internal/db"
	"latchkey.dev/latchkey"
)

const (
	assertionLeeway = time.Minute // by which clocks may differ
	maxClaim        = 1000        // bytes of a text of an assertion that is looked at
	maxAudiences    = 20          // of an assertion
)

// Algorithms of signatures that are verified: of certificates' keys, and of other
// issuers. None is symmetric, so that no public key is ever taken for a secret.
var (
	certificateAlgorithms = []jose.SignatureAlgorithm{jose.RS256, jose.PS256, jose.ES256, jose.ES384, jose.ES512}
	federatedAlgorithms   = append([]jose.SignatureAlgorithm{jose.RS384, jose.RS512, jose.PS384, jose.PS512, jose.EdDSA}, certificateAlgorithms...)
)

// An assertion is a JSON Web Token by which a service principal signs in. Nothing
// in it is believed before its signature is verified.
type assertion struct {
	token  *jwt.JSONWebToken
	header jose.Header
	claims jwt.Claims
}

// refusedProof returns the error about a proof that does not count.
func refusedProof(code, remedy, format string, args ...any) *latchkey.Error {
	e := unauthenticated(code, fmt.Sprintf(format, args...), remedy)
	e.Check = string(latchkey.ActSignIn)
	return e
}

func assertionInvalid(format string, args ...any) *latchkey.Error {
	return refusedProof(latchkey.CodeAssertionInvalid, "look at how the assertion is made", format, args...)
}

// parseAssertion reads an assertion.
func parseAssertion(text string) (a assertion, err error) {
	if len(text) > latchkey.MaxAssertion {
		return a, assertionInvalid("the assertion is larger than %d bytes", latchkey.MaxAssertion)
	}
	if a.token, err = jwt.ParseSigned(text, federatedAlgorithms); err != nil || len(a.token.Headers) != 1 {
		return a, assertionInvalid("the assertion is no signed JSON Web Token with an algorithm that is accepted")
	}
	a.header = a.token.Headers[0]
	if a.token.UnsafeClaimsWithoutVerification(&a.claims) != nil {
		return a, assertionInvalid("the claims of the assertion are malformed")
	}
	if len(a.claims.Audience) > maxAudiences {
		return a, assertionInvalid("the assertion has more than %d audiences", maxAudiences)
	}
	for _, claim := range slices.Concat([]string{a.header.KeyID, a.claims.Issuer, a.claims.Subject, a.claims.ID}, a.claims.Audience) {
		if len(claim) > maxClaim || !utf8.ValidString(claim) || strings.ContainsFunc(claim, latchkey.Steers) {
			return a, assertionInvalid("a claim of the assertion is longer than %d bytes or has control characters", maxClaim)
		}
	}
	if a.claims.Expiry == nil {
		return a, assertionInvalid("the assertion has no expiry (exp)")
	}
	return a, nil
}

// own reports whether the assertion says that the client itself issued it (RFC
// 7523, section 3).
func (a assertion) own(account db.ServiceAccount, given string) bool {
	names := []string{given, account.ClientID, string(account.ID)}
	is := func(claim string) bool {
		return claim != "" && slices.ContainsFunc(names, func(n string) bool { return strings.EqualFold(n, claim) })
	}
	return is(a.claims.Issuer) && is(a.claims.Subject)
}

// thumbprint returns how the header names a certificate, and a function that says
// whether a certificate is that one.
func (a assertion) thumbprint() (name string, is func(latchkey.ServicePrincipalCredential) bool) {
	text := func(key jose.HeaderKey) string {
		s, _ := a.header.ExtraHeaders[key].(string)
		if len(s) > 100 || strings.ContainsFunc(s, latchkey.Steers) {
			return ""
		}
		// Microsoft's library for Go writes the SHA-256 in the other alphabet.
		return strings.NewReplacer("+", "-", "/", "_").Replace(strings.TrimRight(s, "="))
	}
	if x := text("x5t#S256"); x != "" {
		return "x5t#S256 " + x, func(c latchkey.ServicePrincipalCredential) bool { return c.ThumbprintSHA256 == x }
	}
	if x := text("x5t"); x != "" {
		return "x5t " + x, func(c latchkey.ServicePrincipalCredential) bool { return c.Thumbprint == x }
	}
	if kid := a.header.KeyID; kid != "" && len(kid) <= 100 {
		return "kid " + kid, func(c latchkey.ServicePrincipalCredential) bool {
			sha1, err := base64.RawURLEncoding.DecodeString(c.Thumbprint)
			return err == nil && (kid == string(c.ID) || kid == c.Thumbprint || kid == c.ThumbprintSHA256 || strings.EqualFold(kid, hex.EncodeToString(sha1)))
		}
	}
	return "", nil
}

// times returns what is wrong with when the assertion counts.
func (a assertion) times(now time.Time) *latchkey.Error {
	c := a.claims
	switch {
	case !c.Expiry.Time().Add(assertionLeeway).After(now):
		return refusedProof(latchkey.CodeAssertionExpired, "make a new one; if it is new, look at the clocks",
			"the assertion expired at %s, and it is %s", when(c.Expiry), now.Format(time.RFC3339))
	case c.NotBefore != nil && c.NotBefore.Time().Add(-assertionLeeway).After(now):
		return assertionInvalid("the assertion does not count before %s, and it is %s", when(c.NotBefore), now.Format(time.RFC3339))
	case c.IssuedAt != nil && c.IssuedAt.Time().Add(-assertionLeeway).After(now):
		return assertionInvalid("the assertion is from the future, %s, and it is %s", when(c.IssuedAt), now.Format(time.RFC3339))
	}
	return nil
}

func when(d *jwt.NumericDate) string { return d.Time().UTC().Format(time.RFC3339) }

// A proven says by which credential a service principal has proved itself. once,
// if it is not nil, is the hash of what may not be used again until a time.
type proven struct {
	proof db.Proof
	once  []byte
	until time.Time
}

// byCertificate verifies an assertion that a certificate's key signed. why is what
// is wrong.
func (a assertion) byCertificate(account db.ServiceAccount, audiences []string, now time.Time) (p proven, why *latchkey.Error) {
	name, is := a.thumbprint()
	if is == nil {
		return p, assertionInvalid("the assertion's header does not name a certificate by x5t#S256, x5t or kid")
	}
	unknown := assertionInvalid("no certificate of this service principal is the one that the assertion's header names, %s", name)
	var cert *x509.Certificate
	for _, c := range account.Proofs {
		if c.Kind != latchkey.ProofCertificate || c.DescribeCertificate(c.Certificate) != nil || !is(c.ServicePrincipalCredential) {
			continue
		}
		parsed, err := x509.ParseCertificate(c.Certificate)
		if err != nil {
			return p, unknown
		}
		p.proof, cert = c, parsed
		break
	}
	switch {
	case cert == nil:
		return p, unknown
	case !slices.Contains(certificateAlgorithms, jose.SignatureAlgorithm(a.header.Algorithm)):
		return p, assertionInvalid("the algorithm of the assertion is not one of RS256, PS256, ES256, ES384, ES512")
	case a.token.Claims(cert.PublicKey, &a.claims) != nil:
		return p, assertionInvalid("the signature of the assertion is not one of the certificate's key")
	case !now.Before(cert.NotAfter):
		return p, assertionInvalid("the certificate %q (%s) expired at %s", p.proof.Name, p.proof.ID, cert.NotAfter.UTC().Format(time.RFC3339))
	case now.Add(assertionLeeway).Before(cert.NotBefore):
		return p, assertionInvalid("the certificate %q (%s) does not count before %s", p.proof.Name, p.proof.ID, cert.NotBefore.UTC().Format(time.RFC3339))
	}
	if why := a.times(now); why != nil {
		return p, why
	}
	switch {
	case a.claims.Expiry.Time().After(now.Add(latchkey.MaxAssertionTTL + assertionLeeway)):
		return p, assertionInvalid("the assertion lasts until %s; it must end within 24 hours", when(a.claims.Expiry))
	case !slices.ContainsFunc(a.claims.Audience, func(s string) bool { return slices.Contains(audiences, s) }):
		return p, refusedProof(latchkey.CodeAssertionAudience, "make it for this server's", "the audience (aud) of the assertion is %s; it must be %s",
			listed(a.claims.Audience), listed(audiences))
	case a.claims.ID == "":
		return p, assertionInvalid("the assertion has no id (jti), without which it cannot be told from one that was used")
	}
	sum := sha256.Sum256([]byte(a.claims.ID))
	p.once, p.until = sum[:], a.claims.Expiry.Time().Add(assertionLeeway)
	return p, nil
}

// byIssuer verifies a token of another issuer, whose keys are those that it tells
// now. An issuer is asked only if a federated credential of the account, which is
// enabled, names it; without patience nobody waits for that.
func (b *Broker) byIssuer(ctx context.Context, a assertion, account db.ServiceAccount, patient bool) (p proven, why *latchkey.Error, err error) {
	var named []db.Proof
	for _, c := range account.Proofs {
		if c.Kind == latchkey.ProofFederated && c.Issuer == a.claims.Issuer {
			named = append(named, c)
		}
	}
	if len(named) == 0 {
		return p, refusedProof(latchkey.CodeFederatedMismatch, "add one, or let the program state its client id as iss and sub",
			"the assertion is of the issuer %q, and no federated credential of this service principal names it", a.claims.Issuer), nil
	}
	if b.issuerKeys == nil {
		return p, &latchkey.Error{Kind: latchkey.ErrUnavailable, Code: latchkey.CodeIssuerUnavailable, Msg: "this server does not ask issuers for their keys"}, nil
	}
	keys, err := b.issuerKeys(ctx, a.claims.Issuer, a.header.KeyID, patient)
	if err != nil {
		if e, ok := errors.AsType[*latchkey.Error](err); ok {
			return p, e, nil
		}
		return p, nil, err
	}
	now := b.now().UTC()
	if len(keys) == 0 {
		return p, assertionInvalid("the issuer %s has no key %q that the assertion's header names", a.claims.Issuer, a.header.KeyID), nil
	}
	if !slices.ContainsFunc(keys, func(k jose.JSONWebKey) bool {
		return (k.Algorithm == "" || k.Algorithm == a.header.Algorithm) && a.token.Claims(k.Key, &a.claims) == nil
	}) {
		return p, assertionInvalid("the signature of the assertion is not one of its issuer's, %s", a.claims.Issuer), nil
	}
	if why := a.times(now); why != nil {
		return p, why, nil
	}
	var subjects, audiences []string
	for _, c := range named {
		if c.Subject != a.claims.Subject {
			subjects = append(subjects, c.Subject)
			continue
		}
		if slices.Contains(a.claims.Audience, c.Audience) {
			return proven{proof: c}, nil, nil
		}
		audiences = append(audiences, c.Audience)
	}
	if len(audiences) > 0 {
		return p, refusedProof(latchkey.CodeAssertionAudience, "ask the issuer for a token with that audience, or add a federated credential for the other",
			"the audience (aud) of the assertion is %s; it must be %s", listed(a.claims.Audience), listed(audiences)), nil
	}
	return p, refusedProof(latchkey.CodeFederatedMismatch, "add a federated credential with this subject, or let the right job sign in",
		"the subject (sub) of the assertion is %q; it must be %s", a.claims.Subject, listed(subjects)), nil
}

// listed says what some texts are, as far as a sentence goes.
func listed(texts []string) string {
	const most = 5
	if len(texts) == 0 {
		return "none"
	}
	var quoted []string
	for _, t := range texts[:min(len(texts), most)] {
		quoted = append(quoted, fmt.Sprintf("%.200q", t))
	}
	s := strings.Join(quoted, " or ")
	if len(texts) > most {
		s += fmt.Sprintf(" or %d others", len(texts)-most)
	}
	return s
}

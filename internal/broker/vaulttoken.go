package broker

import (
	"context"
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

// vaultAudience is the audience of access tokens for vaults, as in Azure.
const vaultAudience = "https://vault.azure.net"

// maxVaultToken bounds an access token, in bytes.
const maxVaultToken = 4 << 10

// vaultClaims are what an access token says besides the registered claims, by
// the names that Entra ID uses.
type vaultClaims struct {
	ObjectID string `json:"oid"`
	Tenant   string `json:"tid"`
}

// VaultToken returns an access token for the embedded vaults as the caller. The
// caller's roles are decided when it is used.
func (b *Broker) VaultToken(ctx context.Context, who latchkey.Caller) (token string, expires time.Time, err error) {
	err = b.update(ctx, who, func(o *op) (err error) {
		if token, expires, err = b.signVaultToken(who.ID, o.Now); err != nil {
			return err
		}
		return o.record(latchkey.ActVaultToken, thing{kind: latchkey.KindToken, name: "access token for embedded vaults"}, nil)
	})
	return token, expires, err
}

// ServiceVaultToken returns an access token for the embedded vaults as the
// service itself. It is for readers in this process.
func (b *Broker) ServiceVaultToken(context.Context) (token string, expires time.Time, err error) {
	return b.signVaultToken(latchkey.ServiceIdentity, b.now())
}

func (b *Broker) signVaultToken(who latchkey.PrincipalID, now time.Time) (string, time.Time, error) {
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.HS256, Key: b.key.Derive("vault access token")}, nil)
	if err != nil {
		return "", time.Time{}, fmt.Errorf("sign access token: %w", err)
	}
	expires := now.Add(latchkey.VaultTokenTTL).Truncate(time.Second)
	token, err := jwt.Signed(signer).Claims(jwt.Claims{
		Issuer: b.vaultIssuer(), Audience: jwt.Audience{vaultAudience}, Subject: string(who),
		IssuedAt: jwt.NewNumericDate(now), NotBefore: jwt.NewNumericDate(now), Expiry: jwt.NewNumericDate(expires),
	}).Claims(vaultClaims{string(who), b.tenant}).Serialize()
	return token, expires, err
}

// vaultIssuer is who issues access tokens, in the form of Entra ID's issuers.
func (b *Broker) vaultIssuer() string { return "https://sts.windows.net/" + b.tenant + "/" }

// AuthenticateVault returns whose an access token for the embedded vaults is. An
// ErrUnauthenticated has the code token-audience or token-issuer when the token is for
// something else or another's, whoever signed it; its text then names what was expected
// and what was found in the way of Key Vault. Other codes are token-invalid,
// token-expired and account-disabled.
func (b *Broker) AuthenticateVault(ctx context.Context, token string) (latchkey.Caller, error) {
	refuse := func(code, msg string) (latchkey.Caller, error) {
		return latchkey.Caller{}, &latchkey.Error{Kind: latchkey.ErrUnauthenticated, Code: code, Msg: msg}
	}
	if len(token) > maxVaultToken {
		return refuse("token-invalid", "the access token is not valid")
	}
	if code, msg := b.misdirected(token); code != "" {
		return refuse(code, msg)
	}
	parsed, err := jwt.ParseSigned(token, []jose.SignatureAlgorithm{jose.HS256})
	if err != nil {
		return refuse("token-invalid", "the access token is not valid")
	}
	var claims jwt.Claims
	issued := slices.ContainsFunc(b.key.DeriveAll("vault access token"), func(key []byte) bool { return parsed.Claims(key, &claims) == nil })
	if !issued {
		return refuse("token-invalid", "the access token was not issued by this service")
	}
	err = claims.ValidateWithLeeway(jwt.Expected{Issuer: b.vaultIssuer(), AnyAudience: jwt.Audience{vaultAudience}, Time: b.now()}, time.Minute)
	if err != nil {
		return refuse("token-expired", "the access token has expired, or is not valid yet; get a new one")
	}
	var p db.Principal
	err = b.db.View(ctx, func(tx *db.Tx) (err error) {
		p, err = tx.Principal(claims.Subject)
		return err
	})
	if errors.Is(err, db.ErrNotFound) || err == nil && p.Disabled {
		return refuse("account-disabled", "the account of the access token is disabled or gone")
	}
	return latchkey.Caller{ID: p.ID, Kind: p.Kind, Name: p.Name}, err
}

// tokenAlgorithms are those of tokens that are read to say whose they are. Of these
// only HS256 is ever taken.
var tokenAlgorithms = []jose.SignatureAlgorithm{
	jose.HS256, jose.HS384, jose.HS512, jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512,
	jose.ES256, jose.ES384, jose.ES512, jose.EdDSA,
}

// misdirected returns why a token cannot be one for the embedded vaults by what it
// says of itself, as a code and a text, or "". Its signature is not looked at: an
// empty answer proves nothing.
func (b *Broker) misdirected(token string) (code, msg string) {
	parsed, err := jwt.ParseSigned(token, tokenAlgorithms)
	if err != nil {
		return "", ""
	}
	var claims struct {
		Issuer   string       `json:"iss"`
		Audience jwt.Audience `json:"aud"`
	}
	if parsed.UnsafeClaimsWithoutVerification(&claims) != nil {
		return "", ""
	}
	switch {
	case !claims.Audience.Contains(vaultAudience):
		return "token-audience", fmt.Sprintf("invalid audience. Expected %s, found: %s", vaultAudience, claimText(strings.Join(claims.Audience, ", ")))
	case claims.Issuer != b.vaultIssuer():
		return "token-issuer", fmt.Sprintf("invalid issuer. Expected one of %s, found %s", b.vaultIssuer(), claimText(claims.Issuer))
	}
	return "", ""
}

// maxClaimText bounds, in bytes, what an error repeats of a token.
const maxClaimText = 200

// claimText returns a claim that nobody vouches for, fit for an error: clipped, and
// without characters that steer what shows them.
func claimText(s string) string {
	if len(s) > maxClaimText {
		s = s[:maxClaimText] + "…"
	}
	s = strings.Map(func(r rune) rune {
		if latchkey.Steers(r) || r == utf8.RuneError {
			return -1
		}
		return r
	}, s)
	if strings.TrimSpace(s) == "" {
		return "nothing"
	}
	return s
}

package broker

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"latchkey.dev/internal/db"
	"latchkey.dev/latchkey"
)

func TestVaultToken(t *testing.T) {
	eachOffice(t, func(o *office) {
		ctx := o.t.Context()
		token, expires, err := o.VaultToken(ctx, o.ada)
		if err != nil {
			o.t.Fatal(err)
		}
		if ttl := expires.Sub(o.time()); ttl <= latchkey.VaultTokenTTL-2*time.Second || ttl > latchkey.VaultTokenTTL {
			o.t.Errorf("the token lasts %v; want %v", ttl, latchkey.VaultTokenTTL)
		}
		who, err := o.AuthenticateVault(ctx, token)
		if err != nil {
			o.t.Fatal(err)
		}
		if who.ID != o.ada.ID || who.Kind != latchkey.PrincipalUser || who.Name != o.ada.Name {
			o.t.Errorf("AuthenticateVault = %+v; want %+v", who, o.ada)
		}
		o.wantTrail(db.AuditFilter{Action: latchkey.ActVaultToken}, "vault.token ok  by ada on access token for embedded vaults")

		service, _, err := o.ServiceVaultToken(ctx)
		if err != nil {
			o.t.Fatal(err)
		}
		if who, err = o.AuthenticateVault(ctx, service); err != nil || who.ID != latchkey.ServiceIdentity {
			o.t.Errorf("AuthenticateVault = %+v, %v; want the service", who, err)
		}

		if _, err := o.UpdateUser(ctx, o.admin, "ada", latchkey.UserUpdate{Disabled: new(true)}); err != nil {
			o.t.Fatal(err)
		}
		_, err = o.AuthenticateVault(ctx, token)
		o.fails(err, latchkey.ErrUnauthenticated, "account-disabled")
		if _, err := o.UpdateUser(ctx, o.admin, "ada", latchkey.UserUpdate{Disabled: new(false)}); err != nil {
			o.t.Fatal(err)
		}
		o.wait(latchkey.VaultTokenTTL + 2*time.Minute)
		_, err = o.AuthenticateVault(ctx, token)
		o.fails(err, latchkey.ErrUnauthenticated, "token-expired")
	})
}

// TestForgedVaultTokens signs what the service would not, some of it with the
// service's own key.
func TestForgedVaultTokens(t *testing.T) {
	eachOffice(t, func(o *office) {
		now := o.time()
		good := jwt.Claims{
			Issuer: o.vaultIssuer(), Audience: jwt.Audience{vaultAudience}, Subject: string(o.admin.ID),
			IssuedAt: jwt.NewNumericDate(now), NotBefore: jwt.NewNumericDate(now), Expiry: jwt.NewNumericDate(now.Add(time.Hour)),
		}
		sign := func(key []byte, alg jose.SignatureAlgorithm, change func(*jwt.Claims)) string {
			o.t.Helper()
			claims := good
			change(&claims)
			signer, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: key}, nil)
			if err != nil {
				o.t.Fatal(err)
			}
			token, err := jwt.Signed(signer).Claims(claims).Serialize()
			if err != nil {
				o.t.Fatal(err)
			}
			return token
		}
		own := o.key.Derive("vault access token")
		same := func(*jwt.Claims) {}
		token := sign(own, jose.HS256, same)
		if _, err := o.AuthenticateVault(o.t.Context(), token); err != nil {
			o.t.Fatalf("AuthenticateVault of what the others are made from = %v", err)
		}
		parts := strings.Split(token, ".")
		for name, forged := range map[string]string{
			"another key":       sign(o.key.Derive("another label"), jose.HS256, same),
			"another algorithm": sign(append(own, own...), jose.HS512, same),
			"another audience":  sign(own, jose.HS256, func(c *jwt.Claims) { c.Audience = jwt.Audience{"https://management.azure.com"} }),
			"no audience":       sign(own, jose.HS256, func(c *jwt.Claims) { c.Audience = nil }),
			"another issuer":    sign(own, jose.HS256, func(c *jwt.Claims) { c.Issuer = "https://sts.windows.net/" + latchkey.NewGUID() + "/" }),
			"expired":           sign(own, jose.HS256, func(c *jwt.Claims) { c.Expiry = jwt.NewNumericDate(now.Add(-2 * time.Minute)) }),
			"not yet":           sign(own, jose.HS256, func(c *jwt.Claims) { c.NotBefore = jwt.NewNumericDate(now.Add(time.Hour)) }),
			"nobody":            sign(own, jose.HS256, func(c *jwt.Claims) { c.Subject = "" }),
			"somebody unknown":  sign(own, jose.HS256, func(c *jwt.Claims) { c.Subject = latchkey.NewID("user", now) }),
			"unsigned":          "eyJhbGciOiJub25lIn0." + parts[1] + ".",
			"signature removed": parts[0] + "." + parts[1] + ".",
			"long":              token + strings.Repeat("A", maxVaultToken),
			"empty":             "",
		} {
			who, err := o.AuthenticateVault(o.t.Context(), forged)
			if want := map[string]string{
				"another audience": "token-audience", "no audience": "token-audience", "another issuer": "token-issuer",
				"another key": "token-invalid", "another algorithm": "token-invalid", "expired": "token-expired", "not yet": "token-expired", "unsigned": "token-invalid",
			}[name]; want != "" {
				wantCode(o.t, name, err, latchkey.ErrUnauthenticated, want)
			}
			if !errors.Is(err, latchkey.ErrUnauthenticated) || who.ID != "" {
				o.t.Errorf("%s: AuthenticateVault = %+v, %v; want nobody, unauthenticated", name, who, err)
			} else if forged != "" && strings.Contains(err.Error(), forged) {
				o.t.Errorf("%s: the error repeats the token", name)
			}
		}
	})
}

// TestMisdirectedTokens gives tokens that somebody else has signed, for the text.
func TestMisdirectedTokens(t *testing.T) {
	eachOffice(t, func(o *office) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			o.t.Fatal(err)
		}
		signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: key}, nil)
		if err != nil {
			o.t.Fatal(err)
		}
		ours, theirs := o.vaultIssuer(), "https://sts.windows.net/00000000-0000-0000-0000-000000000000/"
		for name, tt := range map[string]struct {
			claims          map[string]any
			code, has, lack string
		}{
			"another tenant":     {map[string]any{"iss": theirs, "aud": vaultAudience}, "token-issuer", "Expected one of " + ours + ", found " + theirs, ""},
			"another audience":   {map[string]any{"iss": ours, "aud": "https://graph.microsoft.com"}, "token-audience", "Expected " + vaultAudience + ", found: https://graph.microsoft.com", ""},
			"several audiences":  {map[string]any{"iss": theirs, "aud": []string{"a", "b"}}, "token-audience", "found: a, b", ""},
			"both wrong":         {map[string]any{"iss": theirs, "aud": "x"}, "token-audience", "found: x", theirs},
			"none":               {map[string]any{}, "token-audience", "found: nothing", ""},
			"control characters": {map[string]any{"iss": "a\r\n\x1b[31m\u202eb", "aud": vaultAudience}, "token-issuer", "found a[31mb", "\x1b"},
			"long":               {map[string]any{"iss": strings.Repeat("ä", 500), "aud": vaultAudience}, "token-issuer", "ä…", strings.Repeat("ä", 101)},
			"odd claims":         {map[string]any{"iss": 7, "aud": vaultAudience}, "token-invalid", "", ""},
			"ours by the claims": {map[string]any{"iss": ours, "aud": vaultAudience, "sub": o.admin.ID}, "token-invalid", "", ""},
		} {
			token, err := jwt.Signed(signer).Claims(tt.claims).Serialize()
			if err != nil {
				o.t.Fatal(err)
			}
			who, err := o.AuthenticateVault(o.t.Context(), token)
			wantCode(o.t, name, err, latchkey.ErrUnauthenticated, tt.code)
			if who.ID != "" || err != nil && (!strings.Contains(err.Error(), tt.has) || tt.lack != "" && strings.Contains(err.Error(), tt.lack)) {
				o.t.Errorf("%s: AuthenticateVault = %+v, %q; want nobody, %q without %q", name, who, err, tt.has, tt.lack)
			}
		}
	})
}

// FuzzMisdirected gives tokens that anybody may have made.
func FuzzMisdirected(f *testing.F) {
	head := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"RS256"}`))
	for _, claims := range []string{`{}`, `{"aud":"x","iss":"y"}`, `{"aud":["https://vault.azure.net"],"iss":"a\u202e\u0007"}`, `{"aud":7}`, `null`, `[`} {
		f.Add(head, claims)
	}
	b := &Broker{tenant: "t"}
	f.Fuzz(func(t *testing.T, head, claims string) {
		for _, token := range []string{head, head + "." + base64.RawURLEncoding.EncodeToString([]byte(claims)) + ".AAAA"} {
			code, msg := b.misdirected(token)
			if (code == "") != (msg == "") || len(msg) > 400 || !utf8.ValidString(msg) || strings.ContainsFunc(msg, latchkey.Steers) {
				t.Errorf("misdirected(%q) = %q, %q; want a short text of printable characters", token, code, msg)
			}
		}
	})
}

package broker

import (
	"errors"
	"strings"
	"testing"
	"time"

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
			"another issuer":    sign(own, jose.HS256, func(c *jwt.Claims) { c.Issuer = "https://sts.windows.net/" + newGUID() + "/" }),
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
			if !errors.Is(err, latchkey.ErrUnauthenticated) || who.ID != "" {
				o.t.Errorf("%s: AuthenticateVault = %+v, %v; want nobody, unauthenticated", name, who, err)
			} else if forged != "" && strings.Contains(err.Error(), forged) {
				o.t.Errorf("%s: the error repeats the token", name)
			}
		}
	})
}

package broker

import (
	"bytes"
	"context"
	"crypto/x509"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"latchkey.dev/internal/db"
	"latchkey.dev/internal/seal"
	"latchkey.dev/internal/vault"
	"latchkey.dev/latchkey"
)

func TestServerCertificate(t *testing.T) {
	eachOffice(t, func(o *office) {
		now := o.time()
		cert, err := o.ServerCertificate([]string{"vault.localhost", "*.vault.localhost", "localhost", "127.0.0.1", "::1"}, now)
		if err != nil {
			o.t.Fatal(err)
		}
		roots := x509.NewCertPool()
		if !roots.AppendCertsFromPEM(o.Authority()) {
			o.t.Fatal("the authority is no certificate in PEM")
		}
		for _, tt := range []struct {
			host string
			at   time.Time
			want bool
		}{
			{"erp.vault.localhost", now, true},
			{"ERP.vault.localhost", now, true},
			{"vault.localhost", now, true},
			{"127.0.0.1", now, true},
			{"::1", now, true},
			{"erp.vault.localhost", now.Add(-time.Minute), true}, // the client's clock is behind
			{"erp.vault.localhost", now.Add(89 * 24 * time.Hour), true},
			{"erp.vault.localhost", now.Add(91 * 24 * time.Hour), false},
			{"a.b.vault.localhost", now, false},
			{"erp.vault.azure.net", now, false},
			{"127.0.0.2", now, false},
		} {
			_, err := cert.Leaf.Verify(x509.VerifyOptions{DNSName: tt.host, Roots: roots, CurrentTime: tt.at, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
			if got := err == nil; got != tt.want {
				o.t.Errorf("the certificate for %s at %s: %v; want valid: %v", tt.host, tt.at, err, tt.want)
			}
		}
		if cert.Leaf.IsCA {
			o.t.Error("the certificate of a server can make others")
		}
		another, err := o.ServerCertificate([]string{"localhost"}, now)
		if err != nil {
			o.t.Fatal(err)
		}
		if another.Leaf.SerialNumber.Cmp(cert.Leaf.SerialNumber) == 0 || another.Leaf.PublicKey == cert.Leaf.PublicKey {
			o.t.Error("two certificates share a serial number or a key")
		}
	})
}

// TestAuthorityStays starts twice: who trusted the first start's authority
// trusts the second's.
func TestAuthorityStays(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	path, key := filepath.Join(t.TempDir(), "latchkey.db"), seal.NewKey()
	var authorities [2][]byte
	for i := range authorities {
		d, err := db.Open(t.Context(), db.Config{URL: path, Log: log})
		if err != nil {
			t.Fatal(err)
		}
		b, err := New(t.Context(), Config{
			DB: d, Key: key, Log: log,
			OpenVault: func(latchkey.VaultReference, bool) (vault.Vault, error) { return nil, vault.ErrUnavailable },
			Inspect:   func(context.Context, vault.Question) []latchkey.CheckResult { return nil },
			VaultURL:  func(string) string { return "" },
		})
		if err != nil {
			t.Fatal(err)
		}
		authorities[i] = b.Authority()
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(authorities[0], authorities[1]) {
		t.Error("the second start has another authority")
	}
}

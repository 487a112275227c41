package azure_test

import (
	"context"
	"log/slog"
	"net/http"
	"sync/atomic"
	"testing"

	"latchkey.dev/internal/broker"
	"latchkey.dev/internal/latchkeytest"
	"latchkey.dev/internal/vault"
	"latchkey.dev/internal/vault/azure"
	"latchkey.dev/internal/vault/vaulttest"
	"latchkey.dev/latchkey"
)

// TestEmbedded is the contract on a real embedded vault, which Azure's SDK reads.
func TestEmbedded(t *testing.T) {
	vaulttest.Run(t, func(t *testing.T) vaulttest.Harness {
		s := latchkeytest.New(t, latchkeytest.Options{})
		b := s.Broker
		if _, err := b.CreateVault(t.Context(), s.Admin, latchkey.EmbeddedVaultCreate{Name: "erp"}); err != nil {
			t.Fatal(err)
		}
		var broken atomic.Bool
		handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if broken.Load() {
				panic(http.ErrAbortHandler)
			}
			s.Vaults.ServeHTTP(w, r)
		})
		v, err := azure.Embedded(handler, b.ServiceVaultToken, "https://erp."+latchkeytest.VaultDomain)
		if err != nil {
			t.Fatal(err)
		}
		h := harness(s, v)
		h.Break = func(testing.TB) { broken.Store(true) }
		return h
	})
}

// harness returns the embedded vault erp as the contract wants it, read by v.
func harness(s *latchkeytest.Service, v vault.Vault) vaulttest.Harness {
	b := s.Broker
	return vaulttest.Harness{
		Vault: v,
		Set: func(t testing.TB, name string, v vault.Value) string {
			secret, err := b.SetSecret(t.Context(), s.Admin, "erp", name, v.Value, latchkey.SecretAttributes{
				ContentType: v.ContentType, Enabled: true, NotBefore: v.NotBefore, Expires: v.Expires,
			})
			if err != nil {
				t.Fatal(err)
			}
			return secret.Version
		},
		Disable: func(t testing.TB, name string) {
			if _, err := b.UpdateSecret(t.Context(), s.Admin, "erp", name, "", broker.SecretUpdate{Enabled: new(false)}); err != nil {
				t.Fatal(err)
			}
		},
		Delete: func(t testing.TB, name string) {
			if _, err := b.DeleteSecret(t.Context(), s.Admin, "erp", name); err != nil {
				t.Fatal(err)
			}
		},
		Revoke: func(t testing.TB) {
			roles, err := b.RoleAssignments(t.Context(), s.Admin, "erp", latchkey.PageOptions{})
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range roles.Items {
				if r.Principal == latchkey.ServiceIdentity {
					if err := b.RemoveRole(t.Context(), s.Admin, "erp", r.ID); err != nil {
						t.Fatal(err)
					}
				}
			}
		},
	}
}

// vaultOf returns a new reader of a vault.
func vaultOf(t *testing.T, a *azure.Access, name string) *azure.Vault {
	t.Helper()
	v, err := a.Vault(latchkey.VaultReference{Vault: name})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestVaultNames(t *testing.T) {
	a, err := azure.Settings{}.Open(azure.Options{Tenants: func(context.Context) ([]string, error) { return nil, nil }, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	for name, ok := range map[string]bool{"erp": true, "evil.example/": false, "a@b": false, "x": false, "": false, "erp.evil": false, "erp:1": false, "erp#": false, "érp": false} {
		if _, err := a.Vault(latchkey.VaultReference{Vault: name}); (err == nil) != ok {
			t.Errorf("Vault(%q) = %v; want success: %v", name, err, ok)
		}
	}
}

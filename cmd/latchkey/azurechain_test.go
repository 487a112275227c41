package main

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"latchkey.dev/internal/keyvault"
	"latchkey.dev/internal/latchkeytest"
	"latchkey.dev/internal/latchkeytest/entra"
	"latchkey.dev/internal/latchkeytest/netfault"
	"latchkey.dev/latchkey"
)

// TestAzureChain runs the whole chain with the secret in a cloud of one's own: vaults
// and Entra ID over TLS, behind a proxy, in which the server is an application.
func TestAzureChain(t *testing.T) {
	if testing.Short() {
		t.Skip("starts servers and agents")
	}
	const client = "11111111-2222-3333-4444-555555555555"
	s := latchkeytest.New(t, latchkeytest.Options{Idle: true})
	v, err := s.Broker.CreateVault(t.Context(), s.Admin, latchkey.EmbeddedVaultCreate{Name: "books"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Broker.SetSecret(t.Context(), s.Admin, "books", "password", latchkey.NewSecret("canary-in-azure"), latchkey.SecretAttributes{Enabled: true}); err != nil {
		t.Fatal(err)
	}
	vaults, err := keyvault.New(keyvault.Config{Broker: s.Broker, Domain: "vault.cloud.example", Tenant: s.Broker.Tenant(), Authority: "https://login.cloud.example/" + s.Broker.Tenant()})
	if err != nil {
		t.Fatal(err)
	}
	directory := &entra.Directory{Tenant: s.Broker.Tenant(), Token: s.Broker.ServiceVaultToken, ClientID: client, Secret: "app-secret"}
	authority := entra.NewAuthority(t)
	cert := authority.Issue(t, time.Now().Add(time.Hour), "login.cloud.example", "*.vault.cloud.example")
	cloud := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.Host, ".vault.cloud.example") {
			vaults.ServeHTTP(w, r)
			return
		}
		directory.ServeHTTP(w, r)
	}))
	cloud.TLS = &tls.Config{Certificates: []tls.Certificate{*cert}}
	cloud.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)
	cloud.StartTLS()
	t.Cleanup(cloud.Close)
	proxy := netfault.NewConnect(t, cloud.Listener.Addr().String())
	settings := fmt.Sprintf(`identity = "client-secret"
cloud = "custom"
tenant = %q
client-id = %q
secret-file = "secret"
ca-file = "ca.pem"
[custom-cloud]
authority = "https://login.cloud.example"
vault-suffix = "vault.cloud.example"
`, s.Broker.Tenant(), client)
	p := scripts(testscript.Params{Dir: "testdata/azure"})
	setup := p.Setup
	p.Setup = func(e *testscript.Env) error {
		if err := setup(e); err != nil {
			return err
		}
		for name, text := range map[string]string{"azure.toml": settings, "secret": "app-secret\n", "ca.pem": string(authority.PEM)} {
			if err := os.WriteFile(filepath.Join(e.WorkDir, name), []byte(text), 0o600); err != nil {
				return err
			}
		}
		e.Setenv("HTTPS_PROXY", proxy.URL)
		e.Setenv("TENANT", s.Broker.Tenant())
		e.Setenv("REFERENCE", v.ARMID+"/secrets/password")
		return nil
	}
	t.Run("Scripts", func(t *testing.T) { testscript.Run(t, p) })
	for _, host := range []string{"login.cloud.example:443", "books.vault.cloud.example:443"} {
		if seen := strings.Join(proxy.Seen(), "\n"); !strings.Contains(seen, host) {
			t.Errorf("the proxy saw %q; want %s too", seen, host)
		}
	}
}

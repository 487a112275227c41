package azure_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"software.sslmate.com/src/go-pkcs12"

	"latchkey.dev/internal/vault/azure"
)

// appKey is the one RSA key of these tests: making it takes longer than using it.
var appKey = sync.OnceValues(func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 2048) })

// newAppCertificate returns a certificate of an application and its key.
func newAppCertificate(t *testing.T) (*x509.Certificate, *rsa.PrivateKey) {
	t.Helper()
	key, err := appKey()
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: "latchkey"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert, key
}

// TestIdentities reads a secret over TLS as each kind of identity there is.
func TestIdentities(t *testing.T) {
	w := newWorld(t, "https://login.microsoftonline.com", "vault.azure.net")
	tenant := w.Broker.Tenant()
	cert, key := newAppCertificate(t)
	w.directory.Certificate, w.directory.Assertion, w.directory.Secret = cert, "federated-token", "app-secret"
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	asPEM := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})) + string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}))
	pfx := func(e *pkcs12.Encoder, password string) string {
		b, err := e.Encode(key, cert, nil, password)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	appService := httptest.NewServer(w.directory)
	t.Cleanup(appService.Close)
	token, _, err := w.Broker.ServiceVaultToken(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	cli := t.TempDir()
	for name, answer := range map[string]string{
		"az":  `{"accessToken":"` + token + `","expires_on":4102444800,"expiresOn":"2099-12-31 00:00:00.000000","tenant":"` + tenant + `","tokenType":"Bearer"}`,
		"azd": `{"token":"` + token + `","expiresOn":"2099-12-31T00:00:00Z"}`,
	} {
		script := "#!/bin/sh\ncat <<'E'\n" + answer + "\nE\n"
		if err := os.WriteFile(filepath.Join(cli, name), []byte(script), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	tests := []struct {
		name string
		s    azure.Settings
		env  map[string]string
		want []string // how tokens are asked for
	}{
		{"client secret", azure.Settings{Identity: "client-secret", Tenant: tenant, ClientID: application, SecretFile: file(t, "secret", "app-secret\n")}, nil,
			[]string{"instance discovery at login.microsoftonline.com", "secret in " + tenant}},
		{"certificate in PEM", azure.Settings{Identity: "client-certificate", Tenant: tenant, ClientID: application, CertificateFile: file(t, "app.pem", asPEM)}, nil,
			[]string{"instance discovery at login.microsoftonline.com", "assertion in " + tenant}},
		{"certificate in PFX", azure.Settings{Identity: "client-certificate", Tenant: tenant, ClientID: application,
			CertificateFile: file(t, "app.pfx", pfx(pkcs12.Modern2023, "pw")), CertificatePasswordFile: file(t, "pw", "pw\n")}, nil,
			[]string{"instance discovery at login.microsoftonline.com", "assertion in " + tenant}},
		{"certificate in an old PFX without a password", azure.Settings{Identity: "client-certificate", Tenant: tenant, ClientID: application,
			CertificateFile: file(t, "app.pfx", pfx(pkcs12.LegacyDES, ""))}, nil,
			[]string{"instance discovery at login.microsoftonline.com", "assertion in " + tenant}},
		{"workload identity", azure.Settings{Identity: "workload-identity", Tenant: tenant, ClientID: application, TokenFile: file(t, "token", "federated-token")}, nil,
			[]string{"instance discovery at login.microsoftonline.com", "assertion in " + tenant}},
		{"workload identity of a cluster's webhook", azure.Settings{Identity: "workload-identity"},
			map[string]string{"AZURE_TENANT_ID": tenant, "AZURE_CLIENT_ID": application, "AZURE_FEDERATED_TOKEN_FILE": file(t, "token", "federated-token")},
			[]string{"instance discovery at login.microsoftonline.com", "assertion in " + tenant}},
		{"managed identity of a virtual machine", azure.Settings{Identity: "managed-identity"}, nil, []string{"IMDS"}},
		{"one of several, by client id", azure.Settings{Identity: "managed-identity", ClientID: managed[0]}, nil, []string{"IMDS"}},
		{"one of several, by resource id", azure.Settings{Identity: "managed-identity", ResourceID: managed[3]}, nil, []string{"IMDS"}},
		{"managed identity of App Service", azure.Settings{Identity: "managed-identity", ClientID: managed[1]},
			map[string]string{"IDENTITY_ENDPOINT": appService.URL + "/msi/token", "IDENTITY_HEADER": "header"}, []string{"App Service"}},
		{"Azure CLI", azure.Settings{Identity: "azure-cli"}, map[string]string{"PATH": cli + ":" + os.Getenv("PATH")}, nil},
		{"Azure Developer CLI", azure.Settings{Identity: "azure-developer-cli"}, map[string]string{"PATH": cli + ":" + os.Getenv("PATH")}, nil},
		{"default, by variables", azure.Settings{},
			map[string]string{"AZURE_TENANT_ID": tenant, "AZURE_CLIENT_ID": application, "AZURE_CLIENT_SECRET": "app-secret"},
			[]string{"instance discovery at login.microsoftonline.com", "secret in " + tenant}},
		{"default, on a virtual machine", azure.Settings{}, map[string]string{"AZURE_CLIENT_ID": managed[2]}, []string{"IMDS"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, name := range []string{"AZURE_TENANT_ID", "AZURE_CLIENT_ID", "AZURE_CLIENT_SECRET", "AZURE_FEDERATED_TOKEN_FILE", "AZURE_TOKEN_CREDENTIALS", "IDENTITY_ENDPOINT", "IDENTITY_HEADER", "MSI_ENDPOINT"} {
				t.Setenv(name, "")
				if err := os.Unsetenv(name); err != nil {
					t.Fatal(err)
				}
			}
			for name, value := range tt.env {
				t.Setenv(name, value)
			}
			w.directory.Seen()
			got, err := w.reader(t, tt.s).Get(t.Context(), "x")
			if err != nil || got.Value.Reveal() != canary {
				t.Fatalf("Get: %v; want the value", err)
			}
			if seen := w.directory.Seen(); !slices.Equal(seen, tt.want) {
				t.Errorf("tokens were asked for by %q; want %q", seen, tt.want)
			}
		})
	}
}

// TestRenewedSecret changes the file of an application's secret while it is used.
func TestRenewedSecret(t *testing.T) {
	w := newWorld(t, "https://login.microsoftonline.com", "vault.azure.net")
	s := w.bySecret(t)
	a := w.open(t, s)
	if _, err := vaultOf(t, a, "erp").Get(t.Context(), "x"); err != nil {
		t.Fatal(err)
	}
	w.directory.Secret = "renewed"
	if err := os.WriteFile(s.SecretFile, []byte("renewed"), 0o600); err != nil {
		t.Fatal(err)
	}
	w.directory.Seen()
	// Another vault, whose client has no token yet.
	if _, err := vaultOf(t, a, "erp").Get(t.Context(), "x"); err != nil {
		t.Errorf("Get after the secret was renewed: %v; want the value", err)
	}
	if !slices.Contains(w.directory.Seen(), "secret in "+w.Broker.Tenant()) {
		t.Error("the renewed secret was not used")
	}
	if err := os.Remove(s.SecretFile); err != nil {
		t.Fatal(err)
	}
	if _, err := vaultOf(t, a, "erp").Get(t.Context(), "x"); err == nil || !strings.Contains(err.Error(), s.SecretFile) {
		t.Errorf("Get without the file of the secret = %v; want an error that names it", err)
	}
}

// TestClouds reads a secret in each cloud, and counts what one is asked for that is
// in another.
func TestClouds(t *testing.T) {
	for name, c := range map[string]struct{ authority, suffix string }{
		"public": {"https://login.microsoftonline.com", "vault.azure.net"},
		"usgov":  {"https://login.microsoftonline.us", "vault.usgovcloudapi.net"},
		"china":  {"https://login.chinacloudapi.cn", "vault.azure.cn"},
		"custom": {"https://login.cloud.example", "vault.cloud.example"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, c.authority, c.suffix)
			s := w.bySecret(t)
			s.Cloud = name
			if name == "custom" {
				s = custom(t, s, c.authority, c.suffix)
			}
			got, err := w.reader(t, s).Get(t.Context(), "x")
			if err != nil || got.Value.Reveal() != canary {
				t.Fatalf("Get: %v; want the value", err)
			}
			asked := slices.ContainsFunc(w.directory.Seen(), func(s string) bool { return strings.HasPrefix(s, "instance discovery") })
			if asked != (name != "custom") {
				t.Errorf("Microsoft was asked about the authority: %v; want %v", asked, name != "custom")
			}
		})
	}
}

// custom returns settings for a cloud of one's own, as a file would have them.
func custom(t *testing.T, s azure.Settings, authority, suffix string) azure.Settings {
	t.Helper()
	text := "cloud = \"custom\"\n[custom-cloud]\nauthority = \"" + authority + "\"\nvault-suffix = \"" + suffix + "\"\n"
	own, err := azure.ParseSettings([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	s.Cloud, s.Custom = own.Cloud, own.Custom
	return s
}

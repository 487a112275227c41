package azure_test

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"software.sslmate.com/src/go-pkcs12"

	"latchkey.dev/internal/latchkeytest/entra"
	"latchkey.dev/internal/vault/azure"
)

func TestSettingsFaults(t *testing.T) {
	const tenant, id = "tenant = \"72f988bf-86f1-41af-91ab-2d7cd011db47\"\n", "client-id = \"11111111-2222-3333-4444-555555555555\"\n"
	dir := t.TempDir()
	for name, text := range map[string]string{"secret": "s\n", "empty": "\n", "junk.pfx": "junk", "ca.pem": "no certificate", "big": strings.Repeat("x", 1<<20+1), "ec.pem": ecPEM(t)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	tests := []struct {
		name, text string
		want       []string // each on a line of its own; none is no fault
	}{
		{"empty", "", nil},
		{"secret", "identity = \"client-secret\"\nsecret-file = \"secret\"\n" + tenant + id, nil},
		{"managed", "identity = \"managed-identity\"\n" + id, nil},
		{"custom", "cloud = \"custom\"\n[custom-cloud]\nauthority = \"https://login.example.org/\"\nvault-suffix = \"vault.example.org:8443\"\n", nil},
		{"unknown", "cloud = \"germany\"\nidentity = \"me\"", []string{"cloud must be one of public, usgov, china, custom", "identity must be one of default"}},
		{"lacks", "identity = \"client-certificate\"", []string{"takes tenant", "takes client-id", "takes certificate-file"}},
		{"too much", "identity = \"azure-cli\"\nsecret-file = \"secret\"\n" + id, []string{"has no use for client-id", "has no use for secret-file"}},
		{"twice", "identity = \"managed-identity\"\nresource-id = \"x\"\n" + id, []string{"name one identity twice", "resource-id must be"}},
		{"no guids", "tenant = \"contoso.example\"", []string{"tenant must be a GUID"}},
		{"custom without a table", "cloud = \"custom\"", []string{"belong together"}},
		{"table without custom", "[custom-cloud]\nauthority = \"https://login.example.org\"\nvault-suffix = \"vault.example.org\"\n", []string{"belong together"}},
		{"bad cloud", "cloud = \"custom\"\n[custom-cloud]\nauthority = \"http://login.example.org\"\nvault-suffix = \"evil/x\"\nresource-manager = \"https://a@b\"\n",
			[]string{"authority of [custom-cloud] must be", "vault-suffix of [custom-cloud] must be", "resource-manager of [custom-cloud] must be", "resource-manager-audience of [custom-cloud] belong together"}},
		{"suffixes", "cloud = \"custom\"\n[custom-cloud]\nauthority = \"https://login.example.org/x\"\nvault-suffix = \"localhost\"\n", []string{"authority of", "vault-suffix of"}},
		{"no file", "identity = \"client-secret\"\nsecret-file = \"none\"\n" + tenant + id, []string{filepath.Join(dir, "none")}},
		{"no secret", "identity = \"client-secret\"\nsecret-file = \"empty\"\n" + tenant + id, []string{"there is no secret in " + filepath.Join(dir, "empty")}},
		{"no PFX", "identity = \"client-certificate\"\ncertificate-file = \"junk.pfx\"\n" + tenant + id, []string{"neither PEM nor a PFX file"}},
		{"no RSA", "identity = \"client-certificate\"\ncertificate-file = \"ec.pem\"\n" + tenant + id, []string{"Entra ID takes RSA keys only"}},
		{"no CA", "ca-file = \"ca.pem\"", []string{"there is no certificate in PEM in " + filepath.Join(dir, "ca.pem")}},
		{"big", "ca-file = \"big\"", []string{"is longer than 1048576 bytes"}},
		{"misspelt", "identify = \"default\"", []string{"a key that is not known", "identify"}},
		{"no TOML", "identity = ", []string{"line 1"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(dir, "azure.toml")
			if err := os.WriteFile(path, []byte(tt.text), 0o600); err != nil {
				t.Fatal(err)
			}
			s, err := azure.LoadSettings(path)
			if err == nil {
				err = s.Check()
			}
			if (err == nil) != (tt.want == nil) {
				t.Fatalf("faults = %v; want %q", err, tt.want)
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("faults = %v; want one that says %q", err, want)
				}
			}
		})
	}
}

// TestWrongPassword reads a PFX file with another password than its own.
func TestWrongPassword(t *testing.T) {
	cert, key := newAppCertificate(t)
	b, err := pkcs12.Modern2023.Encode(key, cert, nil, "right")
	if err != nil {
		t.Fatal(err)
	}
	s := azure.Settings{Identity: "client-certificate", Tenant: application, ClientID: application, CertificateFile: file(t, "app.pfx", string(b)), CertificatePasswordFile: file(t, "pw", "wrong")}
	if err := s.Check(); err == nil || !strings.Contains(err.Error(), "the password is wrong") || strings.Contains(err.Error(), "right") {
		t.Errorf("Check = %v; want the password to be wrong", err)
	}
}

// FuzzSettings has settings that pass never make an address out of anything but a
// vault's name and the cloud's suffix.
func FuzzSettings(f *testing.F) {
	for _, seed := range []string{
		"", "cloud = \"usgov\"", "identity = \"managed-identity\"",
		"cloud = \"custom\"\n[custom-cloud]\nauthority = \"https://login.example.org\"\nvault-suffix = \"vault.example.org\"\n",
		"cloud = \"custom\"\n[custom-cloud]\nauthority = \"https://a@login/?#\"\nvault-suffix = \"x.y/#\"\n",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := azure.ParseSettings([]byte(text))
		if err != nil || s.CAFile+s.SecretFile+s.CertificateFile+s.CertificatePasswordFile+s.TokenFile != "" || s.Check() != nil {
			return
		}
		a, err := s.Open(azure.Options{Tenants: func(context.Context) ([]string, error) { return nil, nil }, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatalf("settings that passed: %v", err)
		}
		if u, err := url.Parse("https://erp." + a.Cloud.VaultSuffix); err != nil || u.Host != "erp."+a.Cloud.VaultSuffix || u.Path != "" {
			t.Errorf("the suffix %q steers the address of a vault", a.Cloud.VaultSuffix)
		}
	})
}

// ecPEM returns a certificate whose key is not one that Entra ID takes.
func ecPEM(t *testing.T) string {
	t.Helper()
	cert := entra.NewAuthority(t).Issue(t, time.Now().Add(time.Hour), "app")
	key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Certificate[0]})) + string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}))
}

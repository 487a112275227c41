package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"latchkey.dev/internal/latchkeytest/pki"
)

// TestCertificateScript has a credential with a certificate looked at.
func TestCertificateScript(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a server")
	}
	pair := pki.NewAuthority(t, "Test CA").Issue(t, pki.Options{UPN: "bot@contoso.example"})
	files := map[string]string{"pfx": pair.Secret(t), "pem": string(pki.PEM(pair.Cert)) + string(pair.KeyPEM(t))}
	p := scripts(testscript.Params{Files: []string{"testdata/certificate/certificate.txtar"}})
	setup := p.Setup
	p.Setup = func(e *testscript.Env) error {
		for name, text := range files {
			if err := os.WriteFile(filepath.Join(e.WorkDir, name), []byte(text), 0o600); err != nil {
				return err
			}
		}
		return setup(e)
	}
	testscript.Run(t, p)
}

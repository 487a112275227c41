package broker_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azcertificates"

	"latchkey.dev/internal/certauth"
	"latchkey.dev/internal/latchkeytest"
	"latchkey.dev/internal/latchkeytest/pki"
	"latchkey.dev/latchkey"
)

// TestMadeCertificate has an embedded vault make certificates, through Microsoft's
// client, and uses them as credentials.
func TestMadeCertificate(t *testing.T) {
	latchkeytest.EachDB(t, func(t *testing.T, url string) {
		s := latchkeytest.New(t, latchkeytest.Options{DatabaseURL: url})
		c := s.Chain(t)
		certs := s.Certificates(t, s.Admin, c.Vault.Name)
		first := s.MakeCertificate(t, certs, "bot-cert", certUser, nil)
		bind := func(name string) {
			t.Helper()
			c.Credential = c.Bind(t, name, certUser, name, latchkey.CredentialCreate{
				Authentication: latchkey.AuthenticationCertificate, Usages: []latchkey.Usage{latchkey.UsageConnection}, Exposure: latchkey.ExposureDescriptor,
			})
			var err error
			if c.Connection, err = s.Broker.CreateConnection(t.Context(), s.Admin, c.Env, latchkey.ConnectionCreate{
				Name: name, Target: latchkey.Target{Machine: c.Machine.ID}, Driver: latchkey.DriverNone, Credential: c.Credential.ID,
			}); err != nil {
				t.Fatal(err)
			}
		}
		release := func() (latchkey.CredentialValues, error) {
			t.Helper()
			c.Start(t)
			run := c.Machine.Claim(t)
			got, _, err := c.Machine.Get(t, run, run.Credential)
			c.Machine.Finish(t, run)
			return got, err
		}
		// released is the certificate in what a release hands to the agent.
		released := func() *certauth.Certificate {
			t.Helper()
			got, err := release()
			if err != nil {
				t.Fatal(err)
			}
			cert, err := certauth.Decode([]byte(got.PFX.Reveal()))
			if err != nil {
				t.Fatal(err)
			}
			return cert
		}
		known := func(r latchkey.CertificateCheck) bool { return r.CheckedAt != nil }

		// Signed by itself: every step passes.
		bind("bot-cert")
		got := awaitCertificate(t, c, "the check of a certificate signed by itself", known)
		if got.State != latchkey.CheckPassed || !got.ExpiresAt.Equal(*first.Attributes.Expires) || got.Version != first.ID.Version() {
			t.Errorf("check = %+v; want it passed, of the version and the end that the vault shows", got)
		}
		for _, f := range got.Findings {
			want := map[string]string{"chain": "signed by itself", "username": "is " + certUser, "usage": "client authentication"}[f.Check]
			if f.State != latchkey.CheckPassed || !strings.Contains(f.Message, want) {
				t.Errorf("finding %+v; want passed, %q", f, want)
			}
		}
		if leaf := released().Leaf; string(leaf.Raw) != string(first.CER) {
			t.Errorf("the release has the certificate %s; want the vault's", leaf.Subject)
		}

		// A new version is released at once, and looked at.
		second := s.MakeCertificate(t, certs, "bot-cert", certUser, nil)
		if leaf := released().Leaf; string(leaf.Raw) != string(second.CER) || string(leaf.Raw) == string(first.CER) {
			t.Error("the release after a renewal has not the new version")
		}
		awaitCertificate(t, c, "the check of the new version", func(r latchkey.CertificateCheck) bool {
			return r.Version == second.ID.Version() && r.State == latchkey.CheckPassed
		})

		// Signed by others: request and merge, with the chain.
		ca := pki.NewAuthority(t, "Test CA")
		params := func(upn string) azcertificates.CreateCertificateParameters {
			return azcertificates.CreateCertificateParameters{CertificatePolicy: &azcertificates.CertificatePolicy{
				IssuerParameters: &azcertificates.IssuerParameters{Name: new("Unknown")},
				X509CertificateProperties: &azcertificates.X509CertificateProperties{
					Subject: new("CN=bot"), SubjectAlternativeNames: &azcertificates.SubjectAlternativeNames{UserPrincipalNames: []*string{&upn}},
				},
			}}
		}
		op, err := certs.CreateCertificate(t.Context(), "merged", params(certUser), nil)
		if err != nil {
			t.Fatal(err)
		}
		leaf := ca.Sign(t, op.CSR)
		if _, err := certs.MergeCertificate(t.Context(), "merged", azcertificates.MergeCertificateParameters{X509Certificates: [][]byte{leaf.Raw, ca.Cert.Raw}}, nil); err != nil {
			t.Fatal(err)
		}
		bind("merged")
		got = awaitCertificate(t, c, "the check of a merged certificate", known)
		if got.State != latchkey.CheckPassed || got.Issuer != "CN=Test CA" {
			t.Errorf("check = %+v; want it passed, with the authority's name", got)
		}
		if cert := released(); len(cert.Chain) != 1 || !cert.Chain[0].Equal(ca.Cert) {
			t.Errorf("the release has %d more certificates; want the authority's", len(cert.Chain))
		}

		expired := ca.Issue(t, pki.Options{UPN: certUser, NotAfter: time.Now().Add(-time.Minute)})
		value := expired.Secret(t)
		refused := []struct {
			name, check, says string
			make              func(name string)
			released          bool
		}{
			{"alice", "username", "none of the tenant's username bindings", func(name string) { s.MakeCertificate(t, certs, name, "alice@contoso.example", nil) }, true},
			{"not-exportable", "format", "not exportable", func(name string) {
				s.MakeCertificate(t, certs, name, certUser, func(p *azcertificates.CertificatePolicy) { p.KeyProperties.Exportable = new(false) })
			}, false},
			{"as-pem", "format", "kept as PEM", func(name string) {
				s.MakeCertificate(t, certs, name, certUser, func(p *azcertificates.CertificatePolicy) {
					p.SecretProperties = &azcertificates.SecretProperties{ContentType: new("application/x-pem-file")}
				})
			}, false},
			{"for-servers", "usage", "not for client authentication", func(name string) {
				s.MakeCertificate(t, certs, name, certUser, func(p *azcertificates.CertificatePolicy) {
					p.X509CertificateProperties.EnhancedKeyUsage = []*string{new("1.3.6.1.5.5.7.3.1")}
				})
			}, true},
			{"expired", "validity", "expired at", func(name string) {
				if _, err := certs.ImportCertificate(t.Context(), name, azcertificates.ImportCertificateParameters{Base64EncodedCertificate: &value}, nil); err != nil {
					t.Fatal(err)
				}
			}, true},
		}
		for _, tt := range refused {
			tt.make(tt.name)
			bind(tt.name)
			got := awaitCertificate(t, c, "the check of "+tt.name, known)
			failed := ""
			for _, f := range got.Findings {
				if f.State == latchkey.CheckFailed && f.Check != "binding" {
					failed += f.Check
				}
			}
			if got.State != latchkey.CheckFailed || failed != tt.check || !strings.Contains(got.Message, tt.says) || got.Remedy == "" {
				t.Errorf("%s: check = %+v; want %s failed, %q, and what to do", tt.name, got, tt.check, tt.says)
			}
			_, err := release()
			if e, ok := errors.AsType[*latchkey.Error](err); tt.released != (err == nil) || !tt.released && (!ok || e.Code != "certificate-unusable" || !strings.Contains(e.Msg, tt.says)) {
				t.Errorf("%s: release: %v; want it released: %v", tt.name, err, tt.released)
			}
		}
	})
}

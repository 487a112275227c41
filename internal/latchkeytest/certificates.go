package latchkeytest

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azcertificates"

	"latchkey.dev/latchkey"
)

// Certificates returns Microsoft's client of the certificates in an embedded vault,
// with the token of a caller.
func (s *Service) Certificates(t testing.TB, who latchkey.Caller, vault string) *azcertificates.Client {
	t.Helper()
	c, err := azcertificates.NewClient(vaultURL(vault), vaultToken{s, who}, &azcertificates.ClientOptions{ClientOptions: azcore.ClientOptions{
		Transport: toHandler{s.Vaults}, Retry: policy.RetryOptions{MaxRetries: -1},
	}})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// vaultToken gives the tokens of a caller for embedded vaults.
type vaultToken struct {
	s   *Service
	who latchkey.Caller
}

// GetToken implements [azcore.TokenCredential].
func (v vaultToken) GetToken(ctx context.Context, _ policy.TokenRequestOptions) (azcore.AccessToken, error) {
	token, expires, err := v.s.Broker.VaultToken(ctx, v.who)
	return azcore.AccessToken{Token: token, ExpiresOn: expires}, err
}

// toHandler sends requests to a handler in this process.
type toHandler struct{ http.Handler }

// Do implements [policy.Transporter].
func (h toHandler) Do(r *http.Request) (*http.Response, error) {
	in := r.Clone(r.Context())
	in.RequestURI, in.RemoteAddr, in.Host = r.URL.RequestURI(), "127.0.0.1:0", r.URL.Host
	if in.Body == nil {
		in.Body = http.NoBody
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, in)
	out := w.Result()
	out.Request = r
	return out, nil
}

// MakeCertificate has a vault make a certificate for a user principal name, signed by
// itself unless change, which may be nil, says otherwise, and waits until it is there.
// It returns it as the vault shows it.
func (s *Service) MakeCertificate(t testing.TB, c *azcertificates.Client, name, upn string, change func(*azcertificates.CertificatePolicy)) azcertificates.Certificate {
	t.Helper()
	p := &azcertificates.CertificatePolicy{
		IssuerParameters: &azcertificates.IssuerParameters{Name: new("Self")},
		KeyProperties:    &azcertificates.KeyProperties{KeyType: new(azcertificates.KeyTypeEC), Curve: new(azcertificates.CurveNameP256), Exportable: new(true)},
		X509CertificateProperties: &azcertificates.X509CertificateProperties{
			Subject: new("CN=" + name), SubjectAlternativeNames: &azcertificates.SubjectAlternativeNames{UserPrincipalNames: []*string{&upn}},
			EnhancedKeyUsage: []*string{new("1.3.6.1.5.5.7.3.2")},
		},
	}
	if change != nil {
		change(p)
	}
	if _, err := c.CreateCertificate(t.Context(), name, azcertificates.CreateCertificateParameters{CertificatePolicy: p}, nil); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(Patience)
	for {
		o, err := c.GetCertificateOperation(t.Context(), name, nil)
		if err != nil {
			t.Fatal(err)
		}
		if *o.Status != "inProgress" {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the certificate %s is not there: %+v", name, o.CertificateOperation)
		}
		time.Sleep(5 * time.Millisecond)
	}
	got, err := c.GetCertificate(t.Context(), name, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	return got.Certificate
}

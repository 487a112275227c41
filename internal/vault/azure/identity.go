package azure

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"software.sslmate.com/src/go-pkcs12"
)

// anyTenant lets a credential sign in to other tenants than its own. Which ones
// it may is decided before, by the tenants that are linked.
var anyTenant = []string{"*"}

// newCredential returns the identity that checked settings describe. Nothing is
// sent for it. Delay is before the first retry of a request for a token.
func (s *Settings) newCredential(c Cloud, client *http.Client, delay time.Duration) (azcore.TokenCredential, error) {
	options := azcore.ClientOptions{
		Cloud: cloud.Configuration{ActiveDirectoryAuthorityHost: c.Authority},
		Retry: policy.RetryOptions{MaxRetries: maxRetries, RetryDelay: delay, MaxRetryDelay: maxRetryDelay},

		Transport:        bounded{client},
		PerRetryPolicies: []policy.Policy{signInRecorder{}},
	}
	switch s.Identity {
	case identityManaged:
		// It is asked of the machine itself, and on Service Fabric the SDK takes no
		// transport but its own kind.
		options.Transport = client
		o := &azidentity.ManagedIdentityCredentialOptions{ClientOptions: options}
		switch {
		case s.ClientID != "":
			o.ID = azidentity.ClientID(s.ClientID)
		case s.ResourceID != "":
			o.ID = azidentity.ResourceID(s.ResourceID)
		}
		return azidentity.NewManagedIdentityCredential(o)
	case identityWorkload:
		return azidentity.NewWorkloadIdentityCredential(&azidentity.WorkloadIdentityCredentialOptions{
			ClientOptions: options, AdditionallyAllowedTenants: anyTenant, DisableInstanceDiscovery: c.own,
			ClientID: s.ClientID, TenantID: s.Tenant, TokenFilePath: s.TokenFile,
		})
	case identityClientSecret:
		return renewed(func() ([]byte, error) { return readFile(s.SecretFile) }, func() (azcore.TokenCredential, error) {
			secret, err := s.secret()
			if err != nil {
				return nil, err
			}
			return azidentity.NewClientSecretCredential(s.Tenant, s.ClientID, secret, &azidentity.ClientSecretCredentialOptions{
				ClientOptions: options, AdditionallyAllowedTenants: anyTenant, DisableInstanceDiscovery: c.own,
			})
		}), nil
	case identityClientCertificate:
		return renewed(func() ([]byte, error) { return readFile(s.CertificateFile) }, func() (azcore.TokenCredential, error) {
			certs, key, err := s.certificate()
			if err != nil {
				return nil, err
			}
			return azidentity.NewClientCertificateCredential(s.Tenant, s.ClientID, certs, key, &azidentity.ClientCertificateCredentialOptions{
				ClientOptions: options, AdditionallyAllowedTenants: anyTenant, DisableInstanceDiscovery: c.own, SendCertificateChain: true,
			})
		}), nil
	case identityAzureCLI:
		return azidentity.NewAzureCLICredential(&azidentity.AzureCLICredentialOptions{AdditionallyAllowedTenants: anyTenant, TenantID: s.Tenant})
	case identityAzureDeveloperCLI:
		return azidentity.NewAzureDeveloperCLICredential(&azidentity.AzureDeveloperCLICredentialOptions{AdditionallyAllowedTenants: anyTenant, TenantID: s.Tenant})
	}
	return azidentity.NewDefaultAzureCredential(&azidentity.DefaultAzureCredentialOptions{
		ClientOptions: options, AdditionallyAllowedTenants: anyTenant, DisableInstanceDiscovery: c.own, TenantID: s.Tenant,
	})
}

// secret returns the secret of an application.
func (s *Settings) secret() (string, error) {
	b, err := readFile(s.SecretFile)
	if err != nil {
		return "", err
	}
	// Editors end files with a line feed; secrets of applications have none.
	b = bytes.TrimRight(b, "\r\n")
	if len(b) == 0 {
		return "", fmt.Errorf("there is no secret in %s", s.SecretFile)
	}
	return string(b), nil
}

// certificate returns the certificate of an application with its chain and key.
func (s *Settings) certificate() ([]*x509.Certificate, crypto.PrivateKey, error) {
	b, err := readFile(s.CertificateFile)
	if err != nil {
		return nil, nil, err
	}
	var password []byte
	if s.CertificatePasswordFile != "" {
		if password, err = readFile(s.CertificatePasswordFile); err != nil {
			return nil, nil, err
		}
		password = bytes.TrimRight(password, "\r\n")
	}
	certs, key, err := parseCertificate(b, password)
	if err != nil {
		return nil, nil, fmt.Errorf("certificate file %s: %w", s.CertificateFile, err)
	}
	if _, ok := key.(*rsa.PrivateKey); !ok {
		return nil, nil, fmt.Errorf("certificate file %s: Entra ID takes RSA keys only", s.CertificateFile)
	}
	return certs, key, nil
}

// CertificateEnds returns when the certificate ends by which the server signs in to
// Azure, as it is in its file now. ok is false if it signs in by something else.
func (s *Settings) CertificateEnds() (ends time.Time, ok bool, err error) {
	if s.Identity != identityClientCertificate {
		return ends, false, nil
	}
	certs, key, err := s.certificate()
	if err != nil {
		return ends, true, err
	}
	public := key.(*rsa.PrivateKey).Public()
	for _, c := range certs {
		if own, ok := c.PublicKey.(*rsa.PublicKey); ok && own.Equal(public) {
			return c.NotAfter, true, nil
		}
	}
	return ends, true, fmt.Errorf("certificate file %s: no certificate in it belongs to its key", s.CertificateFile)
}

// parseCertificate reads PEM, or else a PFX file.
func parseCertificate(b, password []byte) ([]*x509.Certificate, crypto.PrivateKey, error) {
	if bytes.Contains(b, []byte("-----BEGIN ")) {
		// The SDK's texts say nothing of what is in the file.
		return azidentity.ParseCertificates(b, nil)
	}
	key, cert, chain, err := pkcs12.DecodeChain(b, string(password))
	switch {
	case errors.Is(err, pkcs12.ErrIncorrectPassword):
		return nil, nil, errors.New("the password is wrong")
	case err != nil:
		return nil, nil, errors.New("it is neither PEM nor a PFX file that can be read")
	}
	return append([]*x509.Certificate{cert}, chain...), key, nil
}

// fileCredential is an identity that is made of a file, and made anew when the
// file has changed, so that secrets and certificates are renewed without a restart.
type fileCredential struct {
	read  func() ([]byte, error)
	build func() (azcore.TokenCredential, error)

	mu    sync.Mutex
	sum   [sha256.Size]byte      // of the file that inner is made of; guarded by mu
	inner azcore.TokenCredential // guarded by mu
}

func renewed(read func() ([]byte, error), build func() (azcore.TokenCredential, error)) *fileCredential {
	return &fileCredential{read: read, build: build}
}

// GetToken implements [azcore.TokenCredential]. It is called when a token ends.
func (c *fileCredential) GetToken(ctx context.Context, o policy.TokenRequestOptions) (azcore.AccessToken, error) {
	inner, err := c.current()
	if err != nil {
		return azcore.AccessToken{}, err
	}
	return inner.GetToken(ctx, o)
}

func (c *fileCredential) current() (azcore.TokenCredential, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	b, err := c.read()
	if err != nil {
		return nil, err
	}
	if sum := sha256.Sum256(b); c.inner == nil || sum != c.sum {
		if c.inner, err = c.build(); err != nil {
			return nil, err
		}
		c.sum = sum
	}
	return c.inner, nil
}

package azure

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"golang.org/x/net/http/httpproxy"

	"latchkey.dev/latchkey"
)

// metadataHost is where a virtual machine in Azure is asked for its identity. It is
// reached from the machine only.
const metadataHost = "169.254.169.254"

// Options are what vaults in Azure are read with, besides Settings.
type Options struct {
	// Tenants returns the ids of the Azure tenants that are linked, in lower case. A
	// vault of another tenant is sent no token.
	Tenants func(context.Context) ([]string, error)

	// Log takes a line when a vault is left alone, and when it answers again.
	Log *slog.Logger

	// Throttled is called for each answer that says that there are too many requests;
	// nil does nothing.
	Throttled func()
}

// An Access is what it takes to read the vaults of one of Azure's clouds: the
// identity, the way there, and which tenants may be read. It is safe for concurrent
// use.
type Access struct {
	Cloud Cloud

	reader     reader
	credential func() (azcore.TokenCredential, error) // the one that vaults are read with
	fresh      func() (azcore.TokenCredential, error) // one that has no tokens yet
	client     *http.Client                           // shared by all vaults, so that connections are
	tenants    func(context.Context) ([]string, error)
	log        *slog.Logger
	throttled  func()
	timeout    time.Duration // of a call; 0 is what Config says
	delay      time.Duration // before the first retry
}

// Open returns the access that checked settings describe. Nothing is sent before the
// first read.
func (s Settings) Open(o Options) (*Access, error) {
	if err := s.Check(); err != nil {
		return nil, err
	}
	if o.Tenants == nil || o.Log == nil {
		return nil, errors.New("access to Azure needs Tenants and Log")
	}
	client, err := s.newClient()
	if err != nil {
		return nil, err
	}
	a := &Access{Cloud: s.cloud(), reader: s.reader(), client: client, tenants: o.Tenants, log: o.Log, throttled: o.Throttled, delay: retryDelay}
	a.fresh = func() (azcore.TokenCredential, error) { return s.newCredential(a.Cloud, client, a.delay) }
	// Looking for the identity takes time, and only references to Azure need it.
	a.credential = sync.OnceValues(a.fresh)
	return a, nil
}

// newClient returns the way to vaults and to where identities sign in: through the
// proxy that the environment names, and never after a redirect.
func (s *Settings) newClient() (*http.Client, error) {
	roots, err := s.roots()
	if err != nil {
		return nil, err
	}
	proxy := httpproxy.FromEnvironment().ProxyFunc()
	dialer := &net.Dialer{Timeout: 5 * time.Second, KeepAlive: 30 * time.Second}
	return &http.Client{
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			DialContext: dialer.DialContext,
			Proxy: func(r *http.Request) (*url.URL, error) {
				if r.URL.Hostname() == metadataHost {
					return nil, nil
				}
				return proxy(r.URL)
			},
			TLSClientConfig:   &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots},
			ForceAttemptHTTP2: true, MaxResponseHeaderBytes: maxHeader, TLSHandshakeTimeout: 5 * time.Second,
			MaxIdleConns: 100, MaxIdleConnsPerHost: 8, IdleConnTimeout: 90 * time.Second,
		},
	}, nil
}

// Vault returns a reader of the vault that a reference names.
func (a *Access) Vault(ref latchkey.VaultReference) (*Vault, error) {
	// The name becomes part of a host name, so nothing but a name may pass.
	if err := latchkey.CheckVaultName(ref.Vault); err != nil {
		return nil, fmt.Errorf("name of the key vault: %w", err)
	}
	c, err := a.credential()
	if err != nil {
		return nil, fmt.Errorf("identity of the server in Azure: %w", err)
	}
	return New(Config{URL: a.Cloud.vaultURL(ref.Vault), Credential: c, Transport: a.client, Timeout: a.timeout, suffix: a.Cloud.VaultSuffix, access: a, delay: a.delay})
}

// A tenantError is a vault of a tenant that is not linked.
type tenantError struct {
	tenant string
	linked []string
}

func (e *tenantError) Error() string { return "the vault's tenant is not linked" }

// A lookupError is a failure to find out which tenants are linked.
type lookupError struct{ error }

func (e *lookupError) Unwrap() error { return e.error }

// checkTenant returns nil if the vault may be read, which is of that tenant.
func (v *Vault) checkTenant(ctx context.Context, tenant string) error {
	if v.access == nil {
		return nil
	}
	linked, err := v.access.tenants(ctx)
	if err != nil {
		return &lookupError{err}
	}
	if slices.Contains(linked, tenant) {
		return nil
	}
	if !latchkey.IsGUID(tenant) {
		tenant = "that it does not name by id"
	}
	return &tenantError{strings.ToLower(tenant), linked}
}

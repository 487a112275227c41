package azure_test

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"latchkey.dev/internal/keyvault"
	"latchkey.dev/internal/latchkeytest"
	"latchkey.dev/internal/latchkeytest/entra"
	"latchkey.dev/internal/latchkeytest/netfault"
	"latchkey.dev/internal/vault/azure"
	"latchkey.dev/latchkey"
)

const (
	application = "11111111-2222-3333-4444-555555555555"
	otherTenant = "99999999-8888-7777-6666-555555555555"
)

// managed are user-assigned managed identities. The SDK keeps tokens of managed
// identities for the whole process, so each test has its own.
var managed = []string{
	"11111111-0000-0000-0000-000000000001", "11111111-0000-0000-0000-000000000002", "11111111-0000-0000-0000-000000000003",
	"/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/rg/providers/Microsoft.ManagedIdentity/userAssignedIdentities/latchkey",
}

// A world is Azure as far as tests need it: the embedded vault over TLS under the
// names of a cloud's vaults, its Entra ID, and a network to both that has faults.
type world struct {
	*latchkeytest.Service
	directory *entra.Directory
	cloud     azure.Cloud
	authority *entra.Authority
	ca        string                          // file with it
	vault     *netfault.Proxy                 // way to the vaults
	login     *netfault.Proxy                 // way to everything else
	requests  atomic.Int64                    // that came to the vaults
	challenge atomic.Int64                    // of them, those without a token
	tls       atomic.Pointer[tls.Certificate] // what the vaults show; nil is the right one
	throttled atomic.Int64
	log       latchkeytest.Log

	mu     sync.Mutex
	fault  http.HandlerFunc // answers in place of the vaults; guarded by mu
	linked []string         // guarded by mu
	dns    error            // of every look-up; guarded by mu
}

// newWorld returns a world whose vaults have the suffix and whose vault erp has the
// secret x, with the canary as its value.
func newWorld(t *testing.T, authority, suffix string) *world {
	t.Helper()
	w := &world{Service: latchkeytest.New(t, latchkeytest.Options{Idle: true}), cloud: azure.Cloud{Authority: authority, VaultSuffix: suffix}}
	if _, err := w.Broker.CreateVault(t.Context(), w.Admin, latchkey.EmbeddedVaultCreate{Name: "erp"}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Broker.SetSecret(t.Context(), w.Admin, "erp", "x", latchkey.NewSecret(canary), latchkey.SecretAttributes{Enabled: true}); err != nil {
		t.Fatal(err)
	}
	w.directory = &entra.Directory{
		Tenant: w.Broker.Tenant(), Token: w.Broker.ServiceVaultToken, ClientID: application, Managed: managed, Header: "header",
	}
	w.linked = []string{w.Broker.Tenant()}
	vaults, err := keyvault.New(keyvault.Config{Broker: w.Broker, Domain: suffix, Tenant: w.Broker.Tenant(), Authority: "https://login.windows.net/" + w.Broker.Tenant()})
	if err != nil {
		t.Fatal(err)
	}
	host := strings.TrimPrefix(authority, "https://")
	w.authority = entra.NewAuthority(t)
	cert := w.authority.Issue(t, time.Now().Add(time.Hour), host, "*."+suffix)
	w.ca = file(t, "ca.pem", string(w.authority.PEM))
	serve := func(h http.HandlerFunc) *netfault.Proxy {
		s := httptest.NewUnstartedServer(h)
		s.TLS = &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			if bad := w.tls.Load(); bad != nil {
				return bad, nil
			}
			return cert, nil
		}}
		s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
		s.StartTLS()
		t.Cleanup(s.Close)
		return netfault.New(t, "tcp", s.Listener.Addr().String())
	}
	w.vault = serve(func(rw http.ResponseWriter, r *http.Request) {
		w.requests.Add(1)
		if r.Header.Get("Authorization") == "" {
			w.challenge.Add(1)
		}
		w.mu.Lock()
		fault := w.fault
		w.mu.Unlock()
		if fault != nil {
			fault(rw, r)
			return
		}
		vaults.ServeHTTP(rw, r)
	})
	w.login = serve(w.directory.ServeHTTP)
	return w
}

// set has f answer in place of the vaults; nil ends it.
func (w *world) set(f http.HandlerFunc) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.fault = f
}

// dnsError has every connection fail before it is made; nil ends it.
func (w *world) dnsError(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.dns = err
}

func (w *world) tenants(context.Context) ([]string, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.linked, nil
}

func (w *world) link(tenants ...string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.linked = tenants
}

// open returns access by settings, whose connections end in this world.
func (w *world) open(t *testing.T, s azure.Settings) *azure.Access {
	t.Helper()
	s.CAFile = w.ca
	a, err := s.Open(azure.Options{Tenants: w.tenants, Log: slog.New(slog.NewTextHandler(&w.log, nil)), Throttled: func() { w.throttled.Add(1) }})
	if err != nil {
		t.Fatal(err)
	}
	a.Dial(w.dial)
	a.Hurry(0, time.Millisecond)
	t.Cleanup(a.Idle)
	return a
}

func (w *world) dial(ctx context.Context, network, address string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	w.mu.Lock()
	dns := w.dns
	w.mu.Unlock()
	if dns != nil {
		return nil, dns
	}
	var d net.Dialer
	switch {
	case port != "443" && port != "80":
		return d.DialContext(ctx, network, address)
	case strings.HasSuffix(host, "."+w.cloud.VaultSuffix):
		return d.DialContext(ctx, network, w.vault.Addr())
	case host == "169.254.169.254":
		return w.plain(ctx)
	}
	return d.DialContext(ctx, network, w.login.Addr())
}

// plain is a connection to the metadata service of the machine, which has no TLS.
func (w *world) plain(context.Context) (net.Conn, error) {
	client, server := net.Pipe()
	h := &http.Server{Handler: w.directory}
	go func() { _ = h.Serve(&once{conn: server}) }() // it ends with the connection
	return client, nil
}

// once is a listener for one connection.
type once struct {
	conn net.Conn
	done sync.Once
}

func (l *once) Accept() (net.Conn, error) {
	var c net.Conn
	l.done.Do(func() { c = l.conn })
	if c == nil {
		return nil, net.ErrClosed
	}
	return c, nil
}

func (l *once) Close() error   { return nil }
func (l *once) Addr() net.Addr { return l.conn.LocalAddr() }

// reader returns a reader of the vault erp.
func (w *world) reader(t *testing.T, s azure.Settings) *azure.Vault {
	t.Helper()
	v, err := w.open(t, s).Vault(latchkey.VaultReference{Vault: "erp"})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// file writes a file and returns its path.
func file(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// bySecret returns the settings of an application with a secret.
func (w *world) bySecret(t *testing.T) azure.Settings {
	w.directory.Secret = "app-secret"
	return azure.Settings{Identity: "client-secret", Tenant: w.Broker.Tenant(), ClientID: application, SecretFile: file(t, "secret", "app-secret\n")}
}

// Package openid runs a provider of OpenID Connect for tests, that of
// github.com/zitadel/oidc, by TLS on this machine. Its people are Username and
// OtherUsername.
package openid

import (
	"context"
	"crypto/tls"
	"encoding/pem"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"github.com/zitadel/oidc/v3/example/server/exampleop"
	"github.com/zitadel/oidc/v3/example/server/storage"
	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"

	"latchkey.dev/internal/latchkeytest/idp"
)

// Who can sign in at the provider, and as which client.
const (
	Username      = "test-user@localhost"
	Subject       = "id1" // of Username
	OtherUsername = "test-user2"
	OtherSubject  = "id2"
	Password      = "verysecure"
	ClientID      = "latchkey"
	ClientSecret  = "a secret of the client"
)

// A Provider is a running provider. Its methods may be called concurrently.
type Provider struct {
	URL string // the issuer
	CA  []byte // what vouches for it, in PEM

	server *httptest.Server
	mu     sync.Mutex
	groups map[string][]string // subject to groups; guarded by mu
}

// New starts a provider that sends browsers back to redirect alone. It ends with the
// test.
func New(t testing.TB, redirect string) *Provider {
	t.Helper()
	p := &Provider{groups: map[string][]string{}}
	p.server = httptest.NewUnstartedServer(nil)
	p.server.TLS = &tls.Config{Certificates: []tls.Certificate{idp.Certificate()}}
	_, port, err := net.SplitHostPort(p.server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	p.URL = "https://localhost:" + port
	clients := map[string]*storage.Client{ClientID: storage.WebClient(ClientID, ClientSecret, redirect)}
	kept := &people{storage.NewStorageWithClients(storage.NewUserStore(p.URL), clients), p}
	// The example's server logs by the default logger of the process.
	p.server.Config.Handler = quiet(exampleop.SetupServer(p.URL, kept, nil, false, op.WithLogger(slog.New(slog.DiscardHandler))))
	p.server.StartTLS()
	p.CA = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.server.Certificate().Raw})
	t.Cleanup(p.server.Close)
	return p
}

func quiet(h http.Handler) http.Handler {
	slog.SetDefault(slog.New(slog.DiscardHandler))
	return h
}

// Client returns a client that trusts the provider.
func (p *Provider) Client() *http.Client { return p.server.Client() }

// SetGroups says which groups somebody is in, from the next sign-in on.
func (p *Provider) SetGroups(subject string, groups ...string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.groups[subject] = groups
}

// people is the example's storage, with groups and names in ID tokens.
type people struct {
	*storage.Storage
	p *Provider
}

// SetUserinfoFromRequest fills an ID token.
func (s *people) SetUserinfoFromRequest(ctx context.Context, u *oidc.UserInfo, r op.IDTokenRequest, scopes []string) error {
	if err := s.Storage.SetUserinfoFromRequest(ctx, u, r, scopes); err != nil {
		return err
	}
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	groups := s.p.groups[r.GetSubject()]
	if groups == nil {
		groups = []string{}
	}
	u.AppendClaims("groups", groups)
	u.AppendClaims("preferred_username", "Maya@Example.org")
	u.AppendClaims("name", "Maya Maker")
	return nil
}

package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"golang.org/x/sync/errgroup"

	"latchkey.dev/client"
	"latchkey.dev/latchkey"
)

func TestVaultProxy(t *testing.T) {
	vault := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "vault") }))
	defer vault.Close()
	other := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "other") }))
	defer other.Close()

	ctx, cancel := context.WithCancel(t.Context())
	var g errgroup.Group
	proxy, err := startVaultProxy(ctx, &g, nil, vault.Listener.Addr().String(), "vault.localhost:8443", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		cancel()
		if err := g.Wait(); err != nil {
			t.Error(err)
		}
	}()
	via, err := url.Parse(proxy)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(vault.Certificate())
	pool.AddCert(other.Certificate())
	transport := &http.Transport{Proxy: http.ProxyURL(via), TLSClientConfig: &tls.Config{RootCAs: pool, ServerName: "example.com"}}
	defer transport.CloseIdleConnections()
	c := &http.Client{Transport: transport}
	for address, want := range map[string]string{
		"https://demo.vault.localhost:8443/": "vault",
		"https://DEMO.Vault.localhost:8443/": "vault",
		other.URL:                            "other",
	} {
		resp, err := c.Get(address)
		if err != nil {
			t.Errorf("get %s: %v", address, err)
			continue
		}
		got, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || string(got) != want {
			t.Errorf("get %s = %q, %v; want %q", address, got, err, want)
		}
	}
	stranger := &http.Transport{Proxy: http.ProxyURL(&url.URL{Scheme: "http", Host: via.Host}), TLSClientConfig: transport.TLSClientConfig}
	if _, err := (&http.Client{Transport: stranger}).Get(other.URL); err == nil || !strings.Contains(err.Error(), "Proxy Authentication Required") {
		t.Errorf("without the password: %v; want proxy authentication required", err)
	}
	resp, err := http.Get(proxy + "/")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("a request that is no CONNECT: %d; want 405", resp.StatusCode)
	}
}

func TestVaultProxyUpstream(t *testing.T) {
	asked := make(chan string, 1)
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked <- r.Method + " " + r.Host + " " + r.Header.Get("Proxy-Authorization")
		w.WriteHeader(http.StatusOK)
	}))
	defer upstream.Close()
	u, err := url.Parse(upstream.URL)
	if err != nil {
		t.Fatal(err)
	}
	p := &vaultProxy{domain: "vault.localhost:443", upstream: func(*url.URL) (*url.URL, error) {
		return &url.URL{Scheme: "http", Host: u.Host, User: url.UserPassword("u", "p")}, nil
	}}
	conn, err := p.dial(t.Context(), "example.org:443")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if got, want := <-asked, "CONNECT example.org:443 Basic dTpw"; got != want {
		t.Errorf("the other proxy was asked %q; want %q", got, want)
	}
}

func TestIsVault(t *testing.T) {
	p := &vaultProxy{domain: "vault.localhost:8443"}
	for host, want := range map[string]bool{
		"a.vault.localhost:8443":    true,
		"A.VAULT.LOCALHOST:8443":    true,
		"a.b.vault.localhost:8443":  false,
		"a.vault.localhost:443":     false,
		"vault.localhost:8443":      false,
		".vault.localhost:8443":     false,
		"evilvault.localhost:8443":  false,
		"a.vault.localhost:8443.xx": false,
	} {
		if got := p.isVault(host); got != want {
			t.Errorf("isVault(%q) = %v; want %v", host, got, want)
		}
	}
}

func TestWithoutDomain(t *testing.T) {
	tests := []struct{ list, want string }{
		{"", "127.0.0.1"},
		{"localhost,127.0.0.1", "127.0.0.1"},
		{".localhost, example.org", "example.org,127.0.0.1"},
		{"*", "127.0.0.1"},
		{"*.vault.localhost", "127.0.0.1"},
		{"ault.localhost,10.0.0.0/8", "ault.localhost,10.0.0.0/8,127.0.0.1"},
	}
	for _, tt := range tests {
		if got := withoutDomain(tt.list, "vault.localhost:8443"); got != tt.want {
			t.Errorf("withoutDomain(%q) = %q; want %q", tt.list, got, tt.want)
		}
	}
}

func TestIdentity(t *testing.T) {
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, `{"token":"vault-token","expiresAt":"2026-11-23T08:00:00Z"}`)
	}))
	defer api.Close()
	c, err := client.New(client.Config{Server: api.URL, Token: latchkey.NewSecret("lk_x")})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var g errgroup.Group
	defer func() { cancel(); g.Wait() }()
	i, err := startIdentity(ctx, &g, c, "Vault.localhost:8443")
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		header, query string
		status        int
		want          string
	}{
		{"", "?resource=https://vault.azure.net", 401, "X-IDENTITY-HEADER"},
		{i.header + "x", "?resource=https://vault.azure.net", 401, "X-IDENTITY-HEADER"},
		{i.header, "", 400, "resource"},
		{i.header, "?api-version=2019-08-01&resource=https://vault.azure.net", 200, `"expires_on":"1795420800"`},
		{i.header, "?resource=https://vault.azure.net/.default", 200, "vault-token"},
		{i.header, "?resource=https://VAULT.azure.net/", 200, "vault-token"},
		{i.header, "?resource=https://vault.localhost:8443", 200, "vault-token"},
		{i.header, "?resource=https://vault.localhost/", 200, "vault-token"},
		{i.header, "?resource=https://management.azure.com//.default", 200, "vault-token"},
		{i.header, "?resource=https://management.vault.localhost:8443", 200, "vault-token"},
		{i.header, "?resource=https://graph.microsoft.com", 400, `"statusCode":400`},
		{i.header, "?resource=https://storage.azure.com/", 400, "https://vault.azure.net, https://vault.localhost:8443"},
		{i.header, "?resource=https://vault.azure.net.example.org", 400, "not one of this installation"},
		{i.header, "?resource=https://evil.vault.localhost:8443", 400, "not one of this installation"},
		{i.header, "?resource=vault.azure.net", 400, "not one of this installation"},
	}
	for _, tt := range tests {
		req, err := http.NewRequest("GET", i.endpoint+tt.query, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("X-IDENTITY-HEADER", tt.header)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != tt.status || !strings.Contains(string(b), tt.want) || tt.status != 200 && strings.Contains(string(b), "vault-token") {
			t.Errorf("%q with header %q: %d %s; want %d with %s", tt.query, tt.header, resp.StatusCode, b, tt.status, tt.want)
		}
	}
}

func TestVaultAddress(t *testing.T) {
	tests := []struct{ address, server, want string }{
		{"127.0.0.1:8443", "https://latchkey.example.org", "127.0.0.1:8443"},
		{"0.0.0.0:8443", "https://latchkey.example.org", "latchkey.example.org:8443"},
		{"[::]:8443", "https://latchkey.example.org:99", "latchkey.example.org:8443"},
		{":8443", "http://127.0.0.1:8080", net.JoinHostPort("127.0.0.1", "8443")},
	}
	for _, tt := range tests {
		if got := vaultAddress(tt.address, tt.server); got != tt.want {
			t.Errorf("vaultAddress(%q, %q) = %q; want %q", tt.address, tt.server, got, tt.want)
		}
	}
}

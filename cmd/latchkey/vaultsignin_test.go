package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"latchkey.dev/client"
)

// TestDiscovery asks through the proxy what Microsoft's libraries ask Microsoft.
func TestDiscovery(t *testing.T) {
	at := client.VaultConnection{Domain: "vault.localhost:8443", Authority: "https://login.vault.localhost:8443", Tenant: "t"}
	ctx, cancel := context.WithCancel(t.Context())
	var g errgroup.Group
	defer func() {
		cancel()
		if err := g.Wait(); err != nil {
			t.Error(err)
		}
	}()
	address, ca, err := startDiscovery(ctx, &g, at)
	if err != nil {
		t.Fatal(err)
	}
	proxy, err := startVaultProxy(ctx, &g, nil, "127.0.0.1:1", at.Domain, map[string]string{discoveryHost + ":443": address})
	if err != nil {
		t.Fatal(err)
	}
	via, err := url.Parse(proxy)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM([]byte(ca)) {
		t.Fatal("no authority")
	}
	transport := &http.Transport{Proxy: http.ProxyURL(via), TLSClientConfig: &tls.Config{RootCAs: pool}}
	defer transport.CloseIdleConnections()
	c := &http.Client{Transport: transport}
	for path, want := range map[string]struct {
		status   int
		tenantAt string
		aliases  bool
		text     string
	}{
		"/common/discovery/instance?api-version=1.1&authorization_endpoint=https://login.vault.localhost:8443/t/oauth2/v2.0/authorize": {200, "https://login.vault.localhost:8443/t/v2.0/.well-known/openid-configuration", true, ""},
		"/common/discovery/instance?api-version=1.1&authorization_endpoint=https://login.vault.localhost/t/oauth2/v2.0/authorize":      {200, "https://login.vault.localhost:8443/t/v2.0/.well-known/openid-configuration", true, ""},
		// Nobody is led from Microsoft's authority to this one.
		"/common/discovery/instance?api-version=1.1&authorization_endpoint=https://login.microsoftonline.com/common/oauth2/authorize": {200, "", true, ""},
		"/common/discovery/instance?authorization_endpoint=https://login.example/t/oauth2/v2.0/authorize":                             {404, "", false, "--as-service-principal"},
		"/t/v2.0/.well-known/openid-configuration": {404, "", false, "--as-service-principal"},
		"/t/oauth2/v2.0/token":                     {404, "", false, "https://login.vault.localhost:8443"},
	} {
		resp, err := c.Get("https://" + discoveryHost + path)
		if err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		var got struct {
			At          string `json:"tenant_discovery_endpoint"`
			Metadata    []struct{ Aliases []string }
			Description string `json:"error_description"`
		}
		err = json.NewDecoder(resp.Body).Decode(&got)
		resp.Body.Close()
		aliases := len(got.Metadata) == 1 && slices.Contains(got.Metadata[0].Aliases, "login.vault.localhost:8443")
		if err != nil || resp.StatusCode != want.status || got.At != want.tenantAt || aliases != want.aliases || !strings.Contains(got.Description, want.text) {
			t.Errorf("%s: %d %+v, %v; want %+v", path, resp.StatusCode, got, err, want)
		}
	}
	if _, err := c.Get("https://login.vault.localhost:8443/"); err == nil {
		t.Error("the stand-in answers for the vaults")
	}
}

// TestStandInCertificate has the authority vouch for its host, and for no other.
func TestStandInCertificate(t *testing.T) {
	now := time.Now()
	cert, ca, err := standInCertificate("login.example", now)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(cert.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM([]byte(ca))
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: pool, DNSName: "login.example", CurrentTime: now}); err != nil {
		t.Error(err)
	}
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: pool, DNSName: "other.example", CurrentTime: now}); err == nil {
		t.Error("it is good for another host")
	}
	if strings.Contains(ca, "PRIVATE") {
		t.Error("the authority's key is in what is written to files")
	}
}

func TestSignInVariables(t *testing.T) {
	at := client.VaultConnection{Authority: "https://login.vault.localhost:8443", Tenant: "t"}
	for _, tt := range []struct {
		environ []string
		want    string
	}{
		{[]string{"AZURE_CLIENT_ID=c", "AZURE_CLIENT_SECRET=s"}, "EnvironmentCredential"},
		{[]string{"AZURE_CLIENT_ID=c", "AZURE_CLIENT_CERTIFICATE_PATH=p"}, "EnvironmentCredential"},
		{[]string{"AZURE_CLIENT_ID=c", "AZURE_FEDERATED_TOKEN_FILE=p"}, "WorkloadIdentityCredential"},
		{[]string{"AZURE_CLIENT_SECRET=s"}, ""},
		{[]string{"AZURE_CLIENT_ID=c"}, ""},
	} {
		var said strings.Builder
		a := newApp(stdio{out: io.Discard, err: &said}, tt.environ)
		set, unset, err := a.signInVariables(at)
		if err != nil || set["AZURE_TOKEN_CREDENTIALS"] != tt.want || set["AZURE_AUTHORITY_HOST"] != at.Authority || set["AZURE_TENANT_ID"] != "t" || !slices.Contains(unset, "IDENTITY_ENDPOINT") {
			t.Errorf("%q: %q, %q, %v; want %s", tt.environ, set, unset, err, tt.want)
		}
		if (tt.want == "") != strings.Contains(said.String(), "AZURE_CLIENT_ID") {
			t.Errorf("%q: said %q", tt.environ, said.String())
		}
	}
	var said strings.Builder
	if _, _, err := newApp(stdio{out: io.Discard, err: &said}, nil).signInVariables(client.VaultConnection{}); err == nil {
		t.Error("a server that does not say where to sign in leaves programs with Microsoft")
	}
}

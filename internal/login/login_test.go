package login_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azsecrets"
	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"latchkey.dev/internal/keyvault"
	"latchkey.dev/internal/latchkeytest"
	"latchkey.dev/internal/login"
	"latchkey.dev/latchkey"
)

const canary = "canary-of-the-login-face"

// A face is a service with its embedded vaults and the sign-in face on a loopback
// port, with TLS as in production; a vault named erp with the secret password; and
// a service principal that may read it.
type face struct {
	*latchkeytest.Service
	t       *testing.T
	domain  string
	http    *http.Client // reaches the port under every name
	log     *latchkeytest.Log
	program latchkey.ServicePrincipal
	role    latchkey.RoleAssignmentID
	asked   chan string // hosts and paths of requests that are not for a vault
}

func newFace(t *testing.T) *face {
	t.Helper()
	f := &face{t: t, log: new(latchkeytest.Log), asked: make(chan string, 100)}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	transport := &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: roots},
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, listener.Addr().String())
		},
	}
	t.Cleanup(transport.CloseIdleConnections)
	f.http = &http.Client{Transport: transport}
	f.Service = latchkeytest.New(t, latchkeytest.Options{Issuers: f.http})
	roots.AppendCertsFromPEM(f.Broker.Authority())
	_, port, err := net.SplitHostPort(listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	f.domain = "vault.localhost:" + port
	tenant := f.Broker.Tenant()
	log := slog.New(slog.NewTextHandler(f.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	signIn, err := login.New(login.Config{Broker: f.Broker, Domain: f.domain, Tenant: tenant, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	vaults, err := keyvault.New(keyvault.Config{Broker: f.Broker, Domain: f.domain, Tenant: tenant, Authority: login.Authority(f.domain, tenant), Log: log})
	if err != nil {
		t.Fatal(err)
	}
	cert, err := f.Broker.ServerCertificate([]string{"*.vault.localhost", "login.microsoftonline.com", "issuer.example"}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch host := strings.ToLower(r.Host); host {
		case "login." + f.domain:
			f.asked <- r.URL.Path
			signIn.ServeHTTP(w, r)
		case "login.microsoftonline.com", "issuer.example":
			f.asked <- host + r.URL.Path
			f.others(w, r)
		default:
			vaults.ServeHTTP(w, r)
		}
	}))
	server.Listener.Close()
	server.Listener, server.TLS = listener, &tls.Config{Certificates: []tls.Certificate{cert}}
	server.StartTLS()
	t.Cleanup(server.Close)

	ctx := t.Context()
	if _, err := f.Broker.CreateVault(ctx, f.Admin, latchkey.EmbeddedVaultCreate{Name: "erp"}); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Broker.SetSecret(ctx, f.Admin, "erp", "password", latchkey.NewSecret(canary), latchkey.SecretAttributes{Enabled: true}); err != nil {
		t.Fatal(err)
	}
	if f.program, err = f.Broker.CreateServicePrincipal(ctx, f.Admin, latchkey.ServicePrincipalCreate{DisplayName: "Deploy"}); err != nil {
		t.Fatal(err)
	}
	a, err := f.Broker.AssignRole(ctx, f.Admin, "erp", latchkey.RoleAssignmentCreate{Principal: f.program.ID, Role: latchkey.VaultSecretsUser})
	if err != nil {
		t.Fatal(err)
	}
	f.role = a.ID
	return f
}

// issuerKey signs what issuer.example issues.
var issuerKey = sync.OnceValue(func() *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	return key
})

// others answers for Microsoft, who does not know our authority but is stood in
// for, and for an issuer of tokens.
func (f *face) others(w http.ResponseWriter, r *http.Request) {
	var answer any
	switch r.Host + r.URL.Path {
	case "login.microsoftonline.com/common/discovery/instance":
		var ok bool
		if answer, ok = login.Instance(r.URL.Query().Get("authorization_endpoint"), f.domain); !ok {
			http.NotFound(w, r)
			return
		}
	case "issuer.example/.well-known/openid-configuration":
		answer = map[string]any{"issuer": "https://issuer.example", "jwks_uri": "https://issuer.example/keys"}
	case "issuer.example/keys":
		answer = jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: issuerKey().Public(), KeyID: "k", Algorithm: "ES256", Use: "sig"}}}
	default:
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(answer)
}

// issued returns a token of issuer.example.
func issued(t *testing.T, subject string) string {
	t.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: issuerKey(), KeyID: "k"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	token, err := jwt.Signed(signer).Claims(jwt.Claims{
		Issuer: "https://issuer.example", Subject: subject, Audience: jwt.Audience{latchkey.DefaultFederatedAudience},
		Expiry: jwt.NewNumericDate(time.Now().Add(time.Hour)), IssuedAt: jwt.NewNumericDate(time.Now()),
	}).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// prove gives the service principal a credential.
func (f *face) prove(c latchkey.ServicePrincipalCredentialCreate) latchkey.NewServicePrincipalCredential {
	f.t.Helper()
	n, err := f.Broker.AddServicePrincipalCredential(f.t.Context(), f.Admin, f.program.ClientID, c)
	if err != nil {
		f.t.Fatal(err)
	}
	return n
}

func (f *face) secret() string {
	return f.prove(latchkey.ServicePrincipalCredentialCreate{Kind: latchkey.ProofSecret}).Secret
}

// certificate makes a certificate with an RSA key, as Azure's SDKs take, and
// registers it.
func (f *face) certificate() ([]*x509.Certificate, *rsa.PrivateKey) {
	f.t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		f.t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "deploy"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		f.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		f.t.Fatal(err)
	}
	f.prove(latchkey.ServicePrincipalCredentialCreate{Kind: latchkey.ProofCertificate, Certificate: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))})
	return []*x509.Certificate{cert}, key
}

// client is what SDKs are given to reach the faces, without retries.
func (f *face) client() azcore.ClientOptions {
	return azcore.ClientOptions{
		Transport: f.http, Retry: policy.RetryOptions{MaxRetries: -1},
		Cloud: cloud.Configuration{ActiveDirectoryAuthorityHost: "https://login." + f.domain},
	}
}

// read reads the vault's secret with Microsoft's client, which gets its tokens from
// a credential and verifies challenges.
func (f *face) read(credential azcore.TokenCredential) (string, error) {
	f.t.Helper()
	c, err := azsecrets.NewClient("https://erp."+f.domain, credential, &azsecrets.ClientOptions{ClientOptions: f.client()})
	if err != nil {
		f.t.Fatal(err)
	}
	s, err := c.GetSecret(f.t.Context(), "password", "", nil)
	if err != nil {
		return "", err
	}
	return *s.Value, nil
}

// TestCredentials signs in with each credential of Microsoft's SDK for Go.
func TestCredentials(t *testing.T) {
	f := newFace(t)
	tenant, id := f.Broker.Tenant(), f.program.ClientID
	secret := f.secret()
	certs, key := f.certificate()
	f.prove(latchkey.ServicePrincipalCredentialCreate{Kind: latchkey.ProofFederated, Issuer: "https://issuer.example", Subject: "repo:a"})
	tokenFile := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(tokenFile, []byte(issued(t, "repo:a")), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, disabled := range []bool{false, true} {
		for name, open := range map[string]func() (azcore.TokenCredential, error){
			"secret": func() (azcore.TokenCredential, error) {
				return azidentity.NewClientSecretCredential(tenant, id, secret, &azidentity.ClientSecretCredentialOptions{ClientOptions: f.client(), DisableInstanceDiscovery: disabled})
			},
			"certificate": func() (azcore.TokenCredential, error) {
				return azidentity.NewClientCertificateCredential(tenant, id, certs, key, &azidentity.ClientCertificateCredentialOptions{ClientOptions: f.client(), DisableInstanceDiscovery: disabled})
			},
			"certificate with its chain": func() (azcore.TokenCredential, error) {
				return azidentity.NewClientCertificateCredential(tenant, id, certs, key, &azidentity.ClientCertificateCredentialOptions{
					ClientOptions: f.client(), DisableInstanceDiscovery: disabled, SendCertificateChain: true})
			},
			"assertion": func() (azcore.TokenCredential, error) {
				return azidentity.NewClientAssertionCredential(tenant, id, func(context.Context) (string, error) { return issued(t, "repo:a"), nil },
					&azidentity.ClientAssertionCredentialOptions{ClientOptions: f.client(), DisableInstanceDiscovery: disabled})
			},
			"workload identity": func() (azcore.TokenCredential, error) {
				return azidentity.NewWorkloadIdentityCredential(&azidentity.WorkloadIdentityCredentialOptions{
					ClientOptions: f.client(), DisableInstanceDiscovery: disabled, TenantID: tenant, ClientID: id, TokenFilePath: tokenFile})
			},
		} {
			t.Run(fmt.Sprintf("%s, without instance discovery %v", name, disabled), func(t *testing.T) {
				f.seen()
				credential, err := open()
				if err != nil {
					t.Fatal(err)
				}
				if got, err := f.read(credential); err != nil || got != canary {
					t.Fatalf("the secret: %q, %v", got, err)
				}
				seen := f.seen()
				if asked := slices.Contains(seen, "login.microsoftonline.com/common/discovery/instance"); asked == disabled {
					t.Errorf("requests %q; Microsoft should be asked: %v", seen, !disabled)
				}
				// Whichever of the scopes; MSAL keeps none of them.
				for _, scope := range []string{"https://vault.azure.net/.default", "https://vault.localhost/.default", "https://management.azure.com//.default", "https://management." + f.domain + "/.default"} {
					if _, err := credential.GetToken(t.Context(), policy.TokenRequestOptions{Scopes: []string{scope}}); err != nil {
						t.Errorf("scope %s: %v", scope, err)
					}
				}
			})
		}
	}
	for _, holds := range []string{secret, canary, "eyJ"} {
		if strings.Contains(f.log.String(), holds) {
			t.Errorf("the log has %.8s…", holds)
		}
	}
	if !strings.Contains(f.log.String(), "caller="+string(f.program.ID)) {
		t.Errorf("the log does not say who signed in:\n%s", f.log)
	}
}

// TestEnvironment is a program that knows nothing but Azure's variables.
func TestEnvironment(t *testing.T) {
	f := newFace(t)
	tokenFile := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(tokenFile, []byte(issued(t, "repo:a")), 0o600); err != nil {
		t.Fatal(err)
	}
	f.prove(latchkey.ServicePrincipalCredentialCreate{Kind: latchkey.ProofFederated, Issuer: "https://issuer.example", Subject: "repo:a"})
	certs, key := f.certificate()
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certFile := filepath.Join(t.TempDir(), "client.pem")
	text := append(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certs[0].Raw})...)
	if err := os.WriteFile(certFile, text, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{
		"AZURE_CLIENT_SECRET": f.secret(), "AZURE_CLIENT_CERTIFICATE_PATH": certFile, "AZURE_FEDERATED_TOKEN_FILE": tokenFile,
	} {
		t.Run(name, func(t *testing.T) {
			for _, n := range []string{"AZURE_CLIENT_SECRET", "AZURE_CLIENT_CERTIFICATE_PATH", "AZURE_FEDERATED_TOKEN_FILE", "IDENTITY_ENDPOINT"} {
				t.Setenv(n, "")
			}
			t.Setenv("AZURE_TOKEN_CREDENTIALS", "prod")
			t.Setenv("AZURE_AUTHORITY_HOST", "https://login."+f.domain)
			t.Setenv("AZURE_TENANT_ID", f.Broker.Tenant())
			t.Setenv("AZURE_CLIENT_ID", f.program.ClientID)
			t.Setenv(name, value)
			o := azcore.ClientOptions{Transport: f.http, Retry: policy.RetryOptions{MaxRetries: -1}}
			credential, err := azidentity.NewDefaultAzureCredential(&azidentity.DefaultAzureCredentialOptions{ClientOptions: o})
			if err != nil {
				t.Fatal(err)
			}
			if got, err := f.read(credential); err != nil || got != canary {
				t.Errorf("the secret: %q, %v", got, err)
			}
		})
	}
}

// seen returns what was asked for, and forgets it.
func (f *face) seen() (all []string) {
	for {
		select {
		case s := <-f.asked:
			all = append(all, s)
		default:
			return all
		}
	}
}

// TestAtOnce takes rights away from a program that has a token.
func TestAtOnce(t *testing.T) {
	f := newFace(t)
	ctx := t.Context()
	credential, err := azidentity.NewClientSecretCredential(f.Broker.Tenant(), f.program.ClientID, f.secret(),
		&azidentity.ClientSecretCredentialOptions{ClientOptions: f.client(), DisableInstanceDiscovery: true})
	if err != nil {
		t.Fatal(err)
	}
	want := func(what string, status int) {
		t.Helper()
		got, err := f.read(credential)
		if status == http.StatusOK {
			if err != nil || got != canary {
				t.Fatalf("%s: %q, %v", what, got, err)
			}
			return
		}
		if e, ok := errors.AsType[*azcore.ResponseError](err); !ok || e.StatusCode != status {
			if auth, ok := errors.AsType[*azidentity.AuthenticationFailedError](err); !ok || auth.RawResponse.StatusCode != status {
				t.Fatalf("%s: %v; want status %d", what, err, status)
			}
		}
	}
	want("with a role", http.StatusOK)
	if err := f.Broker.RemoveRole(ctx, f.Admin, "erp", f.role); err != nil {
		t.Fatal(err)
	}
	want("without a role", http.StatusForbidden)
	if _, err := f.Broker.AssignRole(ctx, f.Admin, "erp", latchkey.RoleAssignmentCreate{Principal: f.program.ID, Role: latchkey.VaultSecretsUser}); err != nil {
		t.Fatal(err)
	}
	want("with a role again", http.StatusOK)
	disabled := true
	if _, err := f.Broker.UpdateServicePrincipal(ctx, f.Admin, f.program.ClientID, latchkey.ServicePrincipalUpdate{Disabled: &disabled}); err != nil {
		t.Fatal(err)
	}
	want("disabled, with a token", http.StatusUnauthorized)
	_, err = credential.GetToken(ctx, policy.TokenRequestOptions{Scopes: []string{"https://vault.localhost/.default"}})
	if err == nil || !strings.Contains(err.Error(), "AADSTS7000215") {
		t.Errorf("disabled, another token: %v; want AADSTS7000215", err)
	}
}

// A form is the body of a request for a token.
type form map[string]string

func (f *face) form() form {
	return form{"grant_type": "client_credentials", "client_id": f.program.ClientID, "scope": "https://vault.azure.net/.default"}
}

func (m form) with(name, value string) form {
	c := form{}
	for n, v := range m {
		c[n] = v
	}
	c[name] = value
	if value == "" {
		delete(c, name)
	}
	return c
}

func (m form) encode() string {
	v := url.Values{}
	for n, s := range m {
		v.Set(n, s)
	}
	return v.Encode()
}

// An answer is what the token endpoint answers.
type answer struct {
	status      int
	retryAfter  string
	TokenType   string `json:"token_type"`
	Token       string `json:"access_token"`
	ExpiresIn   int    `json:"expires_in"`
	Error       string `json:"error"`
	Description string `json:"error_description"`
	Codes       []int  `json:"error_codes"`
	Timestamp   string `json:"timestamp"`
	Trace       string `json:"trace_id"`
	Correlation string `json:"correlation_id"`
}

// send sends a request to the sign-in face.
func (f *face) send(method, path, body string, header map[string]string) (a answer) {
	f.t.Helper()
	r, err := http.NewRequestWithContext(f.t.Context(), method, "https://login."+f.domain+path, strings.NewReader(body))
	if err != nil {
		f.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	for n, v := range header {
		r.Header.Set(n, v)
	}
	resp, err := f.http.Do(r)
	if err != nil {
		f.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		f.t.Fatal(err)
	}
	if method != http.MethodHead {
		if err := json.Unmarshal(b, &a); err != nil {
			f.t.Fatalf("%s %s: %d %q: %v", method, path, resp.StatusCode, b, err)
		}
	}
	if got := resp.Header.Get("Cache-Control"); !strings.Contains(got, "no-store") {
		f.t.Errorf("%s %s: Cache-Control %q", method, path, got)
	}
	a.status, a.retryAfter = resp.StatusCode, resp.Header.Get("Retry-After")
	f.seen()
	return a
}

// TestRefusals sends requests that are refused, and some that are not.
func TestRefusals(t *testing.T) {
	f := newFace(t)
	secret := f.secret()
	good := f.form().with("client_secret", secret)
	path := "/" + f.Broker.Tenant() + "/oauth2/v2.0/token"
	basic := func(id, secret string) map[string]string {
		r, _ := http.NewRequest("GET", "/", nil)
		r.SetBasicAuth(id, secret)
		return map[string]string{"Authorization": r.Header.Get("Authorization")}
	}
	id := f.program.ClientID
	tests := []struct {
		name, method, path, body string
		header                   map[string]string
		status                   int
		code                     string
		number                   int
		text                     string
	}{
		{name: "good", body: good.encode(), status: 200},
		{name: "the tenant in capitals", path: strings.ToUpper(f.Broker.Tenant()), body: good.encode(), status: 200},
		{name: "the client's id", body: good.with("client_id", string(f.program.ID)).encode(), status: 200},
		{name: "Basic", body: f.form().with("client_id", "").encode(), header: basic(id, url.QueryEscape(secret)), status: 200},
		{name: "Basic and the same id", body: f.form().encode(), header: basic(id, secret), status: 200},
		{name: "the scope of a domain without its port", body: good.with("scope", "https://vault.localhost/.default").encode(), status: 200},
		{name: "the scope of the domain", body: good.with("scope", "https://"+f.domain+"/.default openid").encode(), status: 200},
		{name: "a content type with more", body: good.encode(), header: map[string]string{"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"}, status: 200},

		{name: "wrong secret", body: good.with("client_secret", "x"+secret).encode(), status: 401, code: "invalid_client", number: 7000215, text: "check that it was copied whole"},
		{name: "wrong secret by Basic", body: f.form().encode(), header: basic(id, "wrong"), status: 401, code: "invalid_client", number: 7000215},
		{name: "nobody", body: good.with("client_id", "5c1a3e0e-7d2b-4b8f-9a59-9d0d6a1c2f33").encode(), status: 400, code: "unauthorized_client", number: 700016, text: "client id"},
		{name: "no secret", body: f.form().encode(), status: 401, code: "invalid_client", number: 7000218, text: "client_secret"},
		{name: "both proofs", body: good.with("client_assertion", "a.b.c").with("client_assertion_type", latchkey.ClientAssertionType).encode(), status: 400, code: "invalid_request", number: 9002313, text: "client_assertion must not be given beside a secret"},
		{name: "Basic and a secret", body: good.encode(), header: basic(id, secret), status: 400, code: "invalid_request", number: 9002313, text: "in one way"},
		{name: "Basic and another id", body: f.form().with("client_id", "other").encode(), header: basic(id, secret), status: 400, code: "invalid_request", number: 9002313},
		{name: "Bearer", body: good.encode(), header: map[string]string{"Authorization": "Bearer " + secret}, status: 401, code: "invalid_client", number: 7000215, text: "Basic"},
		{name: "an assertion that is none", body: f.form().with("client_assertion", canary).with("client_assertion_type", latchkey.ClientAssertionType).encode(), status: 401, code: "invalid_client", number: 700027},
		{name: "an assertion without a type", body: f.form().with("client_assertion", "a.b.c").encode(), status: 400, code: "invalid_request", number: 900144, text: "client_assertion_type"},
		{name: "an assertion of another type", body: f.form().with("client_assertion", "a.b.c").with("client_assertion_type", "saml").encode(), status: 400, code: "invalid_request", number: 90023},
		{name: "of an issuer that nothing names", body: f.form().with("client_assertion", issued(t, "repo:b")).with("client_assertion_type", latchkey.ClientAssertionType).encode(), status: 401, code: "invalid_client", number: 70021, text: "issuer.example"},

		{name: "no grant", body: good.with("grant_type", "").encode(), status: 400, code: "invalid_request", number: 900144, text: "grant_type"},
		{name: "another grant", body: good.with("grant_type", "password").encode(), status: 400, code: "unsupported_grant_type", number: 70003, text: "client_credentials"},
		{name: "no client", body: good.with("client_id", "").encode(), status: 400, code: "invalid_request", number: 900144, text: "client_id"},
		{name: "no scope", body: good.with("scope", "").encode(), status: 400, code: "invalid_request", number: 900144, text: "scope"},
		{name: "another scope", body: good.with("scope", "https://graph.microsoft.com/.default").encode(), status: 400, code: "invalid_resource", number: 500011, text: "https://vault.azure.net/.default"},
		{name: "a scope that is no default", body: good.with("scope", "https://vault.azure.net/user_impersonation").encode(), status: 400, code: "invalid_scope", number: 1002012},
		{name: "two scopes", body: good.with("scope", "https://vault.azure.net/.default https://management.azure.com/.default").encode(), status: 400, code: "invalid_scope", number: 1002012},
		{name: "a long scope", body: good.with("scope", "https://"+strings.Repeat("x", 1000)+"/.default").encode(), status: 400, code: "invalid_scope", number: 70011},
		{name: "a parameter twice", body: good.encode() + "&client_secret=" + canary, status: 400, code: "invalid_request", number: 9000411},
		{name: "not a form", body: "%zz" + canary, status: 400, code: "invalid_request", number: 9002313},
		{name: "not in UTF-8", body: good.encode() + "&x=%ff", status: 400, code: "invalid_request", number: 9002313},
		{name: "many parameters", body: good.encode() + strings.Repeat("&a=b", 40), status: 400, code: "invalid_request", number: 9002313},
		{name: "oversize", body: good.with("client_secret", strings.Repeat("x", 65<<10)).encode(), status: 413, code: "invalid_request", number: 9002313, text: "65536 bytes"},
		{name: "JSON", body: `{"client_secret":"` + canary + `"}`, header: map[string]string{"Content-Type": "application/json"}, status: 415, code: "invalid_request", number: 9002313},

		{name: "another tenant", path: "5c1a3e0e-7d2b-4b8f-9a59-9d0d6a1c2f33", body: good.encode(), status: 400, code: "invalid_request", number: 90002, text: f.Broker.Tenant()},
		{name: "organizations", path: "organizations", body: good.encode(), status: 400, code: "invalid_request", number: 50059, text: f.Broker.Tenant()},
		{name: "common", path: "common", body: good.encode(), status: 400, code: "invalid_request", number: 50059},
		{name: "GET", method: "GET", status: 405, code: "invalid_request", number: 900561},
	}
	for _, tt := range tests {
		method, at := "POST", path
		if tt.method != "" {
			method = tt.method
		}
		if tt.path != "" {
			at = "/" + tt.path + "/oauth2/v2.0/token"
		}
		header := map[string]string{"client-request-id": "0f8fad5b-d9cb-469f-a165-70867728950e"}
		for n, v := range tt.header {
			header[n] = v
		}
		a := f.send(method, at, tt.body, header)
		if tt.status == 200 {
			if a.status != 200 || a.TokenType != "Bearer" || a.ExpiresIn < 3000 || a.ExpiresIn > 3600 {
				t.Errorf("%s: %+v; want a token for an hour", tt.name, a)
			} else if who, err := f.Broker.AuthenticateVault(t.Context(), a.Token); err != nil || who.ID != f.program.ID {
				t.Errorf("%s: the token is of %s, %v", tt.name, who.ID, err)
			}
			continue
		}
		if a.status != tt.status || a.Error != tt.code || !slices.Equal(a.Codes, []int{tt.number}) || a.Token != "" {
			t.Errorf("%s: %d %s %v %s; want %d %s %d", tt.name, a.status, a.Error, a.Codes, a.Description, tt.status, tt.code, tt.number)
		}
		if !strings.HasPrefix(a.Description, fmt.Sprintf("AADSTS%d: ", tt.number)) || !strings.Contains(a.Description, tt.text) {
			t.Errorf("%s: %q; want AADSTS%d and %q", tt.name, a.Description, tt.number, tt.text)
		}
		if a.Correlation != "0f8fad5b-d9cb-469f-a165-70867728950e" || a.Trace == "" || a.Timestamp == "" || !strings.Contains(a.Description, a.Trace) {
			t.Errorf("%s: %+v; want the ids of the request", tt.name, a)
		}
		if strings.Contains(a.Description, secret) || strings.Contains(a.Description, canary) {
			t.Errorf("%s: the answer repeats what was sent: %s", tt.name, a.Description)
		}
	}
	if log := f.log.String(); strings.Contains(log, secret) || strings.Contains(log, canary) {
		t.Error("the log has what was sent")
	}
}

// TestThrottled guesses until it has to wait.
func TestThrottled(t *testing.T) {
	f := newFace(t)
	path := "/" + f.Broker.Tenant() + "/oauth2/v2.0/token"
	wrong := f.form().with("client_secret", "wrong").encode()
	for range 100 {
		a := f.send("POST", path, wrong, nil)
		if a.status == http.StatusTooManyRequests {
			if a.retryAfter == "" || a.retryAfter == "0" || !slices.Equal(a.Codes, []int{50196}) {
				t.Errorf("Retry-After %q, %v, %s", a.retryAfter, a.Codes, a.Description)
			}
			return
		}
		if a.status != http.StatusUnauthorized {
			t.Fatalf("%+v; want 401", a)
		}
	}
	t.Error("after 100 wrong secrets nobody has to wait")
}

// TestUnknownClientsThrottled tries a client id after the other that nothing has.
func TestUnknownClientsThrottled(t *testing.T) {
	f := newFace(t)
	path := "/" + f.Broker.Tenant() + "/oauth2/v2.0/token"
	right := f.form().with("client_secret", f.secret()).encode()
	for i := range 20 {
		a := f.send("POST", path, f.form().with("client_secret", "wrong").with("client_id", fmt.Sprintf("00000000-0000-0000-0000-%012d", i)).encode(), nil)
		if a.status == http.StatusTooManyRequests {
			if a.retryAfter == "" || a.retryAfter == "0" || !slices.Equal(a.Codes, []int{50196}) {
				t.Errorf("Retry-After %q, %v, %s", a.retryAfter, a.Codes, a.Description)
			}
			if a := f.send("POST", path, right, nil); a.status != http.StatusOK {
				t.Errorf("a right secret meanwhile: %+v", a)
			}
			return
		}
		if a.status != http.StatusBadRequest {
			t.Fatalf("%+v; want 400", a)
		}
	}
	t.Error("after 20 unknown client ids nobody has to wait")
}

// TestExpired signs in with a secret after its end.
func TestExpired(t *testing.T) {
	clock := &latchkeytest.Clock{}
	s := latchkeytest.New(t, latchkeytest.Options{Now: clock.Now, Idle: true})
	p, err := s.Broker.CreateServicePrincipal(t.Context(), s.Admin, latchkey.ServicePrincipalCreate{DisplayName: "Deploy"})
	if err != nil {
		t.Fatal(err)
	}
	n, err := s.Broker.AddServicePrincipalCredential(t.Context(), s.Admin, p.ClientID, latchkey.ServicePrincipalCredentialCreate{Kind: latchkey.ProofSecret, ExpiresIn: latchkey.Duration(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	h, err := login.New(login.Config{Broker: s.Broker, Domain: "vault.localhost", Tenant: s.Broker.Tenant(), Now: clock.Now})
	if err != nil {
		t.Fatal(err)
	}
	send := func() *httptest.ResponseRecorder {
		body := form{"grant_type": "client_credentials", "client_id": p.ClientID, "scope": "https://vault.localhost/.default", "client_secret": n.Secret}.encode()
		r := httptest.NewRequest("POST", "https://login.vault.localhost/"+s.Broker.Tenant()+"/oauth2/v2.0/token", strings.NewReader(body))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w
	}
	if w := send(); w.Code != 200 {
		t.Fatalf("before its end: %d %s", w.Code, w.Body)
	}
	clock.Step(2 * time.Hour)
	if w := send(); w.Code != 401 || !strings.Contains(w.Body.String(), "AADSTS7000222") {
		t.Errorf("after its end: %d %s; want AADSTS7000222", w.Code, w.Body)
	}
}

func TestDiscovery(t *testing.T) {
	f := newFace(t)
	at := login.Authority(f.domain, f.Broker.Tenant())
	get := func(path string, into any) int {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), "GET", "https://login."+f.domain+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := f.http.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if err := json.NewDecoder(resp.Body).Decode(into); err != nil {
			t.Fatal(err)
		}
		f.seen()
		return resp.StatusCode
	}
	for _, path := range []string{"/v2.0/.well-known/openid-configuration", "/.well-known/openid-configuration"} {
		var doc struct {
			Issuer string `json:"issuer"`
			Token  string `json:"token_endpoint"`
			Keys   string `json:"jwks_uri"`
		}
		if status := get("/"+f.Broker.Tenant()+path, &doc); status != 200 || doc.Issuer != at+"/v2.0" || doc.Token != at+"/oauth2/v2.0/token" {
			t.Errorf("%s: %d %+v", path, status, doc)
		}
		var a answer
		if status := get("/common"+path, &a); status != 400 || a.Error != "invalid_request" {
			t.Errorf("of no tenant: %d %+v", status, a)
		}
		var keys struct{ Keys *[]any }
		u, err := url.Parse(doc.Keys)
		if err != nil {
			t.Fatal(err)
		}
		if status := get(u.Path, &keys); status != 200 || keys.Keys == nil || len(*keys.Keys) != 0 {
			t.Errorf("keys: %d %+v; want an empty set", status, keys)
		}
	}
	for endpoint, want := range map[string]int{
		"https://login." + f.domain + "//oauth2/v2.0/authorize":                                      400,
		at + "/oauth2/v2.0/authorize":                                                                200,
		"https://login.vault.localhost/" + f.Broker.Tenant() + "/oauth2/v2.0/authorize":              200, // the library for Python
		"https://login.vault.localhost:1/x/oauth2/v2.0/authorize":                                    400,
		"https://login.evil.example/x/oauth2/v2.0/authorize":                                         400,
		"http://login." + f.domain + "/x":                                                            400,
		"https://login." + f.domain + "@evil.example/x":                                              400,
		"https://evil.example/https://login." + f.domain + "/" + f.Broker.Tenant() + "/v2/authorize": 400,
		"": 400,
	} {
		var a struct {
			answer
			At       string `json:"tenant_discovery_endpoint"`
			Metadata []struct{ Aliases []string }
		}
		status := get("/common/discovery/instance?api-version=1.1&authorization_endpoint="+url.QueryEscape(endpoint), &a)
		if status != want {
			t.Errorf("instance of %q: %d; want %d", endpoint, status, want)
		}
		if want == 200 && (a.At != at+"/v2.0/.well-known/openid-configuration" || len(a.Metadata) != 1 || !slices.Contains(a.Metadata[0].Aliases, "login."+f.domain)) {
			t.Errorf("instance of %q: %+v", endpoint, a)
		}
		if want != 200 && endpoint != "" && a.Error != "invalid_instance" {
			t.Errorf("instance of %q: %+v; want invalid_instance", endpoint, a.answer)
		}
	}
	for _, path := range []string{"/", "/x", "/" + f.Broker.Tenant() + "/oauth2/v2.0/authorize", "/" + strings.Repeat("x", 600)} {
		if a := f.send("GET", path, "", nil); a.status != 404 || a.Error != "invalid_request" {
			t.Errorf("%.40s: %+v; want 404", path, a)
		}
	}
	if a := f.send("POST", "/common/discovery/instance", "", nil); a.status != 405 {
		t.Errorf("POST: %+v; want 405", a)
	}
}

func TestBadConfig(t *testing.T) {
	s := latchkeytest.New(t, latchkeytest.Options{Idle: true})
	for name, c := range map[string]login.Config{
		"no broker": {Domain: "vault.localhost", Tenant: "t"}, "no tenant": {Broker: s.Broker, Domain: "vault.localhost"},
		"no domain": {Broker: s.Broker, Tenant: "t"}, "a path": {Broker: s.Broker, Tenant: "t", Domain: "vault.localhost/x"},
	} {
		if _, err := login.New(c); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}

// TestAssertion sends assertions that no SDK would, and one as often as SDKs do.
func TestAssertion(t *testing.T) {
	f := newFace(t)
	certs, key := f.certificate()
	thumbprint := sha256.Sum256(certs[0].Raw)
	other, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	at := login.Authority(f.domain, f.Broker.Tenant())
	path := "/" + f.Broker.Tenant() + "/oauth2/v2.0/token"
	sign := func(key *rsa.PrivateKey, audience string, lasts time.Duration) string {
		t.Helper()
		o := (&jose.SignerOptions{}).WithHeader("x5t#S256", base64.RawURLEncoding.EncodeToString(thumbprint[:]))
		signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.PS256, Key: key}, o)
		if err != nil {
			t.Fatal(err)
		}
		now := time.Now()
		text, err := jwt.Signed(signer).Claims(jwt.Claims{
			Issuer: f.program.ClientID, Subject: f.program.ClientID, Audience: jwt.Audience{audience}, ID: rand.Text(),
			NotBefore: jwt.NewNumericDate(now.Add(-24 * time.Hour)), Expiry: jwt.NewNumericDate(now.Add(lasts)),
		}).Serialize()
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	send := func(assertion string) answer {
		return f.send("POST", path, f.form().with("client_assertion", assertion).with("client_assertion_type", latchkey.ClientAssertionType).encode(), nil)
	}
	for _, audience := range []string{at + "/oauth2/v2.0/token", at + "/v2.0", at} {
		assertion := sign(key, audience, time.Minute)
		for range 2 {
			if a := send(assertion); a.status != 200 {
				t.Errorf("audience %s: %+v", audience, a)
			}
		}
	}
	for name, tt := range map[string]struct {
		assertion string
		number    int
	}{
		"expired":          {sign(key, at, -time.Hour), 700024},
		"another audience": {sign(key, "https://login.microsoftonline.com/"+f.Broker.Tenant()+"/v2.0", time.Minute), 700023},
		"another key":      {sign(other, at, time.Minute), 700027},
		"too long":         {sign(key, at, 48*time.Hour), 700027},
	} {
		if a := send(tt.assertion); a.status != 401 || a.Error != "invalid_client" || !slices.Equal(a.Codes, []int{tt.number}) {
			t.Errorf("%s: %+v; want AADSTS%d", name, a, tt.number)
		}
	}
}

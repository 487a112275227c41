// Package entra is a small Microsoft Entra ID with one application and one managed
// identity, and the places where machines in Azure are told their identity, for
// tests: what the SDK's credentials ask is answered as far as they look at it.
package entra

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// A Directory answers requests for tokens. It is an [http.Handler], for every host
// of Entra ID and of the machine's metadata service at once.
type Directory struct {
	// Tenant is the tenant that the identities are of.
	Tenant string

	// Token returns what is given to whoever proves to be one of the identities.
	Token func(context.Context) (token string, expires time.Time, err error)

	// What proves it: as the application ClientID one of the next three.
	ClientID    string
	Secret      string
	Certificate *x509.Certificate
	Assertion   string

	// Managed are the ids of the managed identities that the machine has besides its
	// own, which has no name. Header is what App Service wants.
	Managed []string
	Header  string

	mu   sync.Mutex
	fail http.HandlerFunc // guarded by mu
	seen []string         // guarded by mu
}

// Fail has f answer requests for tokens from now on; nil ends it.
func (d *Directory) Fail(f http.HandlerFunc) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fail = f
}

// Seen returns how tokens were asked for, and forgets it.
func (d *Directory) Seen() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	seen := d.seen
	d.seen = nil
	return seen
}

func (d *Directory) note(what string) (fail http.HandlerFunc) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.seen = append(d.seen, what)
	return d.fail
}

// ServeHTTP implements [http.Handler].
func (d *Directory) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	base := "https://" + r.Host
	tenant, path, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	switch {
	case r.URL.Path == "/common/discovery/instance":
		d.note("instance discovery at " + r.Host)
		tenant, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Query().Get("authorization_endpoint"), base+"/"), "/")
		send(w, http.StatusOK, map[string]any{
			"tenant_discovery_endpoint": base + "/" + tenant + "/v2.0/.well-known/openid-configuration", "api-version": "1.1",
			"metadata": []map[string]any{{"preferred_network": r.Host, "preferred_cache": r.Host, "aliases": []string{r.Host}}},
		})
	case path == "v2.0/.well-known/openid-configuration":
		send(w, http.StatusOK, map[string]any{
			"token_endpoint": base + "/" + tenant + "/oauth2/v2.0/token", "authorization_endpoint": base + "/" + tenant + "/oauth2/v2.0/authorize",
			"issuer": base + "/" + tenant + "/v2.0",
		})
	case path == "oauth2/v2.0/token" && r.Method == http.MethodPost:
		d.application(w, r, tenant, base)
	case r.URL.Path == "/metadata/identity/oauth2/token":
		if r.Header.Get("Metadata") != "true" { // the SDK looks whether somebody is there
			send(w, http.StatusBadRequest, map[string]any{"error": "invalid_request"})
			return
		}
		d.machine(w, r, "IMDS", r.URL.Query().Get("msi_res_id"))
	case r.URL.Path == "/msi/token":
		if r.Header.Get("X-IDENTITY-HEADER") != d.Header {
			send(w, http.StatusUnauthorized, map[string]any{"error": "no header"})
			return
		}
		d.machine(w, r, "App Service", r.URL.Query().Get("mi_res_id"))
	default:
		http.NotFound(w, r)
	}
}

// application gives a token to the application.
func (d *Directory) application(w http.ResponseWriter, r *http.Request, tenant, base string) {
	if err := r.ParseForm(); err != nil {
		http.Error(w, "form", http.StatusBadRequest)
		return
	}
	how := "secret"
	if r.PostForm.Get("client_assertion") != "" {
		how = "assertion"
	}
	if fail := d.note(how + " in " + tenant); fail != nil {
		fail(w, r)
		return
	}
	switch {
	case !strings.EqualFold(tenant, d.Tenant):
		Refuse(w, "AADSTS90002", "Tenant '"+tenant+"' not found.")
	case r.PostForm.Get("client_id") != d.ClientID:
		Refuse(w, "AADSTS700016", "Application not found in the directory.")
	case r.PostForm.Get("grant_type") != "client_credentials":
		Refuse(w, "AADSTS70003", "The grant is not supported.")
	case how == "secret" && (d.Secret == "" || r.PostForm.Get("client_secret") != d.Secret):
		Refuse(w, "AADSTS7000215", "Invalid client secret provided.")
	case how == "assertion" && r.PostForm.Get("client_assertion") != d.Assertion:
		if code := d.checkAssertion(r.PostForm.Get("client_assertion"), base+r.URL.Path); code != "" {
			Refuse(w, code, "The assertion was refused.")
			return
		}
		d.give(w, r)
	default:
		d.give(w, r)
	}
}

// checkAssertion verifies an assertion that the application's certificate signed.
func (d *Directory) checkAssertion(text, audience string) (code string) {
	parsed, err := jwt.ParseSigned(text, []jose.SignatureAlgorithm{jose.PS256, jose.RS256})
	if err != nil || d.Certificate == nil {
		return "AADSTS70021"
	}
	var claims jwt.Claims
	if parsed.Claims(d.Certificate.PublicKey, &claims) != nil {
		return "AADSTS700027"
	}
	if claims.Validate(jwt.Expected{Issuer: d.ClientID, Subject: d.ClientID, AnyAudience: jwt.Audience{audience}, Time: time.Now()}) != nil {
		return "AADSTS700024"
	}
	return ""
}

// machine gives a token to whoever is on the machine.
func (d *Directory) machine(w http.ResponseWriter, r *http.Request, where, resource string) {
	if fail := d.note(where); fail != nil {
		fail(w, r)
		return
	}
	if id := r.URL.Query().Get("client_id") + resource; id != "" && !slices.Contains(d.Managed, id) {
		send(w, http.StatusBadRequest, map[string]any{"error": "invalid_request", "error_description": "Identity not found"})
		return
	}
	d.give(w, r)
}

func (d *Directory) give(w http.ResponseWriter, r *http.Request) {
	token, expires, err := d.Token(r.Context())
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	in := int(time.Until(expires).Seconds())
	send(w, http.StatusOK, map[string]any{
		"access_token": token, "token_type": "Bearer", "expires_in": in, "ext_expires_in": in,
		"expires_on": fmt.Sprint(expires.Unix()), "resource": r.URL.Query().Get("resource"),
	})
}

// Refuse answers as Entra ID does when it gives no token.
func Refuse(w http.ResponseWriter, code, text string) {
	send(w, http.StatusUnauthorized, map[string]any{"error": "invalid_client", "error_description": code + ": " + text})
}

func send(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // whoever asked has gone away
}

// An Authority issues the certificates of a cloud.
type Authority struct {
	PEM []byte // of its own certificate

	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// NewAuthority returns an authority that nobody trusts yet.
func NewAuthority(tb testing.TB) *Authority {
	tb.Helper()
	a := &Authority{key: newKey(tb), cert: &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority of a test"}, NotBefore: time.Now().Add(-24 * time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}}
	a.PEM = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.sign(tb, a.cert, a.key)})
	return a
}

// Issue returns a certificate for some hosts that ends at a time.
func (a *Authority) Issue(tb testing.TB, notAfter time.Time, hosts ...string) *tls.Certificate {
	tb.Helper()
	key := newKey(tb)
	return &tls.Certificate{PrivateKey: key, Certificate: [][]byte{a.sign(tb, &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: hosts[0]}, NotBefore: notAfter.Add(-12 * time.Hour), NotAfter: notAfter,
		DNSNames: hosts, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, key)}}
}

func (a *Authority) sign(tb testing.TB, template *x509.Certificate, key *ecdsa.PrivateKey) []byte {
	tb.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	if err != nil {
		tb.Fatal(err)
	}
	return der
}

func newKey(tb testing.TB) *ecdsa.PrivateKey {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	return key
}

// Package idp runs an issuer of OpenID Connect for tests, as CI systems have one:
// its discovery document and its keys, by TLS on this machine.
package idp

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// Claims are what a token says.
type Claims map[string]any

// An Issuer is a running issuer. Its methods may be called concurrently.
type Issuer struct {
	URL string

	server *httptest.Server

	mu     sync.Mutex // guards what follows
	keys   []*ecdsa.PrivateKey
	first  int // number of the first of keys
	asked  int
	answer http.Handler // nil is its own
	given  string       // the ID token that a code is exchanged for
}

// Start starts an issuer with one key. The caller calls Close.
func Start() *Issuer {
	i := new(Issuer)
	i.Rotate()
	i.server = httptest.NewUnstartedServer(http.HandlerFunc(i.serve))
	i.server.TLS = &tls.Config{Certificates: []tls.Certificate{Certificate()}}
	i.server.StartTLS()
	_, port, err := net.SplitHostPort(i.server.Listener.Addr().String())
	if err != nil {
		panic(err) // only for an address that is none
	}
	i.URL = "https://localhost:" + port
	return i
}

// Certificate makes a certificate of this machine's name: no issuer may be called
// by its address.
func Certificate() tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err) // only for a curve that does not exist
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{"localhost"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		BasicConstraintsValid: true, IsCA: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		panic(err) // only for a template that is none
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// Close stops the issuer.
func (i *Issuer) Close() { i.server.Close() }

// Client returns a client that trusts the issuer.
func (i *Issuer) Client() *http.Client { return i.server.Client() }

// CA returns what vouches for the issuer, in PEM.
func (i *Issuer) CA() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: i.server.Certificate().Raw})
}

// Asked returns how many requests there were for the discovery document.
func (i *Issuer) Asked() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.asked
}

// Rotate makes the issuer sign with another key, and forget the one before.
func (i *Issuer) Rotate() {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err) // only for a curve that does not exist
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.first += len(i.keys)
	i.keys = []*ecdsa.PrivateKey{key}
}

// Give makes the issuer exchange any code for an ID token.
func (i *Issuer) Give(token string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.given = token
}

// Answer makes h answer instead of the issuer, or the issuer again if it is nil.
func (i *Issuer) Answer(h http.Handler) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.answer = h
}

func (i *Issuer) serve(w http.ResponseWriter, r *http.Request) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if r.URL.Path == "/.well-known/openid-configuration" {
		i.asked++
	}
	if i.answer != nil {
		i.answer.ServeHTTP(w, r)
		return
	}
	var body any
	switch r.URL.Path {
	case "/.well-known/openid-configuration":
		body = map[string]any{"issuer": i.URL, "jwks_uri": i.URL + "/keys", "authorization_endpoint": i.URL + "/authorize", "token_endpoint": i.URL + "/token", "id_token_signing_alg_values_supported": []string{"ES256"}}
	case "/keys":
		set := jose.JSONWebKeySet{}
		for n, key := range i.keys {
			set.Keys = append(set.Keys, jose.JSONWebKey{Key: key.Public(), KeyID: i.kid(n), Algorithm: string(jose.ES256), Use: "sig"})
		}
		body = set
	case "/token":
		body = map[string]any{"access_token": "unused", "token_type": "Bearer", "id_token": i.given}
	default:
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(body); err != nil {
		panic(http.ErrAbortHandler)
	}
}

func (i *Issuer) kid(n int) string { return fmt.Sprintf("key-%d", i.first+n) }

// Sign returns a token of the issuer. Its issuer is the issuer's unless the claims
// say another.
func (i *Issuer) Sign(c Claims) string {
	i.mu.Lock()
	defer i.mu.Unlock()
	all := Claims{"iss": i.URL}
	for name, v := range c {
		all[name] = v
	}
	key := jose.JSONWebKey{Key: i.keys[0], KeyID: i.kid(0)}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: key}, (&jose.SignerOptions{}).WithType("JWT"))
	if err != nil {
		panic(err) // only for a key of another kind
	}
	token, err := jwt.Signed(signer).Claims(map[string]any(all)).Serialize()
	if err != nil {
		panic(err) // only for claims that are no JSON
	}
	return token
}

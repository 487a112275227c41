// Package issuer finds the keys by which issuers of OpenID Connect sign their
// tokens: those of CI systems and clusters, whose jobs sign in with them.
//
// An issuer's address comes from an administrator, never from a token: who asks
// has to see to that.
package issuer

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	lru "github.com/hashicorp/golang-lru/v2"

	"latchkey.dev/latchkey"
)

const (
	maxIssuers   = 200              // that are remembered
	maxDocument  = 64 << 10         // bytes of a discovery document
	maxKeySet    = 512 << 10        // bytes of a set of keys
	maxKeys      = 100              // of one issuer
	keysLast     = time.Hour        // until keys are asked for again
	askAgain     = 30 * time.Second // at the earliest, for a key that is not known
	failureLasts = 5 * time.Second  // until an issuer that could not be asked is asked again
	askTimeout   = 10 * time.Second // of one question with both its requests
)

// Issuers remembers the keys of issuers. Its methods may be called concurrently.
type Issuers struct {
	http  *http.Client
	now   func() time.Time
	mu    sync.Mutex                  // guards known
	known *lru.Cache[string, *issuer] // by address
}

// An issuer is what is known of one. Whoever holds asking may read and change it.
type issuer struct {
	asking chan struct{} // has room for one
	keys   []jose.JSONWebKey
	asked  time.Time // when keys came
	failed time.Time // when it could not be asked; zero after a success
	err    error     // why
}

// New returns an Issuers that asks with a client, or as the system is set up if it
// is nil. Redirects are not followed, whatever the client does with them. A nil
// now is time.Now.
func New(c *http.Client, now func() time.Time) *Issuers {
	if c == nil {
		t := http.DefaultTransport.(*http.Transport).Clone()
		t.MaxIdleConns, t.MaxIdleConnsPerHost, t.MaxResponseHeaderBytes = 10, 1, 32<<10
		c = &http.Client{Transport: t}
	}
	own := *c
	own.Jar = nil
	own.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	if now == nil {
		now = time.Now
	}
	known, err := lru.New[string, *issuer](maxIssuers)
	if err != nil {
		panic(err) // only for a size below 1
	}
	return &Issuers{http: &own, now: now, known: known}
}

// Keys returns the keys of an issuer that may have signed a token which names the
// key kid, or all if that is "". Keys that the issuer told less than an hour ago
// are not asked for again, except for a kid that is not among them, and for that
// at most twice a minute. When the issuer cannot be asked, the error is a
// [latchkey.ErrUnavailable] with the code issuer-unavailable.
func (i *Issuers) Keys(ctx context.Context, address, kid string) ([]jose.JSONWebKey, error) {
	if latchkey.CheckIssuer(address) != nil {
		return nil, unavailable(address, "its address is not one of https", nil)
	}
	i.mu.Lock()
	one, ok := i.known.Get(address)
	if !ok {
		one = &issuer{asking: make(chan struct{}, 1)}
		i.known.Add(address, one)
	}
	i.mu.Unlock()
	select {
	case one.asking <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { <-one.asking }()
	now := i.now()
	age := now.Sub(one.asked)
	fresh := !one.asked.IsZero() && age >= 0 && age < keysLast
	if found := choose(one.keys, kid); fresh && (len(found) > 0 || age < askAgain) {
		return found, nil
	}
	if since := now.Sub(one.failed); one.err != nil && since >= 0 && since < failureLasts {
		return nil, one.err
	}
	keys, err := i.ask(ctx, address)
	if err != nil {
		if ctx.Err() == nil { // else it may be the caller who did not wait
			one.failed, one.err = now, err
		}
		return nil, err
	}
	one.keys, one.asked, one.failed, one.err = keys, now, time.Time{}, nil
	return choose(keys, kid), nil
}

// choose returns those of keys that may have the id.
func choose(keys []jose.JSONWebKey, kid string) (found []jose.JSONWebKey) {
	for _, k := range keys {
		if kid == "" || k.KeyID == kid {
			found = append(found, k)
		}
	}
	return found
}

// discovery is what is needed of a discovery document (OpenID Connect Discovery
// 1.0, section 4.2).
type discovery struct {
	Issuer string `json:"issuer"`
	Keys   string `json:"jwks_uri"`
}

// ask asks an issuer for its keys.
func (i *Issuers) ask(ctx context.Context, address string) ([]jose.JSONWebKey, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	b, err := i.get(ctx, address, strings.TrimSuffix(address, "/")+"/.well-known/openid-configuration", "its discovery document", maxDocument)
	if err != nil {
		return nil, err
	}
	var d discovery
	if err := json.Unmarshal(b, &d); err != nil {
		return nil, unavailable(address, "its discovery document is no JSON", err)
	}
	if d.Issuer != address {
		return nil, unavailable(address, "its discovery document names another issuer", fmt.Errorf("it names %.200q", d.Issuer))
	}
	if u, err := url.Parse(d.Keys); err != nil || u.Scheme != "https" || u.Hostname() == "" || u.User != nil {
		return nil, unavailable(address, "its discovery document does not say by https where its keys are", err)
	}
	if b, err = i.get(ctx, address, d.Keys, "its set of keys", maxKeySet); err != nil {
		return nil, err
	}
	keys, err := parseKeys(b)
	if err != nil {
		return nil, unavailable(address, "its set of keys cannot be read", err)
	}
	return keys, nil
}

// parseKeys returns the public keys of a JSON Web Key Set that verify signatures,
// but for those of kinds that are not known (RFC 7517, section 5).
func parseKeys(b []byte) ([]jose.JSONWebKey, error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(b, &set); err != nil {
		return nil, err
	}
	if len(set.Keys) > maxKeys {
		return nil, fmt.Errorf("there are %d keys", len(set.Keys))
	}
	var keys []jose.JSONWebKey
	for _, raw := range set.Keys {
		var k jose.JSONWebKey
		if k.UnmarshalJSON(raw) != nil || !k.Valid() || k.Use != "" && k.Use != "sig" {
			continue
		}
		switch key := k.Key.(type) {
		case *rsa.PublicKey:
			if n := key.N.BitLen(); n < latchkey.MinRSABits || n > latchkey.MaxRSABits {
				continue
			}
		case *ecdsa.PublicKey, ed25519.PublicKey:
		default:
			continue // a private or a symmetric one is nothing to believe
		}
		keys = append(keys, k)
	}
	return keys, nil
}

// get returns the body of a document of an issuer.
func (i *Issuers) get(ctx context.Context, address, at, what string, limit int64) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at, nil)
	if err != nil {
		return nil, unavailable(address, what+" has no address", err)
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", "latchkey")
	resp, err := i.http.Do(req)
	if err != nil {
		return nil, unavailable(address, what+" cannot be fetched: "+reason(err), err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		if resp.StatusCode >= 300 && resp.StatusCode < 400 {
			return nil, unavailable(address, what+" is a redirect, which is not followed", nil)
		}
		return nil, unavailable(address, fmt.Sprintf("%s answers with status %d", what, resp.StatusCode), nil)
	}
	if t, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type")); err == nil && t == "text/html" {
		return nil, unavailable(address, what+" is a page, not JSON", nil)
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	if err != nil {
		return nil, unavailable(address, what+" breaks off: "+reason(err), err)
	}
	if int64(len(b)) > limit {
		return nil, unavailable(address, fmt.Sprintf("%s is larger than %d bytes", what, limit), nil)
	}
	return b, nil
}

// reason says why a request failed, without what only administrators should know.
func reason(err error) string {
	var timeout net.Error
	var dns *net.DNSError
	var op *net.OpError
	switch {
	case errors.As(err, &timeout) && timeout.Timeout():
		return "no answer in time"
	case errors.As(err, &dns):
		return "its name is not found"
	case strings.Contains(err.Error(), "x509: "), strings.Contains(err.Error(), "tls: "):
		return "its certificate is not trusted"
	case errors.As(err, &op):
		return "no connection"
	}
	return "the connection failed"
}

func unavailable(address, why string, err error) error {
	const remedy = "try again later, or ask an administrator to look at the server's way to it"
	return &latchkey.Error{
		Kind: latchkey.ErrUnavailable, Code: latchkey.CodeIssuerUnavailable, Check: string(latchkey.ActSignIn), Remedy: remedy, Err: err,
		Msg: fmt.Sprintf("the issuer %s cannot be asked for its keys: %s; %s", address, why, remedy),
	}
}

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
	"log/slog"
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
	maxWaiting   = 16               // callers who wait until one issuer has been asked
)

// Issuers remembers the keys of issuers. Its methods may be called concurrently.
type Issuers struct {
	http  *http.Client
	now   func() time.Time
	log   *slog.Logger
	mu    sync.Mutex                  // guards known
	known *lru.Cache[string, *issuer] // by address
}

// An issuer is what is known of one.
type issuer struct {
	asking chan struct{} // has room for one: who asks

	mu      sync.Mutex // guards what follows
	waiting int        // callers who want to ask, but for who asks
	keys    []jose.JSONWebKey
	asked   time.Time // when keys came
	failed  time.Time // when it could not be asked; zero after a success
	err     error     // why
}

// A Config is what [New] needs. Its zero value is what a server has.
type Config struct {
	// Client asks the issuers; nil is one as the system is set up, which connects to
	// no address that [latchkey.LocalAddress] reports. Redirects are not followed,
	// whatever the client does with them.
	Client *http.Client

	// Loopback, which is for tests, has a nil Client connect to this machine too.
	Loopback bool

	// Now is the clock; nil is time.Now.
	Now func() time.Time

	// Log is told why an issuer could not be asked; nil is nobody.
	Log *slog.Logger
}

// New returns an Issuers that knows no keys yet.
func New(c Config) *Issuers {
	if c.Client == nil {
		c.Client = &http.Client{Transport: newTransport(c.Loopback)}
	}
	own := *c.Client
	own.Jar = nil
	own.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	known, err := lru.New[string, *issuer](maxIssuers)
	if err != nil {
		panic(err) // only for a size below 1
	}
	return &Issuers{http: &own, now: c.Now, log: c.Log, known: known}
}

// Keys returns the keys of an issuer that may have signed a token which names the
// key kid, or all if that is "". Keys that the issuer told less than an hour ago
// are not asked for again, except for a kid that is not among them, and for that
// at most twice a minute. When the issuer cannot be asked, the error is a
// [latchkey.ErrUnavailable] with the code issuer-unavailable, which anybody may
// read: the log has the reason.
//
// Some callers wait while another asks; with those who come then, and with a caller
// who has no patience, it is that error at once. Without patience an issuer that
// failed is asked again at most twice a minute.
func (i *Issuers) Keys(ctx context.Context, address, kid string, patient bool) ([]jose.JSONWebKey, error) {
	if latchkey.CheckIssuer(address) != nil {
		return nil, unavailable(address, time.Time{})
	}
	i.mu.Lock()
	one, ok := i.known.Get(address)
	if !ok {
		one = &issuer{asking: make(chan struct{}, 1)}
		i.known.Add(address, one)
	}
	i.mu.Unlock()
	again, room := failureLasts, maxWaiting
	if !patient {
		again, room = askAgain, 0
	}
	if keys, err, ok := one.remembered(i.now(), kid, again); ok {
		return keys, err
	}
	if !one.enter(ctx, room) {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, unavailable(address, i.now().Add(time.Second))
	}
	defer func() { <-one.asking }()
	now := i.now()
	if keys, err, ok := one.remembered(now, kid, again); ok { // another has asked
		return keys, err
	}
	// A caller that does not wait for the answer must not make the next one ask.
	keys, err := i.ask(context.WithoutCancel(ctx), address)
	one.mu.Lock()
	defer one.mu.Unlock()
	if err != nil {
		i.log.LogAttrs(ctx, slog.LevelWarn, "an issuer cannot be asked for its keys", slog.String("issuer", address), slog.Any("error", err))
		one.failed, one.err = now, unavailable(address, now.Add(failureLasts))
		return nil, one.err
	}
	one.keys, one.asked, one.failed, one.err = keys, now, time.Time{}, nil
	return choose(keys, kid), nil
}

// remembered returns what is known without asking; ok is false if that is nothing,
// or too old. What failed is asked again after a while.
func (one *issuer) remembered(now time.Time, kid string, again time.Duration) (keys []jose.JSONWebKey, err error, ok bool) {
	one.mu.Lock()
	defer one.mu.Unlock()
	age := now.Sub(one.asked)
	fresh := !one.asked.IsZero() && age >= 0 && age < keysLast
	if found := choose(one.keys, kid); fresh && (len(found) > 0 || age < askAgain) {
		return found, nil, true
	}
	if since := now.Sub(one.failed); one.err != nil && since >= 0 && since < again {
		return nil, one.err, true
	}
	return nil, nil, false
}

// enter waits until the caller may ask, and reports whether it may. No more than
// room callers wait.
func (one *issuer) enter(ctx context.Context, room int) bool {
	if ctx.Err() != nil {
		return false
	}
	select {
	case one.asking <- struct{}{}:
		return true
	default:
	}
	one.mu.Lock()
	full := one.waiting >= room
	if !full {
		one.waiting++
	}
	one.mu.Unlock()
	if full {
		return false
	}
	defer func() {
		one.mu.Lock()
		one.waiting--
		one.mu.Unlock()
	}()
	select {
	case one.asking <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
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
	b, err := i.get(ctx, strings.TrimSuffix(address, "/")+"/.well-known/openid-configuration", "its discovery document", maxDocument)
	if err != nil {
		return nil, err
	}
	var d discovery
	if err := json.Unmarshal(b, &d); err != nil {
		return nil, failure("its discovery document is no JSON", err)
	}
	if d.Issuer != address {
		return nil, failure("its discovery document names another issuer", fmt.Errorf("it names %.200q", d.Issuer))
	}
	if u, err := url.Parse(d.Keys); err != nil || u.Scheme != "https" || u.Hostname() == "" || u.User != nil {
		return nil, failure("its discovery document does not say by https where its keys are", err)
	}
	if b, err = i.get(ctx, d.Keys, "its set of keys", maxKeySet); err != nil {
		return nil, err
	}
	keys, err := parseKeys(b)
	if err != nil {
		return nil, failure("its set of keys cannot be read", err)
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
func (i *Issuers) get(ctx context.Context, at, what string, limit int64) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at, nil)
	if err != nil {
		return nil, failure(what+" has no address", err)
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", "latchkey")
	resp, err := i.http.Do(req)
	if err != nil {
		return nil, failure(what+" cannot be fetched: "+reason(err), err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		if resp.StatusCode >= 300 && resp.StatusCode < 400 {
			return nil, failure(what+" is a redirect, which is not followed", nil)
		}
		return nil, failure(fmt.Sprintf("%s answers with status %d", what, resp.StatusCode), nil)
	}
	if t, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type")); err == nil && t == "text/html" {
		return nil, failure(what+" is a page, not JSON", nil)
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	if err != nil {
		return nil, failure(what+" breaks off: "+reason(err), err)
	}
	if int64(len(b)) > limit {
		return nil, failure(fmt.Sprintf("%s is larger than %d bytes", what, limit), nil)
	}
	return b, nil
}

// reason says in a few words why a request failed.
func reason(err error) string {
	var timeout net.Error
	var dns *net.DNSError
	var op *net.OpError
	switch {
	case errors.Is(err, errLocal):
		return "its address is one of this machine or its link"
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

// failure returns why an issuer could not be asked, for the log.
func failure(why string, err error) error {
	if err != nil {
		return fmt.Errorf("%s: %w", why, err)
	}
	return errors.New(why)
}

// unavailable returns the error for whoever sends a token of an issuer. What lies
// at the addresses that its documents name is not theirs to know.
func unavailable(address string, retry time.Time) error {
	const remedy = "try again later, or ask an administrator to look at the server's log"
	return &latchkey.Error{
		Kind: latchkey.ErrUnavailable, Code: latchkey.CodeIssuerUnavailable, Check: string(latchkey.ActSignIn), Remedy: remedy, RetryAt: retry,
		Msg: fmt.Sprintf("the keys of the issuer %s cannot be got now: %s", address, remedy),
	}
}

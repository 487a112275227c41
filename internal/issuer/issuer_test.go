package issuer

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"latchkey.dev/internal/latchkeytest/idp"
	"latchkey.dev/latchkey"
)

// A clock that tests move.
type clock struct{ ns atomic.Int64 }

func (c *clock) now() time.Time       { return time.Unix(1_800_000_000, c.ns.Load()) }
func (c *clock) wait(d time.Duration) { c.ns.Add(int64(d)) }

func start(t *testing.T) (*idp.Issuer, *Issuers, *clock) {
	t.Helper()
	i, c := idp.Start(), new(clock)
	t.Cleanup(i.Close)
	return i, New(Config{Client: i.Client(), Now: c.now}), c
}

func TestKeysAreKept(t *testing.T) {
	i, all, c := start(t)
	get := func(kid string, keys, asked int) {
		t.Helper()
		got, err := all.Keys(t.Context(), i.URL, kid, true)
		if err != nil || len(got) != keys || i.Asked() != asked {
			t.Errorf("Keys(%q) = %d keys, %v after %d questions; want %d after %d", kid, len(got), err, i.Asked(), keys, asked)
		}
	}
	get("key-0", 1, 1)
	get("key-0", 1, 1)
	get("", 1, 1)
	get("key-1", 0, 1) // it has just been asked
	i.Rotate()
	c.wait(askAgain)
	get("key-0", 1, 1)
	get("key-1", 1, 2) // a key that is not known is asked for
	get("key-0", 0, 2) // and what the issuer does not tell any more is nothing
	for range 50 {
		get("nonsense", 0, 2)
	}
	c.wait(askAgain)
	get("nonsense", 0, 3)
	c.wait(keysLast)
	get("key-1", 1, 4)

	// An issuer that is down is not asked at each request.
	c.wait(keysLast)
	i.Answer(http.NotFoundHandler())
	for range 3 {
		if _, err := all.Keys(t.Context(), i.URL, "key-1", true); !errors.Is(err, latchkey.ErrUnavailable) {
			t.Errorf("keys of an issuer that is down: %v", err)
		}
	}
	if i.Asked() != 5 {
		t.Errorf("it was asked %d times; want 5", i.Asked())
	}
	i.Answer(nil)
	c.wait(failureLasts)
	get("key-1", 1, 6)
}

func TestKeysAtOnce(t *testing.T) {
	i, all, _ := start(t)
	var wg sync.WaitGroup
	for range maxWaiting {
		wg.Go(func() {
			if keys, err := all.Keys(t.Context(), i.URL, "key-0", true); err != nil || len(keys) != 1 {
				t.Errorf("Keys = %v, %v", keys, err)
			}
		})
	}
	wg.Wait()
	if i.Asked() != 1 {
		t.Errorf("many at once asked %d times; want 1", i.Asked())
	}
}

// wantUnavailable tests that the log says why an issuer cannot be asked, and the
// error, which strangers read, says the same whatever it is.
func wantUnavailable(t *testing.T, c Config, address, why string) {
	t.Helper()
	var log strings.Builder
	c.Log = slog.New(slog.NewTextHandler(&log, nil))
	_, err := New(c).Keys(t.Context(), address, "", true)
	e, ok := errors.AsType[*latchkey.Error](err)
	if !ok || !errors.Is(err, latchkey.ErrUnavailable) || e.Code != latchkey.CodeIssuerUnavailable || e.RetryAt.IsZero() ||
		err.Error() != unavailable(address, time.Time{}).Error() {
		t.Errorf("Keys = %v; want issuer-unavailable and no reason", err)
	}
	if !strings.Contains(log.String(), why) || !strings.Contains(log.String(), address) {
		t.Errorf("the log is %q; want %q in it", log.String(), why)
	}
}

// TestLocal tests that no connection is made to what an issuer's documents name on
// this machine or its link.
func TestLocal(t *testing.T) {
	i, _, _ := start(t)
	wantUnavailable(t, Config{}, i.URL, "its address is one of this machine")
	if i.Asked() != 0 {
		t.Error("an issuer on this machine was asked")
	}
	for _, address := range []string{"127.0.0.1", "[::1]", "169.254.169.254", "[fe80::1]", "0.0.0.0", "[::]", "224.0.0.1", "[ff02::1]", "[::ffff:127.0.0.1]", "localhost"} {
		if resp, err := newTransport(false).RoundTrip(httptest.NewRequest("GET", "https://"+address+":9/keys", nil)); !errors.Is(err, errLocal) {
			t.Errorf("%s: %v, %v; want it refused", address, resp, err)
		}
	}
	for address, refused := range map[string]bool{"10.1.2.3:443": false, "192.168.1.1:443": false, "[fd00::1]:443": false, "93.184.216.34:443": false, "127.8.8.8:443": true, "[fe80::1%eth0]:443": true, "nonsense": true} {
		if err := newTransport(false).control("tcp", address, nil); (err != nil) != refused {
			t.Errorf("connect to %s: %v; want it refused: %v", address, err, refused)
		}
	}

	// By a proxy, an address is refused all the same.
	proxied := newTransport(false)
	proxied.proxy = func(*http.Request) (*url.URL, error) { return url.Parse("http://192.0.2.1:3128") }
	if resp, err := proxied.RoundTrip(httptest.NewRequest("GET", "https://169.254.169.254/keys", nil)); !errors.Is(err, errLocal) {
		t.Errorf("by a proxy: %v, %v; want it refused", resp, err)
	}
}

// TestWaiting tests that few wait for an issuer that does not answer, and that none
// does whose key is known.
func TestWaiting(t *testing.T) {
	i, all, c := start(t)
	keys := func(kid string, patient bool) error {
		_, err := all.Keys(t.Context(), i.URL, kid, patient)
		return err
	}
	if err := keys("key-0", true); err != nil {
		t.Fatal(err)
	}
	c.wait(askAgain)
	asked, answer := make(chan struct{}), make(chan struct{})
	var once sync.Once
	i.Answer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		once.Do(func() { close(asked); <-answer })
		w.WriteHeader(http.StatusBadGateway)
	}))
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := keys("new", true); !errors.Is(err, latchkey.ErrUnavailable) {
			t.Errorf("who asks: %v", err)
		}
	})
	<-asked
	if err := keys("key-0", false); err != nil {
		t.Errorf("a key that is known, while another is asked for: %v", err)
	}
	if err := keys("new", false); !errors.Is(err, latchkey.ErrUnavailable) {
		t.Errorf("without patience: %v", err)
	}
	// One more than may wait is answered at once, and the others when the issuer has
	// been asked.
	full := make(chan struct{}, maxWaiting+1)
	for range maxWaiting + 1 {
		wg.Go(func() {
			if err := keys("new", true); !errors.Is(err, latchkey.ErrUnavailable) {
				t.Errorf("who waits: %v", err)
			}
			full <- struct{}{}
		})
	}
	<-full
	if n := len(full); n != 0 {
		t.Errorf("%d more were answered at once; want 1", n)
	}
	close(answer)
	wg.Wait()
	if i.Asked() != 2 {
		t.Errorf("the issuer was asked %d times; want 2", i.Asked())
	}
	// Without patience, what failed is not asked so soon again.
	c.wait(failureLasts)
	if err := keys("new", false); err == nil || i.Asked() != 2 {
		t.Errorf("without patience after a failure: %v, asked %d times", err, i.Asked())
	}
}

func TestUnavailable(t *testing.T) {
	i, _, _ := start(t)
	document := func(format string, args ...any) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/keys" {
				http.NotFound(w, r)
				return
			}
			fmt.Fprintf(w, format, args...)
		})
	}
	keySet := func(text string) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/keys" {
				fmt.Fprint(w, text)
				return
			}
			fmt.Fprintf(w, `{"issuer":%q,"jwks_uri":"%s/keys"}`, i.URL, i.URL)
		})
	}
	for _, tt := range []struct {
		name   string
		answer http.Handler
		want   string
	}{
		{"not found", http.NotFoundHandler(), "discovery document answers with status 404"},
		{"a redirect", http.RedirectHandler(i.URL+"/elsewhere", http.StatusFound), "is a redirect"},
		{"a page", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<!DOCTYPE html><p>hello") }), "is a page"},
		{"no JSON", document("nothing"), "is no JSON"},
		{"another issuer", document(`{"issuer":"%s/","jwks_uri":"%s/keys"}`, i.URL, i.URL), "names another issuer"},
		{"keys without TLS", document(`{"issuer":%q,"jwks_uri":"http://127.0.0.1/keys"}`, i.URL), "does not say by https"},
		{"keys of a file", document(`{"issuer":%q,"jwks_uri":"file:///etc/passwd"}`, i.URL), "does not say by https"},
		{"a password", document(`{"issuer":%q,"jwks_uri":"https://a:b@127.0.0.1/keys"}`, i.URL), "does not say by https"},
		{"no keys", document(`{"issuer":%q}`, i.URL), "does not say by https"},
		{"keys not found", document(`{"issuer":%q,"jwks_uri":"%s/keys"}`, i.URL, i.URL), "set of keys answers with status 404"},
		{"too large", document(`{"issuer":%q,"x":%q}`, i.URL, strings.Repeat("x", maxDocument)), "is larger than"},
		{"keys too large", keySet(`{"keys":[],"x":"` + strings.Repeat("x", maxKeySet) + `"}`), "is larger than"},
		{"keys that are none", keySet(`{"keys":{}}`), "cannot be read"},
		{"too many keys", keySet(`{"keys":[` + strings.Repeat(`{},`, maxKeys) + `{}]}`), "cannot be read"},
		{"cut off", http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }), "cannot be fetched"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			i.Answer(tt.answer)
			wantUnavailable(t, Config{Client: i.Client()}, i.URL, tt.want)
		})
	}
	i.Answer(nil)
	wantUnavailable(t, Config{Loopback: true}, i.URL, "its certificate is not trusted")
	for _, address := range []string{"http://127.0.0.1", "", "https://", "https://a b", "https://u:p@127.0.0.1", "https://127.0.0.1/?a", "https://127.0.0.1/#a", "file:///etc", strings.Repeat("https://a", 200)} {
		if _, err := New(Config{}).Keys(t.Context(), address, "", true); !errors.Is(err, latchkey.ErrUnavailable) {
			t.Errorf("Keys(%q) = %v; want ErrUnavailable", address, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	all := New(Config{Client: i.Client()})
	if _, err := all.Keys(ctx, i.URL, "", true); err == nil {
		t.Error("a caller that is gone was answered")
	}
	if _, err := all.Keys(t.Context(), i.URL, "", true); err != nil {
		t.Errorf("after a caller that did not wait: %v", err)
	}
}

// TestOddKeys tests that keys which are nothing to believe are left out, and
// others stay.
func TestOddKeys(t *testing.T) {
	weak := &rsa.PublicKey{N: new(big.Int).SetBit(big.NewInt(1), 1023, 1), E: 65537}
	good, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	text := func(k jose.JSONWebKey) string {
		b, err := k.MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	set := strings.Join([]string{
		text(jose.JSONWebKey{Key: []byte("a shared secret, in the open"), KeyID: "oct"}),
		text(jose.JSONWebKey{Key: weak, KeyID: "weak"}),
		text(jose.JSONWebKey{Key: good, KeyID: "private"}),
		text(jose.JSONWebKey{Key: good.Public(), KeyID: "enc", Use: "enc"}),
		`{"kty":"new","kid":"new"}`, `7`, `{}`,
		text(jose.JSONWebKey{Key: good.Public(), KeyID: "good", Use: "sig"}),
	}, ",")
	keys, err := parseKeys([]byte(`{"keys":[` + set + `]}`))
	if err != nil || len(keys) != 1 || keys[0].KeyID != "good" {
		t.Errorf("parseKeys = %v, %v; want the good one alone", keys, err)
	}
}

func FuzzKeys(f *testing.F) {
	f.Add([]byte(`{"keys":[{"kty":"RSA","n":"AQAB","e":"AQAB"}]}`))
	f.Add([]byte(`{"keys":[{"kty":"EC","crv":"P-256","x":"AA","y":"AA"},{"kty":"oct","k":"AA"}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		keys, err := parseKeys(b)
		if err == nil && len(keys) > maxKeys {
			t.Errorf("%d keys", len(keys))
		}
		for _, k := range keys {
			if _, err := json.Marshal(k); err != nil || !k.IsPublic() {
				t.Errorf("a key that is not public, or none: %v", err)
			}
		}
	})
}

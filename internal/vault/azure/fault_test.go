package azure_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"latchkey.dev/internal/latchkeytest"
	"latchkey.dev/internal/latchkeytest/entra"
	"latchkey.dev/internal/latchkeytest/netfault"
	"latchkey.dev/internal/vault"
	"latchkey.dev/internal/vault/azure"
	"latchkey.dev/internal/vault/vaulttest"
)

// answer is a vault that gives one answer, whatever it is asked.
func answer(status int, header http.Header, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
		for name, values := range header {
			w.Header()[name] = values
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

// unauthorized is a vault that does not take a token, whose clock is ahead by a time.
func unauthorized(w *world, message string, ahead time.Duration) http.HandlerFunc {
	return answer(401, http.Header{
		"Www-Authenticate": {`Bearer authorization="https://login.microsoftonline.com/` + w.Broker.Tenant() + `", resource="https://vault.azure.net"`},
		"Date":             {time.Now().Add(ahead).UTC().Format(http.TimeFormat)},
	}, `{"error":{"code":"Unauthorized","message":"`+message+`"}}`)
}

const throttled = `{"error":{"code":"Throttled","message":"Request was not processed because too many requests were received. Reason: VaultRequestTypeLimitReached"}}`

// TestFaults has everything go wrong that can on the way to a vault. Each text is in
// the table of docs/azure.md.
func TestFaults(t *testing.T) {
	doc, err := os.ReadFile("../../../docs/azure.md")
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, "https://login.microsoftonline.com", "vault.azure.net")
	shows := func(a *entra.Authority, notAfter time.Duration, host string) func() {
		return func() { w.tls.Store(a.Issue(t, time.Now().Add(notAfter), host)) }
	}
	respond := func(f http.HandlerFunc) func() { return func() { w.set(f) } }
	refuse := func(code string, ahead time.Duration) func() {
		return func() {
			w.directory.Fail(func(rw http.ResponseWriter, r *http.Request) {
				rw.Header().Set("Date", time.Now().Add(ahead).UTC().Format(http.TimeFormat))
				entra.Refuse(rw, code, canary)
			})
		}
	}
	const any, none = -1, 0
	tests := []struct {
		name     string
		fresh    bool // the vault has not been read before
		fault    func()
		kind     error
		requests int // that reach the vault
		want     []string
	}{
		{"429", false, respond(answer(429, nil, throttled)), vault.ErrUnavailable, 3, []string{"it gets too many requests", "spread what reads it, or use more than one vault"}},
		{"429 with Retry-After of an hour", false, respond(answer(429, http.Header{"Retry-After": {"3600"}}, throttled)), vault.ErrUnavailable, 1, []string{"it gets too many requests and asks to be left alone for"}},
		{"429 with Retry-After as a date", false, respond(answer(429, http.Header{"Retry-After": {time.Now().Add(time.Hour).UTC().Format(http.TimeFormat)}}, throttled)), vault.ErrUnavailable, 1, []string{"and asks to be left alone for"}},
		{"429 with a short Retry-After", false, respond(answer(429, http.Header{"Retry-After-Ms": {"1"}}, throttled)), vault.ErrUnavailable, 3, []string{"it gets too many requests"}},
		{"503", false, respond(answer(503, nil, "")), vault.ErrUnavailable, 3, []string{"it answered with status 503", "see the state of the service if it goes on"}},
		{"500 with a value", false, respond(answer(500, nil, canary)), vault.ErrUnavailable, 3, []string{"it answered with status 500"}},
		{"slow", false, func() { w.vault.Set(netfault.Fault{Blackhole: true}) }, vault.ErrUnavailable, any, []string{"it did not answer in time", "see whether it, or the network to it, is slow"}},
		{"cut body", false, respond(answer(200, http.Header{"Content-Length": {"500"}}, `{"value":"`+canary)), vault.ErrUnavailable, 3, []string{"the connection was cut"}},
		{"connection reset", false, func() { w.vault.Set(netfault.Fault{Refuse: true}) }, vault.ErrUnavailable, none, []string{"the connection was cut", "see to the network if it goes on"}},
		{"connection refused", false, func() {
			w.dnsError(&net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)})
		}, vault.ErrUnavailable, none, []string{"the connection was refused", "see whether a firewall or a proxy is in between"}},
		{"no such host", false, func() { w.dnsError(&net.DNSError{Err: "no such host", Name: "erp.vault.azure.net", IsNotFound: true}) }, vault.ErrUnavailable, none,
			[]string{"there is no host erp.vault.azure.net in DNS", "correct the vault's name in the reference"}},
		{"DNS failure", false, func() {
			w.dnsError(&net.DNSError{Err: "server misbehaving", Name: "erp.vault.azure.net", IsTemporary: true})
		}, vault.ErrUnavailable, none, []string{"DNS did not say where erp.vault.azure.net is", "see to the DNS of the server"}},
		{"TLS of an unknown authority", false, shows(entra.NewAuthority(t), time.Hour, "*.vault.azure.net"), vault.ErrUnavailable, none,
			[]string{"its certificate is signed by an authority that the server does not trust", "name the authority in ca-file"}},
		{"TLS of another name", false, shows(w.authority, time.Hour, "vault.example.org"), vault.ErrUnavailable, none, []string{"its certificate is for another name", "see who answers at that address"}},
		{"expired TLS certificate", false, shows(w.authority, -time.Hour, "*.vault.azure.net"), vault.ErrUnavailable, none,
			[]string{"its certificate is not valid at", "set the clock right, if it is wrong; otherwise the certificate has to be renewed"}},
		{"redirect", false, respond(answer(302, http.Header{"Location": {"https://evil.example/"}}, "")), vault.ErrUnavailable, 1,
			[]string{"it answered with a redirect, which is not followed", "see whether a proxy or a sign-in page is in between"}},
		{"huge body", false, respond(answer(200, nil, `{"value":"`+strings.Repeat(canary, azure.MaxResponse/len(canary)+1))), vault.ErrUnavailable, 1, []string{"its answer is longer than 1048576 bytes"}},
		{"HTML", false, respond(answer(200, http.Header{"Content-Type": {"text/html"}}, "<html>"+canary)), vault.ErrUnavailable, 1, []string{"its answer is not one of a key vault (status 200, text/html)"}},
		{"HTML with 403", false, respond(answer(403, http.Header{"Content-Type": {"text/html"}}, "<html>"+canary)), vault.ErrUnavailable, 1, []string{"its answer is not one of a key vault (status 403, text/html)"}},
		{"expired token", false, respond(unauthorized(w, "[TokenExpired] Error validating token: 'S2S12086'.", 0)), vault.ErrUnavailable, 2, []string{"it says that the service's token has expired", "a new token is got by itself"}},
		{"clock of this machine behind", false, respond(unauthorized(w, "[TokenExpired] Error validating token: 'S2S12086'.", time.Hour)), vault.ErrUnavailable, 2,
			[]string{"it says that the service's token has expired (this machine's clock is", "behind)"}},
		{"clock of this machine ahead", false, respond(unauthorized(w, "[BearerReadAccessTokenFailed] Error validating token: 'S2S12013'.", -time.Hour)), vault.ErrUnavailable, 2,
			[]string{"it does not take the service's token (this machine's clock is", "ahead)", "set this machine's clock right"}},
		{"another tenant's token", false, respond(unauthorized(w, "AKV10032: Invalid issuer. Expected one of https://sts.windows.net/t/, found https://sts.windows.net/x/.", 0)), vault.ErrDenied, 2,
			[]string{"let the service sign in as an identity of the vault's own tenant"}},
		{"another cloud's token", false, respond(unauthorized(w, "AKV10022: Invalid audience. Expected https://vault.azure.net, found: https://vault.azure.cn.", 0)), vault.ErrDenied, 2,
			[]string{"choose the cloud in the server's Azure settings that the vault is in"}},
		{"a vault of another cloud", true, respond(answer(401, http.Header{"Www-Authenticate": {`Bearer authorization="https://login.microsoftonline.com/` + w.Broker.Tenant() + `", resource="https://vault.azure.cn"`}}, "")), vault.ErrUnavailable, 1,
			[]string{"what answered is not a key vault of this cloud, by what it wants a token for; no token was sent to it"}},
		{"a challenge that is none", true, respond(answer(401, http.Header{"Www-Authenticate": {`Bearer authorization="x", resource="https://vault.azure.net"`}}, "")), vault.ErrUnavailable, 1,
			[]string{"what answered is not a key vault of this cloud"}},
		{"sign-in refused: secret", true, refuse("AADSTS7000215", 0), vault.ErrDenied, 1, []string{"the secret of the application is wrong (AADSTS7000215)", "put the secret's value, not its id, into secret-file"}},
		{"sign-in refused: clock", true, refuse("AADSTS700024", time.Hour), vault.ErrDenied, 1, []string{"the assertion was signed for another time (AADSTS700024) (this machine's clock is"}},
		{"sign-in refused: something new", true, refuse("AADSTS123", 0), vault.ErrDenied, 1, []string{"could not sign in to Azure at login.microsoftonline.com: it was refused (AADSTS123)"}},
		{"sign-in throttled", true, func() { w.directory.Fail(answer(429, nil, "{}")) }, vault.ErrUnavailable, 1, []string{"could not sign in to Azure at login.microsoftonline.com: it gets too many requests"}},
		{"sign-in away", true, func() { w.login.Set(netfault.Fault{Refuse: true}) }, vault.ErrUnavailable, 1, []string{"could not sign in to Azure at login.microsoftonline.com: the connection was cut"}},
		{"sign-in slow", true, func() { w.login.Set(netfault.Fault{Blackhole: true}) }, vault.ErrUnavailable, 1, []string{"could not sign in to Azure", "in time"}},
		{"sign-in answers HTML", true, func() { w.directory.Fail(answer(200, http.Header{"Content-Type": {"text/html"}}, "<html>"+canary)) }, vault.ErrUnavailable, 1, []string{"could not sign in to Azure at login.microsoftonline.com: its answer is not one of Entra ID (status 200, text/html)"}},
		{"another tenant", true, func() { w.link(otherTenant) }, vault.ErrDenied, 1,
			[]string{"belongs to the Azure tenant " + w.Broker.Tenant() + ", and this installation is linked to " + otherTenant + "; no token was sent to it"}},
		{"no tenant is linked", true, func() { w.link() }, vault.ErrDenied, 1, []string{"and no Azure tenant is linked to this installation; no token was sent to it"}},
		{"tenant unlinked since", false, func() { w.link(otherTenant) }, vault.ErrDenied, none, []string{"this installation is linked to " + otherTenant}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Cleanup(func() {
				w.set(nil)
				w.directory.Fail(nil)
				w.dnsError(nil)
				w.link(w.Broker.Tenant())
				w.vault.Set(netfault.Fault{})
				w.login.Set(netfault.Fault{})
				w.tls.Store(nil)
			})
			a := w.open(t, w.bySecret(t))
			a.Hurry(500*time.Millisecond, time.Millisecond)
			v := vaultOf(t, a, "erp")
			if !tt.fresh {
				if _, err := v.Get(t.Context(), "x"); err != nil {
					t.Fatal(err)
				}
			}
			a.Idle()
			w.requests.Store(0)
			w.challenge.Store(0)
			tt.fault()
			_, err := v.Get(t.Context(), "x")
			e, ok := errors.AsType[*vault.Error](err)
			if !ok || e.Kind != tt.kind {
				t.Fatalf("Get = %v; want %v", err, tt.kind)
			}
			if e.Remedy == "" {
				t.Errorf("%q says nothing of what to do", e.Msg)
			}
			for _, want := range tt.want {
				if !strings.Contains(e.Msg, want) {
					t.Errorf("Get = %q; want it to say %q", e.Msg, want)
				}
				// What a row names in general is a particular one here.
				general := strings.NewReplacer(w.Broker.Tenant(), "T1", otherTenant, "T2", "erp.vault.azure.net", "HOST", "login.microsoftonline.com", "HOST").Replace(want)
				if !strings.Contains(string(doc), general) {
					t.Errorf("docs/azure.md does not say %q", general)
				}
			}
			if strings.Contains(err.Error(), canary) {
				t.Errorf("%q holds what the answer did", err)
			}
			if n := int(w.requests.Load()); tt.requests != any && n != tt.requests {
				t.Errorf("%d requests; want %d", n, tt.requests)
			}
			if tt.kind == vault.ErrDenied && tt.fresh && w.requests.Load() != w.challenge.Load() {
				t.Error("a token was sent to the vault")
			}
		})
	}
}

// TestNobody reads a vault without an identity.
func TestNobody(t *testing.T) {
	for _, name := range []string{"AZURE_TENANT_ID", "AZURE_CLIENT_ID", "AZURE_CLIENT_SECRET", "AZURE_TOKEN_CREDENTIALS", "IDENTITY_ENDPOINT", "MSI_ENDPOINT"} {
		t.Setenv(name, "")
		if err := os.Unsetenv(name); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", t.TempDir()) // without az and azd
	w := newWorld(t, "https://login.microsoftonline.com", "vault.azure.net")
	for _, tt := range []struct {
		s    azure.Settings
		want string
	}{
		{azure.Settings{Identity: "azure-cli"}, "the service's identity (whoever signed in with az) could not sign in to Azure: az gave no token; run az login"},
		{azure.Settings{Identity: "azure-developer-cli"}, "could not sign in to Azure: azd gave no token; run azd auth login"},
		{azure.Settings{Identity: "managed-identity", ClientID: otherTenant}, "the service's identity (managed identity " + otherTenant + ") could not sign in to Azure at 169.254.169.254: the machine has no such identity; assign it to the machine"},
	} {
		_, err := w.reader(t, tt.s).Get(t.Context(), "x")
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: Get = %v; want %q", tt.s.Identity, err, tt.want)
		}
	}
}

// FuzzChallenge answers with any challenge: whatever it is, no token is asked for and
// nothing breaks, since no tenant is linked.
func FuzzChallenge(f *testing.F) {
	for _, seed := range []string{
		`Bearer authorization="https://login.windows.net/t", resource="https://vault.azure.net"`,
		`Bearer authorization="x", resource="https://vault.azure.net"`,
		`Bearer authorization="https://login.windows.net/t", resource="https://vault.azure.net", authorization=x`,
		`Bearer realm="a authorization=x", authorization="https://a/b", resource="https://vault.azure.net"`,
		`Bearer authorization="https://a", scope="https://net/.default"`,
		`Bearer error="insufficient_claims", claims="e30=", authorization=x`,
		`Bearer error="insufficient_claims", claims="e30="`,
		`PoP x`, `Bearer`, ``,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, challenge string) {
		v := azure.NewWith(t, transport(func(r *http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: 401, Header: http.Header{"Www-Authenticate": {challenge}}, Body: io.NopCloser(strings.NewReader("{}")), Request: r}, nil
		}), slog.New(slog.DiscardHandler))
		if _, err := v.Get(t.Context(), "x"); err == nil {
			t.Error("Get of a vault that answers nothing but challenges = nil; want an error")
		}
	})
}

// TestRecovery reads a vault whose answers are cut or refused once.
func TestRecovery(t *testing.T) {
	w := newWorld(t, "https://login.microsoftonline.com", "vault.azure.net")
	v := w.reader(t, w.bySecret(t))
	if _, err := v.Get(t.Context(), "x"); err != nil {
		t.Fatal(err)
	}
	for name, f := range map[string]http.HandlerFunc{
		"cut":           answer(200, http.Header{"Content-Length": {"500"}}, `{"value":"`+canary),
		"throttled":     answer(429, http.Header{"Retry-After-Ms": {"1"}}, throttled),
		"bad gateway":   answer(502, nil, "<html>"),
		"expired token": unauthorized(w, "[TokenExpired] Error validating token: 'S2S12086'.", 0),
	} {
		w.set(func(rw http.ResponseWriter, r *http.Request) {
			w.set(nil)
			f(rw, r)
		})
		if got, err := v.Get(t.Context(), "x"); err != nil || got.Value.Reveal() != canary {
			t.Errorf("%s once: Get = %v; want the value", name, err)
		}
	}
	if n := w.throttled.Load(); n != 1 {
		t.Errorf("%d answers were throttled; want 1", n)
	}
}

// TestConformance is the contract on the embedded vault over TLS, signed in at an
// Entra ID, as in Azure.
func TestConformance(t *testing.T) {
	vaulttest.Run(t, func(t *testing.T) vaulttest.Harness {
		w := newWorld(t, "https://login.microsoftonline.com", "vault.azure.net")
		h := harness(w.Service, w.reader(t, w.bySecret(t)))
		h.Break = func(testing.TB) { w.vault.Set(netfault.Fault{Refuse: true}); w.vault.Reset() }
		return h
	})
}

// TestReuse counts the connections that many reads make.
func TestReuse(t *testing.T) {
	w := newWorld(t, "https://login.microsoftonline.com", "vault.azure.net")
	a := w.open(t, w.bySecret(t))
	var dials atomic.Int64
	a.Dial(func(ctx context.Context, network, address string) (net.Conn, error) {
		dials.Add(1)
		return w.dial(ctx, network, address)
	})
	v := vaultOf(t, a, "erp")
	for range 20 {
		if _, err := v.Get(t.Context(), "x"); err != nil {
			t.Fatal(err)
		}
	}
	if dials.Load() != 2 || w.requests.Load() != 21 {
		t.Errorf("20 reads: %d connections, %d requests; want one to the vault and one to sign in, 20 and a challenge", dials.Load(), w.requests.Load())
	}
}

// TestProxy goes to Azure through the proxy that the environment names.
func TestProxy(t *testing.T) {
	w := newWorld(t, "https://login.microsoftonline.com", "vault.azure.net")
	proxy := netfault.NewConnect(t, w.vault.Addr())
	t.Setenv("HTTPS_PROXY", proxy.URL)
	t.Setenv("NO_PROXY", "login.microsoftonline.com")
	a := w.open(t, w.bySecret(t))
	a.Dial(func(ctx context.Context, network, address string) (net.Conn, error) {
		if "http://"+address == proxy.URL {
			return new(net.Dialer).DialContext(ctx, network, address)
		}
		if strings.HasPrefix(address, "erp.") {
			t.Errorf("%s was reached without the proxy", address)
		}
		return w.dial(ctx, network, address)
	})
	if _, err := vaultOf(t, a, "erp").Get(t.Context(), "x"); err != nil {
		t.Fatal(err)
	}
	a.Idle()
	if got := proxy.Seen(); len(got) != 1 || got[0] != "CONNECT erp.vault.azure.net:443" {
		t.Errorf("the proxy saw %q; want one connection to the vault", got)
	}
	t.Setenv("HTTPS_PROXY", "http://127.0.0.1:1")
	v := w.reader(t, w.bySecret(t))
	if _, err := v.Get(t.Context(), "x"); err == nil || !strings.Contains(err.Error(), "the proxy could not be reached") {
		t.Errorf("Get with a proxy that is not there = %v; want an error that says so", err)
	}
}

// TestBreaker has a vault be away, and come back.
func TestBreaker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		requests, broken, after := 0, true, ""
		client := transport(func(r *http.Request) (*http.Response, error) {
			requests++
			resp := &http.Response{StatusCode: 503, Header: http.Header{}, Body: io.NopCloser(strings.NewReader("{}")), Request: r}
			if after != "" {
				resp.StatusCode = 429
				resp.Header.Set("Retry-After", after)
			}
			if !broken {
				resp.StatusCode = 404
				resp.Body = io.NopCloser(strings.NewReader(`{"error":{"code":"SecretNotFound"}}`))
			}
			return resp, nil
		})
		var log latchkeytest.Log
		v := azure.NewWith(t, client, slog.New(slog.NewTextHandler(&log, nil)))
		read := func() error {
			_, err := v.Get(t.Context(), "x")
			return err
		}
		for i := range azure.MaxFailures {
			if v.Paused() {
				t.Fatalf("the vault is left alone after %d failures", i)
			}
			if err := read(); !errors.Is(err, vault.ErrUnavailable) {
				t.Fatal(err)
			}
		}
		if want := azure.MaxFailures * azure.MaxTries; requests != want {
			t.Errorf("%d requests; want %d", requests, want)
		}
		until := time.Now().Add(azure.Pause).UTC().Format(time.RFC3339)
		err := read()
		for _, want := range []string{"https://erp.vault.azure.net is left alone until " + until, "status 503"} {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("Get of a vault that is away = %v; want it to say %q", err, want)
			}
		}
		if !v.Paused() || requests != azure.MaxFailures*azure.MaxTries {
			t.Errorf("left alone: %v, after %d requests; want true and no more requests", v.Paused(), requests)
		}
		time.Sleep(azure.Pause)
		// One may try; the vault is still away.
		before := requests
		if err := read(); !strings.Contains(err.Error(), "status 503") || requests != before+azure.MaxTries {
			t.Errorf("Get after a while = %v, %d requests; want it to be asked again", err, requests-before)
		}
		before = requests
		if err := read(); err == nil || requests != before {
			t.Errorf("Get right after = %v, %d requests; want none", err, requests-before)
		}
		time.Sleep(azure.Pause)
		broken = false
		if err := read(); !errors.Is(err, vault.ErrNotFound) || v.Paused() {
			t.Errorf("Get of a vault that is back = %v, left alone %v; want its answer", err, v.Paused())
		}
		// A refusal is an answer, however often.
		for range 2 * azure.MaxFailures {
			if err := read(); !errors.Is(err, vault.ErrNotFound) {
				t.Fatal(err)
			}
		}
		// Who asks to be left alone is, from the first time on.
		broken, after = true, "90"
		before = requests
		for range 2 {
			if err := read(); !errors.Is(err, vault.ErrUnavailable) || !strings.Contains(err.Error(), "left alone") {
				t.Errorf("Get of a vault that is busy = %v; want unavailable", err)
			}
		}
		if requests != before+1 {
			t.Errorf("%d requests; want 1", requests-before)
		}
		time.Sleep(90 * time.Second)
		broken = false
		if err := read(); !errors.Is(err, vault.ErrNotFound) {
			t.Errorf("Get after the time = %v; want its answer", err)
		}
		if got := strings.Count(log.String(), "key vault is left alone for a while"); got != 2 {
			t.Errorf("%d lines say that the vault is left alone; want 2", got)
		}
		if got := strings.Count(log.String(), "key vault answers again"); got != 2 {
			t.Errorf("%d lines say that the vault answers again; want 2", got)
		}
	})
}

// TestBreakerCancelled has whoever asks go away.
func TestBreakerCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log latchkeytest.Log
		v := azure.NewWith(t, transport(func(r *http.Request) (*http.Response, error) {
			<-r.Context().Done()
			return nil, r.Context().Err()
		}), slog.New(slog.NewTextHandler(&log, nil)))
		for range 2 * azure.MaxFailures {
			ctx, cancel := context.WithCancel(t.Context())
			go cancel()
			if _, err := v.Get(ctx, "x"); !errors.Is(err, vault.ErrUnavailable) || !errors.Is(err, context.Canceled) {
				t.Fatalf("Get = %v; want unavailable because of the context", err)
			}
		}
		if v.Paused() {
			t.Error("the vault is left alone because others went away")
		}
	})
}

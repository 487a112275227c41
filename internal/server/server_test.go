package server

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"latchkey.dev/internal/broker"
	"latchkey.dev/internal/db"
	"latchkey.dev/internal/seal"
	"latchkey.dev/internal/site"
	"latchkey.dev/internal/vault"
	"latchkey.dev/internal/web"
	"latchkey.dev/latchkey"
)

// A fixture is a server on a new SQLite file, with a token of its first admin.
type fixture struct {
	*server
	token string
	log   *logBuffer
}

type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer // guarded by mu
}

func (l *logBuffer) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func newFixture(t testing.TB, change func(*Config)) *fixture {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	out := new(logBuffer)
	log := slog.New(slog.NewJSONHandler(out, &slog.HandlerOptions{Level: slog.LevelDebug}))
	d, err := db.Open(ctx, db.Config{URL: filepath.Join(t.TempDir(), "latchkey.db"), Log: log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	b, err := broker.New(ctx, broker.Config{
		DB: d, Key: seal.NewKey(), Log: log,
		OpenVault: func(latchkey.VaultReference, bool) (vault.Vault, error) {
			return nil, errors.New("no vault in this test")
		},
		Inspect:  func(context.Context, vault.Question) []latchkey.CheckResult { return nil },
		VaultURL: func(name string) string { return "https://" + name + ".vault.localhost" },
	})
	if err != nil {
		t.Fatal(err)
	}
	_, token, err := b.Bootstrap(ctx)
	if err != nil {
		t.Fatal(err)
	}
	c := Config{
		Pages: func(h site.Host) (site.Pages, error) {
			return web.New(web.Config{Broker: b, Log: log, Version: "v0.0.0-test", PublicURL: func() string { return "http://127.0.0.1:8080" }}, h)
		},
		Broker: b, Log: log, Version: "v0.0.0-test", PublicURL: func() string { return "http://127.0.0.1:8080" },
		VaultAddress: "127.0.0.1:8443", VaultDomain: "vault.localhost:8443", CAPEM: []byte("PEM"), VaultAuthority: "https://login.vault.localhost:8443",
	}
	if change != nil {
		change(&c)
	}
	s, err := newServer(c)
	if err != nil {
		t.Fatal(err)
	}
	return &fixture{s, token, out}
}

// An answer is what came back, read whole.
type answer struct {
	*http.Response
	body []byte
}

// problem returns the answer as a problem, which it must be.
func (a answer) problem(t testing.TB) problem {
	t.Helper()
	if got := a.Header.Get("Content-Type"); got != problemType {
		t.Fatalf("answer %d has content type %q; want %q; body %s", a.StatusCode, got, problemType, a.body)
	}
	var p problem
	if err := json.Unmarshal(a.body, &p); err != nil {
		t.Fatal(err)
	}
	if p.Status != a.StatusCode || p.Code == "" || p.Title == "" || p.RequestID != a.Header.Get("X-Request-Id") {
		t.Errorf("problem %+v does not fit its answer, %d with request id %q", p, a.StatusCode, a.Header.Get("X-Request-Id"))
	}
	return p
}

// send sends a request as the admin; change may make it another.
func (f *fixture) send(t testing.TB, method, path, body string, change func(*http.Request)) answer {
	t.Helper()
	var reader io.Reader
	if body != "" {
		reader = strings.NewReader(body)
	}
	r := httptest.NewRequestWithContext(t.Context(), method, path, reader)
	r.Header.Set("Authorization", "Bearer "+f.token)
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	if change != nil {
		change(r)
	}
	return f.serve(t, r)
}

func (f *fixture) serve(t testing.TB, r *http.Request) answer {
	t.Helper()
	w := httptest.NewRecorder()
	f.ServeHTTP(w, r)
	resp := w.Result()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{resp, b}
}

func anonymous(r *http.Request) { r.Header.Del("Authorization") }

// must sends a request that has to succeed.
func (f *fixture) must(t testing.TB, status int, method, path, body string) answer {
	t.Helper()
	a := f.send(t, method, path, body, nil)
	if a.StatusCode != status {
		t.Fatalf("%s %s = %d %s; want %d", method, path, a.StatusCode, a.body, status)
	}
	return a
}

func TestNewRefusesIncompleteConfig(t *testing.T) {
	if _, err := New(Config{}); err == nil {
		t.Error("New(Config{}) succeeded")
	}
}

func TestEnvironmentAndVariable(t *testing.T) {
	f := newFixture(t, nil)
	a := f.must(t, http.StatusCreated, "POST", "/api/v1/environments", `{"name":"main"}`)
	if got, want := a.Header.Get("Location"), "/api/v1/environments/main"; got != want {
		t.Errorf("Location = %q; want %q", got, want)
	}
	if got, want := a.Header.Get("Cache-Control"), "no-store"; got != want {
		t.Errorf("Cache-Control = %q; want %q", got, want)
	}
	a = f.must(t, http.StatusCreated, "POST", "/api/v1/environments/main/variables", `{"displayName":"ERP user","type":"text","value":"CONTOSO\\bot"}`)
	if got, want := a.Header.Get("Location"), "/api/v1/environments/main/variables/new_ERPuser"; got != want {
		t.Errorf("Location = %q; want %q", got, want)
	}
	f.must(t, http.StatusOK, "GET", a.Header.Get("Location"), "")
	var list latchkey.Page[latchkey.Variable]
	a = f.must(t, http.StatusOK, "GET", "/api/v1/environments/main/variables?type=text&limit=1", "")
	if err := json.Unmarshal(a.body, &list); err != nil || len(list.Items) != 1 || list.Items[0].Name != "new_ERPuser" {
		t.Errorf("list = %s, %v; want new_ERPuser", a.body, err)
	}
	a = f.must(t, http.StatusOK, "GET", "/api/v1/environments/main/variables?type=secret", "")
	if got, want := strings.TrimSpace(string(a.body)), `{"items":[]}`; got != want {
		t.Errorf("empty list = %s; want %s", got, want)
	}
	f.must(t, http.StatusNoContent, "DELETE", "/api/v1/environments/main/variables/new_ERPuser", "")
}

func TestDurationsAreTexts(t *testing.T) {
	f := newFixture(t, nil)
	f.must(t, http.StatusCreated, "POST", "/api/v1/environments", `{"name":"main"}`)
	a := f.must(t, http.StatusCreated, "POST", "/api/v1/environments/main/flows", `{"name":"f","command":["/usr/bin/true"],"timeout":"5m"}`)
	if !strings.Contains(string(a.body), `"timeout":"5m0s"`) {
		t.Errorf("flow = %s; want its timeout as text", a.body)
	}
	p := f.send(t, "POST", "/api/v1/tokens", `{"name":"x","expiresIn":"soon"}`, nil).problem(t)
	if len(p.Errors) != 1 || p.Errors[0].Field != "expiresIn" || !strings.Contains(p.Errors[0].Message, "5m") {
		t.Errorf("problem = %+v; want one that names expiresIn and shows a duration", p)
	}
}

func TestRequestID(t *testing.T) {
	f := newFixture(t, nil)
	for _, tt := range []struct {
		name, sent string
		kept       bool
	}{
		{"sane", "abc-1._X", true},
		{"too long", strings.Repeat("a", 65), false},
		{"not a word", "a b\tc", false},
		{"none", "", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := f.send(t, "GET", "/healthz", "", func(r *http.Request) { r.Header.Set("X-Request-Id", tt.sent) })
			got := a.Header.Get("X-Request-Id")
			if (got == tt.sent) != tt.kept || !requestIDRE.MatchString(got) {
				t.Errorf("X-Request-Id %q is answered as %q; kept = %v", tt.sent, got, tt.kept)
			}
		})
	}
}

func TestPanicIsAProblem(t *testing.T) {
	f := newFixture(t, nil)
	f.mux.HandleFunc("GET /panic", func(http.ResponseWriter, *http.Request) { panic("canary of the panic") })
	a := f.send(t, "GET", "/panic", "", nil)
	if p := a.problem(t); p.Status != http.StatusInternalServerError || p.Code != "internal" {
		t.Errorf("problem = %+v; want an internal one", p)
	}
	if strings.Contains(string(a.body), "canary") || !strings.Contains(f.log.String(), `"panic":"canary of the panic"`) {
		t.Errorf("the panic belongs in the log and nowhere else; body %s", a.body)
	}
}

func TestCrossOrigin(t *testing.T) {
	f := newFixture(t, nil)
	for _, tt := range []struct {
		name, site string
		want       int
	}{
		{"a program", "", http.StatusCreated},
		{"our own page", "same-origin", http.StatusConflict},
		{"another site", "cross-site", http.StatusForbidden},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := f.send(t, "POST", "/api/v1/environments", `{"name":"main"}`, func(r *http.Request) {
				if tt.site != "" {
					r.Header.Set("Sec-Fetch-Site", tt.site)
				}
			})
			if a.StatusCode != tt.want {
				t.Errorf("status = %d %s; want %d", a.StatusCode, a.body, tt.want)
			}
		})
	}
}

func TestHealthAndMetrics(t *testing.T) {
	f := newFixture(t, nil)
	f.must(t, http.StatusCreated, "POST", "/api/v1/environments", `{"name":"canary-name"}`)
	f.must(t, http.StatusOK, "GET", "/api/v1/environments/canary-name", "")
	f.send(t, "BREW", "/canary-name", "", nil)
	for _, path := range []string{"/healthz", "/readyz"} {
		if a := f.send(t, "GET", path, "", anonymous); a.StatusCode != http.StatusOK || !strings.Contains(string(a.body), "ok") {
			t.Errorf("%s = %d %s; want ok", path, a.StatusCode, a.body)
		}
	}
	body := string(f.send(t, "GET", "/metrics", "", anonymous).body)
	for _, want := range []string{
		`latchkey_http_requests_total{method="GET",route="/api/v1/environments/{env}",status="2xx"} 1`,
		`latchkey_http_requests_total{method="other",route="none",status="4xx"} 1`,
		`latchkey_releases_total{outcome="granted"} 0`,
		`latchkey_build_info{`, `go_goroutines`,
	} {
		if !strings.Contains(body, want) {
			t.Errorf("metrics lack %s", want)
		}
	}
	if strings.Contains(body, "canary-name") {
		t.Error("metrics hold a name")
	}
}

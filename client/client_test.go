package client

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"latchkey.dev/latchkey"
)

// serve returns a client of a server that h is.
func serve(t *testing.T, h http.HandlerFunc) *Client {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	c, err := New(Config{Server: s.URL + "/", Token: latchkey.NewSecret("lk_token")})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestServerAddress(t *testing.T) {
	tests := []struct {
		server   string
		insecure bool
		want     string // part of the error; "" is none
	}{
		{"https://latchkey.example.org", false, ""},
		{"https://latchkey.example.org/below/", false, ""},
		{"http://127.0.0.1:8080", false, ""},
		{"http://[::1]:8080", false, ""},
		{"http://localhost", false, ""},
		{"http://latchkey.example.org", true, ""},
		{"http://latchkey.example.org", false, "use https"},
		{"http://127.0.0.1.example.org", false, "use https"},
		{"http://localhost.example.org", false, "use https"},
		{"", false, "missing"},
		{"latchkey.example.org", false, "must be one such as"},
		{"ftp://latchkey.example.org", false, "must be one such as"},
		{"https://", false, "must be one such as"},
		{"https://u:p@latchkey.example.org", false, "no user"},
		{"https://latchkey.example.org?x", false, "no user"},
	}
	for _, tt := range tests {
		_, err := New(Config{Server: tt.server, AllowInsecure: tt.insecure})
		switch {
		case tt.want == "" && err != nil:
			t.Errorf("New(%q) = %v; want none", tt.server, err)
		case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
			t.Errorf("New(%q) = %v; want %q", tt.server, err, tt.want)
		}
	}
}

func TestRequest(t *testing.T) {
	var got *http.Request
	var body string
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		got, body = r, string(b)
		io.WriteString(w, `{"name":"dev"}`)
	})
	e, err := c.UpdateEnvironment(t.Context(), "de v/x", latchkey.EnvironmentUpdate{})
	if err != nil || e.Name != "dev" {
		t.Fatalf("UpdateEnvironment = %v, %v; want dev", e, err)
	}
	if got, want := got.Method+" "+got.URL.EscapedPath()+" "+body, `PATCH /api/v1/environments/de%20v%2Fx {}`; got != want {
		t.Errorf("request = %q; want %q", got, want)
	}
	for header, want := range map[string]string{"Authorization": "Bearer lk_token", "User-Agent": DefaultUserAgent, "Content-Type": "application/json"} {
		if got := got.Header.Get(header); got != want {
			t.Errorf("%s = %q; want %q", header, got, want)
		}
	}
}

func TestBadSegment(t *testing.T) {
	c := serve(t, func(http.ResponseWriter, *http.Request) { t.Error("a request was sent") })
	for _, ref := range []string{"", ".", ".."} {
		if err := c.DeleteVault(t.Context(), ref); !errors.Is(err, latchkey.ErrInvalid) {
			t.Errorf("DeleteVault(%q) = %v; want ErrInvalid", ref, err)
		}
	}
}

func TestSignInSendsNoToken(t *testing.T) {
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if h := r.Header.Get("Authorization"); h != "" {
			t.Error("the old token was sent")
		}
		io.WriteString(w, `{"id":"tok_1","token":"lk_new"}`)
	})
	if got, err := c.SignIn(t.Context(), "alice", latchkey.NewSecret("pw")); err != nil || got.Value != "lk_new" {
		t.Errorf("SignIn = %v, %v; want the token", got.ID, err)
	}
}

func TestNoRedirect(t *testing.T) {
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/api/v1/me" {
			t.Errorf("followed to %s", r.URL)
		}
		http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
	})
	if _, err := c.Me(t.Context()); err == nil {
		t.Error("a redirect is no error")
	}
}

func TestAnswerLimit(t *testing.T) {
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		block := make([]byte, 1<<20)
		for range maxAnswer>>20 + 1 {
			if _, err := w.Write(block); err != nil {
				return
			}
		}
	})
	_, err := c.Me(t.Context())
	if e, ok := errors.AsType[*latchkey.Error](err); !ok || e.Code != "answer-too-large" {
		t.Errorf("Me = %v; want answer-too-large", err)
	}
}

func TestPages(t *testing.T) {
	var asked []string
	pages := map[string]string{
		"":  `{"items":[{"login":"a"},{"login":"b"}],"next":"2"}`,
		"2": `{"items":[],"next":"3"}`,
		"3": `{"items":[{"login":"c"}]}`,
	}
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		after := r.URL.Query().Get("after")
		asked = append(asked, after)
		io.WriteString(w, pages[after])
	})
	var got []string
	for u, err := range c.Users(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, u.Login)
	}
	if diff := cmp.Diff([]string{"a", "b", "c"}, got); diff != "" {
		t.Errorf("users (-want +got):\n%s", diff)
	}
	asked = nil
	for range c.Users(t.Context()) {
		break
	}
	if diff := cmp.Diff([]string{""}, asked); diff != "" {
		t.Errorf("pages asked for after leaving early (-want +got):\n%s", diff)
	}
}

// TestEndlessPages is about a server whose next page is the same again.
func TestEndlessPages(t *testing.T) {
	n := 0
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		n++
		io.WriteString(w, `{"items":[{"login":"a"}],"next":"1"}`)
	})
	for _, err := range c.Users(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
	}
	if n != 2 {
		t.Errorf("%d pages were asked for; want 2", n)
	}
}

func TestAuditQuery(t *testing.T) {
	var got url.Values
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		got = r.URL.Query()
		io.WriteString(w, `{"items":[]}`)
	})
	for range c.Audit(t.Context(), AuditFilter{Environment: "dev", Action: latchkey.ActReleaseGranted, Since: time.Unix(0, 0), Oldest: true}) {
	}
	want := url.Values{"environment": {"dev"}, "action": {"release.granted"}, "since": {"1970-01-01T00:00:00Z"}, "order": {"oldest"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("query (-want +got):\n%s", diff)
	}
}

func TestCAFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(path, []byte("no certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{path, path + ".absent"} {
		if _, err := New(Config{Server: "https://latchkey.example.org", CAFile: p}); err == nil || !strings.Contains(err.Error(), "CA file") {
			t.Errorf("New with CA file %s = %v; want an error about the CA file", p, err)
		}
	}
}

func TestProblem(t *testing.T) {
	kinds := map[int]error{
		400: latchkey.ErrInvalid, 413: latchkey.ErrInvalid, 422: latchkey.ErrInvalid, 401: latchkey.ErrUnauthenticated,
		403: latchkey.ErrDenied, 404: latchkey.ErrNotFound, 409: latchkey.ErrConflict, 429: latchkey.ErrUnavailable,
		503: latchkey.ErrUnavailable, 500: errInternal, 302: errInternal,
	}
	for status, want := range kinds {
		if err := problem(status, []byte(`{"code":"x","detail":"d"}`)); !errors.Is(err, want) {
			t.Errorf("problem(%d) = %v; want %v", status, err, want)
		}
		if err := problem(status, []byte(`<html>`)); !errors.Is(err, want) {
			t.Errorf("problem(%d) without JSON = %v; want %v", status, err, want)
		}
	}
	body, err := json.Marshal(map[string]any{
		"title": "Forbidden", "status": 403, "detail": "no\x1b[31m way", "code": "not-authorized",
		"errors":   []map[string]string{{"field": "secret.vault", "message": "is an address"}},
		"identity": "user_1", "check": "credential.use", "remedy": "ask", "requestId": "r1",
	})
	if err != nil {
		t.Fatal(err)
	}
	got, ok := errors.AsType[*latchkey.Error](problem(403, body))
	if !ok {
		t.Fatal("not a *latchkey.Error")
	}
	want := &latchkey.Error{
		Kind: latchkey.ErrDenied, Code: "not-authorized", Msg: "no[31m way",
		Fields:   []latchkey.FieldError{{Field: "secret.vault", Message: "is an address"}},
		Identity: "user_1", Check: "credential.use", Remedy: "ask",
	}
	if diff := cmp.Diff(*want, *got, cmp.Comparer(func(a, b error) bool { return a == b })); diff != "" {
		t.Errorf("problem (-want +got):\n%s", diff)
	}
}

func FuzzProblem(f *testing.F) {
	f.Add(403, []byte(`{"code":"x","detail":"d","errors":[{"field":"a","message":"b"}]}`))
	f.Add(500, []byte(`{"code":1}`))
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		err := problem(status, body)
		e, ok := errors.AsType[*latchkey.Error](err)
		if !ok || e.Kind == nil || e.Code == "" && e.Msg == "" {
			t.Fatalf("problem(%d, %q) = %#v", status, body, err)
		}
		if strings.ContainsRune(err.Error(), 0x1b) {
			t.Errorf("problem(%d, %q) keeps an escape", status, body)
		}
	})
}

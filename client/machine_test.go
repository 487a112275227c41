package client

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"latchkey.dev/internal/seal"
	"latchkey.dev/latchkey"
)

func TestNewMachine(t *testing.T) {
	tests := []struct {
		server   string
		insecure bool
		ok       bool
	}{
		{"https://latchkey.example.com", false, true},
		{"https://latchkey.example.com/", false, true},
		{"https://latchkey.example.com:8443", false, true},
		{"http://127.0.0.1:8080", false, true},
		{"http://[::1]:8080", false, true},
		{"http://localhost:8080", false, true},
		{"http://latchkey.example.com", false, false},
		{"http://latchkey.example.com", true, true},
		{"http://127.0.0.1.example.com", false, false},
		{"http://localhost.example.com", false, false},
		{"http://0.0.0.0", false, false},
		{"http://[::]", false, false},
		{"ftp://127.0.0.1", true, false},
		{"latchkey.example.com", true, false},
		{"https://", false, false},
		{"https://:8443", false, false},
		{"https://user:password@latchkey.example.com", false, false},
		{"https://latchkey.example.com/path", false, false},
		{"https://latchkey.example.com?q", false, false},
		{"https://latchkey.example.com#f", false, false},
		{"", false, false},
		{"https://\x00", false, false},
	}
	for _, tt := range tests {
		m, err := NewMachine(tt.server, MachineOptions{AllowInsecure: tt.insecure})
		if (err == nil) != tt.ok || err != nil && !errors.Is(err, latchkey.ErrInvalid) {
			t.Errorf("NewMachine(%q, insecure %t) = %v; want ok %t", tt.server, tt.insecure, err, tt.ok)
		}
		if err != nil && strings.Contains(err.Error(), "password") {
			t.Errorf("NewMachine(%q) repeats the password: %v", tt.server, err)
		}
		if m != nil {
			m.Close()
		}
	}
}

func TestMachineCAFile(t *testing.T) {
	dir := t.TempDir()
	empty := filepath.Join(dir, "empty.pem")
	if err := os.WriteFile(empty, []byte("nothing"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{empty, filepath.Join(dir, "missing.pem")} {
		if _, err := NewMachine("https://127.0.0.1", MachineOptions{CAFile: file}); err == nil {
			t.Errorf("a machine with the CA file %s; want an error", file)
		}
	}
}

// A far is the far end of a session: it proves its answers, and hands them to
// change, which may spoil them.
type far struct {
	keys   *seal.Session
	answer func(path string) (status int, body string)
	change func(w http.ResponseWriter, mac []byte, status int, body string) // nil sends the answer as it is
}

func (f *far) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	nonce, err := base64.StdEncoding.DecodeString(r.Header.Get(latchkey.HeaderNonce))
	if err != nil {
		return
	}
	status, text := f.answer(r.URL.Path)
	mac := f.keys.ResponseMAC(f.keys.RequestMAC(r.Method, r.URL.EscapedPath(), nonce, body), status, []byte(text))
	if f.change == nil {
		send(w, mac, status, text)
		return
	}
	f.change(w, mac, status, text)
}

func send(w http.ResponseWriter, mac []byte, status int, body string) {
	w.Header().Set(latchkey.HeaderMAC, base64.StdEncoding.EncodeToString(mac))
	w.WriteHeader(status)
	_, _ = io.WriteString(w, body)
}

// newSession returns a session whose far end is f.
func newSession(t *testing.T, f *far) *MachineSession {
	t.Helper()
	secret := []byte(strings.Repeat("s", 32))
	f.keys = seal.NewSession(secret)
	s := httptest.NewServer(f)
	t.Cleanup(s.Close)
	m, err := NewMachine(s.URL, MachineOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	now := time.Now()
	return &MachineSession{machine: m, id: "sess_1", keys: seal.NewSession(secret), at: now, received: now, expires: now.Add(time.Hour)}
}

// TestUnprovenAnswers gives answers that are not the server's to this request.
func TestUnprovenAnswers(t *testing.T) {
	const run = `{"run":{"run":"run_1","claim":"claim_1","command":["/bin/true"]}}`
	var earlier []byte // MAC of the answer to another request
	tests := []struct {
		name   string
		change func(w http.ResponseWriter, mac []byte, status int, body string)
		ok     bool
		kind   error
		code   string
	}{
		{"as it is", send, true, nil, ""},
		{"of another request", func(w http.ResponseWriter, _ []byte, status int, body string) { send(w, earlier, status, body) }, false, latchkey.ErrUnavailable, CodeUnproven},
		{"no MAC", func(w http.ResponseWriter, _ []byte, _ int, body string) { _, _ = io.WriteString(w, body) }, false, latchkey.ErrUnavailable, CodeUnproven},
		{"MAC not base64", func(w http.ResponseWriter, _ []byte, _ int, body string) {
			w.Header().Set(latchkey.HeaderMAC, "%")
			_, _ = io.WriteString(w, body)
		}, false, latchkey.ErrUnavailable, CodeUnproven},
		{"another body", func(w http.ResponseWriter, mac []byte, status int, body string) { send(w, mac, status, body+" ") }, false, latchkey.ErrUnavailable, CodeUnproven},
		{"another status", func(w http.ResponseWriter, mac []byte, _ int, body string) { send(w, mac, http.StatusCreated, body) }, false, latchkey.ErrUnavailable, CodeUnproven},
		{"a problem without MAC", func(w http.ResponseWriter, mac []byte, _ int, _ string) {
			w.WriteHeader(http.StatusConflict)
			_, _ = io.WriteString(w, `{"code":"quarantined","detail":"gone"}`)
		}, false, latchkey.ErrUnavailable, CodeUnproven},
		{"a proxy's error", func(w http.ResponseWriter, _ []byte, _ int, _ string) { w.WriteHeader(http.StatusBadGateway) }, false, latchkey.ErrUnavailable, CodeUnproven},
		{"a 401 without MAC", func(w http.ResponseWriter, _ []byte, _ int, _ string) { w.WriteHeader(http.StatusUnauthorized) }, false, latchkey.ErrUnauthenticated, "session-expired"},
		{"a redirect", func(w http.ResponseWriter, mac []byte, _ int, body string) {
			w.Header().Set("Location", "/api/v1/agent/claim")
			send(w, mac, http.StatusTemporaryRedirect, body)
		}, false, latchkey.ErrUnavailable, CodeUnproven},
		{"too large", func(w http.ResponseWriter, mac []byte, status int, _ string) {
			send(w, mac, status, strings.Repeat(" ", maxAgentAnswer+1))
		}, false, latchkey.ErrUnavailable, CodeUnproven},
		{"cut off", func(w http.ResponseWriter, mac []byte, status int, body string) {
			w.Header().Set("Content-Length", "1000")
			send(w, mac, status, body)
		}, false, latchkey.ErrUnavailable, CodeUnreachable},
		{"no answer", func(http.ResponseWriter, []byte, int, string) { panic(http.ErrAbortHandler) }, false, latchkey.ErrUnavailable, CodeUnreachable},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := &far{answer: func(string) (int, string) { return http.StatusOK, run }}
			s := newSession(t, f)
			f.change = func(w http.ResponseWriter, mac []byte, status int, body string) {
				earlier = mac
				send(w, mac, status, body)
			}
			if _, err := s.Claim(t.Context(), latchkey.ClaimRequest{}); err != nil {
				t.Fatal(err)
			}
			f.change = tt.change
			got, err := s.Claim(t.Context(), latchkey.ClaimRequest{})
			if tt.ok {
				if err != nil || got == nil || got.Run != "run_1" {
					t.Errorf("Claim = %+v, %v; want the run", got, err)
				}
				return
			}
			e, _ := errors.AsType[*latchkey.Error](err)
			if got != nil || e == nil || !errors.Is(err, tt.kind) || e.Code != tt.code {
				t.Errorf("Claim = %+v, %v; want %v %s", got, err, tt.kind, tt.code)
			}
		})
	}
}

// TestHalfAnswer is an answer of the server that is not what was asked for: no
// run may come of it.
func TestHalfAnswer(t *testing.T) {
	for _, body := range []string{`{"run":{"run":"run_1","timeout":{}}}`, `{"run":`, `[]`, ``} {
		s := newSession(t, &far{answer: func(string) (int, string) { return http.StatusOK, body }})
		run, err := s.Claim(t.Context(), latchkey.ClaimRequest{})
		if run != nil || !errors.Is(err, latchkey.ErrUnavailable) {
			t.Errorf("%s: Claim = %+v, %v; want no run", body, run, err)
		}
	}
}

// TestReleaseCounter checks that every release has a greater counter than the one
// before, also after a failure.
func TestReleaseCounter(t *testing.T) {
	var counters []int64
	f := &far{answer: func(string) (int, string) { return http.StatusServiceUnavailable, `{"detail":"no vault"}` }}
	s := newSession(t, f)
	inner := s.machine.http.Transport
	s.machine.http.Transport = roundTripper(func(r *http.Request) (*http.Response, error) {
		var req latchkey.ReleaseRequest
		body, err := r.GetBody()
		if err != nil {
			return nil, err
		}
		if err := json.NewDecoder(body).Decode(&req); err != nil {
			return nil, err
		}
		counters = append(counters, req.Counter)
		return inner.RoundTrip(r)
	})
	for range 3 {
		if _, err := s.Release(t.Context(), "run_1", latchkey.ReleaseRequest{Claim: "claim_1", Credential: "cred_1", Counter: 7}); !errors.Is(err, latchkey.ErrUnavailable) {
			t.Errorf("Release = %v; want unavailable", err)
		}
	}
	if diff := cmp.Diff([]int64{1, 2, 3}, counters); diff != "" {
		t.Errorf("counters (-want +got):\n%s", diff)
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestMachineError(t *testing.T) {
	const whole = `{"type":"about:blank","title":"Conflict","status":409,"detail":"it is gone","code":"claim-lost","identity":"mach_1","check":"policy","remedy":"do it again","errors":[{"field":"a","message":"b"}]}`
	tests := []struct {
		status int
		body   string
		want   latchkey.Error
	}{
		{409, whole, latchkey.Error{Kind: latchkey.ErrConflict, Code: "claim-lost", Msg: "it is gone", Identity: "mach_1", Check: "policy", Remedy: "do it again", Fields: []latchkey.FieldError{{Field: "a", Message: "b"}}}},
		{400, `{"detail":"d"}`, latchkey.Error{Kind: latchkey.ErrInvalid, Msg: "d"}},
		{422, `{"title":"t"}`, latchkey.Error{Kind: latchkey.ErrInvalid, Msg: "t"}},
		{401, `{"detail":"d"}`, latchkey.Error{Kind: latchkey.ErrUnauthenticated, Msg: "d"}},
		{403, `{"detail":"d"}`, latchkey.Error{Kind: latchkey.ErrDenied, Msg: "d"}},
		{404, `{"detail":"d"}`, latchkey.Error{Kind: latchkey.ErrNotFound, Msg: "d"}},
		{429, `{"detail":"d"}`, latchkey.Error{Kind: latchkey.ErrUnavailable, Msg: "d"}},
		{500, `{"detail":"d"}`, latchkey.Error{Kind: latchkey.ErrUnavailable, Msg: "d"}},
		{502, `<html>`, latchkey.Error{Kind: latchkey.ErrUnavailable, Msg: "the server answered 502 Bad Gateway"}},
		{404, ``, latchkey.Error{Kind: latchkey.ErrNotFound, Msg: "the server answered 404 Not Found"}},
		{302, `[]`, latchkey.Error{Kind: latchkey.ErrUnavailable, Msg: "the server answered 302 Found"}},
	}
	for _, tt := range tests {
		got := machineError(tt.status, []byte(tt.body))
		if got.Kind != tt.want.Kind {
			t.Errorf("%d %s: kind %v; want %v", tt.status, tt.body, got.Kind, tt.want.Kind)
		}
		got.Kind, tt.want.Kind = nil, nil
		if diff := cmp.Diff(tt.want, *got); diff != "" {
			t.Errorf("%d %s (-want +got):\n%s", tt.status, tt.body, diff)
		}
	}
}

func FuzzMachineError(f *testing.F) {
	f.Add(409, []byte(`{"detail":"d","errors":[{"field":"a"}]}`))
	f.Add(502, []byte(`<html>`))
	f.Add(200, []byte(`{"errors":{}}`))
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		if e := machineError(status, body); e.Kind == nil || e.Error() == "" {
			t.Errorf("%d %q = %+v; want a kind and a text", status, body, e)
		}
	})
}

// TestUnprovenOpening has a server with another key answer an enrolment and the
// opening of a session.
func TestUnprovenOpening(t *testing.T) {
	keys, err := seal.NewMachineKeys()
	if err != nil {
		t.Fatal(err)
	}
	server, _, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	_, other, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var answer any
		if strings.HasSuffix(r.URL.Path, "/enrol") {
			var req latchkey.EnrolRequest
			if json.NewDecoder(r.Body).Decode(&req) != nil {
				return
			}
			resp := latchkey.EnrolResponse{Machine: "mach_1", Environment: "prod"}
			seal.SignEnrolResponse(other, &req, &resp)
			answer = resp
		} else {
			var req latchkey.SessionRequest
			if json.NewDecoder(r.Body).Decode(&req) != nil {
				return
			}
			resp := latchkey.SessionResponse{Suite: latchkey.AgentSuite, Session: "sess_1", At: time.Now(), ExpiresAt: time.Now().Add(time.Hour)}
			if _, err := seal.AcceptSession(other, keys.SignPublic(), keys.SealPublic(), &req, &resp); err != nil {
				return
			}
			answer = resp
		}
		_ = json.NewEncoder(w).Encode(answer)
	}))
	defer s.Close()
	m, err := NewMachine(s.URL, MachineOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	_, enrolErr := m.Enrol(t.Context(), keys, server, &latchkey.EnrolRequest{Token: "proof", Name: "host1"})
	_, openErr := m.OpenSession(t.Context(), keys, server, &latchkey.SessionRequest{Machine: "mach_1", Counter: 1, At: time.Now()})
	for what, err := range map[string]error{"Enrol": enrolErr, "OpenSession": openErr} {
		if e, ok := errors.AsType[*latchkey.Error](err); !ok || e.Code != CodeUnproven || !errors.Is(err, latchkey.ErrUnavailable) {
			t.Errorf("%s = %v; want %s", what, err, CodeUnproven)
		}
	}
}

package client

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"latchkey.dev/internal/seal"
	"latchkey.dev/latchkey"
)

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

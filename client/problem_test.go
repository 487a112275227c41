package client

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"latchkey.dev/latchkey"
)

// TestProblemKinds checks what is to be tried again, and by whom.
func TestProblemKinds(t *testing.T) {
	kinds := map[int]error{
		400: latchkey.ErrInvalid, 413: latchkey.ErrInvalid, 415: latchkey.ErrInvalid, 422: latchkey.ErrInvalid,
		401: latchkey.ErrUnauthenticated, 403: latchkey.ErrDenied, 404: latchkey.ErrNotFound, 409: latchkey.ErrConflict,
		429: latchkey.ErrUnavailable, 502: latchkey.ErrUnavailable, 503: latchkey.ErrUnavailable, 504: latchkey.ErrUnavailable,
		500: errInternal, 302: errInternal, 405: errInternal,
	}
	for status, want := range kinds {
		agentWant := want
		if want == errInternal {
			agentWant = latchkey.ErrUnavailable
		}
		for _, body := range []string{`{"code":"x","detail":"d"}`, `<html>`, `[]`, ``} {
			if got := problem(status, []byte(body)).Kind; got != want {
				t.Errorf("problem(%d, %q) is %v; want %v", status, body, got, want)
			}
			if got := agentProblem(status, []byte(body)).Kind; got != agentWant {
				t.Errorf("agentProblem(%d, %q) is %v; want %v", status, body, got, agentWant)
			}
		}
	}
}

func TestProblem(t *testing.T) {
	const whole = `{"type":"about:blank","title":"Conflict","status":409,"detail":"it is gone","code":"claim-lost","identity":"mach_1",
		"check":"policy","remedy":"do it again","errors":[{"field":"secret.vault","message":"is an address"}],"requestId":"r1"}`
	long := strings.Repeat("a", maxProblemText)
	tests := []struct {
		status int
		body   string
		want   latchkey.Error
	}{
		{409, whole, latchkey.Error{
			Code: "claim-lost", Msg: "it is gone", Identity: "mach_1", Check: "policy", Remedy: "do it again",
			Fields: []latchkey.FieldError{{Field: "secret.vault", Message: "is an address"}},
		}},
		{403, `{"detail":"no\u001b[31m way\u202e","code":"x\u0007","errors":[{"field":"a\u001b","message":"b\u001b"}]}`, latchkey.Error{
			Code: "x", Msg: "no[31m way", Fields: []latchkey.FieldError{{Field: "a", Message: "b"}},
		}},
		{400, `{"detail":"d"}`, latchkey.Error{Msg: "d"}},
		{400, `{"detail":"a` + long + `"}`, latchkey.Error{Msg: long + "…"}},
		{422, `{"title":"t"}`, latchkey.Error{Msg: "t"}},
		{409, `{"code":"x"}`, latchkey.Error{Code: "x", Msg: "the server answered 409 Conflict"}},
		{403, `{"detail":"\u001b"}`, latchkey.Error{Msg: "the server answered 403 Forbidden"}},
		{500, `{"detail":"d"}`, latchkey.Error{Msg: "d"}},
		{500, `{"detail":"d","requestId":"r1"}`, latchkey.Error{Msg: "d (request r1 in the server's log)"}},
		{502, `<html>`, latchkey.Error{Code: "http-502", Msg: "the answer is 502 Bad Gateway, not one of a Latchkey server; check the address"}},
		{404, ``, latchkey.Error{Code: "http-404", Msg: "the answer is 404 Not Found, not one of a Latchkey server; check the address"}},
		{302, `[]`, latchkey.Error{Code: "http-302", Msg: "the answer is 302 Found, not one of a Latchkey server; check the address"}},
	}
	for _, tt := range tests {
		for what, got := range map[string]*latchkey.Error{"problem": problem(tt.status, []byte(tt.body)), "agentProblem": agentProblem(tt.status, []byte(tt.body))} {
			got.Kind = nil // see TestProblemKinds
			if diff := cmp.Diff(tt.want, *got); diff != "" {
				t.Errorf("%s(%d, %.100q) (-want +got):\n%s", what, tt.status, tt.body, diff)
			}
		}
	}
}

func FuzzProblem(f *testing.F) {
	f.Add(403, []byte(`{"code":"x","detail":"d","errors":[{"field":"a","message":"b"}]}`))
	f.Add(409, []byte(`{"detail":"d","errors":[{"field":"a"}]}`))
	f.Add(500, []byte(`{"code":1}`))
	f.Add(502, []byte(`<html>`))
	f.Add(200, []byte(`{"errors":{}}`))
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		e := problem(status, body)
		if e.Kind == nil || e.Error() == "" {
			t.Fatalf("problem(%d, %q) = %#v; want a kind and a text", status, body, e)
		}
		if strings.ContainsRune(e.Error(), 0x1b) {
			t.Errorf("problem(%d, %q) keeps an escape", status, body)
		}
		if kind := agentProblem(status, body).Kind; kind == nil || kind == errInternal {
			t.Errorf("agentProblem(%d, %q) is %v; want a kind that the agent knows", status, body, kind)
		}
	})
}

// TestNoAnswer checks that a request without an answer is told from a refusal,
// and that its error does not repeat what was asked for.
func TestNoAnswer(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }))
	defer s.Close()
	c, err := New(Config{Server: s.URL})
	if err != nil {
		t.Fatal(err)
	}
	m, err := NewMachine(s.URL, MachineOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	over, cancel := context.WithCancel(t.Context())
	cancel()
	for _, ctx := range []context.Context{t.Context(), over} {
		_, clientErr := c.Environment(ctx, "asked-for")
		_, plainErr := m.plain(ctx, "/asked-for", nil, nil)
		for what, err := range map[string]error{"Environment": clientErr, "plain": plainErr} {
			e, ok := errors.AsType[*latchkey.Error](err)
			if !ok || e.Code != CodeUnreachable || !errors.Is(err, latchkey.ErrUnavailable) || errors.Is(err, context.Canceled) != (ctx == over) {
				t.Errorf("%s = %v; want %s, with the cause", what, err, CodeUnreachable)
			}
			if _, ok := errors.AsType[*url.Error](err); ok || strings.Contains(err.Error(), "asked-for") {
				t.Errorf("%s = %v; want no address", what, err)
			}
		}
	}
}

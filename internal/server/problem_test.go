package server

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"latchkey.dev/latchkey"
)

func TestProblemOf(t *testing.T) {
	f := newFixture(t, nil)
	cause := errors.New("connect to 10.0.0.7: refused")
	kind := func(k error) *latchkey.Error {
		return &latchkey.Error{Kind: k, Code: "some-code", Msg: "a sentence", Err: cause}
	}
	tests := []struct {
		name   string
		err    error
		status int
		code   string
		logged bool
	}{
		{"invalid", latchkey.Invalid("name", "must not be empty"), 422, "invalid", false},
		{"unauthenticated", kind(latchkey.ErrUnauthenticated), 401, "some-code", true},
		{"denied", kind(latchkey.ErrDenied), 403, "some-code", true},
		{"not found", latchkey.NotFound(latchkey.KindFlow), 404, "not-found", false},
		{"conflict", latchkey.Conflict("in-use", "it is used"), 409, "in-use", false},
		{"unavailable", kind(latchkey.ErrUnavailable), 503, "some-code", true},
		{"wrapped", fmt.Errorf("while saving: %w", latchkey.Conflict("in-use", "it is used")), 409, "in-use", false},
		{"no code", &latchkey.Error{Kind: latchkey.ErrDenied}, 403, "denied", false},
		{"no kind", &latchkey.Error{Kind: cause, Code: "odd"}, 500, "internal", true},
		{"unknown", cause, 500, "internal", true},
		{"a denial that could not be recorded", errors.Join(cause, kind(latchkey.ErrDenied)), 500, "internal", true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			before := len(f.log.String())
			p := f.problemOf(withVisit(t.Context(), &visit{id: "req-1"}), tt.err)
			if p.Status != tt.status || p.Code != tt.code || p.RequestID != "req-1" || p.Type != "about:blank" || p.Detail == "" {
				t.Errorf("problem = %+v; want %d %s", p, tt.status, tt.code)
			}
			if strings.Contains(fmt.Sprintf("%+v", *p), "10.0.0.7") {
				t.Errorf("problem shows the cause: %+v", p)
			}
			logged := f.log.String()[before:]
			if got := strings.Contains(logged, "10.0.0.7") || strings.Contains(logged, "odd"); got && !tt.logged || tt.logged && tt.name != "no kind" && !got {
				t.Errorf("cause logged: %v; want %v: %s", got, tt.logged, logged)
			}
			if tt.logged && !strings.Contains(logged, "req-1") {
				t.Errorf("log line lacks the request id: %s", logged)
			}
		})
	}
}

func TestProblemOfACancelledRequestIsNotLogged(t *testing.T) {
	f := newFixture(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	before := len(f.log.String())
	if p := f.problemOf(ctx, fmt.Errorf("read: %w", ctx.Err())); p.Status != statusGone {
		t.Errorf("status = %d; want %d", p.Status, statusGone)
	}
	if got := f.log.String()[before:]; got != "" {
		t.Errorf("logged %s", got)
	}
}

// TestFaults is what people see who send something wrong.
func TestFaults(t *testing.T) {
	f := newFixture(t, nil)
	f.must(t, http.StatusCreated, "POST", "/api/v1/environments", `{"name":"main"}`)
	const variables = "/api/v1/environments/main/variables"
	tests := []struct {
		name, method, path, body, contentType string
		status                                int
		code, field                           string
	}{
		{"not JSON", "POST", variables, `{"displayName":`, "", 400, "malformed", "body"},
		{"two values", "POST", variables, `{} {}`, "", 400, "malformed", "body"},
		{"inputs that differ in case", "POST", "/api/v1/environments/main/runs", `{"flow":"` + latchkey.NewID("flow", time.Now()) + `","connection":"` + latchkey.NewID("conn", time.Now()) + `","inputs":{"a":"1","A":"2"}}`, "", 422, "invalid", "inputs"},
		{"an input twice", "POST", "/api/v1/environments/main/runs", `{"flow":"f","connection":"c","inputs":{"a":"1","a":"2"}}`, "", 400, "malformed", "body"},
		{"a field twice", "POST", variables, `{"type":"text","Type":"secret","displayName":"x"}`, "", 400, "malformed", "body"},
		{"no body", "POST", variables, "", "", 400, "malformed", ""},
		{"a form", "POST", variables, `a=b`, "application/x-www-form-urlencoded", 415, "unsupported-media-type", ""},
		{"too large", "POST", variables, `{"value":"` + strings.Repeat("x", maxBody) + `"}`, "", 413, "too-large", ""},
		{"unknown field", "POST", variables, `{"displayName":"x","type":"text","vaule":"y"}`, "", 422, "unknown-field", "vaule"},
		{"unknown field within", "POST", variables, `{"displayName":"x","type":"secret","secret":{"subscriptionId":"","resourceGroup":"","vault":"","secret":"","version":"1"}}`, "", 422, "unknown-field", "secret.version"},
		{"unknown field like a text", "POST", variables, `{"displayName":"x","type":"text","my secret text":"y"}`, "", 422, "unknown-field", "body"},
		{"missing", "POST", variables, `{"type":"text"}`, "", 422, "invalid", "displayName"},
		{"missing within", "POST", variables, `{"displayName":"x","type":"secret","secret":{"subscriptionId":"","resourceGroup":"","vault":""}}`, "", 422, "invalid", "secret.secret"},
		{"wrong type", "POST", variables, `{"displayName":7,"type":"text"}`, "", 422, "invalid", "displayName"},
		{"not an object", "POST", variables, `[1]`, "", 422, "invalid", "body"},
		{"null", "POST", variables, `null`, "", 422, "invalid", "body"},
		{"a wrong word", "POST", variables, `{"displayName":"x","type":"string"}`, "", 422, "invalid", "type"},
		{"out of range", "POST", "/api/v1/environments/main/machines/enrolment-tokens", `{"uses":1e30}`, "", 422, "invalid", "uses"},
		{"far too large a number", "POST", "/api/v1/environments/main/machines/enrolment-tokens", `{"uses":1e999}`, "", 400, "malformed", "body"},
		{"a fraction", "POST", "/api/v1/environments/main/machines/enrolment-tokens", `{"uses":1.5}`, "", 422, "invalid", "uses"},
		{"limit", "GET", variables + "?limit=x", "", "", 422, "invalid", "limit"},
		{"limit too large", "GET", variables + "?limit=501", "", "", 422, "invalid", "limit"},
		{"unknown parameter", "GET", variables + "?order=name", "", "", 422, "invalid", "order"},
		{"a wrong word in a parameter", "GET", variables + "?type=string", "", "", 422, "invalid", "type"},
		{"time", "GET", "/api/v1/audit?since=yesterday", "", "", 422, "invalid", "since"},
		{"revision", "GET", "/api/v1/environments/main/flows/x/revisions/latest", "", "", 422, "invalid", "revision"},
		{"wait", "GET", "/api/v1/environments/main/runs/x/log?wait=long", "", "", 422, "invalid", "wait"},
		{"no role", "PUT", "/api/v1/environments/main/members/admin", `{"role":""}`, "", 422, "invalid", "role"},
		{"conflict", "POST", "/api/v1/environments", `{"name":"main"}`, "", 409, "name-taken", "name"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := f.send(t, tt.method, tt.path, tt.body, func(r *http.Request) {
				if tt.contentType != "" {
					r.Header.Set("Content-Type", tt.contentType)
				}
			}).problem(t)
			field := ""
			if len(p.Errors) > 0 {
				field = p.Errors[0].Field
			}
			if p.Status != tt.status || p.Code != tt.code || field != tt.field {
				t.Errorf("problem = %+v; want %d %s about %q", p, tt.status, tt.code, tt.field)
			}
			for _, e := range p.Errors {
				if e.Message == "" || e.Message == "is not valid" || strings.Contains(e.Message, "expected") {
					t.Errorf("%s: %q does not say what to do", e.Field, e.Message)
				}
			}
		})
	}
}

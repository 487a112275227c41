package server

import (
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// publicRoutes are all that somebody without a token gets an answer from.
var publicRoutes = []string{
	"GET /healthz", "GET /readyz", "GET /metrics", "GET /openapi.json", "GET /docs", "GET /static/{name}",
	"GET /sign-in", "POST /sign-in", "POST /sign-in/link", "POST /sign-out", "POST /preferences",
	"GET /sign-in/oidc/{provider}/start", "GET /sign-in/oidc/{provider}", "POST /sign-in/passkey/options", "POST /sign-in/passkey", "GET /setup", "POST /setup",
	"POST /api/v1/sign-in", "POST /api/v1/sign-in/service-principal", "POST /api/v1/agent/enrol", "POST /api/v1/agent/sessions",
}

var wildcard = regexp.MustCompile(`\{[^}]*\}`)

func TestEveryRouteRefusesAnonymous(t *testing.T) {
	f := newFixture(t, nil)
	if len(f.routes) < 70 {
		t.Fatalf("the table has %d routes; want all of them", len(f.routes))
	}
	for _, r := range f.routes {
		if got, want := r.access == public, slices.Contains(publicRoutes, r.pattern); got != want {
			t.Errorf("%s is public: %v; want %v", r.pattern, got, want)
		}
		if r.access == public {
			continue
		}
		method, path, _ := strings.Cut(r.pattern, " ")
		path = wildcard.ReplaceAllString(strings.Replace(path, "{$}", "", 1), "x")
		// A body that nobody may learn anything about.
		req := httptest.NewRequestWithContext(t.Context(), method, path, strings.NewReader(`{"wrong":`))
		req.Header.Set("Content-Type", "application/json")
		a := f.serve(t, req)
		if !strings.HasPrefix(path, "/api/") {
			if a.StatusCode != http.StatusSeeOther || !strings.HasPrefix(a.Header.Get("Location"), "/sign-in") {
				t.Errorf("%s = %d to %q; want a redirect to /sign-in", r.pattern, a.StatusCode, a.Header.Get("Location"))
			}
			continue
		}
		if a.StatusCode != http.StatusUnauthorized {
			t.Errorf("%s = %d %s; want 401", r.pattern, a.StatusCode, a.body)
			continue
		}
		a.problem(t)
	}
}

func TestEveryOperationIsDocumented(t *testing.T) {
	f := newFixture(t, nil)
	o := f.api.OpenAPI()
	seen := map[string]string{}
	documented := 0
	for _, r := range f.routes {
		if !strings.Contains(r.pattern, " "+apiPrefix+"/") {
			continue
		}
		h := operationOf(o, r.pattern)
		if h == nil {
			t.Errorf("%s is not in the document", r.pattern)
			continue
		}
		documented++
		if h.Summary == "" || len(h.Tags) != 1 || len(h.Responses) < 3 || (len(h.Security) == 0) != (r.access == public) {
			t.Errorf("%s lacks summary, tag, responses or its security: %+v", r.pattern, h)
		}
		if other := seen[h.OperationID]; other != "" {
			t.Errorf("%s and %s are both %s", r.pattern, other, h.OperationID)
		}
		seen[h.OperationID] = r.pattern
		if !slices.ContainsFunc(o.Tags, func(tag *humaTag) bool { return tag.Name == h.Tags[0] }) {
			t.Errorf("%s has the tag %q, which nothing describes", r.pattern, h.Tags[0])
		}
	}
	for id := range examples {
		if seen[id] == "" {
			t.Errorf("there is an example for %s, which is no operation", id)
		}
	}
	count := 0
	for _, item := range o.Paths {
		for _, h := range []any{item.Get, item.Post, item.Put, item.Patch, item.Delete} {
			if !isNil(h) {
				count++
			}
		}
	}
	if count != documented {
		t.Errorf("the document has %d operations, the table %d", count, documented)
	}
}

func TestNotFoundAndMethods(t *testing.T) {
	f := newFixture(t, nil)
	for _, tt := range []struct {
		method, path string
		status       int
		code         string
	}{
		{"GET", "/api/v1/nothing", http.StatusNotFound, "no-such-address"},
		{"GET", "/nothing", http.StatusNotFound, "no-such-address"},
		{"DELETE", "/api/v1/environments", http.StatusMethodNotAllowed, "method-not-allowed"},
		{"BREW", "/api/v1/me", http.StatusMethodNotAllowed, "method-not-allowed"},
		{"GET", "/api/v1/environments/nothing", http.StatusNotFound, "not-found"},
	} {
		a := f.send(t, tt.method, tt.path, "", nil)
		if p := a.problem(t); p.Status != tt.status || p.Code != tt.code {
			t.Errorf("%s %s = %+v; want %d %s", tt.method, tt.path, p, tt.status, tt.code)
		}
		if tt.status == http.StatusMethodNotAllowed && a.Header.Get("Allow") == "" {
			t.Errorf("%s %s does not say what is allowed", tt.method, tt.path)
		}
	}
}

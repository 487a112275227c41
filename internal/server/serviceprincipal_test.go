package server

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"latchkey.dev/latchkey"
)

func TestServicePrincipals(t *testing.T) {
	f := newFixture(t, nil)
	read := func(a answer, v any) {
		t.Helper()
		if err := json.Unmarshal(a.body, v); err != nil {
			t.Fatalf("%s: %v", a.body, err)
		}
	}
	var p latchkey.ServicePrincipal
	a := f.must(t, http.StatusCreated, "POST", "/api/v1/service-principals", `{"displayName":"Deploy"}`)
	read(a, &p)
	if at := a.Header.Get("Location"); at != "/api/v1/service-principals/"+string(p.ID) || !strings.Contains(string(a.body), `"credentials":[]`) {
		t.Errorf("made %s at %q", a.body, at)
	}
	var n latchkey.NewServicePrincipalCredential
	read(f.must(t, http.StatusCreated, "POST", "/api/v1/service-principals/"+p.ClientID+"/credentials", `{"kind":"secret","name":"CI"}`), &n)
	if !strings.HasPrefix(n.Secret, "lkc_") {
		t.Fatalf("the answer has no secret")
	}
	for _, path := range []string{"/api/v1/service-principals", "/api/v1/service-principals/" + string(p.ID), "/api/v1/audit"} {
		if body := f.must(t, http.StatusOK, "GET", path, "").body; strings.Contains(string(body), n.Secret) || !strings.Contains(string(body), string(n.ID)) {
			t.Errorf("%s = %s; want the credential without its secret", path, body)
		}
	}
	signIn := "/api/v1/sign-in/service-principal"
	body := func(secret string) string { return `{"clientId":"` + p.ClientID + `","secret":"` + secret + `"}` }
	var token latchkey.NewToken
	read(f.send(t, "POST", signIn, body(n.Secret), anonymous), &token)
	if token.Value == "" || token.Principal != p.ID {
		t.Fatalf("signed in for %+v", token.Token)
	}
	as := func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+token.Value) }
	for _, tt := range []struct {
		what, method, path, body string
		as                       func(*http.Request)
		status                   int
		code                     string
	}{
		{"a wrong secret", "POST", signIn, body("lkc_wrong"), anonymous, http.StatusUnauthorized, latchkey.CodeSecretWrong},
		{"an unknown client", "POST", signIn, `{"clientId":"00000000-0000-0000-0000-000000000000","secret":"x"}`, anonymous, http.StatusUnauthorized, latchkey.CodeClientUnknown},
		{"no proof", "POST", signIn, `{"clientId":"` + p.ClientID + `"}`, anonymous, http.StatusUnprocessableEntity, "invalid"},
		{"a bad assertion", "POST", signIn, `{"clientId":"` + p.ClientID + `","assertion":"x"}`, anonymous, http.StatusUnauthorized, latchkey.CodeAssertionInvalid},
		{"its own account, which is none", "GET", "/api/v1/me", "", as, http.StatusNotFound, "not-found"},
		{"a token of its own", "POST", "/api/v1/tokens", `{"name":"x"}`, as, http.StatusForbidden, "service-principal-token"},
		{"itself changed", "PATCH", "/api/v1/service-principals/" + p.ClientID, `{"displayName":"x"}`, as, http.StatusForbidden, "not-authorized"},
		{"a wildcard", "POST", "/api/v1/service-principals/" + p.ClientID + "/credentials", `{"kind":"federated","issuer":"https://ci.example","subject":"*"}`, nil, http.StatusUnprocessableEntity, "invalid"},
		{"the service itself", "GET", "/api/v1/service-principals/sp_latchkey", "", nil, http.StatusNotFound, "not-found"},
		{"a credential that is none", "DELETE", "/api/v1/service-principals/" + p.ClientID + "/credentials/x", "", nil, http.StatusNotFound, "not-found"},
	} {
		a := f.send(t, tt.method, tt.path, tt.body, tt.as)
		if got := a.problem(t); got.Status != tt.status || got.Code != tt.code {
			t.Errorf("%s: %+v; want %d %s", tt.what, got, tt.status, tt.code)
		}
	}
	if a := f.send(t, "GET", "/api/v1/service-principals", "", as); a.StatusCode != http.StatusOK || !strings.Contains(string(a.body), p.ClientID) {
		t.Errorf("it sees itself as %d %s", a.StatusCode, a.body)
	}
	f.must(t, http.StatusNoContent, "DELETE", "/api/v1/service-principals/"+p.ClientID+"/credentials/"+string(n.ID), "")
	if a := f.send(t, "GET", "/api/v1/service-principals", "", as); a.problem(t).Code != "token-invalid" {
		t.Errorf("its token after the credential was removed: %s", a.body)
	}
	f.must(t, http.StatusNoContent, "DELETE", "/api/v1/service-principals/"+p.ClientID, "")
	f.send(t, "GET", "/api/v1/service-principals/"+p.ClientID, "", nil).problem(t)
	if strings.Contains(f.log.String(), n.Secret) || strings.Contains(f.log.String(), token.Value) {
		t.Error("the log has a secret")
	}
}

// TestUnknownClientsWait tests that client ids which nothing has are answered 429
// with the time to wait.
func TestUnknownClientsWait(t *testing.T) {
	f := newFixture(t, nil)
	for i := range 20 {
		a := f.send(t, "POST", "/api/v1/sign-in/service-principal", fmt.Sprintf(`{"clientId":"00000000-0000-0000-0000-%012d","secret":"x"}`, i), anonymous)
		if a.StatusCode != http.StatusTooManyRequests {
			if a.StatusCode != http.StatusUnauthorized || a.Header.Get("Retry-After") != "" {
				t.Fatalf("%d %s; want 401", a.StatusCode, a.body)
			}
			continue
		}
		if after, err := strconv.Atoi(a.Header.Get("Retry-After")); err != nil || after < 1 || a.problem(t).Code != latchkey.CodeSignInThrottled {
			t.Errorf("Retry-After %q, %s", a.Header.Get("Retry-After"), a.body)
		}
		return
	}
	t.Error("after 20 unknown client ids nobody has to wait")
}

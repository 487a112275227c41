package login

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"latchkey.dev/latchkey"
)

// FuzzRequest reads requests for tokens. What is accepted is whole, and no fault
// repeats a body.
func FuzzRequest(f *testing.F) {
	f.Add("grant_type=client_credentials&client_id=a&client_secret=b&scope=https%3A%2F%2Fvault.azure.net%2F.default", "")
	f.Add("grant_type=client_credentials&client_id=a&scope=x&client_assertion=a.b.c&client_assertion_type="+latchkey.ClientAssertionType, "")
	f.Add("grant_type=client_credentials&scope=x", "Basic YTpi")
	f.Add("grant_type=client_credentials&scope=x", "Basic JXp6OiU=")
	f.Add("client_id=a&client_id=b", "Bearer x")
	f.Add("a;b=%ff&&=&%zz", "Basic")
	f.Fuzz(func(t *testing.T, body, header string) {
		r := httptest.NewRequest(http.MethodPost, "https://login.vault.localhost/t/oauth2/v2.0/token", strings.NewReader(body))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		if header != "" {
			r.Header.Set("Authorization", header)
		}
		c := &call{server: &server{Config{Domain: "vault.localhost:8443", Tenant: "t"}}, w: httptest.NewRecorder(), r: r}
		req, err := c.read()
		if err != nil {
			f, ok := err.(*fault)
			if !ok || f.status < 400 || f.status > 499 || f.code == "" || f.number == 0 {
				t.Errorf("fault: %#v", err)
			}
			if len(body) > 40 && strings.Contains(f.msg, body) {
				t.Errorf("the fault repeats the body: %s", f.msg)
			}
			return
		}
		if req.grant != grantType || req.clientID == "" || req.scope == "" || req.secret.IsZero() && req.assertion == "" {
			t.Errorf("accepted: %+v", req)
		}
		if err := c.checkScope(req.scope); err == nil && !strings.Contains(req.scope, "/.default") {
			t.Errorf("scope accepted: %q", req.scope)
		}
	})
}

// FuzzInstance asks whether addresses are of the authority.
func FuzzInstance(f *testing.F) {
	f.Add("https://login.vault.localhost:8443/t/oauth2/v2.0/authorize")
	f.Add("https://login.vault.localhost/t")
	f.Add("https://login.vault.localhost@evil.example/t")
	f.Add("https://evil.example\\@login.vault.localhost/")
	f.Fuzz(func(t *testing.T, endpoint string) {
		if _, ok := Instance(endpoint, "vault.localhost:8443"); ok && !strings.HasPrefix(strings.ToLower(endpoint), "https://login.vault.localhost") {
			t.Errorf("%q is taken for the authority", endpoint)
		}
	})
}

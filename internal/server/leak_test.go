package server

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"latchkey.dev/latchkey"
)

// TestNothingSubmittedComesBack sends a value in every place where a request
// can have one, wrong in many ways, and looks for it in answers and log.
func TestNothingSubmittedComesBack(t *testing.T) {
	f := newFixture(t, nil)
	f.must(t, http.StatusCreated, "POST", "/api/v1/environments", `{"name":"main"}`)
	const canary = "Canary$7f3a-Value"
	bodies := []string{
		`{"displayName":"x","type":"text","value":"` + canary,                    // cut off
		`{"displayName":"x","type":"text","value":"` + canary + `"} x`,           // more after it
		`{"displayName":"x","type":"text","value":["` + canary + `"]}`,           // wrong type
		`{"displayName":"x","type":"` + canary + `"}`,                            // wrong word
		`{"displayName":"x","type":"text","value":"v","extra":"` + canary + `"}`, // unknown field
		`{"displayName":"x","type":"text","value":"v","` + canary + ` !":"v"}`,   // as the name of a field
		`{"displayName":"x","type":"number","value":"` + canary + `"}`,           // does not fit
		`{"displayName":"x","type":"json","value":"{` + canary + `"}`,            // does not parse
		`{"displayName":"x","type":"secret","value":"` + canary + `"}`,           // a secret where a reference belongs
		`{"displayName":"x","type":"secret","secret":"` + canary + `"}`,          // likewise
		`{"displayName":"x","type":"secret","secret":{"subscriptionId":"` + canary + `","resourceGroup":"` + canary + `/","vault":"` + canary + `","secret":"` + canary + `"}}`,
		`{"displayName":"` + canary + `\u0000","type":"text"}`,
		`"` + canary + `"`, canary, `["` + canary + `"]`, `{"` + canary + `"`,
		`{"displayName":"x","type":"text","value":"\u00` + canary + `"}`,
		`{"login":"` + canary + `","password":"` + canary + `"}`,
		`{"login":"admin","password":{"a":"` + canary + `"}}`,
		`{"name":"n","expiresIn":"` + canary + `"}`,
		`{"claim":"` + canary + `"`, `{"claim":["` + canary + `"]}`, `{"` + canary + `":1}`,
		`{"name":"n","command":["/bin/true","` + canary + `"],"timeout":"` + canary + `"}`,
		`{"flow":"` + canary + `","connection":"` + canary + `","inputs":{"A":7,"` + canary + ` ":"x"}}`,
		`{"role":"` + canary + `"}`,
	}
	var addresses [][2]string
	for _, r := range f.routes {
		method, path, _ := strings.Cut(r.pattern, " ")
		if method != "GET" && method != "DELETE" {
			addresses = append(addresses, [2]string{method, wildcard.ReplaceAllString(strings.ReplaceAll(path, "{env}", "main"), "x")})
		}
	}
	look := func(what, where string) {
		t.Helper()
		if strings.Contains(where, canary) {
			t.Errorf("%s: it is in %s", what, where)
		}
	}
	for _, body := range bodies {
		for _, at := range addresses {
			for _, contentType := range []string{"application/json", canary, "application/x-www-form-urlencoded"} {
				a := f.send(t, at[0], at[1], body, func(r *http.Request) { r.Header.Set("Content-Type", contentType) })
				look(at[0]+" "+at[1]+" "+body, string(a.body))
			}
		}
	}
	for _, query := range []string{"limit=", "type=", "wait=", "since=", "state=", "order="} {
		a := f.send(t, "GET", "/api/v1/environments/main/runs/x/log?"+query+canary, "", nil)
		look(query, string(a.body))
		a = f.send(t, "GET", "/api/v1/audit?"+query+canary, "", nil)
		look(query, string(a.body))
	}
	for _, set := range []func(*http.Request){
		func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+canary) },
		func(r *http.Request) { r.Header.Set("Authorization", canary) },
		func(r *http.Request) { r.Header.Set("X-Request-Id", canary) },
		func(r *http.Request) { r.Header.Set("Accept", canary) },
		func(r *http.Request) {
			anonymous(r)
			r.AddCookie(&http.Cookie{Name: f.cookieName(), Value: canary})
		},
		func(r *http.Request) { r.Header.Set(latchkey.HeaderSession, canary) },
	} {
		look("header", string(f.send(t, "GET", "/api/v1/me", "", set).body))
		look("header", string(f.send(t, "POST", "/api/v1/agent/claim", "{}", set).body))
	}
	for _, form := range []string{"login=admin&password=" + canary, "code=" + canary, "code=%zz" + canary, canary + "=" + canary} {
		for _, path := range []string{"/sign-in", "/sign-in/link"} {
			r := httptest.NewRequestWithContext(t.Context(), "POST", path, strings.NewReader(form))
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			look(path, string(f.serve(t, r).body))
		}
	}
	look("address", string(f.send(t, "GET", "/api/v1/"+canary+"?"+canary, "", nil).body))
	look("requests", f.log.String())
}

package server

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
)

// form posts a form as a browser does on our own page.
func (f *fixture) form(t *testing.T, path string, values url.Values, cookies ...*http.Cookie) answer {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), "POST", path, strings.NewReader(values.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	for _, c := range cookies {
		r.AddCookie(c)
	}
	return f.serve(t, r)
}

func (f *fixture) page(t *testing.T, path string, cookies ...*http.Cookie) answer {
	t.Helper()
	return f.send(t, "GET", path, "", func(r *http.Request) {
		anonymous(r)
		for _, c := range cookies {
			r.AddCookie(c)
		}
	})
}

// link returns the secret part of a new sign-in link of the admin.
func (f *fixture) link(t *testing.T) string {
	t.Helper()
	var link signInLink
	read(t, f.must(t, http.StatusOK, "POST", "/api/v1/sign-in/link", ""), &link)
	if want := "http://127.0.0.1:8080/sign-in#" + link.Link; link.URL != want {
		t.Errorf("url = %q; want the page and the link", link.URL)
	}
	return link.Link
}

func TestSignInByLinkAndOut(t *testing.T) {
	for _, secure := range []bool{false, true} {
		f := newFixture(t, func(c *Config) { c.Secure = secure })
		link := f.link(t)
		a := f.form(t, "/sign-in/link", url.Values{"code": {"http://127.0.0.1:8080/sign-in#" + link + " "}})
		if a.StatusCode != http.StatusSeeOther || len(a.Cookies()) != 1 {
			t.Fatalf("sign-in = %d %s; want a redirect with a cookie", a.StatusCode, a.body)
		}
		c := a.Cookies()[0]
		if !c.HttpOnly || c.SameSite != http.SameSiteLaxMode || c.Secure != secure || c.Path != "/" || c.MaxAge < 11*3600 ||
			strings.HasPrefix(c.Name, "__Host-") != secure {
			t.Errorf("cookie = %v; want one that scripts and other sites do not get", c)
		}
		if got := f.page(t, "/", c); got.StatusCode != http.StatusOK || !strings.Contains(string(got.body), "/environments/new") {
			t.Errorf("home = %d %s; want how to begin", got.StatusCode, got.body)
		}
		if got := f.send(t, "GET", "/api/v1/me", "", func(r *http.Request) { anonymous(r); r.AddCookie(c) }); got.StatusCode != http.StatusOK {
			t.Errorf("/api/v1/me with the session = %d; want 200", got.StatusCode)
		}
		again := f.form(t, "/sign-in/link", url.Values{"code": {link}})
		if again.StatusCode != http.StatusUnauthorized || len(again.Cookies()) != 0 || !strings.Contains(string(again.body), `role="alert"`) {
			t.Errorf("the link a second time = %d; want 401 and why", again.StatusCode)
		}
		out := f.form(t, "/sign-out", nil, c)
		if out.StatusCode != http.StatusSeeOther || len(out.Cookies()) != 1 || out.Cookies()[0].MaxAge >= 0 {
			t.Errorf("sign-out = %d %v; want a redirect that takes the cookie away", out.StatusCode, out.Cookies())
		}
		if got := f.page(t, "/", c); got.StatusCode != http.StatusSeeOther {
			t.Errorf("home with an ended session = %d; want a redirect", got.StatusCode)
		}
	}
}

func TestSignInByPassword(t *testing.T) {
	f := newFixture(t, nil)
	f.must(t, http.StatusCreated, "POST", "/api/v1/users", `{"login":"maya","password":"correct horse battery"}`)
	a := f.form(t, "/sign-in", url.Values{"login": {"maya"}, "password": {"wrong horse battery"}})
	if a.StatusCode != http.StatusUnauthorized || !strings.Contains(string(a.body), `value="maya"`) || strings.Contains(string(a.body), "horse") {
		t.Errorf("wrong password = %d %s; want 401, the login kept, the password not", a.StatusCode, a.body)
	}
	a = f.form(t, "/sign-in", url.Values{"login": {" maya "}, "password": {"correct horse battery"}})
	if a.StatusCode != http.StatusSeeOther || a.Header.Get("Location") != "/" || len(a.Cookies()) != 1 {
		t.Fatalf("sign-in = %d %s; want a redirect home", a.StatusCode, a.body)
	}
	home := f.page(t, "/", a.Cookies()...)
	if home.StatusCode != http.StatusOK || !strings.Contains(string(home.body), "You have no role in any environment") {
		t.Errorf("home = %d %s; want what to do without a role", home.StatusCode, home.body)
	}
}

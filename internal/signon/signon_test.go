package signon_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"latchkey.dev/internal/latchkeytest/idp"
	"latchkey.dev/internal/latchkeytest/openid"
	"latchkey.dev/internal/signon"
	"latchkey.dev/latchkey"
)

const here = "http://localhost:1"

// settings writes a file of one provider, with what vouches for it and a secret.
func settings(t *testing.T, issuer string, ca []byte, more string) signon.Settings {
	t.Helper()
	dir := t.TempDir()
	files := map[string]string{
		"ca.pem": string(ca), "secret": openid.ClientSecret + "\n",
		"oidc.toml": "[[provider]]\nid = \"idp\"\nname = \"The company\"\nissuer = \"" + issuer + "\"\nclient-id = \"" + openid.ClientID + "\"\nclient-secret-file = \"secret\"\nca-file = \"ca.pem\"\ngroups-claim = \"groups\"\n" + more,
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s, err := signon.LoadSettings(filepath.Join(dir, "oidc.toml"))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func providers(t *testing.T, s signon.Settings) *signon.Providers {
	return signon.New(signon.Config{Settings: s, PublicURL: func() string { return here }})
}

// login does what somebody does in a browser, and returns what the provider sends
// the browser back with.
func login(t *testing.T, p *openid.Provider, address, username string) url.Values {
	t.Helper()
	c := *p.Client()
	c.Jar, _ = cookiejar.New(nil)
	c.CheckRedirect = func(r *http.Request, _ []*http.Request) error {
		if strings.HasPrefix(r.URL.String(), here) {
			return http.ErrUseLastResponse
		}
		return nil
	}
	resp, err := c.Get(address)
	if err != nil {
		t.Fatal(err)
	}
	page, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	_, rest, ok := strings.Cut(string(page), `name="id" value="`)
	id, _, _ := strings.Cut(rest, `"`)
	if !ok {
		t.Fatalf("the provider shows no sign-in page: %d %s", resp.StatusCode, page)
	}
	resp, err = c.PostForm(p.URL+"/login/username", url.Values{"id": {id}, "username": {username}, "password": {openid.Password}})
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	at, err := resp.Location()
	if err != nil || !strings.HasPrefix(at.String(), here+signon.Path("idp")+"?") {
		t.Fatalf("the provider leads to %v, %v; want our callback", at, err)
	}
	return at.Query()
}

func codeOf(err error) string {
	if e, ok := errors.AsType[*latchkey.Error](err); ok {
		return e.Code
	}
	return ""
}

func TestProvider(t *testing.T) {
	p := openid.New(t, here+signon.Path("idp"))
	all := providers(t, settings(t, p.URL, p.CA, ""))
	p.SetGroups(openid.Subject, "/makers", "/ops")
	address, begun, err := all.Begin(t.Context(), "idp")
	if err != nil {
		t.Fatal(err)
	}
	answer := login(t, p, address, openid.Username)

	// What somebody else has asked for, and a code without its verifier, are nothing.
	_, other, err := all.Begin(t.Context(), "idp")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := all.Finish(t.Context(), "idp", other, answer); codeOf(err) != "state-invalid" {
		t.Errorf("the answer to another sign-in: %v; want state-invalid", err)
	}
	stolen := begun
	stolen.Verifier = other.Verifier
	if _, err := all.Finish(t.Context(), "idp", stolen, answer); codeOf(err) != "code-refused" {
		t.Errorf("a stolen code: %v; want code-refused", err)
	}

	address, begun, err = all.Begin(t.Context(), "idp")
	if err != nil {
		t.Fatal(err)
	}
	answer = login(t, p, address, openid.Username)
	mixed := url.Values{"state": answer["state"], "code": answer["code"], "iss": {"https://evil.example"}}
	if _, err := all.Finish(t.Context(), "idp", begun, mixed); codeOf(err) != "issuer-mismatch" {
		t.Errorf("another provider's answer: %v; want issuer-mismatch", err)
	}
	who, err := all.Finish(t.Context(), "idp", begun, answer)
	if err != nil {
		t.Fatal(err)
	}
	want := latchkey.ExternalIdentity{Issuer: p.URL, ObjectID: openid.Subject}
	if who.External != want || who.Name != "Maya Maker" || who.Login != "Maya@Example.org" || !slices.Equal(who.Groups, []string{"/makers", "/ops"}) || who.Provider.ID != "idp" {
		t.Errorf("person = %+v; want %+v with name and groups", who, want)
	}
	if _, err := all.Finish(t.Context(), "idp", begun, answer); codeOf(err) != "code-refused" {
		t.Errorf("a code a second time: %v; want code-refused", err)
	}
	if _, err := all.Finish(t.Context(), "idp", begun, url.Values{"state": {begun.State}, "error": {"access_denied"}, "error_description": {"no"}}); codeOf(err) != "provider-refused" || !strings.Contains(err.Error(), p.URL) {
		t.Errorf("a refusal of the provider: %v; want it with the issuer", err)
	}
	if _, _, err := all.Begin(t.Context(), "other"); !errors.Is(err, latchkey.ErrNotFound) {
		t.Errorf("another provider: %v; want not found", err)
	}
}

// TestTokens has a provider give tokens of every kind that must not count.
func TestTokens(t *testing.T) {
	i, stranger := idp.Start(), idp.Start()
	t.Cleanup(i.Close)
	t.Cleanup(stranger.Close)
	now := time.Now()
	for _, c := range []struct {
		name, more string
		change     idp.Claims
		by         *idp.Issuer
		want       string // "" for a person
		who        latchkey.ExternalIdentity
	}{
		{name: "right", who: latchkey.ExternalIdentity{Issuer: i.URL, ObjectID: "sub-1"}},
		{name: "another nonce", change: idp.Claims{"nonce": "other"}, want: "nonce-invalid"},
		{name: "no nonce", change: idp.Claims{"nonce": nil}, want: "nonce-invalid"},
		{name: "another audience", change: idp.Claims{"aud": "other"}, want: "token-invalid"},
		{name: "two audiences without azp", change: idp.Claims{"aud": []string{openid.ClientID, "other"}}, want: "token-audience"},
		{name: "two audiences", change: idp.Claims{"aud": []string{openid.ClientID, "other"}, "azp": openid.ClientID}, who: latchkey.ExternalIdentity{Issuer: i.URL, ObjectID: "sub-1"}},
		{name: "for another client", change: idp.Claims{"azp": "other"}, want: "token-audience"},
		{name: "expired", change: idp.Claims{"exp": now.Add(-time.Hour).Unix()}, want: "token-expired"},
		{name: "from the future", change: idp.Claims{"iat": now.Add(time.Hour).Unix()}, want: "token-early"},
		{name: "another issuer", change: idp.Claims{"iss": stranger.URL}, want: "token-invalid"},
		{name: "another's key", by: stranger, change: idp.Claims{"iss": i.URL}, want: "token-invalid"},
		{name: "nobody", change: idp.Claims{"sub": ""}, want: "token-invalid"},
		{name: "groups that are no texts", change: idp.Claims{"groups": []int{1}}, want: "groups-invalid"},
		{name: "too many groups", change: idp.Claims{"groups": nil, "_claim_names": map[string]string{"groups": "src1"}, "_claim_sources": map[string]any{"src1": map[string]string{"endpoint": "https://graph.example"}}}, want: "groups-overage"},
		{name: "too many groups, in short", change: idp.Claims{"hasgroups": true}, want: "groups-overage"},
		{name: "no group that may", more: `groups = ["admins"]`, change: idp.Claims{"groups": []string{"others"}}, want: "group-refused"},
		{name: "Entra", more: "entra = true\ntenants = [\"11111111-1111-1111-1111-111111111111\"]", change: idp.Claims{"tid": "11111111-1111-1111-1111-111111111111", "oid": "22222222-2222-2222-2222-222222222222"},
			who: latchkey.ExternalIdentity{Issuer: i.URL, Tenant: "11111111-1111-1111-1111-111111111111", ObjectID: "22222222-2222-2222-2222-222222222222"}},
		{name: "Entra without oid", more: "entra = true", change: idp.Claims{"tid": "11111111-1111-1111-1111-111111111111"}, want: "token-invalid"},
		{name: "another tenant", more: "entra = true\ntenants = [\"11111111-1111-1111-1111-111111111111\"]", change: idp.Claims{"tid": "33333333-1111-1111-1111-111111111111", "oid": "x"}, want: "tenant-refused"},
		{name: "a domain that may", more: `domains = ["Example.org"]`, change: idp.Claims{"email": "a@example.ORG", "email_verified": true}, who: latchkey.ExternalIdentity{Issuer: i.URL, ObjectID: "sub-1"}},
		{name: "an address that is not verified", more: `domains = ["example.org"]`, change: idp.Claims{"email": "a@example.org"}, want: "domain-refused"},
		{name: "another domain", more: `domains = ["example.org"]`, change: idp.Claims{"email": "a@evil.example", "email_verified": true}, want: "domain-refused"},
	} {
		t.Run(c.name, func(t *testing.T) {
			all := providers(t, settings(t, i.URL, i.CA(), c.more))
			_, begun, err := all.Begin(t.Context(), "idp")
			if err != nil {
				t.Fatal(err)
			}
			claims := idp.Claims{"sub": "sub-1", "aud": openid.ClientID, "nonce": begun.Nonce, "iat": now.Unix(), "exp": now.Add(time.Hour).Unix()}
			for name, v := range c.change {
				if claims[name] = v; v == nil {
					delete(claims, name)
				}
			}
			by := c.by
			if by == nil {
				by = i
			}
			i.Give(by.Sign(claims))
			who, err := all.Finish(t.Context(), "idp", begun, url.Values{"state": {begun.State}, "code": {"code"}})
			if codeOf(err) != c.want || who.External != c.who {
				t.Errorf("Finish = %+v, %v; want %+v and the code %q", who.External, err, c.who, c.want)
			}
			if err != nil && (!strings.Contains(err.Error(), i.URL) || !strings.Contains(err.Error(), "The company")) {
				t.Errorf("error = %v; want the provider in it", err)
			}
		})
	}
}

// TestProviderFails has a provider answer what it must not.
func TestProviderFails(t *testing.T) {
	i := idp.Start()
	t.Cleanup(i.Close)
	for name, h := range map[string]http.HandlerFunc{
		"an error": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) },
		"no JSON":  func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>") },
		"another issuer": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, `{"issuer":"https://evil.example"}`)
		},
		"a redirect": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "https://localhost:1/", http.StatusFound)
		},
		"without end": func(w http.ResponseWriter, _ *http.Request) {
			for range 2 << 10 {
				_, _ = w.Write(make([]byte, 1<<10))
			}
		},
		"keys by no TLS": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, `{"issuer":"`+i.URL+`","authorization_endpoint":"http://localhost:1/","token_endpoint":"http://localhost:1/","jwks_uri":"http://localhost:1/"}`)
		},
	} {
		t.Run(name, func(t *testing.T) {
			i.Answer(h)
			defer i.Answer(nil)
			all := providers(t, settings(t, i.URL, i.CA(), ""))
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			if _, _, err := all.Begin(ctx, "idp"); !errors.Is(err, latchkey.ErrUnavailable) || !strings.Contains(err.Error(), i.URL) {
				t.Errorf("Begin = %v; want that the provider is unavailable", err)
			}
		})
	}
}

func TestParseSettings(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"nothing":      {"", "1 to 20"},
		"a typo":       {"[[provider]]\nisuer = 1", "not known"},
		"no https":     {"[[provider]]\nid=\"a\"\nissuer=\"http://x.example\"\nclient-id=\"c\"", "issuer"},
		"all tenants":  {"[[provider]]\nid=\"a\"\nissuer=\"https://login.microsoftonline.com/common/v2.0\"\nclient-id=\"c\"", "one tenant by its id"},
		"groups alone": {"[[provider]]\nid=\"a\"\nissuer=\"https://x.example\"\nclient-id=\"c\"\ngroups=[\"g\"]", "groups-claim"},
		"a false role": {"[[provider]]\nid=\"a\"\nissuer=\"https://x.example\"\nclient-id=\"c\"\ncreate-accounts=true\nenvironments={prod=\"root\"}", "must be one of"},
		"twice":        {"[[provider]]\nid=\"a\"\nissuer=\"https://x.example\"\nclient-id=\"c\"\n[[provider]]\nid=\"a\"\nissuer=\"https://y.example\"\nclient-id=\"c\"", "is taken"},
	} {
		if _, err := signon.ParseSettings([]byte(c.text)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v; want %q", name, err, c.want)
		}
	}
}

func FuzzParseSettings(f *testing.F) {
	f.Add([]byte("[[provider]]\nid=\"a\"\nissuer=\"https://x.example\"\nclient-id=\"c\""))
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := signon.ParseSettings(text)
		if err != nil {
			return
		}
		for _, p := range s.Providers {
			if p.ID == "" || p.ClientID == "" || !slices.Contains(p.Scopes, "openid") {
				t.Errorf("provider %+v is not whole", p)
			}
		}
	})
}

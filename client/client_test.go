package client

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"latchkey.dev/latchkey"
)

// serve returns a client of a server that h is.
func serve(t *testing.T, h http.HandlerFunc) *Client {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	c, err := New(Config{Server: s.URL + "/", Token: latchkey.NewSecret("lk_token")})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestRequest(t *testing.T) {
	var got *http.Request
	var body string
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		got, body = r, string(b)
		io.WriteString(w, `{"name":"dev"}`)
	})
	e, err := c.UpdateEnvironment(t.Context(), "de v/x", latchkey.EnvironmentUpdate{})
	if err != nil || e.Name != "dev" {
		t.Fatalf("UpdateEnvironment = %v, %v; want dev", e, err)
	}
	if got, want := got.Method+" "+got.URL.EscapedPath()+" "+body, `PATCH /api/v1/environments/de%20v%2Fx {}`; got != want {
		t.Errorf("request = %q; want %q", got, want)
	}
	for header, want := range map[string]string{"Authorization": "Bearer lk_token", "User-Agent": DefaultUserAgent, "Content-Type": "application/json"} {
		if got := got.Header.Get(header); got != want {
			t.Errorf("%s = %q; want %q", header, got, want)
		}
	}
}

func TestBadSegment(t *testing.T) {
	c := serve(t, func(http.ResponseWriter, *http.Request) { t.Error("a request was sent") })
	for _, ref := range []string{"", ".", ".."} {
		if err := c.DeleteVault(t.Context(), ref); !errors.Is(err, latchkey.ErrInvalid) {
			t.Errorf("DeleteVault(%q) = %v; want ErrInvalid", ref, err)
		}
	}
}

func TestSignInSendsNoToken(t *testing.T) {
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if h := r.Header.Get("Authorization"); h != "" {
			t.Error("the old token was sent")
		}
		io.WriteString(w, `{"id":"tok_1","token":"lk_new"}`)
	})
	if got, err := c.SignIn(t.Context(), "alice", latchkey.NewSecret("pw")); err != nil || got.Value != "lk_new" {
		t.Errorf("SignIn = %v, %v; want the token", got.ID, err)
	}
}

func TestPages(t *testing.T) {
	var asked []string
	pages := map[string]string{
		"":  `{"items":[{"login":"a"},{"login":"b"}],"next":"2"}`,
		"2": `{"items":[],"next":"3"}`,
		"3": `{"items":[{"login":"c"}]}`,
	}
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		after := r.URL.Query().Get("after")
		asked = append(asked, after)
		io.WriteString(w, pages[after])
	})
	var got []string
	for u, err := range c.Users(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, u.Login)
	}
	if diff := cmp.Diff([]string{"a", "b", "c"}, got); diff != "" {
		t.Errorf("users (-want +got):\n%s", diff)
	}
	asked = nil
	for range c.Users(t.Context()) {
		break
	}
	if diff := cmp.Diff([]string{""}, asked); diff != "" {
		t.Errorf("pages asked for after leaving early (-want +got):\n%s", diff)
	}
}

// TestEndlessPages is about a server whose next page is the same again.
func TestEndlessPages(t *testing.T) {
	n := 0
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		n++
		io.WriteString(w, `{"items":[{"login":"a"}],"next":"1"}`)
	})
	for _, err := range c.Users(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
	}
	if n != 2 {
		t.Errorf("%d pages were asked for; want 2", n)
	}
}

func TestAuditQuery(t *testing.T) {
	var got url.Values
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		got = r.URL.Query()
		io.WriteString(w, `{"items":[]}`)
	})
	for range c.Audit(t.Context(), AuditFilter{Environment: "dev", Action: latchkey.ActReleaseGranted, Since: time.Unix(0, 0), Oldest: true}) {
	}
	want := url.Values{"environment": {"dev"}, "action": {"release.granted"}, "since": {"1970-01-01T00:00:00Z"}, "order": {"oldest"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("query (-want +got):\n%s", diff)
	}
}

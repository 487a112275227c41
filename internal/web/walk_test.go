package web_test

import (
	"context"
	"html"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"latchkey.dev/internal/broker"
	"latchkey.dev/internal/latchkeytest"
	host "latchkey.dev/internal/site"
	"latchkey.dev/internal/web"
	"latchkey.dev/latchkey"
)

// A browser asks for pages as somebody.
type browser struct {
	t       *testing.T
	handler http.Handler
	cookies []*http.Cookie
}

// newBrowser signs somebody in.
func newBrowser(t *testing.T, s *latchkeytest.Service, h http.Handler, who latchkey.Caller) *browser {
	t.Helper()
	link, _, err := s.Broker.SignInLink(t.Context(), who)
	if err != nil {
		t.Fatal(err)
	}
	b := &browser{t: t, handler: h}
	w := b.send("POST", "/sign-in/link", url.Values{"code": {link}})
	if w.Code != http.StatusSeeOther {
		t.Fatalf("sign-in of %s = %d %s", who.Name, w.Code, w.Body)
	}
	b.cookies = w.Result().Cookies()
	return b
}

func (b *browser) send(method, path string, form url.Values) *httptest.ResponseRecorder {
	b.t.Helper()
	// A page that follows something must not keep a test.
	ctx, cancel := context.WithTimeout(b.t.Context(), 20*time.Second)
	defer cancel()
	r := httptest.NewRequestWithContext(ctx, method, path, strings.NewReader(form.Encode()))
	r.Header.Set("Accept", "text/html")
	if form != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Sec-Fetch-Site", "same-origin")
	}
	for _, c := range b.cookies {
		r.AddCookie(c)
	}
	w := httptest.NewRecorder()
	b.handler.ServeHTTP(w, r)
	return w
}

// people are those who look at pages: one for each role in the chain's
// environment, one who was given a credential, a stranger, and a tenant admin
// without a role.
func people(t *testing.T, c *latchkeytest.Chain) map[string]latchkey.Caller {
	t.Helper()
	all := map[string]latchkey.Caller{"owner": c.Admin, "stranger": c.User(t, "stranger", "", "")}
	for _, role := range latchkey.EnvironmentRoles {
		all[string(role)] = c.User(t, "some-"+string(role), c.Env, role)
	}
	all["sharee"] = c.User(t, "sharee", c.Env, latchkey.EnvUser)
	c.Share(t, latchkey.KindCredential, string(c.Credential.ID), "sharee", latchkey.RoleUserShare)
	c.Share(t, latchkey.KindMachine, string(c.Machine.ID), "sharee", latchkey.RoleUser)
	boss, err := c.Broker.CreateUser(t.Context(), c.Admin, latchkey.UserCreate{Login: "boss", TenantAdmin: true})
	if err != nil {
		t.Fatal(err)
	}
	all["tenant admin"] = latchkey.Caller{ID: boss.ID, Kind: latchkey.PrincipalUser, Name: boss.Login}
	return all
}

// linkRE finds where a page leads: links, and what scripts ask for.
var linkRE = regexp.MustCompile(`(?:href|hx-get|formaction)="([^"]*)"`)

// notWalked are addresses that are no pages, or never end.
var notWalked = regexp.MustCompile(`^/(static|docs|openapi\.json)|/live$|/export(\?|$)|^#|^/sign-in|\.json$`)

// TestPagesLeadOnlyWhereOneMay follows every link from the first page on, as
// everybody: none leads to a refusal or to nothing, and looking at pages leaves
// no refusal in the audit log.
func TestPagesLeadOnlyWhereOneMay(t *testing.T) {
	s := latchkeytest.New(t, latchkeytest.Options{})
	c := s.Chain(t)
	c.Start(t)
	h := s.Handler(t)
	for name, who := range people(t, c) {
		t.Run(name, func(t *testing.T) {
			b := newBrowser(t, s, h, who)
			const most = 300
			seen, queue := map[string]bool{"/": true}, []string{"/"}
			from := map[string]string{}
			for len(queue) > 0 && len(seen) < most {
				path := queue[0]
				queue = queue[1:]
				w := b.send("GET", path, nil)
				switch w.Code {
				case http.StatusOK:
				case http.StatusSeeOther, http.StatusFound:
					w.Body.WriteString(`href="` + w.Header().Get("Location") + `"`)
				default:
					t.Errorf("%s leads to %s = %d: %.400s", from[path], path, w.Code, text(w.Body.String()))
				}
				for _, m := range linkRE.FindAllStringSubmatch(w.Body.String(), -1) {
					next, _, _ := strings.Cut(html.UnescapeString(m[1]), "#")
					if next == "" || !strings.HasPrefix(next, "/") || notWalked.MatchString(next) || seen[next] || sorted(next) {
						continue
					}
					seen[next], from[next] = true, path
					queue = append(queue, next)
				}
			}
			if len(seen) < 4 && name != "stranger" {
				t.Errorf("there are only the pages %v", seen)
			}
		})
	}
	denied, err := s.Broker.Audit(t.Context(), s.Admin, broker.AuditFilter{Outcome: latchkey.OutcomeDenied}, latchkey.PageOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range denied.Items {
		t.Errorf("looking at pages is on record as refused: %s of %s by %s: %s", e.Action, e.SubjectName, e.ActorName, e.Reason)
	}
}

// sorted reports whether an address is a list in another order or place, which
// would be walked over and over.
func sorted(address string) bool {
	u, err := url.Parse(address)
	return err == nil && (u.Query().Has("sort") || u.Query().Has("after"))
}

// text returns what a page says, roughly.
func text(page string) string {
	_, main, _ := strings.Cut(page, "<main")
	return strings.Join(strings.Fields(regexp.MustCompile(`<[^>]*>`).ReplaceAllString(main, " ")), " ")
}

var wildcardRE = regexp.MustCompile(`\{[^}]*\}`)

// TestEveryPageAsEverybody asks for every address of the pages, by name, as
// everybody and with ids that there are none of: none breaks, and strangers learn
// nothing.
func TestEveryPageAsEverybody(t *testing.T) {
	s := latchkeytest.New(t, latchkeytest.Options{})
	c := s.Chain(t)
	run := c.Start(t)
	h := s.Handler(t)
	ids := map[string]string{
		"credentials": string(c.Credential.ID), "variables": c.Username.Name, "machines": string(c.Machine.ID), "connections": string(c.Connection.ID),
		"flows": string(c.Flow.ID), "runs": string(run.ID), "vaults": c.Vault.Name,
	}
	for name, who := range people(t, c) {
		b := newBrowser(t, s, h, who)
		for _, r := range routes(t) {
			method, pattern, _ := strings.Cut(r.Pattern, " ")
			if r.Public || method != "GET" || strings.HasSuffix(pattern, "/live") {
				continue
			}
			for _, known := range []bool{true, false} {
				path := strings.Replace(strings.Replace(pattern, "{$}", "", 1), "{env}", c.Env, 1)
				for plural, id := range ids {
					if known {
						path = regexp.MustCompile(`/`+plural+`/\{[^}]*\}`).ReplaceAllLiteralString(path, "/"+plural+"/"+id)
					}
				}
				path = wildcardRE.ReplaceAllString(path, "nothing")
				w := b.send("GET", path, nil)
				if w.Code >= 500 {
					t.Errorf("%s as %s = %d: %.300s", path, name, w.Code, text(w.Body.String()))
				}
				if who.Name == "stranger" && strings.HasPrefix(path, "/e/") && w.Code != http.StatusNotFound {
					t.Errorf("%s as a stranger = %d; want 404, as for what does not exist", path, w.Code)
				}
				if strings.Contains(w.Body.String(), latchkeytest.ChainPassword) {
					t.Errorf("%s as %s shows the secret", path, name)
				}
			}
		}
	}
}

// routes returns the addresses of the pages.
func routes(t *testing.T) []host.Route {
	t.Helper()
	s := latchkeytest.New(t, latchkeytest.Options{Idle: true})
	p, err := web.New(web.Config{Broker: s.Broker, Log: slog.New(slog.DiscardHandler), PublicURL: func() string { return "" }}, host.Host{})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(p.Routes, func(r host.Route) bool { return strings.Contains(r.Pattern, "/credentials") }) || len(p.Routes) < 20 {
		t.Fatalf("there are %d routes; want all of them", len(p.Routes))
	}
	return p.Routes
}

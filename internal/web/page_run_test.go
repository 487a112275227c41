package web_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"latchkey.dev/internal/broker"
	"latchkey.dev/internal/latchkeytest"
	"latchkey.dev/latchkey"
)

// A site is a service whose pages are asked for without a browser.
type site struct {
	*latchkeytest.Chain
	handler http.Handler
}

func newSite(t *testing.T) *site {
	t.Helper()
	c := latchkeytest.New(t, latchkeytest.Options{}).Chain(t)
	return &site{c, c.Handler(t)}
}

// token makes somebody with a role, who is signed in.
func (s *site) token(t *testing.T, login string, role latchkey.EnvironmentRole) string {
	t.Helper()
	token, err := s.Broker.CreateToken(t.Context(), s.User(t, login, s.Env, role), latchkey.TokenCreate{Name: "test"})
	if err != nil {
		t.Fatal(err)
	}
	return token.Value
}

// get asks for a page, and fails the test unless the status is the wanted one.
func (s *site) get(t *testing.T, token, path string, want int, header ...string) string {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), "GET", path, nil)
	return s.send(t, r, token, want, header...)
}

func (s *site) post(t *testing.T, token, path string, values url.Values, want int, header ...string) string {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), "POST", path, strings.NewReader(values.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	return s.send(t, r, token, want, header...)
}

func (s *site) send(t *testing.T, r *http.Request, token string, want int, header ...string) string {
	t.Helper()
	r.Header.Set("Authorization", "Bearer "+token)
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	s.handler.ServeHTTP(w, r)
	if w.Code != want {
		t.Fatalf("%s %s = %d; want %d: %.1500s", r.Method, r.URL, w.Code, want, w.Body)
	}
	if to := w.Header().Get("Location"); to != "" {
		return to
	}
	return w.Body.String()
}

// contains fails the test unless a page has every text, in this order.
func contains(t *testing.T, page string, texts ...string) {
	t.Helper()
	rest := page
	for _, text := range texts {
		_, after, found := strings.Cut(rest, text)
		if !found {
			t.Fatalf("the page lacks %q after what came before:\n%.4000s", text, rest)
		}
		rest = after
	}
}

func TestRunPages(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	admin := s.AdminToken
	base := "/e/" + s.Env

	// A flow is run by the form, with faults first.
	start := base + "/flows/" + string(s.Flow.ID) + "/run"
	contains(t, s.get(t, admin, start, 200), "ERP on bot1 (bot1, Online)", `name="input-name"`)
	form := url.Values{"connection": {string(s.Connection.ID)}, "input-name": {"WHO", "WHO", ""}, "input-value": {"<i>", "b", ""}}
	contains(t, s.post(t, admin, start, form, 422), "WHO is there twice", `value="&lt;i&gt;"`)
	form.Set("more", "yes")
	if page := s.post(t, admin, start, form, 200); strings.Count(page, `name="input-name"`) != 5 {
		t.Errorf("the form with more inputs has %d rows; want 5", strings.Count(page, `name="input-name"`))
	}
	form = url.Values{"connection": {string(s.Connection.ID)}, "input-name": {"WHO"}, "input-value": {"<i>"}}
	run := s.post(t, admin, start, form, 303)

	page := s.get(t, admin, run, 200)
	contains(t, page, "Queued", `id="cancel"`, `aria-current="step"`, "<dd class=\"mono\">&lt;i&gt;</dd>", `hx-get="`+run+`/log?offset=0`)

	// It runs, prints what would be markup, and ends.
	claimed := s.Machine.Claim(t)
	if _, err := s.Broker.AppendLog(t.Context(), s.Machine.Session(), claimed.Run, latchkey.LogRequest{Claim: claimed.Claim, Stream: "stdout", Text: "\x1b[31m<script>red\x1b[0m\a\n"}); err != nil {
		t.Fatal(err)
	}
	more := s.get(t, admin, run+"/log?offset=0&state=queued-0", 200, "HX-Request", "true", "HX-Target", "log-more")
	contains(t, more, `<span class="stdout">&lt;script&gt;red`, `id="log-more"`, `hx-swap-oob="innerHTML"`, "Running")
	if strings.ContainsAny(more, "\x1b\a") {
		t.Errorf("what is for a terminal is in the page: %q", more)
	}
	s.Machine.Finish(t, claimed)
	page = s.get(t, admin, run, 200)
	contains(t, page, "Succeeded", `id="again"`, "<dt>Started by</dt><dd>admin", "&lt;script&gt;red")
	if strings.Contains(page, "hx-get=\""+run+"/log") || strings.Contains(page, `id="cancel"`) {
		t.Error("the page of a run that has ended still waits for output, or offers to cancel it")
	}
	if text := s.get(t, admin, run+"/output", 200); text != "\x1b[31m<script>red\x1b[0m\a\n" {
		t.Errorf("output = %q; want what the flow printed", text)
	}
	contains(t, s.get(t, admin, start+"?again="+strings.TrimPrefix(run, base+"/runs/"), 200), `value="WHO"`, `value="&lt;i&gt;"`)

	// Asked for nonsense, the log says nothing; somebody else sees no run.
	s.get(t, admin, run+"/log?offset=-1", 204)
	user := s.token(t, "ursula", latchkey.EnvUser)
	s.get(t, user, run, 404)
	s.get(t, user, run+"/output", 404)
	s.post(t, user, run+"/cancel", nil, 404)

	// A run that waits can be cancelled, once.
	run = s.post(t, admin, start, form, 303)
	contains(t, s.get(t, admin, run+"/cancel", 200), "It has not begun")
	s.post(t, admin, run+"/cancel", nil, 303)
	contains(t, s.post(t, admin, run+"/cancel", nil, 409), "the run has ended already")
	contains(t, s.get(t, admin, base+"/runs?state=cancelled&flow="+string(s.Flow.ID), 200), "invoices", "Cancelled")
	contains(t, s.get(t, admin, base+"/runs?state=failed", 200), "Nothing matches")
}

func TestFlowPages(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	base := "/e/" + s.Env + "/flows"
	form := url.Values{"name": {"Weekly"}, "program": {"bin/true"}, "arguments": {"a b\r\n\"two\\nlines\"\r\n"}, "timeout": {"soon"}, "handover": {"none"}}
	contains(t, s.post(t, s.AdminToken, base, form, 422), `value="Weekly"`, `id="f-timeout-error"`)
	form.Set("timeout", "5m")
	contains(t, s.post(t, s.AdminToken, base, form, 422), `id="f-program-error"`, "a b")
	form.Set("program", "/bin/true")
	form.Set("arguments", "\"half\n")
	contains(t, s.post(t, s.AdminToken, base, form, 422), `id="f-arguments-error"`)
	form.Set("arguments", "a b\r\n\"two\\nlines\"\r\n")
	flow := s.post(t, s.AdminToken, base, form, 303)
	f, err := s.Broker.Flow(t.Context(), s.Admin, s.Env, latchkey.FlowID(strings.TrimPrefix(flow, base+"/")))
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"/bin/true", "a b", "two\nlines"}; strings.Join(f.Command, "|") != strings.Join(want, "|") {
		t.Errorf("command = %q; want %q", f.Command, want)
	}
	contains(t, s.get(t, s.AdminToken, flow, 200), "/bin/true &#39;a b&#39; &#39;two", "<dd>5m</dd>")
	contains(t, s.get(t, s.AdminToken, flow+"/edit", 200), "a b\n&#34;two\\nlines&#34;\n")
	form.Set("name", "Weekly again")
	s.post(t, s.AdminToken, flow+"/edit", form, 303)
	contains(t, s.get(t, s.AdminToken, flow+"?revision=1", 200), "This is revision 1")

	// Who may not, is not asked.
	user := s.token(t, "ursula", latchkey.EnvUser)
	if to := s.get(t, user, base+"/new", 303); to != base {
		t.Errorf("the form of a new flow leads somebody who may not make one to %s; want the list", to)
	}
	s.get(t, user, flow, 404)
	contains(t, s.get(t, s.AdminToken, "/e/"+s.Env+"/chosen/flows/to/run", 200), "Choose one first")
	if to := s.get(t, s.AdminToken, "/e/"+s.Env+"/chosen/flows/to/run?id="+string(f.ID), 303); to != flow+"/run" {
		t.Errorf("run of the one that was chosen leads to %s", to)
	}
	s.get(t, s.AdminToken, "/e/"+s.Env+"/chosen/flows/to/elsewhere?id=x", 404)
}

func TestMachinePages(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	base := "/e/" + s.Env + "/machines"
	page := base + "/" + string(s.Machine.ID)
	contains(t, s.get(t, s.AdminToken, base, 200), "bot1", "Online")
	contains(t, s.get(t, s.AdminToken, page, 200), "bot1", latchkeytest.Program, "ERP on bot1")

	contains(t, s.get(t, s.AdminToken, page+"/state", 200), "Take bot1 out of service", "ERP on bot1")
	s.post(t, s.AdminToken, page+"/state", url.Values{"disable": {"true"}}, 303)
	contains(t, s.get(t, s.AdminToken, page, 200), "out of service")
	s.post(t, s.AdminToken, page+"/state", url.Values{"disable": {"false"}}, 303)
	contains(t, s.post(t, s.AdminToken, page+"/edit", url.Values{"name": {""}}, 422), `id="f-name-error"`)
	s.post(t, s.AdminToken, page+"/edit", url.Values{"name": {"bot one"}}, 303)

	contains(t, s.post(t, s.AdminToken, base+"/enrol", url.Values{"uses": {"many"}, "expires": {"1h"}}, 422), `id="f-uses-error"`)
	contains(t, s.post(t, s.AdminToken, base+"/enrol", url.Values{"uses": {"2"}, "expires": {"48h"}}, 422), `id="f-expires-error"`)
	made := s.post(t, s.AdminToken, base+"/enrol", url.Values{"uses": {"2"}, "expires": {"1h"}, "commands": {"/opt/it's/*\r\n/bin/sh"}}, 200)
	contains(t, made, "latchkey-agent enrol --server http://127.0.0.1 --token ", " --allow-command &#39;/opt/it&#39;\\&#39;&#39;s/*&#39; --allow-command /bin/sh\nlatchkey-agent run")
	again := s.post(t, s.AdminToken, page+"/enrol", url.Values{"expires": {"1h"}, "commands": {"/bin/sh"}}, 200)
	contains(t, again, " --force\nlatchkey-agent run")
	if strings.Contains(again, "--allow-command /bin") {
		t.Error("a machine that is enrolled anew keeps its policy file; the command names programs")
	}
	open, err := s.Broker.EnrolmentTokens(t.Context(), s.Admin, s.Env, latchkey.PageOptions{})
	if err != nil || len(open.Items) != 2 {
		t.Fatalf("open tokens = %v, %v; want 2", open.Items, err)
	}
	list := s.get(t, s.AdminToken, base+"/enrol", 200)
	contains(t, list, string(open.Items[0].ID))
	if strings.Contains(list, "--token ") {
		t.Error("a token is shown again")
	}
	s.post(t, s.AdminToken, base+"/enrol/revoke", url.Values{"token": {string(open.Items[0].ID)}}, 303)

	maker := s.token(t, "maya", latchkey.EnvMaker)
	s.get(t, maker, base+"/enrol", 303)
	s.get(t, maker, page, 404)
	denied, err := s.Broker.Audit(t.Context(), s.Admin, broker.AuditFilter{Environment: s.Env, Outcome: latchkey.OutcomeDenied}, latchkey.PageOptions{})
	if err != nil || len(denied.Items) != 0 {
		t.Errorf("looking at pages was refused on record: %v, %v", denied.Items, err)
	}
}

func TestMapPages(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	path := "/e/" + s.Env + "/map"
	whole := s.get(t, s.AdminToken, path, 200)
	for _, name := range []string{"erp/erp-password", "ERP password", "ERP user", "ERP bot", "ERP on bot1", "bot1", "invoices"} {
		contains(t, whole, "<title>"+name+" · ", "<tbody>", ">"+name+"<")
	}
	for _, of := range []string{"secret:" + s.Reference.String(), "variable:" + string(s.Password.ID), "credential:" + string(s.Credential.ID), "connection:" + string(s.Connection.ID), "machine:" + string(s.Machine.ID)} {
		page := s.get(t, s.AdminToken, path+"?of="+url.QueryEscape(of), 200)
		for _, name := range []string{"erp/erp-password", "ERP password", "ERP bot", "ERP on bot1", "bot1"} { // the whole chain, whatever it begins with
			contains(t, page, "<title>"+name+" · ")
		}
		if n := strings.Count(page, `aria-current="true"><title>`); n != 1 {
			t.Errorf("the map around %s has %d things at its centre; want 1", of, n)
		}
	}
	contains(t, s.get(t, s.AdminToken, path+"?of=flow:"+string(s.Flow.ID), 200), "<title>invoices · ")
	for _, of := range []string{"run:run_x", "credential:", "credential", "secret:nonsense"} {
		s.get(t, s.AdminToken, path+"?of="+of, 422)
	}
	s.get(t, s.AdminToken, path+"?of=credential:cred_06h1x1283d99zb0b89ak5regmg", 404)
	user := s.token(t, "ursula", latchkey.EnvUser)
	contains(t, s.get(t, user, path, 200), "Nothing to draw yet")
	s.get(t, user, path+"?of=credential:"+string(s.Credential.ID), 404)
	contains(t, s.get(t, user, path+"?of="+url.QueryEscape("secret:"+s.Reference.String()), 200), "erp/erp-password") // the name that they gave, and nothing else
}

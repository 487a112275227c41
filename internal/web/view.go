package web

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"latchkey.dev/latchkey"
)

// A view is one request for a page by one person.
type view struct {
	p      *Pages
	w      http.ResponseWriter
	r      *http.Request
	locale *locale
	who    latchkey.Caller
	me     latchkey.User        // zero for a service principal
	env    latchkey.Environment // of pages about one
	prefs  preferences

	environments []latchkey.Environment // to choose from, the first few
}

// chosen is how many environments the menu of every page offers.
const chosen = 20

func (p *Pages) view(w http.ResponseWriter, r *http.Request, who latchkey.Caller) *view {
	return &view{p: p, w: w, r: r, who: who, locale: p.localeOf(r), prefs: readPreferences(r)}
}

// load asks for what every page shows.
func (v *view) load(inEnv bool) (err error) {
	ctx := v.r.Context()
	// Service principals have no account, and may look at pages all the same.
	if v.me, err = v.p.b.Me(ctx, v.who); err != nil && !errors.Is(err, latchkey.ErrNotFound) {
		return err
	}
	all, err := v.p.b.Environments(ctx, v.who, latchkey.PageOptions{Limit: chosen})
	if err != nil {
		return err
	}
	v.environments = all.Items
	if inEnv {
		v.env, err = v.p.b.Environment(ctx, v.who, v.r.PathValue("env"))
	} else {
		v.env = v.lastEnvironment()
	}
	return err
}

// lastEnvironment returns the environment whose pages were last looked at, for
// the navigation of pages that are about none.
func (v *view) lastEnvironment() latchkey.Environment {
	for _, e := range v.environments {
		if e.Name == v.prefs.Environment {
			return e
		}
	}
	if len(v.environments) > 0 {
		return v.environments[0]
	}
	return latchkey.Environment{}
}

func (v *view) parseForm() error {
	err := v.r.ParseForm()
	if tooLarge := new(http.MaxBytesError); errors.As(err, &tooLarge) {
		return &latchkey.Error{Kind: latchkey.ErrInvalid, Code: "too-large", Msg: fmt.Sprintf("the form must be at most %d bytes", tooLarge.Limit)}
	}
	if err != nil {
		return &latchkey.Error{Kind: latchkey.ErrInvalid, Code: "malformed", Msg: "the form cannot be read"}
	}
	return nil
}

// value returns a field of the form or of the address, without the space around
// it. Secrets are read by secret.
func (v *view) value(name string) string { return strings.TrimSpace(v.r.FormValue(name)) }

// secret returns a field of the form that is a secret, as it was typed.
func (v *view) secret(name string) latchkey.Secret {
	return latchkey.NewSecret(v.r.PostFormValue(name))
}

// t returns a text in the language of who looks.
func (v *view) t(key string, args ...any) string { return v.locale.text(key, args...) }

// path returns an address below the environment's.
func (v *view) path(segments ...string) string { return envPath(v.env.Name, segments...) }

func envPath(env string, segments ...string) string {
	return joinPath("/e/"+url.PathEscape(env), segments...)
}

// joinPath returns an address below another one.
func joinPath(base string, segments ...string) string {
	var b strings.Builder
	b.WriteString(base)
	for _, s := range segments {
		b.WriteString("/" + url.PathEscape(s))
	}
	return b.String()
}

// may reports whether the person's roles in the environment and the installation
// permit an action, for the choice of what is offered. Nothing is decided by it,
// and nothing is recorded.
func (v *view) may(action latchkey.Action) bool { return v.mayOn("", action) }

// mayOn is may for a thing on which the person has a role.
func (v *view) mayOn(role latchkey.Role, action latchkey.Action) bool {
	return latchkey.Access{Tenant: v.me.TenantAdmin, Environment: []latchkey.EnvironmentRole{v.env.MyRole}, Role: role}.Can(action)
}

// part returns the name of the part of the page that a script asks for, or "".
// It is the id of the element that the answer replaces.
func (v *view) part() string {
	if v.r.Header.Get("HX-Request") == "" || v.r.Header.Get("HX-Boosted") != "" {
		return ""
	}
	return v.r.Header.Get("HX-Target")
}

// show answers with a page, or with the part of it that was asked for: whole, or
// not at all. data is a struct that embeds shell.
func (v *view) show(page string, data any) error { return v.showWith(http.StatusOK, page, data) }

func (v *view) showWith(status int, page string, data any) error {
	block := "base"
	if part := v.part(); part != "" {
		t, err := v.locale.page(page)
		if err != nil {
			return err
		}
		if t.Lookup(part) != nil {
			block = part
		}
	}
	return v.showPart(status, page, block, data)
}

// showPart answers with a template of a page.
func (v *view) showPart(status int, page, block string, data any) error {
	t, err := v.locale.page(page)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	if err := t.ExecuteTemplate(&b, block, data); err != nil {
		return fmt.Errorf("page %s: %w", page, err)
	}
	h := v.w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Add("Vary", "HX-Request, HX-Target")
	v.w.WriteHeader(status)
	_, _ = v.w.Write(b.Bytes()) // the client may be gone
	return nil
}

// redirect sends the browser to a page of ours, after a form did its work. said,
// when not empty, is the key of a text that the page begins with.
func (v *view) redirect(path, said string, args ...string) error {
	if said != "" {
		v.p.setFlash(v.w, said, args...)
	}
	if v.r.Header.Get("HX-Request") != "" {
		v.w.Header().Set("HX-Redirect", path)
		return nil
	}
	http.Redirect(v.w, v.r, path, http.StatusSeeOther)
	return nil
}

type errorPage struct {
	shell
	Fault Fault
}

// fail answers with what failed.
func (v *view) fail(err error) { v.failWith(v.p.Fault(v.r.Context(), err)) }

func (v *view) failWith(f Fault) {
	for name, values := range f.Header {
		v.w.Header()[name] = values
	}
	if err := v.showWith(f.Status, "error", errorPage{v.shell(f.Title, ""), f}); err != nil {
		http.Error(v.w, f.Detail, f.Status)
	}
}

// serveFault answers somebody, whoever it is, with what failed.
func (p *Pages) serveFault(w http.ResponseWriter, r *http.Request, f Fault) {
	p.nobody(w, r).failWith(f)
}

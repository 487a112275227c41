package web

import (
	"errors"
	"net/http"
	"strings"
	"time"

	"latchkey.dev/internal/signon"
	"latchkey.dev/latchkey"
)

type signInPage struct {
	shell
	Form      form
	To        string // the page that was asked for
	Providers []signon.Choice
	Passkeys  bool // can be had here
}

func (v *view) signIn(f form, to string) signInPage {
	return signInPage{v.shell(v.t("sign-in.title"), "sign-in"), f, to, v.p.SignOn.Choices(), v.passkeyFault() == ""}
}

// nobody is the view of a page for everybody, also for those who are signed in.
func (p *Pages) nobody(w http.ResponseWriter, r *http.Request) *view {
	return p.view(w, r, latchkey.Caller{})
}

func (p *Pages) signInPage(w http.ResponseWriter, r *http.Request) {
	v := p.nobody(w, r)
	v.answer(v.show("sign-in", v.signIn(form{}, ownPath(r.FormValue("to"), ""))))
}

// answer says what failed, if something did.
func (v *view) answer(err error) {
	if err != nil {
		v.fail(err)
	}
}

func (p *Pages) signInByPassword(w http.ResponseWriter, r *http.Request) {
	p.signInWith(w, r, func(v *view) (latchkey.NewToken, error) {
		return p.b.SignIn(r.Context(), v.value("login"), v.secret("password"), p.Visitor(r))
	})
}

func (p *Pages) signInByLink(w http.ResponseWriter, r *http.Request) {
	p.signInWith(w, r, func(v *view) (latchkey.NewToken, error) {
		return p.b.StartSession(r.Context(), v.code(), p.Visitor(r))
	})
}

// code returns the secret part of a link, which may have been pasted whole.
func (v *view) code() string {
	code := v.value("code")
	if _, fragment, ok := strings.Cut(code, "#"); ok {
		return fragment
	}
	return code
}

// signInWith begins a session, or shows the form again with what went wrong.
func (p *Pages) signInWith(w http.ResponseWriter, r *http.Request, prove func(*view) (latchkey.NewToken, error)) {
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	v := p.nobody(w, r)
	if err := v.parseForm(); err != nil {
		v.fail(err)
		return
	}
	to := ownPath(r.PostFormValue("to"), "")
	session, err := prove(v)
	if err == nil {
		err = v.begin(session)
	}
	if err == nil {
		http.Redirect(w, r, ownPath(to, "/"), http.StatusSeeOther)
		return
	}
	f := v.filled("password", "code", "response")
	status, err := v.refused(&f, err)
	if err == nil {
		err = v.showWith(status, "sign-in", v.signIn(f, to))
	}
	v.answer(err)
}

// begin gives the browser a new session, in place of one that it has.
func (v *view) begin(session latchkey.NewToken) error {
	if old := v.p.Session(v.r); old != "" {
		if err := v.p.b.EndSession(v.r.Context(), old); err != nil {
			return err
		}
	}
	v.p.SetSession(v.w, session.Value, session.ExpiresAt)
	return nil
}

// signOut ends the session at the server too, not only in the browser.
func (p *Pages) signOut(w http.ResponseWriter, r *http.Request) {
	if token := p.Session(r); token != "" {
		err := p.b.EndSession(r.Context(), token)
		if err != nil && !errors.Is(err, latchkey.ErrUnauthenticated) && !errors.Is(err, latchkey.ErrNotFound) {
			p.nobody(w, r).fail(err)
			return
		}
	}
	p.SetSession(w, "", time.Time{})
	http.Redirect(w, r, "/sign-in", http.StatusSeeOther)
}

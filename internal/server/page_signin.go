package server

import (
	"errors"
	"net/http"
	"strings"
	"time"

	"latchkey.dev/latchkey"
)

type signInPage struct {
	shell
	Login   string
	Failure string
}

func (s *server) signInPage(w http.ResponseWriter, r *http.Request) {
	s.render(w, r, http.StatusOK, "sign-in", signInPage{shell: s.shell("Sign in", "sign-in", latchkey.Caller{})})
}

func (s *server) signInByPassword(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	login := strings.TrimSpace(r.PostFormValue("login"))
	t, err := s.b.SignIn(r.Context(), login, latchkey.NewSecret(r.PostFormValue("password")), visitOf(r.Context()).address)
	s.signedInOr(w, r, login, t.Value, t.ExpiresAt, err)
}

func (s *server) signInByLink(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	code := strings.TrimSpace(r.PostFormValue("code"))
	if _, fragment, ok := strings.Cut(code, "#"); ok {
		code = fragment // the whole link was pasted
	}
	token, expires, err := s.b.StartSession(r.Context(), code)
	s.signedInOr(w, r, "", token, expires, err)
}

// signedInOr begins the session, or shows the form again with what went wrong.
func (s *server) signedInOr(w http.ResponseWriter, r *http.Request, login, token string, expires time.Time, err error) {
	if err == nil {
		s.setSession(w, token, expires)
		http.Redirect(w, r, "/", http.StatusSeeOther)
		return
	}
	p := s.problemOf(r.Context(), err)
	for name, values := range p.GetHeaders() {
		w.Header()[name] = values
	}
	s.render(w, r, p.Status, "sign-in", signInPage{s.shell("Sign in", "sign-in", latchkey.Caller{}), login, p.Detail})
}

// signOut ends the session at the server too, not only in the browser.
func (s *server) signOut(w http.ResponseWriter, r *http.Request) {
	c, err := r.Cookie(s.cookieName())
	if err == nil && len(c.Value) <= maxToken {
		err = s.b.EndSession(r.Context(), c.Value)
	}
	if err != nil && !errors.Is(err, http.ErrNoCookie) && !errors.Is(err, latchkey.ErrUnauthenticated) && !errors.Is(err, latchkey.ErrNotFound) {
		s.errorPage(w, r, latchkey.Caller{}, err)
		return
	}
	s.setSession(w, "", time.Time{})
	http.Redirect(w, r, "/sign-in", http.StatusSeeOther)
}

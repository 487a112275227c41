package server

import (
	"bytes"
	"errors"
	"net/http"

	"latchkey.dev/latchkey"
)

// A shell is what every page shows around its own content.
type shell struct {
	Title   string
	Here    string // the page, for the navigation
	User    string // name of who is signed in
	Version string
}

func (s *server) shell(title, here string, who latchkey.Caller) shell {
	return shell{Title: title, Here: here, User: who.Name, Version: s.Version}
}

// page makes a handler of a page that needs somebody signed in: anybody else is
// sent to sign in.
func (s *server) page(h func(http.ResponseWriter, *http.Request, latchkey.Caller) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		who, err := s.identify(r)
		if errors.Is(err, latchkey.ErrUnauthenticated) {
			http.Redirect(w, r, "/sign-in", http.StatusSeeOther)
			return
		}
		if err == nil {
			err = h(w, r, who)
		}
		if err != nil {
			s.errorPage(w, r, who, err)
		}
	}
}

type errorPage struct {
	shell
	Detail    string
	RequestID string
}

func (s *server) errorPage(w http.ResponseWriter, r *http.Request, who latchkey.Caller, err error) {
	p := s.problemOf(r.Context(), err)
	s.render(w, r, p.Status, "error", errorPage{s.shell(p.Title, "", who), p.Detail, p.RequestID})
}

// render writes a page, whole or not at all.
func (s *server) render(w http.ResponseWriter, r *http.Request, status int, name string, data any) {
	var b bytes.Buffer
	if err := s.assets.pages[name].ExecuteTemplate(&b, "base", data); err != nil {
		s.writeProblem(w, r, err)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(b.Bytes())
}

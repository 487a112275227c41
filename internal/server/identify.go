package server

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"latchkey.dev/latchkey"
)

// maxToken bounds what is taken for a token; ours are shorter.
const maxToken = 256

type callerKey struct{}

// signedIn lets only authenticated callers through to an operation. It runs
// before the body is read, so that nobody learns about bodies without a token.
func (s *server) signedIn(ctx huma.Context, next func(huma.Context)) {
	r, w := humago.Unwrap(ctx)
	who, err := s.identify(r)
	if err != nil {
		s.writeProblem(w, r, err)
		return
	}
	next(huma.WithValue(ctx, callerKey{}, who))
}

// callerOf returns the caller that signedIn found. Without one it returns the
// zero Caller, who may do nothing.
func callerOf(ctx context.Context) latchkey.Caller {
	who, _ := ctx.Value(callerKey{}).(latchkey.Caller)
	return who
}

// identify returns who sent a request: by an API token in its Authorization
// header or, if it has none, by the session cookie of the pages.
func (s *server) identify(r *http.Request) (latchkey.Caller, error) {
	token, err := s.tokenOf(r)
	if err != nil {
		return latchkey.Caller{}, err
	}
	who, err := s.b.Authenticate(r.Context(), token)
	if err != nil {
		return latchkey.Caller{}, err
	}
	v := visitOf(r.Context())
	v.principal = who.ID
	who.RequestID, who.Address = v.id, v.address
	return who, nil
}

func (s *server) tokenOf(r *http.Request) (string, error) {
	if header := r.Header.Get("Authorization"); header != "" {
		scheme, token, _ := strings.Cut(header, " ")
		token = strings.TrimSpace(token)
		if !strings.EqualFold(scheme, "Bearer") || token == "" || len(token) > maxToken {
			return "", unauthenticated("token-invalid", "the Authorization header must be Bearer and an API token")
		}
		return token, nil
	}
	c, err := r.Cookie(s.cookieName())
	if errors.Is(err, http.ErrNoCookie) || c != nil && (c.Value == "" || len(c.Value) > maxToken) {
		return "", unauthenticated("no-token", "sign in first: send an API token as Authorization: Bearer TOKEN")
	}
	return c.Value, err
}

func unauthenticated(code, msg string) error {
	return &latchkey.Error{Kind: latchkey.ErrUnauthenticated, Code: code, Msg: msg}
}

// remoteAddress returns the network address of the peer, without its port.
func remoteAddress(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}

// cookieName is the name of the session cookie. With the prefix __Host-
// browsers take it from this host by https only.
func (s *server) cookieName() string {
	if s.Secure {
		return "__Host-latchkey_session"
	}
	return "latchkey_session"
}

// session returns the session that a browser has, or "".
func (s *server) session(r *http.Request) string {
	c, err := r.Cookie(s.cookieName())
	if err != nil || len(c.Value) > maxToken {
		return ""
	}
	return c.Value
}

// setSession gives the browser a session; an empty token takes it away.
func (s *server) setSession(w http.ResponseWriter, token string, expires time.Time) {
	c := &http.Cookie{
		Name: s.cookieName(), Value: token, Path: "/",
		HttpOnly: true, Secure: s.Secure, SameSite: http.SameSiteLaxMode,
		MaxAge: int(expires.Sub(s.Now()).Seconds()),
	}
	if token == "" {
		c.MaxAge = -1
	}
	http.SetCookie(w, c)
}

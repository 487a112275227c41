package server

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"latchkey.dev/internal/broker"
	"latchkey.dev/latchkey"
)

// maxToken bounds what is taken for a token; ours are shorter.
const maxToken = 256

type callerKey struct{}

// signedIn lets only authenticated callers through to an operation. It runs
// before the body is read, so that nobody learns about bodies without a token.
func (s *server) signedIn(ctx huma.Context, next func(huma.Context)) {
	r, w := humago.Unwrap(ctx)
	who, err := s.identify(w, r)
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
// header or, if it has none, by the session cookie of the pages. A session whose
// token is due to be replaced gets its new one with the answer.
func (s *server) identify(w http.ResponseWriter, r *http.Request) (who latchkey.Caller, err error) {
	if header := r.Header.Get("Authorization"); header != "" {
		token, ok := bearer(header)
		if !ok {
			return who, unauthenticated("token-invalid", "the Authorization header must be Bearer and an API token")
		}
		who, err = s.b.Authenticate(r.Context(), token)
	} else {
		token := s.session(r)
		if token == "" {
			return who, unauthenticated("no-token", "sign in first: send an API token as Authorization: Bearer TOKEN")
		}
		var c broker.Continued
		if c, err = s.b.Continue(r.Context(), token, !unattended(r)); c.Next != "" {
			s.setSession(w, c.Next, c.Expires)
		}
		who = c.Caller
	}
	if err != nil {
		return latchkey.Caller{}, err
	}
	v := visitOf(r.Context())
	v.principal = who.ID
	who.RequestID, who.Address = v.id, v.address
	return who, nil
}

func bearer(header string) (token string, ok bool) {
	scheme, token, _ := strings.Cut(header, " ")
	token = strings.TrimSpace(token)
	return token, strings.EqualFold(scheme, "Bearer") && token != "" && len(token) <= maxToken
}

// unattended reports whether a page makes a request by itself, which keeps no
// session from ending when nobody uses it.
func unattended(r *http.Request) bool {
	return strings.HasPrefix(r.Header.Get("Accept"), "text/event-stream") || r.Header.Get("X-Latchkey-Live") != ""
}

// visitor returns who comes to sign in with a browser.
func (s *server) visitor(r *http.Request) broker.Visitor {
	return broker.Visitor{Address: visitOf(r.Context()).address, Client: r.UserAgent(), Browser: true}
}

func unauthenticated(code, msg string) error {
	return &latchkey.Error{Kind: latchkey.ErrUnauthenticated, Code: code, Msg: msg}
}

// maxForwarded bounds how many addresses of X-Forwarded-For are looked at.
const maxForwarded = 20

// remoteAddress returns the network address that a request came from, without its
// port. What a proxy says of whom it speaks for counts if it is a trusted one.
func (s *server) remoteAddress(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		host = r.RemoteAddr
	}
	if len(s.TrustedProxies) == 0 {
		return host
	}
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for i := len(hops) - 1; i >= 0 && len(hops)-i <= maxForwarded && s.trusts(host); i-- {
		ip, err := netip.ParseAddr(strings.TrimSpace(hops[i]))
		if err != nil {
			break
		}
		host = ip.Unmap().String()
	}
	return host
}

// trusts reports whether an address is a trusted proxy's.
func (s *server) trusts(host string) bool {
	ip, err := netip.ParseAddr(host)
	return err == nil && slices.ContainsFunc(s.TrustedProxies, func(p netip.Prefix) bool { return p.Contains(ip.Unmap().WithZone("")) })
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

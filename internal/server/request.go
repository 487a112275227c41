package server

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"net/http"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"latchkey.dev/latchkey"
)

// A visit is what is known about a request besides the request: handlers add to
// it, and the log line and the metrics are made of it.
type visit struct {
	id        string
	started   time.Time
	pattern   string
	principal latchkey.PrincipalID
	address   string // of the peer
}

type visitKey struct{}

func withVisit(ctx context.Context, v *visit) context.Context {
	return context.WithValue(ctx, visitKey{}, v)
}

// visitOf returns the visit of a request's context.
func visitOf(ctx context.Context) *visit {
	if v, ok := ctx.Value(visitKey{}).(*visit); ok {
		return v
	}
	return &visit{}
}

var requestIDRE = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)

// requestID returns the id that a proxy gave the request, or a new one.
func requestID(r *http.Request) string {
	if id := r.Header.Get("X-Request-Id"); requestIDRE.MatchString(id) {
		return id
	}
	return strings.ToLower(rand.Text()[:20])
}

// finish ends every request: it answers for a handler that panicked, logs one
// line and counts. The line has the route, never the address asked for: names
// and tokens could be in it.
func (s *server) finish(rec *recorder, r *http.Request, v *visit) {
	if p := recover(); p != nil {
		if p == http.ErrAbortHandler {
			panic(p)
		}
		s.Log.LogAttrs(r.Context(), slog.LevelError, "handler panicked", slog.String("request", v.id), slog.String("route", v.pattern),
			slog.String("panic", fmt.Sprint(p)), slog.String("stack", string(debug.Stack())))
		if rec.status == 0 {
			writeJSONProblem(rec, r, internalProblem())
		}
	}
	if rec.status == 0 {
		rec.status = http.StatusOK
	}
	took := s.Now().Sub(v.started)
	route, method := v.route(), knownMethod(r.Method)
	s.metrics.observe(route, method, rec.status, took)
	level := slog.LevelInfo
	if slices.Contains(quietRoutes, route) {
		level = slog.LevelDebug
	}
	s.Log.LogAttrs(r.Context(), level, "request",
		slog.String("request", v.id), slog.String("method", method), slog.String("route", route),
		slog.Int("status", rec.status), slog.Int64("bytes", rec.bytes), slog.Duration("took", took),
		slog.String("principal", string(v.principal)))
}

// quietRoutes are asked for so often that their lines are for debugging only.
var quietRoutes = []string{"/healthz", "/readyz", "/metrics", "/static/{name}"}

// route returns the pattern without its method.
func (v *visit) route() string {
	if v.pattern == "" {
		return "none"
	}
	if _, path, ok := strings.Cut(v.pattern, " "); ok {
		return path
	}
	return v.pattern
}

// knownMethod returns the method, or "other" for one that a client made up.
func knownMethod(m string) string {
	switch m {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions:
		return m
	}
	return "other"
}

// A recorder notes what was answered.
type recorder struct {
	http.ResponseWriter
	status int
	bytes  int64
}

func (w *recorder) WriteHeader(status int) {
	// A second status can only come from a handler that noticed too late that
	// the client is gone.
	if w.status != 0 {
		return
	}
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

func (w *recorder) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	n, err := w.ResponseWriter.Write(b)
	w.bytes += int64(n)
	return n, err
}

// Unwrap lets http.ResponseController find the connection.
func (w *recorder) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// A headOnly takes the status and the headers of an answer and drops the rest.
type headOnly struct {
	header http.Header
	status int
}

func (w *headOnly) Header() http.Header {
	if w.header == nil {
		w.header = http.Header{}
	}
	return w.header
}

func (w *headOnly) WriteHeader(status int)      { w.status = status }
func (w *headOnly) Write(b []byte) (int, error) { return len(b), nil }

package server

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/validation"

	"latchkey.dev/internal/site"
	"latchkey.dev/latchkey"
)

// A problem is a failure as the API answers it (RFC 9457). It never holds a
// submitted value.
type problem struct {
	Type      string                `json:"type" doc:"always about:blank; code tells failures apart"`
	Title     string                `json:"title" doc:"the status in words"`
	Status    int                   `json:"status" doc:"the status of the answer"`
	Detail    string                `json:"detail" doc:"what failed and what to do, in a sentence"`
	Code      string                `json:"code" doc:"stable, for programs"`
	Errors    []latchkey.FieldError `json:"errors,omitempty" nullable:"false" doc:"the faults of the request, field by field"`
	Identity  string                `json:"identity,omitempty" doc:"who was refused"`
	Check     string                `json:"check,omitempty" doc:"the check that refused"`
	Remedy    string                `json:"remedy,omitempty" doc:"what would help"`
	RequestID string                `json:"requestId" doc:"of this request, as in the server's log"`

	retry time.Duration // after which trying again may help; 0 is not known
}

const problemType = "application/problem+json"

// Error, GetStatus and ContentType make a problem what huma takes for an error.
func (p *problem) Error() string             { return p.Detail }
func (p *problem) GetStatus() int            { return p.Status }
func (p *problem) ContentType(string) string { return problemType }

// GetHeaders implements [huma.HeadersError].
func (p *problem) GetHeaders() http.Header {
	if p.retry <= 0 {
		return nil
	}
	return http.Header{"Retry-After": {strconv.FormatInt(int64((p.retry+time.Second-1)/time.Second), 10)}}
}

// complete fills in what follows from the rest.
func (p *problem) complete(ctx context.Context) *problem {
	p.Type, p.Title, p.RequestID = "about:blank", http.StatusText(p.Status), visitOf(ctx).id
	if p.Title == "" {
		p.Title = "Client Closed Request"
	}
	return p
}

// statusGone is for the log only: the client did not wait for the answer.
const statusGone = 499

func internalProblem() *problem {
	return &problem{Status: http.StatusInternalServerError, Code: "internal", Detail: "internal error"}
}

// problemOf returns what to answer for an error of the broker. An error that is
// none of latchkey's is logged here, its only time, and not shown.
func (s *server) problemOf(ctx context.Context, err error) *problem {
	e, ok := forUser(err)
	status := 0
	if ok {
		status = statusOf(e.Kind)
	}
	switch {
	case status == 0 && ctx.Err() != nil:
		return (&problem{Status: statusGone, Code: "cancelled", Detail: "the request was cancelled"}).complete(ctx)
	case status == 0:
		s.Log.LogAttrs(ctx, slog.LevelError, "internal error", slog.String("request", visitOf(ctx).id), slog.Any("error", err))
		return internalProblem().complete(ctx)
	}
	if e.Err != nil {
		s.Log.LogAttrs(ctx, slog.LevelWarn, "request failed", slog.String("request", visitOf(ctx).id), slog.String("code", e.Code), slog.Any("error", e.Err))
	}
	p := &problem{Status: status, Code: e.Code, Detail: e.Msg, Errors: e.Fields, Identity: e.Identity, Check: e.Check, Remedy: e.Remedy}
	if e.Code == latchkey.CodeSignInThrottled || e.Code == latchkey.CodeTooManyChecks {
		p.Status = http.StatusTooManyRequests
	}
	if !e.RetryAt.IsZero() {
		p.retry = max(e.RetryAt.Sub(s.Now()), time.Second)
	}
	if p.Code == "" {
		p.Code = e.Kind.Error()
	}
	if p.Detail == "" {
		p.Detail = e.Kind.Error()
	}
	return p.complete(ctx)
}

// fault returns what the pages tell people about an error.
func (s *server) fault(ctx context.Context, err error) site.Fault {
	return asFault(s.problemOf(ctx, err))
}

func asFault(p *problem) site.Fault {
	f := site.Fault{
		Status: p.Status, Title: p.Title, Detail: p.Detail, Code: p.Code, Remedy: p.Remedy, Fields: p.Errors,
		RequestID: p.RequestID, Header: p.GetHeaders(),
	}
	if strings.Contains(f.Detail, f.Remedy) {
		f.Remedy = "" // once is enough
	}
	return f
}

// forUser returns the error in err that says what to answer. Of several errors at
// once the first counts, unless one is not for the user: that may be the graver.
func forUser(err error) (e *latchkey.Error, ok bool) {
	for err != nil {
		if e, ok := err.(*latchkey.Error); ok {
			return e, true
		}
		several, ok := err.(interface{ Unwrap() []error })
		if !ok {
			err = errors.Unwrap(err)
			continue
		}
		for i, part := range several.Unwrap() {
			p, ok := forUser(part)
			if !ok {
				return nil, false
			}
			if i == 0 {
				e = p
			}
		}
		return e, e != nil
	}
	return nil, false
}

// statusOf is the only map from kinds of errors to HTTP.
func statusOf(kind error) int {
	switch kind {
	case latchkey.ErrInvalid:
		return http.StatusUnprocessableEntity
	case latchkey.ErrUnauthenticated:
		return http.StatusUnauthorized
	case latchkey.ErrDenied:
		return http.StatusForbidden
	case latchkey.ErrNotFound:
		return http.StatusNotFound
	case latchkey.ErrConflict:
		return http.StatusConflict
	case latchkey.ErrUnavailable:
		return http.StatusServiceUnavailable
	}
	return 0
}

// writeProblem answers with an error outside of huma.
func (s *server) writeProblem(w http.ResponseWriter, r *http.Request, err error) {
	writeJSONProblem(w, r, s.problemOf(r.Context(), err))
}

func writeJSONProblem(w http.ResponseWriter, r *http.Request, p *problem) {
	b, err := json.Marshal(p.complete(r.Context()))
	if err != nil {
		panic(err) // texts always marshal
	}
	if p.Status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", `Bearer realm="latchkey"`)
	}
	for name, values := range p.GetHeaders() {
		w.Header()[name] = values
	}
	w.Header().Set("Content-Type", problemType)
	w.WriteHeader(p.Status)
	_, _ = w.Write(append(b, '\n')) // nobody is left to tell
}

// toProblem turns the errors that huma itself finds in a request into
// problems. Of huma's texts only those get through that hold nothing submitted.
func (s *server) toProblem(ctx huma.Context, _ string, v any) (any, error) {
	m, ok := v.(*huma.ErrorModel)
	if !ok {
		return v, nil
	}
	p := &problem{Status: m.Status, Code: "invalid", Detail: "the request is not valid"}
	switch m.Status {
	case http.StatusBadRequest:
		p.Code, p.Detail = "malformed", "the body must be JSON"
	case http.StatusRequestEntityTooLarge:
		p.Code, p.Detail = "too-large", "the body is larger than this operation takes"
	case http.StatusUnsupportedMediaType:
		p.Code, p.Detail = "unsupported-media-type", "the body must be application/json"
	case http.StatusRequestTimeout:
		p.Code, p.Detail = "too-slow", "the body did not arrive in time"
	case http.StatusUnprocessableEntity:
	default:
		return s.problemOf(ctx.Context(), errors.New(http.StatusText(m.Status)+": "+m.Detail)), nil
	}
	if p.Status != http.StatusUnsupportedMediaType {
		for _, d := range m.Errors[:min(len(m.Errors), maxFaults)] {
			f, code := fault(d.Location, d.Message)
			p.Errors = append(p.Errors, f)
			if code != "" {
				p.Code = code
			}
		}
	}
	return p.complete(ctx.Context()), nil
}

// maxFaults bounds how many faults one answer lists.
const maxFaults = 50

// safeName is what the name of a field may look like to be repeated: the name
// of an unknown field is a submitted text too.
var safeName = regexp.MustCompile(`^[A-Za-z0-9_.\[\]-]{1,64}$`)

// fault says in our words what huma found at a location, and its code if it has
// one of its own.
func fault(location, message string) (f latchkey.FieldError, code string) {
	f.Field = location
	for _, where := range []string{"body", "query", "path"} {
		if rest, ok := strings.CutPrefix(location, where+"."); ok {
			f.Field = rest
		}
	}
	if rest, ok := strings.CutPrefix(message, "expected required property "); ok {
		name := strings.TrimSuffix(rest, " to be present")
		if f.Field != "body" {
			name = f.Field + "." + name
		}
		f.Field, f.Message = name, "is required"
	} else if rest, ok := strings.CutPrefix(message, outOfRange); ok {
		f.Message = "a value is of the wrong type or out of range"
		if rest != "" {
			f.Field = rest
		}
	} else {
		f.Message, code = say(message)
	}
	if !safeName.MatchString(f.Field) {
		f.Field = "body"
	}
	return f, code
}

// say translates a message. Messages that it does not know could hold a
// submitted value: they become a general one.
func say(message string) (text, code string) {
	if text, ok := messages[message]; ok {
		if message == validation.MsgUnexpectedProperty {
			code = "unknown-field"
		}
		return text, code
	}
	// These are made of the schema alone.
	for prefix, ours := range map[string]string{
		"expected number >= ":           "must be at least ",
		"expected number <= ":           "must be at most ",
		"expected value to be one of ":  "must be one of ",
		"expected string to be a ":      "must be a ",
		"invalid date/time for format ": "must be a time such as 2026-01-31T12:00:00Z",
	} {
		if rest, ok := strings.CutPrefix(message, prefix); ok {
			if strings.HasSuffix(ours, "Z") {
				rest = ""
			}
			return ours + strings.Join(commas.Split(strings.Trim(rest, `"`), -1), ", "), ""
		}
	}
	if rest, ok := strings.CutPrefix(message, malformed); ok {
		return "is not valid JSON" + rest, ""
	}
	return "is not valid", ""
}

// commas separate the values that a message lists.
var commas = regexp.MustCompile(`, *`)

// messages are huma's, and what we say instead.
var messages = map[string]string{
	validation.MsgUnexpectedProperty:      "is not a field of this request",
	"unknown query parameter":             "is not a parameter of this operation",
	"required query parameter is missing": "is required",
	"request body is required":            "is required",
	validation.MsgExpectedBoolean:         "must be true or false",
	"invalid boolean":                     "must be true or false",
	validation.MsgExpectedInteger:         "must be a whole number",
	"invalid integer":                     "must be a whole number",
	validation.MsgExpectedNumber:          "must be a number",
	validation.MsgExpectedString:          "must be a string",
	validation.MsgExpectedArray:           "must be a list",
	validation.MsgExpectedObject:          "must be an object",
	validation.MsgExpectedRFC3339DateTime: "must be a time such as 2026-01-31T12:00:00Z",
	validation.MsgExpectedBase64String:    "must be base64",
}

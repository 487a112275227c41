package client

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"latchkey.dev/latchkey"
)

// Codes of errors that this end makes: the server did not say these.
const (
	CodeUnreachable = "unreachable"  // no answer
	CodeUnproven    = "unproven"     // an answer that is not provably the server's
	CodeOtherServer = "other-server" // the server at the address is not the one that was enrolled with
)

// errInternal is the kind of a failure that the server does not explain.
var errInternal = errors.New("internal error")

// maxProblemText bounds each text of a problem that is passed on.
const maxProblemText = 4000

// problem returns the error that an answer with a failure status stands for.
// The body need not be a problem (RFC 9457): a proxy's is not.
func problem(status int, body []byte) *latchkey.Error {
	var p struct {
		Title     string                `json:"title"`
		Detail    string                `json:"detail"`
		Code      string                `json:"code"`
		Errors    []latchkey.FieldError `json:"errors"`
		Identity  string                `json:"identity"`
		Check     string                `json:"check"`
		Remedy    string                `json:"remedy"`
		RequestID string                `json:"requestId"`
	}
	e := &latchkey.Error{Kind: kindOf(status)}
	if err := json.Unmarshal(body, &p); err != nil || p.Code == "" && p.Detail == "" && p.Title == "" {
		e.Code = "http-" + fmt.Sprint(status)
		e.Msg = fmt.Sprintf("the answer is %d %s, not one of a Latchkey server; check the address", status, http.StatusText(status))
		return e
	}
	if p.Code == latchkey.CodeSignInThrottled {
		e.Kind = latchkey.ErrDenied // whatever its status, nobody is served until then
	}
	e.Code, e.Identity, e.Check, e.Remedy = printable(p.Code), printable(p.Identity), printable(p.Check), printable(p.Remedy)
	e.Msg = printable(p.Detail)
	if e.Msg == "" {
		e.Msg = printable(p.Title)
	}
	if e.Msg == "" {
		e.Msg = fmt.Sprintf("the server answered %d %s", status, http.StatusText(status))
	}
	for _, f := range p.Errors[:min(len(p.Errors), 100)] {
		e.Fields = append(e.Fields, latchkey.FieldError{Field: printable(f.Field), Message: printable(f.Message)})
	}
	if e.Kind == errInternal && p.RequestID != "" {
		e.Msg += fmt.Sprintf(" (request %s in the server's log)", printable(p.RequestID))
	}
	return e
}

// agentProblem is problem for an agent, which tries again after a failure that
// nobody explains.
func agentProblem(status int, body []byte) *latchkey.Error {
	e := problem(status, body)
	if e.Kind == errInternal {
		e.Kind = latchkey.ErrUnavailable
	}
	return e
}

// kindOf is the reverse of what the server does with the kinds of errors.
func kindOf(status int) error {
	switch status {
	case http.StatusBadRequest, http.StatusUnprocessableEntity, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType:
		return latchkey.ErrInvalid
	case http.StatusUnauthorized:
		return latchkey.ErrUnauthenticated
	case http.StatusForbidden:
		return latchkey.ErrDenied
	case http.StatusNotFound:
		return latchkey.ErrNotFound
	case http.StatusConflict:
		return latchkey.ErrConflict
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return latchkey.ErrUnavailable
	}
	return errInternal
}

// printable bounds a text from the network and takes out what a terminal would
// act on.
func printable(s string) string {
	s = strings.Map(func(r rune) rune {
		if r != '\n' && latchkey.Steers(r) {
			return -1
		}
		return r
	}, s)
	if len(s) > maxProblemText {
		s = strings.ToValidUTF8(s[:maxProblemText], "") + "…"
	}
	return s
}

// noAnswer returns the error for a request that got no whole answer. It is
// CodeUnreachable also when the caller gave up: the server may have got the
// request.
func noAnswer(err error) error {
	// The address in a *url.Error may hold what the caller asked for.
	if u, ok := errors.AsType[*url.Error](err); ok {
		err = u.Err
	}
	return &latchkey.Error{Kind: latchkey.ErrUnavailable, Code: CodeUnreachable, Msg: "the server cannot be reached", Err: err}
}

func unproven(err error) error {
	return &latchkey.Error{
		Kind: latchkey.ErrUnavailable, Code: CodeUnproven, Err: err,
		Msg: "the server could not prove itself; something between may have answered in its place",
	}
}

package login

import (
	"fmt"
	"net/http"
	"strings"
	"time"

	"latchkey.dev/latchkey"
)

// A fault is an error as Entra ID answers it: one of OAuth 2.0's codes (RFC 6749,
// section 5.2), and one of its own in the description.
type fault struct {
	status int
	code   string // of OAuth 2.0
	number int    // of AADSTS…
	msg    string
	retry  time.Duration // after which it can be tried again, if not 0
}

func (f *fault) Error() string { return f.msg }

func refuse(status int, code string, number int, format string, args ...any) *fault {
	return &fault{status: status, code: code, number: number, msg: fmt.Sprintf(format, args...)}
}

func missing(parameter string) *fault {
	return refuse(http.StatusBadRequest, "invalid_request", 900144, "The request body must contain the following parameter: '%s'.", parameter)
}

func malformed(format string, args ...any) *fault {
	return refuse(http.StatusBadRequest, "invalid_request", 9002313, "Invalid request. "+format, args...)
}

func notFound() *fault {
	return refuse(http.StatusNotFound, "invalid_request", 90023,
		"There is nothing at this address. Service principals get tokens at /{tenant}/oauth2/v2.0/token; people sign in elsewhere.")
}

// body returns what a fault is answered with (Entra: in these fields).
func (f *fault) body(trace, correlation string, now time.Time) any {
	at := now.UTC().Format("2006-01-02 15:04:05Z")
	return map[string]any{
		"error":             f.code,
		"error_description": fmt.Sprintf("AADSTS%d: %s Trace ID: %s Correlation ID: %s Timestamp: %s", f.number, f.msg, trace, correlation, at),
		"error_codes":       []int{f.number},
		"timestamp":         at,
		"trace_id":          trace,
		"correlation_id":    correlation,
	}
}

// proofFaults are Entra ID's answers to proofs that do not count, by the broker's
// code. Clients are told of a wrong secret by the status 401 (RFC 6749).
var proofFaults = map[string]fault{
	latchkey.CodeSecretWrong:       {status: http.StatusUnauthorized, code: "invalid_client", number: 7000215, msg: "Invalid client secret provided."},
	latchkey.CodeSecretExpired:     {status: http.StatusUnauthorized, code: "invalid_client", number: 7000222, msg: "The provided client secret keys are expired."},
	latchkey.CodeClientUnknown:     {status: http.StatusBadRequest, code: "unauthorized_client", number: 700016, msg: "The application was not found in the directory."},
	latchkey.CodeAssertionInvalid:  {status: http.StatusUnauthorized, code: "invalid_client", number: 700027, msg: "The client assertion failed validation."},
	latchkey.CodeAssertionExpired:  {status: http.StatusUnauthorized, code: "invalid_client", number: 700024, msg: "The client assertion is not within its valid time range."},
	latchkey.CodeAssertionAudience: {status: http.StatusUnauthorized, code: "invalid_client", number: 700023, msg: "The client assertion's audience is not this endpoint."},
	latchkey.CodeFederatedMismatch: {status: http.StatusUnauthorized, code: "invalid_client", number: 70021, msg: "No matching federated identity record was found for the presented assertion."},
	latchkey.CodeIssuerUnavailable: {status: http.StatusServiceUnavailable, code: "temporarily_unavailable", number: 90033, msg: "The issuer of the assertion could not be asked for its keys.", retry: time.Second},
	latchkey.CodeSignInThrottled:   {status: http.StatusTooManyRequests, code: "temporarily_unavailable", number: 50196, msg: "Too many attempts failed.", retry: time.Second},
}

// brokerFault returns an error of the broker as Entra ID would put it, with the
// broker's own words after.
func brokerFault(e *latchkey.Error) *fault {
	f, ok := proofFaults[e.Code]
	if !ok {
		switch e.Kind {
		case latchkey.ErrInvalid:
			f = *malformed("A parameter is not valid.")
			for _, field := range e.Fields {
				f.msg += fmt.Sprintf(" %s %s.", parameterOf(field.Field), field.Message)
			}
			return &f
		case latchkey.ErrUnauthenticated, latchkey.ErrDenied:
			f = *refuse(http.StatusUnauthorized, "invalid_client", 7000112, "The application may not sign in.")
		default:
			f = *refuse(http.StatusServiceUnavailable, "temporarily_unavailable", 90033, "A transient error has occurred. Please try again.")
			f.retry = time.Second
		}
	}
	if e.Msg != "" {
		f.msg += " " + strings.ToUpper(e.Msg[:1]) + strings.TrimSuffix(e.Msg[1:], ".") + "."
	}
	if e.Remedy != "" && !strings.Contains(e.Msg, e.Remedy) {
		f.msg += " What to do: " + strings.TrimSuffix(e.Remedy, ".") + "."
	}
	return &f
}

// parameterOf returns the name that a field of the broker's has in a request.
func parameterOf(field string) string {
	switch field {
	case "secret":
		return "client_secret"
	case "assertion":
		return "client_assertion"
	}
	return field
}

// clip bounds a part of a request that an answer repeats.
func clip(s string) string {
	if len(s) > 64 {
		s = s[:64]
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == '\ufffd' {
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, ""))
}

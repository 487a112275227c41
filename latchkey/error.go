package latchkey

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// The kinds of failure that callers tell apart with [errors.Is]. Any error that
// is none of these is internal: it is logged once and never shown.
var (
	ErrInvalid         = errors.New("invalid")         // the request is wrong; see Error.Fields
	ErrUnauthenticated = errors.New("unauthenticated") // nobody, or a token that does not count
	ErrDenied          = errors.New("denied")          // visible to the caller, but not allowed
	ErrNotFound        = errors.New("not found")       // does not exist, or not for this caller
	ErrConflict        = errors.New("conflict")        // the state of the thing does not allow it
	ErrUnavailable     = errors.New("unavailable")     // try again later
)

// CodeStorageFull is the code of an ErrUnavailable: the server cannot record
// anything until somebody makes room, and changes nothing meanwhile.
const CodeStorageFull = "storage-full"

// CodeTooManyChecks is the code of an ErrDenied: somebody has had many references
// checked that are not saved, and may again from RetryAt on.
const CodeTooManyChecks = "too-many-checks"

// An Error is a failure with a text for the user. Err, when set, is the cause:
// it is for the log and never in an answer of the server. Programs on this end
// may show it.
type Error struct {
	Kind   error        // one of the Err… values above
	Code   string       // stable, for programs: "name-taken"
	Msg    string       // a sentence that says what failed and what to do
	Fields []FieldError // the faults of a request, with Kind ErrInvalid
	Err    error

	// Of a failed authorization or check: who was refused, by which check, and
	// what would help.
	Identity string
	Check    string
	Remedy   string

	RetryAt time.Time // from when on trying again may help; zero is not known
}

// A FieldError is one fault of one field of a request. Message never repeats
// the submitted value.
type FieldError struct {
	Field   string `json:"field" doc:"path of the field, for example secret.vault"`
	Message string `json:"message" doc:"what is wrong and what is allowed"`
}

func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Msg)
	for i, f := range e.Fields {
		sep := "; "
		if i == 0 && e.Msg != "" {
			sep = ": "
		} else if i == 0 {
			sep = ""
		}
		fmt.Fprintf(&b, "%s%s: %s", sep, f.Field, f.Message)
	}
	if e.Err != nil {
		fmt.Fprintf(&b, ": %v", e.Err)
	}
	return b.String()
}

// Unwrap makes both the kind and the cause visible to [errors.Is].
func (e *Error) Unwrap() []error {
	if e.Err == nil {
		return []error{e.Kind}
	}
	return []error{e.Kind, e.Err}
}

// Invalid returns an ErrInvalid for one field.
func Invalid(field, format string, args ...any) *Error {
	return &Error{
		Kind: ErrInvalid, Code: "invalid", Msg: "the request is not valid",
		Fields: []FieldError{{Field: field, Message: fmt.Sprintf(format, args...)}},
	}
}

// NotFound returns the ErrNotFound for a thing that does not exist or that the
// caller may not see: the two are not told apart.
func NotFound(kind Kind) *Error {
	return &Error{
		Kind: ErrNotFound, Code: "not-found",
		Msg: fmt.Sprintf("there is no such %s, or you may not see it", kind),
	}
}

// Conflict returns an ErrConflict with the given code and sentence.
func Conflict(code, format string, args ...any) *Error {
	return &Error{Kind: ErrConflict, Code: code, Msg: fmt.Sprintf(format, args...)}
}

// faults collects what is wrong with a request, field by field.
type faults []FieldError

func (f *faults) add(field, format string, args ...any) {
	*f = append(*f, FieldError{Field: field, Message: fmt.Sprintf(format, args...)})
}

// check adds err's text for field if err is not nil.
func (f *faults) check(field string, err error) {
	if err != nil {
		f.add(field, "%v", err)
	}
}

// err returns all faults as one *Error, or nil.
func (f faults) err() error {
	if len(f) == 0 {
		return nil
	}
	return &Error{Kind: ErrInvalid, Code: "invalid", Msg: "the request is not valid", Fields: f}
}

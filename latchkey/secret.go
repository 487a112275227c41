package latchkey

import (
	"errors"
	"fmt"
	"log/slog"
)

const redacted = "[secret]"

// A Secret holds a value that must not be seen: it prints, logs and marshals as
// "[secret]". Its one exit is Reveal.
//
// The text is behind a pointer because package fmt prints unexported fields
// without calling their methods; a pointer prints as an address.
type Secret struct {
	text *string
}

// NewSecret returns text as a Secret.
func NewSecret(text string) Secret { return Secret{&text} }

// Reveal returns the value. Callers hand it on at once: into a sealed message,
// a vault's request, or the process it is for.
func (s Secret) Reveal() string {
	if s.text == nil {
		return ""
	}
	return *s.text
}

// IsZero reports whether s holds no value, not even an empty one.
func (s Secret) IsZero() bool { return s.text == nil }

// String implements [fmt.Stringer] and never returns the value.
func (s Secret) String() string { return redacted }

// GoString implements [fmt.GoStringer] and never returns the value.
func (s Secret) GoString() string { return redacted }

// Format implements [fmt.Formatter] and never writes the value.
func (s Secret) Format(f fmt.State, verb rune) { fmt.Fprint(f, redacted) }

// LogValue implements [slog.LogValuer] and never returns the value.
func (s Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalJSON refuses: a secret leaves only where code says so by name.
func (s Secret) MarshalJSON() ([]byte, error) {
	return nil, errors.New("latchkey: a secret cannot be marshalled")
}

// MarshalText refuses, as MarshalJSON does.
func (s Secret) MarshalText() ([]byte, error) {
	return nil, errors.New("latchkey: a secret cannot be marshalled")
}

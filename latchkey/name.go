package latchkey

import (
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Limits of texts, in characters.
const (
	MaxName        = 100    // names and display names
	MaxDescription = 2000   // descriptions
	MaxSearch      = 100    // what a list is searched for
	MaxValue       = 2000   // values of environment variables
	MaxPage        = 500    // items of one page of a list
	DefaultPage    = 100    // items of a page when the request does not say
	MaxSecretBytes = 25_600 // bytes of a secret value (AKV: 25 kB)
)

// CheckName returns what is wrong with a name that people read: it is 1 to
// MaxName characters without control characters and without white space around
// it.
func CheckName(s string) error {
	switch {
	case !utf8.ValidString(s):
		return errors.New("is not valid UTF-8")
	case strings.TrimSpace(s) == "":
		return errors.New("must not be empty")
	case strings.TrimSpace(s) != s:
		return errors.New("must not begin or end with white space")
	case utf8.RuneCountInString(s) > MaxName:
		return fmt.Errorf("must be at most %d characters", MaxName)
	case strings.ContainsFunc(s, isControl):
		return errors.New("must not contain control characters")
	}
	return nil
}

// checkText is CheckName for longer and optional texts: line breaks and tabs
// are allowed.
func checkText(s string, limit int) error {
	switch {
	case !utf8.ValidString(s):
		return errors.New("is not valid UTF-8")
	case utf8.RuneCountInString(s) > limit:
		return fmt.Errorf("must be at most %d characters", limit)
	case strings.ContainsFunc(s, func(r rune) bool { return isControl(r) && r != '\n' && r != '\r' && r != '\t' }):
		return errors.New("must not contain control characters")
	}
	return nil
}

// Steers reports whether r is a control character, which a terminal may act on,
// line breaks and tabs included, or a format character, which hides or reorders
// text, such as the right-to-left override.
func Steers(r rune) bool { return unicode.IsControl(r) || unicode.Is(unicode.Cf, r) }

// isControl reports whether r has no place in a name.
func isControl(r rune) bool { return Steers(r) || r == unicode.ReplacementChar }

// SortKey returns the text by which names are ordered and paged: the bytes of the
// lower-case name in hexadecimal, so that the order is the same under every
// collation of every database.
func SortKey(name string) string { return hex.EncodeToString([]byte(strings.ToLower(name))) }

// SearchKey returns the text that a search looks at: texts in lower case, in a line
// each, so that nothing is found across them.
func SearchKey(texts ...string) string { return strings.ToLower(strings.Join(texts, "\n")) }

var (
	environmentNameRE = regexp.MustCompile(`^[a-z][a-z0-9-]{0,61}[a-z0-9]$|^[a-z]$`)
	prefixRE          = regexp.MustCompile(`^[a-z][a-z0-9]{1,7}$`)
	variableNameRE    = regexp.MustCompile(`^[a-z][a-z0-9]{1,7}_[A-Za-z0-9_]+$`)
	idRE              = regexp.MustCompile(`^(user|sp|grp|mach)_`)
	loginRE           = regexp.MustCompile(`^[a-z0-9][a-z0-9._@+-]{0,98}[a-z0-9]$|^[a-z0-9]$`)
)

// VariableName returns the unique name that a variable gets when none is given:
// the prefix, an underscore, and the ASCII letters and digits of the display
// name. It returns "" when nothing of the display name can be used.
func VariableName(prefix, displayName string) string {
	rest := strings.Map(func(r rune) rune {
		if r < utf8.RuneSelf && (unicode.IsLetter(r) || unicode.IsDigit(r) || r == '_') {
			return r
		}
		return -1
	}, displayName)
	if rest == "" {
		return ""
	}
	name := prefix + "_" + rest
	return name[:min(len(name), MaxName)]
}

package agent

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

const (
	mask = "***"
	// minMasked is the length from which values are masked: shorter ones would
	// match everywhere, and masking them would tell them.
	minMasked = 4
)

// maskPatterns returns the forms in which a value is looked for in output: as it
// is, and in base64, URL, hexadecimal and JSON encoding. It is hygiene against
// accidents, not protection: a flow that has a value can always print it in
// another form.
func maskPatterns(value string) [][]byte {
	if len(value) < minMasked {
		return nil
	}
	raw := []byte(value)
	// Go escapes <, > and & in JSON, most other programs do not.
	quoted, plain := quote(value, true), quote(value, false)
	hexed := hex.EncodeToString(raw)
	forms := []string{
		value,
		base64.StdEncoding.EncodeToString(raw), base64.RawStdEncoding.EncodeToString(raw),
		base64.URLEncoding.EncodeToString(raw), base64.RawURLEncoding.EncodeToString(raw),
		hexed, strings.ToUpper(hexed),
		quoted, plain, asciiQuote(plain),
	}
	for _, f := range urlForms(value) {
		forms = append(forms, f, lowerEscapes(f))
	}
	slices.Sort(forms)
	forms = slices.Compact(forms)
	patterns := make([][]byte, len(forms))
	for i, f := range forms {
		patterns[i] = []byte(f)
	}
	return patterns
}

// urlForms returns a text as libraries of several languages write it in a URL:
// they differ in which characters they escape.
func urlForms(text string) []string {
	query := url.QueryEscape(text)
	strict := strings.ReplaceAll(query, "+", "%20") // RFC 3986; Python's quote_plus is query
	marks := strings.NewReplacer("%21", "!", "%28", "(", "%29", ")", "%2A", "*")
	return []string{
		query, url.PathEscape(text), strict,
		strings.ReplaceAll(strict, "%2F", "/"),                // Python's quote
		marks.Replace(query),                                  // .NET's UrlEncode
		strings.ReplaceAll(marks.Replace(strict), "%27", "'"), // JavaScript's encodeURIComponent
	}
}

// lowerEscapes returns a URL with its escapes in lower case, as .NET writes them.
func lowerEscapes(s string) string {
	b := []byte(s)
	for i := 0; i+2 < len(b); i++ {
		if b[i] == '%' {
			copy(b[i+1:i+3], bytes.ToLower(b[i+1:i+3]))
			i += 2
		}
	}
	return string(b)
}

// asciiQuote returns the inside of a JSON string with everything beyond ASCII
// escaped, as Python and others write it.
func asciiQuote(quoted string) string {
	var b strings.Builder
	for _, unit := range utf16.Encode([]rune(quoted)) {
		if unit < utf8.RuneSelf {
			b.WriteByte(byte(unit))
		} else {
			fmt.Fprintf(&b, `\u%04x`, unit)
		}
	}
	return b.String()
}

// quote returns a text as it is inside a JSON string.
func quote(text string, escapeHTML bool) string {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(escapeHTML)
	if e.Encode(text) != nil {
		return text
	}
	return strings.TrimSuffix(strings.TrimPrefix(strings.TrimSpace(b.String()), `"`), `"`)
}

// A masker replaces patterns in a stream, also when a pattern is split between
// writes. It holds back what may be the beginning of one.
type masker struct {
	patterns [][]byte // longest first
	first    [256]bool
	held     []byte
}

func newMasker(patterns [][]byte) *masker {
	m := &masker{patterns: slices.Clone(patterns)}
	slices.SortFunc(m.patterns, func(a, b []byte) int { return len(b) - len(a) })
	for _, p := range m.patterns {
		m.first[p[0]] = true
	}
	return m
}

// write returns the part of the stream up to now that can be shown; the result
// is good until the next call.
func (m *masker) write(b []byte) []byte {
	m.held = append(m.held, b...)
	return m.take(false)
}

// flush returns what is left at the end of the stream.
func (m *masker) flush() []byte { return m.take(true) }

func (m *masker) take(end bool) []byte {
	var out []byte
	i := 0
scan:
	for i < len(m.held) {
		rest := m.held[i:]
		if m.first[rest[0]] {
			for _, p := range m.patterns {
				if bytes.HasPrefix(rest, p) {
					out = append(out, mask...)
					i += len(p)
					continue scan
				}
				if !end && len(rest) < len(p) && bytes.HasPrefix(p, rest) {
					break scan // more must come before this can be told
				}
			}
		}
		out = append(out, rest[0])
		i++
	}
	left := copy(m.held, m.held[i:])
	clear(m.held[left:])
	m.held = m.held[:left]
	return out
}

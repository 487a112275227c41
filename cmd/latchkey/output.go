package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
	"unicode/utf16"
	"unicode/utf8"

	"latchkey.dev/latchkey"
)

// printJSON writes v for programs.
func (a *app) printJSON(v any) error {
	b, err := marshalJSON(v, "  ")
	if err != nil {
		return err
	}
	_, err = a.std.out.Write(b)
	return err
}

// marshalJSON returns v as JSON with a line break at the end. Characters that a
// terminal would act on are escaped, which changes nothing for programs.
func marshalJSON(v any, indent string) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetIndent("", indent)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	escaped := make([]byte, 0, b.Len())
	for _, r := range b.String() {
		switch {
		case r == '\n' || !latchkey.Steers(r):
			escaped = utf8.AppendRune(escaped, r)
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			escaped = fmt.Appendf(escaped, `\u%04x\u%04x`, high, low)
		default:
			escaped = fmt.Appendf(escaped, `\u%04x`, r)
		}
	}
	return escaped, nil
}

// printList writes a list: a JSON array for programs, else a table with a line
// for each item.
func printList[T any](a *app, items iter.Seq2[T, error], header []string, row func(T) []string) error {
	if a.json {
		all := []T{}
		for item, err := range items {
			if err != nil {
				return err
			}
			all = append(all, item)
		}
		return a.printJSON(all)
	}
	return printTable(a, items, header, row)
}

// withoutErrors returns the items of a list that is there already.
func withoutErrors[T any](items []T) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for _, item := range items {
			if !yield(item, nil) {
				return
			}
		}
	}
}

func printTable[T any](a *app, items iter.Seq2[T, error], header []string, row func(T) []string) error {
	t := table{header: header}
	for item, err := range items {
		if err != nil {
			return err
		}
		t.add(row(item))
	}
	if len(t.rows) == 0 {
		a.say("there are none")
		return nil
	}
	return t.write(a.std.out, terminalWidth(a.std.out), a.colors(a.std.out))
}

// A field is one line of what show prints.
type field struct{ name, value string }

// printOne writes one thing: JSON for programs, else a line for each field
// that is not empty.
func (a *app) printOne(v any, fields ...field) error {
	if a.json {
		return a.printJSON(v)
	}
	return writeFields(a.std.out, a.colors(a.std.out), fields)
}

// writeFields writes a line for each field that is not empty.
func writeFields(to io.Writer, colors bool, fields []field) error {
	w := tabwriter.NewWriter(to, 0, 4, 2, ' ', 0)
	for _, f := range fields {
		value := strings.ReplaceAll(clean(f.value), "\t", " ")
		if value == "" {
			continue
		}
		if colors && slices.Contains(stateColumns, strings.ToUpper(f.name)) {
			value = paint(stateColor(value), value)
		}
		fmt.Fprintf(w, "%s:\t%s\n", cleanLine(f.name), strings.ReplaceAll(value, "\n", "\n\t"))
	}
	return w.Flush()
}

// timeLayout is how people are shown a time.
const timeLayout = "2006-01-02 15:04:05"

// when writes a time for people.
func when(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.Local().Format(timeLayout)
}

func whenPtr(t *time.Time) string {
	if t == nil {
		return ""
	}
	return when(*t)
}

// join writes a list of texts on one line.
func joined[T ~string](items []T) string {
	texts := make([]string, len(items))
	for i, s := range items {
		texts[i] = string(s)
	}
	return strings.Join(texts, ", ")
}

// yes writes what holds, and nothing for what does not.
func yes(b bool) string {
	if b {
		return "yes"
	}
	return ""
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// quoteCommand writes a command as one could type it into a shell.
func quoteCommand(words []string) string {
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = quoteWord(w)
	}
	return strings.Join(quoted, " ")
}

func quoteWord(w string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("_-./:=@%+,", r)
	}
	if w != "" && strings.IndexFunc(w, func(r rune) bool { return !plain(r) }) < 0 {
		return w
	}
	return "'" + strings.ReplaceAll(w, "'", `'\''`) + "'"
}

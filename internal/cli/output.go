package cli

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

// PrintJSON writes v for programs.
func (c *Console) PrintJSON(v any) error {
	b, err := MarshalJSON(v, "  ")
	if err != nil {
		return err
	}
	_, err = c.Out.Write(b)
	return err
}

// MarshalJSON returns v as JSON with a line break at the end. Characters that a
// terminal would act on are escaped, which changes nothing for programs.
func MarshalJSON(v any, indent string) ([]byte, error) {
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

// PrintList writes a list: a JSON array for programs, else a table with a line
// for each item.
func PrintList[T any](c *Console, items iter.Seq2[T, error], header []string, row func(T) []string) error {
	if c.JSON {
		all := []T{}
		for item, err := range items {
			if err != nil {
				return err
			}
			all = append(all, item)
		}
		return c.PrintJSON(all)
	}
	return PrintTable(c, items, header, row)
}

// WithoutErrors returns the items of a list that is there already.
func WithoutErrors[T any](items []T) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for _, item := range items {
			if !yield(item, nil) {
				return
			}
		}
	}
}

// PrintTable writes a list for people, and says so if there is nothing in it.
func PrintTable[T any](c *Console, items iter.Seq2[T, error], header []string, row func(T) []string) error {
	t := Table{Header: header}
	for item, err := range items {
		if err != nil {
			return err
		}
		t.Add(row(item))
	}
	if len(t.Rows) == 0 {
		c.Say("there are none")
		return nil
	}
	return t.Write(c.Out, TerminalWidth(c.Out), c.Colors(c.Out))
}

// A Field is one line of what show prints: a name and a value.
type Field [2]string

// PrintOne writes one thing: JSON for programs, else a line for each field
// that is not empty.
func (c *Console) PrintOne(v any, fields ...Field) error {
	if c.JSON {
		return c.PrintJSON(v)
	}
	return WriteFields(c.Out, c.Colors(c.Out), fields)
}

// WriteFields writes a line for each field that is not empty.
func WriteFields(to io.Writer, colors bool, fields []Field) error {
	w := tabwriter.NewWriter(to, 0, 4, 2, ' ', 0)
	for _, f := range fields {
		value := strings.ReplaceAll(Clean(f[1]), "\t", " ")
		if value == "" {
			continue
		}
		if colors && slices.Contains(stateColumns, strings.ToUpper(f[0])) {
			value = Paint(StateColor(value), value)
		}
		fmt.Fprintf(w, "%s:\t%s\n", CleanLine(f[0]), strings.ReplaceAll(value, "\n", "\n\t"))
	}
	return w.Flush()
}

// TimeLayout is how people are shown a time.
const TimeLayout = "2006-01-02 15:04:05"

// When writes a time for people.
func When(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.Local().Format(TimeLayout)
}

// WhenPtr is When for a time that may be missing.
func WhenPtr(t *time.Time) string {
	if t == nil {
		return ""
	}
	return When(*t)
}

// Joined writes a list of texts on one line.
func Joined[T ~string](items []T) string {
	texts := make([]string, len(items))
	for i, s := range items {
		texts[i] = string(s)
	}
	return strings.Join(texts, ", ")
}

// Yes writes what holds, and nothing for what does not.
func Yes(b bool) string {
	if b {
		return "yes"
	}
	return ""
}

// QuoteCommand writes a command as one could type it into a shell.
func QuoteCommand(words []string) string {
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = QuoteWord(w)
	}
	return strings.Join(quoted, " ")
}

// QuoteWord writes one word of a command so.
func QuoteWord(w string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("_-./:=@%+,", r)
	}
	if w != "" && strings.IndexFunc(w, func(r rune) bool { return !plain(r) }) < 0 {
		return w
	}
	return "'" + strings.ReplaceAll(w, "'", `'\''`) + "'"
}

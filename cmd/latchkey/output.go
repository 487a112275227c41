package main

import (
	"encoding/json"
	"fmt"
	"iter"
	"strings"
	"text/tabwriter"
	"time"
)

// printJSON writes v for programs.
func (a *app) printJSON(v any) error {
	enc := json.NewEncoder(a.std.out)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
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

func printTable[T any](a *app, items iter.Seq2[T, error], header []string, row func(T) []string) error {
	w := tabwriter.NewWriter(a.std.out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, strings.Join(header, "\t"))
	n := 0
	for item, err := range items {
		if err != nil {
			return err
		}
		n++
		fmt.Fprintln(w, strings.Join(row(item), "\t"))
	}
	if n == 0 {
		a.say("there are none")
		return nil
	}
	return w.Flush()
}

// A field is one line of what show prints.
type field struct{ name, value string }

// printOne writes one thing: JSON for programs, else a line for each field
// that is not empty.
func (a *app) printOne(v any, fields ...field) error {
	if a.json {
		return a.printJSON(v)
	}
	w := tabwriter.NewWriter(a.std.out, 0, 4, 2, ' ', 0)
	for _, f := range fields {
		if f.value != "" {
			fmt.Fprintf(w, "%s:\t%s\n", f.name, strings.ReplaceAll(f.value, "\n", "\n\t"))
		}
	}
	return w.Flush()
}

// when writes a time for people.
func when(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.Local().Format("2006-01-02 15:04:05")
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

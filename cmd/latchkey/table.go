package main

import (
	"io"
	"slices"
	"strings"
	"unicode/utf8"
)

const (
	columnGap = 2
	// minColumn is how narrow a column may become to fit the terminal.
	minColumn = 8
)

// A table is what a list shows to people. Columns named ID are never cut: they
// are there to be copied.
type table struct {
	header []string
	rows   [][]string
}

// stateColumns are the headers of columns, and the names of fields, that hold a
// state with a colour.
var stateColumns = []string{"STATE", "STATUS", "CHECK", "OUTCOME", "RESULT"}

func (t *table) add(row []string) {
	cells := make([]string, len(row))
	for i, s := range row {
		cells[i] = cleanLine(s)
	}
	t.rows = append(t.rows, cells)
}

// write writes the table. Where width is not 0, columns are cut, the widest
// first, until a line has at most that many characters, if that can be.
func (t *table) write(w io.Writer, width int, colors bool) error {
	widths := t.widths(width)
	var b strings.Builder
	line := func(cells []string, color func(column int, text string) string) {
		for i, s := range cells {
			s = cut(s, widths[i])
			pad := widths[i] - utf8.RuneCountInString(s) + columnGap
			if colors {
				s = paint(color(i, s), s)
			}
			b.WriteString(s)
			if i < len(cells)-1 {
				b.WriteString(strings.Repeat(" ", pad))
			}
		}
		b.WriteByte('\n')
	}
	line(t.header, func(int, string) string { return bold })
	for _, row := range t.rows {
		line(row, func(i int, s string) string {
			if slices.Contains(stateColumns, t.header[i]) {
				return stateColor(s)
			}
			return ""
		})
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// widths returns the width of each column.
func (t *table) widths(limit int) []int {
	widths := make([]int, len(t.header))
	for _, row := range append([][]string{t.header}, t.rows...) {
		for i, s := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(s))
		}
	}
	if limit == 0 {
		return widths
	}
	total := columnGap * (len(widths) - 1)
	for _, n := range widths {
		total += n
	}
	for total > limit {
		widest := -1
		for i, n := range widths {
			least := max(minColumn, utf8.RuneCountInString(t.header[i]))
			if t.header[i] != "ID" && n > least && (widest < 0 || n > widths[widest]) {
				widest = i
			}
		}
		if widest < 0 {
			break
		}
		widths[widest]--
		total--
	}
	return widths
}

// cut shortens a text to n characters; an ellipsis stands for what is missing.
// Of an ARM id and of what was cut at its beginning already, the end stays.
func cut(s string, n int) string {
	r := []rune(s)
	switch {
	case len(r) <= n:
		return s
	case n <= 1:
		return "…"
	case r[0] == '/' || r[0] == '…':
		return "…" + string(r[len(r)-n+1:])
	}
	return string(r[:n-1]) + "…"
}

package cli

import (
	"io"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

const (
	columnGap = 2
	// minColumn is how narrow a column may become to fit the terminal.
	minColumn = 8
	// goodColumn is how narrow a column may become before others are left out.
	goodColumn = 14
)

// A Table is what a list shows to people. Ids, states and times are never cut:
// they are there to be copied, or mean nothing in part.
type Table struct {
	Header []string
	Rows   [][]string
}

// stateColumns are the headers of columns, and the names of fields, that hold a
// state with a colour.
var stateColumns = []string{"STATE", "STATUS", "CHECK", "OUTCOME", "RESULT"}

// spareColumns are the headers of columns that a narrow terminal goes without,
// the first one first: show has what they say.
var spareColumns = []string{
	"QUEUED", "RUNNING", "SHARED UID", "DISPLAY NAME", "PREFIX", "HANDOVER", "CONTENT TYPE", "ENABLED", "LAST USED",
	"FINISHED", "DRIVER", "MADE BY", "REVISION", "YOUR ROLE", "EXPOSURE", "LAST SEEN", "USER NAME", "MACHINE",
}

// Add adds a line.
func (t *Table) Add(row []string) {
	cells := make([]string, len(row))
	for i, s := range row {
		cells[i] = CleanLine(s)
	}
	t.Rows = append(t.Rows, cells)
}

// Write writes the table. Where width is not 0 it is made to fit into lines of
// that many characters, if that can be: times are shortened, columns are cut, the
// widest first, and those that can be spared are left out.
func (t *Table) Write(w io.Writer, width int, colors bool) error {
	fits := t.fit(width)
	widths, _ := fits.widths(width, minColumn)
	var b strings.Builder
	line := func(cells []string, color func(column int, text string) string) {
		for i, s := range cells {
			short := Cut(s, widths[i])
			pad := widths[i] - utf8.RuneCountInString(short) + columnGap
			if colors {
				short = Paint(color(i, s), short)
			}
			b.WriteString(short)
			if i < len(cells)-1 {
				b.WriteString(strings.Repeat(" ", pad))
			}
		}
		b.WriteByte('\n')
	}
	line(fits.Header, func(int, string) string { return bold })
	for _, row := range fits.Rows {
		line(row, func(i int, s string) string {
			if slices.Contains(stateColumns, fits.Header[i]) {
				return StateColor(s)
			}
			return ""
		})
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// fit returns the table, or what of it fits into a width: without what is the
// same in all times first, then without columns that can be spared.
func (t *Table) fit(width int) *Table {
	if _, ok := t.widths(width, goodColumn); ok {
		return t
	}
	fits := t.shortTimes()
	for _, spare := range spareColumns {
		if _, ok := fits.widths(width, goodColumn); ok {
			break
		}
		if i := slices.Index(fits.Header, spare); i >= 0 && (spare != "QUEUED" || !fits.holdsTimes(i)) {
			fits = fits.without(i)
		}
	}
	return fits
}

// without returns the table without one column.
func (t *Table) without(column int) *Table {
	without := func(cells []string) []string {
		return slices.Delete(slices.Clone(cells), column, column+1)
	}
	less := &Table{Header: without(t.Header)}
	for _, row := range t.Rows {
		less.Rows = append(less.Rows, without(row))
	}
	return less
}

// shortTimes returns the table with times without their seconds, and without the
// year where all of a column are of the same.
func (t *Table) shortTimes() *Table {
	less := &Table{Header: t.Header}
	for _, row := range t.Rows {
		less.Rows = append(less.Rows, slices.Clone(row))
	}
	for i := range t.Header {
		if !t.holdsTimes(i) {
			continue
		}
		years := map[string]bool{}
		for _, row := range t.Rows {
			if row[i] != "" {
				years[row[i][:len("2006")]] = true
			}
		}
		for _, row := range less.Rows {
			if row[i] == "" {
				continue
			}
			row[i] = row[i][:len(TimeLayout)-len(":05")]
			if len(years) == 1 {
				row[i] = row[i][len("2006-"):]
			}
		}
	}
	return less
}

// timeLayouts are how times are written, and shortened.
var timeLayouts = []string{TimeLayout, "2006-01-02 15:04", "01-02 15:04"}

// holdsTimes reports whether a column holds times, as when or shortTimes write
// them.
func (t *Table) holdsTimes(column int) bool {
	some := false
	for _, row := range t.Rows {
		if row[column] == "" {
			continue
		}
		if !slices.ContainsFunc(timeLayouts, func(layout string) bool { _, err := time.Parse(layout, row[column]); return err == nil }) {
			return false
		}
		some = true
	}
	return some
}

// whole reports whether a column is never cut.
func (t *Table) whole(column int) bool {
	return t.Header[column] == "ID" || slices.Contains(stateColumns, t.Header[column]) || t.holdsTimes(column)
}

// widths returns the width of each column, none cut to less than so many
// characters, and whether they fit.
func (t *Table) widths(limit, narrowest int) ([]int, bool) {
	widths := make([]int, len(t.Header))
	for _, row := range append([][]string{t.Header}, t.Rows...) {
		for i, s := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(s))
		}
	}
	if limit == 0 {
		return widths, true
	}
	total := columnGap * (len(widths) - 1)
	for _, n := range widths {
		total += n
	}
	for total > limit {
		widest := -1
		for i, n := range widths {
			least := max(narrowest, utf8.RuneCountInString(t.Header[i]))
			if !t.whole(i) && n > least && (widest < 0 || n > widths[widest]) {
				widest = i
			}
		}
		if widest < 0 {
			return widths, false
		}
		widths[widest]--
		total--
	}
	return widths, true
}

// Cut shortens a text to n characters; an ellipsis stands for what is missing.
// Of an ARM id and of what was cut at its beginning already, the end stays.
func Cut(s string, n int) string {
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

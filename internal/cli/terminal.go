package cli

import (
	"io"
	"os"
	"strings"

	"golang.org/x/term"

	"latchkey.dev/latchkey"
)

// IsTerminal reports whether a person is at the other end.
func IsTerminal(v any) bool {
	f, ok := v.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// TerminalWidth returns how many columns w has, or 0 if it is no terminal.
func TerminalWidth(w io.Writer) int {
	width, _ := terminalSize(w)
	return width
}

// TerminalHeight returns how many lines w has, or 0 if it is no terminal.
func TerminalHeight(w io.Writer) int {
	_, height := terminalSize(w)
	return height
}

func terminalSize(w io.Writer) (width, height int) {
	f, ok := w.(*os.File)
	if !ok {
		return 0, 0
	}
	width, height, err := term.GetSize(int(f.Fd()))
	if err != nil {
		return 0, 0
	}
	return width, height
}

// Colors reports whether what is written to w may be coloured.
func (c *Console) Colors(w io.Writer) bool {
	switch c.Color {
	case ColorAlways:
		return true
	case ColorNever:
		return false
	}
	return IsTerminal(w) && c.Getenv("NO_COLOR") == "" && c.Getenv("TERM") != "dumb"
}

// Redraws reports whether lines on w can be written anew: it is a terminal that
// understands the few sequences for that.
func (c *Console) Redraws(w io.Writer) bool { return IsTerminal(w) && c.Getenv("TERM") != "dumb" }

// Colours of [Paint].
const (
	Red    = "31"
	Green  = "32"
	Yellow = "33"
	bold   = "1"
)

// Paint colours a text for a terminal.
func Paint(color, s string) string {
	if color == "" || s == "" {
		return s
	}
	return "\033[" + color + "m" + s + "\033[0m"
}

// stateColors are the colours of states of runs, machines and checks, and of
// outcomes in the audit log.
var stateColors = map[string]string{
	"succeeded": Green, "online": Green, "passed": Green,
	"running": Yellow, "queued": Yellow, "checking": Yellow, "unknown": Yellow, "disabled": Yellow, "skipped": Yellow,
	"failed": Red, "cancelled": Red, "timed-out": Red, "offline": Red, "quarantined": Red, "denied": Red,
}

// StateColor returns the colour of a state, by its first word.
func StateColor(s string) string {
	word, _, _ := strings.Cut(s, " ")
	return stateColors[word]
}

// Clean takes out of a text what a terminal would act on: names, messages and
// output are other people's. Line breaks and tabs stay.
func Clean(s string) string {
	return strings.Map(func(r rune) rune {
		if r != '\n' && r != '\t' && latchkey.Steers(r) {
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, "\uFFFD"))
}

// CleanLine is Clean for a text that has to stay on one line.
func CleanLine(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' || r == '\u2028' || r == '\u2029' {
			return ' '
		}
		return r
	}, Clean(s))
}

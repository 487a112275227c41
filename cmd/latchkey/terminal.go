package main

import (
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"latchkey.dev/latchkey"
)

// Values of --color.
const (
	colorAuto   = "auto"
	colorAlways = "always"
	colorNever  = "never"
)

// isTerminal reports whether a person is at the other end.
func isTerminal(v any) bool {
	f, ok := v.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// terminalWidth returns how many columns w has, or 0 if it is no terminal.
func terminalWidth(w io.Writer) int {
	width, _ := terminalSize(w)
	return width
}

// terminalHeight returns how many lines w has, or 0 if it is no terminal.
func terminalHeight(w io.Writer) int {
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

// colors reports whether what is written to w may be coloured.
func (a *app) colors(w io.Writer) bool {
	switch a.color {
	case colorAlways:
		return true
	case colorNever:
		return false
	}
	return isTerminal(w) && a.getenv("NO_COLOR") == "" && a.getenv("TERM") != "dumb"
}

// redraws reports whether lines on w can be written anew: it is a terminal that
// understands the few sequences for that.
func (a *app) redraws(w io.Writer) bool { return isTerminal(w) && a.getenv("TERM") != "dumb" }

// checkColor refuses other values of --color.
func (a *app) checkColor(*cobra.Command) error {
	switch a.color {
	case colorAuto, colorAlways, colorNever:
		return nil
	}
	return usagef("--color must be auto, always or never")
}

const (
	red    = "31"
	green  = "32"
	yellow = "33"
	bold   = "1"
)

// paint colours a text for a terminal.
func paint(color, s string) string {
	if color == "" || s == "" {
		return s
	}
	return "\033[" + color + "m" + s + "\033[0m"
}

// stateColors are the colours of states of runs, machines and checks, and of
// outcomes in the audit log.
var stateColors = map[string]string{
	"succeeded": green, "online": green, "passed": green,
	"running": yellow, "queued": yellow, "checking": yellow, "unknown": yellow, "disabled": yellow, "skipped": yellow,
	"failed": red, "cancelled": red, "timed-out": red, "offline": red, "quarantined": red, "denied": red,
}

// stateColor returns the colour of a state, by its first word.
func stateColor(s string) string {
	word, _, _ := strings.Cut(s, " ")
	return stateColors[word]
}

// clean takes out of a text what a terminal would act on: names, messages and
// output are other people's. Line breaks and tabs stay.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if r != '\n' && r != '\t' && latchkey.Steers(r) {
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, "\uFFFD"))
}

// cleanLine is clean for a text that has to stay on one line.
func cleanLine(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' || r == '\u2028' || r == '\u2029' {
			return ' '
		}
		return r
	}, clean(s))
}

// output returns w for the output of a flow: as it is into pipes and files,
// without what a terminal would act on otherwise.
func (a *app) output(w io.Writer) io.Writer {
	if isTerminal(w) {
		return cleanWriter{w}
	}
	return w
}

// A cleanWriter cleans what is written to it, one text at a time.
type cleanWriter struct{ w io.Writer }

func (c cleanWriter) Write(b []byte) (int, error) {
	if _, err := io.WriteString(c.w, clean(string(b))); err != nil {
		return 0, err
	}
	return len(b), nil
}

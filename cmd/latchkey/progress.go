package main

import (
	"fmt"
	"io"
	"sync"
	"time"

	"latchkey.dev/internal/cli"
)

// A progress shows steps to a person: a line for each when it is done, and on a
// terminal a sign of life meanwhile.
type progress struct {
	out      io.Writer
	terminal bool
}

// say writes lines that explain what comes.
func (p *progress) say(format string, args ...any) { fmt.Fprintf(p.out, format+"\n", args...) }

const spinInterval = 120 * time.Millisecond

// step does f and shows how it went. What f returns is shown after the text.
func (p *progress) step(text string, f func() (string, error)) error {
	stop := p.spin(text)
	detail, err := f()
	stop()
	if err != nil {
		fmt.Fprintf(p.out, "  ✗ %s\n", text)
		return fmt.Errorf("%s: %w", text, err)
	}
	if detail != "" {
		text += ": " + detail
	}
	fmt.Fprintf(p.out, "  ✓ %s\n", text)
	return nil
}

// spin shows a sign of life until the function that it returns is called.
func (p *progress) spin(text string) (stop func()) {
	if !p.terminal {
		return func() {}
	}
	end, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(spinInterval)
		defer tick.Stop()
		frames := []rune("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏")
		for i := 0; ; i++ {
			fmt.Fprintf(p.out, "\r  %c %s", frames[i%len(frames)], text)
			select {
			case <-end:
				fmt.Fprint(p.out, "\r\033[K")
				return
			case <-tick.C:
			}
		}
	}()
	return func() { close(end); <-ended }
}

// spin shows a person that the program waits for something, until the function
// that it returns is called, once or more often.
func (a *app) spin(text string) (stop func()) {
	p := progress{a.Err, a.Redraws(a.Err) && !a.Quiet}
	return sync.OnceFunc(p.spin(cli.CleanLine(text)))
}

// A statusLine is one line on a terminal that says how far something is.
// Elsewhere, and with --quiet, it shows nothing.
type statusLine struct {
	out   io.Writer // nil: shows nothing
	width int
	last  time.Time
}

// statusInterval is how often a status line changes at most.
const statusInterval = 200 * time.Millisecond

// newStatus returns a status line on standard error, unless the results go to
// the same terminal.
func (a *app) newStatus(results io.Writer) *statusLine {
	if a.Quiet || !a.Redraws(a.Err) || cli.IsTerminal(results) {
		return &statusLine{}
	}
	return &statusLine{out: a.Err, width: cli.TerminalWidth(a.Err)}
}

func (s *statusLine) set(format string, args ...any) {
	if s.out == nil || time.Since(s.last) < statusInterval {
		return
	}
	s.last = time.Now()
	fmt.Fprint(s.out, "\r"+cli.Cut(cli.CleanLine(fmt.Sprintf(format, args...)), max(s.width-1, 20))+"\033[K")
}

// clear takes the line away.
func (s *statusLine) clear() {
	if s.out != nil && !s.last.IsZero() {
		fmt.Fprint(s.out, "\r\033[K")
		s.last = time.Time{}
	}
}

package main

import (
	"fmt"
	"io"
	"time"
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

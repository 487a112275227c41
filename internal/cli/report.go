package cli

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"

	"latchkey.dev/latchkey"
)

// A UsageError is a command line that was not understood.
type UsageError struct{ error }

// Unwrap returns what was not understood.
func (e UsageError) Unwrap() error { return e.error }

// Usagef returns a UsageError.
func Usagef(format string, args ...any) error { return Usage(fmt.Errorf(format, args...)) }

// Usage makes err a UsageError.
func Usage(err error) error { return UsageError{err} }

// An ExitCode ends the program with a code and without a message.
type ExitCode int

func (e ExitCode) Error() string { return fmt.Sprintf("exit code %d", int(e)) }

// A Hinted error knows the command to try next.
type Hinted struct {
	error
	Try string
}

// Unwrap returns the error without the command.
func (e Hinted) Unwrap() error { return e.error }

// Hint adds the command to try next to err.
func Hint(err error, try string) error { return Hinted{err, try} }

// Codes that the program ends with, beside 0 and those of other programs.
const (
	CodeFailed      = 1
	CodeUsage       = 2
	CodeInterrupted = 130 // as a shell has it for SIGINT
)

// Report prints err for a person and returns the exit code.
func (c *Console) Report(ctx context.Context, err error) int {
	if err == nil {
		return 0
	}
	if code, ok := errors.AsType[ExitCode](err); ok {
		return int(code)
	}
	prefix := c.Program + ":"
	if c.Colors(c.Err) {
		prefix = Paint(Red, prefix)
	}
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		fmt.Fprintln(c.Err, prefix, "interrupted")
		return CodeInterrupted
	}
	for _, line := range Message(err) {
		fmt.Fprintln(c.Err, prefix, Clean(line))
	}
	if h, ok := errors.AsType[Hinted](err); ok {
		fmt.Fprintln(c.Err, c.Program+": try:", CleanLine(h.Try))
	}
	if _, ok := errors.AsType[UsageError](err); ok {
		return CodeUsage
	}
	if ctx.Err() != nil {
		return CodeInterrupted
	}
	return CodeFailed
}

// Remedies are what to try when no server answers.
type Remedies struct {
	Refused   string // nothing listens at the address
	Authority string // the certificate is of an authority that is not known
	Unknown   string // the address has no host
	Other     string
}

// Unreachable adds to an error for which nobody answers at server why that is,
// and what to try.
func Unreachable(err error, server string, try Remedies) error {
	_, authority := errors.AsType[x509.UnknownAuthorityError](err)
	_, dns := errors.AsType[*net.DNSError](err)
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		if server == "" {
			server = "the address"
		}
		return Hint(fmt.Errorf("nothing listens at %s: %w", server, err), try.Refused)
	case authority:
		return Hint(err, try.Authority)
	case dns:
		return Hint(err, try.Unknown)
	case strings.Contains(err.Error(), "server gave HTTP response to HTTPS client"):
		return Hint(err, "--server "+strings.Replace(server, "https://", "http://", 1))
	case strings.Contains(err.Error(), "malformed HTTP response"):
		return Hint(err, "--server "+strings.Replace(server, "http://", "https://", 1))
	}
	return Hint(err, try.Other)
}

// Message returns an error as lines: what failed, then each faulty field, then
// who was refused by which check, then what would help.
func Message(err error) []string {
	switch e := err.(type) {
	case UsageError:
		return Message(e.error)
	case Hinted:
		return Message(e.error)
	case *latchkey.Error: // it joins its kind and its cause, which are told apart below
	case interface{ Unwrap() []error }:
		var lines []string
		for _, e := range e.Unwrap() {
			lines = append(lines, Message(e)...)
		}
		return lines
	}
	e, ok := errors.AsType[*latchkey.Error](err)
	if !ok {
		return textLines(err.Error())
	}
	msg := e.Msg
	if e.Err != nil {
		msg += ": " + e.Err.Error()
	}
	if doing, ok := strings.CutSuffix(err.Error(), e.Error()); ok {
		msg = doing + msg
	}
	lines := textLines(msg)
	for _, f := range e.Fields {
		lines = append(lines, "  "+CleanLine(f.Field)+": "+CleanLine(f.Message))
	}
	if errors.Is(e, latchkey.ErrDenied) {
		for _, f := range []Field{{"identity", e.Identity}, {"check", e.Check}} {
			if f[1] != "" && !strings.Contains(e.Msg, f[1]) {
				lines = append(lines, "  "+f[0]+": "+CleanLine(f[1]))
			}
		}
	}
	if e.Remedy != "" && !strings.Contains(e.Msg, strings.TrimSuffix(e.Remedy, ".")) {
		lines = append(lines, textLines(e.Remedy)...)
	}
	return lines
}

// textLines returns the lines of a text. Those after the first are set in, so
// that none looks like a message of its own.
func textLines(s string) []string {
	lines := strings.Split(strings.TrimSuffix(strings.TrimSpace(s), "."), "\n")
	for i := range lines {
		if i > 0 {
			lines[i] = "  " + lines[i]
		}
	}
	return lines
}

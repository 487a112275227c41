package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"latchkey.dev/latchkey"
)

// A usageError is a command line that was not understood.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// An exitCode ends the program with a code and without a message.
type exitCode int

func (e exitCode) Error() string { return fmt.Sprintf("exit code %d", int(e)) }

// A hinted error knows the command to try next.
type hinted struct {
	error
	try string
}

func (e hinted) Unwrap() error { return e.error }

// hint adds the command to try next to err.
func hint(err error, try string) error { return hinted{err, try} }

// Codes that the program ends with, beside 0 and those of other programs.
const (
	codeFailed      = 1
	codeUsage       = 2
	codeInterrupted = 130 // as a shell has it for SIGINT
)

// report prints err for a person and returns the exit code.
func (a *app) report(ctx context.Context, err error) int {
	if err == nil {
		return 0
	}
	if code, ok := errors.AsType[exitCode](err); ok {
		return int(code)
	}
	prefix := "latchkey:"
	if a.colors(a.std.err) {
		prefix = paint(red, prefix)
	}
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		fmt.Fprintln(a.std.err, prefix, "interrupted")
		return codeInterrupted
	}
	for _, line := range message(err) {
		fmt.Fprintln(a.std.err, prefix, clean(line))
	}
	if h, ok := errors.AsType[hinted](err); ok {
		fmt.Fprintln(a.std.err, "latchkey: try:", cleanLine(h.try))
	}
	if _, ok := errors.AsType[usageError](err); ok {
		return codeUsage
	}
	if ctx.Err() != nil {
		return codeInterrupted
	}
	return codeFailed
}

// message returns an error as lines: what failed, then each faulty field, then
// who was refused by which check, then what would help.
func message(err error) []string {
	switch e := err.(type) {
	case usageError:
		return message(e.error)
	case hinted:
		return message(e.error)
	case *latchkey.Error: // it joins its kind and its cause, which are told apart below
	case interface{ Unwrap() []error }:
		var lines []string
		for _, e := range e.Unwrap() {
			lines = append(lines, message(e)...)
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
		lines = append(lines, "  "+cleanLine(f.Field)+": "+cleanLine(f.Message))
	}
	if errors.Is(e, latchkey.ErrDenied) {
		for _, f := range []field{{"identity", e.Identity}, {"check", e.Check}} {
			if f.value != "" && !strings.Contains(e.Msg, f.value) {
				lines = append(lines, "  "+f.name+": "+cleanLine(f.value))
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

// say tells a person something that is not the command's result.
func (a *app) say(format string, args ...any) {
	if !a.quiet {
		fmt.Fprintln(a.std.err, "latchkey: "+clean(fmt.Sprintf(format, args...)))
	}
}

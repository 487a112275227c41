package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"latchkey.dev/latchkey"
)

// confirm asks before something is deleted. Without a terminal it takes --yes.
func (a *app) confirm(ctx context.Context, sure bool, what string) error {
	if sure {
		return nil
	}
	if !isTerminal(a.std.in) || !isTerminal(a.std.err) {
		return usagef("there is nobody to ask whether to %s: add --yes", what)
	}
	fmt.Fprintf(a.std.err, "%s? Type yes: ", cleanLine(strings.ToUpper(what[:1])+what[1:]))
	answer := make(chan string, 1)
	go func() { // ends with the terminal's next line, at the latest with the process
		line, err := bufio.NewReader(a.std.in).ReadString('\n')
		if err != nil && err != io.EOF {
			line = ""
		}
		answer <- strings.TrimSpace(line)
	}()
	select {
	case <-ctx.Done():
		fmt.Fprintln(a.std.err)
		return ctx.Err()
	case line := <-answer:
		if line != "yes" {
			return errors.New("nothing was done")
		}
		return nil
	}
}

// sureFlag adds --yes to a command that deletes.
func sureFlag(cmd *cobra.Command) *bool {
	return cmd.Flags().Bool("yes", false, "do not ask")
}

// prompt asks for a text without showing what is typed.
func (a *app) prompt(ctx context.Context, question string) (latchkey.Secret, error) {
	f, ok := a.std.in.(*os.File)
	if !ok || !isTerminal(f) {
		return latchkey.Secret{}, usagef("there is no terminal to ask at")
	}
	// An interrupt must not leave the terminal without echo.
	state, err := term.GetState(int(f.Fd()))
	if err != nil {
		return latchkey.Secret{}, fmt.Errorf("read from the terminal: %w", err)
	}
	fmt.Fprint(a.std.err, question+": ")
	type answer struct {
		text []byte
		err  error
	}
	read := make(chan answer, 1)
	go func() { // ends with the terminal's next line, at the latest with the process
		text, err := term.ReadPassword(int(f.Fd()))
		read <- answer{text, err}
	}()
	select {
	case <-ctx.Done():
		return latchkey.Secret{}, errors.Join(ctx.Err(), term.Restore(int(f.Fd()), state))
	case r := <-read:
		fmt.Fprintln(a.std.err)
		if r.err != nil {
			return latchkey.Secret{}, fmt.Errorf("read from the terminal: %w", r.err)
		}
		return latchkey.NewSecret(string(r.text)), nil
	}
}

// newSecret reads a secret that is to be set: from a file if one is given,
// where every byte counts, else from a terminal, twice, else from a pipe, whose
// last line break does not count.
func (a *app) newSecret(ctx context.Context, what, file string) (latchkey.Secret, error) {
	switch {
	case file == "-":
		return a.readSecret(a.std.in, "standard input", false)
	case file != "":
		f, err := os.Open(file)
		if err != nil {
			return latchkey.Secret{}, err
		}
		defer f.Close()
		return a.readSecret(f, file, false)
	case !isTerminal(a.std.in):
		return a.readSecret(a.std.in, "standard input", true)
	}
	first, err := a.prompt(ctx, what)
	if err != nil {
		return first, err
	}
	if first.Reveal() == "" {
		return first, fmt.Errorf("%s is empty", strings.ToLower(what))
	}
	second, err := a.prompt(ctx, "The same again")
	if err != nil {
		return second, err
	}
	if first.Reveal() != second.Reveal() {
		return latchkey.Secret{}, errors.New("the two differ; nothing was changed")
	}
	return first, nil
}

func (a *app) readSecret(r io.Reader, name string, trim bool) (latchkey.Secret, error) {
	b, err := readAll(r, latchkey.MaxSecretBytes+2, name) // a line break does not count
	if err != nil && !errors.Is(err, errTooLarge) {
		return latchkey.Secret{}, err
	}
	text := string(b)
	if trim {
		text = strings.TrimSuffix(strings.TrimSuffix(text, "\n"), "\r")
	}
	if err != nil || len(text) > latchkey.MaxSecretBytes {
		return latchkey.Secret{}, fmt.Errorf("%s is larger than %d bytes", name, latchkey.MaxSecretBytes)
	}
	if text == "" {
		return latchkey.Secret{}, hint(fmt.Errorf("%s is empty", name), "a pipe or a file that holds the text; on a terminal it is asked for")
	}
	return latchkey.NewSecret(text), nil
}

// reveal writes a value: bare to a pipe or a file, with a line break on a
// terminal.
func (a *app) reveal(v latchkey.Secret) error {
	text := v.Reveal()
	if isTerminal(a.std.out) {
		text += "\n"
	}
	_, err := io.WriteString(a.std.out, text)
	return err
}

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"

	"latchkey.dev/internal/cli"
	"latchkey.dev/latchkey"
)

// prompt asks for a text without showing what is typed.
func (a *app) prompt(ctx context.Context, question string) (latchkey.Secret, error) {
	f, ok := a.In.(*os.File)
	if !ok || !cli.IsTerminal(f) {
		return latchkey.Secret{}, cli.Usagef("there is no terminal to ask at")
	}
	// An interrupt must not leave the terminal without echo.
	state, err := term.GetState(int(f.Fd()))
	if err != nil {
		return latchkey.Secret{}, fmt.Errorf("read from the terminal: %w", err)
	}
	fmt.Fprint(a.Err, question+": ")
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
		fmt.Fprintln(a.Err)
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
		return a.readSecret(a.In, "standard input", false)
	case file != "":
		f, err := os.Open(file)
		if err != nil {
			return latchkey.Secret{}, err
		}
		defer f.Close()
		return a.readSecret(f, file, false)
	case !cli.IsTerminal(a.In):
		return a.readSecret(a.In, "standard input", true)
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
		return latchkey.Secret{}, cli.Hint(fmt.Errorf("%s is empty", name), "a pipe or a file that holds the text; on a terminal it is asked for")
	}
	return latchkey.NewSecret(text), nil
}

// reveal writes a value: bare to a pipe or a file, with a line break on a
// terminal.
func (a *app) reveal(v latchkey.Secret) error {
	text := v.Reveal()
	if cli.IsTerminal(a.Out) {
		text += "\n"
	}
	_, err := io.WriteString(a.Out, text)
	return err
}

// Package cli is what the command lines of our programs have in common: the form
// of commands and of their help, how results and messages are printed, and what
// the exit code says.
package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
)

// Values of --color.
const (
	ColorAuto   = "auto"
	ColorAlways = "always"
	ColorNever  = "never"
)

// A Console is where one invocation of a program reads and prints, and how.
type Console struct {
	Program  string // begins each message
	In       io.Reader
	Out, Err io.Writer
	Environ  []string // as os.Environ returns it

	// What the flags of every command say.
	JSON  bool
	Quiet bool
	Color string
}

// Flags adds the flags of every command to the root of a program's commands.
func (c *Console) Flags(root *cobra.Command) {
	f := root.PersistentFlags()
	f.BoolVar(&c.JSON, "json", false, "print JSON for programs")
	f.BoolVarP(&c.Quiet, "quiet", "q", false, "no messages and no progress: only results and errors")
	f.StringVar(&c.Color, "color", ColorAuto, "colours: auto (on terminals only), always or never")
	complete(root, "color", ColorAuto, ColorAlways, ColorNever)
}

// Attach has a program's commands read and print here.
func (c *Console) Attach(root *cobra.Command) {
	root.SilenceErrors, root.SilenceUsage = true, true
	root.SetIn(c.In)
	root.SetOut(c.Out)
	root.SetErr(c.Err)
	root.SetFlagErrorFunc(FlagError)
	root.SetHelpCommand(HelpCommand())
}

// CheckColor refuses other values of --color.
func (c *Console) CheckColor() error {
	switch c.Color {
	case ColorAuto, ColorAlways, ColorNever:
		return nil
	}
	return Usagef("--color must be auto, always or never")
}

// Getenv is os.Getenv on the environment of this invocation.
func (c *Console) Getenv(name string) string {
	value := ""
	for _, e := range c.Environ {
		if k, v, ok := strings.Cut(e, "="); ok && k == name {
			value = v
		}
	}
	return value
}

// Say tells a person something that is not the command's result.
func (c *Console) Say(format string, args ...any) {
	if !c.Quiet {
		fmt.Fprintln(c.Err, c.Program+": "+Clean(fmt.Sprintf(format, args...)))
	}
}

// Confirm asks before something is taken away, such as "delete it". Without a
// terminal it takes --yes, which sure is.
func (c *Console) Confirm(ctx context.Context, sure bool, what string) error {
	if sure {
		return nil
	}
	if !c.CanAsk() {
		return Usagef("there is nobody to ask whether to %s: add --yes", what)
	}
	ok, err := c.Ask(ctx, strings.ToUpper(what[:1])+what[1:])
	if err == nil && !ok {
		err = errors.New("nothing was done")
	}
	return err
}

// SureFlag adds --yes to a command that takes something away.
func SureFlag(cmd *cobra.Command) *bool {
	return cmd.Flags().Bool("yes", false, "do not ask")
}

// CanAsk reports whether a person is there to be asked.
func (c *Console) CanAsk() bool { return IsTerminal(c.In) && IsTerminal(c.Err) }

// Ask asks a question at the terminal, to which the answer may be yes.
func (c *Console) Ask(ctx context.Context, question string) (yes bool, err error) {
	fmt.Fprintf(c.Err, "%s? Type yes: ", CleanLine(question))
	answer := make(chan string, 1)
	go func() { // ends with the terminal's next line, at the latest with the process
		line, err := bufio.NewReader(c.In).ReadString('\n')
		if err != nil && err != io.EOF {
			line = ""
		}
		answer <- strings.TrimSpace(line)
	}()
	select {
	case <-ctx.Done():
		fmt.Fprintln(c.Err)
		return false, ctx.Err()
	case line := <-answer:
		return line == "yes", nil
	}
}

// Command latchkey is the server of Latchkey and the command line for its
// administrators and users. See docs/cli.md.
package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	os.Exit(run(os.Args[1:], stdio{os.Stdin, os.Stdout, os.Stderr}, os.Environ()))
}

// stdio is where a command reads and writes.
type stdio struct {
	in       io.Reader
	out, err io.Writer
}

// run carries out one command line and returns the exit code: 0 when it was
// done, 1 when it failed, 2 when it was not understood, 130 when it was
// interrupted. Commands that run another program return that program's code.
func run(args []string, std stdio, environ []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	a := newApp(std, environ)
	root := a.rootCommand()
	root.SetArgs(args)
	cmd, err := root.ExecuteContextC(ctx)
	return a.Report(ctx, a.advise(ctx, cmd, err))
}

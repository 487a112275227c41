// Command latchkey-agent runs flows on a machine, with the credentials that a
// Latchkey server releases to it.
package main

import (
	"context"
	"os"

	"latchkey.dev/internal/agent"
)

func main() {
	os.Exit(agent.Main(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

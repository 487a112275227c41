// Package program builds this repository's programs for tests that start them.
package program

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Build builds packages, such as latchkey.dev/cmd/latchkey, into the folder out,
// which it makes. Without race it builds as the checks do that come before the tests,
// so that nothing compiles twice: with what GOFLAGS says but for -gcflags, which is
// for the race detector.
func Build(ctx context.Context, out string, race bool, packages ...string) error {
	args := []string{"build", "-buildvcs=false", "-o", out + string(filepath.Separator)}
	cgo := "CGO_ENABLED=1"
	flags := os.Getenv("GOFLAGS")
	if race {
		args = append(args, "-race")
	} else {
		cgo = "CGO_ENABLED=0"
		var kept []string
		for f := range strings.FieldsSeq(flags) {
			if !strings.HasPrefix(f, "-gcflags") {
				kept = append(kept, f)
			}
		}
		flags = strings.Join(kept, " ")
	}
	cmd := exec.CommandContext(ctx, "go", append(args, packages...)...)
	cmd.Env = append(os.Environ(), cgo, "GOFLAGS="+flags)
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%v: %w\n%s", cmd, err, text)
	}
	return nil
}

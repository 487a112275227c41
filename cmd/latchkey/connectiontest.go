package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"latchkey.dev/client"
	"latchkey.dev/internal/cli"
	"latchkey.dev/latchkey"
)

// testWait is how long one request for a test's result waits.
const testWait = 20 * time.Second

func (a *app) connectionTest() *cobra.Command {
	var wait time.Duration
	var force, last bool
	cmd := &cobra.Command{
		Use:   "test CONNECTION",
		Short: "sign in at a connection's target, without a flow",
		Long: `Test has the agent of the connection's machine really sign in at the target, with the
stored configuration, and shows the steps that it took. It ends with the exit code 0
if all of it passed and 1 if not. The release of the secret is on record as any other.

Most systems lock an account after some wrong passwords. When the target has refused the
same version of a secret three times in a row nothing signs in with it any more; set
another one in the vault. If it is the account or the user name that was put right, the
connection's owner tests once more with --force.`,
		Example: "  latchkey connection test 'ERP by SSH'",
		Args:    cli.Exactly("CONNECTION"), ValidArgsFunction: a.completeConnections(),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			if force && last {
				return cli.Usagef("--force is for a new test, --last shows the one before")
			}
			c, env, err := a.within(ctx)
			if err != nil {
				return err
			}
			id, err := connectionID(ctx, c, env, args[0])
			if err != nil {
				return err
			}
			t, err := a.testConnection(ctx, c, env, id, force, last, wait)
			if err != nil {
				return err
			}
			if err := a.printTest(t); err != nil {
				return err
			}
			return testError(t)
		},
	}
	f := cmd.Flags()
	f.DurationVar(&wait, "timeout", 2*time.Minute, "how long to wait for the result; the test goes on")
	f.BoolVar(&force, "force", false, "try once more after the target has refused the secret three times")
	f.BoolVar(&last, "last", false, "show the newest test, and start none")
	return cmd
}

// testConnection starts a test, or takes the newest, and waits for its end.
func (a *app) testConnection(ctx context.Context, c *client.Client, env string, id latchkey.ConnectionID, force, last bool, wait time.Duration) (t latchkey.ConnectionTest, err error) {
	stop := a.spin("signing in")
	defer stop()
	deadline := time.Now().Add(wait)
	if last {
		t, err = c.ConnectionTest(ctx, env, id, "", 0)
	} else {
		t, err = c.TestConnection(ctx, env, id, force, max(min(wait, testWait), time.Millisecond))
	}
	for err == nil && t.State == latchkey.TestPending && time.Now().Before(deadline) {
		t, err = c.ConnectionTest(ctx, env, id, t.Run, min(time.Until(deadline), testWait))
	}
	if err != nil && ctx.Err() != nil {
		err = cli.Hint(errors.New("stopped waiting; the test goes on"), "latchkey connection test --last "+string(id))
	}
	return t, err
}

// marks stand before the steps of a test.
var marks = map[latchkey.TestState]struct{ text, color string }{
	latchkey.TestPassed: {"ok", cli.Green}, latchkey.TestFailed: {"FAILED", cli.Red}, latchkey.TestSkipped: {"-", ""}, latchkey.TestPending: {"...", cli.Yellow},
}

// printTest writes the steps of a test.
func (a *app) printTest(t latchkey.ConnectionTest) error {
	if a.JSON {
		return a.PrintJSON(t)
	}
	colors := a.Colors(a.Out)
	for _, r := range t.Steps {
		m := marks[r.State]
		mark := fmt.Sprintf("%-6s", m.text)
		if colors {
			mark = cli.Paint(m.color, mark)
		}
		line := fmt.Sprintf("%s  %-9s  %s", mark, r.Step, cli.CleanLine(r.Message))
		if _, err := fmt.Fprintln(a.Out, strings.TrimRight(line, " ")); err != nil {
			return err
		}
		if r.Remedy != "" {
			if _, err := fmt.Fprintf(a.Out, "%19s%s\n", "", cli.CleanLine(r.Remedy)); err != nil {
				return err
			}
		}
	}
	return nil
}

// testError returns why a test did not pass.
func testError(t latchkey.ConnectionTest) error {
	switch t.State {
	case latchkey.TestPassed:
		return nil
	case latchkey.TestPending:
		return cli.Hint(errors.New("the test has not ended yet"), "latchkey connection test --last "+string(t.Connection))
	}
	for _, r := range t.Steps {
		if r.State == latchkey.TestFailed {
			err := fmt.Errorf("the test failed: %s (%s)", r.Step, r.Code)
			if r.Code == "refused-before" {
				return cli.Hint(err, "latchkey connection test --force "+string(t.Connection)+", once the account or its password was put right")
			}
			return err
		}
	}
	return errors.New("the test failed")
}

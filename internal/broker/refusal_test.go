package broker_test

import (
	"errors"
	"testing"
	"time"

	"latchkey.dev/internal/latchkeytest"
	"latchkey.dev/latchkey"
)

// under has the agent claim a run and ask for its credential, and returns the
// code of the error, or "" when the run may sign in now.
func under(t *testing.T, c *latchkeytest.Chain) (*latchkey.ClaimedRun, string) {
	t.Helper()
	run := c.Machine.Claim(t)
	if run == nil {
		t.Fatal("no run to claim")
	}
	return run, ask(t, c, run)
}

func ask(t *testing.T, c *latchkeytest.Chain, run *latchkey.ClaimedRun) string {
	t.Helper()
	_, _, err := c.Machine.Get(t, run, run.Credential)
	if e, ok := errors.AsType[*latchkey.Error](err); ok {
		return e.Code
	}
	if err != nil {
		t.Fatal(err)
	}
	return ""
}

// end has the agent report that the target refused, or something else.
func end(t *testing.T, c *latchkeytest.Chain, run *latchkey.ClaimedRun, code string) {
	t.Helper()
	req := latchkey.FinishRequest{Claim: run.Claim, State: latchkey.RunFailed, Error: &latchkey.RunError{Code: code, Message: "because"}}
	if _, err := c.Broker.Finish(t.Context(), c.Machine.Session(), run.Run, req); err != nil {
		t.Fatal(err)
	}
}

// signedIn has the agent report that the target let it in.
func signedIn(t *testing.T, c *latchkeytest.Chain, run *latchkey.ClaimedRun) {
	t.Helper()
	if _, err := c.Broker.Heartbeat(t.Context(), c.Machine.Session(), run.Run, latchkey.RunRequest{Claim: run.Claim, SignedIn: true}); err != nil {
		t.Fatal(err)
	}
}

// TestSignInsAtOnce has ten runs ask for a wrong password before any of them has
// ended: no more of them get it than may be refused.
func TestSignInsAtOnce(t *testing.T) {
	latchkeytest.EachDB(t, func(t *testing.T, url string) {
		c := sshChain(t, latchkeytest.Options{DatabaseURL: url})
		var trying, waiting []*latchkey.ClaimedRun
		for range 10 {
			c.Start(t)
			switch run, code := under(t, c); code {
			case "":
				trying = append(trying, run)
			case latchkey.RunErrPending:
				waiting = append(waiting, run)
			default:
				t.Fatalf("release: %s", code)
			}
		}
		if len(trying) != latchkey.MaxRefusals {
			t.Fatalf("%d runs have the password at once; want %d", len(trying), latchkey.MaxRefusals)
		}
		if code := ask(t, c, trying[0]); code != "" {
			t.Errorf("asking again for the same attempt: %s", code)
		}
		for _, run := range trying {
			end(t, c, run, latchkey.RunErrSignIn)
			if code := ask(t, c, waiting[0]); code == "" {
				t.Error("another run has the password, though a refusal was counted and others are under way")
			}
		}
		for _, run := range waiting {
			if code := ask(t, c, run); code != "refused-before" {
				t.Errorf("after %d refusals: %q; want refused-before", latchkey.MaxRefusals, code)
			}
			end(t, c, run, latchkey.RunErrRelease)
		}
	})
}

// TestSignedInMakesRoom: an attempt is over when the agent has signed in, not when
// the flow ends; what it says again later says nothing about another version.
func TestSignedInMakesRoom(t *testing.T) {
	latchkeytest.EachDB(t, func(t *testing.T, url string) {
		c := sshChain(t, latchkeytest.Options{DatabaseURL: url})
		var long *latchkey.ClaimedRun
		for range latchkey.MaxRefusals + 3 {
			c.Start(t)
			run, code := under(t, c)
			if code != "" {
				t.Fatalf("release while the others' flows run: %s", code)
			}
			signedIn(t, c, run)
			signedIn(t, c, run)
			long = run
		}
		c.SetSecret(t, c.Reference.Secret, "another")
		for range latchkey.MaxRefusals {
			c.Start(t)
			run, code := under(t, c)
			if code != "" {
				t.Fatalf("release of another version: %s", code)
			}
			end(t, c, run, latchkey.RunErrSignIn)
		}
		if _, err := c.Broker.Finish(t.Context(), c.Machine.Session(), long.Run, latchkey.FinishRequest{Claim: long.Claim, State: latchkey.RunSucceeded, SignedIn: true}); err != nil {
			t.Fatal(err)
		}
		c.Start(t)
		if _, code := under(t, c); code != "refused-before" {
			t.Errorf("after an old version's run has ended: %q; want refused-before", code)
		}
	})
}

// TestForceIsForOne: a forced test lets no other run through, and works once an
// hour.
func TestForceIsForOne(t *testing.T) {
	latchkeytest.EachDB(t, func(t *testing.T, url string) {
		now := time.Now()
		c := sshChain(t, latchkeytest.Options{DatabaseURL: url, Now: func() time.Time { return now }})
		for range latchkey.MaxRefusals {
			c.Start(t)
			run, _ := under(t, c)
			end(t, c, run, latchkey.RunErrSignIn)
		}
		c.Start(t)
		waiting, _ := under(t, c)
		beginTest(t, c, true)
		if code := ask(t, c, waiting); code != "refused-before" {
			t.Errorf("a run beside a forced test: %q; want refused-before", code)
		}
		test, code := under(t, c)
		if code != "" {
			t.Fatalf("the forced test: %s", code)
		}
		if code := ask(t, c, test); code != "" {
			t.Errorf("the forced test asks again: %s", code)
		}
		if code := ask(t, c, waiting); code != "refused-before" {
			t.Errorf("a run during a forced test: %q; want refused-before", code)
		}
		end(t, c, test, latchkey.RunErrSignIn)
		end(t, c, waiting, latchkey.RunErrRelease)
		attempts := 0
		for range 8 {
			beginTest(t, c, true)
			test, code := under(t, c)
			if code == "" {
				attempts++
			}
			end(t, c, test, latchkey.RunErrSignIn)
		}
		if attempts != 0 {
			t.Errorf("%d more attempts by force within the hour; want none", attempts)
		}
	})
}

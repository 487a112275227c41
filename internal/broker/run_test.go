package broker_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"latchkey.dev/internal/broker"
	"latchkey.dev/internal/latchkeytest"
	"latchkey.dev/latchkey"
)

func TestClaimIsGivenOutOnce(t *testing.T) {
	c := latchkeytest.New(t, latchkeytest.Options{}).Chain(t)
	r := c.Start(t)
	first, err := c.Broker.Claim(t.Context(), c.Machine.Session(), latchkey.ClaimRequest{})
	if err != nil {
		t.Fatal(err)
	}
	again, err := c.Broker.Claim(t.Context(), c.Machine.Session(), latchkey.ClaimRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if first.Run == nil || again.Run == nil || first.Run.Claim != again.Run.Claim {
		t.Fatalf("a claim whose answer was lost = %+v, then %+v; want the same claim", first.Run, again.Run)
	}
	held, err := c.Broker.Claim(t.Context(), c.Machine.Session(), latchkey.ClaimRequest{Holding: []latchkey.RunID{r.ID}})
	if err != nil || held.Run != nil {
		t.Errorf("claim by an agent that holds the run = %+v, %v; want none", held.Run, err)
	}
	req := latchkey.RunRequest{Claim: first.Run.Claim}
	if _, err := c.Broker.StartClaimed(t.Context(), c.Machine.Session(), r.ID, req); err != nil {
		t.Fatal(err)
	}
	for _, attempt := range []string{"", "two"} {
		req.Attempt = attempt
		_, err = c.Broker.StartClaimed(t.Context(), c.Machine.Session(), r.ID, req)
		wantCode(t, err, latchkey.ErrConflict, "claim-lost")
	}
	started, err := c.Broker.Claim(t.Context(), c.Machine.Session(), latchkey.ClaimRequest{})
	if err != nil || started.Run != nil {
		t.Errorf("claim after the run was started = %+v, %v; want none", started.Run, err)
	}
}

func TestClaimWaits(t *testing.T) {
	c := latchkeytest.New(t, latchkeytest.Options{}).Chain(t)
	got := make(chan latchkey.ClaimResponse, 1)
	go func() {
		resp, err := c.Broker.Claim(context.Background(), c.Machine.Session(), latchkey.ClaimRequest{Wait: latchkey.Duration(20 * time.Second)})
		if err != nil {
			t.Error(err)
		}
		got <- resp
	}()
	r := c.Start(t)
	if resp := <-got; resp.Run == nil || resp.Run.Run != r.ID {
		t.Errorf("waiting claim = %+v; want run %s", resp.Run, r.ID)
	}
}

func TestVanishedAgentFailsTheRun(t *testing.T) {
	t.Parallel()
	clock := new(latchkeytest.Clock)
	chain := latchkeytest.New(t, latchkeytest.Options{Now: clock.Now}).Chain(t)
	r := chain.Start(t)
	run := chain.Machine.Claim(t)
	ended := awaitLost(t, chain, clock, r.ID)
	if _, err := chain.Broker.Heartbeat(t.Context(), chain.Machine.Session(), r.ID, latchkey.RunRequest{Claim: run.Claim}); !errors.Is(err, latchkey.ErrConflict) {
		t.Errorf("heartbeat after the lease: %v; want a conflict", err)
	}
	if ended.State != latchkey.RunFailed || ended.Error.Code != latchkey.RunErrAgentLost {
		t.Errorf("run = %s, %+v; want failed, %s", ended.State, ended.Error, latchkey.RunErrAgentLost)
	}
	if again := chain.Machine.Claim(t); again != nil {
		t.Errorf("the run was given out again: %+v", again)
	}
	queued := chain.Start(t)
	clock.Step(latchkey.QueueLimit + time.Second)
	if ended := awaitEnd(t, chain, queued.ID); ended.Error.Code != latchkey.RunErrQueueTimeout {
		t.Errorf("queued run = %+v; want %s", ended.Error, latchkey.RunErrQueueTimeout)
	}
}

// awaitLost lets the clock run fast, but not so that it seems to have been set,
// until a run has ended.
func awaitLost(t *testing.T, c *latchkeytest.Chain, clock *latchkeytest.Clock, id latchkey.RunID) latchkey.Run {
	t.Helper()
	for range 40 {
		clock.Step(5 * time.Second)
		time.Sleep(time.Second) // a round of the background work
		r, err := c.Broker.Run(t.Context(), c.Admin, c.Env, id)
		if err != nil {
			t.Fatal(err)
		}
		if r.State.Done() {
			return r
		}
	}
	t.Fatal("the run did not end")
	return latchkey.Run{}
}

// awaitEnd waits for the background work to end a run.
func awaitEnd(t *testing.T, c *latchkeytest.Chain, id latchkey.RunID) latchkey.Run {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for time.Now().Before(deadline) {
		r, err := c.Broker.Run(t.Context(), c.Admin, c.Env, id)
		if err != nil {
			t.Fatal(err)
		}
		if r.State.Done() {
			return r
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Fatal("the run did not end")
	return latchkey.Run{}
}

func TestLogAndFinishAreRepeatable(t *testing.T) {
	c := latchkeytest.New(t, latchkeytest.Options{}).Chain(t)
	r := c.Start(t)
	run := c.Machine.Claim(t)
	say := func(offset int64, text string) error {
		_, err := c.Broker.AppendLog(t.Context(), c.Machine.Session(), r.ID, latchkey.LogRequest{Claim: run.Claim, Offset: offset, Stream: "stdout", Text: text})
		return err
	}
	for _, err := range []error{say(0, "one\n"), say(0, "one\n"), say(4, "two\n")} {
		if err != nil {
			t.Fatal(err)
		}
	}
	wantCode(t, say(100, "gap"), latchkey.ErrConflict, "log-gap")
	l, err := c.Broker.RunLog(t.Context(), c.Admin, c.Env, r.ID, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	for _, chunk := range l.Chunks {
		text.WriteString(chunk.Text)
	}
	if text.String() != "one\ntwo\n" || l.Next != 8 {
		t.Errorf("log = %q, next %d; want both lines once, next 8", text.String(), l.Next)
	}
	c.Machine.Finish(t, run)
	c.Machine.Finish(t, run)
	_, err = c.Broker.Finish(t.Context(), c.Machine.Session(), r.ID, latchkey.FinishRequest{
		Claim: run.Claim, State: latchkey.RunFailed, Error: &latchkey.RunError{Code: "exit-code", Message: "1"},
	})
	wantCode(t, err, latchkey.ErrConflict, "claim-lost")
}

func TestLogIsBounded(t *testing.T) {
	c := latchkeytest.New(t, latchkeytest.Options{}).Chain(t)
	r := c.Start(t)
	run := c.Machine.Claim(t)
	chunk := strings.Repeat("x", latchkey.MaxLogChunk)
	for offset := int64(0); offset <= latchkey.MaxLogBytes; offset += latchkey.MaxLogChunk {
		if _, err := c.Broker.AppendLog(t.Context(), c.Machine.Session(), r.ID, latchkey.LogRequest{Claim: run.Claim, Offset: offset, Stream: "stderr", Text: chunk}); err != nil {
			t.Fatal(err)
		}
	}
	got, err := c.Broker.Run(t.Context(), c.Admin, c.Env, r.ID)
	if err != nil {
		t.Fatal(err)
	}
	if got.LogBytes != latchkey.MaxLogBytes || !got.LogTruncated {
		t.Errorf("log has %d bytes, truncated %v; want %d, true", got.LogBytes, got.LogTruncated, latchkey.MaxLogBytes)
	}
}

func TestStartRunRefusesEarly(t *testing.T) {
	yes := true
	session := latchkey.ExposureSession
	tests := []struct {
		name string
		do   func(t *testing.T, c *latchkeytest.Chain) error
		kind error
		code string
	}{
		{"policy", func(t *testing.T, c *latchkeytest.Chain) error {
			c.Machine.Policy.Commands = []string{"/opt/other"}
			return c.Machine.Open(t, false)
		}, latchkey.ErrConflict, latchkey.RunErrPolicy},
		{"shared uid", func(t *testing.T, c *latchkeytest.Chain) error { return c.Machine.Open(t, true) }, latchkey.ErrDenied, "shared-uid"},
		{"exposure", func(t *testing.T, c *latchkeytest.Chain) error {
			_, err := c.Broker.UpdateCredential(t.Context(), c.Admin, c.Env, c.Credential.ID, latchkey.CredentialUpdate{Exposure: &session})
			return err
		}, latchkey.ErrDenied, "exposure"},
		{"disabled machine", func(t *testing.T, c *latchkeytest.Chain) error {
			_, err := c.Broker.UpdateMachine(t.Context(), c.Admin, c.Env, c.Machine.ID, latchkey.MachineUpdate{Disabled: &yes})
			return err
		}, latchkey.ErrConflict, "machine-disabled"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := latchkeytest.New(t, latchkeytest.Options{}).Chain(t)
			if err := tt.do(t, c); err != nil {
				t.Fatal(err)
			}
			_, err := c.Broker.StartRun(t.Context(), c.Admin, c.Env, latchkey.RunCreate{Flow: c.Flow.ID, Connection: c.Connection.ID})
			wantCode(t, err, tt.kind, tt.code)
			p, err := c.Broker.Runs(t.Context(), c.Admin, c.Env, broker.RunFilter{}, latchkey.PageOptions{})
			if err != nil || len(p.Items) != 0 {
				t.Errorf("%d runs, %v; want none", len(p.Items), err)
			}
		})
	}
}

func TestCancel(t *testing.T) {
	c := latchkeytest.New(t, latchkeytest.Options{}).Chain(t)
	queued := c.Start(t)
	r, err := c.Broker.CancelRun(t.Context(), c.Admin, c.Env, queued.ID)
	if err != nil || r.State != latchkey.RunCancelled {
		t.Errorf("cancel of a queued run = %s, %v; want cancelled", r.State, err)
	}
	running := c.Start(t)
	run := c.Machine.Claim(t)
	if r, err = c.Broker.CancelRun(t.Context(), c.Admin, c.Env, running.ID); err != nil || !r.CancelAsked || r.State != latchkey.RunRunning {
		t.Errorf("cancel of a running run = %+v, %v; want running with cancel asked", r, err)
	}
	st, err := c.Broker.Heartbeat(t.Context(), c.Machine.Session(), running.ID, latchkey.RunRequest{Claim: run.Claim})
	if err != nil || !st.Cancel {
		t.Errorf("heartbeat = %+v, %v; want cancel", st, err)
	}
	_, err = c.Broker.CancelRun(t.Context(), c.Admin, c.Env, queued.ID)
	wantCode(t, err, latchkey.ErrConflict, "ended")
}

// TestStartIsRepeatable loses the answer to a start: the attempt that made it may
// ask again, and nobody else.
func TestStartIsRepeatable(t *testing.T) {
	latchkeytest.EachDB(t, func(t *testing.T, url string) {
		c := latchkeytest.New(t, latchkeytest.Options{DatabaseURL: url}).Chain(t)
		r := c.Start(t)
		resp, err := c.Broker.Claim(t.Context(), c.Machine.Session(), latchkey.ClaimRequest{})
		if err != nil {
			t.Fatal(err)
		}
		start := func(attempt string) error {
			_, err := c.Broker.StartClaimed(t.Context(), c.Machine.Session(), r.ID, latchkey.RunRequest{Claim: resp.Run.Claim, Attempt: attempt})
			return err
		}
		if err := start("one"); err != nil {
			t.Fatal(err)
		}
		first, err := c.Broker.Run(t.Context(), c.Admin, c.Env, r.ID)
		if err != nil {
			t.Fatal(err)
		}
		if err := start("one"); err != nil {
			t.Errorf("the same start again: %v", err)
		}
		wantCode(t, start("two"), latchkey.ErrConflict, "claim-lost")
		wantCode(t, start(""), latchkey.ErrConflict, "claim-lost")
		wantCode(t, start(strings.Repeat("x", latchkey.MaxAttempt+1)), latchkey.ErrInvalid, "invalid")
		wantCode(t, start("\x00"), latchkey.ErrInvalid, "invalid")
		again, err := c.Broker.Run(t.Context(), c.Admin, c.Env, r.ID)
		if err != nil || !again.StartedAt.Equal(*first.StartedAt) {
			t.Errorf("started at %v, after a repeated start %v, %v; want the same", first.StartedAt, again.StartedAt, err)
		}
		c.Machine.Finish(t, resp.Run)
		wantCode(t, start("one"), latchkey.ErrConflict, "claim-lost")
	})
}

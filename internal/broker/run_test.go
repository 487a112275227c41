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

// A watch is a server whose rounds that end lost runs a test makes, beside the one
// of a chain. Its service's clock can be set; the other one cannot.
type watch struct {
	*latchkeytest.Service
	wall, mono *latchkeytest.Clock
	round      func(context.Context) error
}

func newWatch(t *testing.T, c *latchkeytest.Chain) *watch {
	t.Helper()
	w := &watch{wall: new(latchkeytest.Clock), mono: new(latchkeytest.Clock)}
	w.Service = latchkeytest.New(t, latchkeytest.Options{DatabaseURL: c.URL, Key: c.Key, Now: w.wall.Now, Idle: true})
	w.round = broker.LeaseRounds(w.Broker, w.mono.Now)
	return w
}

// after makes a round when both clocks have gone on.
func (w *watch) after(t *testing.T, d time.Duration) {
	t.Helper()
	w.wall.Step(d)
	w.mono.Step(d)
	if err := w.round(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// lease makes rounds for as long as a lease.
func (w *watch) lease(t *testing.T) {
	t.Helper()
	for range latchkey.RunLease/(5*time.Second) + 1 {
		w.after(t, 5*time.Second)
	}
}

func TestVanishedAgentFailsTheRun(t *testing.T) {
	latchkeytest.EachDB(t, func(t *testing.T, url string) {
		c := latchkeytest.New(t, latchkeytest.Options{DatabaseURL: url}).Chain(t)
		r := c.Start(t)
		run := c.Machine.Claim(t)
		w := newWatch(t, c)
		w.after(t, 0)
		w.lease(t)
		ended, err := c.Broker.Run(t.Context(), c.Admin, c.Env, r.ID)
		if err != nil {
			t.Fatal(err)
		}
		if ended.State != latchkey.RunFailed || ended.Error.Code != latchkey.RunErrAgentLost {
			t.Errorf("run = %s, %+v; want failed, %s", ended.State, ended.Error, latchkey.RunErrAgentLost)
		}
		if _, err := c.Broker.Heartbeat(t.Context(), c.Machine.Session(), r.ID, latchkey.RunRequest{Claim: run.Claim}); !errors.Is(err, latchkey.ErrConflict) {
			t.Errorf("heartbeat after the lease: %v; want a conflict", err)
		}
		if again := c.Machine.Claim(t); again != nil {
			t.Errorf("the run was given out again: %+v", again)
		}
		queued := c.Start(t)
		w.after(t, latchkey.QueueLimit+time.Second)
		if ended, err = c.Broker.Run(t.Context(), c.Admin, c.Env, queued.ID); err != nil {
			t.Fatal(err)
		}
		if ended.Error == nil || ended.Error.Code != latchkey.RunErrQueueTimeout {
			t.Errorf("queued run = %+v; want %s", ended.Error, latchkey.RunErrQueueTimeout)
		}
	})
}

// TestServerAway has a run's lease end while it was the server that was away, or
// its clock that was set: the agent gets a lease to come back in, and no more.
func TestServerAway(t *testing.T) {
	tests := []struct {
		name string
		do   func(t *testing.T, w *watch)
	}{
		{"started", func(t *testing.T, w *watch) {
			w.wall.Step(2 * latchkey.RunLease)
			w.after(t, 0)
		}},
		{"suspended", func(t *testing.T, w *watch) {
			w.after(t, 0)
			w.after(t, 2*latchkey.RunLease)
		}},
		{"clock set forward", func(t *testing.T, w *watch) {
			w.after(t, 0)
			w.wall.Step(2 * latchkey.RunLease)
			w.after(t, time.Second)
		}},
		{"clock set back and forward", func(t *testing.T, w *watch) {
			w.wall.Step(2 * latchkey.RunLease)
			w.after(t, 0)
			w.wall.Step(-time.Hour)
			w.after(t, time.Second)
			w.wall.Step(time.Hour)
			w.after(t, time.Second)
		}},
		{"round failed", func(t *testing.T, w *watch) {
			w.after(t, 0)
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			if err := w.round(ctx); err == nil {
				t.Fatal("a round without its database succeeded")
			}
			w.wall.Step(2 * latchkey.RunLease)
			w.after(t, 0)
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := latchkeytest.New(t, latchkeytest.Options{}).Chain(t)
			r := c.Start(t)
			c.Machine.Claim(t)
			w := newWatch(t, c)
			tt.do(t, w)
			got, err := c.Broker.Run(t.Context(), c.Admin, c.Env, r.ID)
			if err != nil || got.State != latchkey.RunRunning {
				t.Fatalf("run is %s %+v, %v; want running", got.State, got.Error, err)
			}
			w.lease(t)
			if got, err = c.Broker.Run(t.Context(), c.Admin, c.Env, r.ID); err != nil || got.State != latchkey.RunFailed {
				t.Errorf("run is %s, %v a lease later; want failed", got.State, err)
			}
		})
	}
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

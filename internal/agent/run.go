package agent

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"

	"latchkey.dev/client"
	"latchkey.dev/latchkey"
)

// Why a run under way is ended, as causes of its context.
var (
	errCancelled = errors.New("cancelled")
	errTimedOut  = errors.New("time limit")
	errGivenUp   = errors.New("given up by the server")
	errSilent    = errors.New("server not reached for too long")
)

// A task is a claimed run that the agent executes.
type task struct {
	a   *Agent
	run *latchkey.ClaimedRun
	log *slog.Logger
	out *output

	signedIn chan struct{} // gets one when the target has let the agent in
}

// execute executes a claimed run and reports its end. ctx ends when the agent
// stops.
func (a *Agent) execute(ctx context.Context, run *latchkey.ClaimedRun) {
	t := &task{a: a, run: run, log: a.log.With(slog.String("run", string(run.Run)), slog.String("claim", string(run.Claim))), out: newOutput(), signedIn: make(chan struct{}, 1)}
	// Reports go on while the agent stops, and while a run is being ended.
	reports, stopReports := context.WithCancel(context.WithoutCancel(ctx))
	defer stopReports()
	defer context.AfterFunc(ctx, func() {
		select {
		case <-reports.Done():
		case <-time.After(stopGrace):
			stopReports()
		}
	})()
	if reason := a.policy.refuses(run); reason != "" {
		t.finish(reports, failed(latchkey.RunErrPolicy, errors.New(reason)))
		return
	}
	start := latchkey.RunRequest{Claim: run.Claim, Attempt: rand.Text()}
	err := t.persist(reports, latchkey.RunLease, func(s *client.MachineSession) error {
		_, err := s.Start(reports, run.Run, start)
		return err
	})
	if err != nil {
		// Not the machine's any more, or perhaps started without an answer: whatever
		// it is, it must not be executed.
		t.log.LogAttrs(ctx, slog.LevelWarn, "run dropped before it began", slog.Any("error", err))
		return
	}
	t.log.LogAttrs(ctx, slog.LevelInfo, "run begins", slog.String("flow", run.FlowName), slog.Int("revision", run.Revision))

	running, end := context.WithCancelCause(ctx)
	var background sync.WaitGroup
	background.Go(func() { t.beat(running, reports, end) })
	background.Go(func() { t.ship(reports, end) })
	var result latchkey.FinishRequest
	switch {
	case run.Driver == latchkey.DriverSSH:
		result = t.runOverSSH(running)
	case run.Driver == latchkey.DriverKerberos:
		result = t.runByKerberos(running)
	case run.Kind == latchkey.RunTest:
		result = t.tryLocally(running)
	default:
		result = t.runFlow(running)
	}
	t.out.close()
	end(nil)
	background.Wait()
	cause := context.Cause(running)
	if errors.Is(cause, errGivenUp) {
		t.log.LogAttrs(ctx, slog.LevelWarn, "run ended without a report: the server has given it up", slog.Any("cause", cause))
		return
	}
	t.finish(reports, result)
}

// untilRefused is for reports of what has happened, which persist makes until the
// server takes or refuses them. What they hold is bounded.
const untilRefused = time.Duration(math.MaxInt64)

// persist calls f until it succeeds or fails for good, at most for a while.
func (t *task) persist(ctx context.Context, while time.Duration, f func(*client.MachineSession) error) error {
	begun := time.Now()
	for attempt := 1; ; attempt++ {
		err := t.a.sessions.use(ctx, f)
		if err == nil || !retryable(err) || time.Since(begun) > while || !backoff(ctx, attempt) {
			return err
		}
	}
}

// beat keeps the run's lease and learns whether to cancel it, until the run
// ends.
func (t *task) beat(running, reports context.Context, end context.CancelCauseFunc) {
	// By a timer of its own: a request to a server that does not answer takes long.
	silence := startSilence(func() {
		t.log.LogAttrs(running, slog.LevelWarn, "the server could not be reached for too long: the flow is ended", slog.Duration("silence", latchkey.RunLease))
		end(errSilent)
	})
	defer silence.stop()
	ticker := time.NewTicker(heartbeatInterval)
	defer ticker.Stop()
	signedIn := false // and the server does not know yet
	for {
		select {
		case <-running.Done():
			return
		case <-t.signedIn:
			signedIn = true
		case <-ticker.C:
		}
		var status latchkey.RunStatus
		var sent time.Time
		err := t.a.sessions.use(reports, func(s *client.MachineSession) (err error) {
			sent = time.Now()
			status, err = s.Heartbeat(reports, t.run.Run, latchkey.RunRequest{Claim: t.run.Claim, SignedIn: signedIn})
			return err
		})
		switch {
		case err == nil:
			signedIn = false
			silence.heard(sent)
			if status.Cancel {
				end(errCancelled)
			}
		case storageFull(err):
			silence.heard(sent) // until there is room it gives no run up
		case !retryable(err):
			t.log.LogAttrs(running, slog.LevelWarn, "heartbeat refused", slog.Any("error", err))
			end(errGivenUp)
		}
	}
}

// A silence measures for how long the server has not been heard of.
type silence struct{ timer *time.Timer }

// startSilence calls tooLong once the server has given the run up.
func startSilence(tooLong func()) silence {
	return silence{time.AfterFunc(latchkey.RunLease, tooLong)}
}

// heard says that the server has answered a request that was sent at a time. The
// lease began then at the earliest.
func (s silence) heard(sent time.Time) { s.timer.Reset(latchkey.RunLease - time.Since(sent)) }

func (s silence) stop() { s.timer.Stop() }

// runFlow gets the values that the flow is handed, runs it, and returns what to
// report.
func (t *task) runFlow(ctx context.Context) latchkey.FinishRequest {
	values, err := t.release(ctx)
	if err != nil {
		return t.notReleased(ctx, err)
	}
	account, err := runAccount(t.a.policy.RunAs)
	if err != nil {
		return failed(latchkey.RunErrStart, err)
	}
	if values.expired() {
		return failed(latchkey.RunErrRelease, errors.New("a released credential expired before the flow could start"))
	}
	return t.runHere(ctx, account, values, values.patterns(), nil)
}

// runHere runs the flow on the machine itself, as an account, with the values that
// it is handed and variables beyond the usual ones, and returns what to report. Its
// output is masked for patterns.
func (t *task) runHere(ctx context.Context, account account, values handout, patterns [][]byte, env []string) latchkey.FinishRequest {
	work, err := account.workDir(t.a.state.Machine)
	if err != nil {
		return failed(latchkey.RunErrStart, err)
	}
	defer func() {
		if err := os.RemoveAll(work); err != nil {
			t.log.LogAttrs(ctx, slog.LevelError, "folder of a run not removed", slog.String("folder", work), slog.Any("error", err))
		}
	}()
	given, err := hand(t.run.Handover, values, account, t.a.state.Machine)
	if err != nil {
		return failed(latchkey.RunErrStart, err)
	}
	defer func() {
		if err := given.remove(); err != nil {
			t.log.LogAttrs(ctx, slog.LevelError, "handed over file not removed", slog.Any("error", err))
		}
	}()
	stdout, stderr := t.out.writer("stdout", patterns), t.out.writer("stderr", patterns)
	values = handout{} // the flow has them now, or will in a moment

	limited, stop := context.WithTimeoutCause(ctx, time.Duration(t.run.Timeout), errTimedOut)
	defer stop()
	p := process{
		Command: t.run.Command, Dir: work, Env: slices.Concat(t.environ(account, work), env, given.env), Files: given.files, Account: account,
		Stdout: stdout, Stderr: stderr, Mark: runMark(t.run.Run), Alone: t.a.alone,
	}
	code, err := p.run(limited, given.start)
	t.endOutput(ctx, stdout, stderr)
	switch cause := context.Cause(limited); {
	case err != nil:
		return failed(latchkey.RunErrStart, err)
	case cause != nil:
		return t.endedBy(cause)
	}
	return exited(code)
}

// notReleased returns the report of a run that did not get a credential.
func (t *task) notReleased(ctx context.Context, err error) latchkey.FinishRequest {
	if cause := context.Cause(ctx); cause != nil {
		return t.endedBy(cause)
	}
	// The refusal may come before the heartbeat that tells of the cancelling.
	if e, ok := errors.AsType[*latchkey.Error](err); ok && e.Code == latchkey.RunErrCancelled {
		return t.endedBy(errCancelled)
	}
	return failed(latchkey.RunErrRelease, err)
}

// endOutput ends what takes the flow's output.
func (t *task) endOutput(ctx context.Context, streams ...io.Closer) {
	for _, w := range streams {
		if err := w.Close(); err != nil {
			t.log.LogAttrs(ctx, slog.LevelError, "output not kept", slog.Any("error", err))
		}
	}
}

// tryLocally is a connection test where nothing signs in: it sees whether a flow
// could begin. What is released to it is dropped.
func (t *task) tryLocally(ctx context.Context) latchkey.FinishRequest {
	if _, err := t.release(ctx); err != nil {
		return t.notReleased(ctx, err)
	}
	account, err := runAccount(t.a.policy.RunAs)
	if err == nil {
		var work string
		if work, err = account.workDir(t.a.state.Machine); err == nil {
			err = os.RemoveAll(work)
		}
	}
	if err != nil {
		return failed(latchkey.RunErrStart, err)
	}
	return latchkey.FinishRequest{State: latchkey.RunSucceeded}
}

// failed returns the report of a run that failed.
func failed(code string, err error) latchkey.FinishRequest {
	return latchkey.FinishRequest{State: latchkey.RunFailed, Error: &latchkey.RunError{Code: code, Message: clip(onOneLine(err.Error()))}}
}

// onOneLine returns a text without characters that steer a terminal or reorder
// what is read: SSH servers choose what is in errors, and so do user names.
func onOneLine(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\r' || r == '\t':
			return ' '
		case latchkey.Steers(r):
			return unicode.ReplacementChar
		}
		return r
	}, s)
}

// exited returns the report of a flow that ended by itself.
func exited(code int) latchkey.FinishRequest {
	if code == 0 {
		return latchkey.FinishRequest{State: latchkey.RunSucceeded, ExitCode: &code}
	}
	r := failed(latchkey.RunErrExit, fmt.Errorf("the flow ended with exit code %d", code))
	r.ExitCode = &code
	return r
}

// endedBy returns the report of a run that was ended.
func (t *task) endedBy(cause error) latchkey.FinishRequest {
	r := latchkey.FinishRequest{State: latchkey.RunCancelled, Error: &latchkey.RunError{Code: latchkey.RunErrCancelled, Message: "the run was cancelled"}}
	switch {
	case errors.Is(cause, errTimedOut):
		r.State = latchkey.RunTimedOut
		r.Error = &latchkey.RunError{Code: latchkey.RunErrTimeout, Message: fmt.Sprintf("the flow did not end within its time limit of %s", t.run.Timeout)}
	case errors.Is(cause, errSilent):
		// The server may have been away, and not have given the run up.
		r.State = latchkey.RunFailed
		r.Error = &latchkey.RunError{Code: latchkey.RunErrServerLost, Message: fmt.Sprintf("the machine could not reach the server for %s, so its agent ended the flow; it may have done part of its work and is not repeated", latchkey.RunLease)}
	case !errors.Is(cause, errCancelled):
		r.Error.Message = "the agent was stopped while the flow ran"
	}
	return r
}

func clip(s string) string {
	s = strings.ReplaceAll(s[:min(len(s), latchkey.MaxRunErrText/2)], "\x00", "\uFFFD")
	s = strings.ToValidUTF8(s, "\uFFFD")
	return strings.ToValidUTF8(s[:min(len(s), latchkey.MaxRunErrText)], "")
}

// finish reports the end of the run.
func (t *task) finish(ctx context.Context, r latchkey.FinishRequest) {
	r.Claim = t.run.Claim
	err := t.persist(ctx, untilRefused, func(s *client.MachineSession) error {
		_, err := s.Finish(ctx, t.run.Run, r)
		return err
	})
	if err != nil {
		t.log.LogAttrs(ctx, slog.LevelError, "end of run not reported", slog.String("state", string(r.State)), slog.Any("error", err))
		return
	}
	t.log.LogAttrs(ctx, slog.LevelInfo, "run ended", slog.String("state", string(r.State)))
}

// minChunk is the least output that is sent at once over a slow network.
const minChunk = 2 << 10

// ship sends output to the server until all is sent.
func (t *task) ship(ctx context.Context, end context.CancelCauseFunc) {
	var offset int64
	var stream, text string
	size := latchkey.MaxLogChunk
	for {
		if text == "" {
			var ok bool
			if stream, text, ok = t.out.next(ctx); !ok {
				return
			}
		}
		var status latchkey.RunStatus
		var part string
		err := t.persist(ctx, untilRefused, func(s *client.MachineSession) (err error) {
			part = prefix(text, size)
			status, err = s.Log(ctx, t.run.Run, latchkey.LogRequest{Claim: t.run.Claim, Offset: offset, Stream: stream, Text: part})
			switch {
			case err == nil:
				size = min(2*size, latchkey.MaxLogChunk)
			case unanswered(err): // perhaps too much for this network within the time of a request
				size = max(size/2, minChunk)
			}
			return err
		})
		if err != nil {
			t.log.LogAttrs(ctx, slog.LevelWarn, "output not sent", slog.Any("error", err))
			if e, ok := errors.AsType[*latchkey.Error](err); ok && e.Code == "claim-lost" {
				end(errGivenUp)
			}
			t.out.drop()
			return
		}
		if status.Cancel {
			end(errCancelled)
		}
		offset += int64(len(part))
		text = text[len(part):]
	}
}

// runMark is the variable in the environment of a run's processes by which they
// are found.
func runMark(id latchkey.RunID) string { return "LATCHKEY_RUN=" + string(id) }

// environ returns the environment of the flow, but for its credentials. It has
// nothing of the agent's but the path and the language.
func (t *task) environ(account account, work string) []string {
	path := os.Getenv("PATH")
	if path == "" || account.other { // the agent's may lead into root's folders
		path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	}
	env := []string{
		"PATH=" + path, "HOME=" + account.home, "USER=" + account.name, "LOGNAME=" + account.name, "TMPDIR=" + work,
		runMark(t.run.Run), machineMark(t.a.state.Machine), "LATCHKEY_FLOW=" + t.run.FlowName, "LATCHKEY_REVISION=" + strconv.Itoa(t.run.Revision),
	}
	for _, name := range []string{"LANG", "LC_ALL", "TZ", "SystemRoot", "ComSpec"} {
		if v, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+v)
		}
	}
	return append(env, t.inputs()...)
}

// inputs returns the run's inputs as variables.
func (t *task) inputs() (env []string) {
	for _, name := range slices.Sorted(maps.Keys(t.run.Inputs)) {
		env = append(env, "LATCHKEY_INPUT_"+strings.ToUpper(name)+"="+t.run.Inputs[name])
	}
	return env
}

// machineMark is the variable by which processes of this machine's runs are
// found that an agent left when it was killed.
func machineMark(id latchkey.MachineID) string { return "LATCHKEY_MACHINE=" + string(id) }

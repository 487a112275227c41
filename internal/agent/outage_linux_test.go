package agent

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"latchkey.dev/internal/latchkeytest"
	"latchkey.dev/internal/seal"
	"latchkey.dev/latchkey"
)

// lines returns what the flow tick prints.
func lines(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "line %d\n", i)
	}
	return b.String()
}

// TestOutage takes the service away while a flow prints and ends.
func TestOutage(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.agent(t)
	id := f.run(t, "tick", "40", "50ms")
	f.awaitOutput(t, id, "line 3\n")
	f.proxy.set(func(p *proxy) { p.down = true })
	begin, before := time.Now(), f.proxy.count("log")
	eventually(t, latchkeytest.Patience, "attempts while the service is away", func() bool {
		return f.proxy.count("log") > before+1 && time.Since(begin) > 2*time.Second
	})
	f.proxy.set(func(p *proxy) { p.down = false })
	f.await(t, id, latchkey.RunSucceeded, "")
	if got, want := f.output(t, id, ""), lines(40); got != want {
		t.Errorf("output = %q; want %q", got, want)
	}
}

// TestTamperedAnswers changes answers on their way: the agent acts on none.
func TestTamperedAnswers(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.proxy.set(func(p *proxy) { p.tamper = "/claim" })
	f.agent(t)
	id := f.run(t, "tick", "20", "50ms")
	eventually(t, latchkeytest.Patience, "claims", func() bool { return f.proxy.count("claim") >= 2 })
	r := f.get(t, id)
	if r.ClaimedAt == nil || r.StartedAt != nil || f.proxy.count("start") != 0 {
		t.Errorf("run %+v after tampered claims; want a claimed run that was not started", r)
	}
	f.proxy.set(func(p *proxy) { p.tamper = "/log" })
	eventually(t, latchkeytest.Patience, "output with tampered answers", func() bool { return f.proxy.count("log") >= 2 })
	f.proxy.set(func(p *proxy) { p.tamper = "" })
	f.await(t, id, latchkey.RunSucceeded, "")
	if got, want := f.output(t, id, ""), lines(20); got != want {
		t.Errorf("output = %q; want it once: %q", got, want)
	}
	if n := f.proxy.count("start"); n != 1 {
		t.Errorf("%d starts; want 1", n)
	}
	for _, verb := range []string{"release", "finish"} {
		before := f.proxy.count(verb)
		f.proxy.set(func(p *proxy) { p.tamper = "/" + verb })
		id := f.start(t, f.flow(t, latchkey.HandoverEnvironment, time.Minute, "leak"), nil)
		eventually(t, latchkeytest.Patience, "tampered "+verb, func() bool { return f.proxy.count(verb) >= before+2 })
		f.proxy.set(func(p *proxy) { p.tamper = "" })
		f.await(t, id, latchkey.RunSucceeded, "")
		if got := f.output(t, id, "stderr"); got != "error ***\n" {
			t.Errorf("tampered %s: stderr = %q; want it once", verb, got)
		}
	}
}

// TestSessionEnds answers 401 to a claim and to a heartbeat, as a server that
// does not know the session does. The agent goes on in a new one, and each
// session's counter is on disk before the server sees it.
func TestSessionEnds(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	var refuse atomic.Pointer[string]
	var unsaved atomic.Int64
	claim := "claim"
	refuse.Store(&claim)
	f.proxy.set(func(p *proxy) {
		p.hook = func(w http.ResponseWriter, r *http.Request, body []byte) bool {
			verb := filepath.Base(r.URL.Path)
			if verb == "sessions" {
				var req latchkey.SessionRequest
				s, err := LoadState(f.dir)
				if json.Unmarshal(body, &req) != nil || err != nil || s.Counter != req.Counter {
					unsaved.Add(1)
				}
			}
			if p := refuse.Load(); p == nil || *p != verb || !refuse.CompareAndSwap(p, nil) {
				return false
			}
			w.WriteHeader(http.StatusUnauthorized)
			return true
		}
	})
	a := f.agent(t)
	eventually(t, latchkeytest.Patience, "the second session", func() bool { return f.proxy.count("claim") >= 2 })
	id := f.run(t, "tick", "80", "50ms")
	f.awaitOutput(t, id, "line 3\n")
	heartbeat := "heartbeat"
	refuse.Store(&heartbeat)
	f.await(t, id, latchkey.RunSucceeded, "")
	if got, want := f.output(t, id, ""), lines(80); got != want {
		t.Errorf("output = %q; want %q", got, want)
	}
	if s, err := LoadState(f.dir); err != nil || s.Counter != 3 || f.proxy.count("sessions") != 3 {
		t.Errorf("state %+v, %v after %d sessions; want 3 of them", s, err, f.proxy.count("sessions"))
	}
	if n := unsaved.Load(); n != 0 {
		t.Errorf("%d sessions were asked for before their counter was on disk", n)
	}
	if strings.Contains(a.log.String(), "level=WARN") || strings.Contains(a.log.String(), "level=ERROR") {
		t.Errorf("warnings: %s", a.log)
	}
}

// TestForgedExpiry answers 401 to everything during a run. It may come from
// anybody between, so that it must not end the run.
func TestForgedExpiry(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.agent(t)
	id := f.run(t, "tick", "100", "50ms")
	f.awaitOutput(t, id, "line 3\n")
	var forged atomic.Int64
	f.proxy.set(func(p *proxy) {
		p.hook = func(w http.ResponseWriter, r *http.Request, _ []byte) bool {
			if forged.Load() >= 12 || strings.HasSuffix(r.URL.Path, "/sessions") {
				return false
			}
			forged.Add(1)
			w.WriteHeader(http.StatusUnauthorized)
			return true
		}
	})
	f.await(t, id, latchkey.RunSucceeded, "")
	if got, want := f.output(t, id, ""), lines(100); got != want || forged.Load() == 0 {
		t.Errorf("output = %q after %d forged answers; want %q", got, forged.Load(), want)
	}
}

// TestQuarantine has a copy of the machine open a session: the agent stops and
// says what to do.
func TestQuarantine(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	a := f.agent(t)
	eventually(t, latchkeytest.Patience, "a claim", func() bool { return f.proxy.count("claim") > 0 })
	b, err := os.ReadFile(filepath.Join(f.dir, keyFile))
	if err != nil {
		t.Fatal(err)
	}
	keys, err := seal.ParseMachineKeys(b)
	if err != nil {
		t.Fatal(err)
	}
	req := latchkey.SessionRequest{
		Suite: latchkey.AgentSuite, Machine: f.machine, Counter: 1, Nonce: slices.Repeat([]byte{1}, 32), At: time.Now(), OS: "linux", Version: "copy", SharedUID: true,
	}
	seal.SignSession(keys, &req)
	if _, err := f.Broker.OpenSession(t.Context(), req, "127.0.0.1"); err == nil {
		t.Fatal("a copy could open a session with an old counter")
	}
	for range 2 { // at once, and when it is started again
		if code := a.end(t, latchkeytest.Patience); code != 1 || !strings.Contains(a.log.String(), "enrolled anew") {
			t.Errorf("agent ended with %d: %s; want 1 and what to do", code, a.log)
		}
		a = f.agent(t)
	}
}

package agent

import (
	"bytes"
	"database/sql"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	_ "modernc.org/sqlite" // driver "sqlite"

	"latchkey.dev/internal/broker"
	"latchkey.dev/internal/db"
	"latchkey.dev/internal/latchkeytest"
	"latchkey.dev/latchkey"
)

// replace has another service answer at the fixture's address.
func (f *fixture) replace(h http.Handler) {
	f.proxy.set(func(p *proxy) { p.down = true }) // what the old one has begun to answer is lost
	f.proxy.set(func(p *proxy) { p.down, p.next = false, h })
}

// status returns what the status command says.
func (f *fixture) status(t *testing.T) string {
	t.Helper()
	code, stdout, stderr := command(t, "", "status", "--dir", f.dir)
	if code != 0 {
		t.Fatalf("status = %d: %s", code, stderr)
	}
	return stdout
}

// TestServerEmpty has another server answer at the address, one that knows
// nothing, while a flow runs. The agent says so, waits, and goes on when its own
// server is back.
func TestServerEmpty(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	a := f.agent(t)
	id := f.run(t, "tick", "60", "100ms")
	f.awaitOutput(t, id, "line 3\n")
	own := f.proxy.next
	f.replace(latchkeytest.New(t, latchkeytest.Options{}).Handler(t))
	const text = "is another one than this machine was enrolled with"
	// Three goroutines of the agent ask, each at longer and longer intervals.
	before, begin := f.proxy.count("sessions"), time.Now()
	eventually(t, latchkeytest.Patience, "attempts to open a session", func() bool { return f.proxy.count("sessions") > before+4 })
	if took := time.Since(begin); took < 250*time.Millisecond {
		t.Errorf("5 sessions asked for within %s; want the agent to wait between attempts", took)
	}
	f.replace(own)
	f.await(t, id, latchkey.RunSucceeded, "")
	if got, want := f.output(t, id, ""), lines(60); got != want {
		t.Errorf("output = %q; want %q", got, want)
	}
	if code := a.signal(t, syscall.SIGTERM); code != 0 {
		t.Errorf("the agent ended with %d", code)
	}

	// An agent that is idle says it too, and in its status.
	f.replace(latchkeytest.New(t, latchkeytest.Options{}).Handler(t))
	a = f.agent(t)
	eventually(t, latchkeytest.Patience, "the agent's log to say what happened", func() bool { return strings.Contains(a.log.String(), text) })
	eventually(t, latchkeytest.Patience, "the status to say what happened", func() bool { return strings.Contains(f.status(t), text) })
	if s := f.status(t); !strings.Contains(s, "Running:      yes") || !strings.Contains(s, "enrol the machine with a new token and --force") {
		t.Errorf("status = %s; want it running, and what to do", s)
	}
	f.replace(own)
	f.awaitWithin(t, latchkeytest.Patience, f.run(t, "tick", "1", "1ms"), latchkey.RunSucceeded, "")
	eventually(t, latchkeytest.Patience, "the trouble to be over", func() bool { return !strings.Contains(f.status(t), "Trouble:") })
}

// TestServerRestored brings the server back with a database from before some
// runs: one from a backup, and a copy that it notices by itself. The agent ends the
// flows that this server has given up or knows nothing of, and works on.
func TestServerRestored(t *testing.T) {
	t.Parallel()
	for name, put := range map[string]func(t *testing.T, f *fixture, url string) (restore func()){
		"from a backup": func(t *testing.T, f *fixture, url string) func() {
			var text bytes.Buffer
			if _, err := broker.Backup(t.Context(), broker.BackupConfig{DB: f.DB, Out: &text}); err != nil {
				t.Fatal(err)
			}
			return func() {
				_, err := broker.Restore(t.Context(), broker.RestoreConfig{
					Database: db.Config{URL: url, Log: slog.New(slog.DiscardHandler)}, Key: f.Key,
					Open: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(text.Bytes())), nil },
				})
				if err != nil {
					t.Fatal(err)
				}
			}
		},
		"a copy": func(t *testing.T, f *fixture, url string) func() {
			raw, err := sql.Open("sqlite", f.URL)
			if err != nil {
				t.Fatal(err)
			}
			defer raw.Close()
			if _, err := raw.ExecContext(t.Context(), "VACUUM INTO $1", url); err != nil {
				t.Fatal(err)
			}
			return func() {}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testServerRestored(t, put)
		})
	}
}

func testServerRestored(t *testing.T, put func(t *testing.T, f *fixture, url string) (restore func())) {
	f := newFixture(t)
	a := f.agent(t, "--slots", "2")
	marker := "restored-" + filepath.Base(t.TempDir()) + t.Name()
	held, cancelled := f.run(t, "tick", "600", "100ms", marker), f.run(t, "tick", "600", "100ms", marker)
	f.awaitOutput(t, held, "line 3\n")
	f.awaitOutput(t, cancelled, "line 3\n")
	once, times := f.once(t, latchkey.HandoverNone)
	waiting := f.start(t, once, nil)
	url := filepath.Join(t.TempDir(), "restored.db")
	restore := put(t, f, url)

	// Since then: a run has ended and one was executed, another began, the agent
	// has opened a session, and a machine was enrolled.
	if _, err := f.Broker.CancelRun(t.Context(), f.Admin, f.Env, cancelled); err != nil {
		t.Fatal(err)
	}
	f.await(t, cancelled, latchkey.RunCancelled, latchkey.RunErrCancelled)
	f.await(t, waiting, latchkey.RunSucceeded, "")
	var refused atomic.Bool
	f.proxy.set(func(p *proxy) {
		p.hook = func(w http.ResponseWriter, r *http.Request, _ []byte) bool {
			if filepath.Base(r.URL.Path) == "sessions" || !refused.CompareAndSwap(false, true) {
				return false
			}
			w.WriteHeader(http.StatusUnauthorized)
			return true
		}
	})
	eventually(t, latchkeytest.Patience, "the second session", func() bool { return strings.Count(a.log.String(), "session opened") == 2 })
	later := f.run(t, "tick", "600", "100ms", marker)
	f.awaitOutput(t, later, "line 3\n")
	newer := *f
	newer.dir = filepath.Join(t.TempDir(), "agent")
	newer.enrol(t, "--name", "host2", "--allow-command", f.program)

	restore()
	restored := latchkeytest.New(t, latchkeytest.Options{DatabaseURL: url, Key: f.Key})
	f.replace(restored.Handler(t))
	f.Broker, f.Admin = restored.Broker, restored.Admin
	for _, id := range []latchkey.RunID{held, cancelled, waiting} {
		if r := f.await(t, id, latchkey.RunFailed, latchkey.RunErrRestored); !strings.Contains(r.Error.Message, "it is not repeated") {
			t.Errorf("run %s: %s; want that it is not repeated", id, r.Error.Message)
		}
	}
	if _, err := f.Broker.Run(t.Context(), f.Admin, f.Env, later); !errors.Is(err, latchkey.ErrNotFound) {
		t.Errorf("the run from after the backup: %v; want %v", err, latchkey.ErrNotFound)
	}
	eventually(t, latchkeytest.Patience, "the end of the flows", func() bool { return len(processes(t, marker)) == 0 })
	logged := func(id latchkey.RunID, text string) {
		t.Helper()
		eventually(t, latchkeytest.Patience, "the agent's log to say of a run: "+text, func() bool {
			for line := range strings.Lines(a.log.String()) {
				if strings.Contains(line, string(id)) && strings.Contains(line, text) {
					return true
				}
			}
			return false
		})
	}
	logged(held, "the server has given it up")
	logged(later, "the run is not claimed by this machine with this claim")
	logged(later, "the server has given it up")

	// The same agent works on, in a session that it opened by itself.
	f.await(t, f.start(t, f.flow(t, latchkey.HandoverEnvironment, time.Minute, "leak"), nil), latchkey.RunSucceeded, "")
	if n := strings.Count(a.log.String(), "session opened"); n < 3 || times() != 1 {
		t.Errorf("%d sessions, and the run that waited was executed %d times; want a new one after the restore, and once: %s", n, times(), a.log)
	}
	if m, err := f.Broker.Machine(t.Context(), f.Admin, f.Env, f.machine); err != nil || m.Status != latchkey.MachineOnline || m.Running+m.Queued != 0 {
		t.Errorf("machine = %+v, %v; want it online with nothing to do", m, err)
	}
	if _, err := f.Broker.Authenticate(t.Context(), f.AdminToken); err != nil {
		t.Errorf("the API token of before: %v", err)
	}
	b := newer.agent(t)
	if code := b.end(t, latchkeytest.Patience); code != 1 || !strings.Contains(b.log.String(), "the server does not know this machine, or it was removed; enrol it anew") {
		t.Errorf("the agent of a machine enrolled since ended with %d: %s; want 1, and that it is to be enrolled anew", code, b.log)
	}
}

// TestClones copies a machine's keys and runs both agents, in every order.
func TestClones(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		do   func(t *testing.T, f *fixture, clone *fixture) []*agentProcess // the agents that find out
	}{
		{"both at once", func(t *testing.T, f, clone *fixture) []*agentProcess {
			a := f.agent(t)
			f.await(t, f.run(t, "tick", "1", "1ms"), latchkey.RunSucceeded, "")
			copyFolder(t, f.dir, clone.dir)
			b := clone.agent(t)
			return []*agentProcess{a, b}
		}},
		{"the clone later", func(t *testing.T, f, clone *fixture) []*agentProcess {
			copyFolder(t, f.dir, clone.dir)
			a := f.agent(t)
			f.await(t, f.run(t, "tick", "1", "1ms"), latchkey.RunSucceeded, "")
			if code := a.signal(t, syscall.SIGTERM); code != 0 {
				t.Fatalf("the agent ended with %d", code)
			}
			return []*agentProcess{clone.agent(t), f.agent(t)}
		}},
		{"the clone first", func(t *testing.T, f, clone *fixture) []*agentProcess {
			copyFolder(t, f.dir, clone.dir)
			b := clone.agent(t)
			f.await(t, f.run(t, "tick", "1", "1ms"), latchkey.RunSucceeded, "") // the clone passes for the machine until the two meet
			return []*agentProcess{f.agent(t), b}
		}},
		{"a snapshot of the machine", func(t *testing.T, f, clone *fixture) []*agentProcess {
			copyFolder(t, f.dir, clone.dir)
			a := f.agent(t)
			f.await(t, f.run(t, "tick", "1", "1ms"), latchkey.RunSucceeded, "")
			if code := a.signal(t, syscall.SIGTERM); code != 0 {
				t.Fatalf("the agent ended with %d", code)
			}
			copyFolder(t, clone.dir, f.dir)
			return []*agentProcess{f.agent(t)}
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			clone := *f
			clone.dir = filepath.Join(t.TempDir(), "clone")
			for _, a := range tt.do(t, f, &clone) {
				if code := a.end(t, latchkeytest.Patience); code != 1 || !strings.Contains(a.log.String(), `the machine "host1" is quarantined: its agent`) ||
					!strings.Contains(a.log.String(), "two agents hold its keys") || !strings.Contains(a.log.String(), "must have it enrolled anew, with new keys") {
					t.Errorf("agent ended with %d: %s; want 1, why and what to do", code, a.log)
				}
			}
			if s := f.status(t); !strings.Contains(s, "Trouble:") || !strings.Contains(s, "quarantined") {
				t.Errorf("status = %s; want it to say what happened", s)
			}
			m, err := f.Broker.Machine(t.Context(), f.Admin, f.Env, f.machine)
			if err != nil || m.Status != latchkey.MachineQuarantined || !strings.Contains(m.StatusReason, "two agents hold its keys") {
				t.Errorf("machine = %+v, %v; want it quarantined, and why", m, err)
			}
			p, err := f.Broker.Audit(t.Context(), f.Admin, broker.AuditFilter{Action: latchkey.ActMachineQuarantine}, latchkey.PageOptions{})
			if err != nil || len(p.Items) == 0 || p.Items[0].Code != "quarantined" || p.Items[0].Outcome != latchkey.OutcomeFailed {
				t.Errorf("audit of the quarantine = %+v, %v", p.Items, err)
			}
			// What waits for the machine is refused, or waits; nothing is released.
			_, err = f.Broker.StartRun(t.Context(), f.Admin, f.Env, latchkey.RunCreate{Flow: f.Flow.ID, Connection: f.Connection.ID})
			if err == nil || !strings.Contains(err.Error(), "is quarantined") {
				t.Errorf("starting a run = %v; want it refused", err)
			}
			// Enrolled anew, the machine works, and the clone is nobody.
			code, _, stderr := command(t, "", "enrol", "--dir", f.dir, "--server", f.url, "--token", f.token(t, f.machine), "--force")
			if code != 0 {
				t.Fatalf("enrol anew = %d: %s", code, stderr)
			}
			a := f.agent(t)
			f.await(t, f.run(t, "tick", "1", "1ms"), latchkey.RunSucceeded, "")
			if _, err := os.Stat(clone.dir); err == nil {
				b := clone.agent(t)
				if code := b.end(t, latchkeytest.Patience); code != 1 || !strings.Contains(b.log.String(), "the machine could not prove its key; enrol it anew") {
					t.Errorf("the clone ended with %d: %s; want 1, and that its key is none", code, b.log)
				}
			}
			f.await(t, f.run(t, "tick", "1", "1ms"), latchkey.RunSucceeded, "")
			if code := a.signal(t, syscall.SIGTERM); code != 0 {
				t.Errorf("the machine's agent ended with %d", code)
			}
		})
	}
}

// copyFolder copies an agent's folder, in place of what was there.
func copyFolder(t *testing.T, from, to string) {
	t.Helper()
	if err := os.RemoveAll(to); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), "cp", "-a", from, to).CombinedOutput(); err != nil {
		t.Fatalf("cp: %v: %s", err, out)
	}
}

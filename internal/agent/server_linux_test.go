package agent

import (
	"database/sql"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	_ "modernc.org/sqlite" // driver "sqlite"

	"latchkey.dev/internal/broker"
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

// TestServerRestored brings the server back with a database from before a run. The
// agent ends the flow that the server knows nothing of, and works on.
func TestServerRestored(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	a := f.agent(t)
	f.await(t, f.run(t, "tick", "1", "1ms"), latchkey.RunSucceeded, "")
	raw, err := sql.Open("sqlite", f.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	backup := filepath.Join(t.TempDir(), "restored.db")
	if _, err := raw.ExecContext(t.Context(), "VACUUM INTO $1", backup); err != nil {
		t.Fatal(err)
	}
	// Since the backup: a new session, and a run.
	if code := a.signal(t, syscall.SIGTERM); code != 0 {
		t.Fatalf("the agent ended with %d", code)
	}
	a = f.agent(t)
	marker := "restored-" + filepath.Base(t.TempDir()) + t.Name()
	id := f.run(t, "tick", "600", "100ms", marker)
	f.awaitOutput(t, id, "line 3\n")
	restored := latchkeytest.New(t, latchkeytest.Options{DatabaseURL: backup, Key: f.Key})
	f.replace(restored.Handler(t))
	eventually(t, 40*time.Second, "the end of the flow", func() bool { return len(processes(t, marker)) == 0 })
	eventually(t, latchkeytest.Patience, "the agent's log to say what happened", func() bool {
		return strings.Contains(a.log.String(), "the run is not claimed by this machine with this claim")
	})
	f.Broker, f.Admin = restored.Broker, restored.Admin
	if m, err := f.Broker.Machine(t.Context(), f.Admin, f.Env, f.machine); err != nil || m.Status == latchkey.MachineQuarantined {
		t.Errorf("machine = %+v, %v; want it in use", m, err)
	}
	f.awaitWithin(t, latchkeytest.Patience, f.run(t, "tick", "1", "1ms"), latchkey.RunSucceeded, "")
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

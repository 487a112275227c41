package agent

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"latchkey.dev/internal/broker"
	"latchkey.dev/internal/latchkeytest/netfault"
	"latchkey.dev/latchkey"
)

// newNetwork starts a service and enrols a machine that reaches it through a bad
// network.
func newNetwork(t *testing.T) (*fixture, *netfault.Proxy) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	f := newService(t)
	f.program = self
	net := netfault.New(t, "tcp", strings.TrimPrefix(f.url, "http://"))
	f.url = "http://" + net.Addr()
	f.enrol(t, "--allow-command", self)
	f.connect(t, true)
	return f, net
}

// once makes a flow that says in a file that it was executed, and how to see how
// often it was.
func (f *fixture) once(t *testing.T, h latchkey.Handover) (flow latchkey.FlowCreate, times func() int) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "executed")
	return f.flow(t, h, time.Minute, "mark", file), func() int {
		b, err := os.ReadFile(file)
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		return len(b)
	}
}

// count returns how many audit entries of an action a run has.
func (f *fixture) count(t *testing.T, action latchkey.Action, id latchkey.RunID) int {
	t.Helper()
	p, err := f.Broker.Audit(t.Context(), f.Admin, broker.AuditFilter{Action: action, Run: id}, latchkey.PageOptions{Limit: 100})
	if err != nil {
		t.Fatal(err)
	}
	return len(p.Items)
}

// TestNetworkCuts cuts the connection in every request of a run: before the
// server has it, in the middle of the answer, and before the answer. Each run
// succeeds, is executed once, and its output is kept once.
func TestNetworkCuts(t *testing.T) {
	t.Parallel()
	f, net := newNetwork(t)
	a := f.agent(t)
	for _, verb := range []string{"sessions", "claim", "start", "release", "log", "finish"} {
		for name, cut := range map[string]func(string, int) <-chan struct{}{"request": net.CutRequest, "answer": net.CutAnswer} {
			for _, after := range []int{0, 150} {
				what := fmt.Sprintf("%s cut in its %s after %d bytes", verb, name, after)
				flow, times := f.once(t, latchkey.HandoverEnvironment)
				if verb == "sessions" {
					eventually(t, 10*time.Second, "a claim", func() bool { return f.proxy.count("claim") > 0 })
					if code := a.signal(t, syscall.SIGTERM); code != 0 {
						t.Fatalf("the agent ended with %d", code)
					}
					a = f.agent(t)
				}
				done := cut(`POST /api/v1/agent/(runs/[^/]*/)?`+verb+` `, after)
				if verb == "claim" {
					net.Reset() // the claim that waits already is not the one to cut
				}
				id := f.start(t, flow, nil)
				f.await(t, id, latchkey.RunSucceeded, "")
				select {
				case <-done:
				default:
					t.Fatalf("%s: nothing was cut", what)
				}
				if times() != 1 {
					t.Errorf("%s: executed %d times; want once", what, times())
				}
				if got, want := f.output(t, id, "stdout"), "executed\n"; got != want {
					t.Errorf("%s: output = %q; want %q", what, got, want)
				}
				if n := f.count(t, latchkey.ActRunClaim, id); n != 1 {
					t.Errorf("%s: %d claims on record; want 1", what, n)
				}
				wantReleases := 1
				if verb == "release" && name == "answer" {
					wantReleases = 2 // the one whose answer was lost is on record too
				}
				if n := f.count(t, latchkey.ActReleaseDelivered, id); n != wantReleases {
					t.Errorf("%s: %d releases on record; want %d", what, n, wantReleases)
				}
				if n := f.count(t, latchkey.ActRunFinish, id); n != 1 {
					t.Errorf("%s: %d ends on record; want 1", what, n)
				}
			}
		}
	}
	if m, err := f.Broker.Machine(t.Context(), f.Admin, f.Env, f.machine); err != nil || m.Status != latchkey.MachineOnline {
		t.Errorf("machine = %+v, %v; want it online", m, err)
	}
}

// TestNetworkLatency adds two seconds to every exchange.
func TestNetworkLatency(t *testing.T) {
	t.Parallel()
	f, net := newNetwork(t)
	net.Set(netfault.Fault{Delay: time.Second})
	f.agent(t)
	flow, times := f.once(t, latchkey.HandoverEnvironment)
	id := f.start(t, flow, nil)
	f.awaitWithin(t, time.Minute, id, latchkey.RunSucceeded, "")
	if times() != 1 || f.output(t, id, "stdout") != "executed\n" {
		t.Errorf("executed %d times, output %q; want once", times(), f.output(t, id, "stdout"))
	}
}

// TestNetworkThrottled gives a run with output so little of a network that its
// largest request would not get through in time.
func TestNetworkThrottled(t *testing.T) {
	t.Parallel()
	f, net := newNetwork(t)
	f.agent(t)
	eventually(t, 10*time.Second, "a claim", func() bool { return f.proxy.count("claim") > 0 })
	net.Set(netfault.Fault{Rate: 4 << 10})
	id := f.run(t, "print", "100000")
	r := f.awaitWithin(t, 2*time.Minute, id, latchkey.RunSucceeded, "")
	if got := f.output(t, id, "stdout"); got != strings.Repeat("0123456789abcdef", 100000/16) || r.LogTruncated {
		t.Errorf("%d bytes of output; want 100000, each once", len(got))
	}
}

// TestNetworkBlackhole swallows everything for a while. A run that is under way
// goes on; when that lasts for longer than the lease it is ended on the machine,
// and the server has given it up.
func TestNetworkBlackhole(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		lasts time.Duration
		state latchkey.RunState
		code  string
	}{
		{"short", 10 * time.Second, latchkey.RunSucceeded, ""},
		{"longer than the lease", latchkey.RunLease + 10*time.Second, latchkey.RunFailed, latchkey.RunErrAgentLost},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if testing.Short() && tt.lasts > latchkey.RunLease {
				t.Skip("takes longer than a lease")
			}
			f, net := newNetwork(t)
			a := f.agent(t)
			marker := "blackhole-" + strings.ReplaceAll(t.Name(), "/", "-")
			seconds := 15
			if tt.lasts > latchkey.RunLease {
				seconds = 100
			}
			id := f.run(t, "tick", fmt.Sprint(seconds*10), "100ms", marker)
			f.awaitOutput(t, id, "line 3\n")
			net.Set(netfault.Fault{Blackhole: true})
			time.Sleep(tt.lasts) // the fault itself
			if tt.code != "" {
				if found := processes(t, marker); len(found) != 0 {
					t.Errorf("the flow goes on though the server has given it up: %q", found)
				}
			}
			net.Set(netfault.Fault{})
			r := f.awaitWithin(t, time.Minute, id, tt.state, tt.code)
			if tt.code == "" {
				if got, want := f.output(t, id, ""), lines(seconds*10); got != want {
					t.Errorf("output = %q; want %q", got, want)
				}
			} else if !strings.Contains(r.Error.Message, "not heard of for too long") || !strings.Contains(a.log.String(), "the server could not be reached for too long: the flow is ended") {
				t.Errorf("the run says %q; want it and the agent's log to say what happened", r.Error.Message)
			}
			// The machine works on by itself.
			f.awaitWithin(t, time.Minute, f.run(t, "tick", "1", "1ms"), latchkey.RunSucceeded, "")
		})
	}
}

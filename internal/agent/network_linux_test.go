package agent

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"latchkey.dev/internal/broker"
	"latchkey.dev/internal/latchkeytest"
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
// server has it, before the answer, and in the middle of the answer. Each run
// succeeds, is executed once, and its output is kept once.
func TestNetworkCuts(t *testing.T) {
	t.Parallel()
	for _, verb := range []string{"sessions", "claim", "start", "release", "log", "finish"} {
		t.Run(verb, func(t *testing.T) {
			t.Parallel()
			testNetworkCuts(t, verb)
		})
	}
}

func testNetworkCuts(t *testing.T, verb string) {
	f, net := newNetwork(t)
	a := f.agent(t)
	eventually(t, latchkeytest.Patience, "a claim", func() bool { return f.proxy.count("claim") > 0 })
	for _, tt := range []struct {
		name     string
		cut      func(string, int) <-chan struct{}
		after    int // bytes
		releases int // on record when it is a release that is cut
	}{
		{"request", net.CutRequest, 0, 1},
		{"answer", net.CutAnswer, 0, 2}, // the one whose answer was lost is on record too
		{"answer's middle", net.CutAnswer, 150, 2},
	} {
		flow, times := f.once(t, latchkey.HandoverEnvironment)
		switch verb {
		case "sessions":
			if code := a.signal(t, syscall.SIGTERM); code != 0 {
				t.Fatalf("the agent ended with %d", code)
			}
		case "claim":
			eventually(t, latchkeytest.Patience, "a claim that waits", func() bool { return f.proxy.waits("claim") })
		}
		done := tt.cut(`POST /api/v1/agent/(runs/[^/]*/)?`+verb+` `, tt.after)
		switch verb {
		case "sessions":
			a = f.agent(t)
		case "claim":
			net.Reset() // the claim that waits already is not the one to cut
		}
		id := f.start(t, flow, nil)
		f.await(t, id, latchkey.RunSucceeded, "")
		select {
		case <-done: // perhaps a moment after the server has noted the end
		case <-time.After(latchkeytest.Patience):
			t.Fatalf("%s: nothing was cut", tt.name)
		}
		if times() != 1 {
			t.Errorf("%s: executed %d times; want once", tt.name, times())
		}
		if got, want := f.output(t, id, "stdout"), "executed\n"; got != want {
			t.Errorf("%s: output = %q; want %q", tt.name, got, want)
		}
		if n := f.count(t, latchkey.ActRunClaim, id); n != 1 {
			t.Errorf("%s: %d claims on record; want 1", tt.name, n)
		}
		releases := 1
		if verb == "release" {
			releases = tt.releases
		}
		if n := f.count(t, latchkey.ActReleaseDelivered, id); n != releases {
			t.Errorf("%s: %d releases on record; want %d", tt.name, n, releases)
		}
		if n := f.count(t, latchkey.ActRunFinish, id); n != 1 {
			t.Errorf("%s: %d ends on record; want 1", tt.name, n)
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
	f.awaitWithin(t, 2*latchkeytest.Patience, id, latchkey.RunSucceeded, "")
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
	eventually(t, latchkeytest.Patience, "a claim", func() bool { return f.proxy.count("claim") > 0 })
	net.Set(netfault.Fault{Rate: 4 << 10})
	id := f.run(t, "print", "100000")
	r := f.awaitWithin(t, 3*latchkeytest.Patience, id, latchkey.RunSucceeded, "")
	if got := f.output(t, id, "stdout"); got != strings.Repeat("0123456789abcdef", 100000/16) || r.LogTruncated {
		t.Errorf("%d bytes of output; want 100000, each once", len(got))
	}
}

// TestNetworkBlackhole swallows everything for a while: a run that is under way
// goes on.
func TestNetworkBlackhole(t *testing.T) {
	t.Parallel()
	f, net := newNetwork(t)
	f.agent(t)
	id := f.run(t, "tick", "150", "100ms")
	f.awaitOutput(t, id, "line 3\n")
	net.Set(netfault.Fault{Blackhole: true})
	time.Sleep(10 * time.Second) // the fault itself
	net.Set(netfault.Fault{})
	f.await(t, id, latchkey.RunSucceeded, "")
	if got, want := f.output(t, id, ""), lines(150); got != want {
		t.Errorf("output = %q; want %q", got, want)
	}
}

// TestNetworkBlackholeForLong swallows everything until the server has given the
// run up: it is ended on the machine too.
func TestNetworkBlackholeForLong(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("takes longer than a lease")
	}
	f, net := newNetwork(t)
	a := f.agent(t)
	const marker = "blackhole-for-long"
	id := f.start(t, f.flow(t, latchkey.HandoverNone, 10*time.Minute, "tick", "6000", "100ms", marker), nil)
	f.awaitOutput(t, id, "line 3\n")
	net.Set(netfault.Fault{Blackhole: true})
	r := f.awaitWithin(t, latchkey.RunLease+latchkeytest.Patience, id, latchkey.RunFailed, latchkey.RunErrAgentLost)
	eventually(t, latchkeytest.Patience, "the end of the flow that the server has given up", func() bool { return len(processes(t, marker)) == 0 })
	net.Set(netfault.Fault{})
	if !strings.Contains(r.Error.Message, "not heard of for too long") || !strings.Contains(a.log.String(), "the server could not be reached for too long: the flow is ended") {
		t.Errorf("the run says %q; want it and the agent's log to say what happened", r.Error.Message)
	}
	// The machine works on by itself.
	f.await(t, f.run(t, "tick", "1", "1ms"), latchkey.RunSucceeded, "")
}

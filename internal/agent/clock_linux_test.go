package agent

import (
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"latchkey.dev/latchkey"
)

// newSteppable starts a service whose clock the returned function sets, and enrols
// a machine.
func newSteppable(t *testing.T, off time.Duration) (f *fixture, step func(time.Duration)) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var offset atomic.Int64
	offset.Store(int64(off))
	f = newService(t, func() time.Time { return time.Now().Add(time.Duration(offset.Load())) })
	f.program = self
	f.enrol(t, "--allow-command", self)
	f.connect(t, true)
	return f, func(d time.Duration) { offset.Add(int64(d)) }
}

// TestClockSteps sets the server's clock while a run is under way. The run goes
// on, the machine is not quarantined, and the next runs are executed too.
func TestClockSteps(t *testing.T) {
	t.Parallel()
	for _, d := range []time.Duration{30 * time.Second, -30 * time.Second, 5 * time.Minute, time.Hour, -time.Hour, 24 * time.Hour, -24 * time.Hour} {
		t.Run(d.String(), func(t *testing.T) {
			t.Parallel()
			f, step := newSteppable(t, 0)
			a := f.agent(t)
			id := f.run(t, "tick", "80", "100ms")
			f.awaitOutput(t, id, "line 3\n")
			step(d)
			r := f.await(t, id, latchkey.RunSucceeded, "")
			if got, want := f.output(t, id, ""), lines(80); got != want {
				t.Errorf("output = %q; want %q", got, want)
			}
			// With a release, which both clocks limit in time.
			id = f.start(t, f.flow(t, latchkey.HandoverEnvironment, time.Minute, "leak"), nil)
			f.await(t, id, latchkey.RunSucceeded, "")
			m, err := f.Broker.Machine(t.Context(), f.Admin, f.Env, f.machine)
			if err != nil || m.Status == latchkey.MachineQuarantined {
				t.Errorf("machine = %s (%s), %v; want it in use", m.Status, m.StatusReason, err)
			}
			if d < 0 && r.FinishedAt.After(*r.StartedAt) {
				t.Errorf("started at %s, finished at %s; want the server's clock as it was each time", r.StartedAt, r.FinishedAt)
			}
			if got := strings.Count(a.log.String(), "session opened"); got > 3 {
				t.Errorf("%d sessions; want one more after the step at most twice", got)
			}
			if skewed := strings.Contains(a.log.String(), "this machine's clock differs from the server's"); skewed != (d.Abs() > 2*time.Minute) {
				t.Errorf("complaint about the clock: %t; want it when it is off by more than a request may be old", skewed)
			}
		})
	}
}

// TestMachineClockWrong has a machine whose clock is off from the beginning: it is
// told, and works.
func TestMachineClockWrong(t *testing.T) {
	t.Parallel()
	for _, d := range []time.Duration{-25 * time.Hour, 25 * time.Hour} {
		t.Run(d.String(), func(t *testing.T) {
			t.Parallel()
			f, _ := newSteppable(t, d)
			a := f.agent(t)
			id := f.start(t, f.flow(t, latchkey.HandoverEnvironment, time.Minute, "leak"), nil)
			f.await(t, id, latchkey.RunSucceeded, "")
			if !strings.Contains(a.log.String(), `level=WARN msg="this machine's clock differs from the server's; set it right. The agent goes by the server's" ahead=`+strings.TrimSuffix((-d).String(), "0m0s")) { // and perhaps a second
				t.Errorf("the log does not say how far the clock is off: %s", a.log)
			}
		})
	}
}

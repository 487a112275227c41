package broker_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"latchkey.dev/internal/broker"
	"latchkey.dev/internal/latchkeytest"
	"latchkey.dev/latchkey"
)

func TestStats(t *testing.T) {
	latchkeytest.EachDB(t, func(t *testing.T, url string) {
		clock := new(latchkeytest.Clock)
		c := latchkeytest.New(t, latchkeytest.Options{DatabaseURL: url, Now: clock.Now}).Chain(t)
		type machines = map[latchkey.MachineStatus]int
		check := func(what string, want broker.Stats) {
			t.Helper()
			got, err := c.Broker.Stats(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			got.Oldest = got.Oldest.Truncate(time.Minute)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", what, diff)
			}
		}
		of := func(online, offline, disabled int) machines {
			return machines{latchkey.MachineOnline: online, latchkey.MachineOffline: offline, latchkey.MachineDisabled: disabled, latchkey.MachineQuarantined: 0}
		}
		c.Start(t)
		run := c.Machine.Claim(t)
		if run == nil {
			t.Fatal("nothing to claim")
		}
		check("with a run under way", broker.Stats{Machines: of(1, 0, 0), Running: 1})
		c.Machine.Finish(t, run)
		c.Start(t)
		clock.Step(5 * time.Minute)
		c.Start(t)
		check("with two runs that wait", broker.Stats{Machines: of(0, 1, 0), Queued: 2, Oldest: 5 * time.Minute})
		off := true
		if _, err := c.Broker.UpdateMachine(t.Context(), c.Admin, c.Env, c.Machine.ID, latchkey.MachineUpdate{Disabled: &off}); err != nil {
			t.Fatal(err)
		}
		check("with the machine disabled", broker.Stats{Machines: of(0, 0, 1), Queued: 2, Oldest: 5 * time.Minute})
	})
}

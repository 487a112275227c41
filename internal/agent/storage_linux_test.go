package agent

import (
	"strings"
	"testing"
	"time"

	"latchkey.dev/internal/db"
	"latchkey.dev/internal/latchkeytest"
	"latchkey.dev/latchkey"
)

// TestStorageFull fills the server's storage while a flow runs and ends, for
// longer than a lease. Its output and its end are reported when there is room.
func TestStorageFull(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	a := f.agent(t)
	id := f.run(t, "tick", "50", "100ms")
	f.awaitOutput(t, id, "line 3\n")
	pages, err := f.DB.LimitPages(t.Context(), 1) // at once, and for what is free inside the file
	if err == nil {
		pages, err = f.DB.LimitPages(t.Context(), pages)
	}
	if err != nil {
		t.Fatal(err)
	}
	// Small entries find room after large ones: it is full when none does any more.
	for size, failed := 2000, 0; failed < 20; {
		err := f.DB.Update(t.Context(), func(tx *db.Tx) error {
			return tx.Record(latchkey.AuditEvent{Action: latchkey.ActRunRead, Outcome: latchkey.OutcomeOK, Run: id, Reason: strings.Repeat("x", size)})
		})
		if storageFull(err) {
			size, failed = size/2, failed+1
		} else if err != nil {
			t.Fatalf("filling the storage: %v; want it full", err)
		}
	}
	lasts := 10 * time.Second
	if !testing.Short() {
		lasts = latchkey.RunLease + 5*time.Second
	}
	time.Sleep(lasts) // the fault itself
	if r := f.get(t, id); r.State != latchkey.RunRunning {
		t.Errorf("run is %s, %+v while nothing can be recorded; want running", r.State, r.Error)
	}
	if _, err := f.DB.LimitPages(t.Context(), pages+1000); err != nil {
		t.Fatal(err)
	}
	f.awaitWithin(t, 2*latchkeytest.Patience, id, latchkey.RunSucceeded, "")
	if got, want := f.output(t, id, ""), lines(50); got != want {
		t.Errorf("output = %q; want %q", got, want)
	}
	if n := f.count(t, latchkey.ActRunFinish, id); n != 1 {
		t.Errorf("%d ends on record; want 1", n)
	}
	if strings.Contains(a.log.String(), "level=ERROR") {
		t.Errorf("the agent's log: %s", a.log)
	}
	f.await(t, f.run(t, "tick", "1", "1ms"), latchkey.RunSucceeded, "")
}

package agent

import (
	"testing"
	"testing/synctest"
	"time"

	"latchkey.dev/latchkey"
)

func TestMisfit(t *testing.T) {
	run := &latchkey.ClaimedRun{Run: "run_1", Claim: "claim_1", Handover: latchkey.HandoverFile}
	good := latchkey.Sealed{Run: "run_1", Claim: "claim_1", Machine: "mach_1", Credential: "cred_1", Exposure: latchkey.ExposureFile}
	tests := []struct {
		name   string
		change func(*latchkey.Sealed)
		want   bool
	}{
		{"as asked for", func(*latchkey.Sealed) {}, false},
		{"more exposure", func(s *latchkey.Sealed) { s.Exposure = latchkey.ExposureEnvironment }, false},
		{"less exposure", func(s *latchkey.Sealed) { s.Exposure = latchkey.ExposureDescriptor }, true},
		{"session", func(s *latchkey.Sealed) { s.Exposure = latchkey.ExposureSession }, true},
		{"no exposure", func(s *latchkey.Sealed) { s.Exposure = "" }, true},
		{"run", func(s *latchkey.Sealed) { s.Run = "run_2" }, true},
		{"claim", func(s *latchkey.Sealed) { s.Claim = "claim_2" }, true},
		{"machine", func(s *latchkey.Sealed) { s.Machine = "mach_2" }, true},
		{"credential", func(s *latchkey.Sealed) { s.Credential = "cred_2" }, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := good
			tt.change(&s)
			if err := misfit(&s, run, "mach_1", "cred_1"); (err != nil) != tt.want {
				t.Errorf("misfit = %v; want an error: %t", err, tt.want)
			}
		})
	}
}

func TestHandoutExpires(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	until := func(expires time.Time) named { return named{expires: expires, now: func() time.Time { return now }} }
	tests := []struct {
		name string
		h    handout
		want bool
	}{
		{"nothing", handout{}, false},
		{"in time", handout{connection: until(now.Add(1)), others: []named{until(now.Add(1))}}, false},
		{"connection", handout{connection: until(now)}, true},
		{"other", handout{connection: until(now.Add(1)), others: []named{until(now.Add(1)), until(now.Add(-1))}}, true},
	}
	for _, tt := range tests {
		if got := tt.h.expired(); got != tt.want {
			t.Errorf("%s: expired = %t; want %t", tt.name, got, tt.want)
		}
	}
}

// A run ends on time, however long a request hangs, and the lease counts from
// when an answered request was sent.
func TestSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begun := time.Now()
		lost := make(chan time.Duration, 1)
		s := startSilence(func() { lost <- time.Since(begun) })
		defer s.stop()
		time.Sleep(50 * time.Second)
		s.heard(begun.Add(40 * time.Second))
		if got, want := <-lost, 40*time.Second+latchkey.RunLease; got != want {
			t.Errorf("given up after %v; want %v", got, want)
		}
	})
}

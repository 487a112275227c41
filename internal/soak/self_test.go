//go:build linux

package soak

import (
	"encoding/base64"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"latchkey.dev/latchkey"
)

// TestShows looks for a secret in the forms that it may have in a file: a search
// that finds nothing proves nothing else.
func TestShows(t *testing.T) {
	w := &world{mark: "Canary0123456789ab"}
	secret := w.mark + "-7-XYZ"
	tests := []struct {
		name, text string
		want       bool
	}{
		{"nothing", "nothing", false},
		{"text", `{"password":"` + secret + `"}`, true},
		{"hex", hex.EncodeToString([]byte(secret)), true},
		{"base64", base64.StdEncoding.EncodeToString([]byte(secret)), true},
		{"base64, in the middle", base64.StdEncoding.EncodeToString([]byte("u:" + secret)), true},
		{"base64, shifted by one", base64.RawURLEncoding.EncodeToString([]byte("u" + secret)), true},
		{"UTF-16", strings.Join(strings.Split(secret, ""), "\x00"), true},
		{"another", "Canary0123456789ac", false},
	}
	for _, tt := range tests {
		if got := w.shows([]byte(tt.text)) != ""; got != tt.want {
			t.Errorf("%s: found = %v; want %v", tt.name, got, tt.want)
		}
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "file"), []byte(secret), 0o600); err != nil {
		t.Fatal(err)
	}
	var found []string
	n := w.search(dir, func(path, how string) { found = append(found, filepath.Base(path)+" "+how) })
	if n != 1 || len(found) != 1 || found[0] != "file as it is" {
		t.Errorf("search = %d files, %q; want one, with a secret", n, found)
	}
}

func TestExcused(t *testing.T) {
	now := time.Now()
	at := func(seconds int) time.Time { return now.Add(time.Duration(seconds) * time.Second) }
	w := &world{outages: []outage{{at(10), at(20)}, {from: at(100)}}}
	tests := []struct {
		name     string
		from, to int
		want     bool
	}{
		{"before", 1, 9, false},
		{"at its beginning", 9, 11, true},
		{"during it", 12, 13, true},
		{"around it", 1, 50, true},
		{"between", 21, 99, false},
		{"one that lasts", 101, 102, true},
	}
	for _, tt := range tests {
		if got := w.excused(at(tt.from), at(tt.to)); got != tt.want {
			t.Errorf("%s: excused = %v; want %v", tt.name, got, tt.want)
		}
	}
}

func TestExcusedLoss(t *testing.T) {
	now := time.Now()
	at := func(seconds int) *time.Time { t := now.Add(time.Duration(seconds) * time.Second); return &t }
	w := &world{
		machines: []machine{{id: "mach_a"}, {id: "mach_b"}},
		agents:   []*process{{kills: []time.Time{*at(0), *at(100)}}, {}},
	}
	tests := []struct {
		name           string
		machine        latchkey.MachineID
		claimed, ended *time.Time
		code           string
		want           bool
	}{
		{"while it ran", "mach_a", at(90), at(160), latchkey.RunErrAgentLost, true},
		{"a claim on its way", "mach_a", at(101), at(165), latchkey.RunErrAgentLost, true},
		{"between", "mach_a", at(10), at(90), latchkey.RunErrAgentLost, false},
		{"long before its claim", "mach_a", at(110), at(171), latchkey.RunErrAgentLost, false},
		{"of another machine", "mach_b", at(90), at(160), latchkey.RunErrAgentLost, false},
		{"never claimed", "mach_a", nil, at(160), latchkey.RunErrAgentLost, false},
		{"another one was signing in", "mach_a", at(130), at(161), latchkey.RunErrPending, true},
		{"nobody was signing in", "mach_b", at(130), at(161), latchkey.RunErrPending, false},
	}
	for _, tt := range tests {
		r := latchkey.Run{Machine: tt.machine, ClaimedAt: tt.claimed, FinishedAt: tt.ended, Error: &latchkey.RunError{Code: tt.code}}
		if got := w.excusedLoss(r); got != tt.want {
			t.Errorf("%s: excused = %v; want %v", tt.name, got, tt.want)
		}
	}
}

func TestMissing(t *testing.T) {
	least := map[string]int{"runs": 2}
	for n, want := range map[int]int{0: 1, 1: 1, 2: 0} {
		if got := missing(least, map[string]int{"runs": 5}, map[string]int{"runs": 5 + n}); len(got) != want {
			t.Errorf("%d more: %q; want %d faults", n, got, want)
		}
	}
}

func TestAstray(t *testing.T) {
	now := time.Now()
	entry := func(id latchkey.AuditID, seconds int) latchkey.AuditEvent {
		return latchkey.AuditEvent{ID: id, At: now.Add(time.Duration(seconds) * time.Second)}
	}
	log := func(entries ...latchkey.AuditEvent) []latchkey.AuditEvent { return entries }
	// A backup was asked for at 100 and restored at 200.
	a, b, c, d, own := entry("a", 1), entry("b", 2), entry("c", 99), entry("d", 101), entry("own", 201)
	changed := b
	changed.Action = latchkey.ActRunStart
	tests := []struct {
		name   string
		part   []latchkey.AuditEvent
		strict bool
		want   int
	}{
		{"a beginning", log(a, b, c, own), true, 0},
		{"all of it", log(a, b, c, d, own), true, 0},
		{"an early end", log(a, own), true, 1},
		{"nothing", nil, true, 3},
		{"a gap", log(a, b, d, own), true, 1},
		{"a gap of what was under way", log(a, b, d, own), false, 0},
		{"a gap of what was there", log(a, c, own), false, 1},
		{"another order", log(b, a, c, own), false, 3},
		{"another entry", log(a, changed, c, own), true, 1},
		{"an entry of nothing", log(a, b, c, entry("x", 99), own), true, 1},
		{"as if not restored", log(a, b, c), true, 1},
	}
	for _, tt := range tests {
		if got := astray(log(a, b, c, d), tt.part, now.Add(100*time.Second), now.Add(200*time.Second), tt.strict); len(got) != tt.want {
			t.Errorf("%s: %v; want %d faults", tt.name, got, tt.want)
		}
	}
}

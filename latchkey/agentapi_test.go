package latchkey

import (
	"strings"
	"testing"
	"time"
)

// TestClaimedRun has the agent refuse what no server may give out.
func TestClaimedRun(t *testing.T) {
	now := time.Now()
	tests := []struct {
		name   string
		change func(*ClaimedRun)
		fault  string // part of the error; "" if there is none
	}{
		{"a flow", func(*ClaimedRun) {}, ""},
		{"a test", func(r *ClaimedRun) { *r = ClaimedRun{Run: r.Run, Kind: RunTest} }, ""},
		{"a kind that is not known", func(r *ClaimedRun) { r.Kind = "other" }, "kind"},
		{"a test with a command", func(r *ClaimedRun) { r.Kind = RunTest }, "command"},
		{"a path for an id", func(r *ClaimedRun) { r.Run = ".." }, "run"},
		{"a name of an input that shells evaluate", func(r *ClaimedRun) { r.Inputs["z;$LATCHKEY_INPUT_B;q"] = "x" }, "names"},
		{"a name of an input with a line break", func(r *ClaimedRun) { r.Inputs["B\n"] = "x" }, "names"},
		{"two names that are one", func(r *ClaimedRun) { r.Inputs["b"] = "x" }, "case"},
		{"an input with NUL", func(r *ClaimedRun) { r.Inputs["B"] = "\x00" }, "NUL"},
		{"inputs that are too large", func(r *ClaimedRun) { r.Inputs["B"] = strings.Repeat("x", MaxInputBytes) }, "bytes"},
		{"no command", func(r *ClaimedRun) { r.Command = nil }, "program"},
		{"a command with NUL", func(r *ClaimedRun) { r.Command[0] = "/opt/\x00../bin/sh" }, "NUL"},
		{"a command that goes up", func(r *ClaimedRun) { r.Command[0] = "/opt/../bin/sh" }, "clean"},
		{"a name of a flow with control characters", func(r *ClaimedRun) { r.FlowName = "a\x1b[2J" }, "flowName"},
		{"no time limit", func(r *ClaimedRun) { r.Timeout = 0 }, "timeout"},
		{"a time limit that is too long", func(r *ClaimedRun) { r.Timeout *= 100 }, "timeout"},
		{"something else for a credential", func(r *ClaimedRun) { r.Credentials = []CredentialID{"x"} }, "credentials"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := ClaimedRun{
				Run: RunID(NewID("run", now)), Kind: RunFlow, FlowName: "invoices", Command: []string{"/bin/true", "a"}, Timeout: Duration(time.Hour),
				Inputs: map[string]string{"B": "touch /tmp/x"}, Credentials: []CredentialID{CredentialID(NewID("cred", now))},
			}
			tt.change(&r)
			err := r.Validate()
			if (err == nil) != (tt.fault == "") || err != nil && !strings.Contains(err.Error(), tt.fault) {
				t.Errorf("Validate = %v; want an error with %q", err, tt.fault)
			}
		})
	}
}

package kdc

import (
	"os/exec"
	"strings"
	"testing"
)

// TestServer has the server tell a right password from a wrong one, also after it
// was started again.
func TestServer(t *testing.T) {
	s := New(t, Options{})
	s.AddUser(t, "bot", "right one")
	for _, restarted := range []bool{false, true} {
		if restarted {
			s.Restart(t)
		}
		for password, want := range map[string]string{"right one": "", "wrong one": "Password incorrect"} {
			cmd := exec.CommandContext(t.Context(), "/usr/bin/kinit", "-c", "MEMORY:x", "bot@"+Realm)
			cmd.Env, cmd.Stdin = s.environ(), strings.NewReader(password+"\n")
			out, err := cmd.CombinedOutput()
			if (err == nil) != (want == "") || !strings.Contains(string(out), want) {
				t.Errorf("kinit = %v: %s; want %q", err, out, want)
			}
		}
	}
	if log := s.Log(t); !strings.Contains(log, "ISSUE") {
		t.Errorf("the log has no ticket: %s", log)
	}
}

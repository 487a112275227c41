package agent

import (
	"crypto/ed25519"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"latchkey.dev/internal/cli"
	"latchkey.dev/internal/seal"
)

// TestCommandLine holds what the commands say to the form of latchkey's, where
// that takes no server.
func TestCommandLine(t *testing.T) {
	t.Setenv("TERM", "xterm")
	t.Setenv("NO_COLOR", "")
	none, dir := t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, policyFile), []byte("drivers = [\"none\"]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	public, _, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	token, _, _ := seal.EnrolmentToken(public)
	hostKey := "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ"
	const closed = "http://127.0.0.1:1"
	tests := []struct {
		name   string
		args   []string
		code   int
		stdout string // part of it; "": nothing is printed
		stderr string // the same
	}{
		{"version", []string{"--version"}, 0, "latchkey-agent version ", ""},
		{"version as JSON", []string{"version", "--json"}, 0, "{\n  \"go\": \"go", ""},
		{"nobody", []string{"status", "--dir", none}, 0, "", "latchkey-agent: no machine is enrolled in "},
		{"nobody, quietly", []string{"status", "--dir", none, "-q"}, 0, "", ""},
		{"nobody as JSON", []string{"status", "--dir", none, "--json"}, 0, "{\n  \"enrolled\": false,\n", ""},
		{"no servers", []string{"ssh", "list", "--dir", dir}, 0, "", "there are none in "},
		{"no servers as JSON", []string{"ssh", "list", "--dir", dir, "--json"}, 0, "[]\n", ""},
		{"a server as JSON", []string{"ssh", "add", "erp", "erp.example", "--dir", dir, "--host-key", hostKey, "--json", "-q"}, 0,
			"{\n  \"name\": \"erp\",\n  \"address\": \"erp.example:22\",\n  \"hostKeys\": [\n    {\n      \"type\": \"ssh-ed25519\",\n      \"fingerprint\": \"SHA256:", ""},
		{"servers as JSON", []string{"ssh", "list", "--dir", dir, "--json"}, 0, "[\n  {\n    \"name\": \"erp\",\n", ""},
		{"servers", []string{"ssh", "list", "--dir", dir}, 0, "Name:      erp\nAddress:   erp.example:22\nHost key:  SHA256:", ""},
		{"a server of nobody", []string{"ssh", "list", "--dir", none}, 1, "", "latchkey-agent: try: latchkey-agent enrol --dir " + none},
		{"a server without an address", []string{"ssh", "add", "erp"}, 2, "", "ADDRESS is missing\nlatchkey-agent: try: latchkey-agent ssh add --help"},
		{"a server that is away", []string{"ssh", "add", "erp", "127.0.0.1:1", "--dir", dir}, 1, "", "latchkey-agent: 127.0.0.1:1 cannot be reached: "},
		{"no such command", []string{"stats"}, 2, "", "did you mean \"status\"?\nlatchkey-agent: try: latchkey-agent --help"},
		{"no such flag", []string{"status", "--jsn"}, 2, "", "latchkey-agent: try: --json, if"},
		{"too much", []string{"status", "x"}, 2, "", `"x" is one argument too many`},
		{"no such level", []string{"run", "--log-level", "loud"}, 2, "", "--log-level must be debug, info, warn or error, not \"loud\""},
		{"no such colour", []string{"status", "--color", "red"}, 2, "", "--color must be"},
		{"an error in red", []string{"status", "--color", "always", "x"}, 2, "", cli.Paint(cli.Red, "latchkey-agent:")},
		{"no token", []string{"enrol", "--server", closed}, 2, "", "latchkey-agent: try: latchkey machine token"},
		{"another token", []string{"enrol", "--server", closed, "--token", "lk_x"}, 1, "", "is not an enrolment token: those begin with lke_\nlatchkey-agent: try: latchkey machine token"},
		{"half a token", []string{"enrol", "--server", closed, "--token", token[:20]}, 1, "", "latchkey-agent: the enrolment token cannot be used: what was given is not a whole"},
		{"no server", []string{"enrol", "--dir", none, "--server", closed, "--token", token, "--allow-command", "/bin/true"}, 1, "",
			"latchkey-agent: nothing listens at http://127.0.0.1:1: the server cannot be reached: "},
	}
	for _, tt := range tests {
		code, stdout, stderr := command(t, "", tt.args...)
		if code != tt.code || !strings.Contains(stdout, tt.stdout) || !strings.Contains(stderr, tt.stderr) || (stdout == "") != (tt.stdout == "") || (stderr == "") != (tt.stderr == "") {
			t.Errorf("%s: %q = %d, %q, %q; want %d, %q, %q", tt.name, tt.args, code, stdout, stderr, tt.code, tt.stdout, tt.stderr)
		}
		if code != 0 && tt.name != "no such colour" && !strings.Contains(stderr, "latchkey-agent: try: ") {
			t.Errorf("%s: %q; want what to try next", tt.name, stderr)
		}
	}
}

// wantJSON decodes what a command printed, which is indented.
func wantJSON[T any](t *testing.T, stdout string) (v T) {
	t.Helper()
	if err := json.Unmarshal([]byte(stdout), &v); err != nil || !strings.HasPrefix(stdout, "{\n  ") {
		t.Fatalf("%q, %v; want an indented object", stdout, err)
	}
	return v
}

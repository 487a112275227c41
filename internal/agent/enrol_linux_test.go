package agent

import (
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"latchkey.dev/internal/latchkeytest"
	"latchkey.dev/latchkey"
)

// wantCommand runs the command line and looks at its code and standard error.
func wantCommand(t *testing.T, want int, text, stdin string, args ...string) (stdout string) {
	t.Helper()
	code, stdout, stderr := command(t, stdin, args...)
	if code != want || !strings.Contains(stderr, text) {
		t.Fatalf("%q = %d, stderr %q; want %d and %q", args, code, stderr, want, text)
	}
	return stdout
}

func TestEnrol(t *testing.T) {
	t.Parallel()
	f := newService(t)
	enrol := func(token string, more ...string) []string {
		return append([]string{"enrol", "--dir", f.dir, "--server", f.url, "--token", token, "--name", "host1"}, more...)
	}
	first := f.token(t, "")
	wantCommand(t, 2, "--token", "", "enrol", "--dir", f.dir, "--server", f.url)
	wantCommand(t, 2, "either", "", enrol(first, "--token-file", "-")...)
	wantCommand(t, 2, "unknown flag", "", enrol(first, "--nonsense")...)
	wantCommand(t, 2, "--server", "", "enrol", "--dir", f.dir, "--token", first)
	wantCommand(t, 1, "not an enrolment token", "", enrol("lk_nonsense")...)
	wantCommand(t, 1, "absolute path", "", enrol(first, "--allow-command", "bin/true")...)
	wantCommand(t, 1, "no machine is enrolled", "", "run", "--dir", f.dir)

	// A token with another server's key: the answer does not prove itself.
	other := latchkeytest.New(t, latchkeytest.Options{}).Chain(t)
	otherToken, err := other.Broker.CreateEnrolmentToken(t.Context(), other.Admin, other.Env, latchkey.EnrolmentTokenCreate{})
	if err != nil {
		t.Fatal(err)
	}
	proof, _, _ := strings.Cut(f.token(t, ""), ".")
	_, key, _ := strings.Cut(otherToken.Token, ".")
	wantCommand(t, 1, "could not prove itself", "", "enrol", "--dir", f.dir, "--server", f.url, "--token", proof+"."+key, "--name", "host0", "--allow-command", "/bin/true")
	if _, err := os.Stat(filepath.Join(f.dir, stateFile)); !os.IsNotExist(err) {
		t.Errorf("a refused enrolment left its state: %v", err)
	}

	// The same command again, now with a good token, read from standard input.
	st := wantJSON[Status](t, wantCommand(t, 0, "latchkey-agent run --dir "+f.dir, first+"\n", "enrol", "--dir", f.dir, "--server", f.url, "--token-file", "-", "--name", "host1", "--allow-command", "/bin/true", "--json"))
	if !st.Enrolled || st.Running || st.Machine == "" || st.Name != "host1" || !st.SharedUID {
		t.Errorf("enrol = %+v; want the machine's status", st)
	}
	if info, err := os.Stat(f.dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("folder %v, %v; want mode 0700", info.Mode(), err)
	}
	files, err := os.ReadDir(f.dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, file := range files {
		names = append(names, file.Name())
		if info, err := file.Info(); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("file %s %v, %v; want mode 0600", file.Name(), info.Mode(), err)
		}
	}
	if got, want := strings.Join(names, " "), "agent.json lock machine.key policy.toml"; got != want {
		t.Errorf("files %s; want %s", got, want)
	}
	before, err := LoadState(f.dir)
	if err != nil {
		t.Fatal(err)
	}

	wantCommand(t, 1, "enrolled already, as host1", "", enrol(f.token(t, ""))...)
	wantCommand(t, 1, "policy.toml", "", enrol(f.token(t, before.Machine), "--force", "--allow-command", "/bin/false")...)
	keys, err := os.ReadFile(filepath.Join(f.dir, keyFile))
	if err != nil {
		t.Fatal(err)
	}
	wantCommand(t, 0, "", "", enrol(f.token(t, before.Machine), "--force")...)
	after, err := LoadState(f.dir)
	if err != nil || after.Machine != before.Machine {
		t.Errorf("enrolled anew as %+v, %v; want the machine %s", after, err, before.Machine)
	}
	if now, err := os.ReadFile(filepath.Join(f.dir, keyFile)); err != nil || string(now) == string(keys) {
		t.Errorf("the keys are the old ones, %v", err)
	}
	f.machine = after.Machine
	f.program = "/bin/true"
	f.connect(t, true)
	c := f.flow(t, latchkey.HandoverDescriptor, latchkey.MaxClaimWait)
	c.Command = []string{"/bin/true"}
	f.agent(t)
	f.await(t, f.start(t, c, nil), latchkey.RunSucceeded, "")

	st = wantJSON[Status](t, wantCommand(t, 0, "", "", "status", "--dir", f.dir, "--json"))
	if !st.Enrolled || !st.Running || !st.SharedUID || st.Machine != f.machine || st.Policy == nil || st.PolicyError != "" {
		t.Errorf("status = %+v; want a running, enrolled machine", st)
	}
	wantCommand(t, 1, "latchkey-agent: try: latchkey-agent status --dir "+f.dir, "", "run", "--dir", f.dir)
	wantCommand(t, 1, "another agent uses this folder", "", enrol(f.token(t, before.Machine), "--force")...)
}

// TestEnrolRelativeCAFile checks that the agent finds the file from any folder.
func TestEnrolRelativeCAFile(t *testing.T) {
	f := newService(t)
	t.Chdir(t.TempDir())
	// It is not read: the server is reached without TLS.
	ca := httpsCertificate(t)
	if err := os.WriteFile("ca.pem", ca, 0o600); err != nil {
		t.Fatal(err)
	}
	f.enrol(t, "--ca-file", "ca.pem")
	s, err := LoadState(f.dir)
	if err != nil || !filepath.IsAbs(s.CAFile) {
		t.Errorf("CA file %q, %v; want an absolute path", s.CAFile, err)
	}
}

func TestBadPolicy(t *testing.T) {
	t.Parallel()
	f := newService(t)
	if err := os.MkdirAll(f.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	tests := []struct{ name, text, want string }{
		{"syntax", "commands = []\ndrivers = [none]\n", "line 2"},
		{"type", "commands = []\nhandovers = 5\n", "line 2"},
		{"unknown key", "commands = []\ncomands = []\n", "2| comands"},
		{"relative", "commands = ['bin/true']\n", `"bin/true" is not an absolute path`},
		{"handover", "handovers = ['shout']\n", `"shout" is not known`},
		{"driver", "drivers = ['rdp']\n", `"rdp" is not known`},
		{"no such user", "run_as = 'no-such-user'\n", "no-such-user"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if err := os.WriteFile(filepath.Join(f.dir, policyFile), []byte(tt.text), 0o600); err != nil {
				t.Fatal(err)
			}
			wantCommand(t, 1, tt.want, "", "enrol", "--dir", f.dir, "--server", f.url, "--token", f.token(t, ""), "--name", "host1")
		})
	}
}

// httpsCertificate returns a certificate in PEM form.
func httpsCertificate(t *testing.T) []byte {
	t.Helper()
	s := httptest.NewTLSServer(http.NotFoundHandler())
	defer s.Close()
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
}

package agent

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"latchkey.dev/internal/latchkeytest"
	"latchkey.dev/latchkey"
)

// TestHandover runs a flow with each handover: it has the right values, and
// nothing else of the agent's.
func TestHandover(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.agent(t)
	const key = "key-of-the-digests"
	wantEnv := []string{"HOME", "LATCHKEY_FLOW", "LATCHKEY_INPUT_MONTH", "LATCHKEY_MACHINE", "LATCHKEY_REVISION", "LATCHKEY_RUN", "LOGNAME", "PATH", "TMPDIR", "USER"}
	tests := []struct {
		how latchkey.Handover
		env []string // names beyond wantEnv
	}{
		{latchkey.HandoverNone, nil},
		{latchkey.HandoverDescriptor, []string{envDescriptor}},
		{latchkey.HandoverFile, []string{envFile}},
		{latchkey.HandoverEnvironment, []string{"LATCHKEY_USERNAME", "LATCHKEY_PASSWORD", "LATCHKEY_CREDENTIAL_SECOND_BOT_USERNAME", "LATCHKEY_CREDENTIAL_SECOND_BOT_PASSWORD"}},
	}
	for _, tt := range tests {
		t.Run(string(tt.how), func(t *testing.T) {
			c := f.flow(t, tt.how, time.Minute, "report", key)
			want := flowReport{Values: map[string]string{}, Inputs: map[string]string{"LATCHKEY_INPUT_MONTH": "2026-01 = ü"}, UID: os.Getuid()}
			if tt.how != latchkey.HandoverNone {
				c.Credentials = []latchkey.CredentialID{f.second.ID}
				name := "Second bot"
				if tt.how == latchkey.HandoverEnvironment {
					name = "second"
				}
				want.How = string(tt.how)
				want.put(key, "connection", latchkeytest.ChainUser, latchkeytest.ChainPassword)
				want.put(key, name, latchkeytest.ChainUser, secondPassword)
			}
			id := f.start(t, c, map[string]string{"month": "2026-01 = ü"})
			f.await(t, id, latchkey.RunSucceeded, "")
			got := readReport(t, f.output(t, id, "stdout"))
			want.Env = slices.Sorted(slices.Values(append(slices.Clone(wantEnv), tt.env...)))
			if got.Home == "/leak" {
				t.Error("the flow has the agent's HOME")
			}
			if tt.how == latchkey.HandoverFile {
				want.Memory, want.Mode = true, "-rw-------"
				if _, err := os.Lstat(got.File); !os.IsNotExist(err) {
					t.Errorf("the file %s is there after the run: %v", got.File, err)
				}
			}
			if _, err := os.Lstat(got.WorkDir); !os.IsNotExist(err) {
				t.Errorf("the folder %s is there after the run: %v", got.WorkDir, err)
			}
			got.Home, got.File, got.WorkDir = "", "", ""
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("the flow sees (-want +got):\n%s", diff)
			}
		})
	}
}

// TestMaskedOutput has a flow print its password.
func TestMaskedOutput(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.agent(t)
	id := f.start(t, f.flow(t, latchkey.HandoverEnvironment, time.Minute, "leak"), nil)
	f.await(t, id, latchkey.RunSucceeded, "")
	if got, want := f.output(t, id, "stdout"), "plain ***\nbase64 ***\nhex ***\nsplit ***\nend\n"; got != want {
		t.Errorf("stdout = %q; want %q", got, want)
	}
	if got, want := f.output(t, id, "stderr"), "error ***\n"; got != want {
		t.Errorf("stderr = %q; want %q", got, want)
	}
}

// TestRunEnds has flows end in every way by themselves, one after the other on
// one agent.
func TestRunEnds(t *testing.T) {
	t.Parallel()
	f := newFixture(t, "--allow-command", "/nonexistent/*")
	a := f.agent(t)
	tests := []struct {
		name    string
		command []string
		code    string // of the error
		exit    int    // -1 is none
	}{
		{"success", []string{f.program, "flow", "exit", "0"}, "", 0},
		{"exit code", []string{f.program, "flow", "exit", "3"}, latchkey.RunErrExit, 3},
		{"signal", []string{f.program, "flow", "signal", "x"}, latchkey.RunErrExit, 128 + int(syscall.SIGTERM)},
		{"missing program", []string{"/nonexistent/program"}, latchkey.RunErrStart, -1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := f.flow(t, latchkey.HandoverDescriptor, time.Minute)
			c.Command = tt.command
			state := latchkey.RunFailed
			if tt.code == "" {
				state = latchkey.RunSucceeded
			}
			r := f.await(t, f.start(t, c, nil), state, tt.code)
			exit := -1
			if r.ExitCode != nil {
				exit = *r.ExitCode
			}
			if exit != tt.exit {
				t.Errorf("exit code = %d; want %d", exit, tt.exit)
			}
		})
	}
	if n := childrenOf(a.cmd.Process.Pid); n != 0 {
		t.Errorf("the agent has %d children after the runs; want none", n)
	}
}

// TestLocalTest tests a connection that signs in nowhere: its agent takes the
// secret that a flow could be handed, if any could, and fails where a flow would.
func TestLocalTest(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.agent(t)
	f.await(t, f.run(t, "exit", "0"), latchkey.RunSucceeded, "") // it is online now
	test := func(want string, releases int) {
		t.Helper()
		ct, err := f.Broker.TestConnection(t.Context(), f.Admin, f.Env, f.Connection.ID, false, latchkey.MaxTestWait)
		if err != nil {
			t.Fatal(err)
		}
		got := string(ct.State) + ":"
		for _, r := range ct.Steps {
			got += " " + string(r.State)
		}
		if got != want {
			t.Errorf("test %s; want %s: %+v", got, want, ct.Steps)
		}
		if r := f.get(t, ct.Run); r.Releases != releases || r.LogBytes > 0 {
			t.Errorf("the test's run has %d releases and %d bytes of output; want %d and none", r.Releases, r.LogBytes, releases)
		}
	}
	test("passed: passed passed passed passed passed skipped", 1)
	if _, err := f.Broker.DeleteSecret(t.Context(), f.Admin, f.Vault.Name, f.Reference.Secret); err != nil {
		t.Fatal(err)
	}
	test("failed: passed passed passed failed skipped skipped", 1)
	f.await(t, f.start(t, f.flow(t, latchkey.HandoverFile, time.Minute, "exit", "0"), nil), latchkey.RunFailed, latchkey.RunErrRelease)
	session := latchkey.ExposureSession
	if _, err := f.Broker.UpdateCredential(t.Context(), f.Admin, f.Env, f.Connection.Credential, latchkey.CredentialUpdate{Exposure: &session}); err != nil {
		t.Fatal(err)
	}
	test("passed: passed passed passed skipped skipped skipped", 0)
}

// TestOversizedFile has a flow make its file larger than memory.
func TestOversizedFile(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.agent(t)
	id := f.start(t, f.flow(t, latchkey.HandoverFile, time.Minute, "grow"), nil)
	f.await(t, id, latchkey.RunSucceeded, "")
	f.await(t, f.run(t, "exit", "0"), latchkey.RunSucceeded, "")
	left, err := filepath.Glob("/dev/shm/" + ownName(filePrefix, f.machine) + "*")
	if err != nil || len(left) > 0 {
		t.Errorf("files %s are left, %v", left, err)
	}
}

// TestPolicyRefuses edits the policy between the start of a run and its claim.
func TestPolicyRefuses(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	id := f.run(t, "exit", "0")
	file := filepath.Join(f.dir, policyFile)
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(strings.ReplaceAll(string(b), f.program, "/bin/false")), 0o600); err != nil {
		t.Fatal(err)
	}
	f.agent(t)
	r := f.await(t, id, latchkey.RunFailed, latchkey.RunErrPolicy)
	if r.StartedAt != nil {
		t.Error("a run that the policy refuses was started")
	}
}

// TestSlots runs two flows at the same time: the end of one does not touch the
// other, and each ends what it has started.
func TestSlots(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	a := f.agent(t, "--slots", "2")
	token := filepath.Join(f.dir, "token")
	long := f.run(t, "tree", token)
	f.awaitOutput(t, long, "ready")
	other := filepath.Join(f.dir, "other")
	short := f.run(t, "background", other)
	f.await(t, short, latchkey.RunSucceeded, "")
	if n := len(processes(t, token)); n != 4 {
		t.Errorf("%d processes of the other flow; want all 4", n)
	}
	if _, err := f.Broker.CancelRun(t.Context(), f.Admin, f.Env, long); err != nil {
		t.Fatal(err)
	}
	f.await(t, long, latchkey.RunCancelled, latchkey.RunErrCancelled)
	if left := append(processes(t, token), processes(t, other)...); len(left) > 0 {
		t.Errorf("left of the runs: %s", left)
	}
	if n := childrenOf(a.cmd.Process.Pid); n != 0 {
		t.Errorf("the agent has %d children after the runs; want none", n)
	}
}

// TestStubborn ends a flow that ignores the request to end.
func TestStubborn(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.agent(t)
	token := filepath.Join(f.dir, "token")
	id := f.start(t, f.flow(t, latchkey.HandoverNone, time.Second, "stubborn", token), nil)
	f.await(t, id, latchkey.RunTimedOut, latchkey.RunErrTimeout)
	if left := processes(t, token); len(left) > 0 {
		t.Errorf("left of the run: %s", left)
	}
}

// TestEndsTree ends flows that have started processes in every way. Nothing of
// them may be left.
func TestEndsTree(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		mode    string
		timeout time.Duration
		cancel  bool
		state   latchkey.RunState
		code    string
	}{
		{"time limit", "tree", 10 * time.Second, false, latchkey.RunTimedOut, latchkey.RunErrTimeout},
		{"cancel", "tree", time.Minute, true, latchkey.RunCancelled, latchkey.RunErrCancelled},
		{"left behind", "background", time.Minute, false, latchkey.RunSucceeded, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			a := f.agent(t)
			token := filepath.Join(f.dir, "token")
			id := f.start(t, f.flow(t, latchkey.HandoverNone, tt.timeout, tt.mode, token), nil)
			f.awaitOutput(t, id, "ready")
			if tt.cancel { // a time limit may have passed meanwhile
				if n := len(processes(t, token)); n != 4 {
					t.Errorf("%d processes of the flow; want 4", n)
				}
			}
			if tt.cancel {
				if _, err := f.Broker.CancelRun(t.Context(), f.Admin, f.Env, id); err != nil {
					t.Fatal(err)
				}
			}
			r := f.await(t, id, tt.state, tt.code)
			if left := processes(t, token); len(left) > 0 {
				t.Errorf("left of the run (%s): %s", r.State, left)
			}
			if n := childrenOf(a.cmd.Process.Pid); n != 0 {
				t.Errorf("the agent has %d children after the run; want none", n)
			}
		})
	}
}

package agent

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"latchkey.dev/internal/latchkeytest"
	"latchkey.dev/latchkey"
)

// TestTerminate stops the agent while a flow runs.
func TestTerminate(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	a := f.agent(t)
	token := filepath.Join(f.dir, "token")
	id := f.run(t, "tree", token)
	f.awaitOutput(t, id, "ready")
	if code := a.signal(t, syscall.SIGTERM); code != 0 {
		t.Errorf("agent ended with %d; want 0", code)
	}
	if r := f.get(t, id); r.State != latchkey.RunCancelled || r.Error == nil || !strings.Contains(r.Error.Message, "agent was stopped") {
		t.Errorf("run = %s %+v; want cancelled, since the agent was stopped", r.State, r.Error)
	}
	if left := processes(t, token); len(left) > 0 {
		t.Errorf("left of the run: %s", left)
	}
}

// TestKill kills the agent while a flow runs, and starts it again: what was left
// is ended and removed, and the run is not executed again.
func TestKill(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	a := f.agent(t)
	token := filepath.Join(f.dir, "token")
	id := f.start(t, f.flow(t, latchkey.HandoverFile, time.Minute, "tree", token), nil)
	f.awaitOutput(t, id, "ready")
	if strings.Contains(strings.Join(processes(t, ""), "\n"), "correct horse") {
		t.Error("the password is in the arguments of a process")
	}
	a.signal(t, syscall.SIGKILL)
	eventually(t, latchkeytest.Patience, "end of the flow's own process", func() bool {
		return !strings.Contains(strings.Join(processes(t, token), "\n"), "flow tree")
	})
	files := func() []string {
		var found []string
		for _, dir := range memoryDirs(false) {
			names, err := filepath.Glob(filepath.Join(dir, ownName(filePrefix, f.machine)+"*"))
			if err != nil {
				t.Fatal(err)
			}
			found = append(found, names...)
		}
		names, err := filepath.Glob(filepath.Join(os.TempDir(), ownName(workPrefix, f.machine)+"*"))
		if err != nil {
			t.Fatal(err)
		}
		return append(found, names...)
	}
	marked := func() (n int) {
		for pid := range processParents() {
			if hasMark(pid, machineMark(f.machine)) {
				n++
			}
		}
		return n
	}
	if len(files()) != 2 || marked() == 0 {
		t.Fatalf("the killed agent left %s and %d processes; want a file, a folder and some", files(), marked())
	}
	foreign := filepath.Join("/dev/shm", ownName(filePrefix, "mach_of_another_agent")+"x")
	if err := os.WriteFile(foreign, []byte("in use"), 0o600); err != nil {
		t.Fatal(err)
	}
	defer os.Remove(foreign)

	b := f.agent(t)
	eventually(t, latchkeytest.Patience, "end of what was left", func() bool { return len(files()) == 0 && marked() == 0 })
	if text, err := os.ReadFile(foreign); err != nil || string(text) != "in use" {
		t.Errorf("another agent's file has %q, %v", text, err)
	}
	f.await(t, f.run(t, "exit", "0"), latchkey.RunSucceeded, "")
	if r := f.get(t, id); r.State != latchkey.RunRunning {
		t.Errorf("run = %s; want it running until its lease ends", r.State)
	}
	if strings.Contains(b.log.String(), string(id)) {
		t.Errorf("the agent took the run up again: %s", b.log)
	}
	// One process had no mark and no parent: it is this test's to end.
	for _, p := range processes(t, token) {
		endProcess(t, p)
	}
}

// endProcess ends a process of processes.
func endProcess(t *testing.T, p string) {
	t.Helper()
	text, _, _ := strings.Cut(p, ":")
	var pid int
	for _, c := range text {
		pid = pid*10 + int(c-'0')
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && err != syscall.ESRCH {
		t.Error(err)
	}
}

// TestRunAs runs flows as another user, who cannot reach the agent's folder.
func TestRunAs(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can run flows as another user")
	}
	t.Parallel()
	f := newService(t)
	f.program = publicCopy(t)
	f.enrol(t, "--allow-command", f.program, "--run-as", "nobody")
	f.connect(t, false)
	account, err := runAccount("nobody")
	if err != nil {
		t.Fatal(err)
	}
	// A session of root has a folder in memory that only root reaches.
	private, err := os.MkdirTemp("/dev/shm", "latchkey-test-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.Remove(private)
	f.agentEnv = []string{"XDG_RUNTIME_DIR=" + private}
	f.agent(t)
	for _, how := range []latchkey.Handover{latchkey.HandoverDescriptor, latchkey.HandoverFile, latchkey.HandoverEnvironment} {
		id := f.start(t, f.flow(t, how, time.Minute, "report", "key"), nil)
		r := f.await(t, id, latchkey.RunSucceeded, "")
		got := readReport(t, f.output(t, id, "stdout"))
		if r.SharedUID || got.UID != int(account.uid) || got.Bad || got.Values["connection password"] == "" || got.Home != account.home {
			t.Errorf("%s: run %+v, flow %+v; want uid %d and the values", how, r, got, account.uid)
		}
	}
	for _, file := range []string{keyFile, stateFile, policyFile} {
		id := f.run(t, "read", filepath.Join(f.dir, file))
		f.await(t, id, latchkey.RunSucceeded, "")
		if got := f.output(t, id, "stdout"); got != "true\n" {
			t.Errorf("reading %s is refused: %s; want true", file, got)
		}
	}
	m, err := f.Broker.Machine(t.Context(), f.Admin, f.Env, f.machine)
	if err != nil || m.SharedUID || m.Policy.RunAs != "nobody" {
		t.Errorf("machine %+v, %v; want one that runs flows as nobody", m, err)
	}
}

// publicCopy returns a copy of the test binary that every user can execute.
func publicCopy(t *testing.T) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, d := range []string{dir, filepath.Dir(dir)} {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(dir, "flow")
	if err := os.WriteFile(file, b, 0o755); err != nil {
		t.Fatal(err)
	}
	return file
}

// TestCancelledBeforeRelease cancels a run before its credential is released.
// The refusal says so before any heartbeat does.
func TestCancelledBeforeRelease(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	c := f.flow(t, latchkey.HandoverFile, time.Minute, "block", t.Name())
	var once sync.Once
	f.proxy.set(func(p *proxy) {
		p.hook = func(_ http.ResponseWriter, r *http.Request, _ []byte) bool {
			if filepath.Base(r.URL.Path) == "release" {
				once.Do(func() {
					id := latchkey.RunID(filepath.Base(filepath.Dir(r.URL.Path)))
					if _, err := f.Broker.CancelRun(r.Context(), f.Admin, f.Env, id); err != nil {
						t.Error(err)
					}
				})
			}
			return false
		}
	})
	f.agent(t)
	f.await(t, f.start(t, c, nil), latchkey.RunCancelled, latchkey.RunErrCancelled)
}

package agent

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"latchkey.dev/internal/latchkeytest"
	"latchkey.dev/internal/latchkeytest/sshd"
	"latchkey.dev/latchkey"
)

// sshFixture is a machine whose flows run on a real SSH server, as the chain's
// user with the chain's password. The credential is exposed to the sign-in only,
// and no flow runs on the machine itself, which need not be shared then.
func sshFixture(t *testing.T, server *sshd.Server, address string) *fixture {
	t.Helper()
	f := newService(t)
	f.program = publicCopy(t)
	f.enrol(t)
	code, _, stderr := command(t, "", "ssh", "add", "--dir", f.dir, "--host-key", server.HostKey, "--allow-command", f.program, "--allow-command", "/nonexistent/*", "erp", address)
	if code != 0 {
		t.Fatalf("ssh add = %d: %s", code, stderr)
	}
	f.connectSSH(t)
	return f
}

// connectSSH makes the connection once the server knows of the SSH server, which
// the agent tells when it opens a session.
func (f *fixture) connectSSH(t *testing.T) {
	t.Helper()
	a := f.agent(t)
	eventually(t, 10*time.Second, "the machine's SSH server", func() bool {
		m, err := f.Broker.Machine(t.Context(), f.Admin, f.Env, f.machine)
		return err == nil && len(m.Policy.SSHServers) == 1
	})
	a.signal(t, syscall.SIGTERM)
	f.Connection = f.sshConnection(t, "ERP by SSH", f.Username)
}

// sshConnection makes a credential with the chain's password, and a connection
// that signs in with it.
func (f *fixture) sshConnection(t *testing.T, name string, user latchkey.Variable) latchkey.Connection {
	t.Helper()
	c, err := f.Broker.CreateCredential(t.Context(), f.Admin, f.Env, latchkey.CredentialCreate{
		Name: name, Usages: []latchkey.Usage{latchkey.UsageConnection}, Exposure: latchkey.ExposureSession,
		Slots: map[latchkey.Slot]string{latchkey.SlotUsername: user.Name, latchkey.SlotPassword: f.Password.Name},
	})
	if err != nil {
		t.Fatal(err)
	}
	connection, err := f.Broker.CreateConnection(t.Context(), f.Admin, f.Env, latchkey.ConnectionCreate{
		Name: name, Target: latchkey.Target{Machine: f.machine}, Driver: latchkey.DriverSSH, Credential: c.ID,
	})
	if err != nil {
		t.Fatal(err)
	}
	return connection
}

// newSSHServer starts a server with the chain's user.
func newSSHServer(t *testing.T, config ...string) *sshd.Server {
	t.Helper()
	return sshd.New(t, sshd.Options{Users: []sshd.User{{Name: latchkeytest.ChainUser, Password: latchkeytest.ChainPassword}}, Config: config})
}

// TestSSHRuns has flows on a real server end in every way by themselves.
func TestSSHRuns(t *testing.T) {
	t.Parallel()
	server := newSSHServer(t)
	f := sshFixture(t, server, server.Address)
	a := f.agent(t)
	token := filepath.Join(f.dir, "token")
	tests := []struct {
		name    string
		command []string
		timeout time.Duration
		state   latchkey.RunState
		code    string // of the error
		exit    int    // -1 is none
		stdout  string
	}{
		{"success", []string{"exit", "0"}, time.Minute, latchkey.RunSucceeded, "", 0, ""},
		{"exit code", []string{"exit", "3"}, time.Minute, latchkey.RunFailed, latchkey.RunErrExit, 3, ""},
		{"signal", []string{"signal", "x"}, time.Minute, latchkey.RunFailed, latchkey.RunErrExit, 128 + int(syscall.SIGTERM), ""},
		{"output", []string{"tick", "3", "10ms"}, time.Minute, latchkey.RunSucceeded, "", 0, "line 0\nline 1\nline 2\n"},
		{"missing", nil, time.Minute, latchkey.RunFailed, latchkey.RunErrStart, -1, ""},
		{"time limit", []string{"tree", token}, 10 * time.Second, latchkey.RunTimedOut, latchkey.RunErrTimeout, -1, "ready\n"},
		{"stubborn", []string{"stubborn", token}, time.Second, latchkey.RunTimedOut, latchkey.RunErrTimeout, -1, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := f.flow(t, latchkey.HandoverNone, tt.timeout, tt.command...)
			if tt.command == nil {
				c.Command = []string{"/nonexistent/program"}
			}
			id := f.start(t, c, nil)
			r := f.await(t, id, tt.state, tt.code)
			exit := -1
			if r.ExitCode != nil {
				exit = *r.ExitCode
			}
			if got := f.output(t, id, "stdout"); exit != tt.exit || got != tt.stdout || r.Releases != 1 || r.SharedUID {
				t.Errorf("exit code %d, output %q, %d releases, shared-uid %v; want %d, %q, 1, false", exit, got, r.Releases, r.SharedUID, tt.exit, tt.stdout)
			}
			awaitOnly(t, server, 1)
		})
	}
	if n := childrenOf(a.cmd.Process.Pid); n != 0 {
		t.Errorf("the agent has %d children; want none", n)
	}
	if strings.Contains(a.log.String()+server.Log()+f.Log.String(), latchkeytest.ChainPassword) {
		t.Error("the password is in a log")
	}
}

// awaitOnly waits until what is left on the server are at most the strays that
// tree leaves which nothing tells from other processes of the user.
func awaitOnly(t *testing.T, s *sshd.Server, unmarked int) {
	t.Helper()
	for deadline := time.Now().Add(15 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		left := s.Processes()
		n := 0
		for _, line := range left {
			if strings.Contains(line, "flow sleep") {
				n++
			}
		}
		if n == len(left) && n <= unmarked {
			break
		}
		if time.Now().After(deadline) {
			t.Errorf("left on the server: %v", left)
			break
		}
	}
	for pid := range s.Processes() {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && err != syscall.ESRCH {
			t.Error(err)
		}
	}
}

// TestSSHFlowSees looks at what a flow is given on the server.
func TestSSHFlowSees(t *testing.T) {
	t.Parallel()
	server := newSSHServer(t)
	f := sshFixture(t, server, server.Address)
	f.agent(t)
	id := f.start(t, f.flow(t, latchkey.HandoverNone, time.Minute, "report", "key"), map[string]string{"month": "2026-01 = ü\n'x'", "leak": latchkeytest.ChainPassword})
	f.await(t, id, latchkey.RunSucceeded, "")
	got := readReport(t, f.output(t, id, "stdout"))
	if got.UID == os.Getuid() || got.How != "" || len(got.Values) > 0 || got.Inputs["LATCHKEY_INPUT_MONTH"] != "2026-01 = ü\n'x'" {
		t.Errorf("the flow sees %+v; want another user, the input, and no value", got)
	}
	if got.Inputs["LATCHKEY_INPUT_LEAK"] != mask {
		t.Errorf("the password in the output is %q; want it masked", got.Inputs["LATCHKEY_INPUT_LEAK"])
	}
	for _, name := range []string{"LATCHKEY_RUN", "LATCHKEY_MACHINE", "LATCHKEY_FLOW", "LATCHKEY_REVISION", "TMPDIR", "HOME", "PATH"} {
		if !strings.Contains(" "+strings.Join(got.Env, " ")+" ", " "+name+" ") {
			t.Errorf("the flow has no %s: %s", name, got.Env)
		}
	}
	if _, err := os.Lstat(got.WorkDir); !os.IsNotExist(err) {
		t.Errorf("the folder %s is there after the run: %v", got.WorkDir, err)
	}
}

// TestSSHEnds ends flows on a real server from outside. Nothing of them may go
// on there, and none is executed again.
func TestSSHEnds(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		end   func(t *testing.T, f *fixture, a *agentProcess, s *sshd.Server, l *link, id latchkey.RunID)
		state latchkey.RunState
		code  string
		text  string // part of why
	}{
		{"cancel", func(t *testing.T, f *fixture, _ *agentProcess, _ *sshd.Server, _ *link, id latchkey.RunID) {
			if _, err := f.Broker.CancelRun(t.Context(), f.Admin, f.Env, id); err != nil {
				t.Fatal(err)
			}
		}, latchkey.RunCancelled, latchkey.RunErrCancelled, "the run was cancelled"},
		{"server killed", func(_ *testing.T, _ *fixture, _ *agentProcess, s *sshd.Server, _ *link, _ latchkey.RunID) { s.Kill() },
			latchkey.RunFailed, latchkey.RunErrLost, "the connection to the SSH server erp was lost"},
		{"connection cut", func(_ *testing.T, _ *fixture, _ *agentProcess, _ *sshd.Server, l *link, _ latchkey.RunID) { l.cut() },
			latchkey.RunFailed, latchkey.RunErrLost, "the connection to the SSH server erp was lost"},
		{"agent stopped", func(t *testing.T, _ *fixture, a *agentProcess, _ *sshd.Server, _ *link, _ latchkey.RunID) {
			if code := a.signal(t, syscall.SIGTERM); code != 0 {
				t.Errorf("agent ended with %d; want 0", code)
			}
		}, latchkey.RunCancelled, latchkey.RunErrCancelled, "the agent was stopped while the flow ran"},
		{"agent killed", func(t *testing.T, f *fixture, a *agentProcess, s *sshd.Server, _ *link, id latchkey.RunID) {
			a.signal(t, syscall.SIGKILL)
			awaitOnly(t, s, 1) // with no agent there
			b := f.agent(t)
			f.await(t, f.run(t, "exit", "0"), latchkey.RunSucceeded, "")
			if r := f.get(t, id); r.State != latchkey.RunRunning || strings.Contains(b.log.String(), string(id)) {
				t.Errorf("run %s is %s; want it running until its lease ends, and left alone by the next agent: %s", id, r.State, b.log)
			}
		}, latchkey.RunFailed, latchkey.RunErrAgentLost, "may have done part of its work and is not repeated"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if testing.Short() && tt.code == latchkey.RunErrAgentLost {
				t.Skip("takes longer than a lease")
			}
			server := newSSHServer(t)
			l := newLink(t, server.Address)
			f := sshFixture(t, server, l.address())
			a := f.agent(t)
			id := f.run(t, "tree", filepath.Join(f.dir, "token"))
			f.awaitOutput(t, id, "ready")
			if n := len(server.Processes()); n < 4 {
				t.Errorf("%d processes of the user; want the flow's 4 and more: %v", n, server.Processes())
			}
			folder := remoteFolder(t, server)
			tt.end(t, f, a, server, l, id)
			r := f.awaitWithin(t, latchkey.RunLease+latchkeytest.Patience, id, tt.state, tt.code)
			if !strings.Contains(r.Error.Message, tt.text) {
				t.Errorf("it failed since %s; want %s", r.Error.Message, tt.text)
			}
			if got := f.output(t, id, "stdout"); got != "ready\n" || r.Releases != 1 || r.ExitCode != nil {
				t.Errorf("output %q, %d releases, exit code %v; want it executed once and no exit code", got, r.Releases, r.ExitCode)
			}
			awaitOnly(t, server, 1)
			if _, err := os.Lstat(folder); !os.IsNotExist(err) {
				t.Errorf("the folder %s is there after the run: %v", folder, err)
			}
		})
	}
}

// remoteFolder returns the folder that the one flow on a server began in.
func remoteFolder(t *testing.T, s *sshd.Server) string {
	t.Helper()
	for pid, line := range s.Processes() {
		if strings.Contains(line, "flow tree") {
			folder, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", pid))
			if err != nil {
				t.Fatal(err)
			}
			return folder
		}
	}
	t.Fatalf("no flow on the server: %v", s.Processes())
	return ""
}

// TestSSHGoneBefore has the agent be gone when the script on the server would say
// that the flow begins: it does not, and no folder is left.
func TestSSHGoneBefore(t *testing.T) {
	t.Parallel()
	marker, tmp := filepath.Join(t.TempDir(), "executed"), t.TempDir()
	text, err := remote{life: usualSigns, run: "run_x", command: []string{"/usr/bin/touch", marker}, env: []string{"LATCHKEY_RUN=run_x"}}.lines("ready")
	if err != nil {
		t.Fatal(err)
	}
	nobody, stdout, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer stdout.Close()
	if err := nobody.Close(); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "/bin/sh", "-c", bootstrap)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "TMPDIR=" + tmp}
	cmd.Stdin, cmd.Stdout = strings.NewReader(remoteScript+".\n"+text), stdout
	if err := cmd.Run(); err == nil {
		t.Error("the script succeeds")
	}
	if _, err := os.Lstat(marker); !os.IsNotExist(err) {
		t.Errorf("the flow was executed: %v", err)
	}
	if left, err := os.ReadDir(tmp); err != nil || len(left) > 0 {
		t.Errorf("left on the server: %v, %v", left, err)
	}
}

// TestSSHTest tests connections by their agent and a real server.
func TestSSHTest(t *testing.T) {
	t.Parallel()
	server := newSSHServer(t)
	f := sshFixture(t, server, server.Address)
	f.agent(t)
	test := func(want, code string) latchkey.ConnectionTest {
		t.Helper()
		return f.testConnection(t, f.Connection, want, code)
	}
	passed := test("passed: passed passed passed passed passed passed", "")
	f.SetSecret(t, f.Reference.Secret, "wrong-one")
	refused := "failed: passed passed passed passed passed failed"
	for range latchkey.MaxRefusals {
		test(refused, latchkey.RunErrSignIn)
	}
	test("failed: passed passed passed passed failed skipped", "refused-before")
	f.await(t, f.run(t, "exit", "0"), latchkey.RunFailed, latchkey.RunErrRelease)
	f.SetSecret(t, f.Reference.Secret, latchkeytest.ChainPassword)
	test("passed: passed passed passed passed passed passed", "")
	server.Kill()
	if n := server.Attempts(); n != latchkey.MaxRefusals {
		t.Errorf("the server was given %d wrong passwords; want %d", n, latchkey.MaxRefusals)
	}
	test("failed: passed passed passed skipped skipped failed", latchkey.RunErrUnreachable)
	server.NewHostKey(t)
	server.Restart(t)
	test(refused, latchkey.RunErrHostKey)
	if r := f.get(t, passed.Run); r.Kind != latchkey.RunTest || r.Releases != 1 {
		t.Errorf("the test's run is %+v; want a test with one release", r)
	}
}

// testConnection tests a connection. want are the states of the test and of its
// steps, code is that of the one that failed.
func (f *fixture) testConnection(t *testing.T, c latchkey.Connection, want, code string) latchkey.ConnectionTest {
	t.Helper()
	ct, err := f.Broker.TestConnection(t.Context(), f.Admin, f.Env, c.ID, false, 30*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	got := string(ct.State) + ":"
	gotCode := ""
	for _, r := range ct.Steps {
		got += " " + string(r.State)
		gotCode += r.Code
	}
	if got != want || gotCode != code {
		t.Errorf("test %s, code %q; want %s, %q: %+v", got, gotCode, want, code, ct.Steps)
	}
	if strings.Contains(fmt.Sprint(ct), latchkeytest.ChainPassword) || strings.Contains(fmt.Sprint(ct), "wrong-one") {
		t.Error("the test tells the password")
	}
	return ct
}

// TestSSHAccounts signs in with accounts that a real server does not let in. The
// test of the connection and a run say the same about it.
func TestSSHAccounts(t *testing.T) {
	t.Parallel()
	password := latchkeytest.ChainPassword
	server := sshd.New(t, sshd.Options{Users: []sshd.User{
		{Name: "locked", Password: password, Locked: true},
		{Name: "nopassword", NoPassword: true},
		{Name: "expired", Password: password, PasswordExpired: true},
		{Name: "left", Password: password, AccountExpired: true},
	}})
	f := sshFixture(t, server, server.Address)
	f.agent(t)
	const refused = "the SSH server erp refused %s with the password from the vault. Either the password is wrong, or there is no such account, or it is locked, which the server does not tell; " +
		"set the right password in the vault, or have the account unlocked. It is not tried again by itself"
	for _, tt := range []struct{ user, code, text string }{
		{"locked", latchkey.RunErrSignIn, fmt.Sprintf(refused, "locked")},
		{"nopassword", latchkey.RunErrSignIn, fmt.Sprintf(refused, "nopassword")},
		{"expired", latchkey.RunErrExpired, "the password of expired on the SSH server erp has expired; set a new one there and in the vault"},
		{"left", latchkey.RunErrAccount, "the SSH server erp does not let the account left in, though it did not say that the password is wrong; " +
			"it says: Your account has expired; please contact your system administrator."},
	} {
		t.Run(tt.user, func(t *testing.T) {
			user, err := f.Broker.CreateVariable(t.Context(), f.Admin, f.Env, latchkey.VariableCreate{DisplayName: tt.user, Type: latchkey.TypeText, Value: &tt.user})
			if err != nil {
				t.Fatal(err)
			}
			f.Connection = f.sshConnection(t, tt.user, user)
			ct := f.testConnection(t, f.Connection, "failed: passed passed passed passed passed failed", tt.code)
			if last := ct.Steps[len(ct.Steps)-1]; last.Step != latchkey.StepSignIn || last.Message != tt.text {
				t.Errorf("step %s: %s; want %s: %s", last.Step, last.Message, latchkey.StepSignIn, tt.text)
			}
			if r := f.await(t, f.run(t, "exit", "0"), latchkey.RunFailed, tt.code); r.Error.Message != tt.text || r.Releases != 1 || r.ExitCode != nil {
				t.Errorf("run %s, %d releases, exit code %v; want %s, one release, no exit code", r.Error.Message, r.Releases, r.ExitCode, tt.text)
			}
		})
	}
}

// TestSSHSilence cuts the network so that neither side is told: both notice that
// the other is silent.
func TestSSHSilence(t *testing.T) {
	t.Parallel()
	server := newSSHServer(t)
	l := newLink(t, server.Address)
	c := configured(t, server)
	c.Address = l.address()
	conn, err := c.dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	client, err := c.signIn(t.Context(), conn, latchkey.CredentialValues{Username: latchkeytest.ChainUser, Password: latchkey.NewSecret(latchkeytest.ChainPassword)})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	stdout, stderr := &head{limit: 100}, &head{limit: 1000}
	ended := make(chan error, 1)
	go func() {
		_, err := runRemote(t.Context(), client, remote{
			life: signs{every: 500 * time.Millisecond, patience: 3 * time.Second}, run: "run_x",
			command: []string{"/bin/sh", "-c", "echo ready; sleep 300"}, env: []string{"LATCHKEY_RUN=run_x"}, stdout: stdout, stderr: stderr,
		})
		ended <- err
	}()
	eventually(t, 10*time.Second, "the flow", func() bool { return stdout.text() == "ready\n" })
	l.freeze()
	select {
	case err := <-ended:
		if !errors.Is(err, errRemoteLost) {
			t.Errorf("the agent's side ended with %v; want %v", err, errRemoteLost)
		}
	case <-time.After(20 * time.Second):
		t.Error("the agent did not notice")
	}
	if len(server.Processes()) == 0 {
		t.Error("the flow has ended already: the server noticed otherwise")
	}
	eventually(t, 40*time.Second, "end of the flow on the server", func() bool { return len(server.Processes()) == 0 })
}

// A link stands between the agent and an SSH server, and can be cut.
type link struct {
	listener net.Listener
	target   string
	work     sync.WaitGroup

	mu    sync.Mutex
	conns []net.Conn    // guarded by mu
	ice   chan struct{} // closed when nothing passes any more
}

func newLink(t *testing.T, target string) *link {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &link{listener: listener, target: target, ice: make(chan struct{})}
	l.work.Go(func() {
		for {
			in, err := listener.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", target)
			if err != nil {
				_ = in.Close()
				continue
			}
			l.mu.Lock()
			l.conns = append(l.conns, in, out)
			l.mu.Unlock()
			for _, pair := range [][2]net.Conn{{in, out}, {out, in}} {
				l.work.Go(func() {
					_, _ = io.Copy(icy{pair[0], l.ice}, pair[1])
					select {
					case <-l.ice: // the other side is not told
					default:
						_ = pair[0].Close()
					}
				})
			}
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		l.cut()
		l.work.Wait()
	})
	return l
}

func (l *link) address() string { return l.listener.Addr().String() }

// freeze has nothing pass any more, in both directions.
func (l *link) freeze() { close(l.ice) }

// An icy writer drops what is written to it once its link is frozen.
type icy struct {
	io.Writer
	ice chan struct{}
}

func (w icy) Write(b []byte) (int, error) {
	select {
	case <-w.ice:
		return len(b), nil
	default:
		return w.Writer.Write(b)
	}
}

// cut ends every connection.
func (l *link) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.conns {
		_ = c.Close()
	}
	l.conns = nil
}

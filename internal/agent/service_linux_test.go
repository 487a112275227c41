package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"latchkey.dev/internal/latchkeytest"
	"latchkey.dev/latchkey"
)

// A proxy stands between agents and the service, and does to their requests
// what a test wants.
type proxy struct {
	next http.Handler

	mu     sync.Mutex
	down   bool
	tamper string                                                                // part of the paths whose answers are changed; "" is none
	hook   func(w http.ResponseWriter, r *http.Request, body []byte) (done bool) // may answer in the service's place
	seen   map[string]int                                                        // requests by the last part of their path
	open   map[string]int                                                        // those that the service has not answered yet
	cut    chan struct{}                                                         // closed when the service goes down
}

func (p *proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	p.mu.Lock()
	down, tamper, hook, cut, next := p.down, p.tamper != "" && strings.Contains(r.URL.Path, p.tamper), p.hook, p.cut, p.next
	verb := filepath.Base(r.URL.Path)
	p.seen[verb]++
	p.open[verb]++
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.open[verb]--
	}()
	if down {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	if hook != nil && hook(w, r, body) {
		return
	}
	ctx, stop := context.WithCancel(r.Context())
	defer stop()
	go func() {
		select {
		case <-cut:
			stop()
		case <-ctx.Done():
		}
	}()
	answer := httptest.NewRecorder()
	next.ServeHTTP(answer, r.WithContext(ctx))
	select {
	case <-cut: // the answer is lost with the connection
		panic(http.ErrAbortHandler)
	default:
	}
	for k, v := range answer.Header() {
		w.Header()[k] = v
	}
	w.WriteHeader(answer.Code)
	text := answer.Body.Bytes()
	if tamper {
		text = append(text, ' ') // it means the same, but its MAC is wrong
	}
	_, _ = w.Write(text)
}

// set changes the proxy's behaviour.
func (p *proxy) set(f func(*proxy)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	was := p.down
	f(p)
	if !was && p.down {
		close(p.cut)
	} else if was && !p.down {
		p.cut = make(chan struct{})
	}
}

func (p *proxy) count(path string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.seen[path]
}

// waits reports whether a request with that last part of its path has no
// answer yet.
func (p *proxy) waits(path string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.open[path] > 0
}

// A fixture is a service with a machine that is enrolled by this package. Its
// connection's credential can be exposed in every way.
type fixture struct {
	*latchkeytest.Chain
	proxy    *proxy
	url      string
	dir      string // the agent's folder
	program  string // the test binary, as the policy allows it
	machine  latchkey.MachineID
	second   latchkey.Credential
	flows    int      // made so far
	agentEnv []string // of agents, beyond what they always have
}

const secondPassword = `p"ä&<ss> w/rd`

// newFixture starts a service and enrols a machine.
func newFixture(t *testing.T, enrol ...string) *fixture {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	f := newService(t)
	f.program = self
	f.enrol(t, append([]string{"--allow-command", self}, enrol...)...)
	f.connect(t, true)
	return f
}

// newService starts a service and enrols nothing.
func newService(t *testing.T, now ...func() time.Time) *fixture {
	t.Helper()
	o := latchkeytest.Options{}
	if len(now) > 0 {
		o.Now = now[0]
	}
	s := latchkeytest.New(t, o)
	f := &fixture{Chain: s.Chain(t), proxy: &proxy{next: s.Handler(t), seen: map[string]int{}, open: map[string]int{}, cut: make(chan struct{})}, dir: filepath.Join(t.TempDir(), "agent")}
	srv := httptest.NewServer(f.proxy)
	t.Cleanup(func() {
		srv.CloseClientConnections()
		srv.Close()
	})
	f.url = srv.URL
	return f
}

// token makes an enrolment token.
func (f *fixture) token(t *testing.T, machine latchkey.MachineID) string {
	t.Helper()
	token, err := f.Broker.CreateEnrolmentToken(t.Context(), f.Admin, f.Env, latchkey.EnrolmentTokenCreate{Machine: machine})
	if err != nil {
		t.Fatal(err)
	}
	return token.Token
}

// enrol enrols the machine.
func (f *fixture) enrol(t *testing.T, args ...string) {
	t.Helper()
	code, _, stderr := command(t, "", append([]string{"enrol", "--dir", f.dir, "--server", f.url, "--token", f.token(t, ""), "--name", "host1"}, args...)...)
	if code != 0 {
		t.Fatalf("enrol = %d: %s", code, stderr)
	}
	s, err := LoadState(f.dir)
	if err != nil {
		t.Fatal(err)
	}
	f.machine = s.Machine
}

// connect makes what a run on the machine needs.
func (f *fixture) connect(t *testing.T, shared bool) {
	t.Helper()
	ctx := t.Context()
	credential := func(name, password string, usage latchkey.Usage) latchkey.Credential {
		c, err := f.Broker.CreateCredential(ctx, f.Admin, f.Env, latchkey.CredentialCreate{
			Name: name, Usages: []latchkey.Usage{usage}, Exposure: latchkey.ExposureEnvironment, AllowSharedUID: shared,
			Slots: map[latchkey.Slot]string{latchkey.SlotUsername: f.Username.Name, latchkey.SlotPassword: password},
		})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	f.SetSecret(t, "second", secondPassword)
	ref := f.Reference
	ref.Secret = "second"
	v, err := f.Broker.CreateVariable(ctx, f.Admin, f.Env, latchkey.VariableCreate{DisplayName: "Second password", Type: latchkey.TypeSecret, Secret: &ref})
	if err != nil {
		t.Fatal(err)
	}
	f.AwaitCheck(t, v.Name, latchkey.CheckPassed)
	f.second = credential("Second bot", v.Name, latchkey.UsageDesktopFlow)
	f.Connection, err = f.Broker.CreateConnection(ctx, f.Admin, f.Env, latchkey.ConnectionCreate{
		Name: "ERP on host1", Target: latchkey.Target{Machine: f.machine}, Driver: latchkey.DriverNone,
		Credential: credential("Host bot", f.Password.Name, latchkey.UsageConnection).ID,
	})
	if err != nil {
		t.Fatal(err)
	}
}

// flow makes a flow of the test binary.
func (f *fixture) flow(t *testing.T, h latchkey.Handover, timeout time.Duration, args ...string) latchkey.FlowCreate {
	t.Helper()
	c := latchkey.FlowCreate{Name: t.Name() + " " + strconv.Itoa(f.flows), Command: append([]string{f.program, "flow"}, args...), Timeout: latchkey.Duration(timeout), Handover: h}
	c.Name = strings.ReplaceAll(strings.ReplaceAll(c.Name, "/", " "), "_", " ")
	f.flows++
	return c
}

// start queues a run of a new flow.
func (f *fixture) start(t *testing.T, c latchkey.FlowCreate, inputs map[string]string) latchkey.RunID {
	t.Helper()
	made, err := f.Broker.CreateFlow(t.Context(), f.Admin, f.Env, c)
	if err != nil {
		t.Fatal(err)
	}
	r, err := f.Broker.StartRun(t.Context(), f.Admin, f.Env, latchkey.RunCreate{Flow: made.ID, Connection: f.Connection.ID, Inputs: inputs})
	if err != nil {
		t.Fatal(err)
	}
	return r.ID
}

// run is start for a flow without handover.
func (f *fixture) run(t *testing.T, args ...string) latchkey.RunID {
	t.Helper()
	return f.start(t, f.flow(t, latchkey.HandoverNone, time.Minute, args...), nil)
}

func (f *fixture) get(t *testing.T, id latchkey.RunID) latchkey.Run {
	t.Helper()
	r, err := f.Broker.Run(context.WithoutCancel(t.Context()), f.Admin, f.Env, id)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// await waits until a run has ended with the given state and code of error.
func (f *fixture) await(t *testing.T, id latchkey.RunID, state latchkey.RunState, code string) latchkey.Run {
	t.Helper()
	return f.awaitWithin(t, latchkeytest.Patience, id, state, code)
}

func (f *fixture) awaitWithin(t *testing.T, limit time.Duration, id latchkey.RunID, state latchkey.RunState, code string) latchkey.Run {
	t.Helper()
	var r latchkey.Run
	eventually(t, limit, "end of the run", func() bool {
		r = f.get(t, id)
		return r.State.Done()
	})
	got := ""
	if r.Error != nil {
		got = r.Error.Code
	}
	if r.State != state || got != code {
		t.Fatalf("run ended %s %+v; want %s %q; log: %s", r.State, r.Error, state, code, f.output(t, id, "stderr"))
	}
	return r
}

// output returns what a run has printed to a stream; "" is both.
func (f *fixture) output(t *testing.T, id latchkey.RunID, stream string) string {
	t.Helper()
	var b strings.Builder
	for offset := int64(0); ; {
		l, err := f.Broker.RunLog(t.Context(), f.Admin, f.Env, id, offset, 0)
		if err != nil {
			t.Fatal(err)
		}
		if len(l.Chunks) == 0 {
			return b.String()
		}
		for _, c := range l.Chunks {
			if stream == "" || c.Stream == stream {
				b.WriteString(c.Text)
			}
		}
		offset = l.Next
	}
}

// awaitOutput waits until a run has printed text.
func (f *fixture) awaitOutput(t *testing.T, id latchkey.RunID, text string) {
	t.Helper()
	eventually(t, latchkeytest.Patience, "output "+text, func() bool { return strings.Contains(f.output(t, id, ""), text) })
}

func eventually(t *testing.T, limit time.Duration, what string, ok func() bool) {
	t.Helper()
	latchkeytest.Eventually(t, limit, what, ok)
}

// command runs the command line in this process.
func command(t *testing.T, stdin string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = Main(t.Context(), args, strings.NewReader(stdin), &out, &errs)
	return code, out.String(), errs.String()
}

// An agentProcess is an agent in a process of its own.
type agentProcess struct {
	cmd  *exec.Cmd
	log  *latchkeytest.Log
	done chan struct{} // closed when it has ended
}

// agent starts the agent, which is killed when the test ends.
func (f *fixture) agent(t *testing.T, args ...string) *agentProcess {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	a := &agentProcess{cmd: exec.Command(self, append([]string{"agent-main", "run", "--dir", f.dir}, args...)...), log: new(latchkeytest.Log), done: make(chan struct{})}
	// A program built with -race otherwise waits for a second when it ends.
	a.cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "GORACE=atexit_sleep_ms=0", "LATCHKEY_TOKEN=leak", "HOME=/leak", "SECRET=leak"}, f.agentEnv...)
	a.cmd.Stderr = a.log
	if err := a.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(a.done)
		_ = a.cmd.Wait() // its code is looked at by end
	}()
	t.Cleanup(func() {
		_ = a.cmd.Process.Kill() // it may have ended
		<-a.done
		if t.Failed() {
			t.Logf("agent: %s", a.log)
		}
		if strings.Contains(a.log.String(), latchkeytest.ChainPassword) || strings.Contains(a.log.String(), "DATA RACE") {
			t.Errorf("agent: %s", a.log)
		}
	})
	return a
}

// signal sends a signal and waits for the agent's end. It returns the exit code.
func (a *agentProcess) signal(t *testing.T, sig syscall.Signal) int {
	t.Helper()
	if err := a.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Fatal(err)
	}
	return a.end(t, latchkeytest.Patience)
}

// end waits for the agent's end by itself.
func (a *agentProcess) end(t *testing.T, limit time.Duration) int {
	t.Helper()
	select {
	case <-a.done:
	case <-time.After(limit):
		t.Fatalf("the agent did not end within %s", limit)
	}
	return a.cmd.ProcessState.ExitCode()
}

// processes returns the arguments of every process with the given text in them.
// Zombies have none.
func processes(t *testing.T, text string) (found []string) {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if b, err := os.ReadFile(f); err == nil && bytes.Contains(b, []byte(text)) {
			found = append(found, filepath.Base(filepath.Dir(f))+": "+strings.ReplaceAll(string(b), "\x00", " "))
		}
	}
	return found
}

// children returns how many children a process has, zombies too.
func childrenOf(pid int) (n int) {
	for _, parent := range processParents() {
		if parent == pid {
			n++
		}
	}
	return n
}

func readReport(t *testing.T, text string) (r flowReport) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		t.Fatalf("the flow printed %q: %v", text, err)
	}
	return r
}

//go:build linux

package soak

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"latchkey.dev/client"
	"latchkey.dev/internal/latchkeytest/pg"
	"latchkey.dev/internal/latchkeytest/sshd"
	"latchkey.dev/internal/latchkeytest/tied"
	"latchkey.dev/latchkey"
)

const (
	envName   = "soak"
	vaultName = "soak"
	account   = "bot" // on the SSH server
	slots     = 3     // of each agent
	patience  = 60 * time.Second
)

//go:embed guard.sh
var guard string

// A world is everything that is killed, and what is known of it.
type world struct {
	t *testing.T
	engine
	dir, bin string
	id       string // in the environment of every flow's process
	mark     string // begins every secret
	runAs    string
	random   *rand.Rand // the killer's
	starter  *tied.Starter
	cluster  *pg.Cluster  // nil on SQLite
	ssh      *sshd.Server // where the runs of the last machine go, or nil
	servers  []*process
	urls     []string // of the servers
	agents   []*process
	api      []*client.Client // of each server
	token    latchkey.Secret  // for them
	env      latchkey.EnvironmentID
	machines []machine
	flows    map[string]latchkey.FlowID // by handover, and "limit"
	vault    vaultFace
	secrets  []*secret
	counts   counts
	losing   atomic.Bool // answers to agents get lost
	killing  atomic.Bool

	mu         sync.Mutex     // guards what follows
	faults     map[string]int // by kind
	outages    []outage       // of the database
	complaints []complaint
	aims       map[chan<- *process]func(*process, logLine) bool
	runs       map[latchkey.RunID]*started
	tickets    int
	books      books

	upkeep upkeep

	tally map[string]int // what the last check has counted
}

// A machine is an agent's, with a connection to it.
type machine struct {
	id         latchkey.MachineID
	connection latchkey.ConnectionID
	ssh        bool // by which runs go to the SSH server
}

// counts is how often what was killed.
type counts struct {
	sync.Mutex
	kills map[string]int
}

func (c *counts) add(what string) {
	c.Lock()
	defer c.Unlock()
	c.kills[what]++
}

// newWorld starts the programs and makes what runs need.
func newWorld(t *testing.T, e engine, dir, bin string, random *rand.Rand) *world {
	t.Helper()
	w := &world{
		t: t, engine: e, dir: dir, bin: bin, random: random, starter: tied.New(),
		id: fmt.Sprintf("%016x", rand.Uint64()), mark: fmt.Sprintf("Canary%012x", rand.Uint64()>>16),
		counts: counts{kills: map[string]int{}}, flows: map[string]latchkey.FlowID{},
		aims: map[chan<- *process]func(*process, logLine) bool{}, runs: map[latchkey.RunID]*started{},
		faults: map[string]int{},
	}
	w.books.init()
	t.Cleanup(w.starter.Close)
	w.folders()
	w.watch()
	if e.servers > 1 {
		w.cluster = pg.NewCluster(t, w.path("pg"))
	}
	w.startServers()
	w.prepare()
	w.startAgents()
	w.beginUpkeep()
	return w
}

func (w *world) path(names ...string) string {
	return filepath.Join(append([]string{w.dir}, names...)...)
}

// must fails the test, from the goroutine of the test only.
func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// folders makes the folders. Flows, which are another user's when we are root,
// have the temporary one and the witnesses.
func (w *world) folders() {
	w.t.Helper()
	w.must(os.Mkdir(w.dir, 0o755))
	w.must(os.Mkdir(w.path("tmp"), 0o755))
	w.must(os.Chmod(w.path("tmp"), 0o1777|os.ModeSticky))
	w.must(os.Mkdir(w.path("home"), 0o700))
	w.must(os.WriteFile(w.path("witness"), nil, 0o600))
	w.must(os.Chmod(w.path("witness"), 0o666))
	if os.Geteuid() == 0 {
		w.runAs = "nobody"
	}
}

// watch starts the guard, which ends what flows leave when this process dies.
func (w *world) watch() {
	w.t.Helper()
	cmd := exec.Command("/bin/sh", "-c", guard, "guard", "LATCHKEY_INPUT_SOAK="+w.id)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	life, err := cmd.StdinPipe()
	w.must(err)
	w.must(cmd.Start())
	_, err = io.WriteString(life, w.mark+"\n") // no argument: those must not hold secrets
	w.must(err)
	w.t.Cleanup(func() {
		if err := errors.Join(life.Close(), cmd.Wait()); err != nil {
			w.t.Errorf("guard: %v", err)
		}
	})
}

// program returns a command with an environment of its own.
func (w *world) program(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(w.bin, name), args...)
	cmd.Dir = w.path("home") // where a core would be left
	cmd.Env = []string{
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=" + w.path("home"), "TMPDIR=" + w.path("tmp"),
		"GORACE=atexit_sleep_ms=0", // a program built with -race otherwise waits for a second when it ends
	}
	return cmd
}

// freePort returns a port below those that the kernel gives to connections: it
// is still free when its server is started again.
func (w *world) freePort() string {
	w.t.Helper()
	for range 1000 {
		address := fmt.Sprintf("127.0.0.1:%d", 20000+rand.IntN(12000))
		if l, err := net.Listen("tcp", address); err == nil {
			w.must(l.Close())
			return address
		}
	}
	w.t.Fatal("no port is free")
	return ""
}

func (w *world) startServers() {
	w.t.Helper()
	for i := range w.engine.servers {
		name := fmt.Sprintf("server%d", i+1)
		listen := w.freePort()
		args := []string{
			"serve", "--data", w.path(name), "--listen", listen, "--vault-listen", w.freePort(), "--log-format", "json", "--log-level", "debug",
		}
		if w.cluster != nil {
			args = append(args, "--database", w.cluster.URL())
		}
		if i > 0 {
			args = append(args, "--master-key", w.path("server1", "master.key"))
		}
		w.servers = append(w.servers, w.start(name, func() *exec.Cmd { return w.program("latchkey", args...) }))
		w.urls = append(w.urls, "http://"+listen)
		c, err := client.New(client.Config{Server: w.urls[i]})
		w.must(err)
		w.api = append(w.api, c)
		w.ready(c)
	}
	token, err := os.ReadFile(w.path("server1", "admin-token"))
	w.must(err)
	// One that is good for as long as anybody wants to test.
	made, err := w.api[0].WithToken(latchkey.NewSecret(strings.TrimSpace(string(token)))).CreateToken(w.t.Context(), latchkey.TokenCreate{Name: "soak", ExpiresIn: latchkey.Duration(8000 * time.Hour)})
	w.must(err)
	w.token = latchkey.NewSecret(made.Value)
	for i := range w.api {
		w.api[i] = w.api[i].WithToken(w.token)
	}
}

// ready waits until a server can do its work.
func (w *world) ready(c *client.Client) {
	w.t.Helper()
	w.eventually(c.Server()+" is ready", patience, func() bool {
		ctx, cancel := context.WithTimeout(w.t.Context(), time.Second)
		defer cancel()
		return c.Ready(ctx) == nil
	})
}

// eventually waits until a condition holds, from the goroutine of the test only.
func (w *world) eventually(what string, limit time.Duration, holds func() bool) {
	w.t.Helper()
	for deadline := time.Now().Add(limit); !holds(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			w.t.Fatalf("not within %v: %s", limit, what)
		}
	}
}

// prepare makes the environment, the vault, credentials and flows.
func (w *world) prepare() {
	w.t.Helper()
	ctx, api := w.t.Context(), w.api[0]
	env, err := api.CreateEnvironment(ctx, latchkey.EnvironmentCreate{Name: envName})
	w.must(err)
	w.env = env.ID
	vault, err := api.CreateVault(ctx, latchkey.EmbeddedVaultCreate{Name: vaultName})
	w.must(err)
	w.vault.init(w)
	user := account
	username, err := api.CreateVariable(ctx, envName, latchkey.VariableCreate{DisplayName: "user", Type: latchkey.TypeText, Value: &user})
	w.must(err)
	for name, c := range map[string]latchkey.CredentialCreate{
		"connection": {Usages: []latchkey.Usage{latchkey.UsageConnection}, Exposure: latchkey.ExposureEnvironment},
		"other":      {Usages: []latchkey.Usage{latchkey.UsageDesktopFlow}, Exposure: latchkey.ExposureEnvironment},
		"ssh":        {Usages: []latchkey.Usage{latchkey.UsageConnection}, Exposure: latchkey.ExposureSession},
	} {
		s := &secret{name: name, fixed: name == "ssh"}
		w.secrets = append(w.secrets, s)
		w.must(w.set(ctx, s))
		ref := latchkey.SecretReference{SubscriptionID: vault.SubscriptionID, ResourceGroup: vault.ResourceGroup, Vault: vault.Name, Secret: name}
		password, err := api.CreateVariable(ctx, envName, latchkey.VariableCreate{DisplayName: name, Type: latchkey.TypeSecret, Secret: &ref})
		w.must(err)
		w.eventually("the check of "+name+" has passed", patience, func() bool {
			v, err := api.Variable(ctx, envName, password.Name)
			return err == nil && v.Check.Usable()
		})
		c.Name, c.AllowSharedUID = name, w.runAs == ""
		c.Slots = map[latchkey.Slot]string{latchkey.SlotUsername: username.Name, latchkey.SlotPassword: password.Name}
		made, err := api.CreateCredential(ctx, envName, c)
		w.must(err)
		s.credential = made.ID
	}
	for name, f := range map[string]latchkey.FlowCreate{
		"none":        {Handover: latchkey.HandoverNone},
		"limit":       {Handover: latchkey.HandoverNone, Timeout: latchkey.Duration(time.Second)},
		"descriptor":  {Handover: latchkey.HandoverDescriptor},
		"file":        {Handover: latchkey.HandoverFile},
		"environment": {Handover: latchkey.HandoverEnvironment},
	} {
		f.Name, f.Command = name, []string{filepath.Join(w.bin, "flow"), "run", w.path("witness")}
		if f.Timeout == 0 {
			f.Timeout = latchkey.Duration(time.Minute)
		}
		if f.Handover != latchkey.HandoverNone {
			f.Credentials = []latchkey.CredentialID{w.secret("other").credential}
		}
		flow, err := api.CreateFlow(ctx, envName, f)
		w.must(err)
		w.flows[name] = flow.ID
	}
}

// startSSH starts the SSH server, where there can be one. What flows leave on it is
// found where it is looked for on the machine.
func (w *world) startSSH() {
	w.t.Helper()
	if reason := sshd.Missing(); reason != "" && os.Getenv("LATCHKEY_TEST_SSHD") != "required" {
		w.t.Logf("no runs over SSH: %s", reason)
		return
	}
	w.ssh = sshd.New(w.t, sshd.Options{
		Users:  []sshd.User{{Name: account, Password: w.secret("ssh").values[0].text}},
		Config: []string{"SetEnv TMPDIR=" + w.path("tmp")}, Dir: w.path("sshd"),
	})
}

// startAgents enrols the machines and starts their agents.
func (w *world) startAgents() {
	w.t.Helper()
	addresses := make([]string, len(w.urls))
	for i, u := range w.urls {
		addresses[i] = strings.TrimPrefix(u, "http://")
	}
	server := "http://" + w.balance(addresses)
	if w.overSSH {
		w.startSSH()
	}
	for i := range w.engine.agents {
		w.startAgent(fmt.Sprintf("agent%d", i+1), server, w.ssh != nil && i == w.engine.agents-1)
	}
}

// startAgent enrols a machine, starts its agent, and makes a connection to it.
func (w *world) startAgent(name, server string, overSSH bool) {
	w.t.Helper()
	ctx, api := w.t.Context(), w.api[0]
	flow := filepath.Join(w.bin, "flow")
	agent := func(stdin string, args ...string) {
		w.t.Helper()
		cmd := w.program("latchkey-agent", args...)
		cmd.Stdin = strings.NewReader(stdin)
		if out, err := cmd.CombinedOutput(); err != nil {
			w.t.Fatalf("%s of %s: %v\n%s", args[0], name, err, out)
		}
	}
	token, err := api.CreateEnrolmentToken(ctx, envName, latchkey.EnrolmentTokenCreate{})
	w.must(err)
	enrol := []string{"enrol", "--dir", w.path(name), "--server", server, "--name", name, "--token-file", "-"}
	if overSSH {
		agent(token.Token, enrol...)
		agent("", "ssh", "add", "--dir", w.path(name), "--host-key", w.ssh.HostKey, "--allow-command", flow, "erp", w.ssh.Address)
	} else {
		agent(token.Token, append(enrol, "--allow-command", flow, "--run-as", w.runAs)...)
	}
	w.agents = append(w.agents, w.start(name, func() *exec.Cmd {
		return w.program("latchkey-agent", "run", "--dir", w.path(name), "--slots", fmt.Sprint(slots), "--log-format", "json", "--log-level", "debug")
	}))
	var state struct{ Machine latchkey.MachineID }
	b, err := os.ReadFile(w.path(name, "agent.json"))
	w.must(err)
	w.must(json.Unmarshal(b, &state))
	// Its agent tells the server which SSH servers there are.
	w.eventually(name+" is heard of", patience, func() bool {
		m, err := api.Machine(ctx, envName, state.Machine)
		return err == nil && m.Status == latchkey.MachineOnline && (len(m.Policy.SSHServers) > 0) == overSSH
	})
	connection := latchkey.ConnectionCreate{
		Name: name, Target: latchkey.Target{Machine: state.Machine}, Driver: latchkey.DriverNone, Credential: w.secret("connection").credential,
	}
	if overSSH {
		connection.Driver, connection.Credential = latchkey.DriverSSH, w.secret("ssh").credential
	}
	c, err := api.CreateConnection(ctx, envName, connection)
	w.must(err)
	w.machines = append(w.machines, machine{state.Machine, c.ID, overSSH})
}

// settle waits until everything is up again.
func (w *world) settle() {
	w.t.Helper()
	for _, c := range w.api {
		w.ready(c)
	}
	for i, a := range w.agents {
		w.eventually(a.name+" is heard of again", patience, func() bool {
			m, err := w.api[0].Machine(w.t.Context(), envName, w.machines[i].id)
			return err == nil && a.up() && m.Status == latchkey.MachineOnline
		})
	}
}

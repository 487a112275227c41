package broker_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"latchkey.dev/internal/broker"
	"latchkey.dev/internal/latchkeytest"
	"latchkey.dev/latchkey"
)

// sshChain is a chain whose machine signs in to an SSH server, with a credential
// that is exposed to nothing but that.
func sshChain(t *testing.T, o latchkeytest.Options) *latchkeytest.Chain {
	t.Helper()
	c := latchkeytest.New(t, o).Chain(t)
	c.Machine.Policy.Drivers = []latchkey.Driver{latchkey.DriverSSH, latchkey.DriverNone}
	c.Machine.Policy.SSHServers = []latchkey.SSHServer{{Name: "erp", Commands: []string{latchkeytest.Program}}}
	if err := c.Machine.Open(t, false); err != nil {
		t.Fatal(err)
	}
	session := latchkey.ExposureSession
	var err error
	if c.Credential, err = c.Broker.UpdateCredential(t.Context(), c.Admin, c.Env, c.Credential.ID, latchkey.CredentialUpdate{Exposure: &session}); err != nil {
		t.Fatal(err)
	}
	c.Connection, err = c.Broker.CreateConnection(t.Context(), c.Admin, c.Env, latchkey.ConnectionCreate{
		Name: "ERP by SSH", Target: latchkey.Target{Machine: c.Machine.ID}, Driver: latchkey.DriverSSH, Credential: c.Credential.ID,
	})
	if err != nil {
		t.Fatal(err)
	}
	c.Flow, err = c.Broker.CreateFlow(t.Context(), c.Admin, c.Env, latchkey.FlowCreate{Name: "over there", Command: []string{latchkeytest.Program, "true"}})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// testStates returns the states of a test's lines.
func testStates(ct latchkey.ConnectionTest) string {
	s := string(ct.State) + ":"
	for _, r := range ct.Steps {
		s += " " + string(r.State)
	}
	return s
}

// signIn plays the agent: it claims a run, asks for the credential and says how
// the sign-in went. It returns the error of the release.
func signIn(t *testing.T, c *latchkeytest.Chain, code string) error {
	t.Helper()
	run := c.Machine.Claim(t)
	if run == nil {
		t.Fatal("no run to claim")
	}
	if run.Driver != latchkey.DriverSSH || run.SSHServer != "erp" {
		t.Errorf("the agent is told driver %q, server %q; want ssh, erp", run.Driver, run.SSHServer)
	}
	_, _, err := c.Machine.Get(t, run, run.Credential)
	req := latchkey.FinishRequest{Claim: run.Claim, State: latchkey.RunSucceeded, SignedIn: code == "" && err == nil}
	if err != nil {
		code = latchkey.RunErrRelease
	}
	if code != "" {
		req.State, req.Error = latchkey.RunFailed, &latchkey.RunError{Code: code, Message: "because"}
	}
	if _, err := c.Broker.Finish(t.Context(), c.Machine.Session(), run.Run, req); err != nil {
		t.Fatal(err)
	}
	return err
}

// beginTest starts a test without waiting for it.
func beginTest(t *testing.T, c *latchkeytest.Chain, force bool) latchkey.ConnectionTest {
	t.Helper()
	ct, err := c.Broker.TestConnection(t.Context(), c.Admin, c.Env, c.Connection.ID, force, 0)
	if err != nil {
		t.Fatal(err)
	}
	return ct
}

func latestTest(t *testing.T, c *latchkeytest.Chain) latchkey.ConnectionTest {
	t.Helper()
	ct, err := c.Broker.ConnectionTest(t.Context(), c.Admin, c.Env, c.Connection.ID, "", 0)
	if err != nil {
		t.Fatal(err)
	}
	return ct
}

func TestConnectionTest(t *testing.T) {
	latchkeytest.EachDB(t, func(t *testing.T, url string) {
		c := sshChain(t, latchkeytest.Options{DatabaseURL: url})
		if c.Connection.SSHServer != "erp" {
			t.Errorf("the connection's SSH server is %q; want the machine's only one", c.Connection.SSHServer)
		}
		ct := beginTest(t, c, false)
		if got, want := testStates(ct), "pending: pending pending pending pending pending pending"; got != want {
			t.Errorf("queued test is %s; want %s", got, want)
		}
		_, err := c.Broker.TestConnection(t.Context(), c.Admin, c.Env, c.Connection.ID, false, 0)
		wantCode(t, err, latchkey.ErrConflict, "test-running")

		done := make(chan latchkey.ConnectionTest, 1)
		go func() {
			ct, err := c.Broker.ConnectionTest(context.Background(), c.Admin, c.Env, c.Connection.ID, ct.Run, 30*time.Second)
			if err != nil {
				t.Error(err)
			}
			done <- ct
		}()
		if err := signIn(t, c, ""); err != nil {
			t.Fatal(err)
		}
		ct = <-done
		if got, want := testStates(ct), "passed: passed passed passed passed passed passed"; got != want {
			t.Errorf("test is %s; want %s", got, want)
		}
		want := []string{"connection.test ok", "run.claim ok", "release.granted ok", "release.delivered ok", "run.finish ok"}
		if diff := cmp.Diff(want, audit(t, c, ct.Run)); diff != "" {
			t.Errorf("audit log of the test (-want +got):\n%s", diff)
		}
		for kind, want := range map[latchkey.RunKind]int{"": 0, latchkey.RunFlow: 0, latchkey.RunTest: 1} {
			p, err := c.Broker.Runs(t.Context(), c.Admin, c.Env, broker.RunFilter{Kind: kind}, latchkey.PageOptions{})
			if err != nil || len(p.Items) != want {
				t.Errorf("runs of kind %q: %d, %v; want %d", kind, len(p.Items), err, want)
			}
		}
		if n := c.Broker.Counts().TargetSignIns.Load(); n != 1 {
			t.Errorf("%d sign-ins counted; want 1", n)
		}
	})
}

// TestConnectionTestFailures looks at the line that each failure is shown in.
func TestConnectionTestFailures(t *testing.T) {
	tests := []struct {
		name  string
		setup func(t *testing.T, c *latchkeytest.Chain)
		agent string // code that the agent reports; "-" if nothing is queued
		want  string
		code  string // of the first line that failed
	}{
		{"wrong password", nil, latchkey.RunErrSignIn, "failed: passed passed passed passed passed failed", latchkey.RunErrSignIn},
		{"unreachable", nil, latchkey.RunErrUnreachable, "failed: passed passed passed passed passed failed", latchkey.RunErrUnreachable},
		{"disabled", func(t *testing.T, c *latchkeytest.Chain) {
			yes := true
			if _, err := c.Broker.UpdateMachine(t.Context(), c.Admin, c.Env, c.Machine.ID, latchkey.MachineUpdate{Disabled: &yes}); err != nil {
				t.Fatal(err)
			}
		}, "-", "failed: failed passed passed skipped skipped skipped", "machine-disabled"},
		{"policy", func(t *testing.T, c *latchkeytest.Chain) {
			c.Machine.Policy.SSHServers = nil
			if err := c.Machine.Open(t, false); err != nil {
				t.Fatal(err)
			}
		}, "-", "failed: passed failed passed skipped skipped skipped", latchkey.RunErrPolicy},
		{"no user name", func(t *testing.T, c *latchkeytest.Chain) {
			if _, err := c.Broker.UpdateVariable(t.Context(), c.Admin, c.Env, c.Username.Name, latchkey.VariableUpdate{Value: new(string)}); err != nil {
				t.Fatal(err)
			}
		}, "-", "failed: passed passed failed skipped skipped skipped", "no-username"},
		{"shared-uid", func(t *testing.T, c *latchkeytest.Chain) {
			if err := c.Machine.Open(t, true); err != nil {
				t.Fatal(err)
			}
		}, "-", "failed: passed passed passed skipped failed skipped", "shared-uid"},
		{"secret deleted", func(t *testing.T, c *latchkeytest.Chain) {
			if _, err := c.Broker.DeleteSecret(t.Context(), c.Admin, c.Vault.Name, c.Reference.Secret); err != nil {
				t.Fatal(err)
			}
		}, latchkey.RunErrRelease, "failed: passed passed passed failed skipped skipped", "vault"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := sshChain(t, latchkeytest.Options{})
			if tt.setup != nil {
				tt.setup(t, c)
			}
			ct := beginTest(t, c, false)
			if queued := ct.Run != ""; queued != (tt.agent != "-") {
				t.Fatalf("test %+v; want it queued: %v", ct, tt.agent != "-")
			}
			if ct.Run != "" {
				signIn(t, c, tt.agent)
				ct = latestTest(t, c)
			}
			if got := testStates(ct); got != tt.want {
				t.Errorf("test is %s; want %s: %+v", got, tt.want, ct.Steps)
			}
			for _, r := range ct.Steps {
				if r.State == latchkey.TestFailed {
					if r.Code != tt.code || r.Message == "" {
						t.Errorf("failed line %+v; want code %s and a sentence", r, tt.code)
					}
					break
				}
			}
		})
	}
}

// TestOffline tests a connection whose machine is away, and one whose machine
// goes away before it takes the test.
func TestOffline(t *testing.T) {
	clock := new(latchkeytest.Clock)
	c := sshChain(t, latchkeytest.Options{Now: clock.Now})
	ct := beginTest(t, c, false)
	clock.Step(latchkey.TestQueueLimit + time.Second)
	ct, err := c.Broker.ConnectionTest(t.Context(), c.Admin, c.Env, c.Connection.ID, ct.Run, 20*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := testStates(ct), "failed: failed skipped skipped skipped skipped skipped"; got != want || ct.Steps[0].Code != latchkey.RunErrQueueTimeout {
		t.Errorf("test that nobody took is %s %+v; want %s", got, ct.Steps[0], want)
	}
	ct = beginTest(t, c, false)
	if ct.Run != "" || ct.Steps[0].Code != "machine-offline" {
		t.Errorf("test of an offline machine = %+v; want it failed at once", ct)
	}
}

// TestRefusals counts what a target refuses, and ends before an account might be
// locked.
func TestRefusals(t *testing.T) {
	latchkeytest.EachDB(t, func(t *testing.T, url string) {
		c := sshChain(t, latchkeytest.Options{DatabaseURL: url})
		refusals := func(want int) {
			t.Helper()
			conn, err := c.Broker.Connection(t.Context(), c.Admin, c.Env, c.Connection.ID)
			if err != nil || conn.Refusals != want {
				t.Errorf("%d refusals, %v; want %d", conn.Refusals, err, want)
			}
		}
		run := func(code string) error {
			t.Helper()
			c.Start(t)
			return signIn(t, c, code)
		}
		for i := range latchkey.MaxRefusals {
			if err := run(latchkey.RunErrSignIn); err != nil {
				t.Fatal(err)
			}
			refusals(i + 1)
		}
		wantCode(t, run(""), latchkey.ErrConflict, "refused-before")
		beginTest(t, c, false)
		wantCode(t, signIn(t, c, ""), latchkey.ErrConflict, "refused-before")
		if got, want := testStates(latestTest(t, c)), "failed: passed passed passed passed failed skipped"; got != want {
			t.Errorf("test is %s; want %s", got, want)
		}

		// Force is for one attempt.
		beginTest(t, c, true)
		if err := signIn(t, c, latchkey.RunErrSignIn); err != nil {
			t.Fatalf("forced test: %v", err)
		}
		refusals(latchkey.MaxRefusals + 1)
		wantCode(t, run(""), latchkey.ErrConflict, "refused-before")
		beginTest(t, c, true)
		wantCode(t, signIn(t, c, ""), latchkey.ErrConflict, "refused-before")

		// Another version of the secret is another matter, and success ends it.
		c.SetSecret(t, c.Reference.Secret, "another")
		if err := run(latchkey.RunErrSignIn); err != nil {
			t.Fatal(err)
		}
		refusals(1)
		if err := run(""); err != nil {
			t.Fatal(err)
		}
		refusals(0)
		if n := c.Broker.Counts().TargetSignInsRefused.Load(); n != latchkey.MaxRefusals+2 {
			t.Errorf("%d refusals counted; want %d", n, latchkey.MaxRefusals+2)
		}
	})
}

// TestMayTest: whoever has no role on a connection does not see that it exists,
// and force is its owner's.
func TestMayTest(t *testing.T) {
	c := sshChain(t, latchkeytest.Options{})
	maya := c.User(t, "maya", c.Env, latchkey.EnvMaker)
	_, err := c.Broker.TestConnection(t.Context(), maya, c.Env, c.Connection.ID, false, 0)
	wantCode(t, err, latchkey.ErrNotFound, "not-found")
	audra := c.User(t, "audra", c.Env, latchkey.EnvAuditor)
	_, err = c.Broker.TestConnection(t.Context(), audra, c.Env, c.Connection.ID, false, 0)
	wantCode(t, err, latchkey.ErrDenied, "not-authorized")
	_, err = c.Broker.ConnectionTest(t.Context(), c.Admin, c.Env, c.Connection.ID, "", 0)
	wantCode(t, err, latchkey.ErrNotFound, "not-found")
}

// TestNoneConnection tests connections that sign in nowhere: the secret is
// released as if to hand it to a flow, and not if none could be handed it.
func TestNoneConnection(t *testing.T) {
	expose := func(t *testing.T, c *latchkeytest.Chain, e latchkey.Exposure) {
		t.Helper()
		yes := true
		if _, err := c.Broker.UpdateCredential(t.Context(), c.Admin, c.Env, c.Credential.ID, latchkey.CredentialUpdate{Exposure: &e, AllowSharedUID: &yes}); err != nil {
			t.Fatal(err)
		}
	}
	policy := func(t *testing.T, c *latchkeytest.Chain, runAs string, h ...latchkey.Handover) {
		t.Helper()
		c.Machine.Policy.RunAs, c.Machine.Policy.Handovers = runAs, h
		if err := c.Machine.Open(t, runAs == ""); err != nil {
			t.Fatal(err)
		}
	}
	const (
		missing  = `there is no secret "erp-password" in the key vault https://erp.vault.localhost:8443; create it, recover it if it was deleted, or correct the reference`
		read     = "the vault was read; the secret was released, sealed to the machine; "
		bots     = "not needed: with the driver none flows run as the user that the machine's configuration names, who exists"
		agent    = "not needed: with the driver none flows run as the agent's own user"
		session  = "not needed: the credential's exposure session lets no flow have the secret; "
		handover = "not needed: the machine's policy allows no handover that the credential's exposure descriptor allows; "
	)
	tests := []struct {
		name     string
		setup    func(t *testing.T, c *latchkeytest.Chain)
		handover latchkey.Handover // that the agent is told
		release  string            // what is on record of it
		want     string
		messages string // of vault, release and sign-in
	}{
		{"descriptor", func(t *testing.T, c *latchkeytest.Chain) {
			policy(t, c, "bots", latchkey.HandoverEnvironment, latchkey.HandoverDescriptor)
		}, latchkey.HandoverDescriptor, "delivered ok", "passed: passed passed passed passed passed skipped", read + bots},
		{"shared-uid", func(t *testing.T, c *latchkeytest.Chain) {
			expose(t, c, latchkey.ExposureEnvironment)
			policy(t, c, "", latchkey.HandoverEnvironment)
		}, latchkey.HandoverEnvironment, "delivered ok", "passed: passed passed passed passed passed skipped", read + agent},
		{"secret deleted", func(t *testing.T, c *latchkeytest.Chain) {
			if _, err := c.Broker.DeleteSecret(t.Context(), c.Admin, c.Vault.Name, c.Reference.Secret); err != nil {
				t.Fatal(err)
			}
		}, latchkey.HandoverDescriptor, "failed failed vault", "failed: passed passed passed failed skipped skipped", missing + "; ; "},
		{"session", func(t *testing.T, c *latchkeytest.Chain) {
			expose(t, c, latchkey.ExposureSession)
		}, latchkey.HandoverNone, "denied denied not-needed", "passed: passed passed passed skipped skipped skipped", session + session + agent},
		{"policy", func(t *testing.T, c *latchkeytest.Chain) {
			policy(t, c, "bots", latchkey.HandoverFile, "unheard-of", latchkey.HandoverNone)
		}, latchkey.HandoverNone, "denied denied not-needed", "passed: passed passed passed skipped skipped skipped", handover + handover + bots},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := latchkeytest.New(t, latchkeytest.Options{}).Chain(t)
			tt.setup(t, c)
			ct := beginTest(t, c, false)
			run := c.Machine.Claim(t)
			if run == nil || run.Kind != latchkey.RunTest || len(run.Command) > 0 || run.Handover != tt.handover {
				t.Fatalf("claimed %+v; want a test without a command, with the handover %s", run, tt.handover)
			}
			// An agent does not ask when it is told that there is no handover.
			_, _, err := c.Machine.Get(t, run, run.Credential)
			end := latchkey.FinishRequest{Claim: run.Claim, State: latchkey.RunSucceeded}
			if err != nil && run.Handover != latchkey.HandoverNone {
				end.State, end.Error = latchkey.RunFailed, &latchkey.RunError{Code: latchkey.RunErrRelease, Message: "because"}
			}
			if _, err := c.Broker.Finish(t.Context(), c.Machine.Session(), run.Run, end); err != nil {
				t.Fatal(err)
			}
			if log := audit(t, c, ct.Run); !slices.Contains(log, "release."+tt.release) || slices.Contains(log, "release.granted ok") != (tt.handover != latchkey.HandoverNone) {
				t.Errorf("audit log of the test: %q; want release.%s", log, tt.release)
			}
			ct = latestTest(t, c)
			if got := testStates(ct); got != tt.want {
				t.Errorf("test is %s; want %s", got, tt.want)
			}
			if got := ct.Steps[3].Message + "; " + ct.Steps[4].Message + "; " + ct.Steps[5].Message; got != tt.messages {
				t.Errorf("test says %q; want %q", got, tt.messages)
			}
		})
	}
}

func TestCreateSSHConnection(t *testing.T) {
	c := sshChain(t, latchkeytest.Options{})
	in := latchkey.ConnectionCreate{Name: "another", Target: latchkey.Target{Machine: c.Machine.ID}, Driver: latchkey.DriverSSH, Credential: c.Credential.ID}
	in.SSHServer = "crm"
	_, err := c.Broker.CreateConnection(t.Context(), c.Admin, c.Env, in)
	wantCode(t, err, latchkey.ErrInvalid, "invalid")
	plain := in
	plain.Target.Machine = c.Service.Machine(t, c.Env, "bot2").ID
	_, err = c.Broker.CreateConnection(t.Context(), c.Admin, c.Env, plain)
	want := "driver: the machine's policy does not allow this driver; its administrator can add the server with latchkey-agent ssh add NAME ADDRESS on the machine, and start the agent again"
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("connection by SSH to a machine without servers: %v; want %q", err, want)
	}
	in.Driver, in.SSHServer = latchkey.DriverNone, "erp"
	_, err = c.Broker.CreateConnection(t.Context(), c.Admin, c.Env, in)
	wantCode(t, err, latchkey.ErrInvalid, "invalid")
	c.Machine.Policy.SSHServers = append(c.Machine.Policy.SSHServers, latchkey.SSHServer{Name: "crm"})
	if err := c.Machine.Open(t, false); err != nil {
		t.Fatal(err)
	}
	in.Driver, in.SSHServer = latchkey.DriverSSH, ""
	_, err = c.Broker.CreateConnection(t.Context(), c.Admin, c.Env, in)
	wantCode(t, err, latchkey.ErrInvalid, "invalid")
	in.SSHServer = "crm"
	if c.Connection, err = c.Broker.CreateConnection(t.Context(), c.Admin, c.Env, in); err != nil {
		t.Fatal(err)
	}
	// What the server's own list of commands does not name does not run there.
	_, err = c.Broker.StartRun(t.Context(), c.Admin, c.Env, latchkey.RunCreate{Flow: c.Flow.ID, Connection: c.Connection.ID})
	wantCode(t, err, latchkey.ErrConflict, latchkey.RunErrPolicy)
}

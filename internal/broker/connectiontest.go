package broker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"latchkey.dev/internal/db"
	"latchkey.dev/latchkey"
)

// TestConnection has the agent of a connection's machine sign in at the
// connection's target, with the stored configuration and without a flow. It
// waits for the result, at most latchkey.MaxTestWait; the test goes on when the
// wait is over. What can be known before is looked at first: if that fails,
// nothing is queued and nothing released. With force this one test may sign in
// after the target has refused the secret latchkey.MaxRefusals times, once an hour.
//
// A connection has one test at a time, so that nobody can lock an account with
// them.
func (b *Broker) TestConnection(ctx context.Context, who latchkey.Caller, env string, id latchkey.ConnectionID, force bool, wait time.Duration) (latchkey.ConnectionTest, error) {
	var t latchkey.ConnectionTest
	var wake target
	err := b.update(ctx, who, func(o *op) error {
		_, c, err := o.connection(env, id, latchkey.ActConnectionTest)
		if err != nil {
			return err
		}
		if wake, err = o.target(c.Target); err != nil {
			return err
		}
		t, err = o.startTest(env, c, wake, force)
		return err
	})
	if err != nil || t.Run == "" {
		return t, err
	}
	b.counts.RunsStarted.Add(1)
	b.wakeAll(wake)
	return b.ConnectionTest(ctx, who, env, id, t.Run, wait)
}

// startTest queues a test, or returns one that has failed already.
func (o *op) startTest(env string, c latchkey.Connection, to target, force bool) (t latchkey.ConnectionTest, err error) {
	e, err := o.environment(env)
	if err != nil {
		return t, err
	}
	thing := connectionThing(e.ID, c)
	if force {
		if err := o.allow(latchkey.ActConnectionForce, thing); err != nil {
			return t, err
		}
	}
	latest, err := o.LatestTest(c.ID)
	if err == nil && !latest.State.Done() {
		return t, latchkey.Conflict("test-running", "a test of the connection is under way already, %s; wait for its result", latest.ID)
	}
	if err != nil && !errors.Is(err, db.ErrNotFound) {
		return t, err
	}
	run := db.Run{
		Run: latchkey.Run{
			ID: latchkey.RunID(latchkey.NewID("run", o.Now)), Kind: latchkey.RunTest, Connection: c.ID,
			State: latchkey.RunQueued, Inputs: map[string]string{}, Owner: c.Owner, StartedBy: o.who.ID, QueuedAt: o.Now,
		},
		Environment: e.ID, Forced: force,
	}
	to.place(&run)
	l, err := o.beforeTest(c, run, to)
	if err != nil {
		return t, err
	}
	t = latchkey.ConnectionTest{Connection: c.ID, State: latchkey.TestPending, StartedBy: o.who.ID, StartedAt: o.Now}
	event := o.event(latchkey.ActConnectionTest, thing)
	event.Machine, event.Details = run.Machine, map[string]string{"credential": string(c.Credential)}
	if force {
		event.Details["force"] = "true"
	}
	if failed := l.failed(); failed != nil {
		t.State, t.FinishedAt, t.Steps = latchkey.TestFailed, &t.StartedAt, l.results(latchkey.TestSkipped)
		event.Outcome, event.Code, event.Reason = latchkey.OutcomeFailed, failed.Code, failed.Message
		return t, o.Record(event)
	}
	if err := o.CreateRun(run); err != nil {
		return t, err
	}
	t.Run, event.Run = run.ID, run.ID
	return t, o.Record(event)
}

// A testList is the steps of a connection test that are known.
type testList map[latchkey.TestStep]latchkey.TestResult

func (l testList) pass(step latchkey.TestStep, format string, args ...any) {
	l[step] = latchkey.TestResult{Step: step, State: latchkey.TestPassed, Message: fmt.Sprintf(format, args...)}
}

func (l testList) skip(step latchkey.TestStep, format string, args ...any) {
	l[step] = latchkey.TestResult{Step: step, State: latchkey.TestSkipped, Message: fmt.Sprintf(format, args...)}
}

func (l testList) fail(step latchkey.TestStep, code, message string) {
	l[step] = latchkey.TestResult{Step: step, State: latchkey.TestFailed, Code: code, Message: message}
}

func (l testList) deny(step latchkey.TestStep, d denial) {
	l[step] = latchkey.TestResult{Step: step, State: latchkey.TestFailed, Code: d.code, Message: d.reason, Identity: string(d.identity), Remedy: d.remedy}
}

// failed returns the first step that failed, or nil.
func (l testList) failed() *latchkey.TestResult {
	for _, step := range latchkey.TestSteps {
		if r, ok := l[step]; ok && r.State == latchkey.TestFailed {
			return &r
		}
	}
	return nil
}

// results returns every step in its order; the others have a state.
func (l testList) results(others latchkey.TestState) []latchkey.TestResult {
	all := make([]latchkey.TestResult, len(latchkey.TestSteps))
	for i, step := range latchkey.TestSteps {
		r, ok := l[step]
		if !ok {
			r = latchkey.TestResult{Step: step, State: others}
		}
		all[i] = r
	}
	return all
}

// beforeTest looks at what can be known before the agent is asked. It says all
// that is wrong, not only the first.
func (o *op) beforeTest(c latchkey.Connection, run db.Run, to target) (l testList, err error) {
	if to.group == nil {
		l, err = o.beforeTestOn(c, run, to.machine)
	} else {
		l, err = o.beforeTestIn(run, to)
	}
	if err != nil {
		return l, err
	}
	g := grant{run: run}
	if g.credential, err = o.Credential(run.Environment, c.Credential); errors.Is(err, db.ErrNotFound) {
		return l, nil // said by deny
	} else if err != nil {
		return l, err
	}
	d, err := resolve(&agentOp{op: *o}, &g)
	if err != nil {
		return l, err
	}
	if d.code != "" {
		l.deny(latchkey.StepVariables, d)
	} else {
		l.pass(latchkey.StepVariables, "user name and reference have values that may be used")
	}
	return l, nil
}

// beforeTestOn looks at what can be known of a machine.
func (o *op) beforeTestOn(c latchkey.Connection, run db.Run, m db.Machine) (testList, error) {
	l := make(testList)
	switch m.Status {
	case latchkey.MachineOnline:
		l.pass(latchkey.StepTarget, "the machine %q is online", m.Name)
	case latchkey.MachineQuarantined:
		l.deny(latchkey.StepTarget, denial{code: codeQuarantined, reason: fmt.Sprintf("the machine %q is quarantined: %s", m.Name, m.QuarantineReason), remedy: "an environment admin must have it enrolled anew, with new keys", identity: latchkey.PrincipalID(m.ID)})
	case latchkey.MachineDisabled:
		l.deny(latchkey.StepTarget, machineDisabled(m))
	default:
		l.deny(latchkey.StepTarget, denial{code: "machine-offline", reason: fmt.Sprintf("the machine %q is offline: its agent has not been heard of for a minute", m.Name), remedy: "see that its agent runs and reaches the server", identity: latchkey.PrincipalID(m.ID)})
	}
	if reason := m.Policy.RefusesDriver(c.Driver, c.SSHServer); reason != "" {
		l.fail(latchkey.StepPolicy, latchkey.RunErrPolicy, reason)
	} else {
		l.pass(latchkey.StepPolicy, "the machine's policy allows the driver %s", c.Driver)
	}
	_, d, err := deny(o.Tx, run, m)
	if err != nil {
		return l, err
	}
	if d.code != "" {
		l.deny(latchkey.StepRelease, d)
	}
	return l, nil
}

// beforeTestIn looks at what can be known of a machine group: one machine that is
// online must do.
func (o *op) beforeTestIn(run db.Run, to target) (testList, error) {
	l := make(testList)
	t, d, err := denyAnywhere(o.Tx, run)
	if err != nil {
		return l, err
	}
	if d.code != "" {
		l.deny(latchkey.StepRelease, d)
		return l, nil
	}
	if len(to.members) == 0 {
		l.deny(latchkey.StepTarget, groupEmpty(to.group))
		return l, nil
	}
	able, unable := t.among(run, to.members)
	var online []string
	for _, m := range able {
		if m.Status == latchkey.MachineOnline {
			online = append(online, m.Name)
		}
	}
	switch others := said(unable); {
	case len(able) == 0:
		l.deny(latchkey.StepPolicy, noMachine(to.group, unable))
	case len(online) == 0:
		l.deny(latchkey.StepTarget, denial{
			code: "group-offline", reason: fmt.Sprintf("no machine of the group %q that can take the test is online", to.group.Name), remedy: "see that an agent runs there, that it is not disabled, and that it reaches the server",
		})
	case others != "":
		l.pass(latchkey.StepTarget, "of the group %q these machines are online and can take it: %s", to.group.Name, strings.Join(online, ", "))
		l.pass(latchkey.StepPolicy, "not these: %s", others)
	default:
		l.pass(latchkey.StepTarget, "of the group %q these machines are online and can take it: %s", to.group.Name, strings.Join(online, ", "))
	}
	return l, nil
}

// ConnectionTest returns a test of a connection: the newest one if run is "". It
// waits for the test's end, at most the given time.
func (b *Broker) ConnectionTest(ctx context.Context, who latchkey.Caller, env string, id latchkey.ConnectionID, run latchkey.RunID, wait time.Duration) (t latchkey.ConnectionTest, err error) {
	deadline := b.now().Add(min(wait, latchkey.MaxTestWait))
	for {
		if run == "" {
			if t, err = b.connectionTest(ctx, who, env, id, ""); err != nil {
				return t, err
			}
			run = t.Run
		}
		news, stop := b.waiting.subscribe(string(run))
		t, err = b.connectionTest(ctx, who, env, id, run)
		left := deadline.Sub(b.now())
		if err == nil && t.State == latchkey.TestPending && left > 0 {
			select {
			case <-ctx.Done(): // the server stops, or nobody listens: there was no news
				left = 0
			case <-news:
			case <-time.After(min(left, logPoll)):
			}
		}
		stop()
		if err != nil || t.State != latchkey.TestPending || left <= 0 {
			return t, err
		}
	}
}

func (b *Broker) connectionTest(ctx context.Context, who latchkey.Caller, env string, id latchkey.ConnectionID, run latchkey.RunID) (t latchkey.ConnectionTest, err error) {
	err = b.view(ctx, who, func(o *op) error {
		_, c, err := o.connection(env, id, latchkey.ActConnectionTest)
		if err != nil {
			return err
		}
		var r db.Run
		if run == "" {
			r, err = o.LatestTest(id)
		} else if r, err = o.Run(run); err == nil && (r.Connection != id || r.Kind != latchkey.RunTest) {
			err = db.ErrNotFound
		}
		if err != nil {
			return found(err, latchkey.KindRun)
		}
		t, err = o.testOf(c, r)
		return err
	})
	return t, err
}

// testOf returns the test that a run carries out: what is on record of it.
func (o *op) testOf(c latchkey.Connection, r db.Run) (t latchkey.ConnectionTest, err error) {
	log, err := o.Audit(db.AuditFilter{Run: r.ID, Action: "release."}, latchkey.PageOptions{})
	if err != nil {
		return t, err
	}
	t = latchkey.ConnectionTest{
		Connection: r.Connection, Run: r.ID, State: latchkey.TestPending, StartedBy: r.StartedBy, StartedAt: r.QueuedAt, FinishedAt: r.FinishedAt,
	}
	l := make(testList)
	refused := r.Error != nil && r.Error.Code == latchkey.RunErrRefused // decided when the agent asked for work
	if r.ClaimedAt != nil || refused {
		l.pass(latchkey.StepTarget, "the agent of %q took the test", cmp.Or(r.MachineName, r.MachineGroupName))
	}
	if r.StartedAt != nil {
		l.pass(latchkey.StepPolicy, "the machine's policy allows the driver %s", c.Driver)
		l.pass(latchkey.StepVariables, "user name and reference have values that may be used")
	}
	for _, e := range log.Items {
		l.release(e)
	}
	others := latchkey.TestPending
	if r.State.Done() {
		t.State, others = latchkey.TestPassed, latchkey.TestSkipped
		switch {
		case r.State != latchkey.RunSucceeded:
		case c.Driver == latchkey.DriverNone:
			err = o.unneeded(l, c, r)
		default:
			l.signedIn(c)
		}
		if err != nil {
			return t, err
		}
	}
	if r.Error != nil {
		t.State = latchkey.TestFailed
		l.runFailed(*r.Error, refused)
	}
	t.Steps = l.results(others)
	return t, nil
}

// signedIn adds that the agent has signed in.
func (l testList) signedIn(c latchkey.Connection) {
	if c.Driver == latchkey.DriverKerberos {
		l.pass(latchkey.StepSignIn, "signed in to the machine's Kerberos realm")
		return
	}
	l.pass(latchkey.StepSignIn, "signed in to the SSH server %s", c.SSHServer)
}

// unneeded adds the steps that a passed test did without, since the connection
// signs in nowhere: the sign-in, and the release if no flow could be handed the
// secret.
func (o *op) unneeded(l testList, c latchkey.Connection, r db.Run) error {
	m, err := o.Machine(r.Machine)
	if err != nil {
		return found(err, latchkey.KindMachine)
	}
	user := "the user that the machine's configuration names, who exists"
	if m.SharedUID || m.Policy.RunAs == "" {
		user = "the agent's own user"
	}
	l.skip(latchkey.StepSignIn, "not needed: with the driver none flows run as %s", user)
	if r.Releases > 0 {
		return nil
	}
	credential, err := o.Credential(r.Environment, c.Credential)
	if err != nil {
		return found(err, latchkey.KindCredential)
	}
	_, why := handoverOf(credential, m.Policy)
	why = cmp.Or(why, "the agent did not ask for the secret") // a flow could be handed it only since
	l.skip(latchkey.StepVault, "not needed: %s", why)
	l.skip(latchkey.StepRelease, "not needed: %s", why)
	return nil
}

// handoverOf returns a way in which flows that a policy allows can be handed a
// credential, or HandoverNone and why there is none.
func handoverOf(c latchkey.Credential, p latchkey.Policy) (h latchkey.Handover, why string) {
	for _, h := range p.Handovers {
		if h != latchkey.HandoverNone && c.Exposure.Allows(h) {
			return h, ""
		}
	}
	if c.Exposure == latchkey.ExposureSession {
		return latchkey.HandoverNone, "the credential's exposure session lets no flow have the secret"
	}
	return latchkey.HandoverNone, fmt.Sprintf("the machine's policy allows no handover that the credential's exposure %s allows", c.Exposure)
}

// release adds what an entry about the run's release says.
func (l testList) release(e latchkey.AuditEvent) {
	switch e.Action {
	case latchkey.ActReleaseDelivered:
		l.pass(latchkey.StepVault, "the vault was read")
		l.pass(latchkey.StepRelease, "the secret was released, sealed to the machine")
	case latchkey.ActReleaseFailed:
		if e.Code == codeRefusedBefore || e.Code == latchkey.RunErrPending {
			l.pass(latchkey.StepVault, "the vault was read")
			l.deny(latchkey.StepRelease, denial{code: e.Code, reason: e.Reason, remedy: blockedRemedies[e.Code]})
			return
		}
		if e.Code == codeUnusable {
			l.pass(latchkey.StepVault, "the vault was read")
			l.fail(latchkey.StepRelease, e.Code, e.Reason)
			return
		}
		l.deny(latchkey.StepVault, denial{code: e.Code, reason: e.Reason, identity: latchkey.ServiceIdentity})
	case latchkey.ActReleaseDenied:
		step := latchkey.StepRelease
		switch e.Code {
		case "no-username", "reference-not-passed", "vault-not-listed":
			step = latchkey.StepVariables
		}
		l.fail(step, e.Code, e.Reason)
	}
}

// runFailed adds why the run of a test failed, to the step that it reached.
func (l testList) runFailed(e latchkey.RunError, refused bool) {
	switch {
	case l.failed() != nil:
		return // said already, and better
	case e.Code == latchkey.RunErrPolicy:
		l.fail(latchkey.StepPolicy, e.Code, e.Message)
		return
	case refused:
		l.fail(latchkey.StepRelease, e.Code, e.Message)
		return
	}
	for _, step := range latchkey.TestSteps {
		switch step {
		case latchkey.StepVault, latchkey.StepRelease:
			continue // what fails of them is on record
		}
		if r, ok := l[step]; !ok || r.State == latchkey.TestSkipped {
			l.fail(step, e.Code, e.Message)
			return
		}
	}
}

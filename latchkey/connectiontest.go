package latchkey

import "time"

// A TestState is the state of a connection test, or of one step of it.
type TestState string

const (
	TestPending TestState = "pending" // under way
	TestPassed  TestState = "passed"
	TestFailed  TestState = "failed"
	TestSkipped TestState = "skipped" // does not apply, or an earlier step failed
)

// A TestStep names one step of a connection test.
type TestStep string

const (
	StepTarget    TestStep = "target"    // the machine's agent is there
	StepPolicy    TestStep = "policy"    // the machine's policy file allows the driver
	StepVariables TestStep = "variables" // user name and reference have values that may be used
	StepVault     TestStep = "vault"     // the vault was read
	StepRelease   TestStep = "release"   // the secret may be, and was, released to the machine
	StepSignIn    TestStep = "sign-in"   // the target let the agent in
)

// TestSteps are the steps of a connection test, in their order.
var TestSteps = []TestStep{StepTarget, StepPolicy, StepVariables, StepVault, StepRelease, StepSignIn}

// A ConnectionTest is the result of a connection test: a real sign-in on the
// target by its agent, with the stored configuration, without a flow. It never
// holds a value.
type ConnectionTest struct {
	Connection ConnectionID `json:"connection"`
	Run        RunID        `json:"run,omitempty" doc:"the run that carries the test out; absent when the test ended before one was queued"`
	State      TestState    `json:"state" enum:"pending,passed,failed"`
	Steps      []TestResult `json:"steps" nullable:"false" doc:"one for each step, in their order"`
	StartedBy  PrincipalID  `json:"startedBy"`
	StartedAt  time.Time    `json:"startedAt"`
	FinishedAt *time.Time   `json:"finishedAt,omitempty"`
}

// A TestResult is what came of one step of a connection test.
type TestResult struct {
	Step     TestStep  `json:"step" enum:"target,policy,variables,vault,release,sign-in"`
	State    TestState `json:"state" enum:"pending,passed,failed,skipped"`
	Code     string    `json:"code,omitempty" doc:"of what failed, for programs"`
	Message  string    `json:"message,omitempty" doc:"what happened, in a sentence"`
	Identity string    `json:"identity,omitempty" doc:"the identity that was refused"`
	Remedy   string    `json:"remedy,omitempty" doc:"what to do"`
}

// Limits of connection tests.
const (
	DefaultTestWait = 30 * time.Second // for the result, in one request
	MaxTestWait     = 45 * time.Second
	TestQueueLimit  = 2 * time.Minute // a test that no machine claims for longer has failed
)

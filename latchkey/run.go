package latchkey

import (
	"regexp"
	"strings"
	"time"
	"unicode/utf8"
)

// A RunState is the state of a run.
type RunState string

const (
	RunQueued    RunState = "queued"
	RunRunning   RunState = "running" // claimed by its machine, or one of its group
	RunSucceeded RunState = "succeeded"
	RunFailed    RunState = "failed"
	RunCancelled RunState = "cancelled"
	RunTimedOut  RunState = "timed-out"
)

// Done reports whether a run in state s has ended.
func (s RunState) Done() bool { return s != RunQueued && s != RunRunning }

// Limits of runs.
const (
	MaxLogBytes   = 4 << 20        // of a run's output that is kept
	MaxLogChunk   = 64 << 10       // of one piece of output
	MaxLogChunks  = 250_000        // pieces of a run's output that are kept
	RunLease      = time.Minute    // a run whose agent is silent for longer has failed
	QueueLimit    = 12 * time.Hour // a run that no machine claims for longer has failed
	MaxQueued     = 10_000         // runs that wait for one machine, or for one group
	MaxRunErrText = 4000
)

// Codes of failed runs.
const (
	RunErrExit         = "exit-code"      // the flow ended with another code than 0
	RunErrStart        = "start-failed"   // the program could not be started
	RunErrPolicy       = "policy-refused" // the machine's policy file does not allow it
	RunErrRelease      = "release-failed" // a credential was denied or could not be read
	RunErrAgentLost    = "agent-lost"     // the agent vanished; the run is not repeated
	RunErrServerLost   = "server-lost"    // the agent could not reach the server and ended the flow
	RunErrTimeout      = "timeout"        // the flow's time limit passed
	RunErrQueueTimeout = "queue-timeout"  // no machine claimed it in time
	RunErrCancelled    = "cancelled"      // somebody cancelled it
	RunErrRefused      = "no-longer-allowed"
	RunErrRestored     = "restored" // the database was restored, or is a copy; the run is not repeated

	// Of the drivers ssh and kerberos. None of them is tried again by itself.
	RunErrUnreachable = "target-unreachable" // the SSH server, or a KDC of the realm, was not reached
	RunErrHostKey     = "host-key-changed"   // the SSH server has another host key than the machine's configuration says
	RunErrSignIn      = "sign-in-refused"    // the target refused user name and password
	RunErrExpired     = "password-expired"   // the target wants the password changed first
	RunErrAccount     = "account-refused"    // the target does not let the account in, whatever the password
	RunErrLost        = "connection-lost"    // the SSH server was gone while the flow ran
	RunErrPending     = "sign-in-pending"    // too many others sign in there with the credential; also the code of such a release

	RunErrCertificate = "certificate-refused" // the realm, or kinit for it, refused the certificate
	RunErrKerberos    = "kerberos-failed"     // Kerberos does not work between the machine and the realm
)

// MaxRefusals is how often in a row a target may refuse one version of a secret
// before nothing signs in there with it any more: most systems lock an account
// after a few more. Sign-ins under way count as refused until their end is known.
const MaxRefusals = 3

// A RunKind says what a run is for.
type RunKind string

const (
	RunFlow RunKind = "flow"
	RunTest RunKind = "test" // a connection test: it signs in and runs nothing
)

// A Run is one execution of one revision of a flow through a connection. It is
// executed at most once.
type Run struct {
	ID               RunID             `json:"id"`
	Kind             RunKind           `json:"kind" enum:"flow,test"`
	Flow             FlowID            `json:"flow,omitempty" doc:"absent of a connection test"`
	FlowName         string            `json:"flowName,omitempty"`
	Revision         int               `json:"revision,omitempty"`
	Connection       ConnectionID      `json:"connection"`
	Machine          MachineID         `json:"machine,omitempty" doc:"absent of a run that waits for a group, or has done so in vain"`
	MachineName      string            `json:"machineName,omitempty"`
	MachineGroup     MachineGroupID    `json:"machineGroup,omitempty" doc:"of a run through a connection on a group"`
	MachineGroupName string            `json:"machineGroupName,omitempty"`
	SharedUID        bool              `json:"sharedUid" doc:"the flow runs as the agent's own user on this machine"`
	State            RunState          `json:"state" enum:"queued,running,succeeded,failed,cancelled,timed-out"`
	Error            *RunError         `json:"error,omitempty"`
	ExitCode         *int              `json:"exitCode,omitempty"`
	Inputs           map[string]string `json:"inputs"`
	Owner            PrincipalID       `json:"owner" doc:"the owner of the connection"`
	StartedBy        PrincipalID       `json:"startedBy"`
	Releases         int               `json:"releases" doc:"how many releases were granted to it"`
	QueuedAt         time.Time         `json:"queuedAt"`
	ClaimedAt        *time.Time        `json:"claimedAt,omitempty"`
	StartedAt        *time.Time        `json:"startedAt,omitempty" doc:"when the flow's process was about to start"`
	FinishedAt       *time.Time        `json:"finishedAt,omitempty"`
	CancelAsked      bool              `json:"cancelAsked,omitempty"`
	LogBytes         int64             `json:"logBytes"`
	LogTruncated     bool              `json:"logTruncated,omitempty"`
}

// A RunError says why a run did not succeed.
type RunError struct {
	Code    string `json:"code" doc:"exit-code, start-failed, policy-refused, release-failed, agent-lost, server-lost, timeout, queue-timeout, cancelled, no-longer-allowed or restored; of the drivers ssh and kerberos also target-unreachable, host-key-changed, sign-in-refused, certificate-refused, password-expired, account-refused, connection-lost, sign-in-pending or kerberos-failed"`
	Message string `json:"message"`
}

// A RunCreate asks for a run.
type RunCreate struct {
	Flow       FlowID            `json:"flow"`
	Connection ConnectionID      `json:"connection"`
	Inputs     map[string]string `json:"inputs,omitempty" doc:"handed to the flow as environment variables LATCHKEY_INPUT_NAME"`
}

var inputNameRE = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,63}$`)

// Validate returns every fault.
func (c *RunCreate) Validate() error {
	var f faults
	if !HasPrefix(string(c.Flow), "flow") {
		f.add("flow", "must be the id of a flow, flow_…")
	}
	if !HasPrefix(string(c.Connection), "conn") {
		f.add("connection", "must be the id of a connection, conn_…")
	}
	checkInputs(&f, c.Inputs)
	return f.err()
}

// checkInputs adds what is wrong with the inputs of a run: each becomes a variable
// in the environment of the flow, and its name a part of that one's.
func checkInputs(f *faults, inputs map[string]string) {
	if len(inputs) > MaxInputs {
		f.add("inputs", "must be at most %d", MaxInputs)
	}
	total := 0
	seen := make(map[string]bool, len(inputs))
	for name, value := range inputs {
		total += len(name) + len(value)
		upper := strings.ToUpper(name)
		switch {
		case !inputNameRE.MatchString(name):
			f.add("inputs", "names must be 1 to 64 letters, digits and underscores and not begin with a digit")
		case seen[upper]:
			f.add("inputs", "names must differ in more than case")
		case !storable(value):
			f.add("inputs", "values must be valid UTF-8 without NUL")
		}
		seen[upper] = true
	}
	if total > MaxInputBytes {
		f.add("inputs", "must be at most %d bytes together", MaxInputBytes)
	}
}

func storable(s string) bool { return utf8.ValidString(s) && !strings.ContainsRune(s, 0) }

// A LogChunk is a piece of a run's output.
type LogChunk struct {
	Offset int64     `json:"offset" doc:"of the first byte of text in the whole log"`
	Stream string    `json:"stream" enum:"stdout,stderr"`
	Text   string    `json:"text"`
	At     time.Time `json:"at"`
}

// A RunLog is a run's output from some offset on.
type RunLog struct {
	Chunks    []LogChunk `json:"chunks" nullable:"false"`
	Next      int64      `json:"next" doc:"offset to go on from"`
	State     RunState   `json:"state" doc:"the run's state when this was read"`
	Truncated bool       `json:"truncated,omitempty" doc:"output beyond the limit was dropped"`
}

package latchkey

import (
	"encoding/base64"
	"encoding/json"
	"time"
)

// What follows is the protocol between an agent and the server. Every message
// but the first two is authenticated both ways by the session's key; see
// docs/security.md.

// AgentSuite names the cryptographic suite of a session: Ed25519 signatures,
// HPKE base mode (RFC 9180) with DHKEM(X25519, HKDF-SHA256), HKDF-SHA256 and
// AES-256-GCM, HMAC-SHA256 on messages.
const AgentSuite = "latchkey-1"

// Headers of agents' requests and of the answers to them.
const (
	HeaderSession = "Latchkey-Session" // id of the session
	HeaderNonce   = "Latchkey-Nonce"   // of the request: 8 bytes of its time, in Unix milliseconds by the server's clock, and 8 random ones, base64
	HeaderMAC     = "Latchkey-Mac"     // HMAC of the message, base64

	// Of answers to requests that open a session. They are not authenticated.
	HeaderTime      = "Latchkey-Time"       // the server's clock, RFC 3339
	HeaderServerKey = "Latchkey-Server-Key" // the server's public key, base64
)

// CodeClock is the code of the error that a SessionRequest gets whose time is too
// far from the server's. The agent dates the next one by the answer's HeaderTime.
const CodeClock = "clock"

// An EnrolRequest makes a machine known to the server.
type EnrolRequest struct {
	Token string `json:"token"` // of the enrolment token, only the part that proves it
	Name  string `json:"name"`
	// Environment, when given, must be the name or id of the token's.
	Environment string `json:"environment,omitempty"`
	SignKey     []byte `json:"signKey"` // Ed25519
	SealKey     []byte `json:"sealKey"` // X25519
	OS          string `json:"os"`
	Version     string `json:"version"`
	SharedUID   bool   `json:"sharedUid"`
	Policy      Policy `json:"policy"`
	Signature   []byte `json:"signature"` // by SignKey: proof that the machine holds it
}

// An EnrolResponse says who the machine is from now on.
type EnrolResponse struct {
	Machine     MachineID `json:"machine"`
	Name        string    `json:"name"` // another than asked for when a machine is enrolled anew
	Environment string    `json:"environment"`
	Signature   []byte    `json:"signature"` // by the server's key, over the request as well
}

// A SessionRequest opens a session.
type SessionRequest struct {
	Suite     string    `json:"suite"`
	Machine   MachineID `json:"machine"`
	Counter   int64     `json:"counter"` // greater than in any session before, kept on the machine's disk
	Nonce     []byte    `json:"nonce"`   // 32 bytes
	At        time.Time `json:"at"`
	OS        string    `json:"os"`
	Version   string    `json:"version"`
	SharedUID bool      `json:"sharedUid"`
	Policy    Policy    `json:"policy"`
	Signature []byte    `json:"signature"` // by the machine's key
}

// A SessionResponse carries the HPKE encapsulation from which both sides derive
// the session's secret.
type SessionResponse struct {
	Suite     string    `json:"suite"`
	Session   SessionID `json:"session"`
	Enc       []byte    `json:"enc"`
	At        time.Time `json:"at"` // the server's clock
	ExpiresAt time.Time `json:"expiresAt"`
	Signature []byte    `json:"signature"` // by the server's key, over the request as well
}

// A ClaimRequest asks for a run, and waits for one.
type ClaimRequest struct {
	Wait    Duration `json:"wait"`              // at most MaxClaimWait
	Holding []RunID  `json:"holding,omitempty"` // runs that the agent has; a claimed run it lacks is sent again
}

// MaxHolding bounds the runs that an agent has, of a ClaimRequest.
const MaxHolding = 1000

// MaxClaimWait bounds a long poll.
const MaxClaimWait = 30 * time.Second

// A ClaimedRun is a run for the machine to execute.
type ClaimedRun struct {
	Run         RunID             `json:"run"`
	Kind        RunKind           `json:"kind"`  // a test signs in and runs nothing: it has no flow and no command
	Claim       ClaimID           `json:"claim"` // carried by every later request of this run
	Environment EnvironmentID     `json:"environment"`
	FlowName    string            `json:"flowName"`
	Revision    int               `json:"revision"`
	Command     []string          `json:"command"`
	Timeout     Duration          `json:"timeout"`
	Driver      Driver            `json:"driver"`
	SSHServer   string            `json:"sshServer,omitempty"` // of the driver ssh, a name in the machine's configuration
	Handover    Handover          `json:"handover"`
	Inputs      map[string]string `json:"inputs,omitempty"`
	Credential  CredentialID      `json:"credential"` // the connection's
	Credentials []CredentialID    `json:"credentials,omitempty"`
}

// Validate returns an error, of one fault, unless the run's fields are within the
// limits that hold when flows and runs are made. The agent does not take the
// server's word for that: the machine's policy stands on what a command or the name
// of an input can be.
func (r *ClaimedRun) Validate() error {
	var f faults
	if !HasPrefix(string(r.Run), "run") {
		f.add("run", "must be the id of a run, run_…")
	}
	if r.Kind != RunFlow && r.Kind != RunTest {
		f.add("kind", "must be flow or test")
	}
	if r.Kind == RunFlow {
		f.check("flowName", CheckName(r.FlowName))
		checkCommand(&f, r.Command)
		checkTimeout(&f, r.Timeout)
	} else if len(r.Command) > 0 {
		f.add("command", "must not be given for a test")
	}
	checkInputs(&f, r.Inputs)
	checkFlowCredentials(&f, r.Credentials)
	if len(f) == 0 {
		return nil
	}
	return &Error{Kind: ErrInvalid, Code: "invalid", Msg: "the server sent a run that there cannot be: " + f[0].Field + " " + f[0].Message}
}

// A ClaimResponse carries a run, or none.
type ClaimResponse struct {
	Run *ClaimedRun `json:"run,omitempty"`
}

// A RunRequest is what every request about a claimed run begins with.
type RunRequest struct {
	Claim ClaimID `json:"claim"`

	// Attempt is random text that the agent makes when it is about to start the
	// run, keeps in memory only, and sends with start until it is answered. A start
	// that was answered by nobody is granted again to who knows it: that agent has
	// not begun. Other requests have none.
	Attempt string `json:"attempt,omitempty"`

	// SignedIn is that the target has let the agent in, of a heartbeat. The agent
	// says so at once, since runs may have to wait for it. That the target has
	// refused is said by finish, which follows at once.
	SignedIn bool `json:"signedIn,omitempty"`
}

// MaxAttempt bounds the attempt of a RunRequest, in bytes.
const MaxAttempt = 64

// A RunStatus answers requests about a claimed run.
type RunStatus struct {
	Cancel       bool      `json:"cancel,omitempty"` // somebody asked to cancel it
	LeaseExpires time.Time `json:"leaseExpires"`
}

// A LogRequest appends output to a run's log. Offset makes it repeatable.
type LogRequest struct {
	Claim  ClaimID `json:"claim"`
	Offset int64   `json:"offset"`
	Stream string  `json:"stream"`
	Text   string  `json:"text"`
}

// A FinishRequest ends a run. It is repeatable.
type FinishRequest struct {
	Claim    ClaimID   `json:"claim"`
	State    RunState  `json:"state"`
	ExitCode *int      `json:"exitCode,omitempty"`
	Error    *RunError `json:"error,omitempty"`
	SignedIn bool      `json:"signedIn,omitempty"` // the target let the agent in
}

// A ReleaseRequest asks for a credential of a claimed run. Counter grows with
// every release of a session; a step back quarantines the machine.
type ReleaseRequest struct {
	Claim      ClaimID      `json:"claim"`
	Credential CredentialID `json:"credential"`
	Counter    int64        `json:"counter"`
}

// A Sealed is a released credential, sealed to the machine of the claimed run.
// The fields other than Box are bound to it as associated data.
type Sealed struct {
	Suite      string       `json:"suite"`
	Release    ReleaseID    `json:"release"`
	Run        RunID        `json:"run"`
	Claim      ClaimID      `json:"claim"`
	Machine    MachineID    `json:"machine"`
	Credential CredentialID `json:"credential"`
	Name       string       `json:"name"`    // of the credential
	Version    string       `json:"version"` // of the vault's secret
	Expires    time.Time    `json:"expires"` // the agent must not use it later
	Exposure   Exposure     `json:"exposure"`
	Box        []byte       `json:"box"` // the values, see CredentialValues
}

// CredentialValues are the contents of a Sealed's box. A credential has a password
// or a PFX, never both.
type CredentialValues struct {
	Username string
	Password Secret
	PFX      Secret // a PKCS #12 file (DER) without a password: a certificate and its key
}

// EncodeForSealing returns the values as bytes to seal. It is, with Reveal, the
// only way in which a Secret becomes bytes.
func (v CredentialValues) EncodeForSealing() ([]byte, error) {
	if !v.PFX.IsZero() {
		file := base64.StdEncoding.EncodeToString([]byte(v.PFX.Reveal())) // it is no text
		return json.Marshal(map[Slot]string{SlotUsername: v.Username, SlotCertificate: file})
	}
	return json.Marshal(map[Slot]string{SlotUsername: v.Username, SlotPassword: v.Password.Reveal()})
}

// DecodeSealed reads what EncodeForSealing wrote.
func DecodeSealed(b []byte) (CredentialValues, error) {
	var m map[Slot]string
	if err := json.Unmarshal(b, &m); err != nil {
		return CredentialValues{}, err
	}
	v := CredentialValues{Username: m[SlotUsername]}
	if text, ok := m[SlotCertificate]; ok {
		file, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			return CredentialValues{}, err
		}
		v.PFX = NewSecret(string(file))
		return v, nil
	}
	v.Password = NewSecret(m[SlotPassword])
	return v, nil
}

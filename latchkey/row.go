package latchkey

import "time"

// An Owner is who owns a thing.
type Owner struct {
	ID       PrincipalID `json:"id"`
	Name     string      `json:"name"`
	Disabled bool        `json:"disabled,omitempty" doc:"the account is deactivated or deleted: somebody should take the thing over"`
}

// A LastRun is the newest run of a flow, or through a connection.
type LastRun struct {
	Run        RunID      `json:"run"`
	State      RunState   `json:"state" enum:"queued,running,succeeded,failed,cancelled,timed-out"`
	QueuedAt   time.Time  `json:"queuedAt"`
	FinishedAt *time.Time `json:"finishedAt,omitempty"`
}

// A CredentialStatus says in one word whether a credential can be used.
type CredentialStatus string

// The gravest holds.
const (
	CredentialFailed   CredentialStatus = "failed"   // the check of its reference or its certificate failed, or there is no reference
	CredentialExpired  CredentialStatus = "expired"  // its secret or certificate has expired
	CredentialChecking CredentialStatus = "checking" // it is checked, and was not used before
	CredentialPending  CredentialStatus = "pending"  // a changed reference has not passed its check; the one before it is read
	CredentialUnknown  CredentialStatus = "unknown"  // it could not be checked; that is tried again
	CredentialExpiring CredentialStatus = "expiring" // it expires within ExpiresSoon
	CredentialOK       CredentialStatus = "ok"
)

// ExpiresSoon is how long before its end a secret or a certificate wants attention.
const ExpiresSoon = 30 * 24 * time.Hour

// MaxUsedBy is how many credentials are counted that use a variable.
const MaxUsedBy = 1000

// A ReleaseOutcome is what came of asking for a credential.
type ReleaseOutcome string

const (
	ReleaseGranted   ReleaseOutcome = "granted"   // whether the vault was read is not on record, or not yet
	ReleaseDelivered ReleaseOutcome = "delivered" // it went to the machine
	ReleaseFailed    ReleaseOutcome = "failed"    // the vault could not be read
	ReleaseDenied    ReleaseOutcome = "denied"
)

// A ReleaseRecord is one release of a credential, or a refused one.
type ReleaseRecord struct {
	ID          AuditID        `json:"id" doc:"id of its entry in the audit log"`
	Release     ReleaseID      `json:"release,omitempty" doc:"absent of one that was denied"`
	At          time.Time      `json:"at"`
	Outcome     ReleaseOutcome `json:"outcome" enum:"granted,delivered,failed,denied" doc:"granted: what came of it is not on record, or not yet"`
	Code        string         `json:"code,omitempty" doc:"why it was denied or failed"`
	Reason      string         `json:"reason,omitempty" doc:"likewise, in a sentence, for who sees every credential of the environment"`
	Run         RunID          `json:"run,omitempty"`
	Kind        RunKind        `json:"kind,omitempty" enum:"flow,test" doc:"of the run"`
	Flow        FlowID         `json:"flow,omitempty" doc:"if the caller may see it"`
	FlowName    string         `json:"flowName,omitempty"`
	Machine     MachineID      `json:"machine"`
	MachineName string         `json:"machineName,omitempty"`
	Version     string         `json:"version,omitempty" doc:"the vault's id of the version that was delivered"`
}

package latchkey

import "time"

// An Outcome is how an audited operation ended.
type Outcome string

const (
	OutcomeOK     Outcome = "ok"
	OutcomeDenied Outcome = "denied"
	OutcomeFailed Outcome = "failed"
)

// An AuditEvent is one entry of the audit log. Entries are only ever added.
type AuditEvent struct {
	ID          AuditID       `json:"id"`
	At          time.Time     `json:"at"`
	Environment EnvironmentID `json:"environment,omitempty"`
	Action      Action        `json:"action"`
	Outcome     Outcome       `json:"outcome" enum:"ok,denied,failed"`
	Code        string        `json:"code,omitempty" doc:"why, for programs"`
	Reason      string        `json:"reason,omitempty" doc:"why, in a sentence"`

	Actor     PrincipalID   `json:"actor"`
	ActorKind PrincipalKind `json:"actorKind,omitempty"`
	ActorName string        `json:"actorName"`
	Token     TokenID       `json:"token,omitempty"`
	Address   string        `json:"address,omitempty"`
	RequestID string        `json:"requestId,omitempty"`

	Subject     string            `json:"subject,omitempty" doc:"id of the thing acted on"`
	SubjectKind Kind              `json:"subjectKind,omitempty"`
	SubjectName string            `json:"subjectName,omitempty"`
	Run         RunID             `json:"run,omitempty"`
	Claim       ClaimID           `json:"claim,omitempty"`
	Release     ReleaseID         `json:"release,omitempty"`
	Machine     MachineID         `json:"machine,omitempty"`
	Credential  CredentialID      `json:"credential,omitempty"`
	Details     map[string]string `json:"details,omitempty"`
}

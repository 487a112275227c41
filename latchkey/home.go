package latchkey

import "time"

// Bounds of what a home page asks for.
const (
	MaxAttention    = 100                // things that want attention
	AttentionFor    = 7 * 24 * time.Hour // how far back denied releases and failed runs want attention
	DefaultActivity = 14                 // days
	MaxActivity     = 90                 // days
	MaxFound        = 20                 // things that are found by name
	MaxChangesWait  = 45 * time.Second   // for a change of an environment
)

// A Severity says how much something matters.
type Severity string

const (
	SeverityError   Severity = "error"   // something does not work
	SeverityWarning Severity = "warning" // something will not work, or not now
	SeverityInfo    Severity = "info"
)

// An AttentionKind says what about a thing wants attention.
type AttentionKind string

const (
	AttentionCheck       AttentionKind = "check-failed"
	AttentionUnchecked   AttentionKind = "check-unknown"
	AttentionCertificate AttentionKind = "certificate-failed"
	AttentionExpired     AttentionKind = "expired"
	AttentionExpiring    AttentionKind = "expiring"
	AttentionMachine     AttentionKind = "machine"
	AttentionDenied      AttentionKind = "releases-denied"
	AttentionRuns        AttentionKind = "runs-failed"
	AttentionNotice      AttentionKind = "notice"
)

// An AttentionItem is something that wants attention.
type AttentionItem struct {
	Severity Severity      `json:"severity" enum:"error,warning,info"`
	Kind     AttentionKind `json:"kind" enum:"check-failed,check-unknown,certificate-failed,expired,expiring,machine,releases-denied,runs-failed,notice"`
	Subject  Component     `json:"subject" doc:"the thing"`
	What     string        `json:"what" doc:"what is the matter, in a sentence"`
	Since    *time.Time    `json:"since,omitempty" doc:"since when; of what expires, when"`
	Count    int           `json:"count,omitempty" doc:"of releases and runs: how many"`
	Remedy   string        `json:"remedy,omitempty" doc:"what to do"`
}

// An Attention is what of an environment wants somebody's attention, the gravest
// first.
type Attention struct {
	Items []AttentionItem `json:"items" nullable:"false"`
	More  int             `json:"more,omitempty" doc:"how many more there are than the 100 that are listed"`
}

// An ActivityDay counts what happened on a day.
type ActivityDay struct {
	Day       time.Time `json:"day" doc:"its beginning, UTC"`
	Succeeded int       `json:"succeeded" doc:"runs that were queued on this day and succeeded"`
	Failed    int       `json:"failed" doc:"likewise, and failed or ran out of time"`
	Granted   int       `json:"granted" doc:"releases"`
	Denied    int       `json:"denied" doc:"releases"`
}

// An Activity counts what happened in an environment, by day.
type Activity struct {
	Days []ActivityDay `json:"days" nullable:"false" doc:"the oldest first, days on which nothing happened too"`
	All  bool          `json:"all" doc:"of everybody; otherwise of the runs that the caller owns or has started"`
}

// A Changes says whether something has changed.
type Changes struct {
	Cursor  string `json:"cursor" doc:"pass it as since the next time"`
	Changed bool   `json:"changed"`
}

// A Found is a thing that was found by its name.
type Found struct {
	Kind   Kind   `json:"kind"`
	ID     string `json:"id"`
	Name   string `json:"name" doc:"of a variable its display name"`
	Unique string `json:"uniqueName,omitempty" doc:"of a variable"`
}

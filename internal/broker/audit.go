package broker

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"latchkey.dev/internal/db"
	"latchkey.dev/latchkey"
)

// An AuditFilter chooses entries of the audit log; zero fields choose all.
type AuditFilter struct {
	Environment string          // id or name; "" is the whole installation
	Action      latchkey.Action // or a prefix that ends with a dot: "release."
	Outcome     latchkey.Outcome
	Actor       latchkey.PrincipalID
	Subject     string
	Run         latchkey.RunID
	Machine     latchkey.MachineID
	Credential  latchkey.CredentialID
	Since       time.Time
	Until       time.Time
	Newest      bool // newest first

	// Committed lists in the order in which entries became final, and only those
	// that no later one can precede: who reads on after the last entry misses none
	// and gets none twice. PageOptions.After may then be the id of an entry.
	Committed bool
}

// Audit lists entries of the audit log: of one environment for its admins and
// auditors, of the whole installation for tenant admins. An entry to go on after
// that is not there is an ErrConflict with the code "audit-entry-unknown".
func (b *Broker) Audit(ctx context.Context, who latchkey.Caller, f AuditFilter, page latchkey.PageOptions) (p latchkey.Page[latchkey.AuditEvent], err error) {
	err = b.view(ctx, who, func(o *op) error {
		t := tenantThing
		if f.Environment != "" {
			e, err := o.environment(f.Environment)
			if err != nil {
				return err
			}
			t = environmentThing(e)
		}
		if err := o.allow(latchkey.ActAuditRead, t); err != nil {
			return err
		}
		p, err = o.Audit(db.AuditFilter{
			Environment: t.env, Action: f.Action, Outcome: f.Outcome, Actor: f.Actor, Subject: f.Subject, Run: f.Run,
			Machine: f.Machine, Credential: f.Credential, Since: f.Since, Until: f.Until, Newest: f.Newest, Committed: f.Committed,
		}, page)
		if errors.Is(err, db.ErrNotFound) {
			return latchkey.Conflict("audit-entry-unknown", "the audit log has no entry to go on after: it is the log of another server or environment, or this server was restored from a backup made before that entry")
		}
		return err
	})
	return p, err
}

// Counts are counters since the start, for metrics.
type Counts struct {
	Denials           atomic.Int64
	ReleasesGranted   atomic.Int64
	ReleasesDelivered atomic.Int64
	ReleasesFailed    atomic.Int64
	ReleasesDenied    atomic.Int64
	RunsStarted       atomic.Int64
	RunsFinished      atomic.Int64
	RunsAgentLost     atomic.Int64 // of RunsFinished
	RunsQueueTimeout  atomic.Int64 // of RunsFinished
	ChecksPassed      atomic.Int64
	ChecksFailed      atomic.Int64
	ChecksUnknown     atomic.Int64
	SignIns           atomic.Int64
	SignInsDenied     atomic.Int64

	TargetSignIns        atomic.Int64 // of agents, at the targets of connections
	TargetSignInsRefused atomic.Int64
}

// Counts returns the counters. They go on counting.
func (b *Broker) Counts() *Counts { return &b.counts }

package broker

import (
	"context"
	"sync/atomic"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"latchkey.dev/internal/db"
	"latchkey.dev/internal/vault"
	"latchkey.dev/latchkey"
)

// Bounds of what is kept in memory for releases. A release that finds nothing
// there is decided from the database.
const (
	maxStanding  = 10_000
	standingIdle = 5 * time.Minute // how long a decision, and its value, is kept unused
)

// A matter is everything about a run that the decision about a release depends
// on and that does not change while it runs.
type matter struct {
	environment latchkey.EnvironmentID
	connection  latchkey.ConnectionID
	flow        latchkey.FlowID
	revision    int
	owner       latchkey.PrincipalID
	startedBy   latchkey.PrincipalID
	machine     latchkey.MachineID
	credential  latchkey.CredentialID
}

func matterOf(r *db.Run, id latchkey.CredentialID) matter {
	return matter{r.Environment, r.Connection, r.Flow, r.Revision, r.Owner, r.StartedBy, r.Machine, id}
}

// A decision is that runs of one matter may have a credential. It stands as
// long as the environment's epoch is the one that it was made at.
type decision struct {
	epoch      int64
	machine    db.Machine
	credential latchkey.Credential
	username   string
	reference  db.Reference

	// Of an embedded vault: the value that was read when the vault was in the
	// state, or later. It is current as long as the vault is in that state still,
	// or the secret's newest version is the value's, which the transaction of the
	// release looks at.
	vault latchkey.VaultID
	state atomic.Pointer[db.VaultState]
	value vault.Value

	used atomic.Int64 // Unix milliseconds
}

// A standingRun is a started run, as it was when it was last looked at in the
// database.
type standingRun struct {
	db.Run
	releases atomic.Int64 // granted to it, those under way included
}

// standing is what this server remembers in order to grant releases without
// asking the database about each of their many conditions. Nothing of it is
// believed: see [db.ReleaseGuard].
type standing struct {
	decisions *lru.Cache[matter, *decision]
	runs      *lru.Cache[latchkey.RunID, *standingRun]
	sessions  *lru.Cache[latchkey.SessionID, AgentSession]
}

func newStanding() *standing {
	return &standing{newCache[matter, *decision](), newCache[latchkey.RunID, *standingRun](), newCache[latchkey.SessionID, AgentSession]()}
}

func newCache[K comparable, V any]() *lru.Cache[K, V] {
	c, err := lru.New[K, V](maxStanding)
	if err != nil {
		panic(err) // only for a size below 1
	}
	return c
}

// putRun remembers a started run.
func (s *standing) putRun(r db.Run) {
	r.Inputs = nil
	kept := &standingRun{Run: r}
	kept.releases.Store(int64(r.Releases))
	s.runs.Add(r.ID, kept)
}

// forgetSome drops what was not used for a while, and what does not hold any more
// though nobody has asked for it since: no value stays in memory that cannot be
// released.
func (b *Broker) forgetSome(ctx context.Context) error {
	for _, id := range b.standing.sessions.Keys() {
		if s, ok := b.standing.sessions.Peek(id); ok && !s.Expires.After(b.now()) {
			b.standing.sessions.Remove(id)
		}
	}
	before := b.now().Add(-standingIdle).UnixMilli()
	var matters []matter
	var decisions []*decision
	for _, m := range b.standing.decisions.Keys() {
		d, ok := b.standing.decisions.Peek(m)
		switch {
		case !ok:
		case d.used.Load() < before:
			b.standing.decisions.Remove(m)
		default:
			matters, decisions = append(matters, m), append(decisions, d)
		}
	}
	// Some at a time, so that no transaction is long.
	for begin := 0; begin < len(matters); begin += maxGroup {
		end := min(begin+maxGroup, len(matters))
		guards := make([]*db.ReleaseGuard, end-begin)
		for i := range guards {
			guards[i] = decisions[begin+i].guard(matters[begin+i].environment)
		}
		var outdated []int
		err := b.db.View(ctx, func(tx *db.Tx) (err error) {
			outdated, err = tx.Outdated(guards)
			return err
		})
		if err != nil {
			return err
		}
		for _, i := range outdated {
			b.standing.decisions.Remove(matters[begin+i])
		}
	}
	return nil
}

// guard returns what says whether the decision still holds.
func (d *decision) guard(env latchkey.EnvironmentID) *db.ReleaseGuard {
	g := &db.ReleaseGuard{Environment: env, Epoch: d.epoch}
	if d.vault != "" {
		g.Vault, g.Secret, g.Version, g.State = d.vault, d.reference.Secret, d.value.Version, *d.state.Load()
	}
	return g
}

// grantStanding grants a release from memory. It returns errStale when it must
// be decided in the database. When the value is at hand, it is in delivered, and
// the outcome is on record as well.
func (b *Broker) grantStanding(ctx context.Context, s AgentSession, id latchkey.RunID, req latchkey.ReleaseRequest) (g grant, delivered *latchkey.Sealed, err error) {
	run, ok := b.standing.runs.Get(id)
	if !ok || run.Claim != req.Claim || run.Machine != s.Machine {
		return g, nil, errStale
	}
	m := matterOf(&run.Run, req.Credential)
	d, ok := b.standing.decisions.Get(m)
	now := b.now().UTC().Truncate(time.Millisecond)
	if age := now.Sub(s.At); !ok || age > requestAge || age < -requestAge {
		return g, nil, errStale
	}
	d.used.Store(now.UnixMilli())
	number := int(run.releases.Add(1))
	g = grant{
		id: latchkey.ReleaseID(latchkey.NewID("rel", now)), number: number, run: run.Run, machine: d.machine, credential: d.credential,
		username: d.username, reference: d.reference, vault: d.vault,
	}
	guard := d.guard(m.environment)
	guard.Session, guard.Machine, guard.Counter, guard.Nonce = s.ID, s.Machine, req.Counter, s.Nonce
	guard.Run, guard.Claim, guard.Number = id, req.Claim, number
	e := &ledgerEntry{guard: guard, events: []latchkey.AuditEvent{g.granted(s.Address)}}
	if d.vault != "" {
		sealed, err := b.sealRelease(s, g, d.value)
		if err != nil {
			return g, nil, err
		}
		e.events = append(e.events, g.outcome(s.Address, d.value.Version, nil))
		delivered = &sealed
	}
	if err := b.ledger.add(ctx, e); err != nil {
		// What is wrong with it is for the database to say.
		b.standing.runs.Remove(id)
		b.standing.decisions.Remove(m)
		return g, nil, err
	}
	if delivered != nil {
		state := guard.State
		d.state.Store(&state)
	}
	return g, delivered, nil
}

// stand remembers a decision that was made in the database.
func (b *Broker) stand(g grant, value vault.Value) {
	d := &decision{epoch: g.epoch, machine: g.machine, credential: g.credential, username: g.username, reference: g.reference}
	if g.vault != "" {
		d.vault, d.value = g.vault, value
		d.state.Store(&g.state)
	}
	d.used.Store(b.now().UnixMilli())
	b.standing.decisions.Add(matterOf(&g.run, g.credential.ID), d)
	run := g.run
	run.Releases = g.number
	b.standing.putRun(run)
}

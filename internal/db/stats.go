package db

import (
	"time"

	"latchkey.dev/latchkey"
)

// Stats are numbers about the whole installation, for metrics.
type Stats struct {
	Machines map[latchkey.MachineStatus]int // that are not deleted; every status is there
	Queued   int                            // runs that no agent has claimed yet
	Running  int                            // runs that an agent has claimed and that have not ended
	Oldest   time.Duration                  // how long the oldest of Queued has waited; 0 without one
}

// Stats returns the numbers as they are now. It reads every machine, and of the
// runs those that have not ended.
func (tx *Tx) Stats() (Stats, error) {
	s := Stats{Machines: map[latchkey.MachineStatus]int{
		latchkey.MachineOnline: 0, latchkey.MachineOffline: 0, latchkey.MachineDisabled: 0, latchkey.MachineQuarantined: 0,
	}}
	type group struct {
		quarantined, disabled, seen bool
		n                           int
	}
	groups, err := all(tx, func(r scanner) (g group, err error) { return g, r.Scan(&g.quarantined, &g.disabled, &g.seen, &g.n) },
		`SELECT quarantined_at IS NOT NULL, disabled_at IS NOT NULL, COALESCE(last_seen_at, 0) > $1, count(*)
		FROM machines WHERE deleted_at IS NULL GROUP BY 1, 2, 3`, ms(tx.Now.Add(-latchkey.OnlineWindow)))
	if err != nil {
		return s, err
	}
	for _, g := range groups {
		// The same order as in scanMachine.
		switch {
		case g.quarantined:
			s.Machines[latchkey.MachineQuarantined] += g.n
		case g.disabled:
			s.Machines[latchkey.MachineDisabled] += g.n
		case g.seen:
			s.Machines[latchkey.MachineOnline] += g.n
		default:
			s.Machines[latchkey.MachineOffline] += g.n
		}
	}
	oldest, err := one(tx, func(r scanner) (at int64, err error) { return at, r.Scan(&s.Queued, &at) },
		`SELECT count(*), COALESCE(min(queued_at), 0) FROM runs WHERE state = 'queued'`)
	if err != nil {
		return s, err
	}
	if s.Queued > 0 {
		s.Oldest = max(0, tx.Now.Sub(time.UnixMilli(oldest)))
	}
	s.Running, err = one(tx, scanInt, `SELECT count(*) FROM runs WHERE state = 'running'`)
	return s, err
}

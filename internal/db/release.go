package db

import "latchkey.dev/latchkey"

// CountRelease stores that a run had one more release, its number'th.
func (tx *Tx) CountRelease(id latchkey.RunID, number int) error {
	return tx.execOne(`UPDATE runs SET releases = $2 WHERE id = $1`, id, number)
}

// A ReleaseGuard says what must hold when a release is granted that was decided
// before: the environment's epoch and the embedded vault's revision are still the
// ones of the decision, the session is live and its counter lower than the
// release's, and the run goes on and has had one release less than Number.
type ReleaseGuard struct {
	Environment latchkey.EnvironmentID
	Epoch       int64
	Vault       latchkey.VaultID // "" for none
	Revision    int64

	Session latchkey.SessionID
	Machine latchkey.MachineID
	Counter int64
	Nonce   []byte

	Run    latchkey.RunID
	Claim  latchkey.ClaimID
	Number int
}

// GrantReleases stores releases that were decided before, and adds entries to the
// audit log. It returns the indexes of the guards that do not hold; if there are
// any, the transaction must not be committed.
func (tx *Tx) GrantReleases(guards []ReleaseGuard, events []latchkey.AuditEvent) (broken []int, err error) {
	p := tx.pipeline()
	now := ms(tx.Now)
	epochs := p.epochs(distinct(guards, func(g ReleaseGuard) latchkey.EnvironmentID { return g.Environment }),
		distinct(guards, func(g ReleaseGuard) latchkey.VaultID { return g.Vault }))
	changed := make([][2]int64, len(guards))
	for i, g := range guards {
		p.exec(&changed[i][0], `UPDATE machine_sessions SET release_counter = $2, release_nonce = $3
			WHERE id = $1 AND release_counter < $2 AND replaced_at IS NULL AND expires_at > $4 AND machine_id = $5`,
			g.Session, g.Counter, g.Nonce, now, g.Machine)
		p.exec(&changed[i][1], `UPDATE runs SET releases = $2
			WHERE id = $1 AND releases = $2 - 1 AND claim_id = $3 AND machine_id = $4 AND state = 'running'
			AND started_at IS NOT NULL AND cancel_asked_at IS NULL AND lease_expires_at >= $5`,
			g.Run, g.Number, g.Claim, g.Machine, now)
	}
	if err := p.record(events); err != nil {
		return nil, err
	}
	if err := p.run(); err != nil {
		return nil, err
	}
	for i, g := range guards {
		epoch, ok := epochs[string(g.Environment)]
		if ok = ok && epoch == g.Epoch; ok && g.Vault != "" {
			revision, there := epochs[string(g.Vault)]
			ok = there && revision == g.Revision
		}
		if !ok || changed[i] != [2]int64{1, 1} {
			broken = append(broken, i)
		}
	}
	return broken, nil
}

// distinct returns the different ids among guards, without "".
func distinct[ID ~string](guards []ReleaseGuard, id func(ReleaseGuard) ID) []ID {
	var ids []ID
	seen := make(map[ID]bool)
	for _, g := range guards {
		if v := id(g); v != "" && !seen[v] {
			seen[v] = true
			ids = append(ids, v)
		}
	}
	return ids
}

package db

import (
	"errors"

	"latchkey.dev/latchkey"
)

// CountRelease stores that a run had one more release, its number'th.
func (tx *Tx) CountRelease(id latchkey.RunID, number int) error {
	return tx.execOne(`UPDATE runs SET releases = $2 WHERE id = $1`, id, number)
}

// A ReleaseGuard says what must hold when a release is granted that was decided
// before: the environment's epoch is still the one of the decision, the session is
// live and its counter lower than the release's, and the run goes on and has had
// one release less than Number. Of an embedded vault, the newest version of the
// secret is still the one given, and the same may read it.
type ReleaseGuard struct {
	Environment latchkey.EnvironmentID
	Epoch       int64

	Vault   latchkey.VaultID // "" for none
	Secret  string
	Version string
	State   VaultState // in which that was so; set to the state found, in which it is so too

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
func (tx *Tx) GrantReleases(guards []*ReleaseGuard, events []latchkey.AuditEvent) (broken []int, err error) {
	p := tx.pipeline()
	now := ms(tx.Now)
	found := p.epochsOf(guards)
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
	return tx.broken(guards, found, func(i int) bool { return changed[i] == [2]int64{1, 1} })
}

// Outdated returns the indexes of the guards whose decisions do not hold any
// more, whatever their sessions and runs are like.
func (tx *Tx) Outdated(guards []*ReleaseGuard) (broken []int, err error) {
	p := tx.pipeline()
	found := p.epochsOf(guards)
	if err := p.run(); err != nil {
		return nil, err
	}
	return tx.broken(guards, found, func(int) bool { return true })
}

// broken returns the indexes of the guards whose decisions do not hold, or that
// were not counted.
func (tx *Tx) broken(guards []*ReleaseGuard, found epochs, counted func(i int) bool) (broken []int, err error) {
	for i, g := range guards {
		ok, err := tx.holds(g, found)
		if err != nil {
			return nil, err
		}
		if !ok || !counted(i) {
			broken = append(broken, i)
		}
	}
	return broken, nil
}

// epochsOf adds the queries for what guards look at.
func (p *pipeline) epochsOf(guards []*ReleaseGuard) epochs {
	return p.epochs(distinct(guards, func(g *ReleaseGuard) latchkey.EnvironmentID { return g.Environment }),
		distinct(guards, func(g *ReleaseGuard) latchkey.VaultID { return g.Vault }))
}

// holds reports whether the decision of a guard holds.
func (tx *Tx) holds(g *ReleaseGuard, found epochs) (bool, error) {
	epoch, ok := found.environments[g.Environment]
	if !ok || epoch != g.Epoch {
		return false, nil
	}
	return tx.current(g, found.vaults)
}

// current reports whether what a guard says of its vault holds. When the vault's
// secrets have changed it looks at the one in question.
func (tx *Tx) current(g *ReleaseGuard, vaults map[latchkey.VaultID]VaultState) (bool, error) {
	if g.Vault == "" {
		return true, nil
	}
	now, ok := vaults[g.Vault]
	if !ok || now.Access != g.State.Access {
		return false, nil
	}
	if now.Revision == g.State.Revision {
		return true, nil
	}
	s, err := tx.VaultSecret(g.Vault, g.Secret, "")
	if errors.Is(err, ErrNotFound) {
		return false, nil
	}
	if err != nil || s.DeletedAt != nil || !s.Enabled || s.Version != g.Version {
		return false, err
	}
	g.State = now
	return true, nil
}

// distinct returns the different ids among guards, without "".
func distinct[ID ~string](guards []*ReleaseGuard, id func(*ReleaseGuard) ID) []ID {
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

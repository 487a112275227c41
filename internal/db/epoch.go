package db

import "latchkey.dev/latchkey"

// What a release is decided on is kept in memory between releases. The
// authorization epoch of an environment and the revision of an embedded vault
// say whether that still holds: whatever changes it bumps them in the same
// transaction. The methods of Tx do; callers need not think of it.

// bumpEpoch notes that who may do what in an environment, or with what, has
// changed.
func (tx *Tx) bumpEpoch(env latchkey.EnvironmentID) error {
	return tx.execOne(`UPDATE environments SET authz_epoch = authz_epoch + 1 WHERE id = $1`, env)
}

// bumpEpochs notes that something that every environment can depend on has
// changed: an account, a group, an embedded vault's address.
func (tx *Tx) bumpEpochs() error {
	_, err := tx.exec(`UPDATE environments SET authz_epoch = authz_epoch + 1`)
	return err
}

// bumpEpochOf is bumpEpoch for the environment of a row, which is in one of the
// tables of things with the given id.
func (tx *Tx) bumpEpochOf(table, id string) error {
	return tx.execOne(`UPDATE environments SET authz_epoch = authz_epoch + 1 WHERE id = (SELECT environment_id FROM `+table+` WHERE id = $1)`, id)
}

// bumpRevision notes that a secret of an embedded vault, or who may read it, has
// changed.
func (tx *Tx) bumpRevision(v latchkey.VaultID) error {
	return tx.execOne(`UPDATE vaults SET revision = revision + 1 WHERE id = $1`, v)
}

// Epochs returns the epochs of environments and the revisions of embedded vaults
// that are not deleted, by id.
func (tx *Tx) Epochs(envs []latchkey.EnvironmentID, vaults []latchkey.VaultID) (map[string]int64, error) {
	p := tx.pipeline()
	epochs := p.epochs(envs, vaults)
	return epochs, p.run()
}

// epochs adds the query of [Tx.Epochs]; the map is filled when the pipeline has
// run.
func (p *pipeline) epochs(envs []latchkey.EnvironmentID, vaults []latchkey.VaultID) map[string]int64 {
	epochs := make(map[string]int64, len(envs)+len(vaults))
	add := func(s scanner) error {
		var id string
		var n int64
		err := s.Scan(&id, &n)
		epochs[id] = n
		return err
	}
	if len(envs) > 0 {
		p.query(add, `SELECT id, authz_epoch FROM environments WHERE deleted_at IS NULL AND id IN (`+placeholders(1, len(envs))+`)`, in(envs)...)
	}
	if len(vaults) > 0 {
		p.query(add, `SELECT id, revision FROM vaults WHERE deleted_at IS NULL AND id IN (`+placeholders(1, len(vaults))+`)`, in(vaults)...)
	}
	return epochs
}

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

// bumpRevision notes that a secret of an embedded vault has changed.
func (tx *Tx) bumpRevision(v latchkey.VaultID) error {
	return tx.execOne(`UPDATE vaults SET revision = revision + 1 WHERE id = $1`, v)
}

// bumpAccess notes that who may read an embedded vault has changed.
func (tx *Tx) bumpAccess(v latchkey.VaultID) error {
	return tx.execOne(`UPDATE vaults SET revision = revision + 1, access_revision = access_revision + 1 WHERE id = $1`, v)
}

// A VaultState says what an embedded vault was like: its secrets, and who may
// read them, are the same as long as it is.
type VaultState struct {
	Revision int64 // of its secrets, and of who may read them
	Access   int64 // of who may read them
}

// An epochs is how environments and embedded vaults are now; those that are
// deleted are not in it.
type epochs struct {
	environments map[latchkey.EnvironmentID]int64
	vaults       map[latchkey.VaultID]VaultState
}

// epochs adds the queries that fill in the result, when the pipeline has run.
func (p *pipeline) epochs(envs []latchkey.EnvironmentID, vaults []latchkey.VaultID) epochs {
	e := epochs{make(map[latchkey.EnvironmentID]int64, len(envs)), make(map[latchkey.VaultID]VaultState, len(vaults))}
	if len(envs) > 0 {
		p.query(func(s scanner) error {
			var id latchkey.EnvironmentID
			var n int64
			err := s.Scan(&id, &n)
			e.environments[id] = n
			return err
		}, `SELECT id, authz_epoch FROM environments WHERE deleted_at IS NULL AND id IN (`+placeholders(1, len(envs))+`)`, in(envs)...)
	}
	if len(vaults) > 0 {
		p.query(func(s scanner) error {
			var id latchkey.VaultID
			var v VaultState
			err := s.Scan(&id, &v.Revision, &v.Access)
			e.vaults[id] = v
			return err
		}, `SELECT id, revision, access_revision FROM vaults WHERE deleted_at IS NULL AND id IN (`+placeholders(1, len(vaults))+`)`, in(vaults)...)
	}
	return e
}

// Epoch returns the authorization epoch of an environment and, unless vault is
// "", the state of an embedded vault. What is deleted has zeros.
func (tx *Tx) Epoch(env latchkey.EnvironmentID, vault latchkey.VaultID) (epoch int64, state VaultState, err error) {
	p := tx.pipeline()
	var vaults []latchkey.VaultID
	if vault != "" {
		vaults = append(vaults, vault)
	}
	e := p.epochs([]latchkey.EnvironmentID{env}, vaults)
	err = p.run()
	return e.environments[env], e.vaults[vault], err
}

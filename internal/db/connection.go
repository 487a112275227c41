package db

import (
	"time"

	"latchkey.dev/latchkey"
)

const connectionCols = `c.id, c.name, c.target_kind, c.target_id, c.driver, c.ssh_server, c.credential_id, c.owner_id, c.created_at, c.updated_at, COALESCE(s.refusals, 0)`

const connectionJoin = ` LEFT JOIN sign_in_refusals s ON s.credential_id = c.credential_id AND s.target_id = c.target_id AND s.ssh_server = c.ssh_server`

// Kinds of targets, as connections store them.
const (
	targetMachine = "machine"
	targetGroup   = "group"
)

func scanConnection(s scanner) (c latchkey.Connection, err error) {
	var kind, target string
	err = s.Scan(&c.ID, &c.Name, &kind, &target, &c.Driver, &c.SSHServer, &c.Credential, &c.Owner, timestamp{&c.CreatedAt}, timestamp{&c.UpdatedAt}, &c.Refusals)
	if kind == targetGroup {
		c.Target.MachineGroup = latchkey.MachineGroupID(target)
	} else {
		c.Target.Machine = latchkey.MachineID(target)
	}
	return c, err
}

// Connection returns the connection of an environment with an id, or
// ErrNotFound.
func (tx *Tx) Connection(env latchkey.EnvironmentID, id latchkey.ConnectionID) (latchkey.Connection, error) {
	return one(tx, scanConnection, `SELECT `+connectionCols+` FROM connections c`+connectionJoin+` WHERE c.environment_id = $1 AND c.id = $2 AND c.deleted_at IS NULL`, env, id)
}

// Connections lists an environment's connections.
func (tx *Tx) Connections(env latchkey.EnvironmentID, visible Visible, o latchkey.PageOptions) (latchkey.Page[latchkey.Connection], error) {
	l := listing[latchkey.Connection]{
		kind: latchkey.KindConnection, cols: connectionCols, table: "connections c", alias: "c", joins: connectionJoin, scan: scanConnection,
		name:     func(c *latchkey.Connection) (string, string) { return c.Name, string(c.ID) },
		modified: func(c *latchkey.Connection) time.Time { return c.UpdatedAt },
	}
	return l.page(tx, env, visible, o, nil)
}

// CreateConnection stores a new connection. It returns ErrExists when its
// creator has one with the same name.
func (tx *Tx) CreateConnection(env latchkey.EnvironmentID, c latchkey.Connection) error {
	kind, target := targetMachine, string(c.Target.Machine)
	if c.Target.MachineGroup != "" {
		kind, target = targetGroup, string(c.Target.MachineGroup)
	}
	_, err := tx.exec(`INSERT INTO connections (id, environment_id, name, sort_key, search_key, target_kind, target_id, driver, ssh_server, credential_id, owner_id, created_by, created_at, updated_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $11, $12, $12)`,
		c.ID, env, c.Name, latchkey.SortKey(c.Name), latchkey.SearchKey(c.Name), kind, target, c.Driver, c.SSHServer, c.Credential, c.Owner, ms(tx.Now))
	return err
}

// RenameConnection stores a connection's name. It returns ErrExists when its
// creator has another one with the same name.
func (tx *Tx) RenameConnection(c latchkey.Connection) error {
	if err := tx.execOne(`UPDATE connections SET name = $2, sort_key = $3, updated_at = $4, search_key = $5 WHERE id = $1`, c.ID, c.Name, latchkey.SortKey(c.Name), ms(tx.Now), latchkey.SearchKey(c.Name)); err != nil {
		return err
	}
	return tx.sortGrants(string(c.ID), c.Name)
}

// DeleteConnection marks a connection as deleted.
func (tx *Tx) DeleteConnection(id latchkey.ConnectionID, by latchkey.PrincipalID) error {
	if err := tx.execOne(`UPDATE connections SET deleted_at = $2, deleted_by = $3 WHERE id = $1`, id, ms(tx.Now), by); err != nil {
		return err
	}
	return tx.bumpEpochOf("connections", string(id))
}

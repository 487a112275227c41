package db

import (
	"time"

	"latchkey.dev/latchkey"
)

// A MachineGroup is a machine group with its environment.
type MachineGroup struct {
	latchkey.MachineGroup
	Environment latchkey.EnvironmentID
}

const machineGroupCols = `mg.id, mg.environment_id, mg.name, mg.description, mg.created_by, mg.created_at, mg.updated_at`

func scanMachineGroup(s scanner) (g MachineGroup, err error) {
	return g, s.Scan(&g.ID, &g.Environment, &g.Name, &g.Description, &g.CreatedBy, timestamp{&g.CreatedAt}, timestamp{&g.UpdatedAt})
}

// MachineGroup returns the machine group with an id, without its load, or ErrNotFound.
func (tx *Tx) MachineGroup(id latchkey.MachineGroupID) (MachineGroup, error) {
	return one(tx, scanMachineGroup, `SELECT `+machineGroupCols+` FROM machine_groups mg WHERE mg.id = $1 AND mg.deleted_at IS NULL`, id)
}

// MachineGroups lists an environment's machine groups, without their load.
func (tx *Tx) MachineGroups(env latchkey.EnvironmentID, visible Visible, o latchkey.PageOptions) (latchkey.Page[latchkey.MachineGroup], error) {
	l := listing[latchkey.MachineGroup]{
		kind: latchkey.KindMachineGroup, cols: machineGroupCols, table: "machine_groups mg", alias: "mg",
		scan: func(s scanner) (latchkey.MachineGroup, error) {
			g, err := scanMachineGroup(s)
			return g.MachineGroup, err
		},
		name:     func(g *latchkey.MachineGroup) (string, string) { return g.Name, string(g.ID) },
		modified: func(g *latchkey.MachineGroup) time.Time { return g.UpdatedAt },
	}
	return l.page(tx, env, visible, o, nil)
}

// AddGroupLoad fills in how many machines groups have, how many runs they execute and
// how many wait for them.
func (tx *Tx) AddGroupLoad(groups ...*latchkey.MachineGroup) error {
	if len(groups) == 0 {
		return nil
	}
	byID := make(map[latchkey.MachineGroupID]*latchkey.MachineGroup, len(groups))
	ids := make([]latchkey.MachineGroupID, len(groups))
	for i, g := range groups {
		byID[g.ID], ids[i] = g, g.ID
	}
	type row struct {
		id   latchkey.MachineGroupID
		what string
		n    int
	}
	// One part for each state, so that the indexes of the two serve.
	part := func(state latchkey.RunState) string {
		return ` UNION ALL SELECT group_id, '` + string(state) + `', count(*) FROM runs WHERE state = '` + string(state) + `' AND group_id IN (` + placeholders(2, len(ids)) + `) GROUP BY group_id`
	}
	rows, err := all(tx, func(s scanner) (r row, err error) { return r, s.Scan(&r.id, &r.what, &r.n) },
		`SELECT group_id, CASE WHEN quarantined_at IS NULL AND disabled_at IS NULL AND COALESCE(last_seen_at, 0) > $1 THEN 'online' ELSE 'other' END, count(*)
			FROM machines WHERE deleted_at IS NULL AND group_id IN (`+placeholders(2, len(ids))+`) GROUP BY 1, 2`+part(latchkey.RunRunning)+part(latchkey.RunQueued),
		in(ids, ms(tx.Now.Add(-latchkey.OnlineWindow)))...)
	for _, r := range rows {
		g := byID[r.id]
		switch r.what {
		case string(latchkey.RunRunning):
			g.Running = r.n
		case string(latchkey.RunQueued):
			g.Queued = r.n
		case "online":
			g.Online = r.n
			fallthrough
		default:
			g.Machines += r.n
		}
	}
	return err
}

// GroupMachines returns the machines of a group in the order of their names, without
// their load. There are few: see [latchkey.MaxGroupMachines].
func (tx *Tx) GroupMachines(id latchkey.MachineGroupID) ([]Machine, error) {
	return all(tx, tx.scanMachine, `SELECT `+machineCols+` FROM machines m`+machineJoin+` WHERE m.group_id = $1 AND m.deleted_at IS NULL ORDER BY m.sort_key, m.id`, id)
}

// CreateMachineGroup stores a new machine group. It returns ErrExists when the
// environment has one of this name.
func (tx *Tx) CreateMachineGroup(g MachineGroup) error {
	_, err := tx.exec(`INSERT INTO machine_groups (id, environment_id, name, sort_key, search_key, description, created_by, created_at, updated_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $8)`,
		g.ID, g.Environment, g.Name, latchkey.SortKey(g.Name), latchkey.SearchKey(g.Name, g.Description), g.Description, g.CreatedBy, ms(tx.Now))
	return err
}

// UpdateMachineGroup stores what may change of a machine group. It returns ErrExists
// when another one has the name.
func (tx *Tx) UpdateMachineGroup(g MachineGroup) error {
	if err := tx.execOne(`UPDATE machine_groups SET name = $2, sort_key = $3, description = $4, updated_at = $5, search_key = $6 WHERE id = $1`,
		g.ID, g.Name, latchkey.SortKey(g.Name), g.Description, ms(tx.Now), latchkey.SearchKey(g.Name, g.Description)); err != nil {
		return err
	}
	return tx.sortGrants(string(g.ID), g.Name)
}

// DeleteMachineGroup marks a machine group as deleted. Its machines are in no group
// any more, until it is restored.
func (tx *Tx) DeleteMachineGroup(id latchkey.MachineGroupID, by latchkey.PrincipalID) error {
	if err := tx.execOne(`UPDATE machine_groups SET deleted_at = $2, deleted_by = $3 WHERE id = $1`, id, ms(tx.Now), by); err != nil {
		return err
	}
	return tx.bumpEpochOf("machine_groups", string(id))
}

// SetMachineGroup puts a machine into a group, or with "" into none. It bumps the
// environment's authorization epoch.
func (tx *Tx) SetMachineGroup(m latchkey.MachineID, g latchkey.MachineGroupID) error {
	var group any
	if g != "" {
		group = g
	}
	if err := tx.execOne(`UPDATE machines SET group_id = $2, updated_at = $3 WHERE id = $1`, m, group, ms(tx.Now)); err != nil {
		return err
	}
	return tx.bumpEpochOf("machines", string(m))
}

package client

import (
	"context"
	"iter"
	"net/http"

	"latchkey.dev/latchkey"
)

// MachineGroups lists the machine groups that the caller may see.
func (c *Client) MachineGroups(ctx context.Context, env string, o ...ListOption) iter.Seq2[latchkey.MachineGroup, error] {
	return list[latchkey.MachineGroup](ctx, c, join("environments", env, "machine-groups"), options(nil, o))
}

// MachineGroup returns a machine group.
func (c *Client) MachineGroup(ctx context.Context, env string, id latchkey.MachineGroupID) (latchkey.MachineGroup, error) {
	return call[latchkey.MachineGroup](ctx, c, http.MethodGet, join("environments", env, "machine-groups", string(id)), nil)
}

// CreateMachineGroup makes a machine group without machines.
func (c *Client) CreateMachineGroup(ctx context.Context, env string, in latchkey.MachineGroupCreate) (latchkey.MachineGroup, error) {
	return call[latchkey.MachineGroup](ctx, c, http.MethodPost, join("environments", env, "machine-groups"), in)
}

// UpdateMachineGroup changes what is not nil in in.
func (c *Client) UpdateMachineGroup(ctx context.Context, env string, id latchkey.MachineGroupID, in latchkey.MachineGroupUpdate) (latchkey.MachineGroup, error) {
	return call[latchkey.MachineGroup](ctx, c, http.MethodPatch, join("environments", env, "machine-groups", string(id)), in)
}

// DeleteMachineGroup removes a machine group, also one in use if f says so. Its machines
// stay. It can be restored.
func (c *Client) DeleteMachineGroup(ctx context.Context, env string, id latchkey.MachineGroupID, f latchkey.Force) error {
	return c.do(ctx, http.MethodDelete, join("environments", env, "machine-groups", string(id)), forcing(f), nil, nil)
}

// GroupMachines lists the machines of a group.
func (c *Client) GroupMachines(ctx context.Context, env string, id latchkey.MachineGroupID) iter.Seq2[latchkey.GroupMachine, error] {
	return list[latchkey.GroupMachine](ctx, c, join("environments", env, "machine-groups", string(id), "members"), nil)
}

// AddGroupMachine puts a machine into a group; it may be there already.
func (c *Client) AddGroupMachine(ctx context.Context, env string, id latchkey.MachineGroupID, machine latchkey.MachineID) error {
	return c.do(ctx, http.MethodPut, join("environments", env, "machine-groups", string(id), "members", string(machine)), nil, nil, nil)
}

// RemoveGroupMachine takes a machine out of a group.
func (c *Client) RemoveGroupMachine(ctx context.Context, env string, id latchkey.MachineGroupID, machine latchkey.MachineID) error {
	return c.do(ctx, http.MethodDelete, join("environments", env, "machine-groups", string(id), "members", string(machine)), nil, nil, nil)
}

package server

import (
	"context"

	"latchkey.dev/latchkey"
)

// InMachineGroup is the part of a request that names a machine group.
type InMachineGroup struct {
	InEnv
	ID latchkey.MachineGroupID `path:"id" doc:"id of the machine group, mgrp_…"`
}

type machineGroupIn struct{ InMachineGroup }

type machineGroupDeleteIn struct {
	InMachineGroup
	Forcing
}

type machineGroupUpdateIn struct {
	InMachineGroup
	Body latchkey.MachineGroupUpdate
}

type groupMachineIn struct {
	InMachineGroup
	Machine latchkey.MachineID `path:"machine" doc:"id of the machine, mach_…"`
}

func (s *server) machineGroups(ctx context.Context, who latchkey.Caller, in *searchInEnv) (*listOf[latchkey.MachineGroup], error) {
	return list(s.b.MachineGroups(ctx, who, in.Env, in.options()))
}

func (s *server) createMachineGroup(ctx context.Context, who latchkey.Caller, in *envBody[latchkey.MachineGroupCreate]) (*created[latchkey.MachineGroup], error) {
	g, err := s.b.CreateMachineGroup(ctx, who, in.Env, in.Body)
	return at(g, "environments", in.Env, "machine-groups", string(g.ID)), err
}

func (s *server) machineGroup(ctx context.Context, who latchkey.Caller, in *machineGroupIn) (*one[latchkey.MachineGroup], error) {
	return show(s.b.MachineGroup(ctx, who, in.Env, in.ID))
}

func (s *server) updateMachineGroup(ctx context.Context, who latchkey.Caller, in *machineGroupUpdateIn) (*one[latchkey.MachineGroup], error) {
	return show(s.b.UpdateMachineGroup(ctx, who, in.Env, in.ID, in.Body))
}

func (s *server) deleteMachineGroup(ctx context.Context, who latchkey.Caller, in *machineGroupDeleteIn) (*none, error) {
	return done(s.b.DeleteMachineGroup(ctx, who, in.Env, in.ID, in.force()))
}

func (s *server) groupMachines(ctx context.Context, who latchkey.Caller, in *machineGroupIn) (*listOf[latchkey.GroupMachine], error) {
	return list(s.b.GroupMachines(ctx, who, in.Env, in.ID))
}

func (s *server) addGroupMachine(ctx context.Context, who latchkey.Caller, in *groupMachineIn) (*none, error) {
	return done(s.b.AddGroupMachine(ctx, who, in.Env, in.ID, in.Machine))
}

func (s *server) removeGroupMachine(ctx context.Context, who latchkey.Caller, in *groupMachineIn) (*none, error) {
	return done(s.b.RemoveGroupMachine(ctx, who, in.Env, in.ID, in.Machine))
}

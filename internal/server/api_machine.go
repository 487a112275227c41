package server

import (
	"context"

	"latchkey.dev/latchkey"
)

// InMachine is the part of a request that names a machine.
type InMachine struct {
	InEnv
	ID latchkey.MachineID `path:"id" doc:"id of the machine, mach_…"`
}

type machineIn struct{ InMachine }

type machineDeleteIn struct {
	InMachine
	Forcing
}

type machineUpdateIn struct {
	InMachine
	Body latchkey.MachineUpdate
}

func (s *server) machines(ctx context.Context, who latchkey.Caller, in *searchInEnv) (*listOf[latchkey.Machine], error) {
	return list(s.b.Machines(ctx, who, in.Env, in.options()))
}

type enrolmentTokenIn struct {
	InEnv
	ID string `path:"id" doc:"id of the enrolment token"`
}

func (s *server) listEnrolmentTokens(ctx context.Context, who latchkey.Caller, in *listInEnv) (*listOf[latchkey.EnrolmentToken], error) {
	return list(s.b.EnrolmentTokens(ctx, who, in.Env, in.options()))
}

func (s *server) revokeEnrolmentToken(ctx context.Context, who latchkey.Caller, in *enrolmentTokenIn) (*none, error) {
	return done(s.b.RevokeEnrolmentToken(ctx, who, in.Env, latchkey.EnrolmentTokenID(in.ID)))
}

func (s *server) createEnrolmentToken(ctx context.Context, who latchkey.Caller, in *envBody[latchkey.EnrolmentTokenCreate]) (*created[latchkey.EnrolmentToken], error) {
	t, err := s.b.CreateEnrolmentToken(ctx, who, in.Env, in.Body)
	return at(t, "environments", in.Env, "machines"), err
}

func (s *server) machine(ctx context.Context, who latchkey.Caller, in *machineIn) (*one[latchkey.Machine], error) {
	return show(s.b.Machine(ctx, who, in.Env, in.ID))
}

func (s *server) updateMachine(ctx context.Context, who latchkey.Caller, in *machineUpdateIn) (*one[latchkey.Machine], error) {
	return show(s.b.UpdateMachine(ctx, who, in.Env, in.ID, in.Body))
}

func (s *server) deleteMachine(ctx context.Context, who latchkey.Caller, in *machineDeleteIn) (*none, error) {
	return done(s.b.DeleteMachine(ctx, who, in.Env, in.ID, in.force()))
}

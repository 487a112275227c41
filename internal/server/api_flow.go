package server

import (
	"context"

	"latchkey.dev/latchkey"
)

// InFlow is the part of a request that names a flow.
type InFlow struct {
	InEnv
	ID latchkey.FlowID `path:"id" doc:"id of the flow, flow_…"`
}

type flowIn struct{ InFlow }

type flowDeleteIn struct {
	InFlow
	Forcing
}

type flowReviseIn struct {
	InFlow
	Body latchkey.FlowCreate
}

func (s *server) flows(ctx context.Context, who latchkey.Caller, in *searchInEnv) (*listOf[latchkey.Flow], error) {
	return list(s.b.Flows(ctx, who, in.Env, in.options()))
}

func (s *server) createFlow(ctx context.Context, who latchkey.Caller, in *envBody[latchkey.FlowCreate]) (*created[latchkey.Flow], error) {
	v, err := s.b.CreateFlow(ctx, who, in.Env, in.Body)
	return at(v, "environments", in.Env, "flows", string(v.ID)), err
}

func (s *server) flow(ctx context.Context, who latchkey.Caller, in *flowIn) (*one[latchkey.Flow], error) {
	return show(s.b.Flow(ctx, who, in.Env, in.ID))
}

func (s *server) reviseFlow(ctx context.Context, who latchkey.Caller, in *flowReviseIn) (*one[latchkey.Flow], error) {
	return show(s.b.ReviseFlow(ctx, who, in.Env, in.ID, in.Body))
}

func (s *server) deleteFlow(ctx context.Context, who latchkey.Caller, in *flowDeleteIn) (*none, error) {
	return done(s.b.DeleteFlow(ctx, who, in.Env, in.ID, in.force()))
}

type flowRevisionIn struct {
	InFlow
	Revision int `path:"revision" minimum:"1" doc:"number of the revision, from 1"`
}

func (s *server) flowRevision(ctx context.Context, who latchkey.Caller, in *flowRevisionIn) (*one[latchkey.Flow], error) {
	return show(s.b.FlowRevision(ctx, who, in.Env, in.ID, in.Revision))
}

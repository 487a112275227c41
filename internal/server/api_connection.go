package server

import (
	"context"

	"latchkey.dev/latchkey"
)

// InConnection is the part of a request that names a connection.
type InConnection struct {
	InEnv
	ID latchkey.ConnectionID `path:"id" doc:"id of the connection, conn_…"`
}

type connectionIn struct{ InConnection }

type connectionDeleteIn struct {
	InConnection
	Forcing
}

type connectionUpdateIn struct {
	InConnection
	Body latchkey.ConnectionUpdate
}

func (s *server) connections(ctx context.Context, who latchkey.Caller, in *searchInEnv) (*listOf[latchkey.Connection], error) {
	return list(s.b.Connections(ctx, who, in.Env, in.options()))
}

func (s *server) createConnection(ctx context.Context, who latchkey.Caller, in *envBody[latchkey.ConnectionCreate]) (*created[latchkey.Connection], error) {
	v, err := s.b.CreateConnection(ctx, who, in.Env, in.Body)
	return at(v, "environments", in.Env, "connections", string(v.ID)), err
}

func (s *server) connection(ctx context.Context, who latchkey.Caller, in *connectionIn) (*one[latchkey.Connection], error) {
	return show(s.b.Connection(ctx, who, in.Env, in.ID))
}

func (s *server) updateConnection(ctx context.Context, who latchkey.Caller, in *connectionUpdateIn) (*one[latchkey.Connection], error) {
	return show(s.b.UpdateConnection(ctx, who, in.Env, in.ID, in.Body))
}

func (s *server) deleteConnection(ctx context.Context, who latchkey.Caller, in *connectionDeleteIn) (*none, error) {
	return done(s.b.DeleteConnection(ctx, who, in.Env, in.ID, in.force()))
}

type connectionTestIn struct {
	InConnection
	Wait  string `query:"wait" example:"30s" doc:"how long to wait for the result: 30s unless given, at most 45s"`
	Force bool   `query:"force" doc:"make one more attempt after the target has refused the secret three times; for the connection's owner"`
}

func (s *server) testConnection(ctx context.Context, who latchkey.Caller, in *connectionTestIn) (*one[latchkey.ConnectionTest], error) {
	wait, err := parseWait(in.Wait, latchkey.DefaultTestWait, latchkey.MaxTestWait)
	if err != nil {
		return nil, err
	}
	return show(s.b.TestConnection(ctx, who, in.Env, in.ID, in.Force, wait))
}

type connectionTestGetIn struct {
	InConnection
	Run  latchkey.RunID `query:"run" doc:"run of the test"`
	Wait string         `query:"wait" example:"30s" doc:"how long to wait for the test's end, at most 45s; no time unless given"`
}

func (s *server) connectionTest(ctx context.Context, who latchkey.Caller, in *connectionTestGetIn) (*one[latchkey.ConnectionTest], error) {
	wait, err := parseWait(in.Wait, 0, latchkey.MaxTestWait)
	if err != nil {
		return nil, err
	}
	return show(s.b.ConnectionTest(ctx, who, in.Env, in.ID, in.Run, wait))
}

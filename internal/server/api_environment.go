package server

import (
	"context"

	"latchkey.dev/latchkey"
)

type listIn struct{ Paging }

func (s *server) environments(ctx context.Context, who latchkey.Caller, in *searchIn) (*listOf[latchkey.Environment], error) {
	return list(s.b.Environments(ctx, who, in.options()))
}

type environmentCreateIn struct{ Body latchkey.EnvironmentCreate }

func (s *server) createEnvironment(ctx context.Context, who latchkey.Caller, in *environmentCreateIn) (*created[latchkey.Environment], error) {
	e, err := s.b.CreateEnvironment(ctx, who, in.Body)
	return at(e, "environments", e.Name), err
}

func (s *server) environment(ctx context.Context, who latchkey.Caller, in *inEnv) (*one[latchkey.Environment], error) {
	return show(s.b.Environment(ctx, who, in.Env))
}

func (s *server) updateEnvironment(ctx context.Context, who latchkey.Caller, in *envBody[latchkey.EnvironmentUpdate]) (*one[latchkey.Environment], error) {
	return show(s.b.UpdateEnvironment(ctx, who, in.Env, in.Body))
}

func (s *server) deleteEnvironment(ctx context.Context, who latchkey.Caller, in *inEnv) (*none, error) {
	return done(s.b.DeleteEnvironment(ctx, who, in.Env))
}

func (s *server) members(ctx context.Context, who latchkey.Caller, in *listInEnv) (*listOf[latchkey.Member], error) {
	return list(s.b.Members(ctx, who, in.Env, in.options()))
}

// InMember is the part of a request that names a member of an environment.
type InMember struct {
	InEnv
	Principal string `path:"principal" doc:"id of a principal, login of a user or client id of a service principal"`
}

type memberIn struct{ InMember }

type memberSetIn struct {
	InMember
	Body memberSet
}

type memberSet struct {
	Role latchkey.EnvironmentRole `json:"role" doc:"admin, maker, user or auditor"`
}

func (s *server) setMember(ctx context.Context, who latchkey.Caller, in *memberSetIn) (*none, error) {
	if in.Body.Role == "" {
		return nil, latchkey.Invalid("role", "must be one of admin, maker, user, auditor")
	}
	return done(s.b.SetMember(ctx, who, in.Env, in.Principal, in.Body.Role))
}

func (s *server) removeMember(ctx context.Context, who latchkey.Caller, in *memberIn) (*none, error) {
	return done(s.b.SetMember(ctx, who, in.Env, in.Principal, ""))
}

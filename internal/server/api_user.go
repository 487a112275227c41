package server

import (
	"context"

	"latchkey.dev/latchkey"
)

// InUser is the part of a request that names an account.
type InUser struct {
	User string `path:"user" doc:"id or login of the user"`
}

type userIn struct{ InUser }

func (s *server) me(ctx context.Context, who latchkey.Caller, _ *struct{}) (*one[latchkey.User], error) {
	return show(s.b.Me(ctx, who))
}

func (s *server) users(ctx context.Context, who latchkey.Caller, in *searchIn) (*listOf[latchkey.User], error) {
	return list(s.b.Users(ctx, who, in.options()))
}

type userCreateIn struct{ Body latchkey.UserCreate }

func (s *server) createUser(ctx context.Context, who latchkey.Caller, in *userCreateIn) (*created[latchkey.User], error) {
	u, err := s.b.CreateUser(ctx, who, in.Body)
	return at(u, "users", string(u.ID)), err
}

func (s *server) user(ctx context.Context, who latchkey.Caller, in *userIn) (*one[latchkey.User], error) {
	return show(s.b.User(ctx, who, in.User))
}

type userUpdateIn struct {
	InUser
	Body latchkey.UserUpdate
}

func (s *server) updateUser(ctx context.Context, who latchkey.Caller, in *userUpdateIn) (*one[latchkey.User], error) {
	return show(s.b.UpdateUser(ctx, who, in.User, in.Body))
}

type identityAddIn struct {
	InUser
	Body latchkey.ExternalIdentity
}

func (s *server) addIdentity(ctx context.Context, who latchkey.Caller, in *identityAddIn) (*one[latchkey.ExternalIdentity], error) {
	return show(s.b.AddIdentity(ctx, who, in.User, in.Body))
}

type identityRemoveIn struct {
	InUser
	Issuer   string `query:"issuer" doc:"issuer of the identity's tokens"`
	Tenant   string `query:"tenant" doc:"its tenant, if it has one"`
	ObjectID string `query:"objectId" doc:"its id there"`
}

func (s *server) removeIdentity(ctx context.Context, who latchkey.Caller, in *identityRemoveIn) (*none, error) {
	return done(s.b.RemoveIdentity(ctx, who, in.User, latchkey.ExternalIdentity{Issuer: in.Issuer, Tenant: in.Tenant, ObjectID: in.ObjectID}))
}

package server

import (
	"context"

	"latchkey.dev/internal/broker"
	"latchkey.dev/latchkey"
)

type accessIn struct {
	InEnv
	Principal string          `query:"principal" maxLength:"200" doc:"id of a user, group or service principal, a user's login or a group's name; the caller unless given"`
	Kind      latchkey.Kind   `query:"kind" required:"true" enum:"environment,variable,credential,machine,machine group,connection,flow,run" doc:"kind of the thing"`
	ID        string          `query:"id" maxLength:"200" doc:"id of the thing; of a variable its id or unique name, of the environment nothing"`
	Action    latchkey.Action `query:"action" maxLength:"100" example:"credential.use" doc:"action of the permission table; every action on things of the kind unless given"`
}

func (s *server) access(ctx context.Context, who latchkey.Caller, in *accessIn) (*one[latchkey.Explanation], error) {
	return show(s.b.Explain(ctx, who, in.Env, broker.Inquiry{Principal: in.Principal, Kind: in.Kind, Ref: in.ID, Action: in.Action}))
}

type ownedIn struct {
	InEnv
	Paging
	Principal string `query:"principal" maxLength:"200" doc:"id or login of the owner; the caller unless given"`
}

func (s *server) owned(ctx context.Context, who latchkey.Caller, in *ownedIn) (*listOf[latchkey.OwnedThing], error) {
	return list(s.b.Owned(ctx, who, in.Env, in.Principal, in.options()))
}

func (s *server) handOver(ctx context.Context, who latchkey.Caller, in *envBody[latchkey.HandOver]) (*one[latchkey.HandedOver], error) {
	return show(s.b.HandOver(ctx, who, in.Env, in.Body))
}

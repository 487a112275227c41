package server

import (
	"context"
	"fmt"

	"latchkey.dev/latchkey"
)

// Forcing is the part of a request that deletes what may be in use.
type Forcing struct {
	Force  bool   `query:"force" doc:"delete it though it is in use"`
	Impact string `query:"impact" maxLength:"64" doc:"with force: hash of the impact as it was looked at"`
}

func (f Forcing) force() latchkey.Force { return latchkey.Force{Force: f.Force, Hash: f.Impact} }

type impactIn struct {
	InShared
	Action    latchkey.ImpactAction `query:"action" enum:"delete,edit,disable,unshare" doc:"delete unless given"`
	Principal string                `query:"principal" doc:"with unshare: id of a user, group or service principal, a user's login or a group's name"`
}

type sharedIn struct{ InShared }

// graphRoutes adds the operations that say what a thing of one kind uses, what uses
// it, and what would happen to that.
func (s *server) graphRoutes(tag string, kind latchkey.Kind, collection, suffix string) {
	base := fmt.Sprintf("/environments/{env}/%s/{id}", collection)
	noun := string(kind)
	caller(s, op{tag, "GET " + base + "/dependencies", "get" + suffix + "Dependencies", "Show what a " + noun + " uses", "Directly and by others, down to the secret references. What the caller may not see is counted."},
		func(ctx context.Context, who latchkey.Caller, in *sharedIn) (*one[latchkey.Dependencies], error) {
			return show(s.b.Dependencies(ctx, who, in.Env, kind, in.ID))
		})
	caller(s, op{tag, "GET " + base + "/dependents", "get" + suffix + "Dependents", "Show what uses a " + noun, "Directly and by others, with when it was last used; what ran in the last 30 days counts too. What the caller may not see is counted."},
		func(ctx context.Context, who latchkey.Caller, in *sharedIn) (*one[latchkey.Dependencies], error) {
			return show(s.b.Dependents(ctx, who, in.Env, kind, in.ID))
		})
	caller(s, op{tag, "GET " + base + "/impact", "get" + suffix + "Impact", "Show what a change of a " + noun + " would do", "What stops working, who loses what, what ran within 30 days and what waits. To delete something in use takes the hash of this, so that nobody confirms what has changed meanwhile."},
		func(ctx context.Context, who latchkey.Caller, in *impactIn) (*one[latchkey.Impact], error) {
			if in.Action == "" {
				in.Action = latchkey.ImpactDelete
			}
			return show(s.b.Impact(ctx, who, in.Env, kind, in.ID, in.Action, in.Principal))
		})
}

type secretUsesIn struct {
	Vault  string `query:"vault" required:"true" maxLength:"1000" doc:"name of the vault, its ARM id, or that of a secret"`
	Secret string `query:"secret" doc:"name of the secret; any of the vault unless given"`
}

func (s *server) secretUses(ctx context.Context, who latchkey.Caller, in *secretUsesIn) (*listOf[latchkey.SecretUse], error) {
	uses, err := s.b.SecretUses(ctx, who, in.Vault, in.Secret)
	return list(latchkey.Page[latchkey.SecretUse]{Items: uses}, err)
}

// InDeleted is the part of a request that names a deleted component.
type InDeleted struct {
	InEnv
	ID string `path:"id" doc:"id of the deleted component"`
}

type deletedIn struct{ InDeleted }

type restoreIn struct {
	InDeleted
	Body latchkey.Restore
}

func (s *server) deleted(ctx context.Context, who latchkey.Caller, in *listInEnv) (*listOf[latchkey.Deleted], error) {
	return list(s.b.Deleted(ctx, who, in.Env, in.options()))
}

func (s *server) restore(ctx context.Context, who latchkey.Caller, in *restoreIn) (*one[latchkey.Component], error) {
	return show(s.b.Restore(ctx, who, in.Env, in.ID, in.Body))
}

func (s *server) purge(ctx context.Context, who latchkey.Caller, in *deletedIn) (*none, error) {
	return done(s.b.Purge(ctx, who, in.Env, in.ID))
}

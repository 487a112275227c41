package server

import (
	"context"
	"fmt"

	"latchkey.dev/latchkey"
)

// InShared is the part of a request that names a thing that can be shared.
type InShared struct {
	InEnv
	ID string `path:"id" doc:"id of the thing; of a variable its id or unique name"`
}

// InShare is the part of a request that names a share.
type InShare struct {
	InShared
	Principal string `path:"principal" doc:"id of a user, group or service principal, a user's login or a group's name"`
}

type sharesIn struct {
	InShared
	Paging
}

type shareIn struct{ InShare }

type shareSetIn struct {
	InShare
	Body latchkey.ShareSet
}

type unshareIn struct {
	InShare
	Remove string `query:"removeVariableGrants" enum:"true,false" doc:"of a credential: whether the grants on its variables that came with the share are removed too; what the environment says, unless given"`
}

type ownerIn struct {
	InShared
	Body latchkey.OwnerSet
}

// shareRoutes adds the operations on the shares of the things of one kind.
func (s *server) shareRoutes(tag string, kind latchkey.Kind, collection, suffix string) {
	base := fmt.Sprintf("/environments/{env}/%s/{id}", collection)
	noun := string(kind)
	rights := fmt.Sprintf("A %s is shared with users, groups and service principals. Nobody gives more than they hold.", noun)
	travels := ""
	switch kind {
	case latchkey.KindConnection:
		rights = "A connection is given to service principals alone: whoever may use it can run commands as its owner."
	case latchkey.KindCredential:
		travels = " Its variables go with it, to see."
	}
	caller(s, op{tag, "GET " + base + "/shares", "list" + suffix + "Shares", "List who has a role on a " + noun, "Its owner is among them."},
		func(ctx context.Context, who latchkey.Caller, in *sharesIn) (*listOf[latchkey.Share], error) {
			return list(s.b.Shares(ctx, who, in.Env, kind, in.ID, in.options()))
		})
	caller(s, op{tag, "GET " + base + "/shares/{principal}", "get" + suffix + "Share", "Show a share of a " + noun, "Of a credential with what would become of its variables' grants if the share were removed."},
		func(ctx context.Context, who latchkey.Caller, in *shareIn) (*one[latchkey.ShareDetail], error) {
			return show(s.b.Share(ctx, who, in.Env, kind, in.ID, in.Principal))
		})
	caller(s, op{tag, "PUT " + base + "/shares/{principal}", "set" + suffix + "Share", "Share a " + noun, rights + travels + " It replaces the role that the principal was given before."},
		func(ctx context.Context, who latchkey.Caller, in *shareSetIn) (*one[latchkey.Share], error) {
			return show(s.b.SetShare(ctx, who, in.Env, kind, in.ID, in.Principal, in.Body))
		})
	caller(s, op{tag, "DELETE " + base + "/shares/{principal}", "remove" + suffix + "Share", "Remove a share of a " + noun, "It takes effect at once, also for runs that are under way. The answer says what is left, and why."},
		func(ctx context.Context, who latchkey.Caller, in *unshareIn) (*one[latchkey.Unshared], error) {
			var remove *bool
			if in.Remove != "" {
				remove = new(in.Remove == "true")
			}
			return show(s.b.Unshare(ctx, who, in.Env, kind, in.ID, in.Principal, remove))
		})
	caller(s, op{tag, "POST " + base + "/owner", "set" + suffix + "Owner", "Hand a " + noun + " over", "By its owner, or by an admin of the environment, who takes it over so: it is on record, and the owner is told."},
		func(ctx context.Context, who latchkey.Caller, in *ownerIn) (*one[latchkey.Share], error) {
			return show(s.b.SetOwner(ctx, who, in.Env, kind, in.ID, in.Body))
		})
}

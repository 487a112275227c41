package client

import (
	"context"
	"fmt"
	"iter"
	"net/http"
	"net/url"
	"strconv"

	"latchkey.dev/latchkey"
)

// collections are where the things of the kinds that can be shared are found.
var collections = map[latchkey.Kind]string{
	latchkey.KindVariable:   "variables",
	latchkey.KindCredential: "credentials",
	latchkey.KindMachine:    "machines",
	latchkey.KindConnection: "connections",
	latchkey.KindFlow:       "flows",

	latchkey.KindMachineGroup: "machine-groups",
}

// sharedPath returns the path of a thing that can be shared, and of what belongs to
// it. It panics when kind is another one: that is a mistake of the program.
func sharedPath(env string, kind latchkey.Kind, id string, more ...string) string {
	collection, ok := collections[kind]
	if !ok {
		panic(fmt.Sprintf("client: a %s cannot be shared", kind))
	}
	return join(append([]string{"environments", env, collection, id}, more...)...)
}

// Shares lists who has a role on a thing: a variable (by its name or id), a
// credential, a machine, a machine group, a connection or a flow.
func (c *Client) Shares(ctx context.Context, env string, kind latchkey.Kind, id string) iter.Seq2[latchkey.Share, error] {
	return list[latchkey.Share](ctx, c, sharedPath(env, kind, id, "shares"), nil)
}

// Share returns a principal's share of a thing. Of a credential it says what would
// become of its variables' grants if it were removed.
func (c *Client) Share(ctx context.Context, env string, kind latchkey.Kind, id, principal string) (latchkey.ShareDetail, error) {
	return call[latchkey.ShareDetail](ctx, c, http.MethodGet, sharedPath(env, kind, id, "shares", principal), nil)
}

// SetShare gives a principal a role on a thing, in place of the one it was given
// before.
func (c *Client) SetShare(ctx context.Context, env string, kind latchkey.Kind, id, principal string, in latchkey.ShareSet) (latchkey.Share, error) {
	return call[latchkey.Share](ctx, c, http.MethodPut, sharedPath(env, kind, id, "shares", principal), in)
}

// RemoveShare takes a role on a thing away that a principal was given. With
// removeVariableGrants nil the environment says whether the grants on a credential's
// variables go with it.
func (c *Client) RemoveShare(ctx context.Context, env string, kind latchkey.Kind, id, principal string, removeVariableGrants *bool) (latchkey.Unshared, error) {
	query := url.Values{}
	if removeVariableGrants != nil {
		query.Set("removeVariableGrants", strconv.FormatBool(*removeVariableGrants))
	}
	var u latchkey.Unshared
	return u, c.do(ctx, http.MethodDelete, sharedPath(env, kind, id, "shares", principal), query, nil, &u)
}

// SetOwner hands a thing over to another owner.
func (c *Client) SetOwner(ctx context.Context, env string, kind latchkey.Kind, id string, in latchkey.OwnerSet) (latchkey.Share, error) {
	return call[latchkey.Share](ctx, c, http.MethodPost, sharedPath(env, kind, id, "owner"), in)
}

// Principals lists whom something in an environment may be shared with: those
// whose name or login begins with prefix, or all.
func (c *Client) Principals(ctx context.Context, env, prefix string) iter.Seq2[latchkey.DirectoryEntry, error] {
	return list[latchkey.DirectoryEntry](ctx, c, join("environments", env, "principals"), filter("prefix", prefix))
}

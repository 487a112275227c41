package client

import (
	"context"
	"iter"
	"net/http"

	"latchkey.dev/latchkey"
)

// An AccessQuery asks why somebody may do something with a thing, or not.
type AccessQuery struct {
	Principal string        // id, login or a group's name; "" is the caller
	Kind      latchkey.Kind // one of latchkey.ExplainedKinds
	ID        string        // of the thing, or a variable's name; nothing for the environment
	Action    latchkey.Action
}

// Access returns whether a principal may do an action with a thing of an
// environment, or each action without one, and why.
func (c *Client) Access(ctx context.Context, env string, q AccessQuery) (x latchkey.Explanation, err error) {
	return x, c.do(ctx, http.MethodGet, join("environments", env, "access"),
		filter("principal", q.Principal, "kind", string(q.Kind), "id", q.ID, "action", string(q.Action)), nil, &x)
}

// Owned lists what a principal owns in an environment; "" is the caller.
func (c *Client) Owned(ctx context.Context, env, principal string) iter.Seq2[latchkey.OwnedThing, error] {
	return list[latchkey.OwnedThing](ctx, c, join("environments", env, "owned"), filter("principal", principal))
}

// HandOver makes another principal the owner of what one owns in an environment,
// at most latchkey.MaxHandOver things: as long as Next of the answer is not empty
// there is more, and After of the next request is to be that.
func (c *Client) HandOver(ctx context.Context, env string, in latchkey.HandOver) (latchkey.HandedOver, error) {
	return call[latchkey.HandedOver](ctx, c, http.MethodPost, join("environments", env, "hand-over"), in)
}

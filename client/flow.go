package client

import (
	"context"
	"iter"
	"net/http"
	"strconv"

	"latchkey.dev/latchkey"
)

// Flows lists the flows that the caller may see.
func (c *Client) Flows(ctx context.Context, env string, o ...ListOption) iter.Seq2[latchkey.Flow, error] {
	return list[latchkey.Flow](ctx, c, join("environments", env, "flows"), options(nil, o))
}

// Flow returns a flow in its newest revision.
func (c *Client) Flow(ctx context.Context, env string, id latchkey.FlowID) (latchkey.Flow, error) {
	return call[latchkey.Flow](ctx, c, http.MethodGet, join("environments", env, "flows", string(id)), nil)
}

// FlowRevision returns a flow in one of its revisions.
func (c *Client) FlowRevision(ctx context.Context, env string, id latchkey.FlowID, revision int) (latchkey.Flow, error) {
	return call[latchkey.Flow](ctx, c, http.MethodGet, join("environments", env, "flows", string(id), "revisions", strconv.Itoa(revision)), nil)
}

// CreateFlow makes a flow with its first revision.
func (c *Client) CreateFlow(ctx context.Context, env string, in latchkey.FlowCreate) (latchkey.Flow, error) {
	return call[latchkey.Flow](ctx, c, http.MethodPost, join("environments", env, "flows"), in)
}

// ReviseFlow adds a revision, which is in whole what in says.
func (c *Client) ReviseFlow(ctx context.Context, env string, id latchkey.FlowID, in latchkey.FlowCreate) (latchkey.Flow, error) {
	return call[latchkey.Flow](ctx, c, http.MethodPut, join("environments", env, "flows", string(id)), in)
}

// DeleteFlow removes a flow, also one in use if f says so. It can be restored.
func (c *Client) DeleteFlow(ctx context.Context, env string, id latchkey.FlowID, f latchkey.Force) error {
	return c.do(ctx, http.MethodDelete, join("environments", env, "flows", string(id)), forcing(f), nil, nil)
}

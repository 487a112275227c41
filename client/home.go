package client

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"latchkey.dev/latchkey"
)

// Attention returns what of an environment wants the caller's attention, the gravest
// first.
func (c *Client) Attention(ctx context.Context, env string) (latchkey.Attention, error) {
	return call[latchkey.Attention](ctx, c, http.MethodGet, join("environments", env, "attention"), nil)
}

// Activity counts the runs and releases of the last days; 0 is the server's default.
func (c *Client) Activity(ctx context.Context, env string, days int) (a latchkey.Activity, err error) {
	q := filter()
	if days != 0 {
		q.Set("days", strconv.Itoa(days))
	}
	err = c.do(ctx, http.MethodGet, join("environments", env, "activity"), q, nil, &a)
	return a, err
}

// Changes waits until something of an environment has changed since a cursor, or the
// time has passed; with the cursor "" it returns one at once.
func (c *Client) Changes(ctx context.Context, env, since string, wait time.Duration) (v latchkey.Changes, err error) {
	err = c.do(ctx, http.MethodGet, join("environments", env, "changes"), filter("since", since, "wait", wait.String()), nil, &v)
	return v, err
}

// Find returns things of an environment whose name has a text in it, at most
// latchkey.MaxFound.
func (c *Client) Find(ctx context.Context, env, text string) ([]latchkey.Found, error) {
	var p latchkey.Page[latchkey.Found]
	err := c.do(ctx, http.MethodGet, join("environments", env, "find"), filter("q", text), nil, &p)
	return p.Items, err
}

package client

import (
	"context"
	"iter"
	"net/http"
	"time"

	"latchkey.dev/latchkey"
)

// Connections lists the connections that the caller may see.
func (c *Client) Connections(ctx context.Context, env string, o ...ListOption) iter.Seq2[latchkey.Connection, error] {
	return list[latchkey.Connection](ctx, c, join("environments", env, "connections"), options(nil, o))
}

// Connection returns a connection.
func (c *Client) Connection(ctx context.Context, env string, id latchkey.ConnectionID) (latchkey.Connection, error) {
	return call[latchkey.Connection](ctx, c, http.MethodGet, join("environments", env, "connections", string(id)), nil)
}

// CreateConnection makes a connection.
func (c *Client) CreateConnection(ctx context.Context, env string, in latchkey.ConnectionCreate) (latchkey.Connection, error) {
	return call[latchkey.Connection](ctx, c, http.MethodPost, join("environments", env, "connections"), in)
}

// UpdateConnection changes what is not nil in in.
func (c *Client) UpdateConnection(ctx context.Context, env string, id latchkey.ConnectionID, in latchkey.ConnectionUpdate) (latchkey.Connection, error) {
	return call[latchkey.Connection](ctx, c, http.MethodPatch, join("environments", env, "connections", string(id)), in)
}

// DeleteConnection removes a connection, also one in use if f says so. It can be restored.
func (c *Client) DeleteConnection(ctx context.Context, env string, id latchkey.ConnectionID, f latchkey.Force) error {
	return c.do(ctx, http.MethodDelete, join("environments", env, "connections", string(id)), forcing(f), nil, nil)
}

// TestConnection has the connection's agent sign in at its target, and waits for
// the result, at most as long as wait (0 is what the server does by itself). When
// the result says pending, ConnectionTest goes on waiting. force makes one more
// attempt after the target has refused the secret repeatedly.
func (c *Client) TestConnection(ctx context.Context, env string, id latchkey.ConnectionID, force bool, wait time.Duration) (latchkey.ConnectionTest, error) {
	q := filter()
	if force {
		q.Set("force", "true")
	}
	if wait > 0 {
		q.Set("wait", wait.String())
	}
	var out latchkey.ConnectionTest
	err := c.do(ctx, http.MethodPost, join("environments", env, "connections", string(id), "test"), q, nil, &out)
	return out, err
}

// ConnectionTest returns a test of a connection, the newest one if run is "". It
// waits for the test's end, at most as long as wait.
func (c *Client) ConnectionTest(ctx context.Context, env string, id latchkey.ConnectionID, run latchkey.RunID, wait time.Duration) (latchkey.ConnectionTest, error) {
	q := filter("run", string(run))
	if wait > 0 {
		q.Set("wait", wait.String())
	}
	var out latchkey.ConnectionTest
	err := c.do(ctx, http.MethodGet, join("environments", env, "connections", string(id), "test"), q, nil, &out)
	return out, err
}

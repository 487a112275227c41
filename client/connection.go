package client

import (
	"context"
	"iter"
	"net/http"

	"latchkey.dev/latchkey"
)

// Connections lists the connections that the caller may see.
func (c *Client) Connections(ctx context.Context, env string) iter.Seq2[latchkey.Connection, error] {
	return list[latchkey.Connection](ctx, c, join("environments", env, "connections"), nil)
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

// DeleteConnection removes a connection.
func (c *Client) DeleteConnection(ctx context.Context, env string, id latchkey.ConnectionID) error {
	return c.do(ctx, http.MethodDelete, join("environments", env, "connections", string(id)), nil, nil, nil)
}

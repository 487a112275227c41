package client

import (
	"context"
	"iter"
	"net/http"

	"latchkey.dev/latchkey"
)

// Environments lists the environments that the caller may see.
func (c *Client) Environments(ctx context.Context, o ...ListOption) iter.Seq2[latchkey.Environment, error] {
	return list[latchkey.Environment](ctx, c, "/environments", options(nil, o))
}

// Environment returns the environment with an id or a name.
func (c *Client) Environment(ctx context.Context, env string) (latchkey.Environment, error) {
	return call[latchkey.Environment](ctx, c, http.MethodGet, join("environments", env), nil)
}

// CreateEnvironment makes an environment.
func (c *Client) CreateEnvironment(ctx context.Context, in latchkey.EnvironmentCreate) (latchkey.Environment, error) {
	return call[latchkey.Environment](ctx, c, http.MethodPost, "/environments", in)
}

// UpdateEnvironment changes what is not nil in in.
func (c *Client) UpdateEnvironment(ctx context.Context, env string, in latchkey.EnvironmentUpdate) (latchkey.Environment, error) {
	return call[latchkey.Environment](ctx, c, http.MethodPatch, join("environments", env), in)
}

// DeleteEnvironment removes an environment.
func (c *Client) DeleteEnvironment(ctx context.Context, env string) error {
	return c.do(ctx, http.MethodDelete, join("environments", env), nil, nil, nil)
}

// Members lists who has a role in an environment.
func (c *Client) Members(ctx context.Context, env string) iter.Seq2[latchkey.Member, error] {
	return list[latchkey.Member](ctx, c, join("environments", env, "members"), nil)
}

// SetMember gives a principal, by id or login, a role in an environment.
func (c *Client) SetMember(ctx context.Context, env, principal string, role latchkey.EnvironmentRole) error {
	in := struct {
		Role latchkey.EnvironmentRole `json:"role"`
	}{role}
	return c.do(ctx, http.MethodPut, join("environments", env, "members", principal), nil, in, nil)
}

// RemoveMember takes a principal's role in an environment away.
func (c *Client) RemoveMember(ctx context.Context, env, principal string) error {
	return c.do(ctx, http.MethodDelete, join("environments", env, "members", principal), nil, nil, nil)
}

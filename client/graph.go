package client

import (
	"context"
	"iter"
	"net/http"
	"net/url"

	"latchkey.dev/latchkey"
)

// forcing returns the part of a request that deletes what may be in use.
func forcing(f latchkey.Force) url.Values {
	if !f.Force {
		return nil
	}
	return filter("force", "true", "impact", f.Hash)
}

// Dependencies returns what a thing uses, directly and by others.
func (c *Client) Dependencies(ctx context.Context, env string, kind latchkey.Kind, id string) (latchkey.Dependencies, error) {
	return call[latchkey.Dependencies](ctx, c, http.MethodGet, sharedPath(env, kind, id, "dependencies"), nil)
}

// Dependents returns what uses a thing, directly and by others.
func (c *Client) Dependents(ctx context.Context, env string, kind latchkey.Kind, id string) (latchkey.Dependencies, error) {
	return call[latchkey.Dependencies](ctx, c, http.MethodGet, sharedPath(env, kind, id, "dependents"), nil)
}

// Impact returns what an action on a thing would do. With latchkey.ImpactUnshare
// principal is whom it would no longer be shared with.
func (c *Client) Impact(ctx context.Context, env string, kind latchkey.Kind, id string, action latchkey.ImpactAction, principal string) (latchkey.Impact, error) {
	var i latchkey.Impact
	return i, c.do(ctx, http.MethodGet, sharedPath(env, kind, id, "impact"), filter("action", string(action), "principal", principal), nil, &i)
}

// SecretUses finds the variables, in every environment, that refer to a secret of a
// vault, or to any of the vault's if secret is "".
func (c *Client) SecretUses(ctx context.Context, vault, secret string) iter.Seq2[latchkey.SecretUse, error] {
	return list[latchkey.SecretUse](ctx, c, join("secret-uses"), filter("vault", vault, "secret", secret))
}

// Deleted lists what was deleted in an environment and can be restored, newest
// first.
func (c *Client) Deleted(ctx context.Context, env string) iter.Seq2[latchkey.Deleted, error] {
	return list[latchkey.Deleted](ctx, c, join("environments", env, "deleted"), nil)
}

// Restore takes the deletion of a component back.
func (c *Client) Restore(ctx context.Context, env, id string, in latchkey.Restore) (latchkey.Component, error) {
	return call[latchkey.Component](ctx, c, http.MethodPost, join("environments", env, "deleted", id, "restore"), in)
}

// Purge removes a deleted component for good.
func (c *Client) Purge(ctx context.Context, env, id string) error {
	return c.do(ctx, http.MethodDelete, join("environments", env, "deleted", id), nil, nil, nil)
}

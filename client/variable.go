package client

import (
	"context"
	"iter"
	"net/http"

	"latchkey.dev/latchkey"
)

// Variables lists an environment's variables, those of one type if it is not
// empty.
func (c *Client) Variables(ctx context.Context, env string, t latchkey.VariableType, o ...ListOption) iter.Seq2[latchkey.Variable, error] {
	return list[latchkey.Variable](ctx, c, join("environments", env, "variables"), options(filter("type", string(t)), o))
}

// Variable returns the variable with a unique name or an id.
func (c *Client) Variable(ctx context.Context, env, ref string) (latchkey.Variable, error) {
	return call[latchkey.Variable](ctx, c, http.MethodGet, join("environments", env, "variables", ref), nil)
}

// CreateVariable makes a variable. The check of a secret variable goes on after
// it returns.
func (c *Client) CreateVariable(ctx context.Context, env string, in latchkey.VariableCreate) (latchkey.Variable, error) {
	return call[latchkey.Variable](ctx, c, http.MethodPost, join("environments", env, "variables"), in)
}

// UpdateVariable changes what is not nil in in.
func (c *Client) UpdateVariable(ctx context.Context, env, ref string, in latchkey.VariableUpdate) (latchkey.Variable, error) {
	return call[latchkey.Variable](ctx, c, http.MethodPatch, join("environments", env, "variables", ref), in)
}

// DeleteVariable removes a variable, also one in use if f says so. It can be restored.
func (c *Client) DeleteVariable(ctx context.Context, env, ref string, f latchkey.Force) error {
	return c.do(ctx, http.MethodDelete, join("environments", env, "variables", ref), forcing(f), nil, nil)
}

// CheckVariable starts the check of a secret variable anew.
func (c *Client) CheckVariable(ctx context.Context, env, ref string) (latchkey.Variable, error) {
	return call[latchkey.Variable](ctx, c, http.MethodPost, join("environments", env, "variables", ref, "check"), nil)
}

// CheckReference says whether the caller and the service may read the secret that a
// reference names, and saves nothing. It takes up to 30 seconds.
func (c *Client) CheckReference(ctx context.Context, env string, ref latchkey.SecretReference) (latchkey.Check, error) {
	return call[latchkey.Check](ctx, c, http.MethodPost, join("environments", env, "references", "check"), ref)
}

// OverrideCheck lets a variable's reference, which must be the one given as its
// ARM id, be used without a passed check, on record.
func (c *Client) OverrideCheck(ctx context.Context, env, ref, reference, reason string) (latchkey.Variable, error) {
	in := struct {
		Reference string `json:"reference"`
		Reason    string `json:"reason"`
	}{reference, reason}
	return call[latchkey.Variable](ctx, c, http.MethodPost, join("environments", env, "variables", ref, "override"), in)
}

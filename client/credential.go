package client

import (
	"context"
	"iter"
	"net/http"

	"latchkey.dev/latchkey"
)

// Credentials lists the credentials that the caller may see.
func (c *Client) Credentials(ctx context.Context, env string, o ...ListOption) iter.Seq2[latchkey.Credential, error] {
	return list[latchkey.Credential](ctx, c, join("environments", env, "credentials"), options(nil, o))
}

// Credential returns a credential: what it refers to, never a value.
func (c *Client) Credential(ctx context.Context, env string, id latchkey.CredentialID) (latchkey.Credential, error) {
	return call[latchkey.Credential](ctx, c, http.MethodGet, join("environments", env, "credentials", string(id)), nil)
}

// Releases lists the releases of a credential, refused ones too, newest first.
func (c *Client) Releases(ctx context.Context, env string, id latchkey.CredentialID) iter.Seq2[latchkey.ReleaseRecord, error] {
	return list[latchkey.ReleaseRecord](ctx, c, join("environments", env, "credentials", string(id), "releases"), nil)
}

// CreateCredential makes a credential.
func (c *Client) CreateCredential(ctx context.Context, env string, in latchkey.CredentialCreate) (latchkey.Credential, error) {
	return call[latchkey.Credential](ctx, c, http.MethodPost, join("environments", env, "credentials"), in)
}

// UpdateCredential changes what is not nil in in.
func (c *Client) UpdateCredential(ctx context.Context, env string, id latchkey.CredentialID, in latchkey.CredentialUpdate) (latchkey.Credential, error) {
	return call[latchkey.Credential](ctx, c, http.MethodPatch, join("environments", env, "credentials", string(id)), in)
}

// DeleteCredential removes a credential, also one in use if f says so. It can be restored.
func (c *Client) DeleteCredential(ctx context.Context, env string, id latchkey.CredentialID, f latchkey.Force) error {
	return c.do(ctx, http.MethodDelete, join("environments", env, "credentials", string(id)), forcing(f), nil, nil)
}

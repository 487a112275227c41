package client

import (
	"context"
	"iter"
	"net/http"
	"net/url"

	"latchkey.dev/latchkey"
)

// AzureTenants lists the tenants of Azure that are linked.
func (c *Client) AzureTenants(ctx context.Context) iter.Seq2[latchkey.AzureTenant, error] {
	return list[latchkey.AzureTenant](ctx, c, "/azure/tenants", nil)
}

// LinkAzureTenant has vaults of a tenant of Azure be read from now on.
func (c *Client) LinkAzureTenant(ctx context.Context, in latchkey.AzureTenantLink) (latchkey.AzureTenant, error) {
	return call[latchkey.AzureTenant](ctx, c, http.MethodPost, "/azure/tenants", in)
}

// UnlinkAzureTenant ends it.
func (c *Client) UnlinkAzureTenant(ctx context.Context, id string) error {
	return c.do(ctx, http.MethodDelete, join("azure", "tenants", id), nil, nil, nil)
}

// AddIdentity says who a user is in another directory.
func (c *Client) AddIdentity(ctx context.Context, user string, in latchkey.ExternalIdentity) (latchkey.ExternalIdentity, error) {
	return call[latchkey.ExternalIdentity](ctx, c, http.MethodPost, join("users", user, "external-identities"), in)
}

// RemoveIdentity takes an identity of a user away.
func (c *Client) RemoveIdentity(ctx context.Context, user string, e latchkey.ExternalIdentity) error {
	query := url.Values{"issuer": {e.Issuer}, "tenant": {e.Tenant}, "objectId": {e.ObjectID}}
	return c.do(ctx, http.MethodDelete, join("users", user, "external-identities"), query, nil, nil)
}

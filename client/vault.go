package client

import (
	"context"
	"iter"
	"net/http"
	"time"

	"latchkey.dev/latchkey"
)

// Vaults lists the embedded vaults that the caller may see.
func (c *Client) Vaults(ctx context.Context, o ...ListOption) iter.Seq2[latchkey.EmbeddedVault, error] {
	return list[latchkey.EmbeddedVault](ctx, c, "/vaults", options(nil, o))
}

// Vault returns the embedded vault with a name.
func (c *Client) Vault(ctx context.Context, name string) (latchkey.EmbeddedVault, error) {
	return call[latchkey.EmbeddedVault](ctx, c, http.MethodGet, join("vaults", name), nil)
}

// CreateVault makes an embedded vault.
func (c *Client) CreateVault(ctx context.Context, in latchkey.EmbeddedVaultCreate) (latchkey.EmbeddedVault, error) {
	return call[latchkey.EmbeddedVault](ctx, c, http.MethodPost, "/vaults", in)
}

// DeleteVault removes an embedded vault.
func (c *Client) DeleteVault(ctx context.Context, name string) error {
	return c.do(ctx, http.MethodDelete, join("vaults", name), nil, nil, nil)
}

// RoleAssignments lists who has a role in an embedded vault.
func (c *Client) RoleAssignments(ctx context.Context, vault string) iter.Seq2[latchkey.RoleAssignment, error] {
	return list[latchkey.RoleAssignment](ctx, c, join("vaults", vault, "role-assignments"), nil)
}

// AssignRole gives a principal a role in an embedded vault.
func (c *Client) AssignRole(ctx context.Context, vault string, in latchkey.RoleAssignmentCreate) (latchkey.RoleAssignment, error) {
	return call[latchkey.RoleAssignment](ctx, c, http.MethodPost, join("vaults", vault, "role-assignments"), in)
}

// RemoveRole takes a role assignment away.
func (c *Client) RemoveRole(ctx context.Context, vault string, id latchkey.RoleAssignmentID) error {
	return c.do(ctx, http.MethodDelete, join("vaults", vault, "role-assignments", string(id)), nil, nil, nil)
}

// A VaultToken is the caller's access token for the embedded vaults.
type VaultToken struct {
	Token     string    `json:"token"`
	ExpiresAt time.Time `json:"expiresAt"`
}

// VaultToken makes an access token for the embedded vaults.
func (c *Client) VaultToken(ctx context.Context) (VaultToken, error) {
	return call[VaultToken](ctx, c, http.MethodPost, "/vaults/access-token", nil)
}

// A VaultConnection says how to reach the embedded vaults: {vault}.{Domain}
// is served at Address, with a certificate that CAPEM vouches for.
type VaultConnection struct {
	Address string `json:"address"`
	Domain  string `json:"domain"` // with the port
	CAPEM   string `json:"caPem"`

	// Authority is where service principals get tokens for the embedded vaults, and
	// Tenant the id of the installation there.
	Authority string `json:"authority"`
	Tenant    string `json:"tenantId"`
}

// VaultConnection returns how to reach the embedded vaults.
func (c *Client) VaultConnection(ctx context.Context) (VaultConnection, error) {
	return call[VaultConnection](ctx, c, http.MethodGet, "/vaults/connection", nil)
}

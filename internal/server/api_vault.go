package server

import (
	"context"
	"time"

	"latchkey.dev/latchkey"
)

// InVault is the part of a request that names an embedded vault.
type InVault struct {
	Vault string `path:"vault" doc:"name of the embedded vault"`
}

type vaultIn struct{ InVault }

func (s *server) vaults(ctx context.Context, who latchkey.Caller, in *searchIn) (*listOf[latchkey.EmbeddedVault], error) {
	return list(s.b.Vaults(ctx, who, in.options()))
}

type vaultCreateIn struct {
	Body latchkey.EmbeddedVaultCreate
}

func (s *server) createVault(ctx context.Context, who latchkey.Caller, in *vaultCreateIn) (*created[latchkey.EmbeddedVault], error) {
	v, err := s.b.CreateVault(ctx, who, in.Body)
	return at(v, "vaults", v.Name), err
}

func (s *server) vault(ctx context.Context, who latchkey.Caller, in *vaultIn) (*one[latchkey.EmbeddedVault], error) {
	return show(s.b.Vault(ctx, who, in.Vault))
}

func (s *server) deleteVault(ctx context.Context, who latchkey.Caller, in *vaultIn) (*none, error) {
	return done(s.b.DeleteVault(ctx, who, in.Vault))
}

type rolesIn struct {
	InVault
	Paging
}

func (s *server) roleAssignments(ctx context.Context, who latchkey.Caller, in *rolesIn) (*listOf[latchkey.RoleAssignment], error) {
	return list(s.b.RoleAssignments(ctx, who, in.Vault, in.options()))
}

type roleCreateIn struct {
	InVault
	Body latchkey.RoleAssignmentCreate
}

func (s *server) assignRole(ctx context.Context, who latchkey.Caller, in *roleCreateIn) (*created[latchkey.RoleAssignment], error) {
	a, err := s.b.AssignRole(ctx, who, in.Vault, in.Body)
	return at(a, "vaults", in.Vault, "role-assignments", string(a.ID)), err
}

type roleIn struct {
	InVault
	ID latchkey.RoleAssignmentID `path:"id" doc:"id of the role assignment, ra_…"`
}

func (s *server) removeRole(ctx context.Context, who latchkey.Caller, in *roleIn) (*none, error) {
	return done(s.b.RemoveRole(ctx, who, in.Vault, in.ID))
}

// vaultToken is an access token for the embedded vaults.
type vaultToken struct {
	Token     string    `json:"token" doc:"what the Azure SDKs send as bearer token"`
	ExpiresAt time.Time `json:"expiresAt"`
}

func (s *server) vaultToken(ctx context.Context, who latchkey.Caller, _ *struct{}) (*one[vaultToken], error) {
	token, expires, err := s.b.VaultToken(ctx, who)
	return show(vaultToken{token, expires}, err)
}

// vaultConnection says how to reach the embedded vaults.
type vaultConnection struct {
	Address string `json:"address" doc:"where all embedded vaults are served" example:"127.0.0.1:8443"`
	Domain  string `json:"domain" doc:"the vault x is x. and this" example:"vault.localhost:8443"`
	CAPEM   string `json:"caPem" doc:"the certificate that vouches for them"`

	Authority string `json:"authority" doc:"where service principals get access tokens for them, as from Microsoft Entra ID" example:"https://login.vault.localhost:8443"`
	TenantID  string `json:"tenantId" doc:"the tenant to name there: the id of the installation"`
}

func (s *server) vaultConnection(context.Context, latchkey.Caller, *struct{}) (*one[vaultConnection], error) {
	return show(vaultConnection{s.VaultAddress, s.VaultDomain, string(s.CAPEM), s.VaultAuthority, s.Broker.Tenant()}, nil)
}

package server

import (
	"context"

	"latchkey.dev/latchkey"
)

func (s *server) azureTenants(ctx context.Context, who latchkey.Caller, in *listIn) (*listOf[latchkey.AzureTenant], error) {
	return list(s.b.AzureTenants(ctx, who, in.options()))
}

type azureTenantLinkIn struct{ Body latchkey.AzureTenantLink }

func (s *server) linkAzureTenant(ctx context.Context, who latchkey.Caller, in *azureTenantLinkIn) (*created[latchkey.AzureTenant], error) {
	t, err := s.b.LinkAzureTenant(ctx, who, in.Body)
	return at(t, "azure", "tenants", t.ID), err
}

type azureTenantIn struct {
	ID string `path:"id" doc:"id of the tenant, a GUID"`
}

func (s *server) unlinkAzureTenant(ctx context.Context, who latchkey.Caller, in *azureTenantIn) (*none, error) {
	return done(s.b.UnlinkAzureTenant(ctx, who, in.ID))
}

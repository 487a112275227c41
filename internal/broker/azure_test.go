package broker

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"latchkey.dev/internal/db"
	"latchkey.dev/latchkey"
)

const (
	tenantA = "72f988bf-86f1-41af-91ab-2d7cd011db47"
	tenantB = "00000000-86f1-41af-91ab-2d7cd011db47"
)

func TestAzureTenants(t *testing.T) {
	eachOffice(t, func(o *office) {
		ctx := o.t.Context()
		link := func(who latchkey.Caller, id string) error {
			_, err := o.LinkAzureTenant(ctx, who, latchkey.AzureTenantLink{ID: id})
			return err
		}
		if err := link(o.admin, strings.ToUpper(tenantA)); err != nil {
			o.t.Fatal(err)
		}
		o.fails(link(o.admin, tenantA), latchkey.ErrConflict, "exists")
		o.fails(link(o.admin, "contoso.example"), latchkey.ErrInvalid, "invalid")
		o.fails(link(o.ada, tenantB), latchkey.ErrDenied, "not-authorized")
		if err := link(o.admin, tenantB); err != nil {
			o.t.Fatal(err)
		}
		ids, err := o.LinkedAzureTenants(ctx)
		if want := []string{tenantB, tenantA}; err != nil || !slices.Equal(ids, want) {
			o.t.Errorf("LinkedAzureTenants = %q, %v; want %q", ids, err, want)
		}
		first, err := o.AzureTenants(ctx, o.admin, latchkey.PageOptions{Limit: 1})
		if err != nil || len(first.Items) != 1 || first.Items[0].ID != tenantB || first.Items[0].LinkedBy != o.admin.ID || first.Next == "" {
			o.t.Errorf("AzureTenants = %+v, %v; want the first of two", first, err)
		}
		rest, err := o.AzureTenants(ctx, o.admin, latchkey.PageOptions{Limit: 1, After: first.Next})
		if err != nil || len(rest.Items) != 1 || rest.Items[0].ID != tenantA || rest.Next != "" {
			o.t.Errorf("the next page = %+v, %v; want the second of two", rest, err)
		}
		_, err = o.AzureTenants(ctx, o.ada, latchkey.PageOptions{})
		o.fails(err, latchkey.ErrDenied, "not-authorized")
		if err := o.UnlinkAzureTenant(ctx, o.ada, tenantA); !errors.Is(err, latchkey.ErrNotFound) {
			o.t.Errorf("UnlinkAzureTenant by somebody = %v; want not found", err)
		}
		if err := o.UnlinkAzureTenant(ctx, o.admin, strings.ToUpper(tenantA)); err != nil {
			o.t.Fatal(err)
		}
		if err := o.UnlinkAzureTenant(ctx, o.admin, tenantA); !errors.Is(err, latchkey.ErrNotFound) {
			o.t.Errorf("UnlinkAzureTenant again = %v; want not found", err)
		}
		got := o.trail(db.AuditFilter{Action: "azure-tenant."})
		want := []string{
			"azure-tenant.link ok  by admin on " + tenantA,
			"azure-tenant.link denied not-authorized by ada on " + tenantB,
			"azure-tenant.link ok  by admin on " + tenantB,
			"azure-tenant.read denied not-authorized by ada on this installation",
			"azure-tenant.unlink ok  by admin on " + tenantA,
		}
		if !slices.Equal(got, want) {
			o.t.Errorf("trail = %q; want %q", got, want)
		}
	})
}

func TestIdentities(t *testing.T) {
	eachOffice(t, func(o *office) {
		ctx := o.t.Context()
		object := "AAAAAAAA-0000-0000-0000-000000000001"
		e, err := o.AddIdentity(ctx, o.admin, "ada", latchkey.EntraIdentity(tenantA, object))
		if err != nil {
			o.t.Fatal(err)
		}
		want := latchkey.ExternalIdentity{Issuer: "https://login.microsoftonline.com/" + tenantA + "/v2.0", Tenant: tenantA, ObjectID: strings.ToLower(object)}
		if e != want {
			o.t.Errorf("AddIdentity = %+v; want %+v", e, want)
		}
		_, err = o.AddIdentity(ctx, o.admin, "bob", want)
		o.fails(err, latchkey.ErrConflict, "identity-taken")
		if !strings.Contains(err.Error(), string(o.ada.ID)) {
			o.t.Errorf("%v; want it to name ada", err)
		}
		_, err = o.AddIdentity(ctx, o.ada, "ada", latchkey.EntraIdentity(tenantA, "another"))
		o.fails(err, latchkey.ErrDenied, "not-authorized")
		_, err = o.AddIdentity(ctx, o.admin, "bob", latchkey.ExternalIdentity{Issuer: "http://id.example"})
		o.fails(err, latchkey.ErrInvalid, "invalid")
		if _, err = o.AddIdentity(ctx, o.ada, "bob", want); !errors.Is(err, latchkey.ErrNotFound) {
			o.t.Errorf("AddIdentity of somebody else's by ada = %v; want not found", err)
		}
		if err := o.RemoveIdentity(ctx, o.admin, "bob", want); !errors.Is(err, latchkey.ErrNotFound) {
			o.t.Errorf("RemoveIdentity of one that bob has not = %v; want not found", err)
		}
		if err := o.RemoveIdentity(ctx, o.admin, "ada", latchkey.EntraIdentity(strings.ToUpper(tenantA), object)); err != nil {
			o.t.Fatal(err)
		}
		if u, err := o.User(ctx, o.admin, "ada"); err != nil || len(u.ExternalIdentities) != 0 {
			o.t.Errorf("ada = %+v, %v; want no identities", u, err)
		}
		for i := range latchkey.MaxIdentities + 1 {
			_, err = o.AddIdentity(ctx, o.admin, "bob", latchkey.EntraIdentity(tenantA, strings.Repeat("o", i+1)))
		}
		o.fails(err, latchkey.ErrConflict, "too-many")
		got := o.trail(db.AuditFilter{Action: "user.identity.", Subject: string(o.ada.ID)})
		if want := []string{"user.identity.add ok  by admin on ada", "user.identity.add denied not-authorized by ada on ada", "user.identity.remove ok  by admin on ada"}; !slices.Equal(got, want) {
			o.t.Errorf("trail = %q; want %q", got, want)
		}
	})
}

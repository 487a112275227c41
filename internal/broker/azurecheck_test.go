package broker_test

import (
	"context"
	"testing"

	"latchkey.dev/internal/latchkeytest"
	"latchkey.dev/internal/vault"
	"latchkey.dev/latchkey"
)

// TestForeignTenantIsExplained checks a reference to a vault of a tenant that is not
// linked: the check says so, and not that a role is missing.
func TestForeignTenantIsExplained(t *testing.T) {
	const linked, other = "72f988bf-86f1-41af-91ab-2d7cd011db47", "00000000-86f1-41af-91ab-2d7cd011db47"
	refusal := &vault.Error{Kind: vault.ErrDenied, Check: "tenant", Msg: "the key vault belongs to the Azure tenant " + linked + ", and this installation is linked to " + other, Remedy: "link it"}
	s := latchkeytest.New(t, latchkeytest.Options{OpenVault: func(latchkey.VaultReference, bool) vault.Vault { return refuses{refusal} }})
	ctx := t.Context()
	ref := latchkey.SecretReference{SubscriptionID: linked, ResourceGroup: "rg", Vault: "erp", Secret: "x"}
	if _, err := s.Broker.CreateEnvironment(ctx, s.Admin, latchkey.EnvironmentCreate{Name: "prod", Vaults: []string{ref.VaultRef().String()}}); err != nil {
		t.Fatal(err)
	}
	v, err := s.Broker.CreateVariable(ctx, s.Admin, "prod", latchkey.VariableCreate{DisplayName: "ERP", Type: latchkey.TypeSecret, Secret: &ref})
	if err != nil {
		t.Fatal(err)
	}
	latchkeytest.Eventually(t, latchkeytest.Patience, "the check", func() bool {
		v, err = s.Broker.Variable(ctx, s.Admin, "prod", v.Name)
		return err != nil || v.Check.State != latchkey.CheckChecking
	})
	if c := v.Check; c.State != latchkey.CheckFailed || c.Check != "tenant" || c.Message != refusal.Msg || c.Remedy != refusal.Remedy {
		t.Errorf("check = %+v; want it to fail for the tenant, with both ids", c)
	}
}

// refuses is a vault that refuses everything.
type refuses struct{ err error }

func (v refuses) Get(context.Context, string) (vault.Value, error) { return vault.Value{}, v.err }
func (v refuses) CheckRead(context.Context, string) error          { return v.err }

package latchkeytest

import (
	"testing"
	"time"

	"latchkey.dev/latchkey"
)

// A Chain is an environment with everything that a run needs: the admin owns
// all of it.
type Chain struct {
	*Service
	Env        string // name
	Vault      latchkey.EmbeddedVault
	Reference  latchkey.SecretReference
	Username   latchkey.Variable
	Password   latchkey.Variable
	Credential latchkey.Credential
	Machine    *Machine
	Connection latchkey.Connection
	Flow       latchkey.Flow
}

// Values of a chain's variable and secret.
const (
	ChainUser     = `CONTOSO\bot`
	ChainPassword = "correct horse battery staple"
)

// Chain makes a chain whose reference has passed its check. Its credential
// allows exposure descriptor.
func (s *Service) Chain(t testing.TB) *Chain {
	t.Helper()
	ctx, b := t.Context(), s.Broker
	c := &Chain{Service: s, Env: "prod"}
	if _, err := b.CreateEnvironment(ctx, s.Admin, latchkey.EnvironmentCreate{Name: c.Env}); err != nil {
		t.Fatal(err)
	}
	var err error
	if c.Vault, err = b.CreateVault(ctx, s.Admin, latchkey.EmbeddedVaultCreate{Name: "erp"}); err != nil {
		t.Fatal(err)
	}
	c.SetSecret(t, "erp-password", ChainPassword)
	ref := c.Vault.Reference()
	c.Reference = latchkey.SecretReference{SubscriptionID: ref.SubscriptionID, ResourceGroup: ref.ResourceGroup, Vault: ref.Vault, Secret: "erp-password"}
	user := ChainUser
	if c.Username, err = b.CreateVariable(ctx, s.Admin, c.Env, latchkey.VariableCreate{DisplayName: "ERP user", Type: latchkey.TypeText, Value: &user}); err != nil {
		t.Fatal(err)
	}
	if c.Password, err = b.CreateVariable(ctx, s.Admin, c.Env, latchkey.VariableCreate{DisplayName: "ERP password", Type: latchkey.TypeSecret, Secret: &c.Reference}); err != nil {
		t.Fatal(err)
	}
	c.Password = c.AwaitCheck(t, c.Password.Name, latchkey.CheckPassed)
	c.Credential, err = b.CreateCredential(ctx, s.Admin, c.Env, latchkey.CredentialCreate{
		Name: "ERP bot", Usages: []latchkey.Usage{latchkey.UsageConnection}, Exposure: latchkey.ExposureDescriptor,
		Slots: map[latchkey.Slot]string{latchkey.SlotUsername: c.Username.Name, latchkey.SlotPassword: c.Password.Name},
	})
	if err != nil {
		t.Fatal(err)
	}
	c.Machine = s.Machine(t, c.Env, "bot1")
	c.Connection, err = b.CreateConnection(ctx, s.Admin, c.Env, latchkey.ConnectionCreate{
		Name: "ERP on bot1", Target: latchkey.Target{Machine: c.Machine.ID}, Driver: latchkey.DriverNone, Credential: c.Credential.ID,
	})
	if err != nil {
		t.Fatal(err)
	}
	c.Flow, err = b.CreateFlow(ctx, s.Admin, c.Env, latchkey.FlowCreate{
		Name: "invoices", Command: []string{Program, "true"}, Timeout: latchkey.Duration(time.Minute), Handover: latchkey.HandoverDescriptor,
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// SetSecret sets a secret of the chain's vault.
func (c *Chain) SetSecret(t testing.TB, name, value string) latchkey.VaultSecret {
	t.Helper()
	v, err := c.Broker.SetSecret(t.Context(), c.Admin, c.Vault.Name, name, latchkey.NewSecret(value), latchkey.SecretAttributes{Enabled: true})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// AwaitCheck waits until the check of a variable has the given state.
func (c *Chain) AwaitCheck(t testing.TB, name string, want latchkey.CheckState) latchkey.Variable {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		v, err := c.Broker.Variable(t.Context(), c.Admin, c.Env, name)
		if err != nil {
			t.Fatal(err)
		}
		if v.Check != nil && v.Check.State == want {
			return v
		}
		if time.Now().After(deadline) {
			t.Fatalf("check of %s = %+v; want %s", name, v.Check, want)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// Start starts a run of the chain's flow.
func (c *Chain) Start(t testing.TB) latchkey.Run {
	t.Helper()
	r, err := c.Broker.StartRun(t.Context(), c.Admin, c.Env, latchkey.RunCreate{Flow: c.Flow.ID, Connection: c.Connection.ID})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// SetCertificate sets a secret of the chain's vault as that of a Key Vault
// certificate, with the content type of a PFX.
func (c *Chain) SetCertificate(t testing.TB, name, value string) latchkey.VaultSecret {
	t.Helper()
	v, err := c.Broker.SetSecret(t.Context(), c.Admin, c.Vault.Name, name, latchkey.NewSecret(value), latchkey.SecretAttributes{Enabled: true, ContentType: "application/x-pkcs12"})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// Bind makes a variable with a user name, one that refers to a secret of the
// chain's vault, and a credential of both: name is part of the names of all three.
func (c *Chain) Bind(t testing.TB, name, username, secret string, in latchkey.CredentialCreate) latchkey.Credential {
	t.Helper()
	user, err := c.Broker.CreateVariable(t.Context(), c.Admin, c.Env, latchkey.VariableCreate{DisplayName: name + " user", Type: latchkey.TypeText, Value: &username})
	if err != nil {
		t.Fatal(err)
	}
	ref := c.Reference
	ref.Secret = secret
	v, err := c.Broker.CreateVariable(t.Context(), c.Admin, c.Env, latchkey.VariableCreate{DisplayName: name + " secret", Type: latchkey.TypeSecret, Secret: &ref})
	if err != nil {
		t.Fatal(err)
	}
	c.AwaitCheck(t, v.Name, latchkey.CheckPassed)
	in.Name = name
	in.Slots = map[latchkey.Slot]string{latchkey.SlotUsername: user.Name, in.Authentication.SecretSlot(): v.Name}
	made, err := c.Broker.CreateCredential(t.Context(), c.Admin, c.Env, in)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

// Share gives a principal a role on a thing of the chain, as its owner.
func (c *Chain) Share(t testing.TB, kind latchkey.Kind, ref, principal string, role latchkey.Role) {
	t.Helper()
	if _, err := c.Broker.SetShare(t.Context(), c.Admin, c.Env, kind, ref, principal, latchkey.ShareSet{Role: role}); err != nil {
		t.Fatal(err)
	}
}

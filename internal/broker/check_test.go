package broker_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"latchkey.dev/internal/latchkeytest"
	"latchkey.dev/internal/vault"
	"latchkey.dev/latchkey"
)

// secretVariable makes a secret variable that refers to a secret of the chain's
// vault, as who.
func secretVariable(t *testing.T, c *latchkeytest.Chain, who latchkey.Caller, display, secret string) latchkey.Variable {
	t.Helper()
	ref := c.Reference
	ref.Secret = secret
	v, err := c.Broker.CreateVariable(t.Context(), who, c.Env, latchkey.VariableCreate{DisplayName: display, Type: latchkey.TypeSecret, Secret: &ref})
	if err != nil {
		t.Fatal(err)
	}
	if v.Check == nil || v.Check.State != latchkey.CheckChecking {
		t.Fatalf("check of a new variable = %+v; want checking", v.Check)
	}
	return v
}

// serviceRole returns the role assignment of the service in the chain's vault.
func serviceRole(t *testing.T, c *latchkeytest.Chain) latchkey.RoleAssignmentID {
	t.Helper()
	p, err := c.Broker.RoleAssignments(t.Context(), c.Admin, c.Vault.Name, latchkey.PageOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range p.Items {
		if a.Principal == latchkey.ServiceIdentity {
			return a.ID
		}
	}
	t.Fatal("the service has no role in the vault")
	return ""
}

func TestCheckOfThePerson(t *testing.T) {
	c := latchkeytest.New(t, latchkeytest.Options{}).Chain(t)
	maker := c.User(t, "maker", c.Env, latchkey.EnvMaker)
	v := secretVariable(t, c, maker, "ERP password of maker", c.Reference.Secret)
	v = c.AwaitCheck(t, v.Name, latchkey.CheckFailed)
	want := "This variable didn't save properly. User is not authorized to read secrets from '" + c.Reference.String() + "' resource."
	if v.Check.Message != want || v.Check.Check != "person" || !strings.Contains(v.Check.Identity, "maker") || !strings.Contains(v.Check.Remedy, string(latchkey.VaultSecretsUser)) {
		t.Errorf("check = %+v; want the message %q about maker, and the role to give", v.Check, want)
	}
	_, err := c.Broker.CreateCredential(t.Context(), maker, c.Env, latchkey.CredentialCreate{
		Name: "x", Usages: []latchkey.Usage{latchkey.UsageConnection},
		Slots: map[latchkey.Slot]string{latchkey.SlotUsername: c.Username.Name, latchkey.SlotPassword: v.Name},
	})
	wantFields(t, err, "slots.username") // the maker may not see the admin's variable
	_, err = c.Broker.CreateCredential(t.Context(), c.Admin, c.Env, latchkey.CredentialCreate{
		Name: "x", Usages: []latchkey.Usage{latchkey.UsageConnection},
		Slots: map[latchkey.Slot]string{latchkey.SlotUsername: c.Username.Name, latchkey.SlotPassword: v.Name},
	})
	wantFields(t, err, "slots.password")
	if !strings.Contains(err.Error(), "check failed") {
		t.Errorf("error = %v; want one that says that the check failed", err)
	}
	if _, err := c.Broker.AssignRole(t.Context(), c.Admin, c.Vault.Name, latchkey.RoleAssignmentCreate{Principal: "maker", Role: latchkey.VaultSecretsUser, Secret: c.Reference.Secret}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Broker.CheckVariable(t.Context(), maker, c.Env, v.Name); err != nil {
		t.Fatal(err)
	}
	if v = c.AwaitCheck(t, v.Name, latchkey.CheckPassed); v.InForce == nil {
		t.Error("a reference that passed its check is not in force")
	}
}

func wantFields(t *testing.T, err error, fields ...string) {
	t.Helper()
	e, ok := errors.AsType[*latchkey.Error](err)
	if !ok || !errors.Is(err, latchkey.ErrInvalid) || len(e.Fields) != len(fields) {
		t.Fatalf("error = %v; want faults of %q", err, fields)
	}
	for i, f := range fields {
		if e.Fields[i].Field != f {
			t.Errorf("fault %d is of %s; want %s", i, e.Fields[i].Field, f)
		}
	}
}

func TestCheckOfTheService(t *testing.T) {
	c := latchkeytest.New(t, latchkeytest.Options{}).Chain(t)
	if err := c.Broker.RemoveRole(t.Context(), c.Admin, c.Vault.Name, serviceRole(t, c)); err != nil {
		t.Fatal(err)
	}
	// A role that shows metadata only is not enough.
	if _, err := c.Broker.AssignRole(t.Context(), c.Admin, c.Vault.Name, latchkey.RoleAssignmentCreate{Principal: latchkey.ServiceIdentity, Role: latchkey.VaultReader}); err != nil {
		t.Fatal(err)
	}
	v := secretVariable(t, c, c.Admin, "another", c.Reference.Secret)
	v = c.AwaitCheck(t, v.Name, latchkey.CheckFailed)
	if v.Check.Check != "service" || !strings.Contains(v.Check.Identity, string(latchkey.ServiceIdentity)) {
		t.Errorf("check = %+v; want it to name the service", v.Check)
	}
}

func TestCheckOfAMissingSecret(t *testing.T) {
	c := latchkeytest.New(t, latchkeytest.Options{}).Chain(t)
	v := secretVariable(t, c, c.Admin, "missing", "not-there")
	if v = c.AwaitCheck(t, v.Name, latchkey.CheckFailed); v.Check.Check != "secret" {
		t.Errorf("check = %+v; want it to name the secret", v.Check)
	}
	// A person who may not read learns nothing of what exists.
	maker := c.User(t, "maker", c.Env, latchkey.EnvMaker)
	v = secretVariable(t, c, maker, "missing too", "not-there")
	if v = c.AwaitCheck(t, v.Name, latchkey.CheckFailed); v.Check.Check != "person" {
		t.Errorf("check for a person without a role = %+v; want it to name the person", v.Check)
	}
}

// An unreachableVault cannot be reached until up is set.
type unreachableVault struct {
	vault.Vault
	up *atomic.Bool
}

func (v unreachableVault) CheckRead(ctx context.Context, name string) error {
	if !v.up.Load() {
		return &vault.Error{Kind: vault.ErrUnavailable, Msg: "the vault did not answer"}
	}
	return v.Vault.CheckRead(ctx, name)
}

func TestUnreachableVaultIsUnknownAndRetried(t *testing.T) {
	clock := new(latchkeytest.Clock)
	var c *latchkeytest.Chain
	var up atomic.Bool
	c = latchkeytest.New(t, latchkeytest.Options{Now: clock.Now, OpenVault: func(ref latchkey.VaultReference, _ bool) vault.Vault {
		if c == nil {
			return nil
		}
		v, err := c.OpenVault(ref)
		if err != nil {
			t.Error(err)
		}
		return unreachableVault{v, &up}
	}}).Chain(t)
	v := secretVariable(t, c, c.Admin, "another", c.Reference.Secret)
	v = c.AwaitCheck(t, v.Name, latchkey.CheckUnknown)
	if !strings.Contains(v.Check.Message, "ould not be checked") || v.Check.NextAt == nil || v.InForce != nil {
		t.Errorf("check = %+v, in force %v; want one that is tried again, and nothing in force", v.Check, v.InForce)
	}
	up.Store(true)
	clock.Step(v.Check.NextAt.Sub(clock.Now()))
	if v = c.AwaitCheck(t, v.Name, latchkey.CheckPassed); v.InForce == nil {
		t.Error("a reference that passed its check is not in force")
	}
}

func TestEditKeepsTheOldReferenceInForce(t *testing.T) {
	c := latchkeytest.New(t, latchkeytest.Options{}).Chain(t)
	old := c.Reference
	missing := old
	missing.Secret = "not-there"
	v, err := c.Broker.UpdateVariable(t.Context(), c.Admin, c.Env, c.Password.Name, latchkey.VariableUpdate{Secret: &missing})
	if err != nil {
		t.Fatal(err)
	}
	if v.Check.State != latchkey.CheckChecking || *v.Secret != missing || v.InForce == nil || *v.InForce != old {
		t.Errorf("after an edit the variable is %+v; want the new reference being checked and the old in force", v)
	}
	v = c.AwaitCheck(t, v.Name, latchkey.CheckFailed)
	c.Start(t)
	run := c.Machine.Claim(t)
	got, _, err := c.Machine.Get(t, run, run.Credential)
	if err != nil || got.Password.Reveal() != latchkeytest.ChainPassword {
		t.Errorf("release after a failed edit: %v; want the old secret", err)
	}
	c.Machine.Finish(t, run)
	c.SetSecret(t, "not-there", "now it is")
	if _, err := c.Broker.CheckVariable(t.Context(), c.Admin, c.Env, v.Name); err != nil {
		t.Fatal(err)
	}
	c.AwaitCheck(t, v.Name, latchkey.CheckPassed)
	c.Start(t)
	run = c.Machine.Claim(t)
	got, _, err = c.Machine.Get(t, run, run.Credential)
	if err != nil || got.Password.Reveal() != "now it is" {
		t.Errorf("release after the new reference passed: %v; want the new secret", err)
	}
}

func TestOverrideIsAnAdminsAndOnRecord(t *testing.T) {
	c := latchkeytest.New(t, latchkeytest.Options{}).Chain(t)
	maker := c.User(t, "maker", c.Env, latchkey.EnvMaker)
	v := secretVariable(t, c, maker, "mine", c.Reference.Secret)
	c.AwaitCheck(t, v.Name, latchkey.CheckFailed)
	_, err := c.Broker.OverrideCheck(t.Context(), maker, c.Env, v.Name, v.Secret.String(), "because")
	wantCode(t, err, latchkey.ErrDenied, "not-authorized")
	v, err = c.Broker.OverrideCheck(t.Context(), c.Admin, c.Env, v.Name, v.Secret.String(), "checked by hand")
	if err != nil {
		t.Fatal(err)
	}
	if v.InForce == nil || !v.Check.Overridden || v.Check.State != latchkey.CheckFailed {
		t.Errorf("after the override: %+v, in force %v; want failed, overridden and in force", v.Check, v.InForce)
	}
}

func TestEnvironmentListsItsVaults(t *testing.T) {
	c := latchkeytest.New(t, latchkeytest.Options{}).Chain(t)
	other, err := c.Broker.CreateVault(t.Context(), c.Admin, latchkey.EmbeddedVaultCreate{Name: "other"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Broker.UpdateEnvironment(t.Context(), c.Admin, c.Env, latchkey.EnvironmentUpdate{Vaults: &[]string{other.ARMID}}); err != nil {
		t.Fatal(err)
	}
	_, err = c.Broker.CreateVariable(t.Context(), c.Admin, c.Env, latchkey.VariableCreate{DisplayName: "x", Type: latchkey.TypeSecret, Secret: &c.Reference})
	wantFields(t, err, "secret.vault")
}

// TestReferencesAreCheckedDaily takes a person's role away after the check has
// passed: the next one, within a day or so, fails, says what is missing, and leaves
// the reference in force.
func TestReferencesAreCheckedDaily(t *testing.T) {
	clock := new(latchkeytest.Clock)
	c := latchkeytest.New(t, latchkeytest.Options{Now: clock.Now}).Chain(t)
	maker := c.User(t, "maker", c.Env, latchkey.EnvMaker)
	a, err := c.Broker.AssignRole(t.Context(), c.Admin, c.Vault.Name, latchkey.RoleAssignmentCreate{Principal: maker.ID, Role: latchkey.VaultSecretsUser})
	if err != nil {
		t.Fatal(err)
	}
	v := secretVariable(t, c, maker, "mine", c.Reference.Secret)
	v = c.AwaitCheck(t, v.Name, latchkey.CheckPassed)
	var steps []latchkey.CheckStep
	for _, r := range v.Check.Results {
		steps = append(steps, r.Step)
		if r.State != latchkey.CheckPassed || r.Message == "" {
			t.Errorf("%+v; want it passed, with a sentence", r)
		}
	}
	if diff := cmp.Diff(latchkey.CheckSteps, steps); diff != "" {
		t.Errorf("steps of a check (-want +got):\n%s", diff)
	}
	again := v.Check.NextAt
	if again == nil || again.Sub(clock.Now()) < 20*time.Hour || again.Sub(clock.Now()) > 28*time.Hour {
		t.Fatalf("checked again at %v, now it is %v; want about a day later", again, clock.Now())
	}
	if err := c.Broker.RemoveRole(t.Context(), c.Admin, c.Vault.Name, a.ID); err != nil {
		t.Fatal(err)
	}
	clock.Step(again.Sub(clock.Now()))
	v = c.AwaitCheck(t, v.Name, latchkey.CheckFailed)
	if v.InForce == nil || v.Check.Check != string(latchkey.CheckPerson) || !strings.Contains(v.Check.Remedy, "latchkey vault role assign") {
		t.Errorf("after the daily check: %+v, in force %v; want it failed for the person, and in force all the same", v.Check, v.InForce)
	}
	if !strings.Contains(c.Log.String(), "check of a reference in use failed") {
		t.Error("nothing in the log says that the check of a reference in use failed")
	}
}

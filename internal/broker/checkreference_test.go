package broker_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"latchkey.dev/internal/broker"
	"latchkey.dev/internal/latchkeytest"
	"latchkey.dev/latchkey"
)

func TestCheckReference(t *testing.T) {
	now := time.Now()
	c := latchkeytest.New(t, latchkeytest.Options{Now: func() time.Time { return now }}).Chain(t)
	maker := c.User(t, "maker", c.Env, latchkey.EnvMaker)
	user := c.User(t, "user", c.Env, latchkey.EnvUser)
	b, ctx := c.Broker, t.Context()

	if got, err := b.CheckReference(ctx, c.Admin, c.Env, c.Reference); err != nil || got.State != latchkey.CheckPassed || len(got.Results) < 5 {
		t.Fatalf("check of a good reference = %+v, %v; want it passed, step by step", got, err)
	}
	got, err := b.CheckReference(ctx, maker, c.Env, c.Reference)
	if err != nil || got.State != latchkey.CheckFailed || got.Check != string(latchkey.CheckPerson) {
		t.Fatalf("check by somebody without a role in the vault = %+v, %v; want the step person failed", got, err)
	}
	missing := c.Reference
	missing.Secret = "none-such"
	if got, err = b.CheckReference(ctx, c.Admin, c.Env, missing); err != nil || got.Check != string(latchkey.CheckSecret) {
		t.Fatalf("check of no secret = %+v, %v; want the step secret failed", got, err)
	}
	if _, err = b.CheckReference(ctx, user, c.Env, c.Reference); !errors.Is(err, latchkey.ErrDenied) {
		t.Errorf("check by who may make no variables: %v; want it denied", err)
	}
	_, err = b.CheckReference(ctx, c.Admin, c.Env, latchkey.SecretReference{Vault: "x"})
	wantFields(t, err, "subscriptionId", "resourceGroup", "vault", "secret")

	// Of vaults that the environment does not list nobody is asked.
	if _, err := b.UpdateEnvironment(ctx, c.Admin, c.Env, latchkey.EnvironmentUpdate{Vaults: &[]string{}}); err != nil {
		t.Fatal(err)
	}
	if got, err = b.CheckReference(ctx, c.Admin, c.Env, c.Reference); err != nil || got.Check != string(latchkey.CheckListed) || len(got.Results) != 1 {
		t.Errorf("check of a vault that is not listed = %+v, %v; want that step alone, failed", got, err)
	}

	log, err := b.Audit(ctx, c.Admin, broker.AuditFilter{Action: latchkey.ActReferenceCheck}, latchkey.PageOptions{})
	if err != nil || len(log.Items) != 5 {
		t.Fatalf("the audit log has %d entries (%v); want one for each check that was made and one for the refusal", len(log.Items), err)
	}
	for _, e := range log.Items {
		if e.Actor != user.ID && e.Details["reference"] == "" {
			t.Errorf("entry %+v names no reference", e)
		}
	}
	v, err := b.Variables(ctx, c.Admin, c.Env, broker.VariableFilter{}, latchkey.PageOptions{})
	if err != nil || len(v.Items) != 2 {
		t.Errorf("there are %d variables (%v) after checks that save nothing; want the two that were there", len(v.Items), err)
	}

	// Nobody asks without end, nor holds others up.
	for range 30 {
		if _, err = b.CheckReference(ctx, c.Admin, c.Env, c.Reference); err != nil {
			break
		}
	}
	e, ok := errors.AsType[*latchkey.Error](err)
	if !ok || e.Code != latchkey.CodeTooManyChecks || !e.RetryAt.After(now) {
		t.Fatalf("after many checks: %v; want code %s with a time", err, latchkey.CodeTooManyChecks)
	}
	if _, err = b.CheckReference(ctx, maker, c.Env, c.Reference); err != nil {
		t.Errorf("check by somebody else: %v", err)
	}
	now = e.RetryAt
	if _, err = b.CheckReference(ctx, c.Admin, c.Env, c.Reference); err != nil {
		t.Errorf("check at the time that was named: %v", err)
	}
}

func TestCreateCredentialWithVariables(t *testing.T) {
	c := latchkeytest.New(t, latchkeytest.Options{}).Chain(t)
	b, ctx := c.Broker, t.Context()
	login, ref := `CONTOSO\new`, c.Reference
	n := latchkey.CredentialCreate{
		Name: "with variables", Usages: []latchkey.Usage{latchkey.UsageConnection},
		Variables: map[latchkey.Slot]latchkey.VariableCreate{
			latchkey.SlotUsername: {DisplayName: "New user", Value: &login},
			latchkey.SlotPassword: {DisplayName: "New password", Secret: &ref},
		},
	}
	made, err := b.CreateCredential(ctx, c.Admin, c.Env, n)
	if err != nil {
		t.Fatal(err)
	}
	if made.Slots[latchkey.SlotUsername] != "new_Newuser" || made.Slots[latchkey.SlotPassword] != "new_Newpassword" {
		t.Errorf("slots = %v; want the new variables", made.Slots)
	}
	if v := c.AwaitCheck(t, "new_Newpassword", latchkey.CheckPassed); v.CreatedBy != c.Admin.ID {
		t.Errorf("variable = %+v; want it made by the caller", v)
	}

	// All or nothing: the second variable's name is taken.
	bad := n
	bad.Name = "another"
	bad.Variables = map[latchkey.Slot]latchkey.VariableCreate{
		latchkey.SlotUsername: {DisplayName: "Another user", Value: &login},
		latchkey.SlotPassword: {DisplayName: "New password", Secret: &ref},
	}
	_, err = b.CreateCredential(ctx, c.Admin, c.Env, bad)
	e, ok := errors.AsType[*latchkey.Error](err)
	if !ok || e.Code != "name-taken" || len(e.Fields) != 1 || e.Fields[0].Field != "variables.password.name" {
		t.Fatalf("error = %+v; want that variables.password.name is taken", err)
	}
	if _, err := b.Variable(ctx, c.Admin, c.Env, "new_Anotheruser"); !errors.Is(err, latchkey.ErrNotFound) {
		t.Errorf("the first variable: %v; want that there is none", err)
	}
	for fields, change := range map[string]func(*latchkey.CredentialCreate){
		"slots.password": func(n *latchkey.CredentialCreate) { delete(n.Variables, latchkey.SlotPassword) },
		"slots.username": func(n *latchkey.CredentialCreate) {
			n.Slots = map[latchkey.Slot]string{latchkey.SlotUsername: c.Username.Name}
		},
		"variables.username.type": func(n *latchkey.CredentialCreate) {
			n.Variables[latchkey.SlotUsername] = latchkey.VariableCreate{DisplayName: "N", Type: latchkey.TypeNumber}
		},
		"variables.password.secret": func(n *latchkey.CredentialCreate) {
			n.Variables[latchkey.SlotPassword] = latchkey.VariableCreate{DisplayName: "N"}
		},
	} {
		n := latchkey.CredentialCreate{Name: "x", Usages: n.Usages, Variables: map[latchkey.Slot]latchkey.VariableCreate{
			latchkey.SlotUsername: {DisplayName: "U2", Value: &login}, latchkey.SlotPassword: {DisplayName: "P2", Secret: &ref},
		}}
		change(&n)
		_, err := b.CreateCredential(ctx, c.Admin, c.Env, n)
		t.Run(fields, func(t *testing.T) { wantFields(t, err, strings.Split(fields, ",")...) })
	}
}

func TestCreateSecretOnlyOnce(t *testing.T) {
	c := latchkeytest.New(t, latchkeytest.Options{}).Chain(t)
	first, err := c.Broker.CreateSecret(t.Context(), c.Admin, c.Vault.Name, "fresh", latchkey.NewSecret("one"), latchkey.SecretAttributes{Enabled: true})
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Broker.CreateSecret(t.Context(), c.Admin, c.Vault.Name, "FRESH", latchkey.NewSecret("two"), latchkey.SecretAttributes{Enabled: true})
	if e, ok := errors.AsType[*latchkey.Error](err); !ok || e.Code != "secret-exists" {
		t.Errorf("creating it again: %v; want secret-exists", err)
	}
	if now, _, err := c.Broker.Secret(t.Context(), c.Admin, c.Vault.Name, "fresh", ""); err != nil || now.Version != first.Version {
		t.Errorf("newest version is %s (%v); want the first, %s", now.Version, err, first.Version)
	}
}

func TestBindableVariables(t *testing.T) {
	c := latchkeytest.New(t, latchkeytest.Options{}).Chain(t)
	maker := c.User(t, "maker", c.Env, latchkey.EnvMaker)
	bindable := func() (names []string) {
		t.Helper()
		p, err := c.Broker.BindableVariables(t.Context(), maker, c.Env, latchkey.SlotPassword, latchkey.PageOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range p.Items {
			names = append(names, v.Name)
		}
		return names
	}
	c.Share(t, latchkey.KindVariable, c.Password.Name, "maker", latchkey.RoleUser)
	if got := bindable(); len(got) != 0 {
		t.Errorf("a maker who sees a secret variable may bind %q; want none", got)
	}
	c.Share(t, latchkey.KindVariable, c.Password.Name, "maker", latchkey.RoleCoOwner)
	if got := bindable(); len(got) != 1 {
		t.Errorf("a co-owner may bind %q; want the one", got)
	}
	c.Share(t, latchkey.KindVariable, c.Password.Name, "maker", latchkey.RoleUser)
	if _, err := c.Broker.AssignRole(t.Context(), c.Admin, c.Vault.Name, latchkey.RoleAssignmentCreate{Principal: maker.ID, Role: latchkey.VaultSecretsUser}); err != nil {
		t.Fatal(err)
	}
	if got := bindable(); len(got) != 1 {
		t.Errorf("who may read the secret itself may bind %q; want the one", got)
	}
}

package broker

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"latchkey.dev/internal/db"
	"latchkey.dev/latchkey"
)

const vaultCanary = "broker-vault-canary-58d1"

// safe makes a vault of the admin's with the secret password.
func (o *office) safe(name string) latchkey.EmbeddedVault {
	o.t.Helper()
	v, err := o.CreateVault(o.t.Context(), o.admin, latchkey.EmbeddedVaultCreate{Name: name, RetentionDays: 7})
	if err != nil {
		o.t.Fatal(err)
	}
	if _, err := o.put(o.admin, name, "password"); err != nil {
		o.t.Fatal(err)
	}
	return v
}

func (o *office) put(who latchkey.Caller, vault, name string) (latchkey.VaultSecret, error) {
	return o.SetSecret(o.t.Context(), who, vault, name, latchkey.NewSecret(vaultCanary), latchkey.SecretAttributes{Enabled: true})
}

// fails checks the kind and the code of an error.
func (o *office) fails(err, kind error, code string) {
	o.t.Helper()
	wantCode(o.t, "the operation", err, kind, code)
}

// assigned gives a principal a role, as the admin.
func (o *office) assigned(who latchkey.Caller, vault string, role latchkey.VaultRole, secret string) latchkey.RoleAssignment {
	o.t.Helper()
	a, err := o.AssignRole(o.t.Context(), o.admin, vault, latchkey.RoleAssignmentCreate{Principal: who.ID, Role: role, Secret: secret})
	if err != nil {
		o.t.Fatal(err)
	}
	return a
}

// vaultOperations are the data plane: each operation, and what it takes.
func (o *office) vaultOperations() map[string]func(who latchkey.Caller) error {
	ctx := o.t.Context()
	return map[string]func(latchkey.Caller) error{
		"get": func(who latchkey.Caller) error { _, _, err := o.Secret(ctx, who, "erp", "password", ""); return err },
		"list": func(who latchkey.Caller) error {
			_, err := o.Secrets(ctx, who, "erp", latchkey.PageOptions{})
			return err
		},
		"versions": func(who latchkey.Caller) error {
			_, err := o.SecretVersions(ctx, who, "erp", "password", latchkey.PageOptions{})
			return err
		},
		"set": func(who latchkey.Caller) error { _, err := o.put(who, "erp", "password"); return err },
		"update": func(who latchkey.Caller) error {
			_, err := o.UpdateSecret(ctx, who, "erp", "password", "", SecretUpdate{})
			return err
		},
		"delete":  func(who latchkey.Caller) error { _, err := o.DeleteSecret(ctx, who, "erp", "none"); return err },
		"deleted": func(who latchkey.Caller) error { _, err := o.DeletedSecret(ctx, who, "erp", "none"); return err },
		"trash": func(who latchkey.Caller) error {
			_, err := o.DeletedSecrets(ctx, who, "erp", latchkey.PageOptions{})
			return err
		},
		"recover": func(who latchkey.Caller) error { _, err := o.RecoverSecret(ctx, who, "erp", "none"); return err },
		"purge":   func(who latchkey.Caller) error { return o.PurgeSecret(ctx, who, "erp", "none") },
	}
}

// TestVaultRoles is the table of who may do what with secrets.
func TestVaultRoles(t *testing.T) {
	metadata := []string{"deleted", "list", "trash", "versions"}
	everything := []string{"delete", "deleted", "get", "list", "purge", "recover", "set", "trash", "update", "versions"}
	tests := []struct {
		name   string
		role   latchkey.VaultRole
		secret string
		want   []string
	}{
		{"none", "", "", nil},
		{"administrator", latchkey.VaultAdministrator, "", everything},
		{"officer", latchkey.VaultSecretsOfficer, "", everything},
		{"user", latchkey.VaultSecretsUser, "", append([]string{"get"}, metadata...)},
		{"reader", latchkey.VaultReader, "", metadata},
		{"user of the secret", latchkey.VaultSecretsUser, "PassWord", []string{"get", "versions"}},
		{"officer of the secret", latchkey.VaultSecretsOfficer, "password", []string{"get", "set", "update", "versions"}},
		{"administrator of another secret", latchkey.VaultAdministrator, "other", nil},
	}
	eachOffice(t, func(o *office) {
		o.safe("erp")
		o.safe("other")
		o.assigned(o.bob, "other", latchkey.VaultAdministrator, "") // counts there only
		for _, tt := range tests {
			var a latchkey.RoleAssignment
			if tt.role != "" {
				a = o.assigned(o.bob, "erp", tt.role, tt.secret)
			}
			var got []string
			for name, operate := range o.vaultOperations() {
				err := operate(o.bob)
				// Whoever may delete, recover or purge learns that there is nothing to.
				if err == nil || errors.Is(err, latchkey.ErrNotFound) {
					got = append(got, name)
					continue
				}
				o.fails(err, latchkey.ErrDenied, codeForbiddenByRbac)
			}
			slices.Sort(got)
			want := slices.Sorted(slices.Values(tt.want))
			if diff := cmp.Diff(want, got); diff != "" {
				o.t.Errorf("%s may do (-want +got):\n%s", tt.name, diff)
			}
			if tt.role != "" {
				if err := o.RemoveRole(o.t.Context(), o.admin, "erp", a.ID); err != nil {
					o.t.Fatal(err)
				}
			}
		}
	})
}

// TestVaultRefusal looks at what a refusal tells, and that reads and refusals are
// on record.
func TestVaultRefusal(t *testing.T) {
	eachOffice(t, func(o *office) {
		v := o.safe("erp")
		o.assigned(o.ada, "erp", latchkey.VaultSecretsUser, "password")
		if _, _, err := o.Secret(o.t.Context(), o.ada, "ERP", "Password", ""); err != nil {
			o.t.Fatal(err)
		}
		_, _, err := o.Secret(o.t.Context(), o.bob, "erp", "password", "")
		o.fails(err, latchkey.ErrDenied, codeForbiddenByRbac)
		e, ok := errors.AsType[*latchkey.Error](err)
		if !ok {
			o.t.Fatalf("error = %v", err)
		}
		if e.Identity != string(o.bob.ID) || e.Check != string(latchkey.VaultGetSecret) || !strings.Contains(e.Remedy, string(latchkey.VaultSecretsUser)) {
			o.t.Errorf("refusal = %q, %q, %q; want who, the action and the smallest role", e.Identity, e.Check, e.Remedy)
		}
		if len(e.Fields) != 1 || e.Fields[0].Message != v.ARMID+"/secrets/password" {
			o.t.Errorf("fields = %v; want the ARM id of the secret", e.Fields)
		}
		// A secret that does not exist is refused alike.
		_, _, err = o.Secret(o.t.Context(), o.bob, "erp", "nothing", "")
		o.fails(err, latchkey.ErrDenied, codeForbiddenByRbac)
		o.wantTrail(db.AuditFilter{Action: latchkey.ActSecretGet},
			"secret.get ok  by ada on erp/Password",
			"secret.get denied ForbiddenByRbac by bob on erp/password",
			"secret.get denied ForbiddenByRbac by bob on erp/nothing")
	})
}

func TestDisabledHoldNoVaultRole(t *testing.T) {
	eachOffice(t, func(o *office) {
		o.safe("erp")
		o.assigned(o.bob, "erp", latchkey.VaultSecretsOfficer, "")
		if _, err := o.UpdateUser(o.t.Context(), o.admin, "bob", latchkey.UserUpdate{Disabled: new(true)}); err != nil {
			o.t.Fatal(err)
		}
		_, value, err := o.Secret(o.t.Context(), o.bob, "erp", "password", "")
		o.fails(err, latchkey.ErrDenied, codeForbiddenByRbac)
		if !value.IsZero() {
			o.t.Error("a refusal comes with the value")
		}
	})
}

// TestVaultsVisible asks what a vault is to those who have no role in it.
func TestVaultsVisible(t *testing.T) {
	eachOffice(t, func(o *office) {
		ctx := o.t.Context()
		o.safe("erp")
		o.safe("people")
		o.assigned(o.bob, "erp", latchkey.VaultReader, "password")
		for who, want := range map[*latchkey.Caller][]string{&o.admin: {"erp", "people"}, &o.bob: {"erp"}, &o.ada: nil} {
			p, err := o.Vaults(ctx, *who, latchkey.PageOptions{})
			if err != nil {
				o.t.Fatal(err)
			}
			var got []string
			for _, v := range p.Items {
				got = append(got, v.Name)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				o.t.Errorf("vaults of %s (-want +got):\n%s", who.Name, diff)
			}
		}
		for _, err := range []error{
			second(o.Vault(ctx, o.ada, "erp")), second(o.Vault(ctx, o.ada, "nothing")), second(o.Vault(ctx, o.bob, "people")),
			second(o.RoleAssignments(ctx, o.ada, "erp", latchkey.PageOptions{})), o.DeleteVault(ctx, o.ada, "erp"),
			second(o.AssignRole(ctx, o.ada, "erp", latchkey.RoleAssignmentCreate{Principal: o.ada.ID, Role: latchkey.VaultReader})),
			o.RemoveRole(ctx, o.ada, "erp", "ra_x"),
		} {
			o.fails(err, latchkey.ErrNotFound, "not-found")
		}
		o.fails(o.DeleteVault(ctx, o.bob, "erp"), latchkey.ErrDenied, "not-authorized")
		_, err := o.CreateVault(ctx, o.bob, latchkey.EmbeddedVaultCreate{Name: "mine"})
		o.fails(err, latchkey.ErrDenied, "not-authorized")
	})
}

func second[T any](_ T, err error) error { return err }

// TestRoleKeepers asks who may hand out roles. A tenant admin may, so that a
// vault without an administrator is not lost, but has none by being one.
func TestRoleKeepers(t *testing.T) {
	eachOffice(t, func(o *office) {
		ctx := o.t.Context()
		o.safe("erp")
		give := latchkey.RoleAssignmentCreate{Principal: o.ada.ID, Role: latchkey.VaultReader}
		for role, kind := range map[latchkey.VaultRole]error{
			latchkey.VaultReader: latchkey.ErrDenied, latchkey.VaultSecretsUser: latchkey.ErrDenied,
			latchkey.VaultSecretsOfficer: latchkey.ErrDenied, latchkey.VaultAdministrator: nil,
		} {
			own := o.assigned(o.bob, "erp", role, "")
			a, err := o.AssignRole(ctx, o.bob, "erp", give)
			if !errors.Is(err, kind) {
				o.t.Errorf("AssignRole by a %s = %v; want %v", role, err, kind)
			}
			if err == nil {
				_, err := o.AssignRole(ctx, o.bob, "erp", give)
				o.fails(err, latchkey.ErrConflict, "exists")
				if err := o.RemoveRole(ctx, o.bob, "erp", a.ID); err != nil {
					o.t.Errorf("RemoveRole by a %s = %v; want nil", role, err)
				}
			}
			if err := o.RemoveRole(ctx, o.admin, "erp", own.ID); err != nil {
				o.t.Fatal(err)
			}
		}
		// An administrator of one secret is none of the vault.
		o.assigned(o.bob, "erp", latchkey.VaultAdministrator, "password")
		_, err := o.AssignRole(ctx, o.bob, "erp", give)
		o.fails(err, latchkey.ErrDenied, "not-authorized")

		p, err := o.RoleAssignments(ctx, o.admin, "erp", latchkey.PageOptions{})
		if err != nil {
			o.t.Fatal(err)
		}
		for _, a := range p.Items {
			if a.Principal != o.admin.ID {
				continue
			}
			if err := o.RemoveRole(ctx, o.admin, "erp", a.ID); err != nil {
				o.t.Fatal(err)
			}
		}
		_, _, err = o.Secret(ctx, o.admin, "erp", "password", "")
		o.fails(err, latchkey.ErrDenied, codeForbiddenByRbac)
		o.assigned(o.admin, "erp", latchkey.VaultAdministrator, "")
		if _, _, err = o.Secret(ctx, o.admin, "erp", "password", ""); err != nil {
			o.t.Errorf("Secret after the admin took the role back = %v; want the value", err)
		}
		got := o.trail(db.AuditFilter{Action: latchkey.ActVaultAssign, Actor: o.admin.ID})
		if want := "vault.role.assign ok  by admin on erp"; got[len(got)-1] != want {
			o.t.Errorf("last entry = %q; want %q", got[len(got)-1], want)
		}
	})
}

// TestDeleteVault deletes a vault only when nothing would be lost.
func TestDeleteVault(t *testing.T) {
	eachOffice(t, func(o *office) {
		ctx := o.t.Context()
		v := o.safe("erp")
		_, err := o.CreateVault(ctx, o.admin, latchkey.EmbeddedVaultCreate{Name: "ERP"})
		o.fails(err, latchkey.ErrConflict, "name-taken")
		o.fails(o.DeleteVault(ctx, o.admin, "erp"), latchkey.ErrConflict, "in-use")
		if _, err := o.DeleteSecret(ctx, o.admin, "erp", "password"); err != nil {
			o.t.Fatal(err)
		}
		o.fails(o.DeleteVault(ctx, o.admin, "erp"), latchkey.ErrConflict, "in-use")
		if err := o.PurgeSecret(ctx, o.admin, "erp", "password"); err != nil {
			o.t.Fatal(err)
		}
		if _, err := o.CreateEnvironment(ctx, o.admin, latchkey.EnvironmentCreate{Name: "prod"}); err != nil {
			o.t.Fatal(err)
		}
		ref := latchkey.SecretReference{SubscriptionID: v.SubscriptionID, ResourceGroup: strings.ToUpper(v.ResourceGroup), Vault: "Erp", Secret: "password"}
		_, err = o.CreateVariable(ctx, o.admin, "prod", latchkey.VariableCreate{DisplayName: "ERP", Type: latchkey.TypeSecret, Secret: &ref})
		if err != nil {
			o.t.Fatal(err)
		}
		o.fails(o.DeleteVault(ctx, o.admin, "erp"), latchkey.ErrConflict, "in-use")
		if err := o.DeleteVariable(ctx, o.admin, "prod", "new_ERP", latchkey.Force{}); err != nil {
			o.t.Fatal(err)
		}
		if err := o.DeleteVault(ctx, o.admin, "erp"); err != nil {
			o.t.Fatal(err)
		}
		_, err = o.Vault(ctx, o.admin, "erp")
		o.fails(err, latchkey.ErrNotFound, "not-found")
		_, err = o.put(o.admin, "erp", "password")
		o.fails(err, latchkey.ErrNotFound, codeVaultNotFound)
	})
}

// TestEmbeddedVault decides by the whole ARM id which references mean an
// embedded vault.
func TestEmbeddedVault(t *testing.T) {
	eachOffice(t, func(o *office) {
		v := o.safe("erp")
		ref := v.Reference()
		upper := latchkey.VaultReference{SubscriptionID: strings.ToUpper(ref.SubscriptionID), ResourceGroup: strings.ToUpper(ref.ResourceGroup), Vault: "ERP"}
		elsewhere, otherGroup := ref, ref
		elsewhere.SubscriptionID, otherGroup.ResourceGroup = "00000000-0000-0000-0000-000000000000", "rg"
		for ref, want := range map[latchkey.VaultReference]bool{ref: true, upper: true, elsewhere: false, otherGroup: false} {
			err := o.db.View(o.t.Context(), func(tx *db.Tx) error {
				got, embedded, err := embeddedVault(tx, ref)
				if embedded != want || embedded && got.ID != v.ID {
					o.t.Errorf("embeddedVault(%s) = %s, %v; want %v", ref, got.ID, embedded, want)
				}
				return err
			})
			if err != nil {
				o.t.Fatal(err)
			}
		}
	})
}

// TestPurge removes a deleted secret when its retention has ended, not before.
func TestPurge(t *testing.T) {
	eachOffice(t, func(o *office) {
		ctx := o.t.Context()
		o.safe("erp")
		for _, name := range []string{"kept", "recovered"} {
			if _, err := o.put(o.admin, "erp", name); err != nil {
				o.t.Fatal(err)
			}
		}
		for _, name := range []string{"password", "recovered"} {
			if _, err := o.DeleteSecret(ctx, o.admin, "erp", name); err != nil {
				o.t.Fatal(err)
			}
		}
		if _, err := o.RecoverSecret(ctx, o.admin, "erp", "recovered"); err != nil {
			o.t.Fatal(err)
		}
		purge := func() {
			o.t.Helper()
			if err := o.purge(ctx); err != nil {
				o.t.Fatal(err)
			}
		}
		o.wait(7*24*time.Hour - time.Minute)
		purge()
		if _, err := o.DeletedSecret(ctx, o.admin, "erp", "password"); err != nil {
			o.t.Errorf("DeletedSecret before the retention ended = %v; want it", err)
		}
		o.wait(2 * time.Minute)
		purge()
		purge()
		_, err := o.DeletedSecret(ctx, o.admin, "erp", "password")
		o.fails(err, latchkey.ErrNotFound, codeDeletedSecretNotFound)
		for _, name := range []string{"kept", "recovered"} {
			if _, _, err := o.Secret(ctx, o.admin, "erp", name, ""); err != nil {
				o.t.Errorf("Secret %s after the purge = %v; want its value", name, err)
			}
		}
		o.wantTrail(db.AuditFilter{Action: latchkey.ActSecretPurge}, "secret.purge ok  by "+latchkey.ServiceIdentityName+" on password")
		if _, err := o.put(o.admin, "erp", "password"); err != nil {
			o.t.Errorf("SetSecret of a purged name = %v; want a new secret", err)
		}
	})
}

// TestSealedInPlace moves a sealed value to another secret, where it must not
// open.
func TestSealedInPlace(t *testing.T) {
	eachOffice(t, func(o *office) {
		v := o.safe("erp")
		err := o.db.Update(o.t.Context(), func(tx *db.Tx) error {
			s, err := tx.VaultSecret(v.ID, "password", "")
			if err != nil {
				return err
			}
			if strings.Contains(string(s.Value), vaultCanary) {
				o.t.Error("the value is stored as it is")
			}
			s.Name = "stolen"
			return tx.AddSecretVersion(v.ID, s)
		})
		if err != nil {
			o.t.Fatal(err)
		}
		_, value, err := o.Secret(o.t.Context(), o.admin, "erp", "stolen", "")
		if err == nil || !value.IsZero() || strings.Contains(err.Error(), vaultCanary) {
			o.t.Errorf("Secret with another's sealed value = %v; want an error and no value", err)
		}
	})
}

package db

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"latchkey.dev/latchkey"
)

func newVault(t *testing.T, d *DB, name string, by latchkey.PrincipalID) (v latchkey.EmbeddedVault) {
	t.Helper()
	update(t, d, func(tx *Tx) error {
		v = latchkey.EmbeddedVault{
			ID: latchkey.VaultID("vault_" + strings.ToLower(name)), Name: name, SubscriptionID: "9D0F8394-303c-4e0e-abed-e1c5aa7a61fb",
			ResourceGroup: "Rg", RetentionDays: 7, CreatedBy: by, CreatedAt: tx.Now,
		}
		v.ARMID = v.Reference().String()
		return tx.CreateVault(v)
	})
	return v
}

func TestVault(t *testing.T) {
	eachDB(t, func(t *testing.T, d *DB) {
		ada := newUser(t, d, "ada")
		v := newVault(t, d, "Erp", ada.ID)
		ref := v.Reference()
		ref.Vault, ref.ResourceGroup = "ERP", "RG"
		view(t, d, func(tx *Tx) error {
			byName, err1 := tx.Vault("eRP")
			byRef, err2 := tx.VaultByReference(ref)
			for _, got := range []latchkey.EmbeddedVault{byName, byRef} {
				if diff := cmp.Diff(v, got); diff != "" {
					t.Errorf("vault (-want +got):\n%s", diff)
				}
			}
			return errors.Join(err1, err2)
		})
		again := v
		again.ID, again.Name = "vault_other", "ERP"
		if err := d.Update(t.Context(), func(tx *Tx) error { return tx.CreateVault(again) }); !errors.Is(err, ErrExists) {
			t.Errorf("CreateVault with a name that is taken = %v; want ErrExists", err)
		}
		update(t, d, func(tx *Tx) error { return tx.DeleteVault(v.ID) })
		view(t, d, func(tx *Tx) error {
			if _, err := tx.Vault("erp"); !errors.Is(err, ErrNotFound) {
				t.Errorf("Vault of a deleted one = %v; want ErrNotFound", err)
			}
			return nil
		})
		update(t, d, func(tx *Tx) error { return tx.CreateVault(again) })
	})
}

// TestVaultRoles gives roles to a group of a group, of which a user is a member.
func TestVaultRoles(t *testing.T) {
	eachDB(t, func(t *testing.T, d *DB) {
		ada, bob := newUser(t, d, "ada"), newUser(t, d, "bob")
		v := newVault(t, d, "erp", ada.ID)
		assign := func(who latchkey.PrincipalID, role latchkey.VaultRole, secret string) {
			t.Helper()
			update(t, d, func(tx *Tx) error {
				return tx.CreateRoleAssignment(v.ID, latchkey.RoleAssignment{
					ID: latchkey.RoleAssignmentID(latchkey.NewID("ra", tx.Now)), Principal: who, Role: role, Secret: secret, CreatedBy: ada.ID,
				})
			})
		}
		update(t, d, func(tx *Tx) error {
			var errs []error
			for _, group := range []latchkey.PrincipalID{"grp_inner", "grp_outer"} {
				errs = append(errs, tx.EnsurePrincipal(group, latchkey.PrincipalGroup, string(group)))
			}
			for _, m := range [][2]latchkey.PrincipalID{{"grp_inner", bob.ID}, {"grp_outer", "grp_inner"}, {"grp_inner", "grp_outer"}} {
				_, err := tx.exec(`INSERT INTO group_members (group_id, member_id) VALUES ($1, $2)`, m[0], m[1])
				errs = append(errs, err)
			}
			return errors.Join(errs...)
		})
		assign("grp_outer", latchkey.VaultReader, "")
		assign("grp_inner", latchkey.VaultSecretsUser, "Password")
		assign(bob.ID, latchkey.VaultSecretsOfficer, "other")
		check := func(who latchkey.PrincipalID, secret string, want ...latchkey.VaultRole) {
			t.Helper()
			view(t, d, func(tx *Tx) error {
				got, err := tx.VaultRoles(who, v.ID, latchkey.VaultObject{In: latchkey.VaultSecrets, Name: secret})
				slices.Sort(got)
				if !slices.Equal(got, want) {
					t.Errorf("VaultRoles(%s, %q) = %v; want %v", who, secret, got, want)
				}
				return err
			})
		}
		check(bob.ID, "", latchkey.VaultReader)
		check(bob.ID, "password", latchkey.VaultReader, latchkey.VaultSecretsUser)
		check(bob.ID, "OTHER", latchkey.VaultReader, latchkey.VaultSecretsOfficer)
		check(ada.ID, "password")
		disable := func(id latchkey.PrincipalID) {
			t.Helper()
			update(t, d, func(tx *Tx) error {
				return tx.execOne(`UPDATE principals SET disabled_at = $2 WHERE id = $1`, id, ms(tx.Now))
			})
		}
		disable("grp_inner")
		check(bob.ID, "other", latchkey.VaultSecretsOfficer)
		disable(bob.ID)
		check(bob.ID, "other")
		view(t, d, func(tx *Tx) error {
			p, err := tx.Vaults(bob.ID, false, latchkey.PageOptions{})
			if len(p.Items) != 0 {
				t.Errorf("Vaults of a disabled user = %v; want none", p.Items)
			}
			return err
		})
	})
}

// TestVaultSecretPages walks lists whose pages have two items.
func TestVaultSecretPages(t *testing.T) {
	eachDB(t, func(t *testing.T, d *DB) {
		v := newVault(t, d, "erp", newUser(t, d, "ada").ID)
		names := []string{"b", "A", "a-b", "C", "a1"}
		update(t, d, func(tx *Tx) error {
			for i, name := range names {
				for number := 1; number <= 3; number++ {
					err := tx.AddSecretVersion(v.ID, StoredSecret{
						VaultSecret: latchkey.VaultSecret{Name: name, Version: fmt.Sprintf("%d%d", 9-number, i), SecretAttributes: latchkey.SecretAttributes{Enabled: true}},
						Number:      number, Value: []byte("box"),
					})
					if err != nil {
						return err
					}
				}
			}
			return tx.SetSecretDeleted(v.ID, "B", &tx.Now)
		})
		walk := func(list func(*Tx, latchkey.PageOptions) (latchkey.Page[latchkey.VaultSecret], error)) (got []string) {
			t.Helper()
			view(t, d, func(tx *Tx) error {
				got = nil
				for o := (latchkey.PageOptions{Limit: 2}); len(got) < 20; {
					p, err := list(tx, o)
					if err != nil {
						return err
					}
					for _, s := range p.Items {
						got = append(got, s.Name+"/"+s.Version)
					}
					if o.After = p.Next; p.Next == "" {
						return nil
					}
				}
				return errors.New("the list does not end")
			})
			return got
		}
		for what, tt := range map[string]struct {
			list func(*Tx, latchkey.PageOptions) (latchkey.Page[latchkey.VaultSecret], error)
			want []string
		}{
			"secrets": {func(tx *Tx, o latchkey.PageOptions) (latchkey.Page[latchkey.VaultSecret], error) {
				return tx.VaultSecrets(v.ID, false, o)
			}, []string{"A/61", "a-b/62", "a1/64", "C/63"}},
			"deleted secrets": {func(tx *Tx, o latchkey.PageOptions) (latchkey.Page[latchkey.VaultSecret], error) {
				return tx.VaultSecrets(v.ID, true, o)
			}, []string{"b/60"}},
			"versions": {func(tx *Tx, o latchkey.PageOptions) (latchkey.Page[latchkey.VaultSecret], error) {
				return tx.VaultSecretVersions(v.ID, "a", o)
			}, []string{"A/81", "A/71", "A/61"}},
		} {
			if diff := cmp.Diff(tt.want, walk(tt.list)); diff != "" {
				t.Errorf("%s (-want +got):\n%s", what, diff)
			}
		}
		view(t, d, func(tx *Tx) error {
			due, err := tx.DueSecrets(10)
			if len(due) != 1 || due[0] != (DueSecret{v.ID, "b"}) {
				t.Errorf("DueSecrets = %v; want b", due)
			}
			return err
		})
	})
}

package db

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"latchkey.dev/latchkey"
)

// newUser stores a user whose id and display name are made from its login.
func newUser(t *testing.T, d *DB, login string) (u latchkey.User) {
	t.Helper()
	update(t, d, func(tx *Tx) error {
		u = latchkey.User{
			ID: latchkey.PrincipalID("user_" + login), Login: login, DisplayName: "The " + login,
			ExternalIdentities: []latchkey.ExternalIdentity{}, CreatedAt: tx.Now, UpdatedAt: tx.Now,
		}
		return tx.CreateUser(u, "hash of "+login)
	})
	return u
}

func TestUser(t *testing.T) {
	eachDB(t, func(t *testing.T, d *DB) {
		ada := newUser(t, d, "ada")
		for _, ref := range []string{"ada", "ADA", string(ada.ID)} {
			view(t, d, func(tx *Tx) error {
				got, err := tx.User(ref)
				if diff := cmp.Diff(ada, got); diff != "" {
					t.Errorf("User(%q) (-want +got):\n%s", ref, diff)
				}
				return err
			})
		}
		for _, ref := range []string{"", "bob", "a\x00", "\xff"} {
			view(t, d, func(tx *Tx) error {
				if _, err := tx.User(ref); !errors.Is(err, ErrNotFound) {
					t.Errorf("User(%q) = %v; want ErrNotFound", ref, err)
				}
				return nil
			})
		}

		var disabledAt time.Time
		for i := range 2 {
			update(t, d, func(tx *Tx) error {
				if i == 0 {
					disabledAt = tx.Now
				}
				ada.DisplayName, ada.TenantAdmin, ada.Disabled, ada.UpdatedAt = "Ada", true, true, tx.Now
				return tx.UpdateUser(ada)
			})
		}
		view(t, d, func(tx *Tx) error {
			got, err := tx.User("ada")
			if diff := cmp.Diff(ada, got); diff != "" {
				t.Errorf("updated (-want +got):\n%s", diff)
			}
			at, err2 := one(tx, func(s scanner) (at time.Time, err error) { return at, s.Scan(timestamp{&at}) },
				`SELECT disabled_at FROM principals WHERE id = $1`, ada.ID)
			if at != disabledAt {
				t.Errorf("disabled at %v; want the first time, %v", at, disabledAt)
			}
			n, err3 := tx.TenantAdminCount()
			if n != 0 {
				t.Errorf("TenantAdminCount() = %d; want 0: the only one is disabled", n)
			}
			return errors.Join(err, err2, err3)
		})

		ada.Disabled = false
		update(t, d, func(tx *Tx) error { return tx.UpdateUser(ada) })
		view(t, d, func(tx *Tx) error {
			got, err := tx.Principal("ada")
			want := Principal{ID: ada.ID, Kind: latchkey.PrincipalUser, Name: "Ada", TenantAdmin: true}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("Principal (-want +got):\n%s", diff)
			}
			n, err2 := tx.TenantAdminCount()
			if n != 1 {
				t.Errorf("TenantAdminCount() = %d; want 1", n)
			}
			return errors.Join(err, err2)
		})
	})
}

func TestEnsurePrincipal(t *testing.T) {
	eachDB(t, func(t *testing.T, d *DB) {
		for _, name := range []string{"first", "second"} {
			update(t, d, func(tx *Tx) error {
				return tx.EnsurePrincipal(latchkey.ServiceIdentity, latchkey.PrincipalService, name)
			})
		}
		want := Principal{ID: latchkey.ServiceIdentity, Kind: latchkey.PrincipalService, Name: "first"}
		// A user whose login is the id of another principal is not taken for it.
		newUser(t, d, string(latchkey.ServiceIdentity))
		view(t, d, func(tx *Tx) error {
			got, err := tx.Principal(string(latchkey.ServiceIdentity))
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("Principal (-want +got):\n%s", diff)
			}
			if _, err := tx.User(string(latchkey.ServiceIdentity)); !errors.Is(err, ErrNotFound) {
				t.Errorf("User of a service principal = %v; want ErrNotFound", err)
			}
			return err
		})
	})
}

func TestUsers(t *testing.T) {
	eachDB(t, func(t *testing.T, d *DB) {
		var want []string
		for i := range 7 {
			login := fmt.Sprintf("user%d", i)
			want = append(want, login)
			newUser(t, d, login)
		}
		// Two with one display name are told apart by id.
		update(t, d, func(tx *Tx) error {
			return tx.CreateUser(latchkey.User{ID: "user_user3b", Login: "user3b", DisplayName: "the USER3"}, "")
		})
		want = slices.Insert(want, 4, "user3b")
		identity := latchkey.ExternalIdentity{Issuer: "https://id.example", Tenant: "t", ObjectID: "o"}
		update(t, d, func(tx *Tx) error {
			return tx.SetExternalIdentities("user_user5", []latchkey.ExternalIdentity{identity})
		})

		var got []string
		o := latchkey.PageOptions{Limit: 3}
		for range 10 {
			view(t, d, func(tx *Tx) error {
				p, err := tx.Users("", o)
				for _, u := range p.Items {
					got = append(got, u.Login)
					if want := u.Login == "user5"; want != (len(u.ExternalIdentities) == 1) {
						t.Errorf("%s has identities %v", u.Login, u.ExternalIdentities)
					}
				}
				o.After = p.Next
				return err
			})
			if o.After == "" {
				break
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("pages (-want +got):\n%s", diff)
		}
		view(t, d, func(tx *Tx) error {
			p, err := tx.Users("user_user2", latchkey.PageOptions{})
			if len(p.Items) != 1 || p.Items[0].Login != "user2" || p.Next != "" {
				t.Errorf("Users(only user2) = %+v", p)
			}
			return err
		})
	})
}

func TestExternalIdentities(t *testing.T) {
	a := latchkey.ExternalIdentity{Issuer: "https://id.example", Tenant: "t", ObjectID: "a"}
	b := latchkey.ExternalIdentity{Issuer: "https://id.example", ObjectID: "b"}
	eachDB(t, func(t *testing.T, d *DB) {
		ada, bob := newUser(t, d, "ada"), newUser(t, d, "bob")
		set := func(id latchkey.PrincipalID, list ...latchkey.ExternalIdentity) error {
			return d.Update(t.Context(), func(tx *Tx) error { return tx.SetExternalIdentities(id, list) })
		}
		if err := set(ada.ID, a, b); err != nil {
			t.Fatal(err)
		}
		view(t, d, func(tx *Tx) error {
			u, err := tx.User("ada")
			if diff := cmp.Diff([]latchkey.ExternalIdentity{b, a}, u.ExternalIdentities); diff != "" {
				t.Errorf("identities (-want +got):\n%s", diff)
			}
			p, err2 := tx.PrincipalOf(a)
			if p.ID != ada.ID {
				t.Errorf("PrincipalOf = %q; want %q", p.ID, ada.ID)
			}
			return errors.Join(err, err2)
		})
		if err := set(bob.ID, a); !errors.Is(err, ErrExists) {
			t.Errorf("an identity of another principal: %v; want ErrExists", err)
		}
		if err := set(ada.ID, b); err != nil {
			t.Fatal(err)
		}
		if err := set(bob.ID, a); err != nil {
			t.Errorf("an identity given up by another principal: %v", err)
		}
		if err := set(bob.ID); err != nil {
			t.Fatal(err)
		}
		view(t, d, func(tx *Tx) error {
			if _, err := tx.PrincipalOf(a); !errors.Is(err, ErrNotFound) {
				t.Errorf("PrincipalOf what nobody has = %v; want ErrNotFound", err)
			}
			return nil
		})
	})
}

func TestAccount(t *testing.T) {
	eachDB(t, func(t *testing.T, d *DB) {
		ada := newUser(t, d, "ada")
		update(t, d, func(tx *Tx) error { return tx.SetPassword(ada.ID, "$argon2id$") })
		view(t, d, func(tx *Tx) error {
			got, err := tx.Account("ada")
			want := Account{
				Principal: Principal{ID: ada.ID, Kind: latchkey.PrincipalUser, Name: ada.DisplayName},
				Login:     "ada", PasswordHash: "$argon2id$",
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("Account (-want +got):\n%s", diff)
			}
			return err
		})
		view(t, d, func(tx *Tx) error {
			if _, err := tx.Account("bob"); !errors.Is(err, ErrNotFound) {
				t.Errorf("Account of nobody = %v; want ErrNotFound", err)
			}
			return nil
		})
	})
}

func TestSignInFailures(t *testing.T) {
	eachURL(t, func(t *testing.T, url string) {
		now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
		d := open(t, Config{URL: url, Now: func() time.Time { return now }})
		want := func(login string, f Failures) {
			t.Helper()
			view(t, d, func(tx *Tx) error {
				got, err := tx.SignInFailures(login)
				got.LastAt = time.Time{}
				if got != f {
					t.Errorf("SignInFailures(%q) = %v; want %v", login, got, f)
				}
				return err
			})
		}
		set := func(login string, f Failures) {
			t.Helper()
			update(t, d, func(tx *Tx) error { return tx.SetSignInFailures(login, f) })
		}
		want("ada", Failures{})
		f := Failures{Count: 6, RetryAt: now.Add(time.Minute)}
		set("ada", Failures{Count: 5, RetryAt: now})
		set("ada", f)
		want("ada", f)
		set("bob", Failures{})
		want("ada", f)
		set("ada", Failures{})
		want("ada", Failures{})

		set("ada", f)
		now = now.Add(failuresKept + time.Second)
		set("bob", Failures{Count: 1, RetryAt: now})
		want("ada", Failures{})
		want("bob", Failures{Count: 1, RetryAt: now})
	})
}

package db

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"latchkey.dev/latchkey"
)

// credentialNames pages through the credentials that a principal sees.
func credentialNames(t *testing.T, d *DB, visible Visible, size int) (names []string) {
	t.Helper()
	o := latchkey.PageOptions{Limit: size}
	for range 100 {
		var p latchkey.Page[latchkey.Credential]
		view(t, d, func(tx *Tx) (err error) {
			p, err = tx.Credentials("env_1", visible, CredentialFilter{}, o)
			return err
		})
		for _, c := range p.Items {
			names = append(names, c.Name)
		}
		if p.Next == "" {
			return names
		}
		if len(p.Items) != size {
			t.Fatalf("a page that is not the last has %d items; want %d", len(p.Items), size)
		}
		o.After = p.Next
	}
	t.Fatal("the pages do not end")
	return nil
}

// TestListsOfGrants grants credentials to a user directly, by a group, by a
// group of the group, by several of these, and several times, and pages through
// what the user sees.
func TestListsOfGrants(t *testing.T) {
	eachDB(t, func(t *testing.T, d *DB) {
		const user, inner, outer, other = "user_1", "grp_inner", "grp_outer", "user_2"
		var want, deleted []string
		update(t, d, func(tx *Tx) error {
			want, deleted = nil, nil
			for id, kind := range map[latchkey.PrincipalID]latchkey.PrincipalKind{
				user: latchkey.PrincipalUser, other: latchkey.PrincipalUser, inner: latchkey.PrincipalGroup, outer: latchkey.PrincipalGroup,
			} {
				if err := tx.EnsurePrincipal(id, kind, string(id)); err != nil {
					return err
				}
			}
			for _, m := range [][2]string{{inner, user}, {outer, inner}} {
				if _, err := tx.exec(`INSERT INTO group_members (group_id, member_id) VALUES ($1, $2)`, m[0], m[1]); err != nil {
					return err
				}
			}
			if err := tx.CreateEnvironment(latchkey.Environment{ID: "env_1", Name: "one", Prefix: "one"}, user); err != nil {
				return err
			}
			for i := range 60 {
				c := latchkey.Credential{ID: latchkey.CredentialID(fmt.Sprintf("cred_%02d", 99-i)), Name: fmt.Sprintf("Name %02d", i*7%60), CreatedBy: other}
				if err := tx.CreateCredential("env_1", c, nil); err != nil {
					return err
				}
				to := [][]latchkey.PrincipalID{{user}, {inner}, {outer}, {user, inner, outer}, {other}, {user}}[i%6]
				for _, p := range to {
					if err := tx.SetGrant("env_1", latchkey.KindCredential, string(c.ID), p, latchkey.RoleUser, "", other); err != nil {
						return err
					}
				}
				if i%6 == 5 {
					// Shared with the same person by many shares.
					for via := range 20 {
						if _, err := tx.exec(`INSERT INTO grants (id, environment_id, subject_kind, subject_id, sort_key, principal_id, role, via, created_by, created_at)
							SELECT id || CAST($2 AS TEXT), environment_id, subject_kind, subject_id, sort_key, principal_id, role, CAST($2 AS TEXT), created_by, created_at
							FROM grants WHERE subject_id = $1 AND via = ''`, c.ID, fmt.Sprint("via", via)); err != nil {
							return err
						}
					}
				}
				switch {
				case i%10 == 9:
					if err := tx.DeleteCredential(c.ID, other); err != nil {
						return err
					}
					deleted = append(deleted, c.Name)
				case i%6 != 4:
					want = append(want, c.Name)
				}
			}
			return nil
		})
		slices.Sort(want)
		for _, size := range []int{1, 7, 50, 200} {
			if diff := cmp.Diff(want, credentialNames(t, d, Visible{Who: user}, size)); diff != "" {
				t.Errorf("visible in pages of %d (-want +got):\n%s", size, diff)
			}
		}
		if got := credentialNames(t, d, Visible{Who: other, Everything: true}, 7); len(got) != 60-len(deleted) {
			t.Errorf("everything has %d credentials; want %d", len(got), 60-len(deleted))
		}
		if got := credentialNames(t, d, Visible{Who: "user_3"}, 7); len(got) != 0 {
			t.Errorf("a stranger sees %v", got)
		}

		update(t, d, func(tx *Tx) error {
			c, err := tx.Credential("env_1", "cred_99")
			if err != nil {
				return err
			}
			want = append(slices.DeleteFunc(want, func(n string) bool { return n == c.Name }), "zuletzt")
			c.Name, c.UpdatedAt = "zuletzt", time.Now()
			return tx.UpdateCredential(c)
		})
		if diff := cmp.Diff(want, credentialNames(t, d, Visible{Who: user}, 7)); diff != "" {
			t.Errorf("after renaming (-want +got):\n%s", diff)
		}
	})
}

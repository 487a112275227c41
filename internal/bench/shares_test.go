package bench

import (
	"fmt"
	"testing"
	"time"

	"latchkey.dev/internal/db"
	"latchkey.dev/internal/latchkeytest"
	"latchkey.dev/latchkey"
)

// A company is how many there are of what: each credential is shared with two
// people and one group, and its variables with it. Group n is in group n/10. A user
// name is that of a hundred credentials.
type company struct {
	credentials, people, groups, usernames int
}

// company writes a company whose people own the credentials and are in the group of
// their number, and have the role user in the environment. Of one person, few, more
// is known: it is in 30 groups.
func (g *generator) company(b *testing.B, env latchkey.EnvironmentID, admin latchkey.PrincipalID, c company) {
	b.Helper()
	g.insert(b, c.people, `INSERT INTO principals (id, kind, name, sort_key, search_key, created_at, updated_at) SELECT ID(user), 'user', 'Person ' || n, KEY('Person ' || n), lower('Person ' || n), 1, 1 FROM numbers`)
	g.insert(b, c.people, `INSERT INTO users (id, login, login_key) SELECT ID(user), 'person' || n, KEY('person' || n) FROM numbers`)
	g.insert(b, c.people, fmt.Sprintf(`INSERT INTO environment_members (environment_id, principal_id, role, created_by, created_at) SELECT '%s', ID(user), 'user', '%s', 1 FROM numbers`, env, admin))
	g.insert(b, c.groups, `INSERT INTO principals (id, kind, name, sort_key, search_key, created_at, updated_at) SELECT ID(grp), 'group', 'Group ' || n, KEY('Group ' || n), lower('Group ' || n), 1, 1 FROM numbers`)
	g.insert(b, c.groups, `INSERT INTO principal_groups (id, description) SELECT ID(grp), '' FROM numbers`)
	g.insert(b, c.groups, `INSERT INTO group_members (group_id, member_id) SELECT ID(grp, n / 10), ID(grp) FROM numbers WHERE n > 0`)
	g.insert(b, c.people, fmt.Sprintf(`INSERT INTO group_members (group_id, member_id) SELECT ID(grp, n %% %d), ID(user) FROM numbers`, c.groups))
	g.insert(b, c.usernames, fmt.Sprintf(`INSERT INTO variables (id, environment_id, name, name_key, display_name, sort_key, search_key, description, type, current_value, created_by, created_at, updated_at)
		SELECT ID(vara), '%[1]s', 'new_U' || n, 'new_u' || n, 'User ' || n, KEY('User ' || n), lower('User ' || n), '', 'text', 'bot', '%[2]s', 1, 1 FROM numbers`, env, admin))
	g.insert(b, c.credentials, fmt.Sprintf(`INSERT INTO variables (id, environment_id, name, name_key, display_name, sort_key, search_key, description, type, created_by, created_at, updated_at)
		SELECT ID(var), '%[1]s', 'new_P' || n, 'new_p' || n, 'Password ' || n, KEY('Password ' || n), lower('Password ' || n), '', 'secret', ID(user, n %% %[2]d), 1, 1 FROM numbers`, env, c.people))
	g.insert(b, c.credentials, fmt.Sprintf(`INSERT INTO credentials (id, environment_id, name, sort_key, search_key, description, store, usages, authentication, exposure, allow_shared_uid, machines, machine_groups, created_by, created_at, updated_at)
		SELECT ID(cred), '%[1]s', 'Credential ' || n, KEY('Credential ' || n), lower('Credential ' || n), '', 'azure-key-vault', '["connection"]', 'username-password', 'session', FALSE, '[]', '[]', ID(user, n %% %[2]d), 1, 1 FROM numbers`, env, c.people))
	g.insert(b, c.credentials, fmt.Sprintf(`INSERT INTO credential_slots (credential_id, slot, variable_id) SELECT ID(cred), 'username', ID(vara, n %% %d) FROM numbers`, c.usernames))
	g.insert(b, c.credentials, `INSERT INTO credential_slots (credential_id, slot, variable_id) SELECT ID(cred), 'password', ID(var) FROM numbers`)
	// To whom, as an SQL expression of n.
	sharees := []string{
		fmt.Sprintf("ID(user, n %% %d)", c.people), // the owner
		fmt.Sprintf("ID(user, n * 7 %% %d)", c.people), fmt.Sprintf("ID(user, n * 13 %% %d)", c.people), fmt.Sprintf("ID(grp, n * 17 %% %d)", c.groups),
	}
	for i, to := range sharees {
		role, via := "user", "ID(cred)"
		if i == 0 {
			role, via = "owner", "''"
		}
		grant := func(kind, id, key, role, via string) {
			g.insert(b, c.credentials, fmt.Sprintf(`INSERT INTO grants (id, environment_id, subject_kind, subject_id, sort_key, principal_id, role, via, created_by, created_at)
				SELECT 'grant_%[1]d%[3]s' || CAST(n AS TEXT), '%[2]s', '%[3]s', %[4]s, %[5]s, %[6]s, '%[7]s', %[8]s, '%[9]s', 1 FROM numbers WHERE TRUE ON CONFLICT DO NOTHING`,
				i, env, kind, id, key, to, role, via, admin))
		}
		grant("credential", "ID(cred)", "KEY('Credential ' || n)", role, "''")
		grant("variable", "ID(var)", "KEY('Password ' || n)", role, via)
		if i > 0 {
			g.insert(b, c.credentials, fmt.Sprintf(`INSERT INTO grants (id, environment_id, subject_kind, subject_id, sort_key, principal_id, role, via, created_by, created_at)
				SELECT 'grant_%[1]du' || CAST(n AS TEXT), '%[2]s', 'variable', ID(vara, n %% %[3]d), (SELECT sort_key FROM variables WHERE id = ID(vara, n %% %[3]d)), %[4]s, 'user', ID(cred), '%[5]s', 1 FROM numbers WHERE TRUE ON CONFLICT DO NOTHING`,
				i, env, c.usernames, to, admin))
		}
	}
}

// BenchmarkShares measures lists and decisions where credentials are shared as in a
// company: a tenth of the credentials of [BenchmarkLists], each with ten grants.
func BenchmarkShares(b *testing.B) {
	n := many(b) / 10
	size := company{credentials: n, people: max(n/10, 100), groups: max(n/100, 40), usernames: max(n/100, 1)}
	eachEngine(b, func(b *testing.B, url string) {
		c := latchkeytest.New(b, latchkeytest.Options{DatabaseURL: url, Idle: true})
		e, err := c.Broker.CreateEnvironment(b.Context(), c.Admin, latchkey.EnvironmentCreate{Name: "prod"})
		if err != nil {
			b.Fatal(err)
		}
		g := newGenerator(b, url)
		start := time.Now()
		g.company(b, e.ID, c.Admin.ID, size)
		many := c.User(b, "many", e.Name, latchkey.EnvUser)
		g.insert(b, 24, fmt.Sprintf(`INSERT INTO group_members (group_id, member_id) SELECT ID(grp, %d - 1 - n), '%s' FROM numbers`, size.groups, many.ID))
		if g.postgres { // which does so by itself
			if _, err := g.raw.ExecContext(b.Context(), "ANALYZE"); err != nil {
				b.Fatal(err)
			}
		}
		groups := 0
		if err := c.DB.View(b.Context(), func(tx *db.Tx) error {
			all, err := tx.GroupsOf(many.ID)
			groups = len(all)
			return err
		}); err != nil {
			b.Fatal(err)
		}
		b.Logf("%+v made in %s; one person is in %d groups", size, time.Since(start).Round(time.Second), groups)

		id := func(prefix string, n int) string { return fmt.Sprintf("%s_%026d", prefix, 1000000000000+n) }
		maker := latchkey.Caller{ID: latchkey.PrincipalID(id("user", 1)), Kind: latchkey.PrincipalUser, Name: "Person 1"}
		middle := cursor(fmt.Sprint("Credential ", n/2), id("cred", n/2))
		credentials := func(who latchkey.Caller, after string) func() (int, error) {
			return func() (int, error) {
				p, err := c.Broker.Credentials(b.Context(), who, e.Name, latchkey.PageOptions{After: after})
				return len(p.Items), err
			}
		}
		variables := func(who latchkey.Caller, after string) func() (int, error) {
			return func() (int, error) {
				p, err := c.Broker.Variables(b.Context(), who, e.Name, db.VariableFilter{}, latchkey.PageOptions{After: after})
				return len(p.Items), err
			}
		}
		shares := func(kind latchkey.Kind, ref string) func() (int, error) {
			return func() (int, error) {
				p, err := c.Broker.Shares(b.Context(), c.Admin, e.Name, kind, ref, latchkey.PageOptions{})
				return len(p.Items), err
			}
		}
		access := func(who latchkey.PrincipalID, subject string) func() (int, error) {
			return func() (int, error) {
				return 1, c.DB.View(b.Context(), func(tx *db.Tx) error {
					_, err := tx.Access(who, e.ID, subject)
					return err
				})
			}
		}
		for _, m := range []struct {
			name string
			f    func() (int, error)
		}{
			{"credentials/admin/first", credentials(c.Admin, "")},
			{"credentials/admin/middle", credentials(c.Admin, middle)},
			{"credentials/owner/first", credentials(maker, "")},
			{"credentials/30 groups/first", credentials(many, "")},
			{"credentials/30 groups/middle", credentials(many, middle)},
			{"variables/30 groups/first", variables(many, "")},
			{"variables/30 groups/middle", variables(many, cursor(fmt.Sprint("Password ", n/2), id("var", n/2)))},
			{"shares/of a credential", shares(latchkey.KindCredential, id("cred", n/2+1))},
			{"shares/of a user name", shares(latchkey.KindVariable, "new_U0")},
			{"directory/first", func() (int, error) {
				p, err := c.Broker.Directory(b.Context(), many, e.Name, "", latchkey.PageOptions{})
				return len(p.Items), err
			}},
			{"directory/prefix", func() (int, error) {
				p, err := c.Broker.Directory(b.Context(), many, e.Name, "Person 99", latchkey.PageOptions{})
				return len(p.Items), err
			}},
			{"groups/first", func() (int, error) {
				p, err := c.Broker.Groups(b.Context(), c.Admin, latchkey.PageOptions{})
				return len(p.Items), err
			}},
			{"decision/30 groups", access(many.ID, id("cred", n/2))},
			{"decision/owner", access(maker.ID, id("cred", 1))},
		} {
			b.Run(m.name, func(b *testing.B) {
				var s sample
				items := 0
				for b.Loop() {
					began := time.Now()
					var err error
					if items, err = m.f(); err != nil {
						b.Fatal(err)
					}
					s.times = append(s.times, time.Since(began))
				}
				b.ReportMetric(0, "ns/op")
				b.ReportMetric(s.quantile(.5), "p50-ms")
				b.ReportMetric(s.quantile(.99), "p99-ms")
				b.ReportMetric(float64(items), "items")
			})
		}
	})
}

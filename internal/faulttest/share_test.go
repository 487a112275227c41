package faulttest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"latchkey.dev/internal/db"
	"latchkey.dev/internal/latchkeytest"
	"latchkey.dev/latchkey"
)

// shared are the tables that are large where much is shared among many.
var shared = regexp.MustCompile(`^(grants|credentials|principals|users|group_members|environment_members)$`)

// sqliteScan matches the lines of SQLite's plans that read all of something, maybe by
// an index. An alias is that of one table alone in the statements that are looked at.
var sqliteScan = regexp.MustCompile(`^SCAN (\w+)(?: USING (?:COVERING )?INDEX (\w+))?$`)

var aliases = map[string]string{"g": "grants", "c": "credentials", "p": "principals", "u": "users", "m": "group_members"}

// manyShares makes 3,000 people in 300 groups, each in one group, and as many
// credentials, each with an owner of its own and shared with a person and a group.
func (w *world) manyShares(t *testing.T, address string) explainer {
	t.Helper()
	d := w.open(t, address)
	env, err := w.Broker.Environment(t.Context(), w.Admin, w.Env)
	if err != nil {
		t.Fatal(err)
	}
	id := func(prefix, n string) string {
		return fmt.Sprintf("'%s_0000000000000' || CAST(1000000000000 + %s AS TEXT)", prefix, n)
	}
	key := "'6e' || CAST(100000 + n AS TEXT)" // hexadecimal digits, as those of SortKey
	for _, insert := range []string{
		`principals (id, kind, name, sort_key, search_key, created_at, updated_at) SELECT ` + id("user", "n") + `, 'user', 'p' || n, ` + key + `, 'p' || n, 1, 1`,
		`users (id, login, login_key) SELECT ` + id("user", "n") + `, 'p' || n, ` + key,
		`environment_members (environment_id, principal_id, role, created_by, created_at) SELECT '` + string(env.ID) + `', ` + id("user", "n") + `, 'user', '', 1`,
		`principals (id, kind, name, sort_key, search_key, created_at, updated_at) SELECT ` + id("grp", "n") + `, 'group', 'g' || n, ` + key + `, 'g' || n, 1, 1`,
		`principal_groups (id) SELECT ` + id("grp", "n"),
		`group_members (group_id, member_id) SELECT ` + id("grp", "n % 300") + `, ` + id("user", "n"),
		`group_members (group_id, member_id) SELECT ` + id("grp", "n / 10") + `, ` + id("grp", "n") + ` FROM numbers WHERE n > 0 AND n < 300`,
		`credentials (id, environment_id, name, sort_key, search_key, description, store, usages, authentication, exposure, allow_shared_uid, machines, machine_groups, created_by, created_at, updated_at)
			SELECT ` + id("cred", "n") + `, '` + string(env.ID) + `', 'c' || n, ` + key + `, 'c' || n, '', 'azure-key-vault', '[]', 'username-password', 'session', FALSE, '[]', '[]', ` + id("user", "n") + `, 1, 1`,
		`grants (id, environment_id, subject_kind, subject_id, sort_key, principal_id, role, created_by, created_at)
			SELECT 'grant_o' || n, '` + string(env.ID) + `', 'credential', ` + id("cred", "n") + `, ` + key + `, ` + id("user", "n") + `, 'owner', '', 1`,
		`grants (id, environment_id, subject_kind, subject_id, sort_key, principal_id, role, created_by, created_at)
			SELECT 'grant_p' || n, '` + string(env.ID) + `', 'credential', ` + id("cred", "n") + `, ` + key + `, ` + id("user", "(n + 1) % 3000") + `, 'user', '', 1`,
		`grants (id, environment_id, subject_kind, subject_id, sort_key, principal_id, role, created_by, created_at)
			SELECT 'grant_g' || n, '` + string(env.ID) + `', 'credential', ` + id("cred", "n") + `, ` + key + `, ` + id("grp", "n % 300") + `, 'user', '', 1`,
	} {
		if !strings.Contains(insert, "FROM numbers") {
			insert += " FROM numbers"
		}
		into, query, _ := strings.Cut(insert, "SELECT ")
		if _, err := d.ExecContext(t.Context(), `INSERT INTO `+into+` WITH RECURSIVE numbers (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM numbers WHERE n < 2999) SELECT `+query); err != nil {
			t.Fatalf("%s: %v", insert, err)
		}
	}
	e := explainer{d: d, postgres: db.IsPostgres(address)}
	if e.postgres {
		if _, err := d.ExecContext(t.Context(), "VACUUM ANALYZE"); err != nil { // as PostgreSQL does by itself
			t.Fatal(err)
		}
	}
	return e
}

// walks fails when a statement reads all rows of a large table, and returns how many
// rows of such PostgreSQL looks at.
func (e explainer) walks(t *testing.T, query string, args []any) int {
	t.Helper()
	if !e.postgres {
		for _, line := range e.ask(t, "EXPLAIN QUERY PLAN "+query, args) {
			if strings.Contains(query, ".id IN (") && strings.Contains(line, "(environment_id=?)") {
				t.Errorf("SQLite reads all of the environment (%s): %s", line, query)
			}
			m := sqliteScan.FindStringSubmatch(line)
			if m == nil || strings.HasSuffix(m[2], "_list") {
				continue // a page in its order ends by its limit
			}
			table := m[1]
			if long, ok := aliases[table]; ok {
				table = long
			}
			if shared.MatchString(table) {
				t.Errorf("SQLite reads all %s (%s): %s", table, line, query)
			}
		}
		return 0
	}
	text := strings.Join(e.ask(t, "EXPLAIN (ANALYZE, FORMAT JSON) "+query, args), "\n")
	var plans []struct{ Plan planNode }
	if err := json.Unmarshal([]byte(text), &plans); err != nil || len(plans) != 1 {
		t.Fatalf("plan %s: %v", text, err)
	}
	var sum func(n planNode) float64
	sum = func(n planNode) (rows float64) {
		if shared.MatchString(n.Relation) {
			if n.Type == "Seq Scan" {
				t.Errorf("PostgreSQL reads all %s: %s", n.Relation, query)
			}
			rows = (n.Rows + n.Filtered + n.Rechecked) * n.Loops
		}
		for _, p := range n.Plans {
			rows += sum(p)
		}
		return rows
	}
	return int(sum(plans[0].Plan))
}

// TestSharePlans looks at how the databases carry out the statements about shares
// that the service makes for somebody in a few of 300 groups, when there are 9,000
// grants: by an index, whose entries they want.
func TestSharePlans(t *testing.T) {
	latchkeytest.EachDB(t, func(t *testing.T, address string) {
		if address == "" {
			address = t.TempDir() + "/latchkey.db"
		}
		w := newWorld(t, latchkeytest.Options{DatabaseURL: address, Idle: false})
		e := w.manyShares(t, address)
		person := latchkey.Caller{ID: "user_00000000000001000000001234", Kind: latchkey.PrincipalUser, Name: "p1234"}
		const credential = "cred_00000000000001000000001234"
		all, err := w.Broker.Credentials(t.Context(), w.Admin, w.Env, latchkey.PageOptions{Limit: 5})
		if err != nil || all.Next == "" {
			t.Fatalf("first page = %+v, %v", all, err)
		}
		list := func(who latchkey.Caller, after string, want int) func(ctx context.Context) error {
			return func(ctx context.Context) error {
				p, err := w.Broker.Credentials(ctx, who, w.Env, latchkey.PageOptions{Limit: 10, After: after})
				if err == nil && len(p.Items) < want {
					err = fmt.Errorf("%d credentials; want %d", len(p.Items), want)
				}
				return err
			}
		}
		for _, c := range []struct {
			name  string
			reads int // most rows of large tables that one statement may have PostgreSQL look at
			do    func(ctx context.Context) error
		}{
			{"credentials of an admin", 40, list(w.Admin, "", 10)},
			{"credentials of a person", 80, list(person, "", 10)},
			{"credentials of a person, the rest", 80, list(person, all.Next, 10)},
			{"decision", 40, func(ctx context.Context) error {
				_, err := w.Broker.Credential(ctx, person, w.Env, credential)
				return err
			}},
			{"shares", 40, func(ctx context.Context) error {
				_, err := w.Broker.Shares(ctx, w.Admin, w.Env, latchkey.KindCredential, credential, latchkey.PageOptions{})
				return err
			}},
			{"share and unshare", 60, func(ctx context.Context) error {
				owner := person
				if _, err := w.Broker.SetShare(ctx, owner, w.Env, latchkey.KindCredential, credential, "p7", latchkey.ShareSet{Role: latchkey.RoleUser}); err != nil {
					return err
				}
				_, err := w.Broker.Unshare(ctx, owner, w.Env, latchkey.KindCredential, credential, "p7", nil)
				return err
			}},
			{"whom something may be shared with", 120, func(ctx context.Context) error {
				_, err := w.Broker.Directory(ctx, person, w.Env, "", latchkey.PageOptions{Limit: 20})
				return err
			}},
			{"whom, by the beginning of a name", 120, func(ctx context.Context) error {
				p, err := w.Broker.Directory(ctx, person, w.Env, "n\x10\x124", latchkey.PageOptions{Limit: 20})
				if err == nil && len(p.Items) == 0 {
					err = errors.New("nobody is found")
				}
				return err
			}},
			{"groups that somebody is in", 200, func(ctx context.Context) error {
				p, err := w.Broker.Groups(ctx, person, latchkey.PageOptions{})
				if err == nil && len(p.Items) != 3 { // 34, which is in 3, which is in 0
					err = fmt.Errorf("in %d groups; want 3", len(p.Items))
				}
				return err
			}},
		} {
			t.Run(c.name, func(t *testing.T) {
				statements := 0
				ctx := db.WithTrace(t.Context(), func(query string, args []any) {
					if !strings.HasPrefix(query, "SELECT") && !strings.HasPrefix(query, "WITH") {
						return
					}
					statements++
					if n := e.walks(t, query, args); n > c.reads {
						t.Errorf("PostgreSQL looks at %d rows; want at most %d: %s", n, c.reads, query)
					}
				})
				if err := c.do(ctx); err != nil {
					t.Fatal(err)
				}
				if statements == 0 {
					t.Fatal("no statement was made")
				}
			})
		}
	})
}

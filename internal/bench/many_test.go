package bench

import (
	"database/sql"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"latchkey.dev/internal/broker"
	"latchkey.dev/internal/db"
	"latchkey.dev/internal/latchkeytest"
	"latchkey.dev/latchkey"
)

// many is how many credentials lists are measured with: a million, or what
// LATCHKEY_BENCH_CREDENTIALS says.
func many(b *testing.B) int {
	text := os.Getenv("LATCHKEY_BENCH_CREDENTIALS")
	if text == "" {
		return 1_000_000
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1000 {
		b.Fatalf("LATCHKEY_BENCH_CREDENTIALS is %q; want a number from 1000", text)
	}
	return n
}

// A generator writes rows with the database's own means, which is much quicker
// than one by one.
type generator struct {
	raw      *sql.DB
	postgres bool
}

func newGenerator(b *testing.B, url string) *generator {
	b.Helper()
	g := &generator{postgres: db.IsPostgres(url)}
	driver := "sqlite"
	if g.postgres {
		driver = "pgx"
	} else {
		url += "?_pragma=busy_timeout(60000)&_pragma=synchronous(off)"
	}
	var err error
	if g.raw, err = sql.Open(driver, url); err != nil {
		b.Fatal(err)
	}
	g.raw.SetMaxOpenConns(1)
	b.Cleanup(func() { _ = g.raw.Close() })
	return g
}

// auditID is the id of an entry of the audit log that is made n milliseconds after
// 1970: ids begin with their time, in base 32, and lists rely on it.
const auditID = `'aud_00000' || substr('0123456789abcdefghjkmnpqrstvwxyz', (4*n/1048576) % 32 + 1, 1) || substr('0123456789abcdefghjkmnpqrstvwxyz', (4*n/32768) % 32 + 1, 1) ||
	substr('0123456789abcdefghjkmnpqrstvwxyz', (4*n/1024) % 32 + 1, 1) || substr('0123456789abcdefghjkmnpqrstvwxyz', (4*n/32) % 32 + 1, 1) ||
	substr('0123456789abcdefghjkmnpqrstvwxyz', (4*n) % 32 + 1, 1) || '0000000000000000'`

// insert runs a statement that selects from numbers(n), which are 0 to count-1.
// In it ID(prefix) is the n'th id of a kind, ID(prefix, number) that of another
// number, KEY(text) a sort key and BYTES(text) a text's bytes.
func (g *generator) insert(b *testing.B, count int, statement string) {
	b.Helper()
	key, bytes := "lower(hex(lower(%s)))", "CAST(%s AS BLOB)"
	if g.postgres {
		key, bytes = "encode(convert_to(lower(%s), 'UTF8'), 'hex')", "convert_to(%s, 'UTF8')"
	}
	expand := func(name string, with func(arg string) string) {
		for {
			before, rest, ok := strings.Cut(statement, name+"(")
			if !ok {
				return
			}
			arg, after, _ := strings.Cut(rest, ")")
			statement = before + with(arg) + after
		}
	}
	expand("KEY", func(arg string) string { return fmt.Sprintf(key, arg) })
	expand("BYTES", func(arg string) string { return fmt.Sprintf(bytes, arg) })
	expand("ID", func(arg string) string {
		prefix, number, ok := strings.Cut(arg, ", ")
		if !ok {
			number = "n"
		}
		return fmt.Sprintf("'%s_0000000000000' || CAST(1000000000000 + %s AS TEXT)", prefix, number)
	})
	into, query, _ := strings.Cut(statement, "SELECT ")
	query = fmt.Sprintf(`%sWITH RECURSIVE numbers (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM numbers WHERE n < %d) SELECT %s`, into, count-1, query)
	if _, err := g.raw.ExecContext(b.Context(), query); err != nil {
		b.Fatalf("%s: %v", query, err)
	}
}

// credentials writes credentials with a variable of their own for the password,
// one for all user names, and an owner's grant.
func (g *generator) credentials(b *testing.B, env latchkey.EnvironmentID, owner latchkey.PrincipalID, username latchkey.VariableID, n int) {
	b.Helper()
	g.insert(b, n, fmt.Sprintf(`INSERT INTO variables (id, environment_id, name, name_key, display_name, sort_key, search_key, description, type, created_by, created_at, updated_at)
		SELECT ID(var), '%[1]s', 'new_P' || n, 'new_p' || n, 'Password ' || n, KEY('Password ' || n), lower('Password ' || n), '', 'secret', '%[2]s', 1, 1 FROM numbers`, env, owner))
	g.insert(b, n, fmt.Sprintf(`INSERT INTO credentials (id, environment_id, name, sort_key, search_key, description, store, usages, authentication, exposure, allow_shared_uid, machines, machine_groups, created_by, created_at, updated_at)
		SELECT ID(cred), '%[1]s', 'Credential ' || n, KEY('Credential ' || n), lower('Credential ' || n), '', 'azure-key-vault', '["connection"]', 'username-password', 'session', FALSE, '[]', '[]', '%[2]s', 1, 1 FROM numbers`, env, owner))
	g.insert(b, n, fmt.Sprintf(`INSERT INTO credential_slots (credential_id, slot, variable_id) SELECT ID(cred), 'username', '%s' FROM numbers`, username))
	g.insert(b, n, `INSERT INTO credential_slots (credential_id, slot, variable_id) SELECT ID(cred), 'password', ID(var) FROM numbers`)
	g.grants(b, env, owner, "owner", n, 1, 0)
}

// grants gives a principal a role on every step'th credential.
func (g *generator) grants(b *testing.B, env latchkey.EnvironmentID, to latchkey.PrincipalID, role string, n, step, mark int) {
	b.Helper()
	g.insert(b, n, fmt.Sprintf(`INSERT INTO grants (id, environment_id, subject_kind, subject_id, sort_key, principal_id, role, via, created_by, created_at)
		SELECT 'grant_%[5]d' || CAST(n AS TEXT), '%[1]s', 'credential', ID(cred), KEY('Credential ' || n), '%[2]s', '%[3]s', '', '%[2]s', 1 FROM numbers WHERE n %% %[4]d = 0`,
		env, to, role, step, mark))
}

// groups puts a member into a group that is in another group, and returns the
// outer one.
func (g *generator) groups(b *testing.B, d *db.DB, member latchkey.PrincipalID) latchkey.PrincipalID {
	b.Helper()
	const inner, outer = "group_inner", "group_outer"
	err := d.Update(b.Context(), func(tx *db.Tx) error {
		return errors.Join(tx.EnsurePrincipal(inner, latchkey.PrincipalGroup, "inner"), tx.EnsurePrincipal(outer, latchkey.PrincipalGroup, "outer"))
	})
	if err != nil {
		b.Fatal(err)
	}
	for _, in := range [][2]latchkey.PrincipalID{{inner, member}, {outer, inner}} {
		if _, err := g.raw.ExecContext(b.Context(), `INSERT INTO group_members (group_id, member_id) VALUES ($1, $2)`, string(in[0]), string(in[1])); err != nil {
			b.Fatal(err)
		}
	}
	return outer
}

// How many things there are for each machine, and for each flow and connection.
const (
	perMachine = 100
	perFlow    = 10
)

// runs writes runs that have ended, of as many machines, flows and connections as
// the constants say. The 20 oldest ran out of time.
func (g *generator) runs(b *testing.B, env latchkey.EnvironmentID, owner latchkey.PrincipalID, n int) {
	b.Helper()
	machines, flows := n/perMachine, n/perFlow
	g.insert(b, machines, `INSERT INTO principals (id, kind, name, sort_key, search_key, created_at, updated_at) SELECT ID(mach), 'machine', 'Machine ' || n, KEY('Machine ' || n), lower('Machine ' || n), 1, 1 FROM numbers`)
	g.insert(b, machines, fmt.Sprintf(`INSERT INTO machines (id, environment_id, name, sort_key, search_key, sign_key, seal_key, os, agent_version, shared_uid, policy, enrolled_by, created_at, updated_at)
		SELECT ID(mach), '%s', 'Machine ' || n, KEY('Machine ' || n), lower('Machine ' || n), BYTES('Machine ' || n), BYTES('Machine ' || n), 'linux', '', FALSE,
		'{"commands":[],"drivers":["none"],"handovers":[]}', '%s', 1, 1 FROM numbers`, env, owner))
	g.insert(b, flows, fmt.Sprintf(`INSERT INTO flows (id, environment_id, name, sort_key, search_key, description, revision, created_by, created_at, updated_at)
		SELECT ID(flow), '%s', 'Flow ' || n, KEY('Flow ' || n), lower('Flow ' || n), '', 1, '%s', 1, 1 FROM numbers`, env, owner))
	g.insert(b, flows, fmt.Sprintf(`INSERT INTO flow_revisions (flow_id, revision, command, timeout_ms, handover, credentials, created_by, created_at)
		SELECT ID(flow), 1, '["/usr/bin/env"]', 60000, 'none', '[]', '%s', 1 FROM numbers`, owner))
	g.insert(b, flows, fmt.Sprintf(`INSERT INTO connections (id, environment_id, name, sort_key, search_key, target_kind, target_id, driver, credential_id, owner_id, created_by, created_at, updated_at)
		SELECT ID(conn), '%[1]s', 'Connection ' || n, KEY('Connection ' || n), lower('Connection ' || n), 'machine', ID(mach, n %% %[3]d), 'none', ID(cred), '%[2]s', '%[2]s', 1, 1 FROM numbers`, env, owner, machines))
	g.insert(b, n, fmt.Sprintf(`INSERT INTO runs (id, environment_id, kind, flow_id, revision, connection_id, machine_id, owner_id, started_by, inputs, state, queued_at, finished_at)
		SELECT ID(run), '%[1]s', 'flow', ID(flow, n %% %[4]d), 1, ID(conn, n %% %[4]d), ID(mach, n %% %[3]d), '%[2]s', '%[2]s', '{}',
		CASE WHEN n < 20 THEN 'timed-out' ELSE 'succeeded' END, n, n FROM numbers`, env, owner, machines, flows))
}

// cursor returns where a page ends whose last item has this name and id.
func cursor(name, id string) string {
	text, _ := json.Marshal([2]string{latchkey.SortKey(name), id})
	return base64.RawURLEncoding.EncodeToString(text)
}

// BenchmarkLists measures pages of lists in an environment with very many
// credentials, runs and entries of the audit log, as people who see all, half and
// twenty of the credentials.
func BenchmarkLists(b *testing.B) {
	n := many(b)
	eachEngine(b, func(b *testing.B, url string) {
		c := latchkeytest.New(b, latchkeytest.Options{DatabaseURL: url}).Chain(b)
		e, err := c.Broker.Environment(b.Context(), c.Admin, c.Env)
		if err != nil {
			b.Fatal(err)
		}
		// few holds what groups of groups do.
		half, few := c.User(b, "half", c.Env, latchkey.EnvUser), c.User(b, "few", c.Env, latchkey.EnvUser)
		g := newGenerator(b, url)
		start := time.Now()
		g.credentials(b, e.ID, c.Admin.ID, c.Username.ID, n)
		g.grants(b, e.ID, half.ID, "user", n, 2, 1)
		g.grants(b, e.ID, g.groups(b, c.DB, few.ID), "user", n, n/20, 2)
		g.runs(b, e.ID, c.Admin.ID, n)
		// As many audit entries, the last of which are about a few credentials.
		g.insert(b, n, fmt.Sprintf(`INSERT INTO audit (id, position, at, environment_id, action, outcome, actor_id, subject_id, run_id, machine_id, credential_id, entry)
			SELECT %[4]s, -n - 1, n, '%[1]s', CASE WHEN n %% 1000 = 0 THEN 'credential.share' ELSE 'release.granted' END, CASE WHEN n %% 1000 = 1 THEN 'denied' ELSE 'ok' END,
			CASE WHEN n %% 1000 = 0 THEN '%[2]s' ELSE 'mach_1' END, ID(cred), '', ID(mach, n %% %[3]d), ID(cred), '{"actorName":"a","subjectName":"Credential"}' FROM numbers`, e.ID, c.Admin.ID, n/perMachine, auditID))
		if g.postgres { // which does so by itself
			if _, err := g.raw.ExecContext(b.Context(), "ANALYZE"); err != nil {
				b.Fatal(err)
			}
		}
		b.Logf("%d credentials made in %s", n, time.Since(start).Round(time.Second))

		middle := strconv.Itoa(n / 2)
		at := func(name, prefix string) string {
			return cursor(name+middle, fmt.Sprintf("%s_%026d", prefix, 1000000000000+n/2))
		}
		machine := latchkey.MachineID(fmt.Sprintf("mach_%026d", 1000000000000))
		limits := []int{latchkey.DefaultPage, latchkey.MaxPage}
		credentials := func(who latchkey.Caller, after string) func(limit int) (int, error) {
			return func(limit int) (int, error) {
				p, err := c.Broker.Credentials(b.Context(), who, c.Env, latchkey.PageOptions{After: after, Limit: limit})
				return len(p.Items), err
			}
		}
		sorted := func(who latchkey.Caller, o latchkey.PageOptions) func(limit int) (int, error) {
			return func(limit int) (int, error) {
				o := o
				o.Limit = limit
				p, err := c.Broker.Credentials(b.Context(), who, c.Env, o)
				return len(p.Items), err
			}
		}
		audit := func(f broker.AuditFilter) func(limit int) (int, error) {
			f.Environment = c.Env
			return func(limit int) (int, error) {
				p, err := c.Broker.Audit(b.Context(), c.Admin, f, latchkey.PageOptions{Limit: limit})
				return len(p.Items), err
			}
		}
		runs := func(f broker.RunFilter) func(limit int) (int, error) {
			return func(limit int) (int, error) {
				p, err := c.Broker.Runs(b.Context(), c.Admin, c.Env, f, latchkey.PageOptions{Limit: limit})
				return len(p.Items), err
			}
		}
		pages := []struct {
			name string
			f    func(limit int) (int, error)
		}{
			{"credentials/all/first", credentials(c.Admin, "")},
			{"credentials/all/middle", credentials(c.Admin, at("Credential ", "cred"))},
			{"credentials/half/middle", credentials(half, at("Credential ", "cred"))},
			{"credentials/few/first", credentials(few, "")},
			{"credentials/all/newest", sorted(c.Admin, latchkey.PageOptions{Sort: latchkey.SortNewest})},
			{"credentials/half/newest", sorted(half, latchkey.PageOptions{Sort: latchkey.SortNewest})},
			{"credentials/all/search of many", sorted(c.Admin, latchkey.PageOptions{Search: "credential 1"})},
			{"credentials/all/search of one", sorted(c.Admin, latchkey.PageOptions{Search: "credential " + middle})},
			{"credentials/half/search of one", sorted(half, latchkey.PageOptions{Search: "credential " + middle})},
			{"credentials/few/search of one", sorted(few, latchkey.PageOptions{Search: "credential " + middle})},
			{"find/all", func(int) (int, error) {
				f, err := c.Broker.Find(b.Context(), c.Admin, c.Env, middle, 0)
				return len(f), err
			}},
			{"attention/all", func(int) (int, error) {
				a, err := c.Broker.Attention(b.Context(), c.Admin, c.Env)
				return len(a.Items), err
			}},
			{"activity/all", func(int) (int, error) {
				a, err := c.Broker.Activity(b.Context(), c.Admin, c.Env, latchkey.MaxActivity)
				return len(a.Days), err
			}},
			{"changes", func(int) (int, error) { _, err := c.Broker.Changes(b.Context(), c.Admin, c.Env, "", 0); return 1, err }},
			{"variables/all/middle", func(limit int) (int, error) {
				p, err := c.Broker.Variables(b.Context(), c.Admin, c.Env, broker.VariableFilter{}, latchkey.PageOptions{After: at("Password ", "var"), Limit: limit})
				return len(p.Items), err
			}},
			{"variables/text/first", func(limit int) (int, error) {
				p, err := c.Broker.Variables(b.Context(), c.Admin, c.Env, broker.VariableFilter{Type: latchkey.TypeText}, latchkey.PageOptions{Limit: limit})
				return len(p.Items), err
			}},
			{"audit/newest", audit(broker.AuditFilter{Newest: true})},
			{"audit/of a credential", audit(broker.AuditFilter{Credential: latchkey.CredentialID(fmt.Sprintf("cred_%026d", 1000000000000+n/2))})},
			{"audit/of an action", audit(broker.AuditFilter{Action: "credential.share", Newest: true})},
			{"audit/of a person", audit(broker.AuditFilter{Actor: c.Admin.ID, Newest: true})},
			{"audit/denials", audit(broker.AuditFilter{Outcome: latchkey.OutcomeDenied, Newest: true})},
			{"audit/of a machine", audit(broker.AuditFilter{Machine: machine, Newest: true})},
			{"audit/since", audit(broker.AuditFilter{Since: time.UnixMilli(int64(n / 2))})},
			{"audit/committed", audit(broker.AuditFilter{Committed: true})},
			{"machines/all/first", func(limit int) (int, error) {
				p, err := c.Broker.Machines(b.Context(), c.Admin, c.Env, latchkey.PageOptions{Limit: limit})
				return len(p.Items), err
			}},
			{"connections/all/first", func(limit int) (int, error) {
				p, err := c.Broker.Connections(b.Context(), c.Admin, c.Env, latchkey.PageOptions{Limit: limit})
				return len(p.Items), err
			}},
			{"flows/all/first", func(limit int) (int, error) {
				p, err := c.Broker.Flows(b.Context(), c.Admin, c.Env, latchkey.PageOptions{Limit: limit})
				return len(p.Items), err
			}},
			{"runs/newest", runs(broker.RunFilter{})},
			{"runs/of a state", runs(broker.RunFilter{State: latchkey.RunTimedOut})},
			{"runs/of a machine", runs(broker.RunFilter{Machine: machine})},
			{"runs/of a machine and state", runs(broker.RunFilter{Machine: machine, State: latchkey.RunTimedOut})},
		}
		for _, page := range pages {
			for _, limit := range limits {
				b.Run(fmt.Sprintf("%s/limit=%d", page.name, limit), func(b *testing.B) {
					var s sample
					items := 0
					for b.Loop() {
						began := time.Now()
						var err error
						if items, err = page.f(limit); err != nil {
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
		}
		b.Run("share decision", func(b *testing.B) { decide(b, c, e.ID, few.ID) })
	})
}

// decide measures the decision whether a principal in groups of groups may use a
// credential.
func decide(b *testing.B, c *latchkeytest.Chain, env latchkey.EnvironmentID, who latchkey.PrincipalID) {
	credential := fmt.Sprintf("cred_%026d", 1000000000000)
	var s sample
	for b.Loop() {
		began := time.Now()
		err := c.DB.View(b.Context(), func(tx *db.Tx) error {
			a, err := tx.Access(who, env, credential)
			if err == nil && !a.Can(latchkey.ActCredentialUse) {
				b.Error("the decision is no")
			}
			return err
		})
		if err != nil {
			b.Fatal(err)
		}
		s.times = append(s.times, time.Since(began))
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(s.quantile(.5)*1000, "p50-µs")
	b.ReportMetric(s.quantile(.99)*1000, "p99-µs")
}

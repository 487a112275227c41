package db

import (
	"database/sql"
	"fmt"
	"log/slog"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"latchkey.dev/latchkey"
)

// TestLastUsedPlan looks at how SQLite finds when things were last used: it reads
// neither all of the audit log nor all runs.
func TestLastUsedPlan(t *testing.T) {
	path := filepath.Join(t.TempDir(), "latchkey.db")
	d, err := Open(t.Context(), Config{URL: path, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	raw, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	for kind, index := range map[latchkey.Kind]string{
		latchkey.KindCredential: "audit_credential (credential_id=?",
		latchkey.KindConnection: "runs_connection (connection_id=?",
		latchkey.KindFlow:       "runs_flow (flow_id=?",
	} {
		var plan strings.Builder
		statements := 0
		ctx := WithTrace(t.Context(), func(query string, args []any) {
			statements++
			rows, err := raw.QueryContext(t.Context(), "EXPLAIN QUERY PLAN "+regexp.MustCompile(`\$(\d+)`).ReplaceAllString(query, "?$1"), args...)
			if err != nil {
				t.Fatal(err)
			}
			defer rows.Close()
			for rows.Next() {
				var id, parent, unused int
				var detail string
				if err := rows.Scan(&id, &parent, &unused, &detail); err != nil {
					t.Fatal(err)
				}
				fmt.Fprintln(&plan, detail)
			}
			if err := rows.Err(); err != nil {
				t.Fatal(err)
			}
		})
		err := d.View(ctx, func(tx *Tx) error {
			_, err := tx.LastUsed(kind, []string{"cred_1", "cred_2", "cred_3"})
			return err
		})
		if err != nil || statements != 1 || !strings.Contains(plan.String(), index) {
			t.Errorf("when a %s was last used is found by %d statements, %v; want one, by the index %s\n%s", kind, statements, err, index, plan.String())
		}
	}
}

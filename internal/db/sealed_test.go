package db

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestSealedColumns holds the list of sealed columns against the schema: each
// column of bytes is sealed, or is here with what it is instead. A column that
// is forgotten would be lost when the master key is changed.
func TestSealedColumns(t *testing.T) {
	unsealed := map[string]string{
		"tokens.hash":                    "a hash",
		"tokens.old_hash":                "a hash",
		"tokens.salt":                    "of no use without a token",
		"used_ceremonies.hash":           "a hash",
		"passkeys.credential_id":         "public",
		"passkeys.public_key":            "public",
		"enrolment_tokens.hash":          "a hash",
		"machines.sign_key":              "public",
		"machines.seal_key":              "public",
		"machine_sessions.release_nonce": "sent in the clear",

		"service_principal_credentials.hash":        "hash",
		"service_principal_credentials.certificate": "public",
		"used_assertions.hash":                      "hash",

		"vault_certificate_versions.leaf":  "public",
		"vault_certificate_versions.chain": "public",
		"vault_certificate_operations.csr": "public",
	}
	tables, err := Tables(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	listed := map[string]SealedColumn{}
	for _, c := range SealedColumns() {
		listed[c.String()] = c
	}
	seen := map[string]bool{}
	for _, table := range tables {
		names := map[string]ColumnType{}
		for _, c := range table.Columns {
			names[c.Name] = c.Type
			name := table.Name + "." + c.Name
			_, isSealed := listed[name]
			_, isUnsealed := unsealed[name]
			seen[name] = true
			if c.Type == TypeBytes && isSealed == isUnsealed {
				t.Errorf("column %s must be in SealedColumns or in this test's list of what is not sealed, and not in both", name)
			}
		}
		for _, c := range SealedColumns() {
			for _, k := range c.Keys {
				if c.Table == table.Name && names[k] != TypeText {
					t.Errorf("the key %s of %s is no text", k, c)
				}
			}
		}
	}
	for name := range listed {
		if !seen[name] {
			t.Errorf("there is no column %s", name)
		}
	}
	for name := range unsealed {
		if !seen[name] {
			t.Errorf("there is no column %s", name)
		}
	}
}

// TestTables compares the tables that are read from the migrations with those
// that each engine has, and tests that each comes after those that it refers to.
func TestTables(t *testing.T) {
	tables, err := Tables(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	eachDB(t, func(t *testing.T, d *DB) {
		query := `SELECT name FROM sqlite_master WHERE type = 'table'`
		if d.engine == enginePostgres {
			query = `SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'`
		}
		names, err := texts(t.Context(), d.read, query)
		if err != nil {
			t.Fatal(err)
		}
		want := []string{}
		for _, name := range names {
			if name != "goose_db_version" && name != "sqlite_sequence" {
				want = append(want, name)
			}
		}
		got := []string{}
		for _, table := range tables {
			got = append(got, table.Name)
			// Both engines have these columns and no others, in this order.
			rows, err := d.read.QueryContext(t.Context(), `SELECT * FROM `+table.Name+` LIMIT 0`)
			if err != nil {
				t.Fatal(err)
			}
			columns, err := rows.Columns()
			if err != nil {
				t.Fatal(err)
			}
			if err := rows.Close(); err != nil {
				t.Fatal(err)
			}
			var names []string
			for _, c := range table.Columns {
				names = append(names, c.Name)
			}
			if diff := cmp.Diff(columns, names); diff != "" {
				t.Errorf("columns of %s (-%s +Tables):\n%s", table.Name, d.Engine(), diff)
			}
		}
		slices.Sort(got)
		slices.Sort(want)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("tables (-%s +Tables):\n%s", d.Engine(), diff)
		}
	})
}

// TestRowsAsTheyAre writes every kind of value and reads it back.
func TestRowsAsTheyAre(t *testing.T) {
	table := Table{Name: "things", Columns: []Column{{"a", TypeText}, {"b", TypeInteger}, {"c", TypeBoolean}, {"d", TypeBytes}}}
	rows := [][]any{
		{"", int64(0), false, []byte{}},
		{"ü\n\u2028", int64(-1 << 63), true, []byte{0, 255}},
		{nil, nil, nil, nil},
	}
	eachDB(t, func(t *testing.T, d *DB) {
		if _, err := d.write.ExecContext(t.Context(), `CREATE TABLE things (a TEXT, b BIGINT, c BOOLEAN, d BYTEA)`); err != nil {
			t.Fatal(err)
		}
		update(t, d, func(tx *Tx) error { return tx.InsertRows(table, rows) })
		var got [][]any
		view(t, d, func(tx *Tx) error {
			return tx.EachRow(table, func(row []any) error {
				got = append(got, slices.Clone(row))
				return nil
			})
		})
		if diff := cmp.Diff(rows, got); diff != "" {
			t.Errorf("rows (-written +read):\n%s", diff)
		}
	})
}

// TestRowThatIsNoText tests that a text which only SQLite takes is not altered
// without a word.
func TestRowThatIsNoText(t *testing.T) {
	d := open(t, Config{URL: t.TempDir() + "/latchkey.db"})
	if _, err := d.write.ExecContext(t.Context(), `INSERT INTO settings (name, value) VALUES ('a', CAST(x'ff' AS TEXT))`); err != nil {
		t.Fatal(err)
	}
	err := d.View(t.Context(), func(tx *Tx) error {
		return tx.EachRow(Table{Name: "settings", Columns: []Column{{"name", TypeText}, {"value", TypeText}}}, func([]any) error { return nil })
	})
	if err == nil {
		t.Error("EachRow of a text that is not UTF-8: no error")
	}
}

func TestMasterKeys(t *testing.T) {
	eachDB(t, func(t *testing.T, d *DB) {
		view(t, d, func(tx *Tx) error {
			if id, err := tx.SealingKey(); err != ErrNotFound {
				t.Errorf("SealingKey of an empty database = %q, %v; want ErrNotFound", id, err)
			}
			return nil
		})
		for _, id := range []string{"a", "b", "b", "a", "c"} {
			update(t, d, func(tx *Tx) error { return tx.UseMasterKey(id) })
			view(t, d, func(tx *Tx) error {
				if got, err := tx.SealingKey(); err != nil || got != id {
					t.Errorf("SealingKey = %q, %v; want %s", got, err, id)
				}
				return nil
			})
		}
		update(t, d, func(tx *Tx) error {
			gone, err := tx.ForgetMasterKeys()
			if err == nil && !slices.Equal(gone, []string{"a", "b"}) {
				t.Errorf("ForgetMasterKeys = %q; want a and b", gone)
			}
			return err
		})
	})
}

// TestBoxes reads boxes in pages, by column and key, and replaces one.
func TestBoxes(t *testing.T) {
	box := func(key byte, n int) []byte { return fmt.Appendf([]byte{1, key, 0, 0, 0, 0, 0, 0, 0}, "%d", n) }
	c := SealedColumns()[0]
	eachDB(t, func(t *testing.T, d *DB) {
		update(t, d, func(tx *Tx) error {
			for i := range 7 {
				if err := tx.CreateSealedSetting(fmt.Sprintf("s%d", i), box(byte(i%2), i)); err != nil {
					return err
				}
			}
			return nil
		})
		view(t, d, func(tx *Tx) error {
			counts, err := tx.BoxCounts(c)
			want := map[string]int64{"0000000000000000": 4, "0100000000000000": 3}
			if diff := cmp.Diff(want, counts); err != nil || diff != "" {
				t.Errorf("BoxCounts: %v\n%s", err, diff)
			}
			return nil
		})
		var got []string
		for after := []string(nil); ; {
			var boxes []Box
			view(t, d, func(tx *Tx) (err error) {
				boxes, err = tx.Boxes(c, after, "0100000000000000", 3)
				return err
			})
			for _, b := range boxes {
				got, after = append(got, b.Keys[0]), b.Keys
			}
			if len(boxes) < 3 {
				break
			}
		}
		if want := []string{"s0", "s2", "s4", "s6"}; !slices.Equal(got, want) {
			t.Errorf("Boxes gave %q; want %q", got, want)
		}
		update(t, d, func(tx *Tx) error {
			old := Box{Keys: []string{"s0"}, Box: box(0, 0)}
			for _, want := range []bool{true, false} { // the second time it is another
				if got, err := tx.ReplaceBox(c, old, box(1, 0)); err != nil || got != want {
					return fmt.Errorf("ReplaceBox = %v, %v; want %v", got, err, want)
				}
			}
			return nil
		})
	})
}

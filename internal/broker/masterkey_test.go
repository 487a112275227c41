package broker_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"latchkey.dev/internal/broker"
	"latchkey.dev/internal/db"
	"latchkey.dev/internal/latchkeytest"
	"latchkey.dev/internal/seal"
	"latchkey.dev/latchkey"
)

// statuses returns what is sealed with which key, by the key's id.
func statuses(t *testing.T, d *db.DB, key *seal.Key) map[string]broker.KeyStatus {
	t.Helper()
	all, err := broker.KeyStatuses(t.Context(), d, key, true)
	if err != nil {
		t.Fatal(err)
	}
	m := map[string]broker.KeyStatus{}
	for _, s := range all {
		m[s.ID] = s
		if s.Bad > 0 {
			t.Errorf("%d boxes under %s do not open; the first is %s", s.Bad, s.ID, s.First)
		}
	}
	return m
}

// load reads a key file.
func load(t *testing.T, path string) *seal.Key {
	t.Helper()
	k, err := seal.LoadKey(path)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// TestRotateMasterKey changes the master key beside two servers that read and
// write all the time. The change is killed again and again, and goes on. Each
// backup that is taken meanwhile is one state.
func TestRotateMasterKey(t *testing.T) {
	latchkeytest.EachDB(t, func(t *testing.T, url string) {
		path := filepath.Join(t.TempDir(), "master.key")
		key, err := seal.CreateKey(path)
		if err != nil {
			t.Fatal(err)
		}
		old := key.ID()
		s := latchkeytest.New(t, latchkeytest.Options{DatabaseURL: url, Key: key})
		c := s.Chain(t)
		for i := range 220 { // more than one batch
			c.SetSecret(t, fmt.Sprintf("secret-%d", i%50), fmt.Sprintf("value %d", i))
		}
		second := latchkeytest.New(t, latchkeytest.Options{DatabaseURL: s.URL, Key: load(t, path)})
		c.Start(t)
		run := c.Machine.Claim(t)

		// Meanwhile the servers read, write, release and open sessions.
		work, stop := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		for n, at := range []*latchkeytest.Service{s, second} {
			wg.Go(func() {
				for i := 0; work.Err() == nil; i++ {
					name := fmt.Sprintf("secret-%d", i%50)
					if _, _, err := at.Broker.Secret(t.Context(), at.Admin, c.Vault.Name, name, ""); err != nil {
						t.Errorf("read %s: %v", name, err)
						return
					}
					if i%10 == 0 {
						name = fmt.Sprintf("from-%d", n)
						if _, err := at.Broker.SetSecret(t.Context(), at.Admin, c.Vault.Name, name, latchkey.NewSecret("x"), latchkey.SecretAttributes{Enabled: true}); err != nil {
							t.Errorf("write %s: %v", name, err)
							return
						}
					}
				}
			})
		}
		defer wg.Wait()
		defer stop()
		backups := make([][]byte, 4)
		wg.Go(func() {
			for i := range backups {
				b := &busyWriter{change: func() { changeAll(t, second, c, i) }}
				if _, err := broker.Backup(t.Context(), broker.BackupConfig{DB: second.DB, Out: b}); err != nil {
					t.Errorf("backup %d: %v", i, err)
				}
				backups[i] = b.Bytes()
			}
		})

		d, err := db.OpenExisting(t.Context(), db.Config{URL: s.URL})
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		_, err = broker.Rewrap(t.Context(), d, load(t, path), "", nil)
		wantErrCode(t, "Rewrap with one key", err, "no-newer-key")
		_, _, err = broker.RetireKeys(t.Context(), d, load(t, path), "")
		wantErrCode(t, "RetireKeys with one key", err, "no-newer-key")
		added, err := seal.AddKey(path)
		if err != nil {
			t.Fatal(err)
		}
		_, _, err = broker.RetireKeys(t.Context(), d, load(t, path), "")
		wantErrCode(t, "RetireKeys of a key that nobody has used", err, "key-unused")
		killed := 0
		for {
			ctx, kill := context.WithCancel(t.Context())
			r, err := broker.Rewrap(ctx, d, load(t, path), "tester", func(int64) { kill() })
			kill()
			if err == nil {
				if r.Key != added || r.Left != 0 {
					t.Errorf("Rewrap = %+v; want nothing left", r)
				}
				break
			}
			if !errors.Is(err, context.Canceled) {
				t.Fatal(err)
			}
			if killed++; killed == 1 {
				if n := statuses(t, d, load(t, path)); n[old].Sealed == 0 || n[added].Sealed == 0 {
					t.Errorf("after the first batch: %d under the old key, %d under the new one; want some under both", n[old].Sealed, n[added].Sealed)
				}
				if _, _, err := broker.RetireKeys(t.Context(), d, load(t, path), ""); err == nil || !strings.Contains(err.Error(), "rewrap") {
					t.Errorf("RetireKeys in the middle: %v; want a refusal", err)
				}
			}
			if killed > 20 {
				t.Fatal("the change does not come forward")
			}
		}
		if killed < 2 {
			t.Errorf("the change was killed %d times; want more batches", killed)
		}
		if _, _, err := c.Machine.Get(t, run, c.Credential.ID); err != nil {
			t.Errorf("release in a session from before: %v", err)
		}
		if err := c.Machine.At(second).Open(t, false); err != nil {
			t.Errorf("a new session: %v", err)
		}
		stop()
		wg.Wait()

		n := statuses(t, d, load(t, path))
		if n[old].Sealed != 0 || !n[old].Known || n[added].Sealed < 223 || !n[added].Seals {
			t.Errorf("in the end %+v; want all under %s", n, added)
		}
		for i, text := range backups {
			checkBackup(t, text, load(t, path), i)
		}
		sealing, retired, err := broker.RetireKeys(t.Context(), d, load(t, path), "tester")
		if err != nil || sealing != added || len(retired) != 1 || retired[0] != old {
			t.Errorf("RetireKeys = %s, %q, %v", sealing, retired, err)
		}
		if _, err := seal.KeepKey(path, sealing); err != nil {
			t.Fatal(err)
		}
		// A server that starts with the new file alone has everything.
		third := latchkeytest.New(t, latchkeytest.Options{DatabaseURL: s.URL, Key: load(t, path)})
		if _, value, err := third.Broker.Secret(t.Context(), third.Admin, c.Vault.Name, "erp-password", ""); err != nil || value.Reveal() != latchkeytest.ChainPassword {
			t.Errorf("read with the new key alone: %v", err)
		}
		var actions []string
		for _, e := range auditOf(t, third) {
			if strings.HasPrefix(string(e.Action), "master-key.") {
				actions = append(actions, string(e.Action))
			}
		}
		if got, want := strings.Join(actions, " "), "master-key.use master-key.rewrap master-key.retire"; got != want {
			t.Errorf("audit has %q; want %q", got, want)
		}
	})
}

// A busyWriter takes a backup, and has something changed each time that another
// table begins.
type busyWriter struct {
	bytes.Buffer
	change func()
}

// Write implements [io.Writer].
func (w *busyWriter) Write(b []byte) (int, error) {
	if bytes.HasPrefix(b, []byte(`{"table":`)) {
		w.change()
	}
	return w.Buffer.Write(b)
}

// changeAll makes things, each with rows of several tables, while backup i is taken.
func changeAll(t *testing.T, s *latchkeytest.Service, c *latchkeytest.Chain, i int) {
	if _, err := s.Broker.SetSecret(t.Context(), s.Admin, c.Vault.Name, fmt.Sprintf("during-%d", i), latchkey.NewSecret("x"), latchkey.SecretAttributes{Enabled: true}); err != nil {
		t.Errorf("write beside a backup: %v", err)
	}
	text := "x"
	if _, err := s.Broker.CreateVariable(t.Context(), s.Admin, c.Env, latchkey.VariableCreate{DisplayName: fmt.Sprintf("during %d %s", i, rand.Text()), Type: latchkey.TypeText, Value: &text}); err != nil {
		t.Errorf("make a variable beside a backup: %v", err)
	}
}

// checkBackup restores backup i and looks whether it is one state of the database:
// everything sealed opens, references resolve, what one transaction wrote is there
// together or not at all, and nothing that was written while it was taken.
func checkBackup(t *testing.T, text []byte, key *seal.Key, i int) {
	t.Helper()
	url := filepath.Join(t.TempDir(), "restored.db")
	r, err := broker.Restore(t.Context(), restoreConfig(url, text, key))
	if err != nil {
		t.Fatalf("restore backup %d: %v", i, err)
	}
	raw, err := sql.Open("sqlite", url)
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	count := func(query string, args ...any) (n int64) {
		t.Helper()
		if err := raw.QueryRowContext(t.Context(), "SELECT count(*) FROM "+query, args...).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	rows := map[string]int64{}
	for line := range bytes.Lines(text) {
		var end struct {
			End  string
			Rows int64
		}
		if bytes.HasPrefix(line, []byte(`{"end":`)) {
			if err := json.Unmarshal(line, &end); err != nil {
				t.Fatal(err)
			}
			rows[end.End] = end.Rows
		}
	}
	for table, n := range rows {
		switch table {
		case "audit", "settings", "machine_sessions": // a restore changes them
			continue
		}
		if got := count(table); got != n {
			t.Errorf("backup %d: %d rows of %s restored; want %d", i, got, table, n)
		}
	}
	if want := rows["sealed_settings"] + rows["machine_sessions"] + rows["vault_secret_versions"]; r.Sealed.Bad != 0 || r.Sealed.Count != want || rows["vault_secret_versions"] < 220 {
		t.Errorf("backup %d: %+v; want %d sealed values, 220 secrets among them, all to open", i, r.Sealed, want)
	}
	for what, query := range map[string]string{
		"references that lead nowhere":    `pragma_foreign_key_check`,
		"secrets without their entry":     `vault_secret_versions WHERE version NOT IN (SELECT json_extract(entry, '$.details.version') FROM audit WHERE action = 'secret.set' AND outcome = 'ok')`,
		"entries without their secret":    `audit WHERE action = 'secret.set' AND outcome = 'ok' AND json_extract(entry, '$.details.version') NOT IN (SELECT version FROM vault_secret_versions)`,
		"variables without an owner":      `variables WHERE id NOT IN (SELECT subject_id FROM grants WHERE role = 'owner')`,
		"grants on nothing":               `grants WHERE subject_kind = 'variable' AND subject_id NOT IN (SELECT id FROM variables)`,
		"variables without their entry":   `variables WHERE id NOT IN (SELECT subject_id FROM audit WHERE action = 'variable.create')`,
		"entries without their variable":  `audit WHERE action = 'variable.create' AND subject_id NOT IN (SELECT id FROM variables)`,
		"secrets from while it was taken": fmt.Sprintf(`vault_secret_versions WHERE name_key = 'during-%d'`, i),
	} {
		if n := count(query); n != 0 {
			t.Errorf("backup %d has %d %s", i, n, what)
		}
	}
	if n := count(`grants WHERE subject_kind = 'variable'`); i > 0 && n < 30 {
		t.Errorf("backup %d has %d grants on variables; want those that were made while the one before was taken", i, n)
	}
}

// TestServerWithoutTheNewKey tests a server whose key file somebody forgot: it
// does not start, and one that runs seals nothing until it has the file.
func TestServerWithoutTheNewKey(t *testing.T) {
	dir := t.TempDir()
	path, forgotten := filepath.Join(dir, "master.key"), filepath.Join(dir, "forgotten.key")
	if _, err := seal.CreateKey(path); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(forgotten, text, 0o600); err != nil {
		t.Fatal(err)
	}
	s := latchkeytest.New(t, latchkeytest.Options{Key: load(t, forgotten)})
	c := s.Chain(t)
	added, err := seal.AddKey(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := broker.Rewrap(t.Context(), s.DB, load(t, path), "", nil); err != nil {
		t.Fatal(err)
	}
	_, err = broker.New(t.Context(), broker.Config{
		DB: s.DB, Key: load(t, forgotten), Log: slog.New(slog.DiscardHandler), OpenVault: noVault, Inspect: noInspection, VaultURL: func(string) string { return "" },
	})
	if err == nil || !strings.Contains(err.Error(), "lacks the key "+added) {
		t.Errorf("New without the new key: %v; want which one is missing", err)
	}
	set := func() error {
		_, err := s.Broker.SetSecret(t.Context(), s.Admin, c.Vault.Name, "late", latchkey.NewSecret("x"), latchkey.SecretAttributes{Enabled: true})
		return err
	}
	if err := set(); err == nil || !strings.Contains(err.Error(), added) {
		t.Errorf("SetSecret without the new key: %v; want that the file lacks it", err)
	}
	for end := time.Now().Add(30 * time.Second); !strings.Contains(s.Log.String(), "lacks the key "+added); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the log does not say that the key is missing")
		}
	}
	if err := os.Rename(path, forgotten); err != nil {
		t.Fatal(err)
	}
	if err := set(); err != nil {
		t.Errorf("SetSecret with the file in place: %v", err)
	}
}

// TestVaultTokenAcrossKeys tests that an access token outlives the change of the
// master key that it was signed with.
func TestVaultTokenAcrossKeys(t *testing.T) {
	path := filepath.Join(t.TempDir(), "master.key")
	key, err := seal.CreateKey(path)
	if err != nil {
		t.Fatal(err)
	}
	s := latchkeytest.New(t, latchkeytest.Options{Key: key})
	token, _, err := s.Broker.VaultToken(t.Context(), s.Admin)
	if err != nil {
		t.Fatal(err)
	}
	added, err := seal.AddKey(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := key.Use(added); err != nil {
		t.Fatal(err)
	}
	if who, err := s.Broker.AuthenticateVault(t.Context(), token); err != nil || who.ID != s.Admin.ID {
		t.Errorf("AuthenticateVault of a token from before = %v, %v", who.ID, err)
	}
}

// TestDamagedBoxIsCountedOnce tests that a box without a whole id is in a status
// of its own, and not booked on another key.
func TestDamagedBoxIsCountedOnce(t *testing.T) {
	s := latchkeytest.New(t, latchkeytest.Options{})
	column := db.SealedColumns()[0]
	err := s.DB.Update(t.Context(), func(tx *db.Tx) error {
		boxes, err := tx.Boxes(column, nil, "", 1)
		if err != nil {
			return err
		}
		_, err = tx.ReplaceBox(column, boxes[0], []byte{1, 0xab})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	all, err := broker.KeyStatuses(t.Context(), s.DB, s.Key, true)
	if err != nil {
		t.Fatal(err)
	}
	for _, st := range all {
		if want := int64(0); st.ID != "ab" && st.Bad != want || st.ID == "ab" && (st.Bad != 1 || st.Sealed != 1 || st.Held) {
			t.Errorf("status %+v; want the damaged value under ab alone", st)
		}
	}
	if len(all) != 2 {
		t.Errorf("%d statuses; want 2", len(all))
	}
}

package broker_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"latchkey.dev/internal/backup"
	"latchkey.dev/internal/broker"
	"latchkey.dev/internal/db"
	"latchkey.dev/internal/latchkeytest"
	"latchkey.dev/internal/latchkeytest/pg"
	"latchkey.dev/internal/seal"
	"latchkey.dev/internal/vault"
	"latchkey.dev/latchkey"
)

func takeBackup(t *testing.T, s *latchkeytest.Service) []byte {
	t.Helper()
	var b bytes.Buffer
	if _, err := broker.Backup(t.Context(), broker.BackupConfig{DB: s.DB, Out: &b, Program: "test", Account: "tester"}); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func restoreConfig(url string, text []byte, key *seal.Key) broker.RestoreConfig {
	return broker.RestoreConfig{
		Database: db.Config{URL: url, Log: slog.New(slog.DiscardHandler)}, Key: key, Account: "tester",
		Open: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(text)), nil },
	}
}

func wantErrCode(t *testing.T, what string, err error, code string) {
	t.Helper()
	if e, ok := errors.AsType[*latchkey.Error](err); !ok || e.Code != code {
		t.Errorf("%s: %v; want code %s", what, err, code)
	}
}

// auditOf returns the whole audit log.
func auditOf(t *testing.T, s *latchkeytest.Service) []latchkey.AuditEvent {
	t.Helper()
	var all []latchkey.AuditEvent
	o := latchkey.PageOptions{}
	for {
		var p latchkey.Page[latchkey.AuditEvent]
		err := s.DB.View(t.Context(), func(tx *db.Tx) (err error) {
			p, err = tx.Audit(db.AuditFilter{}, o)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, p.Items...)
		if o.After = p.Next; o.After == "" {
			return all
		}
	}
}

func noVault(latchkey.VaultReference, bool) (vault.Vault, error) { return nil, errors.New("no vault") }

func noInspection(context.Context, vault.Question) []latchkey.CheckResult { return nil }

// emptyDB makes databases that have no schema yet, by engine.
var emptyDB = map[string]func(*testing.T) string{
	"SQLite":     func(t *testing.T) string { return filepath.Join(t.TempDir(), "latchkey.db") },
	"PostgreSQL": func(t *testing.T) string { return pg.New(t) },
}

// eachPair runs f with empty databases to take a backup of and to restore it to,
// in every combination of engines.
func eachPair(t *testing.T, f func(t *testing.T, from, to string)) {
	for from, fromURL := range emptyDB {
		for to, toURL := range emptyDB {
			t.Run(from+" to "+to, func(t *testing.T) { f(t, fromURL(t), toURL(t)) })
		}
	}
}

// TestRestoreEndsWhatWasUnderWay takes a backup while one run is claimed and
// started, one is claimed and one waits: a restored copy releases to none of
// them and executes none again, and otherwise goes on.
func TestRestoreEndsWhatWasUnderWay(t *testing.T) {
	eachPair(t, func(t *testing.T, from, to string) {
		ctx := t.Context()
		s := latchkeytest.New(t, latchkeytest.Options{DatabaseURL: from})
		c := s.Chain(t)
		started, claimed, queued := c.Start(t), c.Start(t), c.Start(t)
		run := c.Machine.Claim(t)
		if _, _, err := c.Machine.Get(t, run, c.Credential.ID); err != nil {
			t.Fatalf("release before the backup: %v", err)
		}
		resp, err := s.Broker.Claim(ctx, c.Machine.Session(), latchkey.ClaimRequest{Holding: []latchkey.RunID{run.Run}})
		if err != nil || resp.Run == nil {
			t.Fatalf("second claim: %v, %v", resp.Run, err)
		}
		before := c.Machine.Session() // a request that somebody may have recorded

		text := takeBackup(t, s)
		for _, secret := range []string{latchkeytest.ChainPassword, s.AdminToken} {
			if bytes.Contains(text, []byte(secret)) {
				t.Error("a secret is in the backup")
			}
		}
		// What happens after the backup is not in it.
		late := s.Machine(t, c.Env, "late")

		r, err := broker.Restore(ctx, restoreConfig(to, text, s.Key))
		if err != nil {
			t.Fatal(err)
		}
		if got := r.Ended; got.Runs != 3 || got.MachineSessions != 1 || r.Sealed.Bad != 0 || r.Sealed.Count < 4 {
			t.Errorf("Restore ended %+v with boxes %+v; want 3 runs and one session", got, r.Sealed)
		}
		copied := latchkeytest.New(t, latchkeytest.Options{DatabaseURL: to, Key: s.Key})
		m := c.Machine.At(copied)

		// The requests of before mean nothing, however the agent makes them.
		_, err = copied.Broker.Release(ctx, before, run.Run, latchkey.ReleaseRequest{Claim: run.Claim, Credential: c.Credential.ID, Counter: 100})
		wantErrCode(t, "a release in the old session", err, "session-expired")
		if _, err := copied.Broker.AgentSession(ctx, before.ID, ""); err == nil {
			t.Error("the old session is still there")
		}
		if err := m.Open(t, false); err != nil {
			t.Fatalf("the next session of the agent: %v", err)
		}
		for _, claim := range []*latchkey.ClaimedRun{run, resp.Run} {
			_, _, err = m.Get(t, claim, c.Credential.ID)
			wantErrCode(t, "a release for a run that was claimed before the backup", err, "claim-lost")
			_, err = copied.Broker.StartClaimed(ctx, m.Session(), claim.Run, latchkey.RunRequest{Claim: claim.Claim})
			wantErrCode(t, "starting it", err, "claim-lost")
		}
		if again := m.Claim(t); again != nil {
			t.Errorf("the restored copy gave out run %s", again.Run)
		}
		for _, id := range []latchkey.RunID{started.ID, claimed.ID, queued.ID} {
			r, err := copied.Broker.Run(ctx, copied.Admin, c.Env, id)
			if err != nil || r.State != latchkey.RunFailed || r.Error == nil || r.Error.Code != latchkey.RunErrRestored {
				t.Errorf("run %s after the restore = %+v, %v; want failed: restored", id, r, err)
			}
		}
		err = late.At(copied).Open(t, false)
		wantErrCode(t, "a machine that was enrolled after the backup", err, "machine-unknown")

		// And it works.
		if _, err := copied.Broker.StartRun(ctx, copied.Admin, c.Env, latchkey.RunCreate{Flow: c.Flow.ID, Connection: c.Connection.ID}); err != nil {
			t.Fatal(err)
		}
		fresh := m.Claim(t)
		if fresh == nil {
			t.Fatal("no run after the restore")
		}
		if v, _, err := m.Get(t, fresh, c.Credential.ID); err != nil || v.Password.Reveal() != latchkeytest.ChainPassword {
			t.Errorf("release after the restore: %v", err)
		}
		m.Finish(t, fresh)

		var actions []latchkey.Action
		for _, e := range auditOf(t, copied) {
			switch e.Action {
			case latchkey.ActBackupCreate, latchkey.ActBackupRestore:
				actions = append(actions, e.Action)
				if e.Details["account"] != "tester" {
					t.Errorf("audit entry %s = %+v; want who did it", e.Action, e)
				}
			}
		}
		if want := []latchkey.Action{latchkey.ActBackupCreate, latchkey.ActBackupRestore}; !slices.Equal(actions, want) {
			t.Errorf("audit of the restored copy has %q; want %q", actions, want)
		}
	})
}

// TestBackupRoundTrip restores a backup and takes one of the copy: but for what
// a restore ends, they hold the same.
func TestBackupRoundTrip(t *testing.T) {
	eachPair(t, func(t *testing.T, from, to string) {
		s := latchkeytest.New(t, latchkeytest.Options{DatabaseURL: from})
		c := s.Chain(t)
		c.Start(t)
		run := c.Machine.Claim(t)
		if _, err := s.Broker.AppendLog(t.Context(), c.Machine.Session(), run.Run, latchkey.LogRequest{Claim: run.Claim, Stream: "stdout", Text: "line <1>\n\u2028\"ü\"\x1b"}); err != nil {
			t.Fatal(err)
		}
		c.Machine.Finish(t, run)
		first := takeBackup(t, s)
		if _, err := broker.Restore(t.Context(), restoreConfig(to, first, s.Key)); err != nil {
			t.Fatal(err)
		}
		d, err := db.OpenExisting(t.Context(), db.Config{URL: to})
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		var second bytes.Buffer
		if _, err := broker.Backup(t.Context(), broker.BackupConfig{DB: d, Out: &second}); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(contents(t, first), contents(t, second.Bytes())); diff != "" {
			t.Errorf("the copy differs (-backup +copy):\n%s", diff)
		}
	})
}

// contents returns the rows of a backup by table, without those that a backup
// or a restore makes or ends.
func contents(t *testing.T, text []byte) map[string][]string {
	t.Helper()
	all := map[string][]string{}
	table := ""
	for line := range strings.Lines(string(text)) {
		if name, ok := strings.CutPrefix(line, `{"table":"`); ok {
			table, _, _ = strings.Cut(name, `"`)
			all[table] = []string{}
		}
		skip := table == "machine_sessions" || table == "environments" || strings.Contains(line, `"backup.`) || strings.HasPrefix(line, `["place",`)
		if table == "audit" { // their positions fit the database that they are in
			line = line[:strings.LastIndexByte(line, ',')]
		}
		if strings.HasPrefix(line, "[") && !skip {
			all[table] = append(all[table], line)
		}
	}
	for _, rows := range all {
		slices.Sort(rows)
	}
	return all
}

// TestRestoreRefuses tests what must not be restored into, or from.
func TestRestoreRefuses(t *testing.T) {
	for engine, makeDB := range emptyDB {
		t.Run(engine, func(t *testing.T) { restoreRefuses(t, makeDB(t)) })
	}
}

func restoreRefuses(t *testing.T, url string) {
	s := latchkeytest.New(t, latchkeytest.Options{})
	text := takeBackup(t, s)
	for _, tt := range []struct {
		name string
		text []byte
		key  *seal.Key
		want string
	}{
		{"another key", text, seal.NewKey(), "needs the master key " + s.Key.ID()},
		{"cut off", text[:len(text)/2], s.Key, "ends too early"},
		{"cut at the end", text[:bytes.LastIndexByte(text[:len(text)-1], '\n')+1], s.Key, "ends too early"},
		{"a value changed", bytes.Replace(text, []byte("first admin token"), []byte("first ADMIN token"), 1), s.Key, "SHA-256"},
		{"nothing", nil, s.Key, "ends too early"},
		{"newer schema", bytes.Replace(text, []byte(`"schema":1`), []byte(`"schema":99`), 1), s.Key, "schema version 99"},
		{"another table", bytes.Replace(text, []byte(`{"table":"settings"`), []byte(`{"table":"settingz"`), 1), s.Key, "does not fit"},
	} {
		if _, err := broker.Restore(t.Context(), restoreConfig(url, tt.text, tt.key)); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: Restore: %v; want %q", tt.name, err, tt.want)
		}
	}
	// None of them has touched the database.
	if holds := leftBehind(t, url); holds != "nothing" {
		t.Errorf("refused restores left %s; want nothing", holds)
	}
	// A restore that broke off keeps a server from starting, also one that has
	// the database open, and can be run again.
	d, err := db.Open(t.Context(), db.Config{URL: url, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	broken := restoreConfig(url, text, s.Key)
	opened := 0
	broken.Open = func() (io.ReadCloser, error) {
		if opened++; opened == 3 {
			return io.NopCloser(bytes.NewReader(text[:len(text)/2])), nil
		}
		return io.NopCloser(bytes.NewReader(text)), nil
	}
	if _, err := broker.Restore(t.Context(), broken); err == nil || !strings.Contains(err.Error(), "run latchkey restore again") {
		t.Errorf("Restore of a backup that is damaged meanwhile: %v; want what to do", err)
	}
	if _, err := broker.HasMasterKey(t.Context(), d); !errors.Is(err, db.ErrRestoring) {
		t.Errorf("HasMasterKey after a restore that broke off: %v; want %v", err, db.ErrRestoring)
	}
	_, err = broker.New(t.Context(), broker.Config{
		DB: d, Key: s.Key, Log: slog.New(slog.DiscardHandler), OpenVault: noVault, Inspect: noInspection, VaultURL: func(string) string { return "" },
	})
	if !errors.Is(err, db.ErrRestoring) {
		t.Errorf("New after a restore that broke off: %v; want %v", err, db.ErrRestoring)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if holds := leftBehind(t, url); holds != "an interrupted restore" {
		t.Errorf("a restore that broke off left %s", holds)
	}
	if _, err := broker.Restore(t.Context(), restoreConfig(url, text, s.Key)); err != nil {
		t.Fatalf("Restore after one that broke off: %v", err)
	}
	if _, err := broker.Restore(t.Context(), restoreConfig(url, text, s.Key)); err == nil || !strings.Contains(err.Error(), "not empty") {
		t.Errorf("Restore into a full database: %v; want that it is not empty", err)
	}
	latchkeytest.New(t, latchkeytest.Options{DatabaseURL: url, Key: s.Key})
}

// TestBackupInterrupted tests that a failed backup is on record.
func TestBackupInterrupted(t *testing.T) {
	s := latchkeytest.New(t, latchkeytest.Options{})
	broken := errors.New("disk full")
	_, err := broker.Backup(t.Context(), broker.BackupConfig{DB: s.DB, Out: failingWriter{broken}})
	if !errors.Is(err, broken) {
		t.Errorf("Backup: %v; want %v", err, broken)
	}
	ctx, cancel := context.WithCancel(t.Context())
	_, err = broker.Backup(ctx, broker.BackupConfig{DB: s.DB, Out: &cancelWriter{cancel: cancel}})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("Backup: %v; want %v", err, context.Canceled)
	}
	var outcomes []latchkey.Outcome
	for _, e := range auditOf(t, s) {
		if e.Action == latchkey.ActBackupCreate {
			outcomes = append(outcomes, e.Outcome)
		}
	}
	want := []latchkey.Outcome{latchkey.OutcomeOK, latchkey.OutcomeFailed, latchkey.OutcomeOK, latchkey.OutcomeFailed}
	if !slices.Equal(outcomes, want) {
		t.Errorf("outcomes on record = %q; want %q", outcomes, want)
	}
}

type failingWriter struct{ err error }

func (w failingWriter) Write([]byte) (int, error) { return 0, w.err }

// A cancelWriter cancels at the first byte.
type cancelWriter struct{ cancel context.CancelFunc }

func (w *cancelWriter) Write(b []byte) (int, error) { w.cancel(); return len(b), nil }

// TestVerifyBackup tests the check without a restore.
func TestVerifyBackup(t *testing.T) {
	s := latchkeytest.New(t, latchkeytest.Options{})
	s.Chain(t)
	text := takeBackup(t, s)
	r, err := broker.VerifyBackup(t.Context(), restoreConfig("", text, nil))
	if err != nil || r.Total.Rows == 0 || r.Sealed.Count != 0 || r.Backup.Tenant != s.Broker.Tenant() {
		t.Errorf("VerifyBackup without a key = %+v, %v", r, err)
	}
	r, err = broker.VerifyBackup(t.Context(), restoreConfig("", text, s.Key))
	if err != nil || r.Sealed.Count < 4 || r.Sealed.Bad != 0 {
		t.Errorf("VerifyBackup = %+v, %v; want every box to open", r.Sealed, err)
	}
	if _, err = broker.VerifyBackup(t.Context(), restoreConfig("", text, seal.NewKey())); err == nil {
		t.Error("VerifyBackup with another key: no error")
	}
	if _, err := backup.NewReader(strings.NewReader(`{"format":"latchkey-backup-2"}` + "\n")); err == nil || !strings.Contains(err.Error(), "newer program") {
		t.Errorf("NewReader of a later format: %v", err)
	}
}

// TestEndRestored tests the same ending for a copy that other tools made.
func TestEndRestored(t *testing.T) {
	latchkeytest.EachDB(t, func(t *testing.T, url string) {
		s := latchkeytest.New(t, latchkeytest.Options{DatabaseURL: url})
		c := s.Chain(t)
		c.Start(t)
		c.Start(t)
		run := c.Machine.Claim(t)
		if _, err := s.Broker.CreateEnrolmentToken(t.Context(), s.Admin, c.Env, latchkey.EnrolmentTokenCreate{}); err != nil {
			t.Fatal(err)
		}
		got, err := broker.EndRestored(t.Context(), s.DB, "tester", true)
		want := broker.Ended{Runs: 2, MachineSessions: 1, EnrolmentTokens: 1, APITokens: 1}
		if err != nil || got != want {
			t.Errorf("EndRestored = %+v, %v; want %+v", got, err, want)
		}
		if err := c.Machine.Open(t, false); err != nil {
			t.Fatal(err)
		}
		_, _, err = c.Machine.Get(t, run, c.Credential.ID)
		wantErrCode(t, "a release after EndRestored", err, "claim-lost")
		if _, err := s.Broker.Authenticate(t.Context(), s.AdminToken); err == nil {
			t.Error("the API token still counts")
		}
	})
}

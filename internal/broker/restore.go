package broker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"

	"latchkey.dev/internal/backup"
	"latchkey.dev/internal/db"
	"latchkey.dev/internal/seal"
	"latchkey.dev/latchkey"
)

// A RestoreConfig says how to restore a backup.
type RestoreConfig struct {
	// Database is where to restore to, an empty one. With VerifyBackup it is not
	// used.
	Database db.Config

	// Open returns the decrypted text of the backup, from its begin.
	Open func() (io.ReadCloser, error)

	// Key is the master key. VerifyBackup takes nil and then does not look at
	// what is sealed.
	Key *seal.Key

	Account      string // account of the operating system
	RevokeTokens bool   // revoke API tokens too
	Progress     func(table string, rows int64)
}

// A Restored says what was restored, and what that ended.
type Restored struct {
	Backup backup.Header `json:"backup"`
	Total  backup.Total  `json:"total"`
	Ended  Ended         `json:"ended"`
	Sealed SealedCount   `json:"sealed,omitzero"` // zero if there was no key to check them with
}

// A SealedCount counts sealed values.
type SealedCount struct {
	Count int64  `json:"count"`
	Bad   int64  `json:"bad"` // how many do not open with the master key
	First string `json:"first,omitempty"`
}

// Ended says what a restored database did not go on with.
type Ended struct {
	Runs            int64 `json:"runs"`
	MachineSessions int64 `json:"machineSessions"`
	EnrolmentTokens int64 `json:"enrolmentTokens"`
	SignIns         int64 `json:"signIns"`
	APITokens       int64 `json:"apiTokens"`
}

// VerifyBackup reads a backup to its end and checks everything that a restore
// would: whether it is whole and fits the schema, and with a key whether
// everything sealed opens. It changes nothing.
func VerifyBackup(ctx context.Context, c RestoreConfig) (r Restored, err error) {
	from, reader, err := c.open()
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, from.Close()) }()
	r.Backup = reader.Header()
	err = c.read(ctx, reader, &r, func(db.Table, [][]any) error { return nil })
	return r, err
}

// Restore fills an empty database from a backup, which it reads twice: a damaged
// one leaves the database as it is. From its first change to its end no server
// starts on the database; an interrupted restore can be run again. Nothing that
// was under way when the backup was taken goes on, see [EndRestored].
func Restore(ctx context.Context, c RestoreConfig) (r Restored, err error) {
	from, reader, err := c.open()
	if err != nil {
		return r, err
	}
	if err := errors.Join(c.checkKeys(reader.Header()), from.Close()); err != nil {
		return r, err
	}
	check := c
	check.Key = nil // what is sealed is opened on the way into the database
	if r, err = VerifyBackup(ctx, check); err != nil {
		return r, fmt.Errorf("%w; nothing was changed", err)
	}
	d, err := db.OpenEmpty(ctx, c.Database, r.Backup.Schema)
	if err != nil {
		return r, err
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("%w; the database is marked as unfinished, and no server starts on it: run latchkey restore again", err)
		}
		err = errors.Join(err, d.Close())
	}()
	err = d.UpdateRows(ctx, func(tx *db.Tx) (err error) {
		from, reader, err := c.open()
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, from.Close()) }()
		return c.read(ctx, reader, &r, tx.InsertRows)
	})
	if err != nil {
		return r, err
	}
	if err := d.Migrate(ctx); err != nil {
		return r, err
	}
	err = d.Update(ctx, func(tx *db.Tx) (err error) {
		if err := errors.Join(tx.EndRestore(), tx.ForgetPlace()); err != nil {
			return err
		}
		r.Ended, err = endRestored(tx, c.RevokeTokens, map[string]string{
			"account": c.Account, "takenAt": r.Backup.TakenAt.Format(time.RFC3339), "takenBy": r.Backup.TakenBy, "takenOn": r.Backup.Engine,
		})
		return err
	})
	return r, err
}

func (c RestoreConfig) open() (io.ReadCloser, *backup.Reader, error) {
	from, err := c.Open()
	if err != nil {
		return nil, nil, err
	}
	reader, err := backup.NewReader(from)
	if err != nil {
		return nil, nil, errors.Join(err, from.Close())
	}
	return from, reader, nil
}

// checkKeys returns an error if the key is not the one for a backup.
func (c RestoreConfig) checkKeys(h backup.Header) error {
	var lacks []string
	for _, id := range h.MasterKeys {
		if !c.Key.Holds(id) {
			lacks = append(lacks, id)
		}
	}
	if len(lacks) > 0 {
		return fmt.Errorf("the backup needs the master key %s, and the key file holds %s: give the key file of the time when the backup was taken with --master-key", strings.Join(lacks, ", "), strings.Join(c.Key.IDs(), ", "))
	}
	return nil
}

// read reads a backup to its end, checks it, and gives its rows to insert.
func (c RestoreConfig) read(ctx context.Context, from *backup.Reader, r *Restored, insert func(db.Table, [][]any) error) error {
	h := from.Header()
	r.Sealed = SealedCount{}
	if c.Key != nil {
		if err := c.checkKeys(h); err != nil {
			return err
		}
	}
	want, err := c.tables(ctx, h.Schema)
	if err != nil {
		return err
	}
	for _, t := range want {
		got, err := from.Table()
		if err == io.EOF || err == nil && (got.Name != t.Name || !slices.Equal(got.Columns, t.Columns)) {
			return fmt.Errorf("the backup does not fit schema version %d: table %s is missing or has other columns", h.Schema, t.Name)
		}
		if err != nil {
			return err
		}
		if err := c.readTable(ctx, from, t, r, insert); err != nil {
			return err
		}
	}
	if _, err := from.Table(); err != io.EOF {
		if err == nil {
			err = fmt.Errorf("the backup does not fit schema version %d: it has one table too many", h.Schema)
		}
		return err
	}
	if c.Key != nil && r.Sealed.Count == 0 {
		return errors.New("the backup holds nothing that is sealed: it is not one of an installation")
	}
	r.Total = from.Total()
	return nil
}

func (c RestoreConfig) tables(ctx context.Context, version int64) ([]db.Table, error) {
	newest, err := db.SchemaVersion()
	if err != nil {
		return nil, err
	}
	if version < 1 || version > newest {
		return nil, fmt.Errorf("the backup has schema version %d, this program knows 1 to %d: use the program of the version that made the backup, or a newer one", version, newest)
	}
	return db.Tables(ctx, version)
}

func (c RestoreConfig) readTable(ctx context.Context, from *backup.Reader, t db.Table, r *Restored, insert func(db.Table, [][]any) error) error {
	var sealed *sealedAt
	if c.Key != nil {
		sealed = findSealed(t)
	}
	var batch [][]any
	for n := int64(1); ; n++ {
		row, err := from.Row()
		if err == io.EOF {
			return insert(t, batch)
		}
		if err != nil {
			return err
		}
		if sealed != nil {
			sealed.check(c.Key, row, &r.Sealed)
		}
		if batch = append(batch, row); len(batch) == t.MaxInsertRows() {
			if err := insert(t, batch); err != nil {
				return err
			}
			batch = batch[:0]
		}
		if n%progressRows == 0 {
			if c.Progress != nil {
				c.Progress(t.Name, n)
			}
			if err := ctx.Err(); err != nil {
				return err
			}
		}
	}
}

// A sealedAt finds the box in the rows of a table.
type sealedAt struct {
	db.SealedColumn
	box  int
	keys []int
}

func findSealed(t db.Table) *sealedAt {
	at := func(name string) int {
		return slices.IndexFunc(t.Columns, func(c db.Column) bool { return c.Name == name })
	}
	for _, c := range db.SealedColumns() {
		if c.Table == t.Name {
			s := &sealedAt{SealedColumn: c, box: at(c.Column)}
			for _, k := range c.Keys {
				s.keys = append(s.keys, at(k))
			}
			return s
		}
	}
	return nil
}

// check opens the box of a row.
func (s *sealedAt) check(key *seal.Key, row []any, n *SealedCount) {
	keys := make([]string, len(s.keys))
	for i, at := range s.keys {
		keys[i], _ = row[at].(string)
	}
	box, _ := row[s.box].([]byte)
	n.Count++
	plain, err := key.Open(box, s.Binding(keys)...)
	if err != nil {
		if n.Bad++; n.First == "" {
			n.First = s.String() + " of " + strings.Join(keys, ", ")
		}
		return
	}
	clear(plain)
}

// EndRestored ends what a copy of a database must not go on with: for copies
// that PostgreSQL's own tools or a copy of the file have made. No server may run
// on the database.
func EndRestored(ctx context.Context, d *db.DB, account string, tokens bool) (ended Ended, err error) {
	err = d.Update(ctx, func(tx *db.Tx) (err error) {
		if err := tx.ForgetPlace(); err != nil {
			return err
		}
		ended, err = endRestored(tx, tokens, map[string]string{"account": account, "inPlace": "true"})
		return err
	})
	return ended, err
}

// endCopied does what [EndRestored] does if the database is a copy that nobody
// declared, and says so in the log.
func (b *Broker) endCopied(ctx context.Context) error {
	var ended Ended
	found, err := b.db.TakePlace(ctx, func(tx *db.Tx, c db.Copy) (err error) {
		ended, err = endRestored(tx, false, map[string]string{"inPlace": "true", "noticed": c.Noticed, "was": c.Was, "is": c.Is})
		return err
	})
	if err != nil {
		return fmt.Errorf("find out whether the database is a copy: %w", err)
	}
	if found != nil {
		b.log.LogAttrs(ctx, slog.LevelWarn, "the database is a copy: what was under way in it has been ended",
			slog.String("noticed", found.Noticed), slog.String("was", found.Was), slog.String("is", found.Is),
			slog.Int64("runs", ended.Runs), slog.Int64("machineSessions", ended.MachineSessions),
			slog.Int64("enrolmentTokens", ended.EnrolmentTokens), slog.Int64("signIns", ended.SignIns))
	}
	return nil
}

const restoredMessage = "the database was restored from a backup or a copy while the run had not ended in it; what became of the run since then is not known here, and it is not repeated"

// endRestored ends sessions, runs, enrolment tokens and sign-ins, and records
// the restore with details. Runs that waited are ended too: they may have been
// executed after the backup was taken.
func endRestored(tx *db.Tx, tokens bool, details map[string]string) (ended Ended, err error) {
	o := &op{tx, localAdministration}
	for {
		runs, err := tx.OpenRuns(lostBatch)
		if err != nil {
			return ended, err
		}
		for _, r := range runs {
			e := latchkey.RunError{Code: latchkey.RunErrRestored, Message: restoredMessage}
			if err := tx.FinishRun(r.ID, latchkey.RunFailed, nil, &e); err != nil {
				return ended, err
			}
			event := o.event(latchkey.ActRunFinish, runThing(r))
			event.Outcome, event.Code, event.Reason = latchkey.OutcomeFailed, e.Code, e.Message
			event.Machine, event.Claim = r.Machine, r.Claim
			if err := o.Record(event); err != nil {
				return ended, err
			}
			ended.Runs++
		}
		if len(runs) < lostBatch {
			break
		}
	}
	f, err := tx.ForgetAccess(tokens)
	if err != nil {
		return ended, err
	}
	ended.MachineSessions, ended.EnrolmentTokens, ended.SignIns, ended.APITokens = f.MachineSessions, f.EnrolmentTokens, f.SignIns, f.APITokens
	for name, n := range map[string]int64{
		"runs": ended.Runs, "machineSessions": ended.MachineSessions, "enrolmentTokens": ended.EnrolmentTokens,
		"signIns": ended.SignIns, "apiTokens": ended.APITokens,
	} {
		details[name] = strconv.FormatInt(n, 10)
	}
	return ended, o.record(latchkey.ActBackupRestore, installation, details)
}

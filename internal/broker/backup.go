package broker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"latchkey.dev/internal/backup"
	"latchkey.dev/internal/db"
	"latchkey.dev/latchkey"
)

// A BackupConfig says how to make a backup.
type BackupConfig struct {
	DB  *db.DB
	Out io.Writer // what is written to it is encrypted already there, or by it

	Program    string   // version of this program
	Account    string   // account of the operating system
	Recipients []string // for the record
	Progress   func(table string, rows int64)
}

// Backup writes a backup of one state of the database, beside running servers.
// That it was made is on record before anything is written, in the backup too;
// that it failed, afterwards.
func Backup(ctx context.Context, c BackupConfig) (total backup.Total, err error) {
	details := map[string]string{"account": c.Account, "recipients": strings.Join(c.Recipients, " ")}
	record := func(ctx context.Context, failure error) error {
		return c.DB.Update(ctx, func(tx *db.Tx) error {
			o := &op{tx, localAdministration}
			e := o.event(latchkey.ActBackupCreate, installation)
			if e.Details = details; failure != nil {
				e.Outcome, e.Code, e.Reason = latchkey.OutcomeFailed, "backup", "the backup was not written to its end"
			}
			return o.Record(e)
		})
	}
	if err := record(ctx, nil); err != nil {
		return total, fmt.Errorf("record the backup: %w", err)
	}
	if total, err = writeBackup(ctx, c); err != nil {
		after, cancel := afterwards(ctx)
		defer cancel()
		return total, errors.Join(err, record(after, err))
	}
	return total, nil
}

func writeBackup(ctx context.Context, c BackupConfig) (total backup.Total, err error) {
	version, err := db.SchemaVersion()
	if err != nil {
		return total, err
	}
	tables, err := db.Tables(ctx, version)
	if err != nil {
		return total, err
	}
	begun := false
	err = c.DB.View(ctx, func(tx *db.Tx) error {
		if begun {
			return errors.New("the database gave up the backup's transaction: make the backup again")
		}
		begun = true
		h := backup.Header{Program: c.Program, Engine: c.DB.Engine(), Schema: version, TakenAt: tx.Now, TakenBy: c.Account}
		if h.Tenant, err = tx.Setting(settingTenant); err != nil {
			return fmt.Errorf("read the tenant id: %w", err)
		}
		keys, err := tx.MasterKeys()
		if err != nil {
			return err
		}
		for _, k := range keys {
			h.MasterKeys = append(h.MasterKeys, k.ID)
		}
		w, err := backup.NewWriter(c.Out, h)
		if err != nil {
			return err
		}
		for _, t := range tables {
			if err := writeTable(tx, w, t, c.Progress); err != nil {
				return err
			}
		}
		total, err = w.Close()
		return err
	})
	return total, err
}

const progressRows = 1000 // rows between two signs of life

func writeTable(tx *db.Tx, w *backup.Writer, t db.Table, progress func(string, int64)) error {
	if err := w.Table(t); err != nil {
		return err
	}
	rows := int64(0)
	return tx.EachRow(t, func(row []any) error {
		if rows++; progress != nil && rows%progressRows == 0 {
			progress(t.Name, rows)
		}
		return w.Row(row)
	})
}

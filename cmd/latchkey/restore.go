package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"filippo.io/age"
	"github.com/spf13/cobra"

	"latchkey.dev/internal/backup"
	"latchkey.dev/internal/broker"
	"latchkey.dev/internal/cli"
	"latchkey.dev/internal/db"
	"latchkey.dev/internal/seal"
)

func (a *app) restoreCommand() *cobra.Command {
	var c serverConfig
	var identity string
	var verify, tokens bool
	cmd := &cobra.Command{
		Use:   "restore FILE",
		Short: "restore a backup into an empty database, or verify one",
		Long: `Restore fills an empty database from a backup: a new data folder, into which you have put
master.key, or an empty PostgreSQL database. It checks that the backup is whole and that
the master key is its own. If it is interrupted, no server starts on the database, and
restore can be run again.

What was under way when the backup was taken ends: every run that had not ended has
failed with the code restored, also one that waited, because it may have been executed
since; sessions of machines, browser sessions, sign-in links and enrolment tokens are over.
API tokens go on, unless --revoke-tokens is given. What was revoked, removed or changed
after the backup is as it was before: look it up in the audit log, if you still have it.

With --verify it checks the backup, and with a master key everything that is sealed, and
changes nothing.`,
		Example: `  latchkey restore --identity identity.txt --data /var/lib/latchkey latchkey.age
  latchkey restore --identity identity.txt --database postgres://latchkey@db/latchkey --master-key master.key latchkey.age
  latchkey restore --verify --identity identity.txt --master-key master.key latchkey.age`,
		Args: cli.Exactly("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if identity == "" {
				return cli.Usagef("--identity is missing: the file that opens the backup")
			}
			ids, err := readIdentities(identity)
			if err != nil {
				return err
			}
			r := broker.RestoreConfig{
				Open:    func() (io.ReadCloser, error) { return openBackup(args[0], ids) },
				Account: account(), RevokeTokens: tokens,
			}
			if verify {
				return a.verify(cmd.Context(), c, r)
			}
			return a.restore(cmd.Context(), c, r)
		},
	}
	a.settingsFlags(cmd, &c, "data", "database", "master-key")
	data := cmd.Flags().Lookup("data")
	data.Usage = strings.Replace(data.Usage, "data folder of the server", "data folder to restore to, made if it does not exist", 1)
	f := cmd.Flags()
	f.StringVar(&identity, "identity", "", "file that opens the backup, from latchkey backup keygen or age-keygen")
	f.BoolVar(&verify, "verify", false, "check the backup only")
	f.BoolVar(&tokens, "revoke-tokens", false, "revoke every API token; latchkey admin token makes a new one")
	return cmd
}

func readIdentities(path string) ([]age.Identity, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open identity: %w", err)
	}
	defer f.Close()
	ids, err := backup.Identities(f)
	if err != nil {
		return nil, fmt.Errorf("%s %w", path, err)
	}
	return ids, nil
}

// openBackup opens the text of a backup.
func openBackup(path string, ids []age.Identity) (io.ReadCloser, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open backup: %w", err)
	}
	text, err := backup.Decrypt(f, ids...)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open backup %s: %w", path, err), f.Close())
	}
	return struct {
		io.Reader
		io.Closer
	}{text, f}, nil
}

// verify checks a backup without restoring it.
func (a *app) verify(ctx context.Context, c serverConfig, r broker.RestoreConfig) error {
	if c.MasterKey != "" || c.Data != "" {
		if c.Data == "" {
			c.Data = "." // not used: the key file is named
		}
		if err := c.checkDatabase(true); err != nil {
			return err
		}
		var err error
		if r.Key, err = seal.LoadKey(c.MasterKey); err != nil {
			return err
		}
	}
	show, done := a.counting("checking")
	r.Progress = show
	got, err := broker.VerifyBackup(ctx, r)
	done()
	if err != nil {
		return err
	}
	if err := a.printRestored(got, r.Key != nil, false); err != nil {
		return err
	}
	return badSealed(got)
}

func badSealed(r broker.Restored) error {
	if r.Sealed.Bad == 0 {
		return nil
	}
	return fmt.Errorf("%d of %d sealed values do not open with the master key: they were damaged before the backup was taken; the first is %s", r.Sealed.Bad, r.Sealed.Count, r.Sealed.First)
}

// restore restores a backup.
func (a *app) restore(ctx context.Context, c serverConfig, r broker.RestoreConfig) (err error) {
	if err := c.checkDatabase(true); err != nil {
		return err
	}
	if r.Key, err = seal.LoadKey(c.MasterKey); err != nil {
		return cli.Hint(fmt.Errorf("the master key of the backup is needed, and is not in the backup: %w", err), "put the key file there, or name it with --master-key")
	}
	if c.Database == "" {
		if err := os.MkdirAll(c.Data, 0o700); err != nil {
			return fmt.Errorf("make data folder: %w", err)
		}
	}
	unlock, err := c.lockFolder()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	log, err := newLog(c)
	if err != nil {
		return err
	}
	r.Database = db.Config{URL: c.databaseURL(), Log: log}
	show, done := a.counting("restoring")
	r.Progress = show
	got, err := broker.Restore(ctx, r)
	done()
	if err != nil {
		return err
	}
	if err := a.printRestored(got, true, true); err != nil {
		return err
	}
	if err := badSealed(got); err != nil {
		a.Say("warning: %v", err)
	}
	a.Say("restored; then: %s", c.serveCommandLine())
	return nil
}

func (a *app) printRestored(r broker.Restored, key, ended bool) error {
	sealed := "not checked; give --master-key"
	if key {
		sealed = fmt.Sprintf("%d values, of which %d open", r.Sealed.Count, r.Sealed.Count-r.Sealed.Bad)
	}
	over := ""
	if ended {
		over = endedText(r.Ended)
	}
	return a.PrintOne(r,
		cli.Field{"Taken", cli.When(r.Backup.TakenAt) + " by " + r.Backup.TakenBy + ", " + r.Backup.Engine},
		cli.Field{"Holds", fmt.Sprintf("%d rows of %d tables", r.Total.Rows, r.Total.Tables)},
		cli.Field{"Sealed", sealed},
		cli.Field{"Ended", over},
	)
}

func endedText(e broker.Ended) string {
	return fmt.Sprintf("%d runs, %d sessions of machines, %d enrolment tokens, %d sign-ins, %d API tokens", e.Runs, e.MachineSessions, e.EnrolmentTokens, e.SignIns, e.APITokens)
}

// adminRestoredCommand does for other tools' copies what restore does.
func (a *app) adminRestoredCommand() *cobra.Command {
	var c serverConfig
	var tokens bool
	cmd := &cobra.Command{
		Use:   "restored",
		Short: "end what was under way in a copy of the database that other tools restored",
		Long: `Restored does to a database what latchkey restore does: run it after pg_restore, after a
restore of pg_basebackup or of a snapshot, and after putting a copy of the SQLite file in
place, before the first server starts on it. Runs that had not ended in the copy have
failed with the code restored, sessions of machines, browser sessions, sign-in links and
enrolment tokens are over. No server may run on the database meanwhile.`,
		Example: `  latchkey admin restored --data /var/lib/latchkey --yes
  latchkey admin restored --database postgres://latchkey@db/latchkey --yes`,
		Args: cli.Exactly(),
	}
	sure := cli.SureFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) (err error) {
		if err := c.checkDatabase(false); err != nil {
			return err
		}
		if err := a.Confirm(cmd.Context(), *sure, "end every run and session in this database"); err != nil {
			return err
		}
		unlock, err := c.lockFolder()
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, unlock()) }()
		d, _, err := c.openDatabase(cmd.Context(), false)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, d.Close()) }()
		ended, err := broker.EndRestored(cmd.Context(), d, account(), tokens)
		if err != nil {
			return err
		}
		return a.PrintOne(ended, cli.Field{"Ended", endedText(ended)})
	}
	a.settingsFlags(cmd, &c, "data", "database")
	cmd.Flags().BoolVar(&tokens, "revoke-tokens", false, "revoke every API token; latchkey admin token makes a new one")
	return cmd
}

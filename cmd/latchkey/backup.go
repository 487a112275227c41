package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"filippo.io/age"
	"github.com/spf13/cobra"

	"latchkey.dev/internal/agent"
	"latchkey.dev/internal/backup"
	"latchkey.dev/internal/broker"
	"latchkey.dev/internal/cli"
	"latchkey.dev/internal/fsync"
)

func (a *app) backupCommand() *cobra.Command {
	var c serverConfig
	var b backupFlags
	cmd := &cobra.Command{
		Use:   "backup FILE",
		Short: "write an encrypted backup of everything, beside a running server",
		Long: `Backup writes everything that a server keeps to a new file: one state of the database,
while servers go on. The file is encrypted with age to the recipients; it is the same
for SQLite and PostgreSQL, and can be restored into either. FILE is - for standard output.

The master key is not in it: keep the key file apart, and both safe. Whoever has the
backup, its identity and the master key has every secret.`,
		Example: `  latchkey backup keygen identity.txt            # once; keep it away from the server
  latchkey backup --data /var/lib/latchkey --recipient age1… /backup/latchkey.age
  latchkey backup --database postgres://latchkey@db/latchkey --recipients-file team.txt - | ssh store 'cat > latchkey.age'
  latchkey restore --verify --identity identity.txt --master-key master.key /backup/latchkey.age`,
		Args: cli.Exactly("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error { return a.backup(cmd.Context(), c, b, args[0]) },
	}
	a.settingsFlags(cmd, &c, "data", "database")
	f := cmd.Flags()
	f.StringArrayVar(&b.recipients, "recipient", nil, "public key that may open the backup, age1…; can be repeated")
	f.StringArrayVar(&b.files, "recipients-file", nil, "file of such keys, one on a line; can be repeated")
	f.BoolVar(&b.force, "force", false, "replace FILE if it exists")
	cmd.AddCommand(a.keygenCommand())
	// With a command of its own, a shell offers files only when it is told to.
	cmd.ValidArgsFunction = func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return nil, cobra.ShellCompDirectiveDefault
	}
	return cmd
}

type backupFlags struct {
	recipients []string
	files      []string
	force      bool
}

func (a *app) keygenCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "keygen FILE",
		Short: "make a key pair for backups",
		Long: `Keygen writes a new identity, which opens backups, to a new file that only you can read,
and prints its recipient, to which backups are encrypted. It is an age identity: other
age programs take it, and backup and restore take theirs.

Keep the identity away from the server: the server needs the recipient only.`,
		Example: `  latchkey backup keygen identity.txt`,
		Args:    cli.Exactly("FILE"),
		RunE: func(_ *cobra.Command, args []string) error {
			text, recipient, err := backup.NewIdentity()
			if err != nil {
				return err
			}
			f, err := os.OpenFile(args[0], os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
			if err != nil {
				return fmt.Errorf("write identity: %w", err)
			}
			if err := writeSync(f, []byte(text)); err != nil {
				return errors.Join(fmt.Errorf("write identity: %w", err), os.Remove(args[0]))
			}
			if a.JSON {
				return a.PrintJSON(map[string]string{"recipient": recipient, "identityFile": args[0]})
			}
			_, err = fmt.Fprintln(a.Out, recipient)
			return err
		},
	}
}

// keys returns the recipients, and their names for the record.
func (b backupFlags) keys() (keys []age.Recipient, names []string, err error) {
	add := func(from io.Reader, what string) {
		r, e := backup.Recipients(from)
		if e != nil {
			err = errors.Join(err, cli.Usagef("%s: %v", what, e))
		}
		for _, k := range r {
			keys, names = append(keys, k), append(names, fmt.Sprint(k))
		}
	}
	for _, r := range b.recipients {
		add(strings.NewReader(r), "--recipient")
	}
	for _, path := range b.files {
		f, e := os.Open(path)
		if e != nil {
			err = errors.Join(err, fmt.Errorf("open recipients: %w", e))
			continue
		}
		add(f, path)
		err = errors.Join(err, f.Close())
	}
	if err == nil && len(keys) == 0 {
		err = cli.Hint(cli.Usagef("a backup is always encrypted: --recipient or --recipients-file is missing"), "latchkey backup keygen identity.txt")
	}
	return keys, names, err
}

// backed is what backup prints.
type backed struct {
	File   string `json:"file"`
	Bytes  int64  `json:"bytes"`
	Tables int    `json:"tables"`
	Rows   int64  `json:"rows"`
	Millis int64  `json:"milliseconds"`
}

func (a *app) backup(ctx context.Context, c serverConfig, b backupFlags, path string) (err error) {
	keys, names, err := b.keys()
	if err := errors.Join(c.checkDatabase(false), err); err != nil {
		return err
	}
	to, err := a.backupFile(path, b.force)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, to.discard()) }()
	d, _, err := c.openDatabase(ctx, false)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	begun := time.Now()
	enc, err := backup.Encrypt(to, keys...)
	if err != nil {
		return err
	}
	show, done := a.counting("reading")
	total, err := broker.Backup(ctx, broker.BackupConfig{
		DB: d, Out: enc, Program: agent.Version(), Account: account(), Recipients: names, Progress: show,
	})
	done()
	if err != nil {
		return err
	}
	if err := errors.Join(enc.Close(), to.keep()); err != nil {
		return fmt.Errorf("write backup: %w", err)
	}
	if a.JSON && path != "-" {
		return a.PrintJSON(backed{path, to.n, total.Tables, total.Rows, time.Since(begun).Milliseconds()})
	}
	a.Say("%d rows of %d tables in %s, %d bytes", total.Rows, total.Tables, time.Since(begun).Round(time.Millisecond), to.n)
	return nil
}

// A backupFile is a file that comes to be when keep is called, whole. discard
// removes it unless it was kept.
type backupFile struct {
	path  string
	force bool
	f     *os.File
	to    *bufio.Writer
	n     int64
	own   bool // f is a file beside path
}

func (a *app) backupFile(path string, force bool) (*backupFile, error) {
	if path == "-" {
		if cli.IsTerminal(a.Out) {
			return nil, cli.Usagef("a backup is no text for a terminal: send it to a file or a pipe")
		}
		return &backupFile{path: path, to: bufio.NewWriter(a.Out)}, nil
	}
	if _, err := os.Lstat(path); err == nil && !force {
		return nil, cli.Hint(fmt.Errorf("%s exists", path), "another name, or --force to replace it")
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return nil, fmt.Errorf("write backup: %w", err)
	}
	return &backupFile{path: path, force: force, f: f, to: bufio.NewWriterSize(f, 256<<10), own: true}, nil
}

// Write implements [io.Writer].
func (b *backupFile) Write(p []byte) (int, error) {
	n, err := b.to.Write(p)
	b.n += int64(n)
	return n, err
}

func (b *backupFile) keep() error {
	if err := b.to.Flush(); err != nil || !b.own {
		return err
	}
	if err := errors.Join(b.f.Sync(), b.f.Close()); err != nil {
		return err
	}
	if _, err := os.Lstat(b.path); !b.force && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s has come to exist meanwhile", b.path)
	}
	if err := os.Rename(b.f.Name(), b.path); err != nil {
		return err
	}
	b.own = false
	return fsync.Dir(filepath.Dir(b.path))
}

func (b *backupFile) discard() error {
	if !b.own {
		return nil
	}
	_ = b.f.Close() // keep may have closed it
	return os.Remove(b.f.Name())
}

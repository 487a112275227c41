package db

import (
	"context"
	"database/sql"
	"embed"
	"fmt"
	"io/fs"
	"log/slog"

	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
)

//go:embed migrations/*.sql
var migrationFiles embed.FS

// ownMigrations returns the program's migrations.
func ownMigrations() (fs.FS, error) { return fs.Sub(migrationFiles, "migrations") }

// migrate brings the schema up to date with the program's migrations.
func (d *DB) migrate(ctx context.Context, c Config) error {
	migrations, err := ownMigrations()
	if err != nil {
		return err
	}
	return d.migrateTo(ctx, c, migrations)
}

// migrateTo brings the schema up to date with the given migrations.
func (d *DB) migrateTo(ctx context.Context, c Config, migrations fs.FS) error {
	provider, err := d.provider(migrations)
	if err != nil {
		return err
	}
	have, want, err := provider.GetVersions(ctx)
	if err != nil {
		return fmt.Errorf("open database: %w", err)
	}
	if have > want {
		return fmt.Errorf("the database has schema version %d, which is newer than this program's %d: start the newer program, or restore a backup", have, want)
	}
	if have == want {
		return nil
	}
	if d.engine == engineSQLite && have > 0 {
		copyTo := fmt.Sprintf("%s.before-%d", c.URL, have)
		if err := d.copyTo(ctx, copyTo); err != nil {
			return fmt.Errorf("copy database before migration: %w", err)
		}
		c.Log.LogAttrs(ctx, slog.LevelInfo, "copied the database before migration", slog.String("copy", copyTo))
	}
	results, err := provider.Up(ctx)
	if err != nil {
		return fmt.Errorf("migrate database: %w", err)
	}
	for _, r := range results {
		c.Log.LogAttrs(ctx, slog.LevelInfo, "migrated the database", slog.Int64("version", r.Source.Version), slog.Duration("took", r.Duration))
	}
	return nil
}

// ownProvider returns what runs the program's migrations on the database.
func (d *DB) ownProvider() (*goose.Provider, error) {
	migrations, err := ownMigrations()
	if err != nil {
		return nil, err
	}
	return d.provider(migrations)
}

// provider returns what runs migrations on the database. The files are scripts,
// which both engines take whole: goose's own reading of them, statement by
// statement, costs several times as much as making the schema.
func (d *DB) provider(migrations fs.FS) (*goose.Provider, error) {
	scripts, err := readScripts(migrations)
	if err != nil {
		return nil, err
	}
	dialect := goose.DialectSQLite3
	opts := []goose.ProviderOption{goose.WithLogger(goose.NopLogger()), goose.WithDisableGlobalRegistry(true), goose.WithGoMigrations(scripts...)}
	if d.engine == enginePostgres {
		dialect = goose.DialectPostgres
		// Of several servers that start together, one migrates.
		locker, err := lock.NewPostgresSessionLocker()
		if err != nil {
			return nil, err
		}
		opts = append(opts, goose.WithSessionLocker(locker))
	}
	provider, err := goose.NewProvider(dialect, d.write, nil, opts...)
	if err != nil {
		return nil, fmt.Errorf("read migrations: %w", err)
	}
	return provider, nil
}

// readScripts returns a migration for each file NUMBER_name.sql, which executes it
// in one transaction.
func readScripts(migrations fs.FS) ([]*goose.Migration, error) {
	files, err := fs.Glob(migrations, "*.sql")
	if err != nil {
		return nil, err
	}
	var scripts []*goose.Migration
	for _, name := range files {
		version, err := goose.NumericComponent(name)
		if err != nil {
			return nil, fmt.Errorf("read migration %s: %w", name, err)
		}
		script, err := fs.ReadFile(migrations, name)
		if err != nil {
			return nil, fmt.Errorf("read migrations: %w", err)
		}
		scripts = append(scripts, goose.NewGoMigration(version, &goose.GoFunc{RunTx: func(ctx context.Context, tx *sql.Tx) error {
			_, err := tx.ExecContext(ctx, string(script))
			return err
		}}, nil))
	}
	return scripts, nil
}

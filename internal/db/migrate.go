package db

import (
	"context"
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

// provider returns what runs migrations on the database.
func (d *DB) provider(migrations fs.FS) (*goose.Provider, error) {
	dialect := goose.DialectSQLite3
	opts := []goose.ProviderOption{goose.WithLogger(goose.NopLogger())}
	if d.engine == enginePostgres {
		dialect = goose.DialectPostgres
		// Of several servers that start together, one migrates.
		locker, err := lock.NewPostgresSessionLocker()
		if err != nil {
			return nil, err
		}
		opts = append(opts, goose.WithSessionLocker(locker))
	}
	provider, err := goose.NewProvider(dialect, d.write, migrations, opts...)
	if err != nil {
		return nil, fmt.Errorf("read migrations: %w", err)
	}
	return provider, nil
}

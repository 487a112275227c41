package db

import (
	"context"
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"latchkey.dev/internal/latchkeytest/pg"
	"latchkey.dev/latchkey"
)

// takePlace takes a database's place and returns how it was found to be a copy,
// or nil.
func takePlace(t *testing.T, d *DB) *Copy {
	t.Helper()
	var told *Copy
	got, err := d.TakePlace(t.Context(), func(_ *Tx, c Copy) error { told = &c; return nil })
	if err != nil {
		t.Fatal(err)
	}
	if (got == nil) != (told == nil) || got != nil && *got != *told {
		t.Errorf("TakePlace = %+v, and told %+v", got, told)
	}
	return got
}

func recordOne(t *testing.T, d *DB) {
	t.Helper()
	update(t, d, func(tx *Tx) error {
		return tx.Record(latchkey.AuditEvent{Action: latchkey.ActBackupCreate, Outcome: latchkey.OutcomeOK})
	})
}

// TestTakePlace takes the place of a database that stays where it is.
func TestTakePlace(t *testing.T) {
	eachURL(t, func(t *testing.T, url string) {
		d := open(t, Config{URL: url})
		for range 3 {
			if got := takePlace(t, d); got != nil {
				t.Errorf("TakePlace = %+v; want no copy", got)
			}
			recordOne(t, d)
			if err := d.NotePlace(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		update(t, d, (*Tx).ForgetPlace)
		if got := takePlace(t, d); got != nil {
			t.Errorf("TakePlace after ForgetPlace = %+v; want no copy", got)
		}
	})
}

// TestTakePlaceAgain has what copied does fail: the place is not taken.
func TestTakePlaceAgain(t *testing.T) {
	eachURL(t, func(t *testing.T, url string) {
		d := open(t, Config{URL: url})
		takePlace(t, d)
		update(t, d, func(tx *Tx) error { return tx.SetSetting(settingPlace, "elsewhere") })
		broken := errors.New("broken")
		for range 2 {
			if _, err := d.TakePlace(t.Context(), func(*Tx, Copy) error { return broken }); !errors.Is(err, broken) {
				t.Errorf("TakePlace = %v; want %v", err, broken)
			}
		}
		if takePlace(t, d) == nil {
			t.Error("TakePlace after one that failed: no copy")
		}
		if got := takePlace(t, d); got != nil {
			t.Errorf("TakePlace after one that succeeded = %+v; want no copy", got)
		}
	})
}

// TestPlaceFile damages the file beside a SQLite database.
func TestPlaceFile(t *testing.T) {
	for name, tt := range map[string]struct {
		do   func(t *testing.T, file string)
		want string
	}{
		"gone": {func(t *testing.T, file string) {
			if err := os.Remove(file); err != nil {
				t.Fatal(err)
			}
		}, "latchkey.db.place beside the database is missing"},
		"empty": {func(t *testing.T, file string) {
			if err := os.Truncate(file, 0); err != nil {
				t.Fatal(err)
			}
		}, "is damaged"},
		"huge": {func(t *testing.T, file string) {
			if err := os.Truncate(file, 1<<30); err != nil {
				t.Fatal(err)
			}
		}, "is damaged"},
		"of another": {func(t *testing.T, file string) {
			if err := writePlaceFile(strings.TrimSuffix(file, placeSuffix), placeFile{Place: "another"}); err != nil {
				t.Fatal(err)
			}
		}, "belongs to another one"},
		"replaced in place by one of before": {func(t *testing.T, file string) {
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			p, err := parsePlaceFile(b)
			if err != nil {
				t.Fatal(err)
			}
			if p.Self.Born == 0 {
				t.Skip("the file system does not know when a file was made")
			}
			// The clock of file systems ticks a few milliseconds at a time.
			for next := p; next.Self.Born == p.Self.Born; {
				if err := writePlaceFile(strings.TrimSuffix(file, placeSuffix), p); err != nil {
					t.Fatal(err)
				}
				found, err := readPlaceFile(strings.TrimSuffix(file, placeSuffix))
				if err != nil {
					t.Fatal(err)
				}
				next = found.placeFile
			}
			if err := os.WriteFile(file, b, 0o600); err != nil {
				t.Fatal(err)
			}
		}, "is a copy"},
	} {
		t.Run(name, func(t *testing.T) {
			// Brackets mean something to patterns of file names.
			dir := filepath.Join(t.TempDir(), "[data")
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(dir, "latchkey.db")
			d := open(t, Config{URL: path})
			takePlace(t, d)
			if err := os.WriteFile(path+placeSuffix+".partial", []byte("half"), 0o600); err != nil { // of a crash
				t.Fatal(err)
			}
			tt.do(t, path+placeSuffix)
			if got := takePlace(t, d); got == nil || !strings.Contains(got.Noticed, tt.want) {
				t.Errorf("TakePlace = %+v; want a copy that is noticed by %q", got, tt.want)
			}
			if got := takePlace(t, d); got != nil {
				t.Errorf("TakePlace again = %+v; want no copy", got)
			}
			if files, err := os.ReadDir(dir); err != nil || len(files) != 4 { // the database, its two logs, and the file beside it
				t.Errorf("the folder has %v, %v", files, err)
			}
		})
	}
}

// TestFileIDSame tests which files pass for the same one.
func TestFileIDSame(t *testing.T) {
	for _, tt := range []struct {
		name string
		a, b fileID
		want bool
	}{
		{"the same", fileID{7, 9}, fileID{7, 9}, true},
		{"numbered anew", fileID{7, 9}, fileID{8, 9}, true},
		{"the number used again", fileID{7, 9}, fileID{7, 10}, false},
		{"the birth not known any more", fileID{7, 9}, fileID{7, 0}, true},
		{"no births", fileID{7, 0}, fileID{8, 0}, false},
		{"nothing known", fileID{}, fileID{}, true},
	} {
		if got := tt.a.same(tt.b); got != tt.want {
			t.Errorf("%s: %v and %v: same = %t; want %t", tt.name, tt.a, tt.b, got, tt.want)
		}
	}
}

// TestPgPlaceCompare tests which places of PostgreSQL pass for the same one.
func TestPgPlaceCompare(t *testing.T) {
	was := pgPlace{"71", "16384", "900"}
	for _, tt := range []struct {
		name    string
		was, is pgPlace
		want    string
	}{
		{"the same", was, was, ""},
		{"cluster not known now", was, pgPlace{"", "16384", "900"}, ""},
		{"cluster not known before", pgPlace{"", "16384", "900"}, was, ""},
		{"another cluster", was, pgPlace{"72", "16384", "900"}, "cluster is another one"},
		{"another database", was, pgPlace{"71", "16385", "900"}, "database in the PostgreSQL cluster"},
		{"another database, cluster not known", was, pgPlace{"", "16385", "900"}, "database in the PostgreSQL cluster"},
		{"a dump", was, pgPlace{"71", "16384", "901"}, "filled anew"},
		{"no place of PostgreSQL", parsePgPlace("place_1"), was, "another one"},
	} {
		got := tt.was.compare(tt.is)
		if (got != nil) != (tt.want != "") || got != nil && !strings.Contains(got.Noticed, tt.want) {
			t.Errorf("%s: compare = %+v; want %q", tt.name, got, tt.want)
		}
	}
	if got := parsePgPlace(was.String()); got != was {
		t.Errorf("parsePgPlace(%q) = %+v", was, got)
	}
}

// TestPlaceOutlivesVacuum has PostgreSQL rewrite the row with the place: that is
// no copy.
func TestPlaceOutlivesVacuum(t *testing.T) {
	d := open(t, Config{URL: pg.New(t)})
	takePlace(t, d)
	for _, query := range []string{`VACUUM (FREEZE) settings`, `VACUUM (FULL, FREEZE) settings`, `CLUSTER settings USING settings_pkey`} {
		if _, err := d.write.ExecContext(t.Context(), query); err != nil {
			t.Fatal(err)
		}
		if got := takePlace(t, d); got != nil {
			t.Errorf("TakePlace after %s = %+v; want no copy", query, got)
		}
	}
}

// TestPlaceOfRole takes the place as a role that may not read the cluster's
// identifier, and later may.
func TestPlaceOfRole(t *testing.T) {
	address := pg.New(t)
	admin := open(t, Config{URL: address})
	do := func(ctx context.Context, query string) {
		t.Helper()
		if _, err := admin.write.ExecContext(ctx, query); err != nil {
			t.Fatalf("%s: %v", query, err)
		}
	}
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	role := strings.TrimPrefix(u.Path, "/") + "_role"
	do(t.Context(), `CREATE ROLE `+role)
	t.Cleanup(func() {
		do(context.Background(), `DROP OWNED BY `+role)
		do(context.Background(), `DROP ROLE `+role)
	})
	do(t.Context(), `GRANT ALL ON ALL TABLES IN SCHEMA public TO `+role)
	do(t.Context(), `REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC`)
	q := u.Query()
	q.Set("options", "-c role="+role)
	u.RawQuery = strings.ReplaceAll(q.Encode(), "+", "%20") // PostgreSQL's form
	d, err := openBare(Config{URL: u.String()})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	kept := func() (p pgPlace) {
		view(t, d, func(tx *Tx) error {
			s, err := tx.Setting(settingPlace)
			p = parsePgPlace(s)
			return err
		})
		return p
	}
	for range 2 {
		if got := takePlace(t, d); got != nil || kept().cluster != "" || kept().writer == "" {
			t.Errorf("TakePlace = %+v and keeps %+v; want no copy and no cluster", got, kept())
		}
	}
	do(t.Context(), `GRANT EXECUTE ON FUNCTION pg_control_system() TO `+role)
	if got := takePlace(t, d); got != nil || kept().cluster == "" {
		t.Errorf("TakePlace = %+v and keeps %+v; want no copy, and the cluster", got, kept())
	}
	do(t.Context(), `REVOKE EXECUTE ON FUNCTION pg_control_system() FROM `+role)
	if got := takePlace(t, d); got != nil || kept().cluster == "" {
		t.Errorf("TakePlace = %+v and keeps %+v; want no copy, and the cluster of before", got, kept())
	}
}

// TestPlaceAfterCrash opens what a killed server leaves, and puts back a copy of
// before what it noted last.
func TestPlaceAfterCrash(t *testing.T) {
	path := filepath.Join(t.TempDir(), "latchkey.db")
	killed := open(t, Config{URL: path})
	takePlace(t, killed)
	recordOne(t, killed)
	before := filepath.Join(t.TempDir(), "before.db")
	if err := killed.copyTo(t.Context(), before); err != nil {
		t.Fatal(err)
	}
	recordOne(t, killed)
	if err := killed.NotePlace(t.Context()); err != nil {
		t.Fatal(err)
	}
	recordOne(t, killed) // not noted
	if got := takePlace(t, open(t, Config{URL: path})); got != nil {
		t.Errorf("TakePlace after a crash = %+v; want no copy", got)
	}

	beside, err := readPlaceFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := writePlaceFile(before, beside.placeFile); err != nil {
		t.Fatal(err)
	}
	got := takePlace(t, open(t, Config{URL: before}))
	if got == nil || !strings.Contains(got.Noticed, "older") || got.Was != beside.Newest || got.Is == got.Was {
		t.Errorf("TakePlace of a copy of before = %+v; want one that lacks %s", got, beside.Newest)
	}
}

func FuzzParsePlaceFile(f *testing.F) {
	f.Add([]byte(`{"place":"place_1","newest":"aud_1","self":{"inode":7,"born":9}}`))
	f.Add([]byte(`{"self":{"inode":-1}}`))
	f.Add([]byte(``))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := parsePlaceFile(b)
		if (err == nil) != (p.Place != "") {
			t.Errorf("parsePlaceFile(%q) = %+v, %v", b, p, err)
		}
	})
}

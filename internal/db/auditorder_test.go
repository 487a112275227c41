package db

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"latchkey.dev/internal/latchkeytest/pg"
	"latchkey.dev/latchkey"
)

// record adds an entry that a test knows by its reason.
func record(tx *Tx, env latchkey.EnvironmentID, reason string) error {
	return tx.Record(latchkey.AuditEvent{Environment: env, Action: latchkey.ActSignIn, Outcome: latchkey.OutcomeOK, Reason: reason})
}

// follow returns the reasons of the entries after one, page by page, and the
// last entry's id.
func follow(t *testing.T, d *DB, env latchkey.EnvironmentID, after string, limit int) (reasons []string, last string) {
	t.Helper()
	for last = after; ; {
		var p latchkey.Page[latchkey.AuditEvent]
		view(t, d, func(tx *Tx) (err error) {
			p, err = tx.Audit(AuditFilter{Environment: env, Committed: true}, latchkey.PageOptions{After: last, Limit: limit})
			return err
		})
		for _, e := range p.Items {
			reasons, last = append(reasons, e.Reason), string(e.ID)
		}
		if p.Next == "" {
			return reasons, last
		}
	}
}

// TestAuditFollowedAgainstTheClock sets the clock back while the log is
// followed.
func TestAuditFollowedAgainstTheClock(t *testing.T) {
	eachURL(t, func(t *testing.T, url string) {
		now := time.Date(2026, 11, 23, 8, 0, 0, 0, time.UTC)
		d := open(t, Config{URL: url, Now: func() time.Time { return now }})
		var got, want []string
		after := ""
		for i := range 20 {
			now = now.Add(-time.Hour)
			want = append(want, fmt.Sprint(i, "a"), fmt.Sprint(i, "b"))
			update(t, d, func(tx *Tx) error {
				return errors.Join(record(tx, "env_1", want[2*i]), record(tx, "env_2", want[2*i+1]))
			})
			if i%3 == 0 {
				var more []string
				more, after = follow(t, d, "", after, 2)
				got = append(got, more...)
			}
		}
		more, _ := follow(t, d, "", after, 7)
		if got = append(got, more...); !slices.Equal(got, want) {
			t.Errorf("followed = %v; want %v", got, want)
		}
		if one, _ := follow(t, d, "env_1", "", 3); len(one) != 20 {
			t.Errorf("of one environment: %d entries; want 20", len(one))
		}
	})
}

// TestAuditFollowedWhileOthersCommit follows the log while a transaction that
// began earlier has yet to commit.
func TestAuditFollowedWhileOthersCommit(t *testing.T) {
	d := open(t, Config{URL: pg.New(t)})
	recorded, commit := make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		var once sync.Once
		if err := d.Update(t.Context(), func(tx *Tx) error {
			err := record(tx, "", "slow")
			once.Do(func() { close(recorded) })
			<-commit
			return err
		}); err != nil {
			t.Error(err)
		}
	})
	<-recorded
	update(t, d, func(tx *Tx) error { return record(tx, "", "quick") })
	early, after := follow(t, d, "", "", 10)
	if len(early) != 0 {
		t.Errorf("followed = %v while one that comes first is not committed; want none", early)
	}
	close(commit)
	wg.Wait()
	// Other databases of the test's server may have transactions under way.
	var got []string
	for end := time.Now().Add(30 * time.Second); len(got) < 2 && time.Now().Before(end); {
		var more []string
		more, after = follow(t, d, "", after, 10)
		got = append(got, more...)
	}
	if want := []string{"slow", "quick"}; !slices.Equal(got, want) {
		t.Errorf("followed = %v; want %v", got, want)
	}
}

// TestAuditFollowedByMany has writers and a follower at the same time: it sees
// each entry once, and those of a writer in their order.
func TestAuditFollowedByMany(t *testing.T) {
	const writers, entries = 8, 25
	eachDB(t, func(t *testing.T, d *DB) {
		var wg sync.WaitGroup
		for w := range writers {
			wg.Go(func() {
				for i := range entries {
					if err := d.Update(t.Context(), func(tx *Tx) error { return record(tx, "", fmt.Sprintf("%d/%03d", w, i)) }); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		var got []string
		after := ""
		for end := time.Now().Add(60 * time.Second); len(got) < writers*entries && time.Now().Before(end); {
			var more []string
			more, after = follow(t, d, "", after, 10)
			got = append(got, more...)
		}
		wg.Wait()
		seen := map[string]int{}
		last := map[string]string{}
		for _, r := range got {
			seen[r]++
			if w := r[:1]; r < last[w] {
				t.Errorf("%s came after %s", r, last[w])
			} else {
				last[w] = r
			}
		}
		if len(seen) != writers*entries || len(got) != writers*entries {
			t.Errorf("followed %d entries, %d different; want %d", len(got), len(seen), writers*entries)
		}
	})
}

// TestAuditAfterRestore loads positions of another PostgreSQL.
func TestAuditAfterRestore(t *testing.T) {
	url := pg.New(t)
	d := open(t, Config{URL: url})
	for i := range 3 {
		update(t, d, func(tx *Tx) error { return record(tx, "", fmt.Sprint("old ", i)) })
	}
	update(t, d, func(tx *Tx) error {
		_, err := tx.exec(`UPDATE audit SET position = position + 1000000000000`)
		return err
	})
	d = open(t, Config{URL: url})
	update(t, d, func(tx *Tx) error { return record(tx, "", "new") })
	var got []string
	for end := time.Now().Add(30 * time.Second); len(got) < 4 && time.Now().Before(end); {
		got, _ = follow(t, d, "", "", 2)
	}
	if want := []string{"old 0", "old 1", "old 2", "new"}; !slices.Equal(got, want) {
		t.Errorf("followed = %v; want %v", got, want)
	}
}

func TestAuditAfterUnknown(t *testing.T) {
	eachDB(t, func(t *testing.T, d *DB) {
		update(t, d, func(tx *Tx) error { return record(tx, "env_1", "one") })
		_, id := follow(t, d, "env_1", "", 1)
		for _, tt := range []struct {
			env   latchkey.EnvironmentID
			after string
		}{{"", latchkey.NewID("aud", time.Now())}, {"", "nonsense"}, {"env_2", id}} {
			err := d.View(t.Context(), func(tx *Tx) error {
				_, err := tx.Audit(AuditFilter{Environment: tt.env, Committed: true}, latchkey.PageOptions{After: tt.after})
				return err
			})
			if !errors.Is(err, ErrNotFound) {
				t.Errorf("Audit of %q after %q = %v; want ErrNotFound", tt.env, tt.after, err)
			}
		}
	})
}

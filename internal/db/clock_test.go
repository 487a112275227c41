package db

import (
	"testing"
	"time"

	"latchkey.dev/internal/latchkeytest/pg"
)

func TestSkew(t *testing.T) {
	for _, off := range []time.Duration{0, time.Hour, -time.Hour} {
		now := func() time.Time { return time.Now().Add(off) }
		d := open(t, Config{URL: pg.New(t), Now: now})
		got, err := d.Skew(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if (got - off).Abs() > time.Minute {
			t.Errorf("skew = %s; want about %s", got, off)
		}
	}
	d := open(t, Config{URL: t.TempDir() + "/latchkey.db", Now: func() time.Time { return time.Unix(0, 0) }})
	if got, err := d.Skew(t.Context()); got != 0 || err != nil {
		t.Errorf("skew of SQLite = %s, %v; want 0", got, err)
	}
}

package db

import (
	"log/slog"
	"net/url"
	"strings"
	"testing"

	"latchkey.dev/internal/latchkeytest/pg"
)

// TestUnreachable tests that each way to open says where and why it could not.
func TestUnreachable(t *testing.T) {
	missing, err := url.Parse(pg.New(t))
	if err != nil {
		t.Fatal(err)
	}
	missing.Path = "/nowhere"
	for _, tt := range []struct{ url, want string }{
		{"postgres://lk:hunter2@127.0.0.1:1/latchkey", "at 127.0.0.1:1 cannot be used: connection refused: see that"},
		{missing.String(), `database "nowhere" does not exist: see that`},
	} {
		c := Config{URL: tt.url, Log: slog.New(slog.DiscardHandler)}
		_, open := Open(t.Context(), c)
		_, existing := OpenExisting(t.Context(), c)
		_, empty := OpenEmpty(t.Context(), c, 1)
		for how, err := range map[string]error{"Open": open, "OpenExisting": existing, "OpenEmpty": empty} {
			if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), "dial") {
				t.Errorf("%s: %v; want %s", how, err, tt.want)
			}
		}
	}
}

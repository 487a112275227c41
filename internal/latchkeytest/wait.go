package latchkeytest

import (
	"log/slog"
	"net/http"
	"sync"
	"testing"
	"time"

	"latchkey.dev/internal/server"
	"latchkey.dev/internal/site"
	"latchkey.dev/internal/web"
)

// Patience is how long a test waits for what will come, on a machine that is
// busy with much else. Nothing but a failure takes that long.
const Patience = time.Minute

// Eventually polls until ok, or ends the test when it is not within limit, which
// should be [Patience] unless time is what the test is about.
func Eventually(t testing.TB, limit time.Duration, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(limit); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %s", what, limit)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// A Clock is a service's clock that a test moves: it starts at the real time and
// goes on as that does.
type Clock struct {
	mu  sync.Mutex
	off time.Duration // guarded by mu
}

// Now returns the clock's time.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.off)
}

// Step sets the clock forward, or back when d is negative.
func (c *Clock) Step(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.off += d
}

// Handler returns the service's REST API and pages.
func (s *Service) Handler(t testing.TB) http.Handler {
	t.Helper()
	log := slog.New(slog.NewTextHandler(s.Log, nil))
	url := func() string { return "http://127.0.0.1" }
	h, err := server.New(server.Config{
		Pages: func(h site.Host) (site.Pages, error) {
			return web.New(web.Config{Broker: s.Broker, Log: log, Version: "test", PublicURL: url, Now: s.now}, h)
		},
		Broker: s.Broker, Log: log, Version: "test", PublicURL: url, Now: s.now,
	})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

package azure

import (
	"testing"
	"time"

	"latchkey.dev/internal/vault"
)

func TestMeter(t *testing.T) {
	var m meter
	start := time.Date(2026, 11, 27, 12, 0, 55, 0, time.UTC)
	at := func(s int) time.Time { return start.Add(time.Duration(s) * time.Second) }
	send := func(s, n int) {
		for range n {
			m.request(at(s))
		}
	}
	check := func(name string, s int, want vault.Usage) {
		t.Helper()
		if got := m.usage(at(s)); got != want {
			t.Errorf("%s: usage = %+v; want %+v", name, got, want)
		}
	}
	check("nothing yet", 0, vault.Usage{})
	send(0, 3)
	send(9, 4) // the next minute; both are in one window of ten seconds
	check("over the end of a minute", 9, vault.Usage{Requests: 7, Peak: 7})
	send(10, 2) // the first three are out of it
	check("a window later", 10, vault.Usage{Requests: 9, Peak: 7})
	send(100, 1)
	check("after a pause", 100, vault.Usage{Requests: 10, Peak: 7})
	m.throttled(at(101))
	check("429", 101, vault.Usage{Requests: 10, Peak: 7, Throttled: 1, LastAt: at(101)})
	send(50, 5) // the clock was set back
	check("a clock that goes back", 101, vault.Usage{Requests: 15, Peak: 7, Throttled: 1, LastAt: at(101)})
	check("an hour later", 3600+60, vault.Usage{Requests: 6, Peak: 6, Throttled: 1, LastAt: at(101)})
	check("two hours later", 7300, vault.Usage{})
	send(7300, 1)
	check("in a place that was used before", 7300, vault.Usage{Requests: 1, Peak: 1})
}

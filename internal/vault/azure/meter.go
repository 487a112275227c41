package azure

import (
	"sync"
	"time"

	"latchkey.dev/internal/vault"
)

// Limits of Key Vault: so many transactions of secrets are answered for each vault in
// its region, and five times as many for all vaults of a subscription there.
const (
	quotaRequests = 4000
	quotaWindow   = 10 // seconds
)

// meterMinutes is how long a meter remembers.
const meterMinutes = 60

// A meter counts the requests to one vault: by the second for the time in which Key
// Vault counts them, and by the minute for an hour. It takes the same room whatever
// it counts. The zero value is ready.
type meter struct {
	mu      sync.Mutex
	now     int64                // newest second that was counted in; guarded by mu
	seconds [quotaWindow]int32   // requests of the seconds up to now, by second; guarded by mu
	minutes [meterMinutes]minute // guarded by mu
	last    time.Time            // of the last answer 429; guarded by mu
}

// A minute is what one minute has seen.
type minute struct {
	at        int64 // minutes since 1970
	requests  int32
	peak      int32 // most requests in the ten seconds that ended in this minute
	throttled int32
}

// at moves the meter on to a time, and returns its minute. A clock that was set back
// counts in the newest second. The caller holds mu.
func (m *meter) at(t time.Time) *minute {
	s := max(t.Unix(), m.now)
	if s-m.now >= quotaWindow {
		clear(m.seconds[:])
	} else {
		for x := m.now + 1; x <= s; x++ {
			m.seconds[x%quotaWindow] = 0
		}
	}
	m.now = s
	n := &m.minutes[s/60%meterMinutes]
	if n.at != s/60 {
		*n = minute{at: s / 60}
	}
	return n
}

// request counts a request that is sent.
func (m *meter) request(t time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.at(t)
	m.seconds[m.now%quotaWindow]++
	n.requests++
	sum := int32(0)
	for _, c := range m.seconds {
		sum += c
	}
	n.peak = max(n.peak, sum)
}

// throttled counts an answer that there are too many requests.
func (m *meter) throttled(t time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.at(t).throttled++
	m.last = t
}

// usage returns what the hour before t has seen.
func (m *meter) usage(t time.Time) (u vault.Usage) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, n := range m.minutes {
		if t.Unix()/60-n.at < meterMinutes {
			u.Requests += int(n.requests)
			u.Peak = max(u.Peak, int(n.peak))
			u.Throttled += int(n.throttled)
		}
	}
	if u.Throttled > 0 {
		u.LastAt = m.last
	}
	return u
}

//go:build linux

package soak

import (
	"math/rand/v2"
	"strings"
	"time"
)

// aims are the moments that the killer waits for: a line of a program's log. The
// next thing happens within a few milliseconds of it.
var aims = []struct {
	program, text string // text is a message or the end of a route
}{
	{"server", "/claim"}, {"server", "/start"}, {"server", "/release"}, {"server", "/finish"}, {"server", "/log"}, {"server", "/runs"},
	{"server", "/sessions"}, {"server", "/cancel"},
	{"agent", "run begins"}, {"agent", "run ended"}, {"agent", "session opened"}, {"agent", "agent started"},
}

// look tells who aims at a line of the log.
func (w *world) look(p *process, l logLine) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for hit, match := range w.aims {
		if match(p, l) {
			select {
			case hit <- p:
			default: // it has had its hit
			}
		}
	}
}

// await returns the program that logs a line of the given kind, or nil when none
// does for a while.
func (w *world) await(program, text string, while time.Duration) *process {
	hit := make(chan *process, 1)
	w.mu.Lock()
	w.aims[hit] = func(p *process, l logLine) bool {
		return strings.HasPrefix(p.name, program) && (l.Msg == text || strings.HasSuffix(l.Route, text))
	}
	w.mu.Unlock()
	defer func() {
		w.mu.Lock()
		delete(w.aims, hit)
		w.mu.Unlock()
	}()
	select {
	case p := <-hit:
		return p
	case <-time.After(while):
		return nil
	}
}

// kill kills at random moments, or at moments that it aims at, until over.
func (w *world) kill(over <-chan time.Time) {
	r := w.random
	// The fewer there are to kill, the rarer, so that work gets done.
	most := 8 * time.Second / time.Duration(len(w.servers)+len(w.agents))
	for {
		select {
		case <-over:
			return
		case <-time.After(between(r, 200*time.Millisecond, most)):
		}
		// Every choice is made here, so that the same seed makes the same choices.
		aim, aimed, wait := aims[r.IntN(len(aims))], r.IntN(3) > 0, between(r, 0, 40*time.Millisecond)
		victim, second, pause, n := r.IntN(100), r.IntN(8) == 0, between(r, 0, 1200*time.Millisecond), r.IntN(1000)
		var hit *process
		if aimed {
			hit = w.await(aim.program, aim.text, 1500*time.Millisecond)
		}
		time.Sleep(wait)
		w.strike(victim, hit, pause, n)
		if second {
			w.strike((victim+50)%100, nil, pause/2, n/2)
		}
	}
}

func between(r *rand.Rand, from, to time.Duration) time.Duration {
	return from + time.Duration(r.Int64N(int64(to-from)))
}

// strike kills one thing: hit, when there is one of the kind that victim says.
func (w *world) strike(victim int, hit *process, pause time.Duration, n int) {
	switch {
	case victim >= 88:
		// As if servers were killed after a commit and before the answer, which
		// is too short a time to hit.
		w.losing.Store(true)
		time.Sleep(100 * time.Millisecond)
		w.losing.Store(false)
		w.counts.add("answers")
	case w.cluster != nil && victim < 15:
		end := w.beginOutage()
		if w.cluster.KillBackend(n) {
			w.counts.add("backend")
			// Until the server has noticed, it still answers.
			time.Sleep(200 * time.Millisecond)
		}
		if err := w.cluster.Ready(nil); err != nil {
			w.fault("PostgreSQL does not recover: %v", err)
		}
		end()
	case w.cluster != nil && victim < 27:
		end := w.beginOutage()
		if err := w.cluster.Kill(); err != nil {
			w.fault("kill PostgreSQL: %v", err)
		}
		w.counts.add("PostgreSQL")
		time.Sleep(pause / 2)
		if err := w.cluster.Start(); err != nil {
			w.fault("PostgreSQL does not start again: %v", err)
		}
		end()
	case victim%2 == 0:
		w.strikeOne("server", w.servers, hit, pause, n)
	default:
		w.strikeOne("agent", w.agents, hit, pause, n)
	}
}

func (w *world) strikeOne(kind string, all []*process, hit *process, pause time.Duration, n int) {
	p := all[n%len(all)]
	if hit != nil && strings.HasPrefix(hit.name, kind) {
		p = hit
	}
	if p.kill(pause) {
		w.counts.add(kind)
	}
}

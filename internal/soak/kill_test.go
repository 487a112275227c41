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

// Kinds of what is killed.
const (
	killServer   = "server"
	killAgent    = "agent"
	killAnswers  = "answers" // to agents
	killBackend  = "backend" // one process of PostgreSQL
	killPostgres = "PostgreSQL"
)

// kinds returns what there is to kill.
func (w *world) kinds() []string {
	all := []string{killServer, killAgent, killAnswers}
	if w.cluster != nil {
		all = append(all, killBackend, killPostgres)
	}
	return all
}

// kind returns what a number below 100 has killed.
func (w *world) kind(n int) string {
	switch {
	case n >= 88:
		return killAnswers
	case w.cluster != nil && n < 15:
		return killBackend
	case w.cluster != nil && n < 27:
		return killPostgres
	case n%2 == 0:
		return killServer
	}
	return killAgent
}

// kill kills at random moments, or at moments that it aims at, for a while, and
// something of each kind in any case.
func (w *world) kill(while time.Duration) {
	r, end := w.random, time.Now().Add(while)
	// The fewer there are to kill, the rarer, so that work gets done.
	most := 8 * time.Second / time.Duration(len(w.servers)+len(w.agents))
	first := w.kinds()
	r.Shuffle(len(first), func(i, j int) { first[i], first[j] = first[j], first[i] })
	for i := 0; ; i++ {
		// Every choice is made here, so that the same seed makes the same choices.
		rest, aim, aimed, wait := between(r, 200*time.Millisecond, most), aims[r.IntN(len(aims))], r.IntN(3) > 0, between(r, 0, 40*time.Millisecond)
		victim, second, pause, n := r.IntN(100), r.IntN(8) == 0, between(r, 0, 1200*time.Millisecond), r.IntN(1000)
		kind := w.kind(victim)
		if i < len(first) {
			kind = first[i]
		} else if time.Now().Add(rest).After(end) {
			return
		}
		time.Sleep(rest)
		var hit *process
		if aimed {
			hit = w.await(aim.program, aim.text, 1500*time.Millisecond)
		}
		time.Sleep(wait)
		w.strike(kind, hit, pause, n)
		if second {
			w.strike(w.kind((victim+50)%100), nil, pause/2, n/2)
		}
	}
}

func between(r *rand.Rand, from, to time.Duration) time.Duration {
	return from + time.Duration(r.Int64N(int64(to-from)))
}

// strike kills one thing of a kind: hit, when that is of this kind.
func (w *world) strike(kind string, hit *process, pause time.Duration, n int) {
	w.t.Helper()
	switch kind {
	case killAnswers:
		// As if servers were killed after a commit and before the answer, which
		// is too short a time to hit.
		w.losing.Store(true)
		time.Sleep(100 * time.Millisecond)
		w.losing.Store(false)
	case killBackend:
		end := w.beginOutage()
		w.eventually("a connection to PostgreSQL", patience, func() bool { return w.cluster.KillBackend(n) })
		// Until the server has noticed, it still answers.
		time.Sleep(200 * time.Millisecond)
		if err := w.cluster.Ready(nil); err != nil {
			w.fault("PostgreSQL does not recover: %v", err)
		}
		end()
	case killPostgres:
		end := w.beginOutage()
		if err := w.cluster.Kill(); err != nil {
			w.fault("kill PostgreSQL: %v", err)
		}
		time.Sleep(pause / 2)
		if err := w.cluster.Start(); err != nil {
			w.fault("PostgreSQL does not start again: %v", err)
		}
		end()
	case killServer:
		w.strikeOne(kind, w.servers, hit, pause, n)
	case killAgent:
		w.strikeOne(kind, w.agents, hit, pause, n)
	}
	w.counts.add(kind)
}

func (w *world) strikeOne(kind string, all []*process, hit *process, pause time.Duration, n int) {
	w.t.Helper()
	p := all[n%len(all)]
	if hit != nil && strings.HasPrefix(hit.name, kind) {
		p = hit
	}
	w.eventually(p.name+" runs", patience, func() bool { return p.kill(pause) })
}

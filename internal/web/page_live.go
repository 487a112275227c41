package web

import (
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"latchkey.dev/latchkey"
)

const (
	liveFor    = 10 * time.Minute // then the browser asks again
	liveWait   = 5 * time.Second  // how late it may be noticed that a session has ended
	liveQuiet  = 15 * time.Second // after which a proxy is told that the stream goes on
	maxStreams = 12               // of one person on this server: browsers have six to a host
)

func (p *Pages) liveRoutes() {
	p.inEnvironment("GET /e/{env}/live", p.livePage)
}

// streams counts the streams of each person.
type streams struct {
	mu   sync.Mutex
	open map[latchkey.PrincipalID]int // guarded by mu
}

// take reports whether somebody may have one more stream, which give ends.
func (s *streams) take(who latchkey.PrincipalID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open == nil {
		s.open = map[latchkey.PrincipalID]int{}
	}
	if s.open[who] >= maxStreams {
		return false
	}
	s.open[who]++
	return true
}

func (s *streams) give(who latchkey.PrincipalID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open[who]--; s.open[who] <= 0 {
		delete(s.open, who)
	}
}

// livePage tells a page by server-sent events that something in the environment has
// changed, and not what: the page asks for its own parts again. The id of an event is
// the broker's cursor, so that a browser which comes back hears what it missed.
//
// A stream ends with the session, with the person's place in the environment, after
// liveFor, and when the server ends requests that merely wait.
//
// https://html.spec.whatwg.org/multipage/server-sent-events.html
func (p *Pages) livePage(v *view) error {
	if !p.streams.take(v.who.ID) {
		v.w.Header().Set("Retry-After", "60")
		http.Error(v.w, fmt.Sprintf("%d pages follow changes already, the most for one person; close some", maxStreams), http.StatusTooManyRequests)
		return nil
	}
	defer p.streams.give(v.who.ID)
	ctx, cursor := v.r.Context(), v.r.Header.Get("Last-Event-ID")
	if len(cursor) > 100 {
		cursor = ""
	}
	begun, err := p.b.Changes(ctx, v.who, string(v.env.ID), cursor, 0)
	if err != nil {
		return err
	}
	// The server's limits are for requests that are answered at once.
	conn := http.NewResponseController(v.w)
	for _, set := range []func(time.Time) error{conn.SetReadDeadline, conn.SetWriteDeadline} {
		if err := set(time.Time{}); err != nil && !errors.Is(err, http.ErrNotSupported) {
			return err
		}
	}
	h := v.w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("X-Accel-Buffering", "no") // nginx would keep events back
	send := func(text string) bool {
		_ = conn.SetWriteDeadline(time.Now().Add(liveQuiet)) // without deadlines the write ends with the connection
		_, err := v.w.Write([]byte(text))
		return err == nil && conn.Flush() == nil
	}
	event := func(c latchkey.Changes) string {
		if c.Changed {
			return "id: " + c.Cursor + "\nevent: change\ndata: 1\n\n"
		}
		return "id: " + c.Cursor + "\n\n"
	}
	if !send("retry: 3000\n" + event(begun)) {
		return nil
	}
	cursor = begun.Cursor
	spoke := p.Now()
	for end := p.Now().Add(liveFor); p.Now().Before(end) && ctx.Err() == nil; {
		c, err := p.b.Changes(ctx, v.who, string(v.env.ID), cursor, liveWait)
		if err != nil {
			return nil // it has begun to answer; the browser asks again, and hears why
		}
		if who, err := p.Identify(v.r); err != nil || who.ID != v.who.ID {
			return nil
		}
		switch {
		case c.Changed:
			cursor, spoke = c.Cursor, p.Now()
			if !send(event(c)) {
				return nil
			}
		case p.Now().Sub(spoke) >= liveQuiet:
			spoke = p.Now()
			if !send(": still here\n\n") {
				return nil
			}
		}
	}
	return nil
}

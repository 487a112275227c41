// Package netfault stands between two programs of a test and does to what they
// say what bad networks do: late, slow, cut in the middle, or never.
package netfault

import (
	"bytes"
	"errors"
	"io"
	"net"
	"regexp"
	"sync"
	"testing"
	"time"
)

// A Fault is what happens to every connection. The zero value is a good network.
type Fault struct {
	Delay     time.Duration // added to each way
	Rate      int           // bytes a second and way; 0 is no limit
	Blackhole bool          // nothing arrives; connections stay open
	Refuse    bool          // new connections are reset at once
}

// A Proxy forwards TCP connections. It is stopped when the test ends.
type Proxy struct {
	listener net.Listener
	dial     func() (net.Conn, error)
	running  sync.WaitGroup
	done     chan struct{} // closed when the test ends

	mu      sync.Mutex
	fault   Fault
	changed chan struct{}     // closed when fault changes; guarded by mu
	cuts    []*cut            // guarded by mu
	links   map[*link]bool    // guarded by mu
	bytes   map[direction]int // passed on; guarded by mu
}

type direction bool

const (
	request direction = false
	answer  direction = true
)

// A cut ends a connection once, at a request that has a pattern in it.
type cut struct {
	at    *regexp.Regexp
	way   direction // whose bytes are counted
	after int       // bytes that still get through
	done  chan struct{}
}

// A link is a connection through the proxy.
type link struct {
	client, server net.Conn
	cut            *cut   // of the request under way; guarded by Proxy.mu
	seen           []byte // of requests since the newest cut was ordered; guarded by Proxy.mu
}

// New returns a proxy to an address, which may be "unix" as well.
func New(tb testing.TB, network, address string) *Proxy {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	p := &Proxy{
		listener: l, dial: func() (net.Conn, error) { return net.Dial(network, address) }, done: make(chan struct{}),
		changed: make(chan struct{}), links: make(map[*link]bool), bytes: make(map[direction]int),
	}
	p.running.Go(p.accept)
	tb.Cleanup(func() {
		close(p.done)
		_ = l.Close() // accept ends
		p.Reset()
		p.running.Wait()
	})
	return p
}

// Addr returns the address that the proxy listens at.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

// Set changes what happens from now on, to open connections too.
func (p *Proxy) Set(f Fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fault = f
	close(p.changed)
	p.changed = make(chan struct{})
}

// CutRequest resets the connection of the next request in which pattern matches,
// when that many bytes of it from its beginning on have got through, as far as it
// comes in one piece. The channel is closed when that has happened.
func (p *Proxy) CutRequest(pattern string, after int) <-chan struct{} {
	return p.cutAt(&cut{at: regexp.MustCompile(pattern), way: request, after: after, done: make(chan struct{})})
}

// CutAnswer resets the connection of the next request in which pattern matches,
// when the server has answered and that many bytes of the answer have got through.
// The channel is closed when that has happened. What a connection carried before
// the call does not count.
func (p *Proxy) CutAnswer(pattern string, after int) <-chan struct{} {
	return p.cutAt(&cut{at: regexp.MustCompile(pattern), way: answer, after: after, done: make(chan struct{})})
}

func (p *Proxy) cutAt(c *cut) <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cuts = append(p.cuts, c)
	for l := range p.links {
		l.seen = nil
	}
	return c.done
}

// Reset resets every open connection.
func (p *Proxy) Reset() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.links {
		l.reset()
	}
}

func (l *link) reset() {
	for _, c := range []net.Conn{l.client, l.server} {
		if t, ok := c.(*net.TCPConn); ok {
			_ = t.SetLinger(0) // it may be closed
		}
		_ = c.Close()
	}
}

func (p *Proxy) accept() {
	for {
		c, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.mu.Lock()
		refuse := p.fault.Refuse
		p.mu.Unlock()
		s, err := p.dial()
		if err != nil {
			_ = c.Close()
			continue
		}
		l := &link{client: c, server: s}
		if refuse {
			l.reset()
			continue
		}
		p.mu.Lock()
		p.links[l] = true
		p.mu.Unlock()
		select {
		case <-p.done:
			l.reset()
		default:
		}
		var both sync.WaitGroup
		both.Go(func() { p.pump(l, request, c, s) })
		both.Go(func() { p.pump(l, answer, s, c) })
		p.running.Go(func() {
			both.Wait()
			l.reset()
			p.mu.Lock()
			defer p.mu.Unlock()
			delete(p.links, l)
		})
	}
}

// A piece is what was read at once, and when.
type piece struct {
	data []byte
	at   time.Time
}

// pump carries one way of a connection.
func (p *Proxy) pump(l *link, way direction, from io.Reader, to net.Conn) {
	pieces := make(chan piece, 64)
	stop := make(chan struct{})
	p.running.Go(func() {
		defer close(pieces)
		buf := make([]byte, 32<<10)
		for {
			n, err := from.Read(buf)
			if n > 0 {
				select {
				case pieces <- piece{bytes.Clone(buf[:n]), time.Now()}:
				case <-stop:
					return
				}
			}
			if err != nil {
				return
			}
		}
	})
	defer close(stop)
	for next := range pieces {
		if way == request {
			p.match(l, next.data)
		}
		data, ends := p.clip(l, way, next.data)
		if err := p.send(to, data, next.at, way); err != nil {
			l.reset()
			return
		}
		if ends != nil {
			l.reset()
			close(ends.done)
			return
		}
	}
	if t, ok := to.(interface{ CloseWrite() error }); ok {
		_ = t.CloseWrite() // the other way may go on
	}
}

// maxSeen bounds what is kept of a connection to find patterns in.
const maxSeen = 256 << 10

// match notes that a request has come whose connection is to be cut.
func (p *Proxy) match(l *link, data []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.cuts) == 0 {
		return
	}
	if l.seen = append(l.seen, data...); len(l.seen) > maxSeen {
		l.seen = nil
	}
	for i, c := range p.cuts {
		if c.at.Match(l.seen) {
			p.cuts = append(p.cuts[:i], p.cuts[i+1:]...)
			l.cut, l.seen = c, nil
			return
		}
	}
}

// clip returns what still gets through of data, and the cut that ends there.
func (p *Proxy) clip(l *link, way direction, data []byte) ([]byte, *cut) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := l.cut
	if c == nil || c.way != way {
		return data, nil
	}
	n := min(c.after, len(data))
	if c.after -= n; c.after > 0 {
		return data, nil
	}
	return data[:n], c
}

// send writes data when the network lets it through.
func (p *Proxy) send(to net.Conn, data []byte, at time.Time, way direction) error {
	for len(data) > 0 {
		p.mu.Lock()
		f, changed := p.fault, p.changed
		p.mu.Unlock()
		n := len(data)
		wait := time.Until(at.Add(f.Delay))
		if f.Rate > 0 {
			n = min(n, max(f.Rate/20, 1))
			wait = max(wait, time.Duration(n)*time.Second/time.Duration(f.Rate))
		}
		if f.Blackhole {
			wait = time.Hour
		}
		if wait > 0 {
			timer := time.NewTimer(wait)
			select {
			case <-p.done:
				timer.Stop()
				return errors.New("the test has ended")
			case <-changed:
				timer.Stop()
				continue
			case <-timer.C:
			}
		}
		if _, err := to.Write(data[:n]); err != nil {
			return err
		}
		p.mu.Lock()
		p.bytes[way] += n
		p.mu.Unlock()
		data = data[n:]
	}
	return nil
}

package netfault

import (
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
)

// A Connect is an HTTP proxy that leads every CONNECT to one address, whatever is
// asked for. It is stopped when the test ends.
type Connect struct {
	URL string

	to      string
	running sync.WaitGroup

	mu    sync.Mutex
	seen  []string   // what was asked for; guarded by mu
	conns []net.Conn // guarded by mu
}

// NewConnect returns a proxy that leads to an address.
func NewConnect(tb testing.TB, to string) *Connect {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	c := &Connect{URL: "http://" + l.Addr().String(), to: to}
	s := &http.Server{Handler: c}
	c.running.Go(func() { _ = s.Serve(l) }) // Close ends it
	tb.Cleanup(func() {
		_ = s.Close() // the listener is all that can fail
		c.mu.Lock()
		for _, conn := range c.conns {
			_ = conn.Close()
		}
		c.mu.Unlock()
		c.running.Wait()
	})
	return c
}

// Seen returns what was asked for, as method and host.
func (c *Connect) Seen() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]string{}, c.seen...)
}

// ServeHTTP implements [http.Handler].
func (c *Connect) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	to, err := net.Dial("tcp", c.to)
	if err != nil || r.Method != http.MethodConnect {
		http.Error(w, "there is no way", http.StatusBadGateway)
		return
	}
	w.WriteHeader(http.StatusOK)
	from, buf, err := http.NewResponseController(w).Hijack()
	if err != nil {
		_ = to.Close()
		return
	}
	c.mu.Lock()
	c.seen, c.conns = append(c.seen, r.Method+" "+r.Host), append(c.conns, from, to)
	c.mu.Unlock()
	c.running.Go(func() {
		_, _ = io.Copy(to, buf) // it ends with either connection
		_ = to.Close()
	})
	c.running.Go(func() {
		_, _ = io.Copy(from, to)
		_ = from.Close()
	})
}

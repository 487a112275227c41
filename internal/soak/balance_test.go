//go:build linux

package soak

import (
	"io"
	"math/rand/v2"
	"net"
	"sync"
)

// balance listens on a free port and passes each connection on to one of the
// servers that listen, until the test ends. While w.losing is set it drops
// answers, with their connections. It returns its address.
func (w *world) balance(servers []string) string {
	w.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		w.t.Fatal(err)
	}
	var work sync.WaitGroup
	open := struct {
		sync.Mutex
		closed bool
		conns  map[net.Conn]bool // guarded by Mutex
	}{conns: map[net.Conn]bool{}}
	hold := func(c net.Conn, has bool) bool {
		open.Lock()
		defer open.Unlock()
		if has && open.closed {
			return false
		}
		open.conns[c] = has
		if !has {
			delete(open.conns, c)
		}
		return true
	}
	serve := func(in net.Conn) {
		defer in.Close()
		if !hold(in, true) {
			return
		}
		defer hold(in, false)
		for _, i := range rand.Perm(len(servers)) {
			out, err := net.Dial("tcp", servers[i])
			if err != nil {
				continue
			}
			defer out.Close()
			// What one end closes is closed at the other.
			work.Go(func() {
				_, _ = io.Copy(out, in) // connections break: that is the test
				_ = out.Close()
			})
			b := make([]byte, 32<<10)
			for {
				n, err := out.Read(b)
				if err != nil || w.losing.Load() {
					return
				}
				if _, err := in.Write(b[:n]); err != nil {
					return
				}
			}
		}
	}
	work.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return // closed
			}
			work.Go(func() { serve(in) })
		}
	})
	w.t.Cleanup(func() {
		_ = l.Close() // it listens only
		open.Lock()
		open.closed = true
		for c := range open.conns {
			_ = c.Close() // to end those who read from it
		}
		open.Unlock()
		work.Wait()
	})
	return l.Addr().String()
}

package faulttest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"runtime/pprof"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"latchkey.dev/internal/latchkeytest"
	"latchkey.dev/latchkey"
)

// serveWith serves a service also with a server that configure sets up.
func (w *world) serveWith(t *testing.T, configure func(*http.Server)) *httptest.Server {
	t.Helper()
	s := httptest.NewUnstartedServer(w.Handler(t))
	configure(s.Config)
	s.Start()
	t.Cleanup(s.Close)
	return s
}

// TestSlowLogReaders has clients ask for a large log and not read it. Nobody else
// notices, and the server ends them.
func TestSlowLogReaders(t *testing.T) {
	latchkeytest.EachDB(t, func(t *testing.T, address string) {
		w := newWorld(t, latchkeytest.Options{DatabaseURL: address})
		w.Start(t)
		run := w.Machine.Claim(t)
		offset := int64(0)
		say := func(text string) {
			t.Helper()
			_, err := w.Broker.AppendLog(t.Context(), w.Machine.Session(), run.Run, latchkey.LogRequest{Claim: run.Claim, Offset: offset, Stream: "stdout", Text: text})
			if err != nil {
				t.Fatal(err)
			}
			offset += int64(len(text))
		}
		for range 60 {
			say(strings.Repeat("x", latchkey.MaxLogChunk))
		}
		var closed atomic.Int64
		s := w.serveWith(t, func(c *http.Server) {
			c.WriteTimeout = 2 * time.Second
			c.ConnState = func(_ net.Conn, state http.ConnState) {
				if state == http.StateClosed {
					closed.Add(1)
				}
			}
		})
		slow := max(20, runtime.NumCPU()+4) // more than the database has connections for readers
		var conns []net.Conn
		for range slow {
			c, err := net.Dial("tcp", s.Listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if err := c.(*net.TCPConn).SetReadBuffer(4 << 10); err != nil {
				t.Fatal(err)
			}
			// Several answers at once, so that none of them fits what the system keeps.
			request := fmt.Sprintf("GET %s/runs/%s/log HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n\r\n", env, run.Run, w.AdminToken)
			if _, err := c.Write([]byte(strings.Repeat(request, 40))); err != nil {
				t.Fatal(err)
			}
			conns = append(conns, c)
		}
		// Meanwhile the agent and others go on.
		for range 20 {
			say("more\n")
			if a := w.ask(t, "GET", env+"/runs/"+string(run.Run), ""); a.status != http.StatusOK {
				t.Fatalf("run: %d %s", a.status, a.body)
			}
		}
		// A reader who reads gets everything, in pieces of bounded size.
		var got strings.Builder
		for next := int64(0); ; {
			var l latchkey.RunLog
			a := w.ask(t, "GET", fmt.Sprintf("%s/runs/%s/log?offset=%d", env, run.Run, next), "")
			if a.status != http.StatusOK || json.Unmarshal(a.body, &l) != nil || len(a.body) > 1<<20 {
				t.Fatalf("log: %d, %d bytes; want at most 1 MiB", a.status, len(a.body))
			}
			for _, c := range l.Chunks {
				got.WriteString(c.Text)
			}
			if next = l.Next; len(l.Chunks) == 0 {
				break
			}
		}
		if int64(got.Len()) != offset {
			t.Errorf("%d bytes of output; want %d", got.Len(), offset)
		}
		w.Machine.Finish(t, run)
		// The server ends the connections of who does not read.
		latchkeytest.Eventually(t, latchkeytest.Patience, "the end of the connections", func() bool { return closed.Load() == int64(slow) })
		for i, c := range conns {
			if err := c.SetReadDeadline(time.Now().Add(latchkeytest.Patience)); err != nil {
				t.Fatal(err)
			}
			total, buf := 0, make([]byte, 64<<10)
			for {
				n, err := c.Read(buf)
				total += n
				if e, ok := err.(net.Error); ok && e.Timeout() {
					t.Fatalf("connection %d is still open after the time to write in", i)
				}
				if err != nil {
					break
				}
			}
			if total > 40*int(offset) {
				t.Errorf("connection %d got all of %d bytes", i, total)
			}
		}
	})
}

// TestManyWaitingReaders has 500 clients wait for output: others notice nothing, and
// all get it when it comes.
func TestManyWaitingReaders(t *testing.T) {
	latchkeytest.EachDB(t, func(t *testing.T, address string) {
		w := newWorld(t, latchkeytest.Options{DatabaseURL: address})
		w.Start(t)
		run := w.Machine.Claim(t)
		stop := w.beat(t, run)
		const readers = 500
		var waiting sync.WaitGroup
		got := make(chan string, readers)
		for range readers {
			waiting.Go(func() {
				for { // until there is news: one question waits for less than a busy machine may take
					l, err := w.Broker.RunLog(t.Context(), w.Admin, w.Env, run.Run, 0, latchkey.MaxClaimWait)
					if err != nil || t.Context().Err() != nil {
						got <- fmt.Sprintf("%+v, %v", l, err)
						return
					}
					if len(l.Chunks) > 0 {
						got <- l.Chunks[0].Text
						return
					}
				}
			})
		}
		latchkeytest.Eventually(t, latchkeytest.Patience, "the readers to wait", func() bool { return goroutines(t, "broker.(*Broker).RunLog(") == readers })
		for range 20 {
			if a := w.ask(t, "GET", env+"/runs/"+string(run.Run), ""); a.status != http.StatusOK {
				t.Fatalf("run while others wait: %d %s", a.status, a.body)
			}
		}
		if _, err := w.Broker.AppendLog(t.Context(), w.Machine.Session(), run.Run, latchkey.LogRequest{Claim: run.Claim, Stream: "stdout", Text: "news"}); err != nil {
			t.Fatal(err)
		}
		waiting.Wait()
		for range readers {
			if text := <-got; text != "news" {
				t.Fatalf("a reader got %s; want the output", text)
			}
		}
		stop()
		w.Machine.Finish(t, run)
	})
}

// goroutines returns how many goroutines are in a function.
func goroutines(t *testing.T, function string) int {
	t.Helper()
	var stacks bytes.Buffer
	if err := pprof.Lookup("goroutine").WriteTo(&stacks, 2); err != nil {
		t.Fatal(err)
	}
	return strings.Count(stacks.String(), "\nlatchkey.dev/internal/"+function)
}

// TestBodyThatDoesNotCome has clients begin requests and not go on: each is ended
// in time, with a problem where there is somebody to tell.
func TestBodyThatDoesNotCome(t *testing.T) {
	t.Parallel()
	w := newWorld(t, latchkeytest.Options{})
	s := w.serveWith(t, func(c *http.Server) { c.ReadTimeout = time.Second })
	var conns []net.Conn
	paths := []string{"/api/v1/agent/sessions", "/api/v1/agent/claim"}
	if !testing.Short() {
		paths = append(paths, env+"/runs", "/api/v1/sign-in") // these have 30 s of their own
	}
	for _, path := range paths {
		c, err := net.Dial("tcp", s.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := fmt.Fprintf(c, "POST %s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{", path, w.AdminToken); err != nil {
			t.Fatal(err)
		}
		if err := c.SetReadDeadline(time.Now().Add(45 * time.Second)); err != nil {
			t.Fatal(err)
		}
		conns = append(conns, c)
	}
	for i, path := range paths {
		answer, err := io.ReadAll(conns[i])
		if err != nil {
			t.Errorf("%s: %v; want the connection closed in time", path, err)
		}
		status, _, _ := strings.Cut(string(answer), "\r\n")
		if !strings.HasPrefix(status, "HTTP/1.1 4") {
			t.Errorf("%s: answer %q; want a problem of the client's", path, answer)
		}
	}
}

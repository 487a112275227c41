package faulttest

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"latchkey.dev/internal/latchkeytest"
	"latchkey.dev/internal/server"
	"latchkey.dev/latchkey"
)

// serveBriefly serves a service with a short time to write an answer in.
func (w *world) serveBriefly(t *testing.T, write time.Duration) *httptest.Server {
	t.Helper()
	h, err := server.New(server.Config{
		Broker: w.Broker, Log: slog.New(slog.NewTextHandler(w.Log, nil)), Version: "test", PublicURL: func() string { return "http://127.0.0.1" },
	})
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(h)
	s.Config.WriteTimeout = write
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
		s := w.serveBriefly(t, 3*time.Second)
		const slow = 60 // more than the database has connections for readers
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
		for i, c := range conns {
			if err := c.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
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
			if i == 0 {
				time.Sleep(4 * time.Second) // the others still do not read
			}
		}
	})
}

// TestManyWaitingReaders has 500 clients wait for output: they cost little, and
// all get it when it comes.
func TestManyWaitingReaders(t *testing.T) {
	latchkeytest.EachDB(t, func(t *testing.T, address string) {
		w := newWorld(t, latchkeytest.Options{DatabaseURL: address})
		w.Start(t)
		run := w.Machine.Claim(t)
		const readers = 500
		before, memory := runtime.NumGoroutine(), inUse()
		var waiting sync.WaitGroup
		got := make(chan string, readers)
		for range readers {
			waiting.Go(func() {
				l, err := w.Broker.RunLog(t.Context(), w.Admin, w.Env, run.Run, 0, 25*time.Second)
				if err != nil || len(l.Chunks) == 0 {
					got <- fmt.Sprintf("%+v, %v", l, err)
					return
				}
				got <- l.Chunks[0].Text
			})
		}
		eventually(t, 20*time.Second, "the readers to wait", func() bool { return runtime.NumGoroutine() >= before+readers })
		if n := runtime.NumGoroutine() - before; n > 2*readers+100 {
			t.Errorf("%d goroutines for %d readers", n, readers)
		}
		if used := int64(inUse()) - int64(memory); used > 64<<20 {
			t.Errorf("%d readers use %d bytes; want at most 64 MiB", readers, used)
		}
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
		w.Machine.Finish(t, run)
	})
}

func inUse() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapInuse + m.StackInuse
}

// TestBodyThatDoesNotCome has clients begin requests and not go on: each is ended
// in time, with a problem where there is somebody to tell.
func TestBodyThatDoesNotCome(t *testing.T) {
	t.Parallel()
	w := newWorld(t, latchkeytest.Options{})
	s := w.serveBriefly(t, time.Minute)
	s.Config.ReadTimeout = time.Second // before the first connection
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

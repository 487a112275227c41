// Package faulttest breaks what a whole service stands on, its storage, its
// clock, its network and its agents, and states what the people and the programs
// that use it see.
package faulttest

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"latchkey.dev/internal/latchkeytest"
	"latchkey.dev/internal/latchkeytest/pg"
	"latchkey.dev/latchkey"
)

func TestMain(m *testing.M) { os.Exit(pg.Main(m)) }

// A world is a chain whose service is reached over TCP.
type world struct {
	*latchkeytest.Chain
	url string
}

func newWorld(t *testing.T, o latchkeytest.Options) *world {
	t.Helper()
	s := latchkeytest.New(t, o)
	w := &world{Chain: s.Chain(t)}
	w.serve(t)
	return w
}

func (w *world) serve(t *testing.T) {
	t.Helper()
	srv := httptest.NewServer(w.Handler(t))
	t.Cleanup(srv.Close)
	w.url = srv.URL
}

// An answer is what a client sees.
type answer struct {
	status int
	body   []byte
	code   string // of a problem
	detail string // of a problem
}

// ask sends a request as the admin; body "" is none.
func (w *world) ask(t *testing.T, method, path, body string) answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, w.url+path, bytes.NewReader([]byte(body)))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+w.AdminToken)
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	return w.do(t, req)
}

func (w *world) do(t *testing.T, req *http.Request) answer {
	t.Helper()
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	a := answer{status: resp.StatusCode}
	if a.body, err = io.ReadAll(resp.Body); err != nil {
		t.Fatal(err)
	}
	var p struct{ Code, Detail string }
	if resp.StatusCode >= 400 && json.Unmarshal(a.body, &p) == nil {
		a.code, a.detail = p.Code, p.Detail
	}
	return a
}

const env = "/api/v1/environments/prod"

// startOverHTTP starts a run as a user does.
func (w *world) startOverHTTP(t *testing.T) (latchkey.RunID, answer) {
	t.Helper()
	a := w.ask(t, "POST", env+"/runs", `{"flow":"`+string(w.Flow.ID)+`","connection":"`+string(w.Connection.ID)+`"}`)
	var r latchkey.Run
	if a.status == http.StatusCreated {
		if err := json.Unmarshal(a.body, &r); err != nil {
			t.Fatal(err)
		}
	}
	return r.ID, a
}

// beat keeps a claimed run's lease, as its agent does, until the test ends or calls
// stop.
func (w *world) beat(t *testing.T, run *latchkey.ClaimedRun) (stop func()) {
	t.Helper()
	var beats sync.WaitGroup
	end := make(chan struct{})
	beats.Go(func() {
		tick := time.NewTicker(latchkey.RunLease / 6)
		defer tick.Stop()
		for {
			select {
			case <-end:
				return
			case <-tick.C:
			}
			if _, err := w.Broker.Heartbeat(context.Background(), w.Machine.Session(), run.Run, latchkey.RunRequest{Claim: run.Claim}); err != nil {
				t.Errorf("heartbeat: %v", err)
				return
			}
		}
	})
	stop = sync.OnceFunc(func() {
		close(end)
		beats.Wait()
	})
	t.Cleanup(stop)
	return stop
}

// wantProblem checks what a client is told.
func wantProblem(t *testing.T, what string, a answer, status int, code, detail string) {
	t.Helper()
	if a.status != status || a.code != code || !strings.Contains(a.detail, detail) {
		t.Errorf("%s = %d %s; want %d, code %s, and a text with %q", what, a.status, a.body, status, code, detail)
	}
}

// events returns the audit entries of a run with an action.
func (w *world) events(t *testing.T, action latchkey.Action, run latchkey.RunID) []latchkey.AuditEvent {
	t.Helper()
	page, err := w.Broker.Audit(t.Context(), w.Admin, auditOf(action, run), latchkey.PageOptions{Limit: 500})
	if err != nil {
		t.Fatal(err)
	}
	return page.Items
}

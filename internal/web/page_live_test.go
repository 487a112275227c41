package web_test

import (
	"bufio"
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"latchkey.dev/latchkey"
)

// A stream is what a page follows.
type stream struct {
	*http.Response
	lines chan string // closed at the end
}

func (s *site) follow(t *testing.T, url, token, last string) *stream {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	r, err := http.NewRequestWithContext(ctx, "GET", url+"/e/"+s.Env+"/live", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+token)
	if last != "" {
		r.Header.Set("Last-Event-ID", last)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	f := &stream{resp, make(chan string, 1000)}
	go func() { // ends with the response
		defer close(f.lines)
		for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
			f.lines <- lines.Text()
		}
	}()
	t.Cleanup(func() { cancel(); _ = resp.Body.Close() })
	return f
}

// until returns the rest of the first line that begins so, or fails the test.
func (f *stream) until(t *testing.T, begin string) string {
	t.Helper()
	for limit := time.After(time.Minute); ; {
		select {
		case line, ok := <-f.lines:
			if rest, is := strings.CutPrefix(line, begin); is {
				return rest
			}
			if !ok {
				t.Fatalf("the stream ended before %q", begin)
			}
		case <-limit:
			t.Fatalf("no %q came", begin)
		}
	}
}

func TestLive(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	server := httptest.NewUnstartedServer(s.handler)
	server.Config.ReadTimeout, server.Config.WriteTimeout = time.Second, time.Second // less than a stream
	server.Start()
	t.Cleanup(server.Close)
	token := s.token(t, "ursula", latchkey.EnvUser)

	f := s.follow(t, server.URL, token, "")
	if f.StatusCode != 200 || f.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatalf("live = %d %s", f.StatusCode, f.Header)
	}
	first := f.until(t, "id: ")
	time.Sleep(1500 * time.Millisecond) // past the server's limits
	s.Start(t)
	f.until(t, "event: change")

	// Who comes back hears at once that something was missed.
	s.follow(t, server.URL, token, first).until(t, "event: change")

	// So many, and no more; others have their own.
	for range 10 {
		s.follow(t, server.URL, token, "").until(t, "id: ")
	}
	if over := s.follow(t, server.URL, token, ""); over.StatusCode != http.StatusTooManyRequests || over.Header.Get("Retry-After") == "" {
		t.Errorf("one stream too many = %d %v; want 429 and when to come back", over.StatusCode, over.Header)
	}
	if admins := s.follow(t, server.URL, s.AdminToken, ""); admins.StatusCode != 200 {
		t.Errorf("somebody else's stream = %d; want 200", admins.StatusCode)
	}

	// A stream ends with what the person is let in by.
	disabled := true
	if _, err := s.Broker.UpdateUser(t.Context(), s.Admin, "ursula", latchkey.UserUpdate{Disabled: &disabled}); err != nil {
		t.Fatal(err)
	}
	for limit := time.After(time.Minute); ; {
		select {
		case _, open := <-f.lines:
			if open {
				continue
			}
			return
		case <-limit:
			t.Fatal("the stream goes on though the account is disabled")
		}
	}
}

func TestLiveIsForMembers(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.get(t, s.token(t, "stranger", ""), "/e/"+s.Env+"/live", 404)
}

package netfault

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func serve(t *testing.T, requests chan<- string) *Proxy {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err == nil {
			requests <- r.URL.Path + " " + string(b)
		}
		_, _ = io.WriteString(w, strings.Repeat("a", 1000))
	}))
	t.Cleanup(s.Close)
	return New(t, "tcp", strings.TrimPrefix(s.URL, "http://"))
}

func post(p *Proxy, path, body string) (int, error) {
	c := http.Client{Transport: &http.Transport{}, Timeout: 10 * time.Second}
	defer c.CloseIdleConnections()
	r, err := c.Post("http://"+p.Addr()+path, "text/plain", strings.NewReader(body))
	if err != nil {
		return 0, err
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	return len(b), err
}

func TestProxy(t *testing.T) {
	requests := make(chan string, 10)
	p := serve(t, requests)
	if n, err := post(p, "/good", "x"); n != 1000 || err != nil || <-requests != "/good x" {
		t.Fatalf("a good network: %d bytes, %v; want 1000", n, err)
	}
	done := p.CutAnswer("/lost", 0)
	if n, err := post(p, "/lost", "x"); err == nil || <-requests != "/lost x" {
		t.Errorf("a lost answer: %d bytes, %v; want an error, and the request at the server", n, err)
	}
	<-done
	done = p.CutAnswer("/half", 500)
	if n, err := post(p, "/half", "x"); err == nil || n == 0 || n >= 1000 {
		t.Errorf("a cut answer: %d bytes, %v; want some and an error", n, err)
	}
	<-done
	<-requests
	done = p.CutRequest("/never", 20)
	if n, err := post(p, "/never", strings.Repeat("x", 100)); err == nil {
		t.Errorf("a cut request: %d bytes; want an error", n)
	}
	<-done
	select {
	case r := <-requests:
		t.Errorf("the server got %q of a cut request", r)
	default:
	}
	p.Set(Fault{Delay: 100 * time.Millisecond, Rate: 10000})
	begin := time.Now()
	if n, err := post(p, "/slow", "x"); n != 1000 || err != nil || time.Since(begin) < 200*time.Millisecond {
		t.Errorf("a slow network: %d bytes, %v after %s; want 1000 after two delays", n, err, time.Since(begin))
	}
	p.Set(Fault{Refuse: true})
	if _, err := post(p, "/refused", ""); err == nil {
		t.Error("a refused connection got an answer")
	}
	p.Set(Fault{Blackhole: true})
	result := make(chan error, 1)
	go func() {
		_, err := post(p, "/late", "")
		result <- err
	}()
	select {
	case err := <-result:
		t.Errorf("an answer out of a black hole: %v", err)
	case <-time.After(200 * time.Millisecond):
	}
	p.Set(Fault{})
	if err := <-result; err != nil && !errors.Is(err, io.EOF) {
		t.Errorf("after the black hole: %v", err)
	}
}

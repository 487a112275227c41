package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"latchkey.dev/client"
	"latchkey.dev/internal/cli"
	"latchkey.dev/latchkey"
)

// A carrier answers requests in a server's place.
type carrier func(path string) (body string, err error)

func (c carrier) RoundTrip(r *http.Request) (*http.Response, error) {
	body, err := c(r.URL.Path)
	if err != nil {
		return nil, err
	}
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body)), Request: r}, nil
}

// TestFollow follows a run while the server is away for a time, at each place
// where it can be.
func TestFollow(t *testing.T) {
	const id, away, back = "run_06h0e9ar16009rtdky4ekg8gnr", "latchkey: the server cannot be reached: connection refused; waiting for it\n", "latchkey: the server is back\n"
	const goesOn = "latchkey: try: latchkey run log -f " + id + ", then latchkey run show " + id + "\n"
	tests := []struct {
		name    string
		log     time.Duration // how long the log cannot be had
		run     time.Duration // how long the run cannot be had after that
		code    int
		message string
	}{
		{"never", 0, 0, 0, ""},
		{"during the run", time.Minute, 0, 0, away + back},
		{"after its end", 0, time.Minute, 0, away + back},
		{"at both", time.Minute, time.Minute, 0, away + back + away + back},
		{"for good", time.Hour, 0, 1, away + "latchkey: stopped watching; the run goes on: the server cannot be reached: connection refused\n" + goesOn},
		{"for good after its end", 0, time.Hour, 1, away + "latchkey: stopped watching; the run goes on: the server cannot be reached: connection refused\n" + goesOn},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				begun := time.Now()
				var ended time.Time
				written := false
				c, err := client.New(client.Config{Server: "http://127.0.0.1:1", HTTP: &http.Client{Transport: carrier(func(path string) (string, error) {
					switch {
					case !strings.HasSuffix(path, "/log"):
						if time.Since(ended) < tt.run {
							return "", syscall.ECONNREFUSED
						}
						return `{"id":"` + id + `","state":"succeeded"}`, nil
					case time.Since(begun) < tt.log:
						return "", syscall.ECONNREFUSED
					case !written:
						written = true
						return `{"chunks":[{"stream":"stdout","text":"hello"}],"next":5,"state":"running"}`, nil
					}
					ended = time.Now()
					return `{"chunks":[],"next":5,"state":"succeeded"}`, nil
				})}})
				if err != nil {
					t.Fatal(err)
				}
				a, stdout, stderr := testApp(t, "")
				code := a.Report(t.Context(), a.follow(t.Context(), c, "erp", id))
				want := "latchkey: run " + id + "\n" + tt.message
				if tt.code == 0 {
					want += "latchkey: run " + id + " succeeded\n"
				}
				if code != tt.code || stderr.String() != want || written != (stdout.String() == "hello") {
					t.Errorf("follow = %d, %q, %q; want %d, the output once, and %q", code, stdout, stderr, tt.code, want)
				}
				if waited := time.Since(begun); tt.code != 0 && waited < time.Minute {
					t.Errorf("it is given up after %s; want a minute at least", waited)
				}
			})
		})
	}
}

func TestFollowInterrupted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		c, err := client.New(client.Config{Server: "http://127.0.0.1:1", HTTP: &http.Client{Transport: carrier(func(string) (string, error) {
			cancel()
			return "", ctx.Err()
		})}})
		if err != nil {
			t.Fatal(err)
		}
		a, _, stderr := testApp(t, "")
		code := a.Report(ctx, a.follow(ctx, c, "erp", "run_1"))
		if code != cli.CodeInterrupted || !strings.Contains(stderr.String(), "the run goes on\nlatchkey: try: latchkey run log -f run_1, or latchkey run cancel run_1") {
			t.Errorf("follow = %d, %q; want it to say that the run goes on", code, stderr)
		}
	})
}

// TestWatchTells looks at a server that is away twice.
func TestWatchTells(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var said bytes.Buffer
		w := watch{time.Second, func(format string, args ...any) { fmt.Fprintf(&said, format+"\n", args...) }}
		away := &latchkey.Error{Kind: latchkey.ErrUnavailable, Msg: "it is away"}
		looks := []error{away, away, nil, away, nil, nil}
		err := w.until(t.Context(), func() (bool, error) {
			err := looks[0]
			looks = looks[1:]
			return len(looks) == 0, err
		})
		if want := strings.Repeat("it is away; waiting for it\nthe server is back\n", 2); err != nil || said.String() != want {
			t.Errorf("until = %v, saying %q; want %q", err, &said, want)
		}
		broken := errors.New("broken")
		if err := w.until(t.Context(), func() (bool, error) { return false, broken }); !errors.Is(err, broken) {
			t.Errorf("until = %v; want an error that is not the server's absence at once", err)
		}
	})
}

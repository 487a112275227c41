package client

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"latchkey.dev/latchkey"
)

func TestServerAddress(t *testing.T) {
	const (
		form  = "must be one such as"
		plain = "use https"
		parts = "no user, query or fragment"
		path  = "no path"
	)
	tests := []struct {
		server   string
		insecure bool
		want     string // part of the error; "" is none; path is the agent's only
	}{
		{"https://latchkey.example.org", false, ""},
		{"https://latchkey.example.org/", false, ""},
		{"https://latchkey.example.org:8443", false, ""},
		{"https://latchkey.example.org/below/", false, path},
		{"https://latchkey.example.org//", false, path},
		{"http://127.0.0.1:8080", false, ""},
		{"http://[::1]:8080", false, ""},
		{"http://localhost", false, ""},
		{"http://localhost:8080", false, ""},
		{"http://latchkey.example.org", true, ""},
		{"http://latchkey.example.org", false, plain},
		{"http://127.0.0.1.example.org", false, plain},
		{"http://localhost.example.org", false, plain},
		{"http://latchkey.localhost", false, plain},
		{"http://LOCALHOST", false, plain},
		{"http://localhost.", false, plain},
		{"http://0.0.0.0", false, plain},
		{"http://[::]", false, plain},
		{"", false, "missing"},
		{"latchkey.example.org", false, form},
		{"latchkey.example.org", true, form},
		{"ftp://latchkey.example.org", false, form},
		{"ftp://127.0.0.1", true, form},
		{"https://", false, form},
		{"https://:8443", false, form},
		{"https://\x00", false, form},
		{"https://user:password@latchkey.example.org", false, parts},
		{"https://user:password@latchkey.example.org:port", false, form},
		{"https://latchkey.example.org?x", false, parts},
		{"https://latchkey.example.org?", false, parts},
		{"https://latchkey.example.org#f", false, parts},
	}
	for _, tt := range tests {
		check := func(what string, err error, want string) {
			t.Helper()
			switch {
			case want == "" && err != nil:
				t.Errorf("%s(%q, insecure %t) = %v; want none", what, tt.server, tt.insecure, err)
			case want != "" && (!errors.Is(err, latchkey.ErrInvalid) || !strings.Contains(err.Error(), want)):
				t.Errorf("%s(%q, insecure %t) = %v; want %q", what, tt.server, tt.insecure, err, want)
			case err != nil && strings.Contains(err.Error(), "password"):
				t.Errorf("%s(%q) repeats the password: %v", what, tt.server, err)
			}
		}
		m, err := NewMachine(tt.server, MachineOptions{AllowInsecure: tt.insecure})
		check("NewMachine", err, tt.want)
		if m != nil {
			m.Close()
		}
		c, err := New(Config{Server: tt.server, AllowInsecure: tt.insecure})
		if tt.want == path {
			tt.want = ""
		}
		check("New", err, tt.want)
		if want := strings.TrimRight(tt.server, "/"); c != nil && c.Server() != want {
			t.Errorf("Server() = %q; want %q", c.Server(), want)
		}
	}
}

func TestCAFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(path, []byte("no certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{path, path + ".absent"} {
		_, newErr := New(Config{Server: "https://latchkey.example.org", CAFile: p})
		_, machineErr := NewMachine("https://latchkey.example.org", MachineOptions{CAFile: p})
		for what, err := range map[string]error{"New": newErr, "NewMachine": machineErr} {
			if err == nil || !strings.Contains(err.Error(), "CA file") {
				t.Errorf("%s with CA file %s = %v; want an error about the CA file", what, p, err)
			}
		}
	}
}

func TestNoRedirect(t *testing.T) {
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/api/v1/me" {
			t.Errorf("followed to %s", r.URL)
		}
		http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
	})
	if _, err := c.Me(t.Context()); err == nil {
		t.Error("a redirect is no error")
	}
}

func TestAnswerLimit(t *testing.T) {
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		block := make([]byte, 1<<20)
		for range maxAnswer>>20 + 1 {
			if _, err := w.Write(block); err != nil {
				return
			}
		}
	})
	_, err := c.Me(t.Context())
	if e, ok := errors.AsType[*latchkey.Error](err); !ok || e.Code != "answer-too-large" {
		t.Errorf("Me = %v; want answer-too-large", err)
	}
}

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"latchkey.dev/internal/agent"
)

var update = flag.Bool("update", false, "write docs/cli.md anew")

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"latchkey":       main,
		"latchkey-agent": agentMain,
		"azread":         azureMain,
	})
}

// agentMain is cmd/latchkey-agent.
func agentMain() {
	os.Exit(agent.Main(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

func TestScripts(t *testing.T) {
	if testing.Short() {
		t.Skip("starts servers and agents")
	}
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(e *testscript.Env) error {
			e.Setenv("HOME", filepath.Join(e.WorkDir, "home"))
			// A program built with -race otherwise waits for a second when it ends.
			e.Setenv("GORACE", "atexit_sleep_ms=0")
			e.Setenv("XDG_CONFIG_HOME", filepath.Join(e.WorkDir, "home", "config"))
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"server": cmdServer,
			"field":  cmdField,
			"shows":  cmdShows,
			"canary": cmdCanary,
		},
	})
}

// patience bounds what scripts wait for.
const patience = 30 * time.Second

// poll calls f until it says that it is done.
func poll(ts *testscript.TestScript, what string, f func() bool) {
	for end := time.Now().Add(patience); !f(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			ts.Fatalf("%s does not come", what)
		}
	}
}

// cmdServer waits until the server with a data folder listens, and sets SERVER
// to its address: server DIR.
func cmdServer(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: server DIR")
	}
	path := ts.MkAbs(filepath.Join(args[0], addressFile))
	var a addresses
	poll(ts, path, func() bool {
		b, err := os.ReadFile(path)
		return err == nil && json.Unmarshal(b, &a) == nil
	})
	ts.Setenv("SERVER", a.URL)
}

// cmdField sets an environment variable to a field of the JSON that the last
// command printed: field VARIABLE NAME.
func cmdField(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: field VARIABLE NAME")
	}
	var m map[string]any
	if err := json.Unmarshal([]byte(ts.ReadFile("stdout")), &m); err != nil {
		ts.Fatalf("the output is not a JSON object: %v", err)
	}
	s, ok := m[args[1]].(string)
	if !ok {
		ts.Fatalf("the output has no text %s", args[1])
	}
	ts.Setenv(args[0], s)
}

// cmdShows waits until a file holds a text: shows FILE TEXT.
func cmdShows(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: shows FILE TEXT")
	}
	poll(ts, args[1], func() bool {
		b, err := os.ReadFile(ts.MkAbs(args[0]))
		return err == nil && bytes.Contains(b, []byte(args[1]))
	})
}

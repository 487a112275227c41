package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"flag"
	"fmt"
	"math/big"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"latchkey.dev/internal/agent"
	"latchkey.dev/internal/latchkeytest/idp"
	"latchkey.dev/internal/latchkeytest/pg"
	"latchkey.dev/internal/latchkeytest/program"
	"latchkey.dev/latchkey"
)

var update = flag.Bool("update", false, "write docs/cli.md anew")

func TestMain(m *testing.M) {
	testscript.Main(suite{m}, map[string]func(){
		"latchkey":       func() { issuersHere = true; main() },
		"latchkey-agent": agentMain,
		"azread":         azureMain,
	})
}

// A suite is the tests with what they may start: PostgreSQL, and clients.
type suite struct{ *testing.M }

// Run implements [testscript.TestingM].
func (s suite) Run() int {
	flag.Parse()
	if program.Race && !testing.Short() {
		dir, err := os.MkdirTemp("", "latchkey-clients-")
		if err == nil {
			defer os.RemoveAll(dir)
			err = quickClients(dir)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	return pg.Main(s.M)
}

// quickClients puts a program into the path that serves, and works on data folders,
// with the race detector, which a process takes half a second to start with. Of the
// hundreds that merely ask a server a thing, none has it.
func quickClients(dir string) error {
	raced, err := exec.LookPath("latchkey")
	if err != nil {
		return err
	}
	plain := filepath.Join(dir, "plain")
	if err := program.Build(context.Background(), plain, false, "latchkey.dev/cmd/latchkey"); err != nil {
		return err
	}
	choose := fmt.Sprintf(`#!/bin/sh
case "$1" in
serve | quickstart | backup | restore | master-key | admin) exec %q "$@" ;;
esac
exec %q "$@"
`, raced, filepath.Join(plain, "latchkey"))
	if err := os.WriteFile(filepath.Join(dir, "latchkey"), []byte(choose), 0o755); err != nil {
		return err
	}
	return os.Setenv("PATH", dir+string(filepath.ListSeparator)+os.Getenv("PATH"))
}

// agentMain is cmd/latchkey-agent.
func agentMain() {
	os.Exit(agent.Main(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

func TestScripts(t *testing.T) {
	if testing.Short() {
		t.Skip("starts servers and agents")
	}
	testscript.Run(t, scripts(testscript.Params{Dir: "testdata/script"}))
}

// TestScriptsOnPostgres runs the whole chain with its data in PostgreSQL.
func TestScriptsOnPostgres(t *testing.T) {
	if testing.Short() {
		t.Skip("starts servers and agents")
	}
	dsn := pg.New(t)
	parsed, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	p := scripts(testscript.Params{Files: []string{"testdata/script/chain.txtar"}})
	setup := p.Setup
	p.Setup = func(e *testscript.Env) error {
		if err := setup(e); err != nil {
			return err
		}
		e.Setenv("LATCHKEY_DATABASE", dsn)
		e.Setenv("DATABASE_FILES", filepath.Join(parsed.Query().Get("host"), "data"))
		return nil
	}
	testscript.Run(t, p)
}

// scripts returns p with what every script needs.
func scripts(p testscript.Params) testscript.Params {
	return testscript.Params{
		Dir:                 p.Dir,
		Files:               p.Files,
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(e *testscript.Env) error {
			e.Setenv("HOME", filepath.Join(e.WorkDir, "home"))
			e.Setenv("DATABASE_FILES", "lk")
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
			"signer": cmdSigner,
			"issuer": cmdIssuer,
		},
	}
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
// command printed, of a list that of its only item: field VARIABLE NAME.
func cmdField(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: field VARIABLE NAME")
	}
	var m map[string]any
	out := []byte(ts.ReadFile("stdout"))
	if err := json.Unmarshal(out, &m); err != nil {
		var list []map[string]any
		if json.Unmarshal(out, &list) != nil || len(list) != 1 {
			ts.Fatalf("the output is not a JSON object, nor a list of one: %v", err)
		}
		m = list[0]
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

// cmdSigner writes a certificate with its key: signer FILE.
func cmdSigner(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: signer FILE")
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	ts.Check(err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	ts.Check(err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	ts.Check(err)
	text := append(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), text, 0o600))
}

// cmdIssuer starts an issuer of tokens, which programs that start later trust,
// sets ISSUER to its address, and writes a token of it: issuer SUBJECT FILE.
func cmdIssuer(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: issuer SUBJECT FILE")
	}
	i := idp.Start()
	ts.Defer(i.Close)
	ca := ts.MkAbs("issuer-ca.pem")
	ts.Check(os.WriteFile(ca, i.CA(), 0o600))
	ts.Setenv("SSL_CERT_FILE", ca)
	ts.Setenv("ISSUER", i.URL)
	token := i.Sign(idp.Claims{"sub": args[0], "aud": latchkey.DefaultFederatedAudience, "exp": time.Now().Add(time.Hour).Unix()})
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), []byte(token+"\n"), 0o600))
}

// Command conformance runs the live tests of Microsoft's own Go clients of Key
// Vault against the embedded vaults of a server: unmodified, from the module
// cache, and as any program reaches a vault, which is latchkey vault env.
//
//	conformance ROOT
//
// Its last line counts what passed. It fails when a test fails, and also when
// one that needs a vault did not run.
package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	// What is tested: go.mod has the versions, and what their tests need.
	_ "github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azcertificates"
	_ "github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azsecrets"
)

// A suite is the tests of one client. Those in live talk to a vault; the others
// are about the client alone.
type suite struct {
	name string
	live []string
}

const clients = "github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/"

var suites = []suite{
	{"azsecrets", []string{"TestBackupRestore", "TestCRUD", "TestListDeletedSecrets", "TestListSecretVersions", "TestListSecrets", "TestRecover"}},
	{"azcertificates", []string{
		"TestBackupRestore", "TestCRUD", "TestContactsCRUD", "TestDeleteRecover", "TestImportCertificate", "TestIssuerCRUD",
		"TestListCertificateVersions", "TestListCertificates", "TestMergeCertificate", "TestOperationCRUD", "TestSubjectAlternativeNames",
		"TestUpdateCertificatePolicy",
	}},
}

// limit bounds the whole of it. Microsoft's tests wait for two minutes for what
// does not come.
const limit = 10 * time.Minute

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintf(os.Stderr, "conformance: %v\n", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) (err error) {
	if len(args) != 1 {
		return errors.New("usage: conformance ROOT")
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	dir, err := os.MkdirTemp("", "latchkey-conformance-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	p := &program{path: filepath.Join(dir, "latchkey"), data: filepath.Join(dir, "data")}
	build := command(ctx, "go", "-C", args[0], "build", "-buildvcs=false", "-o", p.path, "./cmd/latchkey")
	if err := build.Run(); err != nil {
		return fmt.Errorf("build latchkey: %w", err)
	}
	stopServer, err := p.serve(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stopServer()) }()
	vault, err := p.createVault(ctx)
	if err != nil {
		return err
	}
	var lines []string
	var failed bool
	for _, s := range suites {
		line, ok, err := p.test(ctx, s, vault)
		if err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		lines, failed = append(lines, line), failed || !ok
	}
	fmt.Println("conformance:", strings.Join(lines, "; "))
	if failed {
		return errors.New("not everything passed")
	}
	return nil
}

// command returns a command that is asked to end with ctx, and has a moment to.
func command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 15 * time.Second
	return cmd
}

// A program is latchkey with a server's folder, whose address is "" until it
// listens.
type program struct {
	path, data, server string
}

// admin returns a command of the server's first admin.
func (p *program) admin(ctx context.Context, args ...string) *exec.Cmd {
	return command(ctx, p.path, append([]string{"--server", p.server, "--token-file", filepath.Join(p.data, "admin-token")}, args...)...)
}

// serve starts the server and returns what ends it.
func (p *program) serve(ctx context.Context) (stop func() error, err error) {
	ctx, cancel := context.WithCancel(ctx)
	cmd := command(ctx, p.path, "serve", "--data", p.data, "--listen", "127.0.0.1:0", "--vault-listen", "127.0.0.1:0")
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		cancel()
		return nil, err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for {
		var at struct{ URL string }
		if b, err := os.ReadFile(filepath.Join(p.data, "server.json")); err == nil && json.Unmarshal(b, &at) == nil {
			p.server = at.URL
			return func() error { cancel(); <-ended; return nil }, nil
		}
		select {
		case err := <-ended:
			cancel()
			return nil, fmt.Errorf("the server ends: %w\n%s", err, log.Bytes())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// createVault makes a vault and returns its address.
func (p *program) createVault(ctx context.Context) (string, error) {
	cmd := p.admin(ctx, "vault", "create", "conformance", "--json")
	cmd.Stdout = nil
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("make a vault: %w", err)
	}
	var v struct{ URL string }
	return v.URL, json.Unmarshal(out, &v)
}

// An event is a line that go test -json prints.
type event struct {
	Action, Test, Output string
}

// test runs the tests of a client and returns the counts, and whether all
// passed that should have run.
func (p *program) test(ctx context.Context, s suite, vault string) (line string, ok bool, err error) {
	cmd := p.admin(ctx, "vault", "env", "--", "go", "test", "-count=1", "-json", clients+s.name)
	cmd.Env = append(os.Environ(), "AZURE_RECORD_MODE=live", "AZURE_KEYVAULT_URL="+vault, "CGO_ENABLED=0", "GOFLAGS=")
	cmd.Stdout = nil
	out, err := cmd.StdoutPipe()
	if err != nil {
		return "", false, err
	}
	if err := cmd.Start(); err != nil {
		return "", false, err
	}
	outcome := map[string]string{}          // by the name of a test
	output := map[string]*strings.Builder{} // the same; "" is the package
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var e event
		if json.Unmarshal(lines.Bytes(), &e) != nil {
			continue // of the compiler, which also writes to standard error
		}
		test, _, sub := strings.Cut(e.Test, "/")
		if output[test] == nil {
			output[test] = new(strings.Builder)
		}
		output[test].WriteString(e.Output)
		if test != "" && !sub && slices.Contains([]string{"pass", "fail", "skip"}, e.Action) {
			outcome[test] = e.Action
		}
	}
	failed := errors.Join(lines.Err(), cmd.Wait()) // go test fails with a test
	passed, others := 0, 0
	for test, o := range outcome {
		live := slices.Contains(s.live, test)
		switch {
		case o == "pass" && live:
			passed++
		case o == "pass":
			others++
		case o == "fail":
			fmt.Print(output[test])
		}
	}
	for _, test := range s.live {
		if o := outcome[test]; o != "pass" {
			fmt.Printf("%s %s: %s\n", s.name, test, cmp.Or(o, "did not run"))
		}
	}
	if failed != nil && len(outcome) == 0 && output[""] != nil {
		fmt.Print(output[""])
	}
	return fmt.Sprintf("%s %d of %d live tests passed, and %d others", s.name, passed, len(s.live), others),
		failed == nil && passed == len(s.live), nil
}

// Command conformance tries Microsoft's own clients of Key Vault, unmodified, on
// the embedded vaults of a server, as any program reaches a vault, which is
// latchkey vault env: the clients for Go by their own live tests, from the module
// cache, and those for JavaScript and Python by the cases in js and python.
//
//	conformance [-without javascript,python] ROOT
//
// JavaScript takes Node.js and npm, which installs the clients in a temporary
// folder; Python takes Debian's python3-azure. Its last line counts what passed,
// and names what it was told to do without. It fails when a test fails, and also
// when one that needs a vault did not run.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

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
	flags := flag.NewFlagSet("conformance", flag.ContinueOnError)
	without := flags.String("without", "", "`languages` that are not tried, with commas between")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() != 1 {
		return errors.New("usage: conformance [-without LANGUAGES] ROOT")
	}
	root := flags.Arg(0)
	left := strings.FieldsFunc(*without, func(r rune) bool { return r == ',' })
	for _, name := range left {
		if !slices.ContainsFunc(languages, func(l language) bool { return l.name == name }) {
			return fmt.Errorf("-without %s: there is no such language; there are %s", name, names(languages))
		}
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	dir, err := os.MkdirTemp("", "latchkey-conformance-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	p := &program{path: filepath.Join(dir, "latchkey"), data: filepath.Join(dir, "data")}
	build := command(ctx, "go", "-C", root, "build", "-buildvcs=false", "-o", p.path, "./cmd/latchkey")
	if err := build.Run(); err != nil {
		return fmt.Errorf("build latchkey: %w", err)
	}
	stopServer, err := p.serve(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stopServer()) }()
	vault, err := p.createVault(ctx, "conformance")
	if err != nil {
		return err
	}
	var lines []string
	var failed bool
	for _, s := range suites {
		line, ok, err := p.test(ctx, s, vault.URL)
		if err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		lines, failed = append(lines, line), failed || !ok
	}
	w, err := p.prepare(ctx, dir)
	if err != nil {
		return err
	}
	for _, l := range languages {
		if slices.Contains(left, l.name) {
			lines = append(lines, l.name+" not tried, as asked")
			continue
		}
		line, ok, err := w.try(ctx, l, filepath.Join(root, "tools", "conformance"))
		if err != nil {
			return fmt.Errorf("%s: %w", l.name, err)
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

// A vault is one as the command describes it.
type vault struct{ URL string }

// createVault makes a vault.
func (p *program) createVault(ctx context.Context, name string) (v vault, err error) {
	if err := p.ask(ctx, &v, "vault", "create", name); err != nil {
		return v, fmt.Errorf("make the vault %s: %w", name, err)
	}
	return v, nil
}

// ask decodes what a command of the server's first admin answers.
func (p *program) ask(ctx context.Context, v any, args ...string) error {
	cmd := p.admin(ctx, append(args, "--json")...)
	cmd.Stdout = nil
	out, err := cmd.Output()
	if err != nil {
		return err
	}
	return json.Unmarshal(out, v)
}

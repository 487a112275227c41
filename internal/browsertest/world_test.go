// Package browsertest drives the pages in a real browser, over the real program:
// latchkey quickstart with its server, embedded vault, machine and agent.
//
// All tests share one server and one browser, each in a profile of its own, so
// they look only at what they made themselves, and may run in parallel.
package browsertest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"latchkey.dev/client"
	"latchkey.dev/internal/latchkeytest/program"
	"latchkey.dev/latchkey"
)

// env is the environment that quickstart makes.
const env = "quickstart"

// A world is a running program and a browser.
type world struct {
	dir    string // the data folder
	url    string
	client *client.Client // as the first admin
	cmd    *exec.Cmd
	log    *os.File

	browser context.Context // of the browser as a whole
	stop    func()
}

// w is the world that all tests share; nil when there is no browser.
var w *world

func TestMain(m *testing.M) {
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "browsertest:", err)
		code = 1
	}
	os.Exit(code)
}

func run(m *testing.M) (code int, err error) {
	browser := findBrowser()
	if browser == "" {
		return m.Run(), nil // each test says that it cannot
	}
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Minute)
	defer cancel()
	dir, err := os.MkdirTemp("", "latchkey-browsertest-")
	if err != nil {
		return 1, err
	}
	defer os.RemoveAll(dir)
	if w, err = start(ctx, dir, browser); err != nil {
		return 1, err
	}
	code = m.Run()
	return code, w.close()
}

func findBrowser() string {
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	return ""
}

func start(ctx context.Context, dir, browser string) (*world, error) {
	if err := program.Build(ctx, dir, false, "latchkey.dev/cmd/latchkey"); err != nil {
		return nil, err
	}
	w := &world{dir: filepath.Join(dir, "data")}
	var err error
	if w.log, err = os.Create(filepath.Join(dir, "log")); err != nil {
		return nil, err
	}
	w.cmd = exec.CommandContext(ctx, filepath.Join(dir, "latchkey"), "quickstart", "--serve", "--quiet", "--data", w.dir)
	w.cmd.Cancel = func() error { return w.cmd.Process.Signal(os.Interrupt) }
	w.cmd.WaitDelay = 20 * time.Second
	w.cmd.Env = append(os.Environ(), "HOME="+dir, "XDG_CONFIG_HOME="+filepath.Join(dir, "config"))
	w.cmd.Stderr = w.log
	out, err := w.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := w.cmd.Start(); err != nil {
		return nil, err
	}
	link, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		text, _ := os.ReadFile(w.log.Name())
		return nil, errors.Join(fmt.Errorf("quickstart printed no link: %w\n%s", err, text), w.cmd.Wait())
	}
	w.url, _, _ = strings.Cut(strings.TrimSpace(link), "/sign-in#")
	go func() { _, _ = io.Copy(io.Discard, out) }() // it ends with the program
	token, err := os.ReadFile(filepath.Join(w.dir, "admin-token"))
	if err != nil {
		return nil, err
	}
	if w.client, err = client.New(client.Config{Server: w.url, Token: latchkey.NewSecret(strings.TrimSpace(string(token)))}); err != nil {
		return nil, err
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(browser), chromedp.DisableGPU, chromedp.NoFirstRun, chromedp.WindowSize(1360, 900),
		chromedp.Flag("disable-background-networking", true), chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-sync", true), chromedp.Flag("disable-quic", true))
	if os.Geteuid() == 0 {
		options = append(options, chromedp.NoSandbox)
	}
	allocator, stopAllocator := chromedp.NewExecAllocator(ctx, options...)
	var stopBrowser func()
	w.browser, stopBrowser = chromedp.NewContext(allocator)
	w.stop = func() { stopBrowser(); stopAllocator() }
	return w, chromedp.Do(w.browser) // starts it
}

// close ends the browser and the program, which must end well.
func (w *world) close() error {
	w.stop()
	if err := w.cmd.Process.Signal(os.Interrupt); err != nil {
		return err
	}
	err := w.cmd.Wait()
	return errors.Join(err, w.log.Close())
}

// need returns the world, or ends the test when there is none.
func need(t *testing.T) *world {
	t.Helper()
	if w == nil {
		const msg = "no chromium: install the package chromium to test the pages in a browser"
		if os.Getenv("LATCHKEY_TEST_CHROMIUM") == "required" {
			t.Fatal(msg)
		}
		t.Skip(msg)
	}
	return w
}

// password is that of every account that tests make.
const password = "correct horse battery"

// user makes an account with a role in the environment that all share.
func (w *world) user(t *testing.T, login string, role latchkey.EnvironmentRole) latchkey.User {
	t.Helper()
	secret := password
	u, err := w.client.CreateUser(t.Context(), latchkey.UserCreate{Login: login, Password: &secret})
	if err != nil {
		t.Fatal(err)
	}
	if role != "" {
		if err := w.client.SetMember(t.Context(), env, login, role); err != nil {
			t.Fatal(err)
		}
	}
	return u
}

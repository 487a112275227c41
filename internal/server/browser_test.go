package server

import (
	"context"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// browser returns a context of a new headless Chromium and what pages complain
// about there: errors of scripts, and reports of the content security policy.
func browser(t *testing.T) (ctx context.Context, complaints func() []string) {
	t.Helper()
	var program string
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			program = path
			break
		}
	}
	if program == "" {
		const msg = "no chromium: install the package chromium to test the pages in a browser"
		if os.Getenv("LATCHKEY_TEST_CHROMIUM") == "required" {
			t.Fatal(msg)
		}
		t.Skip(msg)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(program), chromedp.DisableGPU, chromedp.NoFirstRun, chromedp.WindowSize(1280, 900),
		chromedp.Flag("disable-background-networking", true), chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-sync", true), chromedp.Flag("disable-quic", true))
	if os.Geteuid() == 0 {
		options = append(options, chromedp.NoSandbox)
	}
	ctx, cancel = chromedp.NewExecAllocator(ctx, options...)
	t.Cleanup(cancel)
	var mu sync.Mutex
	var all []string
	ctx, cancel = chromedp.NewContext(ctx, chromedp.WithListener(func(ev any) {
		mu.Lock()
		defer mu.Unlock()
		switch e := ev.(type) {
		case *runtime.EventExceptionThrown:
			all = append(all, "exception: "+e.ExceptionDetails.Text)
		case *runtime.EventConsoleAPICalled:
			all = append(all, "console: "+string(e.Type))
		case *log.EventEntryAdded:
			all = append(all, "log: "+e.Entry.Text)
		}
	}))
	t.Cleanup(cancel)
	return ctx, func() []string {
		mu.Lock()
		defer mu.Unlock()
		return all
	}
}

// screenshot writes what the page looks like, in a light and a dark scheme, to
// the folder of LATCHKEY_TEST_SCREENSHOTS, or to one that is thrown away.
func screenshot(t *testing.T, ctx context.Context, name string) {
	t.Helper()
	dir := os.Getenv("LATCHKEY_TEST_SCREENSHOTS")
	if dir == "" {
		dir = t.TempDir()
	}
	for _, scheme := range []string{"light", "dark"} {
		if err := preferScheme(ctx, scheme); err != nil {
			t.Fatal(err)
		}
		b, err := chromedp.Run(ctx, chromedp.CaptureScreenshot())
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name+"-"+scheme+".png"), b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func TestInBrowser(t *testing.T) {
	ctx, complaints := browser(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	base := "http://" + l.Addr().String()
	f := newFixture(t, func(c *Config) { c.PublicURL = func() string { return base } })
	h := &http.Server{Handler: f, ReadHeaderTimeout: 10 * time.Second}
	done := make(chan error, 1)
	go func() { done <- h.Serve(l) }()
	defer func() {
		h.Close()
		<-done
	}()

	var link signInLink
	read(t, f.must(t, http.StatusOK, "POST", "/api/v1/sign-in/link", ""), &link)
	steps := func(actions ...chromedp.Action[chromedp.Void]) {
		t.Helper()
		if err := chromedp.Do(ctx, actions...); err != nil {
			t.Fatalf("%v; the page complains: %q", err, complaints())
		}
	}
	steps(chromedp.Navigate(base+"/"), chromedp.WaitVisible(chromedp.CSS("#login")))
	screenshot(t, ctx, "sign-in")
	steps(chromedp.Navigate("about:blank"), chromedp.Navigate(link.URL), chromedp.WaitVisible(chromedp.CSS(".chain")))
	screenshot(t, ctx, "home-empty")
	if at, err := chromedp.Run(ctx, chromedp.Location()); err != nil || at != base+"/" {
		t.Errorf("after the link the browser is at %q, %v; want %q", at, err, base+"/")
	}
	// Going back must not show the link's secret.
	steps(chromedp.NavigateBack(), chromedp.WaitVisible(chromedp.CSS("body")))
	if at, err := chromedp.Run(ctx, chromedp.Location()); err != nil || strings.Contains(at, "#") {
		t.Errorf("the browser's history has %q, %v; want no fragment", at, err)
	}
	newAgent(t, f).queueRun(t)
	steps(chromedp.Navigate(base+"/"), chromedp.WaitVisible(chromedp.CSS(".environment")))
	screenshot(t, ctx, "home")
	steps(chromedp.Navigate(base+"/docs"), chromedp.WaitVisible(chromedp.CSS(".toc")))
	screenshot(t, ctx, "docs")
	steps(chromedp.Navigate(base+"/docs#createCredential"), chromedp.WaitVisible(chromedp.CSS("#createCredential")))
	screenshot(t, ctx, "docs-operation")
	steps(chromedp.EmulateViewport(390, 800), chromedp.Navigate(base+"/"), chromedp.WaitVisible(chromedp.CSS(".environment")))
	screenshot(t, ctx, "home-narrow")
	wide, err := chromedp.Run(ctx, chromedp.Evaluate[bool](`document.documentElement.scrollWidth > innerWidth`))
	if err != nil || wide {
		t.Errorf("the page is wider than a narrow window: %v, %v", wide, err)
	}
	steps(chromedp.Click(chromedp.CSS(".who button")), chromedp.WaitVisible(chromedp.CSS("#login")))
	if got := complaints(); len(got) > 0 {
		t.Errorf("pages complain: %q", got)
	}
}

func preferScheme(ctx context.Context, scheme string) error {
	_, err := chromedp.Call(ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}},
	})
	return err
}

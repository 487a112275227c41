package browsertest

import (
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

//go:embed testdata/axe.js
var axe string

// A tab is a page in a browser profile of its own. A step that cannot be done
// ends the test.
type tab struct {
	t   *testing.T
	w   *world
	ctx context.Context

	noScript bool // the page's scripts are switched off

	mu         sync.Mutex
	complaints []string // of the page; guarded by mu
}

// open returns a new tab. In the end nothing may have complained there: no script,
// and no content security policy.
func (w *world) open(t *testing.T) *tab {
	t.Helper()
	b := &tab{t: t, w: w}
	ctx, cancel := chromedp.NewContext(w.browser, chromedp.WithNewBrowserContext(), chromedp.WithListener(func(ev any) {
		b.mu.Lock()
		defer b.mu.Unlock()
		switch e := ev.(type) {
		case *runtime.EventExceptionThrown:
			b.complaints = append(b.complaints, "exception: "+e.ExceptionDetails.Text)
		case *runtime.EventConsoleAPICalled:
			said := "console: " + string(e.Type)
			for _, a := range e.Args {
				said += fmt.Sprintf(" %s %s", a.Description, a.Value)
			}
			// What follows the changes says so when its session has ended.
			if !strings.Contains(said, "[object Event]") {
				b.complaints = append(b.complaints, said)
			}
		case *log.EventEntryAdded:
			// A form that is refused answers 4xx, which is no fault.
			if !strings.Contains(e.Entry.Text, "the server responded with a status of 4") {
				b.complaints = append(b.complaints, "log: "+e.Entry.Text)
			}
		case *page.EventJavascriptDialogOpening:
			b.complaints = append(b.complaints, "dialog: "+e.Message)
		}
	}))
	var stop context.CancelFunc
	b.ctx, stop = context.WithTimeout(ctx, 2*time.Minute)
	t.Cleanup(func() {
		if t.Failed() {
			b.keep("failed-" + strings.NewReplacer("/", "-", " ", "-").Replace(t.Name()))
		}
		stop()
		cancel()
		b.mu.Lock()
		defer b.mu.Unlock()
		if len(b.complaints) > 0 {
			t.Errorf("pages complain: %q", b.complaints)
		}
	})
	return b
}

// do takes steps.
func (b *tab) do(actions ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	if err := chromedp.Do(b.ctx, actions...); err != nil {
		b.t.Fatalf("%v; at %s", err, b.where())
	}
}

func (b *tab) where() string {
	at, err := chromedp.Run(b.ctx, chromedp.Location())
	if err != nil {
		return err.Error()
	}
	return at
}

// signIn signs in as somebody that user made, and waits for the first page.
func (b *tab) signIn(login string) *tab {
	b.t.Helper()
	b.visit("/sign-in")
	b.fill("#f-login", login)
	b.fill("#f-password", password)
	b.press(`form[action="/sign-in"] button`)
	b.see(".who")
	return b
}

// signInAsAdmin signs in as the first admin.
func (b *tab) signInAsAdmin() *tab {
	b.t.Helper()
	link, err := b.w.client.SignInLink(b.t.Context())
	if err != nil {
		b.t.Fatal(err)
	}
	b.do(chromedp.Navigate(link.URL))
	b.see(".who")
	return b
}

// visit opens a page.
func (b *tab) visit(path string) {
	b.t.Helper()
	b.do(chromedp.Navigate(b.w.url+path), chromedp.WaitReady(chromedp.CSS("main")))
}

// see waits until something is visible.
func (b *tab) see(css string) {
	b.t.Helper()
	b.within(func(ctx context.Context) error { return chromedp.Do(ctx, chromedp.WaitVisible(chromedp.CSS(css))) }, "see "+css)
}

// within bounds one step, so that a test says which one hangs.
func (b *tab) within(step func(context.Context) error, what string) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, 30*time.Second)
	defer cancel()
	err := step(ctx)
	for err != nil && strings.Contains(err.Error(), "Could not find node") && ctx.Err() == nil {
		err = step(ctx) // the page has put another in its place meanwhile
	}
	if err != nil {
		b.t.Fatalf("%s: %v; at %s, which says: %.600s", what, err, b.where(), b.text("body"))
	}
}

// press clicks something, once it is visible.
func (b *tab) press(css string) {
	b.t.Helper()
	b.within(func(ctx context.Context) error {
		return chromedp.Do(ctx, chromedp.WaitVisible(chromedp.CSS(css)), chromedp.Click(chromedp.CSS(css)))
	}, "press "+css)
}

// fill puts a text into a field, in place of what is there.
func (b *tab) fill(css, text string) {
	b.t.Helper()
	selector, _ := json.Marshal(css)
	b.within(func(ctx context.Context) error {
		if err := chromedp.Do(ctx, chromedp.WaitVisible(chromedp.CSS(css))); err != nil {
			return err
		}
		// Clear of chromedp fails on a textarea that is empty.
		if _, err := chromedp.Run(ctx, chromedp.Evaluate[bool](`(document.querySelector(`+string(selector)+`).value = "") === ""`)); err != nil {
			return err
		}
		return chromedp.Do(ctx, chromedp.SendKeys(chromedp.CSS(css), text))
	}, "fill "+css)
}

// keys types, wherever the focus is.
func (b *tab) keys(text string) {
	b.t.Helper()
	b.do(chromedp.KeyEvent(text))
}

// eval returns the value of an expression, as JSON that is read into into.
func (b *tab) eval(expression string, into any) {
	b.t.Helper()
	text, err := chromedp.Run(b.ctx, chromedp.Evaluate[string](`Promise.resolve(`+expression+`).then((v) => JSON.stringify(v ?? null))`, chromedp.EvalAwaitPromise))
	if err == nil {
		err = json.Unmarshal([]byte(text), into)
	}
	if err != nil {
		b.t.Fatalf("%s: %v", expression, err)
	}
}

// text returns what is to be read in the first element that fits, or "".
func (b *tab) text(css string) (s string) {
	b.t.Helper()
	selector, _ := json.Marshal(css)
	s, err := chromedp.Run(b.ctx, chromedp.Evaluate[string](`document.querySelector(`+string(selector)+`)?.innerText ?? ""`))
	if err != nil {
		return err.Error()
	}
	return s
}

// says waits until an element says something.
func (b *tab) says(css, text string) {
	b.t.Helper()
	selector, _ := json.Marshal(css)
	want, _ := json.Marshal(text)
	deadline := time.Now().Add(30 * time.Second)
	for {
		ok, err := chromedp.Run(b.ctx, chromedp.Evaluate[bool](
			`[...document.querySelectorAll(`+string(selector)+`)].some((e) => (e.innerText ?? "").includes(`+string(want)+`))`))
		if err == nil && ok {
			return
		}
		if time.Now().After(deadline) {
			b.t.Fatalf("%s does not say %q (%v); at %s it says %.600q", css, text, err, b.where(), b.text(css))
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// narrow makes the window as wide as a phone.
func (b *tab) narrow() { b.t.Helper(); b.do(chromedp.EmulateViewport(390, 844)) }

// fits fails the test if the page is wider than the window.
func (b *tab) fits() {
	b.t.Helper()
	var wide bool
	if b.eval(`document.documentElement.scrollWidth > innerWidth`, &wide); wide {
		b.t.Errorf("%s is wider than the window", b.where())
	}
}

// withoutScript switches the page's scripts off. They stay off in this tab.
func (b *tab) withoutScript() {
	b.t.Helper()
	b.noScript = true
	b.disableScript(true)
}

func (b *tab) disableScript(disabled bool) {
	b.t.Helper()
	if _, err := chromedp.Call(b.ctx, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: disabled}); err != nil {
		b.t.Fatal(err)
	}
}

func (b *tab) scheme(scheme string) {
	b.t.Helper()
	if _, err := chromedp.Call(b.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}, {Name: "prefers-reduced-motion", Value: "reduce"}},
	}); err != nil {
		b.t.Fatal(err)
	}
}

// look keeps a picture of the page in both schemes, and fails the test for what
// axe finds against WCAG 2.2 AA there.
func (b *tab) look(name string) {
	b.t.Helper()
	for _, scheme := range []string{"light", "dark"} {
		b.scheme(scheme)
		b.keep(name + "-" + scheme)
		b.accessible(name+" in "+scheme, scheme == "light")
	}
	b.scheme("")
}

// keep writes a picture of the page into the folder of
// LATCHKEY_TEST_SCREENSHOTS, if there is one.
func (b *tab) keep(name string) {
	dir := os.Getenv("LATCHKEY_TEST_SCREENSHOTS")
	if dir == "" {
		return
	}
	picture, err := chromedp.Run(b.ctx, chromedp.CaptureScreenshot())
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, name+".png"), picture, 0o644)
	}
	if err != nil {
		b.t.Log("screenshot:", err)
	}
}

// accessible fails the test for what axe finds in the page; without whole only for
// what its colours are to blame for, since nothing else depends on the scheme.
func (b *tab) accessible(what string, whole bool) {
	b.t.Helper()
	if b.noScript {
		// axe waits by timers. What the page did not run at its start it does not run now.
		b.disableScript(false)
		defer b.disableScript(true)
	}
	var loaded bool
	if b.eval(`typeof axe === "object"`, &loaded); !loaded {
		if _, err := chromedp.Run(b.ctx, chromedp.Evaluate[bool](axe+`;true`)); err != nil {
			b.t.Fatal(err)
		}
	}
	var found []struct {
		ID, Help string
		Nodes    []struct{ HTML, FailureSummary string }
	}
	rules := `["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]`
	if !whole {
		rules = `{type: "rule", values: ["color-contrast", "link-in-text-block"]}`
	}
	b.eval(`axe.run({runOnly: `+rules+`, resultTypes: ["violations"]}).then((r) => r.violations)`, &found)
	for _, f := range found {
		var nodes []string
		for _, n := range f.Nodes {
			nodes = append(nodes, fmt.Sprintf("\n    %.200s\n      %s", n.HTML, strings.ReplaceAll(n.FailureSummary, "\n", " ")))
		}
		b.t.Errorf("%s: %s: %s%s", what, f.ID, f.Help, strings.Join(nodes[:min(3, len(nodes))], ""))
	}
}

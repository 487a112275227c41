package browsertest

import (
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"latchkey.dev/latchkey"
)

func TestSignIn(t *testing.T) {
	t.Parallel()
	w := need(t)
	w.user(t, "sam", latchkey.EnvMaker)
	b := w.open(t)
	b.visit("/e/quickstart/credentials?search=x")
	b.look("sign-in")
	b.fill("#f-login", "sam")
	b.fill("#f-password", "wrong horse battery")
	b.press(`form[action="/sign-in"] button`)
	b.see("[role=alert]")
	b.look("sign-in-refused")
	b.fill("#f-password", password)
	b.press(`form[action="/sign-in"] button`)
	b.see(".who")
	if at := b.where(); !strings.HasSuffix(at, "/e/quickstart/credentials?search=x") {
		t.Errorf("after signing in the browser is at %s; want the page that was asked for", at)
	}
	b.press(".who summary")
	b.press(".who .last button")
	b.see("#f-login")
}

func TestSignInLinkLeavesNoTrace(t *testing.T) {
	t.Parallel()
	b := need(t).open(t)
	b.do(chromedp.Navigate("about:blank"))
	b.signInAsAdmin()
	b.do(chromedp.NavigateBack(), chromedp.WaitReady(chromedp.CSS("body")))
	if at := b.where(); strings.Contains(at, "#") {
		t.Errorf("the browser's history has %s; want no secret", at)
	}
}

func TestShell(t *testing.T) {
	t.Parallel()
	w := need(t)
	w.user(t, "shelly", latchkey.EnvMaker)
	b := w.open(t).signIn("shelly")
	b.visit("/e/quickstart/more")
	b.look("more")
	b.press(`button[value=map]`) // pins it
	b.see(`nav.side a[href="/e/quickstart/map"]`)
	b.press(".who summary")
	b.press(`.themes button[value=dark]`)
	b.see(`html[data-theme=dark]`)
	b.press(`[data-narrow]`)
	b.see(`html[data-narrow]`)
	b.narrow()
	b.visit("/e/quickstart/more")
	b.fits()
	b.press(".menu-button")
	b.see("#nav .close")
	b.look("phone-menu")
}

// firstPaint is what a page may have transferred when a browser that has nothing of
// ours first shows it, in bytes; headers is what an answer has beside its body.
const firstPaint, headers = 100_000, 1_000

// TestFirstPaint weighs pages with all they load, as they are on the wire.
func TestFirstPaint(t *testing.T) {
	t.Parallel()
	w := need(t)
	weigh := func(b *tab, name string) {
		t.Helper()
		var parts []struct {
			Name string
			Size int
		}
		b.eval(`[...performance.getEntriesByType("navigation"), ...performance.getEntriesByType("resource")].map((e) => ({Name: e.name, Size: e.encodedBodySize}))`, &parts)
		total := 0
		for _, p := range parts {
			total += p.Size + headers
		}
		if t.Logf("%s: %d bytes in %d answers", name, total, len(parts)); total > firstPaint || len(parts) < 3 || total <= len(parts)*headers {
			t.Errorf("%s transfers %d bytes in %+v; want at most %d", name, total, parts, firstPaint)
		}
	}
	b := w.open(t)
	b.visit("/sign-in")
	weigh(b, "sign-in")
	b.signInAsAdmin()
	weigh(b, "home")
	for _, path := range []string{"/e/quickstart/credentials", "/e/quickstart/map", "/e/quickstart/activity"} {
		b.visit(path)
		weigh(b, path)
	}
}

package browsertest

import (
	"strings"
	"testing"

	"github.com/chromedp/chromedp/kb"

	"latchkey.dev/latchkey"
)

func TestMap(t *testing.T) {
	t.Parallel()
	w := need(t)
	w.user(t, "mapper", latchkey.EnvAdmin)
	c := w.quickCredential(t)
	b := w.open(t).signIn("mapper")
	b.visit("/e/quickstart/map")
	b.see("svg.map .map-node")
	b.look("map")
	b.visit("/e/quickstart/map?of=credential:" + string(c.ID))
	b.look("map-credential")

	// By keyboard: from the picture to the first thing in it, and on to the last.
	var last string
	b.eval(`document.querySelector(".map-card").focus()`, new(any))
	for range 20 {
		b.keys(kb.Tab)
		var at string
		if b.eval(`document.activeElement.closest(".map") ? document.activeElement.querySelector("title").textContent : ""`, &at); at == "" {
			break
		}
		last = at
	}
	if last == "" || !strings.Contains(last, "uses") {
		t.Errorf("the keyboard ends at %q; want the last thing of the map, and what it uses", last)
	}
	// Other tests have machines there too.
	var machine string
	b.eval(`((n) => { n.focus(); return n.querySelector(".map-name").textContent; })(document.querySelector(".map-node[href*='/machines/']"))`, &machine)
	b.keys(kb.Enter)
	b.says("h1", strings.TrimRight(machine, "…."))

	b.narrow()
	b.visit("/e/quickstart/map?of=credential:" + string(c.ID) + "#table")
	b.says("main table", "quickstart/erp-password")
	b.fits()
	b.look("phone-map")
}

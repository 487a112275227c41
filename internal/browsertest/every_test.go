package browsertest

import (
	"net/url"
	"regexp"
	"strings"
	"testing"

	"latchkey.dev/latchkey"
)

const (
	mostPages  = 150 // that the walk goes to; that there are more is an error
	pagesOfTab = 8   // a tab's time is limited
)

// nameless are the parts of a path that are names and ids, and what stands for them.
var nameless = []struct {
	from *regexp.Regexp
	to   string
}{
	{regexp.MustCompile(`^/e/[^/]+`), "/e/ENV"},
	{regexp.MustCompile(`^/environments/[^/]+`), "/environments/ENV"},
	{regexp.MustCompile(`^/vaults/[^/]+`), "/vaults/VAULT"},
	{regexp.MustCompile(`/(secrets|certificates)/[^/]+`), "/$1/NAME"},
	{regexp.MustCompile(`/[a-z]+_[0-9a-z]{20,}`), "/ID"},
	{regexp.MustCompile(`/[0-9a-f]{32}`), "/VERSION"},
}

// patternOf returns what the pages at a path have in common.
func patternOf(path string) string {
	for _, r := range nameless {
		path = r.from.ReplaceAllString(path, r.to)
	}
	return path
}

// notPages are what links lead to that is no page: downloads, and what the API says
// of itself.
var notPages = regexp.MustCompile(`/export|/output$|^/openapi|^/assets/`)

// TestEveryPage follows the links of every kind of page, as an admin who has one of
// everything, and looks at each in both schemes. It is not parallel to others, so that
// nothing disappears meanwhile.
func TestEveryPage(t *testing.T) {
	w := need(t)
	w.oneOfEverything(t)
	queue := []string{"/", "/e/quickstart/find?q=quick"}
	seen := map[string]bool{patternOf("/"): true}
	var b *tab
	for n := 0; len(queue) > 0; n++ {
		if n == mostPages {
			t.Fatalf("more than %d kinds of pages; the next are %q", mostPages, queue[:min(5, len(queue))])
		}
		if n%pagesOfTab == 0 {
			b = w.open(t).signInAsAdmin()
		}
		path := queue[0]
		queue = queue[1:]
		b.visit(path)
		if title := b.text("h1"); title == "" {
			t.Errorf("%s has no heading", path)
		}
		name := strings.Trim(strings.ReplaceAll(patternOf(strings.SplitN(path, "?", 2)[0]), "/", "-"), "-")
		b.look("page-" + name)
		b.fits()
		var links []string
		b.eval(`[...document.querySelectorAll("a[href]:not([download])")].map((a) => new URL(a.getAttribute("href"), location).href)`, &links)
		for _, link := range links {
			rest, ours := strings.CutPrefix(link, w.url)
			u, err := url.Parse(rest)
			if !ours || err != nil || notPages.MatchString(u.Path) {
				continue
			}
			if p := patternOf(u.Path); !seen[p] {
				seen[p] = true
				u.Fragment = ""
				queue = append(queue, u.String())
			}
		}
	}
	if len(seen) < 60 {
		t.Errorf("%d kinds of pages; want all that there are: %v", len(seen), seen)
	}
	t.Logf("%d kinds of pages", len(seen))
}

// oneOfEverything makes what quickstart has not made.
func (w *world) oneOfEverything(t *testing.T) {
	t.Helper()
	ctx := t.Context()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	w.user(t, "everybody", latchkey.EnvUser)
	_, err := w.client.CreateGroup(ctx, latchkey.GroupCreate{Name: "Every group"})
	must(err)
	_, err = w.client.CreateServicePrincipal(ctx, latchkey.ServicePrincipalCreate{DisplayName: "Every program"})
	must(err)
	_, err = w.client.CreateMachineGroup(ctx, env, latchkey.MachineGroupCreate{Name: "Every machine"})
	must(err)
	text := "gone"
	v, err := w.client.CreateVariable(ctx, env, latchkey.VariableCreate{DisplayName: "Deleted everywhere", Type: latchkey.TypeText, Value: &text})
	must(err)
	must(w.client.DeleteVariable(ctx, env, v.Name, latchkey.Force{}))
	_, err = w.client.CreateVariable(ctx, env, latchkey.VariableCreate{DisplayName: "Text of everybody", Type: latchkey.TypeText, Value: &text})
	must(err)
}

package web

import (
	"io/fs"
	"os"
	"regexp"
	"strings"
	"testing"
)

// Uses of the catalogue in templates and in Go: whole keys, and beginnings that
// the rest is put behind at run time.
var (
	useRE    = regexp.MustCompile("\\b(?:t|tc|text|redirect|deletedThing)[ (](?:[^\"()`]*, )?\"([a-z0-9-]+\\.[a-zA-Z0-9.-]*)\"")
	beginRE  = regexp.MustCompile(`print "([a-z0-9-]+\.[a-zA-Z0-9.-]*)"|"([a-z0-9-]+\.(?:[a-zA-Z0-9.-]*[.-])?)(?:" ?\+|%)`)
	anyKeyRE = regexp.MustCompile(`"([a-z0-9-]+\.[a-zA-Z0-9.-]+)"`)
	listRE   = regexp.MustCompile(`v\.list\("([a-z0-9-]+)"`)
	columnRE = regexp.MustCompile(`Key: "([a-zA-Z0-9-]+)"`)
)

// source returns every template and every Go file of the package.
func source(t *testing.T) string {
	t.Helper()
	var all strings.Builder
	for _, pattern := range []string{"templates/*.html", "*.go"} {
		names, err := fs.Glob(os.DirFS("."), pattern)
		if err != nil || len(names) == 0 {
			t.Fatalf("%s: %v, %v", pattern, names, err)
		}
		for _, name := range names {
			b, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.HasSuffix(name, "_test.go") {
				all.Write(b)
			}
		}
	}
	return all.String()
}

func english(t *testing.T) *locale {
	t.Helper()
	b, err := embedded.ReadFile("locales/en.toml")
	if err != nil {
		t.Fatal(err)
	}
	l, err := newLocale("en", b)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// TestCatalogue holds the catalogue against what uses it: every text that is asked
// for is there, and every text that is there can be asked for.
func TestCatalogue(t *testing.T) {
	l, text := english(t), source(t)
	for _, m := range useRE.FindAllStringSubmatch(text, -1) {
		if key := m[1]; !l.has(key) && !strings.HasSuffix(key, ".") && !strings.HasSuffix(key, "-") {
			t.Errorf("there is no text %q", key)
		}
	}
	used, beginnings := map[string]bool{}, []string{}
	for _, m := range anyKeyRE.FindAllStringSubmatch(text, -1) {
		used[m[1]] = true
	}
	for _, m := range beginRE.FindAllStringSubmatch(text, -1) {
		beginnings = append(beginnings, m[1]+m[2])
	}
	for _, m := range listRE.FindAllStringSubmatch(text, -1) {
		for _, c := range columnRE.FindAllStringSubmatch(text, -1) {
			used[m[1]+"."+c[1]] = true
		}
	}
	if len(used) < 100 || len(beginnings) < 10 {
		t.Fatalf("found %d keys and %d beginnings in the source; want all of them", len(used), len(beginnings))
	}
	for key := range l.texts {
		ok := used[key] || strings.HasPrefix(key, "time.")
		for _, b := range beginnings {
			ok = ok || strings.HasPrefix(key, b)
		}
		if !ok {
			t.Errorf("nothing says %q", key)
		}
	}
}

// Colours have their place.
func TestColoursAreTokens(t *testing.T) {
	b, err := embedded.ReadFile("static/app.css")
	if err != nil {
		t.Fatal(err)
	}
	css, _, _ := strings.Cut(string(b), "@media print")
	if m := regexp.MustCompile(`#[0-9a-fA-F]{3,8}\b[^{]*;|rgba?\(|hsl\(`).FindString(css); m != "" {
		t.Errorf("app.css has the colour %q; want it in tokens.css", m)
	}
}

// What the content security policy forbids, and what would come from elsewhere.
func TestTemplatesKeepThePolicy(t *testing.T) {
	names, err := fs.Glob(embedded, "templates/*.html")
	if err != nil {
		t.Fatal(err)
	}
	forbidden := regexp.MustCompile(`(?i)(src|href|action)="(https?:)?//|<script>|<style|\son[a-z]+="|\sstyle="|hx-on|hx-vals='js`)
	for _, name := range names {
		b, err := embedded.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if m := forbidden.Find(b); m != nil {
			t.Errorf("%s has %q, which the policy forbids", name, m)
		}
	}
}

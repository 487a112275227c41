package web

import (
	"io/fs"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"testing/fstest"
	"time"
)

// pagesIn returns pages with further languages, that can show what is for
// everybody.
func pagesIn(t *testing.T, files map[string]string) *Pages {
	t.Helper()
	all := fstest.MapFS{}
	for name, text := range files {
		all["locales/"+name] = &fstest.MapFile{Data: []byte(text)}
	}
	en, err := fs.ReadFile(embedded, "locales/en.toml")
	if err != nil {
		t.Fatal(err)
	}
	all["locales/en.toml"] = &fstest.MapFile{Data: en}
	p := &Pages{Config: Config{Now: time.Now, Version: "test", PublicURL: func() string { return "http://127.0.0.1" }}}
	if p.assets, err = loadAssets(); err != nil {
		t.Fatal(err)
	}
	if p.locales, err = p.loadLocales(all); err != nil {
		t.Fatal(err)
	}
	return p
}

// TestTranslation takes a file for a language: what it has is said, what it lacks
// is English, and pages of a language from right to left say so.
func TestTranslation(t *testing.T) {
	p := pagesIn(t, map[string]string{"he.toml": "[sign-in]\ntitle = \"כניסה\"\n"})
	for _, tt := range []struct{ accept, want, dir string }{
		{"", "Sign in", `lang="en" dir="ltr"`},
		{"he-IL,en;q=0.5", "כניסה", `lang="he" dir="rtl"`},
		{"tlh, *;q=0.1", "Sign in", `lang="en"`},
		{";;;", "Sign in", `lang="en"`},
		{strings.Repeat("he,", 1000), "Sign in", `lang="en"`},
	} {
		r := httptest.NewRequest("GET", "/sign-in", nil)
		r.Header.Set("Accept-Language", tt.accept)
		w := httptest.NewRecorder()
		p.signInPage(w, r)
		body := w.Body.String()
		if !strings.Contains(body, "<h1>"+tt.want) || !strings.Contains(body, tt.dir) || !strings.Contains(body, "One-time code") {
			t.Errorf("Accept-Language %.30q shows %.300s; want %s, %s and English for the rest", tt.accept, body, tt.want, tt.dir)
		}
	}
}

func TestLocaleFaults(t *testing.T) {
	for _, tt := range []struct{ tag, text string }{
		{"xx-invalid-tag-", ""}, {"de", "a = 1"}, {"de", "[a]\nb = { other = \"x\", sometimes = \"y\" }"}, {"de", "a ="}, {"de", "[a]\nb = { other = \"x\", one = 1 }"},
	} {
		if _, err := newLocale(tt.tag, []byte(tt.text)); err == nil {
			t.Errorf("%s: %q is taken; want a fault", tt.tag, tt.text)
		}
	}
}

func TestPlurals(t *testing.T) {
	l, err := newLocale("pl", []byte("[n]\nruns = { one = \"{0} raz\", few = \"{0} razy\", many = \"{0} razów\", other = \"{0} razu\" }"))
	if err != nil {
		t.Fatal(err)
	}
	for n, want := range map[int]string{1: "1 raz", 2: "2 razy", 5: "5 razów", 22: "22 razy"} {
		if got := l.text("n.runs", n); got != want {
			t.Errorf("%d: %q; want %q", n, got, want)
		}
	}
	if got := l.text("n.missing"); got != "n.missing" {
		t.Errorf("a key that there is none of is %q; want itself", got)
	}
}

func TestWhen(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	p := pagesIn(t, nil)
	p.Now = func() time.Time { return now }
	for off, want := range map[time.Duration]string{
		-5 * time.Second: "just now", -time.Minute: "1 minute ago", -3 * time.Hour: "3 hours ago", -72 * time.Hour: "3 days ago", 90 * time.Minute: "in 1 hour", -90 * 24 * time.Hour: "1 Dec 2025",
	} {
		at := now.Add(off)
		if got := string(p.when(p.locales[0], &at)); !strings.Contains(got, ">"+want+"<") || !strings.Contains(got, `datetime="`+at.Format(time.RFC3339)) {
			t.Errorf("%s is shown as %s; want %s", off, got, want)
		}
	}
	if got := string(p.when(p.locales[0], (*time.Time)(nil))); strings.Contains(got, "<time") {
		t.Errorf("no time is shown as %s", got)
	}
}

// TestTextsExist looks for every text that pages name by itself.
func TestTextsExist(t *testing.T) {
	p := pagesIn(t, nil)
	files, err := fs.Glob(embedded, "templates/*.html")
	if err != nil {
		t.Fatal(err)
	}
	calls := regexp.MustCompile(`\b(?:t|tc) "([^"]+)"`)
	for _, file := range files {
		b, err := fs.ReadFile(embedded, file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range calls.FindAllSubmatch(b, -1) {
			if !p.locales[0].has(string(m[1])) {
				t.Errorf("%s says %s, which en.toml lacks", file, m[1])
			}
		}
	}
}

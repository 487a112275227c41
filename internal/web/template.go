package web

import (
	"fmt"
	"html/template"
	"io/fs"
	"path"
	"regexp"
	"strings"
	"sync"
	"time"

	"latchkey.dev/latchkey"
)

// parsePages returns every page in one language, parsed when it is first shown: a
// server starts in a fraction of the time that all of them take. base.html and
// parts.html are in each; the others define what is shown in base, and may define
// parts that scripts ask for by the id of the element that they replace.
func (p *Pages) parsePages(l *locale) (map[string]func() (*template.Template, error), error) {
	shared := sync.OnceValues(func() (*template.Template, error) {
		return template.New("shared").Funcs(p.functions(l)).ParseFS(embedded, "templates/base.html", "templates/parts.html")
	})
	names, err := fs.Glob(embedded, "templates/*.html")
	if err != nil {
		return nil, err
	}
	pages := map[string]func() (*template.Template, error){}
	for _, file := range names {
		name := strings.TrimSuffix(path.Base(file), ".html")
		if name == "base" || name == "parts" {
			continue
		}
		pages[name] = sync.OnceValues(func() (*template.Template, error) {
			t, err := shared()
			if err != nil {
				return nil, err
			}
			if t, err = t.Clone(); err != nil {
				return nil, err
			}
			return t.ParseFS(embedded, file)
		})
	}
	return pages, nil
}

// functions are what templates can call.
func (p *Pages) functions(l *locale) template.FuncMap {
	return template.FuncMap{
		"asset": p.assets.address,
		"icon":  p.icon,
		"t":     l.text,
		"tc":    func(key string, args ...any) template.HTML { return code(l.text(key, args...)) }, // with `code` in it
		"code":  code,
		"num":   func(n any) string { return l.numbers.Sprint(n) },
		"when":  func(v any) template.HTML { return p.when(l, v) },
		"span":  l.span,
		"plain": plainText,

		"int":     func(n *int) int { return *n }, // that is not nil
		"limit":   limitText,
		"add":     func(a, b int) int { return a + b },
		"sub":     func(a, b int) int { return a - b },
		"command": commandText,
		"releaseKey": func(a latchkey.Action) string {
			switch a {
			case latchkey.ActReleaseGranted, latchkey.ActReleaseDelivered, latchkey.ActReleaseDenied, latchkey.ActReleaseFailed:
				return "runs.act-" + strings.ReplaceAll(string(a), ".", "-")
			}
			return "runs.act-other"
		},
		"singular": func(plural string) string { return strings.TrimSuffix(plural, "s") },
		"field":    newField,
		"join":     func(sep string, s []string) string { return strings.Join(s, sep) },
		"opts":     options,
		"with2":    func(a, b any) pair { return pair{a, b} },
	}
}

// A pair hands two things to a template that takes one.
type pair struct{ A, B any }

// icon returns a picture of icons.svg. It says nothing by itself: the text beside
// it does.
func (p *Pages) icon(name string) (template.HTML, error) {
	address, err := p.assets.address("icons.svg")
	if err != nil {
		return "", err
	}
	if !p.assets.icons[name] {
		return "", fmt.Errorf("there is no icon %s", name)
	}
	return template.HTML(`<svg class="icon" aria-hidden="true" focusable="false"><use href="` + address + "#" + template.HTMLEscapeString(name) + `"></use></svg>`), nil
}

// moment returns a time that a template shows: a time.Time, or a pointer to one.
func moment(v any) time.Time {
	switch t := v.(type) {
	case time.Time:
		return t
	case *time.Time:
		if t != nil {
			return *t
		}
	}
	return time.Time{}
}

func stamp(v any) string { return moment(v).UTC().Format(time.RFC3339) }

// when shows a time: how far it is, with the exact time when one points at it. A
// script says that in the zone and manner of who looks. No time is a dash.
func (p *Pages) when(l *locale, v any) template.HTML {
	t := moment(v)
	if t.IsZero() {
		return template.HTML(`<span class="none">–</span>`)
	}
	exact := t.UTC().Format("2 Jan 2006, 15:04:05 UTC")
	return template.HTML(fmt.Sprintf(`<time datetime="%s" title="%s">%s</time>`, stamp(t), exact, template.HTMLEscapeString(l.far(p.Now().Sub(t), t))))
}

// far says how far a time is from now, coarsely: d after it.
func (l *locale) far(d time.Duration, t time.Time) string {
	key := "time.ago"
	if d < 0 {
		key, d = "time.in", -d
	}
	switch {
	case d < time.Minute && key == "time.ago":
		return l.text("time.now")
	case d < time.Hour:
		return l.text(key+"-minutes", max(int(d.Minutes()), 1))
	case d < 48*time.Hour:
		return l.text(key+"-hours", int(d.Hours()))
	case d < 60*24*time.Hour:
		return l.text(key+"-days", int(d.Hours()/24))
	}
	return t.UTC().Format("2 Jan 2006")
}

// span says how long it is from one time to another; without both it is a dash.
func (l *locale) span(from, to any) string {
	a, b := moment(from), moment(to)
	if a.IsZero() || b.IsZero() {
		return "–"
	}
	d := max(0, b.Sub(a))
	switch {
	case d < 10*time.Second:
		return l.text("time.seconds", l.numbers.Sprintf("%.1f", d.Seconds()))
	case d < time.Minute:
		return l.text("time.seconds", l.numbers.Sprint(int(d.Seconds())))
	case d < time.Hour:
		return l.text("time.minutes", int(d.Minutes()), int(d.Seconds())%60)
	}
	return l.text("time.hours", int(d.Hours()), int(d.Minutes())%60)
}

// escapeRE finds what moves the cursor of a terminal, or colours it.
var escapeRE = regexp.MustCompile(`\x1b(\[[0-9;:?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)|[@-Z\\^_])`)

// plainText returns the output of a program without what is for a terminal.
func plainText(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' && r != '\n' && r != '\t' || r == 0x7f {
			return -1
		}
		return r
	}, escapeRE.ReplaceAllString(s, ""))
}

// code marks the parts of a text in backquotes as code.
func code(text string) template.HTML {
	var b strings.Builder
	for i, part := range strings.Split(text, "`") {
		part = template.HTMLEscapeString(part)
		if i%2 == 1 {
			part = "<code>" + part + "</code>"
		}
		b.WriteString(part)
	}
	return template.HTML(b.String()) // every part is escaped
}

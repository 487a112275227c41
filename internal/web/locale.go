package web

import (
	"fmt"
	"html/template"
	"io/fs"
	"net/http"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"golang.org/x/text/feature/plural"
	"golang.org/x/text/language"
	"golang.org/x/text/message"
)

// A locale is the pages in one language. A translation is a file in locales,
// named by its BCP 47 tag, with the keys of en.toml; what it lacks stays English.
type locale struct {
	tag     language.Tag
	dir     string // ltr or rtl
	texts   map[string]text
	numbers *message.Printer
	pages   map[string]func() (*template.Template, error)
}

// page returns a page's templates.
func (l *locale) page(name string) (*template.Template, error) {
	parse, ok := l.pages[name]
	if !ok {
		return nil, fmt.Errorf("there is no page %s", name)
	}
	t, err := parse()
	if err != nil {
		return nil, fmt.Errorf("page %s in %s: %w", name, l.tag, err)
	}
	return t, nil
}

// A text is what is said for a key. Most have the form other alone; those that
// count have what else the language tells apart (CLDR's plural rules).
type text map[plural.Form]string

var pluralForms = map[string]plural.Form{"zero": plural.Zero, "one": plural.One, "two": plural.Two, "few": plural.Few, "many": plural.Many, "other": plural.Other}

// rightToLeft are the languages that are, in the scripts they are written in by
// default.
var rightToLeft = []string{"ar", "fa", "he", "ur"}

// loadLocales reads every language of files, English first.
func (p *Pages) loadLocales(files fs.FS) ([]*locale, error) {
	names, err := fs.Glob(files, "locales/*.toml")
	if err != nil {
		return nil, err
	}
	slices.SortFunc(names, func(a, b string) int {
		if (a == "locales/en.toml") != (b == "locales/en.toml") {
			if a == "locales/en.toml" {
				return -1
			}
			return 1
		}
		return strings.Compare(a, b)
	})
	var all []*locale
	for _, name := range names {
		b, err := fs.ReadFile(files, name)
		if err != nil {
			return nil, err
		}
		l, err := newLocale(strings.TrimSuffix(path.Base(name), ".toml"), b)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if len(all) > 0 {
			for key, t := range all[0].texts {
				if _, ok := l.texts[key]; !ok {
					l.texts[key] = t
				}
			}
		}
		if l.pages, err = p.parsePages(l); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		all = append(all, l)
	}
	return all, nil
}

func newLocale(tag string, b []byte) (*locale, error) {
	l := &locale{dir: "ltr", texts: map[string]text{}}
	var err error
	if l.tag, err = language.Parse(tag); err != nil {
		return nil, err
	}
	if base, _ := l.tag.Base(); slices.Contains(rightToLeft, base.String()) {
		l.dir = "rtl"
	}
	l.numbers = message.NewPrinter(l.tag)
	var tree map[string]any
	if err := toml.Unmarshal(b, &tree); err != nil {
		return nil, err
	}
	return l, l.add("", tree)
}

// add takes the texts of a table: strings, tables of plural forms, and tables of
// texts.
func (l *locale) add(prefix string, tree map[string]any) error {
	for key, v := range tree {
		switch v := v.(type) {
		case string:
			l.texts[prefix+key] = text{plural.Other: v}
		case map[string]any:
			if _, counts := v["other"].(string); !counts {
				if err := l.add(prefix+key+".", v); err != nil {
					return err
				}
				continue
			}
			t := text{}
			for name, s := range v {
				form, ok := pluralForms[name]
				said, isString := s.(string)
				if !ok || !isString {
					return fmt.Errorf("%s%s: %s is no plural form", prefix, key, name)
				}
				t[form] = said
			}
			l.texts[prefix+key] = t
		default:
			return fmt.Errorf("%s%s: must be a text", prefix, key)
		}
	}
	return nil
}

func (l *locale) has(key string) bool { return l.texts[key] != nil }

// text returns what is said for a key, with {0}, {1}, … replaced by args. The
// first number among them chooses the plural form. A key that there is none of is
// said itself; the tests find those.
func (l *locale) text(key string, args ...any) string {
	t, ok := l.texts[key]
	if !ok {
		return key
	}
	s := t[plural.Other]
	for _, a := range args {
		if n, ok := a.(int); ok {
			if special, ok := t[plural.Cardinal.MatchPlural(l.tag, n, 0, 0, 0, 0)]; ok {
				s = special
			}
			break
		}
	}
	if len(args) == 0 {
		return s
	}
	pairs := make([]string, 0, 2*len(args))
	for i, a := range args {
		said := fmt.Sprint(a)
		if n, ok := a.(int); ok {
			said = l.numbers.Sprint(n)
		}
		pairs = append(pairs, "{"+strconv.Itoa(i)+"}", said)
	}
	return strings.NewReplacer(pairs...).Replace(s)
}

// localeOf returns the language that a browser asks for, of those there are.
func (p *Pages) localeOf(r *http.Request) *locale {
	header := r.Header.Get("Accept-Language")
	if len(p.locales) == 1 || len(header) > 500 {
		return p.locales[0]
	}
	tags := make([]language.Tag, len(p.locales))
	for i, l := range p.locales {
		tags[i] = l.tag
	}
	wanted, _, err := language.ParseAcceptLanguage(header)
	if err != nil {
		return p.locales[0]
	}
	_, i, _ := language.NewMatcher(tags).Match(wanted...)
	return p.locales[i]
}

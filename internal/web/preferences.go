package web

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"regexp"
	"slices"
)

// Preferences are how somebody likes the pages. They stay in the browser: they
// are nobody else's business.
type preferences struct {
	Environment string              `json:"e,omitempty"` // the name of the last one looked at
	Theme       string              `json:"t,omitempty"` // light or dark; else as the system
	Narrow      bool                `json:"n,omitempty"` // the navigation shows icons alone
	Pins        []string            `json:"p,omitempty"` // pages whose place in the navigation was changed
	Columns     map[string][]string `json:"c,omitempty"` // list to the columns that are shown
}

const (
	preferencesCookie = "latchkey_preferences"
	flashCookie       = "latchkey_said"
	maxPreferences    = 2 << 10 // bytes of the cookie
	maxPins           = 30
)

var wordRE = regexp.MustCompile(`^[a-zA-Z][a-zA-Z0-9-]{0,39}$`)

// readPreferences returns what the browser has kept. What is not ours counts
// for nothing.
func readPreferences(r *http.Request) (p preferences) {
	if !readCookie(r, preferencesCookie, &p) {
		return preferences{}
	}
	word := func(s string) bool { return !wordRE.MatchString(s) }
	p.Pins = slices.DeleteFunc(p.Pins, word)
	for list := range p.Columns {
		p.Columns[list] = slices.DeleteFunc(p.Columns[list], word)
	}
	if p.Theme != "light" && p.Theme != "dark" {
		p.Theme = ""
	}
	return p
}

func (p *Pages) writePreferences(w http.ResponseWriter, v preferences) {
	p.writeCookie(w, preferencesCookie, v, 366*24*3600)
}

func readCookie(r *http.Request, name string, into any) bool {
	c, err := r.Cookie(name)
	if err != nil || len(c.Value) > maxPreferences {
		return false
	}
	b, err := base64.RawURLEncoding.DecodeString(c.Value)
	return err == nil && json.Unmarshal(b, into) == nil
}

// writeCookie keeps something in the browser, if it is not too much.
func (p *Pages) writeCookie(w http.ResponseWriter, name string, value any, seconds int) {
	b, err := json.Marshal(value)
	text := base64.RawURLEncoding.EncodeToString(b)
	if err != nil || len(text) > maxPreferences {
		return
	}
	http.SetCookie(w, &http.Cookie{Name: name, Value: text, Path: "/", HttpOnly: true, Secure: p.Secure, SameSite: http.SameSiteLaxMode, MaxAge: seconds})
}

// setPreferences changes what a form names, and goes back to the page.
func (p *Pages) setPreferences(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	if err := r.ParseForm(); err != nil {
		http.Error(w, "the form cannot be read", http.StatusBadRequest)
		return
	}
	v := readPreferences(r)
	switch f := r.PostForm; {
	case f.Has("theme"):
		v.Theme = f.Get("theme")
	case f.Has("narrow"):
		v.Narrow = f.Get("narrow") == "true"
	case f.Has("pin"):
		if key := f.Get("pin"); slices.Contains(v.Pins, key) {
			v.Pins = slices.DeleteFunc(v.Pins, func(s string) bool { return s == key })
		} else if wordRE.MatchString(key) && len(v.Pins) < maxPins {
			v.Pins = append(v.Pins, key)
		}
	case wordRE.MatchString(f.Get("list")):
		if v.Columns == nil {
			v.Columns = map[string][]string{}
		}
		v.Columns[f.Get("list")] = f["column"]
	}
	p.writePreferences(w, v)
	if r.Header.Get("HX-Request") != "" {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	http.Redirect(w, r, ownPath(r.PostForm.Get("to"), "/"), http.StatusSeeOther)
}

// A flash is what the next page says that a form did.
type flash struct {
	Key  string   `json:"k"`
	Args []string `json:"a,omitempty"`
}

func (p *Pages) setFlash(w http.ResponseWriter, key string, args ...string) {
	p.writeCookie(w, flashCookie, flash{key, args}, 60)
}

// takeFlash returns what is to be said, once. Parts of pages leave it to the page.
func (v *view) takeFlash() string {
	var f flash
	if v.part() != "" || !readCookie(v.r, flashCookie, &f) || !v.locale.has(f.Key) {
		return ""
	}
	http.SetCookie(v.w, &http.Cookie{Name: flashCookie, Path: "/", MaxAge: -1, HttpOnly: true, Secure: v.p.Secure, SameSite: http.SameSiteLaxMode})
	args := make([]any, len(f.Args))
	for i, a := range f.Args {
		args[i] = a
	}
	return v.t(f.Key, args...)
}

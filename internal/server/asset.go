package server

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"html/template"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"strings"
	"time"
)

//go:embed static templates
var embedded embed.FS

// assets are what the pages are made of. The address of an asset changes with
// its content, so that browsers may keep it for good.
type assets struct {
	now   func() time.Time
	files map[string][]byte // by hashed name
	names map[string]string // file name → hashed name
	pages map[string]*template.Template
}

func loadAssets(now func() time.Time) (*assets, error) {
	a := &assets{now: now, files: map[string][]byte{}, names: map[string]string{}, pages: map[string]*template.Template{}}
	entries, err := fs.ReadDir(embedded, "static")
	if err != nil {
		return nil, fmt.Errorf("read assets: %w", err)
	}
	for _, e := range entries {
		b, err := embedded.ReadFile("static/" + e.Name())
		if err != nil {
			return nil, fmt.Errorf("read assets: %w", err)
		}
		sum, ext := sha256.Sum256(b), path.Ext(e.Name())
		name := strings.TrimSuffix(e.Name(), ext) + "-" + hex.EncodeToString(sum[:6]) + ext
		a.files[name], a.names[e.Name()] = b, name
	}
	return a, a.parsePages()
}

func (a *assets) parsePages() error {
	for _, name := range []string{"sign-in", "home", "docs", "error"} {
		t := template.New(name).Funcs(template.FuncMap{"asset": a.address, "stamp": stamp, "ago": a.ago, "code": code})
		t, err := t.ParseFS(embedded, "templates/base.html", "templates/"+name+".html")
		if err != nil {
			return fmt.Errorf("parse page: %w", err)
		}
		a.pages[name] = t
	}
	return nil
}

// address returns where an asset is. A name that there is none of is a fault
// of a template, which the tests find.
func (a *assets) address(file string) (string, error) {
	name, ok := a.names[file]
	if !ok {
		return "", fmt.Errorf("there is no asset %s", file)
	}
	return "/static/" + name, nil
}

func (a *assets) serve(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("name")
	b, ok := a.files[name]
	if !ok {
		writeJSONProblem(w, r, &problem{Status: http.StatusNotFound, Code: "no-such-address", Detail: "there is nothing at this address"})
		return
	}
	w.Header().Set("Content-Type", mime.TypeByExtension(path.Ext(name)))
	w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(b))
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

// ago says how long ago a time was, coarsely.
func (a *assets) ago(v any) string {
	switch d := a.now().Sub(moment(v)); {
	case d < time.Minute:
		return "just now"
	case d < time.Hour:
		return fmt.Sprintf("%d min ago", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h ago", int(d.Hours()))
	}
	return moment(v).UTC().Format("2 Jan 2006")
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

package web

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"regexp"
	"strings"
	"time"
)

//go:embed static templates locales
var embedded embed.FS

// assets are the files that pages name. The address of one changes with its
// content, so that browsers may keep it for good.
type assets struct {
	files map[string]asset  // by hashed name
	names map[string]string // file name → hashed name
	icons map[string]bool   // names of the pictures in icons.svg
}

var iconRE = regexp.MustCompile(`<symbol id="([a-z-]+)"`)

// An asset is a file as it is and as most browsers take it.
type asset struct{ plain, gzipped []byte }

func loadAssets() (*assets, error) {
	a := &assets{files: map[string]asset{}, names: map[string]string{}, icons: map[string]bool{}}
	entries, err := fs.ReadDir(embedded, "static")
	if err != nil {
		return nil, fmt.Errorf("read assets: %w", err)
	}
	for _, e := range entries {
		b, err := embedded.ReadFile("static/" + e.Name())
		if err != nil {
			return nil, fmt.Errorf("read assets: %w", err)
		}
		z, err := compress(b)
		if err != nil {
			return nil, fmt.Errorf("compress %s: %w", e.Name(), err)
		}
		if e.Name() == "icons.svg" {
			for _, m := range iconRE.FindAllSubmatch(b, -1) {
				a.icons[string(m[1])] = true
			}
		}
		sum, ext := sha256.Sum256(b), path.Ext(e.Name())
		name := strings.TrimSuffix(e.Name(), ext) + "-" + hex.EncodeToString(sum[:6]) + ext
		a.files[name], a.names[e.Name()] = asset{b, z}, name
	}
	return a, nil
}

func compress(b []byte) ([]byte, error) {
	var z bytes.Buffer
	w, err := gzip.NewWriterLevel(&z, gzip.BestCompression)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(b); err != nil {
		return nil, err
	}
	err = w.Close()
	return z.Bytes(), err
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
	f, ok := a.files[name]
	if !ok {
		http.NotFound(w, r)
		return
	}
	b, h := f.plain, w.Header()
	h.Set("Content-Type", mime.TypeByExtension(path.Ext(name)))
	h.Set("Cache-Control", "public, max-age=31536000, immutable")
	h.Set("Vary", "Accept-Encoding")
	if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") && len(f.gzipped) < len(f.plain) {
		b = f.gzipped
		h.Set("Content-Encoding", "gzip")
	}
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(b))
}

package main

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/validate"

	"latchkey.dev/tools/build"
)

func TestImage(t *testing.T) {
	source := build.Source{Version: "1.2.3~rc1", Time: time.Unix(1_700_000_000, 0).UTC()}
	var digests []v1.Hash
	for range 2 {
		image, err := newImage(contents{program: []byte("program"), authorities: []byte("authorities"), licence: []byte("licence")}, source, "arm64")
		if err != nil {
			t.Fatal(err)
		}
		d, err := image.Digest()
		if err != nil {
			t.Fatal(err)
		}
		digests = append(digests, d)
		config, err := image.ConfigFile()
		if err != nil {
			t.Fatal(err)
		}
		if config.Architecture != "arm64" || config.Config.User != "65532:65532" {
			t.Errorf("config = %+v; want arm64 and user 65532", config)
		}
		names := map[string]*tar.Header{}
		r := mutate.Extract(image)
		for files := tar.NewReader(r); ; {
			h, err := files.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			names[h.Name] = h
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		for name, mode := range map[string]int64{"usr/bin/latchkey": 0o755, "etc/ssl/certs/ca-certificates.crt": 0o644, "data": 0o700, "etc/passwd": 0o644} {
			if h := names[name]; h == nil || h.Mode != mode {
				t.Errorf("%s = %+v; want mode %o", name, h, mode)
			}
		}
		if names["data"].Uid != user {
			t.Errorf("data belongs to %d; want %d", names["data"].Uid, user)
		}
	}
	if digests[0] != digests[1] {
		t.Errorf("the same contents made %s and %s", digests[0], digests[1])
	}
}

// TestWrite reads back what is written, and checks every digest of it.
func TestWrite(t *testing.T) {
	source := build.Source{Version: "1.2.3+5.gabc", Time: time.Unix(1_700_000_000, 0).UTC()}
	image, err := newImage(contents{program: []byte("program")}, source, "amd64")
	if err != nil {
		t.Fatal(err)
	}
	index := mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: image})
	var files [][]byte
	for range 2 {
		dir := t.TempDir()
		path, blobs := filepath.Join(dir, "image.tar"), filepath.Join(dir, "layout")
		if err := write(path, blobs, index, source); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, b)
		written, err := layout.ImageIndexFromPath(blobs)
		if err != nil {
			t.Fatal(err)
		}
		if err := validate.Index(written); err != nil {
			t.Error(err)
		}
	}
	if !bytes.Equal(files[0], files[1]) {
		t.Error("the same index made two different files")
	}
}

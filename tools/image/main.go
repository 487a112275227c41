// Command image makes the server's container image for every architecture, as
// an OCI image layout in a tar file (https://specs.opencontainers.org/image-spec/).
// It needs no network, no daemon and no other tool.
//
//	image ROOT DIST
package main

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"latchkey.dev/tools/build"
)

// user is the id of the image's user and group: no user of the host's.
const user = 65532

// authorities is where Debian and most others keep the certificate authorities
// that a machine trusts, and where Go looks for them in the image.
const authorities = "/etc/ssl/certs/ca-certificates.crt"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintf(os.Stderr, "image: %v\n", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) != 2 {
		return errors.New("usage: image ROOT DIST")
	}
	source, err := build.Open(ctx, args[0])
	if err != nil {
		return err
	}
	stage, err := os.MkdirTemp("", "latchkey-image-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(stage)
	index, err := newIndex(ctx, source, stage, build.Architectures())
	if err != nil {
		return err
	}
	dist, err := filepath.Abs(args[1])
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dist, 0o755); err != nil {
		return err
	}
	file := filepath.Join(dist, "latchkey.oci.tar")
	if err := write(file, filepath.Join(stage, "layout"), index, source); err != nil {
		return err
	}
	fmt.Println(file)
	return nil
}

// newIndex builds the program for some architectures, in the folder stage, and
// returns the index of their images.
func newIndex(ctx context.Context, source build.Source, stage string, architectures []string) (v1.ImageIndex, error) {
	licence, err := os.ReadFile(filepath.Join(source.Root, "LICENSE"))
	if err != nil {
		return nil, err
	}
	trusted, err := os.ReadFile(authorities)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		fmt.Fprintf(os.Stderr, "image: warning: there is no %s here, so the image trusts nobody: mount that file to reach Azure\n", authorities)
	case err != nil:
		return nil, err
	default:
		fmt.Fprintf(os.Stderr, "image: the authorities that the image trusts are this machine's, %s\n", authorities)
	}
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, arch := range architectures {
		path := filepath.Join(stage, "latchkey-"+arch)
		if err := source.Program(ctx, "latchkey", arch, path); err != nil {
			return nil, err
		}
		program, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		image, err := newImage(contents{program, trusted, licence}, source, arch)
		if err != nil {
			return nil, err
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{
			Add: image, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: arch}},
		})
	}
	return index, nil
}

// The contents of an image are what its files hold.
type contents struct{ program, authorities, licence []byte }

// newImage returns the image for one architecture.
func newImage(c contents, source build.Source, arch string) (v1.Image, error) {
	root, err := layer(source.Time, []file{
		{name: "etc/", mode: 0o755},
		{name: "etc/passwd", mode: 0o644, content: fmt.Appendf(nil, "root:x:0:0:root:/:/sbin/nologin\nlatchkey:x:%d:%[1]d:Latchkey:/data:/sbin/nologin\n", user)},
		{name: "etc/group", mode: 0o644, content: fmt.Appendf(nil, "root:x:0:\nlatchkey:x:%d:\n", user)},
		{name: strings.TrimPrefix(authorities, "/"), mode: 0o644, content: c.authorities},
		{name: "usr/share/doc/latchkey/LICENSE", mode: 0o644, content: c.licence},
		{name: "tmp/", mode: 0o1777},
		{name: "data/", mode: 0o700, owner: user},
	})
	if err != nil {
		return nil, err
	}
	program, err := layer(source.Time, []file{{name: "usr/bin/latchkey", mode: 0o755, content: c.program}})
	if err != nil {
		return nil, err
	}
	image := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	image, err = mutate.Append(image,
		mutate.Addendum{Layer: root, History: v1.History{CreatedBy: "users, authorities and folders", Created: v1.Time{Time: source.Time}}},
		mutate.Addendum{Layer: program, History: v1.History{CreatedBy: "the program", Created: v1.Time{Time: source.Time}}})
	if err != nil {
		return nil, err
	}
	config, err := image.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.OS, config.Architecture, config.Created = "linux", arch, v1.Time{Time: source.Time}
	config.Config = v1.Config{
		User:       strconv.Itoa(user) + ":" + strconv.Itoa(user),
		Entrypoint: []string{"/usr/bin/latchkey"},
		Cmd:        []string{"serve"},
		// Without TLS the server refuses to listen for others, until it is told to.
		Env:          []string{"PATH=/usr/bin", "LATCHKEY_DATA=/data", "LATCHKEY_LISTEN=0.0.0.0:8080", "LATCHKEY_VAULT_LISTEN=0.0.0.0:8443"},
		ExposedPorts: map[string]struct{}{"8080/tcp": {}, "8443/tcp": {}},
		Volumes:      map[string]struct{}{"/data": {}},
		WorkingDir:   "/data",
		StopSignal:   "SIGTERM",
		Labels: map[string]string{
			"org.opencontainers.image.title":    "Latchkey",
			"org.opencontainers.image.version":  source.Version,
			"org.opencontainers.image.licenses": "Apache-2.0",
			"org.opencontainers.image.url":      "https://latchkey.dev",
		},
	}
	return mutate.ConfigFile(image, config)
}

// A file is one of an image; a name that ends with a slash is a folder's.
type file struct {
	name    string
	mode    int64
	owner   int
	content []byte
}

// layer returns a layer with files, and the folders that they are in.
func layer(at time.Time, list []file) (v1.Layer, error) {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	made := map[string]bool{}
	add := func(f file) error {
		h := &tar.Header{Name: f.name, Mode: f.mode, Uid: f.owner, Gid: f.owner, ModTime: at, Typeflag: tar.TypeReg, Size: int64(len(f.content)), Format: tar.FormatUSTAR}
		if strings.HasSuffix(f.name, "/") {
			h.Typeflag, made[f.name] = tar.TypeDir, true
		}
		if err := w.WriteHeader(h); err != nil {
			return err
		}
		_, err := w.Write(f.content)
		return err
	}
	for _, f := range list {
		if f.content == nil && !strings.HasSuffix(f.name, "/") {
			continue
		}
		for i, r := range strings.TrimSuffix(f.name, "/") {
			if dir := f.name[:i] + "/"; r == '/' && !made[dir] {
				if err := add(file{name: dir, mode: 0o755}); err != nil {
					return nil, err
				}
			}
		}
		if err := add(f); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(buf.Bytes())), nil },
		tarball.WithMediaType(types.OCILayer))
}

// write writes an index as an OCI layout in a tar file, by way of a folder.
func write(path, dir string, index v1.ImageIndex, source build.Source) (err error) {
	l, err := layout.Write(dir, empty.Index)
	if err != nil {
		return err
	}
	// By this name Podman and others know the image once they have loaded it.
	tag := layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": "latchkey:" + strings.NewReplacer("~", "-", "+", "-").Replace(source.Version)})
	if err := l.AppendIndex(index, tag); err != nil {
		return err
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	w := tar.NewWriter(f)
	// In lexical order, so always the same.
	err = filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || name == dir {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, name)
		if err != nil {
			return err
		}
		h := &tar.Header{Name: filepath.ToSlash(rel), Mode: 0o644, ModTime: source.Time, Typeflag: tar.TypeReg, Size: info.Size(), Format: tar.FormatUSTAR}
		if d.IsDir() {
			h.Name, h.Mode, h.Typeflag, h.Size = h.Name+"/", 0o755, tar.TypeDir, 0
		}
		if err := w.WriteHeader(h); err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		_, err = w.Write(b)
		return err
	})
	return errors.Join(err, w.Close())
}

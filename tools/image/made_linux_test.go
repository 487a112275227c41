package main

import (
	"archive/tar"
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/validate"

	"latchkey.dev/tools/build"
)

// TestMade makes the image of this machine's architecture, without a network,
// takes its file apart as others do, and starts what it says.
func TestMade(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the program")
	}
	t.Setenv("GOPROXY", "off")
	t.Setenv("VERSION", "1.2.3~rc1")
	t.Setenv("SOURCE_DATE_EPOCH", "1700000000")
	source, err := build.Open(t.Context(), "../..")
	if err != nil {
		t.Fatal(err)
	}
	index, err := newIndex(t.Context(), source, t.TempDir(), []string{runtime.GOARCH})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "latchkey.oci.tar")
	if err := write(file, filepath.Join(t.TempDir(), "layout"), index, source); err != nil {
		t.Fatal(err)
	}
	image := open(t, file)
	config, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if config.OS != "linux" || config.Architecture != runtime.GOARCH || !config.Created.Equal(source.Time) || len(config.History) != 2 {
		t.Errorf("config = %+v; want one for linux and %s, made at %s in two steps", config, runtime.GOARCH, source.Time)
	}
	c := config.Config
	want := v1.Config{
		User: "65532:65532", Entrypoint: []string{"/usr/bin/latchkey"}, Cmd: []string{"serve"}, WorkingDir: "/data", StopSignal: "SIGTERM",
		Env:          []string{"PATH=/usr/bin", "LATCHKEY_DATA=/data", "LATCHKEY_LISTEN=0.0.0.0:8080", "LATCHKEY_VAULT_LISTEN=0.0.0.0:8443"},
		ExposedPorts: map[string]struct{}{"8080/tcp": {}, "8443/tcp": {}}, Volumes: map[string]struct{}{"/data": {}}, Labels: c.Labels,
	}
	if diff := cmp.Diff(want, c); diff != "" {
		t.Errorf("config (-want +got):\n%s", diff)
	}
	if got := c.Labels["org.opencontainers.image.version"]; got != source.Version {
		t.Errorf("the label of the version is %q; want %s", got, source.Version)
	}

	root := t.TempDir()
	list := unpack(t, mutate.Extract(image), root)
	files := `drwxr-xr-x 0:0 usr
drwxr-xr-x 0:0 usr/bin
-rwxr-xr-x 0:0 usr/bin/latchkey
drwxr-xr-x 0:0 etc
-rw-r--r-- 0:0 etc/passwd
-rw-r--r-- 0:0 etc/group
drwxr-xr-x 0:0 etc/ssl
drwxr-xr-x 0:0 etc/ssl/certs
-rw-r--r-- 0:0 etc/ssl/certs/ca-certificates.crt
drwxr-xr-x 0:0 usr/share
drwxr-xr-x 0:0 usr/share/doc
drwxr-xr-x 0:0 usr/share/doc/latchkey
-rw-r--r-- 0:0 usr/share/doc/latchkey/LICENSE
dtrwxrwxrwx 0:0 tmp
drwx------ 65532:65532 data
`
	if _, err := os.Stat(authorities); err != nil {
		files = strings.Replace(files, "drwxr-xr-x 0:0 etc/ssl\ndrwxr-xr-x 0:0 etc/ssl/certs\n-rw-r--r-- 0:0 etc/ssl/certs/ca-certificates.crt\n", "", 1)
	}
	if diff := cmp.Diff(files, list); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	out, err := exec.CommandContext(t.Context(), filepath.Join(root, c.Entrypoint[0]), "version").CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte(source.Version)) {
		t.Errorf("latchkey version: %v; want %s:\n%s", err, source.Version, out)
	}
	t.Run("serve", func(t *testing.T) { serve(t, root, c) })
}

// open reads the one image of a file that write wrote.
func open(t *testing.T, file string) v1.Image {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	unpack(t, f, dir)
	index, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Index(index); err != nil {
		t.Error(err)
	}
	named, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	if len(named.Manifests) != 1 || named.Manifests[0].Annotations["org.opencontainers.image.ref.name"] != "latchkey:1.2.3-rc1" {
		t.Fatalf("%s has %+v; want latchkey:1.2.3-rc1", file, named.Manifests)
	}
	inner, err := index.ImageIndex(named.Manifests[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	images, err := inner.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	if len(images.Manifests) != 1 || images.Manifests[0].Platform.String() != "linux/"+runtime.GOARCH {
		t.Fatalf("%s has the images %+v; want one for this machine", file, images.Manifests)
	}
	image, err := inner.Image(images.Manifests[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	return image
}

// unpack unpacks a tar file into a folder, with owners when it may, and returns
// what is in it, in its order.
func unpack(t *testing.T, from io.ReadCloser, dir string) string {
	t.Helper()
	var list strings.Builder
	for r := tar.NewReader(from); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		path, mode := filepath.Join(dir, h.Name), h.FileInfo().Mode()
		fmt.Fprintf(&list, "%s %d:%d %s\n", mode, h.Uid, h.Gid, strings.TrimSuffix(h.Name, "/"))
		if mode.IsDir() {
			err = os.MkdirAll(path, 0o755)
		} else {
			var b []byte
			if b, err = io.ReadAll(r); err == nil {
				err = os.WriteFile(path, b, 0o600)
			}
		}
		if os.Geteuid() == 0 {
			err = errors.Join(err, os.Chown(path, h.Uid, h.Gid))
		}
		if err := errors.Join(err, os.Chmod(path, mode)); err != nil {
			t.Fatal(err)
		}
	}
	if err := from.Close(); err != nil {
		t.Fatal(err)
	}
	return list.String()
}

// serve starts the server with nothing but what is in the image, as a container
// does: with its root, its user and its environment.
func serve(t *testing.T, root string, c v1.Config) {
	if os.Geteuid() != 0 {
		t.Skip("it takes root to change the root")
	}
	// t.TempDir's are not for others.
	for dir := root; dir != filepath.Clean(os.TempDir()) && dir != "/"; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	command := func(env ...string) *exec.Cmd {
		cmd := exec.CommandContext(t.Context(), c.Entrypoint[0], c.Cmd...)
		cmd.Dir, cmd.Env = c.WorkingDir, append(c.Env, env...)
		cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: root, Credential: &syscall.Credential{Uid: user, Gid: user}, Pdeathsig: syscall.SIGKILL}
		return cmd
	}
	// It says itself what it lacks.
	if out, err := command().CombinedOutput(); err == nil || !bytes.Contains(out, []byte("would be without TLS")) {
		t.Errorf("without TLS: %v; want a refusal:\n%s", err, out)
	}
	cmd := command("LATCHKEY_LISTEN=127.0.0.1:0", "LATCHKEY_VAULT_LISTEN=127.0.0.1:0")
	said, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	listening := false
	for lines := bufio.NewScanner(said); lines.Scan(); {
		log.WriteString(lines.Text() + "\n")
		if strings.HasPrefix(lines.Text(), "latchkey: listening on ") {
			listening = true
			if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
				t.Error(err)
			}
		}
	}
	if err := cmd.Wait(); err != nil || !listening {
		t.Errorf("latchkey serve: %v:\n%s", err, &log)
	}
}

// Package build makes what is packed: the programs and what they generate, with
// the same bytes whenever and wherever it is done.
package build

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// DevelopmentVersion is the version of a tree without a tag. It sorts before
// every other.
const DevelopmentVersion = "0.0.0~dev"

// Architectures are those that packages and images are made for, in Go's names.
func Architectures() []string { return []string{"amd64", "arm64"} }

// A Source is the tree that is packed.
type Source struct {
	Root    string    // the repository's folder
	Version string    // in the form that both deb and rpm sort rightly, such as 1.2.0~rc1
	Time    time.Time // of every file that is packed
}

// Open returns the tree at root. Its version is that of the environment's VERSION,
// else of the newest tag vX.Y.Z, else [DevelopmentVersion]; its time is that of
// SOURCE_DATE_EPOCH (https://reproducible-builds.org/specs/source-date-epoch/),
// else of the commit.
func Open(ctx context.Context, root string) (Source, error) {
	root, err := filepath.Abs(root)
	if err != nil {
		return Source{}, err
	}
	s := Source{Root: root, Version: os.Getenv("VERSION")}
	if s.Version == "" {
		// Without a tag, git fails.
		tag, _ := s.run(ctx, "git", "describe", "--tags", "--match", "v[0-9]*")
		s.Version = version(tag)
	}
	if !regexp.MustCompile(`^[0-9][0-9A-Za-z.+~]*$`).MatchString(s.Version) {
		return s, fmt.Errorf("VERSION %q must begin with a digit and have letters, digits and . + ~ only", s.Version)
	}
	epoch := os.Getenv("SOURCE_DATE_EPOCH")
	if epoch == "" {
		if epoch, err = s.run(ctx, "git", "log", "-1", "--format=%ct"); err != nil {
			return s, fmt.Errorf("%w; without git, set SOURCE_DATE_EPOCH", err)
		}
	}
	seconds, err := strconv.ParseInt(epoch, 10, 64)
	if err != nil {
		return s, fmt.Errorf("SOURCE_DATE_EPOCH: %w", err)
	}
	s.Time = time.Unix(seconds, 0).UTC()
	return s, nil
}

var described = regexp.MustCompile(`^v([0-9.]+)(?:-([0-9A-Za-z.]+?))?(?:-([0-9]+)-(g[0-9a-f]+))?$`)

// version returns what git describe says in the form of a Source's version.
func version(describe string) string {
	m := described.FindStringSubmatch(describe)
	if m == nil {
		return DevelopmentVersion
	}
	v := m[1]
	if m[2] != "" {
		v += "~" + m[2]
	}
	if m[3] != "" {
		v += "+" + m[3] + "." + m[4]
	}
	return v
}

// Program builds a program for Linux on an architecture, and writes it to the
// file at path. An empty architecture is the one of this machine.
func (s Source) Program(ctx context.Context, name, arch, path string) error {
	linked := fmt.Sprintf("-ldflags=-s -w -X latchkey.dev/internal/agent.built=%s", s.Version)
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", linked, "-o", path, "./cmd/"+name)
	cmd.Dir, cmd.Stderr = s.Root, os.Stderr
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOFLAGS=")
	if arch != "" {
		// The oldest machines that Go supports.
		cmd.Env = append(cmd.Env, "GOARCH="+arch, "GOAMD64=v1", "GOARM64=v8.0")
	}
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("build %s for %s: %w", name, arch, err)
	}
	return nil
}

// Completions has a program write its shell completions to NAME.bash, NAME.zsh
// and NAME.fish in a folder.
func (s Source) Completions(ctx context.Context, program, dir string) error {
	for _, shell := range []string{"bash", "zsh", "fish"} {
		out, err := s.run(ctx, program, "completion", shell)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(program)+"."+shell), []byte(out+"\n"), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// ManPages has a program write its man pages to a folder, compresses them, and
// returns their names, such as latchkey-serve.1.gz. A program that writes none is
// an error.
func (s Source) ManPages(ctx context.Context, program, dir string) ([]string, error) {
	if _, err := s.run(ctx, program, "man", dir); err != nil {
		return nil, err
	}
	pages, err := filepath.Glob(filepath.Join(dir, "*.[1-8]"))
	if err != nil {
		return nil, err
	}
	if len(pages) == 0 {
		return nil, fmt.Errorf("%s man: no page was written", program)
	}
	var names []string
	for _, page := range pages {
		b, err := os.ReadFile(page)
		if err != nil {
			return nil, err
		}
		if err := Compress(page+".gz", b); err != nil {
			return nil, err
		}
		names = append(names, filepath.Base(page)+".gz")
	}
	return names, nil
}

// Compress writes a file with gzip, without a time or a name in it.
func Compress(path string, b []byte) error {
	var buf bytes.Buffer
	w, err := gzip.NewWriterLevel(&buf, gzip.BestCompression)
	if err != nil {
		return err
	}
	if _, err := w.Write(b); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	return os.WriteFile(path, buf.Bytes(), 0o644)
}

// run returns what a command prints, without white space around it.
func (s Source) run(ctx context.Context, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = s.Root
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s: %w: %s", cmd, err, bytes.TrimSpace(stderr.Bytes()))
	}
	return strings.TrimSpace(string(out)), nil
}

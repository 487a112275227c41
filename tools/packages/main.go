// Command packages makes the deb and rpm packages of both programs, for every
// architecture, from packaging/nfpm. It needs no network and no other tool.
//
//	packages ROOT DIST
package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"time"

	"github.com/goreleaser/nfpm/v2"
	_ "github.com/goreleaser/nfpm/v2/deb"
	"github.com/goreleaser/nfpm/v2/files"
	_ "github.com/goreleaser/nfpm/v2/rpm"

	"latchkey.dev/tools/build"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintf(os.Stderr, "packages: %v\n", err)
		os.Exit(1)
	}
}

const maintainer = "The Latchkey developers <latchkey@latchkey.dev>"

// programs are those that have packages, each with a configuration NAME.yaml.
func programs() []string { return []string{"latchkey", "latchkey-agent"} }

func run(ctx context.Context, args []string) error {
	if len(args) != 2 {
		return fmt.Errorf("usage: packages ROOT DIST")
	}
	source, err := build.Open(ctx, args[0])
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
	stage, err := os.MkdirTemp("", "latchkey-packages-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(stage)
	// The configurations name files below the root.
	if err := os.Chdir(source.Root); err != nil {
		return err
	}
	p := packer{source: source, stage: stage, dist: dist}
	if err := p.generate(ctx); err != nil {
		return err
	}
	for _, arch := range build.Architectures() {
		files, err := p.packAll(ctx, arch)
		if err != nil {
			return err
		}
		for _, file := range files {
			fmt.Println(file)
		}
	}
	for _, program := range programs() {
		said, err := exposure(ctx, filepath.Join("packaging", "systemd", program+".service"))
		if err != nil {
			said = err.Error()
		}
		fmt.Fprintf(os.Stderr, "packages: systemd-analyze security %s.service: %s\n", program, said)
	}
	return nil
}

var overall = regexp.MustCompile(`Overall exposure level for .*: ([0-9.]+ [A-Z]+)`)

// exposure returns how exposed systemd finds a unit, such as "1.2 OK": from 0,
// which is least, to 10.
func exposure(ctx context.Context, unit string) (string, error) {
	out, err := exec.CommandContext(ctx, "systemd-analyze", "security", "--offline=true", "--no-pager", unit).Output()
	if err != nil {
		return "", err
	}
	m := overall.FindSubmatch(out)
	if m == nil {
		return "", fmt.Errorf("systemd-analyze said nothing of %s", unit)
	}
	return string(m[1]), nil
}

// formats are those of packages.
func formats() []string { return []string{"deb", "rpm"} }

// A packer makes packages of what is in its stage.
type packer struct {
	source      build.Source
	stage, dist string
	pages       map[string][]string // man pages of each program
}

// generate makes what does not depend on the architecture.
func (p *packer) generate(ctx context.Context) (err error) {
	p.pages = map[string][]string{}
	for _, dir := range []string{"native", "completion"} {
		if err := os.Mkdir(filepath.Join(p.stage, dir), 0o755); err != nil {
			return err
		}
	}
	for _, program := range programs() {
		if err := p.changelog(program); err != nil {
			return err
		}
		native := filepath.Join(p.stage, "native", program)
		if err := p.source.Program(ctx, program, "", native); err != nil {
			return err
		}
		if err := p.source.Completions(ctx, native, filepath.Join(p.stage, "completion")); err != nil {
			return err
		}
		dir := filepath.Join(p.stage, "man-"+program)
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
		if p.pages[program], err = p.source.ManPages(ctx, native, dir); err != nil {
			return err
		}
	}
	return nil
}

// packAll builds the programs for one architecture, and makes every package of
// them. It returns their files.
func (p *packer) packAll(ctx context.Context, arch string) ([]string, error) {
	var made []string
	for _, program := range programs() {
		if err := p.source.Program(ctx, program, arch, filepath.Join(p.stage, program)); err != nil {
			return nil, err
		}
		for _, format := range formats() {
			file, err := p.pack(program, arch, format)
			if err != nil {
				return nil, fmt.Errorf("%s of %s for %s: %w", format, program, arch, err)
			}
			made = append(made, file)
		}
	}
	return made, nil
}

// changelog makes the one that Debian's policy wants (12.7), which says where the
// real one is.
func (p *packer) changelog(program string) error {
	text := fmt.Sprintf("%s (%s) unstable; urgency=medium\n\n  * See CHANGELOG.md for what changed.\n\n -- %s  %s\n",
		program, p.source.Version, maintainer, p.source.Time.Format(time.RFC1123Z))
	return build.Compress(filepath.Join(p.stage, program+".changelog.gz"), []byte(text))
}

// load reads the configuration of a program's packages.
func (p *packer) load(program, arch string) (nfpm.Config, error) {
	values := map[string]string{"STAGE": p.stage, "ARCH": arch, "VERSION": p.source.Version, "MAINTAINER": maintainer}
	f, err := os.Open(filepath.Join("packaging", "nfpm", program+".yaml"))
	if err != nil {
		return nfpm.Config{}, err
	}
	defer f.Close()
	return nfpm.ParseWithEnvMapping(f, func(name string) string { return values[name] })
}

// pack makes one package and returns its file.
func (p *packer) pack(program, arch, format string) (file string, err error) {
	config, err := p.load(program, arch)
	if err != nil {
		return "", err
	}
	info, err := config.Get(format)
	if err != nil {
		return "", err
	}
	info.MTime = p.source.Time
	info.RPM.BuildHost = "localhost"
	for _, page := range p.pages[program] {
		info.Contents = append(info.Contents, &files.Content{
			Source:      filepath.Join(p.stage, "man-"+program, page),
			Destination: "/usr/share/man/man1/" + page,
			FileInfo:    &files.ContentFileInfo{Mode: 0o644},
		})
	}
	info = nfpm.WithDefaults(info)
	packager, err := nfpm.Get(format)
	if err != nil {
		return "", err
	}
	info.Target = filepath.Join(p.dist, packager.ConventionalFileName(info))
	if err := nfpm.PrepareForPackager(info, format); err != nil {
		return "", err
	}
	f, err := os.Create(info.Target)
	if err != nil {
		return "", err
	}
	defer func() {
		if closeErr := f.Close(); err == nil {
			err = closeErr
		}
	}()
	return info.Target, packager.Package(info, f)
}

package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"debug/elf"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/blakesmith/ar"
	"github.com/google/go-cmp/cmp"

	"latchkey.dev/tools/build"
)

var update = flag.Bool("update", false, "write testdata anew")

// TestPackages makes the packages of this machine's architecture, without a
// network, and looks at what came out.
func TestPackages(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the programs")
	}
	t.Chdir("../..")
	t.Setenv("GOPROXY", "off")
	t.Setenv("VERSION", "1.2.3~rc1")
	t.Setenv("SOURCE_DATE_EPOCH", "1700000000")
	source, err := build.Open(t.Context(), ".")
	if err != nil {
		t.Fatal(err)
	}
	p := packer{source: source, stage: t.TempDir(), dist: t.TempDir()}
	if err := p.generate(t.Context()); err != nil {
		t.Fatal(err)
	}
	files, err := p.packAll(t.Context(), runtime.GOARCH)
	if err != nil {
		t.Fatal(err)
	}
	if len(p.pages["latchkey"]) == 0 {
		t.Error("the package latchkey has no man pages")
	}
	// From what is in the stage they are made again: as they were, and as the
	// version to upgrade to.
	again, newer := p, p
	again.dist, newer.dist, newer.source.Version = t.TempDir(), t.TempDir(), "1.2.3"
	for _, program := range programs() {
		for _, format := range formats() {
			file := files[0]
			files = files[1:]
			t.Run(program+"."+format, func(t *testing.T) {
				if format == "deb" {
					p.checkDeb(t, program, file)
				} else {
					p.checkRPM(t, program, file)
				}
				second, err := again.pack(program, runtime.GOARCH, format)
				if err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(read(t, file), read(t, second)) {
					t.Error("the same contents made two different packages")
				}
				next, err := newer.pack(program, runtime.GOARCH, format)
				if err != nil {
					t.Fatal(err)
				}
				t.Run("install", func(t *testing.T) { install(t, program, format, file, next) })
			})
		}
	}
}

func read(t *testing.T, file string) []byte {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// A member is a file in a package.
type member struct {
	*tar.Header
	content []byte
}

// readDeb returns what is in a package's two archives, by their names.
func readDeb(t *testing.T, file string) map[string][]member {
	t.Helper()
	archives := map[string][]member{}
	for r := ar.NewReader(bytes.NewReader(read(t, file))); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return archives
		}
		if err != nil {
			t.Fatal(err)
		}
		name, ok := strings.CutSuffix(strings.TrimSuffix(h.Name, "/"), ".tar.gz")
		if !ok {
			continue
		}
		unzipped, err := gzip.NewReader(r)
		if err != nil {
			t.Fatal(err)
		}
		for files := tar.NewReader(unzipped); ; {
			h, err := files.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			b, err := io.ReadAll(files)
			if err != nil {
				t.Fatal(err)
			}
			h.Name = path.Clean("/" + h.Name)
			archives[name] = append(archives[name], member{h, b})
		}
	}
}

// checkDeb reads a package without Debian's tools.
func (p *packer) checkDeb(t *testing.T, program, file string) {
	archives := readDeb(t, file)
	scripts := map[string]string{"/postinst": "postinstall", "/prerm": "preremove", "/postrm": "postremove"}
	var list strings.Builder
	var config string
	for _, m := range archives["control"] {
		switch script := scripts[m.Name]; {
		case m.Name == "/control":
			for line := range strings.Lines(string(m.content)) {
				if !strings.HasPrefix(line, "Installed-Size:") && !strings.HasPrefix(line, "Architecture:") {
					list.WriteString(line)
				}
			}
		case m.Name == "/conffiles":
			config = string(m.content)
		case script != "":
			if !bytes.Equal(m.content, read(t, filepath.Join("packaging", "nfpm", program+"-"+script+".sh"))) || m.Mode != 0o755 {
				t.Errorf("%s with mode %o is:\n%s", m.Name, m.Mode, m.content)
			}
			delete(scripts, m.Name)
		}
	}
	if len(scripts) > 0 {
		t.Errorf("there is no %v", scripts)
	}
	data := archives["data"]
	slices.SortFunc(data, func(a, b member) int { return strings.Compare(a.Name, b.Name) })
	found := map[string][]byte{}
	var names []string
	for _, m := range data {
		names = append(names, m.Name)
		found[m.Name] = m.content
		if !listed(m.Name) {
			continue
		}
		flags := ""
		if strings.Contains(config, m.Name+"\n") {
			flags = " config"
		}
		fmt.Fprintf(&list, "%s %s:%s%s %s\n", m.FileInfo().Mode(), m.Uname, m.Gname, flags, m.Name)
		if m.Uid != 0 || m.Gid != 0 || !m.ModTime.Equal(p.source.Time) {
			t.Errorf("%s belongs to %d:%d and is of %s", m.Name, m.Uid, m.Gid, m.ModTime)
		}
		if m.Typeflag == tar.TypeReg && len(m.content) == 0 {
			t.Errorf("%s is empty", m.Name)
		}
	}
	golden(t, program+".deb", list.String())
	p.checkFolders(t, program, names)
	p.checkContents(t, program, found)
}

// listed is whether a file is in the lists of testdata. Man pages and
// documentation come and go.
func listed(name string) bool {
	dir, base := path.Split(name)
	return !strings.HasPrefix(name, "/usr/share/man") && (!strings.HasPrefix(dir, "/usr/share/doc/") || path.Ext(base) != ".md")
}

// checkFolders compares what is not listed with what there is.
func (p *packer) checkFolders(t *testing.T, program string, names []string) {
	t.Helper()
	var pages, got []string
	for _, name := range names {
		if dir, base := path.Split(name); dir == "/usr/share/man/man1/" {
			pages = append(pages, base)
		} else if path.Ext(base) == ".md" {
			got = append(got, base)
		}
	}
	if d := cmp.Diff(p.pages[program], pages); d != "" {
		t.Errorf("man pages (-want +got):\n%s", d)
	}
	want := []string{"CHANGELOG.md", "operations.md", "security.md"}
	if program == "latchkey" {
		docs, err := filepath.Glob("docs/*.md")
		if err != nil {
			t.Fatal(err)
		}
		want = want[:1]
		for _, d := range docs {
			want = append(want, filepath.Base(d))
		}
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("documentation (-want +got):\n%s", d)
	}
}

// checkContents compares files with what they were made from, and runs the
// program.
func (p *packer) checkContents(t *testing.T, program string, found map[string][]byte) {
	t.Helper()
	config, err := p.load(program, runtime.GOARCH)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range config.Contents {
		if c.Source == "" || strings.HasPrefix(c.Source, p.stage) || strings.HasSuffix(c.Destination, "/") || (c.Packager != "" && c.Packager != "deb") {
			continue
		}
		if !bytes.Equal(found[c.Destination], read(t, c.Source)) {
			t.Errorf("%s is not %s", c.Destination, c.Source)
		}
	}
	for _, page := range p.pages[program] {
		r, err := gzip.NewReader(bytes.NewReader(found["/usr/share/man/man1/"+page]))
		if err != nil {
			t.Errorf("%s: %v", page, err)
			continue
		}
		if b, err := io.ReadAll(r); err != nil || !bytes.Contains(b, []byte(".TH ")) {
			t.Errorf("%s is no man page: %v\n%s", page, err, b)
		}
	}
	file := filepath.Join(t.TempDir(), program)
	if err := os.WriteFile(file, found["/usr/bin/"+program], 0o755); err != nil {
		t.Fatal(err)
	}
	e, err := elf.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	if slices.ContainsFunc(e.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP }) {
		t.Errorf("%s needs libraries", program)
	}
	out, err := exec.CommandContext(t.Context(), file, "version").CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte(p.source.Version)) {
		t.Errorf("%s version: %v; want %s:\n%s", program, err, p.source.Version, out)
	}
}

// checkRPM reads a package with rpm.
func (p *packer) checkRPM(t *testing.T, program, file string) {
	rpm, err := exec.LookPath("rpm")
	if err != nil {
		t.Log(err) // install needs it
		return
	}
	query := func(args ...string) string {
		t.Helper()
		out, err := exec.CommandContext(t.Context(), rpm, append(args, file)...).CombinedOutput()
		if err != nil {
			t.Fatalf("rpm %s: %v\n%s", args, err, out)
		}
		return string(out)
	}
	if out := query("--checksig", "--nosignature"); !strings.HasSuffix(out, ": digests OK\n") {
		t.Error(out)
	}
	for script, tag := range map[string]string{"postinstall": "POSTIN", "preremove": "PREUN", "postremove": "POSTUN"} {
		want := string(read(t, filepath.Join("packaging", "nfpm", program+"-"+script+".sh")))
		if got := query("--query", "--queryformat", "%{"+tag+"}", "--package"); got != want {
			t.Errorf("%s (-want +got):\n%s", tag, cmp.Diff(want, got))
		}
	}
	var list strings.Builder
	list.WriteString(query("--query", "--queryformat", "Name: %{NAME}\nVersion: %{VERSION}-%{RELEASE}\nLicense: %{LICENSE}\nURL: %{URL}\nVendor: %{VENDOR}\nPackager: %{PACKAGER}\nRecommends:[ %{RECOMMENDS}]\nDescription: %{DESCRIPTION}\n", "--package"))
	var names []string
	for line := range strings.Lines(query("--query", "--queryformat", "[%{FILEMODES:perms} %{FILEUSERNAME}:%{FILEGROUPNAME} %{FILEFLAGS:fflags} %{FILENAMES}\n]", "--package")) {
		words := strings.Fields(line)
		name := words[len(words)-1]
		names = append(names, name)
		if listed(name) {
			list.WriteString(strings.Join(words, " ") + "\n")
		}
	}
	golden(t, program+".rpm", list.String())
	p.checkFolders(t, program, names)
}

// golden compares a list with that of testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("tools", "packages", "testdata", name+".txt")
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if d := cmp.Diff(string(read(t, file)), got); d != "" {
		t.Errorf("%s; if it shall be so, run this test with -update (-want +got):\n%s", file, d)
	}
}

// machine runs a script on a machine like this one whose changes go to memory
// and vanish with it. In /mnt it has the folder dir.
func machine(t *testing.T, dir, script string, args ...string) (string, error) {
	t.Helper()
	const world = `set -e
mount -t tmpfs -o mode=0755 tmpfs "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" overlay "$1/root"
mount --bind "$2" "$1/root/mnt"
root=$1/root script=$3
shift 3
exec chroot "$root" /bin/sh -euc "$script" sh "$@"
`
	cmd := exec.CommandContext(t.Context(), "/bin/sh", append([]string{"-c", world, "sh", t.TempDir(), dir, script}, args...)...)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND=noninteractive"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.String(), fmt.Errorf("%w\n%s", err, stderr.Bytes())
	}
	return stdout.String(), nil
}

// lifetime installs the package of $1, made as $2, from the file $3, upgrades it to
// that of $4, and removes it, with a service manager that only says what it is told.
const lifetime = `
exec 3>&1 4>&2 >/log 2>&1
trap 'cat /log >&4' EXIT
program=$1 format=$2
say() { echo "$@" >>/said; }
list() {
	for name in "/usr/bin/$program" /etc/latchkey/*.env* "/var/lib/$program/key"; do
		if [ -e "$name" ]; then say "$(stat -c '%A %U:%G' "$name") $name"; fi
	done
}
case $format in
deb)
	upgrade='dpkg --install --force-unsafe-io --no-triggers' verify='dpkg --verify' remove='dpkg --remove' purge='dpkg --purge'
	;;
rpm)
	upgrade='rpm --upgrade --nodeps' verify='rpm --verify --nodeps' remove='rpm --erase' purge=
	# Debian's rpm wants to be told that it is meant.
	if rpm --force-debian --version; then upgrade="$upgrade --force-debian" remove="$remove --force-debian"; fi
	;;
esac

# Nothing is left of packages that the real machine may have.
dpkg --purge latchkey latchkey-agent || :
userdel latchkey || :
rm -rf /etc/latchkey /var/lib/latchkey /var/lib/latchkey-agent
mkdir -p /run/systemd/system
rm -f /usr/bin/systemctl
printf '#!/bin/sh\necho systemctl "$@" >>/said\n' >/usr/bin/systemctl
chmod 755 /usr/bin/systemctl

say '# install'
$upgrade "$3"
say "verified:$($verify "$program")"
"$program" version
list
getent passwd latchkey | cut -d : -f 1,6,7 >>/said || :

mkdir -m 0700 "/var/lib/$program"
echo secret >"/var/lib/$program/key"
for f in /etc/latchkey/*.env; do echo '# changed' >>"$f"; done

say '# upgrade'
$upgrade "$4"
tail -qn 1 /etc/latchkey/*.env >>/said
list

say '# remove'
$remove "$program"
list
if [ "$purge" ]; then
	say '# purge'
	$purge "$program"
	list
fi
trap - EXIT
exec cat /said >&3
`

// install takes packages through their life on a machine.
func install(t *testing.T, program, format, file, next string) {
	tool := map[string]string{"deb": "dpkg", "rpm": "rpm"}[format]
	_, err := exec.LookPath(tool)
	need(t, "LATCHKEY_TEST_PACKAGERS", err)
	dir := t.TempDir()
	_, err = machine(t, dir, "true")
	need(t, "LATCHKEY_TEST_INSTALL", err)
	for name, file := range map[string]string{"old": file, "new": next} {
		if err := os.Link(file, filepath.Join(dir, name+"."+format)); err != nil {
			t.Fatal(err)
		}
	}
	got, err := machine(t, dir, lifetime, program, format, "/mnt/old."+format, "/mnt/new."+format)
	if err != nil {
		t.Fatal(err)
	}
	golden(t, program+"."+format+".life", got)
}

package main

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"latchkey.dev/tools/build"
)

// TestConfigurations reads the configurations and looks for every file that
// they name and that is not made while packing.
func TestConfigurations(t *testing.T) {
	t.Chdir("../..")
	p := packer{source: build.Source{Version: build.DevelopmentVersion}, stage: "STAGE"}
	for _, program := range programs() {
		config, err := p.load(program, "amd64")
		if err != nil {
			t.Fatalf("%s: %v", program, err)
		}
		for _, format := range formats() {
			info, err := config.Get(format)
			if err != nil {
				t.Fatalf("%s, %s: %v", program, format, err)
			}
			scripts := []string{info.Scripts.PostInstall, info.Scripts.PreRemove, info.Scripts.PostRemove}
			for _, c := range info.Contents {
				if c.Source != "" && !strings.Contains(c.Source, "STAGE/") {
					scripts = append(scripts, c.Source)
				}
			}
			for _, name := range scripts {
				if found, err := filepath.Glob(name); err != nil || len(found) == 0 {
					t.Errorf("%s, %s: there is no %s: %v", program, format, name, err)
				}
			}
		}
	}
}

// TestScripts has a shell read the packages' scripts.
func TestScripts(t *testing.T) {
	scripts, err := filepath.Glob("../../packaging/nfpm/*.sh")
	if err != nil || len(scripts) == 0 {
		t.Fatal(scripts, err)
	}
	for _, s := range scripts {
		if out, err := exec.CommandContext(t.Context(), "sh", "-n", s).CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", s, err, out)
		}
	}
}

// need skips a test for want of what it uses, which is a failure when the
// variable says that it is there.
func need(t *testing.T, variable string, err error) {
	t.Helper()
	if err == nil {
		return
	}
	if os.Getenv(variable) == "required" {
		t.Fatal(err)
	}
	t.Skip(err)
}

// TestUnits has systemd read the units, with programs in place of those that the
// packages install, and each with what the examples add to it.
func TestUnits(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	need(t, "LATCHKEY_TEST_SYSTEMD", err)
	dir := t.TempDir()
	for _, program := range programs() {
		b, err := os.ReadFile(filepath.Join("../../packaging/systemd", program+".service"))
		if err != nil {
			t.Fatal(err)
		}
		text := strings.ReplaceAll(string(b), "/usr/bin/"+program, "/bin/true")
		// Man pages are looked for on the machine.
		text = strings.ReplaceAll(text, "man:"+program+"(1) ", "")
		unit := filepath.Join(dir, program+".service")
		if err := os.WriteFile(unit, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	added, err := filepath.Glob("../../packaging/systemd/*.conf")
	if err != nil || len(added) == 0 {
		t.Fatal(added, err)
	}
	additions := filepath.Join(dir, "latchkey.service.d")
	if err := os.Mkdir(additions, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range added {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(additions, filepath.Base(name)), b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, program := range programs() {
		out, err := exec.CommandContext(t.Context(), analyze, "verify", "--recursive-errors=no", filepath.Join(dir, program+".service")).CombinedOutput()
		if err != nil || len(out) > 0 {
			t.Errorf("systemd-analyze verify %s: %v\n%s", program, err, out)
		}
	}
}

// TestExposure compares what docs/operations.md says of the units' hardening with
// what systemd finds.
func TestExposure(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	need(t, "LATCHKEY_TEST_SYSTEMD", err)
	out, err := exec.CommandContext(t.Context(), analyze, "--version").Output()
	if err != nil {
		t.Fatal(err)
	}
	docs, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	version := regexp.MustCompile(`systemd (\d+)`)
	here, there := version.FindSubmatch(out), version.FindSubmatch(docs)
	if here == nil || there == nil {
		t.Fatalf("no version in docs/operations.md or in %s", out)
	}
	for _, program := range programs() {
		m := regexp.MustCompile("`" + program + `\.service` + "` \\*\\*([0-9.]+)\\*\\*").FindSubmatch(docs)
		if m == nil {
			t.Errorf("docs/operations.md does not say how exposed %s is", program)
			continue
		}
		said, err := exposure(t.Context(), filepath.Join("../../packaging/systemd", program+".service"))
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("systemd %s: %s.service: %s", here[1], program, said)
		got, err1 := strconv.ParseFloat(strings.Fields(said)[0], 64)
		want, err2 := strconv.ParseFloat(string(m[1]), 64)
		if err := errors.Join(err1, err2); err != nil {
			t.Fatal(err)
		}
		// Other versions weigh otherwise, and know more settings.
		slack := 0.5
		if bytes.Equal(here[1], there[1]) {
			slack = 0
		}
		if got > want+slack || (slack == 0 && got != want) {
			t.Errorf("%s.service: exposure %s; docs/operations.md says %v with systemd %s", program, said, want, there[1])
		}
	}
}

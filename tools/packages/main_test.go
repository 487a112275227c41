package main

import (
	"os"
	"os/exec"
	"path/filepath"
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
		for _, format := range []string{"deb", "rpm"} {
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

// TestUnits has systemd read the units, with programs in place of those that the
// packages install.
func TestUnits(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("no systemd-analyze")
	}
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
		out, err := exec.CommandContext(t.Context(), analyze, "verify", "--recursive-errors=no", unit).CombinedOutput()
		if err != nil || len(out) > 0 {
			t.Errorf("systemd-analyze verify %s: %v\n%s", program, err, out)
		}
	}
}

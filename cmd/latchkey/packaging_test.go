package main

import (
	"bufio"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"latchkey.dev/internal/agent"
	"latchkey.dev/internal/cli"
)

const packaging = "../../packaging"

// TestEnvironmentFile compares the settings file of the packages with the
// settings: it has all of them, with their defaults.
func TestEnvironmentFile(t *testing.T) {
	f, err := os.Open(filepath.Join(packaging, "systemd", "latchkey.env"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	got := map[string]string{}
	for lines := bufio.NewScanner(f); lines.Scan(); {
		// What is not commented out differs from the default on purpose.
		if name, value, ok := strings.Cut(strings.TrimPrefix(lines.Text(), "#"), "="); ok && !strings.HasPrefix(name, " ") {
			got[name] = value
		}
	}
	want := map[string]string{}
	for _, s := range serveSettings {
		want[s.variable()] = s.standard
	}
	want["LATCHKEY_DATA"] = "/var/lib/latchkey"
	want["LATCHKEY_INSECURE_LISTEN"] = "false"
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("packaging/systemd/latchkey.env (-want +got):\n%s", diff)
	}
}

// TestPackagedVariables looks for variables in whatever is packaged or deployed
// that the server does not know: it would refuse to start.
func TestPackagedVariables(t *testing.T) {
	known := map[string]bool{}
	for _, s := range serveSettings {
		known[s.variable()] = true
	}
	files, err := filepath.Glob(filepath.Join(packaging, "*", "*"))
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range regexp.MustCompile(`\bLATCHKEY_[A-Z_]+\b`).FindAllString(string(b), -1) {
			if !known[v] {
				t.Errorf("%s names %s, which is not known", name, v)
			}
		}
	}
}

// TestUnitCommands parses the command lines of the units as the programs do.
func TestUnitCommands(t *testing.T) {
	start := regexp.MustCompile(`(?m)^ExecStart=/usr/bin/(.*)$`)
	for _, unit := range []string{"latchkey", "latchkey-agent"} {
		b, err := os.ReadFile(filepath.Join(packaging, "systemd", unit+".service"))
		if err != nil {
			t.Fatal(err)
		}
		m := start.FindSubmatch(b)
		if m == nil {
			t.Fatalf("%s.service starts nothing", unit)
		}
		words := strings.Fields(strings.ReplaceAll(string(m[1]), " $AGENT_OPTIONS", " --slots 4 --log-format json"))
		if words[0] != unit {
			t.Errorf("%s.service starts %s", unit, words[0])
		}
		root := agent.Program(&cli.Console{Program: "latchkey-agent"})
		if unit == "latchkey" {
			root = newApp(stdio{}, nil).rootCommand()
		}
		cmd, rest, err := root.Find(words[1:])
		if err != nil {
			t.Fatalf("%s.service: %v", unit, err)
		}
		if err := cmd.ParseFlags(rest); err != nil || cmd.Flags().NArg() > 0 {
			t.Errorf("%s.service: %s: %v", unit, words, err)
		}
	}
}

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"latchkey.dev/internal/agent"
)

// TestManPages writes the manuals of both programs. A package of each holds its
// own, so that no page is in both.
func TestManPages(t *testing.T) {
	programs := map[string]func(dir, home string) (int, string){
		"latchkey": func(dir, home string) (int, string) {
			// What the caller has set is not part of the manual.
			a, _, _ := testApp(t, "", "LATCHKEY_LISTEN=127.0.0.1:999", "HOME="+home)
			var stdout, stderr strings.Builder
			return run([]string{"man", dir}, stdio{strings.NewReader(""), &stdout, &stderr}, a.Environ), stderr.String()
		},
		"latchkey-agent": func(dir, home string) (int, string) {
			t.Setenv("HOME", home)
			t.Setenv("XDG_STATE_HOME", home)
			var stdout, stderr strings.Builder
			return agent.Main(t.Context(), []string{"man", dir}, strings.NewReader(""), &stdout, &stderr), stderr.String()
		},
	}
	pages := map[string]string{}
	for program, write := range programs {
		dirs := []string{t.TempDir(), t.TempDir()}
		for i, dir := range dirs {
			if code, stderr := write(dir, "/home/"+strings.Repeat("x", i+1)); code != 0 {
				t.Fatalf("%s man = %d, %s", program, code, stderr)
			}
		}
		files, err := os.ReadDir(dirs[0])
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			one, err := os.ReadFile(filepath.Join(dirs[0], f.Name()))
			if err != nil {
				t.Fatal(err)
			}
			two, err := os.ReadFile(filepath.Join(dirs[1], f.Name()))
			if err != nil || string(one) != string(two) {
				t.Errorf("%s differs from one time to the next: %v", f.Name(), err)
			}
			if pages[f.Name()] != "" || strings.HasPrefix(f.Name(), "latchkey-agent") != (program == "latchkey-agent") {
				t.Errorf("%s is a page of %s; want each in the manual of its own program only", f.Name(), program)
			}
			pages[f.Name()] = string(one)
			for line := range strings.Lines(string(one)) {
				for _, r := range line {
					if r > 126 || r < ' ' && r != '\n' {
						t.Errorf("%s: %q has the character %q", f.Name(), line, r)
					}
				}
			}
		}
	}
	for name, want := range map[string]string{
		"latchkey.1":              `\fBlatchkey\-agent\fR(1)`,
		"latchkey-run-list.1":     `\-\-watch`,
		"latchkey-agent.1":        `\fBlatchkey\-agent\-enrol\fR(1)`,
		"latchkey-agent-enrol.1":  `\-\-token`,
		"latchkey-agent-man.1":    `latchkey\-agent man /usr`,
		"latchkey-audit-export.1": `\-\-output`,
	} {
		if !strings.Contains(pages[name], want) {
			t.Errorf("%s = %q; want %q in it", name, pages[name], want)
		}
	}
}

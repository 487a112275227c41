package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestManPages(t *testing.T) {
	dirs := []string{t.TempDir(), t.TempDir()}
	for i, dir := range dirs {
		// What the caller has set is not part of the manual.
		a, _, _ := testApp(t, "", "LATCHKEY_LISTEN=127.0.0.1:999", "HOME=/home/"+strings.Repeat("x", i+1))
		var stdout, stderr strings.Builder
		if code := run([]string{"man", dir}, stdio{strings.NewReader(""), &stdout, &stderr}, a.Environ); code != 0 {
			t.Fatalf("man = %d, %s", code, stderr.String())
		}
	}
	files, err := os.ReadDir(dirs[0])
	if err != nil {
		t.Fatal(err)
	}
	pages := map[string]string{}
	for _, f := range files {
		one, err := os.ReadFile(filepath.Join(dirs[0], f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		two, err := os.ReadFile(filepath.Join(dirs[1], f.Name()))
		if err != nil || string(one) != string(two) {
			t.Errorf("%s differs from one time to the next: %v", f.Name(), err)
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
	for name, want := range map[string]string{
		"latchkey.1":              `.TH "LATCHKEY" 1`,
		"latchkey-run-list.1":     `\-\-watch`,
		"latchkey-agent.1":        `\fBlatchkey\-agent\-enrol\fR(1)`,
		"latchkey-agent-enrol.1":  `\-\-token`,
		"latchkey-audit-export.1": `\-\-output`,
	} {
		if !strings.Contains(pages[name], want) {
			t.Errorf("%s = %q; want %q in it", name, pages[name], want)
		}
	}
}

func TestRoff(t *testing.T) {
	if got, want := roff(".x\n'y' -a \\n …"), `\&.x`+"\n"+`\(aqy\(aq \-a \en \[u2026]`; got != want {
		t.Errorf("roff = %q; want %q", got, want)
	}
}

package build

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestVersion(t *testing.T) {
	tests := []struct{ describe, want string }{
		{"", DevelopmentVersion},
		{"nonsense", DevelopmentVersion},
		{"v1.2.3", "1.2.3"},
		{"v1.2.3-rc1", "1.2.3~rc1"},
		{"v1.2.3-5-g0a1b2c3", "1.2.3+5.g0a1b2c3"},
		{"v1.2.3-rc.1-5-g0a1b2c3", "1.2.3~rc.1+5.g0a1b2c3"},
	}
	for _, tt := range tests {
		if got := version(tt.describe); got != tt.want {
			t.Errorf("version(%q) = %q; want %q", tt.describe, got, tt.want)
		}
	}
}

func TestManPages(t *testing.T) {
	dir := t.TempDir()
	program := filepath.Join(dir, "program")
	for _, tt := range []struct{ script, want, fault string }{
		{`echo .TH X 1 >"$2/x.1"`, "x.1.gz", ""},
		{`exit 2`, "", "exit status 2"},
		{`echo it broke >&2; exit 1`, "", "it broke"},
		{``, "", "no page"},
	} {
		if err := os.WriteFile(program, []byte("#!/bin/sh\n"+tt.script+"\n"), 0o700); err != nil {
			t.Fatal(err)
		}
		pages, err := Source{Root: dir}.ManPages(t.Context(), program, t.TempDir())
		if strings.Join(pages, " ") != tt.want || (err == nil) != (tt.fault == "") || err != nil && !strings.Contains(err.Error(), tt.fault) {
			t.Errorf("%q: pages %q, %v; want %q, %q", tt.script, pages, err, tt.want, tt.fault)
		}
	}
}

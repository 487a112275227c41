package agent

import (
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"latchkey.dev/internal/seal"
)

func TestLoadKeys(t *testing.T) {
	keys, err := seal.NewMachineKeys()
	if err != nil {
		t.Fatal(err)
	}
	text, err := keys.MarshalText()
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name    string
		content []byte
		mode    fs.FileMode
		want    string // in the error
	}{
		{"private", text, 0o600, ""},
		{"read-only", text, 0o400, ""},
		{"group", text, 0o640, "chmod 600"},
		{"others", text, 0o604, "chmod 600"},
		{"damaged", text[:len(text)-9], 0o600, "damaged"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if runtime.GOOS == "windows" && tt.want == "chmod 600" {
				t.Skip("modes do not say who reads a file on Windows")
			}
			dir := t.TempDir()
			file := filepath.Join(dir, keyFile)
			if err := os.WriteFile(file, tt.content, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(file, tt.mode); err != nil {
				t.Fatal(err)
			}
			_, err := loadKeys(dir)
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("loadKeys: %v; want %q", err, tt.want)
			}
		})
	}
}

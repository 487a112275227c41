//go:build unix

package seal

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

// TestLoadKeyOfAnother reads keys as systemd and Kubernetes hand them over: in
// files of root, readable by the service's group.
func TestLoadKeyOfAnother(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to give a file away")
	}
	const somebody = 65534
	for _, tt := range []struct {
		owner int
		mode  fs.FileMode
		want  bool
	}{
		{somebody, 0o400, true}, {somebody, 0o440, true}, {somebody, 0o640, true},
		{somebody, 0o460, false}, {somebody, 0o444, false}, {somebody, 0o404, false},
		{os.Geteuid(), 0o440, false}, {os.Geteuid(), 0o400, true},
	} {
		path := filepath.Join(t.TempDir(), "master.key")
		if _, err := CreateKey(path); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(path, tt.owner, tt.owner); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, tt.mode); err != nil {
			t.Fatal(err)
		}
		if _, err := LoadKey(path); (err == nil) != tt.want {
			t.Errorf("LoadKey of a file of %d with mode %04o: %v; want it read: %v", tt.owner, tt.mode, err, tt.want)
		}
	}
}

package archtest

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// TestNoRegistryHosts keeps the addresses of package registries out of the
// repository: which mirror a build uses is its environment's business. The
// names are in pieces so that this file passes too.
func TestNoRegistryHosts(t *testing.T) {
	hosts := [][]byte{
		[]byte("proxy." + "golang.org"), []byte("sum." + "golang.org"),
		[]byte("deb." + "debian.org"), []byte("registry." + "npmjs.org"),
	}
	walk(t, func(name string) {
		b, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Error(err)
			return
		}
		for _, host := range hosts {
			if bytes.Contains(b, host) {
				t.Errorf("%s names %s", name, host)
			}
		}
	})
}

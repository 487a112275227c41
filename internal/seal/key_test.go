package seal

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

func TestKeySealOpen(t *testing.T) {
	k := NewKey()
	binding := []string{"secrets", "value", "sec_1", "3"}
	for _, plaintext := range []string{"", "x", strings.Repeat("long ", 10_000)} {
		box, err := k.SealWith(k.ID(), []byte(plaintext), binding...)
		if err != nil {
			t.Fatal(err)
		}
		got, err := k.Open(box, binding...)
		if err != nil || string(got) != plaintext {
			t.Fatalf("Open gave %d bytes, %v; want %d bytes", len(got), err, len(plaintext))
		}
		again, _ := k.SealWith(k.ID(), []byte(plaintext), binding...)
		if bytes.Equal(box, again) {
			t.Error("sealing twice gave the same box")
		}
	}
}

func TestKeyOpenRefuses(t *testing.T) {
	k := NewKey()
	box, err := k.SealWith(k.ID(), []byte("correct horse"), "t", "c", "r", "1")
	if err != nil {
		t.Fatal(err)
	}
	bindings := [][]string{
		nil, {}, {"t", "c", "r"}, {"t", "c", "r", "1", ""}, {"t", "c", "r", "2"}, {"c", "t", "r", "1"},
		{"tc", "", "r", "1"}, {"t", "c", "r1", ""}, {"t", "cr", "1"},
	}
	for _, b := range bindings {
		if got, err := k.Open(box, b...); err == nil {
			t.Errorf("Open with binding %q = %q; want an error", b, got)
		}
	}
	for i := range box {
		changed := bytes.Clone(box)
		changed[i] ^= 1
		if _, err := k.Open(changed, "t", "c", "r", "1"); err == nil {
			t.Errorf("Open with byte %d changed: no error", i)
		}
		if _, err := k.Open(box[:i], "t", "c", "r", "1"); err == nil {
			t.Errorf("Open of the first %d bytes: no error", i)
		}
	}
	if _, err := NewKey().Open(box, "t", "c", "r", "1"); err == nil || !strings.Contains(err.Error(), "sealed with another master key") {
		t.Errorf("Open with another key: %v; want that it says so", err)
	}
	if _, err := k.Open(box[:20], "t"); err == nil || !strings.HasPrefix(err.Error(), "does not open: ") {
		t.Errorf("Open of a short box: %v; want does not open: …", err)
	}
}

// The halves of two boxes of the same place must not fit together.
func TestKeyOpenRefusesMixedBoxes(t *testing.T) {
	k := NewKey()
	a, _ := k.SealWith(k.ID(), []byte("first"), "r")
	b, _ := k.SealWith(k.ID(), []byte("other"), "r")
	if _, err := k.Open(append(bytes.Clone(a[:boxHead]), b[boxHead:]...), "r"); err == nil {
		t.Error("a box with another's ciphertext opened")
	}
}

func TestKeyDerive(t *testing.T) {
	k := NewKey()
	a, b := k.Derive("a"), k.Derive("b")
	if len(a) != 32 || bytes.Equal(a, b) || !bytes.Equal(a, k.Derive("a")) || bytes.Equal(a, NewKey().Derive("a")) {
		t.Error("Derive is not a function of key and label")
	}
}

func TestKeyPrintsNothing(t *testing.T) {
	k := NewKey()
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x"} {
		if got := fmt.Sprintf(verb, k); got != "master key "+k.ID() {
			t.Errorf("%s prints %q", verb, got)
		}
	}
}

func TestKeyFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "master.key")
	if _, err := LoadKey(path); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("LoadKey without a file: %v; want fs.ErrNotExist", err)
	}
	made, err := CreateKey(path)
	if err != nil {
		t.Fatal(err)
	}
	if info, _ := os.Stat(path); runtime.GOOS != "windows" && info.Mode().Perm() != 0o600 {
		t.Errorf("mode of the key file = %v; want 0600", info.Mode())
	}
	loaded, err := LoadKey(path)
	if err != nil {
		t.Fatal(err)
	}
	box, _ := made.SealWith(made.ID(), []byte("x"), "r")
	if got, err := loaded.Open(box, "r"); err != nil || string(got) != "x" || loaded.ID() != made.ID() {
		t.Errorf("the loaded key opens %q, %v", got, err)
	}
	before, _ := os.ReadFile(path)
	if _, err := CreateKey(path); !errors.Is(err, fs.ErrExist) {
		t.Errorf("CreateKey over a file: %v; want fs.ErrExist", err)
	}
	if after, _ := os.ReadFile(path); !bytes.Equal(before, after) {
		t.Error("CreateKey changed a file that existed")
	}
	if left, _ := os.ReadDir(filepath.Dir(path)); len(left) != 1 {
		t.Errorf("CreateKey left %v behind", left)
	}
}

func TestLoadKeyRefuses(t *testing.T) {
	good := "latchkey-master-key-1 " + strings.Repeat("A", 43) + "="
	tests := []struct {
		name, content string
		mode          fs.FileMode
		want          string
	}{
		{"empty", "", 0o600, "must be one line"},
		{"other text", "hello\n", 0o600, "must be one line"},
		{"short", "latchkey-master-key-1 AAAA\n", 0o600, "32 bytes in base64"},
		{"not base64", "latchkey-master-key-1 " + strings.Repeat("!", 44), 0o600, "32 bytes in base64"},
		{"two lines", good[:40] + "\n" + good[40:], 0o600, "32 bytes in base64"},
		{"something after", good + " more", 0o600, "32 bytes in base64"},
		{"large", good + strings.Repeat("\n", 1000), 0o600, "too large"},
		{"group", good, 0o640, "chmod 600"},
		{"others", good, 0o604, "chmod 600"},
		{"good", good, 0o400, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "k")
			if err := os.WriteFile(path, []byte(tt.content), tt.mode); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(path, tt.mode); err != nil {
				t.Fatal(err)
			}
			_, err := LoadKey(path)
			switch {
			case tt.want == "" && err != nil:
				t.Errorf("LoadKey: %v", err)
			case tt.want != "" && runtime.GOOS == "windows" && tt.want == "chmod 600":
			case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
				t.Errorf("LoadKey: %v; want %q", err, tt.want)
			case err != nil && strings.Contains(err.Error(), "AAA"):
				t.Errorf("LoadKey repeats the key: %v", err)
			}
		})
	}
	if _, err := LoadKey(t.TempDir()); err == nil {
		t.Error("LoadKey of a directory: no error")
	}
}

func FuzzKeyOpen(f *testing.F) {
	k := newKey(make([]byte, keySize))
	box, _ := k.SealWith(k.ID(), []byte("value"), "r")
	f.Add(box, "r")
	f.Add(box[:boxHead], "r")
	f.Add([]byte{}, "")
	f.Fuzz(func(t *testing.T, b []byte, binding string) {
		got, err := k.Open(b, binding)
		if err == nil && (binding != "r" || string(got) != "value") {
			t.Fatalf("a made-up box opened as %q", got)
		}
	})
}

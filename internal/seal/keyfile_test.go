package seal

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// TestRotation takes a key file from one master key to the next, with a program
// that has loaded it before.
func TestRotation(t *testing.T) {
	path := filepath.Join(t.TempDir(), "master.key")
	running, err := CreateKey(path)
	if err != nil {
		t.Fatal(err)
	}
	first := running.ID()
	box, err := running.SealWith(running.ID(), []byte("value"), "r")
	if err != nil {
		t.Fatal(err)
	}
	second, err := AddKey(path)
	if err != nil {
		t.Fatal(err)
	}
	if info, _ := os.Stat(path); runtime.GOOS != "windows" && info.Mode().Perm() != 0o600 {
		t.Errorf("mode of the key file = %v; want 0600", info.Mode())
	}
	if running.ID() != first || len(running.IDs()) != 1 {
		t.Errorf("the running program has %q; want to know of the old key only", running.IDs())
	}

	// Another program changes the box over.
	other, err := LoadKey(path)
	if err != nil {
		t.Fatal(err)
	}
	if other.ID() != second || !slices.Equal(other.IDs(), []string{first, second}) {
		t.Fatalf("the file has %q and %s seals; want both, and the newest seals", other.IDs(), other.ID())
	}
	changed, err := other.Rewrap(box, "r")
	if err != nil {
		t.Fatal(err)
	}
	if id, err := BoxKey(changed); err != nil || id != second {
		t.Errorf("BoxKey after Rewrap = %s, %v; want %s", id, err, second)
	}
	if !bytes.Equal(changed[boxHead:], box[boxHead:]) {
		t.Error("Rewrap changed the sealed record itself")
	}
	if again, err := other.Rewrap(changed, "r"); err != nil || !bytes.Equal(again, changed) {
		t.Errorf("Rewrap of what is under the key already: %v, changed: %v", err, !bytes.Equal(again, changed))
	}
	if _, err := other.Rewrap(box, "elsewhere"); err == nil {
		t.Error("Rewrap for another place: no error")
	}

	// The running program finds the new key by itself.
	if got, err := running.Open(changed, "r"); err != nil || string(got) != "value" {
		t.Errorf("Open of a box under the new key = %q, %v", got, err)
	}
	if running.ID() != first {
		t.Errorf("%s seals; want %s until Use", running.ID(), first)
	}
	if err := running.Use(second); err != nil || running.ID() != second {
		t.Errorf("Use: %v, and %s seals", err, running.ID())
	}
	if sealed, err := running.SealWith(first, []byte("x"), "r"); err != nil {
		t.Error(err)
	} else if id, _ := BoxKey(sealed); id != first {
		t.Errorf("SealWith sealed with %s", id)
	}
	derived := running.DeriveAll("label")
	if len(derived) != 2 || !bytes.Equal(derived[0], running.Derive("label")) || bytes.Equal(derived[0], derived[1]) {
		t.Error("DeriveAll does not begin with what Derive gives")
	}

	removed, err := KeepKey(path, second)
	if err != nil || !slices.Equal(removed, []string{first}) {
		t.Errorf("KeepKey = %q, %v", removed, err)
	}
	if removed, err := KeepKey(path, second); err != nil || len(removed) != 0 {
		t.Errorf("KeepKey again = %q, %v", removed, err)
	}
	if _, err := KeepKey(path, first); err == nil {
		t.Error("KeepKey of a key that is not there: no error")
	}
	fresh, err := LoadKey(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fresh.Open(box, "r"); err == nil || !strings.Contains(err.Error(), "sealed with another master key: with "+first) {
		t.Errorf("Open under a retired key: %v", err)
	}
	if got, err := fresh.Open(changed, "r"); err != nil || string(got) != "value" {
		t.Errorf("Open = %q, %v", got, err)
	}
	if left, _ := os.ReadDir(filepath.Dir(path)); len(left) != 1 {
		t.Errorf("the changes left %v behind", left)
	}
}

// TestUseOfAMissingKey tests that nothing is sealed with a key that should not
// seal, and that the file may come later.
func TestUseOfAMissingKey(t *testing.T) {
	dir := t.TempDir()
	path, elsewhere := filepath.Join(dir, "master.key"), filepath.Join(dir, "other.key")
	k, err := CreateKey(path)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(elsewhere, text, 0o600); err != nil {
		t.Fatal(err)
	}
	second, err := AddKey(elsewhere)
	if err != nil {
		t.Fatal(err)
	}
	if err := k.Use(second); err == nil || !strings.Contains(err.Error(), second) {
		t.Errorf("Use of a key that the file lacks: %v; want its id", err)
	}
	if _, err := k.SealWith(k.ID(), []byte("x"), "r"); err == nil {
		t.Error("Seal with the wrong key: no error")
	}
	if _, err := k.SealWith(second, []byte("x"), "r"); err == nil {
		t.Error("SealWith the missing key: no error")
	}
	if k.ID() != second || !k.Holds(k.IDs()[0]) {
		t.Errorf("ID = %s; want %s", k.ID(), second)
	}
	if err := os.Rename(elsewhere, path); err != nil {
		t.Fatal(err)
	}
	if err := k.Use(second); err != nil {
		t.Errorf("Use with the file in place: %v", err)
	}
	if _, err := k.SealWith(k.ID(), []byte("x"), "r"); err != nil {
		t.Error(err)
	}
}

// TestUseSaysWhyTheFileIsNotRead tests that a new key that cannot be read is not
// taken for one that is missing from the file.
func TestUseSaysWhyTheFileIsNotRead(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("modes do not say who may read a file")
	}
	path := filepath.Join(t.TempDir(), "master.key")
	k, err := CreateKey(path)
	if err != nil {
		t.Fatal(err)
	}
	first := k.ID()
	second, err := AddKey(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	_, sealErr := k.SealWith(second, []byte("x"), "r")
	for what, err := range map[string]error{"SealWith": sealErr, "Use": k.Use(second)} {
		if err == nil || !strings.Contains(err.Error(), second) || !strings.Contains(err.Error(), "chmod 600") || strings.Contains(err.Error(), "lacks") {
			t.Errorf("%s with a file that others can read: %v; want the key and what to do about the file", what, err)
		}
	}
	if _, err := k.Rewrap(nil); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("Rewrap then: %v; want what to do about the file", err)
	}
	if box, err := k.SealWith(first, []byte("x"), "r"); err != nil {
		t.Errorf("SealWith the key that is known: %v", err)
	} else if _, err := k.Open(box, "r"); err != nil {
		t.Error(err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := k.Use(second); err != nil || k.ID() != second {
		t.Errorf("Use after chmod 600: %v, and %s seals; want %s", err, k.ID(), second)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := k.Use("0100000000000000"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Use without a file: %v; want that it is missing", err)
	}
}

func TestAddKeyIsBounded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "master.key")
	if _, err := AddKey(path); err == nil {
		t.Error("AddKey without a file: no error")
	}
	if _, err := CreateKey(path); err != nil {
		t.Fatal(err)
	}
	for range maxKeys - 1 {
		if _, err := AddKey(path); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := AddKey(path); err == nil || !strings.Contains(err.Error(), "retire") {
		t.Errorf("AddKey to a full file: %v; want what to do", err)
	}
	if k, err := LoadKey(path); err != nil || len(k.IDs()) != maxKeys {
		t.Errorf("LoadKey of a full file: %v", err)
	}
}

// TestAddKeyKeepsMode tests that a file which a service reads by its group stays
// so.
func TestAddKeyKeepsMode(t *testing.T) {
	if runtime.GOOS == "windows" || os.Geteuid() != 0 {
		t.Skip("needs root, to give a file away")
	}
	path := filepath.Join(t.TempDir(), "master.key")
	if _, err := CreateKey(path); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(path, 65534, 65534); err != nil {
		t.Fatal(err)
	}
	before, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := AddKey(path); err != nil {
		t.Fatal(err)
	}
	after, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if ours(after) != ours(before) || after.Mode() != before.Mode() {
		t.Errorf("AddKey changed owner or mode: %v", after.Mode())
	}
}

func TestParseKeysTwice(t *testing.T) {
	line := string(keyText([][]byte{make([]byte, keySize)}))
	if _, err := parseKeys([]byte(line + line)); err == nil {
		t.Error("the same key twice: no error")
	}
	if got, err := parseKeys([]byte(strings.ReplaceAll(line+string(keyText([][]byte{bytes.Repeat([]byte{1}, keySize)})), "\n", "\r\n"))); err != nil || len(got) != 2 {
		t.Errorf("two keys with CRLF: %d, %v", len(got), err)
	}
}

func FuzzParseKeys(f *testing.F) {
	f.Add(keyText([][]byte{make([]byte, keySize)}))
	f.Add(keyText([][]byte{make([]byte, keySize), bytes.Repeat([]byte{7}, keySize)}))
	f.Add([]byte(keyFileTag + " \n\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		secrets, err := parseKeys(b)
		if err != nil {
			return
		}
		again, err := parseKeys(keyText(secrets))
		if err != nil || len(again) != len(secrets) {
			t.Fatalf("the keys of a file do not survive being written: %v", err)
		}
	})
}

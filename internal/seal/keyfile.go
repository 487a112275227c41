package seal

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"latchkey.dev/internal/fsync"
)

const (
	keyFileTag = "latchkey-master-key-1"
	maxKeys    = 8
	maxKeyFile = maxKeys * (len(keyFileTag) + 1 + 44 + 2)
)

// LoadKey reads the keys in the file at path, as CreateKey and AddKey write it.
// A file that others than its owner can read is refused, except on Windows,
// whose modes do not say. One that belongs to somebody else may be readable by
// its group: so systemd and Kubernetes hand a file to a service without giving
// it away. The error is [fs.ErrNotExist] when there is no file.
func LoadKey(path string) (*Key, error) {
	secrets, info, err := readKeys(path)
	if err != nil {
		return nil, err
	}
	k := newKey(secrets...)
	k.path = path
	k.ring.Load().file = info // nobody else has k yet
	return k, nil
}

// reload adds the keys that have come to be in the file since it was read. Keys
// that are no longer in it stay until the program ends, also when the file cannot
// be read, which is the error.
func (k *Key) reload() error {
	k.loading.Lock()
	defer k.loading.Unlock()
	old := k.ring.Load()
	info, err := os.Stat(k.path)
	if err != nil {
		return fmt.Errorf("look at the key file: %w", err)
	}
	if old.file != nil && os.SameFile(info, old.file) && info.ModTime().Equal(old.file.ModTime()) && info.Size() == old.file.Size() && info.Mode() == old.file.Mode() {
		return nil
	}
	secrets, info, err := readKeys(k.path)
	if err != nil {
		return err
	}
	r := *old
	r.file, r.keys = info, slices.Clone(old.keys)
	for _, s := range secrets {
		if m := newMasterKey(s); r.find(m.name()) == nil {
			r.keys = append(r.keys, m)
		}
	}
	k.ring.Store(&r)
	return nil
}

// readKeys reads a key file.
func readKeys(path string) ([][]byte, fs.FileInfo, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, fmt.Errorf("open key file: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, nil, fmt.Errorf("open key file: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, nil, fmt.Errorf("key file %s is not a regular file", path)
	}
	private := fs.FileMode(0o077)
	if !ours(info) {
		private = 0o037
	}
	if mode := info.Mode().Perm(); mode&private != 0 && runtime.GOOS != "windows" {
		return nil, nil, fmt.Errorf("key file %s can be used by others than its owner (mode %04o): run chmod 600 on it", path, mode)
	}
	b, err := io.ReadAll(io.LimitReader(f, int64(maxKeyFile)+1))
	if err != nil {
		return nil, nil, fmt.Errorf("read key file %s: %w", path, err)
	}
	secrets, err := parseKeys(b)
	if err != nil {
		return nil, nil, fmt.Errorf("key file %s %w", path, err)
	}
	return secrets, info, nil
}

// parseKeys reads the content of a key file. Its errors do not repeat it.
func parseKeys(b []byte) ([][]byte, error) {
	if len(b) > maxKeyFile {
		return nil, errors.New("is too large to be a master key")
	}
	var secrets [][]byte
	for text := range strings.SplitSeq(strings.TrimRight(string(b), "\r\n"), "\n") {
		text, ok := strings.CutPrefix(strings.TrimSuffix(text, "\r"), keyFileTag+" ")
		if !ok {
			return nil, fmt.Errorf("is not a master key: it must be one line that begins with %s, or several during a rotation", keyFileTag)
		}
		secret, err := base64.StdEncoding.Strict().DecodeString(text)
		if err != nil || len(secret) != keySize || strings.ContainsAny(text, "\r\n") {
			return nil, fmt.Errorf("is not a master key: %s must be followed by %d bytes in base64", keyFileTag, keySize)
		}
		if slices.ContainsFunc(secrets, func(s []byte) bool { return string(s) == string(secret) }) {
			return nil, errors.New("holds the same master key twice")
		}
		secrets = append(secrets, secret)
	}
	if len(secrets) > maxKeys {
		return nil, fmt.Errorf("holds more than %d master keys", maxKeys)
	}
	return secrets, nil
}

func keyText(secrets [][]byte) []byte {
	var b strings.Builder
	for _, s := range secrets {
		b.WriteString(keyFileTag + " " + base64.StdEncoding.EncodeToString(s) + "\n")
	}
	return []byte(b.String())
}

// CreateKey makes a key and writes it to a new file at path, which only its
// owner can read. When it returns, the file is whole and on the disk; a crash
// leaves either no file or a whole one. The error is [fs.ErrExist] when there is
// a file already.
func CreateKey(path string) (*Key, error) {
	if _, err := os.Lstat(path); err == nil {
		return nil, &fs.PathError{Op: "create key file", Path: path, Err: fs.ErrExist}
	}
	if err := createDurably(path, keyText([][]byte{newSecret()})); err != nil {
		return nil, fmt.Errorf("create key file: %w", err)
	}
	return LoadKey(path)
}

// AddKey makes a key and adds it to the file at path as its newest. It returns
// the key's id. After a crash the file is the old or the new one.
func AddKey(path string) (id string, err error) {
	secrets, info, err := readKeys(path)
	if err != nil {
		return "", err
	}
	if len(secrets) == maxKeys {
		return "", fmt.Errorf("key file %s holds %d master keys, the most that one may have: retire the old ones", path, maxKeys)
	}
	secret := newSecret()
	if err := replaceKeys(path, info, append(secrets, secret)); err != nil {
		return "", err
	}
	return newMasterKey(secret).name(), nil
}

// KeepKey removes every key but the one with an id from the file at path, and
// returns the ids of the others. It fails when the key is not in the file.
func KeepKey(path, id string) (removed []string, err error) {
	secrets, info, err := readKeys(path)
	if err != nil {
		return nil, err
	}
	var keep [][]byte
	for _, s := range secrets {
		if name := newMasterKey(s).name(); name == id {
			keep = append(keep, s)
		} else {
			removed = append(removed, name)
		}
	}
	if len(keep) == 0 {
		return nil, fmt.Errorf("key file %s lacks the key %s, which is to stay", path, id)
	}
	if len(removed) == 0 {
		return nil, nil
	}
	return removed, replaceKeys(path, info, keep)
}

// replaceKeys writes a key file anew, for the same owner and with the same mode.
func replaceKeys(path string, old fs.FileInfo, secrets [][]byte) error {
	temp, err := writeTemp(path, keyText(secrets))
	if err != nil {
		return fmt.Errorf("write key file: %w", err)
	}
	defer os.Remove(temp)
	if err := errors.Join(keepOwner(temp, old), os.Chmod(temp, old.Mode().Perm())); err != nil {
		return fmt.Errorf("write key file: %w", err)
	}
	if err := os.Rename(temp, path); err != nil {
		return fmt.Errorf("write key file: %w", err)
	}
	return fsync.Dir(filepath.Dir(path))
}

// writeTemp writes a file of mode 0600 beside path and returns its name.
func writeTemp(path string, content []byte) (string, error) {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-key-*")
	if err != nil {
		return "", err
	}
	_, err = f.Write(content)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return "", errors.Join(err, os.Remove(f.Name()))
	}
	return f.Name(), nil
}

// createDurably writes a file of mode 0600 beside path and links it there, which
// fails when path exists.
func createDurably(path string, content []byte) error {
	temp, err := writeTemp(path, content)
	if err != nil {
		return err
	}
	defer os.Remove(temp)
	if err := os.Link(temp, path); err != nil {
		// A file system without links: the check and the rename leave a gap that
		// only two first starts at the same moment could fall into.
		if _, statErr := os.Lstat(path); !errors.Is(statErr, fs.ErrNotExist) {
			return err
		}
		if err := os.Rename(temp, path); err != nil {
			return err
		}
	}
	return fsync.Dir(filepath.Dir(path))
}

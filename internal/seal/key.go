package seal

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

const (
	keySize    = 32
	keyIDSize  = 8
	keyFileTag = "latchkey-master-key-1"
	maxKeyFile = 256

	boxFormat   = 1
	aeadCost    = 12 + 16 // nonce and tag of AES-GCM
	wrappedSize = keySize + aeadCost
	boxHead     = 1 + keyIDSize + wrappedSize
)

// A Key is the master key: it wraps the data key of every record that is sealed
// at rest, and other keys of the service are derived from it.
type Key struct {
	secret []byte // never used itself, only what is derived from it
	id     [keyIDSize]byte
	wrap   cipher.AEAD // of data keys
}

// NewKey returns a random key: for tests, and for the first start.
func NewKey() *Key {
	secret := make([]byte, keySize)
	rand.Read(secret)
	return newKey(secret)
}

func newKey(secret []byte) *Key {
	k := &Key{secret: secret}
	copy(k.id[:], k.Derive("latchkey master key id"))
	k.wrap = newGCM(k.Derive("latchkey data key wrapping"))
	return k
}

// newGCM returns AES-256-GCM with random nonces. The length of key is ours, so
// that it cannot fail.
func newGCM(key []byte) cipher.AEAD {
	block, err := aes.NewCipher(key)
	if err != nil {
		panic(err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic(err)
	}
	return aead
}

// LoadKey reads the key in the file at path, as CreateKey writes it. A file that
// others than its owner can read is refused, except on Windows, whose modes do
// not say. One that belongs to somebody else may be readable by its group: so
// systemd and Kubernetes hand a file to a service without giving it away. The
// error is [fs.ErrNotExist] when there is no file.
func LoadKey(path string) (*Key, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open key file: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("open key file: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("key file %s is not a regular file", path)
	}
	private := fs.FileMode(0o077)
	if !ours(info) {
		private = 0o037
	}
	if mode := info.Mode().Perm(); mode&private != 0 && runtime.GOOS != "windows" {
		return nil, fmt.Errorf("key file %s can be used by others than its owner (mode %04o): run chmod 600 on it", path, mode)
	}
	b, err := io.ReadAll(io.LimitReader(f, maxKeyFile+1))
	if err != nil {
		return nil, fmt.Errorf("read key file %s: %w", path, err)
	}
	key, err := parseKey(b)
	if err != nil {
		return nil, fmt.Errorf("key file %s %w", path, err)
	}
	return key, nil
}

func parseKey(b []byte) (*Key, error) {
	if len(b) > maxKeyFile {
		return nil, errors.New("is too large to be a master key")
	}
	text, ok := strings.CutPrefix(strings.TrimRight(string(b), "\r\n"), keyFileTag+" ")
	if !ok {
		return nil, fmt.Errorf("is not a master key: it must be one line that begins with %s", keyFileTag)
	}
	secret, err := base64.StdEncoding.Strict().DecodeString(text)
	if err != nil || len(secret) != keySize || strings.ContainsAny(text, "\r\n") {
		return nil, fmt.Errorf("is not a master key: %s must be followed by %d bytes in base64", keyFileTag, keySize)
	}
	return newKey(secret), nil
}

// CreateKey makes a key and writes it to a new file at path, which only its
// owner can read. When it returns, the file is whole and on the disk; a crash
// leaves either no file or a whole one. The error is [fs.ErrExist] when there is
// a file already.
func CreateKey(path string) (*Key, error) {
	if _, err := os.Lstat(path); err == nil {
		return nil, &fs.PathError{Op: "create key file", Path: path, Err: fs.ErrExist}
	}
	k := NewKey()
	text := keyFileTag + " " + base64.StdEncoding.EncodeToString(k.secret) + "\n"
	if err := createDurably(path, []byte(text)); err != nil {
		return nil, fmt.Errorf("create key file: %w", err)
	}
	return k, nil
}

// createDurably writes a file of mode 0600 beside path and links it there, which
// fails when path exists.
func createDurably(path string, content []byte) error {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, ".new-key-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(content)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Link(f.Name(), path); err != nil {
		// A file system without links: the check and the rename leave a gap that
		// only two first starts at the same moment could fall into.
		if _, statErr := os.Lstat(path); !errors.Is(statErr, fs.ErrNotExist) {
			return err
		}
		if err := os.Rename(f.Name(), path); err != nil {
			return err
		}
	}
	if runtime.GOOS == "windows" {
		return nil // directories cannot be synced there
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// ID returns a short fingerprint of the key, which does not reveal it.
func (k *Key) ID() string { return hex.EncodeToString(k.id[:]) }

// Format implements [fmt.Formatter] and never writes the key.
func (k *Key) Format(f fmt.State, verb rune) { fmt.Fprintf(f, "master key %s", k.ID()) }

// Derive returns 32 bytes that depend on the key and the label, for a use that
// the label names. They reveal nothing about the key or other labels' bytes.
func (k *Key) Derive(label string) []byte { return derive(k.secret, label) }

func derive(secret []byte, label string) []byte {
	b, err := hkdf.Key(sha256.New, secret, nil, label, keySize)
	if err != nil {
		panic(err) // only for lengths that HKDF cannot give
	}
	return b
}

// Seal encrypts plaintext for the place that the binding strings name: table,
// column, row and version. Open needs the same ones.
//
// The box is a format byte, the id of the key, the record's own data key sealed
// by the master key, and the ciphertext.
func (k *Key) Seal(plaintext []byte, binding ...string) ([]byte, error) {
	dataKey := make([]byte, keySize)
	rand.Read(dataKey)
	defer clear(dataKey)
	box := make([]byte, 0, boxHead+len(plaintext)+aeadCost)
	box = append(box, boxFormat)
	box = append(box, k.id[:]...)
	box = k.wrap.Seal(box, nil, dataKey, bound("latchkey data key", box, binding))
	return newGCM(dataKey).Seal(box, nil, plaintext, bound("latchkey record", box, binding)), nil
}

// Open decrypts a box that Seal made for the same binding. It fails when the box
// was changed, belongs elsewhere, or was sealed with another master key; the
// error then says which key.
func (k *Key) Open(box []byte, binding ...string) ([]byte, error) {
	if len(box) < boxHead+aeadCost {
		return nil, errors.New("does not open: too short for a sealed record")
	}
	if box[0] != boxFormat {
		return nil, fmt.Errorf("does not open: format %d is unknown", box[0])
	}
	if id := box[1 : 1+keyIDSize]; !bytes.Equal(id, k.id[:]) {
		return nil, fmt.Errorf("sealed with another master key: with %x, this one is %s", id, k.ID())
	}
	head, wrapped := box[:1+keyIDSize], box[1+keyIDSize:boxHead]
	dataKey, err := k.wrap.Open(nil, nil, wrapped, bound("latchkey data key", head, binding))
	if err != nil {
		return nil, errors.New("does not open: the record was changed or belongs elsewhere")
	}
	defer clear(dataKey)
	plaintext, err := newGCM(dataKey).Open(nil, nil, box[boxHead:], bound("latchkey record", box[:boxHead], binding))
	if err != nil {
		return nil, errors.New("does not open: the record was changed or belongs elsewhere")
	}
	return plaintext, nil
}

// bound returns the associated data of a box.
func bound(label string, head []byte, binding []string) []byte {
	return list(newTranscript(label).bytes(head), binding)
}

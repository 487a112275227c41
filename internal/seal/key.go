package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

const (
	keySize   = 32
	keyIDSize = 8

	boxFormat   = 1
	aeadCost    = 12 + 16 // nonce and tag of AES-GCM
	wrappedSize = keySize + aeadCost
	boxHead     = 1 + keyIDSize + wrappedSize
)

// A Key is what the master key file holds: one master key, or several while the
// service changes from one to the next. A master key wraps the data key of every
// record that is sealed at rest, and other keys of the service are derived from
// it. One of them seals; each opens what it has sealed.
//
// A Key's methods may be called concurrently.
type Key struct {
	path string // of the file that it was loaded from, or ""

	loading sync.Mutex           // held while ring is changed
	ring    atomic.Pointer[ring] // never changed itself, only replaced
}

// A ring is the keys of a Key. Those of the file come in the file's order.
type ring struct {
	keys    []*masterKey
	sealing *masterKey // nil when the one that should seal is missing
	missing string     // its id then
	why     error      // and why it is missing
	file    fs.FileInfo
}

// A masterKey is one master key.
type masterKey struct {
	secret []byte // never used itself, only what is derived from it
	id     [keyIDSize]byte
	wrap   cipher.AEAD // of data keys
}

// NewKey returns a random key: for tests, and for the first start.
func NewKey() *Key { return newKey(newSecret()) }

func newSecret() []byte {
	secret := make([]byte, keySize)
	rand.Read(secret)
	return secret
}

// newKey returns the key of secrets in the order of a file. The newest seals.
func newKey(secrets ...[]byte) *Key {
	r := &ring{}
	for _, s := range secrets {
		r.keys = append(r.keys, newMasterKey(s))
	}
	r.sealing = r.keys[len(r.keys)-1]
	k := &Key{}
	k.ring.Store(r)
	return k
}

func newMasterKey(secret []byte) *masterKey {
	m := &masterKey{secret: secret}
	copy(m.id[:], derive(secret, "latchkey master key id"))
	m.wrap = newGCM(derive(secret, "latchkey data key wrapping"))
	return m
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

// ID returns a short fingerprint of the master key that seals, which does not
// reveal it.
func (k *Key) ID() string {
	r := k.ring.Load()
	if r.sealing == nil {
		return r.missing
	}
	return r.sealing.name()
}

// IDs returns the fingerprints of all master keys, in the order of the file.
func (k *Key) IDs() []string {
	var ids []string
	for _, m := range k.ring.Load().keys {
		ids = append(ids, m.name())
	}
	return ids
}

// Holds reports whether the master key with an id is there. It looks into the
// file again if need be.
func (k *Key) Holds(id string) bool {
	_, err := k.find(id)
	return err == nil
}

// Use chooses the master key that seals from now on: whose name ID is, and which
// Rewrap and Derive use. When it is not there, not even in the file, that is the
// error, and Rewrap fails until Use finds it.
func (k *Key) Use(id string) error {
	if k.ID() == id && k.ring.Load().sealing != nil {
		return nil
	}
	m, err := k.find(id)
	k.loading.Lock()
	defer k.loading.Unlock()
	r := *k.ring.Load()
	r.sealing, r.missing, r.why = m, id, err
	k.ring.Store(&r)
	return err
}

// lacks is the error of a master key that is not there, where unread says why
// the file could not be read again, or is nil.
func (k *Key) lacks(id string, unread error) error {
	switch {
	case k.path == "":
		return fmt.Errorf("the master key %s is missing", id)
	case unread != nil:
		return fmt.Errorf("the master key %s is not known here, and the file that may hold it cannot be read again: %w", id, unread)
	}
	return fmt.Errorf("the master key file %s lacks the key %s: put the file of another server, or of the last latchkey master-key add, in its place", k.path, id)
}

func (m *masterKey) name() string { return hex.EncodeToString(m.id[:]) }

// find returns the master key with an id. It looks into the file again when the
// key is unknown and the file has changed. The error says that the key is
// missing and, if that is it, why the file cannot be read.
func (k *Key) find(id string) (*masterKey, error) {
	if m := k.ring.Load().find(id); m != nil {
		return m, nil
	}
	var unread error
	if k.path != "" {
		unread = k.reload()
		if m := k.ring.Load().find(id); m != nil {
			return m, nil
		}
	}
	return nil, k.lacks(id, unread)
}

func (r *ring) find(id string) *masterKey {
	for _, m := range r.keys {
		if m.name() == id {
			return m
		}
	}
	return nil
}

// Format implements [fmt.Formatter] and never writes the key.
func (k *Key) Format(f fmt.State, verb rune) { fmt.Fprintf(f, "master key %s", k.ID()) }

// Derive returns 32 bytes that depend on the master key that seals and the
// label, for a use that the label names. They reveal nothing about the key or
// other labels' bytes.
func (k *Key) Derive(label string) []byte {
	r := k.ring.Load()
	if r.sealing == nil {
		return derive(newSecret(), label) // what nobody else can derive
	}
	return derive(r.sealing.secret, label)
}

// DeriveAll returns what Derive gives for each master key, the one that seals
// first: for checking what another server, or this one before, derived.
func (k *Key) DeriveAll(label string) [][]byte {
	r := k.ring.Load()
	var all [][]byte
	for _, m := range r.keys {
		if b := derive(m.secret, label); m == r.sealing {
			all = slices.Insert(all, 0, b)
		} else {
			all = append(all, b)
		}
	}
	return all
}

func derive(secret []byte, label string) []byte {
	b, err := hkdf.Key(sha256.New, secret, nil, label, keySize)
	if err != nil {
		panic(err) // only for lengths that HKDF cannot give
	}
	return b
}

// SealWith encrypts plaintext, with the master key that has an id, for the place
// that the binding strings name: table, column, row and version. Open needs the
// same ones.
//
// The box is a format byte, the id of the master key, the record's own data key
// sealed by the master key, and the ciphertext. The ciphertext does not depend
// on the master key but through the data key, so that Rewrap need not open it.
func (k *Key) SealWith(id string, plaintext []byte, binding ...string) ([]byte, error) {
	m, err := k.find(id)
	if err != nil {
		return nil, err
	}
	return m.seal(plaintext, binding), nil
}

func (m *masterKey) seal(plaintext []byte, binding []string) []byte {
	dataKey := newSecret()
	defer clear(dataKey)
	box := m.head(len(plaintext), dataKey, binding)
	return newGCM(dataKey).Seal(box, nil, plaintext, bound("latchkey record", box[:1], binding))
}

// head returns the begin of a box, with room for a ciphertext of n bytes.
func (m *masterKey) head(n int, dataKey []byte, binding []string) []byte {
	box := make([]byte, 0, boxHead+n+aeadCost)
	box = append(box, boxFormat)
	box = append(box, m.id[:]...)
	return m.wrap.Seal(box, nil, dataKey, bound("latchkey data key", box, binding))
}

var errBox = errors.New("does not open: the record was changed or belongs elsewhere")

// dataKey returns the data key of a box.
func (k *Key) dataKey(box []byte, binding []string) ([]byte, error) {
	id, err := BoxKey(box)
	if err != nil {
		return nil, err
	}
	m, err := k.find(id)
	if err != nil {
		return nil, fmt.Errorf("sealed with another master key: with %s, this one is %s: %w", id, strings.Join(k.IDs(), ", "), err)
	}
	head, wrapped := box[:1+keyIDSize], box[1+keyIDSize:boxHead]
	dataKey, err := m.wrap.Open(nil, nil, wrapped, bound("latchkey data key", head, binding))
	if err != nil {
		return nil, errBox
	}
	return dataKey, nil
}

// Open decrypts a box that SealWith made for the same binding. It fails when the box
// was changed, belongs elsewhere, or was sealed with a master key that is not
// there; the error then says which key.
func (k *Key) Open(box []byte, binding ...string) ([]byte, error) {
	dataKey, err := k.dataKey(box, binding)
	if err != nil {
		return nil, err
	}
	defer clear(dataKey)
	plaintext, err := newGCM(dataKey).Open(nil, nil, box[boxHead:], bound("latchkey record", box[:1], binding))
	if err != nil {
		return nil, errBox
	}
	return plaintext, nil
}

// Rewrap returns a box that holds the same record and whose data key is sealed
// by the master key that seals now. It does not open the record. A box that is
// sealed by that key already is returned as it is.
func (k *Key) Rewrap(box []byte, binding ...string) ([]byte, error) {
	r := k.ring.Load()
	if r.sealing == nil {
		return nil, r.why
	}
	id, err := BoxKey(box)
	if err != nil || id == r.sealing.name() {
		return box, err
	}
	dataKey, err := k.dataKey(box, binding)
	if err != nil {
		return nil, err
	}
	defer clear(dataKey)
	return append(r.sealing.head(len(box)-boxHead-aeadCost, dataKey, binding), box[boxHead:]...), nil
}

// BoxKey returns the id of the master key that a box is sealed with.
func BoxKey(box []byte) (id string, err error) {
	if len(box) < boxHead+aeadCost {
		return "", errors.New("does not open: too short for a sealed record")
	}
	if box[0] != boxFormat {
		return "", fmt.Errorf("does not open: format %d is unknown", box[0])
	}
	return hex.EncodeToString(box[1 : 1+keyIDSize]), nil
}

// bound returns the associated data of a box.
func bound(label string, head []byte, binding []string) []byte {
	return list(newTranscript(label).bytes(head), binding)
}

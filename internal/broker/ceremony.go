package broker

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"time"

	"latchkey.dev/internal/db"
	"latchkey.dev/internal/seal"
	"latchkey.dev/latchkey"
)

// ceremonyTTL is how long signing in with a passkey or a provider may take.
const ceremonyTTL = 10 * time.Minute

// maxCeremony bounds a ceremony, in bytes: a browser keeps it in a cookie.
const maxCeremony = 3500

const ceremonyKey = "ceremonies of signing in"

// A ceremony is what signing in was begun with. The browser keeps it, sealed, so
// that nobody can fill the database by beginning.
type ceremony struct {
	Kind    string          `json:"k"`
	Expires time.Time       `json:"e"`
	State   json.RawMessage `json:"s"`
}

func ceremonyCipher(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key[:32])
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}

// sealCeremony returns a ceremony for the browser to keep.
func (b *Broker) sealCeremony(kind string, state any) (string, error) {
	s, err := json.Marshal(state)
	if err != nil {
		return "", err
	}
	text, err := json.Marshal(ceremony{kind, b.now().Add(ceremonyTTL).UTC(), s})
	if err != nil {
		return "", err
	}
	aead, err := ceremonyCipher(b.key.Derive(ceremonyKey))
	if err != nil {
		return "", err
	}
	sealed := base64.RawURLEncoding.EncodeToString(aead.Seal(nil, nil, text, []byte(ceremonyKey)))
	if len(sealed) > maxCeremony {
		return "", fmt.Errorf("a ceremony of %d bytes is more than a cookie takes", len(sealed))
	}
	return sealed, nil
}

// openCeremony reads a ceremony of a kind that the browser has kept, into state. used
// is to be called in the transaction that completes it.
func (b *Broker) openCeremony(kind, sealed string, state any) (used func(*db.Tx) error, err error) {
	const remedy = "begin to sign in again"
	invalid := unauthenticated("ceremony-invalid", "signing in took too long, or was begun in another browser", remedy)
	box, err := base64.RawURLEncoding.Strict().DecodeString(sealed)
	if err != nil || len(sealed) > maxCeremony {
		return nil, invalid
	}
	var c ceremony
	opened := false
	for _, key := range b.key.DeriveAll(ceremonyKey) {
		aead, err := ceremonyCipher(key)
		if err != nil {
			return nil, err
		}
		text, err := aead.Open(nil, nil, box, []byte(ceremonyKey))
		if err == nil && json.Unmarshal(text, &c) == nil {
			opened = true
			break
		}
	}
	if !opened || c.Kind != kind || !c.Expires.After(b.now()) || json.Unmarshal(c.State, state) != nil {
		return nil, invalid
	}
	return func(tx *db.Tx) error {
		first, err := tx.UseCeremony(seal.HashToken(sealed), c.Expires)
		if err == nil && !first {
			err = unauthenticated("ceremony-used", "somebody was signed in with this answer already", remedy)
		}
		return err
	}, nil
}

// refusedSignIn records that somebody was not signed in, and returns why. details
// may be nil.
func (o *op) refusedSignIn(t thing, why *latchkey.Error, details map[string]string) error {
	e := o.event(latchkey.ActSignIn, t)
	e.Outcome, e.Code, e.Reason, e.Details = latchkey.OutcomeDenied, why.Code, why.Msg, details
	return o.Record(e)
}

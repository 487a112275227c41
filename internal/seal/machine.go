package seal

import (
	"crypto/ecdh"
	"crypto/ed25519"
	"crypto/hpke"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"latchkey.dev/latchkey"
)

const (
	machineKeysTag = "latchkey-machine-keys-1"
	maxMachineKeys = 256
	sealKeySize    = 32
)

// kem returns the key encapsulation of the suite, DHKEM(X25519, HKDF-SHA256).
func kem() hpke.KEM { return hpke.DHKEM(ecdh.X25519()) }

// MachineKeys are the private keys of a machine. They are made on it and never
// leave it.
type MachineKeys struct {
	Sign ed25519.PrivateKey // proves that a request is the machine's
	Seal hpke.PrivateKey    // opens what is sealed to the machine
}

// NewMachineKeys returns random keys.
func NewMachineKeys() (*MachineKeys, error) {
	_, sign, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make signing key: %w", err)
	}
	key, err := kem().GenerateKey()
	if err != nil {
		return nil, fmt.Errorf("make sealing key: %w", err)
	}
	return &MachineKeys{Sign: sign, Seal: key}, nil
}

// Format implements [fmt.Formatter] and never writes a private key.
func (k *MachineKeys) Format(f fmt.State, verb rune) { fmt.Fprint(f, "[machine keys]") }

// SignPublic returns the public key that checks the machine's signatures.
func (k *MachineKeys) SignPublic() []byte { return k.Sign.Public().(ed25519.PublicKey) }

// SealPublic returns the public key to which secrets are sealed for the machine.
func (k *MachineKeys) SealPublic() []byte { return k.Seal.PublicKey().Bytes() }

// MarshalText returns both private keys as one line, for a file that only the
// agent can read.
func (k *MachineKeys) MarshalText() ([]byte, error) {
	sealKey, err := k.Seal.Bytes()
	if err != nil {
		return nil, fmt.Errorf("encode sealing key: %w", err)
	}
	enc := base64.StdEncoding
	return []byte(machineKeysTag + " " + enc.EncodeToString(k.Sign.Seed()) + " " + enc.EncodeToString(sealKey) + "\n"), nil
}

// ParseMachineKeys reads what MarshalText wrote. Its errors do not repeat the
// text.
func ParseMachineKeys(text []byte) (*MachineKeys, error) {
	if len(text) > maxMachineKeys {
		return nil, errors.New("is too large to be a machine's keys")
	}
	parts := strings.Split(strings.TrimSuffix(string(text), "\n"), " ")
	if len(parts) != 3 || parts[0] != machineKeysTag || strings.ContainsAny(parts[1]+parts[2], "\r\n") {
		return nil, fmt.Errorf("does not hold a machine's keys: it must be one line that begins with %s", machineKeysTag)
	}
	seed, err := base64.StdEncoding.Strict().DecodeString(parts[1])
	if err != nil || len(seed) != ed25519.SeedSize {
		return nil, errors.New("does not hold a machine's keys: the signing key is damaged")
	}
	b, err := base64.StdEncoding.Strict().DecodeString(parts[2])
	if err != nil || len(b) != sealKeySize {
		return nil, errors.New("does not hold a machine's keys: the sealing key is damaged")
	}
	key, err := kem().NewPrivateKey(b)
	if err != nil {
		return nil, errors.New("does not hold a machine's keys: the sealing key is damaged")
	}
	return &MachineKeys{Sign: ed25519.NewKeyFromSeed(seed), Seal: key}, nil
}

// SignEnrol fills in the keys and the signature of req; every other field must
// be set before.
func SignEnrol(k *MachineKeys, req *latchkey.EnrolRequest) error {
	if k == nil || len(k.Sign) != ed25519.PrivateKeySize || k.Seal == nil {
		return errors.New("sign enrolment: the machine has no keys")
	}
	req.SignKey = k.SignPublic()
	req.SealKey = k.SealPublic()
	req.Signature = ed25519.Sign(k.Sign, enrolTranscript(req))
	return nil
}

// VerifyEnrol checks that the keys in req can be used, and that whoever sent it
// holds the signing key. It does not check the token.
func VerifyEnrol(req *latchkey.EnrolRequest) error {
	if len(req.SignKey) != ed25519.PublicKeySize {
		return fmt.Errorf("signing key must be %d bytes", ed25519.PublicKeySize)
	}
	if len(req.SealKey) != sealKeySize {
		return fmt.Errorf("sealing key must be %d bytes", sealKeySize)
	}
	key, err := kem().NewPublicKey(req.SealKey)
	if err != nil {
		return errors.New("sealing key is not an X25519 key")
	}
	// A point of low order parses, and fails only when a secret is agreed on.
	if _, _, err := hpke.NewSender(key, kdf(), aead(), nil); err != nil {
		return errors.New("sealing key is not a usable X25519 key")
	}
	if !ed25519.Verify(req.SignKey, enrolTranscript(req), req.Signature) {
		return errors.New("signature of the enrolment does not verify")
	}
	return nil
}

func enrolTranscript(req *latchkey.EnrolRequest) transcript {
	return newTranscript("latchkey enrol request 1").
		text(req.Token).
		text(req.Name).
		text(req.Environment).
		bytes(req.SignKey).
		bytes(req.SealKey).
		text(req.OS).
		text(req.Version).
		flag(req.SharedUID).
		policy(req.Policy)
}

// SignEnrolResponse fills in the signature of resp, which also covers the
// request that it answers.
func SignEnrolResponse(server ed25519.PrivateKey, req *latchkey.EnrolRequest, resp *latchkey.EnrolResponse) {
	resp.Signature = ed25519.Sign(server, enrolResponseTranscript(req, resp))
}

// VerifyEnrolResponse checks that resp is the answer to req of the server with
// the given key.
func VerifyEnrolResponse(server ed25519.PublicKey, req *latchkey.EnrolRequest, resp *latchkey.EnrolResponse) error {
	if len(server) != ed25519.PublicKeySize {
		return errors.New("the server's key is not an Ed25519 key")
	}
	if !ed25519.Verify(server, enrolResponseTranscript(req, resp), resp.Signature) {
		return errors.New("the answer to the enrolment is not signed by the server that the enrolment token names")
	}
	return nil
}

func enrolResponseTranscript(req *latchkey.EnrolRequest, resp *latchkey.EnrolResponse) transcript {
	return newTranscript("latchkey enrol response 1").
		bytes(enrolTranscript(req)).
		text(string(resp.Machine)).
		text(resp.Name).
		text(resp.Environment)
}

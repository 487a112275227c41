package seal

import (
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/hpke"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"latchkey.dev/latchkey"
)

const (
	sessionNonceSize  = 32
	sessionSecretSize = 32
)

// The rest of the suite; see latchkey.AgentSuite.
func kdf() hpke.KDF   { return hpke.HKDFSHA256() }
func aead() hpke.AEAD { return hpke.AES256GCM() }

// SignSession fills in the signature of req; every other field must be set
// before.
func SignSession(k *MachineKeys, req *latchkey.SessionRequest) {
	req.Signature = ed25519.Sign(k.Sign, sessionTranscript(req))
}

// AcceptSession is the server's half of the handshake. It checks that req is
// signed by the machine with the given public keys, fills in resp's Enc and
// Signature, and returns the session's secret. The other fields of resp must be
// set before. Whether the counter of req is new is for the caller to decide.
func AcceptSession(server ed25519.PrivateKey, signKey, sealKey []byte, req *latchkey.SessionRequest, resp *latchkey.SessionResponse) (secret []byte, err error) {
	if req.Suite != latchkey.AgentSuite || resp.Suite != latchkey.AgentSuite {
		return nil, fmt.Errorf("the suite of the session must be %s", latchkey.AgentSuite)
	}
	if len(req.Nonce) != sessionNonceSize {
		return nil, fmt.Errorf("the nonce of the session must be %d bytes", sessionNonceSize)
	}
	if len(signKey) != ed25519.PublicKeySize || len(server) != ed25519.PrivateKeySize {
		return nil, errors.New("a key of the handshake is not an Ed25519 key")
	}
	if !ed25519.Verify(signKey, sessionTranscript(req), req.Signature) {
		return nil, errors.New("the session is not signed by the machine's key")
	}
	key, err := kem().NewPublicKey(sealKey)
	if err != nil {
		return nil, fmt.Errorf("read the machine's sealing key: %w", err)
	}
	enc, sender, err := hpke.NewSender(key, kdf(), aead(), sessionInfo(server.Public().(ed25519.PublicKey), req))
	if err != nil {
		return nil, fmt.Errorf("encapsulate the session's secret: %w", err)
	}
	secret, err = sender.Export("latchkey session", sessionSecretSize)
	if err != nil {
		return nil, fmt.Errorf("derive the session's secret: %w", err)
	}
	resp.Enc = enc
	resp.Signature = ed25519.Sign(server, sessionResponseTranscript(req, resp))
	return secret, nil
}

// FinishSession is the machine's half of the handshake. It checks that resp is
// the answer to req of the server with the given key, and returns the session's
// secret.
func FinishSession(k *MachineKeys, server ed25519.PublicKey, req *latchkey.SessionRequest, resp *latchkey.SessionResponse) (secret []byte, err error) {
	if len(server) != ed25519.PublicKeySize {
		return nil, errors.New("the server's key is not an Ed25519 key")
	}
	if resp.Suite != req.Suite || resp.Suite != latchkey.AgentSuite {
		return nil, fmt.Errorf("the server did not answer in the suite %s", latchkey.AgentSuite)
	}
	if !ed25519.Verify(server, sessionResponseTranscript(req, resp), resp.Signature) {
		return nil, errors.New("the answer to the session is not signed by the server that this machine enrolled at")
	}
	recipient, err := hpke.NewRecipient(resp.Enc, k.Seal, kdf(), aead(), sessionInfo(server, req))
	if err != nil {
		return nil, fmt.Errorf("open the session's secret: %w", err)
	}
	secret, err = recipient.Export("latchkey session", sessionSecretSize)
	if err != nil {
		return nil, fmt.Errorf("derive the session's secret: %w", err)
	}
	return secret, nil
}

func sessionTranscript(req *latchkey.SessionRequest) transcript {
	return newTranscript("latchkey session request 1").
		text(req.Suite).
		text(string(req.Machine)).
		number(req.Counter).
		bytes(req.Nonce).
		time(req.At).
		text(req.OS).
		text(req.Version).
		flag(req.SharedUID).
		policy(req.Policy)
}

// sessionInfo binds the secret to the request and to the server's identity.
func sessionInfo(server ed25519.PublicKey, req *latchkey.SessionRequest) []byte {
	sum := sha256.Sum256(newTranscript("latchkey session info 1").
		bytes(server).
		bytes(sessionTranscript(req)))
	return sum[:]
}

func sessionResponseTranscript(req *latchkey.SessionRequest, resp *latchkey.SessionResponse) transcript {
	return newTranscript("latchkey session response 1").
		bytes(sessionTranscript(req)).
		text(resp.Suite).
		text(string(resp.Session)).
		bytes(resp.Enc).
		time(resp.At).
		time(resp.ExpiresAt)
}

// A Session holds the keys of one session, the same on both sides. It is safe
// for concurrent use.
type Session struct {
	mac     []byte
	release []byte
}

// NewSession derives the keys of a session from its secret.
func NewSession(secret []byte) *Session {
	return &Session{
		mac:     derive(secret, "latchkey session messages"),
		release: derive(secret, "latchkey session releases"),
	}
}

// Format implements [fmt.Formatter] and never writes a key.
func (s *Session) Format(f fmt.State, verb rune) { fmt.Fprint(f, "[session keys]") }

// NonceSize is the length of a request's nonce, in bytes.
const NonceSize = 16

// NewNonce returns the nonce of a request that is made at a time by the server's
// clock: 8 bytes of Unix milliseconds and 8 random bytes. The server tells by it
// a request from one that somebody recorded.
func NewNonce(now time.Time) []byte {
	nonce := make([]byte, NonceSize)
	binary.BigEndian.PutUint64(nonce, uint64(now.UnixMilli()))
	rand.Read(nonce[8:])
	return nonce
}

// NonceTime returns when the request with a nonce was made.
func NonceTime(nonce []byte) time.Time {
	if len(nonce) != NonceSize {
		return time.Time{}
	}
	return time.UnixMilli(int64(binary.BigEndian.Uint64(nonce)))
}

// RequestMAC authenticates a request: path is the path of its URL exactly as
// sent, nonce the bytes that its nonce header encodes. Compare with
// [hmac.Equal].
func (s *Session) RequestMAC(method, path string, nonce, body []byte) []byte {
	return s.sum(newTranscript("latchkey request 1").text(method).text(path).bytes(nonce).bytes(body))
}

// ResponseMAC authenticates the answer to the request with the given MAC. Since
// that covers the request's nonce, an answer fits one request only. Compare with
// [hmac.Equal].
func (s *Session) ResponseMAC(requestMAC []byte, status int, body []byte) []byte {
	return s.sum(newTranscript("latchkey response 1").bytes(requestMAC).number(int64(status)).bytes(body))
}

func (s *Session) sum(t transcript) []byte {
	h := hmac.New(sha256.New, s.mac)
	h.Write(t)
	return h.Sum(nil)
}

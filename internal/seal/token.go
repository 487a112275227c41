package seal

import (
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"strings"
)

const (
	tokenSize       = 32
	enrolmentPrefix = "lke_"
)

var tokenEncoding = base64.RawURLEncoding.Strict()

// NewToken returns a token with 256 random bits, and the hash under which it is
// stored. The prefix lets people and scanners see what it is.
func NewToken(prefix string) (token string, hash []byte) {
	token = prefix + "_" + randomText()
	return token, HashToken(token)
}

// NextToken returns the token that replaces another, and the hash under which it is
// stored. It follows from the other one and salt, so that all who present that one
// at the same time are given the same, though neither is stored.
func NextToken(prefix, token string, salt []byte) (next string, hash []byte, err error) {
	b, err := hkdf.Key(sha256.New, []byte(token), salt, "latchkey next token", tokenSize)
	if err != nil {
		return "", nil, err
	}
	next = prefix + "_" + tokenEncoding.EncodeToString(b)
	return next, HashToken(next), nil
}

func randomText() string {
	b := make([]byte, tokenSize)
	rand.Read(b)
	return tokenEncoding.EncodeToString(b)
}

// HashToken returns the hash under which a token is stored. Tokens are too
// random to guess, so that a plain SHA-256 keeps them.
func HashToken(token string) []byte {
	sum := sha256.Sum256([]byte(token))
	return sum[:]
}

// EnrolmentToken returns a token that enrols a machine at the server with the
// given key. Only proof is ever sent, and hash is HashToken(proof); the other
// part tells the machine which server it may believe.
func EnrolmentToken(serverKey ed25519.PublicKey) (token, proof string, hash []byte) {
	proof = enrolmentPrefix + randomText()
	token = proof + "." + tokenEncoding.EncodeToString(serverKey)
	return token, proof, HashToken(proof)
}

// ParseEnrolmentToken takes a token of EnrolmentToken apart. Its errors do not
// repeat the token.
func ParseEnrolmentToken(token string) (proof string, serverKey ed25519.PublicKey, err error) {
	proof, keyText, ok := strings.Cut(token, ".")
	text, prefixed := strings.CutPrefix(proof, enrolmentPrefix)
	if !prefixed {
		return "", nil, errors.New("is not an enrolment token: those begin with " + enrolmentPrefix)
	}
	if !ok {
		return "", nil, errors.New("is not a whole enrolment token: the part after the dot is missing")
	}
	if !decodes(text, tokenSize) || !decodes(keyText, ed25519.PublicKeySize) {
		return "", nil, errors.New("is not a whole enrolment token: copy it again")
	}
	key, err := tokenEncoding.DecodeString(keyText)
	if err != nil {
		return "", nil, errors.New("is not a whole enrolment token: copy it again")
	}
	return proof, key, nil
}

// decodes reports whether text is the one base64 form of size bytes.
func decodes(text string, size int) bool {
	if len(text) != tokenEncoding.EncodedLen(size) || strings.ContainsAny(text, "\r\n") {
		return false
	}
	_, err := tokenEncoding.DecodeString(text)
	return err == nil
}

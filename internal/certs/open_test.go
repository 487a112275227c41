package certs

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"math/big"
	"testing"
	"time"

	"software.sslmate.com/src/go-pkcs12"
)

func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func explicit(b []byte) asn1.RawValue {
	return asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 0, IsCompound: true, Bytes: b}
}

// pbes2 is an algorithm of RFC 8018 with AES-256 and a number of rounds.
func pbes2(t testing.TB, rounds int64, iv []byte) pkix.AlgorithmIdentifier {
	t.Helper()
	type kdf struct {
		Salt   []byte
		Rounds int64
		PRF    pkix.AlgorithmIdentifier
	}
	derivation := must(asn1.Marshal(kdf{[]byte("salt"), rounds, pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{1, 2, 840, 113549, 2, 9}, Parameters: asn1.NullRawValue}}))(t)
	vector := must(asn1.Marshal(iv))(t)
	parameters := must(asn1.Marshal([]pkix.AlgorithmIdentifier{
		{Algorithm: asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 12}, Parameters: asn1.RawValue{FullBytes: derivation}},
		{Algorithm: asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 42}, Parameters: asn1.RawValue{FullBytes: vector}},
	}))(t)
	return pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 13}, Parameters: asn1.RawValue{FullBytes: parameters}}
}

// encryptedPart is a part of a PFX that is encrypted with an empty password.
func encryptedPart(t testing.TB, content []byte) asn1.RawValue {
	t.Helper()
	iv := make([]byte, aes.BlockSize)
	key := must(pbkdf2.Key(sha256.New, "", []byte("salt"), 1000, 32))(t)
	pad := aes.BlockSize - len(content)%aes.BlockSize
	for range pad {
		content = append(content, byte(pad))
	}
	cipher.NewCBCEncrypter(must(aes.NewCipher(key))(t), iv).CryptBlocks(content, content)
	type encrypted struct {
		Version int
		Content struct {
			Type      asn1.ObjectIdentifier
			Algorithm pkix.AlgorithmIdentifier
			Data      []byte `asn1:"tag:0"`
		}
	}
	e := encrypted{}
	e.Content.Type, e.Content.Algorithm, e.Content.Data = oidData, pbes2(t, 1000, iv), content
	return asn1.RawValue{FullBytes: must(asn1.Marshal(contentInfo{oidEncrypted, explicit(must(asn1.Marshal(e))(t))}))(t)}
}

// TestOpenHiddenKey has a second key inside what is encrypted, which asks for a
// lifetime of work: it is refused before anybody begins with it, also where the
// encrypted part comes first.
func TestOpenHiddenKey(t *testing.T) {
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(t)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	leaf := must(x509.ParseCertificate(must(x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key))(t)))(t)
	plain := must(readPFX(must(pkcs12.Modern2023.Encode(key, leaf, nil, ""))(t)))(t)

	type bag struct {
		Type  asn1.ObjectIdentifier
		Value asn1.RawValue
	}
	type shrouded struct {
		Algorithm pkix.AlgorithmIdentifier
		Data      []byte
	}
	hidden := must(asn1.Marshal(shrouded{pbes2(t, 1<<50, make([]byte, aes.BlockSize)), make([]byte, 64)}))(t)
	part := encryptedPart(t, must(asn1.Marshal([]bag{{oidShroudedKey, explicit(hidden)}}))(t))
	for name, parts := range map[string][]asn1.RawValue{
		"after the key":  {plain.parts[0], part},
		"before the key": {part, plain.parts[0]},
	} {
		file := must((&pfx{parts: parts}).write([]byte{0, 0}))(t)
		if _, _, err := Open(file, ""); !errors.Is(err, errNotPFX) {
			t.Errorf("%s: Open = %v; want %v", name, err, errNotPFX)
		}
	}
	alone := must((&pfx{parts: []asn1.RawValue{part}}).write([]byte{0, 0}))(t)
	if _, _, err := Open(alone, ""); !errors.Is(err, ErrNoKey) {
		t.Errorf("the hidden key alone: Open = %v; want %v", err, ErrNoKey)
	}
}

// TestOpenPasswords reads what every encoder writes, with the right password and
// with wrong ones.
func TestOpenPasswords(t *testing.T) {
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(t)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	leaf := must(x509.ParseCertificate(must(x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key))(t)))(t)
	for name, encoder := range map[string]*pkcs12.Encoder{
		"LegacyRC2": pkcs12.LegacyRC2, "LegacyDES": pkcs12.LegacyDES, "Modern2023": pkcs12.Modern2023, "Passwordless": pkcs12.Passwordless,
	} {
		for _, password := range []string{"", "pässword", "\U0001F511"} {
			if name == "Passwordless" && password != "" {
				continue
			}
			file, err := encoder.Encode(key, leaf, []*x509.Certificate{leaf}, password)
			if err != nil {
				continue // a password that PKCS #12 cannot write
			}
			got, certificates, err := Open(file, password)
			if err != nil || len(certificates) != 2 || !key.Equal(got) {
				t.Errorf("%s, %q: Open = %d certificates, %v", name, password, len(certificates), err)
			}
			if name == "Passwordless" {
				continue
			}
			if _, _, err := Open(file, password+"x"); !errors.Is(err, ErrPassword) {
				t.Errorf("%s, another password than %q: %v; want %v", name, password, err, ErrPassword)
			}
		}
	}
}

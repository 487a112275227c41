package certs

import (
	"bytes"
	"crypto"
	"crypto/hmac"
	_ "crypto/sha1" // of most PFX
	_ "crypto/sha256"
	_ "crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"unicode/utf16"

	"software.sslmate.com/src/go-pkcs12"
)

// Errors of Open besides ErrPassword.
var (
	// ErrNoKey is of a PFX that shows no private key: there is none, or it is inside
	// what is encrypted as a whole.
	ErrNoKey = errors.New("has no private key, or keeps it where only certificates belong")

	// ErrWork is of a PFX that asks for more work than any program writes.
	ErrWork = errors.New("asks for too much work to open it: make it again with fewer iterations")

	// ErrUnknown is of a PFX that is encrypted in a way that is not known here.
	ErrUnknown = errors.New("is encrypted in a way that is not known here")

	errNotPFX = errors.New("is not a PFX with one private key and its certificate")
)

// Open reads a PFX (PKCS #12, RFC 7292) in DER with one private key: the key, and the
// certificates as they come. The work is bounded by maxIterations, whatever the file
// says: package pkcs12 derives as many keys, with as many rounds, as the parts of a
// file ask for, also those that are seen only when others have been decrypted. So
// the part with the key, which has to be in the open, is put first, and what is
// encrypted after it: package pkcs12 refuses a second key before it looks at it.
func Open(der []byte, password string) (key any, certificates []*x509.Certificate, err error) {
	f, err := readPFX(der)
	if err != nil {
		return nil, nil, err
	}
	secret, err := f.password(password)
	if err != nil {
		return nil, nil, err
	}
	ordered, err := f.write(secret)
	if err != nil {
		return nil, nil, err
	}
	key, first, others, err := pkcs12.DecodeChain(ordered, password)
	if _, ok := errors.AsType[pkcs12.NotImplementedError](err); ok {
		return nil, nil, ErrUnknown
	}
	switch {
	case errors.Is(err, pkcs12.ErrIncorrectPassword), errors.Is(err, pkcs12.ErrDecryption):
		return nil, nil, ErrPassword
	case err != nil:
		// The library's texts say what is wrong and hold no content.
		return nil, nil, errNotPFX
	}
	return key, append([]*x509.Certificate{first}, others...), nil
}

// A pfx is a file whose parts are known: the one with the key first.
type pfx struct {
	parts []asn1.RawValue
	safe  []byte // all parts as they were, which the MAC is of
	mac   macData
}

// macData is what a file is authenticated with (RFC 7292, section 4).
type macData struct {
	MAC struct {
		Algorithm pkix.AlgorithmIdentifier
		Digest    []byte
	}
	Salt       []byte
	Iterations int `asn1:"optional,default:1"`
}

// contentInfo is a part of a file, or its whole content.
type contentInfo struct {
	Type    asn1.ObjectIdentifier
	Content asn1.RawValue `asn1:"tag:0,explicit,optional"`
}

var (
	oidData        = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 1}
	oidEncrypted   = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 6}
	oidKey         = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 12, 10, 1, 1}
	oidShroudedKey = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 12, 10, 1, 2}
	oidSHA1        = asn1.ObjectIdentifier{1, 3, 14, 3, 2, 26}
	hashes         = map[string]crypto.Hash{
		oidSHA1.String(): crypto.SHA1, "2.16.840.1.101.3.4.2.1": crypto.SHA256, "2.16.840.1.101.3.4.2.2": crypto.SHA384, "2.16.840.1.101.3.4.2.3": crypto.SHA512,
	}
)

// maxParts is how many parts package pkcs12 reads.
const maxParts = 2

// readPFX looks at everything of a file that is in the open. It refuses one that
// asks for too much work, and one that does not show exactly one key.
func readPFX(der []byte) (*pfx, error) {
	var file struct {
		Version int
		Safe    contentInfo
		MAC     asn1.RawValue `asn1:"optional"`
	}
	if rest, err := asn1.Unmarshal(der, &file); err != nil || len(rest) > 0 || !file.Safe.Type.Equal(oidData) {
		return nil, errNotPFX
	}
	f := &pfx{}
	if len(file.MAC.FullBytes) > 0 {
		if err := checkNumbers(file.MAC.FullBytes, 0); err != nil {
			return nil, err
		}
		if _, err := asn1.Unmarshal(file.MAC.FullBytes, &f.mac); err != nil {
			return nil, errNotPFX
		}
	}
	if _, err := asn1.Unmarshal(file.Safe.Content.Bytes, &f.safe); err != nil {
		return nil, errNotPFX
	}
	var parts []asn1.RawValue
	if rest, err := asn1.Unmarshal(f.safe, &parts); err != nil || len(rest) > 0 || len(parts) > maxParts {
		return nil, errNotPFX
	}
	keys := 0
	for _, p := range parts {
		n, err := checkPart(p.FullBytes)
		if err != nil {
			return nil, err
		}
		if keys += n; n > 0 {
			f.parts = append([]asn1.RawValue{p}, f.parts...)
		} else {
			f.parts = append(f.parts, p)
		}
	}
	switch {
	case keys == 0:
		return nil, ErrNoKey
	case keys > 1:
		return nil, errNotPFX
	}
	return f, nil
}

// checkPart returns how many keys a part shows.
func checkPart(der []byte) (keys int, err error) {
	var p contentInfo
	if _, err := asn1.Unmarshal(der, &p); err != nil {
		return 0, errNotPFX
	}
	switch {
	case p.Type.Equal(oidData):
		return checkBags(p.Content.Bytes)
	case p.Type.Equal(oidEncrypted):
		var data struct {
			Version int
			Content struct {
				Type      asn1.ObjectIdentifier
				Algorithm asn1.RawValue
				Content   asn1.RawValue `asn1:"tag:0,optional"`
			}
		}
		if _, err := asn1.Unmarshal(p.Content.Bytes, &data); err != nil {
			return 0, errNotPFX
		}
		return 0, checkNumbers(data.Content.Algorithm.FullBytes, 0)
	}
	return 0, errNotPFX
}

// checkBags is checkPart for a part that is not encrypted.
func checkBags(der []byte) (keys int, err error) {
	var content []byte
	var bags []struct {
		Type       asn1.ObjectIdentifier
		Value      asn1.RawValue   `asn1:"tag:0,explicit"`
		Attributes []asn1.RawValue `asn1:"set,optional"`
	}
	if _, err := asn1.Unmarshal(der, &content); err != nil {
		return 0, errNotPFX
	}
	if _, err := asn1.Unmarshal(content, &bags); err != nil {
		return 0, errNotPFX
	}
	for _, b := range bags {
		switch {
		case b.Type.Equal(oidKey):
			keys++
		case b.Type.Equal(oidShroudedKey):
			keys++
			var key struct {
				Algorithm asn1.RawValue
				Data      []byte
			}
			if _, err := asn1.Unmarshal(b.Value.Bytes, &key); err != nil {
				return 0, errNotPFX
			}
			if err := checkNumbers(key.Algorithm.FullBytes, 0); err != nil {
				return 0, err
			}
		}
	}
	return keys, nil
}

// checkNumbers refuses integers that are too great anywhere in der.
func checkNumbers(der []byte, depth int) error {
	for len(der) > 0 {
		var v asn1.RawValue
		rest, err := asn1.Unmarshal(der, &v)
		if err != nil || depth > maxDepth {
			return errNotPFX
		}
		der = rest
		switch {
		case v.IsCompound:
			if err := checkNumbers(v.Bytes, depth+1); err != nil {
				return err
			}
		case v.Class == asn1.ClassUniversal && v.Tag == asn1.TagInteger:
			var n int64
			if _, err := asn1.Unmarshal(v.FullBytes, &n); err != nil || n < 0 || n > maxIterations {
				return ErrWork
			}
		}
	}
	return nil
}

// password returns the form of a password in which it fits the file's MAC, or
// ErrPassword. Of an empty one there are two (nothing, and two zeros). A file whose
// MAC is of a kind that is not looked at here, or that has none, has the usual form.
func (f *pfx) password(text string) ([]byte, error) {
	usual := []byte{}
	for _, u := range append(utf16.Encode([]rune(text)), 0) { // RFC 7292, appendix B.1
		usual = append(usual, byte(u>>8), byte(u))
	}
	hash, ok := hashes[f.mac.MAC.Algorithm.Algorithm.String()]
	if !ok {
		return usual, nil
	}
	forms := [][]byte{usual}
	if text == "" {
		forms = append(forms, nil)
	}
	for _, form := range forms {
		if hmac.Equal(macOf(hash, f.safe, form, f.mac.Salt, f.mac.Iterations), f.mac.MAC.Digest) {
			return form, nil
		}
	}
	return nil, ErrPassword
}

// macOf authenticates content by a password (RFC 7292, appendix B.2 to B.4; a MAC's
// key is as long as the hash, so that one round of the derivation makes it).
func macOf(hash crypto.Hash, content, password, salt []byte, iterations int) []byte {
	block := hash.New().BlockSize()
	input := bytes.Repeat([]byte{3}, block)
	for _, b := range [][]byte{salt, password} {
		for n := (len(b) + block - 1) / block * block; n > 0; n -= min(n, len(b)) {
			input = append(input, b[:min(n, len(b))]...)
		}
	}
	for range max(iterations, 1) {
		h := hash.New()
		h.Write(input)
		input = h.Sum(nil)
	}
	mac := hmac.New(hash.New, input)
	mac.Write(content)
	return mac.Sum(nil)
}

// write returns the file with its parts in their order, and a MAC that says so.
func (f *pfx) write(password []byte) ([]byte, error) {
	safe, err := asn1.Marshal(f.parts)
	if err != nil {
		return nil, errNotPFX
	}
	content, err := asn1.Marshal(safe)
	if err != nil {
		return nil, errNotPFX
	}
	salt := []byte("latchkey")
	m := macData{Salt: salt, Iterations: 1}
	m.MAC.Algorithm = pkix.AlgorithmIdentifier{Algorithm: oidSHA1, Parameters: asn1.NullRawValue}
	m.MAC.Digest = macOf(crypto.SHA1, safe, password, salt, 1)
	out, err := asn1.Marshal(struct {
		Version int
		Safe    contentInfo
		MAC     macData
	}{3, contentInfo{oidData, asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 0, IsCompound: true, Bytes: content}}, m})
	if err != nil {
		return nil, errNotPFX
	}
	return out, nil
}

package certs

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"slices"

	"software.sslmate.com/src/go-pkcs12"

	"latchkey.dev/latchkey"
)

// A Bundle is a certificate with its private key and the certificates of those
// who issued it. Chain is in the order in which it was given.
type Bundle struct {
	Key   crypto.Signer // nil: it must not leave the vault
	Leaf  *x509.Certificate
	Chain []*x509.Certificate
}

// What a PFX may ask for.
const (
	maxIterations = 1_000_000 // hashes for each key that is derived from the password
	maxDepth      = 20        // of values inside each other
)

// ErrPassword is the error of ParsePFX for a wrong password.
var ErrPassword = errors.New("the password is wrong")

// ParsePFX reads a PFX (PKCS #12) in DER with one private key and its
// certificate. Of the work that its parts ask for it looks at all that is in the
// open; the caller bounds the time.
func ParsePFX(der []byte, password string) (Bundle, error) {
	if err := checkWork(der); err != nil {
		return Bundle{}, err
	}
	key, first, others, err := pkcs12.DecodeChain(der, password)
	switch {
	case errors.Is(err, pkcs12.ErrIncorrectPassword) || errors.Is(err, pkcs12.ErrDecryption):
		return Bundle{}, ErrPassword
	case err != nil:
		// The library's texts say what is wrong and hold no content.
		return Bundle{}, errors.New("is not a PFX with one private key and its certificate")
	}
	return bundle(key, append([]*x509.Certificate{first}, others...))
}

// ParsePEM reads certificates and one private key, as PKCS #8, in any order.
func ParsePEM(text string) (Bundle, error) {
	var key any
	var certificates []*x509.Certificate
	for rest := []byte(text); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		switch block.Type {
		case "CERTIFICATE":
			c, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				return Bundle{}, errors.New("has a certificate that cannot be read")
			}
			certificates = append(certificates, c)
		case "PRIVATE KEY":
			k, err := x509.ParsePKCS8PrivateKey(block.Bytes)
			if err != nil || key != nil {
				return Bundle{}, errors.New("must have one private key, which can be read as PKCS #8")
			}
			key = k
		case "RSA PRIVATE KEY", "EC PRIVATE KEY", "ENCRYPTED PRIVATE KEY":
			return Bundle{}, errors.New("must have its private key as PKCS #8, not encrypted (openssl pkcs8 -topk8 -nocrypt)")
		}
	}
	if key == nil {
		return Bundle{}, errors.New("must contain the private key")
	}
	return bundle(key, certificates)
}

// bundle puts a key and its certificate together.
func bundle(key any, certificates []*x509.Certificate) (Bundle, error) {
	if len(certificates) > latchkey.MaxCertificates {
		return Bundle{}, errors.New("has too many certificates")
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return Bundle{}, errors.New("has a private key of a kind that is not supported: it must be RSA or EC")
	}
	if err := checkKey(signer.Public()); err != nil {
		return Bundle{}, err
	}
	i := slices.IndexFunc(certificates, func(c *x509.Certificate) bool { return SameKey(c.PublicKey, signer.Public()) })
	if i < 0 {
		return Bundle{}, errors.New("has no certificate that belongs to the private key")
	}
	return Bundle{signer, certificates[i], slices.Delete(slices.Clone(certificates), i, i+1)}, nil
}

// checkKey refuses keys that vaults do not keep.
func checkKey(key crypto.PublicKey) error {
	switch key := key.(type) {
	case *rsa.PublicKey:
		if n := key.N.BitLen(); n != 2048 && n != 3072 && n != 4096 {
			return errors.New("has an RSA key of a size that is not supported: it must be 2048, 3072 or 4096 bits")
		}
		return nil
	case *ecdsa.PublicKey:
		if _, ok := curves[key.Curve.Params().Name]; ok {
			return nil
		}
	}
	return errors.New("has a private key of a kind that is not supported: it must be RSA, or EC on P-256, P-384 or P-521")
}

// iterations is what Key Vault's own PFX have.
const iterations = 2000

// PFX returns the bundle as a PFX with an empty password, in the form that the
// service makes: it protects nothing and everything reads it.
func (b Bundle) PFX() ([]byte, error) {
	encoder := pkcs12.LegacyDES.WithIterations(iterations)
	if b.Key == nil {
		return encoder.EncodeTrustStore(append([]*x509.Certificate{b.Leaf}, b.Chain...), "")
	}
	return encoder.Encode(b.Key, b.Leaf, b.Chain, "")
}

// PEM returns the bundle as PEM: the key, the certificate, the others.
func (b Bundle) PEM() (string, error) {
	var out bytes.Buffer
	if b.Key != nil {
		der, err := x509.MarshalPKCS8PrivateKey(b.Key)
		if err != nil {
			return "", err
		}
		if err := pem.Encode(&out, &pem.Block{Type: "PRIVATE KEY", Bytes: der}); err != nil {
			return "", err
		}
	}
	for _, c := range append([]*x509.Certificate{b.Leaf}, b.Chain...) {
		if err := pem.Encode(&out, &pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}); err != nil {
			return "", err
		}
	}
	return out.String(), nil
}

// OpenPFX reads what PFX returned, with and without a key.
func OpenPFX(der []byte) (Bundle, error) {
	if b, err := ParsePFX(der, ""); err == nil {
		return b, nil
	}
	certificates, err := pkcs12.DecodeTrustStore(der, "")
	if err != nil || len(certificates) == 0 {
		return Bundle{}, errors.New("is not a PFX of a vault")
	}
	return Bundle{Leaf: certificates[0], Chain: certificates[1:]}, nil
}

var (
	oidData         = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 1}
	oidEncrypted    = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 6}
	oidShroudedKey  = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 12, 10, 1, 2}
	errTooMuchWork  = errors.New("asks for too much work to open it: make it again with fewer iterations")
	errNotPFX       = errors.New("is not a PFX with one private key and its certificate")
	pfxContentParts = 2 // that package pkcs12 reads
)

// contentInfo is a part of a PFX (RFC 7292, section 4).
type contentInfo struct {
	Type    asn1.ObjectIdentifier
	Content asn1.RawValue `asn1:"tag:0,explicit,optional"`
}

// checkWork refuses a PFX whose parameters ask for more hashes than any program
// writes: nothing else bounds them. What is encrypted itself is not looked at.
func checkWork(der []byte) error {
	var pfx struct {
		Version int
		Safe    contentInfo
		MAC     asn1.RawValue `asn1:"optional"`
	}
	if rest, err := asn1.Unmarshal(der, &pfx); err != nil || len(rest) > 0 {
		return errNotPFX
	}
	if err := checkNumbers(pfx.MAC.FullBytes, 0); err != nil {
		return err
	}
	var safe []byte
	var parts []contentInfo
	if _, err := asn1.Unmarshal(pfx.Safe.Content.Bytes, &safe); err != nil || !pfx.Safe.Type.Equal(oidData) {
		return errNotPFX
	}
	if _, err := asn1.Unmarshal(safe, &parts); err != nil || len(parts) > pfxContentParts {
		return errNotPFX
	}
	for _, p := range parts {
		switch {
		case p.Type.Equal(oidData):
			if err := checkBags(p.Content.Bytes); err != nil {
				return err
			}
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
				return errNotPFX
			}
			if err := checkNumbers(data.Content.Algorithm.FullBytes, 0); err != nil {
				return err
			}
		}
	}
	return nil
}

// checkBags is checkWork for a part that is not encrypted.
func checkBags(der []byte) error {
	var content []byte
	var bags []struct {
		Type       asn1.ObjectIdentifier
		Value      asn1.RawValue   `asn1:"tag:0,explicit"`
		Attributes []asn1.RawValue `asn1:"set,optional"`
	}
	if _, err := asn1.Unmarshal(der, &content); err != nil {
		return errNotPFX
	}
	if _, err := asn1.Unmarshal(content, &bags); err != nil {
		return errNotPFX
	}
	for _, b := range bags {
		if !b.Type.Equal(oidShroudedKey) {
			continue
		}
		var key struct {
			Algorithm asn1.RawValue
			Data      []byte
		}
		if _, err := asn1.Unmarshal(b.Value.Bytes, &key); err != nil {
			return errNotPFX
		}
		if err := checkNumbers(key.Algorithm.FullBytes, 0); err != nil {
			return err
		}
	}
	return nil
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
			if _, err := asn1.Unmarshal(v.FullBytes, &n); err != nil || n > maxIterations {
				return errTooMuchWork
			}
		}
	}
	return nil
}

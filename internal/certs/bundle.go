package certs

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
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
// certificate.
func ParsePFX(der []byte, password string) (Bundle, error) {
	key, certificates, err := Open(der, password)
	if err != nil {
		return Bundle{}, err
	}
	return bundle(key, certificates)
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

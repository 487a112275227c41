package certauth

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"

	"latchkey.dev/internal/certs"
	"latchkey.dev/latchkey"
)

// A Certificate is what a PFX holds: a certificate with its key, and the
// certificates of those who issued it.
type Certificate struct {
	Leaf  *x509.Certificate
	Chain []*x509.Certificate // others than Leaf, in the file's order
	PFX   latchkey.Secret     // the file, DER

	key crypto.Signer
}

// An Error is why a secret is not a certificate that can be used. It never
// repeats anything of the secret.
type Error struct {
	Msg    string
	Remedy string
}

func (e *Error) Error() string { return e.Msg }

// Parse reads the value of a Key Vault certificate's secret: a PFX without a
// password, in base64. Its errors are of type *Error.
func Parse(value latchkey.Secret) (*Certificate, error) {
	text := strings.TrimSpace(value.Reveal())
	switch {
	case len(text) > latchkey.MaxSecretBytes:
		return nil, &Error{"the secret is too large to be a certificate's", remedyReference}
	case strings.Contains(text, "-----BEGIN"):
		return nil, &Error{
			"the certificate is kept as PEM; signing in with a certificate takes a PFX (PKCS #12) file, as it does in Power Automate",
			"make or import the certificate with the content type application/x-pkcs12",
		}
	}
	der, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil, &Error{"the secret is not that of a certificate: it is not a PFX file in base64", remedyReference}
	}
	return Decode(der)
}

const remedyReference = "have the variable refer to the secret of a Key Vault certificate, which has the certificate's name"

// Decode reads a PFX file without a password. Its errors are of type *Error.
func Decode(pfx []byte) (*Certificate, error) {
	if len(pfx) > latchkey.MaxSecretBytes {
		return nil, &Error{"the PFX file is too large", remedyReference}
	}
	key, all, err := certs.Open(pfx, "")
	switch {
	case errors.Is(err, certs.ErrWork):
		return nil, &Error{"opening the PFX file would take too many rounds of its key derivation", "export it anew with fewer iterations"}
	case errors.Is(err, certs.ErrPassword):
		return nil, &Error{"the PFX file has a password, or is damaged", "import it into the vault as a certificate, which takes the password away"}
	case errors.Is(err, certs.ErrUnknown):
		return nil, &Error{"the PFX file is encrypted in a way that is not known here", "export it anew, for instance with openssl pkcs12 -export"}
	case errors.Is(err, certs.ErrNoKey):
		return nil, &Error{
			"the PFX file has no private key: Key Vault hands none out of a certificate whose key is not exportable",
			"make a new version of the certificate with an exportable key",
		}
	case err != nil:
		return nil, &Error{"the secret is not that of a certificate: it is not a PFX file with a certificate and one private key", remedyReference}
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, &Error{"the private key in the PFX file is of a kind that cannot sign", "use an RSA key of 2048 bits or more, or one on the curve P-256, P-384 or P-521"}
	}
	c := &Certificate{PFX: latchkey.NewSecret(string(pfx)), key: signer}
	public, ok := signer.Public().(interface{ Equal(crypto.PublicKey) bool })
	for _, cert := range all {
		if ok && c.Leaf == nil && public.Equal(cert.PublicKey) {
			c.Leaf = cert
		} else {
			c.Chain = append(c.Chain, cert)
		}
	}
	if c.Leaf == nil {
		return nil, &Error{"the private key in the PFX file belongs to none of its certificates", "import certificate and key together"}
	}
	return c, nil
}

// PEM returns the certificate with its chain, and its key (PKCS #8), as PEM.
func (c *Certificate) PEM() (chain []byte, key latchkey.Secret, err error) {
	for _, cert := range append([]*x509.Certificate{c.Leaf}, c.path()...) {
		chain = append(chain, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})...)
	}
	der, err := x509.MarshalPKCS8PrivateKey(c.key)
	if err != nil {
		return nil, key, fmt.Errorf("encode the private key of a certificate: %w", err)
	}
	defer clear(der)
	return chain, latchkey.NewSecret(string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))), nil
}

// path returns the issuers of the leaf that the file has, each signed by the next: up
// to a root if the file has such a path, and else the longest that was found.
func (c *Certificate) path() []*x509.Certificate {
	var best, at []*x509.Certificate
	seen := make([]bool, len(c.Chain)) // so that each is followed once
	var follow func(*x509.Certificate) bool
	follow = func(from *x509.Certificate) bool {
		if len(at) > len(best) {
			best = slices.Clone(at)
		}
		if selfSigned(from) {
			best = slices.Clone(at)
			return true
		}
		for i, cert := range c.Chain {
			if seen[i] || !names(from, cert) || link(from, cert) != nil {
				continue
			}
			seen[i] = true
			at = append(at, cert)
			if follow(cert) {
				return true
			}
			at = at[:len(at)-1]
		}
		return false
	}
	follow(c.Leaf)
	return best
}

// names reports whether a certificate names another one as its issuer.
func names(of, issuer *x509.Certificate) bool { return bytes.Equal(of.RawIssuer, issuer.RawSubject) }

// link returns why a certificate is not one that another one has issued, or nil. That
// an algorithm is broken is no reason: [Certificate.Examine] says it as such.
func link(of, issuer *x509.Certificate) error {
	err := of.CheckSignatureFrom(issuer)
	if insecure(err) {
		err = issuer.CheckSignature(of.SignatureAlgorithm, of.RawTBSCertificate, of.Signature) // takes SHA-1
	}
	if insecure(err) {
		return nil // MD5, which package x509 does not compute
	}
	return err
}

func insecure(err error) bool {
	_, ok := errors.AsType[x509.InsecureAlgorithmError](err)
	return ok
}

// selfSigned reports whether a certificate names and proves itself as its issuer.
// CheckSignatureFrom would ask that it be an authority, which one made for a
// single use is not. Nobody relies on that signature, so one by MD5, which package
// x509 does not compute, counts.
func selfSigned(c *x509.Certificate) bool {
	if !names(c, c) {
		return false
	}
	err := c.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature)
	return err == nil || insecure(err)
}

package certauth

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
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

// path returns the issuers of the leaf that the file has, each signed by the next.
func (c *Certificate) path() (path []*x509.Certificate) {
	at := c.Leaf
	for range c.Chain {
		next := c.issuer(at)
		if next == nil {
			break
		}
		path = append(path, next)
		at = next
	}
	return path
}

// issuer returns the certificate in the file by which another one was signed, or
// nil when there is none, and of one that is signed by itself.
func (c *Certificate) issuer(of *x509.Certificate) *x509.Certificate {
	if selfSigned(of) {
		return nil
	}
	for _, cert := range c.Chain {
		if bytes.Equal(cert.RawSubject, of.RawIssuer) && of.CheckSignatureFrom(cert) == nil {
			return cert
		}
	}
	return nil
}

// selfSigned reports whether a certificate names and proves itself as its issuer.
// CheckSignatureFrom would ask that it be an authority, which one made for a
// single use is not.
func selfSigned(c *x509.Certificate) bool {
	return bytes.Equal(c.RawSubject, c.RawIssuer) && c.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature) == nil
}

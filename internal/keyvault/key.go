package keyvault

import (
	"context"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"math/big"
	"net/http"

	"latchkey.dev/internal/broker"
	"latchkey.dev/latchkey"
)

// keys answers requests below /keys and /deletedkeys. The keys are those of
// certificates: they can be looked at, and come and go with these.
func (c *call) keys(ctx context.Context, deleted bool) (any, error) {
	p := c.path
	if c.method != http.MethodGet {
		return nil, forbidden("KeyOperationForbidden", "Embedded vaults keep the keys of certificates only, and these can only be read. Do it with the certificate of the same name.")
	}
	if p.name == "" {
		o, err := c.page()
		if err != nil {
			return nil, err
		}
		list, err := c.broker.Certificates(ctx, c.who, c.vault, broker.CertificateList{Keys: true, Deleted: deleted}, o)
		return c.keyList(list, o, false), err
	}
	if latchkey.CheckSecretName(p.name) != nil {
		return nil, badName(p.name)
	}
	switch {
	case p.more != "" || deleted && p.rest != "":
		return nil, noSuchPath()
	case p.is("versions"):
		return c.certificateVersions(ctx, true)
	}
	if err := c.wantVersion(); err != nil {
		return nil, err
	}
	cert, err := c.broker.Key(ctx, c.who, c.vault, p.name, c.path.rest, deleted)
	if err != nil {
		return nil, err
	}
	return c.key(cert)
}

// jwk is a public key (RFC 7517) with the names of Key Vault. Numbers are big
// endian, in base64url.
type jwk struct {
	ID         string   `json:"kid"`
	Type       string   `json:"kty"`
	Operations []string `json:"key_ops"`
	N          string   `json:"n,omitempty"`
	E          string   `json:"e,omitempty"`
	Curve      string   `json:"crv,omitempty"`
	X          string   `json:"x,omitempty"`
	Y          string   `json:"y,omitempty"`
}

type keyBundle struct {
	deletion
	Key        jwk               `json:"key"`
	Attributes attributes        `json:"attributes"`
	Tags       map[string]string `json:"tags,omitempty"`
	Managed    bool              `json:"managed"`
}

type keyItem struct {
	deletion
	ID         string            `json:"kid"`
	Attributes attributes        `json:"attributes"`
	Tags       map[string]string `json:"tags,omitempty"`
	Managed    bool              `json:"managed"`
}

func (c *call) keyItem(cert latchkey.VaultCertificate, versioned bool) keyItem {
	i := keyItem{ID: c.base() + "/keys/" + cert.Name, Attributes: certificateAttributes(cert), Tags: cert.Tags, Managed: true}
	if versioned {
		i.ID += "/" + cert.Version
	}
	i.deletion = c.deletion("deletedkeys", cert.Name, cert.DeletedAt, cert.PurgeAt)
	return i
}

func (c *call) keyList(p latchkey.Page[latchkey.VaultCertificate], o latchkey.PageOptions, versioned bool) list[keyItem] {
	l := list[keyItem]{Value: make([]keyItem, 0, len(p.Items)), NextLink: c.next(p.Next, o)}
	for _, cert := range p.Items {
		l.Value = append(l.Value, c.keyItem(cert, versioned))
	}
	return l
}

// key returns the public key of a certificate for the wire.
func (c *call) key(cert latchkey.VaultCertificate) (keyBundle, error) {
	i := c.keyItem(cert, true)
	b := keyBundle{i.deletion, jwk{ID: i.ID}, i.Attributes, i.Tags, true}
	parsed, err := x509.ParseCertificate(cert.Leaf)
	if err != nil {
		return b, fmt.Errorf("read certificate %s: %w", cert.Name, err)
	}
	number := func(n *big.Int, size int) string {
		return base64.RawURLEncoding.EncodeToString(n.FillBytes(make([]byte, size)))
	}
	switch key := parsed.PublicKey.(type) {
	case *rsa.PublicKey:
		b.Key.Type, b.Key.Operations = "RSA", []string{"encrypt", "decrypt", "sign", "verify", "wrapKey", "unwrapKey"}
		e := big.NewInt(int64(key.E))
		b.Key.N, b.Key.E = number(key.N, key.Size()), number(e, (e.BitLen()+7)/8)
	case *ecdsa.PublicKey:
		size := (key.Curve.Params().BitSize + 7) / 8
		point, err := key.Bytes() // uncompressed: 4, x, y
		if err != nil {
			return b, fmt.Errorf("read the key of certificate %s: %w", cert.Name, err)
		}
		b.Key.Type, b.Key.Operations, b.Key.Curve = "EC", []string{"sign", "verify"}, key.Curve.Params().Name
		b.Key.X, b.Key.Y = base64.RawURLEncoding.EncodeToString(point[1:1+size]), base64.RawURLEncoding.EncodeToString(point[1+size:])
	}
	return b, nil
}

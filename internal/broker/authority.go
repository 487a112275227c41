package broker

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"time"

	"latchkey.dev/internal/db"
)

// Lifetimes of the certificates of the embedded vaults' address.
const (
	authorityYears = 10
	serverCertTTL  = 90 * 24 * time.Hour
	backdate       = time.Hour // for clients whose clock is behind
)

const sealedAuthority = "vault-ca"

// An authority is the installation's certification authority. It signs nothing
// but the certificate of the embedded vaults' address.
type authority struct {
	pem  []byte // certificate
	cert *x509.Certificate
	key  crypto.Signer
}

// loadAuthority returns the authority, which is made at the first start. Key
// and certificate are stored together, sealed.
func (b *Broker) loadAuthority(tx *db.Tx) (*authority, error) {
	both, err := b.sealedSetting(tx, sealedAuthority, func() ([]byte, error) { return newAuthority(tx.Now) })
	if err != nil {
		return nil, err
	}
	keyBlock, rest := pem.Decode(both)
	certBlock, _ := pem.Decode(rest)
	if keyBlock == nil || certBlock == nil {
		return nil, errors.New("the stored certification authority is not a key and a certificate")
	}
	key, err := x509.ParsePKCS8PrivateKey(keyBlock.Bytes)
	if err != nil {
		return nil, fmt.Errorf("read the certification authority's key: %w", err)
	}
	cert, err := x509.ParseCertificate(certBlock.Bytes)
	if err != nil {
		return nil, fmt.Errorf("read the certification authority's certificate: %w", err)
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, errors.New("the certification authority's key cannot sign")
	}
	return &authority{pem.EncodeToMemory(certBlock), cert, signer}, nil
}

func newAuthority(now time.Time) ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: "Latchkey embedded vaults CA", Organization: []string{"Latchkey"}},
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.AddDate(authorityYears, 0, 0),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	for _, block := range []*pem.Block{{Type: "PRIVATE KEY", Bytes: keyDER}, {Type: "CERTIFICATE", Bytes: der}} {
		if err := pem.Encode(&out, block); err != nil {
			return nil, err
		}
	}
	return out.Bytes(), nil
}

// newSerial returns a random serial number of 127 bits, so that it is positive
// and fits the 20 bytes of RFC 5280, section 4.1.2.2.
func newSerial() (*big.Int, error) {
	return rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
}

// Authority returns the certificate, in PEM, that vouches for the embedded
// vaults' address.
func (b *Broker) Authority() []byte { return bytes.Clone(b.ca.pem) }

// ServerCertificate returns a new certificate for the given host names and IP
// addresses, with its key in memory only. It is good for 90 days.
func (b *Broker) ServerCertificate(hosts []string, now time.Time) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	serial, err := newSerial()
	if err != nil {
		return tls.Certificate{}, err
	}
	template := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: "Latchkey embedded vaults"},
		NotBefore:    now.Add(-backdate),
		NotAfter:     now.Add(serverCertTTL),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, host := range hosts {
		if ip := net.ParseIP(host); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, host)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, b.ca.cert, key.Public(), b.ca.key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("make the certificate of the vaults' address: %w", err)
	}
	leaf, err := x509.ParseCertificate(der)
	return tls.Certificate{Certificate: [][]byte{der, b.ca.cert.Raw}, PrivateKey: key, Leaf: leaf}, err
}

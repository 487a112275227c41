package main

import (
	"crypto/tls"
	"sync"
	"time"
)

// renewBefore is how long before its end the certificate of the embedded vaults
// is replaced.
const renewBefore = 24 * time.Hour

// certificates hand out the certificate of the embedded vaults, and a new one
// in time before it ends.
type certificates struct {
	make func(now time.Time) (tls.Certificate, error)
	now  func() time.Time

	mu   sync.Mutex // guards cert
	cert *tls.Certificate
}

func (s *service) newCertificates() *certificates {
	hosts := []string{"*." + s.config.VaultDomain, s.config.VaultDomain}
	return &certificates{
		make: func(now time.Time) (tls.Certificate, error) { return s.broker.ServerCertificate(hosts, now) },
		now:  time.Now,
	}
}

// get is for tls.Config.GetCertificate.
func (c *certificates) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now()
	if c.cert != nil && c.cert.Leaf != nil && now.Add(renewBefore).Before(c.cert.Leaf.NotAfter) {
		return c.cert, nil
	}
	cert, err := c.make(now)
	if err != nil {
		return nil, err
	}
	c.cert = &cert
	return c.cert, nil
}

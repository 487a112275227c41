package main

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
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

// lookInterval is how often it is seen whether the certificate's files changed.
const lookInterval = 10 * time.Second

// certificateFiles hand out the certificate of the main address. They are read
// anew when they change, so that a renewal needs no restart; while they cannot be
// read, as in the middle of a renewal, the certificate before stays.
type certificateFiles struct {
	cert, key string // paths
	log       *slog.Logger
	now       func() time.Time
	loaded    func(*tls.Certificate) error // is told of each one

	mu      sync.Mutex       // guards what follows
	current *tls.Certificate // nil before the first
	changed [2]time.Time     // when the files were, as far as they were looked at
	looked  time.Time
}

// get is for tls.Config.GetCertificate.
func (c *certificateFiles) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now()
	if c.current != nil && now.Sub(c.looked).Abs() < lookInterval {
		return c.current, nil
	}
	c.looked = now
	changed := [2]time.Time{changedAt(c.cert), changedAt(c.key)}
	if c.current != nil && changed == c.changed {
		return c.current, nil
	}
	cert, err := tls.LoadX509KeyPair(c.cert, c.key)
	if err == nil {
		err = c.loaded(&cert)
	}
	switch {
	case err == nil:
		if c.current != nil {
			c.log.Info("read the certificate anew", slog.String("file", c.cert))
		}
		c.current = &cert
	case c.current == nil:
		return nil, fmt.Errorf("load certificate %s: %w", c.cert, err)
	default:
		c.log.Warn("certificate not read anew; the one before stays", slog.String("file", c.cert), slog.Any("error", err))
	}
	c.changed = changed
	return c.current, nil
}

// changedAt returns when a file was changed, or the zero time.
func changedAt(path string) time.Time {
	info, err := os.Stat(path)
	if err != nil {
		return time.Time{}
	}
	return info.ModTime()
}

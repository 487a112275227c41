package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// writeCertificate writes a new certificate with a serial number, changed at a
// time.
func writeCertificate(t *testing.T, certPath, keyPath string, serial int64, at time.Time) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(serial), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for path, block := range map[string]*pem.Block{certPath: {Type: "CERTIFICATE", Bytes: der}, keyPath: {Type: "PRIVATE KEY", Bytes: secret}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, at, at); err != nil {
			t.Fatal(err)
		}
	}
}

func TestCertificateFiles(t *testing.T) {
	dir := t.TempDir()
	certPath, keyPath := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	now := time.Date(2026, 11, 23, 8, 0, 0, 0, time.UTC)
	var log bytes.Buffer
	var told []int64
	files := &certificateFiles{
		cert: certPath, key: keyPath, log: slog.New(slog.NewTextHandler(&log, nil)), now: func() time.Time { return now },
		loaded: func(c *tls.Certificate) error { told = append(told, c.Leaf.SerialNumber.Int64()); return nil },
	}
	serial := func() int64 {
		t.Helper()
		c, err := files.get(nil)
		if err != nil {
			t.Fatal(err)
		}
		return c.Leaf.SerialNumber.Int64()
	}
	if _, err := files.get(nil); err == nil {
		t.Error("a certificate that is not there was loaded")
	}
	writeCertificate(t, certPath, keyPath, 1, now)
	if got := serial(); got != 1 {
		t.Errorf("serial = %d; want 1", got)
	}

	writeCertificate(t, certPath, keyPath, 2, now.Add(time.Second))
	if got := serial(); got != 1 {
		t.Errorf("serial before the files are looked at again = %d; want 1", got)
	}
	now = now.Add(lookInterval)
	if got := serial(); got != 2 {
		t.Errorf("serial after the renewal = %d; want 2", got)
	}

	// In the middle of a renewal the two do not fit.
	now = now.Add(lookInterval)
	other := t.TempDir()
	writeCertificate(t, certPath, filepath.Join(other, "key.pem"), 3, now)
	for range 2 {
		if got := serial(); got != 2 {
			t.Errorf("serial in the middle of a renewal = %d; want 2", got)
		}
		now = now.Add(lookInterval)
	}
	if n := strings.Count(log.String(), "not read anew"); n != 1 {
		t.Errorf("log has %d warnings; want 1:\n%s", n, &log)
	}
	writeCertificate(t, certPath, keyPath, 4, now)
	now = now.Add(lookInterval)
	if got := serial(); got != 4 {
		t.Errorf("serial after the end of the renewal = %d; want 4", got)
	}
	if len(told) != 3 {
		t.Errorf("told of %v; want 1, 2 and 4", told)
	}
}

// TestCertificateOfSecret renews a certificate as Kubernetes renews a mounted
// secret: the files are links through a link to a folder, and that link is what
// changes.
func TestCertificateOfSecret(t *testing.T) {
	dir := t.TempDir()
	now := time.Date(2026, 11, 23, 8, 0, 0, 0, time.UTC)
	mount := func(folder string, serial int64) {
		t.Helper()
		if err := os.Mkdir(filepath.Join(dir, folder), 0o755); err != nil {
			t.Fatal(err)
		}
		writeCertificate(t, filepath.Join(dir, folder, "tls.crt"), filepath.Join(dir, folder, "tls.key"), serial, now)
		if err := os.Symlink(folder, filepath.Join(dir, "..data_tmp")); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")); err != nil {
			t.Fatal(err)
		}
	}
	mount("..2026_11_23_1", 1)
	for _, name := range []string{"tls.crt", "tls.key"} {
		if err := os.Symlink(filepath.Join("..data", name), filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	files := &certificateFiles{
		cert: filepath.Join(dir, "tls.crt"), key: filepath.Join(dir, "tls.key"), log: slog.New(slog.DiscardHandler),
		now: func() time.Time { return now }, loaded: func(*tls.Certificate) error { return nil },
	}
	for serial := int64(1); serial <= 2; serial++ {
		c, err := files.get(nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := c.Leaf.SerialNumber.Int64(); got != serial {
			t.Errorf("serial = %d; want %d", got, serial)
		}
		now = now.Add(lookInterval)
		if serial == 1 {
			mount("..2026_11_23_2", 2)
			if err := os.RemoveAll(filepath.Join(dir, "..2026_11_23_1")); err != nil {
				t.Fatal(err)
			}
		}
	}
}

//go:build linux

package soak

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"path"
	"slices"
	"sync"
	"time"

	"latchkey.dev/client"
	"latchkey.dev/latchkey"
)

// A secret is one of the embedded vault, with what it was set to.
type secret struct {
	name       string
	credential latchkey.CredentialID
	fixed      bool // it stays the password of an account

	mu     sync.Mutex
	values []value // in the order in which they were set; guarded by mu
}

// A value is one that a secret was set to. The same may have made several
// versions of the secret: it is set until that is acknowledged.
type value struct {
	text, digest string
	version      string    // acknowledged
	acknowledged time.Time // zero while it is not
}

// secret returns the secret with a name.
func (w *world) secret(name string) *secret {
	return w.secrets[slices.IndexFunc(w.secrets, func(s *secret) bool { return s.name == name })]
}

// index returns which value of s has a digest, or -1.
func (s *secret) index(digest string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.IndexFunc(s.values, func(v value) bool { return v.digest == digest })
}

// newest returns which value was the newest to be acknowledged before a time.
func (s *secret) newest(before time.Time) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, v := range s.values {
		if !v.acknowledged.IsZero() && v.acknowledged.Before(before) {
			n = i
		}
	}
	return n
}

// A vaultFace is how the embedded vault is reached on each server.
type vaultFace struct {
	at []struct {
		base string
		http *http.Client
	}

	mu      sync.Mutex // guards what follows
	token   client.VaultToken
	got     time.Time // the token
	rekeyed time.Time // when the master key was changed last; in the future while it is
}

// keyGrace is how long after the master key was changed a server may not know it.
const keyGrace = 5 * time.Second

// rekey notes that the master key is being changed, until the returned function is
// called.
func (f *vaultFace) rekey() (end func()) {
	note := func(at time.Time) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.rekeyed = at
	}
	note(time.Now().Add(time.Hour))
	return func() { note(time.Now().Add(keyGrace)) }
}

// forget forgets the token, which was refused, and reports whether that may be
// since it was signed with a master key that its server does not have: another
// server has taken a new one up already, or the old one is retired.
func (f *vaultFace) forget() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.token = client.VaultToken{}
	return f.got.Before(f.rekeyed)
}

func (f *vaultFace) init(w *world) {
	w.t.Helper()
	for _, api := range w.api {
		c, err := api.VaultConnection(w.t.Context())
		w.must(err)
		roots := x509.NewCertPool()
		if !roots.AppendCertsFromPEM([]byte(c.CAPEM)) {
			w.t.Fatal("no authority")
		}
		transport := &http.Transport{
			TLSClientConfig: &tls.Config{RootCAs: roots},
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, "tcp", c.Address)
			},
		}
		w.t.Cleanup(transport.CloseIdleConnections)
		f.at = append(f.at, struct {
			base string
			http *http.Client
		}{"https://" + vaultName + "." + c.Domain, &http.Client{Transport: transport}})
	}
}

// bearer returns a token for the vault.
func (w *world) bearer(ctx context.Context) (string, error) {
	w.vault.mu.Lock()
	defer w.vault.mu.Unlock()
	if time.Until(w.vault.token.ExpiresAt) < time.Minute {
		t, err := w.anyServer().VaultToken(ctx)
		if err != nil {
			return "", err
		}
		w.vault.token, w.vault.got = t, time.Now()
	}
	return w.vault.token.Token, nil
}

// A bundle is a secret as Key Vault answers it.
type bundle struct{ ID, Value string }

// ask makes a request to the vault's face of a server, with another token when the
// one that it had is over.
func (w *world) ask(ctx context.Context, server int, method, target string, body any) (b bundle, status int, err error) {
	ctx, cancel := context.WithTimeout(ctx, requestLimit)
	defer cancel()
	for {
		if b, status, err = w.askOnce(ctx, server, method, target, body); status != http.StatusUnauthorized || !w.vault.forget() {
			return b, status, err
		}
		time.Sleep(100 * time.Millisecond)
	}
}

func (w *world) askOnce(ctx context.Context, server int, method, target string, body any) (b bundle, status int, err error) {
	token, err := w.bearer(ctx)
	if err != nil {
		return b, 0, err
	}
	text, err := json.Marshal(body)
	if err != nil {
		return b, 0, err
	}
	at := w.vault.at[server]
	req, err := http.NewRequestWithContext(ctx, method, at.base+target+"?api-version=7.4", bytes.NewReader(text))
	if err != nil {
		return b, 0, err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Content-Type", "application/json")
	resp, err := at.http.Do(req)
	if err != nil {
		return b, 0, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return b, 0, err
	}
	if resp.StatusCode != http.StatusOK {
		return b, resp.StatusCode, fmt.Errorf("%s %s: %d %s", method, target, resp.StatusCode, answer)
	}
	return b, resp.StatusCode, json.Unmarshal(answer, &b)
}

// set gives a secret its next value and returns when that is acknowledged. No
// value follows one of which it is not known whether it counts.
func (w *world) set(ctx context.Context, s *secret) error {
	s.mu.Lock()
	n := len(s.values)
	text := fmt.Sprintf("%s-%d-%s", w.mark, n, rand.Text())
	s.values = append(s.values, value{text: text, digest: fmt.Sprintf("%x", sha256.Sum256([]byte(text)))})
	s.mu.Unlock()
	for {
		from := time.Now()
		b, status, err := w.ask(ctx, mathrand.IntN(len(w.api)), http.MethodPut, "/secrets/"+s.name, map[string]string{"value": text})
		if err == nil {
			s.mu.Lock()
			s.values[n].version, s.values[n].acknowledged = path.Base(b.ID), time.Now()
			s.mu.Unlock()
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if status != 0 && !w.excused(from, time.Now()) {
			return err
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// rotate gives the secrets new values until stop is closed.
func (w *world) rotate(stop <-chan struct{}) {
	ctx, cancel := context.WithCancel(w.t.Context())
	defer cancel()
	for {
		select {
		case <-stop:
			return
		case <-time.After(500*time.Millisecond + mathrand.N(2*time.Second)):
		}
		s := w.secrets[mathrand.IntN(len(w.secrets))]
		if s.fixed {
			continue
		}
		if err := w.set(ctx, s); err != nil {
			w.fault("set a secret: %v", err)
			return
		}
	}
}

// checkVault looks whether every version that was acknowledged can be read and
// has its value.
func (w *world) checkVault() {
	for _, s := range w.secrets {
		s.mu.Lock()
		values := slices.Clone(s.values)
		s.mu.Unlock()
		for i, v := range values {
			target := "/secrets/" + s.name + "/" + v.version
			b, _, err := w.ask(w.t.Context(), i%len(w.api), http.MethodGet, target, nil)
			if err != nil || b.Value != v.text {
				w.fault("version %d of the secret %s was set and acknowledged; reading it: right value %v, %v", i, s.name, b.Value == v.text, err)
			}
		}
		b, _, err := w.ask(w.t.Context(), 0, http.MethodGet, "/secrets/"+s.name, nil)
		if last := values[len(values)-1]; err != nil || b.Value != last.text {
			w.fault("the secret %s does not have the value that it was given last: %v", s.name, err)
		}
	}
}

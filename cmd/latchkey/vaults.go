package main

import (
	"errors"
	"net/http"

	"latchkey.dev/internal/vault"
	"latchkey.dev/latchkey"
)

type readers struct{}

func newReaders(serverConfig) *readers { return &readers{} }

func (r *readers) open(latchkey.VaultReference, bool) (vault.Vault, error) {
	return nil, errors.ErrUnsupported
}

func (r *readers) serve(*service) (http.Handler, error) { return http.NotFoundHandler(), nil }

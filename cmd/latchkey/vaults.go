package main

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"time"

	"latchkey.dev/internal/vault"
	"latchkey.dev/internal/vault/azure"
	"latchkey.dev/latchkey"
)

// maxReaders bounds how many vaults' readers are kept.
const maxReaders = 1000

// readers open the vaults that references name: the one place that knows every
// kind of vault. Embedded vaults are read through the same SDK as Azure's, in
// this process.
type readers struct {
	azure *azure.Access

	// Of the embedded vaults; set once, before any is opened.
	handler http.Handler
	token   func(context.Context) (string, time.Time, error)
	url     func(name string) string
	manager *azure.ResourceManager // asks who may read them

	mu   sync.Mutex // guards kept
	kept map[readerKey]vault.Vault
}

type readerKey struct {
	vault    string // as VaultReference.Key returns it; of one in Azure, its name
	embedded bool
}

func newReaders(a *azure.Access) *readers {
	return &readers{azure: a, kept: map[readerKey]vault.Vault{}}
}

// paused returns how many vaults in Azure are left alone for now.
func (r *readers) paused() (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, v := range r.kept {
		if v, ok := v.(*azure.Vault); ok && v.Paused() {
			n++
		}
	}
	return n
}

// A usage is how much this server has asked of the vaults in Azure that it keeps.
type usage struct {
	vaults, paused, requests, throttled int
}

// usage returns it for the last hour.
func (r *readers) usage() (u usage) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for key, v := range r.kept {
		v, ok := v.(*azure.Vault)
		if !ok || key.embedded {
			continue
		}
		of := v.Usage()
		if of.Requests > 0 {
			u.vaults++
		}
		if v.Paused() {
			u.paused++
		}
		u.requests += of.Requests
		u.throttled += of.Throttled
	}
	return u
}

// usageOf returns how much this server has asked of a vault in Azure.
func (r *readers) usageOf(ref latchkey.VaultReference) vault.Usage {
	r.mu.Lock()
	defer r.mu.Unlock()
	if v, ok := r.kept[readerKey{vault: strings.ToLower(ref.Vault)}].(*azure.Vault); ok {
		return v.Usage()
	}
	return vault.Usage{}
}

// survey says how vaults stand, for doctor.
func (r *readers) survey(ctx context.Context, q vault.Survey) []latchkey.Finding {
	return azure.Surveyor{Access: r.azure, Azure: r.azure.ResourceManager(), Embedded: r.manager, Usage: r.usageOf}.Survey(ctx, q)
}

// open returns the reader of a vault. It keeps readers, since the first read of
// each takes longer.
func (r *readers) open(ref latchkey.VaultReference, embedded bool) (vault.Vault, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	key := readerKey{ref.Key(), embedded}
	if !embedded { // names of vaults in Azure are of all subscriptions
		key.vault = strings.ToLower(ref.Vault)
	}
	if v, ok := r.kept[key]; ok {
		return v, nil
	}
	var v vault.Vault
	var err error
	switch {
	case embedded:
		v, err = azure.Embedded(r.handler, r.token, r.url(ref.Vault))
	default:
		v, err = r.azure.Vault(ref)
	}
	if err != nil {
		return nil, err
	}
	if len(r.kept) >= maxReaders {
		clear(r.kept)
	}
	r.kept[key] = v
	return v, nil
}

// inspect finds out who may read a secret of a vault. What there is to know of the
// embedded vaults is asked through the same SDKs as of Azure's, in this process.
func (r *readers) inspect(ctx context.Context, q vault.Question) []latchkey.CheckResult {
	if q.Embedded {
		return r.manager.Inspect(ctx, q)
	}
	return r.azure.ResourceManager().Inspect(ctx, q)
}

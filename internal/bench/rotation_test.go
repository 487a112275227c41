package bench

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"latchkey.dev/internal/latchkeytest"
	"latchkey.dev/internal/vault"
	"latchkey.dev/latchkey"
)

// countedVaults counts the reads of each secret, those under way at the same time
// included.
type countedVaults struct {
	reads atomic.Int64
	most  atomic.Int64 // reads of one secret at the same time

	mu    sync.Mutex
	now   map[string]int64       // under way; guarded by mu
	vault map[string]vault.Vault // opened; guarded by mu
}

// open returns the vault of a reference, counted.
func (c *countedVaults) open(s *latchkeytest.Service, ref latchkey.VaultReference) (vault.Vault, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if v := c.vault[ref.Key()]; v != nil {
		return v, nil
	}
	v, err := s.OpenVault(ref)
	if err != nil {
		return nil, err
	}
	c.vault[ref.Key()] = countedVault{v, c}
	return c.vault[ref.Key()], nil
}

type countedVault struct {
	vault.Vault
	c *countedVaults
}

// Get implements [vault.Vault].
func (v countedVault) Get(ctx context.Context, name string) (vault.Value, error) {
	v.c.reads.Add(1)
	v.c.mu.Lock()
	v.c.now[name]++
	if n := v.c.now[name]; n > v.c.most.Load() {
		v.c.most.Store(n)
	}
	v.c.mu.Unlock()
	defer func() {
		v.c.mu.Lock()
		v.c.now[name]--
		v.c.mu.Unlock()
	}()
	return v.Vault.Get(ctx, name)
}

// BenchmarkRotation measures releases of 64 secrets in one vault while one of
// them is rotated every 100 ms, and how often the vault is read for them: each
// secret at most once after each rotation, and never twice at the same time.
func BenchmarkRotation(b *testing.B) {
	counted := &countedVaults{now: map[string]int64{}, vault: map[string]vault.Vault{}}
	var s *latchkeytest.Service
	w := &world{options: latchkeytest.Options{
		DatabaseURL: filepath.Join(b.TempDir(), "latchkey.db"),
		OpenVault: func(ref latchkey.VaultReference, embedded bool) vault.Vault {
			if !embedded || s == nil {
				return nil
			}
			v, err := counted.open(s, ref)
			if err != nil {
				b.Error(err)
			}
			return v
		},
	}}
	w.start(b, 1, 64)
	s = w.services[0]
	real := func(c int) error { return w.agents[c].release(b) }
	for _, rotate := range []bool{false, true} {
		b.Run(fmt.Sprint("rotate=", rotate), func(b *testing.B) {
			w.heartbeat(b)
			load(b, 64, 64*3, real)
			rotations := 0
			var wg sync.WaitGroup
			stop := make(chan struct{})
			if rotate {
				wg.Go(func() {
					tick := time.NewTicker(100 * time.Millisecond)
					defer tick.Stop()
					for {
						select {
						case <-stop:
							return
						case <-tick.C:
							w.chain.SetSecret(b, fmt.Sprintf("secret-%d", rotations%64), fmt.Sprint("rotated ", rotations))
							rotations++
						}
					}
				})
			}
			before := counted.reads.Load()
			b.ResetTimer()
			got := load(b, 64, max(b.N, 64), real)
			close(stop)
			wg.Wait()
			reads := counted.reads.Load() - before
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(got.perSecond(), "releases/s")
			b.ReportMetric(got.quantile(.99), "p99-ms")
			b.ReportMetric(float64(reads)/float64(got.n), "reads/release")
			b.ReportMetric(float64(reads)/float64(64*max(rotations, 1)), "reads/secret+rotation")
			b.ReportMetric(float64(counted.most.Load()), "reads-at-once")
		})
	}
}

// BenchmarkVaultRead measures reads of an embedded vault by Azure's SDK, as the
// service does them: each is decided and on record before its answer.
func BenchmarkVaultRead(b *testing.B) {
	eachEngine(b, func(b *testing.B, url string) {
		c := latchkeytest.New(b, latchkeytest.Options{DatabaseURL: url}).Chain(b)
		v, err := c.OpenVault(c.Vault.Reference())
		if err != nil {
			b.Fatal(err)
		}
		for _, clients := range []int{1, 8} {
			b.Run(fmt.Sprint("clients=", clients), func(b *testing.B) {
				got := load(b, clients, max(b.N, clients), func(int) error {
					_, err := v.Get(b.Context(), c.Reference.Secret)
					return err
				})
				b.ReportMetric(0, "ns/op")
				b.ReportMetric(got.perSecond(), "reads/s")
				b.ReportMetric(got.quantile(.5), "p50-ms")
				b.ReportMetric(got.quantile(.99), "p99-ms")
				b.ReportMetric(got.cpuEach(), "cpu-µs")
			})
		}
	})
}

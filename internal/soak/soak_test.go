//go:build linux

package soak

import (
	"flag"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"latchkey.dev/internal/latchkeytest/program"
	"latchkey.dev/latchkey"
)

var (
	length = flag.Duration("soak.length", 0, "for how long processes are killed; 0 is as long as fits into two minutes with all else")
	seed   = flag.Uint64("soak.seed", 0, "what the killer's choices follow from; 0 is a new one")
)

// roundLength is how long processes are killed before everything is checked. A
// check waits until the leases of lost runs are over.
const roundLength = 5 * time.Minute

// A short soak takes two minutes in all, unless the machine is too slow for it. The
// leases of lost runs and the checks follow after the killing.
const (
	shortSoak    = 2 * time.Minute
	afterKilling = latchkey.RunLease + 8*time.Second
	shortKilling = 20 * time.Second // at least
)

func TestSoak(t *testing.T) {
	if testing.Short() {
		t.Skip("takes two minutes")
	}
	began := time.Now()
	if *seed == 0 {
		*seed = rand.Uint64()
	}
	t.Logf("seed %d", *seed)
	// Not in the test's own folder, which is closed to the user that flows run as
	// and may have too long a path for PostgreSQL's socket.
	dir, err := os.MkdirTemp("/tmp", "latchkey-soak-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("everything is left in %s", dir)
		} else if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	bin := filepath.Join(dir, "bin")
	build(t, bin)
	for i, engine := range []engine{
		{name: "SQLite", servers: 1, agents: 1, clients: 4},
		{name: "PostgreSQL", servers: 2, agents: 3, clients: 7, overSSH: true},
	} {
		t.Run(engine.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, engine, filepath.Join(dir, engine.name), bin, rand.New(rand.NewPCG(*seed, uint64(i))))
			left := *length
			if left == 0 {
				left = max(shortSoak-afterKilling-time.Since(began), shortKilling)
			}
			for ; left > 0; left -= roundLength {
				w.round(min(left, roundLength))
				if t.Failed() {
					return
				}
			}
		})
	}
}

// An engine says what a world is made of.
type engine struct {
	name                     string
	servers, agents, clients int
	overSSH                  bool // the runs of the last agent, where that can be tested
}

// build builds the programs into a folder.
func build(t *testing.T, bin string) {
	t.Helper()
	programs := []string{"latchkey.dev/cmd/latchkey", "latchkey.dev/cmd/latchkey-agent"}
	if err := program.Build(t.Context(), bin, program.Race, programs...); err != nil {
		t.Fatal(err)
	}
	// Started by the hundred, and has no goroutines.
	if err := program.Build(t.Context(), bin, false, "latchkey.dev/internal/soak/flow"); err != nil {
		t.Fatal(err)
	}
}

// round kills for a while and then checks everything.
func (w *world) round(kill time.Duration) {
	w.t.Helper()
	began, before := time.Now(), w.done()
	w.killing.Store(false)
	stop := make(chan struct{})
	var work sync.WaitGroup
	end := sync.OnceFunc(func() {
		close(stop)
		work.Wait()
	})
	defer end()
	for range w.clients {
		work.Go(func() { w.client(stop) })
	}
	work.Go(func() { w.rotate(stop) })
	work.Go(func() { w.keepBooks(stop) })
	work.Go(func() { w.keepUp(stop) })
	work.Go(func() { w.sample(stop) })
	w.eventually("every machine has executed a run", patience, func() bool { return w.working(began) })
	w.killing.Store(true)
	w.kill(kill)
	end()
	w.settle()
	w.restore()
	w.drain()
	w.prove()
	w.check()
	w.checkWork(before)
	w.t.Logf("%s in %v", w.summary(), time.Since(began).Round(time.Second))
}

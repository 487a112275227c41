package bench

import (
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// A sample is what a number of operations took.
type sample struct {
	n     int
	took  time.Duration
	cpu   time.Duration // of this process: the servers and their clients
	times []time.Duration
}

// add puts two samples together.
func (s *sample) add(o sample) {
	s.n, s.took, s.cpu, s.times = s.n+o.n, s.took+o.took, s.cpu+o.cpu, append(s.times, o.times...)
}

func (s *sample) cpuEach() float64   { return float64(s.cpu.Nanoseconds()) / 1e3 / float64(s.n) }
func (s *sample) perSecond() float64 { return float64(s.n) / s.took.Seconds() }

// quantile returns the time within which a part q of the operations ended, in
// milliseconds.
func (s *sample) quantile(q float64) float64 {
	slices.Sort(s.times)
	return float64(s.times[min(int(q*float64(len(s.times))), len(s.times)-1)].Nanoseconds()) / 1e6
}

// load has clients do n operations together, each one after the other.
func load(b *testing.B, clients, n int, f func(client int) error) sample {
	b.Helper()
	var left atomic.Int64
	left.Store(int64(n))
	times := make([][]time.Duration, clients)
	var wg sync.WaitGroup
	start, cpu := time.Now(), processCPU()
	for c := range clients {
		wg.Go(func() {
			for left.Add(-1) >= 0 {
				began := time.Now()
				if err := f(c); err != nil {
					b.Error(err)
					return
				}
				times[c] = append(times[c], time.Since(began))
			}
		})
	}
	wg.Wait()
	s := sample{n: n, took: time.Since(start), cpu: processCPU() - cpu, times: slices.Concat(times...)}
	if b.Failed() {
		b.FailNow()
	}
	return s
}

// processCPU returns the CPU time that this process has used.
func processCPU() time.Duration {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		return 0
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

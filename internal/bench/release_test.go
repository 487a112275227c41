package bench

import (
	"fmt"
	"testing"

	"latchkey.dev/internal/latchkeytest/pg"
)

// slices is into how many parts a measurement is cut, so that the floor and the
// real thing see the same machine.
const parts = 10

// BenchmarkRelease measures releases beside the floor. The CPU time is that of
// this process, which holds the servers and their clients; that of PostgreSQL is
// not in it.
func BenchmarkRelease(b *testing.B) {
	eachEngine(b, func(b *testing.B, url string) {
		for _, servers := range []int{1, 2} {
			if servers > 1 && url[0] == '/' {
				continue // SQLite is one server's
			}
			b.Run(fmt.Sprint("servers=", servers), func(b *testing.B) {
				if servers > 1 {
					url = pg.New(b)
				}
				w := newWorld(b, url, servers, 64)
				empty := b.TempDir() + "/floor.db"
				if url[0] != '/' {
					empty = pg.New(b)
				}
				least := newFloor(b, empty, w)
				for _, clients := range []int{1, 8, 64} {
					b.Run(fmt.Sprint("clients=", clients), func(b *testing.B) { compare(b, w, least, clients) })
				}
			})
		}
	})
}

func compare(b *testing.B, w *world, least []*agent, clients int) {
	real := func(c int) error { return w.agents[c].release(b) }
	lowest := func(c int) error { return least[c].release(b) }
	w.heartbeat(b)
	load(b, clients, clients*3, real) // what is remembered is remembered by then
	load(b, clients, clients*3, lowest)
	var release, floor sample
	b.ResetTimer()
	for range parts {
		n := max(b.N/parts, clients)
		b.StopTimer()
		w.heartbeat(b)
		floor.add(load(b, clients, n, lowest))
		b.StartTimer()
		release.add(load(b, clients, n, real))
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(release.perSecond(), "releases/s")
	b.ReportMetric(release.quantile(.5), "p50-ms")
	b.ReportMetric(release.quantile(.99), "p99-ms")
	b.ReportMetric(release.cpuEach(), "cpu-µs")
	b.ReportMetric(floor.cpuEach(), "floor-cpu-µs")
	b.ReportMetric(floor.perSecond(), "floor/s")
	b.ReportMetric(release.cpuEach()/floor.cpuEach(), "cpu/floor")
}

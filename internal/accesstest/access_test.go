// Package accesstest shares, hands over, groups and deletes at random, and compares
// what everybody may do and is shown afterwards with a small model of what they
// should, which shares no code with the product.
//
//	go test ./internal/accesstest -sequences 1000000
//
// What it finds it makes as short as it can, and prints as commands.
package accesstest

import (
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"latchkey.dev/internal/latchkeytest/pg"
	"latchkey.dev/latchkey"
)

func TestMain(m *testing.M) { os.Exit(pg.Main(m)) }

var (
	sequences = flag.Int("sequences", usual, "how many sequences run on SQLite; PostgreSQL has a twentieth")
	seed      = flag.Uint64("seed", 0, "what the sequences are drawn from; 0 is another one each time")
	thorough  = flag.Bool("thorough", false, "compare everything after every step, which takes ten times as long")
	from      = flag.Int("from", 0, "the first sequence")
)

// draw returns the i'th sequence of a seed, and what else is drawn for it.
func draw(seed uint64, i int) ([]step, *rand.Rand) {
	r := rand.New(rand.NewPCG(seed, uint64(i)))
	return randomSequence(r), r
}

// run runs steps from the start and returns the first difference, which was found
// after so many steps. Answers are compared after every step; everything else is
// after the last, and with always after every one. Unless r is nil it draws which
// lists.
func (w *world) run(steps []step, r *rand.Rand, always bool) (n int, d *difference) {
	if err := w.reset(); err != nil {
		return 0, differs("beginning", ok, err.Error())
	}
	m := newModel()
	for i, s := range steps {
		if s.skip == nil || !s.skip(m, s) {
			want := s.model(m, s)
			w.answers[s.name+": "+strings.SplitN(want, ",", 2)[0]]++
			if d := differs("the answer", want, s.real(w, s)); d != nil {
				return i + 1, d
			}
		}
		switch last := i == len(steps)-1; {
		case r == nil && (last || always):
			d = w.compareAll(m)
		case last || always:
			d = w.compareSome(m, r, steps[:i+1])
		}
		if d != nil {
			return i + 1, d
		}
	}
	return len(steps), nil
}

// compareAll compares all decisions, lists and shares.
func (w *world) compareAll(m *model) *difference {
	everybody := make([]int, len(people))
	for p := range people {
		everybody[p] = p
	}
	if d := w.decisions(m, everybody, things); d != nil {
		return d
	}
	for p := range people {
		if d := w.lists(m, p, kinds); d != nil {
			return d
		}
		for _, place := range things {
			if d := w.shares(m, p, place); d != nil {
				return d
			}
		}
	}
	return nil
}

// compareSome compares the decisions about what steps named, what that uses, and one
// thing more, for some people; lists that one person is shown, and one list of shares.
// Ten thousand sequences have all of them many times.
func (w *world) compareSome(m *model, r *rand.Rand, steps []step) *difference {
	named := map[string]bool{things[r.IntN(len(things))]: true}
	for _, s := range steps {
		for i := range s.args {
			named[s.arg(i)] = true
		}
	}
	for _, t := range m.things {
		if named[t.place] {
			for _, used := range t.uses {
				named[m.things[used].place] = true
			}
		}
	}
	some := slices.DeleteFunc(slices.Clone(things), func(place string) bool { return !named[place] })
	if d := w.decisions(m, r.Perm(len(people))[:3], some); d != nil {
		return d
	}
	var lists []string
	for _, i := range r.Perm(len(kinds))[:2] {
		lists = append(lists, kinds[i])
	}
	if d := w.lists(m, r.IntN(len(people)), lists); d != nil {
		return d
	}
	return w.shares(m, r.IntN(len(people)), things[r.IntN(len(things))])
}

// shrink makes a sequence that differs shorter and simpler, as long as it differs.
func (w *world) shrink(steps []step) ([]step, *difference) {
	n, d := w.run(steps, nil, true)
	if d == nil {
		return steps, nil
	}
	best := steps[:n]
	try := func(steps []step) bool {
		n, found := w.run(steps, nil, false)
		if found != nil {
			best, d = steps[:n], found
		}
		return found != nil
	}
	for again := true; again; {
		again = false
		for size := len(best) / 2; size > 0; size /= 2 {
			for i := 0; i+size <= len(best); {
				if try(slices.Delete(slices.Clone(best), i, i+size)) {
					again = true
				} else {
					i += size
				}
			}
		}
		for i := 0; i < len(best); i++ {
			for a := range best[i].args {
				for value := range best[i].args[a] {
					simpler := slices.Clone(best)
					simpler[i].args = slices.Clone(best[i].args)
					simpler[i].args[a] = value
					if try(simpler) {
						again = true
						break
					}
				}
				if i >= len(best) {
					break
				}
			}
		}
	}
	return best, d
}

// script prints steps as commands, with what differs after the last.
func script(steps []step, d *difference) string {
	var b strings.Builder
	b.WriteString(given)
	for _, s := range steps {
		fmt.Fprintf(&b, "\n%s", s)
	}
	fmt.Fprintf(&b, "\nthen:   %s", d)
	return b.String()
}

// find runs sequences until one differs, and returns its number, or -1.
func (w *world) find(seed uint64, from, n int) int {
	for i := from; i < from+n; i++ {
		steps, r := draw(seed, i)
		if *thorough {
			r = nil
		}
		if _, d := w.run(steps, r, *thorough); d != nil {
			return i
		}
	}
	return -1
}

func newSeed() uint64 {
	if *seed != 0 {
		return *seed
	}
	return rand.Uint64()
}

// TestRules checks that the model has a rule for each action on what is in its
// world, and none besides.
func TestRules(t *testing.T) {
	for action := range latchkey.Permissions {
		kind, _, _ := strings.Cut(string(action), ".")
		if _, known := rules[string(action)]; !known && actionsOf[kind] != nil {
			t.Errorf("the model has no rule for %s", action)
		}
	}
	for action := range rules {
		if _, known := latchkey.Permissions[latchkey.Action(action)]; !known {
			t.Errorf("the model has a rule for %s, which nobody may do", action)
		}
	}
}

// TestAccess runs sequences on both engines.
func TestAccess(t *testing.T) {
	seed := newSeed()
	t.Logf("-seed %d", seed)
	t.Run("SQLite", func(t *testing.T) {
		worlds := make([]*world, runtime.GOMAXPROCS(0))
		for i := range worlds {
			worlds[i] = newWorld(t, "")
		}
		sequencesOn(t, worlds, seed, *sequences)
	})
	t.Run("PostgreSQL", func(t *testing.T) {
		sequencesOn(t, []*world{newWorld(t, pg.New(t))}, seed, max(*sequences/20, 1))
	})
}

// sayAnswers logs how often each operation ended in which way, and fails when one of
// many was never carried out: then the test says nothing about it.
func sayAnswers(t *testing.T, worlds []*world, n int) {
	t.Helper()
	all := map[string]int{}
	for _, w := range worlds {
		for answer, n := range w.answers {
			all[answer] += n
		}
	}
	for _, o := range operations {
		if n >= 5000 && all[o.name+": "+ok] == 0 {
			t.Errorf("in %d sequences nobody was allowed to %s", n, o.name)
		}
	}
	for _, answer := range slices.Sorted(maps.Keys(all)) {
		t.Logf("%6d %s", all[answer], answer)
	}
}

// sequencesOn runs n sequences, on several worlds at the same time.
func sequencesOn(t *testing.T, worlds []*world, seed uint64, n int) {
	t.Helper()
	const batch = 50
	var next, found atomic.Int64
	found.Store(-1)
	var work sync.WaitGroup
	for _, w := range worlds {
		work.Go(func() {
			for found.Load() < 0 {
				first := int(next.Add(batch)) - batch
				if first >= n {
					return
				}
				if i := w.find(seed, *from+first, min(batch, n-first)); i >= 0 {
					found.CompareAndSwap(-1, int64(i))
				}
			}
		})
	}
	work.Wait()
	i := int(found.Load())
	if i < 0 {
		sayAnswers(t, worlds, n)
		return
	}
	steps, _ := draw(seed, i)
	short, d := worlds[0].shrink(steps)
	if d == nil {
		t.Fatalf("sequence %d of -seed %d differs once and not again:\n%s", i, seed, script(steps, &difference{what: "?"}))
	}
	t.Errorf("-seed %d -from %d -sequences 1: after %d steps, of %d,\n%s", seed, i, len(short), len(steps), script(short, d))
}

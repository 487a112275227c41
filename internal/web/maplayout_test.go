package web

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// randomGraph returns n nodes in layers, each joined to a few of earlier layers.
func randomGraph(n int, seed uint64) (nodes []layoutNode, edges []layoutEdge) {
	r := rand.New(rand.NewPCG(seed, 1))
	for i := range n {
		nodes = append(nodes, layoutNode{Layer: r.IntN(6), Key: fmt.Sprint(i)})
	}
	for i := range n {
		for range r.IntN(3) {
			if j := r.IntN(n); nodes[j].Layer < nodes[i].Layer {
				edges = append(edges, layoutEdge{j, i})
			}
		}
	}
	return nodes, edges
}

// checkLayout fails the test if boxes overlap or leave the picture, or if an edge
// does not join its boxes.
func checkLayout(t *testing.T, nodes []layoutNode, edges []layoutEdge, l layout) {
	t.Helper()
	byColumn := map[int][]int{}
	for i, p := range l.Nodes {
		if p.X < 0 || p.Y < 0 || p.X+boxWidth > l.Width || p.Y+boxHeight > l.Height {
			t.Fatalf("node %d at %v is outside of %d×%d", i, p, l.Width, l.Height)
		}
		byColumn[p.X] = append(byColumn[p.X], p.Y)
	}
	for x, ys := range byColumn {
		slices.Sort(ys)
		for i := 1; i < len(ys); i++ {
			if ys[i]-ys[i-1] < boxHeight+rowGap {
				t.Fatalf("at %d a box at %d is too near to one at %d", x, ys[i], ys[i-1])
			}
		}
	}
	for i, e := range edges {
		line, from, to := l.Edges[i], l.Nodes[e.From], l.Nodes[e.To]
		if line[0] != (point{from.X + boxWidth, from.Y + boxHeight/2}) || line[len(line)-1] != (point{to.X, to.Y + boxHeight/2}) {
			t.Fatalf("edge %d is %v; want one from %v to %v", i, line, from, to)
		}
		for _, p := range line[1 : len(line)-1] { // it passes columns between boxes
			for _, y := range byColumn[p.X] {
				if p.Y > y-lineGap/2 && p.Y < y+boxHeight+lineGap/2 {
					t.Fatalf("edge %d runs through a box at %d,%d: %v", i, p.X, y, line)
				}
			}
		}
	}
}

func TestLayoutKeepsBoxesApart(t *testing.T) {
	for seed := range uint64(30) {
		for _, n := range []int{1, 2, 7, 40, 200} {
			nodes, edges := randomGraph(n, seed)
			checkLayout(t, nodes, edges, layOut(nodes, edges))
		}
	}
}

func TestLayoutIsTheSameEachTime(t *testing.T) {
	nodes, edges := randomGraph(200, 7)
	if diff := cmp.Diff(layOut(nodes, edges), layOut(nodes, edges)); diff != "" {
		t.Error(diff)
	}
}

// A layout of nothing, of one column and of edges that go nowhere must not fail.
func TestLayoutOfLittle(t *testing.T) {
	if l := layOut(nil, nil); l.Width != 0 || l.Height != 0 || len(l.Nodes) != 0 {
		t.Errorf("layout of nothing = %+v", l)
	}
	nodes := []layoutNode{{3, "a"}, {3, "b"}}
	l := layOut(nodes, []layoutEdge{{0, 1}, {0, 0}})
	checkLayout(t, nodes, nil, l)
	if l.Width != boxWidth {
		t.Errorf("one column is %d wide; want %d", l.Width, boxWidth)
	}
	nodes = []layoutNode{{4, "a"}, {1, "b"}} // backwards
	l = layOut(nodes, []layoutEdge{{0, 1}})
	checkLayout(t, nodes, []layoutEdge{{1, 0}}, l)
}

// Chains beside one another can be drawn without a crossing, however they are
// mixed, and straight.
func TestLayoutOfChains(t *testing.T) {
	var nodes []layoutNode
	var edges []layoutEdge
	const chains, long = 30, 5
	r := rand.New(rand.NewPCG(3, 4))
	at := make([]int, chains*long)
	for i, k := range r.Perm(chains * long) {
		at[k] = i
		nodes = append(nodes, layoutNode{Layer: k % long, Key: fmt.Sprint(i)})
	}
	for k := range at {
		if k%long > 0 {
			edges = append(edges, layoutEdge{at[k-1], at[k]})
		}
	}
	l := layOut(nodes, edges)
	checkLayout(t, nodes, edges, l)
	for i, line := range l.Edges {
		if line[0].Y != line[len(line)-1].Y {
			t.Fatalf("edge %d is not straight: %v", i, line)
		}
	}
}

// The ordering must be worth it: fewer crossings than in the order that nodes come.
func TestLayoutHasFewCrossings(t *testing.T) {
	nodes, edges := randomGraph(200, 11)
	layers := []int{0, 1, 2, 3, 4, 5}
	slots, _ := makeSlots(nodes, edges, layers)
	columns := make([][]int, len(layers))
	for i := range slots {
		c := slots[i].column
		slots[i].rank = len(columns[c])
		columns[c] = append(columns[c], i)
	}
	before := crossings(slots, columns)
	order(slots, firstOrder(slots, nodes, len(layers)))
	columns = make([][]int, len(layers))
	for i := range slots {
		columns[slots[i].column] = append(columns[slots[i].column], i)
	}
	for _, c := range columns {
		slices.SortFunc(c, func(a, b int) int { return slots[a].rank - slots[b].rank })
	}
	if after := crossings(slots, columns); after*3 > before {
		t.Errorf("%d crossings of %d are left; want at most a third", after, before)
	}
}

func TestCrossings(t *testing.T) {
	nodes := []layoutNode{{0, "a"}, {0, "b"}, {0, "c"}, {1, "d"}, {1, "e"}}
	edges := []layoutEdge{{0, 4}, {1, 3}, {2, 3}, {2, 4}} // a-e crosses b-d and c-d
	slots, _ := makeSlots(nodes, edges, []int{0, 1})
	for i, r := range []int{0, 1, 2, 0, 1} {
		slots[i].rank = r
	}
	if n := crossings(slots, [][]int{{0, 1, 2}, {3, 4}}); n != 2 {
		t.Errorf("crossings = %d; want 2", n)
	}
}

// Work, not time: 2,000 nodes take about ten times what 200 do, where anything
// quadratic would take a hundred times.
func BenchmarkLayout(b *testing.B) {
	for _, n := range []int{200, 2000} {
		nodes, edges := randomGraph(n, 5)
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			for b.Loop() {
				layOut(nodes, edges)
			}
		})
	}
}

func TestLayoutOfManyNodes(t *testing.T) {
	nodes, edges := randomGraph(2000, 5)
	checkLayout(t, nodes, edges, layOut(nodes, edges))
}

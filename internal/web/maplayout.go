package web

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// A layoutNode is a box to place: in which column it belongs, and what breaks ties.
type layoutNode struct {
	Layer int // from 0; columns that nothing is in take no room
	Key   string
}

// A layoutEdge joins two nodes, by their indexes, from a lower layer to a higher
// one. Edges within a layer or backwards are turned, or drawn straight.
type layoutEdge struct{ From, To int }

// A point is a place in the picture.
type point struct{ X, Y int }

// A layout is where boxes and lines are. Boxes are boxWidth by boxHeight, and a
// node's point is the upper left corner of its box.
type layout struct {
	Width, Height int
	Nodes         []point
	Edges         [][]point // from the edge of one box to that of the other, with what is between
	Layers        []int     // which layers there are, by column
}

// The sizes of what a layout places.
const (
	boxWidth  = 164
	boxHeight = 44
	columnGap = 42
	rowGap    = 14
	lineGap   = 12 // between a line that passes a column and what is beside it
	sweeps    = 8  // of ordering and of placing; more change little
)

// A slot is a node, or a line passing, in a column.
type slot struct {
	node         int // -1 for a line
	height       int
	before       []int // slots in the column before that it is joined to, by their numbers
	after        []int
	column, rank int
	weight       float64 // of the sweep under way
}

// layOut places nodes in columns by their layers, so that few lines cross and
// no two boxes overlap. The same graph is placed the same way each time, in time
// about proportional to its size.
func layOut(nodes []layoutNode, edges []layoutEdge) layout {
	var l layout
	for _, n := range nodes {
		if !slices.Contains(l.Layers, n.Layer) {
			l.Layers = append(l.Layers, n.Layer)
		}
	}
	slices.Sort(l.Layers)
	slots, chains := makeSlots(nodes, edges, l.Layers)
	columns := firstOrder(slots, nodes, len(l.Layers))
	order(slots, columns)
	tops, height := place(slots, columns)
	l.Width, l.Height = max(0, len(columns)*(boxWidth+columnGap)-columnGap), height
	left := func(column int) int { return column * (boxWidth + columnGap) }
	l.Nodes = make([]point, len(nodes))
	for i := range nodes {
		l.Nodes[i] = point{left(slots[i].column), tops[i]}
	}
	for _, chain := range chains {
		var line []point
		for i, s := range chain {
			x, y := left(slots[s].column), tops[s]+slots[s].height/2
			if i > 0 {
				line = append(line, point{x, y})
			}
			if i < len(chain)-1 {
				line = append(line, point{x + boxWidth, y})
			}
		}
		l.Edges = append(l.Edges, line)
	}
	return l
}

// makeSlots returns a slot for each node, by its index, and for each column that a
// line passes; and of each edge the slots that it goes through.
func makeSlots(nodes []layoutNode, edges []layoutEdge, layers []int) (slots []slot, chains [][]int) {
	for i, n := range nodes {
		column, _ := slices.BinarySearch(layers, n.Layer)
		slots = append(slots, slot{node: i, height: boxHeight, column: column})
	}
	for _, e := range edges {
		from, to := e.From, e.To
		if slots[from].column > slots[to].column {
			from, to = to, from
		}
		chain := []int{from}
		for c := slots[from].column + 1; c < slots[to].column; c++ {
			chain = append(chain, len(slots))
			slots = append(slots, slot{node: -1, column: c})
		}
		chain = append(chain, to)
		if slots[from].column < slots[to].column {
			for i := range chain[1:] {
				a, b := chain[i], chain[i+1]
				slots[a].after = append(slots[a].after, b)
				slots[b].before = append(slots[b].before, a)
			}
		}
		chains = append(chains, chain)
	}
	return slots, chains
}

// firstOrder puts the slots of each column in the order in which a walk along the
// lines meets them, beginning with the nodes whose keys come first: what belongs
// together is then together already.
func firstOrder(slots []slot, nodes []layoutNode, n int) [][]int {
	columns := make([][]int, n)
	roots := make([]int, len(nodes))
	for i := range roots {
		roots[i] = i
	}
	slices.SortStableFunc(roots, func(a, b int) int {
		return cmp.Or(cmp.Compare(slots[a].column, slots[b].column), cmp.Compare(nodes[a].Key, nodes[b].Key))
	})
	seen := make([]bool, len(slots))
	for _, root := range roots {
		for stack := []int{root}; len(stack) > 0; {
			s := stack[len(stack)-1]
			stack = stack[:len(stack)-1]
			if seen[s] {
				continue
			}
			seen[s] = true
			slots[s].rank = len(columns[slots[s].column])
			columns[slots[s].column] = append(columns[slots[s].column], s)
			stack = append(append(stack, slots[s].before...), slots[s].after...)
		}
	}
	return columns
}

// order changes the order of the columns, each by where the neighbours of its slots
// are (the barycentre), forwards and backwards by turns, and keeps the order with
// the fewest crossings.
func order(slots []slot, columns [][]int) {
	best, fewest := copied(columns), crossings(slots, columns)
	for i := 0; i < sweeps && fewest > 0; i++ {
		for k := range columns {
			c, neighbours := k, func(s *slot) []int { return s.before }
			if i%2 == 1 {
				c, neighbours = len(columns)-1-k, func(s *slot) []int { return s.after }
			}
			for _, s := range columns[c] {
				slots[s].weight = float64(slots[s].rank)
				if near := neighbours(&slots[s]); len(near) > 0 {
					sum := 0
					for _, n := range near {
						sum += slots[n].rank
					}
					slots[s].weight = float64(sum) / float64(len(near))
				}
			}
			slices.SortStableFunc(columns[c], func(a, b int) int { return cmp.Compare(slots[a].weight, slots[b].weight) })
			rank(slots, columns[c])
		}
		if n := crossings(slots, columns); n < fewest {
			best, fewest = copied(columns), n
		}
	}
	for c := range columns {
		copy(columns[c], best[c])
		rank(slots, columns[c])
	}
}

func rank(slots []slot, column []int) {
	for i, s := range column {
		slots[s].rank = i
	}
}

func copied(columns [][]int) [][]int {
	all := make([][]int, len(columns))
	for i := range columns {
		all[i] = slices.Clone(columns[i])
	}
	return all
}

// crossings counts how many pairs of lines cross between neighbouring columns:
// inversions, by a Fenwick tree.
func crossings(slots []slot, columns [][]int) (n int) {
	for c := 0; c+1 < len(columns); c++ {
		tree, seen := make([]int, len(columns[c+1])+1), 0
		for _, s := range columns[c] {
			ends := make([]int, 0, len(slots[s].after))
			for _, e := range slots[s].after {
				ends = append(ends, slots[e].rank)
			}
			for _, e := range ends {
				upTo := 0
				for i := e + 1; i > 0; i -= i & -i {
					upTo += tree[i]
				}
				n += seen - upTo
			}
			for _, e := range ends {
				for i := e + 1; i < len(tree); i += i & -i {
					tree[i]++
				}
			}
			seen += len(ends)
		}
	}
	return n
}

// place returns the upper edge of every slot, and the height of all: each slot as
// near as it can be to the middle of its neighbours.
func place(slots []slot, columns [][]int) (tops []int, height int) {
	middles := make([]float64, len(slots))
	for _, column := range columns {
		y := 0.0
		for i, s := range column {
			if i > 0 {
				y += distance(slots, column[i-1], s)
			}
			middles[s] = y
		}
	}
	for i := range sweeps {
		for k := range columns {
			c := k
			if i%2 == 1 {
				c = len(columns) - 1 - k
			}
			settle(slots, columns[c], middles)
		}
	}
	lowest := 0.0
	for i, m := range middles {
		lowest = min(lowest, m-float64(slots[i].height)/2)
	}
	tops = make([]int, len(slots))
	for _, column := range columns {
		bottom := 0 // rounding brings nothing nearer than it was
		for i, s := range column {
			tops[s] = int(middles[s] - float64(slots[s].height)/2 - lowest + 0.5)
			if i > 0 {
				tops[s] = max(tops[s], bottom)
			}
			if i+1 < len(column) {
				gap := distance(slots, s, column[i+1]) - float64(slots[s].height+slots[column[i+1]].height)/2
				bottom = tops[s] + slots[s].height + int(gap)
			}
			height = max(height, tops[s]+slots[s].height)
		}
	}
	return tops, height
}

// distance is how far the middles of two slots, one below the other, are apart at
// least.
func distance(slots []slot, above, below int) float64 {
	gap := rowGap
	if slots[above].node < 0 || slots[below].node < 0 {
		gap = lineGap
	}
	return float64(slots[above].height+slots[below].height)/2 + float64(gap)
}

// settle moves the slots of a column, in their order, to where they are nearest to
// the middles of their neighbours: the least squares under the distances that must
// be kept, by pooling those that would come too near (isotonic regression).
func settle(slots []slot, column []int, middles []float64) {
	type pool struct {
		sum float64 // of where they want to be, as if all were at one point
		n   int
	}
	var pools []pool
	offsets := make([]float64, len(column))
	for i, s := range column {
		if i > 0 {
			offsets[i] = offsets[i-1] + distance(slots, column[i-1], s)
		}
		wanted, n := 0.0, 0
		for _, near := range [][]int{slots[s].before, slots[s].after} {
			for _, other := range near {
				wanted += middles[other]
				n++
			}
		}
		if n == 0 {
			wanted, n = middles[s], 1
		}
		pools = append(pools, pool{wanted/float64(n) - offsets[i], 1})
		for len(pools) > 1 {
			a, b := pools[len(pools)-2], pools[len(pools)-1]
			if a.sum/float64(a.n) <= b.sum/float64(b.n) {
				break
			}
			pools = append(pools[:len(pools)-2], pool{a.sum + b.sum, a.n + b.n})
		}
	}
	i := 0
	for _, p := range pools {
		for range p.n {
			middles[column[i]] = p.sum/float64(p.n) + offsets[i]
			i++
		}
	}
}

// curve returns a line of a layout as a path of SVG: straight where it passes a
// column, and bent between two.
func curve(line []point) string {
	var b strings.Builder
	for i, p := range line {
		switch {
		case i == 0:
			fmt.Fprintf(&b, "M%d %d", p.X, p.Y)
		case i%2 == 1 && p.X > line[i-1].X:
			middle := (p.X + line[i-1].X) / 2
			fmt.Fprintf(&b, "C%d %d %d %d %d %d", middle, line[i-1].Y, middle, p.Y, p.X, p.Y)
		default:
			fmt.Fprintf(&b, "L%d %d", p.X, p.Y)
		}
	}
	return b.String()
}

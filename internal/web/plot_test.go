package web

import (
	"testing"

	"latchkey.dev/latchkey"
)

func TestPlot(t *testing.T) {
	days := []latchkey.ActivityDay{{}, {Succeeded: 1}, {Succeeded: 999, Failed: 1}, {Failed: 500}}
	p := plotOf(days, func(d latchkey.ActivityDay) (int, int) { return d.Succeeded, d.Failed })
	if p.Good != 1000 || p.Bad != 501 || p.Most != 1000 || len(p.Bars) != len(days) {
		t.Fatalf("plot = %+v", p)
	}
	for i, b := range p.Bars {
		if b.BadY < 0 || b.GoodY+b.GoodH != p.Height || b.BadY+b.BadH != b.GoodY || b.X+b.Width > p.Width {
			t.Errorf("bar %d = %+v; want it inside of %d by %d, and stacked", i, b, p.Width, p.Height)
		}
		if (b.Good > 0) != (b.GoodH > 0) || (b.Bad > 0) != (b.BadH > 0) {
			t.Errorf("bar %d = %+v; want what there is to be seen, and nothing else", i, b)
		}
	}
	if empty := plotOf(nil, nil); empty.Width == 0 || len(empty.Bars) != 0 {
		t.Errorf("an empty plot = %+v", empty)
	}
}

package agent

import (
	"context"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"unicode/utf8"

	"latchkey.dev/latchkey"
)

// all takes what an output holds, in the pieces in which it is sent.
func all(t *testing.T, o *output) (pieces []piece) {
	t.Helper()
	o.close()
	for {
		stream, text, ok := o.next(t.Context())
		if !ok {
			return pieces
		}
		if len(text) == 0 || len(text) > latchkey.MaxLogChunk || !utf8.ValidString(text) {
			t.Fatalf("a piece of %d bytes, valid %t", len(text), utf8.ValidString(text))
		}
		pieces = append(pieces, piece{stream, text})
	}
}

func joined(pieces []piece) string {
	var b strings.Builder
	for _, p := range pieces {
		b.WriteString(p.text)
	}
	return b.String()
}

func write(t *testing.T, o *output, stream string, patterns [][]byte, texts ...string) {
	t.Helper()
	w := o.writer(stream, patterns)
	for _, text := range texts {
		if n, err := w.Write([]byte(text)); n != len(text) || err != nil {
			t.Fatalf("Write = %d, %v; want %d", n, err, len(text))
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestTextStream(t *testing.T) {
	tests := []struct {
		name string
		in   []string
		want string
	}{
		{"text", []string{"grün", "…"}, "grün…"},
		{"split characters", []string{"gr\xc3", "\xbcn \xf0\x9f", "\x94", "\x91"}, "grün 🔑"},
		{"NUL", []string{"a\x00b"}, "a\uFFFDb"},
		{"not UTF-8", []string{"a\xffb"}, "a\uFFFDb"},
		{"cut off", []string{"a\xf0\x9f"}, "a\uFFFD"},
		{"begun twice", []string{"\xc3", "\xc3", "\xbc"}, "\uFFFDü"},
		{"masked", []string{"a pa", "ss\xc3", "\xbc b"}, "a *** b"},
		{"nothing", []string{"", ""}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o := newOutput()
			write(t, o, "stdout", [][]byte{[]byte("passü")}, tt.in...)
			if got := joined(all(t, o)); got != tt.want {
				t.Errorf("%q = %q; want %q", tt.in, got, tt.want)
			}
		})
	}
}

func TestOutputLimit(t *testing.T) {
	const note = "[output truncated: more than 4194304 bytes]\n"
	tests := []struct {
		name  string
		text  string
		times int
		whole bool
	}{
		{"small", "x", 1000, true},
		{"chunks of other sizes", strings.Repeat("é", 1000) + "x", 1000, true},
		{"too much", strings.Repeat("x", 1<<20), 5, false},
		{"too much at once", strings.Repeat("x", 5<<20), 1, false},
		{"characters", strings.Repeat("x🔑", 1<<17), 9, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o := newOutput()
			for range tt.times {
				o.add("stdout", tt.text)
			}
			o.add("stderr", "")
			got := joined(all(t, o))
			if len(got) > latchkey.MaxLogBytes {
				t.Errorf("%d bytes; want at most %d", len(got), latchkey.MaxLogBytes)
			}
			if tt.whole {
				if want := strings.Repeat(tt.text, tt.times); got != want {
					t.Errorf("%d bytes, not the %d that were added", len(got), len(want))
				}
				return
			}
			if !strings.HasSuffix(got, note) || len(got) < latchkey.MaxLogBytes-len(note)-8 {
				t.Errorf("%d bytes, end %q; want the limit and a note", len(got), got[max(0, len(got)-80):])
			}
		})
	}
}

func TestOutputOrder(t *testing.T) {
	o := newOutput()
	o.add("stdout", "a")
	o.add("stdout", "b")
	o.add("stderr", "c")
	o.add("stdout", "d")
	got := all(t, o)
	want := []piece{{"stdout", "ab"}, {"stderr", "c"}, {"stdout", "d"}}
	if len(got) != len(want) {
		t.Fatalf("pieces %q; want %q", got, want)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("pieces %q; want %q", got, want)
		}
	}
}

// TestOutputWaits has a reader wait for what comes later, for the end, and for
// its context.
func TestOutputWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOutput()
		got := make(chan string)
		go func() {
			defer close(got)
			for {
				_, text, ok := o.next(t.Context())
				if !ok {
					return
				}
				got <- text
			}
		}()
		for _, text := range []string{"first", "second"} {
			synctest.Wait()
			o.add("stdout", text)
			if g := <-got; g != text {
				t.Errorf("got %q; want %q", g, text)
			}
		}
		synctest.Wait()
		o.close()
		if g, ok := <-got; ok {
			t.Errorf("got %q after the end", g)
		}
	})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	o := newOutput()
	if _, _, ok := o.next(ctx); ok {
		t.Error("next returned output that nobody wrote")
	}
	o.add("stdout", "x")
	o.drop()
	o.add("stdout", "y")
	if got := joined(all(t, o)); got != "" {
		t.Errorf("dropped output has %q", got)
	}
}

func FuzzTextStream(f *testing.F) {
	f.Add([]byte("gr\xc3\xbcn \x00 \xf0\x9f\x94\x91 \xff"), uint64(1))
	f.Add([]byte("\xf0\x9f\xf0\x9f\x94\xc3"), uint64(2))
	f.Fuzz(func(t *testing.T, stream []byte, seed uint64) {
		r := rand.New(rand.NewPCG(seed, 0))
		var texts []string
		for rest := stream; len(rest) > 0; {
			n := 1 + r.IntN(len(rest))
			texts = append(texts, string(rest[:n]))
			rest = rest[n:]
		}
		o := newOutput()
		write(t, o, "stdout", nil, texts...)
		got := joined(all(t, o))
		if !utf8.ValidString(got) || strings.Contains(got, "\x00") {
			t.Errorf("%q = %q; want text", stream, got)
		}
		if utf8.Valid(stream) && got != strings.ReplaceAll(string(stream), "\x00", "\uFFFD") && len(stream) < latchkey.MaxLogBytes {
			t.Errorf("%q = %q; want it unchanged but for NUL", stream, got)
		}
	})
}

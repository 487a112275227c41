package agent

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync"
	"unicode/utf8"

	"latchkey.dev/latchkey"
)

// An output keeps what a flow prints until it is sent. A run's output is
// bounded, so that all of it fits in memory while the server is away.
type output struct {
	mu      sync.Mutex
	pieces  []piece // not sent yet
	kept    int     // bytes kept since the beginning
	full    bool    // the rest is dropped
	dropped bool    // nobody takes it any more
	closed  bool
	news    chan struct{} // holds one while there is something to look at
}

type piece struct{ stream, text string }

func newOutput() *output { return &output{news: make(chan struct{}, 1)} }

func (o *output) wake() {
	select {
	case o.news <- struct{}{}:
	default:
	}
}

// add keeps text, up to the limit.
func (o *output) add(stream, text string) {
	if text == "" {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	defer o.wake()
	if o.full || o.dropped {
		return
	}
	note := fmt.Sprintf("\n[output truncated: more than %d bytes]\n", latchkey.MaxLogBytes)
	if room := latchkey.MaxLogBytes - len(note) - o.kept; len(text) > room {
		for room > 0 && !utf8.RuneStart(text[room]) {
			room--
		}
		text = text[:room] + note
		o.full = true
	}
	o.kept += len(text)
	if n := len(o.pieces); n > 0 && o.pieces[n-1].stream == stream && len(o.pieces[n-1].text) < latchkey.MaxLogChunk {
		o.pieces[n-1].text += text
		return
	}
	o.pieces = append(o.pieces, piece{stream, text})
}

// close says that nothing more comes.
func (o *output) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed = true
	o.wake()
}

// drop says that nobody takes output any more.
func (o *output) drop() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.dropped, o.pieces = true, nil
}

// next waits for output and takes at most latchkey.MaxLogChunk bytes of it. It
// returns false when there is no more, or ctx ends.
func (o *output) next(ctx context.Context) (stream, text string, ok bool) {
	for {
		if stream, text, ok, end := o.take(); ok || end {
			return stream, text, ok
		}
		select {
		case <-ctx.Done():
			return "", "", false
		case <-o.news:
		}
	}
}

func (o *output) take() (stream, text string, ok, end bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.pieces) == 0 {
		return "", "", false, o.closed
	}
	p := &o.pieces[0]
	stream, text = p.stream, prefix(p.text, latchkey.MaxLogChunk)
	if p.text = p.text[len(text):]; p.text == "" {
		o.pieces = o.pieces[1:]
	}
	return stream, text, true, false
}

// prefix returns the beginning of a text, at most size bytes and whole characters.
func prefix(text string, size int) string {
	if len(text) <= size {
		return text
	}
	for !utf8.RuneStart(text[size]) {
		size--
	}
	return text[:size]
}

// writer returns a stream of the output. What is written is masked, and made
// text. Close adds what was held back.
func (o *output) writer(stream string, patterns [][]byte) io.WriteCloser {
	return &textStream{out: o, name: stream, masker: newMasker(patterns)}
}

type textStream struct {
	out    *output
	name   string
	masker *masker
	part   []byte // of a character that is split between writes
}

// Write implements [io.Writer]. It never fails: output that is not kept is no
// reason to end a flow.
func (s *textStream) Write(b []byte) (int, error) {
	s.out.add(s.name, s.text(s.masker.write(b), false))
	return len(b), nil
}

// Close implements [io.Closer].
func (s *textStream) Close() error {
	s.out.add(s.name, s.text(s.masker.flush(), true))
	return nil
}

// text returns bytes as valid text without NUL, which no database keeps.
func (s *textStream) text(b []byte, end bool) string {
	b = append(s.part, b...)
	s.part = nil
	if n := len(b) - incomplete(b); !end && n < len(b) {
		s.part = append([]byte(nil), b[n:]...)
		b = b[:n]
	}
	return strings.ReplaceAll(strings.ToValidUTF8(string(b), "\uFFFD"), "\x00", "\uFFFD")
}

// incomplete returns how many bytes at the end of b are the beginning of a
// character.
func incomplete(b []byte) int {
	for n := 1; n < utf8.UTFMax && n <= len(b); n++ {
		if c := b[len(b)-n]; utf8.RuneStart(c) {
			if c >= utf8.RuneSelf && !utf8.FullRune(b[len(b)-n:]) {
				return n
			}
			return 0
		}
	}
	return 0
}

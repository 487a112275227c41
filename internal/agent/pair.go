package agent

import (
	"encoding/base64"
	"fmt"
	"strings"
	"time"

	"latchkey.dev/internal/certauth"
	"latchkey.dev/latchkey"
)

// A pair is a released certificate, opened.
type pair struct {
	certificate []byte          // PEM, with its chain
	key         latchkey.Secret // PEM

	// Where they are handed over in files.
	certificateFile, keyFile string

	expired func(time.Time) string // see [certauth.Certificate.Expired]
}

func openPair(pfx latchkey.Secret) (*pair, error) {
	c, err := certauth.Decode([]byte(pfx.Reveal()))
	if err != nil {
		return nil, fmt.Errorf("the server released a certificate that cannot be used: %w", err)
	}
	p := &pair{expired: c.Expired}
	p.certificate, p.key, err = c.PEM()
	return p, err
}

// minMaskedLine is the length from which lines of encoded keys are masked. The last
// line may be as short as a word.
const minMaskedLine = 16

// patterns returns what output is masked for: the file and the key as any other
// value, and line by line, as programs wrap base64.
func (p *pair) patterns(pfx latchkey.Secret) [][]byte {
	key := p.key.Reveal()
	patterns := append(maskPatterns(pfx.Reveal()), maskPatterns(strings.TrimSpace(key))...)
	var body strings.Builder
	for line := range strings.Lines(key) {
		if !strings.HasPrefix(line, "-----") {
			body.WriteString(strings.TrimSpace(line))
		}
	}
	if body.Len() >= minMaskedLine {
		patterns = append(patterns, []byte(body.String()))
	}
	for _, text := range []string{body.String(), base64.StdEncoding.EncodeToString([]byte(pfx.Reveal()))} {
		for _, width := range []int{64, 76} { // RFC 7468 and RFC 2045
			for rest := text; len(rest) >= minMaskedLine; rest = rest[min(width, len(rest)):] {
				patterns = append(patterns, []byte(rest[:min(width, len(rest))]))
			}
		}
	}
	return patterns
}

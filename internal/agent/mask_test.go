package agent

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"math/rand/v2"
	"net/url"
	"strings"
	"testing"
)

func TestMaskPatterns(t *testing.T) {
	const value = `p"ä&<ss> w/rd+=?!`
	quoted, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	forms := map[string]string{
		"plain": value, "base64": base64.StdEncoding.EncodeToString([]byte(value)), "raw base64": base64.RawURLEncoding.EncodeToString([]byte(value)),
		"query": url.QueryEscape(value), "path": url.PathEscape(value), "hex": hex.EncodeToString([]byte(value)),
		"upper hex": strings.ToUpper(hex.EncodeToString([]byte(value))), "JSON of Go": string(quoted),
		"JSON of others": `"p\"ä&<ss> w/rd+=?!"`, "JSON of Python": `"p\"\u00e4&<ss> w/rd+=?!"`,
		"URL of Python": `p%22%C3%A4%26%3Css%3E%20w/rd%2B%3D%3F%21`, "all of it": `p%22%C3%A4%26%3Css%3E%20w%2Frd%2B%3D%3F%21`,
		"URL of JavaScript": `p%22%C3%A4%26%3Css%3E%20w%2Frd%2B%3D%3F!`, "URL of .NET": `p%22%c3%a4%26%3css%3e+w%2frd%2b%3d%3f!`,
	}
	for name, form := range forms {
		m := newMasker(maskPatterns(value))
		got := string(m.write([]byte("a " + form + " b")))
		got += string(m.flush())
		if want := "a *** b"; strings.ReplaceAll(got, `"`, "") != want {
			t.Errorf("%s: %q; want %q", name, got, want)
		}
	}
	for _, short := range []string{"", "a", "abc"} {
		if p := maskPatterns(short); p != nil {
			t.Errorf("patterns of %q = %q; want none: they would match everywhere", short, p)
		}
	}
}

func TestMasker(t *testing.T) {
	tests := []struct {
		name     string
		patterns []string
		in       []string // writes
		want     string
	}{
		{"none", nil, []string{"as ", "it is"}, "as it is"},
		{"whole", []string{"secret"}, []string{"a secret b"}, "a *** b"},
		{"split", []string{"secret"}, []string{"a se", "c", "ret b"}, "a *** b"},
		{"begun only", []string{"secret"}, []string{"a secr"}, "a secr"},
		{"begun twice", []string{"aab"}, []string{"a", "a", "aab"}, "aa***"},
		{"longest", []string{"pass", "password"}, []string{"pass", "word passion"}, "*** ***ion"},
		{"shorter after all", []string{"pass", "password"}, []string{"passw", "ell"}, "***well"},
		{"overlap", []string{"abcd", "cdef"}, []string{"abcdef"}, "***ef"},
		{"repeated", []string{"aa"}, []string{"aaaaa"}, "******a"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var patterns [][]byte
			for _, p := range tt.patterns {
				patterns = append(patterns, []byte(p))
			}
			m := newMasker(patterns)
			var got []byte
			for _, w := range tt.in {
				got = append(got, m.write([]byte(w))...)
			}
			got = append(got, m.flush()...)
			if string(got) != tt.want {
				t.Errorf("%q masked for %q = %q; want %q", tt.in, tt.patterns, got, tt.want)
			}
		})
	}
}

// FuzzMasker splits a stream at random places: no pattern is ever in the output,
// how it is split makes no difference, and without patterns it is unchanged.
func FuzzMasker(f *testing.F) {
	f.Add([]byte("a secret b secresecret"), "secret", "cre", uint64(1))
	f.Add([]byte("aaabaab"), "aab", "ab", uint64(2))
	f.Add([]byte("\x00\xff\xc3\xa4"), "\xc3\xa4", "\xff", uint64(3))
	f.Fuzz(func(t *testing.T, stream []byte, a, b string, seed uint64) {
		if a == "" || b == "" || len(stream) > 4<<10 || strings.Contains(a+b, "*") {
			t.Skip()
		}
		patterns := [][]byte{[]byte(a), []byte(b)}
		r := rand.New(rand.NewPCG(seed, 0))
		pass := func(m *masker, most int) (out []byte) {
			for rest := stream; len(rest) > 0; {
				n := 1 + r.IntN(min(most, len(rest)))
				out = append(out, m.write(rest[:n])...)
				rest = rest[n:]
			}
			return append(out, m.flush()...)
		}
		got := pass(newMasker(patterns), 5)
		for _, p := range patterns {
			if bytes.Contains(got, p) {
				t.Errorf("%q masked for %q = %q", stream, patterns, got)
			}
		}
		if whole := pass(newMasker(patterns), 4<<10); !bytes.Equal(got, whole) {
			t.Errorf("%q masked for %q = %q in pieces, %q otherwise", stream, patterns, got, whole)
		}
		if same := pass(newMasker(nil), 5); !bytes.Equal(same, stream) {
			t.Errorf("%q without patterns = %q", stream, same)
		}
	})
}

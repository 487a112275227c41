package agent

import (
	"path"
	"strings"
	"testing"
	"unicode/utf8"

	"latchkey.dev/latchkey"
)

func TestNewPolicy(t *testing.T) {
	p, err := parsePolicy(newPolicy([]string{"/opt/bots/*", `/opt/"odd" \\ name`}, "bot"))
	if err != nil {
		t.Fatal(err)
	}
	if p.RunAs != "bot" || len(p.Commands) != 2 || p.Commands[1] != `/opt/"odd" \\ name` {
		t.Errorf("policy = %+v; want both commands and bot", p)
	}
	if !p.AllowsCommand("/opt/bots/a") || p.AllowsCommand("/opt/bots/a/b") {
		t.Errorf("policy %+v: * stands for one name", p)
	}
	for _, h := range []latchkey.Handover{latchkey.HandoverNone, latchkey.HandoverDescriptor, latchkey.HandoverFile, latchkey.HandoverEnvironment} {
		if reason := p.Refuses("/opt/bots/a", latchkey.DriverNone, "", h); reason != "" {
			t.Errorf("handover %s: %s", h, reason)
		}
	}
	if p, err = parsePolicy(nil); err != nil || p.Refuses("/bin/true", latchkey.DriverNone, "", latchkey.HandoverNone) == "" {
		t.Errorf("an empty policy = %+v, %v; want one that allows nothing", p, err)
	}
	for _, command := range []string{"bin/true", "", "*", "/opt/[a"} {
		if p, err := parsePolicy(newPolicy([]string{command}, "")); err == nil {
			t.Errorf("a policy for %q = %+v; want an error", command, p)
		}
	}
}

func FuzzParsePolicy(f *testing.F) {
	f.Add(newPolicy([]string{"/bin/true"}, "bot"))
	f.Add([]byte("commands = ['/a/*', 'C:\\a']\nhandovers = ['file']\n"))
	f.Add([]byte("drivers = [none]\n"))
	f.Add([]byte("[commands]\nx = 1\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := parsePolicy(b)
		if err != nil {
			return
		}
		for _, c := range p.Commands {
			if _, err := path.Match(c, "/bin/true"); err != nil {
				t.Errorf("command %q: %v", c, err)
			}
		}
		if p.Refuses("bin/true", latchkey.DriverNone, "", latchkey.HandoverNone) == "" {
			t.Errorf("policy %+v allows a relative path", p)
		}
	})
}

func TestClip(t *testing.T) {
	for _, s := range []string{"", "short", strings.Repeat("é", latchkey.MaxRunErrText), "x" + strings.Repeat("é", latchkey.MaxRunErrText), strings.Repeat("\xff\x00", latchkey.MaxRunErrText)} {
		got := clip(s)
		if len(got) > latchkey.MaxRunErrText || !utf8.ValidString(got) || strings.Contains(got, "\x00") {
			t.Errorf("clip of %d bytes = %d bytes, valid %t", len(s), len(got), utf8.ValidString(got))
		}
		if s == "short" && got != s {
			t.Errorf("clip(%q) = %q", s, got)
		}
	}
}

package agent

import (
	"path"
	"strings"
	"testing"
	"time"
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

// TestServersWord has a server send what the policy would let through, but for a
// part that a shell evaluates: on no driver does the agent run it.
func TestServersWord(t *testing.T) {
	p := policy{Policy: latchkey.Policy{
		Commands: []string{"/bin/true"}, Drivers: latchkey.Drivers, Realm: "CORP.EXAMPLE",
		SSHServers: []latchkey.SSHServer{{Name: "erp", Commands: []string{"/bin/true"}}},
	}}
	for _, driver := range latchkey.Drivers {
		run := &latchkey.ClaimedRun{
			Run: latchkey.RunID(latchkey.NewID("run", time.Now())), Kind: latchkey.RunFlow, FlowName: "f", Command: []string{"/bin/true"}, Timeout: latchkey.Duration(time.Hour),
			Driver: driver, Handover: latchkey.HandoverNone, Inputs: map[string]string{"b": "touch /tmp/x"},
		}
		if driver == latchkey.DriverSSH {
			run.SSHServer = "erp"
		}
		if reason := p.refuses(run); reason != "" {
			t.Errorf("driver %s: an honest run is refused: %s", driver, reason)
		}
		run.Inputs["z;$LATCHKEY_INPUT_B;q"] = "x"
		if p.refuses(run) == "" {
			t.Errorf("driver %s: a run whose input has a command for its name is not refused", driver)
		}
	}
}

// TestRemoteLines: what is not quoted for the shell is a name, whoever has it from
// whom.
func TestRemoteLines(t *testing.T) {
	for _, name := range []string{"", "A B", "A;B", "A$(B)", "A\nB", "A\n", "1A", "Ä"} {
		if text, err := (remote{command: []string{"/bin/true"}, env: []string{name + "=x"}}).lines("r"); err == nil {
			t.Errorf("lines with a variable named %q = %q; want an error", name, text)
		}
	}
	for _, r := range []remote{{command: []string{"/bin/\x00true"}}, {command: []string{"/bin/true"}, env: []string{"A=\x00"}}} {
		if text, err := r.lines("r"); err == nil {
			t.Errorf("lines with a NUL = %q; want an error", text)
		}
	}
}

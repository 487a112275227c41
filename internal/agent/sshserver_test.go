package agent

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/crypto/ssh"

	"latchkey.dev/latchkey"
)

const (
	keyEd25519 = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKNjKEmRJ6KjG1bCcv8IvTqFFX4mNtMFMjq2H1tq9ZUA"
	keyECDSA   = "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBEmKSENjQEezOmxkZMy7opKgwFB9nkt5YRrYMjNuG5N87uRgg6CLrbo5wAdT/y6v0mKV0U2w0WZ2YB/++Tpockg="
)

func TestParseServers(t *testing.T) {
	good := "drivers = [\"ssh\"]\n[[ssh]]\nname = \"erp\"\naddress = \"erp.example.com\"\nhost_keys = [\"" + keyEd25519 + "\", \"" + keyECDSA + " root@erp\"]\ncommands = [\"/opt/*\"]\nshell = \"posix\"\n"
	p, err := parsePolicy([]byte(good))
	if err != nil {
		t.Fatal(err)
	}
	want := []latchkey.SSHServer{{Name: "erp", Commands: []string{"/opt/*"}}}
	if diff := cmp.Diff(want, p.SSHServers); diff != "" || p.server("erp").Address != "erp.example.com:22" {
		t.Errorf("what the server is told (-want +got):\n%s\naddress %s", diff, p.server("erp").Address)
	}
	algorithms, err := p.server("erp").algorithms()
	if diff := cmp.Diff([]string{ssh.KeyAlgoED25519, ssh.KeyAlgoECDSA256}, algorithms); err != nil || diff != "" {
		t.Errorf("algorithms (-want +got):\n%s, %v", diff, err)
	}
	tests := []struct{ name, from, to, says string }{
		{"misspelt", "host_keys", "host_key", "not known"},
		{"no name", `name = "erp"`, "", "ssh server 1: name"},
		{"a bad name", `"erp"`, `"e rp"`, "name must"},
		{"no address", `address = "erp.example.com"`, "", "address must"},
		{"no key", "host_keys", "commands = []\n#", "host_keys must"},
		{"a private key", keyEd25519, "-----BEGIN OPENSSH PRIVATE KEY-----", "public keys"},
		{"a key of known_hosts", keyEd25519, "erp.example.com " + keyEd25519, "public keys"},
		{"a certificate's type", "ssh-ed25519 AAAA", "ssh-ed25519-cert-v01@openssh.com AAAA", "public keys"},
		{"commands", "/opt/*", "opt/*", "absolute path"},
		{"shell", "posix", "powershell", "Windows"},
		{"driver", `"ssh"]`, `"telnet"]`, "none, ssh and kerberos"},
	}
	for _, tt := range tests {
		text := strings.Replace(good, tt.from, tt.to, 1)
		if text == good {
			t.Fatalf("%s: %q is not there", tt.name, tt.from)
		}
		if tt.name == "no key" { // the commands would be there twice
			text = strings.Replace(text, "commands = [\"/opt/*\"]\n", "", 1)
		}
		if _, err := parsePolicy([]byte(text)); err == nil || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: %v; want %q in it", tt.name, err, tt.says)
		}
	}
	if _, err := parsePolicy([]byte(good + good[strings.Index(good, "[[ssh]]"):])); err == nil || !strings.Contains(err.Error(), "two of this name") {
		t.Errorf("a name twice: %v", err)
	}
	if _, err := parsePolicy([]byte("drivers = [\"ssh\"]\n")); err == nil || !strings.Contains(err.Error(), "ssh add") {
		t.Errorf("ssh without a server: %v", err)
	}
}

func TestSSHAddress(t *testing.T) {
	for address, want := range map[string]string{
		"erp": "erp:22", "erp.example.com:2222": "erp.example.com:2222", "10.0.0.5": "10.0.0.5:22", "::1": "[::1]:22", "[::1]": "[::1]:22", "[2001:db8::5]:2222": "[2001:db8::5]:2222",
		"": "", ":22": "", "erp:": "", "erp:0": "", "erp:65536": "", "erp:ssh": "", "user@erp": "", "erp example": "", "erp/x": "", "a:b:c": "", "erp\n": "", "-oProxyCommand=x y": "",
	} {
		if got, err := sshAddress(address); got != want || (err == nil) != (want != "") {
			t.Errorf("sshAddress(%q) = %q, %v; want %q", address, got, err, want)
		}
	}
}

// TestAddServer adds servers to policy files, and leaves the rest of them as it
// is.
func TestAddServer(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, policyFile)
	s := &sshServer{Name: "erp", Address: "erp:22", HostKeys: []string{keyEd25519}, Commands: []string{`/opt/"x"/*`}}
	if err := addServer(dir, s); err == nil || !strings.Contains(err.Error(), "enrol") {
		t.Errorf("without a policy file: %v", err)
	}
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, text := range []string{
		string(newPolicy([]string{"/bin/true"}, "bot")), "drivers = []", "drivers = [\"none\", ]\n", "drivers=['none']\nrun_as = 'x' # drivers = []\n", "drivers = [\"none\", \"ssh\"]\n[[ssh]]\nname = \"crm\"\naddress = \"crm\"\nhost_keys = [\"" + keyECDSA + "\"]\n",
	} {
		write(text)
		if err := addServer(dir, s); text != "" && err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		p, err := loadPolicy(dir)
		if err != nil {
			t.Fatal(err)
		}
		if got := p.server("erp"); got == nil || got.Commands[0] != s.Commands[0] || p.RefusesDriver(latchkey.DriverSSH, "erp") != "" {
			t.Errorf("%q: the policy is %+v", text, p)
		}
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(text) {
			if !strings.HasPrefix(line, "drivers") && !bytes.Contains(b, []byte(line)) {
				t.Errorf("%q: the line %q is gone", text, line)
			}
		}
		if err := addServer(dir, s); err == nil || !strings.Contains(err.Error(), "already") {
			t.Errorf("a name again: %v", err)
		}
	}
	for _, text := range []string{"commands = []\n", "drivers = [\n\"none\",\n]\n"} {
		write(text)
		if err := addServer(dir, s); err == nil || !strings.Contains(err.Error(), "[[ssh]]\nname = \"erp\"") {
			t.Errorf("%q: %v; want what to add by hand", text, err)
		}
		if b, err := os.ReadFile(file); err != nil || string(b) != text {
			t.Errorf("%q became %q, %v", text, b, err)
		}
	}
	write("drivers = [\"none\"]\n")
	s.HostKeys = []string{"nonsense"}
	if err := addServer(dir, s); err == nil || !strings.Contains(err.Error(), "public keys") {
		t.Errorf("a bad key: %v", err)
	}
}

// TestWhoIsShared: a machine on which no flow runs itself keeps secrets from
// nobody there.
func TestWhoIsShared(t *testing.T) {
	tests := []struct {
		p    latchkey.Policy
		want bool
	}{
		{latchkey.Policy{Commands: []string{"/bin/true"}, Drivers: []latchkey.Driver{latchkey.DriverNone}}, true},
		{latchkey.Policy{Commands: []string{"/bin/true"}, Drivers: []latchkey.Driver{latchkey.DriverNone, latchkey.DriverSSH}}, true},
		{latchkey.Policy{Commands: []string{"/bin/true"}, Drivers: []latchkey.Driver{latchkey.DriverSSH}}, false},
		{latchkey.Policy{Drivers: []latchkey.Driver{latchkey.DriverNone, latchkey.DriverSSH}}, false},
	}
	for _, tt := range tests {
		if got, err := sharedUID(tt.p); got != tt.want || err != nil {
			t.Errorf("shared-uid of %+v = %v, %v; want %v", tt.p, got, err, tt.want)
		}
	}
}

func FuzzParseHostKey(f *testing.F) {
	f.Add(keyEd25519)
	f.Add(keyECDSA + " comment")
	f.Add("ssh-rsa AAAA")
	f.Fuzz(func(t *testing.T, text string) {
		key, err := parseHostKey(text)
		if err != nil {
			return
		}
		s := &sshServer{Name: "x", Address: "x", HostKeys: []string{text}}
		if err := s.check(); err != nil || !s.knows(key) {
			t.Errorf("%q is a key, but not one of a server: %v", text, err)
		}
	})
}

// FuzzPreamble splits what a server prints before and after the flow begins: the
// flow's output is what comes after, however it is split.
func FuzzPreamble(f *testing.F) {
	f.Add("noise\n", "output", uint8(3))
	f.Add("", "", uint8(1))
	f.Add("READ", "READY again\n", uint8(7))
	f.Fuzz(func(t *testing.T, noise, out string, step uint8) {
		const ready = "READYX"
		if strings.Contains(noise+ready, ready+" ") || len(noise) > maxPreamble {
			return
		}
		var got bytes.Buffer
		p := &preamble{next: &got, ready: ready}
		text := noise + ready + " started\n" + out
		for len(text) > 0 {
			n := min(len(text), int(step)+1)
			if _, err := p.Write([]byte(text[:n])); err != nil {
				t.Fatal(err)
			}
			text = text[n:]
		}
		if p.step() != "started" || got.String() != out {
			t.Errorf("after %q: %q, output %q; want %q", noise, p.step(), got.String(), out)
		}
	})
}

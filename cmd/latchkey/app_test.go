package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"latchkey.dev/internal/cli"
	"latchkey.dev/latchkey"
)

// testApp returns an invocation whose home is a fresh folder.
func testApp(t *testing.T, in string, environ ...string) (a *app, stdout, stderr *bytes.Buffer) {
	t.Helper()
	stdout, stderr = new(bytes.Buffer), new(bytes.Buffer)
	environ = append([]string{"XDG_CONFIG_HOME=" + t.TempDir()}, environ...)
	return newApp(stdio{strings.NewReader(in), stdout, stderr}, environ), stdout, stderr
}

func TestTokenBelongsToItsServer(t *testing.T) {
	a, _, _ := testApp(t, "")
	if err := a.saveProfile(profile{Server: "https://one.example.org", Token: "lk_one", CAFile: "/ca.pem", Insecure: true}); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name    string
		server  string
		environ []string
		want    string
	}{
		{"the profile's", "", nil, "lk_one"},
		{"the profile's, said again", "https://one.example.org/", nil, "lk_one"},
		{"another", "https://two.example.org", nil, ""},
		{"another by environment", "", []string{"LATCHKEY_SERVER=https://two.example.org"}, ""},
		{"another with its token", "https://two.example.org", []string{"LATCHKEY_TOKEN=lk_two"}, "lk_two"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := newApp(stdio{}, append(a.Environ[:1:1], tt.environ...))
			b.server = tt.server
			got, err := b.connect()
			if err != nil {
				t.Fatal(err)
			}
			if got.token.Reveal() != tt.want {
				t.Errorf("token = %q; want %q", got.token.Reveal(), tt.want)
			}
			if own := tt.want == "lk_one"; got.insecure != own || (got.caFile != "") != own {
				t.Errorf("insecure = %v, CA file = %q; want the profile's for its own server only", got.insecure, got.caFile)
			}
		})
	}
}

func TestProfileIsPrivate(t *testing.T) {
	a, _, _ := testApp(t, "")
	if err := a.saveProfile(profile{Token: "lk_one"}); err != nil {
		t.Fatal(err)
	}
	path, err := a.profilePath()
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode = %v, %v; want 0600", info.Mode(), err)
	}
	files, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(files) != 1 {
		t.Errorf("the folder holds %d files, %v; want the profile only", len(files), err)
	}
}

func TestCheckEnviron(t *testing.T) {
	for name, want := range map[string]bool{
		"LATCHKEY_SERVER": true, "LATCHKEY_LISTEN": true, "LATCHKEY_INPUT_CHALLENGE": true, "LATCHKEY_TEST_X": true,
		"LATCHKEY_CREDENTIALS_FD": true, "LATCHKEY_CERTIFICATE_FILE": true, "LATCHKEY_PRIVATE_KEY_FILE": true, "LATCHKEYS": true, "LATCHKEY_SEVRER": false, "LATCHKEY_INPUTS": false,
	} {
		err := checkEnviron([]string{name + "=x"})
		if (err == nil) != want {
			t.Errorf("%s: %v; want it known: %v", name, err, want)
		}
	}
}

func TestNearestVariable(t *testing.T) {
	for name, want := range map[string]string{
		"LATCHKEY_SEVRER": "LATCHKEY_SERVER", "LATCHKEY_LISTN": "LATCHKEY_LISTEN", "LATCHKEY_TLS_CERTS": "LATCHKEY_TLS_CERT",
		"LATCHKEY_COLOUR": "", "LATCHKEY_": "",
	} {
		if got := nearestVariable(name); got != want {
			t.Errorf("nearestVariable(%s) = %q; want %q", name, got, want)
		}
	}
}

func TestParseInputs(t *testing.T) {
	tests := []struct {
		name   string
		inputs []string
		fault  string // part of the error; none: it is good
	}{
		{"good", []string{"a=1", "b=x=y"}, ""},
		{"without a value", []string{"a"}, "NAME=VALUE"},
		{"twice", []string{"a=1", "a=1"}, `"a" is given twice`},
		{"in two cases", []string{"a=1", "A=2"}, `"a" and "A" must differ`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := parseInputs(tt.inputs)
			switch {
			case tt.fault == "" && (err != nil || len(got) != len(tt.inputs)):
				t.Errorf("parseInputs = %v, %v; want all", got, err)
			case tt.fault != "" && (err == nil || !strings.Contains(err.Error(), tt.fault) || !strings.Contains(err.Error(), "--input")):
				t.Errorf("error = %v; want --input and %s", err, tt.fault)
			}
		})
	}
}

func TestShort(t *testing.T) {
	long := strings.Repeat("b", 30) + strings.Repeat("e", 40)
	if got, want := short(long), long[:60]+"…"; got != want {
		t.Errorf("short = %q; want %q", got, want)
	}
	if got, want := shortID(long), "…"+long[10:]; got != want {
		t.Errorf("shortID = %q; want %q", got, want)
	}
}

func TestMessages(t *testing.T) {
	tests := []struct {
		name string
		err  error
		code int
		want string
	}{
		{"nothing", nil, 0, ""},
		{"plain", errors.New("it broke."), 1, "latchkey: it broke\n"},
		{"usage", cli.Hint(cli.Usagef("NAME is missing"), "latchkey x --help"), 2, "latchkey: NAME is missing\nlatchkey: try: latchkey x --help\n"},
		{"child", cli.ExitCode(7), 7, ""},
		{"fields", latchkey.Invalid("secret.vault", "is an address"), 1, "latchkey: the request is not valid\nlatchkey:   secret.vault: is an address\n"},
		{"remedy", &latchkey.Error{Kind: latchkey.ErrDenied, Msg: "no.", Remedy: "ask an admin."}, 1, "latchkey: no\nlatchkey: ask an admin\n"},
		{"denied", &latchkey.Error{Kind: latchkey.ErrDenied, Msg: "ann may not", Identity: "user_1", Check: "credential.use"}, 1,
			"latchkey: ann may not\nlatchkey:   identity: user_1\nlatchkey:   check: credential.use\n"},
		{"wrapped", fmt.Errorf("write it: %w", &latchkey.Error{Kind: latchkey.ErrConflict, Msg: "the name is taken"}), 1, "latchkey: write it: the name is taken\n"},
		{"escapes", errors.New("a\x1b[31mb\u202e\r\nlatchkey: done"), 1, "latchkey: a[31mb\nlatchkey:   latchkey: done\n"},
		{"refused connection", &latchkey.Error{Kind: latchkey.ErrUnavailable, Code: "unreachable", Msg: "the server cannot be reached", Err: syscall.ECONNREFUSED}, 1,
			"latchkey: nothing listens at the address: the server cannot be reached: connection refused\nlatchkey: try: latchkey serve --data DIR, if the server is to run on this machine\n"},
		{"signed out", &latchkey.Error{Kind: latchkey.ErrUnauthenticated, Msg: "the token has expired"}, 1, "latchkey: the token has expired\nlatchkey: try: latchkey login\n"},
		{"several", errors.Join(cli.Usagef("a"), cli.Usagef("b")), 2, "latchkey: a\nlatchkey: b\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a, _, stderr := testApp(t, "")
			if code := a.Report(t.Context(), a.advise(t.Context(), &cobra.Command{}, tt.err)); code != tt.code || stderr.String() != tt.want {
				t.Errorf("report = %d, %q; want %d, %q", code, stderr, tt.code, tt.want)
			}
		})
	}
}

func TestInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, tt := range []struct {
		err  error
		code int
		want string
	}{
		{fmt.Errorf("ask: %w", ctx.Err()), 130, "latchkey: interrupted\n"},
		{cli.Hint(errors.New("stopped watching"), "latchkey run cancel x"), 130, "latchkey: stopped watching\nlatchkey: try: latchkey run cancel x\n"},
		{cli.ExitCode(3), 3, ""},
	} {
		a, _, stderr := testApp(t, "")
		if code := a.Report(ctx, tt.err); code != tt.code || stderr.String() != tt.want {
			t.Errorf("report(%v) = %d, %q; want %d, %q", tt.err, code, stderr, tt.code, tt.want)
		}
	}
}

func TestNewSecret(t *testing.T) {
	file := filepath.Join(t.TempDir(), "value")
	if err := os.WriteFile(file, []byte("from the file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name, in, file, want string
		fails                bool
	}{
		{"pipe", "piped\n", "", "piped", false},
		{"pipe from Windows", "piped\r\n", "", "piped", false},
		{"pipe with two line breaks", "piped\n\n", "", "piped\n", false},
		{"pipe, every byte", "piped\n", "-", "piped\n", false},
		{"file", "piped\n", file, "from the file\n", false},
		{"empty", "\n", "", "", true},
		{"no file", "", file + ".absent", "", true},
		{"too large", strings.Repeat("x", latchkey.MaxSecretBytes+10), "", "", true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a, _, _ := testApp(t, tt.in)
			got, err := a.newSecret(t.Context(), "Value", tt.file)
			if got.Reveal() != tt.want || (err != nil) != tt.fails {
				t.Errorf("newSecret = %q, %v; want %q, an error: %v", got.Reveal(), err, tt.want, tt.fails)
			}
		})
	}
}

func TestServerConfig(t *testing.T) {
	good := serverConfig{Data: "d", Listen: "127.0.0.1:0", VaultListen: "127.0.0.1:0", VaultDomain: "vault.localhost", LogFormat: "text", LogLevel: "info"}
	tests := []struct {
		name   string
		change func(*serverConfig)
		want   []string // parts of the faults; none: it is good
	}{
		{"good", func(c *serverConfig) {}, nil},
		{"IPv6", func(c *serverConfig) { c.Listen = "[::1]:80" }, nil},
		{"every address", func(c *serverConfig) { c.Listen = ":8080" }, []string{"beyond this machine"}},
		{"with consent", func(c *serverConfig) { c.Listen, c.InsecureListen = ":8080", true }, nil},
		{"half of TLS", func(c *serverConfig) { c.TLSCert = "/absent.pem" }, []string{"belong together", "--tls-cert"}},
		{"upper-case domain", func(c *serverConfig) { c.VaultDomain = "Vault.localhost" }, []string{"--vault-domain"}},
		{"domain with a port", func(c *serverConfig) { c.VaultDomain = "vault.localhost:1" }, []string{"--vault-domain"}},
		{"top-level domain", func(c *serverConfig) { c.VaultDomain = "localhost" }, []string{"--vault-domain"}},
		{"port", func(c *serverConfig) { c.Listen, c.VaultListen = "127.0.0.1:99999", "127.0.0.1:-1" }, []string{"--listen", "--vault-listen"}},
		{"key in no folder", func(c *serverConfig) { c.MasterKey = "/absent/key" }, []string{"--master-key /absent/key"}},
		{"fault of the environment", func(c *serverConfig) { c.faults = []error{cli.Usagef("LATCHKEY_X")} }, []string{"LATCHKEY_X"}},
		{"MySQL", func(c *serverConfig) { c.Database = "mysql://x" }, []string{"--database"}},
		{"everything", func(c *serverConfig) { *c = serverConfig{PublicURL: "x"} },
			[]string{"--data", "--listen", "--vault-listen", "--vault-domain", "--public-url", "--log-format", "--log-level"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := good
			tt.change(&c)
			err := c.check()
			if len(tt.want) == 0 && err != nil {
				t.Errorf("check = %v; want none", err)
			}
			for _, want := range tt.want {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("check = %v; want %q in it", err, want)
				}
			}
		})
	}
}

func TestSettingsFromEnvironment(t *testing.T) {
	a, _, _ := testApp(t, "", "LATCHKEY_LISTEN=127.0.0.1:9", "LATCHKEY_INSECURE_LISTEN=true", "LATCHKEY_MASTER_KEY=/k")
	var c serverConfig
	cmd := a.serveCommand()
	cmd.ResetFlags()
	a.settingsFlags(cmd, &c)
	if err := cmd.Flags().Parse([]string{"--listen", "127.0.0.1:10"}); err != nil {
		t.Fatal(err)
	}
	if c.Listen != "127.0.0.1:10" || !c.InsecureListen || c.MasterKey != "/k" || c.VaultDomain != "vault.localhost" {
		t.Errorf("config = %+v; want the flag before the environment before the default", c)
	}
}

func TestCertificates(t *testing.T) {
	now := time.Date(2026, 11, 23, 8, 0, 0, 0, time.UTC)
	made := 0
	c := &certificates{now: func() time.Time { return now }, make: func(now time.Time) (tls.Certificate, error) {
		made++
		return tls.Certificate{Leaf: &x509.Certificate{NotAfter: now.Add(72 * time.Hour)}}, nil
	}}
	for _, step := range []struct {
		after time.Duration
		want  int
	}{{0, 1}, {time.Hour, 1}, {46 * time.Hour, 1}, {2 * time.Hour, 2}, {time.Hour, 2}} {
		now = now.Add(step.after)
		if _, err := c.get(nil); err != nil || made != step.want {
			t.Errorf("at %v: %d certificates, %v; want %d", now, made, err, step.want)
		}
	}
}

func TestCopyFile(t *testing.T) {
	dir := t.TempDir()
	from, to := filepath.Join(dir, "from"), filepath.Join(dir, "to")
	for _, content := range []string{"one", "two", "two"} {
		if err := os.WriteFile(from, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := copyFile(to, from); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(to)
		if err != nil || string(b) != content {
			t.Errorf("copy = %q, %v; want %q", b, err, content)
		}
	}
	if info, err := os.Stat(to); err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("mode = %v, %v; want 0755", info.Mode(), err)
	}
	if files, err := os.ReadDir(dir); err != nil || len(files) != 2 {
		t.Errorf("%d files are left, %v; want 2", len(files), err)
	}
}

func TestChild(t *testing.T) {
	c, err := startChild(exec.Command("sleep", "100"))
	if err != nil {
		t.Fatal(err)
	}
	c.stop()
	if c.err == nil {
		t.Error("a process that was stopped ended well")
	}
	if _, err := startChild(exec.Command("/nonexistent")); err == nil {
		t.Error("a program that does not exist started")
	}
}

func TestKeepRunning(t *testing.T) {
	started := make(chan struct{}, 10)
	start := func() (*child, error) {
		started <- struct{}{}
		return startChild(exec.Command("sleep", "100"))
	}
	first, err := startChild(exec.Command("true"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { keepRunning(ctx, first, start); close(done) }()
	<-started
	cancel()
	<-done
}

func TestVaultPagesStayInTheVault(t *testing.T) {
	var v *keyVault
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, `{"value":[{"id":"`+v.base+`/secrets/a"}],"nextLink":"https://elsewhere.example.org/secrets"}`)
	}))
	defer s.Close()
	v = &keyVault{base: s.URL, http: s.Client()}
	var names []string
	var last error
	for b, err := range v.list(t.Context(), "/secrets") {
		if last = err; err == nil {
			names = append(names, b.name())
		}
	}
	if len(names) != 1 || names[0] != "a" || last == nil {
		t.Errorf("list = %v, %v; want a, then an error", names, last)
	}
}

func TestProof(t *testing.T) {
	a := proof("challenge", "user", latchkey.NewSecret("password"))
	for _, b := range []string{
		proof("another", "user", latchkey.NewSecret("password")),
		proof("challenge", "another", latchkey.NewSecret("password")),
		proof("challenge", "user", latchkey.NewSecret("another")),
	} {
		if a == b {
			t.Error("a proof does not depend on all that it proves")
		}
	}
}

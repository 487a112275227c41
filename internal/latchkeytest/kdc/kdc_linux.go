package kdc

import (
	"crypto/x509"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"latchkey.dev/internal/latchkeytest/pki"
)

// Realm is the realm of every server.
const Realm = "LATCHKEY.TEST"

// programs are what is needed, and where Debian installs it.
var programs = []string{"/usr/sbin/krb5kdc", "/usr/sbin/kdb5_util", "/usr/sbin/kadmin.local", "/usr/bin/kinit", "/usr/bin/kdestroy"}

// missing says why no server can run here, or "".
func missing() string {
	for _, p := range programs {
		if _, err := os.Stat(p); err != nil {
			return "krb5-kdc or krb5-user is not installed: there is no " + p
		}
	}
	if found, err := filepath.Glob("/usr/lib/*/krb5/plugins/preauth/pkinit.so"); err != nil || len(found) == 0 {
		return "krb5-pkinit is not installed"
	}
	return ""
}

// Options choose what a server is like.
type Options struct {
	MaxLife      string // of tickets, such as 10m; "" is 12h
	MaxRenewable string // "" is 7d
}

// A Server is a running server. It ends with its test.
type Server struct {
	Config string         // krb5.conf of its clients
	CA     *pki.Authority // the one authority whose certificates it takes

	address string
	dir     string
	cmd     *exec.Cmd
	done    chan struct{} // closed when it has ended
}

// New starts a server. Where none can run it skips the test, or fails it if
// LATCHKEY_TEST_KDC is "required".
func New(t testing.TB, o Options) *Server {
	t.Helper()
	if reason := missing(); reason != "" {
		if os.Getenv("LATCHKEY_TEST_KDC") == "required" {
			t.Fatal(reason)
		}
		t.Skip(reason)
	}
	if o.MaxLife == "" {
		o.MaxLife = "12h"
	}
	if o.MaxRenewable == "" {
		o.MaxRenewable = "7d"
	}
	s := &Server{CA: pki.NewAuthority(t, "Realm CA"), dir: t.TempDir()}
	for _, d := range []string{s.dir, filepath.Dir(s.dir)} { // flows of another user read its configuration
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	s.Config = s.path("krb5.conf")
	own := s.CA.Issue(t, pki.Options{CommonName: "kdc", DNS: []string{"kdc.latchkey.test"}, EKU: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, Key: pki.RSAKey(t)})
	s.write(t, "ca.pem", pki.PEM(s.CA.Cert))
	s.write(t, "kdc.pem", pki.PEM(own.Cert))
	s.write(t, "kdc.key", own.KeyPEM(t))
	s.Revoke(t)
	t.Cleanup(s.Kill)
	for attempt := 1; ; attempt++ {
		s.configure(t, o, freeAddress(t))
		if attempt == 1 {
			s.run(t, "", "/usr/sbin/kdb5_util", "create", "-s", "-P", "master of the test", "-r", Realm)
		}
		if s.tryStart(t) {
			return s
		}
		if attempt == 5 { // somebody else has taken the port
			t.Fatalf("krb5kdc does not start: %s", s.Log(t))
		}
	}
}

func freeAddress(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func (s *Server) path(name string) string { return filepath.Join(s.dir, name) }

func (s *Server) write(t testing.TB, name string, text []byte) {
	t.Helper()
	if err := os.WriteFile(s.path(name), text, 0o644); err != nil {
		t.Fatal(err)
	}
}

// configure writes krb5.conf(5) and kdc.conf(5).
func (s *Server) configure(t testing.TB, o Options, address string) {
	t.Helper()
	s.address = address
	s.write(t, "krb5.conf", fmt.Appendf(nil, `[libdefaults]
	default_realm = %[1]s
	dns_lookup_kdc = false
	dns_lookup_realm = false
	rdns = false
	udp_preference_limit = 1
[realms]
	%[1]s = {
		kdc = %[2]s
		pkinit_anchors = FILE:%[3]s/ca.pem
		pkinit_kdc_hostname = kdc.latchkey.test
		pkinit_eku_checking = kpServerAuth
	}
`, Realm, address, s.dir))
	s.write(t, "kdc.conf", fmt.Appendf(nil, `[kdcdefaults]
	kdc_listen = ""
	kdc_tcp_listen = %[2]s
[realms]
	%[1]s = {
		database_name = %[3]s/principal
		key_stash_file = %[3]s/stash
		max_life = %[4]s
		max_renewable_life = %[5]s
		pkinit_identity = FILE:%[3]s/kdc.pem,%[3]s/kdc.key
		pkinit_anchors = FILE:%[3]s/ca.pem
		pkinit_revoke = FILE:%[3]s/crl.pem
		pkinit_require_crl_checking = true
		pkinit_eku_checking = scLogin
		pkinit_allow_upn = true
	}
[logging]
	kdc = FILE:%[3]s/kdc.log
`, Realm, address, s.dir, o.MaxLife, o.MaxRenewable))
}

func (s *Server) environ() []string {
	return []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C", "KRB5_CONFIG=" + s.Config, "KRB5_KDC_PROFILE=" + s.path("kdc.conf")}
}

// run runs one of the administrator's programs.
func (s *Server) run(t testing.TB, stdin string, command ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), command[0], command[1:]...)
	cmd.Env, cmd.Stdin = s.environ(), strings.NewReader(stdin)
	if out, err := cmd.CombinedOutput(); err != nil || strings.Contains(string(out), command[0]+": ") {
		t.Fatalf("%s: %v: %s", command[0], err, out)
	}
}

// Admin carries out a command of kadmin.local(8), such as "addprinc -pw x bot".
func (s *Server) Admin(t testing.TB, command string) {
	t.Helper()
	s.run(t, "", "/usr/sbin/kadmin.local", "-r", Realm, "-q", command)
}

// AddUser makes an account with a password. Pre-authentication is required of it,
// as it is in most realms.
func (s *Server) AddUser(t testing.TB, name, password string) {
	t.Helper()
	s.Admin(t, fmt.Sprintf("addprinc +requires_preauth -pw %q %s", password, name))
}

// Revoke has the server take none of the certificates any more once it is
// started again.
func (s *Server) Revoke(t testing.TB, certs ...*x509.Certificate) {
	t.Helper()
	s.write(t, "crl.pem", s.CA.Revoke(t, certs...))
}

func (s *Server) tryStart(t testing.TB) bool {
	t.Helper()
	s.cmd = exec.Command("/usr/sbin/krb5kdc", "-n", "-r", Realm, "-P", s.path("pid"))
	s.cmd.Env = s.environ()
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := s.cmd.Start(); err != nil {
		t.Fatalf("start krb5kdc: %v", err)
	}
	done, cmd := make(chan struct{}), s.cmd
	s.done = done
	go func() {
		defer close(done)
		_ = cmd.Wait() // it is killed
	}()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		select {
		case <-done:
			return false
		default:
		}
		if conn, err := net.DialTimeout("tcp", s.address, time.Second); err == nil {
			_ = conn.Close()
			return true
		}
	}
	s.Kill()
	return false
}

// Kill kills the server.
func (s *Server) Kill() {
	if s.cmd == nil || s.cmd.Process == nil {
		return
	}
	_ = s.cmd.Process.Kill() // it may have ended
	<-s.done
}

// Restart starts the server again, after Kill or a change of what it reads.
func (s *Server) Restart(t testing.TB) {
	t.Helper()
	s.Kill()
	if !s.tryStart(t) {
		t.Fatalf("krb5kdc does not start again: %s", s.Log(t))
	}
}

// Log returns what the server has logged.
func (s *Server) Log(t testing.TB) string {
	t.Helper()
	b, err := os.ReadFile(s.path("kdc.log"))
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return string(b)
}

package sshd

import (
	"bufio"
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"latchkey.dev/internal/latchkeytest/tied"
)

// program is where Debian installs the server.
const program = "/usr/sbin/sshd"

// A User is an account of a server.
type User struct {
	Name     string
	Password string
	Shell    string // "" is /bin/sh

	Locked          bool // as by passwd -l
	NoPassword      bool // as by passwd -d
	PasswordExpired bool // as by chage -M, long ago
	AccountExpired  bool // as by chage -E
}

// Options choose what a server is like.
type Options struct {
	Users  []User
	Config []string // lines of sshd_config(5), before the others

	// Dir is a new folder for the server's files, below one that its users reach;
	// it stays. "" is one that goes with the test.
	Dir string

	// LockAfter, if not 0, is how many wrong passwords lock an account, by
	// pam_faillock(8).
	LockAfter int
}

// pam returns the PAM service of the server, pam.d(5).
func (o Options) pam() string {
	rest := "account required pam_unix.so\npassword required pam_unix.so\nsession required pam_permit.so\n"
	if o.LockAfter == 0 {
		return "auth required pam_unix.so nodelay\n" + rest
	}
	lock := fmt.Sprintf("deny=%d unlock_time=600 dir=/run/faillock", o.LockAfter)
	return "auth required pam_faillock.so preauth " + lock + "\nauth [success=1 default=ignore] pam_unix.so nodelay\nauth [default=die] pam_faillock.so authfail " + lock +
		"\nauth sufficient pam_faillock.so authsucc " + lock + "\naccount required pam_faillock.so\n" + rest
}

// A Server is a running server. It ends with its test.
type Server struct {
	Address string // of the loopback interface, with port
	HostKey string // as in authorized_keys(5)

	dir  string
	uids []int // of the users, in their order
	log  *lines

	starter *tied.Starter
	cmd     *exec.Cmd
	done    chan struct{} // closed when it has ended
}

// Missing says why no server can run here, or "".
func Missing() string {
	switch _, err := os.Stat(program); {
	case os.Geteuid() != 0:
		return "only root can run an SSH server with accounts of its own"
	case err != nil:
		return "openssh-server is not installed"
	}
	return ""
}

// New starts a server. Where none can run it skips the test, or fails it if
// LATCHKEY_TEST_SSHD is "required".
func New(t testing.TB, o Options) *Server {
	t.Helper()
	if reason := Missing(); reason != "" {
		if os.Getenv("LATCHKEY_TEST_SSHD") == "required" {
			t.Fatal(reason)
		}
		t.Skip(reason)
	}
	s := &Server{dir: o.Dir, log: new(lines), starter: tied.New()}
	t.Cleanup(s.starter.Close)
	if s.dir == "" {
		s.dir = filepath.Join(folder(t), "server")
	}
	if err := errors.Join(os.Mkdir(s.dir, 0o755), os.Chmod(s.dir, 0o755)); err != nil {
		t.Fatal(err)
	}
	// Numbers that nobody has, so that every process of them is this server's.
	first := 200_000 + 10*mathrand.N(100_000)
	for i := range o.Users {
		s.uids = append(s.uids, first+i)
	}
	t.Cleanup(func() {
		s.Kill()
		s.endUsers()
	})
	s.accounts(t, o.Users)
	s.write(t, "pam", o.pam(), 0o644)
	s.config(t, o.Config)
	s.NewHostKey(t)
	s.start(t)
	return s
}

// folder makes a folder that users reach, which t.TempDir's are not.
func folder(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "latchkey-sshd-")
	if err == nil {
		err = os.Chmod(dir, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func (s *Server) write(t testing.TB, name, text string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, name), []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}

// accounts writes the account files: passwd(5), shadow(5), group(5).
func (s *Server) accounts(t testing.TB, users []User) {
	t.Helper()
	passwd := "root:x:0:0:root:/root:/bin/sh\nsshd:x:100:65534::/run/sshd:/usr/sbin/nologin\nnobody:x:65534:65534::/nonexistent:/usr/sbin/nologin\n"
	shadow := "root:*:19000:0:99999:7:::\nsshd:*:19000:0:99999:7:::\nnobody:*:19000:0:99999:7:::\n"
	group := "root:x:0:\nnogroup:x:65534:\n"
	for i, u := range users {
		home := filepath.Join(s.dir, fmt.Sprint("home", i))
		if err := errors.Join(os.Mkdir(home, 0o700), os.Chown(home, s.uids[i], s.uids[i])); err != nil {
			t.Fatal(err)
		}
		if u.Shell == "" {
			u.Shell = "/bin/sh"
		}
		hash, changed, most, expires := crypt(t, u.Password), "19000", "99999", ""
		if u.NoPassword {
			hash = ""
		}
		if u.Locked {
			hash = "!" + hash
		}
		if u.PasswordExpired {
			most = "30"
		}
		if u.AccountExpired {
			expires = "19001"
		}
		passwd += fmt.Sprintf("%s:x:%d:%d::%s:%s\n", u.Name, s.uids[i], s.uids[i], home, u.Shell)
		shadow += fmt.Sprintf("%s:%s:%s:0:%s:7::%s:\n", u.Name, hash, changed, most, expires)
		group += fmt.Sprintf("g%d:x:%d:\n", s.uids[i], s.uids[i])
	}
	s.write(t, "passwd", passwd, 0o644)
	s.write(t, "shadow", shadow, 0o600)
	s.write(t, "group", group, 0o644)
}

// crypt returns the SHA-512 crypt(3) hash of a password, by the C library.
func crypt(t testing.TB, password string) string {
	t.Helper()
	cmd := exec.Command("perl", "-e", `local $/; print crypt(<STDIN>, '$6$latchkeytest$')`)
	cmd.Stdin = strings.NewReader(password)
	out, err := cmd.Output()
	if err != nil || !bytes.HasPrefix(out, []byte("$6$")) {
		t.Fatalf("hash a password: %v", err)
	}
	return string(out)
}

func (s *Server) config(t testing.TB, lines []string) {
	t.Helper()
	text := strings.Join(append(slices.Clone(lines),
		"HostKey "+filepath.Join(s.dir, "host_key"), "UsePAM yes", "PasswordAuthentication yes", "KbdInteractiveAuthentication yes",
		"PubkeyAuthentication no", "PidFile none", "UseDNS no", "PrintMotd no", "MaxStartups 100", "LogLevel VERBOSE"), "\n") + "\n"
	s.write(t, "config", text, 0o644)
}

// NewHostKey gives the server a new host key, which it has once it is started
// again.
func (s *Server) NewHostKey(t testing.TB) {
	t.Helper()
	pub, priv, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(priv, "")
	if err != nil {
		t.Fatal(err)
	}
	key, err := ssh.NewPublicKey(pub)
	if err != nil {
		t.Fatal(err)
	}
	s.write(t, "host_key", string(pem.EncodeToMemory(block)), 0o600)
	s.HostKey = strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key)))
}

// world is what makes the namespace of the server, and becomes the server.
const world = `set -e
for f in passwd shadow group; do mount --bind "$1/$f" "/etc/$f"; done
mount --bind "$1/pam" /etc/pam.d/sshd
mount -t tmpfs tmpfs /run
mkdir -m 0755 /run/sshd
mount -t tmpfs tmpfs /var/log
exec "$2" -D -e -f "$1/config" -o ListenAddress="$3"`

// start starts the server, at the address that it had if it has run before.
func (s *Server) start(t testing.TB) {
	t.Helper()
	for attempt := 1; ; attempt++ {
		address := s.Address
		if address == "" {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			address = l.Addr().String()
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
		}
		if s.tryStart(t, address) {
			s.Address = address
			return
		}
		if attempt == 5 { // somebody else has taken the port
			t.Fatalf("sshd does not start: %s", s.log)
		}
	}
}

func (s *Server) tryStart(t testing.TB, address string) bool {
	t.Helper()
	s.cmd = exec.Command("/bin/sh", "-c", world, "sh", s.dir, program, address)
	s.cmd.Stderr, s.cmd.Stdout = s.log, s.log
	s.cmd.WaitDelay = time.Second
	s.cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Setsid: true}
	if err := s.starter.Start(s.cmd); err != nil {
		t.Fatalf("start sshd: %v", err)
	}
	done := make(chan struct{})
	s.done = done
	cmd := s.cmd
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
		if conn, err := net.DialTimeout("tcp", address, time.Second); err == nil {
			// A server of another test would not say who this one is.
			banner, _ := bufio.NewReader(conn).ReadString('\n')
			_ = conn.Close()
			if strings.HasPrefix(banner, "SSH-2.0-OpenSSH") {
				return true
			}
		}
	}
	s.Kill()
	return false
}

// Kill kills the server, with what serves its connections, and leaves what its
// users run.
func (s *Server) Kill() {
	if s.cmd == nil || s.cmd.Process == nil {
		return
	}
	for range 20 { // a connection may be on its way
		victims := s.servers()
		for _, pid := range victims {
			_ = syscall.Kill(pid, syscall.SIGKILL) // it may have ended
		}
		if len(victims) == 0 {
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	<-s.done
}

// Restart starts the server again, after Kill.
func (s *Server) Restart(t testing.TB) { t.Helper(); s.start(t) }

// servers returns the processes of the server itself: those that descend from it
// by processes of the same program.
func (s *Server) servers() []int {
	parents := make(map[int]int)
	for pid, p := range processes() {
		if p.name == "sshd" || pid == s.cmd.Process.Pid {
			parents[pid] = p.parent
		}
	}
	var found []int
	for pid := range parents {
		for p, ok := pid, true; ok; p, ok = parents[p], parents[p] != 0 {
			if p == s.cmd.Process.Pid {
				found = append(found, pid)
				break
			}
		}
	}
	select {
	case <-s.done:
		return slices.DeleteFunc(found, func(pid int) bool { return pid == s.cmd.Process.Pid })
	default:
		return found
	}
}

// endUsers kills what the server's users run.
func (s *Server) endUsers() {
	for range 50 {
		running := s.Processes()
		if len(running) == 0 {
			return
		}
		for pid := range running {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// Processes returns the command lines of the processes of the server's users, by
// their ids. Those that serve a user's connection are not among them.
func (s *Server) Processes() map[int]string {
	found := make(map[int]string)
	for pid, p := range processes() {
		if slices.Contains(s.uids, p.uid) && p.name != "sshd" && p.state != "Z" {
			b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)) // it may have ended
			found[pid] = strings.TrimSpace(strings.ReplaceAll(string(b), "\x00", " "))
		}
	}
	return found
}

type process struct {
	name, state string
	parent, uid int
}

// processes returns all processes of the machine (proc(5), status).
func processes() map[int]process {
	found := make(map[int]process)
	files, _ := filepath.Glob("/proc/[0-9]*/status") // the pattern is good
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			continue // it has ended
		}
		var p process
		for line := range strings.Lines(string(b)) {
			fields := strings.Fields(line)
			if len(fields) < 2 {
				continue
			}
			switch fields[0] {
			case "Name:":
				p.name = fields[1]
			case "State:":
				p.state = fields[1]
			case "PPid:":
				p.parent, _ = strconv.Atoi(fields[1])
			case "Uid:":
				p.uid, _ = strconv.Atoi(fields[2])
			}
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(f)))
		if err == nil {
			found[pid] = p
		}
	}
	return found
}

// Log returns what the server has logged.
func (s *Server) Log() string { return s.log.String() }

// Attempts returns how many passwords the server has refused.
func (s *Server) Attempts() int {
	n := 0
	for line := range strings.Lines(s.Log()) {
		if strings.HasPrefix(line, "Failed password") || strings.HasPrefix(line, "Failed keyboard-interactive") {
			n++
		}
	}
	return n
}

// lines keeps what is written to it.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer // guarded by mu
}

// Write implements [io.Writer].
func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

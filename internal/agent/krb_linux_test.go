package agent

import (
	"encoding/asn1"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azcertificates"

	"latchkey.dev/internal/latchkeytest"
	"latchkey.dev/internal/latchkeytest/kdc"
	"latchkey.dev/internal/latchkeytest/pki"
	"latchkey.dev/latchkey"
)

const (
	krbUser     = "bot@latchkey.test" // the principal bot@LATCHKEY.TEST
	krbPassword = "ticket & battery staple"
	krbSecret   = "krb-secret"
)

// A krbFixture is a machine whose flows are signed in to a real realm.
type krbFixture struct {
	*fixture
	kdc      *kdc.Server
	password latchkey.Connection
	cert     latchkey.Connection
}

const krbCert = "krb-cert"

func newKrbFixture(t *testing.T, o kdc.Options, enrol ...string) *krbFixture {
	t.Helper()
	f := &krbFixture{kdc: kdc.New(t, o), fixture: newService(t)}
	f.kdc.AddUser(t, "bot", krbPassword)
	f.program = publicCopy(t)
	f.enrol(t, append([]string{"--allow-command", f.program}, enrol...)...)
	code, stdout, stderr := command(t, "", "kerberos", "add", "--dir", f.dir, "--config", f.kdc.Config, kdc.Realm)
	if code != 0 || !strings.Contains(stdout, kdc.Realm) {
		t.Fatalf("kerberos add = %d: %s%s", code, stdout, stderr)
	}
	return f
}

// connect makes a connection of the driver kerberos.
func (f *krbFixture) connect(t *testing.T, name, secret string, how latchkey.Authentication) latchkey.Connection {
	t.Helper()
	c := f.Bind(t, name, krbUser, secret, latchkey.CredentialCreate{Authentication: how, Usages: []latchkey.Usage{latchkey.UsageConnection}, AllowSharedUID: true})
	made, err := f.Broker.CreateConnection(t.Context(), f.Admin, f.Env, latchkey.ConnectionCreate{
		Name: name, Target: latchkey.Target{Machine: f.machine}, Driver: latchkey.DriverKerberos, Credential: c.ID,
	})
	if err != nil {
		t.Fatal(err)
	}
	return made
}

// begin starts the agent and makes both connections.
func (f *krbFixture) begin(t *testing.T) *agentProcess {
	t.Helper()
	a := f.agent(t)
	eventually(t, 10*time.Second, "the machine's realm", func() bool {
		m, err := f.Broker.Machine(t.Context(), f.Admin, f.Env, f.machine)
		return err == nil && m.Policy.Realm == kdc.Realm
	})
	f.SetSecret(t, krbSecret, krbPassword)
	f.password = f.connect(t, "By password", krbSecret, latchkey.AuthenticationPassword)
	f.SetCertificate(t, krbCert, f.issue(t, pki.Options{}).Secret(t))
	f.cert = f.connect(t, "By certificate", krbCert, latchkey.AuthenticationCertificate)
	return a
}

// issue issues a certificate for the realm's user, as for smart cards.
func (f *krbFixture) issue(t *testing.T, o pki.Options) *pki.Pair {
	t.Helper()
	return issueFor(t, f.kdc.CA, o)
}

func issueFor(t *testing.T, ca *pki.Authority, o pki.Options) *pki.Pair {
	t.Helper()
	if o.UPN == "" {
		o.UPN = "bot@" + kdc.Realm
	}
	o.EKUOIDs, o.Key = []asn1.ObjectIdentifier{{1, 3, 6, 1, 4, 1, 311, 20, 2, 2}}, pki.RSAKey(t)
	return ca.Issue(t, o)
}

// left returns what the machine's runs have left in memory.
func (f *krbFixture) left(t *testing.T) (found []string) {
	t.Helper()
	for _, dir := range memoryDirs(false) {
		files, err := filepath.Glob(filepath.Join(dir, "latchkey-*-"+ownName("", f.machine)+"*"))
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, files...)
	}
	return found
}

// tickets is a flow that says who it is by the tickets that it has, where they
// are, and which of its variables name them.
func ticketFlow() error {
	cache := strings.TrimPrefix(os.Getenv("KRB5CCNAME"), "FILE:")
	if _, err := os.Stat(os.Getenv("KRB5_CONFIG")); err != nil {
		return err
	}
	info, err := os.Stat(cache)
	if err != nil {
		return err
	}
	cmd := exec.Command("klist", "-c", cache)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	out, err := cmd.Output()
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(out)) {
		if who, ok := strings.CutPrefix(line, "Default principal: "); ok {
			os.Stdout.WriteString(cache + " " + info.Mode().String() + " " + who)
		}
	}
	return nil
}

func TestKerberos(t *testing.T) {
	t.Parallel()
	f := newKrbFixture(t, kdc.Options{})
	a := f.begin(t)
	run := func(c latchkey.Connection, args ...string) latchkey.RunID {
		t.Helper()
		f.Connection = c
		return f.run(t, args...)
	}
	for _, c := range []latchkey.Connection{f.password, f.cert} {
		t.Run(c.Name, func(t *testing.T) {
			id := run(c, "tickets")
			r := f.await(t, id, latchkey.RunSucceeded, "")
			cache, rest, _ := strings.Cut(f.output(t, id, "stdout"), " ")
			if rest != "-rw------- bot@"+kdc.Realm+"\n" || r.Releases != 1 {
				t.Errorf("the flow has %q, %d releases; want the user's tickets, 1", rest, r.Releases)
			}
			if _, err := os.Lstat(filepath.Dir(cache)); !os.IsNotExist(err) {
				t.Errorf("the tickets %s are there after the run: %v", cache, err)
			}
			ct, err := f.Broker.TestConnection(t.Context(), f.Admin, f.Env, c.ID, false, 30*time.Second)
			if err != nil || ct.State != latchkey.TestPassed {
				t.Errorf("test = %+v, %v; want it passed", ct, err)
			}
		})
	}
	// Each refusal is of another version, so that none is refused for having been
	// refused before.
	foreign := pki.NewAuthority(t, "Other CA")
	revoked := f.issue(t, pki.Options{})
	f.kdc.Revoke(t, revoked.Cert)
	f.kdc.Restart(t)
	refusals := []struct {
		name  string
		set   func(t *testing.T)
		c     latchkey.Connection
		code  string
		says  string
		count int // refusals that the connection shows
	}{
		{"wrong password", func(t *testing.T) { f.SetSecret(t, krbSecret, "wrong-one") }, f.password, latchkey.RunErrSignIn, "refused bot@latchkey.test with the password", 1},
		{"foreign authority", func(t *testing.T) { f.SetCertificate(t, krbCert, issueFor(t, foreign, pki.Options{}).Secret(t)) }, f.cert,
			latchkey.RunErrCertificate, "authority that issued it is not trusted", 1},
		{"another's UPN", func(t *testing.T) {
			f.SetCertificate(t, krbCert, f.issue(t, pki.Options{UPN: "alice@" + kdc.Realm}).Secret(t))
		}, f.cert,
			latchkey.RunErrCertificate, "it is not bot@latchkey.test's", 1},
		{"expired", func(t *testing.T) {
			f.SetCertificate(t, krbCert, f.issue(t, pki.Options{NotAfter: time.Now().Add(-time.Minute)}).Secret(t))
		}, f.cert,
			latchkey.RunErrCertificate, "the certificate expired at", 1},
		{"revoked", func(t *testing.T) { f.SetCertificate(t, krbCert, revoked.Secret(t)) }, f.cert, latchkey.RunErrCertificate, "it has been revoked", 1},
		{"no certificate", func(t *testing.T) { f.SetCertificate(t, krbCert, "a password") }, f.cert, latchkey.RunErrRelease, "not a PFX file", 1},
		{"locked", func(t *testing.T) {
			f.SetSecret(t, krbSecret, krbPassword)
			f.kdc.Admin(t, "modprinc -allow_tix bot")
		}, f.password, latchkey.RunErrAccount, "locked, disabled", 1},
		{"no account", func(t *testing.T) { f.kdc.Admin(t, "delprinc -force bot") }, f.password, latchkey.RunErrAccount, "has no account for", 1},
		{"no KDC", func(*testing.T) { f.kdc.Kill() }, f.password, latchkey.RunErrUnreachable, "no KDC of the realm", 1},
	}
	for _, tt := range refusals {
		t.Run(tt.name, func(t *testing.T) {
			tt.set(t)
			id := run(tt.c, "exit", "0")
			r := f.await(t, id, latchkey.RunFailed, tt.code)
			if !strings.Contains(r.Error.Message, tt.says) {
				t.Errorf("the run failed with %q; want %q in it", r.Error.Message, tt.says)
			}
			c, err := f.Broker.Connection(t.Context(), f.Admin, f.Env, tt.c.ID)
			if err != nil || c.Refusals != tt.count {
				t.Errorf("%d refusals of the connection, %v; want %d", c.Refusals, err, tt.count)
			}
			if left := f.left(t); len(left) > 0 {
				t.Errorf("left in memory: %v", left)
			}
		})
	}
	if n := childrenOf(a.cmd.Process.Pid); n != 0 {
		t.Errorf("the agent has %d children; want none", n)
	}
	for name, text := range map[string]string{"agent's log": a.log.String(), "server's log": f.Log.String(), "KDC's log": f.kdc.Log(t)} {
		if strings.Contains(text, krbPassword) || strings.Contains(text, "wrong-one") || strings.Contains(text, "PRIVATE KEY") {
			t.Errorf("a secret is in the %s", name)
		}
	}
}

// TestKerberosMadeCertificate signs in with a certificate whose key was made in the
// vault, and which the realm's authority issued on the vault's request; then with the
// next version of it.
func TestKerberosMadeCertificate(t *testing.T) {
	t.Parallel()
	f := newKrbFixture(t, kdc.Options{})
	f.begin(t)
	certs := f.Certificates(t, f.Admin, f.Vault.Name)
	upn := "bot@" + kdc.Realm
	issue := func() {
		t.Helper()
		op, err := certs.CreateCertificate(t.Context(), "made", azcertificates.CreateCertificateParameters{CertificatePolicy: &azcertificates.CertificatePolicy{
			IssuerParameters: &azcertificates.IssuerParameters{Name: new("Unknown")},
			X509CertificateProperties: &azcertificates.X509CertificateProperties{
				Subject: new("CN=bot"), SubjectAlternativeNames: &azcertificates.SubjectAlternativeNames{UserPrincipalNames: []*string{&upn}},
				EnhancedKeyUsage: []*string{new("1.3.6.1.4.1.311.20.2.2")}, // smart card logon
			},
		}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := certs.MergeCertificate(t.Context(), "made", azcertificates.MergeCertificateParameters{
			X509Certificates: [][]byte{f.kdc.CA.Sign(t, op.CSR).Raw, f.kdc.CA.Cert.Raw},
		}, nil); err != nil {
			t.Fatal(err)
		}
	}
	issue()
	f.Connection = f.connect(t, "By a made certificate", "made", latchkey.AuthenticationCertificate)
	for range 2 {
		id := f.run(t, "tickets")
		f.await(t, id, latchkey.RunSucceeded, "")
		if out := f.output(t, id, "stdout"); !strings.HasSuffix(out, " "+upn+"\n") {
			t.Errorf("the flow's tickets are %q; want those of %s", out, upn)
		}
		issue()
	}
	eventually(t, 10*time.Second, "a check that has passed", func() bool {
		got, err := f.Broker.Credential(t.Context(), f.Admin, f.Env, f.Connection.Credential)
		return err == nil && got.Certificate != nil && got.Certificate.State == latchkey.CheckPassed
	})
}

// TestKerberosRefusedBefore has the realm refuse one password again and again.
func TestKerberosRefusedBefore(t *testing.T) {
	t.Parallel()
	f := newKrbFixture(t, kdc.Options{})
	f.begin(t)
	f.Connection = f.password
	f.SetSecret(t, krbSecret, "wrong-one")
	for range latchkey.MaxRefusals {
		f.await(t, f.run(t, "exit", "0"), latchkey.RunFailed, latchkey.RunErrSignIn)
	}
	r := f.await(t, f.run(t, "exit", "0"), latchkey.RunFailed, latchkey.RunErrRelease)
	if !strings.Contains(r.Error.Message, "3 times in a row") {
		t.Errorf("the run failed with %q; want that it is not tried again", r.Error.Message)
	}
	if n := strings.Count(f.kdc.Log(t), "verify failure: Preauthentication failed"); n != latchkey.MaxRefusals {
		t.Errorf("the KDC has refused %d times; want %d", n, latchkey.MaxRefusals)
	}
	f.SetSecret(t, krbSecret, krbPassword)
	f.await(t, f.run(t, "exit", "0"), latchkey.RunSucceeded, "")
}

// TestKerberosKilled kills the agent while a flow has tickets. The next one
// removes them.
func TestKerberosKilled(t *testing.T) {
	t.Parallel()
	f := newKrbFixture(t, kdc.Options{})
	a := f.begin(t)
	f.Connection = f.cert
	id := f.run(t, "block", "krb-killed-"+filepath.Base(t.TempDir()))
	f.awaitOutput(t, id, "ready")
	before := f.left(t)
	if len(before) != 1 {
		t.Fatalf("%v in memory; want the folder with the tickets", before)
	}
	if _, err := os.Stat(filepath.Join(before[0], identityPFX)); !os.IsNotExist(err) {
		t.Errorf("the certificate is in memory while the flow runs: %v", err)
	}
	a.signal(t, syscall.SIGKILL)
	f.agent(t)
	eventually(t, 10*time.Second, "the end of the tickets", func() bool { return len(f.left(t)) == 0 })
}

// TestKerberosLifetime has a realm whose tickets last for less than a flow: they
// are renewed, or the run says that they cannot be.
func TestKerberosLifetime(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		o       kdc.Options
		command []string
		note    string
	}{
		{"renewed", kdc.Options{MaxLife: "4s"}, []string{"await-renewal"}, ""},
		{"not renewable", kdc.Options{MaxLife: "30s", MaxRenewable: "0s"}, []string{"exit", "0"}, "before the flow's time limit"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var enrol []string
			if os.Geteuid() == 0 {
				enrol = []string{"--run-as", "nobody"} // who reads the tickets that the agent renews
			}
			f := newKrbFixture(t, tt.o, enrol...)
			f.begin(t)
			f.Connection = f.password
			f.await(t, f.run(t, "tickets"), latchkey.RunSucceeded, "")
			id := f.run(t, tt.command...)
			f.await(t, id, latchkey.RunSucceeded, "")
			if got := f.output(t, id, "stderr"); (tt.note == "") != (got == "") || !strings.Contains(got, tt.note) {
				t.Errorf("the run says %q; want %q", got, tt.note)
			}
		})
	}
}

// awaitRenewal is a flow that ends once its tickets last for longer than they did.
func awaitRenewal() error {
	times := func() (ticketTimes, error) {
		b, err := os.ReadFile(strings.TrimPrefix(os.Getenv("KRB5CCNAME"), "FILE:"))
		if err != nil {
			return ticketTimes{}, err
		}
		return ticketIn(b)
	}
	first, err := times()
	if err != nil {
		return err
	}
	for {
		if now, err := times(); err == nil && now.end.After(first.end) {
			return nil
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func TestPrincipal(t *testing.T) {
	k := &kerberosRealm{Realm: "CORP.EXAMPLE"}
	for name, want := range map[string]string{
		"bot": "-- bot@CORP.EXAMPLE", "bot@corp.example": "-- bot@CORP.EXAMPLE", "bot/batch": "-- bot/batch@CORP.EXAMPLE",
		"bot@contoso.example": "-E -- bot@contoso.example@CORP.EXAMPLE", "bot@EVIL.EXAMPLE": "-E -- bot@EVIL.EXAMPLE@CORP.EXAMPLE",
		`CONTOSO\bot`: "", "": "", "@corp.example": "", "bot@": "", "a@b@c": "", "-k": "", "a b": "", "a\nb": "",
	} {
		got, err := k.principal(name)
		if strings.Join(got, " ") != want || (err == nil) != (want != "") {
			t.Errorf("principal(%q) = %q, %v; want %q", name, got, err, want)
		}
	}
}

func FuzzTicketCache(f *testing.F) {
	f.Add([]byte{5, 4, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0})
	f.Add([]byte{5, 4, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		if got, err := ticketIn(b); err == nil && got.end.IsZero() {
			t.Error("no time and no error")
		}
	})
}

// A fakeKinit stands in kinit's place, where a real one cannot be watched or held
// up: it notes what it was given, and says that the password is wrong once it may.
const fakeKinit = `#!/bin/sh
printf '%s\n' "$@" >"$0.args"
env >"$0.env"
cat >"$0.stdin"
touch "$0.begun"
while ! [ -e "$0.go" ]; do sleep 0.05; done
echo 'kinit: Password incorrect while getting initial credentials' >&2
exit 1
`

// TestKinit looks at what kinit is given, and cancels the run meanwhile: how the
// attempt ends counts all the same.
func TestKinit(t *testing.T) {
	t.Parallel()
	f := newService(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	f.program = self
	f.enrol(t, "--allow-command", self)
	kinit := filepath.Join(t.TempDir(), "kinit")
	if err := os.WriteFile(kinit, []byte(fakeKinit), 0o755); err != nil {
		t.Fatal(err)
	}
	if code, _, stderr := command(t, "", "kerberos", "add", "--dir", f.dir, "--config", "/dev/null", "--kinit", kinit, kdc.Realm); code != 0 {
		t.Fatalf("kerberos add = %d: %s", code, stderr)
	}
	k := &krbFixture{fixture: f}
	f.agent(t)
	eventually(t, 10*time.Second, "the machine's realm", func() bool {
		m, err := f.Broker.Machine(t.Context(), f.Admin, f.Env, f.machine)
		return err == nil && m.Policy.Realm == kdc.Realm
	})
	f.SetSecret(t, krbSecret, krbPassword)
	f.Connection = k.connect(t, "By password", krbSecret, latchkey.AuthenticationPassword)
	id := f.run(t, "exit", "0")
	eventually(t, latchkeytest.Patience, "kinit", func() bool {
		_, err := os.Stat(kinit + ".begun")
		return err == nil
	})
	if _, err := f.Broker.CancelRun(t.Context(), f.Admin, f.Env, id); err != nil {
		t.Fatal(err)
	}
	beats := f.proxy.count("heartbeat")
	eventually(t, latchkeytest.Patience, "the agent to know that the run is cancelled", func() bool { return f.proxy.count("heartbeat") > beats })
	if err := os.WriteFile(kinit+".go", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	f.await(t, id, latchkey.RunFailed, latchkey.RunErrSignIn)
	if c, err := f.Broker.Connection(t.Context(), f.Admin, f.Env, f.Connection.ID); err != nil || c.Refusals != 1 {
		t.Errorf("%d refusals, %v; want 1", c.Refusals, err)
	}
	read := func(name string) string {
		b, err := os.ReadFile(kinit + name)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	if got := read(".stdin"); got != krbPassword+"\n" {
		t.Error("the password is not what kinit reads")
	}
	args := read(".args")
	if strings.Contains(args+read(".env"), krbPassword) {
		t.Error("the password is in kinit's arguments or environment")
	}
	if !strings.HasSuffix(args, "--\nbot@"+kdc.Realm+"\n") || !strings.Contains(args, "\n-l\n360s\n") {
		t.Errorf("kinit's arguments are %q; want the user of the realm, and the flow's minute and five more", args)
	}
	if err := os.Remove(kinit); err != nil {
		t.Fatal(err)
	}
	r := f.await(t, f.run(t, "exit", "0"), latchkey.RunFailed, latchkey.RunErrKerberos)
	if r.Releases != 0 || !strings.Contains(r.Error.Message, "kinit is not on the machine") {
		t.Errorf("without kinit: %d releases, %s; want none, and what is missing", r.Releases, r.Error.Message)
	}
	if left := k.left(t); len(left) > 0 {
		t.Errorf("left in memory: %v", left)
	}
}

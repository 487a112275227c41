package agent

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"latchkey.dev/latchkey"
)

const (
	kinitTime    = 45 * time.Second // KDCs that do not answer are tried one after the other
	ticketMargin = 5 * time.Minute  // for what a flow does when its time limit has passed
	ticketPrefix = "latchkey-tickets-"
)

// runByKerberos signs in to the realm, runs the flow with the tickets, and returns
// what to report. A connection test ends after the sign-in.
func (t *task) runByKerberos(ctx context.Context) latchkey.FinishRequest {
	realm := t.a.policy.Kerberos // there, since the policy allows it
	fail := func(err error) latchkey.FinishRequest { return t.notSignedIn(ctx, err) }
	here := func(err error) latchkey.FinishRequest {
		if _, ok := errors.AsType[*runError](err); !ok {
			err = failure(latchkey.RunErrStart, "%v", err)
		}
		return fail(err)
	}
	// What can fail on the machine fails before anything is released.
	if err := realm.ready(); err != nil {
		return here(err)
	}
	account, err := runAccount(t.a.policy.RunAs)
	if err != nil {
		return here(err)
	}
	tickets, err := newTickets(t, realm, account)
	if err != nil {
		return here(err)
	}
	defer func() {
		if err := tickets.destroy(); err != nil {
			t.log.LogAttrs(ctx, slog.LevelError, "tickets not removed", slog.String("folder", tickets.dir), slog.Any("error", err))
		}
	}()
	v, err := t.awaitRelease(ctx, func() (io.Closer, error) { return io.NopCloser(nil), nil }) // what a KDC is asked first is the sign-in
	if err != nil {
		return fail(err)
	}
	if err = context.Cause(ctx); err == nil && (handout{connection: v}).expired() {
		err = errors.New("the released credential expired before the agent could sign in")
	}
	if err != nil {
		return fail(err)
	}
	if err := tickets.get(ctx, v); err != nil {
		return here(err)
	}
	t.signedIn <- struct{}{}
	t.log.LogAttrs(ctx, slog.LevelInfo, "signed in by Kerberos", slog.String("realm", realm.Realm))
	patterns := v.patterns()
	v = named{} // what it proved is proved
	var result latchkey.FinishRequest
	switch cause := context.Cause(ctx); {
	case cause != nil:
		result = t.endedBy(cause)
	case t.run.Kind == latchkey.RunTest:
		result = t.tryLocally(ctx)
	default:
		stop := tickets.keep(ctx)
		result = t.runHere(ctx, account, handout{}, patterns, tickets.environ())
		stop()
	}
	result.SignedIn = true
	return result
}

// notSignedIn returns the report of a run that has not signed in at its target.
func (t *task) notSignedIn(ctx context.Context, err error) latchkey.FinishRequest {
	e, known := errors.AsType[*runError](err)
	if known && latchkey.SignInRefused(e.code) {
		return failed(e.code, e) // it counts, whatever else ends the run
	}
	if context.Cause(ctx) == nil {
		if known {
			return failed(e.code, e)
		}
		if pending(err) {
			return failed(latchkey.RunErrPending, err)
		}
	}
	return t.notReleased(ctx, err)
}

// Tickets are those of one run, in a folder in memory. The folder is the agent's:
// the flow's user reads and writes one file in it and can put nothing else there,
// which the agent, as root, would otherwise have to mistrust.
type tickets struct {
	task    *task
	realm   *kerberosRealm
	account account
	dir     string
	times   ticketTimes
}

func newTickets(t *task, realm *kerberosRealm, a account) (*tickets, error) {
	memory, err := memoryDir(a.other)
	if err != nil {
		return nil, failure(latchkey.RunErrKerberos, "there is no place for the tickets: %v", err)
	}
	dir, err := os.MkdirTemp(memory, ownName(ticketPrefix, t.a.state.Machine))
	if err != nil {
		return nil, err
	}
	k := &tickets{task: t, realm: realm, account: a, dir: dir}
	if a.other {
		if err := os.Chmod(dir, 0o711); err != nil { // MkdirTemp made it 0700
			return nil, errors.Join(err, k.destroy())
		}
	}
	return k, nil
}

// Files in the folder.
const (
	ticketsOwn  = "own"          // the agent's, which kinit writes
	ticketsFlow = "cache"        // the flow's, a copy
	ticketsNew  = "new"          // the next copy
	identityPFX = "identity.pfx" // while kinit reads it
)

func (k *tickets) path(name string) string { return filepath.Join(k.dir, name) }

// environ returns what tells a flow where its tickets are.
func (k *tickets) environ() []string {
	return []string{"KRB5CCNAME=FILE:" + k.path(ticketsFlow), "KRB5_CONFIG=" + k.realm.Config}
}

// get signs in. The secret is sent at most once: each attempt counts at the KDC,
// and some lock the account after a few.
func (k *tickets) get(ctx context.Context, v named) (err error) {
	who, err := k.realm.principal(v.Username)
	if err != nil {
		return err
	}
	life := fmt.Sprintf("%ds", int(k.lifetime()/time.Second))
	args := []string{"-l", life, "-r", life}
	var stdin []byte
	if v.pair == nil {
		stdin = []byte(v.Password.Reveal() + "\n")
		defer clear(stdin)
		if bytes.ContainsAny(stdin[:len(stdin)-1], "\r\n\x00") {
			return failure(latchkey.RunErrKerberos, "the password has a line break, which cannot be given to kinit; set another one in the vault")
		}
	} else {
		file := []byte(v.PFX.Reveal())
		defer clear(file)
		if err := os.WriteFile(k.path(identityPFX), file, 0o600); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, shred(k.path(identityPFX))) }()
		args = append(args, "-X", "X509_user_identity=PKCS12:"+k.path(identityPFX))
	}
	// Who cancels a run must not hide how its attempt ends: it counts.
	attempt, stop := context.WithTimeout(context.WithoutCancel(ctx), kinitTime)
	defer stop()
	defer context.AfterFunc(ctx, func() {
		if !errors.Is(context.Cause(ctx), errCancelled) {
			stop()
		}
	})()
	code, said, err := k.kinit(attempt, stdin, append(args, who...))
	switch {
	case err != nil:
		return failure(latchkey.RunErrKerberos, "kinit could not be run: %v", err)
	case attempt.Err() != nil && ctx.Err() == nil:
		return failure(latchkey.RunErrUnreachable, "no KDC of the realm %s has answered within %s; see that one runs, and %s on the machine", k.realm.Realm, kinitTime, k.realm.Config)
	case code != 0:
		return k.refused(v, said)
	}
	return k.share()
}

// lifetime is how long the tickets have to be good for.
func (k *tickets) lifetime() time.Duration {
	return time.Duration(k.task.run.Timeout) + ticketMargin
}

// kinit runs kinit as the agent's user, on the agent's own cache. It returns what
// kinit says when it fails.
func (k *tickets) kinit(ctx context.Context, stdin []byte, args []string) (code int, said string, err error) {
	program, err := k.realm.program()
	if err != nil {
		return 0, "", err
	}
	stderr, mark := &head{limit: 4 << 10}, "LATCHKEY_KINIT="+rand.Text()
	p := process{
		Command: append([]string{program, "-c", "FILE:" + k.path(ticketsOwn)}, args...), Dir: k.dir,
		Env: []string{
			"PATH=" + os.Getenv("PATH"), "LC_ALL=C", "HOME=" + k.dir, "KRB5_CONFIG=" + k.realm.Config, "KRB5_KTNAME=/dev/null",
			mark, machineMark(k.task.a.state.Machine),
		},
		Stdin: bytes.NewReader(stdin), Stdout: &head{}, Stderr: stderr,
		// Not the run's: what the flow has left in the background is not kinit's.
		Mark: mark, Alone: func() bool { return false },
	}
	code, err = p.run(ctx, func() {})
	return code, stderr.text(), err
}

// share gives the flow a copy of the tickets, in place of the one that it had.
func (k *tickets) share() error {
	cache, err := os.ReadFile(k.path(ticketsOwn))
	if err != nil {
		return err
	}
	defer clear(cache)
	if k.times, err = ticketIn(cache); err != nil {
		return err
	}
	if err := os.WriteFile(k.path(ticketsNew), cache, 0o600); err != nil {
		return err
	}
	if k.account.other {
		if err := os.Chown(k.path(ticketsNew), int(k.account.uid), int(k.account.gid)); err != nil {
			return err
		}
	}
	if err := shred(k.path(ticketsFlow)); err != nil {
		return err
	}
	return os.Rename(k.path(ticketsNew), k.path(ticketsFlow))
}

// keep renews the tickets while the flow runs, if they do not last for its whole
// time limit, and says in the run's output if they cannot be. The caller calls
// stop when the flow has ended.
func (k *tickets) keep(ctx context.Context) (stop func()) {
	until := time.Now().Add(time.Duration(k.task.run.Timeout))
	if k.times.end.After(until) {
		return func() {}
	}
	if k.times.renew.Before(until) {
		last := k.times.end
		if k.times.renew.After(last) {
			last = k.times.renew
		}
		k.note("the tickets of the realm %s are good until %s only, which is before the flow's time limit", k.realm.Realm, last.UTC().Format(time.RFC3339))
	}
	if !k.times.renew.After(k.times.end) {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	var work sync.WaitGroup
	work.Go(func() { k.renew(ctx, until) })
	return func() {
		cancel()
		work.Wait()
	}
}

const minRenewal = time.Second // between attempts to renew

// renew renews the tickets, each time when half of their life has passed.
func (k *tickets) renew(ctx context.Context, until time.Time) {
	noted := false
	for k.times.end.Before(until) {
		timer := time.NewTimer(max(time.Until(k.times.end)/2, minRenewal))
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
		code, said, err := k.kinit(ctx, nil, []string{"-R"})
		if err == nil && code != 0 {
			err = errors.New(k.said(said, nil))
		}
		if err == nil {
			err = k.share()
		}
		if err != nil && ctx.Err() == nil && !noted {
			noted = true
			k.note("the tickets of the realm %s could not be renewed: %v", k.realm.Realm, err)
		}
	}
}

// note adds a line of the agent's to the run's output.
func (k *tickets) note(format string, args ...any) {
	k.task.out.add("stderr", "[latchkey: "+clip(onOneLine(fmt.Sprintf(format, args...)))+"]\n")
}

// destroy overwrites and removes the tickets.
func (k *tickets) destroy() error { return destroyTickets(k.dir) }

// destroyTickets overwrites and removes the files of a folder of tickets, and the
// folder. It is what kdestroy does, for every file. The folder is in one that others
// can write to: whatever they put in its place, nothing outside of it is touched.
func destroyTickets(dir string) error {
	info, err := os.Lstat(dir)
	if err != nil || !info.IsDir() {
		return errors.Join(err, removeIfThere(dir))
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	if at, err := root.Stat("."); err != nil || !os.SameFile(at, info) {
		return errors.Join(err, errors.New("the folder of tickets was replaced"))
	}
	files, err := fs.ReadDir(root.FS(), ".")
	for _, f := range files {
		err = errors.Join(err, shredIn(root, f.Name()), root.RemoveAll(f.Name()))
	}
	return errors.Join(err, os.Remove(dir))
}

// shredIn overwrites a file of a folder.
func shredIn(root *os.Root, name string) error {
	info, err := root.Lstat(name)
	if err != nil || !info.Mode().IsRegular() {
		return err
	}
	f, err := root.OpenFile(name, os.O_WRONLY|openNoFollow, 0)
	if err != nil {
		return err
	}
	_, err = f.Write(make([]byte, min(info.Size(), maxShred)))
	return errors.Join(err, f.Close())
}

// said returns what kinit has said on one line, without its name and the secret.
func (k *tickets) said(text string, patterns [][]byte) string {
	m := newMasker(patterns)
	masked := string(m.write([]byte(text)))
	text = strings.Join(strings.Fields(masked+string(m.flush())), " ")
	text = strings.TrimPrefix(text, "kinit: ")
	if len(text) > maxServerText {
		text = text[:maxServerText] + "…"
	}
	return clip(text)
}

// refused says why kinit has failed. It tells what it is about in words of its
// own, which LC_ALL=C keeps as they are; the names of MIT's errors come from RFC
// 4120, section 7.5.9, and RFC 4556, section 3.1.3.
func (k *tickets) refused(v named, text string) error {
	said := k.said(text, v.patterns())
	realm := k.realm.Realm
	has := func(parts ...string) bool {
		for _, p := range parts {
			if strings.Contains(strings.ToLower(text), p) {
				return true
			}
		}
		return false
	}
	switch {
	case has("cannot contact any kdc", "cannot find kdc", "cannot resolve", "connection refused"):
		return failure(latchkey.RunErrUnreachable, "no KDC of the realm %s was reached; see that one runs, and %s on the machine; kinit says: %s", realm, k.realm.Config, said)
	case has("not found in kerberos database"):
		return failure(latchkey.RunErrAccount, "the realm %s has no account for %s; see the variable of the user name", realm, v.Username)
	case has("credentials have been revoked", "entry in database has expired", "client not yet valid"):
		return failure(latchkey.RunErrAccount, "the realm %s does not let the account %s in: it is locked, disabled or has expired; kinit says: %s", realm, v.Username, said)
	case has("password has expired", "password expired", "must be changed", "must change"):
		return failure(latchkey.RunErrExpired, "the password of %s in the realm %s has expired; set a new one there and in the vault", v.Username, realm)
	case has("clock skew"):
		return failure(latchkey.RunErrKerberos, "the clock of the machine and that of the KDC of %s differ by too much; set the machine's", realm)
	case has("kdc name mismatch", "kdc certificate", "verify the kdc", "verify received certificate", "kdc reply did not match", "kdc policy"):
		return failure(latchkey.RunErrKerberos, "the KDC of the realm %s did not prove itself, or refuses by its policy; see pkinit_anchors in %s on the machine; kinit says: %s", realm, k.realm.Config, said)
	case v.pair != nil:
		return k.certificateRefused(v, said, has)
	case has("password incorrect", "preauthentication failed", "pre-authentication failed"):
		return failure(latchkey.RunErrSignIn, "the realm %s refused %s with the password from the vault; set the right password in the vault. It is not tried again by itself", realm, v.Username)
	}
	return failure(latchkey.RunErrKerberos, "kinit could not sign %s in to the realm %s; it says: %s", v.Username, realm, said)
}

// certificateRefused says why a certificate was refused, by the realm or by kinit
// that looks at it first.
func (k *tickets) certificateRefused(v named, said string, has func(...string) bool) error {
	why, remedy := "", "see what the realm demands of certificates"
	expired := v.pair.expired(time.Now())
	switch {
	case has("revoked"):
		why, remedy = "it has been revoked", "set a new version of the certificate in the vault"
	case expired != "" || has("certificate has expired", "certificate is not yet valid"):
		if why = expired; why == "" {
			why = "it or one of its issuers is outside its validity"
		}
		remedy = "set a new version of the certificate in the vault"
	case has("client name mismatch", "certificate mismatch", "matching"):
		why, remedy = "it is not "+v.Username+"'s", "set a certificate with the user name as its UPN in the vault, or set the variable of the user name"
	case has("issuer certificate", "client not trusted", "can't verify certificate", "self signed", "self-signed", "invalid certificate", "verify own certificate"):
		why, remedy = "the authority that issued it is not trusted", "set a certificate of the realm's authority in the vault, with its chain; the machine knows the authority by pkinit_anchors in "+k.realm.Config
	case has("key purpose"):
		why, remedy = "it is not for signing in there", "have it issued for smart card logon, or the realm take client authentication"
	case has("preauthentication failed", "password incorrect", "password read interrupted"):
		why, remedy = "the realm does not take certificates of this account, or kinit cannot use them", "see that krb5-pkinit is on the machine, and that PKINIT is set up in the realm"
	default:
		return failure(latchkey.RunErrKerberos, "kinit could not sign %s in to the realm %s by certificate; it says: %s", v.Username, k.realm.Realm, said)
	}
	return failure(latchkey.RunErrCertificate, "the certificate from the vault was refused for %s in the realm %s: %s; %s. It is not tried again by itself; kinit says: %s", v.Username, k.realm.Realm, why, remedy, said)
}

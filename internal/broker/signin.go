package broker

import (
	"context"
	"errors"
	"math"
	"net/netip"
	"strings"
	"time"

	"latchkey.dev/internal/db"
	"latchkey.dev/internal/seal"
	"latchkey.dev/latchkey"
)

const (
	freeFailures = 5                // wrong passwords in a row before one has to wait
	maxRetryWait = 15 * time.Minute // longest wait after a wrong password

	// From one network address, with whatever logins: a company may be behind it, so
	// that more are free, and one is forgotten each addressForgets.
	freeOfAddress  = 30
	addressForgets = time.Minute

	// notALogin is what failures are counted under of all that cannot be a login.
	notALogin = "user:none"
)

// A Visitor is who comes to sign in, as far as it is known before.
type Visitor struct {
	Address string // network address
	Client  string // the browser or program, as it names itself
	Browser bool   // gets a browser's session; see Continue
}

// addressKey returns what failures of a network address are counted under, or "" if
// they are not: on this machine is whatever hands requests on. Of IPv6 it is the
// network, in which a host takes any address.
func addressKey(address string) string {
	ip, err := netip.ParseAddr(address)
	if err != nil || ip.Unmap().IsLoopback() {
		return ""
	}
	if ip = ip.Unmap().WithZone(""); ip.Is6() {
		network, err := ip.Prefix(64)
		if err != nil {
			return ""
		}
		return "address:" + network.String()
	}
	return "address:" + ip.String()
}

// retryWait returns how long to wait after so many wrong passwords in a row: a
// second after freeFailures, then twice as long each time.
func retryWait(failures int) time.Duration {
	n := failures - freeFailures
	switch {
	case n < 0:
		return 0
	case n >= 10:
		return maxRetryWait
	}
	return min(time.Second<<n, maxRetryWait)
}

// SignIn returns a token for the account with a login and a password: an API token,
// or a browser's session. A wrong login and a wrong password are the same
// ErrUnauthenticated, code sign-in-refused, and take the same time; after some
// failures in a row, of the login or from the address, it is ErrDenied, code
// sign-in-throttled, until the time that it names. Every attempt that was tried is
// on record. What cannot be a login waits together.
func (b *Broker) SignIn(ctx context.Context, login string, password latchkey.Secret, from Visitor) (latchkey.NewToken, error) {
	login = strings.ToLower(login)
	if (&latchkey.UserCreate{Login: login}).Validate() != nil {
		login = "" // no account has it, and it may be a password put in the wrong place
	}
	if len(password.Reveal()) > latchkey.MaxPassword {
		password = latchkey.Secret{}
	}
	release, err := b.passwordSlot(ctx)
	if err != nil {
		return latchkey.NewToken{}, err
	}
	// The slot is held until the outcome is stored, so that many attempts at
	// once do not all pass the throttle.
	defer release()
	s := signIn{b: b, login: login, from: from}
	if err := b.db.View(ctx, s.load); err != nil {
		return latchkey.NewToken{}, err
	}
	if s.retryAt.IsZero() {
		outdated := false
		if s.right, outdated, err = checkPassword(s.account.PasswordHash, password); err != nil {
			return latchkey.NewToken{}, err
		}
		if s.right && outdated {
			s.rehashed = hashPassword(password)
		}
	}
	if !s.retryAt.IsZero() {
		// What was not tried is no news: a record of each would let anybody fill the
		// audit log.
		b.counts.SignInsDenied.Add(1)
		return latchkey.NewToken{}, throttled(s.retryAt, s.byAddress)
	}
	// An attempt counts also when the client has not waited for the answer.
	ctx, cancel := afterwards(ctx)
	defer cancel()
	err = b.db.Update(ctx, s.end)
	return b.counted(s.token, s.refusal, err)
}

// counted returns what came of a sign-in whose transaction ended with err, and counts
// it: a session, unless it was refused.
func (b *Broker) counted(session latchkey.NewToken, refused *latchkey.Error, err error) (latchkey.NewToken, error) {
	if err != nil {
		return latchkey.NewToken{}, err
	}
	if refused != nil {
		b.counts.SignInsDenied.Add(1)
		return latchkey.NewToken{}, refused
	}
	b.counts.SignIns.Add(1)
	return session, nil
}

// A signIn is one attempt to sign in with a password.
type signIn struct {
	b         *Broker
	login     string
	from      Visitor
	account   db.Account // zero when there is none
	failures  string     // the login that failures are counted under
	retryAt   time.Time  // not zero when it is too early to try
	byAddress bool       // since too many from the address have failed
	right     bool       // the password was that of account
	rehashed  string     // a better hash of it, if one is due

	token   latchkey.NewToken
	refusal *latchkey.Error
}

// load finds the account, and whether it is too early to try again.
func (s *signIn) load(tx *db.Tx) (err error) {
	s.retryAt, s.byAddress, s.failures = time.Time{}, false, s.login
	if s.login == "" {
		s.failures = notALogin
	}
	if s.account, err = tx.Account(s.login); err != nil && !errors.Is(err, db.ErrNotFound) {
		return err
	}
	f, err := tx.SignInFailures(s.failures)
	if err != nil {
		return err
	}
	if tx.Now.Before(f.RetryAt) {
		s.retryAt = f.RetryAt
	}
	key := addressKey(s.from.Address)
	if key == "" {
		return nil
	}
	if f, err = tx.SignInFailures(key); err != nil {
		return err
	}
	if tx.Now.Before(f.RetryAt) && f.RetryAt.After(s.retryAt) {
		s.retryAt, s.byAddress = f.RetryAt, true
	}
	return nil
}

func throttled(until time.Time, byAddress bool) *latchkey.Error {
	remedy := "try again after " + until.Add(time.Second-1).Truncate(time.Second).Format(time.RFC3339)
	what := "signing in with this login has failed too often: "
	if byAddress {
		what = "signing in from this network address has failed too often: "
	}
	return &latchkey.Error{
		Kind: latchkey.ErrDenied, Code: "sign-in-throttled", Check: string(latchkey.ActSignIn), Remedy: remedy, RetryAt: until,
		Msg: what + remedy,
	}
}

// end stores and records the outcome. The account may have changed while the
// password was hashed.
func (s *signIn) end(tx *db.Tx) error {
	o := &op{tx, latchkey.Caller{Name: "nobody", Address: s.from.Address}}
	t := thing{kind: latchkey.KindUser, id: string(s.account.ID), name: s.login}
	now, err := tx.Account(s.login)
	if err != nil && !errors.Is(err, db.ErrNotFound) {
		return err
	}
	switch {
	case !s.right || now.PasswordHash != s.account.PasswordHash:
		s.refusal = unauthenticated("sign-in-refused", "the login or the password is wrong",
			"check both, or ask a tenant admin for a new password")
		if err := o.countFailure(s.failures); err != nil {
			return err
		}
		if err := o.countFrom(s.from.Address); err != nil {
			return err
		}
	case now.Disabled:
		s.refusal = accountDisabled()
	default:
		s.refusal = nil
		return s.succeed(o, now)
	}
	e := o.event(latchkey.ActSignIn, t)
	e.Outcome, e.Code, e.Reason = latchkey.OutcomeDenied, s.refusal.Code, s.refusal.Msg
	return tx.Record(e)
}

// countFailure notes that signing in with a login has failed once more.
func (o *op) countFailure(login string) error {
	f, err := o.SignInFailures(login)
	if err != nil {
		return err
	}
	f.Count++
	f.RetryAt = o.Now.Add(retryWait(f.Count))
	return o.SetSignInFailures(login, f)
}

// countFrom notes that signing in from a network address has failed once more.
func (o *op) countFrom(address string) error {
	key := addressKey(address)
	if key == "" {
		return nil
	}
	f, err := o.SignInFailures(key)
	if err != nil {
		return err
	}
	f.Count = max(0, f.Count-int(min(o.Now.Sub(f.LastAt)/addressForgets, math.MaxInt32))) + 1
	f.RetryAt = o.Now.Add(retryWait(f.Count - freeOfAddress + freeFailures))
	return o.SetSignInFailures(key, f)
}

func (s *signIn) succeed(o *op, a db.Account) (err error) {
	if s.rehashed != "" {
		if err := o.SetPassword(a.ID, s.rehashed); err != nil {
			return err
		}
	}
	if err := o.SetSignInFailures(s.login, db.Failures{}); err != nil {
		return err
	}
	s.token, err = s.b.begin(o, a.Principal, a.Login, s.from, "password", nil)
	return err
}

// SignInLink returns a token that is good for one StartSession of the caller's
// own account, within latchkey.SignInLinkTTL.
func (b *Broker) SignInLink(ctx context.Context, who latchkey.Caller) (link string, expires time.Time, err error) {
	err = b.update(ctx, who, func(o *op) error {
		p, err := o.self()
		if err != nil {
			return err
		}
		if p.Kind != latchkey.PrincipalUser {
			return latchkey.NotFound(latchkey.KindUser)
		}
		t, err := o.issue(who.ID, db.TokenLink, prefixLink, "sign-in link", latchkey.SignInLinkTTL)
		if err != nil {
			return err
		}
		link, expires = t.Value, t.ExpiresAt
		return o.record(latchkey.ActTokenCreate, tokenThing(t.Token), map[string]string{"expiresAt": expires.Format(time.RFC3339)})
	})
	if err != nil {
		return "", time.Time{}, err
	}
	return link, expires, nil
}

// StartSession uses a one-time sign-in link up and returns a browser's session. It
// returns ErrUnauthenticated, code link-invalid, when the link does not count.
func (b *Broker) StartSession(ctx context.Context, link string, from Visitor) (session latchkey.NewToken, err error) {
	const remedy = "make another"
	from.Browser = true
	if !isToken(link, prefixLink) {
		return session, unauthenticated("link-invalid", "this is not a sign-in link", remedy)
	}
	var refusal *latchkey.Error
	err = b.db.Update(ctx, func(tx *db.Tx) error {
		refusal = nil
		t, err := tx.HeldToken(seal.HashToken(link))
		if errors.Is(err, db.ErrNotFound) || err == nil && t.Kind != db.TokenLink {
			// Not on record: it names nobody, and anybody could fill the log.
			refusal = unauthenticated("link-invalid", "the sign-in link does not exist", remedy)
			return nil
		}
		if err != nil {
			return err
		}
		o := &op{tx, callerOf(t)}
		o.who.Address = from.Address
		user := thing{kind: latchkey.KindUser, id: string(t.Holder.ID), name: t.Holder.Name}
		if why := linkFault(t, tx.Now, remedy); why != nil {
			refusal = why
			e := o.event(latchkey.ActSignIn, user)
			e.Outcome, e.Code, e.Reason = latchkey.OutcomeDenied, why.Code, why.Msg
			return tx.Record(e)
		}
		if _, err := tx.RevokeToken(t.Holder.ID, t.ID); err != nil {
			return err
		}
		session, err = b.begin(o, t.Holder, t.Holder.Name, from, "link", nil)
		return err
	})
	return b.counted(session, refusal, err)
}

// linkFault returns why a link does not count, or nil.
func linkFault(t db.HeldToken, now time.Time, remedy string) (err *latchkey.Error) {
	switch {
	case t.Revoked:
		err = unauthenticated("link-invalid", "the sign-in link was used already or revoked", remedy)
	case !t.ExpiresAt.After(now):
		err = unauthenticated("link-invalid", "the sign-in link has expired", remedy)
	case t.Holder.Disabled:
		err = accountDisabled()
	default:
		return nil
	}
	err.Identity = string(t.Holder.ID)
	return err
}

// EndSession ends what signing in gave: a browser session or the token of
// SignIn. What is over already, and a token made by CreateToken, is left alone.
func (b *Broker) EndSession(ctx context.Context, token string) error {
	if !isToken(token, prefixAPI, prefixSession) {
		return nil
	}
	return b.db.Update(ctx, func(tx *db.Tx) error {
		t, _, err := sessionOf(tx, seal.HashToken(token))
		if errors.Is(err, db.ErrNotFound) {
			return nil
		}
		if err != nil || t.Kind != db.TokenSession || usable(t, tx.Now) != nil {
			return err
		}
		if _, err := tx.RevokeToken(t.Holder.ID, t.ID); err != nil {
			return err
		}
		o := &op{tx, callerOf(t)}
		return o.record(latchkey.ActTokenRevoke, tokenThing(t.Token), nil)
	})
}
